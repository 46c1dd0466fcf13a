"""Kriging against its equations written out, what it recovers, and what it must not see."""

from itertools import product

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from vsat.core import kriging
from vsat.core.kriging import krige
from vsat.core.spatial import regress
from vsat.hls import FILL, SCALE

BANDS = 3


def dn(refl: np.ndarray) -> np.ndarray:
    return np.rint(refl / SCALE).astype(np.int16)


def smooth(rng: np.random.Generator, size: int, sigma: float) -> np.ndarray:
    """A field of deviation 1."""
    field = gaussian_filter(rng.normal(size=(size, size)), sigma)
    return np.asarray(field / field.std())


def scene(seed: int = 0, size: int = 24) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Base, features, the date's look (a field that no feature knows, a slope in the base, noise), clear pixels."""
    rng = np.random.default_rng(seed)
    base = 0.15 + 0.04 * np.stack([smooth(rng, size, 3) for _ in range(BANDS)])
    alike = np.concatenate([base, base + 0.02 * np.stack([smooth(rng, size, 2) for _ in range(BANDS)])])
    field = np.stack([0.02 * smooth(rng, size, 5) for _ in range(BANDS)])
    look = base + field + 0.2 * (base - 0.15) + rng.normal(0, 0.002, base.shape)
    return dn(base), dn(alike), dn(look), smooth(rng, size, 4) > 0.3


def off(found: np.ndarray, truth: np.ndarray, where: np.ndarray) -> float:
    return float(np.abs(found - truth * SCALE)[:, where].mean())


# -- the plain twin


def plain_covariance(one_m2: np.ndarray, two_n2: np.ndarray, one_mk, two_nk, space_px: float, alike: float):
    near = np.exp(-np.sqrt(((one_m2[:, None] - two_n2[None]) ** 2).sum(-1)) / space_px)
    same = np.exp(-np.sqrt(((one_mk[:, None] - two_nk[None]) ** 2).sum(-1)) / alike)
    return (near + same + near * same) / 3


def plain_krige(base: np.ndarray, alike: np.ndarray, look: np.ndarray, clear: np.ndarray):
    """Estimate and standard error of every pixel: both means and all lengths tried by their full likelihood."""
    bands, height, width = base.shape
    y, x = np.mgrid[:height, :width]
    where = np.column_stack([y.ravel(), x.ravel()]).astype(float)
    at = np.flatnonzero(clear)
    flat, rest = base.reshape(bands, -1).T * SCALE, (look.astype(float) - base).reshape(bands, -1).T[at] * SCALE
    features = alike.reshape(len(alike), -1).T * SCALE
    features = features / (features[at].std(axis=0) + kriging.FLOOR) / np.sqrt(len(alike))
    low, high = np.quantile(flat[at], (0.01, 0.99), axis=0)
    terms = np.column_stack([np.ones(len(flat)), np.clip(flat, low, high) - flat[at].mean(axis=0)])
    level = np.zeros((bands + 1, bands))
    level[0] = np.median(rest, axis=0)
    ridge = kriging.RIDGE * np.diag([1e-9] + [1.0] * bands)
    slopes = np.linalg.solve(terms[at].T @ terms[at] + ridge, terms[at].T @ rest)
    some = np.linspace(0, len(at) - 1, min(kriging.TRIED, len(at))).astype(int)
    best = (-np.inf, level, (0.0, 0.0, 0.0))
    for mean, price in ((level, 0), (slopes, bands**2)):
        left = (rest - terms[at] @ mean)[some]
        for space_px, like, noise in product(kriging.SPACE_PX, kriging.ALIKE, kriging.NOISE):
            a, b = where[at[some]], features[at[some]]
            cov = plain_covariance(a, a, b, b, space_px, like) + noise * np.eye(len(some))
            fit = -float(price) - bands / 2 * np.linalg.slogdet(cov)[1]
            for r in left.T:
                fit -= len(some) / 2 * np.log(r @ np.linalg.solve(cov, r) / len(some) + 1e-9)
            best = max(best, (fit, mean, (space_px, like, noise)), key=lambda one: one[0])
    _, mean, (space_px, like, noise) = best
    a, b, left = where[at], features[at], rest - terms[at] @ mean
    cov = plain_covariance(a, a, b, b, space_px, like) + noise * np.eye(len(at))
    cross = plain_covariance(where, a, features, b, space_px, like)
    scale = np.sqrt((left * np.linalg.solve(cov, left)).mean(axis=0) + 1e-9)
    spread = np.sqrt(1 + noise - (cross * np.linalg.solve(cov, cross.T).T).sum(axis=1))
    estimate = flat + terms @ mean + cross @ np.linalg.solve(cov, left)
    return estimate.T.reshape(base.shape), (scale[:, None] * spread).reshape(base.shape)


