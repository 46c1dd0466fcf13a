"""Two runs at once on one region: a small part of what campaign_writers does; and leases under clocks that are hours off."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from fault.campaign_writers import FAKETIME, hold, meetings
from fault.worlds import world

from vsat.errors import StoreError
from vsat.io import archive
from vsat.io.ledger import lease
from vsat.objects import ObjectPath, StorePath

pytestmark = [pytest.mark.fault, pytest.mark.slow]
needs_faketime = pytest.mark.skipif(not Path(FAKETIME).exists(), reason="libfaketime is not installed (apt: faketime)")
TAKE = """
import sys, time
from vsat.io.ledger import lease
from vsat.objects import place_of
with lease(place_of(sys.argv[1]), "fetch", wait_s=float(sys.argv[2])):
    print("held", int(time.time()), flush=True)
    sys.stdin.readline()
"""


def test_runs_that_overlap_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSAT_WORKERS", "2")
    rng, until, made = np.random.default_rng(3), time.monotonic() + 240, world(tmp_path)
    before = made.earlier()
    with archive.serve(made.archive) as endpoint:
        for meeting in meetings(made, before, endpoint)[:3]:
            tally = hold(meeting, rng, 1, until)
            assert (tally.rounds, tally.told) == (1, [])


def taker(home: StorePath, hours: str, wait_s: float = 0.0) -> "subprocess.Popen[str]":
    """A process whose clock is off by so many hours, and which asks for the lease."""
    off = {"LD_PRELOAD": FAKETIME, "FAKETIME": hours, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    command = [sys.executable, "-c", TAKE, str(home), str(wait_s)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=os.environ | off, text=True, stdin=pipe, stdout=pipe, stderr=pipe)


def is_off(process: "subprocess.Popen[str]") -> bool:
    """It holds the lease; True if its clock is really off."""
    assert process.stdout is not None
    word, seconds = process.stdout.readline().split()
    assert word == "held"
    return abs(int(seconds) - time.time()) > 300


def keeps_its_turn(home: StorePath, holder: subprocess.Popen[str]) -> None:
    """The holder, whose clock is off, has the lease until it lets go, and then another may have it."""
    assert is_off(holder)
    with pytest.raises(StoreError, match=f"process {holder.pid}"), lease(home, "fetch"):
        pass
    holder.communicate("\n", timeout=120)
    with lease(home, "fetch", wait_s=10):
        pass


@needs_faketime
@pytest.mark.parametrize("hours", ["-9h", "+9h"])
def test_a_clock_that_is_hours_off_breaks_no_lease(tmp_path: Path, hours: str) -> None:
    with lease(tmp_path, "fetch"):
        refused = taker(tmp_path, hours)
        assert "fetch is already running" in refused.communicate(timeout=120)[1]
        waiting = taker(tmp_path, hours, 120)
    keeps_its_turn(tmp_path, waiting)


@needs_faketime
@pytest.mark.integration
@pytest.mark.parametrize("minutes", ["-10m", "+10m"])
def test_nor_does_it_in_a_bucket(bucket: ObjectPath, minutes: str) -> None:
    """Ten minutes are ten times what a lease lasts; S3 takes no request from a clock that is a quarter of an hour off."""
    with lease(bucket, "fetch"):
        refused = taker(bucket, minutes)
        assert "fetch is already running" in refused.communicate(timeout=120)[1]
    keeps_its_turn(bucket, taker(bucket, minutes))
