"""The grid of tiles and dates, and the last night, as the status page shows them."""

import logging
from datetime import date
from typing import Any

from vsat.errors import VsatError
from vsat.io.scenes import ledger_path
from vsat.stages.generate import final_from, plan_generate
from vsat.stages.nightly import up_to
from vsat.stages.report import last_report
from vsat.viewer.holdings import Holdings, Shelf

log = logging.getLogger(__name__)


def status(shelf: Shelf, held: Holdings) -> dict[str, Any]:
    """A row per date, a column per tile, the last night, and the day up to which all is finished; as the API answers it.

    "stale" is an image that the next night makes again, "missing" one that it makes for the first time, or would if
    there were scenes.
    """
    mark, night = up_to(shelf.region), last_report(shelf.region, "nightly")
    tiles = sorted(shelf.grids)
    days, redone = _wanted(shelf, held, mark)
    grid = [[_cell(held, day, tile, redone) for tile in tiles] for day in days]
    told = ("day", "outcome", "exit_code", "message", "counts")
    return {
        "region": shelf.name, "tiles": tiles, "dates": [day.isoformat() for day in days], "grid": grid,
        "night": {name: night[name] for name in told} if night else None,
        "watermark": mark.isoformat() if mark else None,
    }  # fmt: skip


def _wanted(shelf: Shelf, held: Holdings, mark: date | None) -> tuple[list[date], set[str]]:
    """All dates that have an image or should, and the keys of those to be made again, as of the newest day known.

    The viewer has no clock: the newest day is that of the last night, of the last look, or that as of which some image
    is final.
    """
    known = [day for day in (mark, *(look.key.day for look in held.looks[-1:])) if day]
    known += [final_from(shelf.region, image.day) for image in held.images if image.status == "final"]
    if not known or not ledger_path(shelf.region.home).exists():
        return list(held.by_day), set()
    day, looked = max(known), [look.key.day for look in held.looks]
    days = sorted({*held.by_day, *shelf.region.dates(day, looked)})
    return days, shelf.remembered(f"redone {day}", lambda: _redone(shelf, day))


def _redone(shelf: Shelf, day: date) -> set[str]:
    region = shelf.region
    try:
        plan = plan_generate(region, region.period.start, day, day)
    except VsatError as error:  # a checkpoint that is gone: the images that are there can be looked at all the same
        log.warning("%s: what is stale is not known: %s", region.name, error)
        return set()
    return {f"{job.grid.tile}/{one.day}" for job in plan.jobs for one in job.dates}


def _cell(held: Holdings, day: date, tile: str, redone: set[str]) -> str:
    image = held.by_day.get(day, {}).get(tile)
    if image is None:
        return "missing"
    return "stale" if f"{tile}/{day}" in redone else image.status
