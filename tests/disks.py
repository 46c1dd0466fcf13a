"""A file system of a given size in memory, that fills up; only where the machine lets us mount one."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PAGE_BYTES = 4096  # tmpfs gives room in pages, one at least to a file that is not empty
_MANY = 100_000


class CannotMountError(RuntimeError):
    """This machine lets us mount nothing."""


@dataclass(frozen=True)
class SmallDisk:
    """A mounted file system at `folder`."""

    folder: Path

    @property
    def used(self) -> tuple[int, int]:
        """Bytes and files."""
        told = os.statvfs(self.folder)
        return (told.f_blocks - told.f_bfree) * told.f_frsize, told.f_files - told.f_ffree

    def leave(self, free_bytes: int, free_files: int = _MANY) -> None:
        """From now on so much can be written, and so many files and folders made, whatever is there."""
        used_bytes, used_files = self.used
        # a size of 0 would mean without a limit
        size = max(used_bytes + free_bytes, PAGE_BYTES)
        options = f"remount,size={size},nr_inodes={used_files + free_files}"
        subprocess.run(["mount", "-o", options, str(self.folder)], check=True)


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[SmallDisk]:
    """A new file system of so many bytes at `folder`, gone when the block ends.

    Raises:
        CannotMountError: nothing can be mounted here.
    """
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes},nr_inodes={_MANY}", "tmpfs", str(folder)]
    try:
        made = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise CannotMountError("there is no mount command") from error
    if made.returncode:
        raise CannotMountError(made.stderr.strip())
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
