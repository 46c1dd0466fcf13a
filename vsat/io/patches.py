"""The patch store: training patches in Zarr v3, sample-major, one chunk per patch. DESIGN 3.

A store is a folder of parts, each an immutable Zarr group, and a manifest, `patches.json`, which is written last: a part
counts when the manifest lists it. A shard holds some patches and is one object per array, so a killed writer leaves whole
objects or none, and the next run completes them to the same bytes.
Axes: n patches, t looks (padded to the part's longest), b bands, y, x.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsat.errors import InputError, StoreError
from vsat.hls import BANDS, FILL, FMASK_FILL, SCALE, SENSORS
from vsat.io import shard
from vsat.io.durable import sha256_of, sha256_of_parts, unwritable, write_file
from vsat.io.sealed import open_json, sealed_json
from vsat.io.zarr_json import Json, group_json, sharded_json, to_bytes, whole_array

MANIFEST = "patches.json"
VERSION = 1
ARRAYS = ("reflectance", "fmask")
MOST_PATCHES = 10_000_000  # of a part
_MOST_JSON = 128 << 20
_OBJECT = re.compile(r"parts/\d{4,}\.zarr(/\w[\w.-]*){1,4}", re.ASCII)  # below the store, and nowhere else
# name: dtype, axes, what it is; padding along t is -1, or 255 for sensors
COLUMNS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "count": ("int16", ("patch",), "looks in use; the rest of t is padding"),
    "day": ("int32", ("patch", "look"), "days since 1970-01-01 (UTC); -1 padding"),
    "sensor": ("uint8", ("patch", "look"), f"index into {', '.join(SENSORS)}; 255 another, or padding"),
    "scene": ("int32", ("patch", "look"), "index into the group's attribute scenes; -1 padding"),
    "split": ("uint8", ("patch",), "0 train, 1 validation, 2 test"),
    "stratum": ("int32", ("patch",), "number of the stratum; the manifest holds the design"),
    "tile": ("int16", ("patch",), "index into the group's attribute tiles"),
    "x": ("float64", ("patch",), "upper-left corner, metres in the tile's zone"),
    "y": ("float64", ("patch",), "upper-left corner, metres in the tile's zone"),
    "lon": ("float64", ("patch",), "centre, degrees"),
    "lat": ("float64", ("patch",), "centre, degrees"),
    "features": ("float32", ("patch", "feature"), "what the strata were made from; names in the attributes"),
}

Int16 = NDArray[np.int16]
UInt8 = NDArray[np.uint8]
Outputs = tuple[tuple[str, str], ...]


class PatchError(StoreError):
    """One patch cannot be read; `index` is its number in the store."""

    def __init__(self, problem: str, *, place: str = "", next_step: str = "", index: int = -1) -> None:
        super().__init__(problem, place=place, next_step=next_step)
        self.index = index


@dataclass(frozen=True)
class PatchLayout:
    """The shape of a part: patches, looks that each can hold, pixels a side, patches in a shard."""

    patches: int
    looks: int
    size_px: int
    shard_patches: int = 16

    @property
    def shards(self) -> int:
        """Number of shards of each array."""
        return -(-self.patches // self.shard_patches)

    def patches_of(self, number: int) -> range:
        """The patches of a shard."""
        return range(number * self.shard_patches, min((number + 1) * self.shard_patches, self.patches))

    def chunk(self, array: str) -> tuple[int, ...]:
        """Shape of one patch of `array`."""
        bands = (len(BANDS),) if array == "reflectance" else ()
        return (self.looks, *bands, self.size_px, self.size_px)


@dataclass(frozen=True)
class Patch:
    """One patch without padding: refl int16 (t, 6, y, x) x 1e-4, FILL none; fmask uint8 (t, y, x), 255 none.

    `day_t` int32, days since 1970-01-01; `sensor_t` uint8, index into hls.SENSORS, 255 another.
    """

    refl_tbyx: Int16
    fmask_tyx: UInt8
    day_t: NDArray[np.int32]
    sensor_t: UInt8


def start_part(
    out: Path, part: int, layout: PatchLayout, columns: Mapping[str, NDArray[Any]], attributes: Json
) -> Outputs:
    """The part's group is there with its metadata and columns; only its shards are missing. Repeating changes nothing.

    Args:
        out: the store's folder.
        part: its number.
        layout: its shape.
        columns: an array for each name of COLUMNS.
        attributes: of the group: `scenes`, `tiles`, `features` and what else belongs to it.

    Returns:
        (path relative to `out`, sha256) of each object.
    """
    assert set(columns) == set(COLUMNS)
    arrays: dict[str, tuple[Json, bytes | None, str]] = {name: (_sharded(layout, name), None, "") for name in ARRAYS}
    for name, (dtype, axes, told) in COLUMNS.items():
        arrays[name] = whole_array(columns[name].astype(dtype), axes, {"comment": told})
    about = {"Conventions": "CF-1.11", "bands": list(BANDS), "sensors": list(SENSORS), "scale_factor": SCALE}
    about |= {"layout": asdict(layout)} | attributes
    folder, written = part_folder(out, part), []
    for name, (metadata, body, object_name) in arrays.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        written.append(_put(out, folder / name / "zarr.json", [to_bytes(metadata)]))
        if body is not None:
            written.append(_put(out, folder / name / object_name, [body]))
    group = group_json(about, {name: metadata for name, (metadata, _, _) in arrays.items()})
    return (*written, _put(out, folder / "zarr.json", [to_bytes(group)]))


def write_shard(out: Path, part: int, layout: PatchLayout, number: int, patches: Sequence[Patch]) -> Outputs:
    """The shard's two objects are on the disk, aside and renamed; the same patches give the same bytes.

    Args:
        out, part, layout: as for `start_part`.
        number: of the shard.
        patches: those of `layout.patches_of(number)`.

    Returns:
        (path relative to `out`, sha256) of each.

    Raises:
        StoreError: the disk is full, or the folder cannot be written.
    """
    wanted = layout.patches_of(number)
    assert len(patches) == len(wanted)
    written = []
    for array, fill in (("reflectance", FILL), ("fmask", FMASK_FILL)):
        chunks = (
            _chunk(layout, array, patches[i] if i < len(patches) else None, fill) for i in range(layout.shard_patches)
        )
        parts = shard.pack(chunks, shard.SMALL)
        written.append(_put(out, shard_path(out, part, layout, array, number), parts))
    return tuple(written)


def finish_store(out: Path, parts: Sequence[Json], about: Json) -> None:
    """The manifest lists these parts: from now on they count.

    Args:
        out: the store's folder.
        parts: per part `patches`, and `objects`: {path relative to `out`: sha256}.
        about: options, strata, statistics: what the store is.
    """
    _put(out, out / MANIFEST, [sealed_json({"version": VERSION, "parts": list(parts)} | about)])


def read_manifest(out: Path) -> Json:
    """The store's manifest.

    Raises:
        InputError: there is no patch store.
        StoreError: the manifest cannot be read, or is of a newer vsat.
    """
    path = out / MANIFEST
    try:
        found: Json = open_json(read_small(path))
        version = int(found["version"])
        if version <= VERSION:
            _check_parts(found["parts"])
    except FileNotFoundError:
        raise InputError(
            "there is no patch store", place=str(out), next_step="draw one: vsat sample REGION --out FOLDER"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        step = (
            "vsat repair REGION --patches FOLDER draws it again; or remove it and run vsat sample with the same options"
        )
        raise StoreError(f"the manifest cannot be read: {error}", place=str(path), next_step=step) from error
    if version > VERSION:
        step = "install the vsat that wrote it, or a newer one"
        raise StoreError(
            f"the store is of version {version}, this vsat knows up to {VERSION}", place=str(path), next_step=step
        )
    return found


def read_small(path: Path) -> bytes:
    """A small file of the store.

    Raises:
        FileNotFoundError: there is no such plain file.
        ValueError: it is too large.
    """
    if not path.is_file():
        raise FileNotFoundError(2, "no such file", str(path))
    if (size := path.stat().st_size) > _MOST_JSON:
        raise ValueError(f"{path.name} has {size:,} bytes, at most {_MOST_JSON:,} are read")
    return path.read_bytes()


def _check_parts(parts: Any) -> None:
    if not isinstance(parts, list):
        raise ValueError("its parts are no list")
    if not parts:
        raise ValueError("it lists no part")
    for part in parts:
        if type(part["patches"]) is not int or not 0 <= part["patches"] <= MOST_PATCHES:
            raise ValueError(f"{str(part['patches'])[:40]} is no number of patches")
        for name, digest in part["objects"].items():
            if not _OBJECT.fullmatch(name) or not isinstance(digest, str):
                raise ValueError(f"{name[:80]!r} is no object of a store")


def part_folder(out: Path, part: int) -> Path:
    """Where a part lies."""
    return out / "parts" / f"{part:04d}.zarr"


def shard_path(out: Path, part: int, layout: PatchLayout, array: str, number: int) -> Path:
    """Where a shard of one of ARRAYS lies."""
    zeros = ".0" * len(layout.chunk(array))
    return part_folder(out, part) / array / f"c.{number}{zeros}"


def _chunk(layout: PatchLayout, array: str, patch: Patch | None, fill: int) -> NDArray[Any]:
    whole = np.full(layout.chunk(array), fill, np.int16 if array == "reflectance" else np.uint8)
    if patch is not None:
        values = patch.refl_tbyx if array == "reflectance" else patch.fmask_tyx
        whole[: len(values)] = values
    return whole


def _sharded(layout: PatchLayout, array: str) -> Json:
    chunk = (1, *layout.chunk(array))
    bands = ("band",) if array == "reflectance" else ()
    metadata = sharded_json(
        (layout.patches, *chunk[1:]),
        (layout.shard_patches, *chunk[1:]),
        chunk,
        "int16" if array == "reflectance" else "uint8",
        axes=("patch", "look", *bands, "y", "x"),
        fill=FILL if array == "reflectance" else FMASK_FILL,
        packing=shard.SMALL,
    )
    told = {"scale_factor": SCALE, "_FillValue": FILL} if bands else {"comment": "HLS v2 Fmask bits; 255 no data"}
    return metadata | {"attributes": told}


def _put(out: Path, path: Path, parts: Any) -> tuple[str, str]:
    """Write, unless the very same is there: (path relative to `out`, sha256)."""
    content = list(parts)
    try:
        if path.exists():
            digest = sha256_of_parts(content)
            if sha256_of(path) == digest:
                return path.relative_to(out).as_posix(), digest
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.relative_to(out).as_posix(), write_file(path, content)
    except OSError as error:
        raise unwritable(error, path.name, path) from error
