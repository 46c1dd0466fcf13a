"""Which looks a query day lies between, and how far: one look a day, neighbours, gaps.

Axes: t looks, q query days, b bands, n pixels in a row, k gap knots.
"""

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

Int16 = npt.NDArray[np.int16]
Bools = npt.NDArray[np.bool_]
Days = npt.NDArray[np.int64]

KNOTS_DAYS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)


@dataclass(frozen=True)
class Looks:
    """One look a day: int16 (t, b, n), bool (t, n), ascending days (t,).

    `source_tn` is the index of each pixel's first clear look of that day among the looks that came in, empty where no
    day is repeated; `first_t` is that of the day's first look.
    """

    refl_tbn: Int16
    clear_tn: Bools
    day_t: Days
    source_tn: Int16
    first_t: Days


def merge_days(refl_tbn: Int16, clear_tn: Bools, day_t: Days) -> Looks:
    """Average the clear looks of each repeated day; without repeated days nothing is copied."""
    unique, first = np.unique(day_t, return_index=True)
    if unique.size == day_t.size:
        return Looks(refl_tbn, clear_tn, day_t, np.empty((0, 0), np.int16), first)
    refl, clear = refl_tbn[first], clear_tn[first]
    source = np.repeat(first.astype(np.int16)[:, None], clear.shape[1], axis=1)
    ends = np.append(first[1:], day_t.size)
    for u in np.flatnonzero(ends - first > 1):
        part = slice(first[u], ends[u])
        ok = clear_tn[part]
        total = np.where(ok[:, None], refl_tbn[part], 0).sum(axis=0, dtype=np.float64)
        refl[u] = np.rint(total / np.maximum(ok.sum(axis=0), 1)).astype(np.int16)
        clear[u] = ok.any(axis=0)
        source[u] = (first[u] + ok.argmax(axis=0)).astype(np.int16)
    return Looks(refl, clear, unique, source, first)


@numba.njit(nogil=True, cache=True)
def neighbours(clear_tn: Bools, day_t: Days, query_q: Days, exclude: int) -> tuple[Int16, Int16, Int16]:
    """Indices of the last clear look until and the first from each query (ascending) on, -1 none; the count.

    Looks `exclude` days or less away are passed over; with -1 none is, and a look on the day itself is both neighbours.
    """
    looks, pixels = clear_tn.shape
    last_qn = np.full((query_q.size, pixels), -1, np.int16)
    next_qn = np.full((query_q.size, pixels), -1, np.int16)
    count_qn = np.zeros((query_q.size, pixels), np.int16)
    total_n = np.zeros(pixels, np.int16)
    at_n = np.full(pixels, -1, np.int16)
    t = 0
    for q in range(query_q.size):
        while t < looks and day_t[t] < query_q[q] - exclude:
            for n in range(pixels):
                if clear_tn[t, n]:
                    at_n[n] = t
                    total_n[n] += 1
            t += 1
        for n in range(pixels):
            last_qn[q, n] = at_n[n]
            count_qn[q, n] = total_n[n]
    total_n[:] = 0
    at_n[:] = -1
    t = looks - 1
    for q in range(query_q.size - 1, -1, -1):
        while t >= 0 and day_t[t] > query_q[q] + exclude:
            for n in range(pixels):
                if clear_tn[t, n]:
                    at_n[n] = t
                    total_n[n] += 1
            t -= 1
        for n in range(pixels):
            next_qn[q, n] = at_n[n]
            both = at_n[n] >= 0 and at_n[n] == last_qn[q, n]  # the look of the day itself was counted twice
            count_qn[q, n] += total_n[n] - (1 if both else 0)
    return last_qn, next_qn, count_qn