@pytest.mark.parametrize("seed", [0, 1])
def test_against_the_equations_written_out(seed: int) -> None:
    base, alike, look, clear = scene(seed)
    assert kriging.TRIED < clear.sum() < kriging.SAMPLE
    done = krige(base, alike, look, clear)
    estimate, error = plain_krige(base, alike, look, clear)
    assert done.used
    assert done.refl_byx.dtype == done.error_byx.dtype == np.float32
    np.testing.assert_allclose(done.refl_byx, estimate, atol=1e-5, rtol=0)
    np.testing.assert_allclose(done.error_byx, error, atol=1e-5, rtol=0)


def test_more_pixels_than_one_chunk_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = scene(2)
    whole = krige(*parts)
    monkeypatch.setattr(kriging, "CHUNK", 100)
    np.testing.assert_allclose(krige(*parts).refl_byx, whole.refl_byx, atol=1e-6, rtol=0)


# -- what it recovers


def test_exact_on_clear_pixels_when_there_is_no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    base, alike, look, clear = scene(3)
    loud = krige(base, alike, look, clear)
    monkeypatch.setattr(kriging, "NOISE", (1e-6,))
    exact = krige(base, alike, look, clear)
    assert np.abs(exact.refl_byx - look * SCALE)[:, clear].max() < 1e-4
    departure = float(np.abs((look - base) * SCALE)[:, clear].mean())
    assert off(loud.refl_byx, look, clear) < 0.15 * departure, "with noise it smooths, a little"


def test_next_to_clear_pixels_it_is_nearly_exact() -> None:
    rng = np.random.default_rng(4)
    base = dn(np.full((BANDS, 24, 24), 0.1))
    look = base + dn(np.stack([0.03 * smooth(rng, 24, 6) for _ in range(BANDS)]))
    clear = np.indices((24, 24)).sum(axis=0) % 2 == 0
    found = krige(base, base, look, clear).refl_byx
    assert off(found, look, ~clear) < 0.1 * off(base * SCALE, look, ~clear)


def test_a_planted_field_is_found_again() -> None:
    """A field that neither the base nor any record knows, seen through a quarter of the pixels."""
    share = []
    for seed in range(4):
        rng = np.random.default_rng(100 + seed)
        base, alike, _, _ = scene(seed)
        truth = base + dn(np.stack([0.03 * smooth(rng, 24, 3) for _ in range(BANDS)]))
        look, clear = truth + dn(rng.normal(0, 0.001, truth.shape)), rng.random((24, 24)) < 0.25
        found, peer = krige(base, alike, look, clear), regress(base, look, clear)
        hidden = ~clear
        before, scened = off(base * SCALE, truth, hidden), off(peer.refl_byx, truth, hidden)
        assert off(found.refl_byx, truth, hidden) < 0.6 * before
        share.append(off(found.refl_byx, truth, hidden) / scened)
    assert max(share) < 0.6


def test_what_befell_a_class_is_known_far_away() -> None:
    """Four classes in strips; the clear quarter shows what befell each, the records say who is which. No map of the base does."""
    rng = np.random.default_rng(5)
    kind = rng.integers(0, 4, (6, 6)).repeat(4, axis=0).repeat(4, axis=1)
    gain = rng.permutation([0.04, -0.03, 0.02, -0.04])[kind]
    season = np.stack([0.2 + 0.05 * c[kind] for c in rng.normal(size=(2 * BANDS, 4))])
    base = dn(np.full((BANDS, 24, 24), 0.15) + rng.normal(0, 0.004, (BANDS, 24, 24)))
    alike = np.concatenate([base, dn(season + rng.normal(0, 0.004, season.shape))])
    truth = base + dn(gain)
    clear = np.zeros((24, 24), bool)
    clear[:, :8] = True
    assert all((kind[clear] == c).any() for c in range(4))
    look, far = truth + dn(rng.normal(0, 0.002, truth.shape)), np.indices((24, 24))[1] >= 14
    found, peer = krige(base, alike, look, clear), regress(base, look, clear)
    assert off(found.refl_byx, truth, far) < 0.5 * off(base * SCALE, truth, far)
    assert off(found.refl_byx, truth, far) < 0.5 * off(peer.refl_byx, truth, far)


# -- what it does not see, and where it says nothing


def test_values_under_cloud_are_never_used() -> None:
    base, alike, look, clear = scene(6)
    other = np.where(clear, look, np.random.default_rng(0).integers(-9999, 16000, look.shape)).astype(np.int16)
    one, two = krige(base, alike, look, clear), krige(base, alike, other, clear)
    assert one.refl_byx.tobytes() == two.refl_byx.tobytes()
    assert one.error_byx.tobytes() == two.error_byx.tobytes()


@pytest.mark.parametrize("seen", [0, 1, kriging.LEAST_CLEAR - 1, kriging.LEAST_CLEAR])
def test_too_few_clear_pixels_say_nothing(seen: int) -> None:
    base, alike, look, _ = scene(7)
    base[:, 0, 0] = FILL
    clear = np.zeros(base.shape[1:], bool)
    clear.ravel()[: seen + 1] = True  # the first has no base and does not count
    done = krige(base, alike, look, clear)
    assert done.used == (seen >= kriging.LEAST_CLEAR)
    if not done.used:
        here = (base != FILL).all(axis=0)
        np.testing.assert_array_equal(done.refl_byx[:, here], base[:, here] * np.float32(SCALE))
        assert np.isnan(done.refl_byx[:, ~here]).all()
        assert np.isnan(done.error_byx).all()


