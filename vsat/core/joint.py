"""Joint samples: values of all bands and pixels of a date that could be true together.

Each pixel's and band's own distribution is kept; what ties them is a Gaussian copula whose correlations are measured on
the cube's own looks, each compared with what its other looks say: how alike the bands err, what share of an error is
common to the date, what share is common to neighbours and over what distance. Errors of different dates are drawn
independently. Axes: s samples, l levels, b bands, y, x; r single errors.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy import fft
from scipy.optimize import nnls

from vsat.core.distribution import SCORES
from vsat.core.temporal import fill_temporal
from vsat.hls import FILL, SCALE

LAGS_PX = (1, 2, 4, 8, 16)
LENGTHS_PX = (1.5, 3.0, 6.0, 12.0, 24.0)
MOST_LOOKS = 24  # that errors are measured on
WINDOW_PX = 96
FEW_ERRORS = 200  # fewer say nothing about how they hang together
DEFAULT_BANDS = 0.6  # correlation of two bands where nothing can be measured
LIMIT = 3.0  # normal scores beyond it are cut before they are correlated

Floats = npt.NDArray[np.floating]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Ties:
    """What errors of one date have in common.

    Attributes:
        bands: correlation matrix (b, b).
        common: share of the variance that all pixels of a date share.
        near: share that neighbours share, falling with distance as exp(-h / length_px).
    """

    bands: tuple[tuple[float, ...], ...]
    common: float
    near: float
    length_px: float


def measure_ties(
    refl_tbyx: npt.NDArray[np.int16], clear_tyx: npt.NDArray[np.bool_], day_t: npt.NDArray[np.int32], *, seed: int = 0
) -> Ties:
    """How the errors of estimates hang together, from a cube's clear looks and the blend of all others.

    Args:
        refl_tbyx: int16 (t, b, y, x) x 1e-4; clear_tyx: bool; day_t: int32, ascending.
        seed: which looks and, of a large cube, which window.
    """
    rng = np.random.default_rng(seed)
    y, x = (int(rng.integers(0, max(1, size - WINDOW_PX + 1))) for size in clear_tyx.shape[1:])
    refl_tbyx = refl_tbyx[..., y : y + WINDOW_PX, x : x + WINDOW_PX]
    clear_tyx = clear_tyx[:, y : y + WINDOW_PX, x : x + WINDOW_PX]
    looks = np.flatnonzero(clear_tyx.any(axis=(1, 2)))
    looks = np.sort(rng.choice(looks, min(MOST_LOOKS, looks.size), replace=False))
    days = np.unique(day_t[looks])
    bands = refl_tbyx.shape[1]
    if not looks.size:
        return _default(bands)
    est_qbyx = fill_temporal(refl_tbyx, clear_tyx, day_t, days, method="blend", exclude_days=0).refl_qbyx
    scores = []
    for t in looks:
        made = est_qbyx[np.searchsorted(days, day_t[t])]
        ok = clear_tyx[t] & (made[0] != FILL)
        scores.append(np.where(ok, (refl_tbyx[t] - made.astype(np.float64)) * SCALE, np.nan))
    error_tbyx = np.stack(scores)
    if np.count_nonzero(np.isfinite(error_tbyx[:, 0])) < FEW_ERRORS:
        return _default(bands)
    spread = 1.4826 * np.nanmedian(np.abs(error_tbyx), axis=(0, 2, 3), keepdims=True) + 1e-4
    z_tbyx = np.clip(error_tbyx / spread, -LIMIT, LIMIT)
    flat_br = np.moveaxis(z_tbyx, 1, 0).reshape(bands, -1)
    flat_br = flat_br[:, np.isfinite(flat_br[0])]
    return Ties(_matrix(flat_br), *_ranges(z_tbyx))


def _default(bands: int) -> Ties:
    matrix = np.where(np.eye(bands, dtype=bool), 1.0, DEFAULT_BANDS)
    return Ties(tuple(map(tuple, matrix.tolist())), 0.3, 0.4, 6.0)


def _matrix(flat_br: Doubles) -> tuple[tuple[float, ...], ...]:
    """Correlations of the bands about zero, a little towards none, so that the matrix is never singular."""
    cross = flat_br @ flat_br.T
    size = np.sqrt(np.diag(cross)) + 1e-9
    matrix = 0.98 * cross / np.outer(size, size) + 0.02 * np.eye(len(cross))
    np.fill_diagonal(matrix, 1.0)
    return tuple(map(tuple, matrix.tolist()))


def _ranges(z_tbyx: Doubles) -> tuple[float, float, float]:
    """`common`, `near` and `length_px` of Ties: non-negative least squares on the correlation at a few distances."""
    variance = np.nanmean(z_tbyx**2)
    found = []
    for lag in LAGS_PX:
        pairs = [z_tbyx[..., lag:] * z_tbyx[..., :-lag], z_tbyx[..., lag:, :] * z_tbyx[..., :-lag, :]]
        values = np.concatenate([pair[np.isfinite(pair)] for pair in pairs])
        if values.size >= FEW_ERRORS:
            found.append((lag, float(values.mean() / variance)))
    if len(found) < 2:  # one pixel, or a few: no distances
        return 0.0, 0.0, LENGTHS_PX[0]
    lags, correlation = (np.array(one) for one in zip(*found, strict=True))
    fits = []
    for length in LENGTHS_PX:
        shares, rest = nnls(np.column_stack([np.ones(lags.size), np.exp(-lags / length)]), np.clip(correlation, 0, 1))
        shares = shares / max(1.0, shares.sum())
        fits.append((rest, float(shares[0]), float(shares[1]), length))
    _, common, near, length = min(fits)
    return common, near, length


def draw_scores(ties: Ties, shape: tuple[int, int], count: int, rng: np.random.Generator) -> Doubles:
    """Standard normal scores (s, b, y, x) that hang together as `ties` say."""
    factor = np.linalg.cholesky(np.array(ties.bands))
    bands = len(factor)
    white = rng.standard_normal((count, bands, *shape)) * np.sqrt(max(0.0, 1 - ties.common - ties.near))
    date = rng.standard_normal((count, bands, 1, 1)) * np.sqrt(ties.common)
    near = _fields(rng, (count, bands), shape, ties.length_px) * np.sqrt(ties.near) if ties.near else 0.0
    return np.asarray(np.einsum("bc,scyx->sbyx", factor, white + date + near))


def _fields(rng: np.random.Generator, many: tuple[int, int], shape: tuple[int, int], length_px: float) -> Doubles:
    """Gaussian fields of covariance exp(-h / length): circulant embedding (Dietrich & Newsam 1997) on a larger torus."""
    tall, wide = (fft.next_fast_len(int(size + 6 * length_px) + 1) for size in shape)
    down, across = (np.minimum(np.arange(n), n - np.arange(n)) for n in (tall, wide))
    power = fft.fft2(np.exp(-np.hypot(down[:, None], across) / length_px)).real
    gain = np.sqrt(np.maximum(power, 0) * (tall * wide) / max(float(power[power > 0].sum()), 1e-12))
    noise = rng.standard_normal((*many, tall, wide))
    field = fft.ifft2(fft.fft2(noise, axes=(-2, -1)) * gain, axes=(-2, -1)).real
    return np.asarray(field[..., : shape[0], : shape[1]])


def samples(values_lbyx: Floats, scores_sbyx: Doubles) -> npt.NDArray[np.float32]:
    """Values at normal scores of distributions known by five quantiles (see `distribution`), (s, b, y, x).

    Args:
        values_lbyx: quantiles at distribution.LEVELS, ascending; where all are equal (a look of the day) that value.
        scores_sbyx: from `draw_scores`.
    """
    out = np.empty(scores_sbyx.shape, np.float32)
    for s, score_byx in enumerate(scores_sbyx):
        k = np.clip(np.searchsorted(SCORES, score_byx) - 1, 0, len(SCORES) - 2)
        made = np.full(score_byx.shape, np.nan)
        for piece, (low, high) in enumerate(pairwise(range(len(SCORES)))):
            share = (score_byx - SCORES[low]) / (SCORES[high] - SCORES[low])
            value = values_lbyx[low] + share * (values_lbyx[high] - values_lbyx[low])
            made = np.where(k == piece, value, made)
        out[s] = made
    return out
