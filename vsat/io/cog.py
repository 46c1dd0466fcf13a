"""Windows and single pixels of published images, block by block and each block checked, from a disk or a bucket.

GDAL opens a file anew for every pixel of a series, which costs milliseconds; here a header is parsed once and kept, and
a pixel costs one read of one block. Axes: y, x, or y, x, sample for the images of several bands.
"""

import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsat.core.grid import TileGrid
from vsat.errors import StoreError
from vsat.io.reader import read_georeference
from vsat.io.tiff import HeaderError, Layout, MalformedError, decode, georeference, read_levels
from vsat.objects import ObjectPath, StorePath

HEAD_BYTES = 32 << 10  # the header of a whole tile's COG has 6 kB
KEPT = 4096  # headers, some 10 kB each
_TURN = 64  # files that a thread reads before it takes others: a task costs as much as a read
_STEP = "if a night has just made it again, open the images anew; else vsat verify, then generate again"


@dataclass(frozen=True)
class _Version:
    """Which content a path had when it was opened: an image is replaced under its name."""

    path: StorePath
    mark: tuple[int, ...]


class _File:
    """An open file on a disk."""

    def __init__(self, path: Path, handle: int) -> None:
        told = os.fstat(handle)
        self._handle, self.size = handle, told.st_size
        self.version = _Version(path, (told.st_dev, told.st_ino, told.st_mtime_ns, told.st_size))

    def read(self, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        """The bytes of each (start, stop)."""
        return [os.pread(self._handle, stop - start, start) for start, stop in spans]


class _Object:
    """A file in a bucket; its name tells its content (io.publish), so it never changes."""

    def __init__(self, path: ObjectPath) -> None:
        self._path, self.version = path, _Version(path, ())

    @cached_property
    def size(self) -> int:
        """Bytes of the file; only who reads a header asks the bucket."""
        return self._path.size()

    def read(self, spans: Sequence[tuple[int, int]]) -> list[bytes]:
        """The bytes of each (start, stop)."""
        return [bytes(part) for part in self._path.read_ranges(spans)]


class _Headers:
    """The headers last used, for all threads."""

    def __init__(self) -> None:
        self._lock, self._kept = Lock(), OrderedDict[tuple[_Version, int], tuple[Layout, ...]]()

    def of(self, file: _File | _Object, samples: int) -> tuple[Layout, ...]:
        """The levels of the file: full resolution, then overviews."""
        key = file.version, samples
        with self._lock:
            if (found := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                return found
        found = _levels(file, samples)
        with self._lock:
            self._kept[key] = found
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return found


_headers = _Headers()


def read_window(path: StorePath, rows: slice, cols: slice, *, level: int = 0, samples: int = 1) -> NDArray[Any]:
    """The pixels of a window, int16 or uint8 (y, x), or (y, x, sample) for several samples.

    Args:
        path: a COG as io.publish makes them.
        rows, cols: inside the level, step 1, not empty.
        level: 0 full resolution, 1 the first overview, and so on; see `level_shapes`.
        samples: how many bands the file has.

    Raises:
        StoreError: it is missing, altered, or has no such level or window.
    """
    with _opened(path) as file:
        levels = _headers.of(file, samples)
        if level >= len(levels) or not _is_inside(levels[level], rows, cols):
            raise StoreError(
                f"there are no rows {rows} and columns {cols} at level {level}", place=str(path), next_step=_STEP
            )
        layout = levels[level]
        shape = (rows.stop - rows.start, cols.stop - cols.start, *([samples] if samples > 1 else []))
        dst_yx = np.empty(shape, layout.dtype.newbyteorder("="))
        blocks = layout.blocks(rows, cols)
        payloads = file.read([(layout.offsets[i], layout.offsets[i] + layout.sizes[i]) for i in blocks])
        for index, payload in zip(blocks, payloads, strict=True):
            decode(layout, index, payload, (rows, cols), dst_yx)
        return dst_yx


def grid_of(path: StorePath, tile: str, *, samples: int = 1) -> TileGrid:
    """The grid that the file says it lies on.

    Raises:
        StoreError: as `read_window`.
    """
    with _opened(path) as file:
        layout = _headers.of(file, samples)[0]
        order = "<" if layout.dtype.newbyteorder("=") == layout.dtype else ">"
        transform, epsg, _ = read_georeference(georeference(order, layout.geo))
        return TileGrid(tile, epsg, transform.c, transform.f, layout.height, layout.width)


def level_shapes(path: StorePath, *, samples: int = 1) -> tuple[tuple[int, int], ...]:
    """(height, width) of each level, full resolution first.

    Raises:
        StoreError: as `read_window`.
    """
    with _opened(path) as file:
        return tuple((one.height, one.width) for one in _headers.of(file, samples))


def read_pixel(paths: Sequence[StorePath], row: int, col: int, *, pool: ThreadPoolExecutor) -> NDArray[np.int32]:
    """The value of one pixel in each file, int32 (file).

    Args:
        paths: COGs of one band on one grid.
        row, col: of the pixel.
        pool: threads that read, some files at a time.

    Raises:
        StoreError: as `read_window`.
    """
    turns = max(1, len(paths) // _TURN)
    rows, cols = slice(row, row + 1), slice(col, col + 1)

    def some(turn: int) -> list[int]:
        return [int(read_window(path, rows, cols)[0, 0]) for path in paths[turn::turns]]

    values = np.empty(len(paths), np.int32)
    for turn, found in enumerate(pool.map(some, range(turns))):
        values[turn::turns] = found
    return values


@contextmanager
def _opened(path: StorePath) -> Iterator[_File | _Object]:
    try:
        if isinstance(path, ObjectPath):
            yield _Object(path)
            return
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield _File(path, handle)
        finally:
            os.close(handle)
    except (OSError, MalformedError) as error:
        told = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read: {error}"
        raise StoreError(f"an image file {told}", place=str(path), next_step=_STEP) from error


def _levels(file: _File | _Object, samples: int) -> tuple[Layout, ...]:
    needed = HEAD_BYTES
    while True:
        (head,) = file.read([(0, min(needed, file.size))])
        try:
            levels = read_levels(head, file.size, samples=samples)
        except HeaderError as error:
            needed = error.needed
            continue
        if not all(level.decodable and level.tiled for level in levels):
            raise MalformedError("not compressed as vsat's images are")
        return levels


def _is_inside(layout: Layout, rows: slice, cols: slice) -> bool:
    return bool(0 <= rows.start < rows.stop <= layout.height and 0 <= cols.start < cols.stop <= layout.width)
