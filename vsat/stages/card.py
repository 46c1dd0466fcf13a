"""The card of a checkpoint: what it was made from, what was measured, where it ends. Markdown for people, JSON for programs."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from vsat.model.options import TrainResult

if TYPE_CHECKING:
    from vsat.stages.train import TrainPlan, TrainReport

CARD_JSON, CARD = "card.json", "README.md"

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

    {command}

## Measured when it was made
Held-out loss {first} at first, {best} at best. 90 % intervals held {cover:.1%} of held-out values before they were stretched
(`calibration.json`). Where a cube is filled, they are stretched again by what its own hidden looks show.
`vsat evaluate CUBE --methods anydate:{name}` compares it with every classical method on your place.

## Limits
- It knows reflectance between -.02 and 1.2, looks within three years of the date asked, six bands or fewer.
- Where origin is *prior only* (no clear look within 200 days, or fewer than three), a value is what such places look like,
  not what was there; such pixels carry low confidence.
- Cloud that the mask missed is taken for ground, if several looks agree on it.
- Sudden events between two looks (harvest, fire, flood) are spread over the gap.
"""


def write_card(folder: Path, plan: "TrainPlan", result: TrainResult, report: "TrainReport") -> None:
    """README.md and card.json."""
    data = [f"- real patches of {path.name}: train split; validation for early stopping" for path in plan.patches]
    if plan.prior:
        data.append("- synthetic records, endless and seeded (`vsat.model.prior`); no real cube")
    if plan.init:
        data.append(f"- begun with the checkpoint {Path(plan.init).name}")
    losses = {"held_out": result.held_out, "train": result.losses}
    options = asdict(plan.options) | {"lr": plan.options.peak, "weight_decay": plan.options.decay}
    known = asdict(report) | {"out": Path(report.out).name}
    facts = {"options": options, "report": known, "data": data, "size": plan.size, "losses": losses}
    (folder / CARD_JSON).write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
    text = TEXT.format(
        name=Path(report.out).name,
        weights=f"{report.parameters / 1e6:.2f} million",
        backbone=plan.backbone,
        numbers=plan.numbers,
        data="\n".join(data),
        optimizer=plan.options.optimizer,
        steps=report.steps,
        batch=plan.options.batch * plan.options.accumulate,
        best_step=report.best_step,
        seconds=report.seconds,
        seed=plan.options.seed,
        command=_command(plan),
        first=f"{report.held_out_first:.4f}" if report.held_out_first is not None else "-",
        best=f"{report.held_out_best:.4f}" if report.held_out_best is not None else "-",
        cover=report.cover90,
    )
    (folder / CARD).write_text(text, "utf-8")


def _command(plan: "TrainPlan") -> str:
    """What trains such a model again."""
    options = plan.options
    words = ["vsat train", *(f"--patches {path.name}" for path in plan.patches)]
    words += ["--both" if plan.patches else "--prior"] if plan.prior else []
    words += [f"--init {Path(plan.init).name}"] if plan.init else [f"--size {plan.size}", f"--backbone {plan.backbone}"]
    words += [f"--optimizer {options.optimizer}", f"--lr {options.peak:g}", f"--steps {options.steps}"]
    words += [f"--batch {options.batch}", f"--accumulate {options.accumulate}", f"--seed {options.seed}", "--out MODEL"]
    return " ".join(words)
