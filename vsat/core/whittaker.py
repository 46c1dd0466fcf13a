"""Whittaker's smoother on a grid of a few days, robust, many pixels side by side.

Minimises sum w (y - x)^2 + lam sum (second difference of x)^2; looks lie between grid nodes by linear weights, so the
system stays symmetric with two bands beside the diagonal and is solved by L D L' without fill-in. A query that must not
see the look of its own day takes it out by the inverse's entries at that look, without a second solve.
Axes: t looks, q queries, g grid nodes, b bands, n pixels, p lanes.
"""
# ruff: noqa: PLR0912 - numba kernels take their arrays by position, and their loops are branches

import numba
import numpy as np
import numpy.typing as npt

from vsat.core.robust import LANES, Floats, load, reweight


@numba.njit(nogil=True, cache=True)
def _assemble(
    y_tbp: Floats,
    weight_tp: Floats,
    node_t: npt.NDArray[np.int64],
    part_t: Floats,
    lam: float,
    hold: float,
    diag_gp: Floats,
    off_gp: Floats,
    x_gbp: Floats,
) -> None:
    """Normal matrix (diagonal and first off-diagonal; the second is `lam`) and right-hand side."""
    nodes = diag_gp.shape[0]
    bands = y_tbp.shape[1]
    x_gbp[:] = 0.0
    for g in range(nodes):
        # Rows of D'D for second differences: 1 5 6 ... 6 5 1 and -2 -4 ... -4 -2.
        inner = min(g, nodes - 1 - g)
        d = 1.0 if inner == 0 else (5.0 if inner == 1 else 6.0)
        o = -2.0 if g == 0 or g == nodes - 2 else -4.0
        for p in range(LANES):
            diag_gp[g, p] = lam * d + hold
            off_gp[g, p] = lam * o
    for t in range(y_tbp.shape[0]):
        if weight_tp[t].max() <= 0.0:
            continue
        g, a = node_t[t], part_t[t]
        for p in range(LANES):
            w = weight_tp[t, p]
            diag_gp[g, p] += w * (1.0 - a) * (1.0 - a)
            off_gp[g, p] += w * a * (1.0 - a)
            diag_gp[g + 1, p] += w * a * a
        for b in range(bands):
            for p in range(LANES):
                wy = weight_tp[t, p] * y_tbp[t, b, p]
                x_gbp[g, b, p] += (1.0 - a) * wy
                x_gbp[g + 1, b, p] += a * wy


@numba.njit(nogil=True, cache=True)
def _solve(diag_gp: Floats, off_gp: Floats, lam: float, x_gbp: Floats, e_gp: Floats, f_gp: Floats) -> None:
    """Replace the right-hand side `x_gbp` by the solution; `diag_gp` becomes 1 / D, `e_gp`, `f_gp` the bands of L."""
    nodes, bands, _ = x_gbp.shape
    for g in range(nodes):
        for p in range(LANES):
            d = diag_gp[g, p]
            o = off_gp[g, p]
            if g >= 2:
                d -= f_gp[g - 2, p] * f_gp[g - 2, p] * off_gp[g - 2, p]
            if g >= 1:
                d -= e_gp[g - 1, p] * e_gp[g - 1, p] * off_gp[g - 1, p]
                o -= off_gp[g - 1, p] * e_gp[g - 1, p] * f_gp[g - 1, p]
            off_gp[g, p] = d  # from here on `off` keeps D, whose place the off-diagonal no longer needs
            diag_gp[g, p] = 1.0 / d
            e_gp[g, p] = o * diag_gp[g, p]
            f_gp[g, p] = lam * diag_gp[g, p]
    for g in range(1, nodes):
        for b in range(bands):
            for p in range(LANES):
                x_gbp[g, b, p] -= e_gp[g - 1, p] * x_gbp[g - 1, b, p]
        if g >= 2:
            for b in range(bands):
                for p in range(LANES):
                    x_gbp[g, b, p] -= f_gp[g - 2, p] * x_gbp[g - 2, b, p]
    for g in range(nodes - 1, -1, -1):
        for b in range(bands):
            for p in range(LANES):
                v = x_gbp[g, b, p] * diag_gp[g, p]
                if g + 1 < nodes:
                    v -= e_gp[g, p] * x_gbp[g + 1, b, p]
                if g + 2 < nodes:
                    v -= f_gp[g, p] * x_gbp[g + 2, b, p]
                x_gbp[g, b, p] = v


