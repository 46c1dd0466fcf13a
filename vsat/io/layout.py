"""Where a cube's objects lie, and the Zarr v3 metadata that make them readable for everyone.

One group per tile and year, `cubes/<tile>/<year>.zarr`. The first axis is the calendar (366 days), the second the
sensor, so nothing is ever appended or resized; one shard is one whole scene, one file. The group is made aside and
renamed: it is there whole, or not at all, whoever else makes it at the same time. In a bucket its own metadata come last,
and who makes it at the same time puts the same bytes.
"""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from datetime import date
from functools import lru_cache
from pathlib import Path

import numpy as np
from pyproj import CRS

from vsat.core.grid import TileGrid
from vsat.errors import StoreError
from vsat.hls import BANDS, FILL, FMASK_FILL, SCALE, SENSORS, SceneKey
from vsat.io.durable import aside_name, sync_folder, sync_tree
from vsat.io.shard import ShardLayout
from vsat.io.zarr_json import Json, group_json, sharded_json, to_bytes, whole_array
from vsat.objects import ObjectPath, StorePath

ARRAYS = ("reflectance", "fmask")
DAYS = 366
CHUNK = 256  # as HLS's own blocks


def cubes_folder(home: StorePath) -> StorePath:
    """The folder of all cubes of a region."""
    return home / "cubes"


def store_folder(home: StorePath, tile: str, year: int) -> StorePath:
    """The Zarr group of one tile and year."""
    return cubes_folder(home) / tile / f"{year}.zarr"


@lru_cache(maxsize=1 << 14)  # the series of a pixel asks for thousands, and pathlib takes as long as a read
def object_path(home: StorePath, key: SceneKey, array: str) -> StorePath:
    """The one object of a scene in one of `ARRAYS`."""
    rest = ".0.0.0" if array == "reflectance" else ".0.0"
    name = f"c.{key.day.timetuple().tm_yday - 1}.{SENSORS.index(key.sensor)}{rest}"
    return store_folder(home, key.tile, key.day.year) / array / name


def shard_layout(grid: TileGrid, array: str) -> ShardLayout:
    """How a scene of `array` ("reflectance": 6 bands, "fmask": one) is cut on this grid."""
    chunk = min(CHUNK, grid.height), min(CHUNK, grid.width)
    if array == "reflectance":
        return ShardLayout((len(BANDS), *grid.shape), chunk, "int16", FILL)
    return ShardLayout((1, *grid.shape), chunk, "uint8", FMASK_FILL)


def ensure_store(home: StorePath, grid: TileGrid, year: int) -> None:
    """The Zarr group of the tile and year exists, on this grid.

    Raises:
        StoreError: it exists on another grid.
        OSError: the folder cannot be written.
    """
    folder = store_folder(home, grid.tile, year)
    if not (folder / "zarr.json").exists():
        _make(folder, grid, year)
    check_grid(home, grid, year)


def check_grid(home: StorePath, grid: TileGrid, year: int) -> None:
    """The store of this year is on `grid`.

    Raises:
        StoreError: it is on another grid, or there is none.
    """
    folder = store_folder(home, grid.tile, year)
    stored = stored_grid(folder)
    if stored != grid:
        raise StoreError(
            f"the cube is on the grid {_told(stored)}, the region now asks for {_told(grid)}",
            place=str(folder),
            next_step="give the changed region a new name, or remove its folder and fetch again",
        )


def stored_grid(folder: StorePath) -> TileGrid:
    """The grid that a Zarr group of ours was made on.

    Raises:
        StoreError: there is no group, or not one of vsat's.
    """
    try:
        fields = json.loads((folder / "zarr.json").read_bytes())["attributes"]["grid"]
        return TileGrid(**fields)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"this is no cube of vsat's ({type(error).__name__})",
            place=str(folder),
            next_step="remove the region's cubes and its ledger and fetch again",
        ) from error


def _told(grid: TileGrid) -> str:
    return f"{grid.height} x {grid.width} px at {grid.x0:.0f}, {grid.y0:.0f} (EPSG:{grid.epsg})"


