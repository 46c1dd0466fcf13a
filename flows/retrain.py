"""The flow `retrain`: fine-tune a region's model, and promote it where the judge finds it better."""

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.clock import run_day
from flows.settings import STATES, begin, key_of, run_name
from flows.train import USUAL, Pace
from flows.train import run as train_apart
from vsat.config import Region
from vsat.errors import VsatError

if TYPE_CHECKING:
    from vsat.stages.train import TrainPlan


@flow(name="retrain", flow_run_name=run_name, persist_result=False)
def retrain(
    region: str,
    day: date | None = None,
    pace: Pace = USUAL,
    folds: int = 2,
) -> State[Any]:
    """The day's checkpoint is trained and judged, and in use where it is the better one; a killed run goes on.

    Args:
        region: path of the region file, or its name in the folder of region files.
        day: names the checkpoint; by default the day of the run's schedule.
        pace: see Pace; the seed is that of the draws too.
        folds: how often the judge draws targets.
    """
    wanted = begin(region)
    try:
        outcome, told = retrained(wanted, day or run_day(), pace, folds)
    except VsatError as error:
        kind, name = STATES[error.exit_code]
        return kind(name=name, message=str(error))
    create_markdown_artifact(told, key=key_of(wanted, "retrain-report"), description=outcome)
    return Completed(message=outcome)


@task(name="retrain and judge", persist_result=False, cache_policy=NO_CACHE)
def retrained(region: Region, day: date, pace: Pace, folds: int) -> tuple[str, str]:
    """A line and the Markdown of what came of it."""
    from vsat.stages.retrain import RetrainOptions  # here, for torch takes seconds to import, and deploying needs none
    from vsat.stages.retrain import retrain as stage

    report = stage(region, day, RetrainOptions(**pace.model_dump(), folds=folds), train=in_processes)
    return report.outcome, report.markdown()


def in_processes(plan: "TrainPlan", out: Path) -> None:
    """Train by `vsat train`, on all GPUs of the machine; its pace for a given checkpoint is that of the plan."""
    asked = plan.options
    pace = Pace(
        optimizer=asked.optimizer, steps=asked.steps, batch=asked.batch, minutes=asked.minutes,
        patience=asked.patience, held_out=plan.held_out, seed=asked.seed,
    )  # fmt: skip
    arguments = ["--out", str(out), "--init", str(plan.init), "--prior", *pace.arguments()]
    for store in plan.patches:
        arguments += ["--patches", str(store)]
    train_apart(arguments)
