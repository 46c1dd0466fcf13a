"""Nights as people live with them: server, worker and a nightly schedule over an archive that grows, is revised and fails.

    python tests/bench/nights.py --cycles 30

The archive is on loopback, as a STAC API that fails as it is told to. A trial clock makes some days pass from one night
to the next. Scenes appear up to nine days late, every sixth comes again with other pixels, the catalogue is down in every
tenth night, files break off, and in the middle the stack is down for some nights. At the end every date has one final
image, none is missing, none is there twice, all are byte for byte those of a single run that sees the whole archive at
once, no two runs overlapped, and memory stayed flat; the figures are printed.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import requests
from faulty import Catalogue, Server, serving, status, truncated

from vsat.config import load_region
from vsat.core.synthetic import Landscape
from vsat.hls import GranuleId
from vsat.io import archive
from vsat.io.ledger import Ledger
from vsat.io.scenes import ledger_path
from vsat.stack import stack
from vsat.stages.generate import KIND
from vsat.stages.nightly import nightly, up_to
from vsat.stages.status import region_status
from vsat.stages.verify import verify

START = date(2023, 5, 1)
MOST_GROWTH = 0.25  # of resident memory, the last third of the nights over the second
FIRST_S = 45  # the stack takes so long to come up; a night before the first day has nothing to do
REGION = """
name: nights
area: {{bbox: [14.2, 48.1, 14.2118, 48.1077]}}
period: {{start: {start}, end: {end}}}
catalogue: {catalogue}
cadence: {{every_days: 5}}
look_back_days: 20
final_after_days: 20
context_days: 45
method: linear
store: {store}
"""


@dataclass
class World:
    """The archive as it is on a day: items by the day they appear, files by path, and what fails."""

    folder: Path
    items: list[tuple[date, dict[str, Any]]]
    down: set[date]
    step: timedelta  # from one night to the next
    day: Callable[[], date]
    catalogue: Catalogue = field(default_factory=lambda: Catalogue([]))
    refused: int = 0

    def pages(self, query: dict[str, str]) -> Any:
        """A search: what has appeared until today; of two productions of a granule the newer one."""
        today = self.day()
        listed: dict[str, dict[str, Any]] = {}
        for appears, item in self.items:
            if appears <= today:
                listed[item["id"]] = item
        self.catalogue.items = [
            json.loads(json.dumps(one).replace("archive:/", query["host"])) for one in listed.values()
        ]
        return self.catalogue(query)

    def search(self, handler: Any, body: bytes, headers: dict[str, str]) -> None:
        """Answers a search, but not on the days when the catalogue is down."""
        today = self.day()
        if any(bad <= today < bad + self.step for bad in self.down):
            self.refused += 1
            handler.answer(404, b"gone for maintenance")
        else:
            handler.send_good(body, headers)


def make_world(folder: Path, end: date, *, cycles: int, step: timedelta) -> World:
    """Scenes of a synthetic landscape from START to `end`; late ones, revised ones, and nights without a catalogue."""
    region = load_region(write_region(folder, f"{{kind: archive, path: {folder / 'archive'}}}", end, folder / "unused"))
    (grid,) = region.grids()
    land = Landscape(3, grid.shape)
    archive.write_synthetic(folder / "archive", grid=grid, land=land, start=START, end=end)
    items: list[tuple[date, dict[str, Any]]] = []
    for at, item in enumerate(archive.items(folder / "archive")):
        seen = GranuleId.from_string(item["id"]).acquired.date()
        late = (0, 1, 2, 4, 9)[at % 5]
        items.append((seen + timedelta(late), item))
        if at % 6 == 5:  # NASA reprocesses it: other pixels under the same name
            old = folder / "first" / item["id"]
            shutil.copytree(folder / "archive" / item["collection"] / item["id"], old)
            first = json.loads(json.dumps(item).replace(f"archive:/{item['collection']}", "archive:/first"))
            refl, fmask = archive.pixels(folder / "archive", item["id"])
            updated = datetime.fromisoformat(item["properties"]["datetime"]) + timedelta(20)
            archive.revise(
                folder / "archive", item["id"], refl + (refl > 0).astype(refl.dtype) * 40, fmask, updated=updated
            )
            items[-1] = (items[-1][0], first)
            items.append((seen + timedelta(late + 8), archive_item(folder / "archive", item["id"])))
    down = {START + night * step for night in range(3, cycles, 10)}
    return World(
        folder, sorted(items, key=lambda one: (one[0], one[1]["properties"]["updated"])), down, step, lambda: START
    )


def archive_item(folder: Path, name: str) -> dict[str, Any]:
    return next(item for item in archive.items(folder) if item["id"] == name)


def write_region(folder: Path, catalogue: str, end: date, store: Path) -> Path:
    path = folder / f"{store.name}.yaml"
    path.write_text(REGION.format(start=START, end=end, catalogue=catalogue, store=store))
    return path


def files_of(world: World) -> dict[str, bytes]:
    """Every file of the archive by its path on the server, first productions beside the later ones."""
    found = {}
    for path in sorted((world.folder / "archive").rglob("*.tif")):
        found["/" + str(path.relative_to(world.folder / "archive"))] = path.read_bytes()
    for path in sorted((world.folder / "first").rglob("*.tif")):
        found["/first/" + str(path.relative_to(world.folder / "first"))] = path.read_bytes()
    return found


def break_files(server: Server, *, every: int = 15) -> int:
    """Of every so manieth file the first answers break off, so often that a night gives the scene up; returns how many."""
    paths = sorted(path for path in server.state.files if path.endswith(".B04.tif"))[::every]
    for path in paths:
        server.fail(path, *[truncated(100)] * 4, *[status(503)] * 4)
    return len(paths)


@dataclass(frozen=True)
class Figures:
    """What came of it."""

    nights: int
    states: dict[str, int]
    overlapping: int
    slowest_s: float
    median_s: float
    images: int
    final: int
    expected: int
    folders: int
    unlike_single_run: int
    problems: int
    refused_searches: int
    broken_files: int
    scenes: int
    rss_mb: dict[str, list[float]]
    growth: dict[str, float]

    @property
    def is_good(self) -> bool:
        """Every date one final image, as of a single run; no overlap; flat memory of what runs all the time."""
        whole = self.images == self.final == self.expected == self.folders
        grown = max(self.growth[name] for name in ("server", "worker")) > MOST_GROWTH
        return whole and not (self.unlike_single_run or self.overlapping or self.problems or grown)

    def text(self) -> str:
        """For people."""
        flat = ", ".join(f"{name} {values[0]:.0f} to {values[-1]:.0f} MB, last third over second {self.growth[name]:+.1%}"
                         for name, values in self.rss_mb.items())  # fmt: skip
        return (
            f"{self.nights} nights: {', '.join(f'{n} {name}' for name, n in sorted(self.states.items()))}; overlapping: "
            f"{self.overlapping}\nnight: median {self.median_s:.1f} s, slowest {self.slowest_s:.1f} s\n"
            f"{self.scenes} scenes; searches refused {self.refused_searches}, files broken {self.broken_files}\n"
            f"dates {self.expected}, images {self.images}, final {self.final}, folders {self.folders}, unlike a single run "
            f"{self.unlike_single_run}, problems of verify {self.problems}\nmemory: {flat}"
        )


class Watch:
    """Asks the server for runs, and the system for memory, once in a while."""

    def __init__(self, api: str, folder: Path) -> None:
        self.api, self.folder = api, folder
        self.rss: dict[str, list[float]] = {"server": [], "worker": [], "night": []}
        self.runs_seen: list[dict[str, Any]] = []

    def ask(self, what: str, **body: Any) -> Any:
        """`POST /<what>/filter`, as the UI asks."""
        name, _, password = (self.folder / "auth").read_text().strip().partition(":")
        given: dict[str, Any] = {"auth": (name, password), "timeout": 60}
        token = requests.get(f"{self.api}/csrf-token", params={"client": "bench"}, **given).json()["token"]
        headers = {"Prefect-Csrf-Client": "bench", "Prefect-Csrf-Token": token}
        answer = requests.post(f"{self.api}/{what}/filter", json=body, headers=headers, **given)
        answer.raise_for_status()
        return answer.json()

    def runs(self) -> list[dict[str, Any]]:
        """Nights that have begun, in order; those that wait are not among them."""
        wanted = {"type": {"not_any_": ["SCHEDULED"]}}
        found: list[dict[str, Any]] = self.ask(
            "flow_runs", flows={"name": {"any_": ["nightly"]}}, flow_runs={"state": wanted}, sort="START_TIME_ASC"
        )
        return [run for run in found if run["start_time"]]

    def sample(self) -> None:
        """Resident memory of server, worker and the runs' processes, MB."""
        found = list(processes(self.folder))
        for name, words in (("server", "server start"), ("worker", "worker start"), ("night", "prefect.engine")):
            sizes = [rss for rss, command in found if words in command]
            if sizes:
                self.rss[name].append(max(sizes))


