"""Checkpoints that a kill cannot spoil: written aside, hashed, marked as complete, renamed; torn ones are never read.

out/
    checkpoint-1200/        weights, optimiser, schedule, random numbers, state: whole since it has this name
        complete.json       sha256 of every other file, written last
    checkpoint-1400.part/   one that is being written or removed, or what a kill left of it
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Collection
from pathlib import Path

log = logging.getLogger(__name__)

PREFIX, ASIDE, MARKER = "checkpoint-", ".part", "complete.json"


def folder_of(out: Path, step: int, *, aside: bool = False) -> Path:
    """Where the checkpoint after this step is, or would be; `aside` for where it is written."""
    return out / f"{PREFIX}{step}{ASIDE if aside else ''}"


def begin(aside: Path) -> None:
    """Leave this folder empty, to be filled and handed to `finish`."""
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)


def finish(aside: Path) -> Path:
    """Leave the checkpoint on the disk, whole and under its own name.

    Args:
        aside: with all its files.

    Returns:
        The checkpoint's folder.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    _sync_tree(aside)
    written = {path.name: _sha256(path) for path in _files(aside)}
    with (aside / MARKER).open("w", encoding="utf-8") as file:
        json.dump({"sha256": written}, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    _sync_folder(aside)
    whole = aside.rename(aside.with_name(aside.name.removesuffix(ASIDE)))
    _sync_folder(whole.parent)
    return whole


def newest(out: Path) -> Path | None:
    """The newest checkpoint whose files are all there as they were written; None for none. Torn ones are removed.

    Each torn checkpoint, and what a kill left aside, is told with a warning.
    """
    for aside in sorted(out.glob(f"{PREFIX}*{ASIDE}")):
        log.warning("%s was not finished and is removed", aside)
        shutil.rmtree(aside)
    for step in sorted(steps(out), reverse=True):
        folder = folder_of(out, step)
        problem = what_is_wrong(folder)
        if not problem:
            return folder
        log.warning("%s is not whole and is removed: %s", folder, problem)
        _remove(folder)
    return None


def what_is_wrong(folder: Path) -> str:
    """Why a checkpoint cannot be trusted; "" if it can."""
    try:
        wanted = json.loads((folder / MARKER).read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return f"no {MARKER} that can be read"
    found = {path.name for path in _files(folder)} - {MARKER}
    missing = sorted(set(wanted) - found)
    if missing:
        return f"{missing[0]} is missing"
    changed = [name for name in sorted(wanted) if _sha256(folder / name) != wanted[name]]
    return f"{changed[0]} is not what was written" if changed else ""


def keep(out: Path, wanted: Collection[int]) -> None:
    """Remove the checkpoints of all other steps."""
    for step in steps(out) - set(wanted):
        _remove(folder_of(out, step))


def steps(out: Path) -> set[int]:
    """Of the checkpoints that have their own name."""
    names = (path.name.removeprefix(PREFIX) for path in out.glob(f"{PREFIX}*") if path.is_dir())
    return {int(name) for name in names if name.isascii() and name.isdigit()}


def _remove(folder: Path) -> None:
    """Take away its name first, so that a kill leaves no half of it under that."""
    aside = folder.with_name(folder.name + ASIDE)
    shutil.rmtree(aside, ignore_errors=True)
    shutil.rmtree(folder.rename(aside))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_tree(folder: Path) -> None:
    for path in _files(folder):
        with path.open("rb") as file:
            os.fsync(file.fileno())
    _sync_folder(folder)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
