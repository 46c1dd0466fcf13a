"""The card of a checkpoint: what it was made from, what was measured, where it ends. Markdown for people, JSON for programs."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from vsat.errors import InputError
from vsat.model.folders import folder_of, read_json
from vsat.model.options import TrainResult

if TYPE_CHECKING:
    from vsat.stages.train import TrainPlan, TrainReport

CARD_JSON, CARD = "card.json", "README.md"
SYNTHETIC = "- synthetic records, endless and seeded (`vsat.model.prior`)"

TEXT = """---
library_name: vsat
tags: [remote-sensing, time-series, gap-filling, hls]
---
# {name}

Fills Harmonized Landsat Sentinel-2 reflectance (six bands, 30 m) on any date, with a predictive distribution: a set
transformer over clear looks that predicts the residual over the best classical estimate. {weights} weights, backbone
`{backbone}`, numbers `{numbers}`.

## Data
{data}

## Training
{optimizer}, {steps} steps of {batch} patches (weights of step {best_step}), {seconds:.0f} s; seed {seed}:

{commands}

## Measured when it was made
Held-out loss {first} at first, at best {best}. 90 % intervals held {cover:.1%} of held-out values before they were stretched
(`calibration.json`). Where a cube is filled, they are stretched again by what its own hidden looks show.
`vsat evaluate CUBE --methods anydate:{name}` compares it with every classical method on your place.

## Limits
- It knows reflectance between -.02 and 1.2, looks within three years of the date asked (eight where they are
  few), six bands or fewer.
- Where origin is *prior only* (no clear look within 200 days, or fewer than three), a value is what such places look like,
  not what was there; such pixels carry low confidence.
- Cloud that the mask missed is taken for ground, if several looks agree on it.
- Sudden events between two looks (harvest, fire, flood) are spread over the gap.
"""


def write_card(folder: Path, plan: "TrainPlan", result: TrainResult, report: "TrainReport") -> None:
    """README.md and card.json; of a model that began with another they tell what that one was made from, too."""
    data, commands = _of_card(plan.begun_with)
    data += [f"- real patches of {path.name}: train split; validation for early stopping" for path in plan.patches]
    data += [SYNTHETIC] if plan.prior else []
    data, commands = list(dict.fromkeys(data)), [*commands, _command(plan)]
    losses = {"held_out": result.held_out, "train": result.losses}
    options = asdict(plan.options) | {"lr": plan.options.peak, "weight_decay": plan.options.decay}
    known = asdict(report) | {"out": Path(report.out).name}
    facts = {
        "options": options,
        "report": known,
        "data": data,
        "commands": commands,
        "init": Path(plan.begun_with).name if plan.begun_with else None,
        "size": plan.size,
        "losses": losses,
    }
    (folder / CARD_JSON).write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
    text = TEXT.format(
        name=Path(report.out).name,
        weights=f"{report.parameters / 1e6:.2f} million",
        backbone=plan.backbone,
        numbers=plan.numbers,
        data="\n".join(data) + ("; no real cube" if data == [SYNTHETIC] else ""),
        optimizer=plan.options.optimizer,
        steps=report.steps,
        batch=plan.options.batch * plan.options.accumulate,
        best_step=report.best_step,
        seconds=report.seconds,
        seed=plan.options.seed,
        commands="\n".join(f"    {command}" for command in commands),
        first=f"{report.held_out_first:.4f}" if report.held_out_first is not None else "-",
        best=(f"{report.held_out_best:.4f}" if report.held_out_best is not None else "-")
        + (", before the mean with the given weights" if plan.keep else ""),
        cover=report.cover90,
    )
    (folder / CARD).write_text(text, "utf-8")


def _of_card(source: str | Path | None) -> tuple[list[str], list[str]]:
    """Data and commands of a checkpoint's card; of one without a card its name."""
    if source is None:
        return [], []
    folder = folder_of(source, optional=(CARD_JSON,))
    try:
        facts = read_json(folder, CARD_JSON)
    except InputError:
        facts = {}
    data, commands = ([str(line) for line in facts.get(name) or ()] for name in ("data", "commands"))
    return data or [f"- what the checkpoint {Path(source).name} was made from"], commands


def _command(plan: "TrainPlan") -> str:
    """What trains such a model again."""
    options = plan.options
    words = ["vsat train", *(f"--patches {path.name}" for path in plan.patches)]
    words += ["--both" if plan.patches else "--prior"] if plan.prior else []
    words += (
        [f"--init {Path(plan.begun_with).name}"]
        if plan.begun_with
        else [f"--size {plan.size}", f"--backbone {plan.backbone}"]
    )
    words += [f"--optimizer {options.optimizer}", f"--lr {options.peak:g}", f"--steps {options.steps}"]
    words += [f"--keep {plan.keep:g}"] if plan.keep else []
    words += [f"--batch {options.batch}", f"--accumulate {options.accumulate}", f"--seed {options.seed}", "--out MODEL"]
    return " ".join(words)
