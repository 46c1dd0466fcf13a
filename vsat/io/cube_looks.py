"""An observation cube taken apart into HLS granules: where it lies on a tile's lattice, and what each look is called.

Axes: t looks, b bands, y, x pixels.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pyproj import CRS, Transformer

from vsat.core.grid import TileGrid, full_tile
from vsat.core.synthetic import PASS
from vsat.errors import InputError
from vsat.hls import BANDS, RESOLUTION_M, SENSORS, GranuleId
from vsat.io.hls_files import GranuleFacts

if TYPE_CHECKING:
    import xarray as xr

Pixels = tuple[NDArray[np.int16], NDArray[np.uint8]]


def looks_of(
    cube: "xr.Dataset", tile: str, *, x0: float | None = None, y0: float | None = None
) -> tuple[TileGrid, list[tuple[GranuleFacts, Pixels]], tuple[str, ...]]:
    """The grid that takes the cube, its looks as (facts, (int16 (6, y, x), uint8 (y, x))), and notes for the user.

    Args:
        cube: in the form of `io.cube.load_cube`, with all six bands.
        tile: MGRS tile that it becomes part of.
        x0, y0: upper-left corner in metres in the tile's UTM zone, if not the cube's own.

    Raises:
        InputError: a band is missing, or the cube does not lie in the tile.
    """
    missing = [band for band in BANDS if band not in cube["band"].values]
    if missing:
        step = "an HLS scene without one of the six bands is unusable; give all six"
        raise InputError(f"the cube lacks {', '.join(missing)}", place="band", next_step=step)
    grid, notes = _place(cube, tile, x0, y0)
    named = [str(name) for name in cube["sensor"].values]
    sensors = [name if name in SENSORS else "L30" for name in named]
    strange = Counter(name for name in named if name not in SENSORS)
    notes += [f"{n} looks of sensor {name} are written as L30" for name, n in sorted(strange.items())]
    refl = cube["reflectance"].sel(band=list(BANDS)).transpose("time", "band", "y", "x")
    fmask = cube["fmask"].transpose("time", "y", "x")
    looks = []
    for t, name in enumerate(_names(cube["time"].values, sensors, tile)):
        pixels = np.asarray(refl[t].values, np.int16), np.asarray(fmask[t].values, np.uint8)
        content = repr(grid).encode() + pixels[0].tobytes() + pixels[1].tobytes()
        platform = "landsat-8" if name.sensor == "L30" else "sentinel-2a"
        source = f"cube:{hashlib.sha256(content).hexdigest()}"
        looks.append((GranuleFacts(name, grid, platform, name.acquired + timedelta(days=2), source), pixels))
    return grid, looks, tuple(notes)


def _place(cube: "xr.Dataset", tile: str, x0: float | None, y0: float | None) -> tuple[TileGrid, list[str]]:
    """The window of the tile's lattice that takes the cube, and what is to be said about it."""
    full, (height, width), notes = full_tile(tile), (cube.sizes["y"], cube.sizes["x"]), []
    corner = (x0, y0) if x0 is not None and y0 is not None else _corner(cube, full.epsg)
    if corner is None:
        corner = (
            full.x0 + (full.width - width) // 2 * RESOLUTION_M,
            full.y0 - (full.height - height) // 2 * RESOLUTION_M,
        )
        notes.append(f"the cube has no geolocation: it lies at the centre of tile {tile}")
    column, row = round((corner[0] - full.x0) / RESOLUTION_M), round((full.y0 - corner[1]) / RESOLUTION_M)
    if row < 0 or column < 0 or row + height > full.height or column + width > full.width:
        problem = f"its upper-left corner, {corner[0]:.0f} {corner[1]:.0f} m, puts it outside tile {tile}"
        raise InputError(problem, place="cube", next_step="name the tile that holds it, or give x0 and y0")
    steps = {round(abs(float(cube[a].values[1] - cube[a].values[0])), 3) for a in ("y", "x") if cube.sizes[a] > 1}
    if steps - {RESOLUTION_M}:
        notes.append(f"the cube's pixels of {', '.join(f'{s:g}' for s in sorted(steps))} m become pixels of 30 m")
    return TileGrid(
        tile, full.epsg, full.x0 + column * RESOLUTION_M, full.y0 - row * RESOLUTION_M, height, width
    ), notes


def _corner(cube: "xr.Dataset", epsg: int) -> tuple[float, float] | None:
    """Upper-left corner of the cube in metres in the tile's zone; None where the cube does not say where it lies."""
    grid_mapping = cube["spatial_ref"].attrs if "spatial_ref" in cube.variables else {}
    wkt = grid_mapping.get("crs_wkt") or grid_mapping.get("spatial_ref")
    x, y = cube["x"].values, cube["y"].values
    if not wkt:
        return None
    half_x = abs(float(x[1] - x[0])) / 2 if len(x) > 1 else RESOLUTION_M / 2
    half_y = abs(float(y[1] - y[0])) / 2 if len(y) > 1 else RESOLUTION_M / 2
    to_tile = Transformer.from_crs(CRS.from_user_input(wkt), CRS.from_epsg(epsg), always_xy=True)
    corner_x, corner_y = to_tile.transform(float(x[0]) - half_x, float(y[0]) + half_y)
    return float(corner_x), float(corner_y)


def _names(times: NDArray[np.datetime64], sensors: Sequence[str], tile: str) -> list[GranuleId]:
    """One name a look. Days without a time get the sensor's usual hour; looks closer than five minutes move apart."""
    last: dict[tuple[str, date], datetime] = {}
    names: list[GranuleId] = [GranuleId("L30", tile, datetime.min)] * len(sensors)
    for t in np.argsort(times, kind="stable"):
        sensor, moment = sensors[t], times[t].astype("datetime64[s]").astype(datetime).replace(tzinfo=UTC)
        if (moment.hour, moment.minute, moment.second) == (0, 0, 0):
            moment += timedelta(hours=PASS[sensor][2])
        key = (sensor, moment.date())
        if key in last:
            moment = max(moment, last[key] + timedelta(minutes=5))
        if moment.date() != key[1]:
            raise InputError(
                f"too many looks of {sensor} late on {key[1]}", place="time", next_step="give their true times"
            )
        last[key] = moment
        names[t] = GranuleId(sensor, tile, moment.replace(microsecond=0))
    return names
