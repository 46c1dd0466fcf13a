"""What day it is for a flow run: the UTC day, or that of a trial clock under which days pass in seconds.

VSAT_TRIAL_CLOCK=2023-05-01/2026-01-31T12:00:00+00:00/4 says: 1 May 2023 began at that moment, and each day lasts 4
seconds. A schedule with an interval of 20 seconds then runs a night every fifth day; late and lost nights are as real.
"""

import os
from datetime import UTC, date, datetime, timedelta

from prefect.runtime import flow_run

from vsat.errors import InputError

TRIAL_CLOCK = "VSAT_TRIAL_CLOCK"


def run_day() -> date:
    """The day that a run is for: that of its scheduled start, as a run may start a little early or late."""
    scheduled: datetime | None = flow_run.scheduled_start_time
    return day_at(scheduled or datetime.now(UTC))


def today() -> date:
    """The day it is now."""
    return day_at(datetime.now(UTC))


def day_at(moment: datetime) -> date:
    """The UTC day of a moment, or the day of the trial clock.

    Raises:
        InputError: VSAT_TRIAL_CLOCK is no trial clock.
    """
    told = os.environ.get(TRIAL_CLOCK, "")
    if not told:
        return moment.astimezone(UTC).date()
    try:
        first, begun, length_s = told.split("/")
        since = datetime.fromisoformat(begun)
        if since.tzinfo is None:
            raise ValueError("a moment needs its zone")
        passed_s = moment.timestamp() - since.timestamp()
        return date.fromisoformat(first) + timedelta(passed_s // float(length_s))
    except (ValueError, ZeroDivisionError) as error:
        step = "write DAY/MOMENT/SECONDS as in 2023-05-01/2026-01-31T12:00:00+00:00/4, or unset it"
        raise InputError(f"{told!r} is no trial clock", place=TRIAL_CLOCK, next_step=step) from error
