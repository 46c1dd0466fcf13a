"""The flow `backfill`: the same work as a night's for a past stretch of days, in its own lane."""

from datetime import date
from functools import partial
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.clock import run_day
from flows.fetch import fetch_days
from flows.generate import generate_days
from flows.settings import begin, progress, run_name, runner, tell, tell_outcome
from vsat.errors import VsatError
from vsat.stages import backfill as stage
from vsat.stages.generate import Policy

MOST_TASKS = 4  # of one stage and stretch; there are at most 12 stretches of each stage


@flow(name="backfill", flow_run_name=run_name, task_runner=runner(), persist_result=False)
def backfill(region: str, start: date, end: date, policy: Policy = "missing") -> State[Any]:
    """Every image of the region from `start` to `end` is there, from every scene there is for them.

    Args:
        region: path of the region file, or its name in the folder of region files.
        start: first date.
        end: last date.
        policy: missing makes what is missing or stale, skip only what is missing, replace all.
    """
    wanted, day = begin(region), run_day()
    shown = progress(wanted, "backfill-progress", f"months, {start} to {end}")
    try:
        report = stage.backfill(
            wanted, start, end, day, policy=policy,
            fetch=partial(fetch_days, most=MOST_TASKS), generate=partial(generate_days, most=MOST_TASKS),
            progress=shown,
        )  # fmt: skip
    except VsatError as error:
        return tell_outcome(wanted, "backfill", day, error)
    return tell(wanted, report)
