"""Two runs at once on one region, or on the same ground: nights, a night and a backfill, draws of patches, clocks hours off.

    python tests/fault/campaign_writers.py --record

In each round two real runs of `vsat` begin at random moments, so that they overlap, while a reader looks on. A run that
finds another at work may refuse with a message; what it was to do is then done by a next run. In the end the store must be
what one run after the other leaves, byte for byte, with every receipt and watermark: anything else is a lost update.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from fault import figures, killer
from fault.nights import SAMPLING, vsat
from fault.sound import Seen, content, faults, see, told
from fault.worlds import EARLIER, LATER, Run, World, copy_of, empty, world

from regions import START
from vsat.config import Region, load_region
from vsat.io import archive
from vsat.io.catalog import Endpoint
from vsat.io.jobs import JobTable
from vsat.io.scenes import ledger_path
from vsat.stages.fetch import fetch
from vsat.stages.verify import verify

BETWEEN = date(2023, 6, 20)
SMALLER = "[14.203, 48.102, 14.2118, 48.1077]"  # inside the tiny region
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1"
ROUNDS = {"one night twice": 25, "a night and the next": 25, "a night and a backfill": 20,
          "two regions on the same ground": 10, "two draws into one patch store": 10,
          "one night twice, a clock hours off": 10}  # fmt: skip
REFUSED = "is already running"
PAUSE_S = 0.2  # of the reader between two looks
State = tuple[Any, ...]
Words = tuple[str, ...]


@dataclass
class Tally:
    """What came of one kind of meeting."""

    meeting: str
    rounds: int = 0
    overlaps: int = 0
    refused: int = 0
    lost: int = 0
    looks: int = 0
    told: list[str] = field(default_factory=list)

    @property
    def row(self) -> dict[str, str | int | float]:
        """For the table."""
        return {
            "at once": self.meeting, "rounds": self.rounds, "overlapped": self.overlaps, "runs refused": self.refused,
            "lost updates": self.lost, "looks of a reader": self.looks, "mixed states": len(self.told) - self.lost,
        }  # fmt: skip


@dataclass(frozen=True)
class Meeting:
    """Two runs, and what they meet on.

    Attributes:
        name: for the table.
        runs: the words of both.
        prepare: makes the stores anew, as they are before a round.
        state: what the stores hold; equal after every round.
        looked: (what a reader sees now, all that it may see), None where nobody looks.
        next_run: words of a run that follows in any case.
        shifted: hours that the second run's clock is off, at most.
        any_image: an image may be made between two fetches of one run, from the scenes there are.
    """

    name: str
    runs: tuple[Words, Words]
    prepare: Callable[[], object]
    state: Callable[[], State]
    looked: Callable[[], Seen] | None = None
    next_run: Words | None = None
    shifted: int = 0
    any_image: bool = False


def hold(meeting: Meeting, rng: np.random.Generator, rounds: int, until: float) -> Tally:
    """So many rounds of a meeting."""
    with tempfile.TemporaryDirectory(prefix="vsat-meeting-") as folder:
        return _hold(meeting, Path(folder), rng, rounds, until)


def _hold(meeting: Meeting, folder: Path, rng: np.random.Generator, rounds: int, until: float) -> Tally:
    tally, seen = Tally(meeting.name), list[Seen]()

    def look() -> None:
        if meeting.looked:
            tally.looks += 1
            found = faults(meeting.looked(), *seen, any_image=meeting.any_image)
            tally.told += [f"{meeting.name}: {kind}: {what}" for kind, what in found]

    def note() -> None:
        seen.extend([meeting.looked()] if meeting.looked else [])

    meeting.prepare()
    note()
    took = []
    for words in (*meeting.runs, *([meeting.next_run] if meeting.next_run else [])):
        took.append(_to_its_end(words, folder))
        note()
    wanted = meeting.state()
    if meeting.next_run or meeting.looked:  # the other order passes through other states
        meeting.prepare()
        for words in meeting.runs[::-1]:
            _to_its_end(words, folder)
            note()
    while tally.rounds < rounds and time.monotonic() < until:
        meeting.prepare()
        first = Run(meeting.runs[0], folder / "one")
        wait_s = float(rng.uniform(0, took[0]))
        begun = time.monotonic()
        while time.monotonic() - begun < wait_s:
            look()
            time.sleep(PAUSE_S)
        tally.overlaps += first.is_alive
        second = _second(meeting, folder / "two", rng)
        while first.is_alive or second.is_alive:
            look()
            time.sleep(PAUSE_S)
        for run, words in ((first, meeting.runs[0]), (second, meeting.runs[1])):
            code, _ = run.end()
            if code != 0:
                assert REFUSED in run.said, run.said
                tally.refused += 1
                if meeting.next_run is None:
                    _to_its_end(words, folder)
        if meeting.next_run:
            _to_its_end(meeting.next_run, folder)
        tally.rounds += 1
        if meeting.state() != wanted:
            tally.lost += 1
            tally.told.append(f"{meeting.name}: lost: round {tally.rounds}, after {wait_s:.2f} s")
    print(tally.row, file=sys.stderr, flush=True)
    return tally


class _Shifted(Run):
    """`vsat WORDS` in a fresh process whose clock is off; the kernel's own clocks are right."""

    def __init__(self, words: Words, folder: Path, hours: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._said = folder / "said"
        self._begun = time.monotonic()
        off = {"LD_PRELOAD": FAKETIME, "FAKETIME": f"{hours:+.2f}h", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        with self._said.open("wb") as said:
            command = [sys.executable, "-m", "vsat.cli", *words]
            self._running = subprocess.Popen(command, stdout=said, stderr=said, env=os.environ | off)

    @property
    def is_alive(self) -> bool:
        return self._running.poll() is None

    def end(self) -> tuple[int, float]:
        return self._running.wait(), time.monotonic() - self._begun


def _second(meeting: Meeting, folder: Path, rng: np.random.Generator) -> Run:
    if meeting.shifted:
        return _Shifted(meeting.runs[1], folder, float(rng.uniform(-meeting.shifted, meeting.shifted)))
    return Run(meeting.runs[1], folder)


def _to_its_end(words: Words, folder: Path) -> float:
    run = Run(words, folder / "alone")
    code, seconds = run.end()
    assert code == 0, run.said
    return seconds


def meetings(world: World, before: Path, endpoint: Endpoint) -> list[Meeting]:
    """All of them, on one world; `before` is its earlier store. Each has stores of its own."""
    names = list(ROUNDS)
    found = [
        _on_one_region(world, before, endpoint, names[0], "night", "night"),
        _on_one_region(world, before, endpoint, names[1], "between", "night", is_followed=True),
        _on_one_region(world, before, endpoint, names[2], "backfill", "night", any_image=True),
        _same_ground(world, endpoint, names[3]),
        _same_patches(world, endpoint, names[4]),
    ]
    if Path(FAKETIME).exists():
        found.append(_on_one_region(world, before, endpoint, names[5], "night", "night", shifted=12))
    return found


def _on_one_region(
    world: World, before: Path, endpoint: Endpoint, name: str, first: str, second: str, *, is_followed: bool = False,
    any_image: bool = False, shifted: int = 0,
) -> Meeting:  # fmt: skip
    place = name.replace(" ", "-")
    region, file = world.at(place), str(world.file(place, endpoint))
    words: dict[str, Words] = {
        "night": ("nightly", file, "--day", str(LATER)),
        "between": ("nightly", file, "--day", str(BETWEEN)),
        "backfill": ("backfill", file, "--day", str(LATER), "--start", str(START), "--end", str(LATER)),
    }

    def prepare() -> None:
        shutil.rmtree(region.home.parent, ignore_errors=True)
        copy_of(before)(region.home)

    def state() -> State:
        assert verify(region).problems == ()
        return content(region.home), told(region.home, tiles_of(region)), _jobs(region)

    def looked() -> Seen:
        return see(region.home)

    next_run = words["night"] if is_followed else None
    return Meeting(name, (words[first], words[second]), prepare, state, looked, next_run, shifted, any_image)


def _same_ground(world: World, endpoint: Endpoint, name: str) -> Meeting:
    """Two regions that overlap, from one archive, in one folder of stores."""
    one = world.file("ground", endpoint)
    other = one.with_name("other.yaml")
    area = "[14.2, 48.1, 14.2118, 48.1077]"
    other.write_text(one.read_text().replace("name: tiny", "name: other").replace(area, SMALLER))
    regions = [load_region(path) for path in (one, other)]
    first, second = (("nightly", str(path), "--day", str(EARLIER)) for path in (one, other))

    def prepare() -> None:
        shutil.rmtree(world.folder / "ground", ignore_errors=True)
        empty(world.folder / "ground")

    def state() -> State:
        assert all(verify(region).problems == () for region in regions)
        return tuple((content(region.home), told(region.home, tiles_of(region))) for region in regions)

    return Meeting(name, (first, second), prepare, state)


def _same_patches(world: World, endpoint: Endpoint, name: str) -> Meeting:
    region, out = world.at("drawn"), world.folder / "patches"
    fetch(region, START, EARLIER)
    words = ("sample", str(world.file("drawn", endpoint)), "--out", str(out), *SAMPLING)
    return Meeting(name, (words, words), lambda: shutil.rmtree(out, ignore_errors=True), lambda: (content(out),))


def tiles_of(region: Region) -> list[str]:
    """The region's tiles."""
    return [grid.tile for grid in region.grids()]


def _jobs(region: Region) -> set[str]:
    """The states of the units of all backfills."""
    with closing(JobTable(ledger_path(region.home))) as table:
        return {row.state for request in table.requests() for row in table.rows(request)}


def run(folder: Path, seed: int, *, small: bool, lanes: int, until: float) -> list[Tally]:
    """All rounds; `small` is two of each kind."""
    os.environ["VSAT_WORKERS"] = "2"
    killer.nursery(vsat.__module__)  # once, before the lanes ask for it at the same time
    made = world(folder)
    before = made.earlier()
    with archive.serve(made.archive) as endpoint:
        planned = meetings(made, before, endpoint)
        with ThreadPoolExecutor(lanes) as pool:
            rounds = [2 if small else ROUNDS[meeting.name] for meeting in planned]
            rngs = [np.random.default_rng([seed, number]) for number in range(len(planned))]
            return list(pool.map(lambda *given: hold(*given, until), planned, rngs, rounds))


def main() -> None:
    parser = figures.arguments(__doc__)
    parser.add_argument("--lanes", type=int, default=2, help="kinds of meetings side by side")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vsat-writers-") as folder:
        until = time.monotonic() + 60 * given.minutes
        found = run(Path(folder), given.seed, small=given.small, lanes=given.lanes, until=until)
    print(*(line for tally in found for line in tally.told[:20]), sep="\n", file=sys.stderr)
    rounds = sum(tally.rounds for tally in found)
    ok = not any(tally.told for tally in found) and (given.small or rounds >= 100)
    command = f"python tests/fault/campaign_writers.py --seed {given.seed}"
    figures.record("writers", command, [tally.row for tally in found], ok, write=given.record)


if __name__ == "__main__":
    main()
