"""The whole classical fill: temporal estimate, scene regression, spread, and what was really seen passed through.

`fill` does a cube held in memory. For a whole tile the same steps are called one by one: `calibrate` on a sample
window, `fill_temporal` per stripe of rows, then per date `look_of_day` and `finish_date`; the numbers are the same.
Axes: t looks, q query days, l looks of `age` (last, next, count), b bands, y, x.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vsat.core.calibration import Spread, calibrate, calibrate_many, support_shares
from vsat.core.looks import Int16, bridge_days, knot_shares
from vsat.core.spatial import Regressed, regress
from vsat.core.temporal import Estimate, Mix, fill_temporal, temporal_of
from vsat.hls import FILL, SCALE

OBSERVED, NEAR, FAR, PRIOR, NONE = 0, 1, 2, 3, 255
NEAR_DAYS = 16  # DESIGN 6: origin 1
PRIOR_DAYS = 200  # farther from any look an estimate rests on the season alone
PRIOR_LOOKS = 3
BATCH_VALUES = 60_000_000  # estimates made at once
STRIPE_PIXELS = 250_000

Float = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Estimated:
    """Reflectance and its distribution on one date, float32 (b, y, x) each."""

    refl_byx: Float
    sd_byx: Float
    p05_byx: Float
    p25_byx: Float
    p75_byx: Float
    p95_byx: Float


@dataclass(frozen=True)
class FilledDate(Estimated):
    """One date: reflectance, its spread, and where it came from.

    A clear look of the day itself is there unchanged, with a deviation of 0 and the value itself as its quantiles; NaN is none.

    Attributes:
        origin_yx: uint8, 0 seen that day, 1 a clear look within 16 days, 2 farther, 3 prior only (no look within
            200 days or fewer than 3 looks), 255 no value.
        age_lyx: int16 days since the last and until the next clear look, number of clear looks; -9999 missing.
        source_yx: int32, index into t of the look seen or the nearest one, -1 none.
    """

    origin_yx: npt.NDArray[np.uint8]
    age_lyx: Int16
    source_yx: npt.NDArray[np.int32]


@dataclass(frozen=True)
class Filled:
    """`FilledDate` for every query day, stacked along q; `spread` is what its widths came from, None from a model."""

    refl_qbyx: Float
    sd_qbyx: Float
    p05_qbyx: Float
    p25_qbyx: Float
    p75_qbyx: Float
    p95_qbyx: Float
    origin_qyx: npt.NDArray[np.uint8]
    age_qlyx: Int16
    source_qyx: npt.NDArray[np.int32]
    spread: Spread | None


@dataclass(frozen=True)
class Look:
    """What was seen on one day: int16 (b, y, x), bool (y, x), and int32 (y, x) the index into t (-1 none)."""

    refl_byx: Int16
    clear_yx: npt.NDArray[np.bool_]
    source_yx: npt.NDArray[np.int32]


def fill(
    refl_tbyx: Int16,
    clear_tyx: npt.NDArray[np.bool_],
    day_t: npt.NDArray[np.int32],
    query_q: npt.NDArray[np.int32],
    *,
    method: str,
    spread: Spread | None = None,
    seed: int = 0,
) -> Filled:
    """Reflectance, spread and origin of every pixel on every query day.

    Args:
        refl_tbyx: int16 (t, b, y, x), reflectance x 1e-4, FILL none.
        clear_tyx: bool (t, y, x), from `masks.clear`.
        day_t: int32 (t,), days since 1970-01-01, ascending, repeats allowed.
        query_q: int32 (q,), days since 1970-01-01.
        method: a name of config.METHODS.
        spread: from `calibrate`; by default it is measured on this cube.
        seed: for the calibration's draws.

    Returns:
        The filled dates, NaN and origin 255 where a pixel has no clear look at all.
    """
    if spread is None:
        spread = calibrate(refl_tbyx, clear_tyx, day_t, method=method, seed=seed)
    return _filled(refl_tbyx, clear_tyx, day_t, query_q, {method: spread})[method]


def fill_many(
    refl_tbyx: Int16,
    clear_tyx: npt.NDArray[np.bool_],
    day_t: npt.NDArray[np.int32],
    query_q: npt.NDArray[np.int32],
    *,
    methods: Sequence[str],
    seed: int = 0,
) -> dict[str, Filled]:
    """`fill` with several methods, which share temporal estimates and the looks that are hidden to calibrate them.

    Each result is the same as that of `fill` alone.
    """
    spreads = calibrate_many(refl_tbyx, clear_tyx, day_t, methods=methods, seed=seed)
    return _filled(refl_tbyx, clear_tyx, day_t, query_q, spreads)


def _filled(
    refl_tbyx: Int16,
    clear_tyx: npt.NDArray[np.bool_],
    day_t: npt.NDArray[np.int32],
    query_q: npt.NDArray[np.int32],
    spreads: Mapping[str, Spread],
) -> dict[str, Filled]:
    out = {method: _empty(len(query_q), refl_tbyx.shape, spread) for method, spread in spreads.items()}
    # Some dates at a time: together they share each pixel's fits, yet need not all lie in memory five times over.
    batch = max(1, BATCH_VALUES // max(1, int(np.prod(refl_tbyx.shape[1:]))))
    for start in range(0, len(query_q), batch):
        days = query_q[start : start + batch]
        looks = [look_of_day(refl_tbyx, clear_tyx, day_t, int(day)) for day in days]
        made: dict[tuple[str, Mix], Estimate] = {}
        for method, spread in spreads.items():
            key = temporal_of(method), spread.mix
            if key not in made:
                # 0: the day's own looks must not be in the base that the scene regression compares with them.
                made[key] = fill_temporal(
                    refl_tbyx, clear_tyx, day_t, days, method=key[0], mix=spread.mix, exclude_days=0
                )
            est = made[key]
            for n, look in enumerate(looks):
                one = finish_date(
                    est.refl_qbyx[n],
                    look,
                    est.last_qyx[n],
                    est.next_qyx[n],
                    est.count_qyx[n],
                    est.nearest_qyx[n],
                    spread=spread,
                    method=method,
                )
                _put(out[method], start + n, one)
    return out


def look_of_day(
    refl_tbyx: Int16, clear_tyx: npt.NDArray[np.bool_], day_t: npt.NDArray[np.int32], day: int
) -> Look | None:
    """The day's clear pixels, from the first clear look in t's order where there are several; None if there is none."""
    looks = np.flatnonzero(day_t == day)
    if not looks.size or not clear_tyx[looks].any():
        return None
    refl, clear = refl_tbyx[looks[0]].copy(), clear_tyx[looks[0]].copy()
    source = np.where(clear, looks[0], -1).astype(np.int32)
    for t in looks[1:]:
        new = clear_tyx[t] & ~clear
        refl[:, new] = refl_tbyx[t][:, new]
        source[new] = t
        clear |= new
    return Look(refl, clear, source)


def finish_date(
    base_byx: Int16,
    look: Look | None,
    last_yx: Int16,
    next_yx: Int16,
    count_yx: Int16,
    nearest_yx: Int16,
    *,
    spread: Spread,
    method: str,
) -> FilledDate:
    """Turn one date's temporal estimate into the product: scene regression, spread, pass-through, origin.

    Args:
        base_byx, last_yx, next_yx, count_yx, nearest_yx: `fill_temporal` with `exclude_days=0` for this date.
        look: what was seen that day, from `look_of_day`.
        spread: from `calibrate` with the same method.
        method: a name of config.METHODS.
    """
    if look is not None and method.endswith("+scene"):
        done = regress(base_byx, look.refl_byx, look.clear_yx)
    else:
        base = np.where(base_byx == FILL, np.nan, base_byx).astype(np.float32) * np.float32(SCALE)
        done = Regressed(base, np.zeros(base.shape[1:], np.float32), used=False)
    near = Neighbours(last_yx, next_yx, count_yx, nearest_yx)
    sd, quantiles = _spread(done, last_yx, next_yx, near.origin_yx(), spread)
    return dated(Estimated(done.refl_byx, sd, *quantiles), near, look)


@dataclass(frozen=True)
class Neighbours:
    """Where a date's pixels have clear looks, int16 (y, x) each: see `temporal.Estimate`."""

    last_yx: Int16
    next_yx: Int16
    count_yx: Int16
    nearest_yx: Int16

    def origin_yx(self) -> npt.NDArray[np.uint8]:
        """Origin as if nothing was seen on the day itself, see FilledDate."""
        sides = (np.where(side < 0, 32767, side) for side in (self.last_yx, self.next_yx))
        near_days = np.minimum(*sides)
        origin = np.where(near_days <= NEAR_DAYS, NEAR, FAR).astype(np.uint8)
        origin[(near_days > PRIOR_DAYS) | (self.count_yx < PRIOR_LOOKS)] = PRIOR
        origin[self.nearest_yx < 0] = NONE
        return origin