def test_nothing_where_there_is_no_estimate() -> None:
    base, alike, look, clear = scene(8)
    base[:, 5:8, 5:8] = FILL
    alike[2, 20, :4] = FILL
    done = krige(base, alike, look, clear)
    no_base, not_alike = (base == FILL).any(axis=0), (alike == FILL).any(axis=0)
    assert np.isnan(done.refl_byx[:, no_base]).all()
    np.testing.assert_array_equal(done.refl_byx[:, not_alike], base[:, not_alike] * np.float32(SCALE))
    assert np.isnan(done.error_byx[:, no_base | not_alike]).all()
    rest = ~(no_base | not_alike)
    assert np.isfinite(done.refl_byx[:, rest]).all()
    assert (done.error_byx[:, rest] > 0).all()


def test_a_date_that_is_as_expected_stays_as_it_is() -> None:
    base, alike, _, clear = scene(9)
    done = krige(base, alike, base, clear)
    np.testing.assert_allclose(done.refl_byx, base * SCALE, atol=1e-6)
    assert done.error_byx.max() < 1e-3


def test_same_seed_same_bytes() -> None:
    base, alike, look, _ = scene(10, size=32)
    clear = np.indices((32, 32))[1] < 20
    assert clear.sum() > kriging.SAMPLE
    one, two, other = (krige(base, alike, look, clear, seed=seed) for seed in (1, 1, 2))
    assert one.refl_byx.tobytes() == two.refl_byx.tobytes()
    assert one.error_byx.tobytes() == two.error_byx.tobytes()
    assert one.refl_byx.tobytes() != other.refl_byx.tobytes()
    assert off(other.refl_byx, dn(one.refl_byx), ~clear) < 0.3 * off(base * SCALE, look, ~clear)


def test_clear_pixels_that_were_not_solved_for_draw_it_near(monkeypatch: pytest.MonkeyPatch) -> None:
    base, alike, look, clear = scene(12, size=48)
    fine = 0.02 * smooth(np.random.default_rng(12), 48, 1.5)
    look = dn(look * SCALE + fine)
    clear &= np.indices((48, 48)).sum(axis=0) % 7 > 0  # holes with neighbours
    near = (gaussian_filter(clear.astype(float), 1.5) > 0.5) & ~clear
    assert clear.sum() > 2 * kriging.SAMPLE and near.sum() > 50
    drawn = krige(base, alike, look, clear)
    monkeypatch.setattr(kriging, "HELD", 1e9)
    alone = krige(base, alike, look, clear)
    assert off(drawn.refl_byx, look, near) < 0.9 * off(alone.refl_byx, look, near)
    far = gaussian_filter(clear.astype(float), 3.0, truncate=3.0) == 0
    np.testing.assert_allclose(drawn.refl_byx[:, far], alone.refl_byx[:, far], atol=1e-6)


def test_where_all_clear_pixels_are_solved_for_nothing_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = scene(0)
    assert parts[3].sum() < kriging.SAMPLE
    before = krige(*parts).refl_byx
    monkeypatch.setattr(kriging, "HELD", 1e-3)
    np.testing.assert_array_equal(krige(*parts).refl_byx, before)


# -- its standard error


def test_standard_errors_hold_on_data_of_the_model() -> None:
    z = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        base = 0.15 + 0.03 * rng.normal(size=(BANDS, 22, 22))
        alike = dn(np.concatenate([base, 0.2 + 0.05 * np.stack([smooth(rng, 22, 3) for _ in range(2)])]))
        where = np.indices((22, 22)).reshape(2, -1).T.astype(float)
        features = alike.reshape(len(alike), -1).T * SCALE
        features = features / (features.std(axis=0) + kriging.FLOOR)
        cov = plain_covariance(where, where, features, features, 12.0, 6.0) + 0.25 * np.eye(len(where))
        rest = 0.02 * np.linalg.cholesky(cov) @ rng.normal(size=(len(where), BANDS))
        look = dn(base + rest.T.reshape(base.shape))
        clear = smooth(rng, 22, 3) > 0
        done = krige(dn(base), alike, look, clear)
        z.append(((look * SCALE - done.refl_byx) / done.error_byx)[:, ~clear].ravel())
    inside = np.abs(np.concatenate(z)) < 1.645
    assert 0.86 < inside.mean() < 0.94


def test_standard_errors_grow_away_from_clear_pixels() -> None:
    base, _, look, _ = scene(11)
    clear = np.indices((24, 24))[1] < 6
    plainly = krige(base, dn(np.full((1, 24, 24), 0.2)), look, clear).error_byx
    column = plainly.mean(axis=(0, 1))
    assert (np.diff(column[5:]) > 0).all()
    assert column[-1] > 1.2 * column[:6].mean()
