"""What orchestration costs, and what a second worker buys: the same night on plain threads, by Prefect and on Dask.

    python tests/bench/orchestration.py [--days 245] [--repeat 3] [--method blend+scene] [--kinds threads,prefect] [--json FILE]

The region is that of regions/demo.yaml, 10 by 10 km, over an archive on this machine. A night fetches every scene of the
stretch and makes an image each eleventh day, into an empty store; one on plain threads without Prefect (`threads`), one
as the Prefect flow against a running server (`prefect`), each with two threads; one with one thread (`one thread`), one
on a Dask cluster of one, of two worker processes (`dask 1`, `dask 2`). They take turns, `--repeat` times each, every
time in a process of its own after a small warm-up.

CPU seconds are user + system of the process, its archive's servers, and of Prefect's server or Dask's scheduler and
workers while the night lasts; they tell more than wall seconds where others use the machine. Overheads are medians
against `threads` (for Dask: `dask 2`, as many threads).
"""

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))
START = date(2023, 4, 1)
WARM = START + timedelta(33)  # images in two months: a job for each of two workers
REGION = """
name: bench
area: {{bbox: [14.2, 48.1, 14.3315, 48.188]}}
period: {{start: {start}, end: {end}}}
catalogue: {{kind: archive, path: {archive}}}
cadence: {{every_days: 11}}
method: {method}
store: {store}
"""
KINDS = ("threads", "prefect", "dask 2", "dask 1", "one thread")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=245)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--method", default="blend+scene", help="the faster it is, the larger the overhead's share")
    parser.add_argument("--kinds", default=",".join(KINDS), help="only these of the runs above")
    parser.add_argument("--archive", type=Path, help="keep the scenes here for the next call")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--shared", type=Path, help="not used: the scenes are synthetic")
    parser.add_argument("--run", nargs=3, metavar=("KIND", "FOLDER", "PROCESSES"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.run:
        kind, folder, processes = given.run
        print(json.dumps(measured(kind, Path(folder), [int(one) for one in processes.split(",") if one])))
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # servers and workers end with it
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as running:
        folder = Path(temporary)
        archive = given.archive or folder / "archive"
        end = START + timedelta(given.days - 1)
        kinds = given.kinds.split(",")
        runs: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
        places = {"prefect": prefect(folder, running)} if "prefect" in kinds else {}
        places |= {f"dask {n}": dask(folder / f"dask-{n}", n, running) for n in (1, 2) if f"dask {n}" in kinds}
        for turn in range(given.repeat):
            for kind in kinds:
                home = folder / f"{turn}-{kind.replace(' ', '-')}"
                for name, last in (("night", end), ("warm", WARM)):
                    place = home / name
                    place.mkdir(parents=True)
                    text = REGION.format(start=START, end=last, archive=archive, method=given.method, store=place)
                    (place / "bench.yaml").write_text(text)
                if not turn and kind == kinds[0]:
                    write_archive(home / "night" / "bench.yaml")
                environment, processes = places.get(kind, ({}, []))
                runs[kind].append(in_turn(kind, home, environment, processes))
                print(f"{kind:>10}  {told(runs[kind][-1])}", file=sys.stderr, flush=True)
    print(table(runs))
    if given.json:
        given.json.write_text(json.dumps(runs, indent=1))


def write_archive(file: Path) -> None:
    from vsat.config import load_region
    from vsat.core.synthetic import Landscape
    from vsat.io.archive import write_synthetic

    region = load_region(file)
    (grid,) = region.grids()
    assert region.catalogue.path and region.period.end
    land = Landscape(7, grid.shape)
    write_synthetic(region.catalogue.path, grid=grid, land=land, start=region.period.start, end=region.period.end)


Place = tuple[dict[str, str], list[int]]


def prefect(folder: Path, running: ExitStack) -> Place:
    """A server of ours; the environment that names it, and its process."""
    import requests

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    api = f"http://127.0.0.1:{port}/api"
    (folder / "prefect").mkdir()
    ours = {
        "PREFECT_API_URL": api, "PREFECT_HOME": str(folder / "prefect"), "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1", "PREFECT_LOGGING_EXTRA_LOGGERS": "vsat", "PREFECT_LOGGING_TO_API_ENABLED": "true",
    }  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")} | ours
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    log = running.enter_context((folder / "server.txt").open("wb"))
    server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    running.callback(lambda: (server.kill(), server.wait(30)))
    deadline = time.monotonic() + 180
    while True:
        assert time.monotonic() < deadline and server.poll() is None, (folder / "server.txt").read_text()
        try:
            if requests.get(f"{api}/health", timeout=5).ok:
                break
        except requests.RequestException:
            time.sleep(0.5)
    return ours, [server.pid]


def dask(folder: Path, workers: int, running: ExitStack) -> Place:
    """A cluster of ours, one thread a worker; the environment that names it, and its processes."""
    from clusters import cluster

    quiet = {"DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "False"}  # else it looks at every thread each 10 ms
    made = running.enter_context(cluster(folder, workers=workers, **quiet))
    processes = [worker.pid for worker in made.workers]
    scheduler = next(one for one in psutil.Process().children() if "distributed.cli.dask_scheduler" in one.cmdline()
                     and str(folder / "scheduler.json") in one.cmdline())  # fmt: skip
    return {"VSAT_DASK_SCHEDULER": made.address}, [scheduler.pid, *processes]


def in_turn(kind: str, home: Path, environment: dict[str, str], processes: Sequence[int]) -> dict[str, float]:
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    threads = "1" if kind == "one thread" else "2"
    full = {**os.environ, "PYTHONPATH": paths, "VSAT_WORKERS": threads, "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, __file__, "--run", kind, str(home), ",".join(map(str, processes))]
    done = subprocess.run(command, env=full, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def measured(kind: str, home: Path, processes: Sequence[int]) -> dict[str, float]:
    """One night, after a small one that imports and compiles what there is to import and compile."""
    night = night_of(kind)
    night(home / "warm" / "bench.yaml", WARM)
    others = [psutil.Process(pid) for pid in processes]

    def spent() -> float:
        times, kept = os.times(), [one.cpu_times() for one in others]
        return sum(times[:4]) + sum(one.user + one.system for one in kept)

    cpu, wall = spent(), time.perf_counter()
    night(home / "night" / "bench.yaml", date(2023, 12, 31))
    return {"cpu": spent() - cpu, "wall": time.perf_counter() - wall}


def night_of(kind: str) -> Callable[[Path, date], Any]:
    if kind == "prefect":
        from flows.nightly import nightly as flow

        def by_flow(file: Path, day: date) -> None:
            state = flow(str(file), day, return_state=True)
            assert state.name == "Completed", state

        return by_flow
    from vsat.config import load_region
    from vsat.stages.nightly import nightly

    def plain(file: Path, day: date) -> None:
        assert nightly(load_region(file), day).exit_code == 0

    return plain


def told(run: dict[str, float]) -> str:
    return f"{run['cpu']:6.1f} CPU s {run['wall']:6.1f} s"


def table(runs: dict[str, list[dict[str, float]]]) -> str:
    middle = {
        kind: {name: statistics.median(run[name] for run in all_) for name in ("cpu", "wall")}
        for kind, all_ in runs.items()
    }
    lines = [f"{kind:>10}  {told(middle[kind])}   of {len(runs[kind])}" for kind in runs]
    for kind in {"prefect", "dask 2"} & set(runs) if "threads" in runs else ():
        more = {name: 100 * (middle[kind][name] / middle["threads"][name] - 1) for name in ("cpu", "wall")}
        lines.append(f"{kind:>10} costs {more['cpu']:+.1f} % CPU, {more['wall']:+.1f} % wall against threads")
    for one, two in (("dask 1", "dask 2"), ("one thread", "threads")):
        if not {one, two} <= set(runs):
            continue
        lines.append(f"{one:>10} -> {two}: {middle[one]['wall'] / middle[two]['wall']:.2f} times as fast")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