def dated(made: Estimated, near: Neighbours, look: Look | None) -> FilledDate:
    """The product of one date: what was seen that day passed through, and where every value comes from.

    The arrays of `made` are written to.
    """
    has, origin = near.nearest_yx >= 0, near.origin_yx()
    age = np.stack([near.last_yx, near.next_yx, near.count_yx]).astype(np.int16)
    age[:2][age[:2] < 0] = FILL
    age[:, ~has] = FILL
    source = near.nearest_yx.astype(np.int32)
    if look is not None:
        seen = look.clear_yx
        values = look.refl_byx[:, seen].astype(np.float32) * np.float32(SCALE)
        for field in (made.refl_byx, made.p05_byx, made.p25_byx, made.p75_byx, made.p95_byx):
            field[:, seen] = values
        made.sd_byx[:, seen] = 0.0
        origin[seen] = OBSERVED
        age[:2, seen] = 0
        age[2, seen] = np.maximum(near.count_yx[seen], 0) + 1
        source[seen] = look.source_yx[seen]
    return FilledDate(**vars(made), origin_yx=origin, age_lyx=age, source_yx=source)


def _spread(
    done: Regressed, last_yx: Int16, next_yx: Int16, origin_yx: npt.NDArray[np.uint8], spread: Spread
) -> tuple[Float, list[Float]]:
    """Standard deviation and the quantiles .05 .25 .75 .95 of every pixel, by its gap, support and origin."""
    sd = np.empty_like(done.refl_byx)
    quantiles = [np.empty_like(done.refl_byx) for _ in range(4)]
    height, width = origin_yx.shape
    rows = max(1, STRIPE_PIXELS // max(1, width))
    for top in range(0, height, rows):
        part = slice(top, top + rows)
        share_yxk = knot_shares(bridge_days(last_yx[part], next_yx[part])).astype(np.float32)
        share_yxs = support_shares(done.support_yx[part]).astype(np.float32)
        prior_yx = origin_yx[part] == PRIOR
        for b, refl_yx in enumerate(done.refl_byx[:, part]):
            away = _away(share_yxk, share_yxs if done.used else None, spread, b)
            for i, level in enumerate((0, 1, 3, 4)):
                away[i][prior_yx] = spread.prior[b][level]
                quantiles[i][b, part] = refl_yx + away[i]
            away[4][prior_yx] = spread.prior_sd[b]
            sd[b, part] = np.where(np.isnan(refl_yx), np.nan, away[4])
    return sd, quantiles


def _away(share_yxk: Float, share_yxs: Float | None, spread: Spread, band: int) -> list[Float]:
    """Distances (y, x) of the quantiles .05 .25 .75 .95 from the estimate, and the standard deviation."""
    plain = np.asarray(share_yxk @ np.array(spread.sd[band], np.float32))
    if share_yxs is not None:
        factor_sl = np.array(spread.scene[band], np.float32)
        return [plain * (share_yxs @ factor_sl[:, level]) for level in (0, 1, 3, 4, 5)]
    quantile_kl = np.array(spread.quantiles[band], np.float32)
    return [*(np.asarray(share_yxk @ quantile_kl[:, level]) for level in (0, 1, 3, 4)), plain]


def _empty(queries: int, shape: tuple[int, ...], spread: Spread) -> Filled:
    refl = [np.empty((queries, *shape[1:]), np.float32) for _ in range(6)]
    return Filled(
        refl[0],
        refl[1],
        refl[2],
        refl[3],
        refl[4],
        refl[5],
        np.empty((queries, *shape[2:]), np.uint8),
        np.empty((queries, 3, *shape[2:]), np.int16),
        np.empty((queries, *shape[2:]), np.int32),
        spread,
    )


def _put(out: Filled, q: int, one: FilledDate) -> None:
    out.refl_qbyx[q], out.sd_qbyx[q] = one.refl_byx, one.sd_byx
    out.p05_qbyx[q], out.p25_qbyx[q] = one.p05_byx, one.p25_byx
    out.p75_qbyx[q], out.p95_qbyx[q] = one.p75_byx, one.p95_byx
    out.origin_qyx[q], out.age_qlyx[q], out.source_qyx[q] = one.origin_yx, one.age_lyx, one.source_yx
