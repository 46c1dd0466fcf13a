"""Damage in a ledger, found and taken out: SQLite's own structure, the checksums of its rows, its log, its receipts as objects."""

import shutil
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path

from vsat.io.durable import sync_folder
from vsat.io.ledger import SCHEMA, TABLES, Ledger
from vsat.io.object_ledger import TABLES_FILE, receipt_problem
from vsat.io.row_seals import COLUMNS, broken_rows, keep_seals, rows_of
from vsat.objects import ObjectPath, StorePath, read_all

DAMAGED = ".damaged"
BUSY_S = 60.0
_MOST = 20  # rows that are named
_LOG_MAGIC = (0x377F0682, 0x377F0683)  # the second: checksums of big-endian words
_LOG_HEAD, _FRAME_HEAD = 32, 24
_AGAIN_S, _AGAIN = 0.3, 3  # a log that is being written to looks torn for an instant


def ledger_problems(path: StorePath) -> list[str]:
    """What is wrong with a ledger, in a sentence each; nothing in it is changed.

    Args:
        path: the SQLite file, or the place of the receipts in a bucket.
    """
    if isinstance(path, ObjectPath):
        return _object_problems(path)
    log = _log_problem(path)
    if log:
        return [log]
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=rw", uri=True, timeout=BUSY_S)) as db:
            return _file_problems(path, db)
    except sqlite3.Error as error:
        return [f"it cannot be read: {error}"]


def salvage(path: Path) -> tuple[int, int]:
    """A new ledger with every row that is what was written stands in place of a damaged one, which is kept beside it.

    Returns:
        Rows that were kept, and rows that are known to be lost (0 where their number cannot be told).

    Raises:
        OSError: the folder cannot be written.
        StoreError: likewise.
    """
    number = 1
    while (aside := path.with_name(f"{path.name}{DAMAGED}-{number}")).exists():
        number += 1
    for end in ("-wal", ""):  # the file last: without it nobody asks for the log
        if (one := path.with_name(path.name + end)).exists():
            shutil.copyfile(one, aside.with_name(aside.name + end))
    rows, lost = _sound_rows(aside)
    fresh = path.with_name(f"{path.name}{DAMAGED}-{number}.new")
    for end in ("", "-wal", "-shm"):
        fresh.with_name(fresh.name + end).unlink(missing_ok=True)
    with Ledger(fresh):
        pass
    with closing(sqlite3.connect(fresh, isolation_level=None)) as db:
        keep_seals(db)
        db.execute("BEGIN")
        for table, values in rows:
            db.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(values))})", values)  # noqa: S608 - constants
        db.execute("COMMIT")
    for end in ("-wal", "-shm"):
        path.with_name(path.name + end).unlink(missing_ok=True)
    fresh.replace(path)
    sync_folder(path.parent)
    return len(rows), lost


def remove_broken(place: ObjectPath) -> int:
    """Objects of a ledger in a bucket that are not what was written are gone; their number."""
    names = {problem.partition(": ")[0] for problem in _object_problems(place)}
    for name in names:
        (place / name).unlink()
    return len(names)


def _file_problems(path: Path, db: sqlite3.Connection) -> list[str]:
    version = db.execute("PRAGMA user_version").fetchone()[0]
    damage = next(
        (f"its structure is damaged: {row[0]}" for row in db.execute("PRAGMA integrity_check(5)") if row[0] != "ok"), ""
    )
    tables = {} if damage else dict(db.execute("SELECT name, sql FROM sqlite_master"))
    if not damage and "receipt" in tables and "seal" not in tables and version < SCHEMA:
        with Ledger(path):  # of an older vsat: opened once, it has its checksums
            return []
    if not damage and not tables:
        damage = "it is empty"
    elif not damage and version != SCHEMA:
        damage = f"it says that it is of version {version}, and this vsat writes {SCHEMA}"
    elif not damage and (_tables().items() - tables.items() or db.execute("PRAGMA encoding").fetchone()[0] != "UTF-8"):
        damage = "its tables are not as vsat makes them"
    return [damage] if damage else list(broken_rows(db))[:_MOST]


def _tables() -> dict[str, str]:
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(TABLES)
        return dict(db.execute("SELECT name, sql FROM sqlite_master"))


def _sound_rows(path: Path) -> tuple[list[tuple[str, tuple[object, ...]]], int]:
    """Table and values of every row whose checksum is right, and how many are known to be lost."""
    try:
        with closing(sqlite3.connect(path, timeout=BUSY_S)) as db:
            sealed = {(str(table), str(at)): digest for table, at, digest in _rows(db, "seal", ("tab", "id", "sum"))}
            found: dict[tuple[str, str], tuple[object, ...]] = {}
            for table, columns in COLUMNS.items():
                for row in _rows(db, table, columns):
                    for at, digest in _one(table, row):
                        if sealed.get((table, at)) == digest:
                            found[table, at] = row
            return [(table, row) for (table, _), row in found.items()], len(sealed.keys() - found.keys())
    except sqlite3.Error:  # no page of it can be made sense of
        return [], 0


