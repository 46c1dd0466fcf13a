"""User's cubes: what can be understood comes in the right way round, what can't is refused with the next step."""

import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rioxarray  # noqa: F401
import xarray as xr

from vsat.errors import InputError, StoreError
from vsat.hls import BANDS, FILL
from vsat.io.exchange import CubeWarning, load_cube, save_filled

AXES = ("time", "band", "y", "x")
TIMES = np.array(["2024-05-02T10:12:13", "2024-05-02T10:12:13", "2024-05-07"], "datetime64[ns]")


def cube(**changes: object) -> xr.Dataset:
    """A cube in our own form, 3 x 6 x 4 x 5."""
    rng = np.random.default_rng(0)
    refl_tbyx = rng.integers(0, 6000, (3, 6, 4, 5)).astype(np.int16)
    refl_tbyx[0, :, 0] = FILL
    ds = xr.Dataset(
        {
            "reflectance": (AXES, refl_tbyx, {"scale_factor": 1e-4, "_FillValue": np.int16(FILL)}),
            "fmask": (("time", "y", "x"), rng.choice(np.array([0, 2, 64, 255], np.uint8), (3, 4, 5))),
        },
        coords={
            "time": TIMES,
            "sensor": ("time", ["L30", "S30", "S30"]),
            "band": list(BANDS),
            "y": 5900000.0 - 30 * np.arange(4),
            "x": 400000.0 + 30 * np.arange(5),
        },
        attrs={"title": "test"},
    )
    return ds.rio.write_crs(32633).assign(changes)


def put(ds: xr.Dataset, folder: Path, name: str = "cube.nc", **options: object) -> Path:
    path = folder / name
    if name.endswith(".nc"):
        ds.to_netcdf(path, **options)
    else:
        ds.to_zarr(path, **options)
    return path


def same(found: xr.Dataset, expected: xr.Dataset) -> None:
    for name in ("reflectance", "fmask"):
        np.testing.assert_array_equal(found[name].values, expected[name].values)
    for name in ("time", "band", "y", "x"):
        np.testing.assert_array_equal(found[name].values, expected[name].values)
    assert found["reflectance"].dims == AXES
    assert found["reflectance"].dtype == np.int16 and found["fmask"].dtype == np.uint8


@pytest.mark.real
@pytest.mark.parametrize("name", ["flanders-2018", "hls-pixel-logging", "landsat-row-colorado"])
def test_real_cubes_come_in_bit_for_bit(shared_data: Path, name: str) -> None:
    path = shared_data / "cubes" / f"{name}.nc"
    found = load_cube(path)
    with xr.open_dataset(path, mask_and_scale=False) as raw:
        same(found, raw)
        np.testing.assert_array_equal(found["sensor"].values, raw["sensor"].values)
    assert found.rio.crs == (32631 if name.startswith("flanders") else None)


@pytest.mark.filterwarnings("ignore:.*Zarr V3 specification")
@pytest.mark.filterwarnings("ignore:.*Consolidated metadata")
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("c.nc", {}),
        ("c.nc", {"format": "NETCDF3_64BIT"}),
        ("c.zarr", {"zarr_format": 2}),
        ("c.zarr", {"zarr_format": 3}),
        ("c.zarr", {"zarr_format": 3, "consolidated": False}),
        ("c.zarr", {"zarr_format": 2, "consolidated": False}),
    ],
)
def test_every_container_gives_the_same_cube(tmp_path: Path, name: str, options: dict[str, object]) -> None:
    ds = cube()
    written = ds.assign(fmask=ds["fmask"].astype(np.int8)) if options.get("format") == "NETCDF3_64BIT" else ds
    found = load_cube(put(written, tmp_path, name, **options))
    same(found, ds)
    assert list(found["sensor"].values) == ["L30", "S30", "S30"]
    assert found.rio.crs.to_epsg() == 32633
    assert found.attrs["title"] == "test"


def as_float(ds: xr.Dataset) -> xr.Dataset:
    real_tbyx = np.where(ds["reflectance"] == FILL, np.nan, ds["reflectance"] * 1e-4).astype(np.float32)
    return ds.assign(reflectance=(AXES, real_tbyx))


def unscaled(ds: xr.Dataset, dtype: str = "int16") -> xr.Dataset:
    return ds.assign(reflectance=(AXES, ds["reflectance"].values.astype(dtype)))


