"""What a piece of code reaches for while it runs: files, hosts and programs outside of an allow-list, and memory.

    with watching(allowed={("127.0.0.1", port)}, canaries=folder) as seen:
        work()
    assert seen.outside == []
    assert seen.peak_mb < 300

Two observers: an audit hook hears what Python opens, resolves, connects and starts; inotify hears every access to the
canaries, also by libraries in C. A name or connection that is not allowed is refused, so that nothing leaves the machine
even where vsat would let it. The hook stays for the life of the process and hears nothing outside of such a block.
"""

import contextlib
import ctypes
import os
import socket
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_IN_ACCESS, _IN_OPEN = 0x1, 0x20
_STARTS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn"}
# where code and its data lie, and where the system says how large it is
_OURS = tuple(
    os.path.realpath(path)
    for path in (ROOT, sys.prefix, sys.base_prefix, sysconfig.get_path("stdlib"), "/proc", "/sys", "/dev")
)


@dataclass
class Seen:
    """What was reached for outside of the allow-list, and the highest memory above that at the block's begin."""

    outside: list[str] = field(default_factory=list)
    peak_mb: float = 0.0


@dataclass
class _Watch:
    hosts: set[tuple[str, int]]
    names: set[str]
    folders: tuple[str, ...]
    seen: Seen


_watch: _Watch | None = None
_hooked = False


@contextlib.contextmanager
def watching(
    *, hosts: set[tuple[str, int]], canaries: Path, names: set[str] = frozenset(), folders: tuple[Path, ...] = ()
) -> Iterator[Seen]:
    """Watches this process until the block ends.

    Args:
        hosts: (address, port) pairs that may be connected.
        canaries: a folder of files that nobody may read.
        names: hosts that may be resolved, beside those of `hosts`.
        folders: where files may be opened, beside the code's own places.
    """
    global _watch, _hooked
    if not _hooked:
        sys.addaudithook(_hear)
        _hooked = True
    seen = Seen()
    resolved = {host for host, _ in hosts} | set(names)
    with _accesses(canaries) as accesses:
        before = _reset_peak()
        _watch = _Watch(hosts, resolved, tuple(os.path.realpath(path) for path in folders), seen)
        try:
            yield seen
        finally:
            _watch = None
            seen.peak_mb = max(0.0, (_status("VmHWM") - before) / 1024)
            seen.outside += accesses()


def _hear(event: str, args: tuple[Any, ...]) -> None:
    watch = _watch
    if watch is None:
        return
    if event == "open" and isinstance(args[0], str | bytes):
        path = os.path.realpath(os.fsdecode(args[0]))
        if not path.startswith((*_OURS, *watch.folders)):
            watch.seen.outside.append(f"open {path}")
    elif event == "socket.connect" and isinstance(args[1], tuple) and args[1][:2] not in watch.hosts:
        watch.seen.outside.append(f"connect {args[1][:2]}")
        raise ConnectionRefusedError("the watcher lets nobody out")
    elif event == "socket.getaddrinfo" and args[0] not in watch.names:
        watch.seen.outside.append(f"resolve {args[0]}")
        raise socket.gaierror("the watcher lets nobody out")
    elif event in _STARTS:
        watch.seen.outside.append(f"start {args[0]}")


@contextlib.contextmanager
def _accesses(folder: Path) -> Iterator[Any]:
    """A function that says which files of the folder were opened or read since, by whatever layer."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    assert handle >= 0, os.strerror(ctypes.get_errno())
    for place in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        assert libc.inotify_add_watch(handle, os.fsencode(place), _IN_ACCESS | _IN_OPEN) >= 0

    def heard() -> list[str]:
        try:
            data = os.read(handle, 1 << 16)
        except BlockingIOError:
            return []
        names, at = set(), 0
        while at < len(data):
            length = int.from_bytes(data[at + 12 : at + 16], sys.byteorder)
            names.add(data[at + 16 : at + 16 + length].rstrip(b"\0").decode(errors="replace"))
            at += 16 + length
        return [f"canary {name or folder.name}" for name in sorted(names)]

    try:
        yield heard
    finally:
        os.close(handle)


def _reset_peak() -> int:
    """Memory now, in kB, from where the highest memory is counted anew."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
