"""The work pool, the deployments of prefect.yaml for given region files, and the automations.

`python -m flows.deploy regions/farm.yaml`, with PREFECT_API_URL naming the server; repeating it is harmless.
"""

import argparse
import copy
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import get_client

from flows.automations import automate
from vsat.config import load_region

PROJECT = Path(__file__).parents[1]
POOL = "vsat"
TEMPLATE_FILE, TEMPLATE_HOME = "regions/demo.yaml", "var/demo"  # as prefect.yaml writes them
TRIAL_PENDING_WITHIN = timedelta(seconds=60)
TRAINING = ("flows.train.train", "flows.retrain.retrain")
NIGHTLY = "flows.nightly.nightly"
# Runs at once of all regions, besides a backfill in its own lane: thirty whose night begins at the same minute would ask
# the archive for more than it likes, and fill the memory. The other ones wait in the queue, where waiting costs nothing;
# limits by tags of tasks cost seconds a task (docs/log.md).
NIGHTS_AT_ONCE = 4
BACKFILL_PRIORITY = "5"  # behind the default queue's 1: the night is never late for a backfill


@dataclass(frozen=True)
class Pools:
    """Where runs are done.

    Attributes:
        kind: of the pools: process, or kubernetes.
        template: file of the pool's base job template; none for Prefect's own.
        gpu: name of a second pool, in which models are trained; "" for the same one.
        gpu_template: of that pool.
    """

    kind: str = "process"
    template: Path | None = None
    gpu: str = ""
    gpu_template: Path | None = None


def deployments(
    template: dict[str, Any], region: Path, *, every_s: int | None = None, gpu_pool: str = ""
) -> list[dict[str, Any]]:
    """The deployments of prefect.yaml for one region.

    Args:
        template: the content of prefect.yaml.
        region: its file.
        every_s: nightly runs on this interval instead of by cron.
        gpu_pool: the pool that trains, "" for the one of all.
    """
    made: list[dict[str, Any]] = copy.deepcopy(template["deployments"])
    wanted = load_region(region)
    for deployment in made:
        deployment["name"] = wanted.name
        deployment["work_pool"]["job_variables"] = {"command": shlex.join([sys.executable, "-m", "prefect.engine"])}
        deployment["parameters"] = _placed(deployment["parameters"], str(region.absolute()), str(wanted.home))
        if gpu_pool and deployment["entrypoint"] in TRAINING:
            deployment["work_pool"] |= {"name": gpu_pool, "work_queue_name": "default"}
        if every_s and deployment["entrypoint"] == NIGHTLY:
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


def deploy(regions: list[Path], *, every_s: int | None = None, pools: Pools = Pools()) -> None:
    """Work pools, queues and deployments exist afterwards, on the server that PREFECT_API_URL names."""
    template = yaml.safe_load((PROJECT / "prefect.yaml").read_text("utf-8"))
    template["deployments"] = [
        one for path in regions for one in deployments(template, path, every_s=every_s, gpu_pool=pools.gpu)
    ]
    template["pull"] = [{"prefect.deployments.steps.set_working_directory": {"directory": str(PROJECT)}}]
    _create_pool(POOL, pools.kind, pools.template)
    if pools.gpu:
        _create_pool(pools.gpu, pools.kind, pools.gpu_template)
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
    _limit_runs()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "prefect.yaml"
        file.write_text(yaml.safe_dump(template), "utf-8")
        _prefect("deploy", "--all", "--prefect-file", str(file))
    if every_s:
        automate(night_within=timedelta(seconds=max(120, 10 * every_s)), pending_within=TRIAL_PENDING_WITHIN)
    else:
        automate()


def _limit_runs() -> None:
    """The lane of the nights has a limit; one that was set in the UI stays."""
    with get_client(sync_client=True) as client:
        lane = client.read_work_queue_by_name("default", work_pool_name=POOL)
        if lane.concurrency_limit is None:
            client.update_work_queue(lane.id, concurrency_limit=NIGHTS_AT_ONCE)


def _create_pool(name: str, kind: str, template: Path | None) -> None:
    given = ["--base-job-template", str(template.resolve())] if template else []
    _prefect("work-pool", "create", name, "--type", kind, *given, "--overwrite")


def _prefect(*words: str, may_fail: bool = False) -> None:
    done = subprocess.run([sys.executable, "-m", "prefect", "--no-prompt", *words], cwd=PROJECT, check=False)
    if done.returncode and not may_fail:  # a queue that exists already is what was wanted
        raise SystemExit(done.returncode)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("regions", nargs="+", type=Path)
    parser.add_argument("--every-s", type=int, default=None, help="run nightly every so many seconds")
    parser.add_argument("--pool-type", default="process", help="process (default) or kubernetes")
    parser.add_argument("--pool-template", type=Path, default=None, help="base job template of the pool")
    parser.add_argument("--gpu-pool", default="", help="a second pool, in which models are trained")
    parser.add_argument("--gpu-pool-template", type=Path, default=None, help="base job template of that pool")
    options = parser.parse_args()
    chosen = Pools(options.pool_type, options.pool_template, options.gpu_pool, options.gpu_pool_template)
    deploy(options.regions, every_s=options.every_s, pools=chosen)
