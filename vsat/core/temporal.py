"""Reflectance on any day from the clear looks before and after it: nearest, linear, Whittaker, harmonic, their blend.

Axes: t looks, q query days, b bands, y, x; n = y * x, pixels in a row; m members of the blend. Reflectance is int16
x 1e-4 at the door and float64 inside: in float32 Whittaker's system loses its small penalties. Kernels are
single-threaded and release the GIL: give each thread its own stripe of rows.
"""

from dataclasses import dataclass
from typing import Literal, cast

import numba
import numpy as np
import numpy.typing as npt

from vsat.core.harmonic import seasonal
from vsat.core.looks import KNOTS_DAYS, Days, Int16, Looks, bridge_days, distances, hold_to_span, merge_days, neighbours
from vsat.core.whittaker import smooth
from vsat.hls import FILL

Temporal = Literal["nearest", "linear", "whittaker", "harmonic", "blend"]
Mix = tuple[tuple[float, ...], ...]  # [gap knot][member], rows of sum 1
# Departures: Whittaker on what the harmonic leaves, held towards it: follows the looks where there are any, and returns
# to the season in long gaps.
MEMBERS = ("linear", "whittaker", "harmonic", "departures")
DEFAULT_MIX: Mix = ((0.1, 0.3, 0.3, 0.3),) * len(KNOTS_DAYS)

# Found on the three real cubes that tests/bench/fill_accuracy.py measures, and on a synthetic prior: see docs/log.md.
STEP_DAYS = 8.0  # 3, 5 and 8 days give the same errors at the same smoothness
LAMBDA = 10.0  # on second differences of the 8-day grid: 41 on a 5-day one
TO_MEAN = 1e-6  # holds Whittaker to the pixel's mean: only there so that long empty stretches stay solvable
TO_SEASON = 0.05  # holds departures to the season: one look outweighs a year of grid nodes at 20 to 1
DAMP_DAYS = 16.0  # beyond the last look the slope dies out over this time
ROUNDS = 3  # solves; between them looks that do not fit lose their weight
TUNING = 6.0  # bisquare limit, in medians of a pixel's standardised residuals
TERMS = 8  # level, trend, three yearly harmonics
RIDGE = 0.01  # per look; the level is free
WINDOW_DAYS = 3 * 365.25  # a harmonic fit sees this far to both sides
CELL_DAYS = 180.0  # queries in one such cell share one harmonic fit


@dataclass(frozen=True)
class Estimate:
    """What the looks say about each query day.

    Attributes:
        refl_qbyx: int16, reflectance x 1e-4, FILL where the pixel has no clear look to use.
        last_qyx, next_qyx: int16, days to the nearest clear look before and after; 0 in both on its own day, -1 none.
        count_qyx: int16, clear looks that the estimate could draw on.
        nearest_qyx: int16, index into t of the nearest clear look (the earlier of two equally near), -1 none.
    """

    refl_qbyx: Int16
    last_qyx: Int16
    next_qyx: Int16
    count_qyx: Int16
    nearest_qyx: Int16


