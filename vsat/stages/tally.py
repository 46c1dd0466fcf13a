"""Scores kept as sums: per target date for the bootstrap, per group of target values for the tables.

Axes: b bands, l levels of a distribution, q days asked, y, x, n target pixels.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vsat.core.bootstrap import paired_ratio
from vsat.core.fill import Filled
from vsat.core.images import ssim_adjusted, ssim_chip
from vsat.core.metrics import Sums, finish, gather
from vsat.core.protocols import Fold, Target
from vsat.core.strata import SEASON_NAMES, season_of
from vsat.hls import SCALE
from vsat.stages.sources import Block
from vsat.stages.verdict import Calibration, Headline, Row

GAP_DAYS = (8, 16, 32, 64, 128)
GAPS = (*(f"to {days} days" for days in GAP_DAYS), f"over {GAP_DAYS[-1]} days", "one side only")
CLOUD_SHARES = (0.1, 0.3, 0.6)
CLOUDS = (*(f"to {share:.0%}" for share in CLOUD_SHARES), f"over {CLOUD_SHARES[-1]:.0%}")
GROUPS = ("all", "gap", "cloud", "season", "stratum")
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
    """What target values are grouped by, beside the gap, which is a pixel's own."""

    protocol: str
    level: int
    cloud: str
    season: str
    stratum: str
    method: str


@dataclass
class Tally:
    """Sums per group and method; each keeps bands and gap lengths apart."""

    sums: dict[Key, Sums] = field(default_factory=dict)
    bands: tuple[str, ...] = ()

    def add(self, other: "Tally") -> None:
        """Take in another's sums."""
        self.bands = self.bands or other.bands
        for key, sums in other.sums.items():
            self.sums[key] = self.sums[key] + sums if key in self.sums else sums

    def compare(self, block: Block, fold: Fold, target: Target, filled: Mapping[str, Filled], q: int) -> list[Unit]:
        """Score one target date of every method on the pixels that all of them estimated; returns a unit for each."""
        mask_yx = target.mask_yx
        truth_bn = (block.refl_tbyx[target.look][:, mask_yx] * SCALE).astype(np.float32)
        known = {name: np.isfinite(one.refl_qbyx[q][:, mask_yx]).all(axis=0) for name, one in filled.items()}
        every_n = np.logical_and.reduce(list(known.values()))
        gap_n = gap_bins(fold.context_tyx[:, mask_yx], block.day_t, target.day)[every_n]
        scene = scene_of(block, fold, target)
        self.bands, units = block.bands, []
        for name, one in filled.items():
            values_lbn, sd_bn = _distribution(one, q, mask_yx, every_n)
            key = Key(fold.protocol, fold.level, *scene, name)
            sums = gather(values_lbn, truth_bn[:, every_n], sd_bn, gap_n, len(GAPS))
            self.sums[key] = self.sums[key] + sums if key in self.sums else sums
            error = float(np.abs(values_lbn[2].astype(np.float64) - truth_bn[:, every_n]).mean(axis=0).sum())
            count, missed = int(every_n.sum()), int((~known[name]).sum())
            images = _images(block, fold, target, one, q, every_n)
            day = str(np.datetime64(target.day, "D"))
            units.append(
                Unit(
                    fold.protocol, fold.level, fold.number, block.name, day, *scene, name, error, count, missed, *images
                )
            )
        return units


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


def _distribution(one: Filled, q: int, mask_yx: Bool, every_n: Bool) -> tuple[Floats, Floats]:
    """The five quantiles (l, b, n) and the standard deviation (b, n) of the scored pixels."""
    fields = (one.p05_qbyx, one.p25_qbyx, one.refl_qbyx, one.p75_qbyx, one.p95_qbyx)
    values_lbn = np.stack([values[q][:, mask_yx][:, every_n] for values in fields])
    return values_lbn, one.sd_qbyx[q][:, mask_yx][:, every_n]


def _images(
    block: Block, fold: Fold, target: Target, one: Filled, q: int, every_n: Bool
) -> tuple[float | None, float | None]:
    """Both kinds of SSIM of a target date; only pixels whose truth is known count."""
    if fold.protocol not in IMAGED or not every_n.any():
        return None, None
    scored_yx = np.zeros(target.mask_yx.shape, np.bool_)
    scored_yx[target.mask_yx] = every_n
    truth_byx = np.where(block.clear_tyx[target.look], block.refl_tbyx[target.look] * np.float32(SCALE), np.nan)
    estimate_byx = np.where(scored_yx, one.refl_qbyx[q], truth_byx)
    found = [kind(estimate_byx, truth_byx, scored_yx) for kind in (ssim_adjusted, ssim_chip)]
    adjusted, chip = (value if value is not None and np.isfinite(value) else None for value in found)
    return adjusted, chip


def best_of(units: Sequence[Unit], baselines: Sequence[str]) -> tuple[str, float]:
    """The baseline with the least mean error over all units, and that error; in hindsight, so it is favoured."""
    error: dict[str, float] = defaultdict(float)
    count: dict[str, int] = defaultdict(int)
    for unit in units:
        error[unit.method] += unit.error
        count[unit.method] += unit.values
    mae = {name: error[name] / count[name] for name in baselines if count[name]}
    best = min(mae, key=lambda name: mae[name])
    return best, mae[best]
