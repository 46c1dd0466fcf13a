"""Pixel lattices of HLS tiles, and the windows of them that an area needs. Metres in UTM; shapes are (y, x)."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from vsat.core.tiles import (
    NORTH,
    SOUTH,
    SQUARE_M,
    SVALBARD,
    Square,
    columns,
    neighbour,
    owners,
    to_degrees,
    to_metres,
    zone_boxes,
)
from vsat.errors import InputError
from vsat.hls import RESOLUTION_M, TILE_PX

Bounds = tuple[float, float, float, float]

# Edges are straight in degrees and curved in metres: at this step the two differ by less than 0.2 m at 80 degrees.
_STEP_DEG = 0.01
# A window does not grow by a pixel for an edge that is past it by less: degrees are often rounded to six digits.
_SLACK_M = 0.5
# Square metres, or square degrees (a tenth of a square metre): rounding, no ground.
_CRUMB = 1e-11
_BLOCK_PX = 60


@dataclass(frozen=True)
class TileGrid:
    """A window of one MGRS tile's 30 m lattice.

    `x0`, `y0` are the upper-left corner in metres in `epsg` (326zz also in the south, with negative northings, as NASA
    writes it); `height`, `width` in pixels.
    """

    tile: str
    epsg: int
    x0: float
    y0: float
    height: int
    width: int
    resolution_m: float = RESOLUTION_M

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.height, self.width

    @property
    def transform(self) -> Affine:
        """Pixel corner (column, row) to metres."""
        return Affine(self.resolution_m, 0.0, self.x0, 0.0, -self.resolution_m, self.y0)

    @property
    def bounds(self) -> Bounds:
        """West, south, east, north in metres."""
        return (
            self.x0,
            self.y0 - self.height * self.resolution_m,
            self.x0 + self.width * self.resolution_m,
            self.y0,
        )


def full_tile(tile: str) -> TileGrid:
    """The whole lattice of a tile: 3660 x 3660 pixels, 109.8 km, of which the tile owns 100 km.

    The corner is the square's, moved outwards to a multiple of 60 m, counted from easting 0 and from the equator.

    Raises:
        InputError: no such tile exists.
    """
    square = Square.from_tile(tile)
    west, _, _, north = square.bounds
    return TileGrid(tile, square.epsg, math.floor(west / 60) * 60.0, math.ceil(north / 60) * 60.0, TILE_PX, TILE_PX)


def tiles_over(geometry: BaseGeometry) -> list[TileGrid]:
    """The windows that hold the area, one for each tile that owns some of it, sorted by tile.

    Every place has one owner (`core.tiles.owners`): no ground is worked on twice although tiles overlap. A window is
    what the tile owns of the area, moved outwards to whole pixels; what is narrower than a pixel is left out,
    unless nothing else is there.

    Args:
        geometry: a valid polygon or multipolygon in degrees, longitude first, from -180 to 180; an area across 180
            degrees is split there (`core.area` does it).

    Raises:
        InputError: the area has no extent or reaches beyond 80 S or 84 N, where HLS has no tiles.
    """
    _, south, _, north = geometry.bounds
    if geometry.is_empty or geometry.area == 0:
        raise InputError("the area is empty", next_step="give a polygon or a box with an extent")
    if south < SOUTH or north > NORTH:
        raise InputError(
            f"the area reaches from {south:g} to {north:g} degrees north",
            next_step="HLS has tiles from 80 S to 84 N only: cut the area there",
        )
    extents: dict[Square, Bounds] = {}
    for square, bounds in _owned(geometry):
        extents[square] = _union(extents[square], bounds) if square in extents else bounds
    if not extents:
        raise InputError("the area is smaller than a square metre", next_step="give a polygon or a box with an extent")
    wide = {square: bounds for square, bounds in extents.items() if not _is_sliver(bounds)}
    windows = [_window(full_tile(square.tile), bounds) for square, bounds in (wide or extents).items()]
    return sorted(windows, key=lambda grid: grid.tile)


def owner_mask(grid: TileGrid) -> NDArray[np.bool_]:
    """(y, x): True where the pixel's centre is owned by this tile, False where it belongs to one that overlaps."""
    # Blocks whose four corner pixels have one owner are not looked into: edges of ownership are nearly straight.
    rows, cols = (np.append(np.arange(0, size, _BLOCK_PX), size - 1) for size in grid.shape)
    corner = owned_pixels(grid, *np.meshgrid(rows, cols, indexing="ij"))
    mask = np.empty(grid.shape, bool)
    for i, top in enumerate(rows[:-1]):
        for j, left in enumerate(cols[:-1]):
            window = slice(top, rows[i + 1] + 1), slice(left, cols[j + 1] + 1)
            block = corner[i : i + 2, j : j + 2]
            even = block.all() or not block.any()
            mask[window] = block[0, 0] if even else owned_pixels(grid, *np.mgrid[window])
    return mask


