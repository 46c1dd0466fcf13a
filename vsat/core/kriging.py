"""What the clear part of a date says about its cloudy part, by kriging in space and in looks (universal kriging).

Two pixels are alike where they lie near each other, where their records say the same, and most where both hold. The
departure of the clear pixels from their temporal estimates is a Gaussian process over that; its lengths are those of the
greatest likelihood (Rasmussen & Williams 2006, eq. 2.30) on a small grid, date by date. Where more pixels are clear than can
be solved for, what the others still miss is spread around them. Axes: b bands, k features, y, x; n clear pixels, m pixels
asked for.
"""

import math
from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy.linalg import lapack
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist

from vsat.hls import FILL, SCALE

LEAST_CLEAR = 8  # pixels; fewer say nothing about a date
SAMPLE = 400  # clear pixels that are solved for
TRIED = 160  # of them, on which the lengths are found
SPACE_PX = (4.0, 12.0, 36.0)  # e-folding distance
ALIKE = (0.6, 1.8)  # e-folding distance in standard deviations of the features, root mean square over them
NOISE = (0.02, 0.1, 0.3)  # variance of what no neighbour shares, as a part of what they share
RIDGE = 1e-3  # of the affine mean, in units of reflectance squared
NEAR_PX = (3.0, 1.5)  # deviations of the Gaussians that draw it to the clear pixels that were not solved for,
HELD = 3.0  # held back by so many pixels that say nothing
FLOOR = 0.005  # reflectance: smaller differences of features mean nothing
CHUNK = 4096  # pixels asked for at once

Float = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Kriged:
    """Reflectance float32 (b, y, x), NaN where there was no base; its standard error float32 (b, y, x).

    `used` is False where the clear part was too small: the base came back, and the error is NaN.
    """

    refl_byx: Float
    error_byx: Float
    used: bool


def krige(
    base_byx: npt.NDArray[np.int16],
    alike_kyx: npt.NDArray[np.int16],
    refl_byx: npt.NDArray[np.int16],
    clear_yx: npt.NDArray[np.bool_],
    *,
    seed: int = 0,
) -> Kriged:
    """Correct a temporal estimate by what the same date's clear pixels show.

    Args:
        base_byx: int16 x 1e-4, the temporal estimate, made without any look of this date; FILL where there is none.
        alike_kyx: int16 x 1e-4, what tells how alike two pixels are: several estimates of all bands, of this date and of
            others, made likewise.
        refl_byx: int16 x 1e-4, the date's own reflectance; used only where `clear_yx`.
        clear_yx: bool.
        seed: which clear pixels are drawn, where there are more than can be solved for.

    Returns:
        The corrected estimate of every pixel that has a base, the clear ones too.
    """
    has_yx = (base_byx != FILL).all(axis=0) & (alike_kyx != FILL).all(axis=0)
    base = np.where(base_byx == FILL, np.nan, base_byx).astype(np.float32) * np.float32(SCALE)
    at_n = np.flatnonzero(clear_yx & has_yx)
    if at_n.size < LEAST_CLEAR:
        return Kriged(base, np.full(base.shape, np.nan, np.float32), used=False)
    spare_yx = np.zeros(clear_yx.shape, bool)
    if at_n.size > SAMPLE:
        spare_yx.flat[at_n] = True
        at_n = np.sort(np.random.default_rng(seed).choice(at_n, SAMPLE, replace=False))
        spare_yx.flat[at_n] = False
    flat_pb = base.reshape(len(base), -1).T.astype(np.float64)
    rest_nb = refl_byx.reshape(len(base), -1).T[at_n] * SCALE - flat_pb[at_n]
    where_p2 = np.column_stack(np.unravel_index(np.arange(clear_yx.size), clear_yx.shape)).astype(np.float64)
    alike_pk = alike_kyx.reshape(len(alike_kyx), -1).T.astype(np.float64) * SCALE
    alike_pk = alike_pk / ((alike_pk[at_n].std(axis=0) + FLOOR) * math.sqrt(len(alike_kyx)))
    fit = _fit(rest_nb, flat_pb[at_n], where_p2[at_n], alike_pk[at_n])
    out, error = base.reshape(len(base), -1).copy(), np.full((len(base), clear_yx.size), np.nan, np.float32)
    at_m = np.flatnonzero(has_yx)
    for first in range(0, at_m.size, CHUNK):
        part = at_m[first : first + CHUNK]
        gain_bm, error_bm = fit.predict(flat_pb[part], where_p2[part], alike_pk[part])
        out[:, part] += gain_bm.astype(np.float32)
        error[:, part] = error_bm
    kriged = _drawn_near(out.reshape(base.shape), refl_byx, spare_yx) if spare_yx.any() else out.reshape(base.shape)
    return Kriged(kriged, error.reshape(base.shape), used=True)


def _drawn_near(kriged_byx: Float, refl_byx: npt.NDArray[np.int16], spare_yx: npt.NDArray[np.bool_]) -> Float:
    """The estimate, drawn to the clear pixels that were not solved for: what it misses of them holds around them, too.

    Normalised convolution (Knutsson & Westin 1993), from coarse to fine, as if every pixel had HELD more clear ones around
    it of which nothing is missed.
    """
    done = np.nan_to_num(kriged_byx)
    for sigma in NEAR_PX:
        missed = np.where(spare_yx, refl_byx * np.float32(SCALE) - done, np.float32(0))
        around = 2 * math.pi * sigma**2  # pixels under the Gaussian
        total = around * gaussian_filter(missed, (0, sigma, sigma), mode="constant", truncate=3.0)
        count = around * gaussian_filter(spare_yx.astype(np.float32), sigma, mode="constant", truncate=3.0)
        done = done + total / (count + HELD)
    return np.where(np.isnan(kriged_byx), np.float32(np.nan), done.astype(np.float32))


