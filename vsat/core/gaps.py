"""Which looks must leave a context, so that what is asked is not already in it. Axes: t looks."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

NEIGHBOUR_DAYS = 1  # two sensors on one day, or on two days in a row, see nearly the same ground


def near(day_t: npt.NDArray[np.int32], days: Iterable[int], within: int = NEIGHBOUR_DAYS) -> npt.NDArray[np.bool_]:
    """Looks at most `within` days from any of `days`.

    Args:
        day_t: int32 (t,), days since 1970-01-01.
        days: days since 1970-01-01; none gives all False.
        within: whole days, 0 for the days themselves.

    Returns:
        bool (t,).
    """
    found = np.zeros(day_t.shape, np.bool_)
    for day in days:
        found |= np.abs(day_t - day) <= within
    return found
