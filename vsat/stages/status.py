"""What a region's ledger says, and what there is to do."""

from collections import Counter
from datetime import date
from typing import Any

from vsat.config import Region
from vsat.errors import NoScenes
from vsat.io.images import KIND as IMAGE
from vsat.io.ledger import Ledger, Receipt
from vsat.io.scenes import KIND as SCENE
from vsat.io.scenes import ledger_path
from vsat.stages.fetch import FAILED, open_endpoint, plan_fetch
from vsat.stages.generate import plan_generate
from vsat.stages.nightly import up_to


def region_status(region: Region) -> dict[str, Any]:
    """Counts and days for people and programs."""
    scenes, images, failed, mark = _listed(region)
    days, looks = sorted(_day(receipt) for receipt in images), sorted(_day(receipt) for receipt in scenes)
    return {
        "region": region.name,
        "home": str(region.home),
        "up_to": mark.isoformat() if mark else None,
        "scenes": dict(sorted(Counter(receipt.key.rpartition("/")[2] for receipt in scenes).items())),
        "last_scene": looks[-1] if looks else None,
        "scenes_failed": len(failed),
        "images": dict(sorted(Counter(str(receipt.facts.get("status")) for receipt in images).items())),
        "first_image": days[0] if days else None,
        "last_image": days[-1] if days else None,
    }


def planned(region: Region, start: date, end: date, day: date) -> dict[str, Any]:
    """What fetching and generating from `start` to `end`, as of `day`, would do; asks the catalogue, touches no pixel.

    Raises:
        CatalogueDown: no complete answer.
        NoScenes: there is nothing to fetch, and nothing was fetched before.
    """
    with open_endpoint(region) as endpoint:
        scenes = plan_fetch(region, endpoint, start, end)
    if not scenes.jobs and not scenes.already:
        problem = f"no scene from {start} to {end} ({scenes.unusable} granules unusable, {scenes.cloudy} too cloudy)"
        raise NoScenes(problem, place=region.name, next_step="choose another area or period; HLS begins in April 2013")
    images = plan_generate(region, start, end, day)
    return {
        "start": start,
        "end": end,
        "scenes": {
            "to_fetch": len(scenes.jobs),
            "of_them_revised": scenes.revised,
            "already": scenes.already,
            "unusable": scenes.unusable,
            "superseded": scenes.superseded,
            "cloudy": scenes.cloudy,
        },
        "images": {
            "to_make_from_scenes_there": sum(len(job.dates) for job in images.jobs),
            "kept": images.kept,
            "without_scenes_yet": len(images.without_context),
        },
    }


def _listed(region: Region) -> tuple[list[Receipt], list[Receipt], list[Receipt], date | None]:
    """Scenes, images, failed scenes, watermark. Looking at a region that was never worked on makes no ledger."""
    path = ledger_path(region.home)
    if not path.exists():
        return [], [], [], None
    mark = up_to(region)
    with Ledger(path) as ledger:
        return ledger.all(SCENE), ledger.all(IMAGE), ledger.all(FAILED), mark


def _day(receipt: Receipt) -> str:
    return receipt.key.split("/")[1]
