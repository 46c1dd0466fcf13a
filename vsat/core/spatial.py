"""What the clear part of a date says about its cloudy part: scene regression. EVIDENCE 1.

First an affine map from the temporal estimate of all bands to the clear pixels, then what remains is spread to its
surroundings by normalised convolution over several scales. Axes: b bands, y, x; k regressors.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from vsat.hls import FILL

SIGMAS_PX = (2.0, 6.0, 16.0, 50.0)
SIGMA_WEIGHTS = (8.0, 4.0, 2.0, 1.0)
PRIOR_SUPPORT = 1e-2  # support at which the remainder is trusted by half
MIN_CLEAR = 30  # pixels; fewer say nothing about the scene
FEW_SHARE = 0.05  # clear share of the scene at which its clear pixels are half believed about the rest of it
SAMPLE = 20_000  # clear pixels that the affine map is fitted on
ROUNDS = 5
HUBER = 2.0  # robust standard deviations
RIDGE = 1e-3  # of the sample, on the departure from "the estimate is right", in units of reflectance squared
COARSE = 4.0  # a filter this many pixels wide or more per step works on block means
SMALL_PX = 512  # images up to this size are filtered in full

Float = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Regressed:
    """Reflectance float32 (b, y, x), NaN where there was no base; support float32 (y, x), 0..1: what is clear near by.

    `used` is False where the clear part was too small, and the base came back unchanged.
    """

    refl_byx: Float
    support_yx: Float
    used: bool


def regress_scene(
    base_byx: npt.NDArray[np.int16], refl_byx: npt.NDArray[np.int16], clear_yx: npt.NDArray[np.bool_]
) -> Float:
    """Correct a temporal estimate by what the same date's clear pixels show.

    Args:
        base_byx: int16 x 1e-4, the temporal estimate, made without any look of this date; FILL where there is none.
        refl_byx: int16 x 1e-4, the date's own reflectance; used only where `clear_yx`.
        clear_yx: bool.

    Returns:
        float32 reflectance, NaN where `base_byx` is FILL; the base itself where fewer than 30 pixels are clear.
    """
    return regress(base_byx, refl_byx, clear_yx).refl_byx


def regress(
    base_byx: npt.NDArray[np.int16], refl_byx: npt.NDArray[np.int16], clear_yx: npt.NDArray[np.bool_]
) -> Regressed:
    """`regress_scene`, with the support that says how far each pixel leans on the scene."""
    has_yx = (base_byx != FILL).all(axis=0)
    ok_yx = clear_yx & has_yx
    base = np.where(has_yx, base_byx, np.nan).astype(np.float32) * np.float32(1e-4)
    if np.count_nonzero(ok_yx) < MIN_CLEAR:
        return Regressed(base, np.zeros(clear_yx.shape, np.float32), used=False)
    map_kb, low_b, high_b = _affine(base, refl_byx, ok_yx)
    fitted = _apply(base, map_kb, low_b, high_b)
    return _believed(base, _spread_rest(fitted, refl_byx, ok_yx), float(ok_yx.mean()))


def _affine(
    base: Float, refl_byx: npt.NDArray[np.int16], ok_yx: npt.NDArray[np.bool_]
) -> tuple[npt.NDArray[np.float64], Float, Float]:
    """Coefficients (1 + bands, bands) of the departure from the base, by Huber weights; the range they were seen on."""
    at = np.flatnonzero(ok_yx)
    at = at[:: max(1, at.size // SAMPLE)]
    x_nb = base.reshape(len(base), -1)[:, at].T.astype(np.float64)
    d_nb = refl_byx.reshape(len(base), -1)[:, at].T * 1e-4 - x_nb
    low, high = np.quantile(x_nb, (0.01, 0.99), axis=0)
    x_nk = np.column_stack([np.ones(at.size), np.clip(x_nb, low, high)])
    # The level is free; the slopes are held towards 0, so that a few or uniform clear pixels move only the level.
    centre = np.append(0.0, x_nk[:, 1:].mean(axis=0))
    hold = RIDGE * np.diag([1e-9] + [1.0] * len(base))
    weight = np.ones(at.size)
    for _ in range(ROUNDS):
        xw = (x_nk - centre) * weight[:, None]
        map_kb = np.linalg.solve(xw.T @ (x_nk - centre) + hold, xw.T @ d_nb)
        miss = np.abs(d_nb - (x_nk - centre) @ map_kb)
        # One weight per pixel: cloud that the mask missed shows in all bands.
        size = (miss / (np.median(miss, axis=0) * 1.4826 + 1e-4)).mean(axis=1)
        weight = HUBER / np.maximum(size, HUBER)
    map_kb[0] -= centre[1:] @ map_kb[1:]
    return map_kb, low.astype(np.float32), high.astype(np.float32)


def _apply(base: Float, map_kb: npt.NDArray[np.float64], low_b: Float, high_b: Float) -> Float:
    """Base plus its affine departure; the departure is held constant outside the range seen."""
    out = base.copy()
    for b in range(len(base)):
        out[b] += np.float32(map_kb[0, b])
    for k in range(len(base)):
        held = np.clip(base[k], low_b[k], high_b[k])
        for b in range(len(base)):
            out[b] += np.float32(map_kb[1 + k, b]) * held
    return out


def _spread_rest(fitted: Float, refl_byx: npt.NDArray[np.int16], ok_yx: npt.NDArray[np.bool_]) -> Regressed:
    """Add the normalised convolution of what the map leaves on the clear pixels."""
    ok = ok_yx.astype(np.float32)
    near = blur(ok)
    out = fitted
    for b in range(len(fitted)):
        rest = np.where(ok_yx, refl_byx[b] * np.float32(1e-4) - fitted[b], np.float32(0))
        limit = 4 * 1.4826 * float(np.median(np.abs(rest[ok_yx]))) + 1e-3
        out[b] += blur(np.clip(rest, -limit, limit)) / (near + np.float32(PRIOR_SUPPORT))
    return Regressed(out, near / np.float32(sum(SIGMA_WEIGHTS)), used=True)


def _believed(base: Float, done: Regressed, share: float) -> Regressed:
    """Near clear pixels the whole correction; far from them less of it, the fewer of the scene are clear.

    What the mask leaves of an overcast or snowy scene is often what it got wrong, and must not move everything else.
    """
    trust = np.float32(share**2 / (share**2 + FEW_SHARE**2))
    weight_yx = np.maximum(done.support_yx, trust)
    return Regressed(base + weight_yx * (done.refl_byx - base), done.support_yx, done.used)


def blur(image_yx: Float) -> Float:
    """Weighted sum of Gaussian filters of several widths (not normalised by the weights); reflecting edges."""
    total = np.zeros_like(image_yx)
    for sigma, weight in zip(SIGMAS_PX, SIGMA_WEIGHTS, strict=True):
        total += np.float32(weight) * _gauss(image_yx, sigma)
    return total


def _gauss(image_yx: Float, sigma: float) -> Float:
    """Gaussian filter; wide ones on large images on block means, which loses nothing that such a filter keeps."""
    step = int(sigma / COARSE)
    if step < 2 or max(image_yx.shape) <= SMALL_PX:
        return np.asarray(gaussian_filter(image_yx, sigma, truncate=3.0))
    # The image reflected beyond its edges, as the fine filter would see it, to whole blocks.
    margin = step * int(np.ceil(3.0 * sigma / step))
    pads = [(margin, margin + -size % step) for size in image_yx.shape]
    padded = np.pad(image_yx, pads, mode="symmetric")
    blocks = padded.reshape(padded.shape[0] // step, step, padded.shape[1] // step, step).mean(axis=(1, 3))
    # A block mean and the straight line back each widen the filter: variance (step^2 - 1) / 12 and about step^2 / 6.
    variance = max(sigma**2 - (step**2 - 1) / 12 - step**2 / 6, 1.0)
    coarse = gaussian_filter(blocks, np.sqrt(variance) / step, truncate=3.0)
    height, width = image_yx.shape
    return _stretch(_stretch(coarse, step, margin, height).T, step, margin, width).T


def _stretch(blocks: Float, step: int, margin: int, size: int) -> Float:
    """Linear interpolation of block centres along the first axis, `size` pixels from `margin` on."""
    at = (np.arange(margin, margin + size) + 0.5) / step - 0.5
    low = at.astype(np.int64)
    share = (at - low).astype(np.float32)[:, None]
    return np.asarray(blocks[low] * (1 - share) + blocks[low + 1] * share)
