"""Flipped bits and cut files in every kind of stored object: is each found by `vsat verify`, and brought back by `vsat repair`?

    python tests/fault/campaign_verify.py --record

A small region has one of everything. In each round some objects are damaged, each once, at random; then verify must name
every one of them, repair must bring back those that have a source, byte for byte, and name the others with what to do, and a
last look must find nothing more. A ledger is damaged by itself, for without it nothing can be said about what it lists.
"""

import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

from fault import figures
from fault.damage import ALONE, KINDS, NO_SOURCE, Damage, build, damage, rows_of, stored

from regions import END
from vsat.config import Region
from vsat.stages.findings import Finding
from vsat.stages.repair import repair
from vsat.stages.verify import verify

WAYS = ("bit flip", "cut")
MOST_AT_ONCE = 4  # objects of one kind in a round
WHOLES = {"checkpoint", "save of a training"}  # one file of which says what the others are
REPAIRED_ALONE = 6  # of the rounds with a ledger or manifest, so many of each way are repaired, too
Count = Counter[tuple[str, str]]


def campaign(region: Region, *, each: int, seed: int, minutes: float) -> tuple[list[dict[str, str | int]], list[str]]:
    """`each` bit flips and as many cuts; a row per kind of object, and a line for everything that went wrong.

    Args:
        region: as `build` makes it; its folder is as before when this returns.
        each: damages of each way.
        seed: decides all of them.
        minutes: after which no further round begins.
    """
    rng, until = random.Random(seed), time.monotonic() + 60 * minutes
    pristine = region.home.with_name("pristine")
    assert verify(region).problems == ()
    _fresh(region.home, pristine)
    files = stored(pristine)
    assert all(files.values()), [kind for kind, paths in files.items() if not paths]
    wrong, count = list[str](), Count()
    for way in WAYS:
        alone = max(1, each // 30)
        for number, kind in enumerate(sorted(ALONE) * alone):
            if time.monotonic() < until:
                one = _fresh(pristine, region.home) or damage(region.home, kind, files[kind][0], way, rng)
                wrong += _round(region, pristine, [one], count, mend=number < REPAIRED_ALONE)
        left = each - alone * len(ALONE)
        while left > 0 and time.monotonic() < until:
            _fresh(pristine, region.home)
            drawn = {
                kind: rng.sample(paths, 1 if kind in WHOLES else min(MOST_AT_ONCE, len(paths)))
                for kind, paths in files.items()
            }
            chosen = [(kind, path) for kind, paths in drawn.items() if kind not in ALONE for path in paths]
            chosen = rng.sample(chosen, min(left, len(chosen)))
            left -= len(chosen)
            done = [damage(region.home, kind, path, way, rng) for kind, path in chosen]
            wrong += _round(region, pristine, done, count, mend=True)
            print(f"{way}s: {left} to go, {len(wrong)} wrong", file=sys.stderr, flush=True)
    _fresh(pristine, region.home)
    return [_row(kind, files[kind], count) for kind in KINDS], wrong


def _round(region: Region, pristine: Path, done: Sequence[Damage], count: Count, *, mend: bool) -> list[str]:
    """Counts into `count` by (kind, column)."""
    wrong = list[str]()
    before = rows_of(pristine / done[0].path) if done[0].path.endswith(".sqlite") else None
    for one in done:
        count[one.kind, one.way] += 1
    named = {_place(finding.path) for finding in verify(region).findings}
    for one in done:
        if _place(one.path) in named:
            count[one.kind, "found"] += 1
        elif before is not None and rows_of(region.home / one.path) == before:
            count[one.kind, "in unused bytes"] += 1  # of a page: no row, and nothing of the structure, is another one
        else:
            wrong.append(f"not found: {one}")
    if mend and named:
        report = repair(region, END, workers=1)
        left = {_place(finding.path): finding for finding in report.left.findings}
        wrong += [_outcome(region, pristine, one, left.pop(_place(one.path), None), count) for one in done]
        wrong += [f"still there: {finding}" for finding in left.values()]
    for line in filter(None, wrong):
        print(line, file=sys.stderr, flush=True)
    return [line for line in wrong if line]


def _outcome(region: Region, pristine: Path, one: Damage, left: Finding | None, count: Count) -> str:
    same = (region.home / one.path).exists() and (region.home / one.path).read_bytes() == (
        pristine / one.path
    ).read_bytes()
    if left is not None and one.kind in NO_SOURCE:
        count[one.kind, "told: no source"] += 1
        return ""
    if left is None and (same or one.path.endswith(".sqlite")):
        count[one.kind, "repaired"] += 1
        return ""
    return f"not repaired: {one}: {left or 'other bytes'}"


def _place(path: str) -> str:
    """A save of a training counts as a whole."""
    return path.rpartition("/")[0] if "/run/checkpoint-" in path and path.count("/") > 3 else path


def _row(kind: str, files: Sequence[str], count: Count) -> dict[str, str | int]:
    columns = (*WAYS, "found", "in unused bytes", "repaired", "told: no source")
    names = {"bit flip": "bit flips", "cut": "cuts"}
    return {"stored object": kind, "there are": len(files)} | {names.get(one, one): count[kind, one] for one in columns}


def _fresh(src: Path, dst: Path) -> None:
    shutil.rmtree(dst, ignore_errors=True)
    shutil.copytree(src, dst)


def main() -> None:
    """The campaign, as the command line asks for it."""
    asked = figures.arguments(__doc__).parse_args()
    memory = Path("/dev/shm")
    with TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        each = 40 if asked.small else 1000
        rows, wrong = campaign(build(Path(folder)), each=each, seed=asked.seed, minutes=asked.minutes)
    totals = {key: sum(int(row[key]) for row in rows) for key in rows[0] if key != "stored object"}
    rows.append({"stored object": "all", **totals})
    complete = totals["bit flips"] >= each and totals["cuts"] >= each
    command = f"python tests/fault/campaign_verify.py --record{' --small' if asked.small else ''} --seed {asked.seed}"
    figures.record("verify", command, rows, not wrong and complete, write=asked.record)


if __name__ == "__main__":
    main()
