"""The ledger: which units of work are finished, and from which inputs. Readers see only what it lists.

One small SQLite file beside the stores, in WAL mode; every call is one short transaction that is on the disk when the
call returns. A kill leaves the state before or after a call, never one between. Where the stores are in a bucket, so is
the ledger: `io.object_ledger`.
"""

import errno
import fcntl
import json
import os
import sqlite3
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from vsat.errors import StoreError
from vsat.io.durable import make_folder, unwritable
from vsat.io.row_seals import SEAL_TABLE, keep_seals, seal_all
from vsat.objects import ObjectPath, StorePath
from vsat.room import has_room

Fact = str | int | float | None
Values = Sequence[str | int | float] | Mapping[str, str | int | float]
Step = tuple[str, Values]
SCHEMA = 3  # PRAGMA user_version; raise it with every change of the tables
TURN_S = 1.0  # who does not want to wait does so as long, for the place of the next is taken for an instant by everyone
_LAST = "\U0010ffff"  # sorts after every text that it is not the beginning of
BUSY_S = 60.0  # many workers share one file; each holds it for milliseconds

TABLES = f"""{SEAL_TABLE}
CREATE TABLE IF NOT EXISTS receipt (
    kind TEXT NOT NULL, key TEXT NOT NULL, status TEXT NOT NULL, signature TEXT NOT NULL,
    inputs TEXT NOT NULL, outputs TEXT NOT NULL, facts TEXT NOT NULL,
    PRIMARY KEY (kind, key)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS watermark (name TEXT PRIMARY KEY, day TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS job (
    request TEXT NOT NULL, stage TEXT NOT NULL, month TEXT NOT NULL, tile TEXT NOT NULL, state TEXT NOT NULL,
    todo INTEGER NOT NULL, done INTEGER NOT NULL, failed INTEGER NOT NULL, seconds REAL NOT NULL,
    begun INTEGER NOT NULL, reason TEXT NOT NULL,
    PRIMARY KEY (request, stage, month, tile)
) WITHOUT ROWID;
"""
# columns in the order of Receipt's fields
_PUT = (
    "INSERT OR REPLACE INTO receipt (kind, key, status, inputs, signature, outputs, facts) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_GET = "SELECT kind, key, status, inputs, signature, outputs, facts FROM receipt WHERE kind = ? AND key = ?"
_STAMPS = "SELECT key, outputs FROM receipt WHERE kind = ? AND key >= ? AND key < ?"
_ALL = """
SELECT kind, key, status, inputs, signature, outputs, facts FROM receipt
WHERE kind = ? AND key >= ? AND key < ? ORDER BY key
"""


@dataclass(frozen=True)
class Receipt:
    """One unit of work is finished.

    Attributes:
        kind: what was done: "scene", "scene-failed", "image", ...
        key: which one, as text; sorts as the units do.
        status: "done", or "failed" with the reason in `facts["reason"]`.
        inputs: ids of what went in.
        signature: sha256 over everything that decides the bytes; equal signatures need no second run.
        outputs: (path relative to the region's folder, sha256) of every object written.
        facts: numbers and words for reports.
    """

    kind: str
    key: str
    status: Literal["done", "failed"]
    inputs: tuple[str, ...] = ()
    signature: str = ""
    outputs: tuple[tuple[str, str], ...] = ()
    facts: dict[str, Fact] = field(default_factory=dict)


class Ledger:
    """The receipts of one region. A context manager; every thread and process opens its own.

    Args:
        path: the SQLite file, made with its folder when absent; or a place in a bucket.

    Raises:
        StoreError: the file is not a ledger, or of a newer vsat, or stayed locked for a minute.
    """

    def __new__(cls, path: StorePath) -> "Ledger":
        """As pathlib's Path does: which of the two it is follows from the place, and who uses it need not know."""
        if cls is Ledger and isinstance(path, ObjectPath):
            from vsat.io.object_ledger import ObjectLedger

            return super().__new__(ObjectLedger)
        return super().__new__(cls)

    def __init__(self, path: StorePath) -> None:
        assert isinstance(path, Path)
        self._path: StorePath = path
        self._is_sealing = False
        make_folder(path.parent)
        with self._told():
            self._db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
        try:
            with self._told():
                self._begin(path)
        except StoreError:
            self._db.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._db.close()

    def record(self, receipt: Receipt) -> None:
        """The receipt is on the disk, in place of an earlier one of its kind and key."""
        row = (
            receipt.kind,
            receipt.key,
            receipt.status,
            _json(receipt.inputs),
            receipt.signature,
            _json(receipt.outputs),
            _json(receipt.facts),
        )
        self._write(receipt.kind, receipt.key, _PUT, row)

    def delete(self, kind: str, key: str) -> None:
        """No receipt of this kind and key is listed; it is no error if there was none."""
        self._write(kind, key, "DELETE FROM receipt WHERE kind = ? AND key = ?", (kind, key))

    def get(self, kind: str, key: str) -> Receipt | None:
        """The receipt of this kind and key, or None."""
        rows = self._read(_GET, (kind, key))
        return _receipt(rows[0]) if rows else None

    def all(self, kind: str, prefix: str = "") -> list[Receipt]:
        """Every receipt of a kind whose key starts with `prefix`, sorted by key."""
        return [_receipt(row) for row in self._read(_ALL, (kind, prefix, prefix + _LAST))]

    def stamps(self, kind: str, prefix: str = "") -> dict[str, str]:
        """Key to a text that is another one once a receipt of this kind lists other outputs; see `all`."""
        return {key: stamp for key, stamp in self._read(_STAMPS, (kind, prefix, prefix + _LAST))}

    def watermark(self, name: str) -> date | None:
        """The day up to which `name` is finished, or None if it never was."""
        rows = self._read("SELECT day FROM watermark WHERE name = ?", (name,))
        return date.fromisoformat(rows[0][0]) if rows else None

    def set_watermark(self, name: str, day: date) -> None:
        """`name` is finished up to `day`."""
        self._write("watermark", name, "INSERT OR REPLACE INTO watermark VALUES (?, ?)", (name, day.isoformat()))

    def delete_watermark(self, name: str) -> None:
        """`name` was never finished."""
        self._write("watermark", name, "DELETE FROM watermark WHERE name = ?", (name,))

    def _begin(self, path: Path) -> None:
        try:
            self._prepare()
        except sqlite3.OperationalError:
            log = Path(f"{path}-wal")
            if has_room(path) or (log.exists() and log.stat().st_size):
                raise
            # Even who reads needs an index beside the file, 32 kB, and there is no room for it. Nothing is in the log, so
            # that the file holds all that is finished, and can be read as it stands.
            self._db.close()
            self._db = sqlite3.connect(f"{path.absolute().as_uri()}?immutable=1", uri=True, isolation_level=None)
            self._prepare()

    def _prepare(self) -> None:
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA:
            raise StoreError(
                f"the ledger is of version {version}, this vsat knows up to {SCHEMA}",
                place=str(self._path),
                next_step="install the vsat that wrote it, or a newer one",
            )
        # FULL, not WAL's usual NORMAL: a receipt that a power cut takes back would hide a finished scene
        self._db.execute("PRAGMA synchronous = FULL")
        if version < SCHEMA:
            self._make_tables()

    def _make_tables(self) -> None:
        # the change to WAL does not wait for other openers as statements do, so it is tried until it works
        for _ in range(int(BUSY_S / 0.05)):
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                break
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                    raise
                time.sleep(0.05)
        self._db.execute("BEGIN IMMEDIATE")  # the first of several openers makes or raises it, the others find it done
        if self._db.execute("PRAGMA user_version").fetchone()[0] < SCHEMA:
            make_tables(self._db)
            self._db.execute(f"PRAGMA user_version = {SCHEMA}")
        self._db.execute("COMMIT")

    def _read(self, query: str, values: tuple[str, ...]) -> list[tuple[str, ...]]:
        with self._told():
            return self._db.execute(query, values).fetchall()

    def _write(self, kind: str, key: str, query: str, values: Values) -> None:
        # the audit events are where the kill tests end the process: right before and right after the commit
        sys.audit("vsat.ledger", kind, key)
        with self._told():
            self._seal()
            self._db.execute(query, values)  # autocommit: one statement, one transaction
        sys.audit("vsat.ledger", kind, key)

    def _all_or_nothing(self, steps: Sequence[Step]) -> None:
        with self._told():
            self._seal()
            self._db.execute("BEGIN IMMEDIATE")
            try:
                for query, values in steps:
                    self._db.execute(query, values)
            except sqlite3.Error:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _seal(self) -> None:
        """Before the first write: most ledgers are opened to be read, and readers need no triggers."""
        if not self._is_sealing:
            keep_seals(self._db)
            self._is_sealing = True

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            assert isinstance(self._path, Path)
            is_full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
            if is_full or not has_room(self._path):  # SQLite has many words for it
                raise unwritable(OSError(errno.ENOSPC, str(error)), "the ledger", self._path) from error
            raise StoreError(
                f"the ledger cannot be used: {error}",
                place=str(self._path),
                next_step="see that the disk has room and the file is a ledger of vsat's, then run again",
            ) from error


def make_tables(db: sqlite3.Connection) -> None:
    """The tables are there, and every row has its checksum."""
    for statement in TABLES.split(";")[:-1]:
        db.execute(statement)
    seal_all(db)


@contextmanager
def lease(home: StorePath, name: str, *, wait_s: float = 0.0) -> Iterator[None]:
    """Inside, this process alone holds `name` in the region's folder; the kernel ends the lease with the process.

    Who waits is next: a holder that lets go and asks again at once, as a backfill does between its stretches, queues
    behind a night that has been waiting.

    In a bucket the lease ends by itself when the process has given no sign of life for a minute, see `io.object_lease`.

    Args:
        home: the region's folder; made when absent.
        name: what is held, such as "fetch".
        wait_s: how long to wait for another holder.

    Raises:
        StoreError: another process holds it still; the message says which.
        DiskFull: there is no room for the lock.
    """
    if isinstance(home, ObjectPath):
        from vsat.io.object_lease import object_lease

        with object_lease(home, name, wait_s=wait_s):
            yield
        return
    make_folder(home)
    path = home / f".{name}.lock"
    handle = _opened(path)
    try:
        # whoever waits for the lease holds the place of the next; the others wait for that
        turn = _opened(home / f".{name}.next.lock")
        try:
            until = time.monotonic() + wait_s
            _lock(turn, handle, path, name, max(until, time.monotonic() + TURN_S))
            _lock(handle, handle, path, name, until)
        finally:
            os.close(turn)
        _sign(handle, path)
        yield
    finally:
        os.close(handle)


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise unwritable(error, path.name, path) from error


def _sign(handle: int, path: Path) -> None:
    try:
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
    except OSError as error:
        raise unwritable(error, path.name, path) from error


def _lock(wanted: int, told: int, path: Path, name: str, until: float) -> None:
    """`wanted` is locked; `told` names the holder of the lease where it could not be by `until` (monotonic)."""
    while True:
        try:
            fcntl.flock(wanted, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError as error:
            if time.monotonic() >= until:
                holder = os.pread(told, 32, 0).decode(errors="replace") or "unknown"
                raise StoreError(
                    f"{name} is already running on this region (process {holder})",
                    place=str(path),
                    next_step="wait until it has ended, then run again",
                ) from error
            time.sleep(0.1)


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _receipt(row: tuple[str, ...]) -> Receipt:
    kind, key, status, inputs, signature, outputs, facts = row
    try:
        return Receipt(
            kind=kind,
            key=key,
            status={"done": "done", "failed": "failed"}[status],  # type: ignore[arg-type]
            inputs=tuple(json.loads(inputs)),
            signature=signature,
            outputs=tuple((path, digest) for path, digest in json.loads(outputs)),
            facts=json.loads(facts),
        )
    except (ValueError, KeyError, TypeError) as error:
        step = "vsat verify names what else is damaged, vsat repair makes the ledger anew"
        raise StoreError("this is no receipt of vsat's", place=f"{kind} {key}", next_step=step) from error
