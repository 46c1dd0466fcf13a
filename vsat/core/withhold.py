"""Clear looks hidden and estimated from the rest: what an estimate's errors are measured on.

Axes: t looks, q targets, b bands, y, x, n pixels; r residuals, m members of the blend.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vsat.core.looks import Int16, bridge_days, merge_days, neighbours
from vsat.core.spatial import MIN_CLEAR, regress
from vsat.core.temporal import MEMBERS, Mix, Temporal, fill_temporal, member, members
from vsat.hls import SCALE

HIDE_DAYS = (0, 3, 8, 16, 32, 64, 128)  # around a hidden look everything this near is hidden too
FOLDS = 4  # draws for each of these
PIXELS = 400
SCENES = 12  # dates per window that get another date's cloud
WINDOW_PX = 128

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Days = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Hidden:
    """Hidden looks: truth (r, b), members' estimates (m, r, b), the nearest look (r, b), gap in days (r,), date index (r,)."""

    truth_rb: Floats
    member_mrb: Floats
    nearest_rb: Floats
    gap_r: Floats
    date_r: npt.NDArray[np.int64]


def hide_looks(refl_tbyx: Int16, clear_tyx: Bools, day_t: Days, rng: np.random.Generator) -> Hidden:
    """Hide looks and what lies around them, for every rung of the ladder, and let each member estimate them."""
    looks, bands = refl_tbyx.shape[:2]
    pixels = clear_tyx.shape[1] * clear_tyx.shape[2]
    flat, clear = refl_tbyx.reshape(looks, bands, 1, pixels), clear_tyx.reshape(looks, 1, pixels)
    seen = np.flatnonzero(clear.any(axis=(0, 1)))
    pick = np.sort(rng.choice(seen, min(PIXELS, seen.size), replace=False)) if seen.size else seen
    flat, clear = np.ascontiguousarray(flat[..., pick]), np.ascontiguousarray(clear[..., pick])
    parts: list[Hidden] = []
    usable = np.flatnonzero(clear.any(axis=(1, 2)))
    for hide in HIDE_DAYS:
        for _ in range(FOLDS):
            targets = _targets(usable, day_t, hide, rng)
            if targets.size:
                parts.append(_one_fold(flat, clear, day_t, targets, hide))
    if not parts:
        none = np.zeros((0, bands))
        return Hidden(none, np.zeros((len(MEMBERS), 0, bands)), none, np.zeros(0), np.zeros(0, np.int64))
    return Hidden(
        np.concatenate([p.truth_rb for p in parts]),
        np.concatenate([p.member_mrb for p in parts], axis=1),
        np.concatenate([p.nearest_rb for p in parts]),
        np.concatenate([p.gap_r for p in parts]),
        np.concatenate([p.date_r for p in parts]),
    )


def _targets(usable: npt.NDArray[np.int64], day_t: Days, hide: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Looks to hide at once: far enough from each other that each keeps its own neighbours."""
    if not usable.size:
        return usable
    spacing = 2 * hide + 20
    chosen: list[int] = []
    after = int(day_t[usable[0]]) + int(rng.integers(0, spacing))
    for t in usable:
        if day_t[t] >= after:
            chosen.append(int(t))
            after = int(day_t[t]) + spacing + int(rng.integers(0, spacing // 2))
    return np.array(chosen, np.int64)


def _one_fold(
    refl_tbyx: Int16,
    clear_tyx: Bools,
    day_t: Days,
    targets: npt.NDArray[np.int64],
    hide: int,
) -> Hidden:
    """Truth, members' estimates, gap and date of every clear look among the targets."""
    left = clear_tyx & (np.abs(day_t[:, None] - day_t[targets]).min(axis=1) > hide)[:, None, None]
    looks = merge_days(refl_tbyx[:, :, 0], left[:, 0], day_t.astype(np.int64))
    query, where = np.unique(day_t[targets].astype(np.int64), return_inverse=True)
    last_qn, next_qn, _ = neighbours(looks.clear_tn, looks.day_t, query, -1)
    found = members(looks, query, last_qn, next_qn, -1)
    q, n = np.nonzero(clear_tyx[targets, 0] & ((last_qn >= 0) | (next_qn >= 0))[where])
    truth = np.asarray(refl_tbyx[targets[q], :, 0, n] * SCALE, np.float64)
    at, last, after = where[q], last_qn[where[q], n], next_qn[where[q], n]
    before = np.where(last >= 0, query[at] - looks.day_t[last], -1)
    ahead = np.where(after >= 0, looks.day_t[after] - query[at], -1)
    estimates = np.stack([f[at, :, n] * SCALE for f in found])
    near = member("nearest", looks, query, last_qn, next_qn, -1)[at, :, n]
    nearest = np.asarray(near * SCALE, np.float64)
    return Hidden(truth, estimates, nearest, bridge_days(before, ahead), targets[q])


@dataclass(frozen=True)
class Overlaid:
    """Residuals (b, r) after scene regression, with each one's gap in days, support, and date index, (r,)."""

    residual_br: Floats
    gap_r: Floats
    support_r: npt.NDArray[np.float32]
    date_r: npt.NDArray[np.int64]


def overlay_clouds(
    refl_tbyx: Int16,
    clear_tyx: Bools,
    day_t: Days,
    *,
    temporal: Temporal,
    mix: Mix,
    hide_days: int,
    rng: np.random.Generator,
) -> Overlaid | None:
    """Lay real cloud of other dates over some clear dates of a window, and fill them by temporal estimate and scene.

    The window is at most WINDOW_PX a side, drawn from the image. `hide_days`: looks up to this many days away are
    hidden from the temporal estimate. None without a clear date, cloud to lay over it, or a large enough image.
    """
    y, x = (int(rng.integers(0, max(1, size - WINDOW_PX + 1))) for size in clear_tyx.shape[1:])
    refl_tbyx = refl_tbyx[..., y : y + WINDOW_PX, x : x + WINDOW_PX]
    clear_tyx = clear_tyx[..., y : y + WINDOW_PX, x : x + WINDOW_PX]
    share_t = clear_tyx.mean(axis=(1, 2))
    dates = np.flatnonzero(share_t > 0.5)
    shapes = np.flatnonzero((share_t > 0.15) & (share_t < 0.85))
    if not (dates.size and shapes.size and clear_tyx[0].size >= 4 * MIN_CLEAR):
        return None
    dates = np.sort(rng.choice(dates, min(SCENES, dates.size), replace=False))
    est = fill_temporal(refl_tbyx, clear_tyx, day_t, day_t[dates], method=temporal, mix=mix, exclude_days=hide_days)
    parts = []
    for n, i in enumerate(dates):
        cloud_yx = ~clear_tyx[shapes[rng.integers(shapes.size)]]
        cloud_yx = cloud_yx[:: rng.choice((-1, 1)), :: rng.choice((-1, 1))]
        done = regress(est.refl_qbyx[n], refl_tbyx[i], clear_tyx[i] & ~cloud_yx)
        target_yx = clear_tyx[i] & cloud_yx & (est.nearest_qyx[n] >= 0)
        if not done.used or not target_yx.any():
            continue
        residual_br = refl_tbyx[i][:, target_yx] * SCALE - done.refl_byx[:, target_yx]
        gap_r = bridge_days(est.last_qyx[n][target_yx], est.next_qyx[n][target_yx])
        parts.append((residual_br, gap_r, done.support_yx[target_yx], np.full(gap_r.size, i)))
    return Overlaid(*(np.concatenate(p, axis=-1) for p in zip(*parts, strict=True))) if parts else None
