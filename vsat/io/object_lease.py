"""A lease in a bucket: one object, made only where there is none, renewed by its holder, taken over when that falls silent.

No machine's clock is compared with another's: how old a sign of life is, the server's clock says. A holder that was
stopped for longer than the lease lasts finds out before it writes a receipt, see `check_leases`.
"""

import json
import os
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from vsat.errors import StoreError, VsatError
from vsat.objects import ABSENT, ObjectPath

EXPIRY_S = 60.0  # without a sign of life for so long, the holder counts as dead
BEAT_S = 10.0
LOOK_S = 0.5
TURN_S = 2.0  # who does not want to wait does so as long, for everyone takes the place of the next for an instant


@dataclass
class _Held:
    """A lease that this process holds; `etag` is of its last sign of life, `beaten` when that was, by `_clock`."""

    path: ObjectPath
    token: str
    etag: str
    beaten: float
    stop: threading.Event = field(default_factory=threading.Event)
    is_lost: bool = False

    @property
    def is_over(self) -> bool:
        """True once another may have it."""
        return self.is_lost or _clock() - self.beaten > EXPIRY_S


_held: list[_Held] = []  # of this process


@contextmanager
def object_lease(home: ObjectPath, name: str, *, wait_s: float) -> Iterator[None]:
    """Inside, this process alone holds `name` in the region's place. Who waits is next.

    Raises:
        StoreError: another process holds it still; or the bucket knows no conditional puts.
    """
    until = time.monotonic() + wait_s
    with ExitStack() as lease:
        # whoever waits holds the place of the next, so that a holder that asks again at once queues behind
        with _holding(home / f".{name}.next.lock", name, max(until, time.monotonic() + TURN_S)):
            lease.enter_context(_holding(home / f".{name}.lock", name, until))
        yield


@contextmanager
def _holding(path: ObjectPath, name: str, until: float) -> Iterator[None]:
    held = _taken(path, name, until)
    beat = threading.Thread(target=_beat, args=(held,), daemon=True)
    _held.append(held)
    beat.start()
    try:
        yield
    finally:
        held.stop.set()
        beat.join()
        _held.remove(held)
        if not held.is_over:
            with suppress(VsatError):  # out of reach: then it runs out by itself
                held.path.unlink()


def check_leases(home: ObjectPath) -> None:
    """Every lease that this process took on the place is its own still.

    Raises:
        StoreError: one is not: this process stood still, or had no network, for longer than a lease lasts.
    """
    for held in list(_held):
        if held.path.parent == home and held.is_over:
            problem = f"no sign of life could be given for {EXPIRY_S:.0f} s: another run may have taken over"
            raise StoreError(problem, place=str(held.path), next_step="run again: what is finished stays")


def _taken(path: ObjectPath, name: str, until: float) -> _Held:
    """The lease is ours, by `until` (monotonic)."""
    token = secrets.token_hex(16)
    while True:
        begun = _clock()
        etag = path.put(_content(token, 0), instead_of=ABSENT) or _taken_over(path, token)
        if etag is not None:
            _check_conditions(path)
            return _Held(path, token, etag, begun)
        if time.monotonic() >= until:
            raise _busy(path, name)
        time.sleep(LOOK_S)


def _taken_over(path: ObjectPath, token: str) -> str | None:
    """The ETag of our lease in place of one whose holder is dead, or of ours if it is; None if it lives."""
    found = _read(path)
    if found is None:
        return path.put(_content(token, 0), instead_of=ABSENT)
    fields, etag = found
    if fields.get("token") == token:  # our own put, whose answer was lost on the way
        return etag
    if _is_dead(fields) or _age_s(path) > EXPIRY_S:
        return path.put(_content(token, 0), instead_of=etag)
    return None


def _beat(held: _Held) -> None:
    count = 0
    while not held.stop.wait(BEAT_S):
        count, begun = count + 1, _clock()
        try:
            etag = held.path.put(_content(held.token, count), instead_of=held.etag)
            if etag is None:
                fields, etag = _read(held.path) or ({}, "")
                if fields.get("token") != held.token:
                    held.is_lost = True
                    return
        except VsatError:  # no answer: the next may come in time, else `is_over` tells
            continue
        held.etag, held.beaten = etag, begun


def _content(token: str, beat: int) -> bytes:
    return json.dumps({"token": token, "beat": beat, "process": os.getpid(), **_machine()}).encode()


def _machine() -> dict[str, str]:
    """Which system a process number is of: this boot of this kernel, and the process namespace in it."""
    try:
        boot, names = (
            Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            str(Path("/proc/self/ns/pid").readlink()),
        )
    except OSError:
        return {}
    return {"boot": boot, "names": names}


def _is_dead(fields: dict[str, object]) -> bool:
    """True if the holder was a process of this very system and is gone: nobody need wait for the lease to run out."""
    machine, process = _machine(), fields.get("process")
    if not machine or not isinstance(process, int) or any(fields.get(key) != value for key, value in machine.items()):
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


def _age_s(path: ObjectPath) -> float:
    """Seconds since the last sign of life, by the server's clock."""
    clock = path.with_name(f"{path.name}.clock")
    clock.put(b"")
    try:
        return (clock.modified() - path.modified()).total_seconds()
    except FileNotFoundError:  # let go meanwhile
        return 0.0


def _read(path: ObjectPath) -> tuple[dict[str, object], str] | None:
    try:
        content, etag = path.read()
    except FileNotFoundError:
        return None
    try:
        fields = json.loads(content)
    except ValueError:
        fields = None
    return (fields if isinstance(fields, dict) else {}), etag


def _check_conditions(path: ObjectPath) -> None:
    """The object is there now: a bucket that makes it once more does not know the condition."""
    if path.put(b"{}", instead_of=ABSENT) is not None:
        step = "use an object store with conditional puts (If-None-Match): AWS S3, MinIO, R2, Ceph, SeaweedFS"
        raise StoreError("two runs could write at once: the bucket ignores conditions", place=str(path), next_step=step)


def _busy(path: ObjectPath, name: str) -> StoreError:
    found = _read(path)
    holder = (found[0].get("process") if found else None) or "unknown"
    return StoreError(
        f"{name} is already running on this region (process {holder})",
        place=str(path),
        next_step=f"wait until it has ended, then run again; if its machine is gone, {EXPIRY_S:.0f} s after that",
    )


def _clock() -> float:
    """Seconds that go on while the machine sleeps."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
