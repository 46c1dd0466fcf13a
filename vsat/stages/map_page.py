"""One HTML file beside the images: the newest of every tile laid out as on a map, and links to all; needs no server."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from math import cos, radians
from pathlib import Path

from vsat.errors import StoreError
from vsat.io.durable import write_file
from vsat.io.stac import read_item
from vsat.stages.page import render

MAP = "map.html"
MAP_PX = 900  # width of the drawing
SHOWN = 60  # dates of the table: the newest


@dataclass(frozen=True)
class Placed:
    """The newest image of a tile, in drawing units from the upper-left corner."""

    tile: str
    day: str
    href: str
    x: float
    y: float
    width: float
    height: float


def write_map(home: Path, region: str, folders: Sequence[Path]) -> Path:
    """`images/map.html` shows the images; links are relative. Returns its path.

    Args:
        home: the region's folder.
        region: its name.
        folders: one per published image.

    Raises:
        StoreError: an image's item cannot be read, or the disk is full.
    """
    path = home / "images" / MAP
    rows = [(folder, read_item(folder / f"{folder.name}.json")) for folder in sorted(folders)]
    by_tile = {tile: list(group) for tile, group in groupby(rows, key=lambda row: row[0].parent.name)}
    placed = _placed({tile: group[-1] for tile, group in by_tile.items()})
    dates: dict[str, dict[str, tuple[str, str]]] = {}
    for tile, group in by_tile.items():
        for folder, item in group:
            told = item["properties"]
            dates.setdefault(told["datetime"][:10], {})[tile] = (f"{tile}/{folder.name}", told["vsat:status"])
    page = render(
        "map.html", region=region, placed=placed, tiles=sorted(by_tile), count=len(rows), width=MAP_PX,
        height=max((one.y + one.height for one in placed), default=0.0), dates=sorted(dates.items(), reverse=True)[:SHOWN],
    )  # fmt: skip
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, [page.encode()])
    except OSError as error:
        step = "make room or give the right to write there, then run again: the images themselves are there"
        raise StoreError(f"the map cannot be written: {error.strerror}", place=str(path), next_step=step) from error
    return path


def _placed(newest: dict[str, tuple[Path, dict[str, object]]]) -> list[Placed]:
    """Boxes of degrees as a plate carree drawing, true to scale in the middle latitude."""
    boxes = {tile: [float(value) for value in item["bbox"]] for tile, (_, item) in newest.items()}  # type: ignore[attr-defined]
    if not boxes:
        return []
    west, south, east, north = (pick(box[i] for box in boxes.values()) for i, pick in enumerate((min, min, max, max)))
    narrow = cos(radians((south + north) / 2))
    unit = MAP_PX / max((east - west) * narrow, 1e-9)
    return [
        Placed(
            tile, str(newest[tile][1]["properties"]["datetime"])[:10],  # type: ignore[index]
            f"{tile}/{newest[tile][0].name}/{newest[tile][0].name}.png",
            (box[0] - west) * narrow * unit, (north - box[3]) * unit,
            (box[2] - box[0]) * narrow * unit, (box[3] - box[1]) * unit,
        )
        for tile, box in boxes.items()
    ]  # fmt: skip
