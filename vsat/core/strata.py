"""What a training patch would be like, before it is read: features of candidate windows from one light pass.

Every scene is summed up once on small cells; all windows in place and time are then sums over cells, taken from running
totals, never pixel by pixel. A whole tile of 120 scenes on cells of 8 pixels takes 0.5 GB, whatever the windows.
Axes: t looks, y, x cells; n candidates, f features, w windows in time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from vsat.core.masks import clear
from vsat.hls import BANDS, FMASK_FILL, SCALE, SENSORS

FEATURES = ("season", "clear", "gap", "greenness", "amplitude", "brightness", "heterogeneity", "sensors")
SEASON_NAMES = ("winter", "spring", "summer", "autumn")  # DJF, MAM, JJA, SON: of the calendar, not of the hemisphere
VARIABILITY = "variability"  # beside the features: what Neyman's allocation asks for, the NDVI's spread in a window

STRIPE_ROWS = 64  # rows of windows worked on at once
HALF_SEEN = 0.25  # clear share of a window from which a look ends a gap
_RED, _NIR = BANDS.index("red"), BANDS.index("nir")
Float = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Int32 = npt.NDArray[np.int32]
Int16 = npt.NDArray[np.int16]
UInt16 = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class CellStats:
    """One scene on cells.

    Attributes:
        clear_yx, valid_yx: uint16, pixels that are clear, and that hold data.
        ndvi_yx, bright_yx: float32, means over clear pixels of NDVI and of the six bands' mean reflectance; NaN none.
        rough_yx: float32, standard deviation of NDVI over clear pixels; NaN none.
    """

    clear_yx: UInt16
    valid_yx: UInt16
    ndvi_yx: Float
    bright_yx: Float
    rough_yx: Float


@dataclass(frozen=True)
class Survey:
    """`CellStats` of all scenes of a grid, stacked along t in the order of `day_t`; `static` rasters on cells, NaN none."""

    cell_px: int
    day_t: Int32
    sensor_t: npt.NDArray[np.uint8]
    clear_tyx: UInt16
    valid_tyx: UInt16
    ndvi_tyx: Float
    bright_tyx: Float
    rough_tyx: Float
    static: Mapping[str, Float] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        cell_px: int,
        day_t: Int32,
        sensor_t: npt.NDArray[np.uint8],
        scenes: Sequence[CellStats],
        static: Mapping[str, Float] | None = None,
    ) -> "Survey":
        """Scenes in the order of their days, put together."""
        return cls(
            cell_px,
            day_t,
            sensor_t,
            np.stack([one.clear_yx for one in scenes]),
            np.stack([one.valid_yx for one in scenes]),
            np.stack([one.ndvi_yx for one in scenes]),
            np.stack([one.bright_yx for one in scenes]),
            np.stack([one.rough_yx for one in scenes]),
            dict(static or {}),
        )


@dataclass(frozen=True)
class Candidates:
    """Windows that could be patches.

    Attributes:
        top_n, left_n: int32, upper-left corner in pixels of the grid.
        first_day_n, last_day_n: int32, bounds of the window in time, inclusive, days since 1970-01-01.
        looks_n: int16, looks that are kept.
        look_nk: uint8 (n, ceil(t / 8)), which of the survey's, as `np.packbits` packs them.
        features_nf: float32, in the order of `names`.
        variability_n: float32, standard deviation of NDVI over the window's clear cells and looks.
    """

    top_n: Int32
    left_n: Int32
    first_day_n: Int32
    last_day_n: Int32
    looks_n: Int16
    look_nk: npt.NDArray[np.uint8]
    features_nf: Float
    variability_n: Float
    names: tuple[str, ...]


def survey_scene(
    refl_byx: Int16, fmask_yx: npt.NDArray[np.uint8], cell_px: int, *, adjacent: bool = False, snow: bool = False
) -> CellStats:
    """Sum up one scene on square cells from the upper left; what is left over at the right and the bottom is not used.

    Args:
        refl_byx: int16 (6, y, x) x 1e-4, FILL none.
        fmask_yx: uint8 HLS v2 bits, 255 no data.
        cell_px: side of a cell, at most 255.
        adjacent, snow: what counts as clear, see `masks.clear`.
    """
    height, width = (size // cell_px * cell_px for size in fmask_yx.shape)
    refl, fmask = refl_byx[:, :height, :width], fmask_yx[:height, :width]
    ok = clear(fmask, refl, adjacent=adjacent, snow=snow)
    red, nir = refl[_RED].astype(np.float32), refl[_NIR].astype(np.float32)
    ndvi = np.where(ok, (nir - red) / np.maximum(nir + red, 100.0), 0.0)  # 0.01: no division by dark water's nothing
    ndvi = np.clip(ndvi, -1.0, 1.0)
    bright = np.where(ok, refl.mean(axis=0, dtype=np.float32) * np.float32(SCALE), 0.0)
    count = _cells(ok, cell_px)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = _cells(ndvi, cell_px) / count
        variance = np.maximum(_cells(ndvi**2, cell_px) / count - mean**2, 0.0)
        level = _cells(bright, cell_px) / count
    none = count == 0
    parts = (np.where(none, np.nan, part).astype(np.float32) for part in (mean, level, np.sqrt(variance)))
    return CellStats(count.astype(np.uint16), _cells(fmask != FMASK_FILL, cell_px).astype(np.uint16), *parts)


def candidates(
    survey: Survey,
    *,
    size_px: int,
    stride_px: int,
    days: int,
    step_days: int,
    start_day: int,
    most_looks: int,
    min_looks: int,
    min_clear: float,
    owned_yx: npt.NDArray[np.bool_] | None = None,
) -> Candidates:
    """Every window that could be a patch, in the order of time, row, column.

    Args:
        survey: of one grid.
        size_px, stride_px: side of a window, and pixels between windows; multiples of the cell.
        days, step_days, start_day: windows in time are [start_day + k * step_days, that + days - 1], as far as they end
            by the last look; one window where the looks span less than `days`.
        most_looks: of more looks than these the clearest are kept.
        min_looks: windows with fewer looks are none.
        min_clear: share of the window's pixels that must be clear for a look to be kept.
        owned_yx: bool (pixels); windows that hold a False are none. Default: all pixels may be used.

    Returns:
        The windows with their features.
    """
    assert size_px % survey.cell_px == 0 and stride_px % survey.cell_px == 0
    side, step = size_px // survey.cell_px, stride_px // survey.cell_px
    rows = np.arange(0, survey.clear_tyx.shape[1] - side + 1, step)
    cols = np.arange(0, survey.clear_tyx.shape[2] - side + 1, step)
    spans = _spans(survey.day_t, days, step_days, start_day)
    parts = []
    for first in range(0, rows.size, STRIPE_ROWS):
        boxes = _Boxes(survey, rows[first : first + STRIPE_ROWS], cols, side, owned_yx)
        for start, end in spans:
            parts.append(boxes.window(start, end, most_looks, min_looks, min_clear))
    names = (*FEATURES, *survey.static)
    if not parts:
        return _nothing(names, survey.day_t.size)
    joined: list[npt.NDArray[Any]] = [np.concatenate(list(column)) for column in zip(*parts, strict=True)]
    order = np.lexsort((joined[1], joined[0], joined[2]))
    top, left, first_day, last_day, looks, look, features, spread = (column[order] for column in joined)
    return Candidates(top, left, first_day, last_day, looks, look, features, spread, names)


def _spans(day_t: Int32, days: int, step_days: int, start_day: int) -> list[tuple[int, int]]:
    """First and last days of the windows in time."""
    if not day_t.size:
        return []
    last = int(day_t.max())
    count = max(0, (last - (start_day + days - 1)) // step_days) + 1
    return [(start_day + k * step_days, start_day + k * step_days + days - 1) for k in range(count)]


class _Boxes:
    """Sums over square windows of cells, of each look: (t, y, x) positions, for some rows of them."""

    def __init__(
        self, survey: Survey, rows: Int32, cols: Int32, side: int, owned_yx: npt.NDArray[np.bool_] | None
    ) -> None:
        self.survey, self.side, self.rows, self.cols = survey, side, rows, cols
        self.owned = self._owned(owned_yx) if owned_yx is not None else True
        top, bottom = int(rows[0]), int(rows[-1]) + side
        cut = {name: getattr(survey, name)[:, top:bottom] for name in ("clear_tyx", "valid_tyx")}
        count = cut["clear_tyx"].astype(np.float64)
        ndvi, bright, rough = (
            np.nan_to_num(getattr(survey, name)[:, top:bottom].astype(np.float64))
            for name in ("ndvi_tyx", "bright_tyx", "rough_tyx")
        )
        at = rows - top
        self.pixels = float((side * survey.cell_px) ** 2)
        self.clear = _box(count, at, cols, side)
        self.valid = _box(cut["valid_tyx"].astype(np.float64), at, cols, side)
        self.ndvi = _box(count * ndvi, at, cols, side)
        self.bright = _box(count * bright, at, cols, side)
        self.square = _box(count * (ndvi**2 + rough**2), at, cols, side)
        self.static = [_box_mean(one[None, top:bottom], at, cols, side) for one in survey.static.values()]

    def window(
        self, start: int, end: int, most: int, fewest: int, min_clear: float
    ) -> tuple[npt.NDArray[np.generic], ...]:
        """The columns of `Candidates` for the looks from `start` to `end`."""
        day_t = self.survey.day_t
        t = np.flatnonzero((day_t >= start) & (day_t <= end))
        share = self.clear[t] / self.pixels
        kept = _clearest(share, share >= max(min_clear, 1e-9), most)
        y, x = np.nonzero((kept.sum(axis=0) >= fewest) & self.owned)
        kept_tn, share_tn = kept[:, y, x], share[:, y, x]
        sums = {name: getattr(self, name)[t][:, y, x] for name in ("clear", "valid", "ndvi", "bright", "square")}
        features, spread = _features(day_t[t], self.survey.sensor_t[t], kept_tn, share_tn, sums, (start, end))
        features += [one[0, y, x] for one in self.static]
        look = np.zeros((y.size, day_t.size), np.bool_)
        look[:, t] = kept_tn.T
        cell = self.survey.cell_px
        return (
            (self.rows[y] * cell).astype(np.int32),
            (self.cols[x] * cell).astype(np.int32),
            np.full(y.size, start, np.int32),
            np.full(y.size, end, np.int32),
            kept_tn.sum(axis=0).astype(np.int16),
            np.packbits(look, axis=1),
            np.stack(features, axis=1).astype(np.float32) if y.size else np.zeros((0, len(features)), np.float32),
            spread.astype(np.float32),
        )

    def _owned(self, owned_yx: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Windows without a pixel that is not owned."""
        cell = self.survey.cell_px
        size, first = self.side * cell, int(self.rows[0]) * cell
        strange = ~owned_yx[first : int(self.rows[-1]) * cell + size]
        total = np.pad(strange.cumsum(axis=0, dtype=np.int32).cumsum(axis=1), ((1, 0), (1, 0)))
        top, left = self.rows[:, None] * cell - first, self.cols[None, :] * cell
        outside = total[top + size, left + size] - total[top, left + size] - total[top + size, left] + total[top, left]
        return np.asarray(outside == 0)


