"""The flow `generate`: make the virtual images of a region that are missing or stale."""

from datetime import date
from itertools import chain
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State

from flows.clock import run_day
from flows.settings import TURN_S, begin, coarse, run_name, runner, tell, tell_outcome, work
from vsat.config import Region
from vsat.errors import VsatError
from vsat.io.ledger import lease
from vsat.settings import Settings
from vsat.stages.generate import GenerateReport, Policy, finish_generate, generate_one, images_failed, plan_generate
from vsat.stages.models import make_room
from vsat.stages.report import RunReport

# from files here: what fails once fails again, and the next run tries it
make_images = coarse(generate_one, name="make images")


@flow(name="generate", flow_run_name=run_name, task_runner=runner(), persist_result=False)
def generate(region: str, start: date, end: date, day: date | None = None, policy: Policy = "missing") -> State[Any]:
    """Every image of the region from `start` to `end` is there, from the scenes in the cube.

    Args:
        region: path of the region file, or its name in the folder of region files.
        start: first date.
        end: last date.
        day: as of which day (UTC); by default that of the run.
        policy: missing makes what is missing or stale, skip only what is missing, replace all, new-version what is
            missing or stale under a higher version, beside the image that is there.
    """
    wanted, asof = begin(region), day or run_day()
    try:
        report = RunReport.of("generate", wanted.name, asof, None, generate_days(wanted, start, end, asof, policy))
    except VsatError as error:
        return tell_outcome(wanted, "generate", asof, error)
    return tell(wanted, report)


def generate_days(region: Region, start: date, end: date, day: date, policy: Policy) -> GenerateReport:
    """The stage `generate` inside a flow: its jobs run as tasks."""
    with lease(region.home, "generate", wait_s=TURN_S):
        plan = plan_generate(region, start, end, day, policy=policy)
        make_room(region.method, min(Settings.from_environment().workers, len(plan.jobs)))
        told = f"images, {start} to {end}"
        receipts = work(make_images, plan.jobs, region=region, of=told, failed=images_failed)
        return finish_generate(region, day, plan, chain.from_iterable(receipts))
