"""An area through time: the mean of its pixels on each date, and how far it may be off. Axes: n pixels of the area."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Literal

import numpy as np
import shapely
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from shapely.geometry.base import BaseGeometry

from vsat.core.area import area_of_geojson
from vsat.core.grid import TileGrid
from vsat.core.indices import INDICES, index, index_sd
from vsat.core.means import mean_of
from vsat.core.quality import NO_VALUE, ORIGIN_MASK
from vsat.core.tiles import owners, to_degrees, to_metres
from vsat.hls import RESOLUTION_M
from vsat.io.cog import read_window
from vsat.io.images import reflectance
from vsat.viewer.holdings import Holdings, Image, Shelf, missing_bands
from vsat.viewer.layers import Quantity, quantity_bands, unit_of
from vsat.viewer.problems import Refused
from vsat.viewer.series import DIGITS

MOST_CORNERS = 10_000
MOST_PIXELS = 250_000  # 225 square kilometres
MOST_VALUES = 60_000_000  # pixels times dates: some ten seconds
_WINDOW_PX = 4 * MOST_PIXELS
_EDGE_DEG = 0.01  # edges are straight in degrees: at this step they bend by less than 0.2 m
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

    grid: TileGrid
    rows: slice
    cols: slice
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
    smooth = shapely.segmentize(geometry, _EDGE_DEG)
    windows = [(grid, flat, *window) for grid in shelf.grids.values() for flat, window in _windows(smooth, grid)]
    if sum((rows.stop - rows.start) * (cols.stop - cols.start) for _, _, rows, cols in windows) > _WINDOW_PX:
        raise Refused(422, f"the area reaches over more than {_WINDOW_PX} pixels; draw a smaller one")
    parts = [_part(*window, shared=len(shelf.grids) > 1) for window in windows]
    found = [part for part in parts if part.inside_yx.any()]
    if not found:
        problem = "the area holds no pixel's centre; draw a larger one" if windows else "the area is outside the region"
        raise Refused(422, problem)
    return found


def _windows(geometry: BaseGeometry, grid: TileGrid) -> list[tuple[BaseGeometry, tuple[slice, slice]]]:
    """The geometry in the tile's metres, and the window of the grid that it touches; nothing if it touches none."""
    lon = shapely.get_coordinates(geometry)[:, 0]
    zone = grid.epsg - 32600
    if (np.abs((lon - (6 * zone - 183) + 180) % 360 - 180) > 20).any():
        return []  # far from the zone, where its metres are no numbers
    flat = shapely.transform(geometry, lambda degrees: np.stack(to_metres(zone, *degrees.T), axis=1))
    west, south, east, north = flat.bounds
    top, bottom = (int(np.clip((grid.y0 - y) // grid.resolution_m, -1, grid.height)) for y in (north, south))
    left, right = (int(np.clip((x - grid.x0) // grid.resolution_m, -1, grid.width)) for x in (west, east))
    rows, cols = slice(max(0, top), min(grid.height, bottom + 1)), slice(max(0, left), min(grid.width, right + 1))
    return [(flat, (rows, cols))] if rows.start < rows.stop and cols.start < cols.stop else []


def _part(grid: TileGrid, flat: BaseGeometry, rows: slice, cols: slice, *, shared: bool) -> _Part:
    shapely.prepare(flat)
    x = grid.x0 + (np.arange(cols.start, cols.stop) + 0.5) * grid.resolution_m
    y = grid.y0 - (np.arange(rows.start, rows.stop) + 0.5) * grid.resolution_m
    x_yx, y_yx = np.meshgrid(x, y)
    inside_yx = np.asarray(shapely.contains_xy(flat, x_yx, y_yx))
    if shared and inside_yx.any():
        inside_yx[inside_yx] = owners(*to_degrees(grid.epsg - 32600, x_yx[inside_yx], y_yx[inside_yx])) == grid.tile
    return _Part(grid, rows, cols, inside_yx)


def _date(
    day: date, parts: Sequence[_Part], images: Mapping[str, Image], show: str, bands: Sequence[str]
) -> dict[str, Any]:
    found = [_pixels(part, images[part.grid.tile], show, bands) for part in parts if part.grid.tile in images]
    value_n, sd_n, origin_n = (np.concatenate(column) for column in zip(*found, strict=True)) if found else _NOTHING
    told = mean_of(value_n, sd_n)
    names = ("mean", "sd", "sd_independent", "p10", "p90")
    if told is None:
        return {"date": day.isoformat(), "values": 0, **dict.fromkeys(names), "origins": [0.0] * 4}
    numbers = {name: round(float(getattr(told, name)), DIGITS) for name in names}
    origin_n = origin_n[np.isfinite(value_n) & np.isfinite(sd_n)]
    origins = (np.bincount(origin_n, minlength=4)[:4] / origin_n.size).round(DIGITS).tolist()
    return {"date": day.isoformat(), "values": told.values, **numbers, "origins": origins}


def _pixels(part: _Part, image: Image, show: str, bands: Sequence[str]) -> tuple[Floats, Floats, NDArray[np.uint8]]:
    """Value, SD and origin of the area's pixels on an image; NaN where there is no value."""

    def read(*, sd: bool) -> Floats:
        paths = [image.band(band, sd=sd) for band in bands]
        stored = np.stack([read_window(path, part.rows, part.cols)[part.inside_yx] for path in paths])
        return reflectance(stored)

    refl_bn, sd_bn = read(sd=False), read(sd=True)
    qa_n = read_window(image.asset("qa"), part.rows, part.cols)[part.inside_yx].astype(np.uint8)
    if show in INDICES:
        value_n, sd_n = index(show, refl_bn, bands), index_sd(show, refl_bn, sd_bn, bands)
    else:
        value_n, sd_n = refl_bn[0], sd_bn[0]
    value_n = np.where(qa_n & NO_VALUE, np.float32(np.nan), value_n)
    return value_n, sd_n, (qa_n & ORIGIN_MASK).astype(np.uint8)
