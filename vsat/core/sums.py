"""Scores as sums, so that those of any group are the sum of its parts'. Axes: g groups, b bands, n places."""

import math
from dataclasses import dataclass, fields
from functools import reduce

import numba
import numpy as np
import numpy.typing as npt

from vsat.core.distribution import LEVELS, SCORES, SHARES, interval, score_of
from vsat.core.metrics import ndvi, psnr, spectral_angle
from vsat.hls import BANDS

PIT_BINS = 20
# Absolute errors from 1e-5 to 1 in steps of 2.3 %: medians are exact to about half of that.
ERROR_EDGES = np.geomspace(1e-5, 1.0, 501)
SD_EDGES = np.geomspace(1e-3, 0.3, 11)  # of predicted standard deviations; the outer bins are open

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Sums:
    """Sums over target values; `a + b` are those of both.

    Attributes:
        count, absolute, square, error, crps: (g, b).
        size: (g, b, k) how often the absolute error was in each of ERROR_EDGES' bins.
        inside, width: (g, b, 3) values inside the intervals of SHARES, and the intervals' widths.
        pit: (g, b, 20) how often the truth lay in each twentieth of its distribution.
        by_sd: (g, s, 3) per bin of predicted SD: count, sum of SD, sum of squared errors; all bands together.
        spectral: (g, 4) places with a spectral angle, its sum in degrees; places with NDVI, its absolute error's sum.
    """

    count: Doubles
    absolute: Doubles
    square: Doubles
    error: Doubles
    crps: Doubles
    size: Doubles
    inside: Doubles
    width: Doubles
    pit: Doubles
    by_sd: Doubles
    spectral: Doubles

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def of(self, group: int | None) -> "Sums":
        """One group alone, or all of them together (None); the axis g has length 1."""
        parts = (getattr(self, f.name) for f in fields(self))
        return Sums(*(p.sum(axis=0, keepdims=True) if group is None else p[group : group + 1] for p in parts))


@dataclass(frozen=True)
class Scores:
    """What sums come to; reflectance units. Per band (b,), NaN where a band has nothing.

    `cover_sb`, `width_sb`: (3, b) for SHARES. `sam_deg`, `psnr_db`, `ndvi_mae` are over all bands. `pit`: shares of 20
    bins, all bands together. `sd`, `rmse_at_sd`, `count_at_sd`: per bin of predicted SD that has values.
    """

    count: Doubles
    mae: Doubles
    median: Doubles
    rmse: Doubles
    bias: Doubles
    crps: Doubles
    cover_sb: Doubles
    width_sb: Doubles
    sam_deg: float
    psnr_db: float
    ndvi_mae: float
    pit: Doubles
    sd: Doubles
    rmse_at_sd: Doubles
    count_at_sd: Doubles


def gather(
    values_lbn: Floats,
    truth_bn: Floats,
    sd_bn: Floats,
    group_n: npt.NDArray[np.int64] | None = None,
    groups: int = 1,
    *,
    bands: tuple[str, ...] = BANDS,
) -> Sums:
    """Compare predictive distributions with the truth.

    Args:
        values_lbn: (5, b, n) quantiles at distribution.LEVELS, ascending; the middle one is the estimate.
        truth_bn, sd_bn: (b, n) truth and predicted standard deviation. NaN in any of the three leaves the value out.
        group_n: int64 (n,) below `groups`; default all in group 0.
        bands: names along b; NDVI needs red and nir.

    Returns:
        The sums, per group and band.
    """
    count_b, places = truth_bn.shape
    assert values_lbn.shape == (len(LEVELS), count_b, places)
    at = np.zeros(places, np.int64) if group_n is None else np.asarray(group_n, np.int64)
    values, truth, sd = (np.ascontiguousarray(one, np.float64) for one in (values_lbn, truth_bn, sd_bn))
    # One rule for every sum: else a coverage would be counted over other values than the count that it is divided by.
    truth = np.where(np.isfinite(values.sum(axis=0)) & np.isfinite(sd), truth, np.nan)
    plain = np.zeros((groups, count_b, 5))
    size = np.zeros((groups, count_b, len(ERROR_EDGES) + 1))
    levels = np.zeros((groups, count_b, PIT_BINS))
    by_sd = np.zeros((groups, len(SD_EDGES) + 1, 3))
    for b in range(count_b):
        _gather(values[:, b], truth[b], sd[b], at, SCORES, ERROR_EDGES, SD_EDGES, b, plain, size, levels, by_sd)
    inside, width = _intervals(values, truth, at, groups)
    spectral = _spectral(values[2], truth, at, groups, bands)
    count, absolute, square, error, score = np.moveaxis(plain, 2, 0)
    return Sums(count, absolute, square, error, score, size, inside, width, levels, by_sd, spectral)


