"""One granule's files become verified arrays on a window of the tile's lattice. Axes: b band, y, x.

Every file passes the same checks, whether a few blocks of it are read or all: address, length, declared size and type,
projection, alignment, and the checksum of each block. A file that fails one is a failed granule, never an empty one.

Own HTTP and own block decoding instead of GDAL's, because each rule above needs to see what GDAL hides: redirects,
answers' lengths, block checksums. GDAL (rasterio) still interprets projections, and decodes what is not deflated.
"""

import hashlib
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from affine import Affine
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError
from rasterio.io import MemoryFile

from vsat.core.grid import TileGrid
from vsat.errors import AccessError, ReadError
from vsat.hls import BANDS, FILL, FMASK_FILL, TILE_PX
from vsat.io import tiff
from vsat.io.catalog import Granule
from vsat.io.credentials import EARTHDATA_STEP, earthdata_token
from vsat.io.download import AttemptError, Body, Client, Patience, client_for, retrying
from vsat.io.durable import unwritable
from vsat.io.trust import Endpoint, without_secrets

log = logging.getLogger(__name__)

_HEAD = 1 << 18  # a full tile's header is 4-9 kB; files of small windows fit whole
_GAP = 1 << 16  # blocks closer than this come in one request
_HASHES = {"1220": "sha256", "1340": "sha512", "1114": "sha1", "d50110": "md5"}  # multihash: code and length
_NODATA = {"i2": (None, -9999.0, -1000.0), "u1": (None, 255.0)}  # -1000 is HLS v1.5's
_PIXEL_TOLERANCE = 1e-3
_MAX_COORDINATE = 1e8  # metres

_ACCESS = {"cmr": EARTHDATA_STEP, "planetary-computer": "try again later, or set PC_SDK_SUBSCRIPTION_KEY"}


class Scene(NamedTuple):
    """What one granule holds of a grid window.

    Attributes:
        refl_byx: int16 (6, height, width), scale 1e-4, fill -9999, bands as `hls.BANDS`.
        fmask_yx: uint8 (height, width), HLS Fmask bits, fill 255.
    """

    refl_byx: npt.NDArray[np.int16]
    fmask_yx: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class _Place:
    """Where a file's pixels lie on the grid: rows and columns of the file that the grid window covers.

    `coding` is compression and predictor. It is the one thing in a header that no other check would notice if a bit of
    it were wrong, so the bands of a granule must agree in it.
    """

    rows: slice
    cols: slice
    height: int
    width: int
    coding: tuple[int, int]


def read_granule(
    granule: Granule,
    grid: TileGrid,
    endpoint: Endpoint,
    *,
    scratch: Path | None = None,
    patience: Patience = Patience(),  # noqa: B008 - frozen
    threads: int = 4,
) -> Scene:
    """The granule's six bands and Fmask on the grid window; fill where the granule's files do not reach.

    Windows of less than a quarter of a tile are read block by block, larger ones by whole files.

    Args:
        granule: from `catalog.search`.
        grid: window of the granule's tile.
        endpoint: where it comes from: credentials and allowed hosts.
        scratch: folder that keeps verified whole files until the granule is complete, so that a second try after a
            failure or a kill downloads only what is missing. None keeps them in memory.
        patience: limits of trying again, for each file.
        threads: files read at the same time.

    Raises:
        AccessError: the server refuses our credentials.
        ReadError: a file could not be read and verified; says which and why.
    """
    refl_byx = np.empty((len(BANDS), *grid.shape), np.int16)  # each try fills its plane first
    fmask_yx = np.empty(grid.shape, np.uint8)
    planes: dict[str, npt.NDArray[np.generic]] = {**dict(zip(BANDS, refl_byx, strict=True)), "fmask": fmask_yx}
    client, checks = client_for(endpoint, os.getpid()), dict(granule.checks)
    hrefs = [(name, href) for name, href in granule.hrefs if name in planes]
    if {name for name, _ in hrefs} != set(planes):
        raise ReadError(f"without {sorted(set(planes) - {name for name, _ in hrefs})}", place=granule.id)
    keeps = {name: None if scratch is None else scratch / _kept_name(granule, name) for name in planes}
    with ThreadPoolExecutor(threads) as pool:
        jobs = [
            pool.submit(_read_file, _File(client, granule, name, href, checks.get(name, ""), keeps[name], patience),
                        grid, planes[name])
            for name, href in hrefs
        ]  # fmt: skip
        try:
            places = [job.result() for job in jobs]
        except ReadError:
            for job in jobs:
                job.cancel()
            raise
    _agree(granule, dict(zip((name for name, _ in hrefs), places, strict=True)))
    for keep in keeps.values():
        if keep is not None:
            keep.unlink(missing_ok=True)
    return Scene(refl_byx, fmask_yx)


