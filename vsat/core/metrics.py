"""Errors of an estimate per band, over whatever both sides know. Axes: b bands, then any."""

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
        low, high: bounds of an interval, same shape; both or neither.

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
            under, over = low[b][ok].astype(np.float64), high[b][ok].astype(np.float64)
            rows[b, 4:] = ((true >= under) & (true <= over)).mean(), (over - under).mean()
    return Score(count, *rows.T)
