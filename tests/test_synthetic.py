"""The synthetic world: the same bytes always, a ground that behaves like land, masks that err."""

import hashlib
import subprocess
import sys
from datetime import date, timedelta
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsat.core import clouds
from vsat.core.landscape import CONIFER, DECIDUOUS, GARDEN, KINDS, MEADOW, ROTATING, ground
from vsat.core.seasons import parcel_spectra, snow_depth, sun
from vsat.core.synthetic import PASS, Landscape, angles, observe, schedule, snow_cover, truth
from vsat.hls import BANDS, FILL, FMASK_FILL, SCALE, Fmask

LAND = Landscape(7, (128, 128))
YEAR = date(2024, 1, 1), date(2024, 12, 31)
BLUE, GREEN, RED, NIR, SWIR1, SWIR2 = range(6)
MASKED = Fmask.CLOUD | Fmask.ADJACENT | Fmask.SHADOW


def ndvi(refl):
    return (refl[NIR] - refl[RED]) / (refl[NIR] + refl[RED])


DIGEST = """
import hashlib, sys
from datetime import date
from vsat.core.synthetic import Landscape, observe, schedule
land, digest = Landscape(7, (128, 128)), {}
for day, sensor in schedule(land, date(2024, 5, 1), date(2024, 5, 31))[::-1]:
    look = observe(land, day, sensor)
    digest[day, sensor] = look.refl_byx.tobytes() + look.fmask_yx.tobytes()
print(hashlib.sha256(b"".join(digest[key] for key in sorted(digest))).hexdigest())
"""


def test_a_day_is_the_same_to_the_byte_in_another_process_and_order():
    here = hashlib.sha256()
    for day, sensor in schedule(LAND, date(2024, 5, 1), date(2024, 5, 31)):
        look = observe(LAND, day, sensor)
        here.update(look.refl_byx.tobytes() + look.fmask_yx.tobytes())
    there = subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == here.hexdigest()


def test_another_seed_is_another_land():
    day = date(2024, 6, 1)
    assert np.abs(truth(LAND, day) - truth(Landscape(8, LAND.shape), day)).mean() > 0.02


def test_both_sensors_pass_as_their_orbits_have_it():
    looks = schedule(LAND, *YEAR)
    for sensor, every in (("L30", 8), ("S30", 5)):
        days = [day for day, name in looks if name == sensor]
        assert {(b - a).days for a, b in pairwise(days)} == {every}
    assert looks == sorted(looks)
    day, sensor = looks[0]
    assert observe(LAND, day + timedelta(1), sensor) is None


@given(st.integers(0, 10_000), st.tuples(st.integers(16, 50), st.integers(16, 50)), st.integers(0, 700))
@settings(max_examples=15, deadline=None)
def test_every_world_has_legal_values(seed, shape, later):
    land = Landscape(seed, shape)
    day, sensor = schedule(land, date(2023, 1, 1) + timedelta(later), date(2025, 12, 31))[0]
    look, clean = observe(land, day, sensor), truth(land, day)
    assert clean.dtype == np.float32 and np.isfinite(clean).all() and clean.min() > 0 and clean.max() < 1
    assert look.refl_byx.dtype == np.int16 and look.refl_byx.shape == (6, *shape)
    assert look.fmask_yx.dtype == np.uint8 and look.fmask_yx.shape == shape
    unseen = look.fmask_yx == FMASK_FILL
    assert ((look.refl_byx == FILL) == unseen).all()
    assert (look.fmask_yx[~unseen] & 1 == 0).all(), "v2 does not use the cirrus bit"
    assert look.refl_byx[:, ~unseen].max(initial=0) <= 16000 and look.refl_byx[:, ~unseen].min(initial=0) >= -500
    assert 0 <= look.cloud_cover <= 100


def test_land_has_water_town_forest_and_fields_that_look_like_it_in_every_band():
    g, refl = ground(LAND), truth(LAND, date(2024, 7, 1))
    water, town = g.water_yx > 0.95, (g.built_yx > 0.7) & (g.water_yx == 0)
    plain = (g.water_yx + g.built_yx + g.road_yx) < 0.02
    kind = np.where(plain, g.kind_p[g.parcel_yx], 99)
    assert water.sum() > 50 and town.sum() > 50 and np.isin(kind, range(ROTATING)).mean() > 0.25
    assert np.quantile(refl[NIR][water], 0.9) < 0.08 < np.quantile(refl[NIR][plain], 0.01)
    assert refl[RED][town].mean() > 0.08
    assert refl[NIR][kind == CONIFER].mean() < 0.75 * refl[NIR][kind == DECIDUOUS].mean()
    assert ndvi(refl)[kind == DECIDUOUS].mean() > 0.7 > ndvi(refl)[town].mean()
    assert GARDEN in g.kind_p[g.parcel_yx[town]] and MEADOW in kind


