"""From a box or GeoJSON to a checked area: polygons in degrees, longitude first, split at 180 degrees."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import shapely
import shapely.affinity
from numpy.typing import NDArray
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from vsat.core.tiles import NORTH, SOUTH
from vsat.errors import InputError

MAX_TILES = 2000
_TILE_KM2 = 10_000.0
_RADIUS_KM = 6371.0
_DEEPEST = 20  # collections in one another
_MAX_LON = 360.0  # 180 plus what an area across 180 degrees may write as "beyond": 181 for -179


def area_of_box(west: float, south: float, east: float, north: float) -> BaseGeometry:
    """The box as polygons in degrees; with west > east it crosses 180 degrees.

    Raises:
        InputError: not finite, out of range, wrong order, no extent, or too large.
    """
    values = (west, south, east, north)
    if not all(math.isfinite(value) for value in values):
        raise InputError(
            f"the box {_list(values)} holds a value that is not a number",
            next_step="give west, south, east, north in degrees",
        )
    if max(abs(south), abs(north)) > 90:
        raise _swapped(f"the box {_list(values)} has a latitude beyond 90 degrees")
    if max(abs(west), abs(east)) > 180:
        raise InputError(
            f"the box {_list(values)} has a longitude beyond 180 degrees",
            next_step="write west > east for a box across 180: 178, -20, -178, -15",
        )
    if south > north:
        raise InputError(
            f"the box {_list(values)} has its south ({south:g}) north of its north ({north:g})",
            next_step="the order is west, south, east, north",
        )
    if south == north or west == east:
        raise InputError(
            f"the box {_list(values)} has no extent",
            next_step="give a box with different corners: west, south, east, north",
        )
    if west < east:
        return _checked(shapely.box(*values))
    halves = (west, south, 180.0, north), (-180.0, south, east, north)
    return _checked(shapely.union_all([shapely.box(*half) for half in halves if half[0] < half[2]]))


def area_of_geojson(document: Any) -> BaseGeometry:
    """The polygons of a GeoJSON geometry, Feature or FeatureCollection, united, in degrees from -180 to 180.

    Rings in either order are accepted. An area across 180 degrees may be split there, or be written over it: 179 to
    181, or 179 to -179.

    Raises:
        InputError: not GeoJSON, no polygon, empty, self-crossing (with the place), out of range, swapped, or too large.
    """
    parts = [_polygon(geometry) for geometry in _geometries(document, 0)]
    if not parts:
        raise InputError("the GeoJSON holds no polygon", next_step="give a Polygon or MultiPolygon")
    return _checked(shapely.union_all(parts))


def _geometries(document: Any, depth: int) -> list[Mapping[str, Any]]:
    if depth > _DEEPEST:
        raise InputError(f"the GeoJSON is nested more than {_DEEPEST} deep", next_step="give a Polygon or MultiPolygon")
    kind = document.get("type") if isinstance(document, Mapping) else None
    match kind:
        case "FeatureCollection":
            return [one for feature in _listed(document, "features") for one in _geometries(feature, depth + 1)]
        case "Feature":
            return _geometries(document.get("geometry"), depth + 1)
        case "GeometryCollection":
            return [one for geometry in _listed(document, "geometries") for one in _geometries(geometry, depth + 1)]
        case "Polygon" | "MultiPolygon":
            return [document]
    named = f"a {kind}" if isinstance(kind, str) else f"{type(document).__name__} without a type"
    raise InputError(
        f"the area must be a Polygon or MultiPolygon, this is {named}",
        next_step="a Feature or FeatureCollection of polygons is fine too",
    )


def _listed(document: Mapping[str, Any], key: str) -> list[Any]:
    found = document.get(key) or []
    if not isinstance(found, list):
        raise InputError(f"the GeoJSON's {key} are no list", next_step="give a Polygon or MultiPolygon")
    return found


def _polygon(geometry: Mapping[str, Any]) -> BaseGeometry:
    kind = geometry["type"]
    try:
        with np.errstate(invalid="ignore"):  # a NaN is told below, as our own error
            written = shapely.force_2d(shape(dict(geometry)))
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, shapely.errors.ShapelyError) as error:
        step = "rings are lists of [longitude, latitude], the last point as the first"
        raise InputError(f"the {kind} has coordinates that make no polygon: {error}", next_step=step) from error
    if written.is_empty:
        raise InputError(f"the {kind} is empty", next_step="give a polygon with an extent")
    _check_range(written)
    polygon = _unwrapped(written)
    west, south, east, north = polygon.bounds
    if west == east or south == north:
        raise InputError(f"the {kind} encloses no area", next_step="give a polygon with an extent")
    _check_valid(polygon)
    return _split(polygon)


def _check_range(polygon: BaseGeometry) -> None:
    west, south, east, north = polygon.bounds
    if not np.isfinite(shapely.get_coordinates(polygon)).all():
        raise InputError("the area holds a coordinate that is not a number", next_step="give degrees, longitude first")
    if max(abs(south), abs(north)) > 90:
        raise _swapped(f"the area has a latitude beyond 90 degrees (from {south:g} to {north:g})")
    if max(abs(west), abs(east)) > _MAX_LON:
        raise InputError(
            f"the area has a longitude beyond 360 degrees (from {west:g} to {east:g})",
            next_step="give degrees from -180 to 180, longitude first",
        )


def _unwrapped(polygon: BaseGeometry) -> BaseGeometry:
    """Each ring without jumps: from 179 to -179 becomes 179 to 181. An edge from -180 to 180 goes around."""

    def ring(lon_lat: NDArray[np.float64]) -> NDArray[np.float64]:
        step = np.diff(lon_lat[:, 0], prepend=lon_lat[0, 0])
        turns = np.where((np.abs(step) > 180) & (np.abs(step) < 360), -360 * np.sign(step), 0)
        return np.column_stack([lon_lat[:, 0] + np.cumsum(turns), lon_lat[:, 1]])

    def whole(part: shapely.Polygon) -> shapely.Polygon:
        rings = [ring(np.asarray(line.coords)) for line in (part.exterior, *part.interiors)]
        middle = rings[0][:, 0].mean()
        near = [hole + np.array([360.0 * round((middle - hole[:, 0].mean()) / 360), 0.0]) for hole in rings[1:]]
        return shapely.Polygon(rings[0], near)

    if isinstance(polygon, shapely.MultiPolygon):
        return shapely.MultiPolygon([whole(part) for part in polygon.geoms])
    return whole(polygon) if isinstance(polygon, shapely.Polygon) else polygon


def _check_valid(polygon: BaseGeometry) -> None:
    reason = shapely.is_valid_reason(polygon)
    if reason != "Valid Geometry":
        step = "mend the ring there, for instance with QGIS's Fix geometries"
        raise InputError(f"the area is not a valid polygon: {reason} (longitude latitude)", next_step=step)


def _split(polygon: BaseGeometry) -> BaseGeometry:
    """The same ground between -180 and 180."""
    west, _, east, _ = polygon.bounds
    if west >= -180 and east <= 180:
        return polygon
    parts = []
    for turn in range(math.floor((west + 180) / 360), math.ceil((east - 180) / 360) + 1):
        moved = shapely.affinity.translate(polygon, xoff=-360.0 * turn)
        parts.append(shapely.intersection(moved, shapely.box(-180, -90, 180, 90)))
    return shapely.union_all(parts)


def _checked(area: BaseGeometry) -> BaseGeometry:
    _, south, _, north = area.bounds
    if area.is_empty or area.area == 0:
        raise InputError("the area is empty", next_step="give a polygon or a box with an extent")
    if south < SOUTH or north > NORTH:
        raise InputError(
            f"the area reaches from {south:g} to {north:g} degrees north, and HLS has tiles from 80 S to 84 N only",
            next_step="cut the area there",
        )
    tiles = _km2(area) / _TILE_KM2
    if tiles > MAX_TILES:
        raise InputError(
            f"the area is too large: about {tiles:,.0f} tiles, at most {MAX_TILES:,} fit in one region",
            next_step="split it into several regions",
        )
    return area


def _km2(area: BaseGeometry) -> float:
    """On the sphere: a cylinder of equal area."""
    flat = shapely.transform(
        shapely.segmentize(area, 1.0),
        lambda lon_lat: np.column_stack([np.radians(lon_lat[:, 0]), np.sin(np.radians(lon_lat[:, 1]))]),
    )
    return float(flat.area) * _RADIUS_KM**2


def _swapped(problem: str) -> InputError:
    return InputError(problem, next_step="longitude comes first: are longitude and latitude swapped?")


def _list(values: tuple[float, ...]) -> str:
    return "[" + ", ".join(f"{value:g}" for value in values) + "]"
