"""The synthetic prior: the same patch for the same index always, and ground and sky that behave like some place."""

import numpy as np
import pytest

from vsat.core.masks import clear
from vsat.hls import FILL, FMASK_FILL, SCALE, SENSORS, Fmask
from vsat.model import prior_ground
from vsat.model.prior import Air, Prior, PriorPatch, _sky, _windows
from vsat.model.prior_ground import YEAR, field, ground

BLUE, GREEN, RED, NIR, SWIR1, SWIR2 = range(6)
COUNT, SIZE = 60, 16
THREE_YEARS = np.arange(12000, 12000 + 1096, 8)

Made = tuple[np.ndarray, np.ndarray, np.ndarray]  # labels (y, x), reflectance (t, 6, y, x), snow (t, y, x)


def same(one: PriorPatch, two: PriorPatch) -> bool:
    names = ("refl_tbyx", "fmask_tyx", "day_t", "sensor_t")
    return all(getattr(one, name).tobytes() == getattr(two, name).tobytes() for name in names)


@pytest.fixture(scope="module")
def patches() -> list[PriorPatch]:
    prior = Prior(seed=20, length=COUNT)
    return [prior.read(n) for n in range(COUNT)]


@pytest.fixture(scope="module")
def grounds() -> list[Made]:
    return [made(seed) for seed in range(40)]


def made(seed: int, day_t: np.ndarray = THREE_YEARS) -> Made:
    """The bare ground of three years, and the parcels it was made of: these are drawn first."""
    label = prior_ground._parcels(np.random.default_rng(seed), SIZE).reshape(SIZE, SIZE)
    refl, snow = ground(np.random.default_rng(seed), SIZE, day_t)
    return label, refl.reshape(-1, 6, SIZE, SIZE), snow.reshape(-1, SIZE, SIZE)


