"""Looks of the very cube hidden and predicted, and intervals stretched to what came true: split conformal prediction.

A checkpoint brings stretches found on held-out patches; a cube that is to be filled has looks of its own to rehearse on, and
the more dates these are, the more its own stretches count (Vovk et al. 2005; Romano et al. 2019 for scores in units of the
predicted interval). Axes: r rehearsed pixels, q days asked, l quantile levels, b bands, y, x; s with the day's own clear
pixels or without, g gap bins.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsat.core.gaps import GapDesign, Gaps, draw_gaps
from vsat.core.looks import bridge_days
from vsat.core.temporal import fill_temporal
from vsat.hls import SCALE
from vsat.model.anydate import AnyDate
from vsat.model.predict import Answer, Question, answer
from vsat.model.tokens import BANDS

GAP_DAYS = (6.0, 20.0)  # between the bins, by looks.bridge_days
DESIGNS = (  # of the rehearsal: what is hidden in each
    GapDesign(masks=0, dates=1, blocks=0, thinning=0, most_dates=0.15),
    GapDesign(masks=1, dates=0, blocks=0, thinning=0, most_dates=0.3),
    GapDesign(masks=0, dates=0, blocks=1, thinning=0, block_days=(30, 120)),
    GapDesign(masks=0, dates=1, blocks=0, thinning=0, most_dates=0.25),
    GapDesign(masks=1, dates=0, blocks=0, thinning=0, most_dates=0.4),
    GapDesign(masks=0, dates=0, blocks=0, thinning=1, share=(0.4, 0.7)),
)
WINDOW_PX = 48
VIEWS = 3
PIXELS = 128  # of a window
MOST_DATES = 24  # rehearsed at once
LEAST_CLOUD_PX = 100
FEW_DATES = 6.0  # own stretches count for half with so many dates behind them
EVEN = 0.15  # 1: dates weigh the same, 0: pixels do
SHARES = (0.5, 0.9)
LIMITS = (0.3, 4.0)  # of a stretch
TINY = 1e-5
_MOST = 1000.0  # a stretch that anybody could mean

Int16 = NDArray[np.int16]
Bools = NDArray[np.bool_]
Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Rehearsed:
    """What was hidden and what was said: reflectance (r, b), quantiles (r, l, b); gap in days, kind and date (r,)."""

    truth_rb: Floats
    quantile_rlb: Floats
    gap_r: Floats
    scene_r: NDArray[np.bool_]
    date_r: NDArray[np.int64]


@dataclass(frozen=True)
class Stretch:
    """Factors on the distances of the 50 and 90 % interval's ends from the median.

    Attributes:
        factors: [without, with own clear pixels][slot among six bands][gap bin][50 %, 90 %].
        dates: [without, with][gap bin], how many hidden dates are behind them.
    """

    factors: tuple[tuple[tuple[tuple[float, ...], ...], ...], ...]
    dates: tuple[tuple[int, ...], ...]

    @classmethod
    def none(cls) -> "Stretch":
        """Leaves all as it is."""
        bins = len(GAP_DAYS) + 1
        return cls(((((1.0,) * len(SHARES),) * bins,) * BANDS,) * 2, ((0,) * bins,) * 2)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Stretch":
        """The inverse of `dataclasses.asdict`.

        Raises:
            ValueError, LookupError, TypeError: these are no stretches: another shape, not finite, or beyond all measure.
        """
        bins = len(GAP_DAYS) + 1
        factors, dates = np.array(values["factors"], np.float64), np.array(values["dates"])
        if factors.shape != (2, BANDS, bins, len(SHARES)) or dates.shape != (2, bins) or dates.dtype.kind != "i":
            raise ValueError("another shape")
        if not ((factors >= 0) & (factors <= _MOST)).all() or (dates < 0).any():
            raise ValueError("a factor or a number of dates is out of range")
        return cls(_tuples(values["factors"]), _tuples(values["dates"]))

    def apply(self, said: Answer, slot_b: NDArray[np.int64], gap_qyx: Floats, scene_q: NDArray[np.bool_]) -> Answer:
        """Stretched: quantiles keep their order, the standard deviation grows like the 90 % interval."""
        factors = np.array(self.factors)[:, slot_b]  # (s, b, g, 2)
        at_qyx = np.digitize(gap_qyx, GAP_DAYS)
        quantile, sd = said.quantile_qlbyx.copy(), said.sd_qbyx.copy()
        for q, scene in enumerate(scene_q):
            half, most = np.moveaxis(factors[int(scene)][:, at_qyx[q]], -1, 0).astype(np.float32)  # (b, y, x) each
            middle = quantile[q, 2]
            for level, factor in ((0, most), (1, half), (3, half), (4, most)):
                quantile[q, level] = middle + factor * (quantile[q, level] - middle)
            quantile[q, 0], quantile[q, 4] = (
                np.minimum(quantile[q, 0], quantile[q, 1]),
                np.maximum(quantile[q, 4], quantile[q, 3]),
            )
            sd[q] *= most
        return Answer(quantile, sd)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list | tuple) else value


def views_of(refl_tbyx: Int16, clear_tyx: Bools, *, seed: int = 0) -> list[tuple[Int16, Bools]]:
    """Windows of a cube to rehearse on: the whole of a small one."""
    height, width = clear_tyx.shape[1:]
    if max(height, width) <= WINDOW_PX:
        return [(refl_tbyx, clear_tyx)]
    rng, found = np.random.default_rng(seed), []
    for _ in range(VIEWS):
        y, x = (int(rng.integers(0, max(1, size - WINDOW_PX + 1))) for size in (height, width))
        window = np.s_[y : y + WINDOW_PX, x : x + WINDOW_PX]
        found.append((refl_tbyx[..., window[0], window[1]], clear_tyx[:, window[0], window[1]]))
    return found


def rehearse(
    model: AnyDate,
    views: Sequence[tuple[Int16, Bools]],
    day_t: NDArray[np.int32],
    *,
    slot_b: NDArray[np.int64],
    sensor_t: NDArray[np.uint8] | None = None,
    seed: int = 0,
) -> Rehearsed:
    """Hide looks of a cube in several ways, and predict them from the rest.

    Args:
        model: in evaluation mode.
        views: windows of the cube, int16 (t, b, y, x) and bool (t, y, x), from `views_of`; they take turns.
        day_t, slot_b, sensor_t: see `predict.Question`.
        seed: of what is hidden.
    """
    rng, parts = np.random.default_rng(seed), []
    for n, design in enumerate(DESIGNS):
        refl_tbyx, clear_tyx = views[n % len(views)]
        share_t = clear_tyx.mean(axis=(1, 2))
        clouds = ~clear_tyx[(share_t > 0.15) & (share_t < 0.85)]
        if design.masks and (len(clouds) < 2 or clear_tyx[0].size < LEAST_CLOUD_PX):
            continue
        gaps = draw_gaps(rng, clear_tyx, day_t, design=design, clouds_myx=clouds)
        looks = np.flatnonzero(gaps.target_tyx.any(axis=(1, 2)))
        looks = looks[np.unique(day_t[looks], return_index=True)[1]]
        looks = np.sort(rng.choice(looks, min(MOST_DATES, looks.size), replace=False))
        if looks.size:
            question = Question(day_t, day_t[looks], slot_b, sensor_t)
            parts.append(_fold(model, refl_tbyx, gaps, looks, question, rng))
    if not parts:
        bands = len(slot_b)
        return Rehearsed(
            np.zeros((0, bands)), np.zeros((0, 5, bands)), np.zeros(0), np.zeros(0, bool), np.zeros(0, int)
        )
    return Rehearsed(*(np.concatenate(one) for one in zip(*parts, strict=True)))


def _fold(
    model: AnyDate,
    refl_tbyx: Int16,
    gaps: Gaps,
    looks: NDArray[np.int64],
    question: Question,
    rng: np.random.Generator,
) -> tuple[NDArray[Any], ...]:
    """The fields of Rehearsed for one draw of gaps."""
    asked_yx = gaps.target_tyx[looks].any(axis=0)
    at = np.flatnonzero(asked_yx)
    wanted_yx = np.zeros(asked_yx.shape, bool)
    wanted_yx.flat[rng.choice(at, min(PIXELS, at.size), replace=False)] = True
    query_q, context_tyx = question.query_q, gaps.context_tyx
    said = answer(model, refl_tbyx, context_tyx, question, wanted_yx=wanted_yx)
    near = fill_temporal(refl_tbyx, context_tyx, question.day_t, query_q, method="nearest", exclude_days=0)
    scene_q = scenes(context_tyx, question.day_t, query_q)
    q, y, x = np.nonzero(gaps.target_tyx[looks] & wanted_yx & (near.nearest_qyx >= 0))
    return (
        refl_tbyx[looks[q], :, y, x] * SCALE,
        said.quantile_qlbyx[q, :, :, y, x].astype(np.float64),
        bridge_days(near.last_qyx[q, y, x], near.next_qyx[q, y, x]),
        scene_q[q],
        query_q[q].astype(np.int64),
    )


def scenes(clear_tyx: Bools, day_t: NDArray[np.int32], query_q: NDArray[np.int32]) -> NDArray[np.bool_]:
    """On which of the days something clear was seen."""
    return np.isin(query_q, day_t[clear_tyx.any(axis=(1, 2))])


def stretch_of(found: Rehearsed, slot_b: NDArray[np.int64], before: Stretch) -> Stretch:
    """Stretches that would have made the intervals right on what was rehearsed, held to `before` where dates are few.

    The score of a value is its distance from the median in units of the interval's own side; a stretch is the scores'
    quantile at the interval's share. Pixels of a date err together, so a date of n of them weighs n^(1 - EVEN), as in
    `core.calibration`: were all the same, the cloudy dates, whose few pixels are often leaked cloud, would decide.
    """
    bins = len(GAP_DAYS) + 1
    factors = np.array(before.factors)
    dates = np.zeros((2, bins), int)
    bin_r = np.digitize(found.gap_r, GAP_DAYS)
    scores = _scores(found)  # (2, r, b)
    for kind in range(2):
        of_kind = found.scene_r == bool(kind)
        whole = _quantiles(scores[:, of_kind], found.date_r[of_kind])
        all_dates = np.unique(found.date_r[of_kind]).size
        for g in range(bins):
            here = of_kind & (bin_r == g)
            dates[kind, g] = np.unique(found.date_r[here]).size
            # Few dates of a bin lean on all gaps of the place, and these on what the checkpoint knows.
            place = _leaning(whole, factors[kind, slot_b, g], all_dates)
            own = _quantiles(scores[:, here], found.date_r[here])
            factors[kind, slot_b, g] = np.clip(_leaning(own, place, int(dates[kind, g])), *LIMITS)
    return Stretch(_tuples(factors.tolist()), _tuples(dates.tolist()))


def _leaning(own: Floats, other: Floats, dates: int) -> Floats:
    """Between the two in their logarithms, by the number of dates behind the first."""
    if not dates:
        return other
    trust = dates / (dates + FEW_DATES)
    return np.asarray(np.exp(trust * np.log(np.maximum(own, 0.05)) + (1 - trust) * np.log(other)))


def _scores(found: Rehearsed) -> Floats:
    """Distance from the median in units of the half interval on that side: of 50 and 90 %, (2, r, b)."""
    middle = found.quantile_rlb[:, 2]
    off = found.truth_rb - middle
    out = []
    for low, high in ((1, 3), (0, 4)):
        below = np.maximum(middle - found.quantile_rlb[:, low], TINY)
        above = np.maximum(found.quantile_rlb[:, high] - middle, TINY)
        out.append(np.where(off < 0, -off / below, off / above))
    return np.stack(out)


def _quantiles(scores: Floats, date_r: NDArray[np.int64]) -> Floats:
    """The scores' quantiles at SHARES, (b, 2)."""
    if not scores.shape[1]:
        return np.ones((scores.shape[2], len(SHARES)))
    _, at, count = np.unique(date_r, return_inverse=True, return_counts=True)
    weight = (count**-EVEN)[at]
    return np.stack(
        [
            [
                np.quantile(scores[i, :, b], share, weights=weight, method="inverted_cdf")
                for i, share in enumerate(SHARES)
            ]
            for b in range(scores.shape[2])
        ]
    )
