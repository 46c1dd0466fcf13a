"""Areas as people write them: what is right passes unchanged, what is wrong is told with its place."""

import json
from typing import Any

import antimeridian
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import mapping, shape

from vsat.core.area import area_of_box, area_of_geojson
from vsat.core.grid import tiles_over
from vsat.errors import InputError


def polygon(*ring: tuple[float, float]) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": [[list(point) for point in (*ring, ring[0])]]}


SQUARE = polygon((15, 48), (16, 48), (16, 49), (15, 49))


@pytest.mark.parametrize(
    ("box", "says"),
    [
        ((15, 48, 15, 49), "no extent"),
        ((15, 48, 16, 48), "no extent"),
        ((15, 49, 16, 48), "south .49. north of its north"),
        ((48, 115, 49, 116), "swapped"),
        ((185, 48, 186, 49), "longitude beyond 180"),
        ((15, 80, 16, 85), "84 N"),
        ((15, -85, 16, -70), "80 S"),
        ((-180, -80, 180, 84), "too large"),
        ((0, float("nan"), 1, 2), "not a number"),
        ((0, 0, float("inf"), 2), "not a number"),
    ],
)
def test_boxes_that_make_no_area(box: tuple[float, float, float, float], says: str) -> None:
    with pytest.raises(InputError, match=says) as error:
        area_of_box(*box)
    assert error.value.next_step


@given(st.floats(-180, 180), st.floats(-80, 82), st.floats(0.01, 20), st.floats(0.01, 2))
def test_a_box_covers_its_degrees_on_either_side_of_180(west: float, south: float, width: float, height: float) -> None:
    east = west + width
    area = area_of_box(west, south, east - 360 if east > 180 else east, south + height)
    assert area.area == pytest.approx(width * height, rel=1e-6)
    assert area.is_valid
    assert -180 <= area.bounds[0] <= area.bounds[2] <= 180


def test_a_box_that_ends_at_180_is_not_split() -> None:
    assert area_of_box(180, 0, -179, 1).bounds == (-180, 0, -179, 1)
    assert area_of_box(179, 0, 180, 1).bounds == (179, 0, 180, 1)


@pytest.mark.parametrize(
    "document",
    [
        SQUARE,
        {"type": "MultiPolygon", "coordinates": [SQUARE["coordinates"]]},
        {"type": "Feature", "properties": {}, "geometry": SQUARE},
        {"type": "FeatureCollection", "features": [{"type": "Feature", "properties": None, "geometry": SQUARE}] * 2},
        {"type": "GeometryCollection", "geometries": [SQUARE]},
        polygon((15, 49), (16, 49), (16, 48), (15, 48)),  # the other way round
        {"type": "Polygon", "coordinates": [[[*point, 300.0] for point in SQUARE["coordinates"][0]]]},
    ],
)
def test_every_way_to_write_a_square(document: dict[str, Any]) -> None:
    assert area_of_geojson(json.loads(json.dumps(document))).equals(shapely.box(15, 48, 16, 49))


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (None, "NoneType"),
        ([1, 2], "list"),
        ({}, "without a type"),
        ({"type": "Point", "coordinates": [15, 48]}, "a Point"),
        ({"type": "LineString", "coordinates": [[15, 48], [16, 49]]}, "a LineString"),
        ({"type": "Feature", "geometry": None}, "NoneType"),
        ({"type": "FeatureCollection", "features": []}, "no polygon"),
        ({"type": "FeatureCollection"}, "no polygon"),
        ({"type": "FeatureCollection", "features": [None]}, "NoneType"),
        ({"type": "Polygon"}, "coordinates"),
        ({"type": "Polygon", "coordinates": []}, "empty"),
        ({"type": "Polygon", "coordinates": "here"}, "no polygon"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}, "no polygon"),
        ({"type": "Polygon", "coordinates": [[0, 0], [1, 1], [0, 1]]}, "no polygon"),
        (polygon((0, 0), (1, 0), (1, float("nan"))), "not a number"),
        (polygon((0, 0), (1, 0), (2, 0)), "no area"),
        (polygon((0, 0), (2, 2), (2, 0), (0, 2)), r"Self-intersection\[1 1\]"),
        (polygon((48, 115), (49, 115), (49, 116)), "swapped"),
        (polygon((400, 0), (401, 0), (401, 1)), "beyond 360"),
        (polygon((0, 80), (1, 80), (1, 86)), "84 N"),
        (polygon((-170, -70), (0, -70), (170, -70), (170, 80), (0, 80), (-170, 80)), "too large"),
    ],
)
def test_what_is_no_area_is_told(document: Any, says: str) -> None:
    with pytest.raises(InputError, match=says) as error:
        area_of_geojson(document)
    assert error.value.next_step