def only(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """From now on nothing but these covers the ground."""
    monkeypatch.setattr(prior_ground, "COVERS", {name: prior_ground.COVERS[name] for name in names})


def ndvi(refl_tbyx: np.ndarray) -> np.ndarray:
    return np.asarray((refl_tbyx[:, NIR] - refl_tbyx[:, RED]) / (refl_tbyx[:, NIR] + refl_tbyx[:, RED]))


# -- which patch


def test_seed_and_index_alone_decide_a_patch(patches: list[PriorPatch]) -> None:
    prior = Prior(seed=20, length=COUNT)
    prior.read(3)
    assert same(prior.read(7), patches[7]), "whatever was read before"
    assert same(Prior(seed=20, first=5).read(2), patches[7]), "counted from the first on"
    assert not same(Prior(seed=21).read(7), patches[7])
    assert len({patch.refl_tbyx.tobytes() for patch in patches}) == COUNT


def test_it_says_which_patch_it_is_and_how_many_there_are() -> None:
    prior = Prior(seed=3, length=11, first=100)
    assert len(prior) == 11
    assert prior.name(4) == "prior 3, patch 104"


@pytest.mark.parametrize(("size_px", "most_looks"), [(8, 24), (24, 100), (4, 6)])
def test_size_and_looks_are_as_asked(size_px: int, most_looks: int) -> None:
    for n in range(5):
        patch = Prior(seed=1, size_px=size_px, most_looks=most_looks).read(n)
        assert patch.refl_tbyx.shape == (len(patch.day_t), 6, size_px, size_px)
        assert 0 < len(patch.day_t) <= most_looks


# -- what every patch is


def test_shapes_types_and_what_missing_means(patches: list[PriorPatch]) -> None:
    for patch in patches:
        looks = len(patch.day_t)
        assert patch.refl_tbyx.shape == (looks, 6, SIZE, SIZE)
        assert patch.fmask_tyx.shape == (looks, SIZE, SIZE)
        assert patch.sensor_t.shape == (looks,)
        assert patch.ground_tbyx.shape == patch.refl_tbyx.shape
        kinds = (patch.refl_tbyx.dtype, patch.fmask_tyx.dtype, patch.day_t.dtype, patch.sensor_t.dtype)
        assert kinds == (np.int16, np.uint8, np.int32, np.uint8)
        none = patch.fmask_tyx == FMASK_FILL
        np.testing.assert_array_equal(patch.refl_tbyx == FILL, none[:, None].repeat(6, axis=1))
        assert set(np.unique(patch.fmask_tyx[~none])) <= {0, Fmask.CLOUD, Fmask.SNOW, Fmask.CLOUD | Fmask.SNOW}
        assert set(patch.sensor_t) <= set(range(len(SENSORS)))
    outside = [(patch.fmask_tyx == FMASK_FILL).mean() for patch in patches]
    assert 0.02 < np.mean(np.array(outside) > 0) < 0.3


def test_days_ascend_and_a_sensor_looks_once_a_day(patches: list[PriorPatch]) -> None:
    for patch in patches:
        assert (np.diff(patch.day_t) >= 0).all()
        assert patch.day_t[0] > 0
        assert patch.day_t[-1] < 30_000
        assert len(set(zip(patch.day_t, patch.sensor_t, strict=True))) == len(patch.day_t)


def test_reflectance_is_possible(patches: list[PriorPatch]) -> None:
    for patch in patches:
        seen = patch.refl_tbyx[patch.refl_tbyx != FILL]
        assert seen.min() >= -500
        assert seen.max() <= 16000
        is_clear = clear(patch.fmask_tyx, patch.refl_tbyx)
        snowy = patch.ground_tbyx[:, GREEN] > 0.5
        for where, most in ((is_clear, 1.0), (is_clear & ~snowy, 0.8)):
            refl = patch.refl_tbyx.transpose(1, 0, 2, 3)[:, where] * SCALE
            if refl.size:
                assert (np.median(refl, axis=1) > 0).all()
                assert (np.quantile(refl, 0.9, axis=1) < most).all()


# -- how many, how long, how clear


def test_looks_spans_and_clouds_are_many_kinds(patches: list[PriorPatch]) -> None:
    looks = np.array([len(patch.day_t) for patch in patches])
    span = np.array([patch.day_t[-1] - patch.day_t[0] for patch in patches])
    share = np.array([clear(patch.fmask_tyx).mean() for patch in patches])
    assert looks.min() >= 8
    assert looks.max() <= 110
    assert 20 < np.median(looks) < 70
    assert span.min() > 20
    assert span.max() <= 4501
    assert 150 < np.median(span) < 700
    assert 0.05 < (span > 1600).mean() < 0.35
    assert 0.4 < share.mean() < 0.8
    assert share.std() > 0.12
    assert share.min() < 0.3
    assert share.max() > 0.7
    sensors = {tuple(sorted(set(patch.sensor_t))) for patch in patches}
    assert sensors == {(0,), (1,), (0, 1)}
    both = np.mean([len(set(patch.sensor_t)) == 2 for patch in patches])
    assert 0.2 < both < 0.65


def test_cloud_lies_in_patches(patches: list[PriorPatch]) -> None:
    """Looks are clear, overcast, or in between, and in between neighbours share it."""
    cloud = np.concatenate([(patch.fmask_tyx & Fmask.CLOUD > 0) & (patch.fmask_tyx < 255) for patch in patches])
    share = cloud.mean(axis=(1, 2))
    assert 0.03 < (share == 0).mean() < 0.7
    assert 0.03 < (share == 1).mean() < 0.7
    partly = cloud[(share > 0.2) & (share < 0.8)]
    assert len(partly) > 50
    assert (partly[:, :, 1:] == partly[:, :, :-1]).mean() > 0.8


# -- the ground


def test_parcels_have_edges(grounds: list[Made]) -> None:
    """What lies within a parcel is more alike than what lies in two."""
    ratios = []
    for label, refl, _ in grounds:
        parcels = np.unique(label)
        if parcels.size > 1:
            rest = refl - refl.mean(axis=(2, 3), keepdims=True)
            mean = np.stack([rest[:, :, label == k].mean(axis=2) for k in parcels], axis=-1)
            inside = rest - mean[..., np.searchsorted(parcels, label)]
            ratios.append(((rest**2).mean() - (inside**2).mean()) / (inside**2).mean())
    assert len(ratios) > 30
    assert np.median(ratios) > 1
    assert np.mean(np.array(ratios) > 1) > 0.5


def test_neighbours_are_more_alike_than_far_pixels(grounds: list[Made]) -> None:
    near, far = [], []
    for _, refl, _ in grounds:
        departure = refl - refl.mean(axis=(2, 3), keepdims=True)
        near.append(float((departure[..., 1:] * departure[..., :-1]).mean() / (departure**2).mean()))
        far.append(float((departure[..., 10:] * departure[..., :-10]).mean() / (departure**2).mean()))
    assert np.median(near) > 0.7
    assert np.mean(np.array(near) > np.array(far)) > 0.9
    assert np.median(near) > np.median(far) + 0.3


def test_years_are_alike_but_not_the_same(grounds: list[Made]) -> None:
    """A year's wave explains much of the green of many patches, and not all of it."""
    angle = 2 * np.pi * THREE_YEARS / YEAR
    waves = np.stack([np.ones(len(angle)), *(f(k * angle) for k in (1, 2) for f in (np.sin, np.cos))], axis=1)
    explained = []
    for _, refl, _ in grounds:
        green = ndvi(refl).mean(axis=(1, 2))
        rest = green - waves @ np.linalg.lstsq(waves, green, rcond=None)[0]
        explained.append(1 - rest.var() / green.var())
    assert np.median(explained) > 0.4
    assert np.max(explained) > 0.8
    assert np.mean(np.array(explained) < 0.95) > 0.7


def test_crops_come_and_go_and_evergreens_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    swing: dict[str, float] = {}
    for name in ("crop", "evergreen"):
        with monkeypatch.context() as here:
            only(here, name)
            found = [np.ptp(np.quantile(ndvi(made(seed)[1]), (0.05, 0.95), axis=0), axis=0).mean() for seed in range(8)]
        swing[name] = float(np.median(found))
    assert swing["crop"] > 0.35
    assert swing["evergreen"] < 0.6 * swing["crop"]


def test_water_is_dark_in_the_infrared(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "water")
    found = [made(seed) for seed in range(12)]
    level = np.median([np.median(refl, axis=(0, 2, 3)) for _, refl, _ in found], axis=0)
    assert level[NIR] < 0.06
    assert level[SWIR2] < 0.03
    assert level[NIR] < level[GREEN]
    assert not any(snow.any() for _, _, snow in found), "snow melts on water"


def test_snow_is_bright_but_not_in_the_short_wave(grounds: list[Made]) -> None:
    deep = [(refl, snow) for _, refl, snow in grounds if (snow > 0.8).sum() > 100]
    assert 3 <= len(deep) < len(grounds) / 2
    for refl, snow in deep:
        white, bare = snow > 0.8, snow == 0
        assert np.median(refl[:, BLUE][white]) > 0.5
        assert np.median(refl[:, SWIR1][white]) < 0.25
        assert np.median(refl[:, BLUE][white]) > 2 * np.median(refl[:, BLUE][bare])
        north, south = ((first < THREE_YEARS % YEAR) & (first + 100 > THREE_YEARS % YEAR) for first in (140, 322))
        in_summer = min(white[north].sum(), white[south].sum())  # of the north, or of the south
        assert in_summer < 0.1 * white.sum()


# -- the sky


def test_snow_is_flagged_where_it_is_seen_usually() -> None:
    """By the normalised snow index of Hall et al. 1995, on looks without cloud."""
    flagged = []
    for n in range(160):
        patch = Prior(seed=4, size_px=8).read(n)
        refl = patch.refl_tbyx * SCALE
        seen = patch.fmask_tyx & np.uint8(Fmask.CLOUD) == 0
        index = (refl[:, GREEN] - refl[:, SWIR1]) / np.maximum(refl[:, GREEN] + refl[:, SWIR1], 0.01)
        snowy = seen & (index > 0.4) & (refl[:, GREEN] > 0.4)
        bare = seen & (index < 0) & (refl[:, BLUE] < 0.12)
        bit = patch.fmask_tyx & np.uint8(Fmask.SNOW) > 0
        assert bit[bare].mean() < 0.1 if bare.sum() > 100 else True
        if snowy.sum() > 60:
            flagged.append(float(bit[snowy].mean()))
    assert len(flagged) >= 8
    assert 0.5 < np.mean(np.array(flagged) > 0.9) < 0.9


def test_some_cloud_and_shadow_is_missed_by_the_mask(patches: list[PriorPatch]) -> None:
    bright = dark = all_clear = 0
    for patch in patches:
        is_clear = clear(patch.fmask_tyx, patch.refl_tbyx)
        blue, nir = patch.refl_tbyx[:, BLUE] * SCALE, patch.refl_tbyx[:, NIR] * SCALE
        with np.errstate(invalid="ignore"):
            typical = [np.ma.median(np.ma.array(band, mask=~is_clear), axis=0) for band in (blue, nir)]
        bright += int((is_clear & (blue > typical[0] + 0.1).filled(False)).sum())
        dark += int((is_clear & (nir < 0.5 * typical[1]).filled(False) & (blue < 0.8 * typical[0]).filled(False)).sum())
        all_clear += int(is_clear.sum())
    assert 0.003 < bright / all_clear < 0.06
    assert 0.0005 < dark / all_clear < 0.06


def test_looks_carry_noise_and_what_is_common_to_a_date(patches: list[PriorPatch]) -> None:
    """Between looks a day apart or less of one patch the ground has not moved: what differs is air and instrument."""
    common, single = [], []
    for patch in patches:
        is_clear = clear(patch.fmask_tyx, patch.refl_tbyx)
        for t in np.flatnonzero(np.diff(patch.day_t) <= 1):
            both = is_clear[t] & is_clear[t + 1]
            if both.sum() > 60:
                apart = (patch.refl_tbyx[t + 1].astype(float) - patch.refl_tbyx[t])[:, both] * SCALE
                common.append(np.abs(np.median(apart, axis=1)).mean())
                single.append((np.abs(apart - np.median(apart, axis=1, keepdims=True))).mean())
    assert len(common) >= 10
    assert 0.002 < np.median(common) < 0.03
    assert 0.001 < np.median(single) < 0.02


# -- other skies

SOME = {"view": 0.02, "orbit": 0.01, "band": 0.005, "haze": 0.008, "noise": 0.002, "own": 0.01, "uneven": 0.02}
QUIET = dict.fromkeys(SOME, 0.0)


def air(leak: float, sizes: dict[str, float], gain: float = 1.0, dark: float = 0.0) -> Air:
    rising, blue = np.linspace(0.7, 1.3, 6), np.array((1, 0.8, 0.62, 0.35, 0.2, 0.13))
    return Air(rising, rising[::-1], blue, np.full(6, gain), np.full(6, dark), leak=leak, **sizes)


def seen_of(one: Air, seed: int, level_b: np.ndarray) -> np.ndarray:
    """Two pixels far apart of 100 looks at bare and even ground, (100, 6, 2), as a record's own looks are made."""
    rng, days, size = np.random.default_rng(seed), 12000 + 8 * np.arange(100), 8
    flat = (len(days), size * size)
    smooth = _windows(rng, field(rng, 2 * size, longest=40), len(days), size).reshape(flat)[:, [0, -1]]
    veil = _sky(rng, size, days, one.leak)[1].reshape(flat)[:, [0, -1]]
    return one.seen(rng, np.tile(level_b[:, None], (100, 1, 2)), np.zeros(100, np.uint8), smooth, veil)


@pytest.mark.parametrize("leak", [0.0, 0.1, 1.0])
def test_other_skies_are_like_those_that_are_seen(leak: float) -> None:
    one, level_b = air(leak, SOME, gain=1.02, dark=0.004), np.array((0.05, 0.08, 0.09, 0.3, 0.25, 0.15), np.float32)
    seen = np.concatenate([seen_of(one, seed, level_b) for seed in range(60)])
    grounds = np.tile(level_b[:, None], (500, 1, 2))
    again = one.again(np.random.default_rng(1), grounds, np.zeros(500, np.uint8), 12)
    assert again.shape == (12, 500, 6, 2)
    assert again.dtype == np.float32
    for b in range(6):
        these, those = seen[:, b].ravel(), again[:, :, b].ravel()
        spread = np.ptp(np.quantile(these, (0.16, 0.84))) / 2
        assert abs(np.ptp(np.quantile(those, (0.16, 0.84))) / 2 / spread - 1) < 0.1
        assert abs(those.mean() - these.mean()) < 0.1 * spread
        assert abs(np.median(those) - np.median(these)) < 0.1 * spread


def test_where_the_mask_misses_nothing_no_other_sky_has_a_veil() -> None:
    """But for the look in fifty that is wrong as a whole."""
    grounds, none = np.full((400, 6, 3), 0.2, np.float32), np.zeros(400, np.uint8)
    same_as_ground = {
        leak: np.isclose(air(leak, QUIET).again(np.random.default_rng(2), grounds, none, 3), 0.2)
        .all(axis=(2, 3))
        .mean()
        for leak in (0.0, 1.0)
    }
    assert same_as_ground[0.0] > 0.96
    assert same_as_ground[1.0] < 0.5


def test_every_sky_is_over_its_own_ground_and_sensor() -> None:
    grounds = np.random.default_rng(3).uniform(0.1, 0.4, (50, 6, 4)).astype(np.float32)
    sensor = (np.arange(50) % 2).astype(np.uint8)
    found = air(0.0, QUIET, gain=1.1, dark=0.01).again(np.random.default_rng(4), grounds, sensor, 3)
    gain, dark = (np.where(sensor == 1, one, other)[:, None, None] for one, other in ((1.1, 0.9), (0.01, -0.01)))
    right = np.isclose(found, grounds * gain + dark, rtol=1e-5).all(axis=(2, 3))
    assert (right.mean(axis=1) > 0.85).all()
    noisy = air(0.0, SOME).again(np.random.default_rng(4), grounds, sensor, 3)
    assert (noisy[0] != noisy[1]).all()
    assert (noisy[1] != noisy[2]).all()


def test_what_was_seen_is_the_ground_through_the_air(patches: list[PriorPatch]) -> None:
    off = []
    for patch in patches:
        is_clear = clear(patch.fmask_tyx, patch.refl_tbyx)
        if is_clear.sum() > 500:
            apart = (patch.refl_tbyx * SCALE - patch.ground_tbyx).transpose(1, 0, 2, 3)[:, is_clear]
            off.append(float(np.median(np.abs(apart)) / np.median(patch.ground_tbyx)))
    assert len(off) > 30
    assert np.median(off) < 0.1
    assert np.max(off) < 0.4