@numba.njit(nogil=True, cache=True)
def _inverse(diag_gp: Floats, e_gp: Floats, f_gp: Floats, inv_gip: Floats) -> None:
    """Entries (g, g), (g, g + 1), (g, g + 2) of the inverse, from the factors (Takahashi's recursion)."""
    nodes = diag_gp.shape[0]
    inv_gip[:] = 0.0
    for g in range(nodes - 1, -1, -1):
        for p in range(LANES):
            one = inv_gip[g + 1, 0, p] if g + 1 < nodes else 0.0
            cross = inv_gip[g + 1, 1, p] if g + 2 < nodes else 0.0
            two = inv_gip[g + 2, 0, p] if g + 2 < nodes else 0.0
            e = e_gp[g, p] if g + 1 < nodes else 0.0
            f = f_gp[g, p] if g + 2 < nodes else 0.0
            inv_gip[g, 2, p] = -e * cross - f * two
            inv_gip[g, 1, p] = -e * one - f * cross
            inv_gip[g, 0, p] = diag_gp[g, p] - e * inv_gip[g, 1, p] - f * inv_gip[g, 2, p]


@numba.njit(nogil=True, cache=True)
def smooth(
    refl_tbn: npt.NDArray[np.int16],
    clear_tn: npt.NDArray[np.bool_],
    day_t: Floats,
    query_q: Floats,
    lam: float,
    hold: float,
    step: float,
    damp: float,
    rounds: int,
    tuning: float,
    exclude: float,
    out_qbn: npt.NDArray[np.int16],
) -> None:
    """Write the smoothed value of every query day into `out_qbn`; pixels without a clear look get nonsense.

    `day_t` has no day twice. `hold` weighs the distance of every node from the pixel's mean. `rounds` solves with
    bisquare weights between them. Beyond a pixel's first and last look the slope dies out over `damp` days. With
    `exclude` >= 0 a query does not see looks that many days or less away.
    """
    looks, bands, pixels = refl_tbn.shape
    start = min(day_t.min(), query_q.min())
    nodes = max(4, int((max(day_t.max(), query_q.max()) - start) / step) + 2)
    node_t, part_t = np.empty(looks, np.int64), np.empty(looks)
    for t in range(looks):
        node_t[t] = int((day_t[t] - start) / step)
        part_t[t] = (day_t[t] - start) / step - node_t[t]
    y_tbp, r_tbp = np.zeros((looks, bands, LANES)), np.zeros((looks, bands, LANES))
    clear_tp, weight_tp, less_tp = np.zeros((looks, LANES)), np.zeros((looks, LANES)), np.zeros((looks, LANES))
    mean_bp, ends_ip = np.zeros((bands, LANES)), np.zeros((2, LANES))
    diag_gp, off_gp = np.zeros((nodes, LANES)), np.zeros((nodes, LANES))
    e_gp, f_gp, inv_gip = np.zeros((nodes, LANES)), np.zeros((nodes, LANES)), np.zeros((nodes, 3, LANES))
    x_gbp, alone_gbp = np.zeros((nodes, bands, LANES)), np.zeros((nodes, bands, LANES))
    for first in range(0, pixels, LANES):
        load(refl_tbn, clear_tn, first, y_tbp, clear_tp, mean_bp)
        weight_tp[:] = clear_tp
        for k in range(rounds):
            _assemble(y_tbp, weight_tp, node_t, part_t, lam, hold, diag_gp, off_gp, x_gbp)
            _solve(diag_gp, off_gp, lam, x_gbp, e_gp, f_gp)
            if k < rounds - 1:
                _residual(y_tbp, x_gbp, node_t, part_t, r_tbp)
                reweight(r_tbp, clear_tp, tuning, weight_tp)
        if exclude == 0.0:
            _inverse(diag_gp, e_gp, f_gp, inv_gip)
        _ends(weight_tp, day_t, ends_ip)
        for q in range(query_q.size):
            _evaluate(x_gbp, ends_ip, query_q[q], start, step, damp, mean_bp, first, out_qbn[q])
        if exclude < 0.0:
            continue
        for q in range(query_q.size):
            hidden, own = _hide(clear_tp, weight_tp, day_t, query_q[q], exclude, less_tp)
            if not hidden:
                continue
            inside = exclude == 0.0
            for p in range(LANES):
                at_end = ends_ip[0, p] >= query_q[q] or ends_ip[1, p] <= query_q[q]
                inside &= not (clear_tp[own, p] > 0.0 and at_end)
            if inside:
                _take_out(
                    x_gbp, y_tbp[own], weight_tp[own], node_t[own], part_t[own], inv_gip, mean_bp, first, out_qbn[q]
                )
            else:
                _assemble(y_tbp, less_tp, node_t, part_t, lam, hold, diag_gp, off_gp, alone_gbp)
                _solve(diag_gp, off_gp, lam, alone_gbp, e_gp, f_gp)
                less_ip = np.zeros((2, LANES))
                _ends(less_tp, day_t, less_ip)
                _evaluate(alone_gbp, less_ip, query_q[q], start, step, damp, mean_bp, first, out_qbn[q])