def _intervals(values: Doubles, truth: Doubles, at: npt.NDArray[np.int64], groups: int) -> tuple[Doubles, Doubles]:
    """Values inside, and widths of, the intervals of SHARES: (g, b, 3) each."""
    inside, width = (np.zeros((groups, len(truth), len(SHARES))) for _ in range(2))
    for s, share in enumerate(SHARES):
        low, high = interval(values, share)
        ok = np.isfinite(truth)
        for b in range(len(truth)):
            here = at[ok[b]]
            held = (truth[b] >= low[b] - 1e-9) & (truth[b] <= high[b] + 1e-9)
            inside[:, b, s] = np.bincount(here, held[ok[b]].astype(np.float64), groups)
            width[:, b, s] = np.bincount(here, (high[b] - low[b])[ok[b]], groups)
    return inside, width


def _spectral(
    estimate: Doubles, truth: Doubles, at: npt.NDArray[np.int64], groups: int, bands: tuple[str, ...]
) -> Doubles:
    out = np.zeros((groups, 4))
    if len(truth) > 1:
        angle = spectral_angle(estimate, truth)
        known = np.isfinite(angle)
        out[:, 0] = np.bincount(at[known], minlength=groups)
        out[:, 1] = np.bincount(at[known], angle[known], groups)
    if {"red", "nir"} <= set(bands):
        red, nir = bands.index("red"), bands.index("nir")
        miss = np.abs(ndvi(estimate[red], estimate[nir]) - ndvi(truth[red], truth[nir]))
        known = np.isfinite(miss)
        out[:, 2] = np.bincount(at[known], minlength=groups)
        out[:, 3] = np.bincount(at[known], miss[known], groups)
    return out


@numba.njit(nogil=True, cache=True)
def _gather(
    values_ln: Doubles,
    truth_n: Doubles,
    sd_n: Doubles,
    group_n: npt.NDArray[np.int64],
    score_l: Doubles,
    error_edges: Doubles,
    sd_edges: Doubles,
    b: int,
    plain: Doubles,
    size: Doubles,
    levels: Doubles,
    by_sd: Doubles,
) -> None:
    """Everything that needs one look at each value of band b; truth is NaN where anything is missing."""
    bins = levels.shape[2]
    for n in range(truth_n.size):
        true = truth_n[n]
        if not math.isfinite(true):
            continue
        g = group_n[n]
        error = values_ln[2, n] - true
        level, score = score_of(values_ln, n, true, score_l)
        plain[g, b, 0] += 1.0
        plain[g, b, 1] += abs(error)
        plain[g, b, 2] += error * error
        plain[g, b, 3] += error
        plain[g, b, 4] += score
        size[g, b, np.searchsorted(error_edges, abs(error), side="right")] += 1.0
        levels[g, b, min(int(level * bins), bins - 1)] += 1.0
        s = np.searchsorted(sd_edges, sd_n[n], side="right")
        by_sd[g, s, 0] += 1.0
        by_sd[g, s, 1] += sd_n[n]
        by_sd[g, s, 2] += error * error


def finish(sums: Sums, group: int | None = None) -> Scores:
    """What the sums of a group, or of all groups together, come to."""
    one = sums.of(group)
    count = one.count[0]
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = {name: getattr(one, name)[0] / count for name in ("absolute", "square", "error", "crps")}
        cover, width = (one.inside[0] / count[:, None]).T, (one.width[0] / count[:, None]).T
        levels = one.pit[0].sum(axis=0)
        angles, angle, indices, index = one.spectral[0]
        filled = one.by_sd[0][one.by_sd[0][:, 0] > 0]
        return Scores(
            count=count,
            mae=mean["absolute"],
            median=np.array([_median(row) for row in one.size[0]]),
            rmse=np.sqrt(mean["square"]),
            bias=mean["error"],
            crps=mean["crps"],
            cover_sb=cover,
            width_sb=width,
            sam_deg=float(angle / angles),
            psnr_db=psnr(float(one.square[0].sum() / count.sum())) if count.sum() else float("nan"),
            ndvi_mae=float(index / indices),
            pit=levels / levels.sum(),
            sd=filled[:, 1] / filled[:, 0],
            rmse_at_sd=np.sqrt(filled[:, 2] / filled[:, 0]),
            count_at_sd=filled[:, 0],
        )


def merge(parts: list[Sums]) -> Sums:
    """The sums of all parts; there is at least one."""
    return reduce(lambda one, other: one + other, parts)


def _median(size: Doubles) -> float:
    """Of absolute errors that are counted in bins: linear within the bin that the middle lies in."""
    total = size.sum()
    if not total:
        return float("nan")
    edges = np.concatenate([[0.0], ERROR_EDGES, [2 * ERROR_EDGES[-1]]])
    running = np.cumsum(size)
    k = int(np.searchsorted(running, total / 2))
    before = running[k - 1] if k else 0.0
    return float(edges[k] + (total / 2 - before) / size[k] * (edges[k + 1] - edges[k]))
