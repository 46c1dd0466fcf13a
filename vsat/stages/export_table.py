"""Tables of images for points and polygons, a row per place and date. Axes: b bands, n pixels."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from vsat.core.area import area_of_geojson
from vsat.core.cover import Reach, inside, reach
from vsat.core.grid import TileGrid
from vsat.core.indices import INDICES, index, index_sd
from vsat.core.means import mean_of
from vsat.core.quality import NONE, unpack_qa
from vsat.core.tiles import owners, to_metres
from vsat.document import read_json, read_text
from vsat.errors import InputError
from vsat.hls import COMMON_NAMES
from vsat.io.durable import unwritable, write_file
from vsat.io.images import ORIGINS, Published, image_grid, read_layer, read_pixels, reflectance
from vsat.io.variables import AGES
from vsat.stages.pool import Progress

MOST_PLACES = 10_000
FLAGS = ("extrapolated", "snow", "water", "change", "low")
_LON, _LAT, _NAMES = ("lon", "longitude", "x"), ("lat", "latitude", "y"), ("id", "name", "point")

Row = Mapping[str, Any]
Values = dict[str, tuple[NDArray[np.float32], NDArray[np.float32]]]
Covered = tuple[Reach, NDArray[np.bool_]]


@dataclass(frozen=True)
class Point:
    """A place in degrees."""

    name: str
    lon: float
    lat: float


@dataclass(frozen=True)
class Area:
    """A polygon or several, in degrees."""

    name: str
    shape: BaseGeometry


def read_points(path: Path) -> list[Point]:
    """The points of a CSV file with the columns lon and lat in degrees, and id where they have names.

    Raises:
        InputError: unreadable, columns are missing, a value is no place, or there are more than MOST_PLACES.
    """
    step = "give a CSV file with a header: id,lon,lat"
    lines = csv.DictReader(io.StringIO(read_text(path, next_step=step).lstrip("\ufeff"), newline=""))
    columns = {str(name).strip().lower(): name for name in lines.fieldnames or ()}
    lon, lat, name = (
        next((columns[key] for key in keys if key in columns), None) for keys in (_LON, _LAT, _NAMES)
    )  # fmt: skip
    if lon is None or lat is None:
        raise InputError("there is no column lon or lat", place=str(path), next_step=step)
    found = []
    for number, line in enumerate(lines, start=1):
        try:
            point = Point(str((name and line[name]) or number), float(line[lon]), float(line[lat]))
        except (TypeError, ValueError) as error:
            raise InputError(
                f"point {number} has no numbers for lon and lat", place=str(path), next_step=step
            ) from error
        if not (-180 <= point.lon <= 180 and -90 <= point.lat <= 90):
            problem = f"point {number} lies at {point.lon:g}, {point.lat:g} degrees"
            raise InputError(problem, place=str(path), next_step="give longitude, then latitude, in degrees")
        found.append(point)
    return _counted(found, path, step)


def read_areas(path: Path) -> list[Area]:
    """The polygons of a GeoJSON file in degrees, one per feature, named by its id, or by `id` or `name` in its properties.

    Raises:
        InputError: unreadable, no GeoJSON, a feature without a usable polygon, or more than MOST_PLACES.
    """
    step = "give a GeoJSON file with polygons in degrees"
    document = read_json(path, next_step=step)
    is_many = isinstance(document, dict) and document.get("type") == "FeatureCollection"
    found = []
    for number, feature in enumerate((document.get("features") or []) if is_many else [document], start=1):
        try:
            shape = area_of_geojson(feature)
        except InputError as error:
            problem = f"polygon {number}: {error.problem}"
            raise InputError(problem, place=str(path), next_step=error.next_step or step) from error
        found.append(Area(_name_of(feature, number), shape))
    return _counted(found, path, step)


def point_table(
    images: Sequence[Published], points: Sequence[Point], names: Sequence[str], progress: Progress | None = None
) -> tuple[list[Row], list[str]]:
    """A row per point and image, in the points' order and by day; and the names of points that no image holds.

    Values are those of the pixel that holds the point, without interpolation: in reflectance or the index's unit, empty
    where there is none.

    Args:
        images: of one tile or several.
        points: the places; one that several tiles hold goes to that which owns it.
        names: bands and indices.
        progress: told (images done, images in all).
    """
    grids = {tile: image_grid(some[-1]) for tile, some in _by_tile(images).items()}
    placed = [_placed(point, grids) for point in points]
    rows: dict[int, list[Row]] = {n: [] for n in range(len(points))}
    for done, one in enumerate(images, start=1):
        here = [(n, place[1], place[2]) for n, place in enumerate(placed) if place and place[0] == one.tile]
        if here:
            numbers, row_n, col_n = (list(column) for column in zip(*here, strict=True))
            found = _point_values(one, grids[one.tile], row_n, col_n, names)
            for at, n in enumerate(numbers):
                where = {"point": points[n].name, "lon": points[n].lon, "lat": points[n].lat, "tile": one.tile}
                where |= {"row": row_n[at], "col": col_n[at], "date": one.day, "status": one.status}
                rows[n].append(where | {name: _plain(values[at]) for name, values in found.items()})
        if progress:
            progress(done, len(images))
    outside = [point.name for point, place in zip(points, placed, strict=True) if place is None]
    return [row for some in rows.values() for row in some], outside


def area_table(
    images: Sequence[Published], areas: Sequence[Area], names: Sequence[str], progress: Progress | None = None
) -> tuple[list[Row], list[str]]:
    """A row per polygon and date: the mean over its pixels with its uncertainty; and the names of polygons without pixels.

    A pixel counts where its centre lies in the polygon; where tiles overlap, that of the tile that owns the place. How
    far the errors of neighbouring pixels go together is not known for an area, so both ends are given: `*_sd` as if all
    were one error (the mean of the standard deviations: the largest that the mean's can be), `*_sd_independent` as if
    each were its own (the least where errors go together at all). `*_p10` and `*_p90` are of the pixels' values;
    origins are shares of the pixels.

    Args:
        images: of one tile or several; a polygon over several is one row per date.
        areas, names, progress: as in `point_table`.
    """
    tiles = _by_tile(images)
    grids = {tile: image_grid(some[-1]) for tile, some in tiles.items()}
    covered = [_covered(area, grids) for area in areas]
    rows: dict[int, list[Row]] = {n: [] for n in range(len(areas))}
    done = 0
    for day, some in groupby(sorted(images, key=lambda one: (one.day, one.tile)), key=lambda one: one.day):
        these = list(some)
        for n, area in enumerate(areas):
            parts = [(one, *covered[n][one.tile]) for one in these if one.tile in covered[n]]
            if parts:
                status = "final" if all(one.status == "final" for one, _, _ in parts) else "provisional"
                told = _area_values(parts, names)
                rows[n].append({"polygon": area.name, "date": day, "status": status} | told)
        done += len(these)
        if progress:
            progress(done, len(images))
    empty = [area.name for area, tiles in zip(areas, covered, strict=True) if not tiles]
    return [row for some in rows.values() for row in some], empty


def write_table(path: Path, rows: Sequence[Row]) -> int:
    """The rows lie in `path` as CSV (RFC 4180, UTF-8), replacing what was there; returns their number.

    Raises:
        StoreError: it cannot be written (disk full).
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["date"])
    writer.writeheader()
    writer.writerows(rows)
    try:
        write_file(path, [text.getvalue().encode()])
    except OSError as error:
        raise unwritable(error, path.name, path) from error
    return len(rows)


