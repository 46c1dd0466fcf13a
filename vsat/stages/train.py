"""Train: from synthetic records, stores of real patches, or both, to a checkpoint folder that fills.

    OUT/                    what `anydate:OUT` names: weights, configuration, calibration, card
      run/checkpoint-200/   what training goes on from after a kill; run/logs/ for TensorBoard

Early stopping, the choice of the best weights and the calibration go by held-out patches: other synthetic records, or the
validation split of the stores. The test split is never read.
"""

import copy
import json
import logging
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from vsat.core.gaps import GapDesign
from vsat.core.masks import clear
from vsat.core.splits import SPLITS
from vsat.errors import InputError, StoreError
from vsat.io.durable import unwritten
from vsat.io.ledger import lease
from vsat.io.patch_reader import PatchStore
from vsat.methods import ANYDATE
from vsat.model import CALIBRATION
from vsat.model.anydate import BACKBONES, SIZES, AnyDate, AnyDateConfig, new_model
from vsat.model.checkpoint import load_checkpoint
from vsat.model.dataset import PatchDataset, PatchSource
from vsat.model.examples import CELLS, DESIGN, WHOLE, Examples, Mixed, collate
from vsat.model.folders import take_gpt2
from vsat.model.optimizers import LEARNING_RATE
from vsat.model.options import TrainOptions, TrainResult
from vsat.model.prior import Prior
from vsat.model.rehearsal import Rehearsed, Stretch, rehearse, stretch_of
from vsat.model.tokens import NUMBER_KINDS
from vsat.model.training import train as train_model
from vsat.room import is_full
from vsat.stages.card import write_card
from vsat.stages.model_item import write_model_item
from vsat.stages.models import SHIPPED
from vsat.stages.pool import Progress

log = logging.getLogger(__name__)

PRIOR_PATCHES = 2_500_000  # of each kind: an epoch of them never ends
PRIOR_PX = 12  # of a patch with dates that are partly seen
SMALL_PX, SMALL_CELLS, SMALL_PARTS = 6, 3, 3  # and three times as many smaller ones, for all pixels share one sky
HELD_OUT_FIRST = 1_000_000_000
CALIBRATED_ON = 60  # held-out patches
CROP_PX = 32  # of a held-out patch that is rehearsed on
STEPS, EVERY = 4000, 200
TUNING_STEPS, TUNING_EVERY = 250, 25  # close looks: a small place is learned by heart after 50 steps
TUNING_LR = 1 / 6  # of the optimiser's own; a third unlearns more on small places than it gains (docs/log.md)


@dataclass(frozen=True)
class TrainPlan:
    """What to train, on what.

    Attributes:
        prior: learn from synthetic records.
        patches: folders of patch stores to learn from.
        size: of anydate.SIZES; with `init` that of the checkpoint.
        init: a checkpoint's folder or hub id to begin with, "anydate" the one that comes along; None for random weights.
        keep: share of the weights it begins with in the mean that is written (Wortsman et al. 2022, WiSE-FT).
        backbone, numbers, evidence, scene: see AnyDateConfig.
        gpt2: a GPT2Model's folder or hub id, whose layers a gpt2 backbone begins with.
        held_out: patches that decide when to stop; intervals are stretched on some of them.
        options: of the training itself.
    """

    prior: bool = True
    patches: tuple[Path, ...] = ()
    size: str = "tiny"
    init: str | None = None
    keep: float = 0.0
    backbone: str = "llama"
    gpt2: str | None = None
    numbers: str = "asinh"
    evidence: bool = True
    scene: bool = True
    held_out: int = 384
    options: TrainOptions = field(default_factory=TrainOptions)

    @property
    def begun_with(self) -> str | None:
        """Where the checkpoint that it begins with is: a folder or a hub id."""
        return str(SHIPPED) if self.init == ANYDATE else self.init


@dataclass(frozen=True)
class TrainReport:
    """What came of it.

    `held_out` are losses before and after, `cover90` is of the held-out intervals before stretching; `left_out` names patches
    that could not be read and samples whose loss was not finite, `parts` says how often batches were cut for want of memory.
    """

    out: str
    parameters: int
    steps: int
    best_step: int
    seconds: float
    stopped: str
    held_out_first: float | None
    held_out_best: float | None
    cover90: float
    unclipped: float | None
    left_out: tuple[str, ...] = ()
    parts: int = 1

    def text(self) -> str:
        """In a few lines."""
        before, after = (
            f"{value:.4f}" if value is not None else "-" for value in (self.held_out_first, self.held_out_best)
        )
        lost = f"left out: {', '.join(self.left_out)}\n" if self.left_out else ""
        parted = (
            f"memory was short: batches were cut into {self.parts} parts, the steps are the same\n"
            if self.parts > 1
            else ""
        )
        again = f"{lost}{parted}use it: vsat fill CUBE --method anydate:{self.out}"
        return (
            f"{self.out}: {self.parameters / 1e6:.2f} million weights, {self.steps} steps in {self.seconds:.0f} s, ended by "
            f"{self.stopped}\nheld-out loss {before} at first, {after} at best (step {self.best_step}); 90 % intervals held "
            f"{100 * self.cover90:.0f} % before they were stretched\n{again}"
        )


