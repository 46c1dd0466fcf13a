"""The mean of an area's pixels on one date, and how far it may be off. Axes: n pixels."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Mean:
    """The mean of pixels with a value.

    Attributes:
        values: how many.
        mean, p10, p90: of their values.
        sd: of the mean if all errors were one, the mean of the pixels' own: no correlation exceeds it.
        sd_independent: of the mean if no two errors had to do with each other.
    """

    values: int
    mean: float
    sd: float
    sd_independent: float
    p10: float
    p90: float


def mean_of(value_n: NDArray[np.floating], sd_n: NDArray[np.floating]) -> Mean | None:
    """The mean over the pixels that have both a value and a standard deviation (n,); None if there is none."""
    has = np.isfinite(value_n) & np.isfinite(sd_n)
    value, sd = value_n[has].astype(float), sd_n[has].astype(float)
    if not value.size:
        return None
    low, high = np.percentile(value, (10, 90))
    independent = np.sqrt((sd**2).sum()) / value.size
    return Mean(value.size, *(float(one) for one in (value.mean(), sd.mean(), independent, low, high)))
