"""Reading patches: a store as one sequence, each patch checked as it is read, and what cannot be read named.

A patch is one chunk of each array: an index that is read once, one read of the file, a checksum, one decompression into
the caller's buffer. Axes: n patches, t looks, b bands, y, x.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from vsat.core.splits import SPLITS
from vsat.errors import StoreError
from vsat.io import shard
from vsat.io.durable import sha256_of
from vsat.io.patches import (
    ARRAYS,
    COLUMNS,
    MOST_PATCHES,
    Patch,
    PatchError,
    PatchLayout,
    part_folder,
    read_manifest,
    read_small,
    shard_path,
)
from vsat.io.zarr_json import Json

AGAIN = "remove this file, if it is there, and run vsat sample with the same options: it draws the same patches again"

MOST_LOOKS, MOST_PX, MOST_IN_SHARD, MOST_STRATA = 10_000, 4096, 1 << 16, 1 << 24
MOST_BYTES = 1 << 30  # of a patch, unpacked
LAST_DAY = 150_000  # days since 1970: in the year 2380
_CRC_BYTES = 4


@dataclass(frozen=True)
class Part:
    """One part: its number, the store's number of its first patch, shape, attributes, columns."""

    number: int
    first: int
    layout: PatchLayout
    attributes: Json
    columns: dict[str, NDArray[Any]]


