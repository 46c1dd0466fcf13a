"""Writes that survive a kill and a power cut. A file is there whole, or not at all.

On a disk it is written aside, synced and renamed; into a bucket it is put by one request.
"""

import hashlib
import os
import threading
from collections.abc import Iterable
from errno import ENOSPC
from pathlib import Path

from vsat.errors import DiskFull, StoreError
from vsat.objects import ObjectPath, StorePath
from vsat.room import LEAST_FREE, MAKE_ROOM, NO_ROOM, is_full

PARTIAL = ".partial"


def write_file(path: StorePath, parts: Iterable[bytes]) -> str:
    """Leave `parts`, joined, in `path` and on the disk, replacing what was there in one step.

    Args:
        path: the final place; on a disk its folder must exist.
        parts: the content in order.

    Returns:
        The content's sha256, in hexadecimal.

    Raises:
        OSError: the disk is full or the folder cannot be written; what was in `path` is still there.
    """
    if isinstance(path, ObjectPath):
        content = b"".join(parts)
        path.put(content)
        return hashlib.sha256(content).hexdigest()
    digest = hashlib.sha256()
    aside = path.with_name(aside_name(path.name))
    try:
        with aside.open("wb") as file:
            for part in parts:
                digest.update(part)
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
    return digest.hexdigest()


def unwritable(error: OSError, what: str, place: StorePath) -> StoreError:
    """What a failed write means: DiskFull, or a StoreError for want of the right to write.

    Args:
        error: that the system gave.
        what: could not be written, such as `image VSAT.T33UVP.2024123.v1`.
        place: where, if the error does not tell.
    """
    told, where = f"{what} cannot be written: {error.strerror}", str(error.filename or place)
    if error.errno in NO_ROOM:
        return DiskFull(told, place=where, next_step=MAKE_ROOM)
    return StoreError(
        told, place=where, next_step="give the right to write there, then run again: what is finished stays"
    )


def unwritten(error: Exception, path: Path, *, wanted: int = LEAST_FREE) -> StoreError:
    """The same for an error of a library that writes by itself, see `room.is_full`."""
    if is_full(error, path, wanted=wanted):
        return DiskFull(f"it cannot be written: {os.strerror(ENOSPC)}", place=str(path), next_step=MAKE_ROOM)
    return StoreError(f"it cannot be written: {error}", place=str(path), next_step="make room or name another place")


def put_file(path: Path, content: bytes) -> None:
    """The content lies whole in `path`, whose folder is made if need be, in place of what was there.

    Raises:
        StoreError: it cannot be written; DiskFull where there is no room, and what was in `path` is still there.
    """
    make_folder(path.parent)
    try:
        write_file(path, [content])
    except OSError as error:
        raise unwritable(error, path.name, path) from error


def make_folder(path: Path) -> None:
    """The folder is there, with those above it.

    Raises:
        StoreError: it cannot be made; DiskFull where there is no room for it.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(error, "the folder", path) from error


def aside_name(name: str) -> str:
    """A name beside `name` that no other thread or process on this machine uses, and that a sweep finds."""
    return f"{name}.{os.getpid()}-{threading.get_ident()}{PARTIAL}"


def sync_folder(folder: Path) -> None:
    """Put the folder's own entries on the disk, so that a rename outlives a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_tree(folder: Path) -> None:
    """Put every file and folder below `folder`, and it itself, on the disk."""
    for parent, _, names in os.walk(folder):
        for name in names:
            with (Path(parent) / name).open("rb") as file:
                os.fsync(file.fileno())
        sync_folder(Path(parent))


def size_of(path: StorePath) -> int:
    """Bytes of a file."""
    return path.size() if isinstance(path, ObjectPath) else path.stat().st_size


def sha256_of(path: StorePath) -> str:
    """The sha256 of a file's content, in hexadecimal."""
    if isinstance(path, ObjectPath):
        return hashlib.sha256(path.read_bytes()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_of_parts(parts: Iterable[bytes]) -> str:
    """The sha256 of parts joined, in hexadecimal."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
