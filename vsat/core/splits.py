"""Train, validation and test: decided by place and time before anything is drawn, so that no two of them touch.

Blocks lie on the ground of a UTM zone, not on a tile or a region: whoever else draws from the same ground, through an
overlapping tile or another region, decides alike. Axes: n patches.
"""

import re
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import numpy.typing as npt
import shapely
from pyproj import Transformer
from scipy.spatial import cKDTree

from vsat.core.grid import TileGrid
from vsat.errors import InputError
from vsat.hls import RESOLUTION_M

SPLITS = ("train", "validation", "test")  # the index is what patches store
TRAIN, VALIDATION, TEST = range(3)
NEITHER = -1
SCALE_ERROR = 0.002  # a metre of UTM is .9996 to 1.001 metres on the ground of a zone and what tiles reach over
CRUMB_M = 0.5  # squares of two zones are taken smaller by it, so that neither rounding nor touching is an overlap
SEASONS = {"DJF": 12, "MAM": 3, "JJA": 6, "SON": 9}  # first month; DJF begins in December of the year before

# Roberts 2018: the two-dimensional sequence of lowest discrepancy that powers of one number make, here the plastic one.
_ACROSS, _DOWN = 0.7548776662466927, 0.5698402909980532
_PERIOD = re.compile(r"((?:19|20)\d\d)(?:-(DJF|MAM|JJA|SON))?")
_EPOCH = date(1970, 1, 1)

Ints = npt.NDArray[np.integer]
Int8 = npt.NDArray[np.int8]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class SplitDesign:
    """How ground and time are shared out.

    Attributes:
        block_px: side of a block, in pixels of 30 m.
        buffer_px: patches of two splits are at least so far apart, along x or along y.
        validation_share, test_share: of the blocks.
        seed: another one shares the blocks out otherwise.
        validation_times, test_times: years ("2023") or seasons ("2023-JJA"; DJF belongs to January's year) that are kept
            for these splits; () takes all times.
        time_buffer_days: between kept times and patches of other splits.
    """

    block_px: int = 128
    buffer_px: int = 32
    validation_share: float = 0.15
    test_share: float = 0.15
    seed: int = 0
    validation_times: tuple[str, ...] = ()
    test_times: tuple[str, ...] = ()
    time_buffer_days: int = 16

    def __post_init__(self) -> None:
        shares = self.validation_share + self.test_share
        if not (self.validation_share >= 0 and self.test_share >= 0 and shares < 1):
            problem = f"validation {self.validation_share:g} and test {self.test_share:g} leave nothing to train on"
            raise InputError(problem, place="splits", next_step="give shares from 0 whose sum is below 1")
        if self.block_px < 1 or self.buffer_px < 0 or self.time_buffer_days < 0:
            problem = f"a block of {self.block_px} px, a buffer of {self.buffer_px} px and {self.time_buffer_days} days"
            raise InputError(problem, place="splits", next_step="give a block of 1 or more, and no negative buffer")
        for one in self.validation_times:
            for other in self.test_times:
                (start, end), (first, last) = period_days(one), period_days(other)
                if start <= last and first <= end:
                    problem = f"validation keeps {one} and test keeps {other}, which share days"
                    raise InputError(problem, place="splits", next_step="give each time to one of them")
        for text in (*self.validation_times, *self.test_times):
            period_days(text)

    def kept_times(self, split: int) -> list[tuple[int, int]]:
        """First and last days that a split keeps, since 1970-01-01, ascending; what follows on each other is one."""
        texts = {VALIDATION: self.validation_times, TEST: self.test_times}.get(split, ())
        merged: list[tuple[int, int]] = []
        for start, end in sorted(map(period_days, texts)):
            if merged and start <= merged[-1][1] + 1:
                merged[-1] = merged[-1][0], max(end, merged[-1][1])
            else:
                merged.append((start, end))
        return merged


