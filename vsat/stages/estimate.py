"""A dry run: how many scenes and images a backfill would do, and what that takes, from what this region's ledger has measured.

Scenes are counted in the catalogue's answer. An image is counted where a scene that is to be fetched goes into it, for it
will be stale then. Nothing is measured by guessing: before the first backfill with a method there is no time to tell.
"""

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby

from vsat.config import Region
from vsat.hls import SceneKey
from vsat.io.durable import size_of
from vsat.io.images import KIND
from vsat.io.jobs import JobTable, Row
from vsat.io.ledger import Ledger, Receipt
from vsat.io.scenes import done_scenes, ledger_path
from vsat.objects import ObjectPath, StorePath, existing
from vsat.settings import Settings
from vsat.stages.backfill import plan_backfill
from vsat.stages.fetch import open_endpoint, plan_fetch
from vsat.stages.generate import context_span, plan_generate
from vsat.stages.request import BackfillRequest, method_in
from vsat.stages.units import months

NOT_MEASURED = "not measured yet"
_NEWEST = 20  # images whose files are weighed


@dataclass(frozen=True)
class Estimate:
    """What a backfill would do.

    Attributes:
        region, start, end, policy, method: what was asked for.
        units: months x tiles of both stages.
        scenes, scenes_there: to fetch, and in the cube already.
        images, images_there: to make, and to be left as they are.
        bytes: on the disk, None where nothing was measured or nothing tells.
        seconds: with `workers` jobs side by side; None likewise.
        scene_seconds, image_seconds: of one, as measured; None where none was.
        free: bytes on the disk now; None for a bucket, which has no end.
    """

    region: str
    start: date
    end: date
    policy: str
    method: str
    units: int
    scenes: int
    scenes_there: int
    images: int
    images_there: int
    bytes: int | None
    seconds: float | None
    scene_seconds: float | None
    image_seconds: float | None
    workers: int
    free: int | None

    def rows(self) -> list[tuple[str, str]]:
        """What is told, by name."""
        room = _size(self.bytes) + ("" if self.free is None else f", {_size(self.free)} are free")
        hint = " (a backfill of one month measures it)" if self.seconds is None else ""
        return [
            ("images", f"{self.images} to make by {self.method}, {self.images_there} stay as they are"),
            ("scenes", f"{self.scenes} to fetch, {self.scenes_there} are there"),
            (
                "disk",
                room if self.bytes is None or self.free is None or self.bytes < self.free else f"{room}: NOT ENOUGH",
            ),
            ("time", f"{_time(self.seconds)}{hint}, with {self.workers} side by side"),
            ("measured", f"{_time(self.scene_seconds)} a scene, {_time(self.image_seconds)} an image"),
            ("job table", f"{self.units} units (stage x month x tile)"),
        ]

    def text(self) -> str:
        """Names and values below each other."""
        head = f"{self.region}, {self.start} to {self.end}, policy {self.policy}; nothing was changed"
        return "\n".join([head, *(f"{name:10} {value}" for name, value in self.rows())])

    def markdown(self) -> str:
        """The same for the Prefect UI."""
        about = f"{self.start} to {self.end}, policy {self.policy}. Nothing was changed."
        table = ["| what | how much |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in self.rows())]
        return "\n".join([f"# {self.region}: dry run of a backfill", "", about, "", *table]) + "\n"


def estimate(region: Region, asked: BackfillRequest, day: date, *, workers: int | None = None) -> Estimate:
    """What `backfill` would do; asks the catalogue, touches no pixel and plans no unit.

    Raises:
        InputError: none of the days is in the region's period and before `day`.
        CatalogueDown: no complete answer.
    """
    scenes, images = plan_backfill(region, asked.start, asked.end, day)
    first, last = images[0][0], images[-1][1]
    with open_endpoint(region) as endpoint:
        plan = plan_fetch(region, endpoint, scenes[0][0], scenes[-1][1])
    method, threads = asked.chosen or region.method, workers or Settings.from_environment().workers
    with JobTable(ledger_path(region.home)) as table:
        to_make, dates = _images(
            region, asked, first, last, day, [SceneKey.from_string(job.key) for job in plan.jobs], table
        )
        rows = _finished(table)
        weights = [int(one.facts.get("bytes") or 0) for one in done_scenes(table)]
        scene = _Cost(_mean(weights), _mean_seconds([row for _, row in rows if row.unit.stage == "fetch"]))
        mine = [row for words, row in rows if row.unit.stage == "generate" and method_in(words, region) == method]
        image = _Cost(_mean(_image_bytes(region.home, table.all(KIND)[-_NEWEST:])), _mean_seconds(mine))
    size = _total((len(plan.jobs), scene.bytes), (to_make, image.bytes))
    seconds = _total((len(plan.jobs), scene.seconds), (to_make, image.seconds))
    units = len(months(scenes[0][0], scenes[-1][1])) + len(months(first, last))
    return Estimate(
        region.name, first, last, asked.policy, method, units * len(region.grids()), len(plan.jobs), plan.already,
        to_make, dates - to_make, None if size is None else round(size),
        None if seconds is None else round(seconds / threads, 1), scene.seconds, image.seconds, threads,
        None if isinstance(region.home, ObjectPath) else shutil.disk_usage(region.home).free,
    )  # fmt: skip


@dataclass(frozen=True)
class _Cost:
    """Of one scene or image; None where none was measured."""

    bytes: float | None
    seconds: float | None


def _images(
    region: Region, asked: BackfillRequest, first: date, last: date, day: date, coming: Sequence[SceneKey], ledger: Ledger
) -> tuple[int, int]:  # fmt: skip
    """Images to make, and dates that can have one, when the `coming` scenes are there too."""
    plan = plan_generate(region, first, last, day, policy=asked.policy, method=asked.chosen)
    planned = Counter((job.grid.tile, one.day[:7]) for job in plan.jobs for one in job.dates)
    to_make = dates = 0
    for grid in region.grids():
        new = [key.day for key in coming if key.tile == grid.tile]
        there = [SceneKey.from_string(receipt.key).day for receipt in done_scenes(ledger, grid.tile)]
        wanted = [when for when in region.dates(last, {*new, *there}) if when >= first]
        for month, some in groupby(wanted, key=lambda when: when.replace(day=1)):
            group, (begin, end) = list(some), context_span(region, month, day)
            if not any(begin <= when <= end for when in (*new, *there)):
                continue
            dates += len(group)
            if not any(begin <= when <= end for when in new):
                to_make += planned[grid.tile, str(month)[:7]]
            else:
                kept = [
                    asked.policy == "skip" and ledger.get(KIND, f"{grid.tile}/{when}") is not None for when in group
                ]
                to_make += len(group) - sum(kept)
    return to_make, dates


def _finished(table: JobTable) -> list[tuple[str, Row]]:
    """Every unit in which something was done, with the words of its request."""
    return [(words, row) for words in table.requests() for row in table.rows(words) if row.done]


def _mean_seconds(rows: Sequence[Row]) -> float | None:
    done = sum(row.done for row in rows)
    return round(sum(row.seconds for row in rows) / done, 3) if done else None


def _image_bytes(home: StorePath, receipts: Sequence[Receipt]) -> list[int]:
    """Of each image that is there; all versions of one count as one."""
    files = [[home / path for path, _ in receipt.outputs] for receipt in receipts]
    there = existing(path for some in files for path in some)
    return [sum(map(size_of, some)) for some in files if there.issuperset(some)]


def _mean(values: Sequence[int]) -> float | None:
    return sum(values) / len(values) if values else None


def _total(*parts: tuple[int, float | None]) -> float | None:
    """Counts times costs; None where one that is needed is not known."""
    needed = [(count, cost) for count, cost in parts if count]
    return None if any(cost is None for _, cost in needed) else sum(count * (cost or 0.0) for count, cost in needed)


def _size(value: float | None) -> str:
    if value is None:
        return NOT_MEASURED
    return f"{value / 1e9:.1f} GB" if value >= 1e9 else f"{value / 1e6:.1f} MB"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return NOT_MEASURED
    if seconds >= 3600:
        return f"{seconds / 3600:.1f} h"
    if seconds >= 600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds:.1f} s"
