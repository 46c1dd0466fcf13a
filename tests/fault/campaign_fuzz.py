"""Hypothesis against all that comes from outside, round after round with new seeds, until the time is over.

    python tests/fault/campaign_fuzz.py --minutes 20 --record

Anything that ends otherwise than in a VsatError, or in an item that is unusable for a reason, is a crash. It is shown with
the smallest input that hypothesis finds for it; the same --seed finds it again.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import hypothesis
from fault import figures
from fault.fuzz_files import HEADERS, fuzz_header
from fault.fuzz_items import CHANGES as ITEM_CHANGES
from fault.fuzz_items import PAGES, ROOTS, OutsideError, fuzz_item, fuzz_page, fuzz_root
from fault.fuzz_regions import CHANGES as REGION_CHANGES
from fault.fuzz_regions import fuzz_region
from fault.hostile_world import MAX_PEAK_MB, World, world
from fault.watcher import watching
from hypothesis import HealthCheck, Phase
from hypothesis.strategies import SearchStrategy


@dataclass(frozen=True)
class Target:
    """What is written, who reads it, and how many examples a round has, so that rounds of all take alike."""

    strategy: SearchStrategy[Any]
    read: Callable[[World, Any], str]
    examples: int


TARGETS = {
    "item JSON": Target(ITEM_CHANGES, fuzz_item, 400),
    "page of a search": Target(PAGES, fuzz_page, 60),
    "first page of a catalogue": Target(ROOTS, fuzz_root, 60),
    "region YAML": Target(REGION_CHANGES, fuzz_region, 120),
    "COG header": Target(HEADERS, fuzz_header, 60),
}


@dataclass
class Tally:
    """What came of one target's examples."""

    examples: int = 0
    taken: int = 0
    outside: list[str] = field(default_factory=list)
    crashes: dict[str, str] = field(default_factory=dict)
    peak_mb: float = 0.0
    slowest_s: float = 0.0


def run(seed: int, *, minutes: float, small: bool = False) -> tuple[list[dict[str, figures.Cell]], bool]:
    """The table, a row for each target, and whether nothing happened that should not."""
    tallies = {name: Tally() for name in TARGETS}
    end, number = time.monotonic() + 60 * minutes, 0
    with tempfile.TemporaryDirectory() as folder, world(Path(folder) / "world") as made:
        while time.monotonic() < end and not (small and number):
            for name, target in TARGETS.items():
                if number == 0 or time.monotonic() < end:
                    _round(
                        made, target, tallies[name], seed + number, target.examples // 10 if small else target.examples
                    )
            number += 1
    rows = [_row(name, tally) for name, tally in tallies.items()]
    bad = sum(len(tally.outside) + len(tally.crashes) for tally in tallies.values())
    return rows, bad == 0 and all(tally.peak_mb < MAX_PEAK_MB for tally in tallies.values())


def _round(made: World, target: Target, tally: Tally, seed: int, examples: int) -> None:
    """So many examples; the first crash ends the round, with its smallest example."""

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=examples, database=None, deadline=None, suppress_health_check=list(HealthCheck),
        phases=(Phase.generate, Phase.shrink), report_multiple_bugs=False, print_blob=False,
    )  # fmt: skip
    @hypothesis.given(target.strategy)
    def one(drawn: Any) -> None:
        began = time.monotonic()
        try:
            told = target.read(made, drawn)
        except Exception:
            crash["input"] = repr(drawn)
            raise
        tally.examples += 1
        tally.taken += told == "taken"
        tally.slowest_s = max(tally.slowest_s, time.monotonic() - began)

    crash: dict[str, str] = {}
    made.reset()
    with watching(hosts={("127.0.0.1", made.site.port)}, canaries=made.secrets, folders=(made.secrets.parent,)) as seen:
        try:
            one()
        except Exception as error:  # noqa: BLE001 - a crash, whatever it is
            if isinstance(error, OutsideError):
                tally.outside.append(str(error))
            tally.crashes.setdefault(f"{type(error).__name__}: {error}"[:120], crash.get("input", "")[:2000])
            print(f"seed {seed}: {type(error).__name__}: {error}\n  {crash.get('input', '')[:2000]}", file=sys.stderr)
    tally.peak_mb = max(tally.peak_mb, seen.peak_mb)
    outside = [*seen.outside, *(f"neighbour {request.path}" for request in made.neighbour.state.log)]
    if outside:
        print(f"seed {seed}: outside: {outside[:5]}", file=sys.stderr)
    tally.outside += outside


def _row(name: str, tally: Tally) -> dict[str, figures.Cell]:
    return {
        "input": name,
        "examples": tally.examples,
        "taken": tally.taken,
        "refused": tally.examples - tally.taken,
        "reads outside": len(tally.outside),
        "crashes": len(tally.crashes),
        "peak MB": round(tally.peak_mb, 1),
        "slowest, s": round(tally.slowest_s, 2),
    }


if __name__ == "__main__":
    options = figures.arguments(__doc__).parse_args()
    found, reached = run(options.seed, minutes=options.minutes, small=options.small)
    command = f"python tests/fault/campaign_fuzz.py --minutes {options.minutes:g} --seed {options.seed} --record"
    figures.record("fuzz", command, found, reached, write=options.record)
