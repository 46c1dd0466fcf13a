"""The virtual image on disk: one folder per tile and date with COGs, VRTs, styles, a preview and, last, the STAC item.

The folder is written aside and put in place in one step; readers see the old image or the new one, never a mix. In a
bucket only one object can be put in one step: the item. The other files lie beside it below a name made of their
checksums, and it leads to them. Equal images give equal bytes. Axes: b bands, l looks of `age` (last, next, count), y, x.
"""

import ctypes
import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal
from xml.sax.saxutils import escape

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from rasterio.io import MemoryFile

from vsat.core.grid import TileGrid
from vsat.core.quality import NO_VALUE, NONE, ORIGIN_MASK
from vsat.errors import StoreError
from vsat.hls import BANDS, COMMON_NAMES, FILL, SCALE
from vsat.io.durable import PARTIAL, aside_name, sync_folder, unwritable, write_file
from vsat.io.preview import preview_png
from vsat.io.styles import image_styles
from vsat.objects import ABSENT, ObjectPath, StorePath

FIRST_VERSION = 1
BLOCK_PX = 256
AGE_BANDS = ("days since the last clear look", "days until the next clear look", "clear looks used")
SOURCES_TAG = "SOURCES"

Int16 = NDArray[np.int16]


@dataclass(frozen=True)
class VirtualImage:
    """One date of one tile.

    Attributes:
        grid: the window of the tile.
        day: the date it stands for.
        bands: names of its bands, in the order of hls.BANDS.
        refl_byx, sd_byx: int16, reflectance and its standard deviation x 1e-4, FILL for no value.
        qa_yx: uint8, see core.quality.
        age_lyx: int16 (3, y, x): days since the last and until the next clear look, clear looks used; FILL missing.
        src_yx: uint16, one-based index into `sources`; 0 for none.
        sources: HLS granule ids.
        status: provisional until later scenes can no longer change it.
        method: how it was filled.
        asof: the state of the record that it shows: for a final image the last day whose scenes it may use, for a
            provisional one that of the newest scene it could use. Not the day of the run, so that any run gives the
            same bytes.
        facts: shares and numbers for reports and the STAC item.
        version: of the product for this date; an image of a higher one stands beside those of the lower ones.
    """

    grid: TileGrid
    day: date
    bands: tuple[str, ...]
    refl_byx: Int16
    sd_byx: Int16
    qa_yx: NDArray[np.uint8]
    age_lyx: Int16
    src_yx: NDArray[np.uint16]
    sources: tuple[str, ...]
    status: Literal["provisional", "final"]
    method: str
    asof: date
    facts: dict[str, float | int | str] = field(default_factory=dict)
    version: int = FIRST_VERSION

    @property
    def name(self) -> str:
        """`VSAT.T33UVP.2024123.v1`."""
        return image_name(self.grid.tile, self.day, self.version)


@dataclass(frozen=True)
class _Layer:
    """One TIFF: its asset name, bands (b, y, x) and how it is described."""

    asset: str
    pixels_byx: NDArray[Any]
    names: tuple[str, ...]
    nodata: float | None
    scale: float
    unit: str
    resampling: str
    tags: dict[str, str] = field(default_factory=dict)


def image_name(tile: str, day: date, version: int = FIRST_VERSION) -> str:
    """The name of a virtual image: product, tile, year and day of year, version."""
    return f"VSAT.T{tile}.{day:%Y%j}.v{version}"


def image_folder(home: StorePath, tile: str, day: date, version: int = FIRST_VERSION) -> StorePath:
    """Where an image lies in a region's folder."""
    return home / "images" / tile / image_name(tile, day, version)