def test_seasons_turn_on_trees_and_fields():
    g = ground(LAND)
    plain = (g.water_yx + g.built_yx + g.road_yx) < 0.02
    kind = np.where(plain, g.kind_p[g.parcel_yx], 99)
    months = [ndvi(truth(LAND, date(2023, month, 15), snow=False)) for month in range(1, 13)]
    leaves = [m[kind == DECIDUOUS].mean() for m in months]
    assert min(leaves[5:8]) > max(leaves[0], leaves[1], leaves[11]) + 0.2
    evergreen = [m[kind == CONIFER].mean() for m in months]
    assert max(evergreen) - min(evergreen) < 0.15
    crops = np.stack([m[kind < ROTATING] for m in months])
    assert np.ptp(crops, axis=0).mean() > 0.4, "fields go from bare to full cover"
    assert len(set(crops.argmax(axis=0))) >= 4, "not all crops peak in the same month"


def test_harvest_is_sudden_and_most_days_are_quiet():
    days = [date(2024, 7, 1) + timedelta(n) for n in range(140)]
    refl_tpb = np.stack([parcel_spectra(LAND, ground(LAND), day)[0] for day in days])
    step = np.abs(np.diff(refl_tpb, axis=0))[:, ground(LAND).kind_p < ROTATING]
    assert np.median(step) < 0.004
    assert (step.max(axis=(0, 2)) > 0.03).mean() > 0.8, "nearly every field changes within a day once"
    lifted = np.diff(ndvi(np.moveaxis(refl_tpb[90:], -1, 0)), axis=0)[:, ground(LAND).kind_p < ROTATING].min(axis=0)
    assert (lifted < -0.3).mean() > 0.05, "beet goes from green to bare"


def test_second_crops_grow_after_early_harvests():
    g, name = ground(LAND), KINDS.index("barley+catch")
    year = 2024
    here = (g.kind_p < ROTATING) & ((g.kind_p.astype(int) + year % ROTATING) % ROTATING == name)
    series = [ndvi(parcel_spectra(LAND, g, date(year, month, 20))[0].T)[here].mean() for month in (5, 8, 10)]
    assert series[0] > 0.6 and series[1] < 0.4 and series[2] > series[1] + 0.2


def test_fire_burns_forest_on_its_day_and_nothing_before():
    spared, day = Landscape(7, LAND.shape, fire=date(2030, 1, 1)), LAND.fire
    before = day - timedelta(1)
    assert truth(LAND, before).tobytes() == truth(spared, before).tobytes()
    burn = ground(LAND).burn_yx
    lost = truth(spared, day) - truth(LAND, day)
    assert (lost[NIR][burn > 0.7] > 0.08).all() and (burn > 0.7).sum() > 20
    assert np.abs(lost[:, burn == 0]).max() < 0.1, "only the blur at its edge"
    later = truth(spared, day + timedelta(600)) - truth(LAND, day + timedelta(600))
    assert later[NIR][burn > 0.7].mean() < 0.8 * lost[NIR][burn > 0.7].mean(), "it grows back"


def test_snow_lies_on_winter_days_only_and_can_be_left_out():
    days = [YEAR[0] + timedelta(n) for n in range(366)]
    snowy = [day for day in days if snow_depth(LAND, day) > 0]
    assert 5 < len(snowy) < 60 and {day.month for day in snowy} <= {11, 12, 1, 2, 3}
    deepest = max(snowy, key=lambda day: snow_depth(LAND, day))
    cover = snow_cover(LAND, deepest)
    assert cover.max() > 0.7 and cover[ground(LAND).water_yx == 1].max() == 0
    assert truth(LAND, deepest)[BLUE].mean() > truth(LAND, deepest, snow=False)[BLUE].mean() + 0.2
    assert truth(LAND, date(2024, 7, 1)).tobytes() == truth(LAND, date(2024, 7, 1), snow=False).tobytes()


def test_snow_is_flagged_where_it_can_be_seen():
    looks = [look for look in schedule(LAND, date(2020, 11, 1), date(2026, 3, 31)) if snow_depth(LAND, look[0]) > 0.6]
    seen = [(observe(LAND, *look).fmask_yx, snow_cover(LAND, look[0])) for look in looks[:8]]
    flagged = sum(int(((fmask & Fmask.SNOW) > 0).sum()) for fmask, _ in seen)
    assert flagged > 0
    for fmask, cover in seen:
        valid = fmask != FMASK_FILL
        assert (cover[valid & ((fmask & Fmask.SNOW) > 0)] > 0.1).all()
        assert (((fmask & Fmask.SNOW) > 0) & ((fmask & Fmask.CLOUD) > 0) & valid).sum() == 0


def test_half_of_the_looks_are_mostly_cloudy_and_winters_are_worse():
    covers, winter, summer = [], [], []
    for seed in range(10):
        land = Landscape(seed, (32, 32))
        for day in (date(2024, 1, 1) + timedelta(n) for n in range(0, 366, 3)):
            share = clouds.cover(land, day)
            covers.append(share)
            (winter if day.month in (11, 12, 1, 2) else summer if day.month in (5, 6, 7, 8) else covers).append(share)
    assert 0.4 < np.mean(np.array(covers) > 0.5) < 0.6
    assert np.mean(winter) > np.mean(summer) + 0.15
    assert np.mean(np.array(covers) < 0.1) > 0.12, "there are clear days"


