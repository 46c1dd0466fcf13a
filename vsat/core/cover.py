"""Which pixels of a tile's grid a polygon covers."""

from dataclasses import dataclass

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from vsat.core.grid import TileGrid, owned_pixels
from vsat.core.tiles import to_metres

_EDGE_DEG = 0.01  # edges are straight in degrees: at this step they bend by less than 0.2 m in metres
_FAR_DEG = 20  # so far from a zone's middle its metres are no numbers


@dataclass(frozen=True)
class Reach:
    """The window of a grid that a polygon touches, and the polygon in the grid's metres."""

    grid: TileGrid
    rows: slice
    cols: slice
    shape: BaseGeometry

    @property
    def pixels(self) -> int:
        """Pixels of the window."""
        tall, wide = (int(span.stop - span.start) for span in (self.rows, self.cols))
        return tall * wide


def reach(geometry: BaseGeometry, grid: TileGrid) -> Reach | None:
    """The window that a geometry in degrees touches; None where it touches none. Cheap for any size of grid."""
    zone = grid.epsg - 32600
    smooth = shapely.segmentize(geometry, _EDGE_DEG)
    lon = shapely.get_coordinates(smooth)[:, 0]
    if (np.abs((lon - (6 * zone - 183) + 180) % 360 - 180) > _FAR_DEG).any():
        return None
    flat = shapely.transform(smooth, lambda degrees: np.stack(to_metres(zone, *degrees.T), axis=1))
    west, south, east, north = flat.bounds
    top, bottom = (int(np.clip((grid.y0 - y) // grid.resolution_m, -1, grid.height)) for y in (north, south))
    left, right = (int(np.clip((x - grid.x0) // grid.resolution_m, -1, grid.width)) for x in (west, east))
    rows, cols = slice(max(0, top), min(grid.height, bottom + 1)), slice(max(0, left), min(grid.width, right + 1))
    return Reach(grid, rows, cols, flat) if rows.start < rows.stop and cols.start < cols.stop else None


def inside(found: Reach, *, shared: bool) -> NDArray[np.bool_]:
    """(y, x) of the window: True where a pixel's centre lies in the polygon.

    Args:
        found: what `reach` gave.
        shared: whether other tiles may hold the same ground; then a pixel counts only where this tile owns it.
    """
    shapely.prepare(found.shape)
    row_y, col_x = np.ogrid[found.rows, found.cols]
    x_x = found.grid.x0 + (col_x + 0.5) * found.grid.resolution_m
    y_y = found.grid.y0 - (row_y + 0.5) * found.grid.resolution_m
    inside_yx = np.asarray(shapely.contains_xy(found.shape, x_x, y_y))
    if shared:
        row_n, col_n = np.nonzero(inside_yx)
        owned_n = owned_pixels(found.grid, row_n + found.rows.start, col_n + found.cols.start)
        inside_yx[row_n, col_n] = owned_n
    return inside_yx