def owned_pixels(grid: TileGrid, row: NDArray[np.int64], col: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of the pixels at `row` and `col`, of like shape, are owned by this tile."""
    x = np.asarray(grid.x0 + (col + 0.5) * grid.resolution_m, np.float64)
    y = np.asarray(grid.y0 - (row + 0.5) * grid.resolution_m, np.float64)
    owned: NDArray[np.bool_] = owners(*to_degrees(grid.epsg - 32600, x, y)) == grid.tile
    return owned


def _owned(geometry: BaseGeometry) -> Iterator[tuple[Square, Bounds]]:
    """Pieces of the area by owner: the square of the tile, and the piece's extent in metres."""
    for zone, box in zone_boxes():
        piece = _polygons(shapely.intersection(geometry, shapely.box(*box)))
        if piece.is_empty:
            continue
        for square, clip in _by_square(_to_metres(shapely.segmentize(piece, _STEP_DEG), zone), zone):
            if square.is_tile:
                yield square, clip.bounds
            else:
                yield from _given_away(square, clip, polar=box[1] >= SVALBARD)


def _by_square(flat: BaseGeometry, zone: int) -> Iterator[tuple[Square, BaseGeometry]]:
    if flat.is_empty:
        return
    west, south, east, north = (math.floor(value / SQUARE_M) for value in flat.bounds)
    for row in range(south, north + 1):
        # Not clip_by_rect: it is quicker, but fails on rings that a cut makes very thin.
        strip = shapely.intersection(flat, shapely.box(*_strip(west, east, row)))
        for column in range(west, east + 1):
            clip = _polygons(shapely.intersection(strip, shapely.box(*Square(zone, column, row).bounds)))
            if not clip.is_empty:
                yield Square(zone, column, row), clip


def _strip(west: int, east: int, row: int) -> Bounds:
    return west * SQUARE_M, row * SQUARE_M, (east + 1) * SQUARE_M, (row + 1) * SQUARE_M


def _given_away(square: Square, clip: BaseGeometry, *, polar: bool) -> Iterator[tuple[Square, Bounds]]:
    """The same for a square without a tile: the next zone's tiles reach over it."""
    zone = neighbour(square.zone, west=square.column < 5, polar=polar)
    lon_lat = shapely.transform(shapely.segmentize(clip, 1000), lambda xy: _columns(to_degrees(square.zone, *xy.T)))
    for beside, part in _by_square(_to_metres(lon_lat, zone), zone):
        first, last = columns(zone, beside.row)
        yield Square(zone, min(max(beside.column, first), last), beside.row), part.bounds


def _to_metres(geometry: BaseGeometry, zone: int) -> BaseGeometry:
    flat = shapely.transform(geometry, lambda lon_lat: _columns(to_metres(zone, *lon_lat.T)))
    return _polygons(shapely.make_valid(flat))


def _columns(xy: Iterable[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.stack(list(xy), axis=1)


def _polygons(geometry: BaseGeometry) -> shapely.MultiPolygon:
    """Without the points, lines and crumbs that a cut leaves."""
    parts = shapely.get_parts(shapely.get_parts(geometry))
    return shapely.MultiPolygon([part for part in parts if part.area > _CRUMB])


def _union(one: Bounds, other: Bounds) -> Bounds:
    return min(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2]), max(one[3], other[3])


def _is_sliver(bounds: Bounds) -> bool:
    return bounds[2] - bounds[0] < RESOLUTION_M or bounds[3] - bounds[1] < RESOLUTION_M


def _window(full: TileGrid, bounds: Bounds) -> TileGrid:
    """The part of a tile that covers `bounds`, in whole pixels, at least one."""
    left, right = _span(bounds[0] - full.x0, bounds[2] - full.x0)
    top, bottom = _span(full.y0 - bounds[3], full.y0 - bounds[1])
    x0, y0 = full.x0 + left * RESOLUTION_M, full.y0 - top * RESOLUTION_M
    return TileGrid(full.tile, full.epsg, x0, y0, bottom - top, right - left)


def _span(low_m: float, high_m: float) -> tuple[int, int]:
    first = min(max(math.floor((low_m + _SLACK_M) / RESOLUTION_M), 0), TILE_PX - 1)
    last = min(math.ceil((high_m - _SLACK_M) / RESOLUTION_M), TILE_PX)
    return first, max(last, first + 1)
