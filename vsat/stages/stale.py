"""Images that are not what their scenes, their method and the region's words now ask for: the next night makes them again."""

from collections.abc import Sequence
from datetime import date

from vsat.config import Region
from vsat.core.grid import TileGrid
from vsat.hls import SceneKey
from vsat.io.images import KIND
from vsat.io.ledger import Ledger, Receipt
from vsat.io.scenes import done_scenes
from vsat.methods import ANYDATE
from vsat.stages.generate import context_of, date_job, final_from, with_checkpoint


def stale_images(region: Region, ledger: Ledger) -> list[str]:
    """Keys of images with another signature than they would now have, as of the day that each stands for.

    A provisional image that later scenes have come for is not stale, only not made again yet.
    """
    found = []
    for grid in region.grids():
        scenes, contexts = done_scenes(ledger, grid.tile), dict[tuple[date, date], list[Receipt]]()
        for image in ledger.all(KIND, f"{grid.tile}/"):
            month, asof = date.fromisoformat(image.key.split("/")[1]).replace(day=1), asof_of(region, image)
            if (month, asof) not in contexts:
                contexts[month, asof] = context_of(region, scenes, month, asof)
            if _is_stale(region, grid, image, contexts[month, asof]):
                found.append(image.key)
    return found


def asof_of(region: Region, image: Receipt) -> date:
    """The day as of which an image is what it is: for a provisional one that of the last scene that it could use."""
    when = date.fromisoformat(image.key.split("/")[1])
    if image.facts.get("status") == "final":
        return final_from(region, when)
    return max([SceneKey.from_string(key).day for key in image.inputs], default=when)


def _is_stale(region: Region, grid: TileGrid, image: Receipt, context: Sequence[Receipt]) -> bool:
    if not context:
        return True
    when, method = date.fromisoformat(image.key.split("/")[1]), str(image.facts.get("method") or region.method)
    filler = with_checkpoint(region, method, str(image.facts.get("checkpoint") or ANYDATE))
    own = region.model_copy(update={"method": method})
    return date_job(own, grid, context, when, asof_of(region, image), filler).signature != image.signature
