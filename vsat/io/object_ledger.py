"""The ledger of a store in a bucket: an object per receipt, so that any machine goes on where another one stopped.

`ledger/receipt/<kind>/<key>.json` and `ledger/watermark/<name>.json`. Each is put whole by one request and is there when
the call returns; two writers of different receipts have nothing in common. What was read once is not read again as long
as its ETag stays, so that listing costs a request per thousand receipts. The job table, a few hundred rows that change
together, is a small SQLite database in one object: who changes it puts it in place of the one that was read, or begins
again with what another has put.
"""

import secrets
import sqlite3
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from datetime import date
from typing import Any

from vsat.errors import StoreError
from vsat.io.jobs import JobTable
from vsat.io.ledger import BUSY_S, Ledger, Receipt, Step, Values, make_tables
from vsat.io.object_lease import check_leases
from vsat.io.row_seals import keep_seals
from vsat.io.sealed import open_json, sealed_json
from vsat.objects import ABSENT, ObjectPath, StorePath, read_all

TABLES_FILE = "jobs.sqlite"

_known: dict[ObjectPath, tuple[str, Receipt]] = {}  # of this process: ETag and receipt by their object


class ObjectLedger(Ledger):
    """As Ledger; `path` is the place of its objects.

    Raises:
        AccessError: the bucket refuses our credentials.
        StoreError: it cannot be reached, an object in it is no receipt, or a lease under which we write was lost.
    """

    def __init__(self, path: StorePath) -> None:
        assert isinstance(path, ObjectPath)
        self._place = self._path = path

    def close(self) -> None:
        """Nothing is held open."""

    def record(self, receipt: Receipt) -> None:
        """The receipt is in the bucket, in place of an earlier one of its kind and key."""
        path = self._receipt(receipt.kind, receipt.key)
        self._put(path, receipt.kind, receipt.key, asdict(receipt))

    def delete(self, kind: str, key: str) -> None:
        """No receipt of this kind and key is listed; it is no error if there was none."""
        check_leases(self._place.parent)
        self._receipt(kind, key).unlink()

    def get(self, kind: str, key: str) -> Receipt | None:
        """The receipt of this kind and key, or None."""
        path = self._receipt(kind, key)
        try:
            return _parsed(path, path.read_bytes())
        except FileNotFoundError:
            return None

    def all(self, kind: str, prefix: str = "") -> list[Receipt]:
        """Every receipt of a kind whose key starts with `prefix`, sorted by key."""
        listed = {self._receipt(kind, key): tag for key, tag in self.stamps(kind, prefix).items()}
        new = [path for path, tag in listed.items() if path not in _known or _known[path][0] != tag]
        for path, found in zip(new, read_all(new), strict=True):
            if found is None:
                del listed[path]
            else:
                _known[path] = found[1], _parsed(path, found[0])
        return sorted((_known[path][1] for path in listed), key=lambda receipt: receipt.key)

    def stamps(self, kind: str, prefix: str = "") -> dict[str, str]:
        """Key to ETag: one request per thousand receipts, and none is read."""
        folder = self._place / "receipt" / kind
        entries = (folder / prefix.rpartition("/")[0]).entries()
        listed = {entry.path.relative_to(folder).as_posix().removesuffix(".json"): entry.etag for entry in entries}
        return {key: tag for key, tag in listed.items() if key.startswith(prefix)}

    def watermark(self, name: str) -> date | None:
        """The day up to which `name` is finished, or None if it never was."""
        try:
            return date.fromisoformat(_told(self._watermark(name), self._watermark(name).read_bytes())["day"])
        except FileNotFoundError:
            return None

    def set_watermark(self, name: str, day: date) -> None:
        """`name` is finished up to `day`."""
        self._put(self._watermark(name), "watermark", name, {"day": day.isoformat()})

    def delete_watermark(self, name: str) -> None:
        """`name` was never finished."""
        check_leases(self._place.parent)
        self._watermark(name).unlink()

    def _receipt(self, kind: str, key: str) -> ObjectPath:
        return self._place / "receipt" / kind / f"{key}.json"

    def _watermark(self, name: str) -> ObjectPath:
        return self._place / "watermark" / f"{name}.json"

    def _read(self, query: str, values: tuple[str, ...]) -> list[tuple[str, ...]]:
        with self._told(), closing(_opened(self._tables()[0])) as tables:
            return tables.execute(query, values).fetchall()

    def _write(self, kind: str, key: str, query: str, values: Values) -> None:
        self._all_or_nothing([(query, values)])

    def _all_or_nothing(self, steps: Sequence[Step]) -> None:
        check_leases(self._place.parent)
        made, until = None, time.monotonic() + BUSY_S
        while time.monotonic() < until:
            content, etag = self._tables()
            if made is not None and content == made:  # our own put, whose answer was lost on the way
                return
            with self._told(), closing(_opened(content)) as tables:
                for query, values in steps:
                    tables.execute(query, values)
                # two writers that did the same to the same would have the same bytes, and each take the other's for its own
                tables.execute(f"PRAGMA application_id = {secrets.randbits(31)}")
                made = tables.serialize()
            if (self._place / TABLES_FILE).put(made, instead_of=etag) is not None:
                return
        step = "run again with fewer workers"
        raise StoreError(f"it changed whenever we did, for {BUSY_S:.0f} s", place=str(self._place), next_step=step)

    def _tables(self) -> tuple[bytes, str]:
        try:
            return (self._place / TABLES_FILE).read()
        except FileNotFoundError:
            return b"", ABSENT

    def _put(self, path: ObjectPath, kind: str, key: str, told: dict[str, Any]) -> None:
        check_leases(self._place.parent)
        sys.audit("vsat.ledger", kind, key)
        path.put(sealed_json(told))
        sys.audit("vsat.ledger", kind, key)


