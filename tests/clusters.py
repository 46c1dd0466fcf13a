"""A Dask cluster of real processes on loopback: one scheduler and some workers, as their commands start them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

TESTS = Path(__file__).parent
WITH_VERSION = "import vsat; vsat.__version__ = '{}'; from distributed.cli.dask_worker import main; main()"


@dataclass
class Cluster:
    """A running scheduler; its workers by process."""

    address: str
    folder: Path
    environment: Mapping[str, str]
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def add_worker(self, *, threads: int = 1, version: str = "") -> subprocess.Popen[bytes]:
        """One more worker process; with `version` it believes to be that vsat."""
        start = ["-c", WITH_VERSION.format(version)] if version else ["-m", "distributed.cli.dask_worker"]
        options = ["--nthreads", str(threads), "--no-nanny", "--no-dashboard", "--host", "127.0.0.1"]
        options += ["--memory-limit", "0", "--local-directory", str(self.folder)]
        log = (self.folder / f"worker-{len(self.workers)}.txt").open("wb")
        command = [sys.executable, *start, self.address, *options]
        process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log, cwd=self.folder)
        self.workers.append(process)
        return process


@contextmanager
def cluster(folder: Path, *, workers: int = 2, threads: int = 1, **settings: str) -> Iterator[Cluster]:
    """`dask scheduler` and so many times `dask worker`; they may not have found each other yet.

    Args:
        folder: for their files and logs.
        workers: processes.
        threads: of each.
        settings: Dask's own, such as DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [str(TESTS.parent), str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])]
    # one thread for libraries that spin: there are as many workers as cores
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", **settings}
    told = folder / "scheduler.json"
    options = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--no-show", "--scheduler-file", str(told)]
    with (folder / "scheduler.txt").open("wb") as log:
        command = [sys.executable, "-m", "distributed.cli.dask_scheduler", *options]
        scheduler = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
    made: Cluster | None = None
    try:
        made = Cluster(_address(told, scheduler), folder, environment)
        for _ in range(workers):
            made.add_worker(threads=threads)
        yield made
    finally:
        for process in [*(made.workers if made else ()), scheduler]:
            process.kill()
            process.wait(30)


def _address(told: Path, scheduler: "subprocess.Popen[bytes]", patience_s: float = 120) -> str:
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline and scheduler.poll() is None:
        try:
            return str(json.loads(told.read_text())["address"])
        except (OSError, ValueError):
            time.sleep(0.1)
    raise AssertionError((told.parent / "scheduler.txt").read_text())
