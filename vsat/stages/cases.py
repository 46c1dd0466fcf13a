"""Target dates that may be shown: the worst and the median one of each source, for whole dates and for clouds.

Axes: b bands, q days asked, y, x.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vsat.core.fill import Filled
from vsat.core.protocols import Fold, Target
from vsat.hls import BANDS, FILL, SCALE
from vsat.stages.sources import Block
from vsat.stages.tally import Unit, best_of
from vsat.stages.verdict import CasePicture

PICTURED = ("dates", "masks")
LEAST_SIDE_PX = 8  # a pixel or a row of them is no picture
LEAST_TARGET_PX = 50

Int16 = NDArray[np.int16]


@dataclass(frozen=True)
class Case:
    """A target date as it may be shown; `fold` is the fold's number."""

    picture: CasePicture
    fold: int

    @classmethod
    def of(cls, block: Block, fold: Fold, target: Target, filled: Filled, q: int, method: str) -> "Case | None":
        """The case of one target date; None where nothing is worth a picture."""
        if fold.protocol not in PICTURED or min(target.mask_yx.shape) < LEAST_SIDE_PX:
            return None
        if target.mask_yx.sum() < LEAST_TARGET_PX or block.bands != BANDS:
            return None
        truth_byx = np.where(block.clear_tyx[target.look], block.refl_tbyx[target.look], FILL).astype(np.int16)
        before, before_byx = _neighbour(block, fold, target.day, -1)
        after, after_byx = _neighbour(block, fold, target.day, 1)
        seen = fold.context_tyx[target.look]
        picture = CasePicture(
            block.source, block.name, fold.protocol, fold.level, method, "", str(np.datetime64(target.day, "D")),
            0.0, "", 0.0, before, after, before_byx, after_byx,
            np.where(seen, truth_byx, FILL).astype(np.int16) if seen.any() else None,
            truth_byx, _stored(filled.refl_qbyx[q]), _stored(filled.sd_qbyx[q]), target.mask_yx,
        )  # fmt: skip
        return cls(picture, fold.number)


def pick(cases: Sequence[Case], units: Sequence[Unit], baselines: Sequence[str]) -> Iterator[CasePicture]:
    """The worst and the median case of each source and protocol, in the order of the protocols."""
    by_date = {(u.protocol, u.block, u.fold, u.day, u.method): u.error / u.values for u in units if u.values}
    groups: dict[str, list[tuple[float, CasePicture]]] = defaultdict(list)
    for case in cases:
        one = case.picture
        place = (one.protocol, one.block, case.fold, one.day)
        best, _ = best_of([u for u in units if u.protocol == one.protocol], baselines)
        mae, peer = by_date.get((*place, one.method)), by_date.get((*place, best))
        if mae is not None and peer is not None:
            groups[one.protocol].append((mae, replace(one, mae=mae, best=best, best_mae=peer)))
    for found in groups.values():
        ordered = [picture for _, picture in sorted(found, key=lambda pair: pair[0])]
        yield replace(ordered[-1], kind="worst")
        if len(ordered) > 1:
            yield replace(ordered[(len(ordered) - 1) // 2], kind="median")


def _neighbour(block: Block, fold: Fold, day: int, side: int) -> tuple[str, Int16 | None]:
    """The nearest look of the context before (-1) or after (1) a day that shows a tenth of the image, or any."""
    share_t = fold.context_tyx.mean(axis=(1, 2)) * ((block.day_t - day) * side > 0)
    for least in (0.1, 1e-9):
        looks = np.flatnonzero(share_t >= least)
        if looks.size:
            t = int(looks[np.abs(block.day_t[looks] - day).argmin()])
            seen_byx = np.where(fold.context_tyx[t], block.refl_tbyx[t], FILL).astype(np.int16)
            return str(np.datetime64(int(block.day_t[t]), "D")), seen_byx
    return "", None


def _stored(values_byx: NDArray[np.float32]) -> Int16:
    """Reflectance as int16 x 1e-4, NaN as FILL."""
    whole = np.clip(np.rint(np.nan_to_num(values_byx) / SCALE), FILL + 1, np.iinfo(np.int16).max)
    return np.where(np.isnan(values_byx), FILL, whole).astype(np.int16)
