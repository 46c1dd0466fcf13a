"""Virtual images from the cube: plan which dates are missing or stale, make a tile's dates of one month, sum up.

All dates of a calendar month rest on the same scenes, from `context_days` before the month to `final_after_days` after
it, so that the cube is read and fitted once. No later scene is ever used: made on any night after that, an image has the
same bytes, and is final.
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, timedelta
from itertools import groupby
from typing import Literal

from vsat.config import Region
from vsat.core.grid import TileGrid
from vsat.errors import ReadError, StoreError
from vsat.hls import SceneKey
from vsat.io.durable import sha256_of
from vsat.io.images import KIND, folder_of, version_of
from vsat.io.items_table import ITEMS_TABLE
from vsat.io.ledger import Fact, Ledger, Receipt, lease
from vsat.io.publish import FIRST_VERSION, publish
from vsat.io.scenes import done_scenes, ledger_path
from vsat.io.stac import write_catalogue
from vsat.methods import ANYDATE
from vsat.objects import StorePath, existing, place_of
from vsat.settings import Settings
from vsat.stages.compose import Context, compose
from vsat.stages.map_page import MAP, write_map
from vsat.stages.models import make_room, weights_of
from vsat.stages.pool import Progress, run_jobs
from vsat.stages.promotion import method_of, read_pointer

log = logging.getLogger(__name__)

FAILED = "image-failed"
CATALOGUE = "catalogue"
TILE_FILES = (ITEMS_TABLE, "collection.json")
RECIPE = 7  # counts up when the same scenes shall give other bytes
MOST_DATES = 4  # a job keeps that many dates of a whole tile in memory, .44 GB each
CATALOGUE_TURN_S = 600.0

Policy = Literal["missing", "skip", "replace", "new-version"]


@dataclass(frozen=True)
class Wish:
    """Which images are to be made, and how; see `plan_generate`.

    Attributes:
        policy: "missing" makes what is missing or stale, "skip" only what is missing, "replace" all, "new-version" what
            "missing" would, but beside the image that is there, under the next higher version.
        method: how gaps are filled; None for the region's own, or the one that an image was once asked for with.
        request: who asks; what was made for the same request is never made again by "replace". "" for nobody.
        checkpoint: name of the one that plain "anydate" means, see stages.promotion.
    """

    policy: Policy = "missing"
    method: str | None = None
    request: str = ""
    checkpoint: str = ANYDATE


@dataclass(frozen=True)
class DateJob:
    """One date of a job, ISO: its status, the state of the record, and sha256 over all that decides its bytes."""

    day: str
    status: Literal["provisional", "final"]
    asof: str
    signature: str
    version: int = FIRST_VERSION


@dataclass(frozen=True)
class GenerateJob:
    """Up to MOST_DATES dates of one tile and month, and the scenes they rest on as (key, granule ids). Plain values.

    `asked` goes into the receipts: "method", where it is another than the region's, "request", where there is one, and
    "checkpoint", where one was promoted.
    """

    home: str
    grid: TileGrid
    method: str
    bands: tuple[str, ...]
    adjacent: bool
    snow: bool
    scenes: tuple[tuple[str, tuple[str, ...]], ...]
    dates: tuple[DateJob, ...]
    asked: tuple[tuple[str, str], ...] = ()

    @property
    def store(self) -> StorePath:
        """The region's folder."""
        return place_of(self.home)


@dataclass(frozen=True)
class GeneratePlan:
    """The jobs, and what needs none: dates whose image is there, and dates without any scene in their context."""

    jobs: tuple[GenerateJob, ...]
    kept: int
    without_context: tuple[str, ...]


@dataclass(frozen=True)
class GenerateReport:
    """What a run made: receipts' facts per image (key, facts), failures (key, reason), and what was left as it was.

    `lost` are images of other dates that the ledger lists and the disk has not.
    """

    region: str
    asof: str
    images: tuple[tuple[str, dict[str, object]], ...]
    failed: tuple[tuple[str, str], ...]
    kept: int
    without_context: tuple[str, ...]
    lost: tuple[str, ...] = ()

    @property
    def statuses(self) -> dict[str, int]:
        """Number of images made, provisional and final."""
        return dict(sorted(Counter(str(facts["status"]) for _, facts in self.images).items()))


