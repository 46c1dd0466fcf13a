"""Jobs for the tests of clusters, in a module that worker processes can import."""

import logging
import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from vsat.errors import AccessError

log = logging.getLogger("vsat.tests")


@dataclass(frozen=True)
class Held:
    """A job that leaves a mark when it begins and ends only when the file `go` is there."""

    folder: Path
    number: int


def hold(job: Held) -> tuple[int, int]:
    """The job's number and the process that did it."""
    (job.folder / f"begun-{job.number}-{os.getpid()}").touch()
    deadline = time.monotonic() + 120
    while not (job.folder / "go").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return job.number, os.getpid()


def process(number: int) -> int:
    """Who does it; one line is logged."""
    log.info("job %d", number)
    time.sleep(0.05)
    return os.getpid()


def refuse(number: int) -> int:
    """The third of the jobs is refused."""
    if number == 2:
        raise AccessError("HTTP 401", place="granule 2", next_step="renew the token")
    return number


def load(number: int) -> tuple[int, int, int]:
    """Process and thread that use the model, and torch's threads there."""
    import torch

    from vsat.stages.models import model_of

    model_of("anydate")
    time.sleep(0.1)
    return os.getpid(), threading.get_ident(), torch.get_num_threads()


def loads() -> int:
    """How often this process has read a model's weights."""
    from vsat.model.checkpoint import _loaded

    return _loaded.cache_info().misses


def end_worker(number: int) -> int:
    """As when memory runs out: the kernel ends the process."""
    os.kill(os.getpid(), signal.SIGKILL)
    return number
