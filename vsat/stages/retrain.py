"""Retrain: fine-tune a region's model on what the region has grown, and promote it where the judge finds it better.

    <home>/models/patches/             the store of patches, added to each time
    <home>/models/2024-05-05/          the checkpoint of that day: weights, calibration, card
      begun.json                       which checkpoint it began with
      retrain.json                     the report; once it is there, that day's retraining is over

Checkpoints are never taken away. Both are judged on the same hidden values of the store's test patches, which no training
has read; better means a lower MAE and a lower CRPS in every protocol.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from vsat.config import Region
from vsat.core.sums import finish
from vsat.errors import StoreError
from vsat.io.durable import make_folder, write_file
from vsat.io.ledger import lease
from vsat.io.patch_reader import PatchStore
from vsat.io.patches import MANIFEST, read_manifest
from vsat.io.sealed import open_json, sealed_json
from vsat.methods import ANYDATE
from vsat.model.options import TrainOptions
from vsat.settings import Settings
from vsat.stages.evaluate import Fill, evaluate_one, plan_evaluate
from vsat.stages.models import model_of
from vsat.stages.pool import Progress, run_in_threads
from vsat.stages.promotion import folder_of_models, method_of, promote, read_pointer
from vsat.stages.sample import SampleOptions, options_of, sample
from vsat.stages.scores import headlines
from vsat.stages.sources import Source, patch_source
from vsat.stages.tally import Key, Tally, Unit
from vsat.stages.train import TrainPlan, default_pace
from vsat.stages.train import train as fine_tune

log = logging.getLogger(__name__)

PATCHES, BEGUN, REPORT = "patches", "begun.json", "retrain.json"
BEFORE, AFTER = "anydate:current", "anydate:new"  # the judge tells what is called anydate bands and sensors
JUDGED_PX = 32  # of a test patch: more pixels of one look say little more

# Trains what the plan says into a folder, and goes on where a killed run was.
Trainer = Callable[[TrainPlan, Path], object]


@dataclass(frozen=True)
class RetrainOptions:
    """How to retrain.

    Attributes:
        sample: what to draw; None for the options that the region's store was drawn with, or the usual ones.
        optimizer, batch, patience, held_out, seed: of the training, see TrainPlan and TrainOptions.
        steps: of the optimiser, at most; None for the usual number with a given checkpoint.
        minutes: save and stop after so many.
        protocols: by which both are judged, of core.protocols.PROTOCOLS.
        folds: how often targets are drawn, per protocol and level.
    """

    sample: SampleOptions | None = None
    optimizer: Any = "sophia"
    batch: int = 32
    patience: int | None = 5
    held_out: int = 384
    seed: int = 0
    steps: int | None = None
    minutes: float | None = None
    protocols: tuple[str, ...] = ("dates", "masks")
    folds: int = 2

    def training(self) -> TrainOptions:
        """The options of the training itself: the pace of `vsat train --init`."""
        lr, steps, every = default_pace(self.optimizer, begun=True)
        return TrainOptions(
            optimizer=self.optimizer, lr=lr, steps=self.steps or steps, batch=self.batch, bf16=True, save_every=every,
            evaluate_every=every, patience=self.patience, minutes=self.minutes, seed=self.seed, warmup=0.04, floor=0.02,
        )  # fmt: skip


@dataclass(frozen=True)
class Compared:
    """The current and the new checkpoint on the same hidden values of one protocol; MAE in reflectance.

    `ratio` is new MAE over current, `low` and `high` its 95 % interval from a bootstrap over dates and patches, None where
    there are too few; `cover90` the share of values inside the 90 % interval.
    """

    protocol: str
    values: int
    mae_current: float
    mae_new: float
    ratio: float
    low: float | None
    high: float | None
    crps_ratio: float
    cover90_current: float
    cover90_new: float

    @property
    def is_better(self) -> bool:
        """Both ratios are below 1."""
        return self.ratio < 1 and self.crps_ratio < 1

    def text(self) -> str:
        """In a line."""
        interval = "" if self.low is None or self.high is None else f" (95 %: {self.low:.3f} to {self.high:.3f})"
        return (
            f"{self.protocol}: MAE {self.mae_current:.5f} -> {self.mae_new:.5f}, x {self.ratio:.3f}{interval}, "
            f"CRPS x {self.crps_ratio:.3f}, 90 % intervals hold {self.cover90_current:.0%} -> {self.cover90_new:.0%}, "
            f"{self.values} values"
        )


@dataclass(frozen=True)
class RetrainReport:
    """What came of it: `current` was in use before, `name` is new; `patches` are those of the store."""

    region: str
    day: str
    name: str
    current: str
    promoted: bool
    reason: str
    patches: int
    compared: tuple[Compared, ...]
    notes: tuple[str, ...]

    @property
    def outcome(self) -> str:
        """In a line."""
        return f"promoted {self.name}: {self.reason}" if self.promoted else f"kept {self.current}: {self.reason}"

    def text(self) -> str:
        """In a few lines."""
        back = [f"take it back: vsat model rollback {self.region}"] if self.promoted else []
        by_hand = [] if self.promoted else [f"promote it all the same: vsat model promote {self.region} {self.name}"]
        return "\n".join([self.outcome, *(one.text() for one in self.compared), *self.notes, *back, *by_hand])

    def markdown(self) -> str:
        """For people, as an artifact."""
        rows = [
            f"| {one.protocol} | {one.values} | {one.mae_current:.5f} | {one.mae_new:.5f} | {one.ratio:.3f} | "
            f"{_interval(one)} | {one.crps_ratio:.3f} | {one.cover90_current:.0%} | {one.cover90_new:.0%} |"
            for one in self.compared
        ]
        names = ("hidden", "values", "MAE current", "MAE new", "ratio", "95 %", "CRPS ratio", "90 % holds", "then")
        head = [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
        ends = [f"- {note}" for note in self.notes]
        said = f"{self.patches} patches in the store; the new checkpoint began with {self.current}."
        return "\n".join([f"## {self.outcome}", "", said, "", *head, *rows, "", *ends])


def retrain(
    region: Region,
    day: date,
    options: RetrainOptions | None = None,
    *,
    train: Trainer = fine_tune,
    workers: int | None = None,
    progress: Progress | None = None,
) -> RetrainReport:
    """The day's checkpoint is trained and judged, and in use where it is the better one. Safe to repeat, after a kill too.

    Args:
        region: its scenes fetched.
        day: names the checkpoint; a day is retrained once.
        options: see RetrainOptions.
        train: trains; another one may do so in processes of their own.
        workers: threads that sample and judge; by default as many as VSAT_WORKERS says.
        progress: told (folds judged, folds in all).

    Raises:
        InputError: the store is a bucket, there are no train, validation or test patches, or another training lies there.
        NoScenes: the region has no scene.
        StoreError: the disk failed, or another run retrains the region.
    """
    options, models = options or RetrainOptions(), folder_of_models(region.home)
    out, store = models / day.isoformat(), models / PATCHES
    with lease(models, "retrain"):
        if (out / REPORT).exists():
            return _read(out / REPORT)
        if not (out / BEGUN).exists():  # a killed training goes on with the patches that it began with
            sample([region], store, options.sample or _drawn_with(store), workers=workers)
            _held_out(store, options.seed)  # without test patches nothing could be judged: said before, not after
            make_folder(out)
            write_file(out / BEGUN, [sealed_json({"init": read_pointer(region.home).current})])
        init = str(_opened(out / BEGUN)["init"])
        plan = TrainPlan(
            prior=True,
            patches=(store,),
            init=_source(region, init),
            held_out=options.held_out,
            options=options.training(),
        )
        train(plan, out)
        report = _judged(region, day, init, store, options, workers, progress)
        if report.promoted:
            promote(region.home, report.name, day, reason=report.reason)
        write_file(out / REPORT, [sealed_json(asdict(report))])
    log.info("%s: %s", region.name, report.outcome)
    return report


def compare(
    source: Source,
    fills: dict[str, Fill],
    options: RetrainOptions,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> tuple[tuple[Compared, ...], tuple[str, ...]]:
    """Two models on the same hidden values.

    Args:
        source: what to judge on.
        fills: the call of core.fill.fill of both, by the names BEFORE and AFTER.
        options: protocols, folds, seed.
        workers, progress: as in `retrain`.

    Returns:
        A comparison for each protocol that had something to judge, and notes about the others.

    Raises:
        LeakError: what is hidden can be seen.
    """
    notes: list[str] = []
    jobs = plan_evaluate(source, fills, AFTER, options.protocols, options.folds, options.seed, notes)
    tally, units = Tally(), list[Unit]()
    for found in run_in_threads(
        evaluate_one, jobs, workers=workers or Settings.from_environment().workers, progress=progress
    ):
        tally.add(found.tally)
        units += found.units
    made = []
    for line in headlines(source.name, units, tally, (BEFORE,), options.seed):
        if line.method != AFTER:
            continue
        before, after = (finish(tally.sums[Key(line.protocol, 0, "all", "", name)]) for name in (BEFORE, AFTER))
        made.append(
            Compared(
                line.protocol, int(after.count.sum()), float(before.mae.mean()), float(after.mae.mean()), line.ratio,
                line.low, line.high, float(after.crps.mean() / before.crps.mean()), float(before.cover_sb[-1].mean()),
                float(after.cover_sb[-1].mean()),
            )
        )  # fmt: skip
    return tuple(made), tuple(notes)


def verdict(compared: Sequence[Compared], protocols: Sequence[str]) -> tuple[bool, str]:
    """Whether to promote, and why: it must be better by MAE and CRPS in every protocol asked for."""
    judged = {one.protocol for one in compared}
    silent = [name for name in protocols if name not in judged]
    worse = [one.protocol for one in compared if not one.is_better]
    if silent:
        return False, f"nothing could be judged with {', '.join(silent)}"
    if worse:
        return False, f"the new one is not better with {', '.join(worse)}"
    ratios = ", ".join(f"{one.protocol} MAE x {one.ratio:.3f}, CRPS x {one.crps_ratio:.3f}" for one in compared)
    return True, f"better on held-out patches: {ratios}"


def _judged(
    region: Region, day: date, init: str, store: Path, options: RetrainOptions, workers: int | None,
    progress: Progress | None,
) -> RetrainReport:  # fmt: skip
    name, current = day.isoformat(), read_pointer(region.home).current
    if current == name:  # a run that was killed after it had promoted
        current = init
    source = _held_out(store, options.seed)
    fills: dict[str, Fill] = {
        BEFORE: model_of(method_of(region.home, current)).fill,
        AFTER: model_of(method_of(region.home, name)).fill,
    }
    compared, notes = compare(source, fills, options, workers=workers, progress=progress)
    promoted, reason = verdict(compared, options.protocols)
    return RetrainReport(
        region.name, name, name, current, promoted, reason, len(PatchStore(store)), compared,
        (*source.unreadable, *source.notes, *notes),
    )  # fmt: skip


def _held_out(store: Path, seed: int) -> Source:
    """The store's test patches, cut."""
    source, window = patch_source(store, seed=seed), np.s_[..., :JUDGED_PX, :JUDGED_PX]
    cut = tuple(replace(one, refl_tbyx=one.refl_tbyx[window], clear_tyx=one.clear_tyx[window]) for one in source.blocks)
    return replace(source, blocks=cut)


def _drawn_with(store: Path) -> SampleOptions:
    """The options that the store was drawn with, or the usual ones where there is none."""
    if not (store / MANIFEST).exists():
        return SampleOptions()
    return options_of(read_manifest(store)["options"])


def _source(region: Region, name: str) -> str:
    """A checkpoint as training takes it to begin with."""
    return method_of(region.home, name).removeprefix(f"{ANYDATE}:")


def _read(path: Path) -> RetrainReport:
    told = _opened(path)
    compared = tuple(Compared(**one) for one in told.pop("compared"))
    return RetrainReport(**told | {"compared": compared, "notes": tuple(told["notes"])})


def _opened(path: Path) -> dict[str, Any]:
    try:
        return open_json(path.read_bytes())
    except ValueError as error:
        step = f"remove the folder {path.parent.name} and retrain on another day"
        raise StoreError(f"it cannot be used: {error}", place=str(path), next_step=step) from error


def _interval(one: Compared) -> str:
    return "-" if one.low is None or one.high is None else f"{one.low:.3f} to {one.high:.3f}"