def _counted(found: list[Any], path: Path, step: str) -> list[Any]:
    if not 0 < len(found) <= MOST_PLACES:
        raise InputError(f"it holds {len(found)} places, not 1 to {MOST_PLACES}", place=str(path), next_step=step)
    return found


def _name_of(feature: Any, number: int) -> str:
    properties = feature.get("properties") or {}
    told = next((at[key] for at, key in ((feature, "id"), (properties, "id"), (properties, "name")) if key in at), "")
    return str(told) if told not in (None, "") else str(number)


def _by_tile(images: Iterable[Published]) -> dict[str, list[Published]]:
    return {tile: list(some) for tile, some in groupby(sorted(images, key=_tile_day), key=lambda one: one.tile)}


def _tile_day(one: Published) -> tuple[str, Any]:
    return one.tile, one.day


def _placed(point: Point, grids: Mapping[str, TileGrid]) -> tuple[str, int, int] | None:
    """Tile, row and column of the pixel that holds the point."""
    owner = str(owners(point.lon, point.lat))
    for tile in sorted(grids, key=lambda tile: (tile != owner, tile)):
        grid = grids[tile]
        x, y = to_metres(grid.epsg - 32600, np.array([point.lon]), np.array([point.lat]))
        row, col = (grid.y0 - y[0]) / grid.resolution_m, (x[0] - grid.x0) / grid.resolution_m
        if 0 <= row < grid.height and 0 <= col < grid.width:
            return tile, int(row), int(col)
    return None


