"""Fetch: scenes that the catalogue has and the ledger has not come into the cube. One job is one scene.

The unit is (tile, day, sensor): all its granules are read, laid over each other and written as one scene. A scene whose
receipt has the same signature is not planned again; a revised granule changes it.
"""

import hashlib
import json
import logging
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import date
from pathlib import Path

import numpy as np

from vsat.config import Region
from vsat.core.grid import TileGrid
from vsat.core.masks import clear
from vsat.core.mosaic import mosaic
from vsat.errors import AccessError, AllCloudy, CatalogueDown, NoScenes, ReadError, StoreError
from vsat.hls import FMASK_FILL, TILE_PX, GranuleId, SceneKey
from vsat.io import archive
from vsat.io.catalog import Endpoint, Found, Granule, endpoint_for, search
from vsat.io.durable import size_of
from vsat.io.layout import check_grid, store_folder
from vsat.io.ledger import Fact, Ledger, Receipt, lease
from vsat.io.reader import Scene, read_granule
from vsat.io.scenes import KIND, done_scenes, ledger_path, list_store, settle, sweep, write_scene
from vsat.objects import StorePath, existing, place_of
from vsat.settings import Settings
from vsat.stages.pool import Progress, run_jobs

log = logging.getLogger(__name__)
FAILED = "scene-failed"
SCRATCH = "scratch"
FORMAT = 1  # part of every signature; raise it when the same granules shall give other bytes
_SHOWN = 50  # unusable granules and failures that a report spells out; all are counted


@dataclass(frozen=True)
class FetchJob:
    """One scene to read and write; plain values, JSON in and out."""

    home: str
    grid: TileGrid
    endpoint: Endpoint
    key: str
    granules: tuple[Granule, ...]
    signature: str
    adjacent: bool = False
    snow: bool = False

    @property
    def store(self) -> StorePath:
        """The region's folder."""
        return place_of(self.home)


@dataclass(frozen=True)
class FetchPlan:
    """What there is to do, and what of the catalogue's answer is left out and why.

    Attributes:
        jobs: sorted by scene.
        tiles: asked for.
        start, end: days, both included, ISO.
        listed: granules in the catalogue's answer.
        already: scenes that are there, from the same granules.
        revised: of the jobs, scenes that are there from other granules.
        superseded: granules with a newer production.
        cloudy: granules over the region's cloud limit.
        unusable: granules that cannot be used.
        reasons: (granule, why) of the first unusable ones.
        lost_tiles: (tile, why) of those that could not be asked for or planned; nothing is fetched for them.
    """

    jobs: tuple[FetchJob, ...]
    tiles: tuple[str, ...]
    start: str
    end: str
    listed: int = 0
    already: int = 0
    revised: int = 0
    superseded: int = 0
    cloudy: int = 0
    unusable: int = 0
    reasons: tuple[tuple[str, str], ...] = ()
    lost_tiles: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class FetchReport:
    """What a fetch did. Counts as in FetchPlan, and besides:

    Attributes:
        fetched: scenes written.
        failed: scenes of which a granule could not be read; the next fetch tries again.
        failures: (scene, why) of the first failed ones.
        bytes: size of what was written.
        clear: mean share of clear pixels over the scenes written, None if there are none.
        scenes: scenes that the cube now holds.
    """

    tiles: tuple[str, ...]
    start: str
    end: str
    listed: int
    already: int
    revised: int
    superseded: int
    cloudy: int
    unusable: int
    reasons: tuple[tuple[str, str], ...]
    fetched: int
    failed: int
    failures: tuple[tuple[str, str], ...]
    bytes: int
    clear: float | None
    scenes: int
    lost_tiles: tuple[tuple[str, str], ...] = ()


