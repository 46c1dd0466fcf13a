"""vsat export: NetCDF that a CF checker accepts, stacked COGs, tables; every number is that of the published files."""

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import xarray as xr
from images import GRID, image
from products import DAYS, record, region_with_images
from pyproj import Transformer
from rio_cogeo.cogeo import cog_validate

from vsat import cli
from vsat.config import Region
from vsat.core.grid import TileGrid
from vsat.core.indices import index, index_sd
from vsat.core.quality import unpack_qa
from vsat.errors import InputError
from vsat.hls import BANDS, FILL, SCALE
from vsat.io.ledger import Ledger
from vsat.io.scenes import ledger_path
from vsat.io.variables import INDEX_FILL
from vsat.objects import ObjectPath
from vsat.stages.export import ExportOptions, export

Vsat = Callable[..., dict[str, Any]]
TO_DEGREES = Transformer.from_crs(GRID.epsg, 4326, always_xy=True)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("export")


@pytest.fixture(scope="module")
def region(folder: Path) -> Region:
    return region_with_images(folder)


@pytest.fixture(scope="module")
def netcdf(folder: Path, region: Region) -> Path:
    path = folder / "small.nc"
    export(region, path, ExportOptions(indices=("ndvi", "evi")))
    return path


@pytest.fixture(scope="module")
def stacks(folder: Path, region: Region) -> Path:
    path = folder / "stacks"
    export(region, path, ExportOptions(bands=("red",), indices=("nbr",), start=DAYS[1]))
    return path


def floats(stored: np.ndarray) -> np.ndarray:
    return np.where(stored == FILL, np.float32(np.nan), stored * np.float32(SCALE))


def lon_lat(row: float, col: float) -> tuple[float, float]:
    lon, lat = TO_DEGREES.transform(GRID.x0 + (col + 0.5) * 30, GRID.y0 - (row + 0.5) * 30)
    return float(lon), float(lat)


def test_netcdf_has_every_date_band_and_spread(netcdf: Path) -> None:
    with xr.open_dataset(netcdf) as stack:
        assert [str(value)[:10] for value in stack["time"].values] == [day.isoformat() for day in DAYS]
        assert stack["days_since_look"].dtype.kind == "f"  # a count of days, not a timedelta
        for t in range(3):
            want, got = image(t), stack.isel(time=t)
            refl, sd = floats(want.refl_byx), floats(want.sd_byx)
            for b, band in enumerate(BANDS):
                np.testing.assert_allclose(got[band], refl[b], atol=1e-6)
                np.testing.assert_allclose(got[f"{band}_sd"], sd[b], atol=1e-6)
            for name in ("ndvi", "evi"):
                np.testing.assert_allclose(got[name], index(name, refl, BANDS), atol=6e-5)
                spread = np.minimum(index_sd(name, refl, sd, BANDS), 3.2767)
                np.testing.assert_allclose(got[f"{name}_sd"], spread, atol=6e-5)
            assert np.array_equal(got["qa"], want.qa_yx)
            np.testing.assert_array_equal(got["looks"], np.where(want.age_lyx[2] == FILL, np.nan, want.age_lyx[2]))
        assert stack["red"].attrs["grid_mapping"] == "crs" or stack["red"].encoding["grid_mapping"] == "crs"
        assert stack["qa"].attrs["flag_meanings"].split()[3] == "prior_only"


CF_CHECK = """
import sys
from compliance_checker.runner import CheckSuite, ComplianceChecker
CheckSuite.load_all_available_checkers()
ComplianceChecker.run_checker(
    sys.argv[1], ["cf:1.11"], 0, "strict", output_filename=sys.argv[2], output_format="json"
)
"""


