"""The ledger and the leases of a store in a bucket keep the promises of those on a disk."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from datetime import date

import pytest
from lease_holder import hold_lease
from object_store import ObjectStore

from vsat.errors import StoreError
from vsat.io import object_lease
from vsat.io.jobs import JobTable, Unit
from vsat.io.ledger import Ledger, Receipt, lease
from vsat.io.scenes import ledger_path
from vsat.io.sealed import open_json, sealed_json
from vsat.objects import ABSENT, ObjectPath

pytestmark = pytest.mark.integration
UNITS = [Unit("fetch", "2023-05", "33UVP"), Unit("generate", "2023-05", "33UVP")]
RECEIPT = Receipt("scene", "33UVP/2024-05-02/L30", "done", ("a",), "s", (("p", "0"),), {"clear": 0.5, "n": None})


def test_receipts_come_back_from_another_machine(bucket: ObjectPath) -> None:
    with Ledger(ledger_path(bucket)) as ledger:
        assert not ledger_path(bucket).exists()
        ledger.record(RECEIPT)
        ledger.record(replace(RECEIPT, signature="t"))
        for key in ("33UVQ/2024-05-02/L30", "33UVP/2024-05-01/S30", "33UVPX"):
            ledger.record(replace(RECEIPT, key=key))
        ledger.record(replace(RECEIPT, kind="image"))
    assert ledger_path(bucket).exists()
    asked = "import sys; from vsat.io.ledger import Ledger; from vsat.objects import place_of; "
    asked += "print(Ledger(place_of(sys.argv[1])).all('scene', '33UVP/'))"
    command = [sys.executable, "-c", asked, str(ledger_path(bucket))]
    seen = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    with Ledger(ledger_path(bucket)) as ledger:
        assert seen.strip() == repr(ledger.all("scene", "33UVP/"))
        assert [r.key for r in ledger.all("scene", "33UVP/")] == ["33UVP/2024-05-01/S30", "33UVP/2024-05-02/L30"]
        assert len(ledger.all("scene", "33UVP")) == 3
        assert ledger.get("scene", RECEIPT.key) == replace(RECEIPT, signature="t")
        assert ledger.get("scene", "33UVP") is None
        ledger.delete("scene", RECEIPT.key)
        ledger.delete("scene", RECEIPT.key)
        assert len(ledger.all("scene")) == 3
        with pytest.raises(ValueError, match="JSON"):
            ledger.record(replace(RECEIPT, facts={"clear": float("nan")}))


def test_what_another_machine_changed_is_seen_at_once(bucket: ObjectPath) -> None:
    with Ledger(ledger_path(bucket)) as ledger:
        ledger.record(RECEIPT)
        assert ledger.all("scene") == [RECEIPT]
        (path,) = ledger_path(bucket).glob("receipt/**/*.json")
        path.put(sealed_json(open_json(path.read_bytes()) | {"signature": "of another"}))
        assert ledger.all("scene") == [replace(RECEIPT, signature="of another")]
        path.put(b"no receipt")
        with pytest.raises(StoreError, match="no receipt of vsat's"):
            ledger.all("scene")


def test_watermarks(bucket: ObjectPath) -> None:
    with Ledger(ledger_path(bucket)) as ledger:
        assert ledger.watermark("nightly") is None
        ledger.set_watermark("nightly", date(2024, 5, 2))
        ledger.set_watermark("nightly", date(2024, 5, 3))
        assert ledger.watermark("nightly") == date(2024, 5, 3)


def test_a_lease_has_one_holder_and_ends_with_its_block(bucket: ObjectPath) -> None:
    with lease(bucket, "fetch"):
        with (
            pytest.raises(StoreError, match=f"already running on this region .process {os.getpid()}"),
            lease(bucket, "fetch"),
        ):
            pass
        with lease(bucket, "generate"):
            pass
    with lease(bucket, "fetch"):
        pass
    assert [entry.path.name for entry in bucket.entries()] == [".fetch.lock.clock"]


def test_takers_come_one_after_the_other(bucket: ObjectPath) -> None:
    inside, most, turns = [0], [0], []

    def take(number: int) -> None:
        with lease(bucket, "fetch", wait_s=120):
            inside[0] += 1
            most[0] = max(most[0], inside[0])
            turns.append(number)
            time.sleep(0.05)
            inside[0] -= 1

    threads = [threading.Thread(target=take, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most[0], sorted(turns)) == (1, list(range(6)))


def test_the_lease_of_a_killed_process_of_this_machine_is_free_at_once(bucket: ObjectPath) -> None:
    context = multiprocessing.get_context("spawn")
    mine, theirs = context.Pipe()
    process = context.Process(target=hold_lease, args=(bucket, theirs))
    process.start()
    assert mine.recv() == "held"
    with pytest.raises(StoreError, match="already running"), lease(bucket, "fetch"):
        pass
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with lease(bucket, "fetch"):
        pass


def test_a_silent_holder_on_another_machine_loses_the_lease_and_a_living_one_keeps_it(
    bucket: ObjectPath, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_lease, "EXPIRY_S", 5.0)
    monkeypatch.setattr(object_lease, "BEAT_S", 0.3)
    monkeypatch.setattr(object_lease, "TURN_S", 0.0)
    with lease(bucket, "fetch"):
        time.sleep(6)  # its signs of life keep it
        with pytest.raises(StoreError, match="already running"), lease(bucket, "fetch"):
            pass
    foreign = {"token": "another", "process": 1, "boot": "other", "names": "other"}
    (bucket / ".fetch.lock").put(json.dumps(foreign).encode(), instead_of=ABSENT)
    with pytest.raises(StoreError, match="already running"), lease(bucket, "fetch"):
        pass
    with lease(bucket, "fetch", wait_s=60):
        pass


def test_who_lost_the_lease_writes_no_receipt(bucket: ObjectPath, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(object_lease, "BEAT_S", 0.2)
    with lease(bucket, "fetch"), Ledger(ledger_path(bucket)) as ledger:
        ledger.record(RECEIPT)
        (bucket / ".fetch.lock").put(b'{"token": "another"}')
        with pytest.raises(StoreError, match="another run may have taken over"):
            for _ in range(600):
                ledger.record(RECEIPT)
                time.sleep(0.1)
    assert (bucket / ".fetch.lock").read_bytes() == b'{"token": "another"}'  # not ours to remove


def test_a_bucket_that_ignores_conditions_is_refused(bucket: ObjectPath, monkeypatch: pytest.MonkeyPatch) -> None:
    put = ObjectPath.put
    monkeypatch.setattr(ObjectPath, "put", lambda self, content, *, instead_of=None: put(self, content))
    with pytest.raises(StoreError, match="ignores conditions"), lease(bucket, "fetch"):
        pass


def _end_jobs(path: ObjectPath, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    with JobTable(path) as table:
        for _ in range(5):
            table.end("wish#1", UNITS[0], done=1, failed=0, seconds=1.0)


def test_the_job_table_counts_every_end_though_processes_write_at_once(
    object_store: ObjectStore, bucket: ObjectPath
) -> None:
    with JobTable(ledger_path(bucket)) as table:
        request = table.begin("wish", UNITS)
        assert request == "wish#1"
        table.plan(request, {UNITS[0]: 10, UNITS[1]: 0})
        table.start(request, UNITS[0])
        table.record(RECEIPT)
    context = multiprocessing.get_context("spawn")
    given = (ledger_path(bucket), object_store.environment)
    processes = [context.Process(target=_end_jobs, args=given) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    with JobTable(ledger_path(bucket)) as table:
        first, second = table.rows(request)
        assert (first.state, first.done, first.seconds) == ("done", 10, 10.0)
        assert (second.state, second.done) == ("done", 0)
        assert table.begin("wish", UNITS) == "wish#2"
        assert table.get("scene", RECEIPT.key) == RECEIPT