@dataclass(frozen=True)
class _Fit:
    """A process that was fitted to n clear pixels."""

    mean_kb: Doubles  # coefficients of the affine mean
    centre_b: Doubles
    low_b: Doubles
    high_b: Doubles
    where_n2: Doubles
    alike_nk: Doubles
    space_px: float
    alike: float
    noise: float
    factor_nn: Doubles  # lower Cholesky factor of the covariance
    weight_nb: Doubles
    scale_b: Doubles  # standard deviation of the process

    def predict(self, base_mb: Doubles, where_m2: Doubles, alike_mk: Doubles) -> tuple[Doubles, Doubles]:
        """Departure and its standard error, (b, m) each."""
        cross_mn = _covariance(
            cdist(where_m2, self.where_n2), cdist(alike_mk, self.alike_nk), self.space_px, self.alike
        )
        gain_mb = _terms(base_mb, self.centre_b, self.low_b, self.high_b) @ self.mean_kb + cross_mn @ self.weight_nb
        half_nm, _ = lapack.dtrtrs(self.factor_nn, cross_mn.T, lower=1)
        left_m = np.maximum(1.0 + self.noise - (half_nm**2).sum(axis=0), 1e-4)
        return gain_mb.T, self.scale_b[:, None] * np.sqrt(left_m)


def _covariance(space: Doubles, alike: Doubles, space_px: float, e_folding: float) -> Doubles:
    near, same = np.exp(space * (-1.0 / space_px)), np.exp(alike * (-1.0 / e_folding))
    return np.asarray((near + same + near * same) / 3.0)


def _terms(base_nb: Doubles, centre_b: Doubles, low_b: Doubles, high_b: Doubles) -> Doubles:
    """Regressors of the affine mean, held constant outside the range that was seen."""
    return np.column_stack([np.ones(len(base_nb)), np.clip(base_nb, low_b, high_b) - centre_b])


def _fit(rest_nb: Doubles, base_nb: Doubles, where_n2: Doubles, alike_nk: Doubles) -> _Fit:
    """The likeliest of a few processes, with the mean a constant or affine in the base."""
    centre_b = base_nb.mean(axis=0)
    low_b, high_b = np.quantile(base_nb, (0.01, 0.99), axis=0)
    terms_nk = _terms(base_nb, centre_b, low_b, high_b)
    constant = np.zeros((terms_nk.shape[1], rest_nb.shape[1]))
    constant[0] = np.median(rest_nb, axis=0)
    hold = RIDGE * np.diag([1e-9] + [1.0] * base_nb.shape[1])
    affine = np.linalg.solve(terms_nk.T @ terms_nk + hold, terms_nk.T @ rest_nb)
    means = (constant, np.asarray(affine, np.float64))
    left_nb = np.concatenate([rest_nb - terms_nk @ one for one in means], axis=1)
    some = np.linspace(0, len(rest_nb) - 1, min(TRIED, len(rest_nb))).astype(np.int64)
    m, lengths = _likeliest(left_nb[some], where_n2[some], alike_nk[some], len(means))
    bands = rest_nb.shape[1]
    rest = left_nb[:, m * bands : (m + 1) * bands]
    factor, weight = _solved(rest, cdist(where_n2, where_n2), cdist(alike_nk, alike_nk), lengths)
    scale_b = np.sqrt((rest * weight).mean(axis=0) + 1e-9)
    return _Fit(means[m], centre_b, low_b, high_b, where_n2, alike_nk, *lengths, factor, weight, scale_b)


def _likeliest(
    left_nb: Doubles, where_n2: Doubles, alike_nk: Doubles, means: int
) -> tuple[int, tuple[float, float, float]]:
    """Which mean (their remainders lie side by side), and distance, likeness and noise."""
    space_nn, alike_nn = cdist(where_n2, where_n2), cdist(alike_nk, alike_nk)
    count, bands = left_nb.shape[0], left_nb.shape[1] // means
    scores = {}
    for lengths in product(SPACE_PX, ALIKE, NOISE):
        factor, weight = _solved(left_nb, space_nn, alike_nn, lengths)
        fit_b = -0.5 * count * np.log((left_nb * weight).mean(axis=0) + 1e-9) - np.log(np.diag(factor)).sum()
        for m in range(means):
            spent = m * bands * bands  # parameters of the affine mean: Akaike's price
            scores[m, lengths] = float(fit_b[m * bands : (m + 1) * bands].sum()) - spent
    return max(scores, key=lambda one: scores[one])


def _solved(
    left_nb: Doubles, space_nn: Doubles, alike_nn: Doubles, lengths: tuple[float, float, float]
) -> tuple[Doubles, Doubles]:
    """Lower Cholesky factor of the covariance, and the remainders' weights."""
    covariance = _covariance(space_nn, alike_nn, lengths[0], lengths[1])
    covariance[np.diag_indices(len(covariance))] += lengths[2]
    factor, _ = lapack.dpotrf(covariance, lower=1)
    weight, _ = lapack.dpotrs(factor, left_nb, lower=1)
    return factor, weight
