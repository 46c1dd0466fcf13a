"""A robust ridge fit of level, trend and yearly harmonics, many pixels side by side.

Axes: t looks, q queries, k terms, b bands, n pixels, p lanes.
"""
# ruff: noqa: PLR0912 - numba kernels take their arrays by position, and their loops are branches

import numba
import numpy as np
import numpy.typing as npt

from vsat.core.robust import LANES, Floats, load, reweight

YEAR_DAYS = 365.25
FEW = 6  # looks in the window below which a pixel uses all its looks


@numba.njit(nogil=True, cache=True)
def _basis(day: float, centre: float, terms: int, out_k: Floats) -> None:
    """1, trend per 1000 days from the centre, then sine and cosine of the yearly harmonics."""
    out_k[0] = 1.0
    out_k[1] = (day - centre) / 1000.0
    for j in range(2, terms, 2):
        angle = 2.0 * np.pi * day / YEAR_DAYS * (j // 2)
        out_k[j] = np.sin(angle)
        out_k[j + 1] = np.cos(angle)


@numba.njit(nogil=True, cache=True)
def _fit(
    y_tbp: Floats, weight_tp: Floats, basis_tk: Floats, ridge: float, matrix_kkp: Floats, coef_kbp: Floats
) -> None:
    """Coefficients per band and lane by Cholesky of the weighted, ridged normal matrix."""
    looks, bands, _ = y_tbp.shape
    terms = basis_tk.shape[1]
    matrix_kkp[:] = 0.0
    coef_kbp[:] = 0.0
    for t in range(looks):
        if weight_tp[t].max() <= 0.0:
            continue
        for i in range(terms):
            for j in range(i + 1):
                f = basis_tk[t, i] * basis_tk[t, j]
                for p in range(LANES):
                    matrix_kkp[i, j, p] += f * weight_tp[t, p]
        for b in range(bands):
            for i in range(terms):
                f = basis_tk[t, i]
                for p in range(LANES):
                    coef_kbp[i, b, p] += f * weight_tp[t, p] * y_tbp[t, b, p]
    for i in range(terms):
        for p in range(LANES):
            # matrix[0, 0] is still the sum of weights for i = 0 only; afterwards it holds its root.
            total = matrix_kkp[0, 0, p] if i == 0 else matrix_kkp[0, 0, p] * matrix_kkp[0, 0, p]
            matrix_kkp[i, i, p] += 1e-9 + (ridge * total if i > 0 else 0.0)
        for j in range(i + 1):
            for k in range(j):
                for p in range(LANES):
                    matrix_kkp[i, j, p] -= matrix_kkp[i, k, p] * matrix_kkp[j, k, p]
            for p in range(LANES):
                if i == j:
                    matrix_kkp[i, i, p] = np.sqrt(max(matrix_kkp[i, i, p], 1e-12))
                else:
                    matrix_kkp[i, j, p] /= matrix_kkp[j, j, p]
    for b in range(bands):
        for i in range(terms):
            for k in range(i):
                for p in range(LANES):
                    coef_kbp[i, b, p] -= matrix_kkp[i, k, p] * coef_kbp[k, b, p]
            for p in range(LANES):
                coef_kbp[i, b, p] /= matrix_kkp[i, i, p]
        for i in range(terms - 1, -1, -1):
            for k in range(i + 1, terms):
                for p in range(LANES):
                    coef_kbp[i, b, p] -= matrix_kkp[k, i, p] * coef_kbp[k, b, p]
            for p in range(LANES):
                coef_kbp[i, b, p] /= matrix_kkp[i, i, p]


@numba.njit(nogil=True, cache=True)
def seasonal(
    refl_tbn: npt.NDArray[np.int16],
    clear_tn: npt.NDArray[np.bool_],
    day_t: Floats,
    query_q: Floats,
    centre_q: Floats,
    terms: int,
    ridge: float,
    window: float,
    rounds: int,
    tuning: float,
    exclude: float,
    out_qbn: npt.NDArray[np.int16],
) -> None:
    """Write the fitted value of every query day into `out_qbn`; pixels without a clear look get nonsense.

    `day_t` has no day twice. `ridge` is per look and spares the level. `rounds` fits, bisquare weights between them.
    Queries with equal `centre_q` must follow each other: they share one fit on the looks within `window` days of it.
    With `exclude` >= 0 a query does not see looks that many days or less away.
    """
    looks, bands, pixels = refl_tbn.shape
    y_tbp, r_tbp = np.zeros((looks, bands, LANES)), np.zeros((looks, bands, LANES))
    clear_tp, seen_tp = np.zeros((looks, LANES)), np.zeros((looks, LANES))
    weight_tp, less_tp = np.zeros((looks, LANES)), np.zeros((looks, LANES))
    mean_bp = np.zeros((bands, LANES))
    basis_tk, at_k = np.zeros((looks, terms)), np.zeros(terms)
    matrix_kkp, spare_kkp = np.zeros((terms, terms, LANES)), np.zeros((terms, terms, LANES))
    coef_kbp, alone_kbp = np.zeros((terms, bands, LANES)), np.zeros((terms, bands, LANES))
    for first in range(0, pixels, LANES):
        load(refl_tbn, clear_tn, first, y_tbp, clear_tp, mean_bp)
        for q in range(query_q.size):
            if q == 0 or centre_q[q] != centre_q[q - 1]:
                for t in range(looks):
                    _basis(day_t[t], centre_q[q], terms, basis_tk[t])
                _see(clear_tp, day_t, centre_q[q], window, seen_tp)
                weight_tp[:] = seen_tp
                for k in range(rounds):
                    _fit(y_tbp, weight_tp, basis_tk, ridge, matrix_kkp, coef_kbp)
                    if k < rounds - 1:
                        _residual(y_tbp, basis_tk, coef_kbp, r_tbp)
                        reweight(r_tbp, seen_tp, tuning, weight_tp)
            _basis(query_q[q], centre_q[q], terms, at_k)
            hidden, own = False, 0
            if exclude >= 0.0:
                less_tp[:] = weight_tp
                for t in range(looks):
                    if abs(day_t[t] - query_q[q]) <= exclude:
                        own = t
                        for p in range(LANES):
                            hidden |= clear_tp[t, p] > 0.0
                            less_tp[t, p] = 0.0
            if hidden and exclude == 0.0:
                _leave(y_tbp[own], weight_tp[own], at_k, matrix_kkp, coef_kbp, mean_bp, first, out_qbn[q])
                continue
            if hidden:
                _fit(y_tbp, less_tp, basis_tk, ridge, spare_kkp, alone_kbp)
            _evaluate(alone_kbp if hidden else coef_kbp, at_k, mean_bp, first, out_qbn[q])


@numba.njit(nogil=True, cache=True)
def _evaluate(coef_kbp: Floats, at_k: Floats, mean_bp: Floats, first: int, out_bn: npt.NDArray[np.int16]) -> None:
    """Mean plus the terms' sum per band and lane."""
    value_p = np.empty(LANES)
    for b in range(out_bn.shape[0]):
        value_p[:] = mean_bp[b]
        for i in range(at_k.size):
            for p in range(LANES):
                value_p[p] += at_k[i] * coef_kbp[i, b, p]
        for p in range(min(LANES, out_bn.shape[1] - first)):
            out_bn[b, first + p] = np.int16(min(max(np.rint(value_p[p]), -9998.0), 32767.0))


@numba.njit(nogil=True, cache=True)
def _see(clear_tp: Floats, day_t: Floats, centre: float, window: float, seen_tp: Floats) -> None:
    """Clear looks within the window; all clear looks for a lane that has too few there."""
    for p in range(LANES):
        n = 0.0
        for t in range(day_t.size):
            seen_tp[t, p] = clear_tp[t, p] if abs(day_t[t] - centre) <= window else 0.0
            n += seen_tp[t, p]
        if n < FEW:
            for t in range(day_t.size):
                seen_tp[t, p] = clear_tp[t, p]


@numba.njit(nogil=True, cache=True)
def _residual(y_tbp: Floats, basis_tk: Floats, coef_kbp: Floats, r_tbp: Floats) -> None:
    looks, bands, _ = y_tbp.shape
    for t in range(looks):
        for b in range(bands):
            for p in range(LANES):
                r_tbp[t, b, p] = y_tbp[t, b, p]
            for k in range(basis_tk.shape[1]):
                for p in range(LANES):
                    r_tbp[t, b, p] -= basis_tk[t, k] * coef_kbp[k, b, p]


@numba.njit(nogil=True, cache=True)
def _leave(
    y_bp: Floats,
    weight_p: Floats,
    at_k: Floats,
    root_kkp: Floats,
    coef_kbp: Floats,
    mean_bp: Floats,
    first: int,
    out_bn: npt.NDArray[np.int16],
) -> None:
    """Value at a look's own day without that look, by its leverage in the fit whose Cholesky factor is `root_kkp`."""
    terms, bands, _ = coef_kbp.shape
    part_k = np.zeros(terms)
    for p in range(min(LANES, out_bn.shape[1] - first)):
        lever = 0.0
        for i in range(terms):
            part_k[i] = at_k[i]
            for k in range(i):
                part_k[i] -= root_kkp[i, k, p] * part_k[k]
            part_k[i] /= root_kkp[i, i, p]
            lever += part_k[i] * part_k[i]
        gain = lever * weight_p[p] / max(1.0 - lever * weight_p[p], 1e-6)
        for b in range(bands):
            x = 0.0
            for i in range(terms):
                x += at_k[i] * coef_kbp[i, b, p]
            x += gain * (x - y_bp[b, p]) + mean_bp[b, p]
            out_bn[b, first + p] = np.int16(min(max(np.rint(x), -9998.0), 32767.0))
