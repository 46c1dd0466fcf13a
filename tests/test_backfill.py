"""Backfill without Prefect: months cover the stretch, later scenes are fetched too, and it goes on where it was."""

from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_nightly import FETCHED, made

from regions import END, START, tiny, write_region
from vsat.config import Region, load_region
from vsat.errors import AllCloudy, CatalogueDown, InputError, NoScenes
from vsat.stages.backfill import MOST_STRETCHES, backfill, plan_backfill, stretches
from vsat.stages.fetch import FetchReport
from vsat.stages.generate import GenerateReport, Policy
from vsat.stages.status import region_status

DAY = date(2023, 12, 31)


@pytest.fixture
def region(tmp_path: Path) -> Region:
    return load_region(write_region(tmp_path))


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
    scenes, images = plan_backfill(region, date(2020, 1, 1), date(2023, 5, 20), DAY)
    assert images == [(START, date(2023, 5, 20))]
    assert scenes == [(START, date(2023, 5, 31)), (date(2023, 6, 1), date(2023, 6, 9))]  # final_after_days: 20
    scenes, _ = plan_backfill(region, START, date(2023, 5, 20), date(2023, 5, 25))
    assert scenes[-1][1] == date(2023, 5, 25)  # no scenes from the future


@pytest.mark.parametrize(("start", "end"), [(date(2020, 1, 1), date(2020, 2, 1)), (END, START)])
def test_days_outside_the_period_are_refused(region: Region, start: date, end: date) -> None:
    with pytest.raises(InputError, match="is in the region's period, 2023-05-01 to 2023-06-30"):
        backfill(region, start, end, DAY)


def test_a_month_without_scenes_is_noted_and_all_without_is_no_scenes(region: Region) -> None:
    def fetch(region: Region, start: date, end: date) -> FetchReport:
        if start < date(2023, 6, 1):
            raise AllCloudy("May was white")
        return FETCHED

    def generate(region: Region, start: date, end: date, day: date, policy: Policy) -> GenerateReport:
        assert policy == "replace"
        return made(region)

    ticks: list[tuple[int, int]] = []
    report = backfill(
        region, START, END, DAY, policy="replace", fetch=fetch, generate=generate,
        progress=lambda done, total: ticks.append((done, total)),
    )  # fmt: skip
    assert report.notes == ("May was white",)
    assert ticks == [(1, 4), (2, 4), (3, 4), (4, 4)]

    def nothing(region: Region, start: date, end: date) -> FetchReport:
        raise NoScenes("none")

    with pytest.raises(NoScenes):
        backfill(region, START, END, DAY, fetch=nothing, generate=generate)


def test_counts_of_stretches_are_added(region: Region) -> None:
    half = FetchReport(**{**vars(FETCHED), "clear": 0.5, "failed": 1, "failures": (("a", "b"),)})
    three = FetchReport(**{**vars(FETCHED), "clear": 0.1, "fetched": 3})
    answers = [half, three]
    report = backfill(region, START, END, DAY, fetch=lambda *_: answers.pop(0), generate=lambda *_: made(region))
    assert report.fetch is not None
    assert (report.fetch.fetched, report.fetch.failed, report.fetch.clear) == (4, 1, 0.2)
    assert report.exit_code == 1


def test_a_stopped_backfill_goes_on_where_it_was(tmp_path: Path) -> None:
    region = load_region(tiny(tmp_path))
    calls = 0

    def down(region: Region, start: date, end: date) -> FetchReport:
        from vsat.stages.fetch import fetch

        nonlocal calls
        calls += 1
        if calls == 2:
            raise CatalogueDown("HTTP 503")
        return fetch(region, start, end)

    with pytest.raises(CatalogueDown):
        backfill(region, START, END, DAY, fetch=down)
    may = region_status(region)["scenes"]
    assert sum(may.values()) > 0
    assert region_status(region)["images"] == {}
    report = backfill(region, START, END, DAY)
    assert report.fetch is not None
    assert report.generate is not None
    assert report.fetch.already >= sum(may.values())
    assert report.fetch.fetched == sum(region_status(region)["scenes"].values()) - sum(may.values())
    assert len(report.generate.images) == 7
    assert region_status(region)["images"] == {"final": 7}
    assert region_status(region)["up_to"] is None  # the nights have their own watermark
    again = backfill(region, START, END, DAY)
    assert (again.fetch and again.fetch.fetched, again.generate and again.generate.images) == (0, ())
