"""One Zarr v3 shard as bytes: inner chunks (blosc, crc32c) and their index at the end.

This is the `sharding_indexed` codec that zarr-python reads and writes, without its machinery: a tile's scene has 1,575
chunks, and the machinery costs several times what the compression does (tests/bench/cube_build.py).
Arrays are (band, y, x).
"""

import math
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numcodecs import blosc  # type: ignore[import-untyped]
from numpy.typing import NDArray

from vsat.objects import ObjectPath, StorePath

_CRC_BYTES = 4
_HEADER = 16  # bytes that blosc puts before a chunk
_PLAIN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK  # a patch is no link to elsewhere, and no pipe to wait for
_INDEX_DTYPE = np.dtype("<u8")
Window = tuple[range, range]  # pixel rows, pixel columns
Bytes = NDArray[np.uint8]  # the checksum takes arrays, no memoryviews
_EMPTY = np.empty(0, np.uint8)
_ABSENT = int(np.iinfo(np.uint64).max)  # offset and length of a chunk that was not written


@dataclass(frozen=True)
class Packing:
    """How blosc packs a chunk: codec, level, and "shuffle" (bytes) or "bitshuffle"."""

    codec: str
    level: int
    shuffle: str


# docs/log.md has the figures of both
QUICK = Packing("lz4", 5, "bitshuffle")  # for scenes, which are written as often as they are read
SMALL = Packing("lz4hc", 7, "shuffle")  # for patches, which are written once and read in every epoch
_SHUFFLES = {"shuffle": blosc.SHUFFLE, "bitshuffle": blosc.BITSHUFFLE}


class TornShardError(ValueError):
    """The bytes are not the shard that was written: torn, altered, or with a chunk missing."""


