"""An area through time: the mean of its pixels on each date, and how far it may be off. Axes: n pixels of the area."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from shapely.geometry.base import BaseGeometry

from vsat.core.area import area_of_geojson
from vsat.core.cover import Reach, inside, reach
from vsat.core.indices import INDICES, index, index_sd
from vsat.core.means import mean_of
from vsat.core.quality import NO_VALUE, ORIGIN_MASK
from vsat.hls import RESOLUTION_M
from vsat.io.cog import read_window
from vsat.io.images import Published, reflectance
from vsat.viewer.holdings import Holdings, Shelf, band_layer, layer, missing_bands
from vsat.viewer.layers import Quantity, quantity_bands, unit_of
from vsat.viewer.problems import Refused
from vsat.viewer.series import DIGITS

MOST_CORNERS = 10_000
MOST_PIXELS = 250_000  # 225 square kilometres
MOST_VALUES = 60_000_000  # pixels times dates: some ten seconds
_WINDOW_PX = 4 * MOST_PIXELS
COLUMNS = (
    "date",
    "values",
    "mean",
    "sd",
    "sd_independent",
    "p10",
    "p90",
    "origin_0",
    "origin_1",
    "origin_2",
    "origin_3",
)

Floats = NDArray[np.float32]
_NOTHING = np.empty(0, np.float32), np.empty(0, np.float32), np.empty(0, np.uint8)


class Polygon(BaseModel):
    """A GeoJSON Polygon in degrees, longitude first: rings of corners, the last the same as the first."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    type: Literal["Polygon"]
    coordinates: list[list[list[float]]] = Field(min_length=1, max_length=100)


class AreaRequest(BaseModel):
    """An area, what of it, and from when to when."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    geometry: Polygon
    show: Quantity = "ndvi"
    start: str | None = Field(default=None, pattern=r"^\d{4}-\d{2}-\d{2}$", description="first day")
    end: str | None = Field(default=None, pattern=r"^\d{4}-\d{2}-\d{2}$", description="last day")


@dataclass(frozen=True)
class _Part:
    """The area's pixels on one tile: a window, and which of its pixels."""

    at: Reach
    inside_yx: NDArray[np.bool_]


def statistics(shelf: Shelf, held: Holdings, area: AreaRequest, start: date | None, end: date | None) -> dict[str, Any]:
    """The area's mean on every date from `start` to `end`, as the API answers it.

    What the mean may be off by depends on how the pixels' errors go together, which images do not say. Errors of one
    date go together strongly over some hundred metres (haze, a missed cut of a field) and less and less beyond. So two
    bounds are given: `sd`, the mean of the pixels' SDs, as if all errors were one, which no correlation exceeds; and
    `sd_independent`, as if no two had to do with each other. The truth lies between, for an area of some fields near the
    first. A pixel counts where its centre is inside; where tiles overlap, that of the tile that owns the place.

    Raises:
        Refused: the area is outside the region, too small for a pixel, or too large.
        InputError: the geometry is no polygon.
    """
    bands = quantity_bands(area.show)
    if lacking := missing_bands(shelf.bands, bands):
        raise Refused(422, f"{area.show} needs {', '.join(lacking)}; this region has {', '.join(shelf.bands)}")
    parts = _parts(shelf, _geometry(area.geometry))
    pixels = sum(int(part.inside_yx.sum()) for part in parts)
    days = held.between(start, end)
    if pixels > MOST_PIXELS or pixels * len(days) > MOST_VALUES:
        limits = f"at most {MOST_PIXELS} pixels, and {MOST_VALUES} times dates"
        raise Refused(422, f"{pixels} pixels on {len(days)} dates are too many ({limits}); draw a smaller area")

    def one(day: date) -> dict[str, Any]:
        return _date(day, parts, held.by_day[day], area.show, bands)

    return {
        "region": shelf.name, "show": area.show, "unit": unit_of(area.show), "pixels": pixels,
        "hectares": round(pixels * RESOLUTION_M**2 / 1e4, 2), "dates": list(shelf.pool.map(one, days)),
    }  # fmt: skip


def as_csv(told: Mapping[str, Any]) -> str:
    """The dates as a table."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in told["dates"]:
        cells = [row[name] for name in COLUMNS[:7]] + row["origins"]
        writer.writerow(["" if cell is None else cell for cell in cells])
    return buffer.getvalue()


def _geometry(polygon: Polygon) -> BaseGeometry:
    if sum(len(ring) for ring in polygon.coordinates) > MOST_CORNERS:
        raise Refused(422, f"the polygon has more than {MOST_CORNERS} corners; draw a simpler one")
    return area_of_geojson(polygon.model_dump())


def _parts(shelf: Shelf, geometry: BaseGeometry) -> list[_Part]:
    windows = [window for grid in shelf.grids.values() if (window := reach(geometry, grid))]
    if sum(window.pixels for window in windows) > _WINDOW_PX:
        raise Refused(422, f"the area reaches over more than {_WINDOW_PX} pixels; draw a smaller one")
    parts = [_Part(window, inside(window, shared=len(shelf.grids) > 1)) for window in windows]
    found = [part for part in parts if part.inside_yx.any()]
    if not found:
        problem = "the area holds no pixel's centre; draw a larger one" if windows else "the area is outside the region"
        raise Refused(422, problem)
    return found


def _date(
    day: date, parts: Sequence[_Part], images: Mapping[str, Published], show: str, bands: Sequence[str]
) -> dict[str, Any]:
    found = [_pixels(part, images[part.at.grid.tile], show, bands) for part in parts if part.at.grid.tile in images]
    value_n, sd_n, origin_n = (np.concatenate(column) for column in zip(*found, strict=True)) if found else _NOTHING
    told = mean_of(value_n, sd_n)
    names = ("mean", "sd", "sd_independent", "p10", "p90")
    if told is None:
        return {"date": day.isoformat(), "values": 0, **dict.fromkeys(names), "origins": [0.0] * 4}
    numbers = {name: round(float(getattr(told, name)), DIGITS) for name in names}
    origin_n = origin_n[np.isfinite(value_n) & np.isfinite(sd_n)]
    origins = (np.bincount(origin_n, minlength=4)[:4] / origin_n.size).round(DIGITS).tolist()
    return {"date": day.isoformat(), "values": told.values, **numbers, "origins": origins}


def _pixels(part: _Part, image: Published, show: str, bands: Sequence[str]) -> tuple[Floats, Floats, NDArray[np.uint8]]:
    """Value, SD and origin of the area's pixels on an image; NaN where there is no value."""

    def read(*, sd: bool) -> Floats:
        paths = [band_layer(image, band, sd=sd) for band in bands]
        stored = np.stack([read_window(path, part.at.rows, part.at.cols)[part.inside_yx] for path in paths])
        return reflectance(stored)

    refl_bn, sd_bn = read(sd=False), read(sd=True)
    qa_n = read_window(layer(image, "qa"), part.at.rows, part.at.cols)[part.inside_yx].astype(np.uint8)
    if show in INDICES:
        value_n, sd_n = index(show, refl_bn, bands), index_sd(show, refl_bn, sd_bn, bands)
    else:
        value_n, sd_n = refl_bn[0], sd_bn[0]
    value_n = np.where(qa_n & NO_VALUE, np.float32(np.nan), value_n)
    return value_n, sd_n, (qa_n & ORIGIN_MASK).astype(np.uint8)
