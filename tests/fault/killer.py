"""Ends a process by SIGKILL at its n-th write below a folder, and counts how many writes there are.

A write is: a file opened for writing, a folder made, anything renamed, linked or removed, both sides of a ledger commit
(`vsat.ledger`, for SQLite writes behind Python's back), and every change in a bucket (`vsat.object`). The kill comes
before the write happens; what was written before it has reached the system, nothing else has.
"""

import contextlib
import math
import multiprocessing
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from functools import lru_cache
from multiprocessing import forkserver
from multiprocessing import process as process_module
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

NEVER = 0
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "vsat.ledger"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_starting = threading.Lock()


class Killer:
    """An installed hook; `count` is the number of writes so far."""

    def __init__(self, at: int, folder: Path) -> None:
        self.count, self._at, self._folder = 0, at, os.path.realpath(folder)
        sys.addaudithook(self._hear)

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if not self._is_write(event, args):
            return
        self.count += 1
        if self.count == self._at:
            os.kill(os.getpid(), signal.SIGKILL)

    def _is_write(self, event: str, args: tuple[Any, ...]) -> bool:
        if event in ("vsat.ledger", "vsat.object"):
            return True
        if event == "open":
            path, mode, flags = args
            writes = bool(set(mode) & set("wax+")) if isinstance(mode, str) else bool((flags or 0) & _WRITING)
            return writes and self._is_inside(path)
        return event in _CHANGES and any(self._is_inside(path) for path in args[:2])

    def _is_inside(self, path: object) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False
        return os.fsdecode(path).startswith(self._folder)


def install(at: int, folder: Path) -> Killer:
    """From now on this process dies at its `at`-th write below `folder`; with NEVER it only counts."""
    return Killer(at, folder)


def run_killed(at: int, folder: Path, work: Callable[..., object], *args: object) -> int | None:
    """Do `work(*args)` in a fresh process that dies at its `at`-th write below `folder`.

    Returns:
        The number of writes if it came to its end, None if it was killed.

    Raises:
        AssertionError: it ended in another way.
    """
    context = nursery(work.__module__)
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(at, folder, theirs, work, args))
    start(process)
    theirs.close()
    process.join()
    if process.exitcode == -signal.SIGKILL:
        return None
    assert process.exitcode == 0, f"ended with {process.exitcode}, killed at write {at}"
    count: int = mine.recv()
    return count


def kill_everywhere(
    prepare: Callable[[], Path], work: Callable[..., object], args: Callable[[Path], tuple[object, ...]],
    look: Callable[[Path], None], compare: Callable[[Path], None], *, step: int = 1,
    until: float = math.inf,
) -> int:  # fmt: skip
    """Kill `work` at each of its writes, look at what it left, let it run again to its end, and compare.

    Args:
        prepare: makes the folder that the work starts from, anew each time.
        work: a function of a module that can be imported by name from sys.path (not of a test module).
        args: its arguments, given the folder.
        look: asserts that the killed state is sound.
        compare: asserts that the repeated run's result is that of an undisturbed one.
        step: kill at every so manieth write only.
        until: moment (monotonic) after which no further death is begun.

    Returns:
        Number of deaths; with step 1 that of the writes.
    """
    at = deaths = 0
    while time.monotonic() < until:
        at += step
        folder = prepare()
        count = run_killed(at, folder, work, *args(folder))
        if count is not None:
            compare(folder)
            return deaths
        deaths += 1
        look(folder)
        assert run_killed(NEVER, folder, work, *args(folder)) is not None
        compare(folder)
        shutil.rmtree(folder)
    return deaths


def start(process: BaseProcess) -> None:
    """Start it, and keep it from other threads: each start there would ask it for its end, which only one can be told."""
    with _starting:
        process.start()
        process_module._children.discard(process)  # type: ignore[attr-defined]


@lru_cache(maxsize=1)
def nursery(module: str) -> ForkServerContext:
    """A process without threads that has imported `module`, so that its forks start at once; the one before it is gone."""
    context = multiprocessing.get_context("forkserver")
    # its imports do not know of our sys.path (until Python 3.13), and it stays silent where one fails
    kept = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    try:
        forkserver._forkserver._stop()  # type: ignore[attr-defined] - it has what an earlier test wanted, and is asked once
        forkserver.set_forkserver_preload(["__main__", module])
        forkserver.ensure_running()
    finally:
        if kept is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = kept
    return context


def _child(at: int, folder: Path, pipe: Any, work: Callable[..., object], args: tuple[object, ...]) -> None:
    killer = install(at, folder)
    work(*args)
    with contextlib.suppress(BrokenPipeError):
        pipe.send(killer.count)
