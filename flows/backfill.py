"""The flow `backfill`: the same work as a night's for a past stretch of days, in its own lane."""

from collections.abc import Callable, Sequence
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.clock import run_day
from flows.settings import (
    TURN_S,
    begin,
    coarse,
    key_of,
    progress,
    run_name,
    runner,
    table,
    tell,
    tell_outcome,
    work,
)
from vsat.config import Region
from vsat.errors import VsatError
from vsat.io.jobs import Row
from vsat.io.ledger import Receipt
from vsat.stages import backfill as stage
from vsat.stages.estimate import estimate
from vsat.stages.fetch import FetchJob
from vsat.stages.request import BackfillRequest
from vsat.stages.units import UnitJob, unit_job

MOST_TASKS = 4  # of one stage and stretch; there are at most 12 stretches of each stage

fetch_scenes = coarse(unit_job, name="fetch scenes", retries=2)
make_images = coarse(unit_job, name="make images")


@flow(name="backfill", flow_run_name=run_name, task_runner=runner(), persist_result=False)
def backfill(region: str, request: BackfillRequest) -> State[Any]:
    """Every image of the region in a past stretch of days is there, from every scene there is for them.

    A run that was cancelled or killed goes on where it was when the same is asked for again.

    Args:
        region: path of the region file, or its name in the folder of region files.
        request: which days, and how.
    """
    wanted, day = begin(region), run_day()
    try:
        if request.dry_run:
            return _tell_estimate(wanted, request)
        report = stage.backfill(
            wanted, request, day, run=_in_tasks(wanted), wait_s=TURN_S, progress=_table(wanted, request)
        )
    except VsatError as error:
        return tell_outcome(wanted, "backfill", day, error)
    return tell(wanted, report)


def _in_tasks(region: Region) -> Callable[[Sequence[UnitJob], str], list[list[Receipt]]]:
    """The jobs of a stretch as at most MOST_TASKS task runs."""

    def run(jobs: Sequence[UnitJob], of: str) -> list[list[Receipt]]:
        task = fetch_scenes if isinstance(jobs[0].job, FetchJob) else make_images
        return work(task, jobs, region=region, of=of, most=MOST_TASKS)

    return run


def _table(region: Region, request: BackfillRequest) -> Callable[[Sequence[Row]], None]:
    """Artifacts that show how far it is: a progress bar over the units, and the table of months and tiles."""
    about = f"{request.start} to {request.end}"
    moved = progress(region, "backfill-progress", f"units, {about}")
    filled = table(region, "backfill-months", f"months and tiles, {about}")

    def show(rows: Sequence[Row]) -> None:
        moved(*stage.share_done(rows))
        filled(stage.month_table(rows))

    return show


def _tell_estimate(region: Region, request: BackfillRequest) -> State[Any]:
    told = estimate(region, request, run_day())
    create_markdown_artifact(
        told.markdown(), key=key_of(region, "backfill-estimate"), description=f"{request.start} to {request.end}"
    )
    return Completed(message="dry run: " + "; ".join(f"{name}: {value}" for name, value in told.rows()))