def period_days(text: str) -> tuple[int, int]:
    """First and last day, since 1970-01-01, of "2023" or "2023-JJA".

    Raises:
        InputError: the text is neither.
    """
    found = _PERIOD.fullmatch(text)
    if not found:
        step = "write a year, 2023, or a season, 2023-DJF, -MAM, -JJA or -SON"
        raise InputError(f"{text!r} is no year and no season", place="splits", next_step=step)
    year = int(found[1])
    if not found[2]:
        return _number(date(year, 1, 1)), _number(date(year, 12, 31))
    month = SEASONS[found[2]]
    first = date(year - 1 if month == 12 else year, month, 1)
    after = date(year if month == 12 else first.year, (month + 2) % 12 + 1, 1)
    return _number(first), _number(after - timedelta(1))


def block_split(design: SplitDesign, epsg: int, column: Ints, row: Ints) -> Int8:
    """The split (index into SPLITS) of blocks of a zone's ground lattice; arrays of one shape.

    A low-discrepancy sequence over the lattice: every neighbourhood has about the shares asked for, and nothing depends
    on which region asks.
    """
    shift = np.random.default_rng([design.seed, epsg]).random()
    place = (shift + _ACROSS * np.asarray(column, np.float64) + _DOWN * np.asarray(row, np.float64)) % 1.0
    held = np.where(place < design.test_share + design.validation_share, VALIDATION, TRAIN)
    return np.where(place < design.test_share, TEST, held).astype(np.int8)


def split_places(design: SplitDesign, grid: TileGrid, top_n: Ints, left_n: Ints, size_px: int) -> Int8:
    """The split of square windows of a grid by their place; NEITHER for those that are too near to another split.

    A window has a split when all blocks that it touches, grown by half the buffer on every side, have that one. So two
    windows of different splits are at least the buffer apart.

    Args:
        top_n, left_n: upper-left corners, in pixels of the grid.
        size_px: side of the windows.

    Returns:
        int8 (n,), index into SPLITS or -1.
    """
    grow = design.buffer_px / 2
    # whole half-pixels from the zone's origin, so that no rounding moves a window over a border
    west = np.rint(2 * (grid.x0 / RESOLUTION_M + np.asarray(left_n) - grow)).astype(np.int64)
    south = np.rint(2 * (grid.y0 / RESOLUTION_M - np.asarray(top_n) - size_px - grow)).astype(np.int64)
    span, block = round(2 * (size_px + 2 * grow)), 2 * design.block_px
    first_col, last_col = west // block, (west + span - 1) // block
    first_row, last_row = south // block, (south + span - 1) // block
    found = block_split(design, grid.epsg, first_col, first_row)
    most = span // block + 2
    for i in range(most):
        for j in range(most):
            here = block_split(
                design, grid.epsg, np.minimum(first_col + i, last_col), np.minimum(first_row + j, last_row)
            )
            found = np.where(found == here, found, NEITHER).astype(np.int8)
    return found


def split_times(design: SplitDesign, first_day_n: Ints, last_day_n: Ints) -> Int8:
    """Whose times patches from first to last day lie in: TRAIN for those that no split keeps; NEITHER near a border.

    Args:
        first_day_n, last_day_n: days since 1970-01-01, inclusive.
    """
    first, last = np.asarray(first_day_n, np.int64), np.asarray(last_day_n, np.int64)
    found = np.full(first.shape, TRAIN, np.int8)
    for split in (VALIDATION, TEST):
        for start, end in design.kept_times(split):
            near = (last >= start - design.time_buffer_days) & (first <= end + design.time_buffer_days)
            inside = (first >= start) & (last <= end)
            found = np.where(near, np.where(inside & (found == TRAIN), split, NEITHER), found).astype(np.int8)
    return found