def _make(folder: StorePath, grid: TileGrid, year: int) -> None:
    if isinstance(folder, ObjectPath):
        for name, content in store_files(grid, year):
            (folder / name).put(content)
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = folder.with_name(aside_name(folder.name))
    try:
        for name, content in store_files(grid, year):
            (aside / name).parent.mkdir(parents=True, exist_ok=True)
            (aside / name).write_bytes(content)
        sync_tree(aside)
        _place(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def store_files(grid: TileGrid, year: int) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file of a new group; that which makes it a group is the last."""
    arrays, coordinates = _arrays(grid), _coordinates(grid, year)
    listed = arrays | {name: metadata for name, (metadata, _, _) in coordinates.items()}
    for name, metadata in listed.items():
        yield f"{name}/zarr.json", to_bytes(metadata)
    for name, (_, body, object_name) in coordinates.items():
        yield f"{name}/{object_name}", body
    yield "zarr.json", to_bytes(group_json(_about(grid, year), listed))


def _place(aside: Path, folder: Path) -> None:
    try:
        aside.rename(folder)  # fails where another writer was faster: a folder is not renamed onto a full one
    except OSError:
        if not (folder / "zarr.json").exists():
            raise
    for parent in (folder.parent, folder.parent.parent):
        sync_folder(parent)


def _about(grid: TileGrid, year: int) -> Json:
    return {
        "Conventions": "CF-1.11",
        "title": f"HLS v2.0, tile {grid.tile}, {year}",
        "comment": "The ledger beside the cubes says which scenes are complete; nothing else counts.",
        "grid": asdict(grid),
        "tile": grid.tile,
        "year": year,
        "epsg": grid.epsg,
        "bands": list(BANDS),
        "sensors": list(SENSORS),
        "scale_factor": SCALE,
    }


def _arrays(grid: TileGrid) -> dict[str, Json]:
    refl_attributes = {
        "long_name": "surface reflectance",
        "units": "1",
        "scale_factor": SCALE,
        "_FillValue": FILL,
        "grid_mapping": "spatial_ref",
        "coordinates": "spatial_ref",  # else stock xarray takes it for data, and rioxarray finds no CRS
    }
    fmask_attributes = {
        "long_name": "HLS v2 Fmask bits",
        "comment": "255 = no data; 2 cloud, 4 adjacent, 8 shadow, 16 snow or ice, 32 water, 64 and 128 aerosol",
        "grid_mapping": "spatial_ref",
        "coordinates": "spatial_ref",  # else stock xarray takes it for data, and rioxarray finds no CRS
    }
    refl_axes, fmask_axes = ("day", "sensor", "band", "y", "x"), ("day", "sensor", "y", "x")
    return {
        "reflectance": _sharded(shard_layout(grid, "reflectance"), refl_axes, refl_attributes),
        "fmask": _sharded(shard_layout(grid, "fmask"), fmask_axes, fmask_attributes),
    }


def _sharded(layout: ShardLayout, axes: tuple[str, ...], attributes: Json) -> Json:
    _, down, across = layout.counts
    bands = layout.shape[:1] if "band" in axes else ()
    shard = (1, 1, *bands, down * layout.chunk[0], across * layout.chunk[1])
    chunk = (1, 1, *([1] if bands else []), *layout.chunk)
    shape = (DAYS, len(SENSORS), *bands, *layout.shape[1:])
    metadata = sharded_json(shape, shard, chunk, layout.dtype, axes=axes, fill=layout.fill)
    return metadata | {"attributes": attributes}


def _coordinates(grid: TileGrid, year: int) -> dict[str, tuple[Json, bytes, str]]:
    centre = grid.resolution_m / 2
    x = grid.x0 + centre + grid.resolution_m * np.arange(grid.width)
    y = grid.y0 - centre - grid.resolution_m * np.arange(grid.height)
    crs = CRS.from_epsg(grid.epsg)
    geo_transform = f"{grid.x0} {grid.resolution_m} 0 {grid.y0} 0 {-grid.resolution_m}"
    metres = {"units": "m", "standard_name": "projection_x_coordinate"}
    return {
        "day": whole_array(np.arange(DAYS, dtype="<i2"), ("day",), {"units": f"days since {date(year, 1, 1)}"}),
        "sensor": whole_array(np.arange(len(SENSORS), dtype="u1"), ("sensor",), _flags(SENSORS)),
        "band": whole_array(np.arange(len(BANDS), dtype="u1"), ("band",), _flags(BANDS)),
        "y": whole_array(y.astype("<f8"), ("y",), metres | {"standard_name": "projection_y_coordinate"}),
        "x": whole_array(x.astype("<f8"), ("x",), metres),
        "spatial_ref": whole_array(np.array(0, "<i8"), (), crs.to_cf() | {"GeoTransform": geo_transform}),
    }


def _flags(names: tuple[str, ...]) -> Json:
    # numbers, for Zarr v3 has no agreed text type yet
    return {"flag_values": list(range(len(names))), "flag_meanings": " ".join(names)}