def generate(
    region: Region,
    start: date,
    end: date,
    day: date,
    *,
    policy: Policy = "missing",
    workers: int | None = None,
    progress: Progress | None = None,
) -> GenerateReport:
    """The virtual images of `start` to `end`, as of `day`, are there.

    Args:
        region: the region, its scenes fetched.
        start, end: first and last date, both included.
        day: as of which day; later scenes are not used.
        policy: see Wish.
        workers: threads; by default as many as VSAT_WORKERS says.
        progress: told (jobs done, jobs in all).
    """
    plan = plan_generate(region, start, end, day, policy=policy)
    threads = workers or Settings.from_environment().workers
    make_room(region.method, min(threads, len(plan.jobs)))
    results = run_jobs(generate_one, plan.jobs, workers=threads, progress=progress)
    return finish_generate(region, day, plan, [receipt for receipts in results for receipt in receipts])


def plan_generate(
    region: Region,
    start: date,
    end: date,
    day: date,
    *,
    policy: Policy = "missing",
    method: str | None = None,
    request: str = "",
) -> GeneratePlan:
    """What is to be made, from the ledger alone. Arguments as in `generate` and Wish.

    An image that was asked for with a method of its own keeps it: a night that finds it stale makes it again with that
    one, until it is asked for with the region's. So does a final one with the checkpoint that made it, until it is asked
    for with policy "replace" or "new-version": a promotion is no reason to make years again.
    """
    plan, wish = GeneratePlan((), 0, ()), Wish(policy, method, request, read_pointer(region.home).current)
    with Ledger(ledger_path(region.home)) as ledger:
        for grid in region.grids():
            scenes = {SceneKey.from_string(receipt.key): receipt for receipt in done_scenes(ledger, grid.tile)}
            dates = [when for when in region.dates(min(end, day), (key.day for key in scenes)) if when >= start]
            for month, group in groupby(dates, key=lambda when: when.replace(day=1)):
                context = context_of(region, scenes.values(), month, day)
                plan = _added(plan, region, grid, context, list(group), day, ledger, wish)
    return plan


def generate_one(job: GenerateJob) -> list[Receipt]:
    """Make, publish and record the images of a job; safe to repeat.

    Returns:
        A receipt per date; where a scene in the cube could not be read, "failed" ones with the reason.

    Raises:
        StoreError: an image cannot be written (disk full).
    """
    home, receipts = place_of(job.home), []
    context = Context(home, job.grid, job.method, job.bands, job.adjacent, job.snow)
    try:
        images = compose(context, job.dates, job.scenes)
    except (StoreError, ReadError) as error:
        return images_failed(job, str(error))
    with Ledger(ledger_path(home)) as ledger:
        for one, image in zip(job.dates, images, strict=True):
            outputs = publish(home, replace(image, version=one.version))
            key, inputs = f"{job.grid.tile}/{one.day}", tuple(scene for scene, _ in job.scenes)
            outputs += _of_lower_versions(ledger.get(KIND, key), one.version)
            facts: dict[str, Fact] = dict(image.facts)
            facts.update(job.asked)
            if one.version > FIRST_VERSION:
                facts["version"] = one.version
            receipt = Receipt(KIND, key, "done", inputs, one.signature, outputs, facts)
            ledger.record(receipt)
            receipts.append(receipt)
            log.info(
                "%s %s %s: %.0f %% observed",
                receipt.key,
                one.status,
                job.method,
                100 * float(str(image.facts["observed"])),
            )
    return receipts


def images_failed(job: GenerateJob, reason: str) -> list[Receipt]:
    """A receipt per date of the job that says so; none is recorded, for what lies on the disk is what it was."""
    log.error("%s %s: %s", job.grid.tile, job.dates[0].day[:7], reason)
    return [Receipt(FAILED, f"{job.grid.tile}/{one.day}", "failed", facts={"reason": reason}) for one in job.dates]


