"""The flow `sample`: draw stratified training patches from the cubes of regions."""

from pathlib import Path
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.settings import STATES, TURN_S, begin, coarse, run_name, runner, work
from vsat.core.sampling import Rule
from vsat.errors import VsatError
from vsat.io.ledger import lease
from vsat.stages.sample import SampleOptions, finish_sample, plan_sample, plan_survey
from vsat.stages.sample_report import markdown
from vsat.stages.shards import sample_one
from vsat.stages.survey import light, survey_one

survey_tiles = coarse(survey_one, name="survey tiles")
write_shards = coarse(sample_one, name="write shards")


@flow(name="sample", flow_run_name=run_name, task_runner=runner(), persist_result=False)
def sample(
    regions: list[str],
    out: str,
    patches: int = 2000,
    size_px: int = 64,
    days: int = 180,
    step_days: int = 30,
    rule: Rule = "equal",
    seed: int = 0,
) -> State[Any]:
    """The patch store at `out` holds the patches asked for, or those and what has grown since.

    Args:
        regions: paths of region files, or their names in the folder of region files.
        out: the store's folder.
        patches: how many to draw.
        size_px: pixels a side.
        days: length of a patch in time.
        step_days: a stretch of time begins every so many days.
        rule: what a stratum gets: equal, proportional to its size, or neyman, size times variability.
        seed: of the draw.
    """
    wanted = [begin(name) for name in regions]
    options = SampleOptions(patches=patches, size_px=size_px, days=days, step_days=step_days, rule=rule, seed=seed)
    try:
        with lease(Path(out), "sample", wait_s=TURN_S):
            surveys = plan_survey(wanted, Path(out), options)
            work(survey_tiles, [light(job) for job in surveys], region=wanted[0], of="tiles to survey")
            plan = plan_sample(surveys, Path(out), options)
            receipts = work(write_shards, (*plan.mending, *plan.jobs), region=wanted[0], of="shards of patches")
            report = finish_sample(Path(out), options, plan, receipts)
    except VsatError as error:
        kind, name = STATES[error.exit_code]
        return kind(name=name, message=str(error))
    key = f"{wanted[0].name}-sample-report".replace("_", "-")
    create_markdown_artifact(markdown(report), key=key, description=f"{report.patches} patches in {out}")
    return Completed(message=f"{report.patches} patches, {report.new} of them new")