def _features(
    day_t: Int32,
    sensor_t: npt.NDArray[np.uint8],
    kept_tn: npt.NDArray[np.bool_],
    share_tn: Doubles,
    sums: Mapping[str, Doubles],
    span: tuple[int, int],
) -> tuple[list[Doubles], Doubles]:
    """FEATURES of windows, and the spread of their NDVI."""
    count_tn = np.where(kept_tn, sums["clear"], 0.0)
    total = np.maximum(count_tn.sum(axis=0), 1.0)
    mean_n = np.where(kept_tn, sums["ndvi"], 0.0).sum(axis=0) / total
    square_n = np.where(kept_tn, sums["square"], 0.0).sum(axis=0) / total
    with np.errstate(invalid="ignore", divide="ignore"):
        look_tn = sums["ndvi"] / sums["clear"]
    within_n = np.where(kept_tn, sums["square"] - sums["clear"] * look_tn**2, 0.0).sum(axis=0) / total
    seen_n = np.maximum((sums["valid"] > 0).sum(axis=0), 1)
    features = [
        np.full(mean_n.shape, season_of((span[0] + span[1]) // 2), np.float64),
        share_tn.sum(axis=0) / seen_n,
        _longest_gap(day_t, kept_tn & (share_tn >= HALF_SEEN), span),
        mean_n,
        _amplitude(np.where(kept_tn, look_tn, np.nan)),
        np.where(kept_tn, sums["bright"], 0.0).sum(axis=0) / total,
        np.sqrt(np.maximum(within_n, 0.0)),
        (kept_tn & (sensor_t == SENSORS.index("S30"))[:, None]).sum(axis=0) / np.maximum(kept_tn.sum(axis=0), 1),
    ]
    return features, np.sqrt(np.maximum(square_n - mean_n**2, 0.0))


def season_of(day: int) -> int:
    """Index into SEASON_NAMES of a day since 1970-01-01."""
    month = int(np.datetime64(day, "D").astype("datetime64[M]").astype(int)) % 12 + 1
    return month % 12 // 3


def _amplitude(look_tn: Doubles) -> Doubles:
    """From the 10 % to the 90 % quantile over the looks there are: one leaked cloud does not make a season."""
    ordered = np.sort(look_tn, axis=0)  # NaN last
    count = np.maximum(np.isfinite(look_tn).sum(axis=0), 1) - 1
    low, high = (np.rint(share * count).astype(np.int64) for share in (0.1, 0.9))
    n = np.arange(look_tn.shape[1])
    return np.asarray(ordered[high, n] - ordered[low, n]) if look_tn.size else np.zeros(look_tn.shape[1])


def _longest_gap(day_t: Int32, seen_tn: npt.NDArray[np.bool_], span: tuple[int, int]) -> Doubles:
    """Days of the longest stretch without a look, the window's ends counted as looks."""
    last = np.full(seen_tn.shape[1], span[0], np.int64)
    longest = np.zeros(seen_tn.shape[1], np.int64)
    for day, seen in zip(day_t, seen_tn, strict=True):
        longest = np.where(seen, np.maximum(longest, day - last), longest)
        last = np.where(seen, day, last)
    return np.maximum(longest, span[1] - last).astype(np.float64)


def _clearest(share_tyx: Doubles, kept_tyx: npt.NDArray[np.bool_], most: int) -> npt.NDArray[np.bool_]:
    """At most `most` looks of each position, the clearest, the earlier of two alike."""
    if kept_tyx.shape[0] <= most:
        return kept_tyx
    order = np.argsort(np.where(kept_tyx, -share_tyx, np.inf), axis=0, kind="stable")
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, np.arange(order.shape[0])[:, None, None], axis=0)
    return kept_tyx & (rank < most)


def _cells(image_yx: npt.NDArray[np.generic], cell: int) -> Doubles:
    """Sums over square cells; the image's sides are multiples of the cell."""
    height, width = image_yx.shape
    return np.asarray(image_yx.reshape(height // cell, cell, width // cell, cell).sum(axis=(1, 3), dtype=np.float64))


def _box(image_tyx: Doubles, rows: Int32, cols: Int32, side: int) -> Doubles:
    """Sums over windows of `side` cells whose upper-left cells are rows x cols, from running totals."""
    total = np.pad(image_tyx.cumsum(axis=1).cumsum(axis=2), ((0, 0), (1, 0), (1, 0)))
    r, c = rows[:, None], cols[None, :]
    return np.asarray(total[:, r + side, c + side] - total[:, r, c + side] - total[:, r + side, c] + total[:, r, c])


def _box_mean(image_tyx: Float, rows: Int32, cols: Int32, side: int) -> Doubles:
    """Means over windows of what is no NaN; NaN where there is nothing else."""
    has = np.isfinite(image_tyx)
    with np.errstate(invalid="ignore", divide="ignore"):
        return _box(np.where(has, image_tyx, 0.0), rows, cols, side) / _box(has.astype(np.float64), rows, cols, side)


def _nothing(names: tuple[str, ...], looks: int) -> Candidates:
    none = np.zeros(0, np.int32)
    packed = np.zeros((0, -(-looks // 8)), np.uint8)
    return Candidates(
        none, none, none, none, none.astype(np.int16), packed, np.zeros((0, len(names)), np.float32),
        np.zeros(0, np.float32), names,
    )  # fmt: skip