def combine(design: SplitDesign, place_n: Int8, time_n: Int8) -> Int8:
    """The split that place and time agree on, else NEITHER. A split that keeps no times takes those that nobody keeps."""
    kept = {VALIDATION: bool(design.validation_times), TEST: bool(design.test_times)}
    wanted = np.select([place_n == split for split in kept], [s if has else TRAIN for s, has in kept.items()], TRAIN)
    return np.where((place_n != NEITHER) & (time_n == wanted), place_n, NEITHER).astype(np.int8)


def check_splits(
    epsg_n: Ints,
    x_n: Floats,
    y_n: Floats,
    split_n: Ints,
    *,
    size_m: float,
    buffer_m: float,
    first_day_n: Ints,
    last_day_n: Ints,
    design: SplitDesign | None = None,
) -> list[str]:
    """What is wrong with the splits of patches, found from their corners alone, without the blocks; [] when nothing is.

    Args:
        epsg_n: their zones; patches of different zones are compared in the metres of one of them.
        x_n, y_n: upper-left corners in metres.
        split_n: index into SPLITS.
        size_m, buffer_m: side of a patch, and how far apart different splits must be.
        first_day_n, last_day_n: first and last look, days since 1970-01-01.
        design: with it the kept times are checked too.

    Returns:
        One sentence per pair of splits that touch, with the two patches that are nearest.
    """
    problems = []
    for one, other in ((TRAIN, TEST), (TRAIN, VALIDATION), (VALIDATION, TEST)):
        a, b = np.flatnonzero(split_n == one), np.flatnonzero(split_n == other)
        if a.size and b.size:
            problems += _too_near(epsg_n, x_n, y_n, a, b, (one, other), size_m, buffer_m)
            problems += _mixed_zones(epsg_n, x_n, y_n, a, b, (one, other), size_m, buffer_m)
            if design and (design.kept_times(one) or design.kept_times(other)):
                problems += _meeting(first_day_n, last_day_n, a, b, (one, other), design.time_buffer_days)
    return problems


def near_other_zones(epsg_n: Ints, x_n: Floats, y_n: Floats, split_n: Ints, size_m: float, buffer_m: float) -> Ints:
    """Indices of training and validation patches that a patch of another zone and split comes too near to."""
    found = [
        _pairs_over_zones(
            epsg_n, x_n, y_n, np.flatnonzero(split_n == one), np.flatnonzero(split_n == other), size_m, buffer_m
        )[0]
        for one, other in ((TRAIN, TEST), (TRAIN, VALIDATION), (VALIDATION, TEST))
    ]
    return np.unique(np.concatenate(found))


def _too_near(
    epsg_n: Ints, x_n: Floats, y_n: Floats, a: Ints, b: Ints, pair: tuple[int, int], size_m: float, buffer_m: float
) -> list[str]:
    for epsg in np.intersect1d(epsg_n[a], epsg_n[b]):
        i, j = a[epsg_n[a] == epsg], b[epsg_n[b] == epsg]
        tree = cKDTree(np.column_stack([x_n[j], y_n[j]]))
        gap, at = (np.asarray(v) for v in tree.query(np.column_stack([x_n[i], y_n[i]]), p=np.inf))
        k = int(gap.argmin())
        if gap[k] - size_m < buffer_m - 1e-3:
            return [
                _told(pair, int(i[k]), int(j[at[k]]), f"{max(0.0, gap[k] - size_m):.0f} m apart", f"{buffer_m:.0f} m")
            ]
    return []


def _mixed_zones(
    epsg_n: Ints, x_n: Floats, y_n: Floats, a: Ints, b: Ints, pair: tuple[int, int], size_m: float, buffer_m: float
) -> list[str]:
    i, j, gap = _pairs_over_zones(epsg_n, x_n, y_n, a, b, size_m, buffer_m)
    if not i.size:
        return []
    k = int(gap.argmin())
    return [_told(pair, int(i[k]), int(j[k]), f"of two zones and {gap[k]:.0f} m apart", f"{buffer_m:.0f} m")]


