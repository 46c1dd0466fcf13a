"""The local stack of `vsat up`: Prefect server, worker and deployments as child processes, all on 127.0.0.1."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from vsat.errors import VsatError

POOL = "vsat"
START_S = 120.0  # the server's first start makes its database: 10 to 20 seconds on two busy cores
STOP_S = 15.0


@dataclass(frozen=True)
class Addresses:
    """Where the stack answers, and the environment in which `prefect` commands reach it."""

    ui: str
    api: str
    log_folder: Path
    environment: dict[str, str]


@contextmanager
def stack(
    regions: Sequence[Path], folder: Path, *, port: int = 4200, every_s: int | None = None
) -> Iterator[Addresses]:
    """A running server and worker with the four deployments of every region; all end with the block or this process.

    Args:
        regions: region files; each gets deployments fetch, generate, nightly and backfill named after it.
        folder: Prefect's home and the logs go here.
        port: of the server on 127.0.0.1; 0 takes a free one.
        every_s: run nightly every so many seconds instead of once a night.

    Raises:
        VsatError: the port is taken, or the server or a deployment did not come up; the message names the log.
    """
    folder = folder.resolve()
    (folder / "logs").mkdir(parents=True, exist_ok=True)
    port = _checked_port(port)
    api = f"http://127.0.0.1:{port}/api"
    environment = _environment(folder, api)
    with ExitStack() as running:
        server = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
        process = running.enter_context(child(server, folder / "logs" / "server.log", environment))
        _wait_for(f"{api}/health", process, folder / "logs" / "server.log")
        interval = ["--every-s", str(every_s)] if every_s else []
        deploy = [
            sys.executable,
            "-m",
            "flows.deploy",
            "--alone",
            *interval,
            *(str(path.resolve()) for path in regions),
        ]
        _run(deploy, folder / "logs" / "deploy.log", environment)
        worker = [sys.executable, "-m", "prefect", "--no-prompt", "worker", "start", "--pool", POOL]
        running.enter_context(child(worker, folder / "logs" / "worker.log", environment))
        yield Addresses(f"http://127.0.0.1:{port}", api, folder / "logs", environment)


def _checked_port(port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            step = "stop what listens there, or give another with --port"
            raise VsatError(f"port {port} is taken", place="127.0.0.1", next_step=step) from error
        return int(probe.getsockname()[1])


def _environment(folder: Path, api: str) -> dict[str, str]:
    """Ours without the caller's PREFECT_ settings, and what FACTS of operation ask for."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return kept | {
        "DO_NOT_TRACK": "1",
        "PREFECT_API_URL": api,
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_LOGGING_EXTRA_LOGGERS": "vsat",
        "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        # no page of another site in the same browser can start runs or read them
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": api.removesuffix("/api"),
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "true",
        "PREFECT_WORKER_QUERY_SECONDS": "5",
    }


@contextmanager
def child(command: Sequence[str], log: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is interrupted at the end of the block, then killed; it dies with this process in any case."""
    with log.open("ab") as out:
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
            preexec_fn=_dies_with_parent,  # noqa: PLW1509 - two system calls, safe beside threads
        )
    try:
        yield process
    finally:
        _stop(process)


def _dies_with_parent() -> None:
    # A process started in the background of a script inherits SIGINT ignored, and a worker would then never stop.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _stop(child: subprocess.Popen[bytes]) -> None:
    for number, wait_s in ((signal.SIGINT, STOP_S), (signal.SIGKILL, STOP_S)):
        if child.poll() is None:
            # The whole group: a worker's flow runs are children of their own.
            os.killpg(child.pid, number)
            try:
                child.wait(wait_s)
            except subprocess.TimeoutExpired:
                continue


def _wait_for(url: str, child: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and child.poll() is None:
        try:
            if requests.get(url, timeout=2).ok:
                return
        except requests.RequestException:
            time.sleep(0.3)
    raise VsatError("the Prefect server did not come up", place=str(log), next_step="read the end of that log")


def _run(command: Sequence[str], log: Path, environment: dict[str, str]) -> None:
    with log.open("ab") as out:
        done = subprocess.run(
            command, stdout=out, stderr=subprocess.STDOUT, env=environment, timeout=START_S, check=False
        )
    if done.returncode:
        problem = f"{' '.join(command[1:3])} ended with {done.returncode}"
        raise VsatError(problem, place=str(log), next_step="read the end of that log")


def wait_until_stopped() -> None:
    """Returns when this process is asked to stop, by Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        signal.pause()
    except KeyboardInterrupt:
        return
