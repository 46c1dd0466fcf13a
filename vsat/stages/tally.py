"""Scores kept as sums: per target date for the bootstrap, per group of target values for the tables.

Axes: b bands, l levels of a distribution, q days asked, y, x, n target pixels.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vsat.core.fill import Filled
from vsat.core.images import ssim_adjusted, ssim_chip
from vsat.core.protocols import Fold, Target
from vsat.core.strata import SEASON_NAMES, season_of
from vsat.core.sums import Sums, gather
from vsat.hls import SCALE
from vsat.stages.sources import Block

GAP_DAYS = (8, 16, 32, 64, 128)
GAPS = (*(f"to {days} days" for days in GAP_DAYS), f"over {GAP_DAYS[-1]} days", "one side only")
CLOUD_SHARES = (0.1, 0.3, 0.6)
CLOUDS = (*(f"to {share:.0%}" for share in CLOUD_SHARES), f"over {CLOUD_SHARES[-1]:.0%}")
IMAGED = ("dates", "masks")  # protocols whose targets are images worth a look at their structure

Bool = NDArray[np.bool_]
Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Unit:
    """One target date of one block as one method filled it.

    Attributes:
        fold: number of the draw.
        error: sum over target pixels of the absolute error's mean over bands, reflectance.
        values, missed: pixels scored, and pixels that this method could not estimate.
        ssim, ssim_chip: of the image, None where there is none.
    """

    protocol: str
    level: int
    fold: int
    block: str
    day: str
    cloud: str
    season: str
    stratum: str
    method: str
    error: float
    values: int
    missed: int
    ssim: float | None
    ssim_chip: float | None


@dataclass(frozen=True)
class Key:
    """A group of target values of one method: a row of the tables. `level` 0: all levels of the protocol together."""

    protocol: str
    level: int
    group: str
    value: str
    method: str


@dataclass
class Tally:
    """Sums per group and method, bands apart."""

    bands: tuple[str, ...] = ()
    sums: dict[Key, Sums] = field(default_factory=dict)
    dates: dict[Key, set[tuple[str, str]]] = field(default_factory=lambda: defaultdict(set))

    def add(self, other: "Tally") -> None:
        """Take in another's sums."""
        self.bands = self.bands or other.bands
        for key, sums in other.sums.items():
            self._count(key, sums, other.dates[key])

    def compare(self, block: Block, fold: Fold, target: Target, filled: Mapping[str, Filled], q: int) -> list[Unit]:
        """Score one target date of every method on the pixels that all of them estimated; returns a unit for each."""
        mask_yx = target.mask_yx
        truth_bn = (block.refl_tbyx[target.look][:, mask_yx] * SCALE).astype(np.float32)
        known = {name: _known(one, q, mask_yx) for name, one in filled.items()}
        every_n = np.asarray(np.stack(list(known.values())).all(axis=0))
        gap_n = gap_bins(fold.context_tyx[:, mask_yx], block.day_t, target.day)[every_n]
        scene = scene_of(block, fold, target)
        self.bands, units = block.bands, []
        for name, one in filled.items():
            values_lbn, sd_bn = _distribution(one, q, mask_yx, every_n)
            sums = gather(values_lbn, truth_bn[:, every_n], sd_bn, gap_n, len(GAPS), bands=block.bands)
            unit = Unit(
                fold.protocol, fold.level, fold.number, block.name, str(np.datetime64(target.day, "D")), *scene, name,
                float(np.abs(values_lbn[2].astype(np.float64) - truth_bn[:, every_n]).mean(axis=0).sum()),
                int(every_n.sum()), int((~known[name]).sum()), *_images(block, fold, target, one, q, every_n),
            )  # fmt: skip
            self._sort(unit, sums)
            units.append(unit)
        return units

    def _sort(self, unit: Unit, sums: Sums) -> None:
        """Add a target date's sums to every group that it belongs to."""
        whole = sums.of(None)
        groups = [("all", "", whole), ("cloud", unit.cloud, whole), ("season", unit.season, whole)]
        groups += [("stratum", unit.stratum, whole)] if unit.stratum else []
        groups += [("gap", name, sums.of(at)) for at, name in enumerate(GAPS) if sums.count[at].any()]
        for group, value, part in groups:
            self._count(Key(unit.protocol, 0, group, value, unit.method), part, {(unit.block, unit.day)})
        if unit.level:
            self._count(Key(unit.protocol, unit.level, "all", "", unit.method), whole, {(unit.block, unit.day)})

    def _count(self, key: Key, sums: Sums, dates: set[tuple[str, str]]) -> None:
        self.sums[key] = self.sums[key] + sums if key in self.sums else sums
        self.dates[key] |= dates


