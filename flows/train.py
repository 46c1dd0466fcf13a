"""The flow `train`: train the any-date model from synthetic records, patch stores, or both."""

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed
from pydantic import BaseModel, Field

from flows.settings import STATES, run_name
from vsat.errors import InputError, VsatError

log = logging.getLogger(__name__)

CARD = "README.md"
LAST_LINES = 12


class Pace(BaseModel):
    """How long and how fast to train."""

    optimizer: Literal["sophia", "adamw", "muon"] = "sophia"
    steps: int | None = Field(default=None, ge=1, description="of the optimiser, at most; none for the usual number")
    batch: int = Field(default=32, ge=1, description="patches in a batch, of each process")
    minutes: float | None = Field(default=None, description="save and stop after so many")
    patience: int | None = Field(default=5, ge=1, description="looks at the held-out patches without a gain, then stop")
    held_out: int = Field(default=384, ge=1, description="patches that decide when to stop")
    seed: int = Field(default=0, ge=0, description="of weights, order, gaps and what is judged")

    def arguments(self) -> list[str]:
        """The same for the command line."""
        given = self.model_dump(exclude_none=True)
        return [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))]


USUAL = Pace()


def gpus() -> int:
    """How many GPUs this machine has: asked in a process of its own, for torch would stay in this one."""
    asked = subprocess.run(
        [sys.executable, "-c", "import torch; print(torch.cuda.device_count())"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return int(asked.stdout or 0) if asked.returncode == 0 else 0


def command(arguments: list[str], *, processes: int) -> list[str]:
    """`vsat train` as a process, or under torchrun as one for each GPU."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return [sys.executable, *(torchrun if processes > 1 else []), "-m", "vsat.cli", "train", *arguments]


@task(name="train", persist_result=False, cache_policy=NO_CACHE)
def run(arguments: list[str]) -> None:
    """Train in processes of their own: a crash, or a GPU out of memory, ends them and not the worker."""
    done = subprocess.run(command(arguments, processes=gpus()), capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        log.info(line)
    if done.returncode:
        said = " / ".join(line for line in done.stderr.splitlines()[-LAST_LINES:] if line.strip())
        raise InputError(f"training ended with code {done.returncode}: {said}", place="train", next_step="see the log")


@flow(name="train", flow_run_name=run_name, persist_result=False)
def train(
    out: str,
    patches: list[str] | None = None,
    prior: bool = False,
    init: str | None = "anydate",
    size: Literal["tiny", "small", "base", "large"] = "tiny",
    pace: Pace = USUAL,
) -> State[Any]:
    """The checkpoint at `out` is trained; a run that was killed goes on where it was.

    Args:
        out: the checkpoint's folder.
        patches: folders of patch stores to learn from.
        prior: learn from synthetic records too; with neither, from these alone.
        init: a checkpoint to begin with: a folder, a hub id, or anydate; none for random weights.
        size: of a model that begins with random weights.
        pace: see Pace.
    """
    arguments = ["--out", out, "--size", size, *pace.arguments(), *(["--prior"] if prior else [])]
    for store in patches or ():
        arguments += ["--patches", store]
    arguments += ["--init", init] if init is not None else []
    try:
        run(arguments)
    except VsatError as error:
        kind, name = STATES[error.exit_code]
        return kind(name=name, message=str(error))
    card = (Path(out) / CARD).read_text("utf-8")
    create_markdown_artifact(card.split("---\n", 2)[-1], key="train-card", description=f"the checkpoint in {out}")
    return Completed(message=f"trained: {out}")
