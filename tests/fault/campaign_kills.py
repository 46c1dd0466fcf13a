"""kill -9 at every write of fetch, sample, generate and publish, and at random moments of `vsat nightly`.

    python tests/fault/campaign_kills.py --record

After each death a reader looks at the store, and then the same run, started again, must leave byte for byte what an
undisturbed one leaves. While a night runs, and dies, the reader looks on. The nights are the real verb with its threads, in
processes forked from one that has loaded it, so that the moments, uniform in time, fall into the work.
"""

import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from fault import figures, killer
from fault.generating import LAST
from fault.nights import changed, draw, fetch_days, put, regenerate, vsat
from fault.sound import DOUBLED, LOST, MIXED, Seen, content, faults, see, told
from fault.worlds import LATER, SIGKILLED, Run, World, copy_of, empty, revise, world

from regions import END, START
from vsat.hls import BANDS
from vsat.io import archive
from vsat.io.patch_reader import PatchStore
from vsat.io.patches import MANIFEST
from vsat.io.publish import read_image
from vsat.stages.fetch import fetch
from vsat.stages.verify import verify

FETCH_END = date(2023, 5, 8)
SAMPLE_END = date(2023, 6, 14)
KILLED_AGAIN = 0.25  # of the deaths of a night the share after which its repetition is killed, too
MOMENTS = 200
PAUSE_S = 0.2  # of the reader between two looks
Row = dict[str, str | int | float]


@dataclass
class Count:
    """What came of one kind of work."""

    work: str
    writes: int = 0
    deaths: int = 0
    looks: int = 0
    unlike: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    told: list[str] = field(default_factory=list)

    def add(self, found: list[tuple[str, str]]) -> None:
        """One look of a reader, and what was wrong with it."""
        self.looks += 1
        self.kinds.update(kind for kind, _ in found)
        self.told += [f"{self.work}: {kind}: {what}" for kind, what in found]

    def compare(self, found: object, wanted: object) -> None:
        """A run that came to its end, and an undisturbed one."""
        if found != wanted:
            self.unlike += 1
            self.told.append(f"{self.work}: unlike: {_difference(found, wanted)}")

    def __add__(self, other: "Count") -> "Count":
        return Count(
            self.work, self.writes, self.deaths + other.deaths, self.looks + other.looks, self.unlike + other.unlike,
            self.kinds + other.kinds, self.told + other.told,
        )  # fmt: skip

    @property
    def is_good(self) -> bool:
        """Nothing at all was wrong, and it was tried."""
        return self.deaths > 0 and not self.told

    @property
    def row(self) -> Row:
        """For the table."""
        writes: Row = {"writes": self.writes} if self.writes else {}
        return {"work": self.work} | writes | {
            "deaths": self.deaths, "looks of a reader": self.looks, "mixed states": self.kinds[MIXED],
            "lost or doubled": self.kinds[LOST] + self.kinds[DOUBLED], "reruns that differ": self.unlike,
        }  # fmt: skip


def everywhere(
    count: Count, prepare: Callable[[Path], Path], home: Path, work: Callable[..., object], args: tuple[object, ...],
    *, look: Callable[[Path], Seen] = see, keep: Callable[[Path], object] = content, step: int, until: float,
) -> Count:  # fmt: skip
    """Kill `work` at every `step`-th write.

    Args:
        count: takes what came of it.
        prepare: makes the folder given, as it is before the work.
        home: that folder; it is gone afterwards.
        work, args: what is killed.
        look: what a reader sees of the folder.
        keep: what must be the same after a repetition.
    """
    before = look(prepare(home))
    count.writes = killer.run_killed(killer.NEVER, home, work, *args) or 0
    after, wanted = look(home), keep(home)
    shutil.rmtree(home)
    count.deaths = killer.kill_everywhere(
        lambda: prepare(home), work, lambda _: args, lambda home: count.add(faults(look(home), before, after)),
        lambda home: count.compare(keep(home), wanted), step=step, until=until,
    )  # fmt: skip
    shutil.rmtree(home, ignore_errors=True)
    print(count.row, file=sys.stderr, flush=True)
    return count


