"""Scene regression against the plain protocol form, and its guards."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from vsat.core import spatial
from vsat.core.spatial import regress, regress_scene
from vsat.hls import FILL, SCALE


def scene(seed: int = 0, size: int = 64) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Base, the date's truth (an affine map of it and a smooth haze), and a cloud-free half."""
    rng = np.random.default_rng(seed)
    fields = gaussian_filter(rng.normal(size=(4, size, size)), (0, 3, 3))
    fields /= fields.std()
    base = 1500 + 300 * np.tensordot(rng.normal(size=(4, 4)), fields, 1)
    haze = gaussian_filter(rng.normal(size=(size, size)), 12)
    truth = 1.2 * base - 150 + 60 * haze / haze.std() + rng.normal(0, 10, base.shape)
    cloud = gaussian_filter(rng.normal(size=(size, size)), 6)
    return base.astype(np.int16), truth.astype(np.int16), cloud > 0


def plain(base: np.ndarray, truth: np.ndarray, clear: np.ndarray) -> np.ndarray:
    """The reference: least squares on all clear pixels, then normalised convolution (EVIDENCE 1)."""
    base, truth = base * SCALE, truth * SCALE
    bands = len(base)
    a = np.column_stack([*(b[clear] for b in base), np.ones(clear.sum())])
    full = np.stack([*base, np.ones(clear.shape)], axis=-1)
    fitted = base.copy()
    for b in range(bands):
        fitted[b] = full @ np.linalg.solve(a.T @ a + 1e-3 * np.eye(bands + 1), a.T @ truth[b][clear])
    up, down = np.zeros_like(base), np.full(clear.shape, 1e-2)
    for sigma, weight in zip(spatial.SIGMAS_PX, spatial.SIGMA_WEIGHTS, strict=True):
        up += weight * np.stack(
            [gaussian_filter(np.where(clear, truth[b] - fitted[b], 0), sigma) for b in range(bands)]
        )
        down += weight * gaussian_filter(clear.astype(float), sigma)
    return fitted + up / down


def error(found: np.ndarray, truth: np.ndarray, where: np.ndarray) -> float:
    return float(np.abs(found - truth * SCALE)[:, where].mean())


def test_as_good_as_the_plain_form_on_clean_data() -> None:
    base, truth, clear = scene()
    found = regress_scene(base, truth, clear)
    assert found.dtype == np.float32
    reference = error(plain(base, truth, clear), truth, ~clear)
    assert error(found, truth, ~clear) < 1.1 * reference
    assert error(found, truth, ~clear) < 0.3 * error(base * SCALE, truth, ~clear)


def test_better_than_the_plain_form_where_the_mask_leaks() -> None:
    base, truth, clear = scene(1)
    leaky = truth.copy()
    leaky[:, 20:28, 20:30] += 3000
    found, reference = regress_scene(base, leaky, clear), plain(base, leaky, clear)
    away = ~clear
    away[10:40, 10:40] = False
    assert error(found, truth, away) < 0.7 * error(reference, truth, away)


@pytest.mark.parametrize("seen", [0, 1, 29])
def test_too_few_clear_pixels_say_nothing(seen: int) -> None:
    base, truth, _ = scene(2)
    clear = np.zeros(base.shape[1:], bool)
    clear.ravel()[:seen] = True
    done = regress(base, truth, clear)
    assert not done.used
    np.testing.assert_array_equal(done.refl_byx, base.astype(np.float32) * np.float32(SCALE))


def test_values_under_cloud_are_never_used() -> None:
    base, truth, clear = scene(3)
    other = np.where(clear, truth, np.int16(FILL))
    np.testing.assert_array_equal(regress_scene(base, truth, clear), regress_scene(base, other, clear))


def test_missing_base_stays_missing_and_harms_nobody() -> None:
    base, truth, clear = scene(4)
    holed = base.copy()
    holed[:, 5:9, 5:9] = FILL
    found = regress_scene(holed, truth, clear)
    assert np.isnan(found[:, 5:9, 5:9]).all()
    found[:, 5:9, 5:9] = 0
    assert np.isfinite(found).all()


def test_no_wild_extrapolation_from_a_uniform_clear_part() -> None:
    """Clear only over dark water: bright land must not be sent anywhere by slopes fitted on water's noise."""
    rng = np.random.default_rng(5)
    base = np.full((6, 40, 40), 200) + rng.integers(-4, 5, (6, 40, 40))
    base[:, :, 20:] += 3000
    truth = base + 100 + rng.integers(-30, 31, base.shape)
    clear = np.zeros((40, 40), bool)
    clear[:, :8] = True
    found = regress_scene(base.astype(np.int16), truth.astype(np.int16), clear)
    assert np.abs(found - truth * SCALE)[:, :, 20:].max() < 0.02


def test_constant_bands_do_not_break_the_solve() -> None:
    base = np.full((6, 20, 20), 1000, np.int16)
    found = regress_scene(base, base + np.int16(50), np.ones((20, 20), bool))
    np.testing.assert_allclose(found, 0.105, atol=1e-4)


@pytest.mark.parametrize("sigma", [16.0, 50.0])
@pytest.mark.parametrize("shape", [(700, 530), (520, 90)])
def test_coarse_filters_equal_fine_ones(sigma: float, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(6)
    image = (gaussian_filter(rng.normal(size=shape), 20) > 0).astype(np.float32)
    fine = gaussian_filter(image, sigma, truncate=4.0)
    np.testing.assert_allclose(spatial._gauss(image, sigma), fine, atol=0.006)
