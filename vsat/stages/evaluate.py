"""Judge methods on what was really seen: hide it, look that nothing of it is left, let every method fill it, compare.

The judge trusts nobody: each fold is looked through for leaks before anything is estimated, what is no context is
overwritten before a method gets the cube (calibration included, for it is part of the call), and all methods are scored
on the same pixels: those that all of them could estimate, with the others counted.
Axes: t looks, q days asked, b bands, l levels of a distribution, y, x, n target pixels.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vsat.core.fill import Filled, fill, fill_many
from vsat.core.protocols import LEVELS, PROTOCOLS, REPEATS, Fold, LeakError, check_fold, hidden
from vsat.core.protocols import folds as draw_folds
from vsat.errors import InputError
from vsat.hls import FILL
from vsat.methods import ANYDATE, CLASSICAL, DEFAULT_METHOD, is_trained
from vsat.settings import Settings
from vsat.stages.cases import Case, pick
from vsat.stages.costs import measure
from vsat.stages.models import model_of
from vsat.stages.pool import Progress, run_in_threads
from vsat.stages.scores import calibrations, headlines, rows
from vsat.stages.sources import Block, Source, load_source
from vsat.stages.tally import Tally, Unit
from vsat.stages.verdict import CasePicture, Cost, Verdict

log = logging.getLogger(__name__)

TEMPORAL = ("nearest", "linear", "whittaker", "harmonic")
BASELINES = (*TEMPORAL, *(f"{name}+scene" for name in TEMPORAL))

# The call of core.fill.fill, its method bound; what is called anydate takes bands and sensors too.
Fill = Callable[..., Filled]
Bool = NDArray[np.bool_]


@dataclass(frozen=True)
class FoldJob:
    """One fold of one block, for every method."""

    block: Block
    fold: Fold
    fills: Mapping[str, Fill]
    pictured: str
    seed: int


@dataclass(frozen=True)
class FoldResult:
    """What a fold gave: a unit per target date and method, sums per group, and what may become a picture."""

    units: tuple[Unit, ...]
    tally: Tally
    cases: tuple[Case, ...]


def evaluate(
    sources: Sequence[str | Path],
    *,
    methods: Sequence[str] = (DEFAULT_METHOD,),
    protocols: Sequence[str] = PROTOCOLS,
    folds: int = 2,
    seed: int = 0,
    regions_folder: Path = Path("regions"),
    progress: Progress | None = None,
) -> tuple[Verdict, tuple[CasePicture, ...]]:
    """Methods, and every baseline, judged on sources.

    Args:
        sources: cubes (.nc, .zarr), folders of patch stores, region files, names of regions.
        methods: to judge; the baselines always run too.
        protocols: of core.protocols.PROTOCOLS.
        folds: how often targets are drawn from a source, per protocol and level.
        seed: of all draws; the same seed and sources give the same scores.
        regions_folder: where regions are looked for by name.
        progress: told (folds done, folds in all) of each source.

    Returns:
        The verdict, and the worst and the median case of each source for whole dates and for clouds, as pictures of the
        first of `methods`.

    Raises:
        InputError: an unknown method or protocol, or a source that is of no use.
        StoreError: a source cannot be read, or is a patch store whose splits leak.
        LeakError: a target, or what is too near to one, is in its context: nothing was scored.
    """
    fills = fills_of((*methods, *BASELINES))
    for name in protocols:
        if name not in PROTOCOLS:
            raise InputError(f"unknown protocol {name!r}", next_step=f"choose among {', '.join(PROTOCOLS)}")
    trained = any(is_trained(name) and name != ANYDATE for name in methods)  # that one was trained on no real place
    loaded = [load_source(one, regions_folder=regions_folder, seed=seed, trained=trained) for one in sources]
    return judge(loaded, fills, methods=tuple(methods), protocols=protocols, count=folds, seed=seed, progress=progress)


def fills_of(names: Sequence[str]) -> dict[str, Fill]:
    """The function behind each name, in their order, each once: the call of `core.fill.fill` with its method bound.

    Raises:
        InputError: an unknown name.
    """
    return {name: model_of(name).fill if is_trained(name) else partial(fill, method=name) for name in names}


def judge(
    sources: Sequence[Source],
    fills: Mapping[str, Fill],
    *,
    methods: Sequence[str],
    protocols: Sequence[str] = PROTOCOLS,
    count: int = 2,
    seed: int = 0,
    progress: Progress | None = None,
) -> tuple[Verdict, tuple[CasePicture, ...]]:
    """`evaluate` for sources that are loaded, and for any functions with the call of `core.fill.fill`.

    Args:
        fills: all that run; names of config.CLASSICAL share their work.
        methods: those of them that are judged; the others are there to compare with.
    """
    names = [source.name for source in sources]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{twice!r} comes twice", place="sources", next_step="name each once, and files differently")
    notes: list[str] = []
    plans = [plan_evaluate(source, fills, methods[0], protocols, count, seed, notes) for source in sources]
    parts = [_one_source(source, jobs, fills, seed, progress) for source, jobs in zip(sources, plans, strict=True)]
    verdict = Verdict(
        tuple(names),
        tuple(methods),
        tuple(name for name in fills if name not in methods),
        tuple(protocols),
        count,
        seed,
        sum(map(len, plans)),
        tuple(row for part in parts for row in rows(part.source, part.units, part.tally)),
        tuple(line for part in parts for line in headlines(part.source, part.units, part.tally, BASELINES, seed)),
        tuple(one for part in parts for one in calibrations(part.source, part.tally)),
        tuple(cost for part in parts for cost in part.costs),
        tuple(text for source in sources for text in source.unreadable),
        (
            *(text for source in sources for text in source.notes),
            *notes,
            *(text for part in parts for text in part.notes()),
        ),
    )
    return verdict, tuple(picture for part in parts for picture in pick(part.cases, part.units, BASELINES))


def plan_evaluate(
    source: Source,
    fills: Mapping[str, Fill],
    pictured: str,
    protocols: Sequence[str],
    count: int,
    seed: int,
    notes: list[str],
) -> list[FoldJob]:
    """The folds of a source, each looked through for leaks. What no fold could be made for is added to `notes`.

    Raises:
        LeakError: a fold leaks; with protocol, date and number of pixels.
    """
    jobs = []
    for protocol in protocols:
        drawn = [
            FoldJob(block, fold, fills, pictured, seed)
            for at, block in enumerate(source.blocks)
            for fold in draw_folds(block.clear_tyx, block.day_t, protocol, count=count, seed=seed + at)
            if has_turn(at, fold.number, len(source.blocks), protocol, fold.level, count)
        ]
        for job in drawn:
            check_fold(job.fold, job.block.clear_tyx, job.block.day_t)
        if not drawn:
            notes.append(
                f"{source.name}: nothing to judge with protocol {protocol}: too small, or no date clear enough"
            )
        jobs += drawn
    return jobs


def has_turn(at: int, number: int, blocks: int, protocol: str, level: int, count: int) -> bool:
    """Whether a block's fold is judged: blocks take turns at the levels, so that more blocks do not take much longer.

    Every block takes part in every protocol, and every level gets as many folds as it would from one block, or one from
    each whose turn it is.
    """
    levels = LEVELS[protocol]
    wanted = min(blocks, max(count, -(-blocks // len(levels))))
    turn = (at - levels.index(level) * wanted) % blocks < wanted
    return turn and number < -(-count * REPEATS.get(protocol, 1) // wanted)


@dataclass(frozen=True)
class _Part:
    """All results of a source."""

    source: str
    units: tuple[Unit, ...]
    tally: Tally
    cases: tuple[Case, ...]
    costs: tuple[Cost, ...]

    def notes(self) -> list[str]:
        """How many target pixels a method could not estimate."""
        missed: dict[str, int] = {}
        for unit in self.units:
            missed[unit.method] = missed.get(unit.method, 0) + unit.missed
        lost = [f"{self.source}: {name} gave no estimate for {n} target pixels" for name, n in missed.items() if n]
        return [f"{text}; no method is scored there" for text in lost]


def _one_source(
    source: Source, jobs: Sequence[FoldJob], fills: Mapping[str, Fill], seed: int, progress: Progress | None
) -> _Part:
    """All folds of a source; block by block, so that no more sums are held than one block's."""
    tally, units, cases, done = Tally(), list[Unit](), list[Case](), 0
    workers = Settings.from_environment().workers
    for block in source.blocks:
        mine = [job for job in jobs if job.block is block]
        told = None if progress is None else _further(progress, done, len(jobs))
        for result in run_in_threads(evaluate_one, mine, workers=workers, progress=told):
            tally.add(result.tally)
            units += result.units
            cases += result.cases
        done += len(mine)
    log.info("%s: %d folds, %d target dates", source.name, len(jobs), len({(u.block, u.day) for u in units}))
    dear = next((job for job in jobs if job.fold.protocol == "masks"), jobs[0] if jobs else None)
    costs = measure(source.name, dear.block, dear.fold, bound(fills, dear.block), seed) if dear else ()
    return _Part(source.name, tuple(units), tally, tuple(cases), costs)


