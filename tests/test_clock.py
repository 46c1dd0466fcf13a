"""The day of a run: from the schedule in UTC, through daylight saving, lost nights, a clock set back, and trial clocks."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from regions import write_region
from vsat.config import load_region
from vsat.errors import InputError
from vsat.io.ledger import Ledger
from vsat.io.scenes import ledger_path

pytestmark = pytest.mark.flow

CHANGES = [
    date(2026, 3, 29),
    date(2026, 10, 25),
    date(2026, 3, 8),
    date(2026, 11, 1),
]  # of clocks in Europe, in the USA


def schedule() -> Any:
    from prefect.client.schemas.schedules import CronSchedule

    template = yaml.safe_load((Path(__file__).parents[1] / "prefect.yaml").read_text())
    (nightly,) = [one for one in template["deployments"] if one["entrypoint"] == "flows.nightly.nightly"]
    (told,) = nightly["schedules"]
    return CronSchedule(cron=told["cron"], timezone=told["timezone"])


def scheduled(start: datetime, count: int) -> list[datetime]:
    """What Prefect's server itself computes for the nightly deployment."""
    import asyncio

    from prefect.server.schemas.schedules import CronSchedule

    made = CronSchedule.model_validate(schedule().model_dump(exclude_unset=True))
    return [moment.astimezone(UTC) for moment in asyncio.run(made.get_dates(count, start))]


@pytest.mark.parametrize("change", CHANGES, ids=str)
@pytest.mark.parametrize("zone", ["UTC", "Europe/Vienna", "America/New_York"])
def test_a_night_is_scheduled_once_a_day_when_clocks_change(
    change: date, zone: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import time

    from flows.clock import day_at

    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        first = datetime(change.year, change.month, change.day, tzinfo=UTC) - timedelta(2)
        found = scheduled(first, 5)
        assert [day_at(moment) for moment in found] == [first.date() + timedelta(i) for i in range(5)]
        assert {(moment.hour, moment.minute) for moment in found} == {(7, 30)}
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_clock_set_back_an_hour_neither_repeats_nor_loses_a_night() -> None:
    """The server asks anew from the time it is now: what lay ahead comes again at the same moments, under the same key."""
    before = scheduled(datetime(2026, 5, 3, 8, 0, tzinfo=UTC), 3)
    after = scheduled(datetime(2026, 5, 3, 7, 0, tzinfo=UTC), 4)
    assert after[1:] == before and after[0].date() == date(2026, 5, 3)


def test_days_pass_in_seconds_under_a_trial_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.clock import day_at

    start = datetime(2026, 1, 31, 12, tzinfo=UTC)
    monkeypatch.setenv("VSAT_TRIAL_CLOCK", f"2023-05-01/{start.isoformat()}/4")
    told = [day_at(start + timedelta(seconds=s)) for s in (0, 3.9, 4, 40)]
    assert told == [date(2023, 5, 1), date(2023, 5, 1), date(2023, 5, 2), date(2023, 5, 11)]


@pytest.mark.parametrize(
    "text", ["yesterday", "2023-05-01/2026-01-31T12:00:00/4", "2023-05-01/2026-01-31T12:00:00+00:00/0"]
)
def test_a_trial_clock_that_is_none_is_told(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.clock import today

    monkeypatch.setenv("VSAT_TRIAL_CLOCK", text)
    with pytest.raises(InputError, match="no trial clock"):
        today()


def test_queued_nights_after_a_clock_set_back_over_midnight_find_nothing(tmp_path: Path) -> None:
    from vsat.stages.nightly import is_finished

    region = load_region(write_region(tmp_path))
    (grid,) = region.grids()
    with Ledger(ledger_path(region.home)) as ledger:
        ledger.set_watermark(f"nightly/{grid.tile}", date(2023, 6, 2))
    assert is_finished(region, date(2023, 6, 1)) and not is_finished(region, date(2023, 6, 2))
