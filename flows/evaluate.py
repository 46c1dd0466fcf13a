"""The flow `evaluate`: hide what was seen, fill it with every method, and say how far each is off."""

from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows.settings import STATES, run_name, runner
from vsat.core.protocols import PROTOCOLS
from vsat.errors import VsatError
from vsat.io.durable import write_file
from vsat.methods import DEFAULT_METHOD
from vsat.settings import Settings
from vsat.stages.evaluate import evaluate as run
from vsat.stages.judge_page import markdown, page


@flow(name="evaluate", flow_run_name=run_name, task_runner=runner(), persist_result=False)
def evaluate(
    sources: list[str],
    out: str,
    methods: list[str] | None = None,
    protocols: list[str] | None = None,
    folds: int = 2,
    seed: int = 0,
) -> State[Any]:
    """The verdict lies in `out` as verdict.json and verdict.html, and its headline is the run's artifact.

    Args:
        sources: cubes (.nc, .zarr), patch stores, region files or names.
        out: folder for the verdict.
        methods: to judge; by default the one that images are made with.
        protocols: of dates, masks, gaps, forecast, thinning; by default all.
        folds: how often targets are drawn.
        seed: of the draws.
    """
    try:
        headline, told = judged(sources, Path(out), tuple(methods or ()), tuple(protocols or ()), folds, seed)
    except VsatError as error:
        kind, name = STATES[error.exit_code]
        return kind(name=name, message=str(error))
    key = f"{Path(sources[0]).stem}-judge".replace("_", "-").lower()
    create_markdown_artifact(told, key=key, description=f"judged on {', '.join(sources)}")
    return Completed(message=headline)


@task(name="judge", persist_result=False, cache_policy=NO_CACHE)
def judged(
    sources: list[str], out: Path, methods: tuple[str, ...], protocols: tuple[str, ...], folds: int, seed: int
) -> tuple[str, str]:
    """The verdict is written; returns a line and the Markdown of it."""
    verdict, pictures = run(
        sources, methods=methods or (DEFAULT_METHOD,), protocols=protocols or PROTOCOLS, folds=folds, seed=seed,
        regions_folder=Settings.from_environment().regions,
    )  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    write_file(out / "verdict.json", [verdict.to_json().encode()])
    write_file(out / "verdict.html", [page(verdict, pictures).encode()])
    ratios = [one.ratio for one in verdict.headlines if one.method in verdict.methods]
    line = f"{min(ratios):.2f} to {max(ratios):.2f} of the best classical method" if ratios else "nothing to judge"
    return line, markdown(verdict, pictures)
