"""The nights that are killed or watched; a module of its own, so that forked processes find it by name."""

import ctypes
import gc
import logging
import stat
from dataclasses import dataclass
from datetime import date
from multiprocessing.connection import Connection
from pathlib import Path

import psutil
from fault.compiled import load_compiled

from vsat.config import load_region
from vsat.errors import ExitCode, VsatError
from vsat.stages.nightly import nightly


@dataclass(frozen=True)
class State:
    """Of the process after a night; `connections` are those that are kept open for the next."""

    rss_mb: float
    files: int
    connections: int
    threads: int


def night(file: Path, day: date) -> ExitCode:
    """Bring the region up to the day; the exit code that `vsat nightly` would end with."""
    logger = logging.getLogger("vsat")
    before = logger.level
    logger.setLevel(logging.CRITICAL)  # the faults are many, and each would be a line
    try:
        return nightly(load_region(file), day).exit_code
    except VsatError as error:
        return error.exit_code
    finally:
        logger.setLevel(before)


def nights(pipe: Connection) -> None:
    """One night after the other in this process, as they are asked for, until None is: (exit code, state) of each."""
    while (asked := pipe.recv()) is not None:
        code = night(*asked)
        gc.collect()
        # what the allocator keeps for threads that have ended goes back first: each night has threads of its own
        ctypes.CDLL(None).malloc_trim(0)
        pipe.send((code, _state()))


def _state() -> State:
    process = psutil.Process()
    handles = [path.stat().st_mode for path in Path("/proc/self/fd").iterdir() if path.exists()]
    sockets = sum(stat.S_ISSOCK(mode) for mode in handles)
    return State(process.memory_info().rss / 2**20, len(handles) - sockets, sockets, process.num_threads())


load_compiled()
