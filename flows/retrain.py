"""The flow `retrain`: fine-tune a region's model, and promote it where the judge finds it better."""

from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.clock import run_day
from flows.settings import STATES, begin, key_of, run_name
from flows.train import run as train_apart
from vsat.config import Region
from vsat.errors import VsatError

if TYPE_CHECKING:
    from vsat.stages.train import TrainPlan


@flow(name="retrain", flow_run_name=run_name, persist_result=False)
def retrain(
    region: str,
    day: date | None = None,
    optimizer: Literal["sophia", "adamw", "muon"] = "sophia",
    steps: int | None = None,
    batch: int = 32,
    minutes: float | None = None,
    patience: int | None = 5,
    held_out: int = 384,
    folds: int = 2,
    seed: int = 0,
) -> State[Any]:
    """The day's checkpoint is trained and judged, and in use where it is the better one; a killed run goes on.

    Args:
        region: path of the region file, or its name in the folder of region files.
        day: names the checkpoint; by default the day of the run's schedule.
        optimizer: sophia, adamw or muon.
        steps: of the optimiser, at most; none for the usual number.
        batch: patches in a batch, of each process.
        minutes: save and stop after so many.
        patience: looks at the validation patches without a gain, then stop.
        held_out: validation patches that decide when to stop.
        folds: how often the judge draws targets.
        seed: of the training, and of the draws.
    """
    wanted = begin(region)
    given: dict[str, Any] = {
        "optimizer": optimizer, "steps": steps, "batch": batch, "minutes": minutes, "patience": patience,
        "held_out": held_out, "folds": folds, "seed": seed,
    }  # fmt: skip
    try:
        outcome, told = retrained(wanted, day or run_day(), given)
    except VsatError as error:
        kind, name = STATES[error.exit_code]
        return kind(name=name, message=str(error))
    create_markdown_artifact(told, key=key_of(wanted, "retrain-report"), description=outcome)
    return Completed(message=outcome)


@task(name="retrain and judge", persist_result=False, cache_policy=NO_CACHE)
def retrained(region: Region, day: date, given: dict[str, Any]) -> tuple[str, str]:
    """A line and the Markdown of what came of it."""
    from vsat.stages.retrain import RetrainOptions  # here, for torch takes seconds to import, and deploying needs none
    from vsat.stages.retrain import retrain as stage

    report = stage(region, day, RetrainOptions(**given), train=in_processes)
    return report.outcome, report.markdown()


def in_processes(plan: "TrainPlan", out: Path) -> None:
    """Train by `vsat train`, on all GPUs of the machine; its pace for a given checkpoint is that of the plan."""
    asked = plan.options
    arguments = ["--out", str(out), "--init", str(plan.init), "--prior"]
    for store in plan.patches:
        arguments += ["--patches", str(store)]
    values = {
        "optimizer": asked.optimizer, "steps": asked.steps, "batch": asked.batch, "seed": asked.seed,
        "minutes": asked.minutes, "patience": asked.patience, "held-out": plan.held_out,
    }  # fmt: skip
    for name, value in values.items():
        arguments += [f"--{name}", str(value)] if value is not None else []
    train_apart(arguments)
