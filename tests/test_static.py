from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from vsat.core.grid import TileGrid
from vsat.errors import InputError
from vsat.io.static import read_static

GRID = TileGrid("33UVP", 32633, 440430.0, 5337510.0, 40, 30)


def write(
    path: Path,
    values: np.ndarray,
    *,
    crs: str | None = "EPSG:32633",
    step: float = 30.0,
    west: float = 440430.0,
    nodata: float | None = None,
) -> Path:
    options = {
        "driver": "GTiff",
        "count": 1,
        "dtype": values.dtype,
        "height": values.shape[0],
        "width": values.shape[1],
    }
    with rasterio.open(
        path, "w", crs=crs, transform=from_origin(west, 5337510.0, step, step), nodata=nodata, **options
    ) as file:
        file.write(values, 1)
    return path


def test_on_the_same_grid_values_stay(tmp_path: Path) -> None:
    values = np.arange(1200, dtype=np.float32).reshape(40, 30)
    assert np.array_equal(read_static(write(tmp_path / "dem.tif", values), GRID), values)


def test_finer_amounts_are_averaged_and_classes_are_not(tmp_path: Path) -> None:
    fine = np.tile(np.array([[1, 3], [5, 7]]), (40, 30))
    assert read_static(write(tmp_path / "a.tif", fine.astype(np.float32), step=15.0), GRID) == pytest.approx(4.0)
    found = read_static(write(tmp_path / "b.tif", fine.astype(np.uint8), step=15.0), GRID)
    assert set(np.unique(found)) <= {1.0, 3.0, 5.0, 7.0}


def test_where_there_is_nothing_there_is_nan(tmp_path: Path) -> None:
    values = np.ones((40, 30), np.int16)
    values[:5] = -9
    found = read_static(write(tmp_path / "a.tif", values, nodata=-9, west=440430.0 + 300), GRID)
    assert np.isnan(found[:5]).all() and np.isnan(found[:, :10]).all()
    assert (found[5:, 10:] == 1).all()


def test_another_projection_is_brought_over(tmp_path: Path) -> None:
    options = {"driver": "GTiff", "count": 1, "dtype": "float32", "height": 60, "width": 60}
    with rasterio.open(
        tmp_path / "d.tif", "w", crs="EPSG:4326", transform=from_origin(14.15, 48.2, 0.002, 0.002), **options
    ) as file:
        file.write(np.full((60, 60), 7, np.float32), 1)
    assert read_static(tmp_path / "d.tif", GRID) == pytest.approx(7.0)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_what_cannot_be_used_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_static(tmp_path / "none.tif", GRID)
    (tmp_path / "vrt.tif").write_text("<VRTDataset rasterXSize='1' rasterYSize='1'></VRTDataset>")
    with pytest.raises(InputError, match="cannot be read"):
        read_static(tmp_path / "vrt.tif", GRID)
    with pytest.raises(InputError, match="where it lies"):
        read_static(write(tmp_path / "a.tif", np.ones((4, 4), np.float32), crs=None), GRID)
    with pytest.raises(InputError, match="nothing in the window"):
        read_static(write(tmp_path / "b.tif", np.ones((4, 4), np.float32), west=9e5), GRID)
