"""Images of a tile as stacked COGs: one file per variable, a band per date. Axes: t images, y, x."""

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
from rasterio._err import CPLE_BaseError
from rasterio.errors import RasterioError, RasterioIOError
from rasterio.windows import Window

from vsat.core.grid import TileGrid
from vsat.io.durable import aside_name, sync_folder, unwritten
from vsat.io.images import Published
from vsat.io.publish import BLOCK_PX
from vsat.io.variables import Variable, read_variable


def write_stack(path: Path, grid: TileGrid, images: Sequence[Published], variable: Variable) -> None:
    """The variable of all images lies whole in `path`, a band per date, named by its day, replacing what was there.

    GDAL's COG driver interleaves by pixel: to read one date reads all. One image is in memory at a time.

    Args:
        path: ends with .tif; its folder exists.
        grid: of all images.
        images: of one tile, by day.
        variable: what of them.

    Raises:
        StoreError: a layer cannot be read, or the file not be written (disk full).
    """
    plain, cog = (path.with_name(aside_name(f"{path.name}.{kind}")) for kind in ("plain", "cog"))
    profile = {
        "driver": "GTiff", "count": len(images), "height": grid.height, "width": grid.width, "dtype": variable.dtype,
        "crs": f"EPSG:{grid.epsg}", "transform": grid.transform, "nodata": variable.fill, "interleave": "band",
        "tiled": True, "blockxsize": BLOCK_PX, "blockysize": BLOCK_PX, "compress": "DEFLATE", "zlevel": 1,
        "bigtiff": "IF_SAFER",
    }  # fmt: skip
    options = {
        "driver": "COG", "compress": "DEFLATE", "predictor": 2, "level": 6, "blocksize": BLOCK_PX,
        "overview_resampling": variable.resampling, "bigtiff": "IF_SAFER", "num_threads": "ALL_CPUS",
    }  # fmt: skip
    try:
        with rasterio.open(plain, "w", **profile) as file:
            sums = []
            for t, image in enumerate(images, start=1):
                pixels_yx = read_variable(image, variable, grid)
                sums.append(zlib.crc32(pixels_yx.tobytes()))
                file.write(pixels_yx, t)
            file.descriptions = tuple(image.day.isoformat() for image in images)
            file.scales, file.offsets = (variable.scale,) * len(images), (0.0,) * len(images)
            file.units = (variable.unit,) * len(images)
            file.update_tags(TITLE=variable.title, VARIABLE=variable.name)
        rasterio.shutil.copy(plain, cog, **options)
        if _sums(cog) != sums:
            raise RasterioIOError("what lies there is not what was written")
        cog.replace(path)
        sync_folder(path.parent)
    except (OSError, RasterioError, CPLE_BaseError, SystemError) as error:  # the last where GDAL fails without a word
        # uncompressed, twice: GDAL removes what it could not end
        wanted = 2 * len(images) * grid.height * grid.width * np.dtype(variable.dtype).itemsize
        raise unwritten(error, path, wanted=wanted) from error
    finally:
        plain.unlink(missing_ok=True)
        cog.unlink(missing_ok=True)


def _sums(path: Path) -> list[int]:
    """CRC-32 of each band. GDAL writes the last of a file when it is closed, and says nothing if that fails."""
    with rasterio.open(path) as file:
        sums = [0] * file.count
        for top in range(0, file.height, BLOCK_PX):
            rows = Window(0, top, file.width, min(BLOCK_PX, file.height - top))
            for t, pixels_yx in enumerate(file.read(window=rows)):
                sums[t] = zlib.crc32(pixels_yx.tobytes(), sums[t])
    return sums