def fetch(
    region: Region, start: date, end: date, *, workers: int | None = None, progress: Progress | None = None
) -> FetchReport:
    """The cube holds every usable scene of the area from `start` to `end`, both included.

    Args:
        region: what, where, from which catalogue.
        start, end: days (UTC).
        workers: scenes at a time; by default as many as VSAT_WORKERS says.
        progress: called with (scenes done, scenes to do).

    Raises:
        CatalogueDown: no complete answer; what was fetched before is untouched.
        NoScenes: nothing is there for this area and period, and nothing was fetched before.
        AllCloudy: not one scene has a clear pixel.
        AccessError: the server refuses our credentials.
        StoreError: another fetch is at work on this region, the cube is on another grid, or the disk is full.
    """
    with lease(region.home, "fetch"), open_endpoint(region) as endpoint:
        tidy(region)
        plan = plan_fetch(region, endpoint, start, end)
        threads = workers or Settings.from_environment().workers
        return finish_fetch(region, plan, run_jobs(fetch_one, plan.jobs, workers=threads, progress=progress))


@contextmanager
def open_endpoint(region: Region) -> Iterator[Endpoint]:
    """The region's catalogue, ready to be asked; an archive is served as long as the block lasts."""
    if region.catalogue.kind == "archive":
        assert region.catalogue.path is not None  # the region's own check
        with archive.serve(region.catalogue.path) as endpoint:
            yield endpoint
    else:
        yield endpoint_for(region.catalogue)


def tidy(region: Region) -> None:
    """Leftovers of a killed fetch are gone. Only for the holder of the region's fetch lease."""
    with Ledger(ledger_path(region.home)) as ledger:
        count = sweep(region.home, ledger)
    if count:
        log.info("%s: %d leftovers of a killed fetch removed", region.name, count)


def plan_fetch(region: Region, endpoint: Endpoint, start: date, end: date) -> FetchPlan:
    """What is to be read for the region from `start` to `end`, both included; touches no pixel.

    A tile that cannot be planned does not keep the others from their scenes; it is listed in `lost_tiles`.

    Raises:
        CatalogueDown: no complete answer for any tile, or for none of the first two: it will not have one for the others.
        StoreError: every tile's cube is on another grid than the region now asks for.
    """
    grids = region.grids()
    plan = FetchPlan((), tuple(grid.tile for grid in grids), start.isoformat(), end.isoformat())
    lost: list[tuple[str, str]] = []
    with Ledger(ledger_path(region.home)) as ledger:
        for count, grid in enumerate(grids, start=1):
            try:
                _check_grids(region.home, grid)
                found = search(endpoint, grid, start, end, max_cover=region.cloud.max_cover)
            except (CatalogueDown, StoreError) as error:
                lost.append((grid.tile, str(error)))
                if len(lost) == len(grids) or (isinstance(error, CatalogueDown) and len(lost) == count > 1):
                    raise
                log.error("tile %s is left out: %s", grid.tile, error)
                continue
            plan = _added(plan, _jobs(region, endpoint, grid, found), found, ledger)
    return replace(plan, lost_tiles=tuple(lost))


def jobs_for(region: Region, endpoint: Endpoint, keys: Sequence[SceneKey]) -> list[FetchJob]:
    """Jobs for these scenes, whether the cube has them or not; those that the catalogue does not have are left out.

    Raises:
        CatalogueDown: no complete answer.
    """
    grids, made = {grid.tile: grid for grid in region.grids()}, list[FetchJob]()
    for tile, day in sorted({(key.tile, key.day) for key in keys if key.tile in grids}):
        found = search(endpoint, grids[tile], day, day, max_cover=region.cloud.max_cover)
        wanted = {str(key) for key in keys}
        made += [job for job in _jobs(region, endpoint, grids[tile], found) if job.key in wanted]
    return made


