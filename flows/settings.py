"""What all flows share: how tasks run and retry, a run's day and artifacts, and how an outcome becomes a state."""

import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import urlencode, urlsplit, urlunsplit
from uuid import UUID

import httpx
from prefect import Task, task
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import ArtifactUpdate
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import FlowRunContext
from prefect.futures import PrefectFuture, as_completed
from prefect.runtime import flow_run
from prefect.settings import PREFECT_LOGGING_EXTRA_LOGGERS
from prefect.states import Completed, Failed
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from prefect.tasks import exponential_backoff
from prefect.utilities.annotations import quote
from pydantic import BaseModel

from flows.clock import run_day
from flows.events import tell_images
from vsat.config import Region, load_region
from vsat.errors import AccessError, DiskFull, ExitCode, InputError, VsatError
from vsat.settings import Settings, find_region
from vsat.stages.map_page import MAP
from vsat.stages.pool import each
from vsat.stages.report import RunReport, markdown, tile_date_table

log = logging.getLogger(f"vsat.{__name__}")  # lines of vsat's reach the run's logs
Job = TypeVar("Job")
Result = TypeVar("Result")

# Of one stage: a task run costs near 90 ms of CPU with the server's, and rows of its database; a few for each thread
# keep all of them busy to the end, and progress is seen.
MOST_TASKS, TASKS_A_THREAD = 20, 4
TURN_S = 6 * 3600.0  # a run waits so long for another one on the same region to let go of it

# How a run ends that did not do its work. An empty or cloudy sky is an answer, not a failure: such a run is Completed
# under its own name. A catalogue that is down and work that failed are Failed, so that automations and eyes see them.
STATES: dict[ExitCode, tuple[Callable[..., State[Any]], str]] = {
    ExitCode.DONE: (Completed, "Completed"),
    ExitCode.FAILED: (Failed, "WorkFailed"),
    ExitCode.BAD_INPUT: (Failed, "BadInput"),
    ExitCode.CATALOGUE_DOWN: (Failed, "CatalogueDown"),
    ExitCode.NO_SCENES: (Completed, "NoScenes"),
    ExitCode.ALL_CLOUDY: (Completed, "AllCloudy"),
    ExitCode.ACCESS_REFUSED: (Failed, "AccessRefused"),
    ExitCode.DISK_FULL: (Failed, "DiskFull"),
}


def begin(region: str) -> Region:
    """The region of a file, by its path or its name in the folder that VSAT_REGIONS names; its log lines are the run's.

    Raises:
        InputError: there is none, or it cannot be used.
    """
    for name in PREFECT_LOGGING_EXTRA_LOGGERS.value():  # Prefect gives these a handler, but no level
        logging.getLogger(name).setLevel(logging.INFO)
    return load_region(find_region(region, Settings.from_environment().regions))


def runner() -> TaskRunner[PrefectFuture[Any]]:
    """Tasks run on threads of the flow's process, as many as VSAT_WORKERS says; or all, where a Dask cluster does the work.

    A task then only hands its jobs to the cluster and waits.
    """
    return cast(TaskRunner[PrefectFuture[Any]], ThreadPoolTaskRunner(max_workers=_threads()))


def _threads() -> int:
    settings = Settings.from_environment()
    return MOST_TASKS if settings.dask_scheduler else settings.workers


def coarse(one: Callable[[Job], Result], *, name: str, retries: int = 0) -> Task[[Sequence[Job]], list[Result]]:
    """A task that does a list of jobs with `one`, one after the other, or on the cluster that VSAT_DASK_SCHEDULER names.

    Args:
        one: does one job; a function that knows no Prefect.
        name: of the task.
        retries: where another try may help, as with reads; they come after 10 s and more, spread by chance.
    """
    options = task(
        name=name,
        retries=retries,
        retry_delay_seconds=exponential_backoff(backoff_factor=10),
        retry_jitter_factor=0.5,
        retry_condition_fn=is_worth_retrying,
        persist_result=False,
        cache_policy=NO_CACHE,  # receipts say what is done; a cache would not look at the files
    )
    return options(each(one))


def is_worth_retrying(task: Task[..., Any], run: TaskRun, state: State[Any]) -> bool:
    """False for what fails alike at the next try: bad input, refused credentials, a full disk."""
    failure = state.result(raise_on_failure=False)
    return not isinstance(failure, InputError | AccessError | DiskFull)


def work(
    jobs_task: Task[[Sequence[Job]], list[Result]],
    jobs: Sequence[Job],
    *,
    region: Region,
    of: str,
    most: int | None = None,
    failed: Callable[[Job, str], Result] | None = None,
) -> list[Result]:
    """Every job is done, in few task runs side by side; a progress artifact tells how far it is.

    Args:
        jobs_task: see `coarse`.
        jobs: any number.
        region: whose artifact.
        of: what the jobs are about, in a word or two.
        most: task runs; by default by the number of threads.
        failed: what stands for a job of a task that broke down with an error of ours that no user can mend, given the
            error in words: the other jobs go on. Without it that error ends the run.

    Returns:
        Results in the order of the jobs.

    Raises:
        VsatError: the first that a task raised.
    """
    shown = progress(region, "progress", f"{len(jobs)} {of}")
    groups = batches(jobs, most or min(MOST_TASKS, TASKS_A_THREAD * _threads()))
    futures = [jobs_task.submit(cast(list[Job], quote(group))) for group in groups]
    for count, future in enumerate(as_completed(futures), start=1):
        outcome: Any = future.result(raise_on_failure=False)
        if isinstance(outcome, VsatError) or (failed is None and isinstance(outcome, BaseException)):
            raise outcome  # a full disk or refused credentials would fail all others alike
        shown(count, len(futures))
    if not futures:
        shown(1, 1)
    pairs = zip(futures, groups, strict=True)
    return [result for future, group in pairs for result in _results(future, group, failed)]


