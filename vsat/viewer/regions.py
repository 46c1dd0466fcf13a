"""Routes of the regions: which there are, their dates, tiles of the map, legends, the series of a pixel."""

from collections.abc import Sequence
from datetime import date
from typing import Annotated, Any, Literal

import antimeridian
import shapely
from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import Response

from vsat.io.images import Published
from vsat.viewer import answers
from vsat.viewer.animation import MOST_PX, frame_view, frames_of, gif
from vsat.viewer.area import AreaRequest, statistics
from vsat.viewer.area import as_csv as area_csv
from vsat.viewer.asked import (
    Box,
    Column,
    Day,
    End,
    Latitude,
    Longitude,
    RegionId,
    Row,
    Start,
    Zoom,
    box_of,
    day_of,
    stretch_of,
)
from vsat.viewer.holdings import Holdings, Shelf
from vsat.viewer.layers import Layer, Quantity, Show, legend
from vsat.viewer.mercator import tile_view
from vsat.viewer.picture import Asked, draw, png, sources_of
from vsat.viewer.problems import Refused
from vsat.viewer.problems import answers as told
from vsat.viewer.sending import as_json, attachment, kept
from vsat.viewer.series import as_csv, series, spot_of
from vsat.viewer.status import status

router = APIRouter(prefix="/api/regions", tags=["regions"])
PNG: dict[str, Any] = {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}
CSV: dict[str, Any] = {"text/csv": {"schema": {"type": "string"}}}


async def shelf_of(request: Request, region: RegionId) -> Shelf:
    """The region that an address names."""
    found: Shelf = request.app.state.shelves.of(region)
    return found


OfRegion = Annotated[Shelf, Depends(shelf_of)]


@router.get("", responses={200: {"model": answers.Regions}})
def list_regions(request: Request) -> Response:
    """All regions that are served."""
    return as_json({"regions": [summary(shelf, shelf.holdings()) for shelf in request.app.state.shelves]})


@router.get("/{region}", responses={200: {"model": answers.RegionDetail}, **told(404, 422, 503)})
def describe_region(shelf: OfRegion) -> Response:
    """A region with its dates, which have virtual images, and its looks, when a satellite really came by."""
    held = shelf.holdings()
    dates = [_date(day, tuple(images.values())) for day, images in held.by_day.items()]
    looks = [
        {"date": look.key.day.isoformat(), "tile": look.key.tile, "sensor": look.key.sensor, "clear": look.clear}
        for look in held.looks
    ]
    return as_json(summary(shelf, held) | {"dates": dates, "looks": looks})


@router.get(
    "/{region}/tiles/{layer}/{date}/{z}/{x}/{y}.png",
    responses={200: PNG | {"description": "the tile; transparent where there is nothing"}, **told(404, 422, 503)},
    response_class=Response,
)
def tile(
    request: Request, shelf: OfRegion, layer: Layer, date: Day, z: Zoom, x: Column, y: Row,
    show: Show = "true-colour",
    hatch: Annotated[bool, Query(description="hatching where a virtual value is prior only")] = True,
    scale: Annotated[int, Query(ge=1, le=2, description="2 gives 512 pixels, for fine screens")] = 1,
) -> Response:  # fmt: skip
    """A tile of the map, XYZ numbering in Web Mercator.

    `observed` is what was seen that day, clouds and all; `difference` the virtual value less that, wherever something
    was seen: under clouds it shows what was removed.
    """
    if x >= 2**z or y >= 2**z:
        raise Refused(404, f"zoom level {z} has {2**z} columns and rows")
    asked = Asked(layer, show if layer not in ("origin", "age") else "nir", day_of(date), hatch)
    sources = sources_of(shelf, shelf.holdings(), asked)
    view = tile_view(z, x, y, scale=scale)
    return kept(request, sources.digest, lambda: png(draw(shelf, asked, sources, view)), "image/png")


@router.get("/{region}/legend/{layer}", responses={200: {"model": answers.Legend}, **told(404, 422)})
def legend_of(shelf: OfRegion, layer: Layer, show: Show = "true-colour") -> Response:
    """What the colours of a layer mean; a range in the unit of its values, or classes."""
    return as_json(legend(layer, show))


