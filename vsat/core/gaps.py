"""Artificial gaps: what is hidden of a patch in training, and which looks must go with it.

What is asked for is never in the context, nor is anything within a day of it. Axes: t looks, y, x.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

NEIGHBOUR_DAYS = 1  # two sensors on one day, or on two days in a row, see nearly the same ground

Bools = npt.NDArray[np.bool_]
Days = npt.NDArray[np.int32]


@dataclass(frozen=True)
class GapDesign:
    """What kinds of gaps are drawn, and how large they are.

    Attributes:
        masks, dates, blocks, thinning, ends: relative frequencies: cloud of other dates and places laid over clear looks,
            whole dates, all looks of a stretch of time, a share of all dates, all looks of the record's last stretch.
        block_days: shortest and longest stretch; drawn evenly in its logarithm.
        share: least and largest share of the dates that thinning takes.
        most_dates: share of the dates that "masks" and "dates" hide at most.
        least_looks: days with a clear pixel that a context keeps.
    """

    masks: float = 0.4
    dates: float = 0.2
    blocks: float = 0.2
    thinning: float = 0.2
    ends: float = 0.0
    block_days: tuple[float, float] = (8.0, 128.0)
    share: tuple[float, float] = (0.1, 0.9)
    most_dates: float = 0.25
    least_looks: int = 3


KINDS = ("masks", "dates", "blocks", "thinning", "ends")


@dataclass(frozen=True)
class Gaps:
    """What stays and what is asked for, both bool (t, y, x) and part of what is clear; `kind` is one of KINDS, or ""."""

    context_tyx: Bools
    target_tyx: Bools
    kind: str


def near(day_t: Days, days: Iterable[int], within: int = NEIGHBOUR_DAYS) -> Bools:
    """Looks at most `within` days from any of `days`.

    Args:
        day_t: int32 (t,), days since 1970-01-01.
        days: days since 1970-01-01; none gives all False.
        within: whole days, 0 for the days themselves.

    Returns:
        bool (t,).
    """
    found = np.zeros(day_t.shape, np.bool_)
    for day in days:
        found |= np.abs(day_t - day) <= within
    return found


def draw_gaps(
    rng: np.random.Generator, clear_tyx: Bools, day_t: Days, *, design: GapDesign, clouds_myx: Bools | None = None
) -> Gaps:
    """Hide some of what is clear.

    Args:
        rng: decides kind, size and place.
        clear_tyx: bool, the patch's clear pixels.
        day_t: int32 (t,), ascending, repeats allowed.
        design: see GapDesign.
        clouds_myx: bool (m, y, x), cloud of other dates and places; without one "masks" become "dates".

    Returns:
        The gaps. Where a context of `least_looks` days cannot be kept, one date is hidden; where even that takes too
        much, nothing is: kind "", no target.
    """
    weights = np.array([getattr(design, name) for name in KINDS])
    kind = KINDS[rng.choice(len(KINDS), p=weights / weights.sum())]
    if kind == "masks" and (clouds_myx is None or not len(clouds_myx)):
        kind = "dates"
    looks = np.flatnonzero(clear_tyx.any(axis=(1, 2)))
    days = np.unique(day_t[looks])
    if days.size > design.least_looks:
        if kind == "masks":
            assert clouds_myx is not None
            found = _masks(rng, clear_tyx, day_t, days, design, clouds_myx)
        else:
            found = _whole(clear_tyx, day_t, _hidden_days(rng, kind, days, design), kind)
        if _keeps(found, day_t, design):
            return found
        found = _whole(clear_tyx, day_t, rng.choice(days, 1), "dates")
        if _keeps(found, day_t, design):
            return found
    return Gaps(clear_tyx, np.zeros_like(clear_tyx), "")


def _hidden_days(rng: np.random.Generator, kind: str, days: Days, design: GapDesign) -> Days:
    """Which days with looks are hidden whole."""
    match kind:
        case "dates":
            return rng.choice(days, rng.integers(1, _most(days, design) + 1), replace=False)
        case "blocks":
            length = _stretch(rng, design)
            return np.asarray(days[np.abs(days - rng.choice(days)) <= length / 2])
        case "ends":
            return np.asarray(days[days > days[-1] - _stretch(rng, design)])
        case _:
            return rng.choice(days, max(1, round(days.size * rng.uniform(*design.share))), replace=False)


def _stretch(rng: np.random.Generator, design: GapDesign) -> float:
    """Length of one in days."""
    return float(np.exp(rng.uniform(*np.log(design.block_days))))


def _most(days: Days, design: GapDesign) -> int:
    return max(1, int(days.size * design.most_dates))


def _whole(clear_tyx: Bools, day_t: Days, hidden: Days, kind: str) -> Gaps:
    """These days are targets, and what is near them leaves the context."""
    context = clear_tyx & ~near(day_t, hidden)[:, None, None]
    return Gaps(context, clear_tyx & np.isin(day_t, hidden)[:, None, None], kind)


def _masks(
    rng: np.random.Generator, clear_tyx: Bools, day_t: Days, days: Days, design: GapDesign, clouds_myx: Bools
) -> Gaps:
    """Cloud laid over one look of each of some days; the clear rest of that look stays, its neighbours leave."""
    chosen = rng.choice(days, rng.integers(1, _most(days, design) + 1), replace=False)
    chosen = np.sort(chosen)[np.diff(np.sort(chosen), prepend=-(10**6)) > 1]  # else one would be the other's neighbour
    context, target = clear_tyx & ~near(day_t, chosen)[:, None, None], np.zeros_like(clear_tyx)
    for day in chosen:
        looks = np.flatnonzero(day_t == day)
        t = looks[clear_tyx[looks].sum(axis=(1, 2)).argmax()]
        cloud_yx = clouds_myx[rng.integers(len(clouds_myx))][:: rng.choice((-1, 1)), :: rng.choice((-1, 1))]
        target[t], context[t] = clear_tyx[t] & cloud_yx, clear_tyx[t] & ~cloud_yx
    return Gaps(context, target, "masks")


def _keeps(gaps: Gaps, day_t: Days, design: GapDesign) -> bool:
    """Enough days are left, and something is asked for."""
    left = np.unique(day_t[gaps.context_tyx.any(axis=(1, 2))]).size
    return left >= design.least_looks and bool(gaps.target_tyx.any())
