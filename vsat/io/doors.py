"""What a user's NetCDF file or Zarr folder may hold, looked at before any library reads it.

HDF5 can fetch its numbers from other files (external storage, virtual datasets, external links) and Zarr can run codecs
that unpickle; a chunk of some kilobytes can inflate to gigabytes. None of it is needed for a cube: what reaches outside is
refused by name, and while a file is read the process can take no more memory than the cube declares, and some more.
"""

import json
import math
import os
import resource
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from vsat.errors import InputError

SPARE_BYTES = 1 << 30  # for libraries, threads and caches, besides what is declared
MOST_CHUNKS = 4_000_000  # of an array: at some microseconds each it takes a minute to miss them all
MOST_OBJECTS, DEEPEST = 1000, 8  # groups and variables in a file, and groups in one another
_MOST_JSON = 4 << 20
_MOST_ITEM = 4096  # bytes of a number or a text
_MOST_CHUNK = 2 << 30
# what packs numbers; none of them makes Python objects of bytes
_CODECS = {
    "adler32", "astype", "bitround", "blosc", "bytes", "bz2", "crc32", "crc32c", "delta", "fixedscaleoffset", "fletcher32",
    "gzip", "lz4", "lzma", "packbits", "quantize", "sharding_indexed", "shuffle", "transpose", "vlen-bytes", "vlen-utf8",
    "zlib", "zstd",
}  # fmt: skip
_TEXTS = {"vlen-utf8", "vlen-bytes"}
_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")

Json = dict[str, Any]


