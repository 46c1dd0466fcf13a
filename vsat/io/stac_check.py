"""A light look at a STAC item of ours, without a schema or a network: what a reader of it would stumble over."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from math import isfinite
from typing import Any

from vsat.io.stac import SHA256_MULTIHASH, STAC_VERSION

_TEXTS = ("id", "collection")
_RING_POINTS = 4


def item_problems(item: Mapping[str, Any], digests: Mapping[str, tuple[str, int]], name: str) -> list[str]:
    """What is wrong with an image's item, in a few words each.

    Args:
        item: as published.
        digests: sha256 and bytes of each file that the ledger lists, by its path below the image's folder.
        name: of the image.
    """
    try:
        return [*_core(item, name), *_assets(item["assets"], digests)]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return [f"it is no STAC item ({type(error).__name__}: {error})"]


def _core(item: Mapping[str, Any], name: str) -> Iterator[str]:
    told = item["properties"]
    if item["type"] != "Feature" or item["stac_version"] != STAC_VERSION:
        yield f"it is no item of STAC {STAC_VERSION}"
    if not all(isinstance(item[key], str) and item[key] for key in _TEXTS) or item["id"] != name:
        yield "its id is not its file's name"
    for key in ("datetime", "start_datetime", "end_datetime", "updated"):
        datetime.fromisoformat(told[key])
    if not told["start_datetime"] <= told["datetime"] <= told["end_datetime"]:
        yield "its times are in the wrong order"
    west, south, east, north = (float(value) for value in item["bbox"])
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90):
        yield "its box is not on the Earth"
    kinds = {"Polygon": lambda rings: [rings], "MultiPolygon": list}
    for polygon in kinds[item["geometry"]["type"]](item["geometry"]["coordinates"]):
        for ring in polygon:
            if len(ring) < _RING_POINTS or ring[0] != ring[-1] or not all(isfinite(v) for point in ring for v in point):
                yield "its outline is not closed"
    if not all(isinstance(link["rel"], str) and isinstance(link["href"], str) for link in item["links"]):
        yield "a link leads nowhere"


def _assets(assets: Mapping[str, Any], digests: Mapping[str, tuple[str, int]]) -> Iterator[str]:
    for key, asset in assets.items():
        place = str(asset["href"]).removeprefix("./")
        if place not in digests:
            yield f"asset {key} has no receipt"
        elif (asset["file:checksum"], asset["file:size"]) != (SHA256_MULTIHASH + digests[place][0], digests[place][1]):
            yield f"asset {key} is said to have another size or checksum"