@router.get(
    "/{region}/series",
    responses={200: {"model": answers.Series, "content": CSV}, **told(404, 422, 503)},
)
def series_of(
    shelf: OfRegion, lon: Longitude, lat: Latitude, show: Quantity = "ndvi", start: Start = None, end: End = None,
    format: Annotated[Literal["json", "csv"], Query(description="csv gives a table to save")] = "json",
) -> Response:  # fmt: skip
    """A pixel through time: every look at it, clear or not, and the virtual value of every date with its spread.

    The standard deviation of an index follows from its bands' by the delta method, their errors taken as independent.
    """
    first, last = stretch_of(start, end)
    found = series(shelf, shelf.holdings(), spot_of(shelf, lon, lat), show, first, last)
    if format == "csv":
        name = f"{shelf.name}-{found['tile']}-r{found['row']}-c{found['col']}-{show}.csv"
        return attachment(as_csv(found), name)
    return as_json(found)


@router.post(
    "/{region}/statistics",
    responses={200: {"model": answers.Statistics, "content": CSV}, **told(404, 413, 422, 503)},
)
def statistics_of(
    shelf: OfRegion, area: AreaRequest,
    format: Annotated[Literal["json", "csv"], Query(description="csv gives a table to save")] = "json",
) -> Response:  # fmt: skip
    """An area through time: mean and spread of its pixels on each date, and two bounds of what the mean may be off by.

    `sd` takes all pixels' errors for one, `sd_independent` takes no two to have to do with each other; the truth lies
    between, for an area of some fields near the first.
    """
    first, last = stretch_of(area.start, area.end)
    found = statistics(shelf, shelf.holdings(), area, first, last)
    if format == "csv":
        return attachment(area_csv(found), f"{shelf.name}-area-{area.show}.csv")
    return as_json(found)


@router.get(
    "/{region}/animation.gif",
    responses={
        200: {
            "description": "the animation",
            "content": {"image/gif": {"schema": {"type": "string", "format": "binary"}}},
        },
        **told(404, 422, 503),
    },
    response_class=Response,
)
def animation_of(
    request: Request, shelf: OfRegion, show: Show = "true-colour", start: Start = None, end: End = None, bbox: Box = None,
    width: Annotated[int, Query(ge=64, le=MOST_PX, description="pixels")] = 512,
) -> Response:  # fmt: skip
    """The virtual images from `start` to `end` as a GIF, the date written on each.

    Of more than 120 dates, or fewer where the picture is large, some are left out evenly; `X-Vsat-Frames` says how many.
    """
    first, last = stretch_of(start, end)
    held = shelf.holdings()
    west, south, east, north = box_of(bbox) if bbox else bounds(shelf)
    view = frame_view((west, south, east, north), width)
    days, count = frames_of(held, view, first, last)
    digest = " ".join(image.digest for day in days for image in held.by_day[day].values())
    response = kept(request, digest, lambda: gif(shelf, held, show, view, days), "image/gif")
    response.headers["X-Vsat-Frames"] = f"{len(days)} of {count}"
    return response


@router.get("/{region}/status", responses={200: {"model": answers.Status}, **told(404, 422, 503)})
def status_of(shelf: OfRegion) -> Response:
    """The grid of tiles and dates, what is stale or missing in it, and what the last night did."""
    return as_json(status(shelf, shelf.holdings()))


def summary(shelf: Shelf, held: Holdings) -> dict[str, Any]:
    """A region in the list."""
    days = list(held.by_day)
    return {
        "id": shelf.name, "bounds": bounds(shelf), "tiles": sorted(shelf.grids), "bands": list(shelf.bands),
        "method": shelf.region.method, "images": len(held.images),
        "first": days[0].isoformat() if days else None, "last": days[-1].isoformat() if days else None,
    }  # fmt: skip


def bounds(shelf: Shelf) -> list[float]:
    """West, south, east, north of the region in degrees; west > east where it crosses 180."""
    area = shelf.region.area
    if area.bbox:
        return list(area.bbox)
    return [float(value) for value in antimeridian.bbox(shapely.MultiPolygon(shapely.get_parts(area.geometry())))]


def _date(day: date, images: Sequence[Published]) -> dict[str, Any]:
    statuses = {image.status for image in images}
    shares = [float(share) for image in images if isinstance(share := image.facts.get("observed"), int | float)]
    return {
        "date": day.isoformat(), "status": statuses.pop() if len(statuses) == 1 else "mixed",
        "tiles": [image.tile for image in images],
        "observed": round(sum(shares) / len(shares), 6) if shares else 0.0,
    }  # fmt: skip
