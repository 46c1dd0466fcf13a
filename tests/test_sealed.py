"""Checksums that files and rows of the ledger carry themselves: every single flipped bit is told."""

import random
import sqlite3
from contextlib import closing
from datetime import date
from pathlib import Path

import pytest

from vsat.io.jobs import JobTable, Unit
from vsat.io.ledger import Ledger, Receipt
from vsat.io.ledger_check import DAMAGED, ledger_problems, salvage, torn_log
from vsat.io.row_seals import broken_rows
from vsat.io.sealed import BrokenSealError, open_json, page_problem, sealed_json, sealed_page

VALUE = {"current": "anydate", "history": [{"day": "2023-05-01", "share": 0.5}], "nothing": None}


def flips(content: bytes) -> list[bytes]:
    found = []
    for at in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[at // 8] ^= 1 << at % 8
        found.append(bytes(damaged))
    return found


def test_every_flip_and_every_cut_of_sealed_json_is_told() -> None:
    content = sealed_json(VALUE)
    assert open_json(content) == VALUE
    for damaged in [*flips(content), *(content[:length] for length in range(len(content)))]:
        with pytest.raises(ValueError, match=r"."):
            open_json(damaged)


@pytest.mark.parametrize("content", [b'{"current": "anydate"}', b"[1]", b"[" * 100_000])
def test_json_without_a_checksum_is_not_taken(content: bytes) -> None:
    with pytest.raises(BrokenSealError):
        open_json(content)


def test_every_flip_and_every_cut_of_a_sealed_page_is_told() -> None:
    content = sealed_page("# A night\n\nall went well")
    assert page_problem(content) == ""
    assert all(map(page_problem, flips(content)))
    assert all(page_problem(content[:length]) for length in range(len(content)))


def filled(path: Path) -> None:
    with JobTable(path) as ledger:
        for number in range(60):
            outputs = ((f"cubes/{number}", f"{number:064x}"),)
            ledger.record(Receipt("scene", f"33UVP/{number:03d}", "done", ("a",), "s", outputs, {"clear": number / 7}))
        ledger.record(Receipt("scene", "33UVP/003", "done", ("b",), "t", (), {"clear": None}))
        ledger.delete("scene", "33UVP/004")
        ledger.set_watermark("nightly", date(2023, 5, 2))
        ledger.set_watermark("nightly", date(2023, 5, 3))
        unit, other = Unit("fetch", "2023-05", "33UVP"), Unit("fetch", "2023-06", "33UVP")
        request = ledger.begin("may", [unit, other])
        ledger.plan(request, {unit: 2, other: 0})
        ledger.start(request, unit)
        ledger.end(request, unit, done=1, failed=0, seconds=0.125)
        ledger.fail(request, unit, "no room")
        assert ledger.begin("may", [unit]) == request  # rows are changed, added and taken away


def dump(path: Path) -> object:
    with closing(sqlite3.connect(path)) as db:
        return [db.execute(f"SELECT * FROM {table}").fetchall() for table in ("receipt", "watermark", "job", "seal")]


def test_every_row_has_its_checksum_after_whatever_was_done(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    filled(path)
    assert ledger_problems(path) == []
    for change in (
        "UPDATE receipt SET signature = 'u' WHERE key = '33UVP/007'",
        "UPDATE watermark SET day = '2023-07-03'",
        "UPDATE job SET state = 'done'",
        "DELETE FROM receipt WHERE key = '33UVP/009'",
        "INSERT INTO receipt VALUES ('scene', 'x', 'done', '', '[]', '[]', '{}')",
        "UPDATE seal SET sum = '0' WHERE tab = 'watermark'",
    ):
        with closing(sqlite3.connect(path)) as db:
            db.execute(change)  # without triggers, as a flipped bit does
            assert len(list(broken_rows(db))) == 1
            db.rollback()
    assert ledger_problems(path) == []


def test_a_ledger_of_an_older_version_gets_its_checksums(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    filled(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("DROP TABLE seal")
        db.execute("PRAGMA user_version = 2")
    with Ledger(path) as ledger:
        assert len(ledger.all("scene")) == 59
    assert ledger_problems(path) == []


def test_flips_in_a_ledger_are_told_or_change_nothing_and_salvage_keeps_the_sound_rows(tmp_path: Path) -> None:
    whole, path, rng = tmp_path / "whole.sqlite", tmp_path / "ledger.sqlite", random.Random(5)
    filled(whole)
    content, said = whole.read_bytes(), dump(whole)
    told = 0
    for number in range(60):
        damaged = bytearray(content)
        at = rng.randrange(8 * len(content))
        damaged[at // 8] ^= 1 << at % 8
        path.write_bytes(damaged if number % 3 else content[: at // 8])
        if not ledger_problems(path):
            assert dump(path) == said, at
            continue
        told += 1
        kept, _ = salvage(path)
        assert ledger_problems(path) == [], at
        with Ledger(path) as ledger, Ledger(whole) as before:
            sound = ledger.all("scene")
            assert (
                len(sound) <= kept
                and {one.key: one for one in before.all("scene")}.items() >= {one.key: one for one in sound}.items()
            )
        for left in tmp_path.glob(f"*{DAMAGED}*"):
            left.unlink()
    assert told > 30


def test_a_damaged_log_is_told_before_sqlite_forgets_what_follows(tmp_path: Path) -> None:
    path, copy = tmp_path / "ledger.sqlite", tmp_path / "copy.sqlite"
    log = tmp_path / "copy.sqlite-wal"
    with Ledger(path) as ledger:  # open, as a killed process leaves it
        for number in range(12):
            ledger.record(Receipt("scene", f"33UVP/{number:03d}", "done"))
        content = path.with_name("ledger.sqlite-wal").read_bytes()
        copy.write_bytes(path.read_bytes())
    assert torn_log(content) == ""
    rng = random.Random(2)
    for _ in range(40):
        damaged = bytearray(content)
        at = rng.randrange(8 * len(content))
        damaged[at // 8] ^= 1 << at % 8
        assert torn_log(bytes(damaged)), at
    assert torn_log(content[:-5]) and torn_log(content[:20])
    log.write_bytes(content[:-5])
    assert "log" in ledger_problems(copy)[0]
    log.write_bytes(content)
    assert ledger_problems(copy) == []
    with Ledger(copy) as ledger:
        assert len(ledger.all("scene")) == 12
