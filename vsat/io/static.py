"""Rasters that do not change with time (elevation, land cover), brought onto a tile's grid."""

from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.errors import RasterioError
from rasterio.vrt import WarpedVRT

from vsat.core.grid import TileGrid
from vsat.errors import InputError


def read_static(path: Path, grid: TileGrid) -> NDArray[np.float32]:
    """The first band of a GeoTIFF on the grid: classes (integers) by the nearest pixel, amounts (floats) by averaging.

    Args:
        path: a local GeoTIFF with a coordinate system.
        grid: a tile's grid.

    Returns:
        float32 (y, x), NaN where the raster has nothing.

    Raises:
        InputError: it cannot be read, says not where it lies, or does not touch the grid.
    """
    try:
        # GTiff alone: a VRT could name other files and hosts
        with rasterio.open(path, driver="GTiff") as file:
            if file.crs is None:
                raise InputError(
                    "it does not say where it lies", place=str(path), next_step="give it a coordinate system"
                )
            whole = np.issubdtype(file.dtypes[0], np.integer)
            options = {
                "crs": f"EPSG:{grid.epsg}", "transform": grid.transform, "height": grid.height, "width": grid.width,
                "resampling": Resampling.nearest if whole else Resampling.average,
                "working_dtype": "float32", "dtype": "float32", "nodata": np.nan, "src_nodata": file.nodata,
            }  # fmt: skip
            with WarpedVRT(file, **options) as warped:
                values_yx = warped.read(1, masked=True).astype(np.float32).filled(np.nan)
    except RasterioError as error:
        step = "give the path of a GeoTIFF on this machine"
        raise InputError(f"it cannot be read: {error}", place=str(path), next_step=step) from error
    if not np.isfinite(values_yx).any():
        step = "give a raster that covers the region"
        raise InputError(f"it has nothing in the window of tile {grid.tile}", place=str(path), next_step=step)
    return np.asarray(values_yx, np.float32)