def default_pace(optimizer: str, *, begun: bool) -> tuple[float | None, int, int]:
    """Peak lr (None: the optimiser's own), steps, and steps between two looks at the held-out set.

    Args:
        optimizer: of optimizers.LEARNING_RATE; of another name nothing is known.
        begun: with a checkpoint, which has learned most of it already.
    """
    own = next((lr for name, lr in LEARNING_RATE.items() if name == optimizer), None)
    if not begun or own is None:
        return None, STEPS, EVERY
    return own * TUNING_LR, TUNING_STEPS, TUNING_EVERY


def train(plan: TrainPlan, out: Path, *, progress: Progress | None = None) -> TrainReport:
    """The folder `out` holds a trained checkpoint; a run that was killed goes on from its last whole save.

    Under torchrun every process calls this with the same arguments; the first one writes.

    Raises:
        InputError: nothing to learn from, a store without train or validation patches, an option of no use, or a run in
            `out` that was begun with other ones.
        VsatError: a loss was not finite.
        StoreError: a patch store or the disk failed, or another run trains in `out`.
    """
    model = _model(plan)
    learn, held_out, sources = _sets(plan, model.config.patch_px)
    first = int(os.environ.get("RANK", "0")) == 0
    with lease(out, "train") if first else nullcontext(), _told(out):
        return _trained(plan, out, model, learn, held_out, sources, progress, first=first)


@contextmanager
def _told(out: Path) -> Iterator[None]:
    """A full disk is told as one, whoever met it: TensorBoard's writer, the weights or the card; and it is told once."""
    before = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        # TensorBoard's thread hands its error on to the next who writes
        if not (isinstance(args.exc_value, OSError) and is_full(args.exc_value, out)):
            before(args)

    threading.excepthook = hook
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise unwritten(error, out) from error
    finally:
        threading.excepthook = before


def _trained(
    plan: TrainPlan, out: Path, model: AnyDate, learn: Mixed, held_out: Mixed, sources: Sequence[tuple[PatchSource, Any]],
    progress: Progress | None, *, first: bool,
) -> TrainReport:  # fmt: skip
    options = replace(plan.options, evaluate_first=plan.init is not None)  # given weights stay where none are better
    given = copy.deepcopy(model.state_dict()) if plan.keep else {}
    result = train_model(model, learn, held_out, options, out / "run", collate=collate, report=progress)
    if plan.keep:
        trained = model.state_dict()  # perhaps on a GPU by now
        model.load_state_dict({name: one.lerp(given[name].to(one.device), plan.keep) for name, one in trained.items()})
    found, unread = _rehearsed(model, sources, plan.options.seed, min(CALIBRATED_ON, plan.held_out))
    stretch = stretch_of(found, np.arange(6), Stretch.none())
    lost = (*result.left_out, *{**learn.unreadable, **held_out.unreadable, **unread}.values())
    report = replace(_report(model, result, found, out), left_out=lost, parts=result.parts)
    if first:
        _write(model, stretch, plan, result, report, out)
    return report


def _model(plan: TrainPlan) -> AnyDate:
    if not 0 <= plan.keep < 1 or (plan.keep and plan.init is None):
        step = "give a share below 1, and a checkpoint to begin with (--init)"
        raise InputError(f"{plan.keep:g} of the given weights cannot be kept", place="--keep", next_step=step)
    if plan.begun_with is not None:
        loaded = load_checkpoint(plan.begun_with, device="cpu").model
        return copy.deepcopy(loaded)  # it may be in use elsewhere
    for name, known in (("size", tuple(SIZES)), ("backbone", BACKBONES), ("numbers", NUMBER_KINDS)):
        if (chosen := getattr(plan, name)) not in known:
            raise InputError(f"no {name} {chosen!r}", place=f"--{name}", next_step=f"choose among {', '.join(known)}")
    config = AnyDateConfig.of_size(
        plan.size, backbone=plan.backbone, numbers=plan.numbers, evidence=plan.evidence, scene=plan.scene
    )
    model = new_model(config, seed=plan.options.seed)
    if plan.gpt2 is not None:
        take_gpt2(model, plan.gpt2)
    return model