class PatchStore:
    """A finished patch store, as a sequence of patches. May be pickled and shared by threads and forked processes.

    Args:
        path: the store's folder.
        manifest: what the manifest is going to be, for who writes it; by default the one that is there.

    Raises:
        InputError: there is no store.
        StoreError: its manifest or a part's metadata cannot be read, or fail their checksum.
    """

    def __init__(self, path: Path, manifest: Json | None = None) -> None:
        self.path = path
        self.manifest = read_manifest(path) if manifest is None else manifest
        self.parts: list[Part] = []
        first = 0
        for number, listed in enumerate(self.manifest["parts"]):
            self.parts.append(_open_part(path, number, first, int(listed["patches"])))
            first += int(listed["patches"])
        self._firsts = np.array([part.first for part in self.parts], np.int64)
        self._count = first
        self._shards: dict[tuple[int, str, int], tuple[Path, NDArray[np.uint64]]] = {}

    def __len__(self) -> int:
        return self._count

    @property
    def looks(self) -> int:
        """The most looks that a patch has."""
        return max((part.layout.looks for part in self.parts), default=0)

    @property
    def size_px(self) -> int:
        """Pixels a side."""
        return self.parts[0].layout.size_px

    def column(self, name: str) -> NDArray[Any]:
        """One of COLUMNS for all patches; along t padded to the longest with the part's padding."""
        pad = {"sensor": 255}.get(name, -1)
        axes = COLUMNS[name][1]
        parts = []
        for part in self.parts:
            values = part.columns[name]
            if axes[1:] == ("look",):
                values = np.pad(values, ((0, 0), (0, self.looks - values.shape[1])), constant_values=pad)
            parts.append(values)
        return np.concatenate(parts)

    @cached_property
    def split_n(self) -> NDArray[np.uint8]:
        """Index into core.splits.SPLITS of every patch."""
        return self.column("split")

    @cached_property
    def epsg_n(self) -> NDArray[np.int64]:
        """The zone of every patch."""
        return np.concatenate(
            [
                np.array([tile["epsg"] for tile in p.attributes["tiles"]], np.int64)[p.columns["tile"]]
                for p in self.parts
            ]
        )

    def name(self, index: int) -> str:
        """Which patch it is, for messages: `parts/0000.zarr patch 17`."""
        part, at = self._locate(index)
        return f"{part_folder(Path(), part.number).as_posix()} patch {at}"

    def scenes(self, index: int) -> list[str]:
        """The scenes that the looks of a patch come from, in their order."""
        part, at = self._locate(index)
        listed = part.attributes["scenes"]
        return [listed[i] for i in part.columns["scene"][at] if i >= 0]

    def tile(self, index: int) -> str:
        """The tile that a patch lies in."""
        part, at = self._locate(index)
        name: str = part.attributes["tiles"][part.columns["tile"][at]]["tile"]
        return name

    def read(self, index: int) -> Patch:
        """The patch, without padding.

        Raises:
            PatchError: its shard is missing or torn, or its chunk fails the checksum.
        """
        part, at = self._locate(index)
        layout, looks = part.layout, int(part.columns["count"][at])
        refl = np.empty(layout.chunk("reflectance"), np.int16)
        fmask = np.empty(layout.chunk("fmask"), np.uint8)
        self.read_into(index, refl, fmask)
        columns = part.columns
        return Patch(refl[:looks], fmask[:looks], columns["day"][at, :looks], columns["sensor"][at, :looks])

    def read_into(self, index: int, refl_tbyx: NDArray[np.int16], fmask_tyx: NDArray[np.uint8] | None) -> int:
        """Fill buffers of the part's chunk shape with a patch, padding too; its number of looks comes back.

        Raises:
            PatchError: its shard is missing or torn, or its chunk fails the checksum.
        """
        part, at = self._locate(index)
        number, within = divmod(at, part.layout.shard_patches)
        for array, buffer in zip(ARRAYS, (refl_tbyx, fmask_tyx), strict=True):
            if buffer is not None:
                try:
                    path, spans = self._shard(part, array, number)
                    shard.read_chunk(path, spans[within], buffer)
                except (OSError, shard.TornShardError) as error:
                    raise self._unreadable(index, array, error) from error
        return int(part.columns["count"][at])

    def verify(self) -> list[str]:
        """What is wrong with the store's objects, one sentence each: missing, or altered since they were written."""
        problems = []
        for listed in self.manifest["parts"]:
            for path, digest in sorted(listed["objects"].items()):
                if not (self.path / path).is_file():
                    problems.append(f"{path} is missing")
                elif sha256_of(self.path / path) != digest:
                    problems.append(f"{path} has been altered")
        return problems

    def _locate(self, index: int) -> tuple[Part, int]:
        if not 0 <= index < self._count:
            raise IndexError(index)
        part = self.parts[int(np.searchsorted(self._firsts, index, "right")) - 1]
        return part, index - part.first

    def _shard(self, part: Part, array: str, number: int) -> tuple[Path, NDArray[np.uint64]]:
        """A shard's path and index, found once: at thousands of patches a second a path is not for nothing."""
        key = (part.number, array, number)
        if key not in self._shards:
            path = shard_path(self.path, part.number, part.layout, array, number)
            self._shards[key] = path, shard.read_spans(path, part.layout.shard_patches)
        return self._shards[key]

    def _unreadable(self, index: int, array: str, error: Exception) -> PatchError:
        part, at = self._locate(index)
        path = shard_path(self.path, part.number, part.layout, array, at // part.layout.shard_patches)
        told = "its shard is missing" if isinstance(error, FileNotFoundError) else str(error)
        problem = f"{array} of {self.name(index)} cannot be read: {told}"
        return PatchError(problem, place=str(path), next_step=AGAIN, index=index)


def _open_part(out: Path, number: int, first: int, patches: int) -> Part:
    folder = part_folder(out, number)
    try:
        if folder.resolve() != part_folder(out.resolve(), number):
            raise ValueError("it is a link")
        attributes: Json = json.loads(read_small(folder / "zarr.json"))["attributes"]
        layout = PatchLayout(**attributes["layout"])
        _check_layout(layout, patches)
        columns = {name: _column(folder / name, dtype, axes, layout) for name, (dtype, axes, _) in COLUMNS.items()}
        _check_columns(columns, attributes, layout)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        step = "draw the patches again, into another folder"
        raise StoreError(f"part {number} cannot be read: {error}", place=str(folder), next_step=step) from error
    return Part(number, first, layout, attributes, columns)


def _check_layout(layout: PatchLayout, patches: int) -> None:
    limits = {"patches": patches, "looks": MOST_LOOKS, "size_px": MOST_PX, "shard_patches": MOST_IN_SHARD}
    for name, most in limits.items():
        value = getattr(layout, name)
        if type(value) is not int or not (name == "patches" or value >= 1) or not 0 <= value <= most:
            raise ValueError(f"{name} is {str(value)[:40]}, at most {most}")
    if layout.patches != patches:
        raise ValueError(f"it has {layout.patches} patches, and the manifest says {patches}")
    if (size := 2 * math.prod(layout.chunk("reflectance"))) > MOST_BYTES:
        raise ValueError(f"a patch of it has {size:,} bytes, at most {MOST_BYTES:,} are read")


def _check_columns(columns: Mapping[str, NDArray[Any]], attributes: Json, layout: PatchLayout) -> None:
    """What other columns and readers are indexed by lies in its range."""
    tiles, scenes = attributes["tiles"], attributes["scenes"]
    if any(not isinstance(one["tile"], str) or type(one["epsg"]) is not int for one in tiles):
        raise ValueError("its tiles have no names and zones")
    if any(not isinstance(one, str) for one in scenes):
        raise ValueError("its scenes have no names")
    ranges = {
        "count": (0, layout.looks), "day": (-1, LAST_DAY), "scene": (-1, len(scenes) - 1), "split": (0, len(SPLITS) - 1),
        "stratum": (0, MOST_STRATA), "tile": (0, len(tiles) - 1), "x": (-1e8, 1e8), "y": (-1e8, 1e8), "lon": (-360, 360),
        "lat": (-90, 90),
    }  # fmt: skip
    for name, (least, most) in ranges.items():
        values = columns[name]
        if not ((values >= least) & (values <= most)).all():  # no NaN passes
            raise ValueError(f"the column {name} leaves its range, {least} to {most}")


def _column(folder: Path, dtype: str, axes: tuple[str, ...], layout: PatchLayout) -> NDArray[Any]:
    """An array of one chunk, checked."""
    shape = tuple(json.loads(read_small(folder / "zarr.json"))["shape"])
    wanted = {"patch": layout.patches, "look": layout.looks}
    for size, axis in zip(shape, axes, strict=True):
        if type(size) is not int or size != wanted.get(axis, size) or not 0 <= size <= MOST_PATCHES:
            raise ValueError(f"{folder.name} has the shape {str(shape)[:80]}")
    path = folder / ".".join(["c"] + ["0"] * len(shape))
    size = math.prod(shape) * np.dtype(dtype).itemsize + _CRC_BYTES
    if not path.is_file() or path.stat().st_size != size:
        raise ValueError(f"{folder.name} has no {size:,} bytes")
    body = path.read_bytes()
    values, crc = body[:-_CRC_BYTES], body[-_CRC_BYTES:]
    if int(google_crc32c.value(values)).to_bytes(_CRC_BYTES, "little") != crc:
        raise ValueError(f"the checksum of {folder.name} does not match")
    return np.frombuffer(values, np.dtype(dtype)).reshape(shape)