def fill_temporal(
    refl_tbyx: Int16,
    clear_tyx: npt.NDArray[np.bool_],
    day_t: npt.NDArray[np.int32],
    query_q: npt.NDArray[np.int32],
    *,
    method: Temporal,
    mix: Mix = DEFAULT_MIX,
    exclude_days: int | None = None,
) -> Estimate:
    """Estimate every pixel on every query day from its own clear looks.

    Args:
        refl_tbyx: int16 (t, b, y, x), reflectance x 1e-4. Values under a False of `clear_tyx` are never used.
        clear_tyx: bool (t, y, x).
        day_t: int32 (t,), days since 1970-01-01, ascending; a repeated day is one look, the mean of its clear ones.
        query_q: int32 (q,), days since 1970-01-01, in any order.
        method: "nearest" (the earlier of two equally near looks), "linear" (between the two nearest looks, the nearest
            one at the ends), "whittaker", "harmonic", or "blend": the mean of the last three and a fourth (MEMBERS),
            weighted by gap.
        mix: the blend's weights per gap knot (KNOTS_DAYS) and member: `Spread.mix` from `calibrate`.
        exclude_days: a query does not see looks this many days or less away (0: not those of its own day). Robust
            weights and the season under "departures" are still those of all looks.

    Returns:
        The estimate. A pixel with no look to use has FILL.
    """
    looks, bands, height, width = refl_tbyx.shape
    merged = _merged(refl_tbyx, clear_tyx, day_t)
    order = np.argsort(query_q, kind="stable")
    queries = np.asarray(query_q, np.int64)[order]
    exclude = -1 if exclude_days is None else exclude_days
    last_qn, next_qn, count_qn = neighbours(merged.clear_tn, merged.day_t, queries, exclude)
    before_qn, after_qn, source_qn = distances(
        last_qn, next_qn, merged.day_t, queries, merged.first_t, merged.source_tn
    )
    if not (looks and queries.size):
        refl_qbn = np.full((queries.size, bands, height * width), FILL, np.int16)
    elif method == "blend":
        refl_qbn = _blend(merged, queries, last_qn, next_qn, exclude, mix, bridge_days(before_qn, after_qn))
    else:
        refl_qbn = member(method, merged, queries, last_qn, next_qn, exclude)
    _empty(source_qn, refl_qbn)
    sorted_already = bool((np.diff(order) > 0).all())
    back = np.argsort(order, kind="stable")

    def shaped(values: Int16) -> Int16:
        whole = values.reshape(*values.shape[:-1], height, width)
        return whole if sorted_already else whole[back]

    return Estimate(shaped(refl_qbn), shaped(before_qn), shaped(after_qn), shaped(count_qn), shaped(source_qn))


def fill_members(
    refl_tbyx: Int16,
    clear_tyx: npt.NDArray[np.bool_],
    day_t: npt.NDArray[np.int32],
    query_q: npt.NDArray[np.int32],
    *,
    exclude_days: int | None = None,
) -> tuple[Int16, Int16]:
    """All MEMBERS and their blend (DEFAULT_MIX) in one go: int16 (m, q, b, y, x) and (q, b, y, x).

    The arguments are those of `fill_temporal`; the queries ascend. There is at least one look and one query.
    """
    assert len(day_t) and len(query_q) and (np.diff(query_q) > 0).all()
    merged = _merged(refl_tbyx, clear_tyx, day_t)
    queries = np.asarray(query_q, np.int64)
    exclude = -1 if exclude_days is None else exclude_days
    last_qn, next_qn, _ = neighbours(merged.clear_tn, merged.day_t, queries, exclude)
    before_qn, after_qn, source_qn = distances(
        last_qn, next_qn, merged.day_t, queries, merged.first_t, merged.source_tn
    )
    found = members(merged, queries, last_qn, next_qn, exclude)
    gap_qn = bridge_days(before_qn, after_qn)
    blend = _mixed(found[0], found[1], found[2], found[3], gap_qn, np.log(KNOTS_DAYS), np.array(DEFAULT_MIX))
    for one in (*found, blend):
        _empty(source_qn, one)
    shape = (len(query_q), *refl_tbyx.shape[1:])
    return np.stack(found).reshape(len(found), *shape), blend.reshape(shape)


def _merged(refl_tbyx: Int16, clear_tyx: npt.NDArray[np.bool_], day_t: npt.NDArray[np.int32]) -> Looks:
    looks, bands, height, width = refl_tbyx.shape
    return merge_days(
        np.ascontiguousarray(refl_tbyx).reshape(looks, bands, height * width),
        np.ascontiguousarray(clear_tyx).reshape(looks, height * width),
        np.asarray(day_t, np.int64),
    )


def temporal_of(method: str) -> Temporal:
    """The temporal part of a method's name: "blend" of "blend+scene"."""
    return cast(Temporal, method.removesuffix("+scene"))


def member(name: str, looks: Looks, query_q: Days, last_qn: Int16, next_qn: Int16, exclude: int) -> Int16:
    """Nearest, linear, Whittaker or harmonic on ascending queries, int16 (q, b, n); pixels without a look hold nonsense."""
    out_qbn = np.full((query_q.size, *looks.refl_tbn.shape[1:]), FILL, np.int16)
    match name:
        case "nearest":
            _nearest(looks.refl_tbn, looks.day_t, query_q, last_qn, next_qn, out_qbn)
        case "linear":
            _linear(looks.refl_tbn, looks.day_t, query_q, last_qn, next_qn, out_qbn)
        case "whittaker":
            _smooth(looks, looks.refl_tbn, query_q, TO_MEAN, exclude, out_qbn)
        case "harmonic":
            _season(looks, query_q, exclude, out_qbn)
    return out_qbn if name in ("nearest", "linear") else _held(looks, query_q, exclude, out_qbn)


