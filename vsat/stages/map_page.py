"""One HTML file beside the images: the newest of every tile laid out as on a map, and links to all; needs no server."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from math import cos, radians
from typing import Any

from vsat.io.durable import unwritable, write_file
from vsat.io.stac import read_item
from vsat.objects import StorePath
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


def write_map(home: StorePath, region: str, images: Sequence[tuple[StorePath, str]]) -> StorePath:
    """`images/map.html` shows the images; links are relative. Returns its place.

    Args:
        home: the region's folder.
        region: its name.
        images: folder and status of every published image, one per tile and date.

    Raises:
        StoreError: the newest item of a tile cannot be read, or the disk is full.
    """
    path, page = home / "images" / MAP, map_page(region, images)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path, [page])
    except OSError as error:
        raise unwritable(error, path.name, path) from error
    return path


def map_page(region: str, images: Sequence[tuple[StorePath, str]]) -> bytes:
    """The page's content; equal images give equal bytes. Arguments as above.

    Raises:
        StoreError: the newest item of a tile cannot be read.
    """
    by_tile = {tile: list(group) for tile, group in groupby(sorted(images, key=_place), lambda one: _place(one)[0])}
    newest = {tile: group[-1][0] for tile, group in by_tile.items()}
    placed = _placed({tile: (folder, read_item(folder / f"{folder.name}.json")) for tile, folder in newest.items()})
    dates: dict[str, dict[str, tuple[str, str]]] = {}
    for tile, group in by_tile.items():
        for folder, status in group:
            dates.setdefault(_day(folder), {})[tile] = (f"{tile}/{folder.name}", status)
    page = render(
        "map.html", region=region, placed=placed, tiles=sorted(by_tile), count=len(images), width=MAP_PX,
        height=max((one.y + one.height for one in placed), default=0.0), dates=sorted(dates.items(), reverse=True)[:SHOWN],
    )  # fmt: skip
    return page.encode()


def _place(image: tuple[StorePath, str]) -> tuple[str, str]:
    return image[0].parent.name, image[0].name


def _day(folder: StorePath) -> str:
    """ISO date from a name like VSAT.T33UVP.2024123.v1."""
    return datetime.strptime(folder.name.split(".")[2], "%Y%j").date().isoformat()


def _placed(newest: dict[str, tuple[StorePath, dict[str, Any]]]) -> list[Placed]:
    """Boxes of degrees as a plate carree drawing, true to scale in the middle latitude."""
    boxes = {tile: [float(value) for value in item["bbox"]] for tile, (_, item) in newest.items()}
    if not boxes:
        return []
    west, south, east, north = (pick(box[i] for box in boxes.values()) for i, pick in enumerate((min, min, max, max)))
    narrow = cos(radians((south + north) / 2))
    unit = MAP_PX / max((east - west) * narrow, 1e-9)
    return [
        Placed(
            tile, _day(newest[tile][0]),
            f"{tile}/{newest[tile][0].name}/{newest[tile][0].name}.png",
            (box[0] - west) * narrow * unit, (north - box[3]) * unit,
            (box[2] - box[0]) * narrow * unit, (box[3] - box[1]) * unit,
        )
        for tile, box in boxes.items()
    ]  # fmt: skip
