"""Windows of the Web Mercator map, and where their pixels lie on a tile's grid. Axes: y, x of the picture."""

from dataclasses import dataclass
from math import atan, degrees, pi, sinh

import numpy as np
from numpy.typing import NDArray

from vsat.core.grid import TileGrid
from vsat.core.tiles import to_metres

HALF_M = pi * 6378137.0  # half of the square world, metres at the equator
TILE_PX = 256
MOST_ZOOM = 20
_STEP = (
    16  # places between are interpolated: UTM and Mercator bend against each other by less than .03 of a pixel there
)
_WIDE_M = 2e6  # a wider view reaches beyond the zone, where its metres are no longer numbers: each pixel by itself
_ZONE_DEG = 12.0  # tiles reach some degrees over their zone's border, near the poles most


@dataclass(frozen=True)
class View:
    """A window of the map in Web Mercator metres, and its size in pixels."""

    west: float
    south: float
    east: float
    north: float
    height: int
    width: int


@dataclass(frozen=True)
class Sight:
    """Where the picture's pixels lie on a grid.

    Attributes:
        row_yx, col_yx: float64, in pixels of the grid from its upper-left corner.
        inside_yx: bool, those that lie on it.
        step: pixels of the grid per pixel of the picture.
    """

    row_yx: NDArray[np.float64]
    col_yx: NDArray[np.float64]
    inside_yx: NDArray[np.bool_]
    step: float


def tile_view(zoom: int, x: int, y: int, *, scale: int = 1) -> View:
    """The window of a map tile (XYZ numbering), `scale` times 256 pixels wide."""
    side = 2 * HALF_M / 2**zoom
    west, north = x * side - HALF_M, HALF_M - y * side
    return View(west, north - side, west + side, north, TILE_PX * scale, TILE_PX * scale)


def box_view(bounds: tuple[float, float, float, float], width: int) -> View:
    """The window of a box in degrees (west, south, east, north; west > east crosses 180), `width` pixels wide."""
    west, south, east, north = bounds
    x0, x1 = west / 180 * HALF_M, (east + (360 if east < west else 0)) / 180 * HALF_M
    y0, y1 = _northing(south), _northing(north)
    height = max(1, round(width * (y1 - y0) / (x1 - x0)))
    return View(x0, y0, x1, y1, height, width)


def sight(view: View, grid: TileGrid) -> Sight | None:
    """Where the view's pixel centres lie on the grid; None if none does."""
    every = _STEP if view.east - view.west < _WIDE_M else 1
    rows, cols = _knots(view.height, every), _knots(view.width, every)
    x = view.west + (cols + 0.5) * (view.east - view.west) / view.width
    y = view.north - (rows + 0.5) * (view.north - view.south) / view.height
    lon = (np.degrees(x / HALF_M * pi) + 180) % 360 - 180
    lat = np.degrees(np.arctan(np.sinh(y / HALF_M * pi)))
    zone = grid.epsg - 32600
    near = np.abs((lon - (6 * zone - 183) + 180) % 360 - 180) < _ZONE_DEG
    if not near.any():
        return None
    easting, northing = to_metres(zone, *np.meshgrid(np.where(near, lon, 6.0 * zone - 183), lat))
    easting[:, ~near] = grid.x0 - grid.resolution_m * grid.width  # outside
    col_knots, row_knots = (easting - grid.x0) / grid.resolution_m, (grid.y0 - northing) / grid.resolution_m
    if _misses(row_knots, grid.height) or _misses(col_knots, grid.width):
        return None
    if every == 1:
        row_yx, col_yx = row_knots, col_knots
    else:
        down, right = _weights(rows, view.height), _weights(cols, view.width)
        row_yx, col_yx = (down @ knots @ right.T for knots in (row_knots, col_knots))
    inside_yx = (row_yx >= 0) & (row_yx < grid.height) & (col_yx >= 0) & (col_yx < grid.width)
    if not inside_yx.any():
        return None
    middle = latitude((view.south + view.north) / 2)
    step = (view.east - view.west) / view.width * float(np.cos(np.radians(middle))) / grid.resolution_m
    return Sight(row_yx, col_yx, inside_yx, step)


def latitude(y: float) -> float:
    """Degrees north of a Web Mercator northing in metres."""
    return degrees(atan(sinh(y / HALF_M * pi)))


def _northing(lat: float) -> float:
    most = latitude(HALF_M)
    return float(np.arcsinh(np.tan(np.radians(np.clip(lat, -most, most)))) / pi * HALF_M)


def _knots(length: int, every: int) -> NDArray[np.float64]:
    """Every so many pixels, and the last."""
    return np.unique(np.append(np.arange(0, length, every), length - 1)).astype(np.float64)


def _weights(knots: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    """(length, knots): linear interpolation at each pixel."""
    at = np.arange(length)
    return np.stack([np.interp(at, knots, row) for row in np.eye(len(knots))], axis=1)


def _misses(knots: NDArray[np.float64], length: int) -> bool:
    return bool(knots.max() < -1 or knots.min() > length + 1)