def kill_fetch(world: World, step: int, until: float) -> list[Count]:
    """First scenes, then one of them revised."""
    region, before = world.at("fetch"), world.at("fetched")
    later = Path(shutil.copytree(world.archive, world.folder / "later"))
    revise(later, 0)
    with archive.serve(world.archive) as endpoint:
        args = (region, endpoint, START, FETCH_END)
        first = everywhere(Count("fetch, first"), empty, region.home, fetch_days, args, step=step, until=until)
        fetch_days(before, endpoint, START, FETCH_END)
    with archive.serve(later) as endpoint:
        args, prepare = (region, endpoint, START, FETCH_END), copy_of(before.home)
        again = everywhere(
            Count("fetch, a scene revised"), prepare, region.home, fetch_days, args, step=step, until=until
        )
    return [first, again]


def kill_sample(world: World, step: int, until: float) -> list[Count]:
    """A patch store, then a part that is added to it."""
    region, out, first = world.at("sample"), world.folder / "killed", world.folder / "first"
    fetch(region, START, SAMPLE_END)
    rows = [
        everywhere(
            Count("sample, first"), empty, out, draw, (region, out), look=patches, keep=kept, step=step, until=until
        )
    ]
    draw(region, first)
    fetch(region, START, END)
    args, prepare = (region, out), copy_of(first)
    rows.append(
        everywhere(
            Count("sample, a part added"), prepare, out, draw, args, look=patches, keep=kept, step=step, until=until
        )
    )
    return rows


def patches(out: Path) -> Seen:
    """The patches that a reader gets, part by part."""
    seen = Seen()
    if (out / MANIFEST).exists():
        store = PatchStore(out)
        seen.faults += [(MIXED, problem) for problem in store.verify()]
        for number, part in enumerate(store.parts):
            digest = hashlib.sha256()
            for n in range(part.columns["count"].size):
                patch = store.read(part.first + n)
                digest.update(patch.refl_tbyx.tobytes() + patch.fmask_tyx.tobytes())
            seen.units[f"part/{number}"] = digest.hexdigest()
    return seen


def kept(out: Path) -> dict[str, str]:
    """A patch store's files, without the report, which names its folder, and what dead writers left aside."""
    found = content(out)
    return {
        name: digest
        for name, digest in found.items()
        if not name.startswith("report") and not name.endswith(".partial")
    }


def kill_generate(world: World, step: int, until: float) -> list[Count]:
    """First images, then the same as final."""
    region, fetched, before = world.at("generate"), world.at("all"), world.at("made")
    fetch(fetched, START, END)
    prepare = copy_of(fetched.home)
    first = everywhere(
        Count("generate, first"), prepare, region.home, regenerate, (region, LAST), step=step, until=until
    )
    prepare(before.home)
    regenerate(before, LAST)
    args, prepare = (region, END), copy_of(before.home)
    return [
        first,
        everywhere(Count("generate, as final"), prepare, region.home, regenerate, args, step=step, until=until),
    ]


def kill_publish(world: World, step: int, until: float) -> list[Count]:
    """Images of all bands with catalogue, table and map; then other pixels in their place."""
    made, region, before = world.at("six"), world.at("publish"), world.at("published")
    made = made.model_copy(update={"bands": BANDS})
    fetch(made, START, FETCH_END)
    regenerate(made, LAST)
    (grid,) = made.grids()
    images = [read_image(made.home, grid.tile, day) for day in (START, LAST)]
    first = everywhere(Count("publish, first"), empty, region.home, put, (region, images, END), step=step, until=until)
    put(before, images, END)
    others, prepare = [changed(image) for image in images], copy_of(before.home)
    again = everywhere(
        Count("publish, in place of others"), prepare, region.home, put, (region, others, END), step=step, until=until
    )
    return [first, again]


