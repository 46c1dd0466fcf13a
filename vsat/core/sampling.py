"""A stratified draw: strata from features, how many patches each gets, and which ones, near-duplicates passed over.

Axes: n candidates, f features, s strata.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
import numpy.typing as npt

from vsat.core.strata import SEASON_NAMES

Rule = Literal["equal", "proportional", "neyman"]
BINS = 2
MORE_BINS = {"greenness": 3}
WORDS = {2: ("low", "high"), 3: ("low", "middle", "high")}

Ints = npt.NDArray[np.int64]
Float = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Strata:
    """Cells of the sampling design: one bin of each feature. Plain values, JSON in and out.

    Attributes:
        names: features.
        edges: per feature the inner edges of its bins, ascending; a value on an edge belongs to the upper bin.
    """

    names: tuple[str, ...]
    edges: tuple[tuple[float, ...], ...]

    @property
    def count(self) -> int:
        """Number of cells, empty ones included."""
        return int(np.prod([len(inner) + 1 for inner in self.edges], dtype=np.int64))

    def of(self, features_nf: Float) -> Ints:
        """Stratum of each candidate, int64 (n,); columns as `names`. A value that is none belongs to the lowest bin."""
        found = np.zeros(len(features_nf), np.int64)
        for column, inner in zip(features_nf.T, self.edges, strict=True):
            found = found * (len(inner) + 1) + np.searchsorted(
                np.asarray(inner), np.nan_to_num(column, nan=-np.inf), "right"
            )
        return found

    def label(self, stratum: int) -> str:
        """In words: `summer, clear high, greenness low`."""
        parts = []
        for name, inner in reversed(list(zip(self.names, self.edges, strict=True))):
            stratum, at = divmod(stratum, len(inner) + 1)
            parts.append(_word(name, at, len(inner) + 1))
        return ", ".join(reversed([part for part in parts if part]))


def _word(name: str, at: int, bins: int) -> str:
    if name == "season" and bins == len(SEASON_NAMES):
        return SEASON_NAMES[at]
    if bins == 1:  # nothing to tell apart
        return ""
    return f"{name} {WORDS[bins][at] if bins in WORDS else f'{at + 1} of {bins}'}"


def make_strata(features_nf: Float, names: Sequence[str], *, bins: Mapping[str, int] | None = None) -> Strata:
    """Strata whose bins hold about equally many candidates each, per feature.

    Args:
        features_nf: (n, f) of all candidates.
        names: the features.
        bins: how many per feature; by default two, three for greenness, and always the four seasons.

    Returns:
        The strata. A feature with fewer values than bins has fewer bins.
    """
    wanted = {name: BINS for name in names} | {k: v for k, v in MORE_BINS.items() if k in names} | dict(bins or {})
    edges: list[tuple[float, ...]] = []
    for column, name in zip(features_nf.T, names, strict=True):
        if name == "season":
            edges.append((1.0, 2.0, 3.0))
            continue
        known = column[np.isfinite(column)]
        inner = np.quantile(known, np.arange(1, wanted[name]) / wanted[name]) if known.size else np.zeros(0)
        low = known.min() if known.size else 0.0
        edges.append(tuple(float(edge) for edge in np.unique(inner.astype(np.float32)) if edge > low))
    return Strata(tuple(names), tuple(edges))


def allocate(count_s: Ints, spread_s: npt.NDArray[np.floating], total: int, *, rule: Rule, floor: int) -> Ints:
    """How many patches each stratum gets.

    Args:
        count_s: candidates in each stratum.
        spread_s: standard deviation in each; used by "neyman" alone.
        total: patches wanted.
        rule: "equal": the same for all; "proportional": by size; "neyman": by size times spread, which gives the mean of
            what spreads with the least variance (Neyman 1934).
        floor: that every stratum gets first, as far as it has them and `total` allows.

    Returns:
        int64 (s,), nowhere above `count_s`, with the sum min(total, sum of `count_s`). What a small stratum cannot give
        goes to the others by the same rule; fractions go to the largest remainders, the first of equal ones first.
    """
    count = np.asarray(count_s, np.int64)
    total = min(total, int(count.sum()))
    want = np.minimum(count, floor)
    if want.sum() > total:  # not enough for all floors: one round after the other
        return _level(count, total)
    if want.sum() == total:
        return want
    weight = {"equal": np.ones(count.size), "proportional": count.astype(float), "neyman": count * np.asarray(spread_s)}
    share = np.where(count > 0, np.maximum(np.nan_to_num(weight[rule]), 0.0), 0.0)
    if share.sum() == 0:  # no spread anywhere
        share = (count > 0).astype(float)
    return _fill_up(want, count, share, total)


def _level(count: Ints, total: int) -> Ints:
    """One to each in turn until the total is reached."""
    want = np.zeros_like(count)
    while want.sum() < total:
        open_s = np.flatnonzero(want < count)[: total - int(want.sum())]
        want[open_s] += 1
    return want


def _fill_up(low: Ints, high: Ints, share: npt.NDArray[np.float64], total: int) -> Ints:
    """Whole numbers between low and high with this sum, as nearly in the ratio of the shares as the bounds allow."""
    share = share / share.max()
    share = np.where(high > low, np.maximum(share, share[share > 0].min() * 1e-9), share)
    # the scale at which the bounded shares have the sum; it grows with the scale, so bisection finds it
    bottom, top = 0.0, 1.0
    while np.clip(top * share, low, high).sum() < total and top < 1e18:
        top *= 2
    for _ in range(200):
        middle = (bottom + top) / 2
        bottom, top = (middle, top) if np.clip(middle * share, low, high).sum() < total else (bottom, middle)
    exact = np.clip(top * share, low, high)
    want = np.floor(exact + 1e-9).astype(np.int64)
    rest = exact - want
    for s in np.argsort(-rest.round(9), kind="stable"):  # equal ones are equal, whatever the last bit says
        if want.sum() >= total:
            break
        want[s] += want[s] < high[s]
    for s in np.argsort(-(high - want), kind="stable"):  # rounding at the bounds
        want[s] += max(0, min(int(high[s] - want[s]), total - int(want.sum())))
    return want


@dataclass(frozen=True)
class Extents:
    """Where windows lie and which looks they hold: what decides how much two of them overlap.

    Attributes:
        place_n: windows of different places (tiles) never overlap.
        x_n, y_n: upper-left corners, in the unit of the side.
        look_nk: uint8 (n, k), looks as packed bits; windows of one place share the looks' numbering.
    """

    place_n: Ints
    x_n: npt.NDArray[np.floating]
    y_n: npt.NDArray[np.floating]
    look_nk: npt.NDArray[np.uint8]

    def followed_by(self, others: "Extents") -> "Extents":
        """These, then the others."""
        return Extents(
            np.concatenate([self.place_n, others.place_n]),
            np.concatenate([self.x_n, others.x_n]),
            np.concatenate([self.y_n, others.y_n]),
            np.concatenate([self.look_nk, others.look_nk]),
        )


@dataclass(frozen=True)
class Drawn:
    """What was drawn.

    Attributes:
        picked: int64, candidates in the order of drawing.
        want_s, drawn_s: per stratum what the allocation asked for, and what came.
        thinned: candidates that were passed over as near-duplicates.
    """

    picked: Ints
    want_s: Ints
    drawn_s: Ints
    thinned: int


def draw(
    *,
    stratum_n: Ints,
    block_n: Ints,
    spread_n: Float,
    place_n: Ints,
    x_n: npt.NDArray[np.floating],
    y_n: npt.NDArray[np.floating],
    size: float,
    look_nk: npt.NDArray[np.uint8],
    strata: int,
    total: int,
    rule: Rule,
    floor: int,
    max_overlap: float,
    seed: int,
    earlier: Extents | None = None,
) -> Drawn:
    """Draw patches by stratum, in each by turns from its blocks, in an order that the seed decides.

    Args:
        stratum_n, block_n: which stratum, and which block of ground, each candidate belongs to.
        spread_n: for the rule "neyman".
        place_n: candidates of different places (tiles) never overlap.
        x_n, y_n: upper-left corners; size: side; all in one unit.
        look_nk: uint8 (n, k), looks as packed bits; candidates of one place share the looks' numbering.
        strata: number of strata.
        total, rule, floor: see `allocate`.
        max_overlap: of two windows whose common pixel-dates are more than this share of all theirs, one is drawn.
        seed: decides the order.
        earlier: what earlier draws took, in the same unit and numbering: `max_overlap` holds against it too.

    Returns:
        The draw; fewer than `total` only if no more are different enough. `want_s` is the allocation before thinning.
    """
    count_s = np.bincount(stratum_n, minlength=strata).astype(np.int64)
    spread_s = np.sqrt(np.bincount(stratum_n, spread_n.astype(np.float64) ** 2, strata) / np.maximum(count_s, 1))
    want_s = allocate(count_s, spread_s, total, rule=rule, floor=floor)
    queues = _queues(stratum_n, block_n, strata, seed)
    taken = _Taken(Extents(place_n, x_n, y_n, look_nk), earlier, size, max_overlap)
    drawn_s, left_s, goal_s, picked = np.zeros_like(count_s), count_s.copy(), want_s, []
    while True:
        for s in np.flatnonzero((goal_s > drawn_s) & (left_s > 0)):
            while drawn_s[s] < goal_s[s] and left_s[s]:
                n = queues[s][count_s[s] - left_s[s]]
                left_s[s] -= 1
                if taken.add(n):
                    picked.append(n)
                    drawn_s[s] += 1
        missing = min(total, int(count_s.sum())) - len(picked)
        if missing <= 0 or not left_s.any():
            break
        goal_s = drawn_s + allocate(left_s, spread_s, missing, rule=rule, floor=0)
    order = np.random.default_rng([seed, 1]).permutation(len(picked))
    return Drawn(np.array(picked, np.int64)[order], want_s, drawn_s, taken.refused)


def _queues(stratum_n: Ints, block_n: Ints, strata: int, seed: int) -> list[Ints]:
    """Per stratum its candidates, by turns from its blocks: the first of every block, then the second of each."""
    chance = np.random.default_rng([seed, 0]).random(stratum_n.size)
    order = np.lexsort((chance, block_n, stratum_n))
    new = np.flatnonzero(np.diff(stratum_n[order], prepend=-1) | np.diff(block_n[order], prepend=-1))
    turn = np.arange(order.size) - np.repeat(new, np.diff(np.append(new, order.size)))
    by_turn = order[np.lexsort((chance[order], turn, stratum_n[order]))]
    ends = np.cumsum(np.bincount(stratum_n, minlength=strata))
    return [by_turn[end - n : end] for end, n in zip(ends, np.bincount(stratum_n, minlength=strata), strict=True)]


class _Taken:
    """What was drawn, by place: whether another candidate is too much like one of it.

    Looked for in a few cells only. Of two squares that lie `d` sides apart along x or y at most 1 - d is common ground,
    and of their looks at most all; so their share is (1 - d) / (1 + d) at most, and beyond d = (1 - most) / (1 + most)
    no two are too much alike. Cells of that side need their neighbours, and nobody else.
    """

    def __init__(self, candidates: Extents, earlier: Extents | None, size: float, most: float) -> None:
        every = candidates if earlier is None else candidates.followed_by(earlier)
        self.place_n, self.x_n, self.y_n, self.size = every.place_n, every.x_n, every.y_n, float(size)
        self.look_nk, self.looks_n = every.look_nk, np.bitwise_count(every.look_nk).sum(axis=1, dtype=np.int64)
        self.most, self.refused = most, 0
        self.cell = self.size * min(max((1 - most) / (1 + most), 1e-3), 1.0) * (1 + 1e-9)
        self.cells: dict[tuple[int, int, int], list[int]] = defaultdict(list)
        for n in range(len(candidates.place_n), len(every.place_n)):
            self.cells[self._cell(n)].append(n)

    def add(self, n: int) -> bool:
        """The candidate is taken, unless too much of it has been."""
        place, col, row = self._cell(n)
        near = [m for i, j in product((-1, 0, 1), repeat=2) for m in self.cells.get((place, col + i, row + j), ())]
        if near and self._overlap(n, np.array(near)).max() > self.most:
            self.refused += 1
            return False
        self.cells[place, col, row].append(n)
        return True

    def _cell(self, n: int) -> tuple[int, int, int]:
        return int(self.place_n[n]), int(self.x_n[n] // self.cell), int(self.y_n[n] // self.cell)

    def _overlap(self, n: int, others: Ints) -> npt.NDArray[np.float64]:
        """Common pixel-dates of n and each other over those of either."""
        across = np.maximum(self.size - np.abs(self.x_n[others] - self.x_n[n]), 0.0)
        down = np.maximum(self.size - np.abs(self.y_n[others] - self.y_n[n]), 0.0)
        shared = np.bitwise_count(self.look_nk[others] & self.look_nk[n]).sum(axis=1)
        common = across * down * shared
        whole = self.size**2 * (self.looks_n[others] + self.looks_n[n])
        return np.asarray(common / np.maximum(whole - common, 1e-9))
