"""How far a fill is from the truth, measured on the cube's own clear looks by hiding them. DESIGN 5, step 3.

Clear looks are hidden together with everything within some days around them, for a ladder of days, and estimated
from the rest; the residuals (look minus estimate) give quantiles per band and gap. The gap is a b / (a + b) for a
look a days before and b days after, and a where one side has none: the variance of a random walk between its two
known ends, or beyond its only one. The blend's weights come from the same residuals.
Axes: t looks, q queries, b bands, y, x; r residuals, k gap knots, m members.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from vsat.core.looks import KNOTS_DAYS, Int16, knot_shares
from vsat.core.temporal import DEFAULT_MIX, MEMBERS, Mix, temporal_of
from vsat.core.withhold import Hidden, Overlaid, hide_looks, overlay_clouds
from vsat.hls import SCALE

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
SCENE_HIDE_DAYS = (0, 0, 0, 8)  # one draw of dates and clouds for each
SUPPORTS = (0.02, 0.1, 0.25, 0.5)
FEW_DATES = 3.0  # a knot with this many dates leans on the default as much as on itself

# Where a cube says nothing: other sites' errors (EVIDENCE 1), as a standard deviation at a gap of 4 days and its rise.
DEFAULT_SD = 0.03
DEFAULT_POWER = 0.3
PRIOR_SD = 0.08
DEFAULT_FACTOR = 0.8  # EVIDENCE 1: the scene regression takes about half of the mean error away, less of the tails
Z50, Z90 = 0.6745, 1.6449  # half of a normal distribution lies within Z50 standard deviations, 90 % within Z90
NORMAL = (-Z90, -Z50, 0.0, Z50, Z90)

Floats = npt.NDArray[np.float64]
Table = tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class Spread:
    """What a fill's errors look like, in reflectance (truth minus estimate); plain tuples, so JSON in and out.

    Attributes:
        method: the method that was calibrated.
        quantiles: [band][gap knot][level], levels .05 .25 .5 .75 .95, at KNOTS_DAYS.
        sd: [band][gap knot], standard deviation, residuals beyond four robust ones clipped.
        prior: [band][level], prior_sd [band]: for estimates without a look near by.
        mix: [gap knot][member] weights of the blend, each row of sum 1.
        scene: [band][support knot][level + sd]: factors on `sd` where the scene regression was applied; empty
            for methods without it.
        dates: number of hidden dates behind it.
    """

    method: str
    quantiles: tuple[Table, ...]
    sd: Table
    prior: Table
    prior_sd: tuple[float, ...]
    mix: Mix
    scene: tuple[Table, ...]
    dates: int

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Spread":
        """The inverse of `dataclasses.asdict`, lists (as JSON gives them) turned back into tuples."""
        return cls(**{f.name: _tuples(values[f.name]) for f in fields(cls)})


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list | tuple) else value


def calibrate(
    refl_tbyx: Int16,
    clear_tyx: npt.NDArray[np.bool_],
    day_t: npt.NDArray[np.int32],
    *,
    method: str,
    seed: int = 0,
) -> Spread:
    """Measure the spread of a method on a cube's own clear looks.

    Args:
        refl_tbyx: int16 (t, b, y, x) x 1e-4: the cube, or a window of a few hundred pixels a side (several windows may
            lie side by side along x).
        clear_tyx: bool (t, y, x).
        day_t: int32 (t,), ascending.
        method: a name of config.METHODS.
        seed: which pixels, dates and masks are drawn.

    Returns:
        The spread; with few looks it leans on wide defaults, with none it is the default.
    """
    return calibrate_many(refl_tbyx, clear_tyx, day_t, methods=(method,), seed=seed)[method]


def calibrate_many(
    refl_tbyx: Int16,
    clear_tyx: npt.NDArray[np.bool_],
    day_t: npt.NDArray[np.int32],
    *,
    methods: Sequence[str],
    seed: int = 0,
) -> dict[str, Spread]:
    """`calibrate` for several methods, which share the looks that are hidden; each spread is the same as alone."""
    rng = np.random.default_rng(seed)
    drawn = hide_looks(refl_tbyx, clear_tyx, day_t, rng)
    state = rng.bit_generator.state
    found = {}
    for method in methods:
        rng.bit_generator.state = state  # the same dates and clouds for all
        found[method] = _one(refl_tbyx, clear_tyx, day_t, drawn, method, rng)
    return found


def _one(
    refl_tbyx: Int16,
    clear_tyx: npt.NDArray[np.bool_],
    day_t: npt.NDArray[np.int32],
    drawn: Hidden,
    method: str,
    rng: np.random.Generator,
) -> Spread:
    bands = refl_tbyx.shape[1]
    mix = _mix(drawn) if temporal_of(method) == "blend" else DEFAULT_MIX
    estimate_rb = _estimate(drawn, temporal_of(method), mix)
    residual_rb = drawn.truth_rb - estimate_rb
    quantiles_bkl, sd_bk = _by_gap(residual_rb, drawn.gap_r, drawn.date_r, bands)
    prior_bl, prior_sd_b = _prior(refl_tbyx, clear_tyx, quantiles_bkl[:, -1], sd_bk[:, -1])
    scene = np.zeros((0, 0, 0))
    if method.endswith("+scene"):
        found = [
            overlay_clouds(refl_tbyx, clear_tyx, day_t, temporal=temporal_of(method), mix=mix, hide_days=hide, rng=rng)
            for hide in SCENE_HIDE_DAYS
        ]
        scene = _scene_factors([f for f in found if f is not None], sd_bk)
    return Spread(
        method,
        _tuples(quantiles_bkl.tolist()),
        _tuples(sd_bk.tolist()),
        _tuples(prior_bl.tolist()),
        _tuples(prior_sd_b.tolist()),
        mix,
        _tuples(scene.tolist()),
        int(np.unique(drawn.date_r).size),
    )


def _estimate(drawn: Hidden, temporal: str, mix: Mix) -> Floats:
    if temporal == "nearest":
        return drawn.nearest_rb
    if temporal != "blend":
        return np.asarray(drawn.member_mrb[MEMBERS.index(temporal)])
    share_rm = knot_shares(drawn.gap_r) @ np.array(mix)
    return np.asarray(np.einsum("rm,mrb->rb", share_rm, drawn.member_mrb))


def _simplex(members: int, parts: int = 6) -> Floats:
    """All weights of the members in steps of 1 / parts."""
    counts = [c for c in product(range(parts + 1), repeat=members) if sum(c) == parts]
    return np.array(counts) / parts


def _mix(drawn: Hidden) -> Mix:
    """Per gap knot the members' weights, averaged over all mixtures by how well each did there.

    An average instead of the best: where mixtures are as good as each other, or looks are few, it stays in the middle.
    """
    candidates = _simplex(len(MEMBERS))
    if not drawn.gap_r.size:
        return DEFAULT_MIX
    scale_b = np.median(np.abs(drawn.truth_rb - drawn.member_mrb.mean(axis=0)), axis=0) + 1e-4
    share_rk = knot_shares(drawn.gap_r)
    loss_rc = np.empty((drawn.gap_r.size, len(candidates)))
    for c, weights in enumerate(candidates):
        miss = np.abs(drawn.truth_rb - np.einsum("m,mrb->rb", weights, drawn.member_mrb)) / scale_b
        loss_rc[:, c] = np.minimum(miss, 6.0).mean(axis=1)
    rows = []
    for k in range(len(KNOTS_DAYS)):
        dates = np.unique(drawn.date_r[share_rk[:, k] > 0.3]).size
        loss_c = share_rk[:, k] @ loss_rc / max(share_rk[:, k].sum(), 1e-9)
        worse_c = loss_c / max(loss_c.min(), 1e-9) - 1.0
        belief_c = np.exp(-2.0 * dates * worse_c)
        rows.append(tuple((belief_c @ candidates / belief_c.sum()).tolist()))
    return tuple(rows)


def _by_gap(residual_rb: Floats, gap_r: Floats, date_r: npt.NDArray[np.int64], bands: int) -> tuple[Floats, Floats]:
    """Quantiles (b, k, level) and standard deviations (b, k), never narrower at a longer gap."""
    growth_k = (np.array(KNOTS_DAYS) / 4.0) ** DEFAULT_POWER
    growth_r = (np.clip(gap_r, KNOTS_DAYS[0], KNOTS_DAYS[-1]) / 4.0) ** DEFAULT_POWER
    default_bk = np.outer(_level(residual_rb / growth_r[:, None], date_r, bands), growth_k)
    quantiles = np.empty((bands, len(KNOTS_DAYS), len(LEVELS)))
    sd = np.empty((bands, len(KNOTS_DAYS)))
    dates_k = np.zeros(len(KNOTS_DAYS))
    share_rk = knot_shares(gap_r)
    for k in range(len(KNOTS_DAYS)):
        near = share_rk[:, k] > 0.4
        dates_k[k] = np.unique(date_r[near]).size
        trust = dates_k[k] / (dates_k[k] + FEW_DATES)
        for b in range(bands):
            q, s = _measured(residual_rb[near, b], date_r[near])
            quantiles[b, k] = trust * q + (1 - trust) * default_bk[b, k] * np.array(NORMAL)
            sd[b, k] = trust * s + (1 - trust) * default_bk[b, k]
    for b in range(bands):
        for level in range(len(LEVELS)):
            sign = -1.0 if level < 2 else 1.0
            if level != 2:
                quantiles[b, :, level] = sign * _rising(sign * quantiles[b, :, level], dates_k + FEW_DATES)
        sd[b] = _rising(sd[b], dates_k + FEW_DATES)
    return quantiles, sd


def _level(unit_rb: Floats, date_r: npt.NDArray[np.int64], bands: int) -> Floats:
    """Standard deviation per band at a gap of 4 days, from all gaps together: the fallback of knots."""
    dates = np.unique(date_r).size
    trust = dates / (dates + FEW_DATES)
    return np.array([trust * _measured(unit_rb[:, b], date_r)[1] + (1 - trust) * DEFAULT_SD for b in range(bands)])


def _measured(residual_r: Floats, date_r: npt.NDArray[np.int64], even: float = 0.15) -> tuple[Floats, float]:
    """Quantiles at LEVELS and a clipped standard deviation, widened for the few dates behind them.

    Pixels of one date err together, so a sample is worth its dates. With `even` 1 every date weighs the same, with 0
    every pixel. Split conformal's ceil((n + 1) q) / n would take the
    largest residual of all up to 19 dates, in a sample where leaked cloud is the largest: instead the distances from 0
    grow as Student's 95 % quantile with that many degrees of freedom does over the normal one.
    """
    if not residual_r.size:
        return np.zeros(len(LEVELS)), 0.0
    _, of_date, per_date = np.unique(date_r, return_inverse=True, return_counts=True)
    weight_r = per_date[of_date] ** -even
    q = np.quantile(residual_r, LEVELS, weights=weight_r, method="inverted_cdf")
    q[1], q[3] = min(q[1], 0.0), max(q[3], 0.0)
    limit = 4.0 * max((q[3] - q[1]) / 1.349, (q[4] - q[0]) / 3.29 / 1.5)
    sd = float(np.sqrt(np.average(np.clip(residual_r - q[2], -limit, limit) ** 2, weights=weight_r) + q[2] ** 2))
    widen = float(student.ppf(0.95, per_date.size)) / Z90
    q[[0, 1, 3, 4]] *= widen
    q[0], q[4] = min(q[0], q[1]), max(q[4], q[3])
    return q, sd * widen


def _rising(values: Floats, weights: Floats) -> Floats:
    """The nearest non-decreasing sequence (pool adjacent violators)."""
    blocks: list[list[float]] = []
    for v, w in zip(values.tolist(), weights.tolist(), strict=True):
        blocks.append([v, w, 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            v2, w2, n2 = blocks.pop()
            v1, w1, n1 = blocks.pop()
            blocks.append([(v1 * w1 + v2 * w2) / (w1 + w2), w1 + w2, n1 + n2])
    return np.concatenate([np.full(int(n), v) for v, _, n in blocks])


def _prior(
    refl_tbyx: Int16, clear_tyx: npt.NDArray[np.bool_], last_bl: Floats, last_sd_b: Floats
) -> tuple[Floats, Floats]:
    """Spread without a look near by: that of the looks about their mean, and not less than at the longest gap."""
    bands = refl_tbyx.shape[1]
    sd = np.full(bands, PRIOR_SD)
    looks = np.count_nonzero(clear_tyx)
    if looks >= 3:
        for b in range(bands):
            values = refl_tbyx[:, b][clear_tyx][:: max(1, looks // 100_000)] * SCALE
            low, high = np.quantile(values, (0.05, 0.95))
            sd[b] = (looks * (high - low) / 3.29 + FEW_DATES * PRIOR_SD) / (looks + FEW_DATES)
    sd = np.maximum(sd, last_sd_b)
    wide = sd[:, None] * np.array(NORMAL)
    return np.where(np.array(LEVELS) < 0.5, np.minimum(wide, last_bl), np.maximum(wide, last_bl)), sd


def _scene_factors(parts: list[Overlaid], sd_bk: Floats) -> Floats:
    """Residuals after scene regression in units of the temporal standard deviation: (b, support knot, level + sd)."""
    default = np.tile(DEFAULT_FACTOR * np.append(NORMAL, 1.0), (len(sd_bk), len(SUPPORTS), 1))
    if not parts:
        return default
    unit_br = np.concatenate([p.residual_br / (sd_bk @ knot_shares(p.gap_r).T) for p in parts], axis=1)
    nearest_r = support_shares(np.concatenate([p.support_r for p in parts])).argmax(axis=1)
    date_r = np.concatenate([p.date_r for p in parts])
    out = default.copy()
    for s in range(len(SUPPORTS)):
        here = nearest_r == s
        dates = np.unique(date_r[here]).size
        trust = dates / (dates + FEW_DATES)
        for b in range(len(out)):
            q, sd = _measured(unit_br[b, here], date_r[here], even=1.0)
            out[b, s] = trust * np.append(q, sd) + (1 - trust) * default[b, s]
    return out


def support_shares(support: npt.NDArray[np.float32]) -> Floats:
    """Weights (..., support knot) of SUPPORTS for each support (...): linear in its logarithm."""
    at = np.interp(np.log(np.maximum(support, 1e-3)), np.log(SUPPORTS), np.arange(len(SUPPORTS)))
    return np.asarray(np.maximum(0.0, 1.0 - np.abs(at[..., None] - np.arange(len(SUPPORTS)))))