@numba.njit(nogil=True, cache=True)
def _residual(y_tbp: Floats, x_gbp: Floats, node_t: npt.NDArray[np.int64], part_t: Floats, r_tbp: Floats) -> None:
    """Looks minus the smoothed value between their two nodes."""
    looks, bands, _ = y_tbp.shape
    for t in range(looks):
        g, a = node_t[t], part_t[t]
        for b in range(bands):
            for p in range(LANES):
                r_tbp[t, b, p] = y_tbp[t, b, p] - (1.0 - a) * x_gbp[g, b, p] - a * x_gbp[g + 1, b, p]


@numba.njit(nogil=True, cache=True)
def _take_out(
    x_gbp: Floats,
    y_bp: Floats,
    weight_p: Floats,
    g: int,
    a: float,
    inv_gip: Floats,
    mean_bp: Floats,
    first: int,
    out_bn: npt.NDArray[np.int16],
) -> None:
    """Value at a look's own day without that look: x + (x - y) h w / (1 - h w), h its place's entry of the inverse."""
    for p in range(min(LANES, out_bn.shape[1] - first)):
        lever = (
            (1.0 - a) ** 2 * inv_gip[g, 0, p] + 2.0 * a * (1.0 - a) * inv_gip[g, 1, p] + a * a * inv_gip[g + 1, 0, p]
        )
        gain = lever * weight_p[p] / max(1.0 - lever * weight_p[p], 1e-9)
        for b in range(out_bn.shape[0]):
            x = (1.0 - a) * x_gbp[g, b, p] + a * x_gbp[g + 1, b, p]
            x += gain * (x - y_bp[b, p]) + mean_bp[b, p]
            out_bn[b, first + p] = np.int16(min(max(np.rint(x), -9998.0), 32767.0))


@numba.njit(nogil=True, cache=True)
def _hide(
    clear_tp: Floats, weight_tp: Floats, day_t: Floats, query: float, exclude: float, less_tp: Floats
) -> tuple[bool, int]:
    """Weights without the looks near the query; whether any was clear, and the last of them."""
    hidden, own = False, 0
    less_tp[:] = weight_tp
    for t in range(day_t.size):
        if abs(day_t[t] - query) <= exclude:
            own = t
            for p in range(LANES):
                hidden |= clear_tp[t, p] > 0.0
                less_tp[t, p] = 0.0
    return hidden, own


@numba.njit(nogil=True, cache=True)
def _ends(weight_tp: Floats, day_t: Floats, ends_ip: Floats) -> None:
    """Days of each lane's first and last look that has a weight; of all looks where none has."""
    looks = day_t.size
    for p in range(LANES):
        t = 0
        while t < looks - 1 and weight_tp[t, p] <= 0.0:
            t += 1
        ends_ip[0, p] = day_t[t]
        t = looks - 1
        while t > 0 and weight_tp[t, p] <= 0.0:
            t -= 1
        ends_ip[1, p] = max(day_t[t], ends_ip[0, p])


@numba.njit(nogil=True, cache=True)
def _evaluate(
    x_gbp: Floats,
    ends_ip: Floats,
    query: float,
    start: float,
    step: float,
    damp: float,
    mean_bp: Floats,
    first: int,
    out_bn: npt.NDArray[np.int16],
) -> None:
    """Value on the query day per lane, the day pulled back towards the looks where it lies outside them."""
    bands, pixels = out_bn.shape
    nodes = x_gbp.shape[0]
    for p in range(min(LANES, pixels - first)):
        when = query
        if when < ends_ip[0, p]:
            when = ends_ip[0, p] - damp * (1.0 - np.exp((when - ends_ip[0, p]) / damp))
        if when > ends_ip[1, p]:
            when = ends_ip[1, p] + damp * (1.0 - np.exp((ends_ip[1, p] - when) / damp))
        at = (when - start) / step
        g = min(max(int(at), 0), nodes - 2)
        a = at - g
        for b in range(bands):
            v = mean_bp[b, p] + (1.0 - a) * x_gbp[g, b, p] + a * x_gbp[g + 1, b, p]
            out_bn[b, first + p] = np.int16(min(max(np.rint(v), -9998.0), 32767.0))