def packed(ds: xr.Dataset) -> xr.Dataset:
    """Other scale, offset and fill, as other processors write."""
    real_tbyx = ds["reflectance"].values * 1e-4
    stored_tbyx = np.where(ds["reflectance"] == FILL, 65535, np.rint((real_tbyx + 0.2) / 2.75e-5)).astype(np.uint16)
    attributes = {"scale_factor": 2.75e-5, "add_offset": -0.2, "_FillValue": np.uint16(65535)}
    return ds.assign(reflectance=(AXES, stored_tbyx, attributes))


def wide(ds: xr.Dataset) -> xr.Dataset:
    variable = ds["reflectance"]
    return ds.assign(reflectance=(AXES, variable.values.astype(np.int32), variable.attrs | {"_FillValue": FILL}))


def float_mask(ds: xr.Dataset) -> xr.Dataset:
    return ds.assign(fmask=(("time", "y", "x"), np.where(ds["fmask"] == 255, np.nan, ds["fmask"]).astype(np.float32)))


@pytest.mark.parametrize(
    "change",
    [
        as_float,
        packed,
        float_mask,
        lambda ds: ds.transpose("x", "y", "band", "time"),
        lambda ds: ds.isel(y=slice(None, None, -1)),
        lambda ds: ds.isel(x=slice(None, None, -1)),
        lambda ds: ds.isel(band=[3, 0, 5, 1, 4, 2]),
        lambda ds: ds.isel(time=[2, 0, 1]),
        wide,
    ],
)  # fmt: skip
def test_other_forms_come_in_as_ours(tmp_path: Path, change: Callable[[xr.Dataset], xr.Dataset]) -> None:
    same(load_cube(put(change(cube()), tmp_path)), cube())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (unscaled, "without scale_factor"),
        (lambda ds: unscaled(ds, "float32"), "median"),
        (lambda ds: ds.drop_vars("y"), "no coordinate 'y'"),
    ],
)
def test_what_is_guessed_is_said(tmp_path: Path, change: Callable[[xr.Dataset], xr.Dataset], told: str) -> None:
    with pytest.warns(CubeWarning, match=told):
        found = load_cube(put(change(cube()), tmp_path))
    np.testing.assert_array_equal(found["reflectance"].values, cube()["reflectance"].values)


def test_sensor_and_place_may_be_absent(tmp_path: Path) -> None:
    found = load_cube(put(cube().drop_vars(["sensor", "spatial_ref"]), tmp_path))
    assert set(found["sensor"].values) == {"unknown"}
    assert "spatial_ref" not in found.coords


def test_one_pixel_and_a_subset_of_bands(tmp_path: Path) -> None:
    found = load_cube(put(cube().isel(y=[1], x=[2], band=[3, 2]), tmp_path))
    np.testing.assert_array_equal(found["reflectance"], cube()["reflectance"].values[:, [2, 3], 1:2, 2:3])
    assert list(found["band"].values) == ["red", "nir"]


def test_rows_without_a_date_are_left_out_aloud(tmp_path: Path) -> None:
    times = TIMES.copy()
    times[1] = np.datetime64("NaT")
    with pytest.warns(CubeWarning, match="1 of 3 times"):
        found = load_cube(put(cube().assign_coords(time=times), tmp_path))
    np.testing.assert_array_equal(found["reflectance"], cube()["reflectance"].values[[0, 2]])


def test_infinite_and_huge_values_are_missing_aloud(tmp_path: Path) -> None:
    ds = as_float(cube())
    ds["reflectance"].values[2, 0, 0, :2] = np.inf, 1e30
    with pytest.warns(CubeWarning, match="1 values beyond"):
        found = load_cube(put(ds, tmp_path))
    assert (found["reflectance"].values[2, 0, 0, :2] == FILL).all()
    assert (found["reflectance"].values[2, 0, 0, 2:] == cube()["reflectance"].values[2, 0, 0, 2:]).all()


@pytest.mark.parametrize(("dtype", "value"), [("uint64", 2**64 - 1), ("int64", -(2**63)), ("int64", 2**63 - 1)])
def test_whole_numbers_beyond_all_measure_are_missing(tmp_path: Path, dtype: str, value: int) -> None:
    """Narrowed first, uint64's largest would come in as -1, and int64's least as 0."""
    ds = cube()
    values = np.abs(ds["reflectance"].values).astype(dtype)
    values[2, 0, 0, 0] = value
    path = put(ds.assign(reflectance=(AXES, values, {"scale_factor": 1e-4})), tmp_path)
    with pytest.warns(CubeWarning, match="1 values beyond"):
        found = load_cube(path)
    assert found["reflectance"].values[2, 0, 0, 0] == FILL
    np.testing.assert_array_equal(found["reflectance"].values[2, 1:], values[2, 1:].astype(np.int16))


