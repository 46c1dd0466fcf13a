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
        scenes = done_scenes(ledger, grid.tile)
        found += [one.key for one in ledger.all(KIND, f"{grid.tile}/") if is_stale(region, grid, one, scenes)]
    return found


def is_stale(region: Region, grid: TileGrid, image: Receipt, scenes: Sequence[Receipt]) -> bool:
    """True if the image has another signature than it would now have; arguments as the ledger has them."""
    when, asof = date.fromisoformat(image.key.split("/")[1]), asof_of(region, image)
    context = context_of(region, scenes, when.replace(day=1), asof)
    if not context:
        return True
    method = str(image.facts.get("method") or region.method)
    filler = with_checkpoint(region, method, str(image.facts.get("checkpoint") or ANYDATE))
    own = region.model_copy(update={"method": method})
    return date_job(own, grid, context, when, asof, filler).signature != image.signature


def asof_of(region: Region, image: Receipt) -> date:
    """The day as of which an image is what it is: for a provisional one that of the last scene that it could use."""
    when = date.fromisoformat(image.key.split("/")[1])
    if image.facts.get("status") == "final":
        return final_from(region, when)
    return max([SceneKey.from_string(key).day for key in image.inputs], default=when)
