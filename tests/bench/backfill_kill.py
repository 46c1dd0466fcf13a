"""A year of the demo region by backfill, started from its deployment; server, worker and flow are killed on the way.

First the same without kills, on a store of its own. Prints seconds, kills, and how often each scene and image was recorded.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from killable import Killable, until  # noqa: E402
from watched import ended_twice, recorded, watch  # noqa: E402

from regions import write_archive  # noqa: E402
from vsat.config import Region, load_region  # noqa: E402
from vsat.io.jobs import JobTable  # noqa: E402
from vsat.io.scenes import ledger_path  # noqa: E402
from vsat.stages.status import region_status  # noqa: E402
from vsat.stages.verify import verify  # noqa: E402

LIMIT_S = 3600


def region_in(folder: Path, archive: Path, method: str) -> Path:
    """The demo region with a store of its own."""
    told = yaml.safe_load((ROOT / "regions" / "demo.yaml").read_text("utf-8"))
    told |= {"method": method, "store": str(folder / "var"), "catalogue": {"kind": "archive", "path": str(archive)}}
    folder.mkdir(parents=True)
    path = folder / "demo.yaml"
    path.write_text(yaml.safe_dump(told), "utf-8")
    return path


def backfill_year(path: Path, kills: int, seed: int) -> None:
    """Start it, kill it so often after a random number of receipts, and print how it ended."""
    region, rng = load_region(path), random.Random(seed)
    watch(region.home)
    live = Killable(path.parent / "stack")
    try:
        live.start_server()
        live.run("flows.deploy", str(path))
        live.start_worker()
        begin, outages = time.monotonic(), 0.0
        request = {"start": str(region.period.start), "end": str(region.period.end)}
        live.run("prefect", "--no-prompt", "deployment", "run", "backfill/demo", "-p", f"request={json.dumps(request)}")
        for number in range(kills):
            have = len(recorded(region.home))
            wanted = have + rng.randint(5, 40)
            until(lambda wanted=wanted: len(recorded(region.home)) >= wanted, LIMIT_S, "more receipts", every=0.01)
            died, killed = time.monotonic(), live.kill()
            print(
                f"  kill {number + 1}: {killed} processes after {len(recorded(region.home))} receipts; {units(region)}"
            )
            live.start_server()
            live.run("flows.resume")
            live.start_worker()
            outages += time.monotonic() - died
        until(lambda: live.states("backfill")[0][0] in ("Completed", "WorkFailed"), LIMIT_S, "its end")
        took = time.monotonic() - begin
        state, starts = live.states("backfill")[0]
    finally:
        live.kill()
    count = recorded(region.home)
    print(f"  {state} after {starts} starts, {took:.1f} s, of them {outages:.1f} s to start again; {units(region)}")
    print(
        f"  receipts of {dict(Counter(kind for kind, _ in count))}; written so often: {dict(Counter(count.values()))}"
    )
    status, problems = region_status(region), verify(region).problems
    print(f"  images {status['images']}, scenes {status['scenes']}, problems {len(problems)}")
    print(f"  units that ended twice: {len(ended_twice(region.home))}")


def units(region: Region) -> str:
    """The states of the newest request's units."""
    with JobTable(ledger_path(region.home)) as table:
        rows = table.rows(table.requests()[-1])
    return "units " + ", ".join(
        f"{count} {state}" for state, count in sorted(Counter(row.state for row in rows).items())
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", help="not needed: the archive is written here")
    parser.add_argument("--kills", type=int, nargs="+", default=[0, 4], help="of each run, one after the other")
    parser.add_argument("--method", default="blend+scene")
    parser.add_argument("--seed", type=int, default=5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        archive = folder / "archive"
        region = load_region(region_in(folder / "first", archive, given.method))
        write_archive(region, region.period.start, region.period.end or region.period.start)
        for kills in given.kills:
            print(f"{kills} kills, {given.method}")
            backfill_year(region_in(folder / f"kills-{kills}", archive, given.method), kills, given.seed)
        shutil.rmtree(folder / "first")