def test_more_memory_than_there_is_is_refused_before_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(cube(), tmp_path)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=1000))
    with pytest.raises(InputError, match="GB are free"):
        load_cube(path)


def scaled(value: object) -> Callable[[xr.Dataset], xr.Dataset]:
    return lambda ds: ds.assign(reflectance=(AXES, ds["reflectance"].values, {"scale_factor": value}))


def cftimes(ds: xr.Dataset) -> xr.Dataset:
    plain = ds.assign_coords(time=("time", [0, 1, 2], {"units": "days since 2024-01-01", "calendar": "360_day"}))
    return plain


@pytest.mark.parametrize(
    ("change", "problem", "step"),
    [
        (lambda ds: ds.drop_vars("fmask"), "no variable 'fmask'", "rename"),
        (lambda ds: ds.rename(reflectance="sr"), "it has .*sr", "rename yours"),
        (lambda ds: ds.rename(x="lon"), r"dimensions \(time, band, y, lon\)", "time, band, y, x"),
        (lambda ds: ds.isel(band=0), r"dimensions \(time, y, x\)", "time, band, y, x"),
        (lambda ds: ds.assign_coords(band=[*BANDS[:5], "nir08"]), "unknown band 'nir08'", "blue, green, red"),
        (lambda ds: ds.assign_coords(band=[*BANDS[:5], "red"]), "comes twice", "blue"),
        (lambda ds: ds.drop_vars("band"), "no coordinate 'band'", "blue"),
        (lambda ds: ds.drop_vars("time"), "no coordinate 'time'", "days since"),
        (lambda ds: ds.assign_coords(time=[1, 2, 3]), "does not hold dates", "days since"),
        (cftimes, "does not hold dates", "standard calendar"),
        (lambda ds: ds.assign_coords(time=np.full(3, np.datetime64("NaT", "ns"))), "no date at all", "days since"),
        (lambda ds: ds.isel(time=slice(0)), "'time' is empty", "at least one"),
        (lambda ds: as_float(ds).assign(reflectance=as_float(ds)["reflectance"] * np.nan), "no value", "observations"),
        (lambda ds: ds.assign(reflectance=ds["reflectance"] * 0 + 29000.0), "no reflectance", "scale_factor"),
        (lambda ds: ds.assign(fmask=ds["fmask"].astype(np.int16) + 300), "no byte", "2 cloud"),
        (lambda ds: ds.assign(fmask=ds["fmask"] + 0.5), "no byte", "2 cloud"),
        (lambda ds: ds.assign_coords(y=[0.0, 30, 10, 40]), "up and down", "pixel centres"),
        (lambda ds: ds.assign_coords(x=[0.0, 30, np.nan, 90, 120]), "finite", "pixel centres"),
        (scaled(0.0), "scale_factor", "finite"),
        (scaled("ten"), "not numbers", "numbers"),
    ],
)  # fmt: skip
def test_what_is_no_cube_is_refused(
    tmp_path: Path, change: Callable[[xr.Dataset], xr.Dataset], problem: str, step: str
) -> None:
    path = put(change(cube()), tmp_path)
    with warnings.catch_warnings(), pytest.raises(InputError, match=problem) as caught:
        warnings.simplefilter("ignore", CubeWarning)
        load_cube(path)
    assert step in caught.value.next_step and caught.value.place == str(path)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.nc").write_text("time,red\n")
    (tmp_path / "empty.nc").touch()
    (tmp_path / "folder.zarr").mkdir()
    (tmp_path / "odd.zarr").mkdir()
    (tmp_path / "odd.zarr/zarr.json").write_text("{")
    for name, problem in [
        ("absent.nc", "no such file"),
        ("text.nc", "not NetCDF"),
        ("empty.nc", "not NetCDF"),
        ("folder.zarr", "not a Zarr group"),
        ("odd.zarr", "cannot be read"),
    ]:
        with pytest.raises(InputError, match=problem) as caught:
            load_cube(tmp_path / name)
        assert caught.value.next_step


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.95])
def test_damaged_file_is_refused(tmp_path: Path, share: float) -> None:
    whole = put(cube(), tmp_path).read_bytes()
    (tmp_path / "cut.nc").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError, match="cannot be read"):
        load_cube(tmp_path / "cut.nc")


