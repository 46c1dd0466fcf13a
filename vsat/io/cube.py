"""The cube as users and stages see it: a lazy Dataset over exactly what the ledger lists. DESIGN 4.

Below it lie `scenes` (objects and receipts) and `layout` (folders and metadata); their public names are here too.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vsat.config import Region
from vsat.core.grid import TileGrid
from vsat.errors import InputError, StoreError
from vsat.hls import BANDS, FILL, SCALE, SceneKey
from vsat.io.layout import ARRAYS, cubes_folder, shard_layout, stored_grid
from vsat.io.ledger import Ledger, Receipt
from vsat.io.scenes import (
    KIND,
    done_scenes,
    ledger_path,
    read_array,
    read_scenes,
    scene_keys,
    settle,
    sweep,
    write_scene,
)
from vsat.objects import StorePath

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "KIND", "cube_grid", "cube_tiles", "ledger_path", "open_cube", "open_tile", "read_scenes", "scene_keys", "settle",
    "sweep", "write_scene",
]  # fmt: skip
_ROWS = 1024  # rows of a Dask chunk: 45 MB of reflectance on a whole tile


def cube_tiles(home: StorePath) -> list[str]:
    """Tiles with at least one listed scene, sorted."""
    with Ledger(ledger_path(home)) as ledger:
        return sorted({SceneKey.from_string(receipt.key).tile for receipt in done_scenes(ledger)})


def cube_grid(home: StorePath, tile: str) -> TileGrid:
    """The grid that the tile's cube is on.

    Raises:
        StoreError: there is no cube of this tile.
    """
    folders = sorted(path.parent for path in (cubes_folder(home) / tile).glob("*.zarr/zarr.json"))
    if not folders:
        step = "fetch scenes first: vsat fetch"
        raise StoreError(f"there is no cube of tile {tile}", place=str(cubes_folder(home)), next_step=step)
    return stored_grid(folders[-1])


def open_cube(region: Region, tile: str | None = None) -> "xr.Dataset":
    """The region's cube of one tile, lazy, over exactly the scenes that the ledger lists now. DESIGN 4.

    Args:
        region: whose cube.
        tile: which tile; may be left out where the region has one.

    Returns:
        Dataset with `reflectance` (time, band, y, x) int16 and `fmask` (time, y, x) uint8 in Dask arrays, a scene's
        stripe per chunk; coordinates time (datetime64, UTC, acquisition; sorted), sensor, band, y, x (pixel centres,
        metres), spatial_ref. Reflectance is stored numbers: `scale_factor` and `_FillValue` are attributes, and
        `xarray.decode_cf` gives float reflectance with NaN.

    Raises:
        InputError: no or another tile named where there are several.
        StoreError: there is no cube yet.
    """
    tiles = cube_tiles(region.home)
    if not tiles:
        step = "fetch scenes first: vsat fetch"
        raise StoreError("the ledger lists no scene", place=str(ledger_path(region.home)), next_step=step)
    if tile is None and len(tiles) == 1:
        tile = tiles[0]
    if tile not in tiles:
        problem = "the region has several tiles" if tile is None else f"there are no scenes of tile {tile!r}"
        raise InputError(problem, place=region.name, next_step=f"name one of {', '.join(tiles)}")
    return open_tile(region.home, tile)


def open_tile(home: StorePath, tile: str) -> "xr.Dataset":
    """`open_cube` for a folder and tile that are known."""
    import dask.array as da
    import rioxarray  # noqa: F401 - gives the Dataset its .rio
    import xarray as xr

    grid = cube_grid(home, tile)
    with Ledger(ledger_path(home)) as ledger:
        timed = sorted((_acquired(receipt), SceneKey.from_string(receipt.key)) for receipt in done_scenes(ledger, tile))
    keys = tuple(key for _, key in timed)
    lazy = {}
    for array in ARRAYS:
        stack = _Stack(home, grid, keys, array)
        chunks = (1, *stack.shape[1:-2], min(_ROWS, grid.height), grid.width)
        meta = np.empty((0,) * stack.ndim, stack.dtype)
        lazy[array] = da.from_array(stack, chunks=chunks, asarray=False, fancy=False, meta=meta)  # type: ignore[no-untyped-call]
    fmask_attributes = {"long_name": "HLS v2 Fmask bits", "comment": "255 = no data"}
    refl_attributes = {"long_name": "surface reflectance", "units": "1", "scale_factor": SCALE, "_FillValue": FILL}
    cube = xr.Dataset(
        {
            "reflectance": (("time", "band", "y", "x"), lazy["reflectance"], refl_attributes),
            "fmask": (("time", "y", "x"), lazy["fmask"], fmask_attributes),
        },
        coords={
            "time": np.array([moment for moment, _ in timed], "datetime64[ns]"),
            "sensor": ("time", np.array([key.sensor for key in keys], "<U3")),
            "band": list(BANDS),
            "y": ("y", grid.y0 - grid.resolution_m * (np.arange(grid.height) + 0.5), {"units": "m"}),
            "x": ("x", grid.x0 + grid.resolution_m * (np.arange(grid.width) + 0.5), {"units": "m"}),
        },
        attrs={"title": f"HLS, tile {tile}", "tile": tile},
    )
    located: xr.Dataset = cube.rio.write_crs(grid.epsg).rio.write_transform(grid.transform)
    return located


class _Stack:
    """Scenes of one array as something that can be sliced: what Dask needs to read only what is asked."""

    def __init__(self, home: StorePath, grid: TileGrid, keys: tuple[SceneKey, ...], array: str) -> None:
        self._home, self._grid, self._keys, self._array = home, grid, keys, array
        layout = shard_layout(grid, array)
        bands = layout.shape[:1] if array == "reflectance" else ()
        self.shape = (len(keys), *bands, *grid.shape)
        self.dtype, self.ndim = np.dtype(layout.dtype), len(self.shape)

    def __getitem__(self, window: tuple[Any, ...]) -> NDArray[Any]:
        times, *bands, rows, cols = window
        read_rows, left_rows = plain_slice(rows, self._grid.height)
        read_cols, left_cols = plain_slice(cols, self._grid.width)
        keys = self._keys[times]
        read_tbyx = read_array(self._home, self._grid, keys, self._array, rows=read_rows, cols=read_cols)
        kept: tuple[Any, ...] = (slice(None), *(bands or [0]), left_rows, left_cols)
        kept_tbyx: NDArray[Any] = read_tbyx[kept]
        return kept_tbyx


def plain_slice(asked: slice, length: int) -> tuple[slice, slice]:
    """A slice with step 1 that holds all that is asked, and what is then left to slice."""
    pixels = range(length)[asked]
    if pixels.step == 1:
        return slice(pixels.start, max(pixels.start, pixels.stop)), slice(None)
    return slice(None), asked


def _acquired(receipt: Receipt) -> np.datetime64:
    """When the scene was taken (UTC, ns); its day where the receipt does not say."""
    told = receipt.facts.get("acquired")
    if isinstance(told, str) and told:
        moment = datetime.fromisoformat(told)
        utc = moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
        return np.datetime64(utc, "ns")
    return np.datetime64(SceneKey.from_string(receipt.key).day, "ns")
