"""Two hundred nights, one after the other, at five per cent faults: every date complete in the end, memory and files flat.

    python tests/fault/campaign_nights.py --record

One night a day over an archive that grows, comes late and is revised, behind a STAC API on loopback. Of all requests for
files and pages the given share fails, in any of the ways of the field; of the searches that come through, as many have an
answer that is not complete; and of the nights, as many each find the catalogue down, cannot read some files at all, or are
killed at one of their writes. All nights but the killed ones run in one process, whose memory, open files and threads are
looked at after each. At the end the images are compared, byte by byte, with those of a single run that saw everything at
once and undisturbed.
"""

import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

from bench.nights import START, World, digests, files_of, make_world, write_region
from fault import figures, killer
from fault.one_night import State, night, nights
from faulty import Fault, flipped, hang, html, reset, serving, status, truncated, wrong_range

from vsat.config import load_region
from vsat.errors import ExitCode
from vsat.io.durable import PARTIAL
from vsat.io.images import KIND
from vsat.io.ledger import Ledger
from vsat.io.scenes import ledger_path
from vsat.stages.verify import verify

NIGHTS, FIRST, SHARE = 200, 9, 0.05  # nights; of them the first so many days after START; share of faults
MOST_GROWTH = 0.10  # of resident memory, the last third of the nights over the first
MOST_WRITES = 60  # that a night is killed at; one that has fewer comes to its end
FAULTS: dict[str, Callable[[bytes], Fault]] = {
    "429": lambda _: status(429, Retry_After="1"),
    "503": lambda _: status(503, Retry_After="1"),
    "500": lambda _: status(500),
    "400": lambda _: status(400),
    "reset": lambda _: reset,
    "hang": lambda _: hang(1.0),
    "truncated": lambda body: truncated(len(body) // 2),
    "cut short": lambda body: truncated(len(body) // 2, honest=True),
    "HTML": lambda _: html(),
    "bit flip": lambda body: flipped(len(body) // 3) if body else status(500),
    "wrong range": lambda _: wrong_range,
}
INCOMPLETE = ("lost next", "page again", "wrong count")


@dataclass
class Trouble:
    """What goes wrong tonight, decided by the seed, the path and how often it was asked for, not by threads' luck."""

    seed: int
    share: float
    world: World
    night: int = 0
    is_down: bool = False
    unreadable: frozenset[str] = frozenset()
    asked: Counter[str] = field(default_factory=Counter)
    done: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, number: int, paths: Sequence[str]) -> random.Random:
        """The next night; returns chance for what else may happen in it."""
        rng = random.Random(f"{self.seed}/{number}")
        self.night, self.is_down = number, rng.random() < self.share
        self.unreadable = frozenset(rng.sample(paths, len(paths) // 20) if rng.random() < self.share else ())
        self.done["catalogue down"] += self.is_down
        self.done["unreadable files"] += bool(self.unreadable)
        return rng

    def answer(self, handler: Any, body: bytes, headers: dict[str, str]) -> None:
        """Answer a request, well or badly."""
        path = urlsplit(handler.path).path
        with self.lock:
            self.asked[path] += 1
            rng = random.Random(f"{self.seed}/{path}/{self.asked[path]}")
            name = self._fault(path, rng)
            self.done[name or "good"] += 1
        if not name:
            handler.send_good(body, headers)
        elif name in FAULTS:
            FAULTS[name](body)(handler, body, headers)
        else:
            handler.answer(503 if path in self.unreadable else 404, b"")  # the latter is not tried again for a minute

    def _fault(self, path: str, rng: random.Random) -> str:
        is_catalogue = path in ("/", "/search")
        if (self.is_down and is_catalogue) or path in self.unreadable:
            return "down"
        return rng.choice(sorted(FAULTS)) if rng.random() < self.share else ""

    def pages(self, query: dict[str, str]) -> Any:
        """A page of a search, with what may be wrong with complete-looking answers."""
        with self.lock:
            self.asked["pages"] += 1
            rng = random.Random(f"{self.seed}/pages/{self.asked['pages']}")
            catalogue = self.world.catalogue
            catalogue.lose_next = catalogue.repeat = catalogue.claims = 0
            if rng.random() < self.share:
                wrong = rng.choice(INCOMPLETE)
                self.done[wrong] += 1
                catalogue.lose_next = int(wrong == "lost next")
                catalogue.repeat = int(wrong == "page again")
                catalogue.claims = 3 * int(wrong == "wrong count")
            return self.world.pages(query)


@dataclass(frozen=True)
class Outcome:
    """What came of all nights."""

    codes: Counter[ExitCode]
    killed: int
    trouble: Counter[str]
    states: tuple[State, ...]
    dates: int
    final: int
    unlike: int
    problems: tuple[str, ...]
    leftovers: int

    def rows(self) -> list[dict[str, figures.Cell]]:
        """For the table."""
        requests = sum(self.trouble[name] for name in ("good", "down", *FAULTS))
        faults = requests - self.trouble["good"]
        told: dict[str, figures.Cell] = {
            "nights": len(self.states) + self.killed,
            "of them killed": self.killed,
            "catalogue down": self.trouble["catalogue down"],
            "with unreadable files": self.trouble["unreadable files"],
            "requests": requests,
            "of them failed": f"{faults} ({100 * faults / requests:.1f} %)",
            "incomplete pages": sum(self.trouble[name] for name in INCOMPLETE),
            "nights by exit code": ", ".join(f"{int(code)}: {count}" for code, count in sorted(self.codes.items())),
            "dates": self.dates,
            "of them final in the end": self.final,
            "files unlike an undisturbed run's": self.unlike,
            "problems found by verify": len(self.problems),
            "leftovers of killed writers": self.leftovers,
            "memory, first and last third (MB)": self._thirds("rss_mb", "{:.1f}"),
            "connections kept open, first and last third": self._thirds("connections", "{:.0f}"),
            "open files, first and last third": self._thirds("files", "{:.0f}"),
            "threads, first and last third": self._thirds("threads", "{:.0f}"),
        }
        return [{"what": name, "found": value} for name, value in told.items()]

    @property
    def is_good(self) -> bool:
        """Every date final and as it should be; nothing grows."""
        whole = self.dates == self.final and not self.unlike and not self.problems
        return whole and self.growth("rss_mb") <= MOST_GROWTH and max(map(self.growth, ("files", "threads"))) <= 0

    def growth(self, name: str) -> float:
        """The median of the last third over that of the first, less 1."""
        first, last = self._medians(name)
        return last / first - 1 if first else last

    def _medians(self, name: str) -> tuple[float, float]:
        values = [float(getattr(state, name)) for state in self.states]
        third = max(1, len(values) // 3)
        return median(values[:third]), median(values[-third:])

    def _thirds(self, name: str, form: str) -> str:
        first, last = self._medians(name)
        return f"{form.format(first)}, {form.format(last)} ({100 * self.growth(name):+.1f} %)"


def campaign(
    folder: Path, *, count: int, seed: int, every_days: int = 1, share: float = SHARE, minutes: float = 60.0
) -> Outcome:
    """So many nights over an archive that has as many days, and what came of them.

    Args:
        folder: for everything.
        count: how many nights.
        seed: of all that goes wrong.
        every_days: from one to the next.
        share: of requests, pages and nights that go wrong.
        minutes: nights that have not begun by then do not.
    """
    step, until = timedelta(every_days), time.monotonic() + 60 * minutes
    first_day = START + timedelta(FIRST)
    last_day = first_day + (count - 1) * step
    end = _last_to_be_final(last_day)
    world = make_world(folder, end, cycles=0, step=step)
    world.catalogue.size = 12  # so that a search has several pages
    trouble = Trouble(seed, share, world)
    states, codes, killed = list[State](), Counter[ExitCode](), 0
    with serving(files_of(world), pages=trouble.pages) as server:
        paths = sorted(server.state.files)
        for path in ("/", "/search", *paths):
            server.always(path, trouble.answer)
        file = write_region(folder, f"{{kind: stac, url: '{server.url}'}}", end, folder / "many")
        home = _home(file)
        home.mkdir(parents=True)
        context = killer.nursery(night.__module__)
        mine, theirs = context.Pipe()
        process = context.Process(target=nights, args=(theirs,))
        process.start()
        theirs.close()
        for number in range(count):
            if time.monotonic() > until:
                break
            day = first_day + number * step
            world.day = _standing(day)
            rng = trouble.begin(number, paths)
            if rng.random() < share and killer.run_killed(rng.randint(1, MOST_WRITES), home, night, file, day) is None:
                killed += 1
                continue
            mine.send((file, day))
            code, state = mine.recv()
            codes[code] += 1
            states.append(state)
        mine.send(None)
        process.join()
    return _outcome(folder, file, last_day, codes, killed, trouble.done, states)


def _home(file: Path) -> Path:
    return Path(str(load_region(file).home))


def _standing(day: date) -> Callable[[], date]:
    """A clock that stands still."""
    return lambda: day


def _last_to_be_final(last_day: date) -> date:
    """The last day of the newest month whose images become final four nights before the last one."""
    day = last_day - timedelta(20 + 4)
    return day if (day + timedelta(1)).day == 1 else day.replace(day=1) - timedelta(1)


def _outcome(
    folder: Path, file: Path, last_day: date, codes: Counter[ExitCode], killed: int, trouble: Counter[str],
    states: Sequence[State],
) -> Outcome:  # fmt: skip
    region = load_region(file)
    source = f"{{kind: archive, path: {folder / 'archive'}}}"
    alone = write_region(folder, source, region.period.end or last_day, folder / "alone")
    assert night(alone, last_day) == ExitCode.DONE
    with Ledger(ledger_path(region.home)) as ledger:
        receipts = ledger.all(KIND)
    problems = verify(region).problems
    unlike = dict(digests(_home(file))).items() ^ dict(digests(_home(alone))).items()
    return Outcome(
        codes,
        killed,
        trouble,
        tuple(states),
        len(region.dates(last_day)) * len(region.grids()),
        sum(receipt.facts["status"] == "final" for receipt in receipts),
        len({name for name, _ in unlike}),
        tuple(problem for problem in problems if PARTIAL not in problem),
        sum(PARTIAL in problem for problem in problems),
    )


def main() -> None:
    """Run, print, record."""
    given = figures.arguments(__doc__).parse_args()
    with TemporaryDirectory(prefix="vsat-nights-", ignore_cleanup_errors=True) as folder:
        size: dict[str, int] = {"count": 20, "every_days": 3} if given.small else {"count": NIGHTS}
        found = campaign(Path(folder), **size, seed=given.seed, minutes=given.minutes)
    for problem in found.problems:
        sys.stderr.write(f"{problem}\n")
    for number, state in enumerate(found.states):
        if number % 10 == 0:
            sys.stderr.write(f"night {number}: {state}\n")
    figures.record(
        "nights", "python tests/fault/campaign_nights.py --record", found.rows(), found.is_good, write=given.record
    )


if __name__ == "__main__":
    main()
