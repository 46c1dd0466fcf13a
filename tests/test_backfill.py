"""Backfill without Prefect: units cover the stretch, later scenes are fetched too, and it goes on where it was."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from watched import ended_twice, recorded, until_waited_for, watch

from regions import END, START, tiny, two_tiles, write_archive, write_region
from vsat.config import Region, load_region
from vsat.errors import AccessError, AllCloudy, CatalogueDown, ExitCode, InputError, NoScenes
from vsat.io.archive import withhold
from vsat.io.jobs import MOST_BEGINNINGS, JobTable, Row, Unit
from vsat.io.ledger import Ledger, Receipt, lease
from vsat.io.publish import image_folder, read_image
from vsat.io.scenes import ledger_path
from vsat.stages.backfill import MOST_STRETCHES, backfill, month_table, plan_backfill, stretches
from vsat.stages.estimate import estimate
from vsat.stages.generate import generate
from vsat.stages.request import BackfillRequest, asked_for
from vsat.stages.status import region_status
from vsat.stages.units import UnitJob, run_here
from vsat.stages.verify import verify

DAY = date(2023, 12, 31)
SCENES, IMAGES = 19, 7  # of the tiny region
ALL = BackfillRequest(start=START, end=END)


@pytest.fixture
def region(tmp_path: Path) -> Region:
    return load_region(write_region(tmp_path))


@pytest.fixture
def made(tmp_path: Path) -> Region:
    """A region with its archive."""
    return load_region(tiny(tmp_path))


def rows(region: Region) -> list[Row]:
    """The newest request's."""
    with JobTable(ledger_path(region.home)) as table:
        return table.rows(table.requests()[-1])


def images(region: Region) -> dict[str, Receipt]:
    with Ledger(ledger_path(region.home)) as ledger:
        return {receipt.key: receipt for receipt in ledger.all("image")}


class Stopped(Exception):
    """What a test stops a backfill with; it stands for the death of the process."""


def stopping(after: int) -> Any:
    """A runner that does so many jobs and then ends."""
    left = after

    def run(jobs: Sequence[UnitJob], of: str) -> list[list[Receipt]]:
        nonlocal left
        found = []
        for job in jobs:
            if not left:
                raise Stopped
            left -= 1
            found += run_here([job], of)
        return found

    return run


@given(st.dates(date(1990, 1, 1), date(2030, 1, 1)), st.integers(0, 4000))
def test_stretches_cover_every_day_once_and_are_few(start: date, days: int) -> None:
    end = start + timedelta(days)
    found = stretches(start, end)
    assert len(found) <= MOST_STRETCHES
    assert (found[0][0], found[-1][1]) == (start, end)
    for (_, last), (first, _) in pairwise(found):
        assert first == last + timedelta(1)
        assert first.day == 1  # a stretch never cuts a month: its images rest on the same scenes


def test_scenes_are_fetched_as_far_as_images_use_them_and_days_are_cut_to_the_period(region: Region) -> None:
    scenes, wanted = plan_backfill(region, date(2020, 1, 1), date(2023, 5, 20), DAY)
    assert wanted == [(START, date(2023, 5, 20))]
    assert scenes == [(START, date(2023, 5, 31)), (date(2023, 6, 1), date(2023, 6, 9))]  # final_after_days: 20
    scenes, _ = plan_backfill(region, START, date(2023, 5, 20), date(2023, 5, 25))
    assert scenes[-1][1] == date(2023, 5, 25)  # no scenes from the future


