"""Work on an input that may be hostile, in a process of its own: what it reaches for outside, and how much memory it takes.

Three watch at once. The kernel (inotify) sees every file below `outside` that is opened, read or made, by whatever library
and language. A listener on loopback sees every connection that the input asks for. Python's audit events see processes
that are started, things that are unpickled, and opens and connections beyond what the work needs.
"""

import contextlib
import ctypes
import json
import os
import pickle
import resource
import select
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vsat.errors import VsatError
from vsat.io.sealed import KEY, sealed_json

BUDGET_MB = 3000  # beyond which an allocation fails: a net, for what is to be seen is far below
SECONDS = 120
_CPU_S = 90
_SEEN = 0x1 | 0x20 | 0x100 | 0x2  # IN_ACCESS, IN_OPEN, IN_CREATE, IN_MODIFY
_STARTS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "pty.spawn"}
_SYSTEM = ("/usr/", "/lib", "/etc/", "/proc/", "/sys/", "/dev/", "/opt/", "/var/lib/")


@dataclass(frozen=True)
class Place:
    """Where a case is built: its own folder, a folder outside with secrets, and a port that nobody may call."""

    folder: Path
    outside: Path
    port: int

    @property
    def url(self) -> str:
        """An address that nobody may call."""
        return f"http://127.0.0.1:{self.port}/secret"