def _rows(db: sqlite3.Connection, table: str, columns: Sequence[str]) -> set[tuple[object, ...]]:
    """The rows that can be read, from both ends to where the damage is."""
    found, names = set[tuple[object, ...]](), ", ".join(columns)
    for order in ("ASC", "DESC"):
        by = ", ".join(f"{name} {order}" for name in columns[:2])
        with suppress(sqlite3.Error):
            for row in db.execute(f"SELECT {names} FROM {table} ORDER BY {by}"):  # noqa: S608 - constants
                found.add(tuple(row))
    return found


def _one(table: str, row: tuple[object, ...]) -> Iterator[tuple[str, str]]:
    """Id and checksum of a row, as SQL tells them."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(TABLES)
        with suppress(sqlite3.Error, UnicodeError):
            db.execute(f"INSERT INTO {table} ({', '.join(COLUMNS[table])}) VALUES ({', '.join('?' * len(row))})", row)  # noqa: S608
            yield from rows_of(db, table)


def _object_problems(place: ObjectPath) -> list[str]:
    entries = [entry.path for entry in place.entries()]
    problems = []
    for path, found in zip(entries, read_all(entries), strict=True):
        if found is None or path.name == TABLES_FILE:
            continue
        problem = receipt_problem(place, path, found[0])
        if problem:
            problems.append(f"{path.relative_to(place)}: {problem}")
    try:
        content = (place / TABLES_FILE).read_bytes()
    except FileNotFoundError:
        return problems
    try:
        with closing(sqlite3.connect(":memory:")) as db:
            db.deserialize(content)
            found_here = [str(row[0]) for row in db.execute("PRAGMA integrity_check(5)") if row[0] != "ok"]
            has_seals = db.execute("SELECT 1 FROM sqlite_master WHERE name = 'seal'").fetchone()
            problems += [
                f"{TABLES_FILE}: {problem}" for problem in found_here or (broken_rows(db) if has_seals else ())
            ]
    except (sqlite3.Error, OverflowError) as error:
        problems.append(f"{TABLES_FILE}: it cannot be read: {error}")
    return problems


def _log_problem(path: Path) -> str:
    """What is wrong with SQLite's log; SQLite itself takes the first wrong byte for its end, and forgets what follows."""
    log = path.with_name(f"{path.name}-wal")
    problem = ""
    for _ in range(_AGAIN):
        try:
            content = log.read_bytes()
        except FileNotFoundError:
            return ""
        problem = torn_log(content)
        if not problem:
            return ""
        time.sleep(_AGAIN_S)
    return problem


def torn_log(content: bytes) -> str:
    """Why not every frame that a write-ahead log was given can be read back; "" if all can."""
    if not content:
        return ""
    if len(content) < _LOG_HEAD:
        return "its log is cut short"
    words = [int.from_bytes(content[at : at + 4], "big") for at in range(0, _LOG_HEAD, 4)]
    order, size = ("big" if words[0] == _LOG_MAGIC[1] else "little"), words[2]
    total = _log_sum(content[:24], order, (0, 0))
    if words[0] not in _LOG_MAGIC or total != (words[6], words[7]) or not 512 <= size <= 65536:
        return "the header of its log is damaged"
    return _torn_frame(content, order, size, total)


def _torn_frame(content: bytes, order: str, size: int, total: tuple[int, int]) -> str:
    salt, is_over, problem = content[16:24], False, ""
    for start in range(_LOG_HEAD, len(content), size + _FRAME_HEAD):
        frame = content[start : start + size + _FRAME_HEAD]
        is_ours = frame[8:16] == salt  # frames of an earlier round follow the last one
        if len(frame) < size + _FRAME_HEAD:
            problem = "its log is cut short"
        elif is_ours and not is_over:
            total = _log_sum(frame[:8] + frame[_FRAME_HEAD:], order, total)
            is_whole = total == (int.from_bytes(frame[16:20], "big"), int.from_bytes(frame[20:24], "big"))
            problem = "" if is_whole else "a frame of its log is damaged"
        elif is_ours:
            problem = "a frame of its log is damaged"
        is_over = is_over or not is_ours
        if problem:
            break
    return problem


def _log_sum(content: bytes, order: str, before: tuple[int, int]) -> tuple[int, int]:
    """The checksum of SQLite's log (its file format, section 4.2) over words of four bytes."""
    import numpy as np

    one, two = before
    for first, second in np.frombuffer(content, ">u4" if order == "big" else "<u4").reshape(-1, 2).tolist():
        one = (one + first + two) & 0xFFFFFFFF
        two = (two + second + one) & 0xFFFFFFFF
    return one, two