def publish(home: StorePath, image: VirtualImage) -> tuple[tuple[str, str], ...]:
    """The image is in its folder, whole; returns (path relative to `home`, sha256) of every file, sorted.

    Raises:
        StoreError: it cannot be written (disk full); an older image of the date is untouched.
    """
    folder = image_folder(home, image.grid.tile, image.day, image.version)
    try:
        if isinstance(folder, ObjectPath):
            digests = _put(folder, image)
        else:
            with _aside(folder) as aside:
                digests = {name: write_file(aside / name, [content]) for name, content in _files(image, aside)}
                _swap(aside, folder)
    except OSError as error:
        raise unwritable(error, image.name, folder) from error
    return tuple(sorted((str((folder / name).relative_to(home)), digest) for name, digest in digests.items()))


def read_image(home: StorePath, tile: str, day: date, version: int = FIRST_VERSION) -> VirtualImage:
    """The image of a date as it was published; `asof` and `method` from its item. The ledger knows the newest version.

    Raises:
        StoreError: there is none, or a file of it is missing or unreadable.
    """
    from vsat.io.stac import read_item

    path = image_folder(home, tile, day, version) / f"{image_name(tile, day, version)}.json"
    while True:
        item = read_item(path)
        try:
            image = _image(item, path, tile, day, version)
        except StoreError:
            if read_item(path) == item:
                raise
            continue
        if read_item(path) == item:  # else it was replaced while its files were read: they may be of both
            return image


def _image(item: dict[str, Any], path: StorePath, tile: str, day: date, version: int) -> VirtualImage:
    told, assets = item["properties"], item["assets"]
    bands = tuple(band for band in BANDS if COMMON_NAMES[band] in assets)
    tiffs = [asset for asset in assets if str(assets[asset]["type"]).startswith("image/tiff")]
    grids, pixels = {}, {}
    for asset in tiffs:
        grids[asset], pixels[asset] = _read(path.parent / assets[asset]["href"], tile)
    return VirtualImage(
        grids["qa"], day, bands,
        np.concatenate([pixels[COMMON_NAMES[band]] for band in bands]),
        np.concatenate([pixels[f"{COMMON_NAMES[band]}_sd"] for band in bands]),
        pixels["qa"][0], pixels["age"], pixels["src"][0], tuple(told["vsat:sources"]), told["vsat:status"],
        told["vsat:method"], date.fromisoformat(told["updated"][:10]), told["vsat:facts"], version,
    )  # fmt: skip