def _results(
    future: PrefectFuture[list[Result]], jobs: Sequence[Job], failed: Callable[[Job, str], Result] | None
) -> list[Result]:
    outcome: Any = future.result(raise_on_failure=False)
    if failed is not None and isinstance(outcome, BaseException):
        return [failed(job, f"{type(outcome).__name__}: {outcome}") for job in jobs]
    return cast(list[Result], outcome)


def batches(jobs: Sequence[Job], most: int) -> list[list[Job]]:
    """The jobs in order, in at most `most` groups of nearly equal size."""
    size = max(1, -(-len(jobs) // most))
    return [list(jobs[start : start + size]) for start in range(0, len(jobs), size)]


def progress(region: Region, what: str, description: str) -> Callable[[int, int], None]:
    """A progress artifact at nothing; call what is returned with (done, total)."""
    artifact = cast(UUID, create_progress_artifact(0.0, key=key_of(region, what), description=description))

    def move(done: int, total: int) -> None:
        with shown_or_not():
            update_progress_artifact(artifact, progress=100.0 * done / total)

    return move


def table(region: Region, what: str, description: str) -> Callable[[list[dict[str, str]]], None]:
    """An empty table artifact; call what is returned with its rows."""
    artifact = cast(UUID, create_table_artifact([], key=key_of(region, what), description=description))

    def fill(rows: list[dict[str, str]]) -> None:
        with shown_or_not(), get_client(sync_client=True) as client:
            client.update_artifact(artifact, ArtifactUpdate(data=json.dumps(rows)))

    return fill


@contextmanager
def shown_or_not() -> Iterator[None]:
    """A server that is away for a while costs a picture of the work, not the work."""
    try:
        yield
    except httpx.HTTPError as error:
        log.warning("an artifact was not updated: %s", error or type(error).__name__)


def key_of(region: Region, what: str) -> str:
    """The stable key of an artifact; Prefect's keys have no underscores."""
    return f"{region.name}-{what}".replace("_", "-")


def tell(region: Region, report: RunReport) -> State[Any]:
    """The run's artifacts are there: report, tile x date, link to the map; and events of what is new.

    Returns:
        The state the run ends in.
    """
    create_markdown_artifact(
        markdown(region, report),
        key=key_of(region, f"{report.verb}-report"),
        description=f"{report.verb} for {report.day}",
    )
    try:
        rows = tile_date_table(region)
    except VsatError as error:  # a full disk, a lost bucket, or whatever has just ended the run: the state says so
        log.warning("no table of images: %s", error)
        rows = []
    if rows:
        create_table_artifact(rows, key=key_of(region, "images"), description="virtual images by date and tile")
    create_link_artifact(*map_of(region), key=key_of(region, "map"), description="where the images can be looked at")
    if report.generate:
        tell_images(region, report.generate)
    kind, name = STATES[report.exit_code]
    return kind(name=name, message=report.outcome)


def tell_outcome(region: Region, verb: str, day: date, error: VsatError) -> State[Any]:
    """The same for a run that an error ended."""
    return tell(region, RunReport.of_error(verb, region.name, day, error))


def map_of(region: Region) -> tuple[str, str]:
    """Link and text: the region in the viewer that VSAT_VIEWER_URL names, else the page beside its images."""
    text, page = f"map of {region.name}", region.home / "images" / MAP
    viewer = urlsplit(os.environ.get("VSAT_VIEWER_URL", "").strip())
    if viewer.netloc:
        host, path = viewer.netloc.rpartition("@")[2], viewer.path.rstrip("/") + "/"
        return urlunsplit((viewer.scheme, host, path, urlencode({"region": region.name}), "")), text
    return (page.as_uri() if isinstance(page, Path) else str(page)), text


def run_name() -> str:
    """`nightly demo 2024-05-02`: the flow, what it is about, the days."""
    context = FlowRunContext.get()
    given = dict(flow_run.parameters)
    form = given.get("request", {})
    given |= form.model_dump() if isinstance(form, BaseModel) else form
    days = [str(given[name]) for name in ("start", "end", "day") if given.get(name)] or [str(run_day())]
    flow = context.flow.name if context and context.flow else "run"
    about = [given["region"]] if "region" in given else [*given.get("regions", ()), *given.get("sources", ())]
    about = about or [given[name] for name in ("out",) if name in given]
    dry = ["dry run"] if given.get("dry_run") else []
    return " ".join([flow, *(Path(str(one)).stem for one in about), *days, *dry])


def exit_code(state: State[Any]) -> ExitCode:
    """What a process says that ran a flow, from the state it ended in."""
    by_name = {name: code for code, (_, name) in STATES.items()} | {"NothingToDo": ExitCode.DONE}
    if state.name in by_name:
        return by_name[state.name]
    failure = state.result(raise_on_failure=False)
    return failure.exit_code if isinstance(failure, VsatError) else ExitCode.FAILED
