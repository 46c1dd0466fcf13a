"""Search among the items of all regions: by box, area, time, ids and collection, page by page, newest first."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time
from typing import Any

import shapely
from pydantic import BaseModel, ConfigDict, Field
from shapely.geometry import box, shape
from shapely.geometry.base import BaseGeometry

from vsat.io.images import Published
from vsat.viewer.holdings import Shelf
from vsat.viewer.problems import Refused
from vsat.viewer.stac import GEOJSON, item, link, published

MOST = 250
USUAL = 10
_MOST_CORNERS = 10_000

Json = dict[str, Any]


class SearchBody(BaseModel):
    """What is searched for; every field narrows it down."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    bbox: list[float] | None = Field(default=None, min_length=4, max_length=6)
    datetime: str | None = Field(default=None, max_length=100, description="a moment, or an interval a/b, .. for open")
    ids: list[str] | None = Field(default=None, max_length=1000)
    collections: list[str] | None = Field(default=None, max_length=100)
    intersects: dict[str, Any] | None = Field(default=None, description="a GeoJSON geometry")
    limit: int = Field(default=USUAL, ge=1, le=10_000, description=f"items on a page; more than {MOST} gives {MOST}")
    token: str | None = Field(default=None, max_length=200, description="from a page's next link")


@dataclass(frozen=True)
class Found:
    """A page of items, how many match in all, and the token of the next page, None after the last."""

    items: list[Json]
    matched: int
    token: str | None


@dataclass(frozen=True)
class _Wanted:
    bbox: BaseGeometry | None
    shape: BaseGeometry | None
    start: datetime | None
    end: datetime | None
    ids: frozenset[str] | None


def search(shelves: Sequence[Shelf], asked: SearchBody, base: str) -> Found:
    """The items that match.

    Raises:
        Refused: a field cannot be used.
        StoreError: an item cannot be read.
    """
    wanted = _Wanted(
        _box(asked.bbox), _shape(asked.intersects), None, None, frozenset(asked.ids) if asked.ids else None
    )
    start, end = _interval(asked.datetime) if asked.datetime else (None, None)
    wanted = replace(wanted, start=start, end=end)
    chosen = [shelf for shelf in shelves if not asked.collections or shelf.name in asked.collections]
    matching = [(_key(shelf, image), shelf, image) for shelf in chosen for image in _matching(shelf, wanted)]
    matching.sort(key=lambda one: one[0], reverse=True)
    left = [one for one in matching if one[0] < asked.token] if asked.token else matching
    page = left[: min(asked.limit, MOST)]
    token = page[-1][0] if len(left) > len(page) else None
    return Found([item(shelf, image, base) for _, shelf, image in page], len(matching), token)


def page(found: Found, links: list[Json]) -> Json:
    """The answer with a page of items."""
    return {
        "type": "FeatureCollection", "features": found.items, "links": links, "numberMatched": found.matched,
        "numberReturned": len(found.items),
    }  # fmt: skip


def next_by_body(found: Found, asked: SearchBody, base: str) -> list[Json]:
    """The link to the next page of a search by POST."""
    if found.token is None:
        return []
    body = asked.model_dump(mode="json", exclude_none=True) | {"token": found.token}
    return [link("next", f"{base}/stac/search", GEOJSON) | {"method": "POST", "body": body}]


def asked_by_query(
    bbox: str | None, when: str | None, ids: str | None, collections: str | None, intersects: str | None, limit: int,
    token: str | None,
) -> SearchBody:  # fmt: skip
    """The fields of a search by GET.

    Raises:
        Refused: one cannot be read.
    """
    try:
        numbers = [float(part) for part in bbox.split(",")] if bbox else None
        geometry = json.loads(intersects) if intersects else None
        return SearchBody(
            bbox=numbers, datetime=when or None, ids=ids.split(",") if ids else None,
            collections=collections.split(",") if collections else None, intersects=geometry, limit=limit,
            token=token or None,
        )  # fmt: skip
    except (ValueError, RecursionError) as error:  # pydantic's errors are ValueErrors
        raise Refused(422, "bbox, intersects, ids or collections cannot be read; see the documentation") from error


def _matching(shelf: Shelf, wanted: _Wanted) -> Iterator[Published]:
    for image in shelf.holdings().images:
        begins = datetime.combine(image.day, time.min, UTC)
        ends = datetime.combine(image.day, time(23, 59, 59), UTC)
        if wanted.ids is not None and image.name not in wanted.ids:
            continue
        if (wanted.start and ends < wanted.start) or (wanted.end and begins > wanted.end):
            continue
        areas = [area for area in (wanted.bbox, wanted.shape) if area is not None]
        if areas and not all(_outline(shelf, image).intersects(area) for area in areas):
            continue
        yield image


def _outline(shelf: Shelf, image: Published) -> BaseGeometry:
    """The item's footprint, the same for all images of a tile."""
    return shelf.remembered(f"outline {image.tile}", lambda: shape(published(shelf, image)["geometry"]))


def _key(shelf: Shelf, image: Published) -> str:
    """Sorts by day, then region and name; the token of a page is the key of its last item."""
    return f"{image.day.isoformat()}|{shelf.name}|{image.name}"


def _box(numbers: list[float] | None) -> BaseGeometry | None:
    if not numbers:
        return None
    if len(numbers) not in (4, 6):
        raise Refused(422, "bbox has 4 or 6 numbers: west, south, (low,) east, north(, high)")
    west, south, east, north = (*numbers[:2], *numbers[len(numbers) // 2 :][:2])
    if not (south <= north and all(-180 <= lon <= 180 for lon in (west, east)) and south >= -90 and north <= 90):
        raise Refused(422, "bbox: longitudes lie from -180 to 180, and south is below north")
    if west <= east:
        return box(west, south, east, north)
    return box(west, south, 180, north).union(box(-180, south, east, north))


def _shape(geojson: Json | None) -> BaseGeometry | None:
    if geojson is None:
        return None
    try:
        made = shape(geojson)
        corners, is_finite = shapely.get_num_coordinates(made), bool(shapely.is_valid_input(made))
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        IndexError,
        RecursionError,
        OverflowError,
        shapely.errors.ShapelyError,
    ) as error:
        raise Refused(422, "intersects is no GeoJSON geometry") from error
    if made.is_empty or not is_finite or corners > _MOST_CORNERS or not made.is_valid:
        raise Refused(422, f"intersects is empty, not valid, or has more than {_MOST_CORNERS} corners")
    return made


def _interval(text: str) -> tuple[datetime | None, datetime | None]:
    parts = text.split("/")
    if len(parts) > 2 or set(parts) <= {"..", ""}:
        raise Refused(422, f"datetime: {text!r} is no moment and no interval")
    start, end = (None if part in ("..", "") else _moment(part) for part in (parts[0], parts[-1]))
    if start and end and start > end:
        raise Refused(422, "datetime: the interval ends before it begins")
    return start, end


def _moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError) as error:
        raise Refused(422, f"datetime: {text!r} is no moment; write 2024-05-31T00:00:00Z") from error