def kill_nights(world: World, seed: int, moments: int, until: float, lanes: int = 1) -> list[Count]:
    """`vsat nightly` killed at random moments: the first night of a region, and one that finds revised scenes and makes
    images final; so many lanes side by side, each with a store of its own."""
    before, rows = world.earlier(), list[Count]()
    with archive.serve(world.archive) as endpoint, ThreadPoolExecutor(lanes) as pool:
        for kind, prepare in (("first", empty), ("scenes revised, images final", copy_of(before))):
            work = f"nightly, {kind}"
            for lane in range(lanes):
                world.file(f"night-{lane}", endpoint)
            wanted = [moments // 2 // lanes + (lane < moments // 2 % lanes) for lane in range(lanes)]
            done = pool.map(
                lambda lane: _kill_night(world, lane, Count(work), prepare, seed, wanted[lane], until),  # noqa: B023
                range(lanes),
            )
            rows.append(sum(done, Count(work)))
    return rows


def _kill_night(
    world: World, lane: int, count: Count, prepare: Callable[[Path], Path], seed: int, moments: int, until: float
) -> Count:
    region, said, rng = world.at(f"night-{lane}"), world.folder / f"said-{lane}", np.random.default_rng([seed, lane])
    words = ("nightly", str(world.folder / f"night-{lane}.yaml"), "--day", str(LATER))
    home, tiles = region.home, [grid.tile for grid in region.grids()]
    before = see(prepare(home))
    took = _to_its_end(words, said)
    after, wanted = see(home), (content(home), told(home, tiles))
    assert verify(region).problems == ()
    shutil.rmtree(home)
    while count.deaths < moments and time.monotonic() < until:
        prepare(home)
        while True:
            night, moment = Run(words, said), float(rng.uniform(0, took))
            night.kill_after(moment)
            while night.is_alive:
                count.add(faults(see(home), before, after))
                time.sleep(PAUSE_S)
            code, _ = night.end()
            if code != SIGKILLED:  # it was faster than the moment
                assert code == 0, night.said
                break
            count.deaths += 1
            count.add(faults(see(home), before, after))
            if rng.random() > KILLED_AGAIN:
                seconds = _to_its_end(words, said)
                took = (
                    (took + seconds) / 2 if moment < took / 5 else took
                )  # so much of a night at the machine's present pace
                break
        count.compare((content(home), told(home, tiles)), wanted)
        shutil.rmtree(home)
    return count


def _to_its_end(words: tuple[str, ...], said: Path) -> float:
    """Seconds that `vsat WORDS` takes undisturbed."""
    run = Run(words, said)
    code, seconds = run.end()
    assert code == 0, run.said
    return seconds


def _difference(found: object, wanted: object) -> str:
    if isinstance(found, tuple) and isinstance(wanted, tuple):
        return "; ".join(_difference(*pair) for pair in zip(found, wanted, strict=True) if pair[0] != pair[1])
    if isinstance(found, dict) and isinstance(wanted, dict):
        return ", ".join(str(key) for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key))[:500]
    return "another"


def kill_writes(folder: Path, step: int, until: float) -> list[Count]:
    """Every `step`-th write of each stage, the stages side by side."""
    stages = (kill_fetch, kill_sample, kill_generate, kill_publish)
    with ThreadPoolExecutor(len(stages)) as pool:
        done = pool.map(lambda kill: kill(world(folder / kill.__name__), step, until), stages)
        return [row for rows in done for row in rows]


def main() -> None:
    parser = figures.arguments(__doc__)
    parser.add_argument("--only", choices=("writes", "moments"), help="one of the two tables")
    parser.add_argument("--lanes", type=int, default=2, help="nights that run, and die, side by side")
    given = parser.parse_args()
    os.environ["VSAT_WORKERS"] = "2"
    killer.nursery(vsat.__module__)
    until, missed = time.monotonic() + 60 * given.minutes, False
    with tempfile.TemporaryDirectory(prefix="vsat-kills-") as name:
        for only, place in (("writes", "kills"), ("moments", "kills-nightly")):
            if given.only not in (None, only):
                continue
            folder, command = Path(name) / only, f"python tests/fault/campaign_kills.py --only {only}"
            if only == "writes":
                found = kill_writes(folder, 25 if given.small else 1, until)
                least = 1 if given.small else sum(count.writes for count in found)
            else:
                least = 8 if given.small else MOMENTS
                found = kill_nights(world(folder), given.seed, least, until, given.lanes)
                command += f" --seed {given.seed}"
            print(*(line for count in found for line in count.told[:20]), sep="\n", file=sys.stderr)
            ok = all(count.is_good for count in found) and sum(count.deaths for count in found) >= least
            try:
                figures.record(place, command, [count.row for count in found], ok, write=given.record)
            except SystemExit:
                missed = True
    sys.exit(missed)


if __name__ == "__main__":
    main()
