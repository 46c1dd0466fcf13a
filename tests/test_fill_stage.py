"""`predict` and `vsat fill`: a user's cube in, the promised variables out, clear looks unchanged."""

from datetime import date, datetime
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from vsat.errors import AllCloudy, InputError
from vsat.methods import CLASSICAL
from vsat.stages.fill import fill_file, predict

DAYS = np.array(
    ["2020-03-01", "2020-03-17", "2020-03-17", "2020-04-02", "2020-04-18", "2020-05-04", "2020-05-20"], "datetime64[ns]"
)


def cube(seed: int = 0) -> xr.Dataset:
    """Seven looks, two of them of one day, at 12 x 10 pixels; the fourth is half cloudy."""
    rng = np.random.default_rng(seed)
    season = 1500 + 400 * np.sin(np.arange(7) / 3)
    refl = (season[:, None, None, None] + rng.normal(0, 30, (7, 6, 12, 10))).astype(np.int16)
    fmask = np.full((7, 12, 10), 64, np.uint8)
    fmask[3, :6] |= 2
    fmask[5] = 255
    refl[5] = -9999
    return xr.Dataset(
        {"reflectance": (("time", "band", "y", "x"), refl, {"scale_factor": 1e-4}), "fmask": (("time", "y", "x"), fmask)},
        coords={
            "time": DAYS, "sensor": ("time", ["L30", "S30", "L30", "S30", "L30", "S30", "L30"]),
            "band": ["blue", "green", "red", "nir", "swir1", "swir2"], "y": np.arange(12.0)[::-1], "x": np.arange(10.0),
        },
    )  # fmt: skip


@pytest.mark.parametrize("method", CLASSICAL)
def test_every_method_gives_the_promised_variables(method: str) -> None:
    out = predict(cube(), [date(2020, 4, 10), date(2020, 3, 17), date(2020, 4, 10)], method=method)  # type: ignore[arg-type]
    assert out["time"].values.astype("datetime64[D]").tolist() == [date(2020, 3, 17), date(2020, 4, 10)]
    for name in ("reflectance", "sd", "p05", "p25", "p75", "p95"):
        assert out[name].dims == ("time", "band", "y", "x") and out[name].dtype == np.float32
        assert np.isfinite(out[name]).all()
    assert out["origin"].dims == ("time", "y", "x") and out["origin"].dtype == np.uint8
    assert out["age"].dims == ("time", "look", "y", "x") and out["look"].values.tolist() == ["last", "next", "count"]
    assert (out["p05"] <= out["p25"]).all() and (out["p25"] <= out["p75"]).all() and (out["p75"] <= out["p95"]).all()
    assert (out["sd"].values[1] > 0).all() and (out["origin"].values[1] == 1).all()


def test_clear_looks_pass_through_unchanged_and_cloud_does_not() -> None:
    source = cube()
    out = predict(source, [date(2020, 3, 17), date(2020, 4, 2)])
    refl = source["reflectance"].values.astype(np.float32) * np.float32(1e-4)
    assert np.array_equal(out["reflectance"].values[0], refl[1])  # the first of the day's two looks
    assert np.array_equal(out["reflectance"].values[1][:, 6:], refl[3][:, 6:])
    assert (out["origin"].values[1, 6:] == 0).all() and (out["origin"].values[1, :6] == 1).all()
    assert not out["sd"].values[1][:, 6:].any() and (out["sd"].values[1][:, :6] > 0).all()


def test_hidden_looks_have_no_influence() -> None:
    plain, altered = cube(), cube()
    altered["reflectance"].values[3, :, :6] = 9000
    for day in (date(2020, 4, 2), date(2020, 4, 10)):
        assert predict(plain, [day]).equals(predict(altered, [day]))


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_fill_file_reads_and_writes_both_forms(tmp_path: Path, suffix: str) -> None:
    source, out = tmp_path / f"cube{suffix}", tmp_path / f"out{suffix}"
    cube().to_netcdf(source) if suffix == ".nc" else cube().to_zarr(source, zarr_format=2)
    filled = fill_file(source, out, every=16, method="linear")
    opened = xr.open_dataset(out) if suffix == ".nc" else xr.open_zarr(out, consolidated=False)
    with opened as back:
        assert back.sizes["time"] == 6 == filled.sizes["time"]
        for name in ("reflectance", "sd", "p05", "origin", "age"):
            assert (
                np.array_equal(back[name].values, filled[name].values, equal_nan=True)
                and back[name].dtype == filled[name].dtype
            )
    assert fill_file(source, out, acquisitions=True, method="linear").sizes["time"] == 6


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({}, "exactly one"),
        ({"every": 5, "acquisitions": True}, "exactly one"),
        ({"every": 0}, "1 or more"),
        ({"every": 5, "method": "magic"}, "whittaker"),
    ],
)
def test_bad_options_say_what_to_give(tmp_path: Path, options: dict[str, object], word: str) -> None:
    source = tmp_path / "cube.nc"
    cube().to_netcdf(source)
    with pytest.raises(InputError, match=word):
        fill_file(source, tmp_path / "out.nc", **options)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"\.nc"):
        fill_file(source, tmp_path / "out.tif", every=5)
    assert not (tmp_path / "out.nc").exists()


@pytest.mark.parametrize("bad", ["May", None, 20200410, date(1500, 1, 1), date(2500, 1, 1), np.datetime64("NaT")])
def test_what_is_no_day_is_said_so(bad: object) -> None:
    with pytest.raises(InputError, match="YYYY-MM-DD"):
        predict(cube(), [date(2020, 4, 10), bad])  # type: ignore[list-item]
    with pytest.raises(InputError, match="YYYY-MM-DD"):
        predict(cube(), [])


def test_a_day_may_be_written_in_any_way() -> None:
    want = predict(cube(), [date(2020, 4, 10)])
    for same in ("2020-04-10", np.datetime64("2020-04-10T12"), datetime(2020, 4, 10, 23)):
        assert predict(cube(), [same, date(2020, 4, 10)]).equals(want)  # type: ignore[list-item]


def test_a_cube_of_some_bands_is_filled_in_these(tmp_path: Path) -> None:
    some = cube().isel(band=[2, 3])
    some.to_netcdf(tmp_path / "some.nc")
    out = fill_file(tmp_path / "some.nc", tmp_path / "out.nc", dates=[date(2020, 4, 10)])
    assert out["band"].values.tolist() == ["red", "nir"] and np.isfinite(out["reflectance"]).all()


def test_a_cube_without_a_clear_look_is_told_apart() -> None:
    source = cube()
    source["fmask"].values[:] = 2
    with pytest.raises(AllCloudy):
        predict(source, [date(2020, 4, 2)])


def test_a_pixel_without_a_look_has_no_value() -> None:
    source = cube()
    source["fmask"].values[:, 0, 0] = 2
    out = predict(source, [date(2020, 4, 10)])
    assert np.isnan(out["reflectance"].values[0, :, 0, 0]).all() and np.isnan(out["sd"].values[0, :, 0, 0]).all()
    assert out["origin"].values[0, 0, 0] == 255 and (out["age"].values[0, :, 0, 0] == -9999).all()
    assert np.isfinite(out["reflectance"].values[0, :, 1:]).all()
