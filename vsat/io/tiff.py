"""Tiles of a GeoTIFF: where they lie, and their pixels, each checked against its own checksum.

GDAL stops inflating a tile when it has enough pixels, before the checksum at its end: of 25 single bits flipped in a
real Fmask it let 6 through as wrong pixels. Here blocks are inflated to the end and checked; with the predictor undone
in numba that costs the same CPU time as GDAL, or half of it with ISA-L. The header is read here too, so that sizes and
types are known to be sane before any library works with them.
"""

import importlib
import importlib.util
import struct
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType

import numba
import numpy as np
import numpy.typing as npt

_SHORT, _LONG, _LONG8 = 3, 4, 16
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGERS = {1: "B", _SHORT: "H", _LONG: "I", _LONG8: "Q"}
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _SAMPLES, _ROWS_PER_STRIP = 256, 257, 258, 259, 277, 278
_PLANAR, _PREDICTOR, _TILE_WIDTH, _TILE_HEIGHT, _FORMAT = 284, 317, 322, 323, 339
_STRIPS, _TILES = (273, 279), (324, 325)  # tags of offsets and byte counts
_DEFLATE = (8, 32946)
_OTHERS = (5, 32773, 50000)  # LZW, PackBits, Zstandard: what GDAL is let to decode; none of them holds more than pixels
_MAX_BLOCKS = 1 << 16
_MAX_LEVELS = 12
_MAX_TAG_BYTES = 1 << 20
MAX_SIDE = 3660
_MAX_BLOCK_SIDE = 4096
_GEO = (33550, 33922, 34264, 34735, 34736, 34737, 42113)  # pixel scale, tie points, matrix, keys; GDAL's nodata
MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_Tags = dict[int, tuple[int, ...]]


class MalformedError(ValueError):
    """These bytes are not a TIFF as HLS has it."""


class HeaderError(ValueError):
    """The header goes on behind the bytes given.

    Args:
        needed: how many bytes from the beginning are needed, at least.
    """

    def __init__(self, needed: int) -> None:
        self.needed = needed
        super().__init__(f"{needed} bytes needed")