@dataclass(frozen=True)
class ShardLayout:
    """How one scene of one array is cut into chunks.

    Attributes:
        shape: (band, y, x) of the scene.
        chunk: (y, x) of an inner chunk; each holds one band. Chunks reach over the scene's edge, filled up with `fill`.
        dtype: "int16" or "uint8".
        fill: what missing means.
    """

    shape: tuple[int, int, int]
    chunk: tuple[int, int]
    dtype: str
    fill: int

    @property
    def counts(self) -> tuple[int, int, int]:
        """Number of chunks along (band, y, x)."""
        bands, height, width = self.shape
        return bands, -(-height // self.chunk[0]), -(-width // self.chunk[1])


def encode(layout: ShardLayout, array_byx: NDArray[Any]) -> Iterator[bytes]:
    """The shard of a scene, in parts to be written one after the other; equal arrays give equal bytes.

    Args:
        layout: the cut; `array_byx` has its shape and dtype.
        array_byx: int16 or uint8 (b, y, x).

    Yields:
        Each chunk in C order, a chunk of nothing but fill too, then the index.
    """
    assert array_byx.shape == layout.shape and array_byx.dtype == np.dtype(layout.dtype)
    return pack(_chunks(layout, array_byx))


def pack(chunks: Iterable[NDArray[Any]], packing: Packing = QUICK) -> Iterator[bytes]:
    """A shard of whole chunks, in parts to be written one after the other; equal arrays give equal bytes.

    Args:
        chunks: contiguous arrays of one shape and dtype, in C order of the shard.
        packing: as the array's metadata say.

    Yields:
        Each chunk, then the index.
    """
    # blosc's own threads write blocks in the order in which they finish: the bytes would differ from run to run.
    # zarr-python switches them off for the whole process in the same way.
    blosc.use_threads = False
    spans, start = [], 0
    for chunk in chunks:
        packed = blosc.compress(
            chunk, packing.codec.encode(), packing.level, _SHUFFLES[packing.shuffle], 0, chunk.itemsize
        )
        part = packed + _crc(packed)
        spans.append((start, len(part)))
        start += len(part)
        yield part
    index = np.array(spans, _INDEX_DTYPE).tobytes()
    yield index + _crc(index)


def read_spans(path: Path, count: int) -> NDArray[np.uint64]:
    """Where the chunks of a shard lie: uint64 (count, 2), offset and length, from its checked index.

    Raises:
        FileNotFoundError: there is no such shard.
        TornShardError: it is shorter than its index, or the index fails its checksum.
    """
    handle = os.open(path, _PLAIN)
    try:
        return _index_of(_File(handle), count)
    finally:
        os.close(handle)


def read_chunk(path: Path, span: NDArray[np.uint64], out: NDArray[Any]) -> None:
    """Fill `out`, of a chunk's shape and dtype, with the chunk at `span`, a row of `read_spans`.

    Raises:
        FileNotFoundError: there is no such shard.
        TornShardError: the chunk is missing or fails its checksum.
    """
    length = int(span[1])
    if (span == _ABSENT).any():
        raise TornShardError("a chunk is missing")
    if length < _HEADER + _CRC_BYTES:
        raise TornShardError(f"a chunk of {length} bytes")
    handle = os.open(path, _PLAIN)
    try:
        if int(span[0]) + length > os.fstat(handle).st_size:
            raise TornShardError(f"a chunk ends at byte {int(span[0]) + length}, past the end")
        packed = _scratch(length)  # the same memory again: fresh pages cost as much as the checksum
        got = os.preadv(handle, [packed.data], int(span[0]))
    finally:
        os.close(handle)
    if got != length:
        raise TornShardError(f"a chunk ends at byte {int(span[0]) + length}, past the end")
    _unpack(_checked(packed, "chunk"), out)


_memory = threading.local()


def _scratch(length: int) -> Bytes:
    """This thread's buffer, grown to at least `length` bytes."""
    if getattr(_memory, "buffer", _EMPTY).size < length:
        _memory.buffer = np.empty(length * 5 // 4, np.uint8)
    buffer: Bytes = _memory.buffer[:length]
    return buffer


def read_window(
    path: StorePath, layout: ShardLayout, window: Window, out_byx: NDArray[Any], bands: Sequence[int] | None = None
) -> None:
    """Fill `out_byx` with the scene's pixels in the window; only the chunks it touches are read.

    Args:
        path: the shard.
        layout: the cut it was written with.
        window: pixel rows and columns, step 1, not empty.
        out_byx: (band, rows, columns) of the layout's dtype.
        bands: which bands of the scene, in the order wanted; all without it.

    Raises:
        FileNotFoundError: there is no such shard.
        TornShardError: a chunk is missing or fails its checksum.
    """
    wanted = range(layout.shape[0]) if bands is None else bands
    rows, cols = (_touched(pixels, chunk) for pixels, chunk in zip(window, layout.chunk, strict=True))
    with _opened(path) as shard:
        index = _index_of(shard, math.prod(layout.counts)).reshape(*layout.counts, 2)
        # as plain numbers: for the one chunk of a pixel's series numpy would cost more than the read
        runs = [
            (at, row, index[band, row, cols.start : cols.stop].tolist())
            for at, band in enumerate(wanted)
            for row in rows
        ]
        blobs = shard.read([_span(run, shard.size) for _, _, run in runs])
        scratch_yx = np.empty(layout.chunk, layout.dtype)
        for (at, row, run), blob in zip(runs, blobs, strict=True):
            for col, packed in zip(cols, _cut(blob, run), strict=True):
                _unpack(packed, scratch_yx)
                _paste(scratch_yx, (row * layout.chunk[0], col * layout.chunk[1]), window, out_byx[at])


class _File:
    """A shard on a disk."""

    def __init__(self, handle: int) -> None:
        self._handle, self.size = handle, os.fstat(handle).st_size

    def tail(self, length: int) -> Bytes:
        return self._read(max(0, self.size - length), self.size)

    def read(self, spans: Iterable[tuple[int, int]]) -> Iterator[Bytes]:
        return (self._read(start, stop) for start, stop in spans)

    def _read(self, start: int, stop: int) -> Bytes:
        return np.frombuffer(os.pread(self._handle, stop - start, start), np.uint8)


class _Object:
    """A shard in a bucket: its index comes by one request, and what is wanted of it by as few as there are gaps."""

    def __init__(self, path: ObjectPath) -> None:
        self._path = path

    def tail(self, length: int) -> Bytes:
        content, self.size = self._path.read_tail(length)
        return np.frombuffer(content, np.uint8)

    def read(self, spans: Iterable[tuple[int, int]]) -> Iterator[Bytes]:
        return (np.frombuffer(part, np.uint8) for part in self._path.read_ranges(list(spans)))


@contextmanager
def _opened(path: StorePath) -> Iterator[_File | _Object]:
    if isinstance(path, ObjectPath):
        yield _Object(path)
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        yield _File(handle)
    finally:
        os.close(handle)


def _chunks(layout: ShardLayout, array_byx: NDArray[Any]) -> Iterator[NDArray[Any]]:
    bands, down, across = layout.counts
    height, width = layout.chunk
    for band in range(bands):
        for row in range(down):
            for col in range(across):
                part_yx = array_byx[band, row * height : (row + 1) * height, col * width : (col + 1) * width]
                yield np.ascontiguousarray(part_yx) if part_yx.shape == layout.chunk else _padded(part_yx, layout)


def _padded(part_yx: NDArray[Any], layout: ShardLayout) -> NDArray[Any]:
    whole_yx = np.full(layout.chunk, layout.fill, layout.dtype)
    whole_yx[: part_yx.shape[0], : part_yx.shape[1]] = part_yx
    return whole_yx


def _index_of(shard: _File | _Object, count: int) -> NDArray[np.uint64]:
    length = count * 16 + _CRC_BYTES
    tail = shard.tail(length)
    if shard.size < length:
        raise TornShardError(f"{shard.size} bytes, its index alone has {length}")
    return _checked(tail, "index").view(_INDEX_DTYPE).reshape(count, 2)


def _touched(pixels: range, chunk: int) -> range:
    return range(pixels.start // chunk, -(-pixels.stop // chunk))


def _span(run: list[list[int]], size: int) -> tuple[int, int]:
    """Where the chunks of one row lie, one behind the other: one read fetches them all."""
    if any(_ABSENT in chunk for chunk in run):
        raise TornShardError("a chunk is missing")
    start, stop = min(at for at, _ in run), max(at + length for at, length in run)
    if stop > size:
        raise TornShardError(f"a chunk ends at byte {stop}, past the end")
    return start, stop


def _cut(blob: Bytes, run: list[list[int]]) -> list[Bytes]:
    start = min(at for at, _ in run)
    return [_checked(blob[at - start : at - start + length], "chunk") for at, length in run]


def _unpack(packed: Bytes, out_yx: NDArray[Any]) -> None:
    held = int.from_bytes(
        packed[4:8].tobytes(), "little"
    )  # of blosc's header: fewer would leave old memory in `out_yx`
    if packed.size < _HEADER or held != out_yx.nbytes:
        raise TornShardError(f"a chunk holds {held:,} bytes, not {out_yx.nbytes:,}")
    try:
        blosc.decompress(packed, out_yx)
    except (RuntimeError, ValueError) as error:
        raise TornShardError(f"a chunk does not decompress: {error}") from error


def _paste(chunk_yx: NDArray[Any], corner: tuple[int, int], window: Window, out_yx: NDArray[Any]) -> None:
    """Copy what the chunk, whose first pixel is `corner`, and the window have in common."""
    src, dst = [], []
    for first, length, pixels in zip(corner, chunk_yx.shape, window, strict=True):
        start, stop = max(pixels.start, first), min(pixels.stop, first + length)
        src.append(slice(start - first, stop - first))
        dst.append(slice(start - pixels.start, stop - pixels.start))
    out_yx[tuple(dst)] = chunk_yx[tuple(src)]


def _crc(data: bytes | Bytes) -> bytes:
    return int(google_crc32c.value(data)).to_bytes(_CRC_BYTES, "little")


def _checked(data: Bytes, what: str) -> Bytes:
    body = data[:-_CRC_BYTES]
    if data.size <= _CRC_BYTES or _crc(body) != data[-_CRC_BYTES:].tobytes():
        raise TornShardError(f"the checksum of its {what} does not match")
    return body
