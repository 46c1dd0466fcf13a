"""A checksum for every row of the ledger: SQLite itself keeps none, and reads a flipped bit in a text as another text.

The table `seal` has a row per row of the others. Triggers of each writing connection keep it, inside the transaction that
changes the row, so that there is no moment at which the two differ. Who looks for damage compares them: `broken_rows`.
"""

import hashlib
import json
import sqlite3
from collections.abc import Iterator

SEAL_TABLE = """
CREATE TABLE IF NOT EXISTS seal (tab TEXT NOT NULL, id TEXT NOT NULL, sum TEXT NOT NULL, PRIMARY KEY (tab, id)) WITHOUT ROWID;
"""
KEYS = {"receipt": ("kind", "key"), "watermark": ("name",), "job": ("request", "stage", "month", "tile")}
COLUMNS = {
    "receipt": ("kind", "key", "status", "signature", "inputs", "outputs", "facts"),
    "watermark": ("name", "day"),
    "job": (
        "request", "stage", "month", "tile", "state", "todo", "done", "failed", "seconds", "begun", "reason",
    ),
}  # fmt: skip
_FUNCTION = "vsat_sum"


def keep_seals(db: sqlite3.Connection) -> None:
    """From now on every row that this connection changes has its checksum; repeating changes nothing."""
    db.create_function(_FUNCTION, -1, row_sum, deterministic=True)
    db.execute("PRAGMA temp_store = MEMORY")  # the triggers are this connection's own, and no other file's business
    for statement in _triggers():
        db.execute(statement)


def seal_all(db: sqlite3.Connection) -> None:
    """Every row has its checksum: for a ledger of an older vsat, whose rows are believed as they are."""
    db.create_function(_FUNCTION, -1, row_sum, deterministic=True)
    for table, columns in COLUMNS.items():
        values = f"'{table}', {_id(table)}, {_FUNCTION}({', '.join(columns)})"
        db.execute(f"INSERT OR REPLACE INTO seal SELECT {values} FROM {table}")  # noqa: S608 - constants


def row_sum(*values: str | float | None) -> str:
    """The checksum of a row's values, in the order of COLUMNS."""
    told = json.dumps(values, separators=(",", ":"), default=repr)  # repr: a flipped bit makes bytes of a text
    return hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def broken_rows(db: sqlite3.Connection) -> Iterator[str]:
    """A few words for each row that is not what was written, is gone, or came from nowhere.

    Raises:
        sqlite3.Error: a table cannot be read to its end.
    """
    sealed = {(table, at): digest for table, at, digest in db.execute("SELECT tab, id, sum FROM seal")}
    for table in COLUMNS:
        for at, digest in rows_of(db, table):
            wanted = sealed.pop((table, at), None)
            if wanted != digest:
                yield f"{table} {at} {'is not what was written' if wanted else 'was never written'}"
    for table, at in sealed:
        yield f"{table} {at} is gone"


def rows_of(db: sqlite3.Connection, table: str) -> Iterator[tuple[str, str]]:
    """Id and checksum of each row of a table, as it is now."""
    for row in db.execute(f"SELECT {_id(table)}, {', '.join(COLUMNS[table])} FROM {table}"):  # noqa: S608 - constants
        yield str(row[0]), row_sum(*row[1:])


def _id(table: str, before: str = "") -> str:
    """SQL for a row's key as one text."""
    return " || char(10) || ".join(f"{before}{name}" for name in KEYS[table])


def _triggers() -> Iterator[str]:
    for table, columns in COLUMNS.items():
        new = f"'{table}', {_id(table, 'new.')}, {_FUNCTION}({', '.join(f'new.{name}' for name in columns)})"
        # no REPLACE: inside a trigger the conflict rule is that of the statement that fired it
        forget = f"DELETE FROM seal WHERE tab = '{table}' AND id ="  # noqa: S608 - constants
        put = f"{forget} {_id(table, 'new.')}; INSERT INTO seal VALUES ({new});"  # noqa: S608 - constants
        gone = f"{forget} {_id(table, 'old.')};"
        for event, steps in (("INSERT", put), ("UPDATE", gone + put), ("DELETE", gone)):
            name = f"seal_{table}_{event.lower()}"
            yield f"CREATE TEMP TRIGGER IF NOT EXISTS {name} AFTER {event} ON main.{table} BEGIN {steps} END"
