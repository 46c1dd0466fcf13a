"""Spectral indices against their formulas written out, and their spread against drawn errors."""

import numpy as np
import pytest

from vsat.core.indices import INDICES, index, index_sd
from vsat.errors import InputError
from vsat.hls import BANDS

PLAIN = {
    "ndvi": lambda r: (r["nir"] - r["red"]) / (r["nir"] + r["red"]),
    "evi": lambda r: 2.5 * (r["nir"] - r["red"]) / (r["nir"] + 6 * r["red"] - 7.5 * r["blue"] + 1),
    "ndwi": lambda r: (r["green"] - r["nir"]) / (r["green"] + r["nir"]),
    "nbr": lambda r: (r["nir"] - r["swir2"]) / (r["nir"] + r["swir2"]),
}
FIELD = np.array([0.05, 0.08, 0.07, 0.35, 0.22, 0.12])  # of green crops, in the order of BANDS


def scene(seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return (FIELD[:, None, None] * rng.uniform(0.6, 1.4, (6, 9, 7))).astype(np.float32)


@pytest.mark.parametrize("name", INDICES)
def test_values_are_those_of_the_formula(name: str) -> None:
    refl = scene()
    want = PLAIN[name](dict(zip(BANDS, refl.astype(float), strict=True)))
    got = index(name, refl, BANDS)
    assert got.dtype == np.float32 and got.shape == (9, 7)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    assert set(INDICES[name].bands) <= set(INDICES[name].formula.replace("(", " ").replace(")", " ").split())


@pytest.mark.parametrize("name", INDICES)
def test_bands_go_by_name_and_any_axes_follow(name: str) -> None:
    refl, order = scene(), [3, 0, 5, 2, 1, 4]
    shuffled = index(name, refl[order], [BANDS[b] for b in order])
    assert np.array_equal(shuffled, index(name, refl, BANDS))
    assert np.array_equal(index(name, refl.reshape(6, -1), BANDS), shuffled.ravel())


@pytest.mark.parametrize("correlation", [0.0, 0.7])
@pytest.mark.parametrize("name", INDICES)
def test_the_spread_is_that_of_drawn_errors(name: str, correlation: float) -> None:
    sd = 0.03 * FIELD
    rng = np.random.default_rng(1)
    common, own = rng.standard_normal((1, 200_000)), rng.standard_normal((6, 200_000))
    errors = np.sqrt(correlation) * common + np.sqrt(1 - correlation) * own
    drawn = index(name, FIELD[:, None] + sd[:, None] * errors, BANDS).std()
    told = index_sd(name, FIELD[:, None], sd[:, None], BANDS, correlation=correlation)[0]
    assert told == pytest.approx(drawn, rel=0.03)


def test_what_is_no_measure_has_no_index() -> None:
    refl, sd = np.repeat(FIELD[:, None], 5, 1), np.repeat(0.1 * FIELD[:, None], 5, 1)
    refl[BANDS.index("nir"), 0] = np.nan
    refl[BANDS.index("red"), 1] = 0.0
    refl[BANDS.index("red"), 2] = -0.01
    sd[BANDS.index("nir"), 3] = np.nan
    assert np.isnan(index("ndvi", refl, BANDS)).tolist() == [True, True, True, False, False]
    assert np.isnan(index_sd("ndvi", refl, sd, BANDS)).tolist() == [True, True, True, True, False]
    snow = np.array([0.95, 0.93, 0.9, 0.8, 0.1, 0.08])[:, None]
    assert np.isnan(index("evi", snow, BANDS)).all() and np.isnan(index_sd("evi", snow, 0.1 * snow, BANDS)).all()


def test_what_cannot_be_is_named() -> None:
    with pytest.raises(InputError, match=r"no index 'gndvi'.*ndvi"):
        index("gndvi", scene(), BANDS)
    with pytest.raises(InputError, match="nbr needs swir2"):
        index("nbr", scene()[:5], BANDS[:5])
