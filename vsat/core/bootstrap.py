"""How sure a ratio of errors is, when pixels of one date, and of one block, err together. Axes: u units."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Doubles = npt.NDArray[np.floating]


def paired_ratio(
    error_u: Doubles,
    peer_u: Doubles,
    date_u: Sequence[str],
    block_u: Sequence[str],
    *,
    draws: int = 2000,
    share: float = 0.95,
    seed: int = 0,
) -> tuple[float, float | None, float | None]:
    """A method's error over its peer's, with an interval from a bootstrap over dates and blocks at once.

    Dates and blocks are drawn with replacement, each on its own; a unit (a date of a block) counts as often as its date
    times its block was drawn. That is the pigeonhole bootstrap of Owen (2007), which does not take the pixels of a date
    or a block for independent. Both methods are scored on the same units: the comparison is paired.

    Args:
        error_u, peer_u: summed absolute errors of the two on each unit; of the same values. NaN in either leaves the
            unit out.
        date_u, block_u: which date and block each unit belongs to.
        draws: number of draws.
        share: of the interval.
        seed: of the draws.

    Returns:
        Ratio of the sums, and the interval's ends. The ratio is NaN where the peer has no error; no ends (None) there,
        nor where there is one date and one block only. The interval is a little wide: where all errors are noise of
        single units, by the square root of 3 (Owen 2007, McCullagh 2000; no bootstrap is exact here).
    """
    error, peer = np.asarray(error_u, np.float64), np.asarray(peer_u, np.float64)
    known = np.isfinite(error) & np.isfinite(peer)
    error, peer = error[known], peer[known]
    dates, date_at = np.unique(np.asarray(date_u)[known], return_inverse=True)
    blocks, block_at = np.unique(np.asarray(block_u)[known], return_inverse=True)
    if not peer.sum() > 0:
        return float("nan"), None, None
    ratio = float(error.sum() / peer.sum())
    if dates.size == blocks.size == 1:
        return ratio, None, None
    rng = np.random.default_rng(seed)
    found = np.empty(draws)
    for k in range(draws):
        weight = _counts(rng, dates.size)[date_at] * _counts(rng, blocks.size)[block_at]
        below = weight @ peer
        found[k] = weight @ error / below if below > 0 else np.nan
    low, high = np.nanquantile(found, ((1 - share) / 2, (1 + share) / 2))
    return ratio, float(low), float(high)


def _counts(rng: np.random.Generator, size: int) -> npt.NDArray[np.float64]:
    """How often each of `size` things is drawn, with replacement; a single one always once."""
    if size == 1:
        return np.ones(1)
    return np.bincount(rng.integers(0, size, size), minlength=size).astype(np.float64)
