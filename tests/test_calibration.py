"""Spreads: as wide as errors are, wider with longer gaps, never a crash on little data."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from vsat.core.calibration import LEVELS, Spread, _rising, calibrate
from vsat.core.looks import KNOTS_DAYS, bridge_days, knot_shares, merge_days, neighbours
from vsat.core.temporal import MEMBERS, members
from vsat.methods import CLASSICAL


def walk(seed: int, looks: int = 120, size: int = 12, step: float = 25.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels that wander like a random walk in time, seen with a little noise under patchy cloud."""
    rng = np.random.default_rng(seed)
    day = np.sort(rng.choice(900, looks, replace=False)).astype(np.int32)
    path = np.cumsum(rng.normal(0, step, (900, 2, size, size)), axis=0)[day] + 3000
    clear = rng.random((looks, size // 4, size // 4)).repeat(4, 1).repeat(4, 2) < 0.6
    return (path + rng.normal(0, 10, path.shape)).astype(np.int16), clear, day


@pytest.mark.parametrize("method", CLASSICAL)
def test_quantiles_are_ordered_and_widen_with_the_gap(method: str) -> None:
    spread = calibrate(*walk(0), method=method)
    q = np.array(spread.quantiles)
    assert q.shape == (2, len(KNOTS_DAYS), len(LEVELS))
    assert (np.diff(q[..., [0, 1, 3, 4]], axis=-1) >= 0).all()
    assert (q[..., 1] <= 0).all()
    assert (q[..., 3] >= 0).all()
    assert (np.diff(q[..., 0], axis=1) <= 1e-12).all()
    assert (np.diff(q[..., 4], axis=1) >= -1e-12).all()
    assert (np.diff(np.array(spread.sd), axis=1) >= -1e-12).all()
    assert np.array(spread.sd)[:, -1].min() > 2 * np.array(spread.sd)[:, 0].max()
    assert len(spread.scene) == (2 if method.endswith("+scene") else 0)


def test_json_round_trip() -> None:
    spread = calibrate(*walk(1), method="blend+scene")
    assert Spread.from_json(json.loads(json.dumps(asdict(spread)))) == spread


def test_same_seed_same_spread() -> None:
    assert calibrate(*walk(2), method="blend+scene", seed=5) == calibrate(*walk(2), method="blend+scene", seed=5)
    assert calibrate(*walk(2), method="blend", seed=5) != calibrate(*walk(2), method="blend", seed=6)


def test_standard_deviation_follows_the_errors() -> None:
    """Twice the wandering, about twice the spread at long gaps."""
    one, two = (calibrate(*walk(3, step=step), method="linear") for step in (20.0, 40.0))
    assert 1.6 < np.array(two.sd)[:, -2].mean() / np.array(one.sd)[:, -2].mean() < 2.4


def test_leaked_cloud_does_not_blow_up_the_standard_deviation() -> None:
    refl, clear, day = walk(4)
    leaky = refl.copy()
    leaky[::23] += 5000
    clean, dirty = (calibrate(r, clear, day, method="whittaker") for r in (refl, leaky))
    assert np.array(dirty.sd)[:, 2].max() < 0.5 * 0.5 * np.sqrt(1 / 23)  # half of what unclipped residuals would give
    assert np.array(dirty.sd)[:, 2].min() >= 0.8 * np.array(clean.sd)[:, 2].min()


@pytest.mark.parametrize("looks", [0, 1, 3, 30])
@pytest.mark.parametrize("method", ["blend+scene", "linear"])
def test_a_single_pixel_with_few_looks_is_wide_not_broken(looks: int, method: str) -> None:
    rng = np.random.default_rng(0)
    refl = rng.integers(900, 1100, (looks, 6, 1, 1)).astype(np.int16)
    spread = calibrate(refl, np.ones((looks, 1, 1), bool), np.arange(looks, dtype=np.int32) * 9, method=method)
    sd = np.array(spread.sd)
    assert np.isfinite(sd).all()
    assert np.isfinite(np.array(spread.quantiles)).all()
    assert (np.array(spread.prior_sd) >= sd[:, -1]).all()
    if looks < 4:
        assert sd.min() > 0.005


def test_the_blend_prefers_what_is_right() -> None:
    """A pure yearly wave with gaps is the harmonic's; its estimate carries most of the weight in long gaps."""
    rng = np.random.default_rng(7)
    day = np.arange(0, 1400, 12, dtype=np.int32)
    wave = 3000 + 1500 * np.sin(2 * np.pi * day / 365.25)[:, None, None, None]
    refl = (wave + rng.normal(0, 60, (len(day), 2, 6, 6))).astype(np.int16)
    mix = np.array(calibrate(refl, np.ones((len(day), 6, 6), bool), day, method="blend").mix)
    np.testing.assert_allclose(mix.sum(axis=1), 1)
    seasonal = mix[:, [MEMBERS.index("harmonic"), MEMBERS.index("departures")]].sum(axis=1)
    assert seasonal[4:].min() > 0.6


@pytest.mark.parametrize("method", ["linear", "blend"])
def test_intervals_cover_looks_that_calibration_never_saw(method: str) -> None:
    refl, clear, day = walk(8, looks=160)
    held = np.arange(10, 150, 9)
    context = clear.copy()
    context[held] = False
    spread = calibrate(refl, context, day, method=method)
    looks = merge_days(refl.reshape(160, 2, -1), context.reshape(160, -1), day.astype(np.int64))
    query = day[held].astype(np.int64)
    last, following, _ = neighbours(looks.clear_tn, looks.day_t, query, -1)
    found = members(looks, query, last, following, -1)
    before, after = query[:, None] - looks.day_t[last], looks.day_t[following] - query[:, None]
    shares = knot_shares(bridge_days(np.where(last < 0, -1, before), np.where(following < 0, -1, after)))
    weights = np.array(spread.mix) if method == "blend" else np.eye(len(MEMBERS))[[0] * len(KNOTS_DAYS)]
    estimate = np.einsum("qnk,km,mqbn->qbn", shares, weights, np.stack(found).astype(float)) * 1e-4
    q = np.array(spread.quantiles)
    low, high = (np.einsum("qnk,bk->qbn", shares, q[..., level]) for level in (0, 4))
    error = refl[held].reshape(len(held), 2, -1) * 1e-4 - estimate
    ok = np.broadcast_to(clear[held].reshape(len(held), 1, -1), error.shape)
    assert 0.84 < ((error >= low) & (error <= high))[ok].mean() < 0.97


def test_rising_is_the_nearest_rising_sequence() -> None:
    values = np.array([1.0, 3.0, 2.0, 2.0, 5.0, 4.0])
    found = _rising(values, np.ones(6))
    assert (np.diff(found) >= 0).all()
    np.testing.assert_allclose(found, [1, 7 / 3, 7 / 3, 7 / 3, 4.5, 4.5])