def test_declared_size_is_bounded_before_reading(tmp_path: Path) -> None:
    sizes = {"time": 10_000, "band": 1, "y": 3660, "x": 3660}
    huge = {"dtype": "int16", "chunks": (1, 1, 3660, 3660), "fill_value": 0}
    import zarr

    group = zarr.open_group(tmp_path / "huge.zarr", mode="w", zarr_format=3)
    group.create_array("reflectance", shape=tuple(sizes.values()), dimension_names=list(sizes), **huge)
    axes = ["time", "y", "x"]
    group.create_array("fmask", shape=(10_000, 3660, 3660), dtype="uint8", chunks=(1, 3660, 3660), dimension_names=axes)
    with pytest.raises(InputError, match=r"401\.9 GB") as caught:
        load_cube(tmp_path / "huge.zarr")
    assert "region" in caught.value.next_step
    with pytest.raises(InputError, match="limit"):
        load_cube(put(cube(), tmp_path), max_bytes=100)


# --- saving


def filled() -> xr.Dataset:
    ds = as_float(cube())
    coords = {"time": TIMES[1:], "band": ds["band"], "y": ds["y"], "x": ds["x"], "look": ["last", "next", "count"]}
    real_tbyx = ds["reflectance"].values[1:]
    variables = {name: (AXES, real_tbyx.copy()) for name in ("reflectance", "sd", "p05", "p25", "p75", "p95")}
    variables["sd"][1][0, 0, 0, 0] = np.nan
    origin = (("time", "y", "x"), np.full((2, 4, 5), 255, np.uint8))
    age = (("time", "look", "y", "x"), np.full((2, 3, 4, 5), FILL, np.int16), {"units": "days"})
    return xr.Dataset({**variables, "origin": origin, "age": age}, coords=coords).assign_coords(
        spatial_ref=ds["spatial_ref"]
    )


@pytest.mark.parametrize("name", ["filled.nc", "filled.zarr"])
def test_saved_cube_comes_back(tmp_path: Path, name: str) -> None:
    path, ds = tmp_path / name, filled()
    ds["reflectance"].encoding["grid_mapping"] = "spatial_ref"  # as xarray leaves it after reading
    for _ in range(2):  # the second time in place of the first
        save_filled(ds, path)
    assert [p.name for p in tmp_path.iterdir()] == [name]
    with xr.open_dataset(path, decode_coords="all") as back:
        xr.testing.assert_equal(back, ds)
        assert back["reflectance"].dtype == np.float32 and back["origin"].dtype == np.uint8
        assert back["reflectance"].attrs["units"] == "1" and "quantile" in back["p05"].attrs["long_name"]
        assert back["age"].attrs["units"] == "days"
        assert back.rio.crs.to_epsg() == 32633
        assert (
            back["sd"].encoding.get("zlib") or back["sd"].encoding.get("compressors") or back["sd"].encoding["filters"]
        )
    assert ds["reflectance"].encoding == {"grid_mapping": "spatial_ref"}  # the caller's stays as it was
    raw = {p: p.read_bytes() for p in ([path] if path.is_file() else sorted(path.rglob("*"))) if p.is_file()}
    save_filled(ds, path)
    assert {p: p.read_bytes() for p in raw} == raw


def test_saving_is_refused_where_it_would_harm(tmp_path: Path) -> None:
    (tmp_path / "mine.zarr").mkdir()
    (tmp_path / "mine.zarr/thesis.txt").touch()
    (tmp_path / "folder.nc").mkdir()
    for name, problem in [
        ("a.tif", "unknown ending '.tif'"),
        ("none/a.nc", "does not exist"),
        ("mine.zarr", "something else"),
        ("folder.nc", "something else"),
    ]:
        with pytest.raises(InputError, match=problem):
            save_filled(filled(), tmp_path / name)
    assert (tmp_path / "mine.zarr/thesis.txt").exists()


@pytest.mark.parametrize("name", ["a.nc", "a.zarr"])
def test_failed_save_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    save_filled(filled(), tmp_path / name)
    before = sorted(p for p in tmp_path.rglob("*"))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    monkeypatch.setattr("vsat.io.containers.sync_tree", full)
    with pytest.raises(StoreError, match="No space left"):
        save_filled(filled(), tmp_path / name)
    assert sorted(p for p in tmp_path.rglob("*")) == before