@dataclass(frozen=True)
class Case:
    """An input and what is done with it.

    Attributes:
        group: what kind of input it is.
        name: what is wrong with it.
        build: makes it in a place, and says where it lies.
        work: what is done with it.
        expect: "refused", "fine", or "any" of the two where libraries may differ.
        heavy: takes so much time or memory that the suite leaves it to the campaign.
    """

    group: str
    name: str
    build: Callable[[Place], Any]
    work: Callable[[Any], object]
    expect: str = "refused"
    heavy: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of it: "fine", "refused" (an error that a user can mend), or "crashed" (anything else, and why)."""

    said: str
    text: str
    peak_mb: float
    seconds: float
    reached: tuple[str, ...] = field(default=())

    @property
    def is_sound(self) -> bool:
        """Nothing crashed, and nothing outside was touched."""
        return self.said in ("fine", "refused") and not self.reached


def resealed(text: str) -> bytes:
    """A mapping with the checksum that belongs to it, as whoever means harm would write it; anything else as it is."""
    with contextlib.suppress(ValueError, RecursionError):
        told = json.loads(text)
        if isinstance(told, dict):
            told.pop(KEY, None)
            return sealed_json(told)
    return text.encode()


@contextlib.contextmanager
def places(root: Path) -> Iterator[Callable[[str], Place]]:
    """Makes the Place of each case by its name; all share what is outside."""
    outside = root / "outside"
    outside.mkdir(parents=True)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        listener.setblocking(False)
        _listeners[listener.getsockname()[1]] = listener

        def make(name: str) -> Place:
            folder = root / name
            folder.mkdir()
            return Place(folder, outside, listener.getsockname()[1])

        yield make


_listeners: dict[int, socket.socket] = {}


def tried(case: Case, place: Place) -> Outcome:
    """The case, built in one process and worked on in another."""
    note = place.folder.with_suffix(".input")
    apart(lambda: note.write_bytes(pickle.dumps(case.build(place))))
    given = pickle.loads(note.read_bytes())
    return _confined(lambda: case.work(given), place)


def apart(work: Callable[[], object]) -> None:
    """Do the work in a fork, unwatched: what it leaves in memory is gone.

    Raises:
        AssertionError: it did not come to its end.
    """
    pid = os.fork()
    if not pid:
        _end(_tried(work))
    _, status = os.waitpid(pid, 0)
    assert status == 0, "the case could not be built"


def _confined(work: Callable[[], object], place: Place) -> Outcome:
    """Do the work in a fork with limits, watched."""
    reader, writer = os.pipe()
    started = time.monotonic()
    with _watched(place.outside) as events:
        pid = os.fork()
        if not pid:
            os.close(reader)
            os.setpgid(0, 0)
            _child(work, place, writer)
        os.close(writer)
        told = _told(reader, pid)
        reached = {*told.pop("reached", ()), *events(), *_called(place.port)}
    _, status = os.waitpid(pid, 0)
    if "said" not in told:
        ended = f"signal {signal.Signals(status & 127).name}" if status & 127 else f"status {status >> 8}"
        told = {"said": "crashed", "text": f"the process ended with {ended}", "peak_mb": 0.0}
    return Outcome(**told, seconds=time.monotonic() - started, reached=tuple(sorted(reached)))


def _child(work: Callable[[], object], place: Place, writer: int) -> None:
    """Ends the process."""
    reached: set[str] = set()
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    os.chdir(place.folder)
    resource.setrlimit(resource.RLIMIT_CPU, (_CPU_S, _CPU_S))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit = (_kilobytes("VmData") << 10) + (BUDGET_MB << 20)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
    before = _kilobytes("VmRSS")
    allowed = (str(place.folder), sys.prefix, sys.base_prefix, *_SYSTEM, *filter(None, map(str, sys.path)))
    sys.addaudithook(lambda event, args: _hear(event, args, allowed, reached))
    said, text = "fine", ""
    try:
        work()
    except VsatError as error:
        said, text = "refused", str(error)
    except BaseException as error:  # noqa: BLE001 - a crash, of whatever kind, is what is looked for
        said, text = "crashed", "".join(traceback.format_exception(error))[-1500:]
    peak = max(0, _kilobytes("VmHWM") - before) / 1024
    told = json.dumps({"said": said, "text": text[:3000], "peak_mb": peak, "reached": sorted(reached)})
    os.write(writer, told.encode()[:60_000])
    _end(0)


def _hear(event: str, args: tuple[Any, ...], allowed: tuple[str, ...], reached: set[str]) -> None:
    if event == "open" and isinstance(args[0], str | bytes):
        path = os.fsdecode(args[0])
        follows = not (args[2] or 0) & os.O_NOFOLLOW
        path = os.path.realpath(path if follows else Path(path).parent)
        path = path if follows else f"{path}/"
        if not path.startswith(allowed):
            reached.add(f"opened {path}")
    elif event == "socket.connect" and isinstance(args[1], tuple):
        reached.add(f"connected to {args[1][0]}:{args[1][1]}")
    elif event == "socket.getaddrinfo" and args[0] not in (None, "localhost", "127.0.0.1"):
        reached.add(f"asked for the address of {args[0]}")
    elif event in _STARTS:
        reached.add(event)
    elif event == "pickle.find_class":
        reached.add(f"unpickled {args[0]}.{args[1]}")


def _kilobytes(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1])
    raise AssertionError(name)


def _told(reader: int, pid: int) -> dict[str, Any]:
    """What the child has written, or nothing if it ended, or took too long, before."""
    parts: list[bytes] = []
    until = time.monotonic() + SECONDS
    with os.fdopen(reader, "rb", buffering=0) as pipe:
        while (left := until - time.monotonic()) > 0:
            if select.select([pipe], [], [], left)[0]:
                if not (part := pipe.read(1 << 16)):
                    return json.loads(b"".join(parts)) if parts else {}
                parts.append(part)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    return {"said": "crashed", "text": f"not done after {SECONDS} s", "peak_mb": 0.0}


@contextlib.contextmanager
def _watched(folder: Path) -> Iterator[Callable[[], set[str]]]:
    """Inside, a function that tells what was opened, read or made below the folder since."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    assert handle >= 0, os.strerror(ctypes.get_errno())
    names = {}
    for path in (folder, *(one for one in folder.rglob("*") if one.is_dir())):
        names[libc.inotify_add_watch(handle, os.fsencode(path), _SEEN)] = path

    def events() -> set[str]:
        found, at = set(), 0
        with contextlib.suppress(BlockingIOError):
            while data := os.read(handle, 1 << 16):
                at = 0
                while at < len(data):
                    watch, _, _, length = struct.unpack_from("iIII", data, at)
                    name = data[at + 16 : at + 16 + length].rstrip(b"\0").decode(errors="replace")
                    found.add(f"touched {names.get(watch, folder) / name}")
                    at += 16 + length
        return found

    try:
        yield events
    finally:
        os.close(handle)


def _called(port: int) -> set[str]:
    """Whether somebody has called the port."""
    found = set()
    with contextlib.suppress(BlockingIOError):
        while True:
            _listeners[port].accept()[0].close()
            found.add("called the listener")
    return found


def _tried(work: Callable[[], object]) -> int:
    try:
        work()
    except BaseException:  # noqa: BLE001 - the fork must not go on as its parent
        traceback.print_exc()
        return 1
    return 0


def _end(status: int) -> None:
    sys.stderr.flush()
    os._exit(status)


def load_libraries(folder: Path) -> None:
    """What the work imports and compiles, in this process, so that its forks need not; no thread is left running."""
    import dask.array
    import netCDF4
    import rioxarray
    import torch
    import xarray as xr
    import zarr
    from fault.compiled import load_compiled

    import vsat.viewer.app
    from vsat.stages import fill, sources

    torch.set_num_threads(1)
    assert dask.array and vsat.viewer.app and netCDF4 and rioxarray and zarr and fill and sources
    load_compiled()
    xr.Dataset({"a": ("time", [1.0])}, {"time": ("time", [0], {"units": "days since 2020-01-01"})}).to_netcdf(
        folder / "a.nc"
    )
    xr.open_dataset(folder / "a.nc").load().close()