@dataclass(frozen=True)
class Layout:
    """What a directory of a TIFF declares: its pixels, and where its blocks (tiles or strips) lie.

    `offsets` and `sizes` are bytes, row by row; `end` is where the header ends; `geo` are the tags of georeference and
    nodata as (tag, type, count, bytes); `samples` are the bands, which lie pixel by pixel.
    """

    height: int
    width: int
    block_height: int
    block_width: int
    tiled: bool
    dtype: np.dtype[np.generic]
    compression: int
    predictor: int
    offsets: tuple[int, ...]
    sizes: tuple[int, ...]
    end: int
    geo: tuple[tuple[int, int, int, bytes], ...]
    samples: int = 1

    @property
    def across(self) -> int:
        """Blocks in a row."""
        return -(-self.width // self.block_width)

    @property
    def decodable(self) -> bool:
        """True if `decode` can; other compressions are left to GDAL."""
        return self.compression in (1, *_DEFLATE) and self.predictor in (1, 2)

    @property
    def is_georeferenced(self) -> bool:
        """True if there are tags that say where the pixels lie and in which projection."""
        tags = {tag for tag, *_ in self.geo}
        return 34735 in tags and (34264 in tags or {33550, 33922} <= tags)

    def blocks(self, rows: slice, cols: slice) -> list[int]:
        """Indices of the blocks that a window touches; it may reach over the file's edges."""
        down = range(max(0, rows.start) // self.block_height, -(-min(self.height, rows.stop) // self.block_height))
        right = range(max(0, cols.start) // self.block_width, -(-min(self.width, cols.stop) // self.block_width))
        return [y * self.across + x for y in down for x in right]


def read_layout(head: bytes, total: int) -> Layout:
    """The layout that a TIFF of `total` bytes declares in its first bytes.

    Raises:
        HeaderError: more of the file is needed.
        MalformedError: not a TIFF, not one band of int16 or uint8, or sizes that HLS does not have.
    """
    tags, geo, end, _ = _directory(head, total)
    return _layout(head, total, tags, geo, end, samples=1)


def read_levels(head: bytes, total: int, *, samples: int = 1) -> tuple[Layout, ...]:
    """The layouts of a TIFF's directories: full resolution first, then its overviews, each smaller than the one before.

    Args:
        head: the file's first bytes.
        total: bytes of the file.
        samples: bands that it must have, interleaved by pixel.

    Raises:
        HeaderError: more of the file is needed.
        MalformedError: as in `read_layout`; or a directory that is no overview.
    """
    levels: list[Layout] = []
    following = None
    while following != 0:
        tags, geo, end, following = _directory(head, total, following)
        level = _layout(head, total, tags, geo, end, samples=samples)
        if levels and not (level.height < levels[-1].height or level.width < levels[-1].width):
            raise MalformedError(f"an overview of {level.height} x {level.width} pixels")
        levels.append(level)
        if len(levels) > _MAX_LEVELS:
            raise MalformedError(f"more than {_MAX_LEVELS} directories")
    return tuple(levels)


def _layout(
    head: bytes, total: int, tags: _Tags, geo: tuple[tuple[int, int, int, bytes], ...], end: int, *, samples: int
) -> Layout:
    order = "<" if head.startswith(b"II") else ">"
    kinds = {(16, 2): "i2", (8, 1): "u1"}
    bits, forms = tags.get(_BITS) or (1,), tags.get(_FORMAT) or (1,) * samples
    declared = (bits[0], forms[0])
    if _one(tags, _SAMPLES, 1) != samples or declared not in kinds or {len(bits), len(forms)} != {samples}:
        kind = f"{_one(tags, _SAMPLES, 1)} band(s) of {bits[0]} bits, sample format {forms[0]}"
        raise MalformedError(f"{kind}; wanted {'one band' if samples == 1 else f'{samples} bands'} of int16 or uint8")
    if len(set(bits)) + len(set(forms)) != 2 or _one(tags, _PLANAR, 1) != 1:
        raise MalformedError("bands of several types, or not interleaved by pixel")
    height, width = _one(tags, _HEIGHT), _one(tags, _WIDTH)
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise MalformedError(f"{height} x {width} pixels; a tile has at most {MAX_SIDE} x {MAX_SIDE}")
    tiled = _TILE_WIDTH in tags
    block_height = _one(tags, _TILE_HEIGHT) if tiled else min(_one(tags, _ROWS_PER_STRIP, height), height)
    block_width = _one(tags, _TILE_WIDTH) if tiled else width
    if not (0 < block_height <= _MAX_BLOCK_SIDE and 0 < block_width <= _MAX_BLOCK_SIDE):
        raise MalformedError(f"blocks of {block_height} x {block_width} pixels")
    offsets, sizes = (tags.get(tag, ()) for tag in (_TILES if tiled else _STRIPS))
    layout = Layout(
        height, width, block_height, block_width, tiled, np.dtype(order + kinds[declared]),
        _one(tags, _COMPRESSION, 1), _one(tags, _PREDICTOR, 1), offsets, sizes, end, geo, samples,
    )  # fmt: skip
    if not layout.decodable and layout.compression not in _OTHERS:
        raise MalformedError(f"compression {layout.compression}, predictor {layout.predictor}: HLS has neither")
    _check_blocks(layout, total)
    return layout


def decode(
    layout: Layout, index: int, payload: bytes, window: tuple[slice, slice], dst_yx: npt.NDArray[np.generic]
) -> None:
    """Writes what one block holds of a window of the file into `dst_yx`.

    Args:
        layout: of the file; must be `decodable`.
        index: of the block.
        payload: its bytes.
        window: rows and columns of the file that `dst_yx` stands for; they may begin below 0 and end behind the file.
        dst_yx: C-contiguous array of the window's shape, int16 or uint8; of several samples (y, x, sample).

    Raises:
        MalformedError: the block does not inflate to its full size with a right checksum.
    """
    rows, cols = window
    top, left = index // layout.across * layout.block_height, index % layout.across * layout.block_width
    height = layout.block_height if layout.tiled else min(layout.block_height, layout.height - top)
    wanted = height * layout.block_width * layout.samples * layout.dtype.itemsize
    raw = _inflate(payload, wanted) if layout.compression in _DEFLATE else payload
    if len(raw) != wanted:
        raise MalformedError(f"a block inflates to {len(raw)} bytes instead of {wanted}")
    bands = () if layout.samples == 1 else (layout.samples,)
    block_yx = np.frombuffer(raw, layout.dtype).reshape(height, layout.block_width, *bands)
    block_yx = block_yx.astype(layout.dtype.newbyteorder("="), copy=False)
    y0, y1 = max(rows.start, top), min(rows.stop, top + height, layout.height)
    x0, x1 = max(cols.start, left), min(cols.stop, left + layout.block_width, layout.width)
    if layout.predictor == 2 and bands:
        block_yx = np.cumsum(block_yx, axis=1, dtype=block_yx.dtype)  # wraps as the type does
    elif layout.predictor == 2:
        _integrate(block_yx, y0 - top, y1 - top, x0 - left, x1 - left, dst_yx, y0 - rows.start, x0 - cols.start)
        return
    part_yx = block_yx[y0 - top : y1 - top, x0 - left : x1 - left]
    dst_yx[y0 - rows.start : y1 - rows.start, x0 - cols.start : x1 - cols.start] = part_yx


def _inflate(payload: bytes, wanted: int) -> bytes:
    """Exactly `wanted` bytes, their checksum right; a block that would swell beyond that is stopped there."""
    library = _inflater()
    stream = library.decompressobj()
    try:
        raw: bytes = stream.decompress(payload, wanted + 1)
    except library.error as error:
        raise MalformedError(f"a block does not inflate ({error})") from None
    if not stream.eof:  # the checksum stands at the end
        raise MalformedError(f"a block does not end after {wanted} bytes")
    return raw


@lru_cache(maxsize=1)
def _inflater() -> ModuleType:
    """ISA-L where it is installed, which inflates and checks in less than half of zlib's time, else zlib."""
    return importlib.import_module("isal.isal_zlib" if importlib.util.find_spec("isal") else "zlib")


@numba.njit(nogil=True, cache=True)
def _integrate(block_yx, y0, y1, x0, x1, dst_yx, dst_y, dst_x):  # type: ignore[no-untyped-def]
    """Horizontal predictor undone: running sums along rows, wrapping as the type does."""
    for y in range(y0, y1):
        total = block_yx[y, 0] - block_yx[y, 0]
        for x in range(x1):
            total += block_yx[y, x]
            if x >= x0:
                dst_yx[dst_y + y - y0, dst_x + x - x0] = total


def georeference(order: str, geo: tuple[tuple[int, int, int, bytes], ...]) -> bytes:
    """A TIFF of one pixel that carries the given tags and nothing else, for a library to interpret.

    Args:
        order: "<" or ">", the byte order that the tags were written in.
        geo: as in `Layout.geo`.
    """
    plain = ((256, 1), (257, 1), (258, 16), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 2), (339, 2))
    entries = [(tag, _SHORT, 1, struct.pack(order + "H", value)) for tag, value in plain]
    entries = sorted([*entries, *geo])
    behind = 10 + 2 + 12 * len(entries) + 4  # 8 bytes of header, one pixel of 2, the directory
    directory, values = struct.pack(order + "H", len(entries)), b""
    for tag, kind, length, raw in entries:
        at = struct.pack(order + "I", behind + len(values)) if len(raw) > 4 else raw.ljust(4, b"\0")
        values += raw + b"\0" * (len(raw) % 2) if len(raw) > 4 else b""
        directory += struct.pack(order + "HHI", tag, kind, length) + at
    mark = b"II" if order == "<" else b"MM"
    return mark + struct.pack(order + "HI", 42, 10) + b"\0\0" + directory + b"\0" * 4 + values


def _check_blocks(layout: Layout, total: int) -> None:
    """Every block is there and inside the file: an absent one can't be told from a damaged header."""
    count = layout.across * -(-layout.height // layout.block_height)
    if count > _MAX_BLOCKS or len(layout.offsets) != count or len(layout.sizes) != count:
        raise MalformedError(f"{len(layout.offsets)} block offsets, {len(layout.sizes)} sizes, {count} blocks")
    most = layout.block_height * layout.block_width * layout.samples * layout.dtype.itemsize * 2 + 4096
    for offset, size in zip(layout.offsets, layout.sizes, strict=True):
        if size <= 0 or size > most or offset <= 0 or offset + size > total:
            raise MalformedError(f"a block of {size} bytes at {offset} in a file of {total}")


def _one(tags: _Tags, tag: int, default: int | None = None) -> int:
    values = tags.get(tag, () if default is None else (default,))
    if len(values) != 1:
        raise MalformedError(f"tag {tag} with {len(values)} values")
    return values[0]


def _directory(
    head: bytes, total: int, start: int | None = None
) -> tuple[_Tags, tuple[tuple[int, int, int, bytes], ...], int, int]:
    """Integer tags of a directory, its georeference, where the last byte of all its tags lies, and where the next begins.

    Without `start` it is the first directory; after the last one 0 follows.
    """
    if head[:4] not in MAGIC:
        raise MalformedError("no TIFF")
    order, big = ("<" if head.startswith(b"II") else ">"), b"+" in head[2:4]
    counter, word, inline = ("Q", "Q", 8) if big else ("H", "I", 4)
    if start is None:
        (start,) = _unpack(head, total, order + word, 8 if big else 4)
    (count,) = _unpack(head, total, order + counter, start)
    if not 0 < count <= 512:
        raise MalformedError(f"a directory of {count} tags")
    first, step = start + struct.calcsize(order + counter), 20 if big else 12
    end, tags, geo = first + count * step + inline, {}, []
    before = 0
    for position in range(first, first + count * step, step):
        tag, kind, length = _unpack(head, total, f"{order}HH{word}", position)
        if tag <= before:
            raise MalformedError("tags out of order")
        before = tag
        size = _SIZES.get(kind, 0) * length
        if tag in _GEO and kind not in _SIZES:
            raise MalformedError(f"tag {tag} of unknown type {kind}")
        if size > _MAX_TAG_BYTES:
            raise MalformedError(f"tag {tag} of {size} bytes")
        at = position + step - inline
        if size > inline:
            (at,) = _unpack(head, total, order + word, at)
        end = max(end, at + size)
        if kind in _INTEGERS:
            tags[tag] = _unpack(head, total, f"{order}{length}{_INTEGERS[kind]}", at)
        if tag in _GEO:
            _unpack(head, total, f"{size}x", at)
            geo.append((tag, kind, length, head[at : at + size]))
    (following,) = _unpack(head, total, order + word, first + count * step)
    return tags, tuple(geo), end, following


def _unpack(head: bytes, total: int, pattern: str, at: int) -> tuple[int, ...]:
    stop = at + struct.calcsize(pattern)
    if stop > total:
        raise MalformedError("the header points behind the end of the file")
    if stop > len(head):
        raise HeaderError(stop)
    return struct.unpack_from(pattern, head, at)