def _point_values(
    one: Published, grid: TileGrid, row_n: Sequence[int], col_n: Sequence[int], names: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """Columns of a table, each (n,)."""
    layers = {asset: read_pixels(one.files[asset], grid, row_n, col_n) for asset in _assets(one, names)}
    quality, ages = unpack_qa(layers["qa"]), layers["age"]
    found: dict[str, NDArray[Any]] = {"origin": quality.origin[0]}
    found |= {name: getattr(quality, name)[0].astype(np.uint8) for name in FLAGS}
    found |= {name: np.where(ages[at] < 0, np.nan, ages[at]) for at, (name, _, _) in enumerate(AGES)}
    for name, (value, sd) in _values(one, layers, names).items():
        found |= {name: value, f"{name}_sd": sd}
    return found


def _covered(area: Area, grids: Mapping[str, TileGrid]) -> dict[str, Covered]:
    """By tile, the window that the polygon touches and which of its pixels it holds; tiles without any left out."""
    windows = {tile: found for tile, grid in grids.items() if (found := reach(area.shape, grid))}
    pixels = {tile: inside(window, shared=len(grids) > 1) for tile, window in windows.items()}
    return {tile: (windows[tile], inside_yx) for tile, inside_yx in pixels.items() if inside_yx.any()}


def _area_values(parts: Sequence[tuple[Published, Reach, NDArray[np.bool_]]], names: Sequence[str]) -> dict[str, Any]:
    read = [_area_pixels(*part, names) for part in parts]
    origin = np.concatenate([origin for origin, _, _ in read])
    low = np.concatenate([low for _, low, _ in read])
    size = parts[0][1].grid.resolution_m
    told: dict[str, Any] = {"pixels": origin.size, "hectares": round(origin.size * size * size / 1e4, 2)}
    told |= {word: round(float((origin == code).mean()), 4) for code, word in (*enumerate(ORIGINS), (NONE, "no_value"))}
    told["low_confidence"] = round(float(low.mean()), 4)
    for name in names:
        value, sd = (np.concatenate([values[name][side] for _, _, values in read]) for side in (0, 1))
        told |= {f"{name}{suffix}": number for suffix, number in _summary(value, sd).items()}
    return told


def _summary(value_n: NDArray[np.float32], sd_n: NDArray[np.float32]) -> dict[str, Any]:
    """Mean and its uncertainty over pixels with a value; see `area_table`."""
    found = mean_of(value_n, sd_n)
    if found is None:
        return {"": "", "_sd": "", "_sd_independent": "", "_p10": "", "_p90": "", "_pixels": 0}
    numbers = (found.mean, found.sd, found.sd_independent, found.p10, found.p90)
    suffixes = ("", "_sd", "_sd_independent", "_p10", "_p90")
    return {suffix: _plain(number) for suffix, number in zip(suffixes, numbers, strict=True)} | {
        "_pixels": found.values
    }


def _area_pixels(
    one: Published, at: Reach, inside_yx: NDArray[np.bool_], names: Sequence[str]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_], Values]:
    """Origin, low confidence and values of the polygon's pixels (n,)."""
    layers = {
        asset: read_layer(one.files[asset], at.grid, at.rows, at.cols)[:, inside_yx]
        for asset in _assets(one, names)
        if asset != "age"
    }
    quality = unpack_qa(layers["qa"][0])
    return quality.origin, quality.low, _values(one, layers, names)


def _assets(one: Published, names: Sequence[str]) -> Iterator[str]:
    """The layers that bands and indices, quality and age are in, as far as the image has them."""
    bands = {band for name in names for band in (INDICES[name].bands if name in INDICES else (name,))}
    wanted = [f"{COMMON_NAMES[band]}{suffix}" for band in sorted(bands) for suffix in ("", "_sd")]
    yield from (asset for asset in (*wanted, "qa", "age") if asset in one.files)


def _values(one: Published, layers: Mapping[str, NDArray[Any]], names: Sequence[str]) -> Values:
    """Value and standard deviation (n,) of each band and index; NaN where the image lacks a band for it."""
    refl = {band: reflectance(layers[COMMON_NAMES[band]][0]) for band in one.bands if COMMON_NAMES[band] in layers}
    sd = {band: reflectance(layers[f"{COMMON_NAMES[band]}_sd"][0]) for band in refl}
    nothing = np.full(layers["qa"].shape[-1], np.nan, np.float32)
    found: Values = {}
    for name in names:
        needs = INDICES[name].bands if name in INDICES else (name,)
        if not set(needs) <= set(refl):
            found[name] = nothing, nothing
        elif name in INDICES:
            refl_bn, sd_bn = (np.stack([side[band] for band in needs]) for side in (refl, sd))
            found[name] = index(name, refl_bn, needs), index_sd(name, refl_bn, sd_bn, needs)
        else:
            found[name] = refl[name], sd[name]
    return found


def _plain(value: Any) -> Any:
    """A number as a table has it: five decimals, the rest is noise; empty for NaN."""
    number = float(value)
    if np.isnan(number):
        return ""
    return int(number) if number.is_integer() else round(number, 5)
