"""Joint samples keep every pixel's distribution, and hang together as the errors of real looks do."""

import numpy as np
import pytest

from vsat.core.distribution import LEVELS, SCORES, quantile_at
from vsat.core.joint import Ties, draw_scores, measure_ties, samples
from vsat.hls import FILL


def cube(common: float, near: float, *, size: int = 40, looks: int = 40, seed: int = 0) -> tuple[np.ndarray, ...]:
    """A flat ground seen with errors of known ties."""
    rng = np.random.default_rng(seed)
    matrix = np.where(np.eye(3, dtype=bool), 1.0, 0.7)
    ties = Ties(tuple(map(tuple, matrix)), common, near, 6.0)
    z = np.stack([draw_scores(ties, (size, size), 1, rng)[0] for _ in range(looks)])
    refl = np.rint(2000 + 100 * z).astype(np.int16)
    return refl, np.ones((looks, size, size), bool), (np.arange(looks) * 7 + 17000).astype(np.int32)


def test_ties_are_found_again() -> None:
    refl, clear, day = cube(0.3, 0.5)
    found = measure_ties(refl, clear, day)
    assert found.common == pytest.approx(0.3, abs=0.15) and found.near == pytest.approx(0.5, abs=0.15)
    assert 3 <= found.length_px <= 12
    assert np.array(found.bands)[0, 1] == pytest.approx(0.7, abs=0.08)
    alone = measure_ties(*cube(0.0, 0.0))
    assert alone.common + alone.near < 0.1


def test_hidden_values_tie_nothing() -> None:
    refl, clear, day = cube(0.3, 0.5)
    clear[:, :10] = False
    other = refl.copy()
    other[:, :, :10] = FILL
    assert measure_ties(refl, clear, day) == measure_ties(other, clear, day)


def test_a_pixel_or_nothing_has_ties_too() -> None:
    refl, clear, day = cube(0.3, 0.5)
    one = measure_ties(refl[..., :1, :1], clear[:, :1, :1], day)
    assert np.linalg.eigvalsh(np.array(one.bands)).min() > 0
    none = measure_ties(refl, np.zeros_like(clear), day)
    assert draw_scores(none, (4, 5), 2, np.random.default_rng(0)).shape == (2, 3, 4, 5)


def test_scores_are_standard_normal_and_tied() -> None:
    ties = Ties(((1.0, 0.6), (0.6, 1.0)), 0.2, 0.6, 5.0)
    z = draw_scores(ties, (30, 30), 600, np.random.default_rng(1))
    assert z.mean() == pytest.approx(0, abs=0.05) and z.std() == pytest.approx(1, abs=0.03)
    assert np.corrcoef(z[:, 0].ravel(), z[:, 1].ravel())[0, 1] == pytest.approx(0.6, abs=0.03)
    for lag in (1, 5, 15):
        wanted = 0.2 + 0.6 * np.exp(-lag / 5.0)
        assert (z[..., lag:] * z[..., :-lag]).mean() == pytest.approx(wanted, abs=0.05)


def test_each_pixel_keeps_its_own_distribution() -> None:
    values = np.array([0.1, 0.15, 0.18, 0.25, 0.4])[:, None, None, None] * np.ones((1, 1, 1, 1))
    z = np.random.default_rng(2).standard_normal((20000, 1, 1, 1))
    drawn = samples(values, z)
    for level in LEVELS:
        assert np.quantile(drawn, level) == pytest.approx(float(quantile_at(values, level)[0, 0, 0]), abs=0.004)
    exact = samples(values, SCORES[:, None, None, None])
    assert exact.ravel() == pytest.approx(values.ravel(), abs=1e-6)


def test_a_look_of_the_day_is_in_every_sample_and_nothing_is_nothing() -> None:
    values = np.full((5, 1, 1, 2), 0.2, np.float32)
    values[..., 1] = np.nan
    drawn = samples(values, np.random.default_rng(3).standard_normal((7, 1, 1, 2)))
    assert (drawn[..., 0] == np.float32(0.2)).all() and np.isnan(drawn[..., 1]).all()
