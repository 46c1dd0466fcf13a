"""open_images: what is lazy reads only what is asked, and every number is that of the published files."""

from datetime import date
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from images import GRID, image
from products import DAYS, record, region_with_images

import vsat
from vsat.config import Region
from vsat.core.quality import unpack_qa
from vsat.errors import InputError, StoreError
from vsat.hls import BANDS, FILL, SCALE
from vsat.io import images as module
from vsat.io.ledger import Ledger
from vsat.io.scenes import ledger_path
from vsat.objects import ObjectPath


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Region:
    return region_with_images(tmp_path_factory.mktemp("images"))


def floats(stored: np.ndarray) -> np.ndarray:
    return np.where(stored == FILL, np.nan, stored * SCALE)


def check(stack: xr.Dataset) -> None:
    for t in range(len(DAYS)):
        want, got = image(t), stack.isel(time=t).compute()
        np.testing.assert_allclose(got["reflectance"], floats(want.refl_byx), atol=1e-6)
        np.testing.assert_allclose(got["sd"], floats(want.sd_byx), atol=1e-6)
        assert np.array_equal(got["qa"], want.qa_yx) and np.array_equal(got["age"], want.age_lyx)
        assert np.array_equal(got["origin"], unpack_qa(want.qa_yx).origin)


def test_every_value_is_the_published_one(region: Region) -> None:
    stack = vsat.open_images(region)
    assert {name: stack[name].dtype.name for name in stack.data_vars} == {
        "reflectance": "float32", "sd": "float32", "qa": "uint8", "origin": "uint8", "age": "int16",
    }  # fmt: skip
    assert stack["reflectance"].dims == ("time", "band", "y", "x") and tuple(stack["band"].values) == BANDS
    assert [str(value)[:10] for value in stack["time"].values] == [day.isoformat() for day in DAYS]
    assert stack["status"].values.tolist() == ["final"] * 3 and stack["image"].values[0] == "VSAT.T33UVP.2024123.v1"
    assert stack.rio.crs.to_epsg() == GRID.epsg and stack.rio.transform() == GRID.transform
    assert float(stack["x"][0]) == GRID.x0 + 15 and float(stack["y"][0]) == GRID.y0 - 15
    check(stack)


def test_only_the_files_and_pixels_that_are_asked_for_are_read(region: Region, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 256)
    stack, reads, plain = vsat.open_images(region), [], module.read_layer

    def counted(path: Path, grid: object, rows: slice, cols: slice) -> np.ndarray:
        found = plain(path, grid, rows, cols)  # type: ignore[arg-type]
        reads.append((path.name, found.size))
        return found

    monkeypatch.setattr(module, "read_layer", counted)
    lazy = [stack["reflectance"].sel(band="red")[:, 7, 9], stack["sd"].sel(time="2024-05-12", band="nir")[3:5, ::-2]]
    assert reads == []
    series, part = (one.values for one in lazy)
    np.testing.assert_allclose(series, [floats(image(t).refl_byx)[2, 7, 9] for t in range(3)], atol=1e-6)
    np.testing.assert_allclose(part, floats(image(1).sd_byx)[3, 3:5, ::-2], atol=1e-6)
    # one block of each date, and the two of one date
    red = [(f"VSAT.T33UVP.{day:%Y%j}.v1.red.tif", 256 * 256) for day in DAYS]
    two = [("VSAT.T33UVP.2024133.v1.nir08_sd.tif", 256 * width) for width in (24, 256)]
    assert sorted(reads) == sorted([*red, *two])


def test_a_bucket_gives_what_a_folder_gives_and_windows_by_ranges(
    bucket: ObjectPath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    region = region_with_images(tmp_path, store=bucket)
    stack = vsat.open_images(region)
    check(stack)
    sizes, plain = [], ObjectPath.read_ranges

    def counted(self: ObjectPath, spans: list[tuple[int, int]]) -> list[memoryview]:
        sizes.append((sum(stop - start for start, stop in spans), self.size()))
        return plain(self, spans)

    monkeypatch.setattr(ObjectPath, "read_ranges", counted)
    got = stack["reflectance"].sel(band="red")[:, 7, 9].values
    np.testing.assert_allclose(got, [floats(image(t).refl_byx)[2, 7, 9] for t in range(3)], atol=1e-6)
    assert sizes and max(size for size, _ in sizes) < min(whole for _, whole in sizes)


def test_a_band_that_an_older_image_lacks_is_missing_there(tmp_path: Path) -> None:
    region = region_with_images(tmp_path, days=DAYS[:1], bands=("red", "nir"))
    with Ledger(ledger_path(region.home)) as ledger:
        record(ledger, region, 1, DAYS[1])
    blue = vsat.open_images(region)["reflectance"].sel(band="blue").values
    assert np.isnan(blue[0]).all() and np.isfinite(blue[1]).any()


def test_what_cannot_be_opened_is_named(region: Region, tmp_path: Path) -> None:
    empty = region.model_copy(update={"store": tmp_path})
    with pytest.raises(InputError, match="no images yet"):
        vsat.open_images(empty)
    assert not (tmp_path / "small").exists()
    with pytest.raises(InputError, match=r"no images of tile '33UWP'.*33UVP"):
        vsat.open_images(region, "33UWP")
    assert vsat.open_images(region, "T33UVP").sizes["time"] == 3


def test_a_lost_file_or_another_grid_is_an_error_not_a_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    region = region_with_images(tmp_path, days=DAYS[:2])
    stack = vsat.open_images(region)
    module.published(region.home)[0].files["red"].unlink()
    with pytest.raises(StoreError, match=r"red\.tif"):
        stack["reflectance"].sel(band="red").compute()
    from dataclasses import replace

    grid = replace(GRID, x0=GRID.x0 + 30)
    path = module.published(region.home)[1].files["red"]
    with pytest.raises(StoreError, match="another grid"):
        module.read_layer(path, grid)
    assert module.published(region.home, "33UVP")[0].day == date(2024, 5, 2)
