"""Images of a tile as one NetCDF-4 file with CF-1.11 metadata. Axes: t images, y, x."""

from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from netCDF4 import Dataset
from pyproj import CRS

from vsat.core.grid import TileGrid
from vsat.core.indices import named
from vsat.io.durable import aside_name, sync_folder, unwritten
from vsat.io.images import Published
from vsat.io.variables import Variable, read_variable

CONVENTIONS = "CF-1.11"
_CHUNK = 256
_LEVEL = 4
_EPOCH = date(1970, 1, 1)
# mask, value and word of each; the first four share two bits
QA_FLAGS = (
    (3, 0, "observed"), (3, 1, "filled_within_16_days"), (3, 2, "filled_farther"), (3, 3, "prior_only"),
    (4, 4, "extrapolated"), (8, 8, "snow"), (16, 16, "water"), (32, 32, "change_suspected"), (64, 64, "low_confidence"),
    (128, 128, "no_value"),
)  # fmt: skip
STATUSES = ("provisional", "final")

Told = Callable[[int, int], None]


def write_netcdf(
    path: Path,
    region: str,
    grid: TileGrid,
    images: Sequence[Published],
    variables: Sequence[Variable],
    progress: Told | None = None,
) -> None:
    """The images lie whole in `path`, replacing what was there; one layer is in memory at a time.

    Args:
        path: ends with .nc; its folder exists.
        region: its name.
        grid: of all images.
        images: of one tile, by day.
        variables: what of them.
        progress: told (images done, images in all).

    Raises:
        StoreError: a layer cannot be read, or the file not be written (disk full).
    """
    aside = path.with_name(aside_name(path.name))
    try:
        with Dataset(aside, "w", format="NETCDF4") as file:
            _describe(file, region, grid, images)
            made = [(_variable(file, one, variables), one) for one in variables]
            for t, image in enumerate(images):
                for target, variable in made:
                    target[t] = read_variable(image, variable, grid)
                if progress:
                    progress(t + 1, len(images))
        aside.replace(path)
        sync_folder(path.parent)
    except (OSError, RuntimeError) as error:  # HDF5's own errors, such as of a full disk, are of the latter kind
        raise unwritten(error, path) from error
    finally:
        aside.unlink(missing_ok=True)


def _describe(file: Any, region: str, grid: TileGrid, images: Sequence[Published]) -> None:
    """Global attributes and coordinates."""
    newest = max(one.day for one in images)
    file.setncatts({
        "Conventions": CONVENTIONS, "title": f"Virtual images of {region}, HLS tile {grid.tile}",
        "source": "vsat, from Harmonized Landsat Sentinel-2 L30 and S30 v2.0",
        "history": f"vsat export of {len(images)} images, {images[0].day} to {newest}",
        "references": "https://lpdaac.usgs.gov/documents/1698/HLS_User_Guide_V2.pdf",
        "comment": "Estimates, not measurements, except where qa says observed. Standard deviations are calibrated.",
    })  # fmt: skip
    for name, size in (("time", len(images)), ("y", grid.height), ("x", grid.width)):
        file.createDimension(name, size)
    centre = 0.5 * grid.resolution_m
    x = grid.x0 + centre + grid.resolution_m * np.arange(grid.width)
    y = grid.y0 - centre - grid.resolution_m * np.arange(grid.height)
    days = [(one.day - _EPOCH).days for one in images]
    metres = {"units": "m", "long_name": "pixel centre"}
    about = {"standard_name": "time", "long_name": "day that the image stands for", "axis": "T"}
    about |= {
        "units": f"days since {_EPOCH} 00:00:00",
        "calendar": "proleptic_gregorian",
        "units_metadata": "leap_seconds: utc",
    }
    _coordinate(file, "time", "i4", ("time",), days, about)
    _coordinate(file, "y", "f8", ("y",), y, metres | {"standard_name": "projection_y_coordinate", "axis": "Y"})
    _coordinate(file, "x", "f8", ("x",), x, metres | {"standard_name": "projection_x_coordinate", "axis": "X"})
    transform = f"{grid.x0} {grid.resolution_m} 0 {grid.y0} 0 {-grid.resolution_m}"
    _coordinate(file, "crs", "i4", (), 0, CRS.from_epsg(grid.epsg).to_cf() | {"GeoTransform": transform})
    told = {"long_name": "whether later scenes may still change the image", "flag_meanings": " ".join(STATUSES)}
    codes = [STATUSES.index(one.status) for one in images]
    _coordinate(file, "status", "i1", ("time",), codes, told | {"flag_values": np.arange(len(STATUSES), dtype="i1")})


def _coordinate(
    file: Any, name: str, dtype: str, axes: tuple[str, ...], values: Any, attributes: dict[str, Any]
) -> None:
    made = file.createVariable(name, dtype, axes)
    made.setncatts(attributes)
    made[...] = values


def _variable(file: Any, variable: Variable, beside: Sequence[Variable]) -> Any:
    sizes = [1, *(min(_CHUNK, len(file.dimensions[axis])) for axis in ("y", "x"))]
    made = file.createVariable(
        variable.name, variable.dtype, ("time", "y", "x"), compression="zlib", complevel=_LEVEL, shuffle=True,
        chunksizes=sizes, fill_value=False if variable.fill is None else variable.fill, fletcher32=True,
    )  # fmt: skip
    made.set_auto_maskandscale(False)
    made.setncatts({"long_name": variable.title, "grid_mapping": "crs", "coordinates": "status"})
    if variable.name == "qa":
        masks, values, words = zip(*QA_FLAGS, strict=True)
        made.setncatts({"standard_name": "quality_flag", "flag_masks": np.array(masks, "u1")})
        made.setncatts({"flag_values": np.array(values, "u1"), "flag_meanings": " ".join(words)})
        return made
    made.units = variable.unit
    if variable.scale != 1:
        made.setncatts({"scale_factor": np.float32(variable.scale), "add_offset": np.float32(0)})
    if variable.band:
        modifier = " standard_error" if variable.is_sd else ""
        made.standard_name = f"surface_bidirectional_reflectance{modifier}"
    if variable.index:
        one = named(variable.index)
        made.setncatts({"comment": f"{variable.index} = {one.formula}", "references": one.source})
    if not variable.is_sd and variable.asset != "age":
        near = {f"{variable.name}_sd", "qa", "days_since_look", "days_until_look", "looks"}
        made.ancillary_variables = " ".join(one.name for one in beside if one.name in near)
    return made