def _held(looks: Looks, query_q: Days, exclude: int, out_qbn: Int16) -> Int16:
    hold_to_span(looks.refl_tbn, looks.clear_tn, looks.day_t, query_q, exclude, out_qbn)
    return out_qbn


def _smooth(looks: Looks, refl_tbn: Int16, query_q: Days, hold: float, exclude: int, out_qbn: Int16) -> None:
    smooth(
        refl_tbn, looks.clear_tn, looks.day_t.astype(np.float64), query_q.astype(np.float64), LAMBDA, hold, STEP_DAYS,
        DAMP_DAYS, ROUNDS, TUNING, float(exclude), out_qbn,
    )  # fmt: skip


def _season(looks: Looks, query_q: Days, exclude: int, out_qbn: Int16) -> None:
    days = np.concatenate([looks.day_t, query_q])
    if days.max() - days.min() <= WINDOW_DAYS:
        centre_q = np.full(query_q.size, (days.max() + days.min()) / 2.0)  # every window holds all looks: one fit
    else:
        centre_q = np.round(query_q / CELL_DAYS) * CELL_DAYS
    seasonal(
        looks.refl_tbn, looks.clear_tn, looks.day_t.astype(np.float64), query_q.astype(np.float64), centre_q, TERMS,
        RIDGE, WINDOW_DAYS, ROUNDS, TUNING, float(exclude), out_qbn,
    )  # fmt: skip


def _departures(looks: Looks, query_q: Days, exclude: int, season_tbn: Int16, season_qbn: Int16) -> Int16:
    """Season plus smoothed departures from it, given the season on the days of the looks and of the queries."""
    rest = _clipped(looks.refl_tbn, season_tbn, -1)
    out_qbn = np.empty_like(season_qbn)
    _smooth(looks, rest, query_q, TO_SEASON, exclude, out_qbn)
    return _clipped(out_qbn, season_qbn, 1)


def _both_seasons(looks: Looks, query_q: Days, exclude: int) -> tuple[Int16, Int16]:
    """The harmonic on the looks' own days (seeing them) and on the query days."""
    season_tbn = np.empty_like(looks.refl_tbn)
    season_qbn = np.empty((query_q.size, *looks.refl_tbn.shape[1:]), np.int16)
    if exclude >= 0:
        _season(looks, looks.day_t, -1, season_tbn)
        _season(looks, query_q, exclude, season_qbn)
        return season_tbn, season_qbn
    # One call for both kinds of days, for the fits are what costs.
    days, where = np.unique(np.concatenate([looks.day_t, query_q]), return_inverse=True)
    season_dbn = np.empty((days.size, *looks.refl_tbn.shape[1:]), np.int16)
    _season(looks, days, -1, season_dbn)
    return season_dbn[where[: looks.day_t.size]], season_dbn[where[looks.day_t.size :]]


def _blend(
    looks: Looks, query_q: Days, last_qn: Int16, next_qn: Int16, exclude: int, mix: Mix, gap_qn: npt.NDArray[np.float64]
) -> Int16:
    """The members' mean, weighted by what the gap at each pixel calls for."""
    found = members(looks, query_q, last_qn, next_qn, exclude)
    return _mixed(found[0], found[1], found[2], found[3], gap_qn, np.log(KNOTS_DAYS), np.array(mix))


def members(looks: Looks, query_q: Days, last_qn: Int16, next_qn: Int16, exclude: int) -> list[Int16]:
    """All MEMBERS on ascending queries, int16 (q, b, n) each; pixels without a look hold nonsense."""
    season_tbn, season_qbn = _both_seasons(looks, query_q, exclude)
    departures_qbn = _departures(looks, query_q, exclude, season_tbn, season_qbn)
    return [
        member("linear", looks, query_q, last_qn, next_qn, exclude),
        member("whittaker", looks, query_q, last_qn, next_qn, exclude),
        _held(looks, query_q, exclude, season_qbn),
        _held(looks, query_q, exclude, departures_qbn),
    ]


