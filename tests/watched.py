"""How often each receipt was written, and what happened to units, by triggers in the region's own ledger.

They see every process, killed ones too, for they are part of the transaction that they count.
"""

import fcntl
import sqlite3
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

from vsat.io.ledger import Ledger
from vsat.io.scenes import ledger_path

_TRIGGERS = """
CREATE TABLE written (kind TEXT, key TEXT);
CREATE TRIGGER written AFTER INSERT ON receipt WHEN new.status = 'done'
    BEGIN INSERT INTO written VALUES (new.kind, new.key); END;
CREATE TABLE moved (unit TEXT, state TEXT);
CREATE TRIGGER moved AFTER UPDATE ON job WHEN new.state != old.state
    BEGIN INSERT INTO moved VALUES (new.request || ' ' || new.stage || ' ' || new.month || ' ' || new.tile, new.state); END;
"""


def watch(home: Path) -> None:
    """From now on writes to the ledger are counted."""
    with Ledger(ledger_path(home)):
        pass
    with closing(sqlite3.connect(ledger_path(home))) as db:
        db.executescript(_TRIGGERS)


def recorded(home: Path) -> Counter[tuple[str, str]]:
    """(kind, key) of receipts of scenes and images, and how often each was written."""
    with closing(sqlite3.connect(ledger_path(home), timeout=60)) as db:
        return Counter(db.execute("SELECT kind, key FROM written WHERE kind NOT IN ('catalogue', 'cube')").fetchall())


def ended_twice(home: Path) -> list[str]:
    """Units that left the state done, or came to it twice."""
    with closing(sqlite3.connect(ledger_path(home), timeout=60)) as db:
        moves = db.execute("SELECT unit, state FROM moved ORDER BY rowid").fetchall()
    ended: set[str] = set()
    twice = []
    for unit, state in moves:
        if unit in ended:
            twice.append(f"{unit}: {state}")
        if state == "done":
            ended.add(unit)
    return twice


def until_waited_for(path: Path) -> None:
    """Somebody holds the place of the next."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with path.open("r+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
        time.sleep(0.01)
    raise AssertionError("nobody waits")
