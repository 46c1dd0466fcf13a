import numpy as np
import pytest
import scoringrules
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from vsat.core.distribution import LEVELS, crps, interval, pit, quantile_at


def normal(seed: int = 0, n: int = 500) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    mean, sd, truth = rng.normal(size=n), np.exp(rng.normal(size=n)), 3 * rng.normal(size=n)
    return np.stack([norm.ppf(level) * sd + mean for level in LEVELS]), truth, mean, sd


def test_a_normal_distribution_s_quantiles_give_its_scores() -> None:
    """Gneiting and Raftery (2007), in scoringrules."""
    values, truth, mean, sd = normal()
    np.testing.assert_allclose(crps(values, truth), scoringrules.crps_normal(truth, mean, sd), atol=1e-12)
    np.testing.assert_allclose(pit(values, truth), norm.cdf(truth, mean, sd), atol=1e-12)
    np.testing.assert_allclose(quantile_at(values, 0.9), norm.ppf(0.9, mean, sd), atol=1e-12)


def test_the_standard_normal_at_nought_by_hand() -> None:
    values = norm.ppf(LEVELS)[:, None]
    assert crps(values, np.zeros(1))[0] == pytest.approx((np.sqrt(2) - 1) / np.sqrt(np.pi))


def test_any_distribution_scores_as_a_large_sample_of_it() -> None:
    rng = np.random.default_rng(1)
    values, truth = np.sort(rng.normal(size=(5, 40)), axis=0), 2 * rng.normal(size=40)
    sample = np.stack([quantile_at(values, (i + 0.5) / 1000) for i in range(1000)], axis=-1)
    wanted = scoringrules.crps_ensemble(truth, sample, estimator="qd")
    np.testing.assert_allclose(crps(values, truth), wanted, atol=4e-3)


@settings(max_examples=100, deadline=None)
@given(values=st.lists(st.floats(-1, 2), min_size=5, max_size=5), truth=st.floats(-2, 3), shift=st.floats(-1, 1))
def test_scores_are_finite_positive_and_move_with_the_values(values: list[float], truth: float, shift: float) -> None:
    quantiles, true = np.sort(np.array(values))[:, None], np.array([truth])
    score = crps(quantiles, true)[0]
    assert 0 <= score <= abs(truth - quantiles[2, 0]) + np.ptp(quantiles) * 3 + 1e-6
    assert crps(quantiles + shift, true + shift)[0] == pytest.approx(score, abs=1e-6)
    assert 0 <= pit(quantiles, true)[0] <= 1
    low, high = interval(quantiles, 0.8)
    assert low <= high


def test_without_width_the_score_is_the_absolute_error() -> None:
    np.testing.assert_allclose(crps(np.zeros((5, 3)), np.array([0.5, -2.0, 0.0])), [0.5, 2.0, 0.0], atol=1e-8)


def test_intervals_of_what_was_given_are_what_was_given() -> None:
    values, _, _, _ = normal()
    np.testing.assert_allclose(interval(values, 0.9), (values[0], values[4]))
    np.testing.assert_allclose(interval(values, 0.5), (values[1], values[3]))


def test_what_is_missing_stays_missing() -> None:
    values, truth, _, _ = normal(n=3)
    truth[0], values[2, 1] = np.nan, np.nan
    assert np.isnan(crps(values, truth)).tolist() == np.isnan(pit(values, truth)).tolist() == [True, True, False]
