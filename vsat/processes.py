"""Child processes that are looked after: started, started again when they die, and none left behind."""

import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

log = logging.getLogger(__name__)

STOP_S = 15.0
LOOK_S = 0.5
_LONGEST_REST_S = 60.0
_STEADY_S = 300.0  # who ran so long begins again with the shortest rest


@dataclass(frozen=True)
class Part:
    """One process of a stack.

    Attributes:
        name: for messages.
        command: what is run.
        environment: all of it.
        log: file that gets its output.
        takes_all: what it has started ends with it before it is started again. A server's own children hold its port;
            a worker's are flow runs that can finish without it.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    log: Path
    takes_all: bool = False


def start(part: Part) -> subprocess.Popen[bytes]:
    """The part as a process in a session of its own, which ends when the thread that started it does."""
    with part.log.open("ab") as out:
        return subprocess.Popen(
            part.command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=dict(part.environment),
            start_new_session=True,
            preexec_fn=_dies_with_parent,  # noqa: PLW1509 - two system calls, safe beside threads
        )


@contextmanager
def running(part: Part) -> Iterator["Watched"]:
    """The part runs in the block, and is interrupted at its end, then killed; it dies with this process in any case."""
    watched = Watched(part, start(part))
    try:
        yield watched
    finally:
        stop(watched.process)


class Watched:
    """A part and the process that it is at present."""

    def __init__(self, part: Part, process: subprocess.Popen[bytes]) -> None:
        self.part, self.process = part, process
        self._began, self._rest_s, self._not_before = time.monotonic(), 1.0, 0.0

    def look(self) -> bool:
        """Start the part again if it is dead and has rested; True if that was done. Rests double up to a minute."""
        code, now = self.process.poll(), time.monotonic()
        if code is None:
            return False
        if not self._not_before:
            self._rest_s = 1.0 if now - self._began > _STEADY_S else min(_LONGEST_REST_S, 2 * self._rest_s)
            self._not_before = now + self._rest_s
            log.warning("%s ended with %d; it is started again in %.0f s", self.part.name, code, self._rest_s)
        if now < self._not_before:
            return False
        if self.part.takes_all:
            _signal_group(self.process.pid, signal.SIGKILL)
        self.process, self._began, self._not_before = start(self.part), now, 0.0
        return True


def look_after(parts: Sequence[Watched]) -> None:
    """Restart what dies, until this process is asked to stop by Ctrl-C or, after `stoppable`, by SIGTERM."""
    try:
        while True:
            for watched in parts:
                watched.look()
            time.sleep(LOOK_S)
    except KeyboardInterrupt:
        return


def stoppable() -> None:
    """SIGTERM ends this process as Ctrl-C does. A shell's background jobs come with SIGINT ignored: not any more."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.default_int_handler)


def stop(process: subprocess.Popen[bytes]) -> None:
    """The process and its group are gone: interrupted first, killed after 15 seconds."""
    if process.poll() is None:
        _signal_group(process.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_S)
    _signal_group(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)


def end_marked(name: str, value: str, *, patience_s: float = 5.0) -> int:
    """Every process with `name=value` in its environment is gone, whoever its parent is; returns how many there were."""
    found = [process for process in psutil.process_iter() if _is_marked(process, name, value)]
    for process in found:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    _, alive = psutil.wait_procs(found, timeout=patience_s)
    for process in alive:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(alive, timeout=STOP_S)
    return len(found)


def _is_marked(process: psutil.Process, name: str, value: str) -> bool:
    try:
        return process.pid != os.getpid() and process.environ().get(name) == value
    except (psutil.Error, OSError):  # gone meanwhile, or another user's
        return False


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _dies_with_parent() -> None:
    # A process started in the background of a script inherits SIGINT ignored, and a worker would then never stop.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