def _pairs_over_zones(
    epsg_n: Ints, x_n: Floats, y_n: Floats, a: Ints, b: Ints, size_m: float, buffer_m: float
) -> tuple[Ints, Ints, Floats]:
    """Patches i of a and j of b, of different zones, that are nearer than the buffer; and how near, in metres."""
    found = [np.zeros((3, 0))]
    for one in np.unique(epsg_n[a]):
        for other in np.setdiff1d(epsg_n[b], one):
            i, j = a[epsg_n[a] == one], b[epsg_n[b] == other]
            at_i, at_j = (_on_sphere(epsg_n[k], x_n[k] + size_m / 2, y_n[k] - size_m / 2) for k in (i, j))
            reach = 1.01 * (size_m * np.sqrt(2.0) + buffer_m)  # further apart, no two squares are too near
            near = cKDTree(at_i).sparse_distance_matrix(cKDTree(at_j), reach, output_type="ndarray")
            i, j = i[near["i"]], j[near["j"]]
            gap = _between(int(one), int(other), (x_n[i], y_n[i]), (x_n[j], y_n[j]), size_m)
            close = gap < max(buffer_m * (1 - SCALE_ERROR), CRUMB_M)
            found.append(np.stack([i[close], j[close], gap[close]]))
    i, j, gap = np.concatenate(found, axis=1)
    return i.astype(np.int64), j.astype(np.int64), gap


def _between(
    one: int, other: int, corner: tuple[Floats, Floats], other_corner: tuple[Floats, Floats], size_m: float
) -> Floats:
    """Metres from each square of one zone to one of another, both given by their upper-left corners."""
    side = np.array([0.0, 1.0]) * (size_m - 2 * CRUMB_M) + CRUMB_M
    right, down = side[[0, 1, 1, 0]], side[[0, 0, 1, 1]]
    across = Transformer.from_crs(other, one, always_xy=True)
    ring, other_ring = (np.stack([x[:, None] + right, y[:, None] - down], axis=-1) for x, y in (corner, other_corner))
    other_ring = np.stack(across.transform(other_ring[..., 0], other_ring[..., 1]), axis=-1)
    return np.asarray(shapely.distance(shapely.polygons(ring), shapely.polygons(other_ring)), np.float64)


def _on_sphere(epsg_n: Ints, x_n: Floats, y_n: Floats) -> Floats:
    """Geocentric metres (n, 3) of points of one zone: chords are as good as arcs at these distances."""
    to_earth = Transformer.from_crs(int(epsg_n[0]), 4978, always_xy=True)
    return np.column_stack(to_earth.transform(x_n, y_n, np.zeros(len(x_n))))


def _meeting(first_n: Ints, last_n: Ints, a: Ints, b: Ints, pair: tuple[int, int], buffer_days: int) -> list[str]:
    """Two patches of the pair whose stretches of time are nearer than the buffer."""
    spans_a, at_a = np.unique(np.column_stack([first_n[a], last_n[a]]), axis=0, return_index=True)
    spans_b, at_b = np.unique(np.column_stack([first_n[b], last_n[b]]), axis=0, return_index=True)
    gap = np.maximum(spans_a[:, None, 0] - spans_b[None, :, 1], spans_b[None, :, 0] - spans_a[:, None, 1])
    i, j = np.unravel_index(int(gap.argmin()), gap.shape)
    if gap[i, j] > buffer_days:
        return []
    return [
        _told(
            pair, int(a[at_a[i]]), int(b[at_b[j]]), f"{max(0, gap[i, j])} days apart", f"more than {buffer_days} days"
        )
    ]


def _told(pair: tuple[int, int], i: int, j: int, gap: str, wanted: str) -> str:
    return f"{SPLITS[pair[0]]} patch {i} and {SPLITS[pair[1]]} patch {j} are {gap}, {wanted} are needed"


def _number(day: date) -> int:
    return (day - _EPOCH).days
