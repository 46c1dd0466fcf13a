"""The work pool, the deployments of prefect.yaml for given region files, and the automations.

`python -m flows.deploy regions/farm.yaml`, with PREFECT_API_URL naming the server; repeating it is harmless.
"""

import argparse
import copy
import subprocess
import sys
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateType
from prefect.client.schemas.objects import StateType
from prefect.states import Crashed

from flows.automations import automate
from vsat.config import load_region

PROJECT = Path(__file__).parents[1]
POOL = "vsat"
TEMPLATE_FILE, TEMPLATE_HOME = "regions/demo.yaml", "var/demo"  # as prefect.yaml writes them
TRIAL_PENDING_WITHIN = timedelta(seconds=60)
BACKFILL_PRIORITY = "5"  # behind the default queue's 1: the night is never late for a backfill


def deployments(template: dict[str, Any], region: Path, *, every_s: int | None = None) -> list[dict[str, Any]]:
    """The deployments of prefect.yaml for one region; with `every_s` nightly runs on an interval instead of by cron."""
    made: list[dict[str, Any]] = copy.deepcopy(template["deployments"])
    wanted = load_region(region)
    for deployment in made:
        deployment["name"] = wanted.name
        deployment["parameters"] = _placed(deployment["parameters"], str(region.resolve()), str(wanted.home))
        if every_s and "schedules" in deployment:
            deployment["schedules"] = [{"interval": every_s, "slug": "nightly"}]
    return made


def _placed(value: Any, file: str, home: str) -> Any:
    """The template's parameters with its region file and that region's folder replaced by these."""
    if isinstance(value, dict):
        return {key: _placed(one, file, home) for key, one in value.items()}
    if isinstance(value, list):
        return [_placed(one, file, home) for one in value]
    if value == TEMPLATE_FILE:
        return file
    return home + value.removeprefix(TEMPLATE_HOME) if str(value).startswith(TEMPLATE_HOME + "/") else value


def deploy(regions: list[Path], *, every_s: int | None = None, alone: bool = False) -> None:
    """Work pool, queues and deployments exist afterwards, on the server that PREFECT_API_URL names.

    Args:
        regions: region files.
        every_s: run nightly every so many seconds.
        alone: no worker is up yet, so that runs which seem to be at work are not.
    """
    if alone:
        end_orphans()
    template = yaml.safe_load((PROJECT / "prefect.yaml").read_text("utf-8"))
    template["deployments"] = [one for path in regions for one in deployments(template, path, every_s=every_s)]
    template["pull"] = [{"prefect.deployments.steps.set_working_directory": {"directory": str(PROJECT)}}]
    _prefect("work-pool", "create", POOL, "--type", "process", "--overwrite")
    _prefect(
        "work-queue",
        "create",
        "backfill",
        "--pool",
        POOL,
        "--limit",
        "1",
        "--priority",
        BACKFILL_PRIORITY,
        may_fail=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "prefect.yaml"
        file.write_text(yaml.safe_dump(template), "utf-8")
        _prefect("deploy", "--all", "--prefect-file", str(file))
    if every_s:
        automate(night_within=timedelta(seconds=max(120, 10 * every_s)), pending_within=TRIAL_PENDING_WITHIN)
    else:
        automate()


def end_orphans() -> int:
    """Runs that the last worker left behind are Crashed; returns how many.

    Automations watch them only as long as the server is up: after an outage of both, a run that was Pending or Running
    would hold the one place of its deployment for ever.
    """
    busy = FlowRunFilterState(
        type=FlowRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING, StateType.CANCELLING])
    )
    with get_client(sync_client=True) as client:
        left = client.read_flow_runs(flow_run_filter=FlowRunFilter(state=busy))
        for run in left:
            client.set_flow_run_state(run.id, Crashed(message="its worker went down with the server"), force=True)
    return len(left)


def _prefect(*words: str, may_fail: bool = False) -> None:
    done = subprocess.run([sys.executable, "-m", "prefect", "--no-prompt", *words], cwd=PROJECT, check=False)
    if done.returncode and not may_fail:  # a queue that exists already is what was wanted
        raise SystemExit(done.returncode)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("regions", nargs="+", type=Path)
    parser.add_argument("--every-s", type=int, default=None, help="run nightly every so many seconds")
    parser.add_argument("--alone", action="store_true", help="no worker is up yet: runs left by the last one are ended")
    options = parser.parse_args()
    deploy(options.regions, every_s=options.every_s, alone=options.alone)
