"""Where map tiles lie on a tile's grid: as the projections say it, pixel by pixel, at every zoom level."""

import numpy as np
import pytest
from pyproj import Transformer

from vsat.core.grid import TileGrid, full_tile
from vsat.viewer.mercator import HALF_M, View, box_view, latitude, sight, tile_view

TILES = ("33UVP", "01WCT", "60HTB", "19LBJ", "32VKN")  # mid latitudes, both sides of 180, the south, Norway's odd zone


def grid_of(tile: str) -> TileGrid:
    return full_tile(tile)


def tile_at(lon: float, lat: float, zoom: int) -> tuple[int, int]:
    x = (lon + 180) / 360 * 2**zoom
    y = (1 - np.arcsinh(np.tan(np.radians(lat))) / np.pi) / 2 * 2**zoom
    return int(x), int(y)


def exact(view: View, grid: TileGrid) -> tuple[np.ndarray, np.ndarray]:
    x = view.west + (np.arange(view.width) + 0.5) * (view.east - view.west) / view.width
    y = view.north - (np.arange(view.height) + 0.5) * (view.north - view.south) / view.height
    to_grid = Transformer.from_crs(3857, grid.epsg, always_xy=True)
    easting, northing = to_grid.transform(*np.meshgrid(x, y))
    return (grid.y0 - northing) / 30, (easting - grid.x0) / 30


@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("zoom", [7, 9, 12, 16])
def test_pixels_are_where_the_projections_put_them(tile: str, zoom: int) -> None:
    grid = grid_of(tile)
    west, south, east, north = grid.bounds
    lon, lat = Transformer.from_crs(grid.epsg, 4326, always_xy=True).transform((west + east) / 2, (south + north) / 2)
    view = tile_view(zoom, *tile_at(lon, lat, zoom))
    found = sight(view, grid)
    assert found is not None
    row_yx, col_yx = exact(view, grid)
    off = np.hypot(found.row_yx - row_yx, found.col_yx - col_yx)[found.inside_yx]
    assert off.max() / found.step < 0.05  # of a pixel of the picture
    assert found.step == pytest.approx(2 * HALF_M / 2**zoom / 256 * np.cos(np.radians(lat)) / 30, rel=0.1)


def test_a_view_of_the_world_shows_the_tile_once_and_a_view_elsewhere_not_at_all() -> None:
    grid = grid_of("33UVP")
    world = sight(tile_view(3, *tile_at(14.5, 48.2, 3), scale=2), grid)
    assert world is not None and 1 <= world.inside_yx.sum() < 400
    rows, cols = np.nonzero(world.inside_yx)
    assert np.ptp(rows) < 20 and np.ptp(cols) < 20
    assert sight(tile_view(8, *tile_at(100.0, 48.2, 8)), grid) is None
    assert sight(tile_view(8, *tile_at(14.5, -48.2, 8)), grid) is None
    assert sight(tile_view(14, *tile_at(30.5, 48.2, 14)), grid) is None


def test_tiles_cover_the_world_and_boxes_keep_their_shape() -> None:
    assert tile_view(0, 0, 0).west == -HALF_M and tile_view(0, 0, 0).north == HALF_M
    assert tile_view(5, 3, 4).east == pytest.approx(tile_view(5, 4, 4).west)
    assert latitude(HALF_M) == pytest.approx(85.0511, abs=1e-4)
    view = box_view((14.0, 48.0, 15.0, 48.5), 400)
    assert (view.east - view.west) / view.width == pytest.approx((view.north - view.south) / view.height, rel=0.01)
    across = box_view((179.5, -17.0, -179.5, -16.0), 300)
    assert across.east > HALF_M and across.height == pytest.approx(300, rel=0.06)
