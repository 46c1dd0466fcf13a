"""Ten backfills at once on one Prefect server: how long they take, and whether the server's database keeps up.

`python tests/crowd.py FOLDER [tasks]` is the client, in a process of its own, against the server of PREFECT_API_URL.
"""

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from postgres import free_port

from regions import START, TEXT, tiny, write_region
from vsat.config import load_region
from vsat.io import archive
from vsat.processes import Part, running

RUNS = 10
END = START.replace(day=20)
LOCKED = "database is locked"


@dataclass(frozen=True)
class Crowd:
    """What ten runs at once gave: seconds, the states they ended in, and lines of the server about a locked database."""

    seconds: float
    states: tuple[str, ...]
    locked: int
    tables: str


def crowd(folder: Path, database: str = "", *, tasks: int = 0) -> Crowd:
    """Ten backfills of regions of their own, started at once, on a server of their own.

    Args:
        folder: for the server, the regions and the logs.
        database: of the server, as SQLAlchemy writes it; "" for SQLite.
        tasks: instead of a backfill, a flow of so many tasks that do nothing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    port, log = free_port(), folder / "server.log"
    api = f"http://127.0.0.1:{port}/api"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")} | {
        "DO_NOT_TRACK": "1",
        "PREFECT_API_URL": api,
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_EXTRA_LOGGERS": "vsat",
        "VSAT_WORKERS": "2",
    }
    store = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": database} if database else {}
    command = (sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port))
    with running(Part("server", command, environment | store, log, takes_all=True)) as server:
        until = time.monotonic() + 400
        while not _answers(f"{api}/health"):
            assert server.process.poll() is None and time.monotonic() < until, log.read_text()[-2000:]
            time.sleep(0.3)
        client = [sys.executable, __file__, str(folder), str(tasks)]
        done = subprocess.run(client, env=environment, capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        told = json.loads(done.stdout.splitlines()[-1])
    said = log.read_text(errors="replace") + done.stderr
    kept = "SQLite" if list((folder / "prefect").glob("*.db")) else "elsewhere"
    return Crowd(told["seconds"], tuple(told["states"]), said.count(LOCKED), kept)


def _answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=2).ok
    except requests.RequestException:
        return False


def main(folder: Path, tasks: int) -> None:
    """The client: ten runs, begun together."""
    if tasks:
        print(json.dumps(_together([_idle(tasks)] * RUNS)))
        return
    from flows.backfill import backfill
    from vsat.stages.request import BackfillRequest

    request = BackfillRequest(start=START, end=END)
    root = load_region(tiny(folder / "made")).catalogue.path
    assert root is not None
    with archive.serve(root) as endpoint:
        catalogue = f"kind: stac, url: '{endpoint.url}', hosts: {json.dumps(endpoint.hosts)}"
        text = TEXT.replace("kind: archive, path: archive", catalogue)
        files = [write_region(folder, f"farm{at}", text=text) for at in range(RUNS)]
        runs = [lambda file=file: backfill(str(file), request, return_state=True) for file in files]
        print(json.dumps(_together(runs)))


def _together(runs: list[Any]) -> dict[str, Any]:
    began = time.monotonic()
    with ThreadPoolExecutor(RUNS) as pool:
        states = [job.result() for job in [pool.submit(_ended, run) for run in runs]]
    return {"seconds": round(time.monotonic() - began, 1), "states": states}


def _ended(run: Any) -> str:
    """The state a run ended in; or what the server said that lost it, such as 503 for a database that stays locked."""
    from prefect.exceptions import PrefectHTTPStatusError

    try:
        return str(run().name)
    except PrefectHTTPStatusError as error:
        return f"lost, HTTP {error.response.status_code}"


def _idle(tasks: int) -> Any:
    from prefect import flow, task

    one = task(name="nothing")(lambda at: None)

    @flow(name="crowd")
    def several() -> None:
        for future in [one.submit(at) for at in range(tasks)]:
            future.result()

    return lambda: several(return_state=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