def _further(progress: Progress, before: int, total: int) -> Progress:
    """The progress of a part, told as that of the whole."""
    return lambda done, _: progress(before + done, total)


def evaluate_one(job: FoldJob) -> FoldResult:
    """Every method fills a fold's targets, and is compared with the truth.

    Raises:
        LeakError: a target value is in what the methods are about to get.
    """
    block, fold = job.block, job.fold
    given_tbyx = hidden(block.refl_tbyx, fold.context_tyx)
    for target in fold.targets:
        if (given_tbyx[target.look][:, target.mask_yx] != FILL).any():
            raise LeakError(f"{fold.protocol}: values of day {target.day} are still in the cube")
    query_q = np.unique([target.day for target in fold.targets]).astype(np.int32)
    filled = fill_all(job.fills, given_tbyx, fold.context_tyx, block, query_q, seed=job.seed)
    units: list[Unit] = []
    tally, cases = Tally(), []
    for target in fold.targets:
        q = int(np.searchsorted(query_q, target.day))
        units += tally.compare(block, fold, target, filled, q)
        case = Case.of(block, fold, target, filled[job.pictured], q, job.pictured)
        cases += [case] if case else []
    return FoldResult(tuple(units), tally, tuple(cases))


def bound(fills: Mapping[str, Fill], block: Block) -> dict[str, Fill]:
    """The functions, with those of trained models told the block's bands and sensors."""
    known = {"bands": block.bands, "sensor_t": block.sensor_t}
    return {name: partial(fill, **known) if name.startswith(ANYDATE) else fill for name, fill in fills.items()}


def fill_all(
    fills: Mapping[str, Fill],
    given_tbyx: NDArray[np.int16],
    context_tyx: Bool,
    block: Block,
    query_q: NDArray[np.int32],
    *,
    seed: int,
) -> dict[str, Filled]:
    """What every method makes of a context; the classical ones share what they have in common.

    Where the context shows nothing of any day asked, a scene regression has nothing to regress on, and the method with
    it is the method without it: it is filled once.
    """
    scene = bool(np.isin(block.day_t[context_tyx.any(axis=(1, 2))], query_q).any())
    works = {name: name if scene else name.removesuffix("+scene") for name in fills if name in CLASSICAL}
    others, shared = bound(fills, block), list(dict.fromkeys(works.values()))
    found = fill_many(given_tbyx, context_tyx, block.day_t, query_q, methods=shared, seed=seed) if shared else {}
    return {
        name: found[works[name]]
        if name in works
        else others[name](given_tbyx, context_tyx, block.day_t, query_q, seed=seed)
        for name in fills
    }
