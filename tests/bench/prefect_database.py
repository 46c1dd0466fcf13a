"""Ten flow runs at once on Prefect's server, with SQLite and with PostgreSQL: seconds, and lines "database is locked"."""

import argparse
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from crowd import RUNS, crowd
from postgres import cluster

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--shared", help="not used here")
parser.add_argument("--tasks", type=int, default=60, help="of the runs that only cost orchestration")
options = parser.parse_args()

print("| runs | database | seconds | completed | database is locked |\n|---|---|---|---|---|")
with tempfile.TemporaryDirectory() as folder:
    for name, tasks in ((f"{RUNS} backfills", 0), (f"{RUNS} x {options.tasks} tasks", options.tasks)):
        for kind in ("SQLite", "PostgreSQL"):
            place = Path(folder) / f"{kind}-{tasks}"
            if kind == "SQLite":
                found = crowd(place, tasks=tasks)
            else:
                with cluster("prefect", connections=100) as database:
                    url = f"postgresql+asyncpg://postgres:none@127.0.0.1:{database['PGPORT']}/prefect"
                    found = crowd(place, url, tasks=tasks)
            completed = found.states.count("Completed")
            print(f"| {name} | {kind} | {found.seconds} | {completed} of {RUNS} | {found.locked} |", flush=True)