def finish_generate(region: Region, day: date, plan: GeneratePlan, receipts: Iterable[Receipt]) -> GenerateReport:
    """The STAC catalogue and the map list every image; returns the report.

    Raises:
        StoreError: the catalogue cannot be written, or another run writes it for ten minutes.
    """
    lost = list_images(region)
    if lost:
        log.warning("%d images are in the ledger but not on the disk: generate their dates again", len(lost))
    done = sorted(receipts, key=lambda receipt: receipt.key)
    return GenerateReport(
        region.name,
        day.isoformat(),
        tuple((r.key, dict(r.facts)) for r in done if r.status == "done"),
        tuple((r.key, str(r.facts["reason"])) for r in done if r.status == "failed"),
        plan.kept,
        plan.without_context,
        lost,
    )


def list_images(region: Region) -> tuple[str, ...]:
    """The STAC catalogue and the map list every image that is there; keys of those that are lost come back.

    Raises:
        StoreError: as `finish_generate`.
    """
    # one at a time, from the ledger to the files: else the slower of two runs leaves out what the faster has listed
    with lease(region.home, "catalogue", wait_s=CATALOGUE_TURN_S), Ledger(ledger_path(region.home)) as ledger:
        images = ledger.all(KIND)
        folders = {receipt.key: folder_of(region.home, receipt) for receipt in images}
        there = existing(folder / f"{folder.name}.json" for folder in folders.values())
        lost = tuple(key for key, folder in folders.items() if folder / f"{folder.name}.json" not in there)
        shown = [(folders[one.key], str(one.facts["status"])) for one in images if one.key not in lost]
        write_catalogue(region.home, region.name, [folder for folder, _ in shown])
        write_map(region.home, region.name, shown)
        ledger.record(catalogue_receipt(region.home, shown))
    return lost


def catalogue_receipt(home: StorePath, shown: Sequence[tuple[StorePath, str]]) -> Receipt:
    """The checksums of the catalogue's files as they are now, and which images (folder, status) they list."""
    names = [f"images/{tile}/{name}" for tile in sorted({one.parent.name for one, _ in shown}) for name in TILE_FILES]
    outputs = tuple((name, sha256_of(home / name)) for name in (*names, "images/catalog.json", f"images/{MAP}"))
    return Receipt(CATALOGUE, "images", "done", (), catalogue_signature(home, shown), outputs)


def catalogue_signature(home: StorePath, shown: Sequence[tuple[StorePath, str]]) -> str:
    """sha256 over which images (folder, status) a catalogue lists."""
    told = json.dumps(sorted((folder.relative_to(home).as_posix(), status) for folder, status in shown))
    return hashlib.sha256(told.encode()).hexdigest()


def final_from(region: Region, when: date) -> date:
    """The day as of which the images of the month of `when` are final, and the last whose scenes they use."""
    month_end = (when.replace(day=28) + timedelta(4)).replace(day=1) - timedelta(1)
    return month_end + timedelta(region.final_after_days)


def _of_lower_versions(before: Receipt | None, version: int) -> tuple[tuple[str, str], ...]:
    """Files of the versions below this one: the receipt of the newest lists them all."""
    found = before.outputs if before else ()
    of = {path: int(path.split("/")[2].rpartition(".v")[2]) for path, _ in found}  # images/<tile>/<name>.v1/...
    return tuple((path, digest) for path, digest in found if of[path] < version)