class ObjectJobTable(ObjectLedger, JobTable):
    """The job table of a store in a bucket."""


def _opened(content: bytes) -> sqlite3.Connection:
    """The database of an object, in memory; a new one where there is none."""
    tables = sqlite3.connect(":memory:", isolation_level=None)
    if content:
        tables.deserialize(content)
    if not content or not tables.execute("SELECT 1 FROM sqlite_master WHERE name = 'seal'").fetchone():
        make_tables(tables)
    keep_seals(tables)
    return tables


def receipt_problem(place: ObjectPath, path: ObjectPath, content: bytes) -> str:
    """Why an object of the ledger at `place` cannot be trusted; "" if it can."""
    folder = path.relative_to(place).parts[0]
    try:
        told = open_json(content)
        if folder == "receipt":
            receipt = _receipt_of(told)
            is_here = f"{receipt.kind}/{receipt.key}.json" == path.relative_to(place / folder).as_posix()
            return "" if is_here else "it is of another unit"
        date.fromisoformat(told["day"])
    except (ValueError, KeyError, TypeError) as error:
        return f"this is no receipt of vsat's ({error})"
    return ""


def _parsed(path: ObjectPath, content: bytes) -> Receipt:
    try:
        return _receipt_of(_told(path, content))
    except (ValueError, KeyError, TypeError) as error:
        raise _no_receipt(path) from error


def _receipt_of(told: dict[str, Any]) -> Receipt:
    lists = {"inputs": tuple(told["inputs"]), "outputs": tuple((name, sha) for name, sha in told["outputs"])}
    return Receipt(**{**told, **lists})


def _told(path: ObjectPath, content: bytes) -> dict[str, Any]:
    try:
        return open_json(content)
    except ValueError as error:
        raise _no_receipt(path) from error


def _no_receipt(path: ObjectPath) -> StoreError:
    step = "remove this object, or let vsat repair do so: what it stood for is done again"
    return StoreError("this is no receipt of vsat's", place=str(path), next_step=step)
