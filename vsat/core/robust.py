"""What the lane kernels share: loading pixels side by side, and robust weights against cloud that the mask missed.

Axes: t looks, b bands, n pixels in a row, p lanes (LANES pixels handled side by side).
"""
# ruff: noqa: PLR0912 - numba kernels take their arrays by position, and their loops are branches

import numba
import numpy as np
import numpy.typing as npt

LANES = 16
TRIM = 2.0
FLOOR_DN = 15.0  # residuals below 0.0015 are noise of the sensor, never a reason to distrust a look

Floats = npt.NDArray[np.float64]


@numba.njit(nogil=True, cache=True)
def load(
    refl_tbn: npt.NDArray[np.int16],
    clear_tn: npt.NDArray[np.bool_],
    first: int,
    y_tbp: Floats,
    clear_tp: Floats,
    mean_bp: Floats,
) -> None:
    """Fill `y_tbp` with reflectance minus each lane's mean, `clear_tp` with 1 where clear, `mean_bp` with the means."""
    looks, bands, pixels = refl_tbn.shape
    width = min(LANES, pixels - first)
    clear_tp[:] = 0.0
    mean_bp[:] = 0.0
    count_p = np.full(LANES, 1e-9)
    for t in range(looks):
        for p in range(width):
            clear_tp[t, p] = 1.0 if clear_tn[t, first + p] else 0.0
            count_p[p] += clear_tp[t, p]
        for b in range(bands):
            for p in range(width):
                y_tbp[t, b, p] = refl_tbn[t, b, first + p] * clear_tp[t, p]
                mean_bp[b, p] += y_tbp[t, b, p]
    for b in range(bands):
        for p in range(LANES):
            mean_bp[b, p] /= count_p[p]
    for t in range(looks):
        for b in range(bands):
            for p in range(LANES):
                y_tbp[t, b, p] = (y_tbp[t, b, p] - mean_bp[b, p]) * clear_tp[t, p]


@numba.njit(nogil=True, cache=True)
def reweight(residual_tbp: Floats, clear_tp: Floats, tuning: float, weight_tp: Floats) -> None:
    """Set `weight_tp` to Tukey's bisquare of the looks' residuals: 1 for a look that fits, 0 for one far off.

    A look is judged by all its bands together: each band's residual is divided by its mean absolute value, their mean
    is one number per look, and `tuning` times the typical such number is where trust ends.
    """
    looks, bands, lanes = residual_tbp.shape
    scale_bp = np.zeros((bands, lanes))
    count_p = np.full(lanes, 1e-9)
    for t in range(looks):
        for p in range(lanes):
            count_p[p] += clear_tp[t, p]
        for b in range(bands):
            for p in range(lanes):
                scale_bp[b, p] += abs(residual_tbp[t, b, p]) * clear_tp[t, p]
    for b in range(bands):
        for p in range(lanes):
            scale_bp[b, p] = 1.0 / (bands * (scale_bp[b, p] / count_p[p] + FLOOR_DN))
    for t in range(looks):
        for p in range(lanes):
            weight_tp[t, p] = 0.0
        for b in range(bands):
            for p in range(lanes):
                weight_tp[t, p] += abs(residual_tbp[t, b, p]) * scale_bp[b, p]
    # Mean, then twice the mean of what lies below TRIM times the last one: near the median for clean looks, deaf to a
    # few wild ones, and a vector operation where a median is not.
    level_p = np.full(lanes, 1e30)
    for _ in range(3):
        sum_p, left_p = np.zeros(lanes), np.full(lanes, 1e-9)
        for t in range(looks):
            for p in range(lanes):
                inside = clear_tp[t, p] if weight_tp[t, p] <= TRIM * level_p[p] else 0.0
                sum_p[p] += inside * weight_tp[t, p]
                left_p[p] += inside
        for p in range(lanes):
            level_p[p] = sum_p[p] / left_p[p]
    for p in range(lanes):
        level_p[p] = 1.0 / (tuning * max(level_p[p], 0.05))
    for t in range(looks):
        for p in range(lanes):
            u = min(weight_tp[t, p] * level_p[p], 1.0)
            weight_tp[t, p] = (1.0 - u * u) ** 2 * clear_tp[t, p]
