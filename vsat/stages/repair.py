"""Repair: what verify finds is brought back from where it came: scenes from the catalogue, images from the scenes.

In this order, for the later rests on the earlier: the ledger, the groups of the cubes, scenes, images, the catalogue. Then
patches and checkpoints (stages.repair_stores). What has no source is said, with what to do about it.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path

from vsat.config import Region
from vsat.errors import VsatError
from vsat.hls import SENSORS, SceneKey
from vsat.io.durable import unwritable, write_file
from vsat.io.images import KIND as IMAGE
from vsat.io.layout import store_files, store_folder
from vsat.io.ledger import Ledger, lease
from vsat.io.ledger_check import ledger_problems, remove_broken, salvage
from vsat.io.scenes import CUBE, done_scenes, ledger_path
from vsat.objects import ObjectPath
from vsat.settings import Settings
from vsat.stages.fetch import FetchJob, fetch_one, jobs_for, open_endpoint, tidy
from vsat.stages.findings import Finding
from vsat.stages.generate import GenerateJob, generate_one, list_images, plan_generate
from vsat.stages.models import make_room
from vsat.stages.pool import Progress, run_jobs
from vsat.stages.promotion import FOLDER, POINTER, restore_pointer
from vsat.stages.repair_stores import repair_checkpoint, repair_patches
from vsat.stages.stale import asof_of, stale_images
from vsat.stages.verify import VerifyReport, elsewhere, verify

_OBJECT = re.compile(
    r"cubes/(?P<tile>\w+)/(?P<year>\d{4})\.zarr/(?:reflectance|fmask)/c\.(?P<day>\d+)\.(?P<sensor>\d)(?:\.0)+$"
)
_IMAGE = re.compile(r"images/(?P<tile>\w+)/VSAT\.T\w+\.(?P<day>\d{7})\.v\d+(?:/|$)")
_MOST = 20  # failures that are spelled out
NO_SOURCE = {
    "report": "only its run could have written it: remove it",
    "model": "remove the folder that it is in, and retrain on another day",
    "checkpoint": "copy it from a backup, or train it again",
    "save of the training": "vsat train removes it, and goes on from the one before",
    "": "vsat gc removes it, if it stays nobody's",
}


@dataclass(frozen=True)
class RepairReport:
    """What was found, what was done about it, what could not be, and what a last look still found."""

    found: tuple[Finding, ...]
    done: tuple[str, ...]
    failed: tuple[str, ...]
    left: VerifyReport

    def text(self) -> str:
        """In lines."""
        head = f"{len(self.found)} problems found, {len(self.left.findings)} left"
        left = [f"left: {one}: {remedy(one)}" for one in self.left.findings]
        return "\n".join([head, *self.done, *(f"failed: {why}" for why in self.failed), *left])


def remedy(finding: Finding) -> str:
    """What repair does about a finding, or why it can do nothing."""
    kind = finding.of.split(" ")[0]
    match kind:
        case "scene":
            told = "is fetched again"
        case "image":
            told = "is made again from the scenes"
        case "cube" | "catalogue":
            told = "is written again"
        case "ledger":
            told = "the rows that are whole are kept, what the others stood for is done again"
        case _ if _scene_of(finding.path) or _IMAGE.match(finding.path):
            told = "is fetched or made again where it belongs to the region; vsat gc removes it where not"
        case "model" if finding.path.endswith(POINTER):
            told = "is written again as the ledger has it, where it does; else move it away and use vsat model promote"
        case "patches" | "manifest" | "survey":
            told = "is drawn again from the cubes"
        case _:
            told = NO_SOURCE.get(finding.of, NO_SOURCE[""])
    return told


def repair(
    region: Region,
    day: date,
    *,
    patches: Sequence[Path] = (),
    checkpoints: Sequence[Path] = (),
    workers: int | None = None,
    progress: Progress | None = None,
) -> RepairReport:
    """What can be brought back is what was written; nothing else is changed, and damaged files only are replaced.

    Args:
        region: which; no other run may be at work on it.
        day: as of which day an image is made of which nothing is known any more.
        patches, checkpoints: folders to repair too, as in `verify`.
        workers: threads; by default as many as VSAT_WORKERS says.
        progress: told (jobs done, jobs in all).

    Raises:
        StoreError: another run is at work on the region.
        InputError: as `verify`.
    """
    threads = workers or Settings.from_environment().workers
    before = verify(region, patches=patches, checkpoints=checkpoints)
    if not before.findings:
        return RepairReport((), (), (), before)
    work = _Work(region, day, threads, progress, [], [])
    with ExitStack() as held:
        for name in ("nightly", "backfill", "fetch", "generate"):
            held.enter_context(lease(region.home, name))
        work.ledger()
        now = verify(region)
        work.pointer(now.findings)
        work.groups(now.findings)
        work.scenes(now.findings)
        made = work.images(now.findings)
        if made or any(one.of in ("catalogue", "ledger") for one in (*before.findings, *now.findings)):
            work.catalogue()
    for path in [*elsewhere(region, patches), *_own_stores(region)]:
        work.note(repair_patches(path, [region], workers=threads))
    for path in [*elsewhere(region, checkpoints), *_own_checkpoints(region)]:
        work.note(repair_checkpoint(path))
    left = verify(region, patches=patches, checkpoints=checkpoints)
    return RepairReport(before.findings, tuple(work.done), tuple(work.failed[:_MOST]), left)


@dataclass(frozen=True)
class _Work:
    """The steps of a repair; `done` and `failed` collect what to tell."""

    region: Region
    day: date
    workers: int
    progress: Progress | None
    done: list[str]
    failed: list[str]

    def note(self, told: tuple[list[str], list[str]]) -> None:
        self.done.extend(told[0])
        self.failed.extend(told[1])

    def ledger(self) -> None:
        path = ledger_path(self.region.home)
        if not path.exists() or not ledger_problems(path):
            return
        if isinstance(path, ObjectPath):
            self.done.append(f"ledger: {remove_broken(path)} objects of it removed")
        else:
            kept, lost = salvage(path)
            told = f"at least {lost}" if lost else "an unknown number of"
            self.done.append(f"ledger: {kept} rows kept, {told} lost; the damaged one is beside it")
        with Ledger(path) as ledger:  # the next night asks for everything: a failed scene may have been forgotten
            for grid in self.region.grids():
                ledger.delete_watermark(f"nightly/{grid.tile}")

    def pointer(self, findings: Iterable[Finding]) -> None:
        home, place = self.region.home, f"{FOLDER}/{POINTER}"
        if isinstance(home, Path) and any(one.path == place for one in findings) and restore_pointer(home):
            self.done.append(f"{place}: written again as the ledger has it")

    def groups(self, findings: Iterable[Finding]) -> None:
        home, names = self.region.home, {one.of for one in findings if one.of.startswith(f"{CUBE} ")}
        grids = {grid.tile: grid for grid in self.region.grids()}
        for tile, year in (name.removeprefix(f"{CUBE} ").split("/") for name in sorted(names)):
            if tile not in grids:
                self.failed.append(f"cube {tile}/{year}: the region has no such tile any more")
                continue
            folder = store_folder(home, tile, int(year))
            for name, content in store_files(grids[tile], int(year)):
                try:
                    if isinstance(folder, Path):
                        (folder / name).parent.mkdir(parents=True, exist_ok=True)
                    write_file(folder / name, [content])
                except OSError as error:
                    raise unwritable(error, name, folder) from error
            with Ledger(ledger_path(home)) as ledger:
                ledger.delete(CUBE, f"{tile}/{year}")  # the next scene, or verify, compares with what is made now
            self.done.append(f"cube {tile}/{year}: metadata and coordinates written again")

    def scenes(self, findings: Iterable[Finding]) -> None:
        told = [one.of.removeprefix("scene ") for one in findings if one.of.startswith("scene ")]
        keys = {SceneKey.from_string(key) for key in told}
        keys |= {key for one in findings if one.kind == "nobody's" and (key := _scene_of(one.path))}
        wanted = {key for key in keys if self.region.period.start <= key.day <= (self.region.period.end or key.day)}
        if ledger_path(self.region.home).exists():
            tidy(self.region)
        if not wanted:
            return
        try:
            with open_endpoint(self.region) as endpoint:
                jobs: list[FetchJob] = jobs_for(self.region, endpoint, sorted(wanted))
                receipts = run_jobs(fetch_one, jobs, workers=self.workers, progress=self.progress)
        except VsatError as error:
            self.failed.append(f"{len(wanted)} scenes: {error}")
            return
        self.done.extend([f"scene {one.key}: fetched again" for one in receipts if one.status == "done"])
        self.failed.extend([f"scene {one.key}: {one.facts['reason']}" for one in receipts if one.status == "failed"])
        there = {job.key for job in jobs}
        self.failed.extend([f"scene {key}: the catalogue does not have it" for key in told if key not in there])

    def images(self, findings: Iterable[Finding]) -> int:
        home, wanted, damaged = self.region.home, set[str](), list[Finding]()
        for one in findings:
            if one.of.startswith("image "):
                wanted.add(one.of.removeprefix("image "))
                damaged.append(one)
            elif one.kind == "nobody's" and (key := _image_of(one.path)):
                wanted.add(key)
        with Ledger(ledger_path(home)) as ledger:
            wanted |= set(stale_images(self.region, ledger))  # of scenes that came back revised
            receipts = {receipt.key: receipt for receipt in ledger.all(IMAGE)}
        for one in damaged:
            if one.kind in ("altered", "invalid"):  # nobody shall read it, and what is missing is made again
                (home / one.path).unlink(missing_ok=True)
        by_day: dict[date, set[str]] = {}
        for key in wanted:
            when = date.fromisoformat(key.split("/")[1])
            asof = max(when, asof_of(self.region, receipts[key])) if key in receipts else self._asof(findings, key)
            by_day.setdefault(asof, set()).add(key)
        jobs = list[GenerateJob]()
        try:
            jobs += [job for asof, keys in sorted(by_day.items()) for job in self._jobs(asof, keys)]
            make_room(self.region.method, min(self.workers, len(jobs)))
            found = run_jobs(generate_one, jobs, workers=self.workers, progress=self.progress)
        except VsatError as error:
            self.failed.append(f"{len(wanted)} images: {error}")
            return len(jobs)
        made = [receipt for receipts_of in found for receipt in receipts_of]
        self.done.extend([f"image {one.key}: made again" for one in made if one.status == "done"])
        self.failed.extend([f"image {one.key}: {one.facts['reason']}" for one in made if one.status == "failed"])
        return len(jobs)

    def catalogue(self) -> None:
        try:
            lost = list_images(self.region)
        except VsatError as error:
            self.failed.append(f"catalogue: {error}")
            return
        self.done.append("catalogue: written again" + (f", without {len(lost)} lost images" if lost else ""))

    def _jobs(self, asof: date, keys: set[str]) -> Iterator[GenerateJob]:
        days = sorted(date.fromisoformat(key.split("/")[1]) for key in keys)
        for job in plan_generate(self.region, days[0], days[-1], asof).jobs:
            dates = tuple(one for one in job.dates if f"{job.grid.tile}/{one.day}" in keys)
            if dates:
                yield replace(job, dates=dates)

    def _asof(self, findings: Iterable[Finding], key: str) -> date:
        """Of an image without a receipt, the day its item tells; else the last scene's, or that of the run."""
        when = date.fromisoformat(key.split("/")[1])
        for one in findings:
            if _image_of(one.path) == key and one.path.endswith(".json"):
                with suppress(OSError, ValueError, KeyError, TypeError):
                    told = json.loads((self.region.home / one.path).read_bytes())["properties"]["updated"]
                    return max(when, datetime.fromisoformat(told).date())
        with Ledger(ledger_path(self.region.home)) as ledger:
            last = max((SceneKey.from_string(one.key).day for one in done_scenes(ledger)), default=self.day)
        return max(when, min(last, self.day))


def _own_stores(region: Region) -> list[Path]:
    home = region.home
    return [] if isinstance(home, ObjectPath) else [one.parent for one in home.glob("models/*/parts") if one.is_dir()]


def _own_checkpoints(region: Region) -> list[Path]:
    home = region.home
    return [] if isinstance(home, ObjectPath) else [one.parent for one in home.glob("models/*/item.json")]


def _scene_of(path: str) -> SceneKey | None:
    """The scene that an object of a cube would be of."""
    found = _OBJECT.match(path)
    if found is None or int(found["sensor"]) >= len(SENSORS):
        return None
    day = date(int(found["year"]), 1, 1) + timedelta(int(found["day"]))
    return SceneKey(found["tile"], day, SENSORS[int(found["sensor"])])


def _image_of(path: str) -> str:
    """Tile and day of the image that a file would be of; "" for none."""
    found = _IMAGE.match(path)
    if found is None:
        return ""
    with suppress(ValueError):
        return f"{found['tile']}/{datetime.strptime(found['day'], '%Y%j').date()}"
    return ""