@numba.njit(nogil=True, cache=True)
def _mixed(
    one_qbn: Int16,
    two_qbn: Int16,
    three_qbn: Int16,
    four_qbn: Int16,
    gap_qn: npt.NDArray[np.float64],
    log_knot_k: npt.NDArray[np.float64],
    mix_km: npt.NDArray[np.float64],
) -> Int16:
    """Weighted mean of the four members; weights by `knot_shares` of each pixel's gap."""
    queries, bands, pixels = one_qbn.shape
    out_qbn = np.empty_like(one_qbn)
    weight_mn = np.empty((4, pixels), np.float32)
    for q in range(queries):
        for n in range(pixels):
            at = np.log(min(max(gap_qn[q, n], 0.25), 1e6))
            k = 0
            while k < log_knot_k.size - 2 and at > log_knot_k[k + 1]:
                k += 1
            a = min(max((at - log_knot_k[k]) / (log_knot_k[k + 1] - log_knot_k[k]), 0.0), 1.0)
            for m in range(4):
                weight_mn[m, n] = (1.0 - a) * mix_km[k, m] + a * mix_km[k + 1, m]
        for b in range(bands):
            for n in range(pixels):
                v = weight_mn[0, n] * one_qbn[q, b, n] + weight_mn[1, n] * two_qbn[q, b, n]
                v += weight_mn[2, n] * three_qbn[q, b, n] + weight_mn[3, n] * four_qbn[q, b, n]
                out_qbn[q, b, n] = np.int16(np.rint(v))
    return out_qbn


@numba.njit(nogil=True, cache=True)
def _clipped(one_qbn: Int16, two_qbn: Int16, sign: int) -> Int16:
    """Sum or difference of two fields, held inside int16 and off FILL."""
    out_qbn = np.empty_like(one_qbn)
    for q in range(out_qbn.shape[0]):
        for b in range(out_qbn.shape[1]):
            for n in range(out_qbn.shape[2]):
                v = np.int32(one_qbn[q, b, n]) + np.int32(sign) * np.int32(two_qbn[q, b, n])
                out_qbn[q, b, n] = np.int16(min(max(v, np.int32(-9998)), np.int32(32767)))
    return out_qbn


@numba.njit(nogil=True, cache=True)
def _empty(source_qn: Int16, refl_qbn: Int16) -> None:
    """FILL where a pixel has no look."""
    for q in range(source_qn.shape[0]):
        for b in range(refl_qbn.shape[1]):
            for n in range(source_qn.shape[1]):
                if source_qn[q, n] < 0:
                    refl_qbn[q, b, n] = FILL


@numba.njit(nogil=True, cache=True)
def _linear(refl_tbn: Int16, day_t: Days, query_q: Days, last_qn: Int16, next_qn: Int16, out_qbn: Int16) -> None:
    """Straight line between the neighbours, the one there is at the ends; untouched where there is none."""
    queries, bands, pixels = out_qbn.shape
    share_n = np.zeros(pixels)
    one_n, two_n = np.zeros(pixels, np.int64), np.zeros(pixels, np.int64)
    for q in range(queries):
        for n in range(pixels):
            i, j = last_qn[q, n], next_qn[q, n]
            if i < 0:
                i = j
            if j < 0:
                j = i
            one_n[n], two_n[n] = i, j
            span = day_t[j] - day_t[i] if i >= 0 else 0
            share_n[n] = (query_q[q] - day_t[i]) / span if span > 0 else 0.0
        for b in range(bands):
            for n in range(pixels):
                if one_n[n] >= 0:
                    a, z = float(refl_tbn[one_n[n], b, n]), float(refl_tbn[two_n[n], b, n])
                    out_qbn[q, b, n] = np.int16(np.rint(a + share_n[n] * (z - a)))


@numba.njit(nogil=True, cache=True)
def _nearest(refl_tbn: Int16, day_t: Days, query_q: Days, last_qn: Int16, next_qn: Int16, out_qbn: Int16) -> None:
    """The neighbour fewer days away, the earlier of two alike; untouched where there is none."""
    for q in range(out_qbn.shape[0]):
        for n in range(out_qbn.shape[2]):
            i, j = last_qn[q, n], next_qn[q, n]
            if i < 0 or (j >= 0 and day_t[j] - query_q[q] < query_q[q] - day_t[i]):
                i = j
            if i >= 0:
                out_qbn[q, :, n] = refl_tbn[i, :, n]