def fetch_one(job: FetchJob) -> Receipt:
    """The scene is in the cube and in the ledger; or its failure is in the ledger, and an older scene stays.

    Safe to repeat, and to run beside other jobs, here or in other processes.

    Raises:
        AccessError: the server refuses our credentials: all other scenes would fail alike.
        StoreError: the disk is full, or the cube is on another grid.
    """
    home, inputs = place_of(job.home), tuple(granule.id for granule in job.granules)
    large = job.grid.height * job.grid.width * 4 >= TILE_PX**2  # whole files of 20 MB are worth keeping over a failure
    scratch = _scratch(home) if large else None
    try:
        parts = [read_granule(granule, job.grid, job.endpoint, scratch=scratch) for granule in job.granules]
    except AccessError:
        raise
    except ReadError as error:
        return scene_failed(job, str(error))
    refl_byx, fmask_yx = mosaic(parts)
    scene = Scene(refl_byx, fmask_yx)
    outputs = write_scene(home, job.grid, SceneKey.from_string(job.key), refl_byx, fmask_yx)
    receipt = Receipt(KIND, job.key, "done", inputs, job.signature, outputs, _facts(job, scene, outputs))
    with Ledger(ledger_path(home)) as ledger:
        if ledger.get(FAILED, job.key):
            ledger.delete(FAILED, job.key)
        list_store(home, ledger, job.grid, SceneKey.from_string(job.key).day.year)
        ledger.record(receipt)
    settle(home, outputs)
    log.info("scene %s: %d granules, %.0f %% clear", job.key, len(inputs), 100 * float(receipt.facts["clear"] or 0))
    return receipt


def scene_failed(job: FetchJob, reason: str) -> Receipt:
    """The ledger says that the scene failed, and why; the next nights ask for it again."""
    log.warning("scene %s failed: %s", job.key, reason)
    inputs = tuple(granule.id for granule in job.granules)
    receipt = Receipt(FAILED, job.key, "failed", inputs, job.signature, (), {"reason": reason})
    with Ledger(ledger_path(place_of(job.home))) as ledger:
        ledger.record(receipt)
    return receipt


def finish_fetch(region: Region, plan: FetchPlan, receipts: Sequence[Receipt]) -> FetchReport:
    """The report over a plan and its receipts.

    Raises:
        NoScenes: there is nothing, and the ledger holds nothing of the region's tiles.
        AllCloudy: there are scenes, and none has a clear pixel.
    """
    done = [receipt for receipt in receipts if receipt.status == "done"]
    failed = [receipt for receipt in receipts if receipt.status == "failed"]
    with Ledger(ledger_path(region.home)) as ledger:
        held = [receipt for tile in plan.tiles for receipt in done_scenes(ledger, tile)]
    if not failed and not plan.lost_tiles:
        shutil.rmtree(_scratch(region.home), ignore_errors=True)
        _check_outcome(region, plan, held)
    shares = [float(receipt.facts["clear"] or 0.0) for receipt in done]
    counts = {name: value for name, value in vars(plan).items() if name != "jobs"}
    return FetchReport(
        **counts,
        fetched=len(done),
        failed=len(failed),
        failures=tuple((receipt.key, str(receipt.facts["reason"])) for receipt in failed[:_SHOWN]),
        bytes=sum(int(receipt.facts["bytes"] or 0) for receipt in done),
        clear=round(sum(shares) / len(shares), 6) if shares else None,
        scenes=len(held),
    )


def _check_grids(home: StorePath, grid: TileGrid) -> None:
    for group in store_folder(home, grid.tile, 0).parent.glob("*.zarr/zarr.json"):
        check_grid(home, grid, int(group.parent.stem))


def _scratch(home: StorePath) -> Path:
    """Where files lie until a scene is made of them: on this machine, wherever the store is."""
    if isinstance(home, Path):
        return home / SCRATCH
    return Path(tempfile.gettempdir()) / f"vsat-{hashlib.sha256(str(home).encode()).hexdigest()[:16]}"


