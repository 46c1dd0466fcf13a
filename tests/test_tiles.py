"""Names, squares and owners. The peers: ESA's whole grid (by its digest), the mgrs library, the tiles' own extents."""

import hashlib
import math

import mgrs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsat.core.tiles import NORTH, SOUTH, Square, columns, neighbour, owners, to_degrees, to_metres, zone_boxes, zone_of
from vsat.errors import InputError

# Of the names in ESA's Sentinel-2 tiling grid (S2A_OPER_GIP_TILPAR 2015-12-09, all zones), sorted, one a line.
ESA_TILES = 56_686
ESA_DIGEST = "0cb82f6317f7f7a3c88c6efa2b53647404f5a6878f795bfeb0653251753eb808"

lons = st.floats(-180, 180, allow_nan=False).map(lambda value: round(value, 9))
lats = st.floats(SOUTH, NORTH, allow_nan=False)


def every_square() -> list[Square]:
    return [
        Square(zone, column, row)
        for zone in range(1, 61)
        for row in range(-93, 94)
        for column in range(columns(zone, row)[0], columns(zone, row)[1] + 1)
    ]


def test_the_grid_is_esas_grid() -> None:
    names = sorted(square.tile for square in every_square())
    assert len(names) == len(set(names)) == ESA_TILES
    assert hashlib.sha256("\n".join(names).encode()).hexdigest() == ESA_DIGEST


def test_name_and_square_are_inverse_for_every_tile() -> None:
    assert [square for square in every_square() if Square.from_tile(square.tile) != square] == []


@pytest.mark.parametrize(
    ("tile", "zone", "west", "south"),
    [
        ("31TCJ", 31, 300_000, 4_800_000),
        ("06WVS", 6, 400_000, 7_100_000),
        ("19LBJ", 19, 200_000, -1_200_000),
        ("33UVP", 33, 400_000, 5_300_000),  # 16 km of it are in band T
        ("30TVK", 30, 400_000, 4_400_000),  # 28 km of it are in band S
    ],
)
def test_known_tiles(tile: str, zone: int, west: int, south: int) -> None:
    square = Square.from_tile(tile)
    assert (square.zone, square.bounds) == (zone, (west, south, west + 100_000, south + 100_000))
    assert square.epsg == 32600 + zone


@pytest.mark.parametrize(
    "name", ["33TVP", "31NAA", "32XKG", "00UVP", "61UVP", "33IVP", "33UOP", "33UVW", "T33UVP", "33uvp", "33UVP\n", ""]
)
def test_what_is_no_tile_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="tile"):
        Square.from_tile(name)


@given(lons, lats)
def test_zone_row_and_column_letters_are_those_of_mgrs(lon: float, lat: float) -> None:
    text = str(mgrs.MGRS().toMGRS(lat, lon, MGRSPrecision=5))
    if abs(lon - 3 * round(lon / 3)) < 1e-6 or abs(lat - 8 * round(lat / 8)) < 1e-6:  # mgrs is not exact at borders
        return
    zone, peer = int(text[:2]), text[:2] + text[3:5]
    assert int(zone_of(lon, lat)) == zone
    x, y = to_metres(zone, np.array([lon]), np.array([lat]))
    if min(abs(v - 1e5 * round(v / 1e5)) for v in (x[0], y[0])) < 1:  # mgrs rounds to metres
        return
    tile = str(owners(lon, lat))
    square = Square(zone, int(x[0] // 1e5), int(y[0] // 1e5))
    if square.is_tile:
        assert tile[:2] + tile[3:] == peer
    else:
        assert int(tile[:2]) != zone


@given(lons, lats)
@settings(max_examples=300)
def test_the_owner_is_a_tile_that_reaches_over_the_point(lon: float, lat: float) -> None:
    square = Square.from_tile(str(owners(lon, lat)))
    west, _, _, north = square.bounds
    left, top = math.floor(west / 60) * 60, math.ceil(north / 60) * 60
    x, y = to_metres(square.zone, np.array([lon]), np.array([lat]))
    assert left <= x[0] <= left + 109_800
    assert top - 109_800 <= y[0] <= top


def test_owners_at_every_zone_border_and_in_norway_reach_over_their_points() -> None:
    rng = np.random.default_rng(1)
    borders = np.repeat(np.arange(-180, 180, 6), 300)
    lon = np.concatenate([(borders + rng.uniform(-1, 1, borders.size) + 180) % 360 - 180, rng.uniform(-2, 44, 10_000)])
    lat = np.concatenate([rng.uniform(SOUTH, NORTH, borders.size), rng.uniform(55, NORTH, 10_000)])
    names = owners(lon, lat)
    for name in np.unique(names):
        here = names == name
        square = Square.from_tile(str(name))
        x, y = to_metres(square.zone, lon[here], lat[here])
        left, top = math.floor(square.bounds[0] / 60) * 60, math.ceil(square.bounds[3] / 60) * 60
        assert (x >= left).all() and (x <= left + 109_800).all() and (y <= top).all() and (y >= top - 109_800).all()


def test_owners_keep_the_shape_and_end_with_the_grid() -> None:
    found = owners(np.array([[15.5, 15.5], [15.5, 15.5]]), np.array([[48.3, 84.001], [-80.001, 84.0]]))
    assert found.tolist() == [["33UWP", ""], ["", "33XWP"]]
    assert owners(np.empty(0), np.empty(0)).shape == (0,)


def test_a_narrow_border_square_belongs_to_the_zone_before() -> None:
    # Uganda, just east of 30 E: square 36N A is 34 km wide and no tile.
    assert str(owners(30.1, 0.3)) == "35NRA"
    assert not Square(36, 1, 0).is_tile


@given(lons, lats)
def test_zone_boxes_hold_each_point_in_its_zone(lon: float, lat: float) -> None:
    holding = {zone for zone, (w, s, e, n) in zone_boxes() if w <= lon <= e and s <= lat <= n}
    assert int(zone_of(lon, lat)) in holding or lon == 180


def test_zone_boxes_cover_the_belt_once() -> None:
    assert sum((e - w) * (n - s) for _, (w, s, e, n) in zone_boxes()) == pytest.approx(360 * (NORTH - SOUTH))


@given(lons, lats)
def test_metres_and_degrees_are_inverse(lon: float, lat: float) -> None:
    zone = int(zone_of(lon, lat))
    back = to_degrees(zone, *to_metres(zone, np.array([lon]), np.array([lat])))
    assert (back[0][0] - lon + 180) % 360 == pytest.approx(180, abs=1e-7)
    assert back[1][0] == pytest.approx(lat, abs=1e-7)


def test_neighbours_go_around_the_world_and_skip_what_svalbard_lacks() -> None:
    assert (neighbour(1, west=True, polar=False), neighbour(60, west=False, polar=False)) == (60, 1)
    assert (neighbour(33, west=True, polar=True), neighbour(33, west=True, polar=False)) == (31, 32)
