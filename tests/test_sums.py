import numpy as np
import pytest
from scipy.stats import norm
from skimage.metrics import peak_signal_noise_ratio

from vsat.core.bootstrap import paired_ratio
from vsat.core.distribution import LEVELS, crps, interval, pit
from vsat.core.images import WINDOW_PX, ssim_adjusted, ssim_chip
from vsat.core.metrics import ndvi, psnr, score, seam_index, spectral_angle
from vsat.core.sums import finish, gather, merge

N = 3000


def drawn(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.02, 0.5, (6, N))
    sd = rng.uniform(0.005, 0.05, (6, N))
    estimate = truth + sd * rng.normal(size=(6, N))
    values = np.stack([estimate + norm.ppf(level) * sd for level in LEVELS])
    truth[2, :50], values[:, 3, 60:70] = np.nan, np.nan
    return values, truth, sd, rng.integers(0, 4, N)


def test_sums_come_to_the_plain_scores() -> None:
    values, truth, sd, _ = drawn()
    found = finish(gather(values, truth, sd))
    plain = score(values[2], truth, values[0], values[4])
    np.testing.assert_allclose(found.mae, plain.mae)
    np.testing.assert_allclose(found.median, plain.median, rtol=5e-3)
    np.testing.assert_allclose(found.rmse, plain.rmse)
    np.testing.assert_allclose(found.bias, plain.bias, atol=1e-12)
    np.testing.assert_allclose(found.cover_sb[2], plain.coverage)
    np.testing.assert_allclose(found.width_sb[2], plain.width)
    np.testing.assert_allclose(found.crps, np.nanmean(crps(values, truth), axis=1))
    low, high = interval(values, 0.8)
    known = np.isfinite(truth) & np.isfinite(low)
    held = np.where(known, (truth >= low) & (truth <= high), np.nan)
    np.testing.assert_allclose(found.cover_sb[1], np.nanmean(held, axis=1))
    levels = np.histogram(pit(values, truth)[known], 20, (0, 1))[0]
    np.testing.assert_allclose(found.pit, levels / levels.sum())
    assert found.sam_deg == pytest.approx(np.nanmean(spectral_angle(values[2], truth)))
    off = np.abs(ndvi(values[2][2], values[2][3]) - ndvi(truth[2], truth[3]))
    assert found.ndvi_mae == pytest.approx(np.nanmean(off))
    error = (values[2] - truth)[known]
    assert found.psnr_db == pytest.approx(peak_signal_noise_ratio(np.zeros(error.size), error, data_range=1.0))
    np.testing.assert_allclose(found.rmse_at_sd / found.sd, 1, atol=0.12)  # the draw is calibrated


def test_sums_of_parts_are_those_of_the_whole_and_groups_keep_apart() -> None:
    values, truth, sd, group = drawn()
    whole = gather(values, truth, sd, group, 4)
    parts = [gather(values[:, :, at], truth[:, at], sd[:, at], group[at], 4) for at in np.array_split(np.arange(N), 7)]
    np.testing.assert_allclose(finish(merge(parts)).crps, finish(whole).crps)
    for g in range(4):
        alone = gather(values[:, :, group == g], truth[:, group == g], sd[:, group == g])
        np.testing.assert_allclose(finish(whole, g).mae, finish(alone).mae)
        np.testing.assert_allclose(finish(whole, g).pit, finish(alone).pit)


def test_nothing_to_compare_is_nan_and_no_error() -> None:
    values, truth, sd, _ = drawn()
    found = finish(gather(values[:, :, :0], truth[:, :0], sd[:, :0]))
    assert np.isnan(found.mae).all() and np.isnan(found.sam_deg) and found.count.sum() == 0


def test_spectral_angles_by_hand() -> None:
    one, two = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]]), np.array([[0.0, 2.0, 1.0], [1.0, 2.0, 1.0]])
    found = spectral_angle(one, two)
    np.testing.assert_allclose(found[:2], [90.0, 0.0], atol=1e-5)
    assert np.isnan(found[2])
    assert psnr(1e-4) == pytest.approx(40.0)


def test_a_seam_shows_and_a_smooth_image_has_none() -> None:
    rng = np.random.default_rng(0)
    image = rng.random((2, 40, 40))
    assert seam_index(image, [20], [20]) == pytest.approx(1.0, abs=0.15)
    image[:, 20:] += 2.0
    assert seam_index(image, [20], []) > 4
    assert np.isnan(seam_index(np.ones((1, 4, 4)), [2], [2]))


def test_structure_is_judged_where_it_was_filled() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((3, 40, 40)) * 0.3
    mask = np.zeros((40, 40), bool)
    mask[:20, :20] = True
    flat = np.where(mask, truth.mean(), truth)
    assert ssim_adjusted(truth, truth, mask) == ssim_chip(truth, truth, mask) == pytest.approx(1.0)
    adjusted, chip = ssim_adjusted(flat, truth, mask), ssim_chip(flat, truth, mask)
    assert adjusted is not None and chip is not None and adjusted < 0.4 < chip
    unknown = truth.copy()
    unknown[:, 30:, 30:] = np.nan  # far from the mask: changes nothing for it
    assert ssim_adjusted(flat, unknown, mask) == pytest.approx(adjusted, abs=1e-6)
    small = (slice(None), slice(0, WINDOW_PX - 1), slice(0, 20))
    assert ssim_adjusted(flat[small], truth[small], mask[small[1:]]) is None


def test_the_chip_s_ssim_is_scikit_image_s() -> None:
    from skimage.metrics import structural_similarity

    rng = np.random.default_rng(1)
    truth = rng.random((2, 30, 30)) * 0.3
    made = truth + rng.normal(0, 0.05, truth.shape)
    whole = np.ones((30, 30), bool)
    # scikit-image's mean leaves a rim out, ours does not: compare the maps' insides
    wanted = np.mean([
        structural_similarity(t, m, data_range=0.5, gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
        for t, m in zip(truth, made, strict=True)
    ])  # fmt: skip
    assert ssim_chip(made, truth, whole) == pytest.approx(wanted, abs=0.02)


def test_a_ratio_by_hand_and_its_interval_covers_it() -> None:
    ratio, low, high = paired_ratio(np.array([1.0, 3.0]), np.array([2.0, 2.0]), ["a", "b"], ["x", "x"])
    assert ratio == 1.0 and (low, high) == (0.5, 1.5)
    assert paired_ratio(np.ones(1), np.full(1, 2.0), ["a"], ["x"]) == (0.5, None, None)


@pytest.mark.slow
def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    """Dates and blocks each have an effect of their own on both errors' ratio; the true ratio is .9."""
    rng, held = np.random.default_rng(0), 0
    dates, blocks = np.repeat(np.arange(25), 8), np.tile(np.arange(8), 25)
    for run in range(120):
        by_date, by_block = rng.normal(0, 0.15, 25), rng.normal(0, 0.1, 8)
        peer = rng.gamma(8, 1.0, 200)
        error = peer * 0.9 * (1 + by_date[dates] + by_block[blocks] + rng.normal(0, 0.1, 200))
        _, low, high = paired_ratio(error, peer, dates.astype(str), blocks.astype(str), draws=300, seed=run)  # type: ignore[arg-type]
        assert low is not None and high is not None
        held += low <= 0.9 <= high
    assert 0.88 <= held / 120 <= 1.0


def test_a_method_against_itself_has_ratio_one_exactly() -> None:
    error = np.random.default_rng(0).random(30)
    assert paired_ratio(error, error, [str(i % 6) for i in range(30)], [str(i % 3) for i in range(30)]) == (
        1.0,
        1.0,
        1.0,
    )