def _agree(granule: Granule, places: dict[str, _Place]) -> None:
    """Nothing if all files cover the same pixels and the bands are coded alike, else ReadError."""
    if len({(repr(p.rows), repr(p.cols), p.height, p.width) for p in places.values()}) > 1:
        raise ReadError("its files do not cover the same pixels", place=granule.id)
    if len({places[band].coding for band in BANDS}) > 1:
        raise ReadError("its bands are coded differently: a damaged header", place=granule.id)


def _kept_name(granule: Granule, name: str) -> str:
    return f"{granule.id}.{name}.{granule.signature()[:16]}.tif"


@dataclass(frozen=True)
class _File:
    """One file to read: who reads it, what the catalogue says of it, where it may be kept."""

    client: Client
    granule: Granule
    name: str
    href: str
    check: str
    keep: Path | None
    patience: Patience


def _read_file(file: _File, grid: TileGrid, dst_yx: npt.NDArray[np.generic]) -> _Place:
    """Fills `dst_yx` (the grid window) from one file."""
    whole = grid.height * grid.width * 4 >= TILE_PX**2
    label = f"{file.granule.id} {file.name}"
    try:
        return retrying(partial(_attempt, file, grid, dst_yx, whole=whole), label, file.patience)
    except AttemptError as failed:
        raise _failure(
            failed, file.client.endpoint, f"{file.granule.id}, {without_secrets(file.href)}", file.name
        ) from None


def _failure(failed: AttemptError, endpoint: Endpoint, place: str, name: str) -> ReadError:
    """What the user is told of a failed read."""
    if failed.kind != "access":
        step = "fetch again; if it stays, the file is damaged there"
        return ReadError(f"{name}: {failed.reason}", place=place, next_step=step)
    token = earthdata_token() if endpoint.kind == "cmr" else None
    told = f"; {token.told()}" if token else ""
    step = _ACCESS.get(endpoint.kind, "see that the server lets you read it")
    return AccessError(f"{name}: {failed.reason}{told}", place=place, next_step=step)


def probe(granule: Granule, endpoint: Endpoint, *, patience: Patience) -> None:
    """The beginning of the granule's mask can be read, with the credentials as they are now.

    Raises:
        AccessError: the server refuses them.
        ReadError: it cannot be read for another reason.
    """
    href = dict(granule.hrefs)["fmask"]
    try:
        retrying(lambda: Client(endpoint).get(href, patience, start=0, stop=64), granule.id, patience)
    except AttemptError as failed:
        raise _failure(failed, endpoint, f"{granule.id}, {without_secrets(href)}", "fmask") from None


def _attempt(file: _File, grid: TileGrid, dst_yx: npt.NDArray[np.generic], *, whole: bool) -> _Place:
    """One try: fresh bytes, all checks, pixels."""
    try:
        head = _begin(file, whole=whole)
        layout, head = _layout(file, head)
        if layout.dtype.itemsize != dst_yx.dtype.itemsize:
            raise AttemptError(f"pixels are {layout.dtype.name}, wanted {dst_yx.dtype.name}", "final")
        place, nodata = _locate(layout, head.data[:2], grid)
        blocks = layout.blocks(place.rows, place.cols)
        many = len(blocks) * 4 >= len(layout.offsets) or not layout.decodable
        payload = _payloads(file, layout, head, blocks, many=many)
        dst_yx.fill(FMASK_FILL if layout.dtype.itemsize == 1 else FILL)
        if layout.decodable:
            for block in blocks:
                tiff.decode(layout, block, payload(block), (place.rows, place.cols), dst_yx)
        else:
            _decode_by_gdal(payload(-1), place, dst_yx)
    except tiff.MalformedError as error:
        if file.keep is not None:
            file.keep.unlink(missing_ok=True)
        raise AttemptError(f"not a sound GeoTIFF: {error}", "content") from None
    if nodata == -1000:
        dst_yx[dst_yx == -1000] = FILL
    return place


