"""Published images as users and exports read them: one listing of the ledger, windows of single layers, a lazy Dataset.

No item is read to find them: the ledger's receipts name every file. Axes: t images, b bands, l looks of `age` (last,
next, count), y, x; n single pixels.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vsat.config import Region
from vsat.core.grid import TileGrid
from vsat.core.quality import NO_VALUE, NONE, ORIGIN_MASK
from vsat.errors import InputError, StoreError
from vsat.hls import BANDS, COMMON_NAMES, FILL, SCALE
from vsat.io.cog import grid_of, read_window
from vsat.io.cube import plain_slice
from vsat.io.ledger import Fact, Ledger, Receipt
from vsat.io.publish import BLOCK_PX, FIRST_VERSION, image_folder
from vsat.io.scenes import ledger_path
from vsat.objects import StorePath

if TYPE_CHECKING:
    import xarray as xr

KIND = "image"
LOOKS = ("last", "next", "count")
ORIGINS = ("observed", "filled_near", "filled_far", "prior_only")
_CHUNK = 1024  # pixels a side of a Dask chunk: 4 x 4 blocks, so that a pixel's series costs little and a tile few tasks


@dataclass(frozen=True)
class Published:
    """The newest version of a tile's image of one date.

    Attributes:
        tile, day, name, status: as published; status is provisional or final.
        objects: its files by name, with their SHA-256, the item among them.
        facts: the receipt's.
    """

    tile: str
    day: date
    name: str
    status: str
    objects: Mapping[str, tuple[StorePath, str]]
    facts: Mapping[str, Fact]

    @cached_property
    def files(self) -> dict[str, StorePath]:
        """Its GeoTIFFs by asset: red, red_sd, qa, age, src."""
        own = f"{self.name}."
        return {
            file.removeprefix(own).removesuffix(".tif"): path
            for file, (path, _) in self.objects.items()
            if file.endswith(".tif")
        }

    @property
    def bands(self) -> tuple[str, ...]:
        """Its bands, by the names and in the order of hls.BANDS."""
        return tuple(band for band in BANDS if COMMON_NAMES[band] in self.files)

    @cached_property
    def digest(self) -> str:
        """Changes with any of its files."""
        own = sorted((file, digest) for file, (_, digest) in self.objects.items())
        return hashlib.sha256(repr(own).encode()).hexdigest()[:32]


def folder_of(home: StorePath, receipt: Receipt) -> StorePath:
    """Where the newest version of an image lies."""
    tile, day = receipt.key.split("/")
    return image_folder(home, tile, date.fromisoformat(day), version_of(receipt))


def version_of(receipt: Receipt | None) -> int:
    """The newest version of an image; of none, the first."""
    return int(receipt.facts.get("version") or FIRST_VERSION) if receipt else FIRST_VERSION


def published(home: StorePath, tile: str = "") -> list[Published]:
    """The images of a tile (of all tiles without one) that the ledger lists, by tile and day.

    Looking at a region that was never worked on makes no ledger.
    """
    if not ledger_path(home).exists():
        return []
    with Ledger(ledger_path(home)) as ledger:
        receipts = ledger.all(KIND, f"{tile}/" if tile else "")
    return [as_published(home, receipt) for receipt in receipts if receipt.status == "done"]


def tile_images(region: Region, tile: str | None = None) -> list[Published]:
    """The images of one tile of a region, at least one, by day.

    Args:
        region: whose images.
        tile: which tile; may be left out where the region has images of one only.

    Raises:
        InputError: no or another tile named where there are several, or there is no image yet.
    """
    found = published(region.home)
    tiles = sorted({one.tile for one in found})
    if not tiles:
        step = f"make them first: vsat nightly {region.name}"
        raise InputError("the region has no images yet", place=region.name, next_step=step)
    if tile is None and len(tiles) > 1:
        problem, step = "the region has several tiles", f"name one of {', '.join(tiles)}"
        raise InputError(problem, place=region.name, next_step=step)
    chosen = (tile or tiles[0]).upper().removeprefix("T")
    if chosen not in tiles:
        problem, step = f"there are no images of tile {tile!r}", f"name one of {', '.join(tiles)}"
        raise InputError(problem, place=region.name, next_step=step)
    return [one for one in found if one.tile == chosen]


def image_grid(one: Published) -> TileGrid:
    """The grid of an image, from its quality layer.

    Raises:
        StoreError: it is missing or unreadable.
    """
    return grid_of(one.files["qa"], one.tile)


def reflectance(stored: NDArray[Any]) -> NDArray[np.float32]:
    """Stored numbers of reflectance or its standard deviation as float32 reflectance; NaN for fill."""
    return np.where(stored == FILL, np.float32(np.nan), stored * np.float32(SCALE)).astype(np.float32)


def read_layer(path: StorePath, grid: TileGrid, rows: slice = slice(None), cols: slice = slice(None)) -> NDArray[Any]:
    """The stored numbers (b, y, x) of a window of one layer.

    Args:
        path: its GeoTIFF.
        grid: what it must lie on.
        rows, cols: slices of pixels, step 1, not empty.

    Raises:
        StoreError: it is missing, altered, or on another grid.
    """
    _check_grid(path, grid)
    tall, wide = range(grid.height)[rows], range(grid.width)[cols]
    return _read(path, slice(tall.start, tall.stop), slice(wide.start, wide.stop))


def read_pixels(path: StorePath, grid: TileGrid, row_n: Sequence[int], col_n: Sequence[int]) -> NDArray[Any]:
    """The stored numbers (b, n) of single pixels of one layer, each block read once. Raises as `read_layer`."""
    _check_grid(path, grid)
    rows, cols = np.asarray(row_n, int), np.asarray(col_n, int)
    blocks = np.stack([rows // BLOCK_PX, cols // BLOCK_PX], axis=1)
    values_bn = np.empty((_samples(path), len(rows)), np.int32)
    for top, left in np.unique(blocks, axis=0) * BLOCK_PX:
        here = (blocks == (top // BLOCK_PX, left // BLOCK_PX)).all(axis=1)
        block = slice(top, min(top + BLOCK_PX, grid.height)), slice(left, min(left + BLOCK_PX, grid.width))
        values_bn[:, here] = _read(path, *block)[:, rows[here] - top, cols[here] - left]
    return values_bn


def _read(path: StorePath, rows: slice, cols: slice) -> NDArray[Any]:
    found = read_window(path, rows, cols, samples=_samples(path))
    return found[None] if found.ndim == 2 else np.moveaxis(found, -1, 0)


def _samples(path: StorePath) -> int:
    return len(LOOKS) if path.name.endswith(".age.tif") else 1


def _check_grid(path: StorePath, grid: TileGrid) -> None:
    if grid_of(path, grid.tile, samples=_samples(path)) != grid:
        step = "the region's area has changed: generate the dates that were made before again"
        raise StoreError("the image lies on another grid than the newest one", place=str(path), next_step=step)


def open_images(region: Region, tile: str | None = None) -> "xr.Dataset":
    """All virtual images of one tile, lazy, as the ledger lists them now; the form of what `predict` gives.

    Args:
        region: whose images, in a folder or a bucket.
        tile: which tile; may be left out where the region has images of one only.

    Returns:
        Dataset in Dask arrays: `reflectance` and `sd` float32 (time, band, y, x) in reflectance, NaN where there is no
        value; `qa` uint8 (time, y, x), the quality bits as published; `origin` uint8 (time, y, x) out of them: 0 observed
        that day, 1 filled with a clear look within 16 days, 2 filled farther, 3 prior only, 255 no value; `age` int16
        (time, look, y, x): days since the last and until the next clear look, and the number of clear looks, -9999
        missing. Coordinates time (datetime64), status and image (time: provisional or final; the item's id), band, look,
        y, x (pixel centres, metres), spatial_ref. `.sel(time="2024-05")` or a single pixel reads just that.

        Files are read when values are asked for: who keeps a Dataset while a night makes images again opens it anew.

    Raises:
        InputError: no or another tile named where there are several, or there is no image yet.
        StoreError: the newest image is missing or unreadable; later, when values are read, another one.
    """
    import rioxarray  # noqa: F401 - gives the Dataset its .rio
    import xarray as xr

    images = tile_images(region, tile)
    grid, bands = image_grid(images[-1]), tuple(b for b in BANDS if any(b in one.bands for one in images))
    assets = [COMMON_NAMES[band] for band in bands]
    four, three = ("time", "band", "y", "x"), ("time", "y", "x")
    reflectance = _lazy(_Layers(grid, images, tuple(assets), "float32"))
    sd = _lazy(_Layers(grid, images, tuple(f"{asset}_sd" for asset in assets), "float32"))
    qa = _lazy(_Layers(grid, images, ("qa",), "uint8"))[:, 0]
    age = _lazy(_Layers(grid, images, ("age",) * len(LOOKS), "int16"))
    flags: dict[str, Any] = {"flag_values": np.array([*range(len(ORIGINS)), NONE], np.uint8)}
    flags |= {"flag_meanings": " ".join([*ORIGINS, "no_value"]), "long_name": "where a value comes from"}
    stack = xr.Dataset(
        {
            "reflectance": (four, reflectance, {"units": "1", "long_name": "surface reflectance"}),
            "sd": (four, sd, {"units": "1", "long_name": "predicted standard deviation of reflectance"}),
            "qa": (three, qa, {"long_name": "quality bits: 0-1 origin, 2 extrapolated, 3 snow, 4 water, 5 change "
                                            "suspected, 6 low confidence, 7 no value"}),
            "origin": (three, qa.map_blocks(_origin, dtype=np.uint8), flags),
            "age": (("time", "look", "y", "x"), age, {
                "long_name": "days since the last and until the next clear look; number of clear looks",
                "comment": f"{FILL} is missing",
            }),
        },
        coords={
            "time": np.array([one.day for one in images], "datetime64[ns]"),
            "status": ("time", [one.status for one in images]),
            "image": ("time", [one.name for one in images]),
            "band": list(bands), "look": list(LOOKS),
            "y": ("y", grid.y0 - grid.resolution_m * (np.arange(grid.height) + 0.5), {"units": "m"}),
            "x": ("x", grid.x0 + grid.resolution_m * (np.arange(grid.width) + 0.5), {"units": "m"}),
        },
        attrs={"title": f"virtual images of {region.name}, tile {grid.tile}", "tile": grid.tile},
    )  # fmt: skip
    located: xr.Dataset = stack.rio.write_crs(grid.epsg).rio.write_transform(grid.transform)
    return located


def _origin(qa: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.where(qa & NO_VALUE, np.uint8(NONE), qa & np.uint8(ORIGIN_MASK)).astype(np.uint8)


def as_published(home: StorePath, receipt: Receipt) -> Published:
    """The image that a receipt of one tells of."""
    tile, day = receipt.key.split("/")
    name = folder_of(home, receipt).name
    own = {}
    for output, digest in receipt.outputs:  # of lower versions too
        file = PurePosixPath(output).name
        if file.startswith(f"{name}."):
            own[file] = home / output, digest
    facts = dict(receipt.facts)
    return Published(tile, date.fromisoformat(day), name, str(facts.get("status", "")), own, facts)


def _lazy(layers: "_Layers") -> Any:
    import dask.array as da

    chunks = (1, 1, *(min(_CHUNK, size) for size in layers.shape[-2:]))
    meta = np.empty((0,) * 4, layers.dtype)
    return da.from_array(layers, chunks=chunks, asarray=False, fancy=False, meta=meta)  # type: ignore[no-untyped-call]


class _Layers:
    """Layers of all images as something (t, b, y, x) that can be sliced: what Dask needs to read only what is asked.

    Of several assets each gives its first band; of one and the same, repeated, the first, second and so on. float32 is
    reflectance, NaN none; integers are as stored.
    """

    def __init__(self, grid: TileGrid, images: Sequence[Published], assets: tuple[str, ...], dtype: str) -> None:
        self.grid, self.images, self.assets = grid, tuple(images), assets
        self.shape = (len(images), len(assets), *grid.shape)
        self.dtype, self.ndim = np.dtype(dtype), 4

    def __getitem__(self, window: tuple[Any, ...]) -> NDArray[Any]:
        asked = [part if isinstance(part, slice) else slice(part, part + 1) for part in window]
        read_rows, left_rows = plain_slice(asked[2], self.grid.height)
        read_cols, left_cols = plain_slice(asked[3], self.grid.width)
        images, wanted = self.images[asked[0]], range(len(self.assets))[asked[1]]
        size = len(range(self.grid.height)[read_rows]), len(range(self.grid.width)[read_cols])
        values_tbyx = np.empty((len(images), len(wanted), *size), self.dtype)
        for values_byx, one in zip(values_tbyx, images, strict=True):
            for values_yx, b in zip(values_byx, wanted, strict=True):
                values_yx[:] = self._read(one, b, read_rows, read_cols)
        left = (slice(None), slice(None), left_rows, left_cols)
        kept: NDArray[Any] = values_tbyx[left][tuple(slice(None) if isinstance(part, slice) else 0 for part in window)]
        return kept

    def _read(self, one: Published, b: int, rows: slice, cols: slice) -> NDArray[Any]:
        asset = self.assets[b]
        number = b if self.assets.count(asset) > 1 else 0
        if asset not in one.files:  # an image from before the region asked for this band
            return np.array(np.nan, self.dtype)
        stored: NDArray[Any] = read_layer(one.files[asset], self.grid, rows, cols)[number]
        if self.dtype.kind != "f":
            return stored.astype(self.dtype, copy=False)
        return reflectance(stored)