def test_days_outside_the_period_are_refused(region: Region) -> None:
    with pytest.raises(InputError, match="is in the region's period, 2023-05-01 to 2023-06-30"):
        backfill(region, BackfillRequest(start=date(2020, 1, 1), end=date(2020, 2, 1)), DAY)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"start": "2023-02-01", "end": "2023-01-01"}, "first day (2023-02-01) is after the last"),
        ({"start": "20230201", "end": "2023-01-01"}, "start: a day is written as 2024-05-01"),
        ({"start": START, "end": END, "method": "magic"}, "method: 'magic' is no method: choose among region, nearest"),
        ({"start": START, "end": END, "method": "linear:somewhere"}, "a checkpoint is for method anydate"),
        ({"start": START, "end": END, "policy": "all"}, "policy: Input should be 'missing', 'skip'"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_in_words(given: dict[str, Any], told: str) -> None:
    options = {"policy": "missing"} | {name: value for name, value in given.items() if name not in ("start", "end")}
    with pytest.raises(InputError) as caught:
        asked_for(given["start"], given["end"], **options)
    assert told in str(caught.value)


def test_a_stopped_backfill_goes_on_where_it_was_and_does_nothing_twice(made: Region) -> None:
    watch(made.home)
    scenes, told = 0, []
    for after in (3, 8, 0, 8, 1):  # in the middle of scenes, and of images
        with pytest.raises(Stopped):
            backfill(made, ALL, DAY, run=stopping(after), progress=told.append)
        assert not [row for row in rows(made) if row.state == "running"]
        scenes = sum(region_status(made)["scenes"].values())
    report = backfill(made, ALL, DAY, progress=told.append)
    assert report.exit_code == ExitCode.DONE
    assert "of 4 units are done, 3 of them before this run." in "\n".join(report.notes), report.notes
    assert region_status(made)["images"] == {"final": 7}
    assert region_status(made)["up_to"] is None  # the nights have their own watermark
    count = recorded(made.home)
    assert set(count.values()) == {1} and len(count) == SCENES + IMAGES and scenes == SCENES
    assert ended_twice(made.home) == []
    assert {row.state for row in told[-1]} == {"done"}
    assert sum(row.done for row in rows(made) if row.unit.stage == "fetch") == SCENES
    assert "images done" in month_table(rows(made))[0]["33UVP"]
    # the same again is another request, which finds nothing to do
    again = backfill(made, ALL, DAY)
    assert (again.fetch and again.fetch.fetched, again.generate and again.generate.images) == (0, ())
    assert recorded(made.home) == count
    # and one image that is lost is the only one to be made
    (image_folder(made.home, "33UVP", START) / "VSAT.T33UVP.2023121.v1.qa.tif").unlink()
    third = backfill(made, ALL, DAY)
    assert third.generate and [key for key, _ in third.generate.images] == ["33UVP/2023-05-01"]


def test_replace_makes_each_image_once_however_often_it_is_stopped(made: Region) -> None:
    backfill(made, ALL, DAY)
    watch(made.home)
    asked = BackfillRequest(start=START, end=END, policy="replace")
    with pytest.raises(Stopped):
        backfill(made, asked, DAY, run=stopping(1))
    assert 0 < sum(recorded(made.home).values()) < 7
    assert len(backfill(made, asked, DAY).generate.images) < 7  # type: ignore[union-attr]
    assert Counter(recorded(made.home).values()) == {1: 7}
    backfill(made, asked, DAY)
    assert Counter(recorded(made.home).values()) == {2: 7}  # asked again, all again


def test_a_method_of_its_own_stays_through_the_nights(made: Region) -> None:
    backfill(made, ALL, DAY)
    may = date(2023, 5, 31)
    other = backfill(made, BackfillRequest(start=START, end=may, method="whittaker"), DAY)
    assert other.generate and len(other.generate.images) == 4
    methods = {key: read_image(made.home, *_place(key)).method for key in images(made)}
    assert Counter(methods.values()) == {"whittaker": 4, "linear": 3}
    assert generate(made, START, END, DAY).images == ()  # what a night would do
    lost = image_folder(made.home, "33UVP", START)
    (lost / f"{lost.name}.qa.tif").unlink()
    assert len(generate(made, START, END, DAY).images) == 1
    assert read_image(made.home, "33UVP", START).method == "whittaker"
    back = backfill(made, BackfillRequest(start=START, end=may, method="linear"), DAY)
    assert back.generate and len(back.generate.images) == 4
    assert read_image(made.home, "33UVP", START).method == "linear"
    assert "method" not in images(made)["33UVP/2023-05-01"].facts


def test_a_new_version_stands_beside_the_old_one(made: Region) -> None:
    backfill(made, ALL, DAY)
    old = image_folder(made.home, "33UVP", START)
    before = {path.name: path.read_bytes() for path in old.iterdir()}
    asked = BackfillRequest(start=START, end=END, method="whittaker", policy="new-version")
    with pytest.raises(Stopped):
        backfill(made, asked, DAY, run=stopping(1))
    backfill(made, asked, DAY)
    new = image_folder(made.home, "33UVP", START, 2)
    assert {path.name: path.read_bytes() for path in old.iterdir()} == before
    item = json.loads((new / f"{new.name}.json").read_text())
    assert item["properties"]["version"] == "v2" and item["id"] == new.name
    links = [link for link in item["links"] if link["rel"] == "predecessor-version"]
    assert (new / links[0]["href"]).resolve() == (old / f"{old.name}.json").resolve()
    assert read_image(made.home, "33UVP", START, 2).method == "whittaker"
    collection = json.loads((made.home / "images/33UVP/collection.json").read_text())
    listed = [Path(link["href"]).stem for link in collection["links"] if link["rel"] == "item"]
    assert [name.rpartition(".")[2] for name in listed] == ["v2"] * 7
    assert verify(made).problems == ()
    # the same bytes are no new version; a night leaves both; and what it makes again keeps its version
    third = backfill(made, asked, DAY)
    assert third.generate and third.generate.images == ()
    assert generate(made, START, END, DAY).images == ()
    (new / f"{new.name}.qa.tif").unlink()
    generate(made, START, END, DAY)
    assert (new / f"{new.name}.qa.tif").exists() and verify(made).problems == ()
    assert not image_folder(made.home, "33UVP", START, 3).exists()


def _place(key: str) -> tuple[str, date]:
    tile, day = key.split("/")
    return tile, date.fromisoformat(day)


def test_a_scene_that_cannot_be_read_fails_its_unit_alone_and_is_tried_again(made: Region, tmp_path: Path) -> None:
    torn = sorted(tmp_path.glob("archive/HLSS30_2.0/*2023*/*.B04.tif"))[0]
    whole = torn.read_bytes()
    torn.write_bytes(whole[:200])
    report = backfill(made, ALL, DAY)
    assert report.exit_code == ExitCode.FAILED
    assert "1 of 4 units failed" in report.message
    assert [(row.unit.stage, row.state) for row in rows(made)] == [
        ("fetch", "failed"), ("fetch", "done"), ("generate", "done"), ("generate", "done")
    ]  # fmt: skip
    assert len(images(made)) == 7
    torn.write_bytes(whole)
    watch(made.home)
    again = backfill(made, ALL, DAY)
    assert again.exit_code == ExitCode.DONE
    assert {kind for kind, _ in recorded(made.home)} == {"scene"} and len(recorded(made.home)) == 1
    assert {row.state for row in rows(made)} == {"done"}


def test_what_would_fail_for_all_ends_the_run_and_leaves_the_rest_waiting(made: Region) -> None:
    def refused(jobs: Sequence[UnitJob], of: str) -> list[list[Receipt]]:
        with JobTable(ledger_path(made.home)) as table:
            table.start(jobs[0].request, jobs[0].unit)
        raise AccessError("HTTP 401")

    with pytest.raises(AccessError):
        backfill(made, ALL, DAY, run=refused)
    assert {row.state for row in rows(made)} == {"waiting"}
    assert "401" in next((made.home / "reports").glob("backfill-*.md")).read_text()


def test_a_tile_that_cannot_be_asked_for_fails_its_units_alone_and_is_tried_again(tmp_path: Path) -> None:
    made = two_tiles(tmp_path)
    asked = BackfillRequest(start=START, end=date(2023, 5, 31))
    backfill(made, BackfillRequest(start=START, end=date(2023, 5, 12)), date(2023, 5, 12))  # the cubes are there
    attributes = next(made.home.glob("cubes/33UWP/*.zarr")) / "zarr.json"
    sound = attributes.read_text()
    width = made.grids()[1].width
    attributes.write_text(sound.replace(f'"width": {width}', f'"width": {width + 1}'))
    before = set(images(made))

    report = backfill(made, asked, DAY)
    assert report.exit_code == ExitCode.FAILED
    assert {(row.unit.tile, row.state) for row in rows(made)} == {("33UVP", "done"), ("33UWP", "failed")}
    assert "on the grid" in next(row.reason for row in rows(made) if row.state == "failed")
    assert {key.split("/")[0] for key in set(images(made)) - before} == {"33UVP"}

    attributes.write_text(sound)
    assert backfill(made, asked, DAY).exit_code == ExitCode.DONE
    assert {row.state for row in rows(made)} == {"done"}
    assert Counter(key.split("/")[0] for key in images(made)) == {"33UVP": 4, "33UWP": 4}


def test_a_region_without_scenes_is_an_answer_and_asking_again_asks_again(tmp_path: Path) -> None:
    region = load_region(write_region(tmp_path))
    write_archive(region)
    withhold(tmp_path / "archive", date(2023, 1, 1))
    for _ in range(2):
        with pytest.raises(NoScenes):
            backfill(region, ALL, DAY)
    white = load_region(write_region(tmp_path / "white", "white"))
    write_archive(white, end=date(2023, 5, 20))
    limited = white.model_copy(update={"cloud": white.cloud.model_copy(update={"max_cover": 0.0})})
    with pytest.raises(AllCloudy):
        backfill(limited, ALL, DAY)


def test_a_catalogue_that_is_down_leaves_everything_waiting(made: Region, monkeypatch: pytest.MonkeyPatch) -> None:
    import vsat.stages.backfill as module

    def down(*_: object) -> None:
        raise CatalogueDown("HTTP 503")

    with monkeypatch.context() as patch:
        patch.setattr(module, "plan_fetch", down)
        with pytest.raises(CatalogueDown):
            backfill(made, ALL, DAY)
    assert {row.state for row in rows(made)} == {"waiting"}
    assert backfill(made, ALL, DAY).exit_code == ExitCode.DONE


def test_a_night_that_waits_gets_its_turn_after_the_stretch(made: Region) -> None:
    """And its work is not done again by the backfill."""
    order: list[str] = []

    def a_night() -> None:
        with lease(made.home, "fetch", wait_s=60):
            order.append("night")

    night = threading.Thread(target=a_night)

    def run(jobs: Sequence[UnitJob], of: str) -> list[list[Receipt]]:
        order.append(of)
        if len(order) == 1:
            night.start()
            until_waited_for(made.home / ".fetch.next.lock")
        return run_here(jobs, of)

    backfill(made, ALL, DAY, run=run, wait_s=60)
    night.join()
    assert order[:3] == ["scenes, 2023-05-01 to 2023-05-31", "night", "scenes, 2023-06-01 to 2023-06-30"]


def test_a_unit_that_ends_its_process_each_time_is_left_out(tmp_path: Path) -> None:
    units = [Unit("fetch", "2023-05", "33UVP"), Unit("fetch", "2023-06", "33UVP")]
    with JobTable(tmp_path / "ledger.sqlite") as table:
        request = table.begin("all", units)
        table.plan(request, {units[0]: 2, units[1]: 0})
        for _ in range(MOST_BEGINNINGS):
            table.start(request, units[0])  # and the process dies
            assert table.begin("all", units) == request
        row, other = table.rows(request)
        assert (row.state, row.reason) == ("failed", "the process ended 5 times in the middle of it")
        assert other.state == "done"
        assert table.begin("all", units) == request  # asked for again, it gets another chance
        assert table.rows(request)[0].state == "waiting"
        table.plan(request, {units[0]: 2})
        for failed in (0, 1):
            table.start(request, units[0])
            table.end(request, units[0], done=1 - failed, failed=failed, seconds=1.5, reason="torn" * failed)
        assert table.rows(request)[0] == Row(units[0], "failed", 1, 1, 3.0, 0, "torn")
        # a region that has changed drops what it does not ask for any more; what is done is over
        assert table.begin("all", units[1:]) != table.begin("all", units[1:]) or table.rows(request) == [other]


def test_a_dry_run_counts_and_knows_what_was_measured(made: Region) -> None:
    first = estimate(made, ALL, DAY, workers=2)
    assert (first.scenes, first.scenes_there, first.images, first.images_there, first.units) == (
        SCENES,
        0,
        IMAGES,
        0,
        4,
    )
    assert (first.bytes, first.seconds) == (None, None)
    assert "not measured yet" in first.text()
    assert not (made.home / "images").exists()
    may = BackfillRequest(start=START, end=date(2023, 5, 10))
    backfill(made, may, DAY)
    second = estimate(made, ALL, DAY, workers=2)
    scenes, done = sum(region_status(made)["scenes"].values()), len(images(made))
    assert (second.scenes, second.scenes_there) == (SCENES - scenes, scenes)
    assert second.images + second.images_there == 7 and second.images >= 7 - done
    assert second.bytes and second.seconds and second.scene_seconds and second.image_seconds
    took = second.scenes * second.scene_seconds + second.images * second.image_seconds
    assert second.seconds == pytest.approx(took / 2, abs=0.07)  # told to a tenth of a second
    assert "| images |" in second.markdown()
    before = region_status(made)
    backfill(made, ALL, DAY)
    written = sum(path.stat().st_size for path in made.home.rglob("c.*"))
    assert written > 0 and region_status(made) != before
    last = estimate(made, ALL, DAY)
    assert (last.scenes, last.images, last.seconds, last.bytes) == (0, 0, 0.0, 0)
    assert estimate(made, ALL.model_copy(update={"policy": "replace"}), DAY).images == 7
    assert estimate(made, ALL.model_copy(update={"method": "whittaker"}), DAY).image_seconds is None


@pytest.mark.fault
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda one: one.name)
def test_the_command_stopped_by_a_signal_leaves_a_sound_store(made: Region, tmp_path: Path, number: int) -> None:
    watch(made.home)
    command = [sys.executable, "-m", "vsat.cli", "backfill", str(tmp_path / "tiny.yaml"), "--workers", "1"]
    environment = dict(os.environ) | {"PYTHONPATH": str(Path(__file__).parents[1])}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while len(recorded(made.home)) < 5 and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(number)
        assert process.wait(60) != 0
    stopped = len(recorded(made.home))
    assert 5 <= stopped < SCENES + IMAGES
    if number != signal.SIGKILL:
        assert verify(made).problems == ()
        assert not [row for row in rows(made) if row.state == "running"]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=200)
    assert Counter(recorded(made.home).values()) == {1: SCENES + IMAGES}
    assert ended_twice(made.home) == []
    assert verify(made).problems == ()
