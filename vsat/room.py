"""Whether a write failed because the disk is full. Who knows it says so, for every further write would fail alike."""

import errno
import os
from pathlib import Path

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
MAKE_ROOM = "make room there (vsat doctor says how much), then run again: what is finished stays"
LEAST_FREE = 64 << 10  # bytes; SQLite wants a few pages for its log and its index


def is_full(error: Exception, place: Path, *, wanted: int = LEAST_FREE) -> bool:
    """Whether a failed write to `place` means that there is no room.

    Compiled libraries seldom pass on what the system said: NetCDF speaks of permissions, HDF5 of itself, SQLite of its
    index. Then the disk itself is asked.

    Args:
        error: that the write ended with.
        place: of the file, there or not.
        wanted: bytes that the write took at most, where it may have removed what it had written.
    """
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return True
    return os.strerror(errno.ENOSPC) in str(error) or not has_room(place, wanted)


def has_room(place: Path, wanted: int = LEAST_FREE) -> bool:
    """Whether the disk that `place` is on, or will be, has so many bytes free, and a file."""
    there = next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.exists())
    told = os.statvfs(there)
    has_files = told.f_favail > 0 or told.f_files == 0  # some file systems do not count them
    return told.f_bavail * told.f_frsize >= wanted and has_files