def gap_bins(context_tn: Bool, day_t: NDArray[np.int32], day: int) -> NDArray[np.int64]:
    """Index into GAPS for each pixel: days from its last context look until the day to its first one after it."""
    before, after = (context_tn & side[:, None] for side in (day_t <= day, day_t >= day))
    last_n = np.where(before, day_t[:, None], np.iinfo(np.int32).min).max(axis=0, initial=np.iinfo(np.int32).min)
    next_n = np.where(after, day_t[:, None], np.iinfo(np.int32).max).min(axis=0, initial=np.iinfo(np.int32).max)
    gap_n = next_n.astype(np.int64) - last_n
    both_n = before.any(axis=0) & after.any(axis=0)
    return np.where(both_n, np.searchsorted(GAP_DAYS, gap_n), len(GAPS) - 1)


def scene_of(block: Block, fold: Fold, target: Target) -> tuple[str, str, str]:
    """Cloud share, season and stratum of a target date, in words.

    The cloud share is what the methods face: of the laid-over cloud too, where there is one; where the whole date is
    hidden, that of the date as it was.
    """
    seen = fold.context_tyx if fold.protocol == "masks" else block.clear_tyx
    cloud = CLOUDS[int(np.searchsorted(CLOUD_SHARES, 1 - seen[target.look].mean()))]
    return cloud, SEASON_NAMES[season_of(target.day)], block.stratum


def _known(one: Filled, q: int, mask_yx: Bool) -> Bool:
    """Target pixels (n,) that a method estimated, with their spread."""
    fields = (one.refl_qbyx, one.sd_qbyx, one.p05_qbyx, one.p25_qbyx, one.p75_qbyx, one.p95_qbyx)
    known_fn = np.stack([np.isfinite(values[q][:, mask_yx]).all(axis=0) for values in fields])
    return np.asarray(known_fn.all(axis=0))


def _distribution(one: Filled, q: int, mask_yx: Bool, every_n: Bool) -> tuple[Floats, Floats]:
    """Quantiles (l, b, n), ascending, the estimate in the middle, and standard deviation (b, n) of the scored pixels.

    A quantile on the wrong side of the estimate is moved to it: where errors lean, that can happen by a hair.
    """
    fields = (one.p05_qbyx, one.p25_qbyx, one.refl_qbyx, one.p75_qbyx, one.p95_qbyx)
    values = np.stack([values[q][:, mask_yx][:, every_n] for values in fields])
    values[:3] = np.minimum.accumulate(values[2::-1])[::-1]
    values[2:] = np.maximum.accumulate(values[2:])
    return values, one.sd_qbyx[q][:, mask_yx][:, every_n]


def _images(
    block: Block, fold: Fold, target: Target, one: Filled, q: int, every_n: Bool
) -> tuple[float | None, float | None]:
    """Both kinds of SSIM of a target date; None where its image is too small, or not one that was hidden as such."""
    if fold.protocol not in IMAGED or not every_n.any():
        return None, None
    scored_yx = np.zeros(target.mask_yx.shape, np.bool_)
    scored_yx[target.mask_yx] = every_n
    truth_byx = np.where(block.clear_tyx[target.look], block.refl_tbyx[target.look] * np.float32(SCALE), np.nan)
    estimate_byx = one.refl_qbyx[q]
    return ssim_adjusted(estimate_byx, truth_byx, scored_yx), ssim_chip(estimate_byx, truth_byx, scored_yx)


def best_of(units: Sequence[Unit], baselines: Sequence[str]) -> tuple[str, float]:
    """The baseline with the least mean error over all units, and that error; in hindsight, so it is favoured.

    Where no baseline ran, every method is one.
    """
    error: dict[str, float] = defaultdict(float)
    count: dict[str, int] = defaultdict(int)
    for unit in units:
        error[unit.method] += unit.error
        count[unit.method] += unit.values
    mae = {name: error[name] / count[name] for name in count if count[name]}
    mae = {name: mae[name] for name in baselines if name in mae} or mae
    best = min(mae, key=lambda name: mae[name])
    return best, mae[best]