def _jobs(region: Region, endpoint: Endpoint, grid: TileGrid, found: Found) -> list[FetchJob]:
    scenes: dict[SceneKey, list[Granule]] = {}
    for granule in found.granules:
        scenes.setdefault(GranuleId.from_string(granule.id).scene, []).append(granule)
    cloud = region.cloud
    return [
        FetchJob(
            str(region.home),
            grid,
            endpoint,
            str(key),
            tuple(granules),
            _signature(grid, granules),
            cloud.adjacent,
            cloud.snow,
        )
        for key, granules in sorted(scenes.items())
    ]


def _signature(grid: TileGrid, granules: Sequence[Granule]) -> str:
    """sha256 over everything that decides the scene's bytes."""
    told = json.dumps([FORMAT, asdict(grid), [granule.signature() for granule in granules]], sort_keys=True)
    return hashlib.sha256(told.encode()).hexdigest()


def _added(plan: FetchPlan, jobs: list[FetchJob], found: Found, ledger: Ledger) -> FetchPlan:
    """The plan with one more tile's jobs and counts."""
    receipts = {
        receipt.key: receipt for tile in {job.grid.tile for job in jobs} for receipt in done_scenes(ledger, tile)
    }
    held = [(place_of(job.home), receipts[job.key]) for job in jobs if job.key in receipts]
    there = existing(home / path for home, receipt in held for path, _ in receipt.outputs)
    states = [_state(job, receipts.get(job.key), there) for job in jobs]
    count = Counter(states)
    reasons = (*plan.reasons, *((bad.id, bad.reason) for bad in found.unusable))
    return FetchPlan(
        jobs=(*plan.jobs, *(job for job, state in zip(jobs, states, strict=True) if state != "already")),
        tiles=plan.tiles,
        start=plan.start,
        end=plan.end,
        listed=plan.listed + found.listed,
        already=plan.already + count["already"],
        revised=plan.revised + count["revised"],
        superseded=plan.superseded + len(found.superseded),
        cloudy=plan.cloudy + len(found.cloudy),
        unusable=plan.unusable + len(found.unusable),
        reasons=reasons[:_SHOWN],
    )


def _state(job: FetchJob, receipt: Receipt | None, there: set[StorePath]) -> str:
    """ "new", "revised", or "already": there, from the same granules, and its objects are not lost."""
    if receipt is None:
        return "new"
    if receipt.signature != job.signature:
        return "revised"
    return "already" if all(place_of(job.home) / path in there for path, _ in receipt.outputs) else "new"


def _facts(job: FetchJob, scene: Scene, outputs: Sequence[tuple[str, str]]) -> dict[str, Fact]:
    covers = [granule.cloud_cover for granule in job.granules if granule.cloud_cover is not None]
    clear_yx = clear(scene.fmask_yx, scene.refl_byx, adjacent=job.adjacent, snow=job.snow)
    return {
        "acquired": job.granules[0].acquired,
        "clear": round(float(clear_yx.mean()), 6),
        "valid": round(float(np.mean(scene.fmask_yx != FMASK_FILL)), 6),
        "cloud_cover": round(sum(covers) / len(covers), 3) if covers else None,
        "granules": len(job.granules),
        "bytes": sum(size_of(place_of(job.home) / path) for path, _ in outputs),
    }


def _check_outcome(region: Region, plan: FetchPlan, held: Sequence[Receipt]) -> None:
    place = f"{region.name}, {', '.join(plan.tiles)}, {plan.start} to {plan.end}"
    if not held and plan.cloudy:
        problem = f"all {plan.cloudy} granules are cloudier than {region.cloud.max_cover:g} %"
        raise AllCloudy(problem, place=place, next_step="raise cloud.max_cover, or choose another period")
    if not held:
        problem = f"no scene ({plan.listed} granules listed around it, {plan.unusable} unusable)"
        raise NoScenes(problem, place=place, next_step="choose another area or period; HLS begins in April 2013")
    if not any(receipt.facts.get("clear") for receipt in held):
        problem = f"none of {len(held)} scenes has a clear pixel"
        raise AllCloudy(problem, place=place, next_step="choose a longer period")
