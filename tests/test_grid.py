"""Windows over areas. The peer is dense sampling: every point's owner, one by one, without any geometry."""

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import rasterio
import shapely
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from shapely.geometry.base import BaseGeometry

from vsat.core.area import area_of_box
from vsat.core.grid import TileGrid, full_tile, owner_mask, tiles_over
from vsat.core.tiles import NORTH, SOUTH, Square, owners, to_degrees, to_metres
from vsat.errors import InputError
from vsat.hls import GranuleId


@st.composite
def boxes(draw: st.DrawFn) -> tuple[float, float, float, float]:
    """Boxes of 1 to 300 km anywhere, many of them across a zone border, a band border or 180 degrees."""
    height = draw(st.floats(0.01, 2.5))
    south = draw(st.floats(SOUTH, NORTH - height) | st.sampled_from([55.5, 63.5, 71.5, -0.5, 47.5, 83.9 - height]))
    width = draw(st.floats(0.02, 3.0))
    west = draw(st.floats(-180, 179.99) | st.sampled_from([5.5, 2.5, 29.5, 179.0, -180.0, 8.5, 20.5, 32.5, 41.5]))
    south = max(SOUTH, min(south, NORTH - height))
    east = west + width
    return west, south, east - 360 if east > 180 else east, south + height


def inside(grid: TileGrid, lon: np.ndarray, lat: np.ndarray, slack_m: float = 0.6) -> np.ndarray:
    x, y = to_metres(grid.epsg - 32600, lon, lat)
    west, south, east, north = grid.bounds
    return (x >= west - slack_m) & (x <= east + slack_m) & (y >= south - slack_m) & (y <= north + slack_m)


