import numpy as np
import pytest

from vsat.core.masks import clear
from vsat.core.strata import FEATURES, Survey, candidates, season_of, survey_scene
from vsat.hls import BANDS, SENSORS

SHAPE, CELL, LOOKS = (50, 61), 4, 9
RED, NIR = BANDS.index("red"), BANDS.index("nir")


def scenes(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    refl = rng.integers(200, 5000, (LOOKS, 6, *SHAPE)).astype(np.int16)
    cloud = np.repeat(np.repeat(rng.random((LOOKS, 5, 7)) < 0.5, 10, 1), 10, 2)[:, : SHAPE[0], : SHAPE[1]]
    fmask = np.where(cloud, 2, 64).astype(np.uint8)
    fmask[2, :20] = 255
    day = np.sort(rng.choice(np.arange(19000, 19090), LOOKS, replace=False)).astype(np.int32)
    return refl, fmask, day, rng.integers(0, 2, LOOKS).astype(np.uint8)


def survey(seed: int = 0, **static: np.ndarray) -> tuple[Survey, tuple[np.ndarray, ...]]:
    refl, fmask, day, sensor = scenes(seed)
    stats = [survey_scene(refl[t], fmask[t], CELL) for t in range(LOOKS)]
    return Survey.of(CELL, day, sensor, stats, static), (refl, fmask, day, sensor)


OPTIONS = {
    "size_px": 16, "stride_px": 8, "days": 60, "step_days": 15, "start_day": 19000, "most_looks": 50, "min_looks": 2,
    "min_clear": 0.05,
}  # fmt: skip


def test_features_are_those_of_the_pixels() -> None:
    """The plain twin: every candidate again, from its own pixels."""
    made, (refl, fmask, day, sensor) = survey()
    found = candidates(made, **OPTIONS)  # type: ignore[arg-type]
    assert len(found.top_n) > 40
    seen = clear(fmask, refl)
    value = (refl[:, NIR].astype(float) - refl[:, RED]) / (refl[:, NIR].astype(float) + refl[:, RED])
    for n in range(0, len(found.top_n), 7):
        y, x = slice(found.top_n[n], found.top_n[n] + 16), slice(found.left_n[n], found.left_n[n] + 16)
        inside = (day >= found.first_day_n[n]) & (day <= found.last_day_n[n])
        share = seen[:, y, x].mean(axis=(1, 2))
        kept = inside & (share >= 0.05)
        assert np.array_equal(np.unpackbits(found.look_nk[n], count=LOOKS).astype(bool), kept)
        assert found.looks_n[n] == kept.sum()
        here = dict(zip(found.names, found.features_nf[n], strict=True))
        ok = seen[:, y, x] & kept[:, None, None]
        ndvi = np.where(ok, value[:, y, x], np.nan)
        assert here["greenness"] == pytest.approx(np.nanmean(ndvi), abs=1e-5)
        assert here["brightness"] == pytest.approx(
            np.where(ok, refl[:, :, y, x].mean(axis=1), np.nan)[ok].mean() * 1e-4, abs=1e-5
        )
        within = np.concatenate([(ndvi[t][ok[t]] - ndvi[t][ok[t]].mean()) ** 2 for t in np.flatnonzero(kept)])
        assert here["heterogeneity"] == pytest.approx(np.sqrt(within.mean()), abs=1e-4)
        assert found.variability_n[n] == pytest.approx(np.nanstd(ndvi), abs=1e-4)
        assert here["sensors"] == pytest.approx((sensor[kept] == SENSORS.index("S30")).mean())
        valid = inside & (fmask[:, y, x] != 255).any(axis=(1, 2))
        assert here["clear"] == pytest.approx(share[inside].sum() / valid.sum(), abs=1e-5)
        stops = [found.first_day_n[n], *day[kept & (share >= 0.25)], found.last_day_n[n]]
        assert here["gap"] == np.diff(stops).max()


def test_of_many_looks_the_clearest_are_kept() -> None:
    made, (refl, fmask, day, _) = survey()
    found = candidates(made, **(OPTIONS | {"most_looks": 3}))  # type: ignore[arg-type]
    share = clear(fmask, refl)
    assert found.looks_n.max() == 3
    for n in range(0, len(found.top_n), 5):
        y, x = slice(found.top_n[n], found.top_n[n] + 16), slice(found.left_n[n], found.left_n[n] + 16)
        inside = (day >= found.first_day_n[n]) & (day <= found.last_day_n[n])
        of = share[:, y, x].mean(axis=(1, 2))
        kept = np.unpackbits(found.look_nk[n], count=LOOKS).astype(bool)
        assert of[kept].min() >= of[inside & ~kept].max(initial=0)


def test_windows_that_a_tile_does_not_own_are_none() -> None:
    made, _ = survey()
    owned = np.ones(SHAPE, bool)
    owned[:, 30:] = False
    found = candidates(made, owned_yx=owned, **OPTIONS)  # type: ignore[arg-type]
    assert found.left_n.size and found.left_n.max() + 16 <= 30


def test_static_rasters_are_means_and_nan_where_there_is_nothing() -> None:
    height = np.full((SHAPE[0] // CELL, SHAPE[1] // CELL), np.nan, np.float32)
    height[:6, :6] = np.arange(36).reshape(6, 6)
    made, _ = survey(elevation=height)
    found = candidates(made, **OPTIONS)  # type: ignore[arg-type]
    assert found.names == (*FEATURES, "elevation")
    first = found.features_nf[(found.top_n == 0) & (found.left_n == 0)][0]
    assert first[-1] == pytest.approx(height[:4, :4].mean())
    far = found.features_nf[(found.top_n == 32) & (found.left_n == 40)]
    assert far.size and np.isnan(far[:, -1]).all()


def test_windows_in_time_follow_the_step_and_end_by_the_last_look() -> None:
    made, (_, _, day, _) = survey()
    found = candidates(made, **OPTIONS)  # type: ignore[arg-type]
    starts = np.unique(found.first_day_n)
    assert (np.diff(starts) == 15).all()
    assert starts[0] == 19000 and (starts[1:] + 59 <= day.max()).all()


def test_no_scene_no_candidate() -> None:
    refl, _, day, sensor = scenes()
    stats = [survey_scene(refl[0], np.full(SHAPE, 2, np.uint8), CELL)]
    found = candidates(Survey.of(CELL, day[:1], sensor[:1], stats), **OPTIONS)  # type: ignore[arg-type]
    assert found.top_n.size == 0 and found.features_nf.shape == (0, len(FEATURES))


@pytest.mark.parametrize(
    ("text", "season"), [("2023-01-31", 0), ("2023-03-01", 1), ("2023-08-31", 2), ("2023-11-30", 3), ("2023-12-01", 0)]
)
def test_seasons_are_quarters_of_the_year_from_december(text: str, season: int) -> None:
    assert season_of(int(np.datetime64(text).astype(int))) == season