def _begin(file: _File, *, whole: bool) -> Body:
    """The beginning of the file, or all of it; from the folder of kept files where it is there."""
    if whole and file.keep is not None and file.keep.is_file():
        data = file.keep.read_bytes()
        return _verified(file, Body(data, 0, len(data)))
    body = file.client.get(file.href, file.patience, **({} if whole else {"start": 0, "stop": _HEAD}))
    return _verified(file, body)


def _verified(file: _File, body: Body) -> Body:
    """The same bytes, after checks of length and checksum as far as they are known; a whole file is kept if wished."""
    told = dict(part.partition(":")[::2] for part in file.check.split(";") if part)
    if "size" in told and int(told["size"]) != body.total:
        raise AttemptError(f"{body.total} bytes, the catalogue says {told['size']}", "content")
    if len(body.data) < body.total:
        return body
    code = next((code for code in _HASHES if told.get("multihash", "").startswith(code)), None)
    if code:
        digest = hashlib.new(_HASHES[code], body.data, usedforsecurity=False).hexdigest()
        if digest != told["multihash"][len(code) :]:
            raise AttemptError(f"its {_HASHES[code]} is not the catalogue's", "content")
    if file.keep is not None and not file.keep.is_file():
        _keep(file.keep, body.data)
    return body


def _keep(path: Path, data: bytes) -> None:
    part = path.with_suffix(f".{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(data)
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise unwritable(error, path.name, path) from error


def _layout(file: _File, head: Body) -> tuple[tiff.Layout, Body]:
    """The declared layout; reads on where the header is longer than the bytes at hand."""
    try:
        return tiff.read_layout(head.data, head.total), head
    except tiff.HeaderError:
        head = _rest(file, head)
    try:
        return tiff.read_layout(head.data, head.total), head
    except tiff.HeaderError as error:
        raise tiff.MalformedError(str(error)) from None


def _rest(file: _File, head: Body) -> Body:
    """All bytes of the file, the head among them."""
    if len(head.data) == head.total:
        return head
    rest = _range(file, head, len(head.data), head.total)
    return _verified(file, Body(head.data + rest, 0, head.total, head.mark))


def _range(file: _File, head: Body, start: int, stop: int) -> bytes:
    """Bytes of the same file that `head` is of."""
    body = file.client.get(file.href, file.patience, start=start, stop=stop)
    if (body.total, body.mark) != (head.total, head.mark):
        raise AttemptError("the file changed while it was read")
    data = body.data[start - body.start : stop - body.start]  # a server may send the whole file
    if len(data) != stop - start:
        raise AttemptError(f"truncated: {len(data)} of {stop - start} bytes came")
    return data


def _payloads(file: _File, layout: tiff.Layout, head: Body, blocks: list[int], *, many: bool) -> Callable[[int], bytes]:
    """A function from block index to its bytes; -1 is the whole file (only with `many`)."""
    if many or len(head.data) == head.total:
        data = _rest(file, head).data
        return lambda k: data if k < 0 else data[layout.offsets[k] : layout.offsets[k] + layout.sizes[k]]
    spans: dict[int, bytes] = {0: head.data}
    home: dict[int, int] = {}
    ends = sorted((layout.offsets[k], layout.offsets[k] + layout.sizes[k], k) for k in blocks)
    for start, stop in _joined([(a, b) for a, b, _ in ends if b > len(head.data)]):
        spans[start] = _range(file, head, start, stop)
    for start, stop, k in ends:
        home[k] = max(at for at in spans if at <= start and stop <= at + len(spans[at]))
    return lambda k: spans[home[k]][layout.offsets[k] - home[k] :][: layout.sizes[k]]


def _joined(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sorted byte spans, those that nearly touch made one."""
    joined: list[tuple[int, int]] = []
    for start, stop in spans:
        if joined and start <= joined[-1][1] + _GAP:
            joined[-1] = (joined[-1][0], max(stop, joined[-1][1]))
        else:
            joined.append((start, stop))
    return joined


def _locate(layout: tiff.Layout, mark: bytes, grid: TileGrid) -> tuple[_Place, float | None]:
    """Where the file lies on the grid, and its nodata value; AttemptError if it is not on the lattice."""
    if not layout.is_georeferenced:
        raise AttemptError("without georeference", "final")
    order = "<" if mark == b"II" else ">"
    transform, zone, nodata = read_georeference(tiff.georeference(order, layout.geo))
    if zone != grid.epsg:
        raise AttemptError(f"its projection is {zone or 'no UTM on WGS 84'}, the tile's is EPSG:{grid.epsg}", "final")
    size = grid.resolution_m
    if not all(abs(value) < _MAX_COORDINATE for value in transform):  # a NaN compares with nothing
        raise AttemptError("its corner is not a place on Earth", "final")
    if max(abs(a - b) for a, b in zip(transform, (size, 0, transform.c, 0, -size, transform.f), strict=False)) > 1e-6:
        raise AttemptError(f"its pixels are {transform[0]} x {-transform[4]} m, the tile's {size}", "final")
    down, right = (transform.f - grid.y0) / size, (grid.x0 - transform.c) / size
    if max(abs(down - round(down)), abs(right - round(right))) > _PIXEL_TOLERANCE:
        raise AttemptError(f"its corner {transform.c}, {transform.f} is not on the tile's lattice", "final")
    place = _Place(
        slice(round(down), round(down) + grid.height), slice(round(right), round(right) + grid.width),
        layout.height, layout.width, (layout.compression, layout.predictor),
    )  # fmt: skip
    if not (_meet(place.rows, layout.height) and _meet(place.cols, layout.width)):
        raise AttemptError(f"its corner {transform.c}, {transform.f}: it does not touch the window", "final")
    if nodata not in _NODATA[layout.dtype.str[1:]]:
        raise AttemptError(f"its nodata value is {nodata}, which HLS does not have", "final")
    return place, nodata


def _meet(window: slice, size: int) -> bool:
    return bool(window.start < size and window.stop > 0)


@lru_cache(maxsize=256)
def read_georeference(tags: bytes) -> tuple[Affine, int, float | None]:
    """Transform, EPSG code of the UTM zone (0 for any other projection) and nodata of a one-pixel TIFF.

    Cached, for all files of a tile say the same. NASA's v2.0 files name no EPSG code, and a datum "based on WGS 84".

    Args:
        tags: from tiff.georeference.

    Raises:
        MalformedError: GDAL cannot read it.
    """
    try:
        with MemoryFile(tags) as memory, memory.open(driver="GTiff") as src:
            transform, nodata, crs = src.transform, src.nodata, src.crs
            told = crs.to_dict() if crs else {}
    except (RasterioError, CRSError, NotGeoreferencedWarning) as error:
        raise tiff.MalformedError(f"a georeference that can't be read ({type(error).__name__})") from None
    if "init" in told:
        return transform, int(told["init"].partition(":")[2]), nodata
    is_utm = told.get("proj") == "utm" and "WGS84" in (told.get("datum"), told.get("ellps"))
    code = (32700 if told.get("south") else 32600) + int(told["zone"]) if is_utm else 0
    return transform, code, nodata


def _decode_by_gdal(data: bytes, place: _Place, dst_yx: npt.NDArray[np.generic]) -> None:
    """Pixels of a file that is compressed otherwise than HLS's; GDAL sees this file only, in memory."""
    y0, y1 = max(0, place.rows.start), min(place.height, place.rows.stop)
    x0, x1 = max(0, place.cols.start), min(place.width, place.cols.stop)
    try:
        with MemoryFile(data) as memory, memory.open(driver="GTiff") as src:
            part_yx = src.read(1, window=((y0, y1), (x0, x1)))
    except RasterioError as error:
        raise tiff.MalformedError(f"GDAL can't decode it ({error})") from None
    top, left = y0 - place.rows.start, x0 - place.cols.start
    dst_yx[top : top + y1 - y0, left : left + x1 - x0] = part_yx
