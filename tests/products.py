"""A region with published images and their receipts, as a night leaves it, without the scenes that a night needs."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

from images import DAY, GRID, image

from vsat.config import Region, load_region
from vsat.core.grid import TileGrid
from vsat.hls import BANDS
from vsat.io.images import folder_of
from vsat.io.ledger import Ledger, Receipt
from vsat.io.publish import publish
from vsat.io.scenes import ledger_path
from vsat.io.stac import write_catalogue
from vsat.objects import StorePath

DAYS = (DAY, date(2024, 5, 12), date(2024, 5, 22))
TEXT = """
name: small
area: {{bbox: [14.2, 48.1, 14.31, 48.17]}}
period: {{start: 2024-05-01, end: 2024-05-31}}
cadence: {{every_days: 10}}
store: {store}
"""


def region_with_images(
    folder: Path, *, store: StorePath | str = "var", days: Sequence[date] = DAYS, bands: tuple[str, ...] = BANDS
) -> Region:
    """The region's file lies in `folder`; image n is `images.image(n)`."""
    path = folder / "small.yaml"
    path.write_text(TEXT.format(store=store))
    region = load_region(path)
    with Ledger(ledger_path(region.home)) as ledger:
        for seed, day in enumerate(days):
            record(ledger, region, seed, day, bands)
        folders = [folder_of(region.home, receipt) for receipt in ledger.all("image")]
    write_catalogue(region.home, region.name, folders)
    return region


def record(
    ledger: Ledger, region: Region, seed: int, day: date, bands: tuple[str, ...] = BANDS, grid: TileGrid = GRID
) -> None:
    """Image `seed` of the day is published and listed."""
    made = replace(image(seed, bands=bands, day=day), grid=grid)
    outputs = publish(region.home, made)
    ledger.record(Receipt("image", f"{grid.tile}/{day}", "done", (), f"{seed}", outputs, dict(made.facts)))