def _files(image: VirtualImage, aside: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file, the item last: it tells sizes and checksums of those before."""
    from vsat.io.stac import item_json

    yield from _assets(image)
    yield f"{image.name}.json", item_json(image, sorted(path for path in aside.iterdir()))


def _assets(image: VirtualImage) -> Iterator[tuple[str, bytes]]:
    for layer in _layers(image):
        yield f"{image.name}.{layer.asset}.tif", _cog(image.grid, layer)
    for kind, suffix in (("sr", ""), ("sd", "_sd")):
        yield f"{image.name}.{kind}.vrt", _bands_vrt(image, suffix)
    yield f"{image.name}.origin.vrt", _origin_vrt(image)
    for shown, style in image_styles(image.bands).items():
        yield f"{image.name}.{shown}.qml", style
    yield f"{image.name}.png", preview_png(image.refl_byx, image.bands, image.qa_yx)


def _put(folder: ObjectPath, image: VirtualImage) -> dict[str, str]:
    """The image is in the bucket; checksums by name below `folder`.

    What was there before the start is removed at the end, never what another writer put since. The item is put in place
    of the one that was there at the start: of two writers at once the slower fails, and its files are nobody's.
    """
    from vsat.io.stac import item_json

    before = folder.entries()
    path = folder / f"{image.name}.json"
    old = next((entry.etag for entry in before if entry.path == path), ABSENT)
    with TemporaryDirectory(prefix="vsat-") as temporary:
        files, aside = [], Path(temporary)
        for name, content in _assets(image):
            (aside / name).write_bytes(content)
            files.append((name, hashlib.sha256(content).hexdigest()))
        revision = hashlib.sha256(repr(files).encode()).hexdigest()[:16]
        for name, _ in files:
            (folder / revision / name).put((aside / name).read_bytes())
        item = item_json(image, sorted(aside.iterdir()), below=f"{revision}/")
    if path.put(item, instead_of=old) is None and path.read_bytes() != item:
        step = "wait until the other run has ended, then run again"
        raise StoreError("another run has just published this image", place=str(path), next_step=step)
    for entry in before:
        if entry.path != path and entry.path.parent.name != revision:
            entry.path.unlink()
    digests = {f"{revision}/{name}": digest for name, digest in files}
    return digests | {path.name: hashlib.sha256(item).hexdigest()}


def _layers(image: VirtualImage) -> Iterator[_Layer]:
    for b, band in enumerate(image.bands):
        asset = COMMON_NAMES[band]
        yield _Layer(asset, image.refl_byx[b : b + 1], (band,), FILL, SCALE, "1", "average")
        yield _Layer(
            f"{asset}_sd", image.sd_byx[b : b + 1], (f"{band} standard deviation",), FILL, SCALE, "1", "average"
        )
    yield _Layer("qa", image.qa_yx[None], ("quality bits",), None, 1.0, "", "mode")
    yield _Layer("age", image.age_lyx, AGE_BANDS, FILL, 1.0, "day", "nearest")
    tags = {SOURCES_TAG: " ".join(image.sources)}
    yield _Layer("src", image.src_yx[None], ("one-based index into SOURCES",), 0, 1.0, "", "nearest", tags)


def _cog(grid: TileGrid, layer: _Layer) -> bytes:
    """A layer as a cloud-optimised GeoTIFF, made in memory so that the disk sees one whole write."""
    count, height, width = layer.pixels_byx.shape
    profile = {
        "driver": "GTiff", "count": count, "height": height, "width": width, "dtype": layer.pixels_byx.dtype.name,
        "crs": f"EPSG:{grid.epsg}", "transform": grid.transform, "nodata": layer.nodata,
    }  # fmt: skip
    options = {
        "driver": "COG", "compress": "DEFLATE", "predictor": 2, "level": 6, "blocksize": BLOCK_PX,
        "overview_resampling": layer.resampling, "num_threads": 1,
    }  # fmt: skip
    with MemoryFile() as plain, MemoryFile() as cog:
        with plain.open(**profile) as file:
            file.write(layer.pixels_byx)
            file.descriptions = layer.names
            file.scales, file.offsets = (layer.scale,) * count, (0.0,) * count
            file.units = (layer.unit,) * count
            file.update_tags(**layer.tags)
        rasterio.shutil.copy(plain.name, cog.name, **options)
        return bytes(cog.getbuffer())


def _bands_vrt(image: VirtualImage, suffix: str) -> bytes:
    """The bands as one layer."""
    scale = f"<Scale>{SCALE}</Scale><Offset>0</Offset>"
    return _vrt(
        image.grid,
        [
            _vrt_band(
                image, "Int16", number, f"<Description>{band}</Description><NoDataValue>{FILL}</NoDataValue>{scale}",
                f"{COMMON_NAMES[band]}{suffix}", f"<NODATA>{FILL}</NODATA>",
            )
            for number, band in enumerate(image.bands, start=1)
        ],
    )  # fmt: skip


def _origin_vrt(image: VirtualImage) -> bytes:
    """The two bits of origin out of the quality layer: QGIS cannot show bits of a byte by themselves."""
    table = ",".join(f"{code}:{NONE if code & NO_VALUE else code & ORIGIN_MASK}" for code in range(256))
    told = f"<Description>origin</Description><NoDataValue>{NONE}</NoDataValue>"
    return _vrt(image.grid, [_vrt_band(image, "Byte", 1, told, "qa", f"<LUT>{table}</LUT>")])


def _vrt(grid: TileGrid, bands: Sequence[str]) -> bytes:
    """Layers as one, by relative paths, to drag into QGIS."""
    wkt = rasterio.crs.CRS.from_epsg(grid.epsg).to_wkt()
    geo = ", ".join(f"{v:.1f}" for v in grid.transform.to_gdal())
    head = [
        f'<VRTDataset rasterXSize="{grid.width}" rasterYSize="{grid.height}">',
        f"  <SRS>{escape(wkt)}</SRS>",
        f"  <GeoTransform>{geo}</GeoTransform>",
    ]
    return ("\n".join([*head, *bands, "</VRTDataset>"]) + "\n").encode()


def _vrt_band(image: VirtualImage, dtype: str, number: int, told: str, asset: str, how: str) -> str:
    size = f'xOff="0" yOff="0" xSize="{image.grid.width}" ySize="{image.grid.height}"'
    return (
        f'  <VRTRasterBand dataType="{dtype}" band="{number}">\n    {told}\n'
        f'    <ComplexSource><SourceFilename relativeToVRT="1">{image.name}.{asset}.tif</SourceFilename>\n'
        f"      <SourceBand>1</SourceBand><SrcRect {size}/><DstRect {size}/>{how}</ComplexSource>\n"
        "  </VRTRasterBand>"
    )


@contextmanager
def _aside(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder`, gone afterwards, whatever it then holds; those of killed writers go before.

    A lock on it says that its writer lives, for a night and a backfill may publish the same image at the same time.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = folder.with_name(f".{aside_name(folder.name)}")
    with ExitStack() as held:
        with _locked(folder.parent):
            for left in folder.parent.glob(f".{folder.name}.*{PARTIAL}"):
                with suppress(BlockingIOError, FileNotFoundError), _locked(left, fcntl.LOCK_NB):
                    shutil.rmtree(left, ignore_errors=True)
            aside.mkdir()
            held.enter_context(_locked(aside))
        try:
            yield aside
        finally:
            shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _locked(folder: Path, wait: int = 0) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | wait)
        yield
    finally:
        os.close(handle)


def is_being_written(aside: Path) -> bool:
    """True if a living writer holds this folder."""
    try:
        with _locked(aside, fcntl.LOCK_NB):
            return False
    except BlockingIOError:
        return True


def _swap(aside: Path, folder: Path) -> None:
    """`aside` takes the place of `folder` in one step, and what was there before that of `aside`."""
    sync_folder(aside)
    try:
        aside.rename(folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        _exchange(aside, folder)
    sync_folder(folder.parent)


def _exchange(one: Path, other: Path) -> None:
    """Two folders change names in one step (Linux renameat2); elsewhere the old one is moved away first."""
    at_fdcwd, rename_exchange = -100, 2
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is not None and not renameat2(
        at_fdcwd, os.fsencode(one), at_fdcwd, os.fsencode(other), rename_exchange
    ):
        return
    old = one.with_name(f"{one.name}.old{PARTIAL}")
    other.rename(old)
    one.rename(other)
    old.rename(one)


def _read(path: StorePath, tile: str) -> tuple[TileGrid, NDArray[Any]]:
    try:
        with _opened(path) as file:
            at = file.transform
            return TileGrid(tile, file.crs.to_epsg(), at.c, at.f, file.height, file.width), file.read()
    except (rasterio.errors.RasterioError, FileNotFoundError) as error:
        raise StoreError(
            "an image file cannot be read", place=str(path), next_step="vsat verify, then generate again"
        ) from error


@contextmanager
def _opened(path: StorePath) -> Iterator[Any]:
    if isinstance(path, ObjectPath):  # it is read whole anyway, and so GDAL needs no credentials
        with MemoryFile(path.read_bytes()) as memory, memory.open(driver="GTiff") as file:
            yield file
    else:
        with rasterio.open(path, driver="GTiff") as file:
            yield file
