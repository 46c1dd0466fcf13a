"""Disks that fill up under a verb; `campaign_disk.py` does all verbs at many more levels."""

import errno
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from disks import PAGE_BYTES, SmallDisk, small_disk
from fault.campaign_disk import CASES, Case, bench_in, run_case
from products import DAYS, region_with_images

from vsat.errors import DiskFull, StoreError
from vsat.io.durable import put_file, unwritten
from vsat.io.ledger import Ledger, Receipt
from vsat.room import has_room, is_full
from vsat.stages.export import ExportOptions, export

pytestmark = [pytest.mark.fault, pytest.mark.usefixtures("mounts")]
SHORT = ("publish, stale images", "train", "evaluate")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_each_verb_stops_cleanly_keeps_what_is_old_and_ends_once_there_is_room(tmp_path: Path) -> None:
    with bench_in(tmp_path) as bench:
        for case in (one for one in CASES if one.name in SHORT):
            found = run_case(bench, case, levels=1)
            assert found.faults == [] and found.stopped >= 1, case.name


@pytest.fixture
def full(tmp_path: Path) -> Iterator[SmallDisk]:
    """A disk with a ledger, a file of 8 kB, and no room for more."""
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        with Ledger(disk.folder / "ledger.sqlite") as ledger:
            ledger.record(Receipt("scene", "a", "done"))
        (disk.folder / "old").write_bytes(bytes(2 * PAGE_BYTES))
        disk.leave(0)
        yield disk


@pytest.mark.parametrize("name", ["out.nc", "out", "out.csv"])
def test_at_every_page_of_room_an_export_is_whole_or_the_old_one_stays(tmp_path: Path, name: str) -> None:
    region = region_with_images(tmp_path)
    points = tmp_path / "points.csv"
    points.write_text("id,lon,lat\na,14.25,48.12\n")
    options = ExportOptions(bands=("red",), indices=("ndvi",), points=points if name == "out.csv" else None)

    def there(disk: SmallDisk) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in disk.folder.rglob("*") if path.is_file()}

    with small_disk(tmp_path / "disk", 1 << 24) as disk:
        out = disk.folder / name
        export(region, out, replace(options, dates=DAYS[:1]))
        old, (used, _) = there(disk), disk.used
        export(region, out, options)
        new, pages = there(disk), (disk.used[0] + sum(map(len, old.values()))) // PAGE_BYTES + 8
        assert old.keys() == new.keys() and old != new
        ended = []
        for room in [*np.unique(np.linspace(0, pages, 16).astype(int)).tolist(), 4 * pages]:
            disk.leave(1 << 24)
            for path, body in old.items():
                Path(path).write_bytes(body)
            disk.leave(room * PAGE_BYTES)
            try:
                export(region, out, options)
            except DiskFull:
                left = there(disk)
                assert left.keys() == old.keys() and all(left[path] in (old[path], new[path]) for path in left), room
                ended.append(False)
            else:
                assert there(disk) == new, room
                ended.append(True)
        assert used and not ended[0] and ended[-1]


def test_a_file_that_cannot_be_replaced_stays_what_it_was(full: SmallDisk) -> None:
    path = full.folder / "old"
    with pytest.raises(DiskFull, match="make room"):
        put_file(path, b"new" * PAGE_BYTES)
    assert path.read_bytes() == bytes(2 * PAGE_BYTES) and sorted(one.name for one in full.folder.iterdir()) == [
        "ledger.sqlite",
        "old",
    ]


def test_a_ledger_without_room_says_so_whatever_sqlite_says(full: SmallDisk) -> None:
    path = full.folder / "ledger.sqlite"
    with pytest.raises(DiskFull, match="make room"), Ledger(path) as ledger:
        ledger.record(Receipt("scene", "b", "done"))
    for room in (0, 1 << 20):  # on a full disk, too, what is finished can be read
        full.leave(room)
        with Ledger(path) as ledger:
            assert [one.key for one in ledger.all("scene")] == ["a"]
    with pytest.raises(DiskFull, match="make room"):
        full.leave(0)
        Ledger(full.folder / "other.sqlite")


def test_what_a_library_says_of_a_full_disk_is_understood(full: SmallDisk) -> None:
    lacking = RuntimeError("NetCDF: HDF error")
    assert isinstance(unwritten(lacking, full.folder / "a" / "b.nc"), DiskFull)
    full.leave(1 << 20)
    assert not isinstance(unwritten(lacking, full.folder / "b.nc"), DiskFull)
    assert isinstance(unwritten(lacking, full.folder / "b.nc"), StoreError)
    for error in (
        OSError(errno.EDQUOT, "quota"),
        RuntimeError(f"write failed: {os.strerror(errno.ENOSPC)} (os error 28)"),
    ):
        assert is_full(error, full.folder)
    assert not is_full(sqlite3.OperationalError("no such table"), full.folder)


def test_a_disk_without_files_left_has_no_room(full: SmallDisk) -> None:
    full.leave(1 << 20, free_files=0)
    assert not has_room(full.folder / "new")
    full.leave(1 << 20)
    assert has_room(full.folder / "new" / "below")


def test_every_case_has_a_name_of_its_own() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names) and set(SHORT) <= set(names) and all(isinstance(one, Case) for one in CASES)