def test_a_hole_outside_its_ring_is_told() -> None:
    holed = {
        "type": "Polygon",
        "coordinates": [*SQUARE["coordinates"], *polygon((20, 48), (21, 48), (21, 49))["coordinates"]],
    }
    with pytest.raises(InputError, match="Hole lies outside shell"):
        area_of_geojson(holed)


@pytest.mark.parametrize("east", [181, -179])
def test_an_area_across_180_is_split_there_however_it_is_written(east: float) -> None:
    area = area_of_geojson(polygon((179, 10), (east, 10), (east, 11), (179, 11)))
    assert area.equals(shapely.union_all([shapely.box(179, 10, 180, 11), shapely.box(-180, 10, -179, 11)]))


def test_an_area_written_wholly_beyond_180_is_brought_back() -> None:
    assert area_of_geojson(polygon((181, 0), (182, 0), (182, 1), (181, 1))).equals(shapely.box(-179, 0, -178, 1))
    assert area_of_geojson(polygon((-182, 0), (-181, 0), (-181, 1), (-182, 1))).equals(shapely.box(178, 0, 179, 1))


def test_a_hole_beyond_180_stays_a_hole() -> None:
    outer, hole = polygon((170, 0), (-170, 0), (-170, 5), (170, 5)), polygon((-179, 1), (-179, 2), (-178, 2), (-178, 1))
    area = area_of_geojson({"type": "Polygon", "coordinates": [*outer["coordinates"], *hole["coordinates"]]})
    assert area.area == pytest.approx(99)
    assert not area.contains(shapely.Point(-178.5, 1.5))


@given(st.lists(st.tuples(st.floats(0.2, 9), st.floats(0.2, 9)), min_size=4, max_size=9), st.floats(-70, 70))
@settings(max_examples=60)
def test_the_split_is_that_of_the_antimeridian_library(radii: list[tuple[float, float]], lat: float) -> None:
    """Star-shaped areas around (180, lat), written with the jump; the library is told to cut straight in degrees."""
    corners = shapely.MultiPoint([(180 + a - 4.5, max(-79, min(83, lat + b - 4.5))) for a, b in radii]).convex_hull
    if (
        corners.geom_type != "Polygon"
        or corners.area < 1e-3
        or not corners.bounds[0] < 179.9 < 180.1 < corners.bounds[2]
    ):
        return
    ring = [(x - 360 if x > 180 else x, y) for x, y in corners.exterior.coords]
    jumping = {"type": "Polygon", "coordinates": [ring]}
    peer = shape(antimeridian.fix_geojson(jumping, great_circle=False, fix_winding=True))
    area = area_of_geojson(jumping)
    assert area.symmetric_difference(peer).area < 1e-6
    assert area.area == pytest.approx(corners.area, rel=1e-6)


def test_a_belt_around_the_world_stays_one() -> None:
    belt = area_of_geojson(polygon((-180, 0), (180, 0), (180, 0.2), (-180, 0.2)))
    assert belt.equals(shapely.box(-180, 0, 180, 0.2))
    assert len({grid.tile[:2] for grid in tiles_over(belt)}) == 60


@given(st.floats(-179, 170), st.floats(-79, 80), st.floats(0.1, 3), st.floats(0.1, 3))
def test_what_is_accepted_is_unchanged(west: float, south: float, width: float, height: float) -> None:
    written = shapely.box(west, south, west + width, south + height)
    assert area_of_geojson(mapping(written)).equals(written)
