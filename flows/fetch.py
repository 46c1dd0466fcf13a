"""The flow `fetch`: find, read and keep the scenes of a region."""

from datetime import date
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.clock import run_day
from flows.settings import TURN_S, begin, coarse, run_name, runner, tell, tell_outcome, work
from vsat.config import Region
from vsat.errors import VsatError
from vsat.io.ledger import lease
from vsat.stages.fetch import FetchReport, fetch_one, finish_fetch, open_endpoint, plan_fetch, scene_failed, tidy
from vsat.stages.report import RunReport

fetch_scenes = coarse(fetch_one, name="fetch scenes", retries=2)


@flow(name="fetch", flow_run_name=run_name, task_runner=runner(), persist_result=False)
def fetch(region: str, start: date, end: date) -> State[Any]:
    """The cube holds every usable scene of the region from `start` to `end`, both included.

    Args:
        region: path of the region file, or its name in the folder of region files.
        start: first day (UTC).
        end: last day.
    """
    wanted, day = begin(region), run_day()
    try:
        report = RunReport.of("fetch", wanted.name, day, fetch_days(wanted, start, end), None)
    except VsatError as error:
        return tell_outcome(wanted, "fetch", day, error)
    return tell(wanted, report)


def fetch_days(region: Region, start: date, end: date) -> FetchReport:
    """The stage `fetch` inside a flow: its jobs run as tasks."""
    with lease(region.home, "fetch", wait_s=TURN_S), open_endpoint(region) as endpoint:
        tidy(region)
        plan = plan_fetch(region, endpoint, start, end)
        told = f"scenes, {start} to {end}"
        receipts = work(fetch_scenes, plan.jobs, region=region, of=told, failed=scene_failed)
        return finish_fetch(region, plan, receipts)