@contextmanager
def bounded_memory(declared: int = 0) -> Iterator[None]:
    """Inside, the process cannot grow by more than twice `declared` bytes and SPARE_BYTES: allocations beyond fail.

    It holds on Linux, for all threads of the process.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = _data_bytes() + 2 * declared + SPARE_BYTES
    if not sys.platform.startswith("linux") or (soft != resource.RLIM_INFINITY and soft <= limit):
        yield
        return
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def check_hdf5(path: Path) -> None:
    """Nothing happens if the file keeps all it holds in itself, in moderate numbers.

    Raises:
        InputError: it refers to other files, or its structure is out of all proportion.
        OSError, RuntimeError: it is damaged.
    """
    import h5py

    with h5py.File(path, "r") as file:
        seen: set[int] = set()
        left = [(file["/"].id, "/", 0)]
        while left:
            group, name, depth = left.pop()
            for child in group:
                told = f"{name}{child.decode('utf-8', 'replace')}"
                kind = group.links.get_info(child).type
                if kind == h5py.h5l.TYPE_SOFT:
                    raise _refused(f"{told} is a soft link", path, "write the variable itself instead")
                if kind != h5py.h5l.TYPE_HARD:
                    raise _refused(f"{told} lies in another file", path, "write all variables into one file")
                found = h5py.h5o.open(group, child)
                address = int(h5py.h5o.get_info(found).addr)
                if isinstance(found, h5py.h5d.DatasetID):
                    _check_dataset(found, told, path)
                elif isinstance(found, h5py.h5g.GroupID) and address not in seen:
                    if depth + 1 > DEEPEST:
                        raise _refused(f"its groups are nested more than {DEEPEST} deep", path, _PLAIN)
                    left.append((found, f"{told}/", depth + 1))
                elif address in seen:
                    raise _refused(f"{told} is a group that holds itself", path, _PLAIN)
                seen.add(address)
                if len(seen) > MOST_OBJECTS:
                    raise _refused(f"it holds more than {MOST_OBJECTS} groups and variables", path, _PLAIN)


_PLAIN = "write reflectance, fmask and their coordinates into a file of their own"


def _check_dataset(found: Any, name: str, path: Path) -> None:
    import h5py

    made = found.get_create_plist()
    layout = made.get_layout()
    if layout == h5py.h5d.VIRTUAL or made.get_external_count():
        raise _refused(f"{name} takes its numbers from other files", path, "write the numbers into the file itself")
    if layout == h5py.h5d.CHUNKED:
        _check_chunks(found.shape, made.get_chunk(), name, path)


def check_zarr(folder: Path) -> None:
    """Nothing happens if the folder holds all that its arrays need in plain files, packed by codecs that make numbers.

    Raises:
        InputError: a link or a special file, a codec or type that is not read here, or sizes out of all proportion.
    """
    for place, folders, names in os.walk(folder.resolve()):
        for name in (*folders, *names):
            mode = Path(place, name).lstat().st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                kind = "a link" if stat.S_ISLNK(mode) else "no plain file"
                raise _refused(f"{name} is {kind}", Path(place), "copy the cube with its files in place: cp -rL")
    _told(folder)
    for child in sorted(folder.iterdir()):
        if child.is_dir():
            told = _told(child)
            if "shape" in told:
                _check_array(told, child)


def _told(folder: Path) -> Json:
    """The metadata that lie in a folder, merged; {} for none."""
    merged: Json = {}
    for path in (folder / name for name in _METADATA):
        if not path.exists():
            continue
        if not path.is_file() or path.stat().st_size > _MOST_JSON:
            raise _refused(f"{path.name} is no file of at most {_MOST_JSON:,} bytes", path, _AGAIN)
        try:
            told = json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise _refused(f"it cannot be read: {type(error).__name__}: {str(error)[:200]}", path, _AGAIN) from error
        if not isinstance(told, dict):
            raise _refused("it cannot be read: these are no metadata", path, _AGAIN)
        merged |= told if path.name in ("zarr.json", ".zarray") else {}
    return merged


_AGAIN = "write the cube again, for instance with xarray.Dataset.to_zarr"


def _check_array(told: Json, folder: Path) -> None:
    """Shape, chunks, codecs and type of an array, v2 or v3."""
    try:
        if told.get("node_type", "array") != "array":
            return
        shape = _sizes(told["shape"], least=0)
        is_v3 = "chunk_grid" in told
        chunks = _sizes(told["chunk_grid"]["configuration"]["chunk_shape"] if is_v3 else told["chunks"], least=1)
        item = _check_type(told["data_type"] if is_v3 else told["dtype"], folder)
        separator = told.get("chunk_key_encoding", {}).get("configuration", {}).get("separator", "/")
        if {separator, told.get("dimension_separator", ".")} - {"/", "."}:
            raise _refused("its chunks are named in a way that is not read here", folder, _AGAIN)
        names = _check_codecs(told, folder)
        inner = [one for one in told.get("codecs") or [] if one["name"] == "sharding_indexed"]
        for one in inner:
            within = _sizes(one["configuration"]["chunk_shape"], least=1)
            _check_chunks(chunks, within, f"a shard of {folder.name}", folder)
            _check_chunks(shape, within, folder.name, folder)
        _check_chunks(shape, chunks, folder.name, folder)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise _refused(f"it cannot be read: {type(error).__name__}: {str(error)[:200]}", folder, _AGAIN) from error
    if math.prod(chunks) * item > _MOST_CHUNK or (item == 0 and not names & _TEXTS):
        raise _refused("its chunks are too large, or hold objects", folder, _AGAIN)


def _check_type(told: Any, folder: Path) -> int:
    """Bytes of a number or text of the type; 0 for objects, which only codecs of texts make sound."""
    if isinstance(told, dict):
        return _limited(int(told["configuration"]["length_bytes"]), folder) if "configuration" in told else 0
    if told in ("string", "variable_length_bytes", "|O"):
        return 0
    if isinstance(told, str):
        return _limited(np.dtype(told).itemsize, folder)
    raise _refused("it holds records", folder, _AGAIN)


def _limited(size: int, folder: Path) -> int:
    if not 0 < size <= _MOST_ITEM:
        raise _refused(f"its numbers or texts have {size} bytes each", folder, _AGAIN)
    return size


def _check_codecs(told: Json, folder: Path) -> set[str]:
    given = [*(told.get("codecs") or []), *(told.get("filters") or []), *filter(None, [told.get("compressor")])]
    for one in [one for one in given if isinstance(one, dict) and one.get("name") == "sharding_indexed"]:
        given += [*one["configuration"]["codecs"], *one["configuration"].get("index_codecs", [])]
    names = {str(one.get("name") or one.get("id")).removeprefix("numcodecs.") for one in given}
    if unknown := sorted(names - _CODECS):
        raise _refused(f"it is packed by {unknown[0]!r}, which is not read here", folder, _AGAIN)
    return names


def _sizes(told: Any, *, least: int) -> tuple[int, ...]:
    sizes = tuple(told)
    if not all(type(size) is int and least <= size < 1 << 53 for size in sizes):
        raise ValueError(f"{str(sizes)[:80]} are no sizes")
    return sizes


def _check_chunks(shape: tuple[int, ...], chunks: tuple[int, ...], name: str, path: Path) -> None:
    count = math.prod(-(-size // chunk) for size, chunk in zip(shape, chunks, strict=True))
    if count > MOST_CHUNKS:
        raise _refused(f"{name} has {count:,} chunks", path, f"write it in larger ones, at most {MOST_CHUNKS:,}")


def _data_bytes() -> int:
    """Bytes that the process has of what RLIMIT_DATA counts."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmData:")), 0)


def _refused(problem: str, path: Path, next_step: str) -> InputError:
    return InputError(problem, place=str(path), next_step=next_step)
