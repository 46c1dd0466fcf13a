"""A predictive distribution that is known by five quantiles, completed and compared with what came true.

Between the levels the quantile is linear in the normal score of the level, beyond them the end pieces go on: a normal
distribution's quantiles give that normal distribution. Axes: l levels, b bands, n places (or any axes after l).
"""

import math

import numba
import numpy as np
import numpy.typing as npt
from scipy.stats import norm

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
SHARES = (0.5, 0.8, 0.9)  # of the intervals that are judged

SCORES = np.asarray(norm.ppf(LEVELS), np.float64)
_LEAST_SLOPE = 1e-9  # reflectance per normal score: a distribution without width is a very narrow one
_ROOT_PI = math.sqrt(math.pi)

Floats = npt.NDArray[np.floating]
Doubles = npt.NDArray[np.float64]


def quantile_at(values_l: Floats, level: float) -> Doubles:
    """The quantile at any level.

    Args:
        values_l: (5, ...) quantiles at LEVELS, ascending along l; NaN gives NaN.
        level: between 0 and 1, neither of them.

    Returns:
        float64 (...).
    """
    score = float(norm.ppf(level))
    k = int(np.clip(np.searchsorted(SCORES, score) - 1, 0, len(LEVELS) - 2))
    share = (score - SCORES[k]) / (SCORES[k + 1] - SCORES[k])
    low, high = values_l[k].astype(np.float64), values_l[k + 1].astype(np.float64)
    return np.asarray(low + share * (high - low))


def interval(values_l: Floats, share: float) -> tuple[Doubles, Doubles]:
    """The central interval that should hold this share of what comes true: its lower and upper end."""
    return quantile_at(values_l, (1 - share) / 2), quantile_at(values_l, (1 + share) / 2)


def pit(values_l: Floats, truth: Floats) -> Doubles:
    """Probability integral transform: the level at which the truth lies, 0..1; even where the distribution is right.

    Where quantiles are equal and the truth is too, the middle of the levels that it could lie at (the mid-PIT).
    """
    flat, true = _flat(values_l, truth)
    return _pit(flat, true, SCORES).reshape(truth.shape)


def crps(values_l: Floats, truth: Floats) -> Doubles:
    """Continuous ranked probability score in the unit of the values; the absolute error where there is no width.

    The integral of (F(x) - 1{x >= truth})^2, in closed form on each piece: with x = a + s z and F = Phi(z), a piece gives
    s [G(z)] for the part below the truth and s [G(-z)] for that above, G(z) = z Phi^2 + 2 Phi phi - Phi(sqrt(2) z) /
    sqrt(pi). For one normal distribution it is the formula of Gneiting and Raftery (2007).

    Args:
        values_l: (5, ...) quantiles at LEVELS, ascending.
        truth: (...).

    Returns:
        float64 (...), NaN where either side is.
    """
    flat, true = _flat(values_l, truth)
    return _crps(flat, true, SCORES).reshape(truth.shape)


def _flat(values_l: Floats, truth: Floats) -> tuple[Doubles, Doubles]:
    assert values_l.shape == (len(LEVELS), *truth.shape)
    flat = np.ascontiguousarray(values_l, np.float64).reshape(len(LEVELS), -1)
    return flat, np.ascontiguousarray(truth, np.float64).ravel()


@numba.njit(cache=True, inline="always")
def _slope(values_ln: Doubles, n: int, k: int, score_l: Doubles) -> float:
    slope: float = max((values_ln[k + 1, n] - values_ln[k, n]) / (score_l[k + 1] - score_l[k]), _LEAST_SLOPE)
    return slope


@numba.njit(cache=True)
def _score(values_ln: Doubles, n: int, true: float, score_l: Doubles) -> float:
    """The normal score at which the truth lies."""
    k = 0
    while k < score_l.size - 2 and true > values_ln[k + 1, n]:
        k += 1
    at: float = score_l[k] + (true - values_ln[k, n]) / _slope(values_ln, n, k, score_l)
    return at


@numba.njit(cache=True)
def _level(values_ln: Doubles, n: int, true: float, score_l: Doubles) -> float:
    """The level at which the truth lies: the middle of the jump where the distribution jumps there."""
    first, last = -1, -1
    for k in range(score_l.size - 1):
        if values_ln[k, n] == true == values_ln[k + 1, n]:
            first, last = (k if first < 0 else first), k + 1
    if first < 0:
        return _phi(_score(values_ln, n, true, score_l))
    low = 0.0 if first == 0 else _phi(score_l[first])
    high = 1.0 if last == score_l.size - 1 else _phi(score_l[last])
    return 0.5 * (low + high)


@numba.njit(cache=True)
def _phi(score: float) -> float:
    return 0.5 * math.erfc(-score / math.sqrt(2.0))


@numba.njit(cache=True)
def _below(score: float) -> float:
    """The integral of Phi^2 up to a normal score."""
    if score < -30.0:
        return 0.0
    phi = _phi(score)
    density = math.exp(-0.5 * score * score) / math.sqrt(2.0 * math.pi)
    return score * phi * phi + 2.0 * phi * density - _phi(math.sqrt(2.0) * score) / _ROOT_PI


@numba.njit(nogil=True, cache=True)
def _pit(values_ln: Doubles, true_n: Doubles, score_l: Doubles) -> Doubles:
    out = np.full(true_n.size, np.nan)
    for n in range(true_n.size):
        if math.isfinite(true_n[n]) and math.isfinite(values_ln[:, n].sum()):
            out[n] = _level(values_ln, n, true_n[n], score_l)
    return out


@numba.njit(cache=True)
def score_of(values_ln: Doubles, n: int, true: float, score_l: Doubles) -> tuple[float, float]:
    """`pit` and `crps` of one place, for loops that need both."""
    return _level(values_ln, n, true, score_l), _crps_one(values_ln, n, true, score_l)


@numba.njit(cache=True)
def _crps_one(values_ln: Doubles, n: int, true: float, score_l: Doubles) -> float:
    last = score_l.size - 2
    at = _score(values_ln, n, true, score_l)
    total = 0.0
    for k in range(last + 1):
        slope = _slope(values_ln, n, k, score_l)
        low = -np.inf if k == 0 else score_l[k]
        high = np.inf if k == last else score_l[k + 1]
        if at > low:  # the part of the piece below the truth
            total += slope * (_below(min(at, high)) - (0.0 if k == 0 else _below(low)))
        if at < high:
            total += slope * (_below(-max(at, low)) - (0.0 if k == last else _below(-high)))
    return total


@numba.njit(nogil=True, cache=True)
def _crps(values_ln: Doubles, true_n: Doubles, score_l: Doubles) -> Doubles:
    out = np.full(true_n.size, np.nan)
    for n in range(true_n.size):
        if math.isfinite(true_n[n]) and math.isfinite(values_ln[:, n].sum()):
            out[n] = _crps_one(values_ln, n, true_n[n], score_l)
    return out