def test_a_cf_checker_finds_nothing(netcdf: Path, folder: Path) -> None:
    report = folder / "cf.json"
    # a process of its own, where its warnings are no errors
    command = [sys.executable, "-W", "ignore", "-c", CF_CHECK, str(netcdf), str(report)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    (told,) = json.loads(report.read_text()).values()
    each = [one for level in ("high", "medium", "low") for one in told[f"{level}_priorities"]]
    assert [f"{one['name']}: {one['msgs']}" for one in each if one["msgs"]] == []
    assert len(each) > 10


def test_stacks_are_cogs_with_a_band_per_date(stacks: Path) -> None:
    names = sorted(path.name for path in stacks.iterdir())
    tiffs = ["days_since_look", "days_until_look", "looks", "nbr", "nbr_sd", "qa", "red", "red_sd"]
    styles = ["days_since_look", "days_until_look", "nbr", "nbr_sd", "qa", "red_sd"]
    assert names == sorted([*(f"small.T33UVP.{n}.tif" for n in tiffs), *(f"small.T33UVP.{n}.qml" for n in styles)])
    for name in tiffs:
        path = stacks / f"small.T33UVP.{name}.tif"
        valid, errors, warnings = cog_validate(path, strict=True)
        assert valid and not errors and not warnings, name
        with rasterio.open(path) as file:
            assert file.descriptions == ("2024-05-12", "2024-05-22") and file.tags()["VARIABLE"] == name
            assert file.crs.to_epsg() == GRID.epsg and file.transform == GRID.transform
    with rasterio.open(stacks / "small.T33UVP.nbr_sd.tif") as file:
        want = image(1)
        spread = index_sd("nbr", floats(want.refl_byx), floats(want.sd_byx), BANDS)
        assert (file.nodata, file.scales) == (INDEX_FILL, (1e-4, 1e-4))
        np.testing.assert_allclose(
            np.where(file.read(1) == INDEX_FILL, np.nan, file.read(1) * 1e-4), np.minimum(spread, 3.2767), atol=6e-5
        )


def test_gdalinfo_says_what_a_person_looks_for(stacks: Path) -> None:
    program = shutil.which("gdalinfo")
    if program is None:
        pytest.skip("gdalinfo is not installed (Debian: gdal-bin)")
    path = stacks / "small.T33UVP.nbr.tif"
    done = subprocess.run([program, "-json", str(path)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0 and done.stderr == ""
    told = json.loads(done.stdout)
    assert told["metadata"]["IMAGE_STRUCTURE"]["LAYOUT"] == "COG" and told["size"] == [280, 300]
    for band, day in zip(told["bands"], DAYS[1:], strict=True):
        assert (band["description"], band["noDataValue"], band["scale"], band["unit"]) == (
            str(day),
            INDEX_FILL,
            1e-4,
            "1",
        )
        assert band["overviews"]


def test_points_give_a_row_per_date_with_what_the_pixel_says(folder: Path, region: Region, tmp_path: Path) -> None:
    places = [(7, 9), (210, 30), (295, 275)]
    lines = [f"p{n},{lon},{lat}" for n, (lon, lat) in enumerate(lon_lat(*place) for place in places)]
    (tmp_path / "points.csv").write_text("\n".join(["id,lon,lat", *lines, "far,3.0,48.0"]))
    options = ExportOptions(bands=("red",), indices=("ndvi",), points=tmp_path / "points.csv")
    report = export(region, tmp_path / "out.csv", options)
    assert report.rows == 9 and report.outside == ("far",)
    rows = list(csv.DictReader((tmp_path / "out.csv").open()))
    assert [(row["point"], row["date"]) for row in rows[:4]] == [
        *(("p0", str(day)) for day in DAYS),
        ("p1", str(DAYS[0])),
    ]
    for row in rows:
        n, t = int(row["point"][1:]), [str(day) for day in DAYS].index(row["date"])
        y, x = places[n]
        want, at = image(t), (slice(None), slice(y, y + 1), x)
        refl, sd = floats(want.refl_byx)[at], floats(want.sd_byx)[at]
        quality = unpack_qa(want.qa_yx)
        assert (int(row["row"]), int(row["col"]), int(row["origin"])) == (y, x, quality.origin[y, x])
        assert row["low"] == str(int(quality.low[y, x]))
        told = [row[name] for name in ("red", "red_sd", "ndvi", "ndvi_sd", "days_since_look")]
        if n == 2:
            assert told == [""] * 5
            continue
        values = refl[2, 0], sd[2, 0], index("ndvi", refl, BANDS)[0], index_sd("ndvi", refl, sd, BANDS)[0]
        np.testing.assert_allclose([float(value) for value in told[:4]], values, atol=1e-5)
        assert int(told[4]) == want.age_lyx[0, y, x]


def test_polygons_give_means_between_two_ends_of_what_they_may_be_wrong_by(region: Region, tmp_path: Path) -> None:
    ring = [lon_lat(row - 0.5, col - 0.5) for row, col in ((10, 20), (10, 60), (40, 60), (40, 20), (10, 20))]
    far = [[3.0, 48.0], [3.1, 48.0], [3.1, 48.1], [3.0, 48.0]]
    features = [
        {"type": "Feature", "properties": {"name": name}, "geometry": {"type": "Polygon", "coordinates": [shape]}}
        for name, shape in (("field", ring), ("elsewhere", far))
    ]
    (tmp_path / "fields.json").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    options = ExportOptions(bands=("nir",), indices=("ndvi",), polygons=tmp_path / "fields.json", dates=(DAYS[2],))
    report = export(region, tmp_path / "fields.csv", options)
    (row,) = csv.DictReader((tmp_path / "fields.csv").open())
    want = image(2)
    refl, sd = (floats(part)[:, 10:40, 20:60] for part in (want.refl_byx, want.sd_byx))
    assert report.outside == ("elsewhere",) and (row["polygon"], row["date"]) == ("field", str(DAYS[2]))
    assert int(row["pixels"]) == 1200 and float(row["hectares"]) == 108 and float(row["observed"]) == 1
    value, spread = index("ndvi", refl, BANDS), index_sd("ndvi", refl, sd, BANDS)
    for name, values, sds in (("nir", refl[3], sd[3]), ("ndvi", value, spread)):
        told = [float(row[f"{name}{suffix}"]) for suffix in ("", "_sd", "_sd_independent", "_p10", "_p90")]
        mean, n = np.nanmean(values), np.isfinite(values).sum()
        wanted = (mean, np.nanmean(sds), np.sqrt(np.nansum(sds**2)) / n, *np.nanpercentile(values, (10, 90)))
        np.testing.assert_allclose(told, wanted, atol=1e-5)


def test_a_bucket_exports_what_a_folder_does(bucket: ObjectPath, netcdf: Path, region: Region, tmp_path: Path) -> None:
    remote = region_with_images(tmp_path, store=bucket)
    export(remote, tmp_path / "remote.nc", ExportOptions(indices=("ndvi", "evi")))
    with xr.open_dataset(netcdf) as mine, xr.open_dataset(tmp_path / "remote.nc") as theirs:
        xr.testing.assert_identical(mine, theirs)
    (tmp_path / "points.csv").write_text("lon,lat\n{},{}\n{},{}".format(*lon_lat(7, 9), *lon_lat(290, 3)))
    options = ExportOptions(points=tmp_path / "points.csv")
    for of, name in ((region, "mine.csv"), (remote, "theirs.csv")):
        export(of, tmp_path / name, options)
    assert (tmp_path / "mine.csv").read_bytes() == (tmp_path / "theirs.csv").read_bytes()


def test_places_on_the_border_of_two_tiles_belong_to_one(tmp_path: Path) -> None:
    west = replace(GRID, x0=500_000.0 - 200 * 30)  # both reach over the border, at easting 500 km
    east = replace(GRID, tile="33UWP", x0=500_000.0 - 80 * 30)
    region = region_with_images(tmp_path, days=())
    with Ledger(ledger_path(region.home)) as ledger:
        for seed, grid in enumerate((west, east)):
            record(ledger, region, seed, DAYS[0], grid=grid)
    with pytest.raises(InputError, match=r"several tiles.*33UVP, 33UWP"):
        export(region, tmp_path / "a.nc", ExportOptions())
    assert export(region, tmp_path / "b.nc", ExportOptions(tile="33UWP", bands=("red",))).images == 1

    def at(grid: TileGrid, row: float, col: float) -> tuple[float, float]:
        lon, lat = TO_DEGREES.transform(grid.x0 + (col + 0.5) * 30, grid.y0 - (row + 0.5) * 30)
        return float(lon), float(lat)

    (tmp_path / "points.csv").write_text("lon,lat\n{},{}\n{},{}".format(*at(west, 12, 199), *at(west, 12, 200)))
    export(region, tmp_path / "points_out.csv", ExportOptions(points=tmp_path / "points.csv", bands=("red",)))
    rows = list(csv.DictReader((tmp_path / "points_out.csv").open()))
    assert [(row["tile"], row["row"], row["col"]) for row in rows] == [("33UVP", "12", "199"), ("33UWP", "12", "80")]

    ring = [at(west, row - 0.5, col - 0.5) for row, col in ((160, 180), (160, 230), (190, 230), (190, 180), (160, 180))]
    (tmp_path / "field.json").write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    export(region, tmp_path / "field.csv", ExportOptions(polygons=tmp_path / "field.json", bands=("red",)))
    (row,) = csv.DictReader((tmp_path / "field.csv").open())
    mine, theirs = floats(image(0).refl_byx)[2, 160:190, 180:200], floats(image(1).refl_byx)[2, 160:190, 80:110]
    assert int(row["pixels"]) == mine.size + theirs.size == 1500
    assert float(row["red"]) == pytest.approx(np.concatenate([mine.ravel(), theirs.ravel()]).mean(), abs=1e-5)


def test_an_index_that_the_bands_do_not_give_is_refused(tmp_path: Path) -> None:
    region = region_with_images(tmp_path, days=DAYS[:1], bands=("red", "green"))
    with pytest.raises(InputError, match="no band 'nir'"):
        export(region, tmp_path / "a.nc", ExportOptions(indices=("ndvi",)))


def test_the_verb_tells_what_it_wrote(
    folder: Path, region: Region, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "export",
        folder / "small.yaml",
        "--out",
        tmp_path / "a.nc",
        "--bands",
        "red",
        "--index",
        "ndvi",
        "--dates",
    ]
    monkeypatch.setattr(sys, "argv", ["vsat", *map(str, words), "2024-05-12", "--json"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    told = json.loads(capsys.readouterr().out)
    assert end.value.code in (0, None)
    assert (
        told["images"] == 1
        and told["files"] == [str(tmp_path / "a.nc")]
        and told["variables"][:4] == ["red", "red_sd", "ndvi", "ndvi_sd"]
    )


@pytest.mark.parametrize(
    ("out", "options", "problem"),
    [
        ("a.xyz", ExportOptions(), "says no format"),
        ("a.csv", ExportOptions(), "points or of polygons"),
        ("a.nc", ExportOptions(points=Path("p.csv")), "points or of polygons"),
        ("a.nc", ExportOptions(bands=("nir2",)), "nir2"),
        ("a.nc", ExportOptions(indices=("savi",)), "no index 'savi'"),
        ("a.nc", ExportOptions(dates=(date(2020, 1, 1),)), "no image of these days"),
        ("a.csv", ExportOptions(points=Path("nothing.csv")), "nothing.csv"),
    ],
)
def test_what_cannot_be_is_named(
    region: Region, tmp_path: Path, out: str, options: ExportOptions, problem: str
) -> None:
    with pytest.raises(InputError, match=problem):
        export(region, tmp_path / out, options)
    assert list(tmp_path.iterdir()) == []