def sampled(area: BaseGeometry, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Points of the area on a lattice of about `count` in each of its parts."""
    parts = []
    for part in shapely.get_parts(area):
        west, south, east, north = part.bounds
        side = math.ceil(math.sqrt(count))
        lon, lat = (a.ravel() for a in np.meshgrid(np.linspace(west, east, side), np.linspace(south, north, side)))
        parts.append(np.stack([lon, lat])[:, shapely.intersects_xy(part, lon, lat)])
    lon, lat = np.concatenate(parts, axis=1)
    return lon, lat


def narrow_m(x: np.ndarray, y: np.ndarray) -> float:
    """How wide points lie across the line they lie along: a zone's border does not run due north."""
    centred = np.stack([x - x.mean(), y - y.mean()], axis=1)
    across = np.linalg.eigh(centred.T @ centred).eigenvectors[:, 0]
    return float(np.ptp(centred @ across))


def test_a_slanting_line_is_narrow_and_a_square_is_not() -> None:
    along = np.linspace(0, 4000, 30)
    assert narrow_m(2e5 + 0.02 * along, 3e6 + along) < 0.01
    assert narrow_m(*(axis.ravel() for axis in np.meshgrid(along, along))) > 4000 / 2


@example((29.5, 26.0, 30.0, 27.0))  # its east edge is the next zone's border
@given(boxes())
@settings(max_examples=150, deadline=None)
def test_every_point_of_an_area_is_in_the_window_of_its_owner(box: tuple[float, float, float, float]) -> None:
    area = area_of_box(*box)
    grids = {grid.tile: grid for grid in tiles_over(area)}
    lon, lat = sampled(area, 900)
    names = owners(lon, lat)
    for name in np.unique(names):
        here = names == name
        if str(name) in grids:
            assert inside(grids[str(name)], lon[here], lat[here]).all()
        else:  # only a sliver may be left out: what the tile owns here is less than a pixel wide
            assert narrow_m(*to_metres(Square.from_tile(str(name)).zone, lon[here], lat[here])) < 30


@given(st.integers(1, 60), st.floats(-2.4, 2), st.floats(-60, 59), st.floats(0.01, 1), st.floats(0.01, 1))
@settings(max_examples=60, deadline=None)
def test_windows_are_as_small_as_the_same_cut_in_degrees(
    zone: int, west: float, south: float, width: float, height: float
) -> None:
    west += 6 * zone - 183  # within the zone, where no tile reaches over from the next
    area = shapely.box(west, south, min(west + width, 6 * zone - 180.6), south + height)
    for grid in tiles_over(area):
        square = shapely.segmentize(shapely.box(*Square.from_tile(grid.tile).bounds), 500)
        outline = shapely.transform(square, lambda xy: np.stack(to_degrees(zone, *xy.T), axis=1))
        piece = shapely.segmentize(shapely.intersection(area, outline), 0.005)
        bounds = shapely.transform(piece, lambda lon_lat: np.stack(to_metres(zone, *lon_lat.T), axis=1)).bounds
        assert np.abs(np.subtract(grid.bounds, bounds)).max() < 31


@given(boxes())
@settings(max_examples=60, deadline=None)
def test_windows_lie_on_the_lattice_of_their_tile(box: tuple[float, float, float, float]) -> None:
    grids = tiles_over(area_of_box(*box))
    assert [grid.tile for grid in grids] == sorted({grid.tile for grid in grids})
    for grid in grids:
        full = full_tile(grid.tile)
        column, row = (grid.x0 - full.x0) / 30, (full.y0 - grid.y0) / 30
        assert (column, row) == (int(column), int(row))
        assert min(column, row) >= 0
        assert min(grid.shape) >= 1
        assert column + grid.width <= 3660
        assert row + grid.height <= 3660


@given(st.integers(0, 3600), st.integers(0, 3600), st.integers(2, 300), st.integers(2, 300))
@settings(deadline=None)
def test_a_window_given_as_degrees_comes_back(row: int, col: int, height: int, width: int) -> None:
    full = full_tile("33UWP")  # around the central meridian, wholly inside its zone
    assume(min(row, col) >= 40 and row + height <= 3300 and col + width <= 3300)
    x0, y0 = full.x0 + 30 * col, full.y0 - 30 * row
    ring = shapely.segmentize(shapely.box(x0, y0 - 30 * height, x0 + 30 * width, y0), 300)
    area = shapely.transform(ring, lambda xy: np.round(np.stack(to_degrees(33, *xy.T), axis=1), 6))
    assert tiles_over(area) == [TileGrid("33UWP", 32633, x0, y0, height, width)]


@pytest.mark.parametrize(
    ("tile", "x0", "y0"),
    [
        ("31TCJ", 300_000, 4_900_020),
        ("32TQM", 699_960, 4_700_040),
        ("06WVS", 399_960, 7_200_000),
        ("19LBJ", 199_980, -1_099_980),
    ],
)
def test_corners_of_known_tiles(tile: str, x0: float, y0: float) -> None:
    assert full_tile(tile) == TileGrid(tile, 32600 + int(tile[:2]), x0, y0, 3660, 3660)


@pytest.mark.real
@pytest.mark.parametrize("folder", ["fmask", "hls"])
def test_corners_are_those_of_real_granules(shared_data: Path, folder: str) -> None:
    paths = sorted((shared_data / folder).glob("*.tif"))
    assert paths
    for path in paths:
        granule = GranuleId.from_string(".".join(path.name.split(".")[:6]))
        full = full_tile(granule.tile)
        with rasterio.open(path) as file:
            assert file.crs.to_wkt().find(f"one {int(granule.tile[:2])}") > 0
            if file.shape == full.shape:
                assert file.transform == full.transform
            else:  # cropped, on the same lattice
                column, row = ~full.transform @ (file.transform.c, file.transform.f)
                assert (column % 1, row % 1) == (0, 0)
                assert column >= 0
                assert row + file.height <= 3660


@given(st.sampled_from(["33UWP", "19LBJ", "01CDM", "32VKL", "36NTF"]), st.integers(0, 3659), st.integers(0, 3659))
def test_transform_and_bounds_agree(tile: str, row: int, col: int) -> None:
    grid = full_tile(tile)
    x, y = grid.transform @ (col, row)
    assert ~grid.transform @ (x, y) == pytest.approx((col, row))
    assert grid.transform @ (grid.width, grid.height) == (grid.bounds[2], grid.bounds[1])


def test_a_country_is_quick_and_every_tile_is_there() -> None:
    round_country = shapely.Point(20, 10).buffer(8, quad_segs=2000)
    grids = tiles_over(round_country)
    lon, lat = sampled(round_country, 100_000)
    found = Counter(owners(lon, lat).tolist())
    assert {name for name, count in found.items() if count > 2} <= {grid.tile for grid in grids}
    assert {grid.tile for grid in grids} >= set(found)
    assert 150 < len(grids) < 400


def test_an_area_across_180_has_tiles_of_both_sides_and_no_others() -> None:
    assert {grid.tile[:2] for grid in tiles_over(area_of_box(179.5, -17, -179.5, -16.5))} == {"01", "60"}


def test_norway_belongs_to_zone_32() -> None:
    assert {grid.tile[:3] for grid in tiles_over(area_of_box(4.5, 60, 5.5, 60.5))} == {"32V"}


def test_a_sliver_is_left_out_unless_it_is_all() -> None:
    lon, lat = to_degrees(33, np.array([600_000.0]), np.array([5_350_000.0]))
    edge, south = float(lon[0]), float(lat[0])
    narrow = shapely.box(edge + 0.0005, south, edge + 0.0007, south + 0.001)  # 15 m wide
    assert [grid.tile for grid in tiles_over(narrow)] == ["33UXP"]
    wide = shapely.box(edge - 0.02, south, edge + 0.0002, south + 0.001)
    assert [grid.tile for grid in tiles_over(wide)] == ["33UWP"]


@pytest.mark.parametrize(
    "area", [shapely.Polygon(), shapely.box(1, 2, 1, 2), shapely.box(0, 83, 1, 85), shapely.box(0, -81, 1, -79)]
)
def test_what_has_no_tiles_is_refused(area: BaseGeometry) -> None:
    with pytest.raises(InputError, match=r"empty|80 S"):
        tiles_over(area)


@pytest.mark.parametrize("tile", ["33UWP", "36NTF", "35NRA", "32VKL", "60KYF", "33XVG", "31UGS"])
def test_the_owner_mask_is_every_pixels_owner(tile: str) -> None:
    full = full_tile(tile)
    for row, col in ((0, 0), (3460, 3460), (1700, 3450), (1700, 0)):
        grid = TileGrid(tile, full.epsg, full.x0 + 30 * col, full.y0 - 30 * row, 200, 210)
        y, x = np.mgrid[:200, :210]
        lon, lat = to_degrees(full.epsg - 32600, grid.x0 + 30 * (x + 0.5), grid.y0 - 30 * (y + 0.5))
        np.testing.assert_array_equal(owner_mask(grid), owners(lon, lat) == tile)


def test_overlapping_tiles_share_out_every_pixel() -> None:
    owned = np.zeros((400, 400), int)
    for tile in ("33UVP", "33UWP", "33UVQ", "33UWQ"):  # around the corner where the four meet
        owned += owner_mask(TileGrid(tile, 32633, 499_980 - 30 * 150, 5_400_000 + 30 * 150, 400, 400))
    assert (owned == 1).all()


def test_the_owner_mask_of_one_pixel() -> None:
    full = full_tile("33UWP")
    assert owner_mask(TileGrid("33UWP", 32633, full.x0 + 3000, full.y0 - 3000, 1, 1)).tolist() == [[True]]