def _sets(plan: TrainPlan, patch_px: int) -> tuple[Mixed, Mixed, list[tuple[PatchSource, Any]]]:
    """Examples to learn from, held-out ones, and the held-out patches that intervals are stretched on."""
    if not (plan.prior or plan.patches):
        raise InputError("nothing to learn from", place="train", next_step="give --prior, --patches STORE, or both")
    seed = plan.options.seed
    learn: list[Examples | Mixed] = []
    held: list[tuple[PatchSource, Any]] = []
    for path in plan.patches:
        store = PatchStore(path)
        split = store.column("split")
        chosen = [np.flatnonzero(split == SPLITS.index(name)) for name in ("train", "validation")]
        for name, found in zip(("train", "validation"), chosen, strict=True):
            if not found.size:
                step = "sample with more patches, smaller blocks, or a larger share for it"
                raise InputError(f"no {name} patches", place=str(path), next_step=step)
        learn.append(Examples(_dataset(store, chosen[0], seed, DESIGN), patch_px=patch_px))
        held.append((store, chosen[1]))
    if plan.prior:
        learn.append(_synthetic(seed, patch_px))
    if not held:
        held = [(Prior(seed, plan.held_out, first=HELD_OUT_FIRST), np.arange(plan.held_out))]
    tests = [
        Examples(_dataset(source, index[: plan.held_out], seed + 1, DESIGN), patch_px=patch_px, drops=False)
        for source, index in held
    ]
    return Mixed(learn), Mixed(tests), held


def _synthetic(seed: int, patch_px: int) -> Mixed:
    """Examples of synthetic records: one of all kinds of gaps, three of dates that are hidden whole."""

    def some(part: int, size_px: int, cells: int, design: GapDesign) -> Examples:
        source = Prior(seed, PRIOR_PATCHES, size_px, first=part * PRIOR_PATCHES)
        return Examples(_dataset(source, np.arange(PRIOR_PATCHES), seed, design), patch_px=patch_px, cells=cells)

    small = [some(1 + n, SMALL_PX * patch_px, SMALL_CELLS, WHOLE) for n in range(SMALL_PARTS)]
    return Mixed([some(0, PRIOR_PX, CELLS, DESIGN), *small])


def _dataset(source: PatchSource, index: Any, seed: int, design: GapDesign) -> PatchDataset:
    return PatchDataset(source, index, seed=seed, design=design)


def _rehearsed(
    model: AnyDate, sources: Sequence[tuple[PatchSource, Any]], seed: int, count: int
) -> tuple[Rehearsed, dict[str, str]]:
    """What the model says of hidden looks of held-out patches; and which could not be read, and why."""
    model.train(mode=False)
    parts, number, unread = [], 0, {}
    for source, index in sources:
        chosen = np.random.default_rng(seed).permutation(index)[: -(-count // len(sources))]
        for n in chosen.tolist():
            try:
                patch = source.read(n)
            except StoreError as error:  # one lost patch must not cost the training that is done
                log.warning("left out of the calibration: %s", error)
                unread[source.name(n)] = error.problem
                continue
            refl_tbyx = patch.refl_tbyx[..., :CROP_PX, :CROP_PX]
            clear_tyx = clear(patch.fmask_tyx[:, :CROP_PX, :CROP_PX], refl_tbyx)
            if clear_tyx.any(axis=(1, 2)).sum() > 4:
                views = [(refl_tbyx, clear_tyx)]
                found = rehearse(model, views, patch.day_t, slot_b=np.arange(6), sensor_t=patch.sensor_t, seed=n)
                number += 1
                parts.append(replace(found, date_r=found.date_r + number * 1_000_000))  # dates of other places
    if not parts:
        raise InputError("no held-out patch has enough looks", place="train", next_step="sample longer patches")
    joined = (np.concatenate([getattr(part, name) for part in parts]) for name in Rehearsed.__dataclass_fields__)
    return Rehearsed(*joined), unread


def _report(model: AnyDate, result: TrainResult, found: Rehearsed, out: Path) -> TrainReport:
    inside = (found.truth_rb >= found.quantile_rlb[:, 0]) & (found.truth_rb <= found.quantile_rlb[:, 4])
    held_out = [loss for _, loss in result.held_out]
    return TrainReport(
        str(out),
        sum(p.numel() for p in model.parameters()),
        result.steps,
        result.best_step,
        round(result.seconds, 1),
        result.stopped,
        held_out[0] if held_out else None,
        min(held_out) if held_out else None,
        round(float(inside.mean()), 4),
        result.unclipped,
    )


def _write(
    model: AnyDate, stretch: Stretch, plan: TrainPlan, result: TrainResult, report: TrainReport, out: Path
) -> None:
    """All files of the checkpoint, aside first; the weights, which make it one, come last."""
    aside = out / "model.part"
    shutil.rmtree(aside, ignore_errors=True)
    model.save_pretrained(aside)
    (aside / CALIBRATION).write_text(json.dumps(asdict(stretch)) + "\n", "utf-8")
    write_card(aside, plan, result, report)
    write_model_item(aside, out.name)
    for path in sorted(aside.iterdir(), key=lambda one: one.suffix == ".safetensors"):
        path.replace(out / path.name)
    aside.rmdir()
    log.info("%s: checkpoint written", out)