def processes(folder: Path) -> Iterator[tuple[float, str]]:
    """Resident MB and command line of the processes of a stack, by the home in their environment."""
    mark = f"PREFECT_HOME={folder / 'prefect'}".encode()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (path / "environ").read_bytes():
                command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                rss = re.search(r"VmRSS:\s+(\d+) kB", (path / "status").read_text())
                yield int(rss[1]) / 1024 if rss else 0.0, command
        except OSError:  # gone meanwhile, or not ours
            continue


@contextmanager
def trial_clock(first: date, since: datetime, day_s: float) -> Iterator[Callable[[], date]]:
    """Inside, and in all processes started there, `first` began at `since` and each day lasts so many seconds."""
    before = os.environ.get("VSAT_TRIAL_CLOCK")
    os.environ["VSAT_TRIAL_CLOCK"] = f"{first}/{since.isoformat()}/{day_s:g}"
    try:
        yield lambda: first + timedelta((datetime.now(UTC) - since).total_seconds() // day_s)
    finally:
        os.environ.pop("VSAT_TRIAL_CLOCK") if before is None else os.environ.update(VSAT_TRIAL_CLOCK=before)


def live(folder: Path, *, cycles: int, every_s: int, missed: int, step_days: int) -> Figures:
    """So many nights on a live stack, one every `every_s` seconds, and what came of them.

    Args:
        folder: for everything.
        cycles: nights of the schedule.
        every_s: seconds between two.
        missed: of the nights, those in the middle for which nothing is up.
        step_days: days from one night to the next.
    """
    step = timedelta(step_days)
    last_day = START + cycles * step
    end = last_of_month(last_day - timedelta(20) - step)  # all images can be final a night before the last
    world = make_world(folder, end, cycles=cycles, step=step)
    with serving(files_of(world), pages=world.pages) as server:
        broken = break_files(server)
        server.always("/search", world.search)
        file = write_region(folder, f"{{kind: stac, url: '{server.url}'}}", end, folder / "live")
        since = datetime.now(UTC) + timedelta(seconds=FIRST_S)
        with trial_clock(START, since, every_s / step_days) as world.day:
            half = START + (last_day - START - missed * step) / 2
            first = _nights(file, folder, every_s, lambda watch: world.day() >= half)
            while missed and world.day() < half + missed * step:
                time.sleep(0.5)
            second = _nights(file, folder, every_s, lambda watch: _is_over(file, watch, last_day))
        runs = second.runs_seen
        rss = {name: first.rss[name] + second.rss[name] for name in first.rss}
    return _figures(folder, file, runs, rss, last_day, world.refused, broken)


def _nights(file: Path, folder: Path, every_s: int, is_over: "Callable[[Watch], bool]") -> "Watch":
    """A stack runs until it is over; returns what was seen."""
    with stack([file], folder / "stack", port=0, viewer_port=0, every_s=every_s) as up:
        watch = Watch(up.api, folder / "stack")
        while not is_over(watch):
            time.sleep(2)
            watch.sample()
        watch.runs_seen = watch.runs()
        return watch


def _is_over(file: Path, watch: "Watch", last_day: date) -> bool:
    done = up_to(load_region(file))
    return done is not None and done >= last_day and not [run for run in watch.runs() if not run["end_time"]]


def _figures(
    folder: Path,
    file: Path,
    runs: list[dict[str, Any]],
    rss: dict[str, list[float]],
    last_day: date,
    refused: int,
    broken: int,
) -> Figures:
    region = load_region(file)
    alone = write_region(
        folder, f"{{kind: archive, path: {folder / 'archive'}}}", region.period.end or last_day, folder / "alone"
    )
    nightly(load_region(alone), last_day)
    with Ledger(ledger_path(region.home)) as ledger:
        receipts = ledger.all(KIND)
    moments = [
        tuple(datetime.fromisoformat(run[key]) for key in ("start_time", "end_time")) for run in runs if run["end_time"]
    ]
    seconds = sorted((end - start).total_seconds() for start, end in moments)
    return Figures(
        nights=len(runs),
        states=dict(Counter(run["state"]["name"] for run in runs)),
        overlapping=sum(later[0] < earlier[1] for earlier, later in pairwise(moments)),
        slowest_s=seconds[-1],
        median_s=seconds[len(seconds) // 2],
        images=len(receipts),
        final=sum(receipt.facts["status"] == "final" for receipt in receipts),
        expected=len(region.dates(last_day)) * len(region.grids()),
        folders=len(list(region.home.glob("images/*/VSAT.*"))),
        unlike_single_run=len(dict(digests(region.home)).items() ^ dict(digests(load_region(alone).home)).items()),
        problems=len(verify(region).problems),
        refused_searches=refused,
        broken_files=broken,
        scenes=sum(region_status(region)["scenes"].values()),
        rss_mb=rss,
        growth={name: growth(values) for name, values in rss.items()},
    )


def digests(home: Path) -> Iterator[tuple[str, str]]:
    """(Path, SHA-256) of all files of images."""
    for path in sorted(home.glob("images/*/VSAT.*/*")):
        yield str(path.relative_to(home)), hashlib.sha256(path.read_bytes()).hexdigest()


def growth(values: list[float]) -> float:
    """The median of the last third over that of the second, less 1."""
    third = max(1, len(values) // 3)
    return median(values[-third:]) / median(values[third : 2 * third] or values) - 1 if values else 0.0


def last_of_month(day: date) -> date:
    """The last day of the month before, or `day` where that is one."""
    return day if (day + timedelta(1)).day == 1 else day.replace(day=1) - timedelta(1)


def main() -> int:
    """Run and print; the exit code is 0 if all is as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", help="not used: the archive is synthetic")
    parser.add_argument("--cycles", type=int, default=30, help="nights")
    parser.add_argument("--every-s", type=int, default=30, help="seconds from one to the next")
    parser.add_argument("--missed", type=int, default=10, help="nights in the middle for which nothing is up")
    parser.add_argument("--step-days", type=int, default=5, help="days from one night to the next")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vsat-nights-", ignore_cleanup_errors=True) as folder:
        folder_path, pace = Path(folder), {"cycles": given.cycles, "every_s": given.every_s}
        figures = live(folder_path, **pace, missed=given.missed, step_days=given.step_days)
    print(figures.text())
    return 0 if figures.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
