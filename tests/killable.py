"""A Prefect server and a worker that can be killed with all their children, and started again on what they left."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

ROOT = Path(__file__).parents[1]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(wanted: Callable[[], Any], seconds: float, what: str, *, every: float = 0.5) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := wanted():
            return found
        time.sleep(every)
    raise AssertionError(f"not within {seconds} s: {what}")


class Killable:
    """The server answers at `api`; everything it keeps is in `folder`."""

    def __init__(self, folder: Path, *, workers: int = 2) -> None:
        self.folder, self.port = folder, free_port()
        self.api = f"http://127.0.0.1:{self.port}/api"
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        self.environment = kept | {
            "DO_NOT_TRACK": "1", "PREFECT_API_URL": self.api, "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30", "PREFECT_LOGGING_EXTRA_LOGGERS": "vsat",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
            "PREFECT_WORKER_QUERY_SECONDS": "2", "PYTHONPATH": str(ROOT), "VSAT_WORKERS": str(workers),
        }  # fmt: skip
        (folder / "prefect").mkdir(parents=True, exist_ok=True)

    def start_server(self) -> None:
        self._spawn("server", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(self.port))
        until(self._answers, 180, "the server answers")

    def start_worker(self) -> None:
        self._spawn("worker", "prefect", "--no-prompt", "worker", "start", "--pool", "vsat")

    def run(self, *words: str) -> str:
        """`python -m WORDS` with the server's address, to its end."""
        done = subprocess.run(
            [sys.executable, "-m", *words], env=self.environment, cwd=ROOT, capture_output=True, text=True, timeout=180,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def processes(self) -> list[int]:
        """Every process with our home in its environment, but this one: server, worker, flow runs and their children."""
        mark, found = f"PREFECT_HOME={self.folder / 'prefect'}".encode(), []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if mark in path.read_bytes() and int(path.parent.name) != os.getpid():
                    found.append(int(path.parent.name))
            except OSError:  # gone meanwhile, or not ours
                continue
        return found

    def kill(self) -> int:
        """kill -9 for all of them, until none is left; returns how many there were."""
        killed: set[int] = set()
        while left := self.processes():
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            killed |= set(left)
            time.sleep(0.05)
        return len(killed)

    def ask(self, what: str, **body: Any) -> list[dict[str, Any]]:
        answer = requests.post(f"{self.api}/{what}/filter", json=body, timeout=30)
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()
        return found

    def states(self, flow: str) -> list[tuple[str, int]]:
        """(state's name, number of starts) of the runs of a flow, oldest first."""
        runs = self.ask("flow_runs", flows={"name": {"any_": [flow]}}, sort="START_TIME_ASC")
        return [(run["state_name"], run["run_count"]) for run in runs]

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.api}/health", timeout=5).ok
        except requests.RequestException:
            return False

    def _spawn(self, name: str, *words: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as out:
            subprocess.Popen(
                [sys.executable, "-m", *words], env=self.environment, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
