"""Nightly: a region is brought up to a day. Fetch what is new or revised, make what is missing or stale, report.

The work of a night follows from the watermarks, the days up to which the tiles are finished: a lost night costs nothing,
and a repeated one finds nothing to do. The two stages come in as functions, so that a Prefect flow can run the same
night with its own.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, timedelta

from vsat.config import Region
from vsat.errors import VsatError
from vsat.hls import SceneKey
from vsat.io.ledger import Ledger, lease
from vsat.io.scenes import ledger_path
from vsat.stages.fetch import FAILED, FetchReport, fetch
from vsat.stages.generate import GenerateReport, Policy, final_from, generate
from vsat.stages.pool import Progress
from vsat.stages.report import RunReport, write_last_report, write_report

log = logging.getLogger(__name__)

FetchStage = Callable[[Region, date, date], FetchReport]
GenerateStage = Callable[[Region, date, date, date, Policy], GenerateReport]


@dataclass(frozen=True)
class Night:
    """The days a night works on; all ends are included, and `fetch_from` after `fetch_to` means nothing to fetch."""

    day: date
    fetch_from: date
    fetch_to: date
    generate_from: date
    generate_to: date


def fetch_stage(region: Region, start: date, end: date) -> FetchReport:
    """`fetch` as a FetchStage, on threads here."""
    return fetch(region, start, end)


def generate_stage(
    region: Region,
    start: date,
    end: date,
    day: date,
    policy: Policy,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> GenerateReport:
    """`generate` as a GenerateStage, on threads here; one at a time on a region."""
    with lease(region.home, "generate"):
        return generate(region, start, end, day, policy=policy, workers=workers, progress=progress)


def nightly(
    region: Region,
    day: date,
    *,
    fetch: FetchStage = fetch_stage,
    generate: GenerateStage = generate_stage,
    wait_s: float = 0.0,
) -> RunReport:
    """The region is up to `day`: scenes fetched, images made, report written, watermarks of its tiles moved.

    A tile whose scenes cannot be asked for is left as it is, its watermark too; the others go on. One night at a time on a
    region: of two that overlap, the earlier day's could else replace what the later one's has made.

    Args:
        region: which.
        day: the night's day (UTC); later scenes are not used.
        fetch, generate: how the two stages run.
        wait_s: how long to wait for another night on the region.

    Returns:
        The report; its exit code tells whether some tile, scene or image failed.

    Raises:
        CatalogueDown: nothing is known about new scenes; nothing was changed but the report.
        NoScenes: the region has no scene at all.
        AllCloudy: its scenes have not one clear pixel.
        StoreError: another run is at work on the region, or a store cannot be used.
    """
    with lease(region.home, "nightly", wait_s=wait_s):
        return _night(region, day, fetch, generate)


def _night(region: Region, day: date, fetch: FetchStage, generate: GenerateStage) -> RunReport:
    night = plan_night(region, day)
    fetched = None
    try:
        if night.fetch_from <= night.fetch_to:
            fetched = fetch(region, night.fetch_from, night.fetch_to)
        lost = {tile for tile, _ in fetched.lost_tiles} if fetched else set()
        tiles = tuple(grid.tile for grid in region.grids() if grid.tile not in lost)
        # of the tiles that know their scenes: an image of another might become final without its last ones
        known = region.model_copy(update={"tiles": tiles}) if lost else region
        made = generate(known, night.generate_from, night.generate_to, day, "missing")
    except VsatError as error:
        write_last_report(region, RunReport.of_error("nightly", region.name, day, error, fetched))
        raise
    report = RunReport.of("nightly", region.name, day, fetched, made)
    write_report(region, report)
    _move_watermarks(region, tiles, day)
    log.info("%s is up to %s: %s", region.name, day, report.outcome)
    return report


def plan_night(region: Region, day: date) -> Night:
    """The days to fetch and to make images for; reads the ledger only.

    Scenes are asked for from `look_back_days` before the watermark, for they come late and are revised; and from the
    first one that failed, as long as an image of its month is not final.
    """
    start, end = region.period.start, min(day, region.period.end or day)
    done, failed = up_to(region), _failed(region)
    fetch_from = start
    if done:
        retry = [when for when in failed if final_from(region, when) >= day]
        fetch_from = min(min(done, day) - timedelta(region.look_back_days), *retry, day)
    return Night(day, max(start, fetch_from), end, start, end)


def is_finished(region: Region, day: date) -> bool:
    """True if a later day than this is finished already: a run for it, come late, has nothing to do."""
    done = up_to(region)
    return done is not None and done > day


def up_to(region: Region) -> date | None:
    """The day up to which every tile of the region is finished; None if one never was, as after the area has grown."""
    path = ledger_path(region.home)
    if not path.exists():
        return None
    with Ledger(path) as ledger:
        marks = [ledger.watermark(_watermark(grid.tile)) for grid in region.grids()]
    known = [mark for mark in marks if mark is not None]
    return min(known) if len(known) == len(marks) else None


def _failed(region: Region) -> list[date]:
    """The days of scenes that failed."""
    path = ledger_path(region.home)
    if not path.exists():
        return []
    with Ledger(path) as ledger:
        return [SceneKey.from_string(receipt.key).day for receipt in ledger.all(FAILED)]


def _move_watermarks(region: Region, tiles: Iterable[str], day: date) -> None:
    with Ledger(ledger_path(region.home)) as ledger:
        for name in map(_watermark, tiles):
            before = ledger.watermark(name)
            if before is None or before < day:
                ledger.set_watermark(name, day)


def _watermark(tile: str) -> str:
    return f"nightly/{tile}"
