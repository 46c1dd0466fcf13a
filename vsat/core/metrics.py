"""Errors of an estimate per band, over whatever both sides know. Axes: b bands, then any; n places; y, x.

Scores of many targets are gathered as sums in `core.sums`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Score:
    """Per band (b,), float64, in the unit of the values; NaN where a band has nothing to compare.

    `coverage` and `width` are the share of truths between the bounds and the bounds' mean distance; NaN without bounds.
    """

    count: npt.NDArray[np.int64]
    mae: npt.NDArray[np.float64]
    median: npt.NDArray[np.float64]
    rmse: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float64]
    coverage: npt.NDArray[np.float64]
    width: npt.NDArray[np.float64]


def score(estimate: Floats, truth: Floats, low: Floats | None = None, high: Floats | None = None) -> Score:
    """Compare an estimate with the truth.

    Args:
        estimate, truth: (b, ...) of one shape; NaN in either leaves the place out.
        low, high: bounds of an interval, same shape; both or neither. NaN in either leaves the place out of
            coverage and width.

    Returns:
        Mean and median absolute error, root mean square error, bias (estimate minus truth), and coverage of the
        interval (bounds included), per band.
    """
    bands = len(truth)
    rows = np.full((bands, 6), np.nan)
    count = np.zeros(bands, np.int64)
    for b in range(bands):
        ok = np.isfinite(estimate[b]) & np.isfinite(truth[b])
        count[b] = np.count_nonzero(ok)
        if not count[b]:
            continue
        true = truth[b][ok].astype(np.float64)
        error = estimate[b][ok].astype(np.float64) - true
        rows[b, :4] = np.abs(error).mean(), np.median(np.abs(error)), np.sqrt((error**2).mean()), error.mean()
        if low is not None and high is not None:
            rows[b, 4:] = _interval(true, low[b][ok].astype(np.float64), high[b][ok].astype(np.float64))
    return Score(count, *rows.T)


def _interval(true: Floats, under: Floats, over: Floats) -> tuple[float, float]:
    """Share of truths between known bounds, and those bounds' mean distance."""
    known = np.isfinite(under) & np.isfinite(over)
    if not known.any():
        return float("nan"), float("nan")
    return float(((true >= under) & (true <= over))[known].mean()), float((over - under)[known].mean())


def spectral_angle(estimate_bn: Floats, truth_bn: Floats) -> npt.NDArray[np.float64]:
    """Angle between the spectra of estimate and truth, degrees (n,); it is blind to brightness (Kruse et al. 1993).

    NaN where either spectrum is zero or has a NaN.
    """
    one, two = estimate_bn.astype(np.float64), truth_bn.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = (one * two).sum(axis=0) / np.sqrt((one**2).sum(axis=0) * (two**2).sum(axis=0))
    return np.asarray(np.degrees(np.arccos(np.clip(cosine, -1.0, 1.0))))


def psnr(mean_square: float, *, peak: float = 1.0) -> float:
    """Peak signal-to-noise ratio in dB of a mean squared error; `peak` is the largest value, reflectance 1.

    Infinite without an error, NaN where the error is.
    """
    return float("inf") if mean_square == 0 else float(10 * np.log10(peak**2 / mean_square))


def ndvi(red: Floats, nir: Floats) -> npt.NDArray[np.float64]:
    """(nir - red) / (nir + red), held to -1..1; NaN where the sum is not positive."""
    total = np.asarray(nir, np.float64) + red
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, np.clip((np.asarray(nir, np.float64) - red) / total, -1.0, 1.0), np.nan)


def seam_index(image_byx: Floats, rows: Sequence[int], cols: Sequence[int]) -> float:
    """How much an image steps across joints, in units of how much it steps anywhere else: 1 for no seam.

    Args:
        image_byx: (b, y, x); NaN is left out.
        rows, cols: joints lie before these rows and columns.

    Returns:
        Mean absolute step between neighbours on both sides of a joint over that of all other neighbours; NaN without
        either, or where the image does not step at all.
    """
    across = [np.abs(np.diff(image_byx.astype(np.float64), axis=axis)) for axis in (1, 2)]
    joints, others = [], []
    for steps, at, axis in zip(across, (rows, cols), (1, 2), strict=True):
        on = np.isin(np.arange(steps.shape[axis]) + 1, at)
        joints.append(np.compress(on, steps, axis=axis).ravel())
        others.append(np.compress(~on, steps, axis=axis).ravel())
    on_joint, elsewhere = (one[np.isfinite(one)] for one in map(np.concatenate, (joints, others)))
    if not on_joint.size or not elsewhere.size or elsewhere.mean() == 0:
        return float("nan")
    return float(on_joint.mean() / elsewhere.mean())
