"""What vsat tells Prefect besides the states of its runs: events that automations and other systems can wait for."""

from collections import defaultdict
from collections.abc import Sequence

from prefect.events import emit_event

from vsat.config import Region
from vsat.stages.generate import GenerateReport

NEW_IMAGES = "vsat.images.new"
NIGHT_AWAITED = "vsat.night.awaited"


def tell_images(region: Region, report: GenerateReport) -> None:
    """An event per tile that has new or rewritten images: region, tile, count, dates, and how many of them are final."""
    made: dict[str, list[tuple[str, bool]]] = defaultdict(list)
    for key, facts in report.images:
        tile, day = key.split("/")
        made[tile].append((day, facts.get("status") == "final"))
    for tile, dates in made.items():
        days: Sequence[str] = sorted(day for day, _ in dates)
        emit_event(
            NEW_IMAGES,
            {
                "prefect.resource.id": f"vsat.region.{region.name}.{tile}",
                "prefect.resource.name": f"{region.name} {tile}",
                "vsat.region": region.name,
                "vsat.tile": tile,
            },
            payload={
                "region": region.name, "tile": tile, "asof": report.asof, "count": len(days), "dates": days,
                "final": sum(final for _, final in dates), "catalogue": str(region.home / "images" / "catalog.json"),
            },
        )  # fmt: skip
