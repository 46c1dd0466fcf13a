"""The ledger: receipts come back as they went in, from any thread or process; the lease has one holder."""

import multiprocessing
import sqlite3
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lease_holder import hold_lease
from watched import until_waited_for

from vsat.errors import StoreError
from vsat.io.ledger import SCHEMA, Ledger, Receipt, lease

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
FACTS = st.dictionaries(
    TEXT, st.none() | TEXT | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
)
RECEIPTS = st.builds(
    Receipt,
    kind=TEXT,
    key=TEXT,
    status=st.sampled_from(["done", "failed"]),
    inputs=st.lists(TEXT, max_size=3).map(tuple),
    signature=TEXT,
    outputs=st.lists(st.tuples(TEXT, TEXT), max_size=2).map(tuple),
    facts=FACTS,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(receipt=RECEIPTS)
def test_receipt_comes_back_from_another_connection(tmp_path: Path, receipt: Receipt) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger(path) as ledger:
        ledger.record(receipt)
    with Ledger(path) as ledger:
        assert ledger.get(receipt.kind, receipt.key) == receipt
        assert receipt in ledger.all(receipt.kind, receipt.key[:3])
        ledger.delete(receipt.kind, receipt.key)
        assert ledger.get(receipt.kind, receipt.key) is None


def test_later_receipt_replaces_and_prefix_is_a_prefix(tmp_path: Path) -> None:
    first = Receipt("scene", "33UVP/2024-05-02/L30", "done", ("a",), "s", (("p", "0"),), {"clear": 0.5})
    with Ledger(tmp_path / "deep" / "ledger.sqlite") as ledger:
        ledger.record(first)
        ledger.record(replace(first, signature="t"))
        for key in ("33UVQ/2024-05-02/L30", "33UVP/2024-05-01/S30", "33UVP%"):
            ledger.record(replace(first, key=key))
        ledger.record(replace(first, kind="image"))
        assert [r.key for r in ledger.all("scene", "33UVP/")] == ["33UVP/2024-05-01/S30", "33UVP/2024-05-02/L30"]
        assert ledger.get("scene", first.key) == replace(first, signature="t")
        assert len(ledger.all("scene")) == 4
        assert ledger.get("scene", "33UVP") is None


def test_watermarks(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l.sqlite") as ledger:
        assert ledger.watermark("nightly") is None
        ledger.set_watermark("nightly", date(2024, 5, 2))
        ledger.set_watermark("nightly", date(2024, 5, 3))
        assert ledger.watermark("nightly") == date(2024, 5, 3)


def test_facts_that_are_no_json_are_refused(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l.sqlite") as ledger, pytest.raises(ValueError, match="JSON"):
        ledger.record(Receipt("scene", "a", "done", facts={"clear": float("nan")}))


def test_commit_is_on_disk_and_announced_on_both_sides(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    states: list[int] = []

    def hear(event: str, args: tuple[object, ...]) -> None:
        if event == "vsat.ledger" and args == ("scene", "announced"):
            with sqlite3.connect(path) as other:
                states.append(other.execute("SELECT count(*) FROM receipt").fetchone()[0])

    sys.addaudithook(hear)
    with Ledger(path) as ledger:
        ledger.record(Receipt("scene", "announced", "done"))
    assert states == [0, 1]
    with sqlite3.connect(path) as other:
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def _write_many(path: Path, worker: int) -> None:
    for at in range(20):
        with Ledger(path) as ledger:
            ledger.record(Receipt("scene", f"{worker}/{at:02d}", "done", facts={"at": at}))


def test_many_threads_and_processes_open_and_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write_many, args=(path, worker)) for worker in (8, 9)]
    for process in processes:
        process.start()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda worker: _write_many(path, worker), range(8)))
    for process in processes:
        process.join()
        assert process.exitcode == 0
    with Ledger(path) as ledger:
        assert [r.key for r in ledger.all("scene")] == [f"{w}/{at:02d}" for w in range(10) for at in range(20)]


def test_newer_and_foreign_files_are_refused(tmp_path: Path) -> None:
    newer, foreign = tmp_path / "newer.sqlite", tmp_path / "foreign.sqlite"
    with Ledger(newer):
        pass
    with sqlite3.connect(newer) as other:
        other.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    with pytest.raises(StoreError, match=f"version {SCHEMA + 1}"):
        Ledger(newer)
    foreign.write_bytes(b"not a database" * 100)
    with pytest.raises(StoreError, match=r"foreign\.sqlite"):
        Ledger(foreign)
    assert foreign.read_bytes() == b"not a database" * 100


def test_lease_has_one_holder_and_ends_with_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=hold_lease, args=(tmp_path, theirs))
    process.start()
    assert mine.recv() == "held"
    with pytest.raises(StoreError, match=f"process {process.pid}"), lease(tmp_path, "fetch"):
        pass
    with lease(tmp_path, "generate"):  # another name is free
        pass
    process.kill()
    process.join()
    with lease(tmp_path, "fetch", wait_s=5), pytest.raises(StoreError), lease(tmp_path, "fetch"):
        pass
    with lease(tmp_path, "fetch"):
        pass


def test_who_waits_for_a_lease_is_next(tmp_path: Path) -> None:
    """A holder that asks again at once would else win every time: it has no pause between two tries."""
    order: list[str] = []

    def night() -> None:
        with lease(tmp_path, "fetch", wait_s=60):
            order.append("night")

    waiting = threading.Thread(target=night)
    for stretch in range(6):
        with lease(tmp_path, "fetch", wait_s=60):
            order.append(f"stretch {stretch}")
            if stretch == 1:
                waiting.start()
                until_waited_for(tmp_path / ".fetch.next.lock")
    waiting.join()
    assert order == ["stretch 0", "stretch 1", "night", *(f"stretch {stretch}" for stretch in range(2, 6))]