def _added(
    plan: GeneratePlan, region: Region, grid: TileGrid, context: Sequence[Receipt], dates: Sequence[date], day: date,
    ledger: Ledger, wish: Wish,
) -> GeneratePlan:  # fmt: skip
    """The plan with the dates of one tile and month."""
    if not context:
        return replace(plan, without_context=(*plan.without_context, *(f"{grid.tile}/{when}" for when in dates)))
    wanted: dict[tuple[str, str], list[DateJob]] = {}
    for when in dates:
        receipt = ledger.get(KIND, f"{grid.tile}/{when}")
        method = wish.method or str((receipt and receipt.facts.get("method")) or region.method)
        checkpoint = _checkpoint(receipt, _status(region, when, day), method, wish)
        own, filler = region.model_copy(update={"method": method}), with_checkpoint(region, method, checkpoint)
        job = _wanted(region.home, receipt, date_job(own, grid, context, when, day, filler), wish)
        if job:
            wanted.setdefault((method, checkpoint), []).append(job)
    cloud, scenes = region.cloud, tuple((receipt.key, receipt.inputs) for receipt in context)
    jobs = [
        GenerateJob(
            str(region.home), grid, with_checkpoint(region, method, checkpoint), region.bands, cloud.adjacent, cloud.snow, scenes,
            tuple(some[at : at + MOST_DATES]), _asked(region, method, checkpoint, wish),
        )
        for (method, checkpoint), some in wanted.items()
        for at in range(0, len(some), MOST_DATES)
    ]  # fmt: skip
    return replace(plan, jobs=(*plan.jobs, *jobs), kept=plan.kept + len(dates) - sum(map(len, wanted.values())))


def _checkpoint(receipt: Receipt | None, status: str, method: str, wish: Wish) -> str:
    """Name of the checkpoint that an image is to be made with, where its method is plain anydate."""
    if method != ANYDATE:
        return ANYDATE
    if receipt and receipt.facts.get("status") == status == "final" and wish.policy in ("missing", "skip"):
        return str(receipt.facts.get("checkpoint") or ANYDATE)
    return wish.checkpoint


def with_checkpoint(region: Region, method: str, checkpoint: str) -> str:
    """The method with the checkpoint put in, where it is plain anydate."""
    return method_of(region.home, checkpoint) if method == ANYDATE else method


def _asked(region: Region, method: str, checkpoint: str, wish: Wish) -> tuple[tuple[str, str], ...]:
    told = {"method": method if method != region.method else "", "request": wish.request}
    told["checkpoint"] = checkpoint if checkpoint != ANYDATE else ""
    return tuple((name, value) for name, value in told.items() if value)


def context_span(region: Region, month: date, day: date) -> tuple[date, date]:
    """The days whose scenes go into the images of a month (its first day) as of `day`, both ends included."""
    return month - timedelta(region.context_days), min(final_from(region, month), day)


def context_of(region: Region, scenes: Iterable[Receipt], month: date, day: date) -> list[Receipt]:
    """The scenes that images of a month rest on as of `day`, in order of day and sensor."""
    first, last = context_span(region, month, day)
    keyed = sorted((SceneKey.from_string(receipt.key), receipt) for receipt in scenes)
    return [receipt for key, receipt in keyed if first <= key.day <= last]


def _status(region: Region, when: date, day: date) -> Literal["provisional", "final"]:
    return "final" if day >= final_from(region, when) else "provisional"


def date_job(region: Region, grid: TileGrid, context: Sequence[Receipt], when: date, day: date, filler: str) -> DateJob:
    """What a date's image as of `day` would be; `filler` is the region's method with its checkpoint put in."""
    last, status = final_from(region, when), _status(region, when, day)
    asof = last if status == "final" else SceneKey.from_string(context[-1].key).day
    decisive = [
        RECIPE, region.fingerprint(), asdict(grid), when.isoformat(), status,
        [(receipt.key, receipt.signature) for receipt in context], weights_of(filler),
    ]  # fmt: skip
    signature = hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()
    return DateJob(when.isoformat(), status, asof.isoformat(), signature)


def _wanted(home: StorePath, receipt: Receipt | None, job: DateJob, wish: Wish) -> DateJob | None:
    """The job with its version, or None where the image that is there shall stay."""
    if receipt is None:
        return job
    there = replace(job, version=version_of(receipt))
    if len(existing(home / path for path, _ in receipt.outputs)) < len(receipt.outputs):
        return there
    is_stale = receipt.signature != job.signature
    is_of_request = wish.request != "" and receipt.facts.get("request") == wish.request
    match wish.policy:
        case "missing":
            return there if is_stale else None
        case "skip":
            return None
        case "replace":
            return there if is_stale or not is_of_request else None
        case "new-version":
            return replace(there, version=there.version + (not is_of_request)) if is_stale else None