def displacement(one, other):
    """Where `one` has gone in `other`: rows and columns of the peak of their correlation (periodic)."""
    spectrum = np.conj(np.fft.rfft2(one - one.mean())) * np.fft.rfft2(other - other.mean())
    peak = np.unravel_index(int(np.fft.irfft2(spectrum, one.shape).argmax()), one.shape)
    return [int((p + n // 2) % n - n // 2) for p, n in zip(peak, one.shape, strict=True)]


def test_shadows_fall_away_from_the_sun():
    land, found = Landscape(7, (256, 256)), 0
    for day in (date(2024, 5, 1) + timedelta(n) for n in range(90)):
        sky = clouds.sky(land, day, 10.5)
        if 0.15 < (sky.alpha_yx > 0.3).mean() < 0.6 and sky.alpha_yx.min() == 0:
            down, right = displacement(sky.alpha_yx, sky.shade_yx)
            azimuth = np.radians(sun(land, day, 10.5)[1])
            assert np.hypot(down, right) > 3
            assert down * np.cos(azimuth) - right * np.sin(azimuth) > 0.9 * np.hypot(down, right)
            found += 1
    assert found >= 5


def test_clouds_move_between_two_looks_of_a_day():
    land, moved = Landscape(7, (256, 256)), []
    for day in (date(2024, 5, 1) + timedelta(n) for n in range(60)):
        first, second = (clouds.sky(land, day, hour).alpha_yx for hour in (10.0, 10.05))
        if 0.2 < first.mean() < 0.7:
            down, right = displacement(first, second)
            moved.append(np.hypot(down, right))
    assert len(moved) >= 5 and 1 < np.median(moved) < 200


def test_masks_err_as_fmask_does():
    """Called clear and seen through cloud or shadow: some per cent. Called cloud and clear: some, too."""
    leaked = called_clear = wrongly = clear_ground = 0
    for seed in (1, 2, 4, 7, 20, 42):
        land = Landscape(seed, (96, 96))
        for day, sensor in schedule(land, *YEAR)[::2]:
            fmask, ground_byx = observe(land, day, sensor).fmask_yx, truth(land, day)
            seen_byx = clouds.through(clouds.sky(land, day, PASS[sensor][2]), ground_byx)
            spoilt = np.abs(seen_byx - ground_byx)[:4].mean(axis=0) > 0.02
            valid = fmask != FMASK_FILL
            is_clear = valid & (fmask & MASKED == 0)
            leaked, called_clear = leaked + (spoilt & is_clear).sum(), called_clear + is_clear.sum()
            wrongly += (valid & ~spoilt & ((fmask & Fmask.CLOUD) > 0)).sum()
            clear_ground += (valid & ~spoilt).sum()
    assert 0.02 < leaked / called_clear < 0.06
    assert 0.003 < wrongly / clear_ground < 0.08


def test_clear_looks_are_close_to_the_truth_and_sensors_differ():
    errors, ratio = [], {"L30": [], "S30": []}
    for day, sensor in schedule(LAND, *YEAR):
        look = observe(LAND, day, sensor)
        sky = clouds.sky(LAND, day, PASS[sensor][2])
        clear = (look.fmask_yx & MASKED == 0) & (look.fmask_yx != FMASK_FILL) & (sky.alpha_yx + sky.shade_yx < 0.01)
        if clear.sum() > 500:
            seen, clean = look.refl_byx[:, clear] * SCALE, truth(LAND, day)[:, clear]
            errors.append(np.abs(seen - clean).mean(axis=1))
            ratio[sensor].append(seen[NIR].mean() / clean[NIR].mean())
    mean = np.mean(errors, axis=0)
    assert (mean < 0.02).all() and (mean > 0.001).all(), dict(zip(BANDS, mean, strict=True))
    assert min(len(v) for v in ratio.values()) >= 5
    assert np.std(ratio["S30"]) > np.std(ratio["L30"]), "wider swath, more view angle"


def test_swath_ends_in_the_area_on_some_orbits_unless_told_not_to():
    looks = [look for look in schedule(LAND, *YEAR) if look[1] == "S30"]
    partial = [(observe(LAND, *look).fmask_yx == FMASK_FILL).mean() for look in looks[:12]]
    assert sum(share > 0 for share in partial) == 3 and max(partial) < 0.7
    whole = Landscape(7, LAND.shape, swath_edge=False)
    assert all((observe(whole, *look).fmask_yx != FMASK_FILL).all() for look in looks[:12])


@pytest.mark.parametrize(("day", "zenith"), [(date(2024, 6, 21), 26.6), (date(2024, 12, 21), 73.4)])
def test_the_sun_stands_where_it_does_at_noon(day, zenith):
    assert sun(LAND, day, 12.0) == (pytest.approx(zenith, abs=0.3), pytest.approx(180, abs=0.5))
    assert sun(LAND, day, 10.0)[1] < 180
    assert angles(LAND, day, "L30")[2] < 5