@numba.njit(nogil=True, cache=True)
def distances(
    last_qn: Int16, next_qn: Int16, day_t: Days, query_q: Days, first_t: Days, source_tn: Int16
) -> tuple[Int16, Int16, Int16]:
    """Days to the neighbours, and the index of the nearer one among the looks that came in; -1 none.

    `source_tn` may be empty, then `first_t` says where a look came from.
    """
    before_qn, after_qn, source_qn = np.empty_like(last_qn), np.empty_like(last_qn), np.empty_like(last_qn)
    whole = source_tn.size > 0
    for q in range(query_q.size):
        for n in range(last_qn.shape[1]):
            i, j = last_qn[q, n], next_qn[q, n]
            # A century is beyond int16 in days, and beyond any satellite.
            before = min(query_q[q] - day_t[i], 32767) if i >= 0 else -1
            after = min(day_t[j] - query_q[q], 32767) if j >= 0 else -1
            near = i if i >= 0 and (j < 0 or before <= after) else j
            before_qn[q, n], after_qn[q, n] = before, after
            if near < 0:
                source_qn[q, n] = -1
            else:
                source_qn[q, n] = source_tn[near, n] if whole else first_t[near]
    return before_qn, after_qn, source_qn


@numba.njit(nogil=True, cache=True)
def _span(refl_tbn: Int16, clear_tn: Bools, day_t: Days, b: int, n: int, day: int, exclude: int) -> tuple[int, int]:
    """Which of a pixel's looks more than `exclude` days from a day are the lowest and the highest in a band; -1 none."""
    low, high = -1, -1
    for t in range(day_t.size):
        if clear_tn[t, n] and abs(day_t[t] - day) > exclude:
            if low < 0 or refl_tbn[t, b, n] < refl_tbn[low, b, n]:
                low = t
            if high < 0 or refl_tbn[t, b, n] > refl_tbn[high, b, n]:
                high = t
    return low, high


@numba.njit(nogil=True, cache=True)
def hold_to_span(refl_tbn: Int16, clear_tn: Bools, day_t: Days, query_q: Days, exclude: int, out_qbn: Int16) -> None:
    """Cut estimates to what the looks of each pixel and band span, those left out that a query does not see.

    A slope that goes on where looks end, or a season fitted to few of them, ends there: no look ever showed more.
    """
    bands, pixels = refl_tbn.shape[1:]
    low_n, high_n = np.empty(pixels, np.int64), np.empty(pixels, np.int64)
    for b in range(bands):
        for n in range(pixels):
            low_n[n], high_n[n] = _span(refl_tbn, clear_tn, day_t, b, n, 0, -1)
        for q in range(query_q.size):
            for n in range(pixels):
                low, high = low_n[n], high_n[n]
                if low >= 0 and min(abs(day_t[low] - query_q[q]), abs(day_t[high] - query_q[q])) <= exclude:
                    low, high = _span(refl_tbn, clear_tn, day_t, b, n, query_q[q], exclude)
                if low >= 0:
                    out_qbn[q, b, n] = min(max(out_qbn[q, b, n], refl_tbn[low, b, n]), refl_tbn[high, b, n])


def bridge_days(last: Int16, following: Int16) -> npt.NDArray[np.float64]:
    """The gap of an estimate: a b / (a + b) for looks a days before and b after; the one there is; or infinite.

    It is the variance of a random walk between two known ends, or beyond one: 4 in the middle of 16 days, 16 at 16 days
    after the last look of all.

    Args:
        last, following: days to the neighbours, any shape, negative where there is none.
    """
    with np.errstate(divide="ignore"):
        before = np.where(last < 0, 0.0, 1.0 / np.maximum(last, 0.5))
        after = np.where(following < 0, 0.0, 1.0 / np.maximum(following, 0.5))
        return np.asarray(1.0 / (before + after))


def knot_shares(gap: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Weights (..., k) of KNOTS_DAYS for each gap (...): linear in its logarithm, the end knots beyond the ends."""
    at = np.interp(np.log(np.clip(gap, 0.25, 1e6)), np.log(KNOTS_DAYS), np.arange(len(KNOTS_DAYS)))
    return np.asarray(np.maximum(0.0, 1.0 - np.abs(at[..., None] - np.arange(len(KNOTS_DAYS)))))
