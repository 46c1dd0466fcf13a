"""The flow `nightly`: a region is brought up to the day. By hand: `python -m flows.nightly REGION --day 2023-12-31`."""

import argparse
import sys
from datetime import date
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.clock import run_day, today
from flows.fetch import fetch_days
from flows.generate import generate_days
from flows.settings import TURN_S, begin, exit_code, run_name, runner, tell, tell_outcome
from vsat.errors import VsatError
from vsat.stages import nightly as stage


@flow(name="nightly", flow_run_name=run_name, task_runner=runner(), persist_result=False)
def nightly(region: str, day: date | None = None) -> State[Any]:
    """Fetch what is new or revised, make what is missing or stale, report.

    Args:
        region: path of the region file, or its name in the folder of region files.
        day: up to which day (UTC); by default that of the run's schedule. A run that comes late stands for today, so
            that those queued behind it find nothing to do.
    """
    wanted, scheduled = begin(region), run_day()
    if day is None and stage.is_finished(wanted, scheduled):
        return Completed(name="NothingToDo", message=f"{wanted.name} is finished beyond {scheduled} already")
    until = day or max(scheduled, today())
    try:
        report = stage.nightly(wanted, until, fetch=fetch_days, generate=generate_days, wait_s=TURN_S)
    except VsatError as error:
        return tell_outcome(wanted, "nightly", until, error)
    return tell(wanted, report)


def main() -> int:
    """Run the flow here, on Prefect's temporary server where PREFECT_API_URL names none; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m flows.nightly", description=__doc__)
    parser.add_argument("region", help="path of the region file")
    parser.add_argument("--day", type=date.fromisoformat, default=None, help="up to which UTC day; by default today")
    given = parser.parse_args()
    state: State[Any] = nightly(given.region, given.day, return_state=True)
    sys.stderr.write(f"{state.name}: {state.message}\n")
    return int(exit_code(state))


if __name__ == "__main__":
    sys.exit(main())
