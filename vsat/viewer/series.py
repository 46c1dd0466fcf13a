"""One pixel through time: what the satellites saw of it, and the virtual line with its spread."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsat.config import Region
from vsat.core.calibration import Z50, Z90
from vsat.core.grid import TileGrid
from vsat.core.indices import INDICES, index, index_sd
from vsat.core.masks import clear
from vsat.core.quality import LOW, NO_VALUE, ORIGIN_MASK
from vsat.core.tiles import owners, to_metres
from vsat.hls import BANDS, FILL, FMASK_FILL, Fmask
from vsat.io.cog import read_pixel
from vsat.io.images import Published, reflectance
from vsat.io.scenes import read_array
from vsat.viewer.holdings import Holdings, Look, Shelf, band_layer, layer, missing_bands
from vsat.viewer.layers import quantity_bands, unit_of
from vsat.viewer.problems import Refused, not_found

DIGITS = 6
COLUMNS = (
    "kind", "date", "value", "sensor", "clear", "why", "sd", "q05", "q25", "q75", "q95", "origin", "status",
    "low_confidence",
)  # fmt: skip

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Spot:
    """A pixel: tile, row and column on the region's window of it, and the degrees that were asked for."""

    grid: TileGrid
    row: int
    col: int
    lon: float
    lat: float


def spot_of(shelf: Shelf, lon: float, lat: float) -> Spot:
    """The region's pixel at a place; where tiles overlap, that of the one that owns the place.

    Raises:
        Refused: the place is outside the region.
    """
    owner = str(owners(lon, lat))
    for tile in sorted(shelf.grids, key=lambda name: name != owner):
        grid = shelf.grids[tile]
        x, y = to_metres(grid.epsg - 32600, np.array([lon]), np.array([lat]))
        col, row = (float(x[0]) - grid.x0) / grid.resolution_m, (grid.y0 - float(y[0])) / grid.resolution_m
        if 0 <= row < grid.height and 0 <= col < grid.width:
            return Spot(grid, int(row), int(col), lon, lat)
    raise not_found("the place is outside the region; its bounds say where it lies")


def series(shelf: Shelf, held: Holdings, spot: Spot, show: str, start: date | None, end: date | None) -> dict[str, Any]:
    """The pixel's looks and virtual values from `start` to `end`, both included, as the API answers them.

    Raises:
        Refused: the region lacks a band.
        StoreError: an image or a scene cannot be read.
    """
    bands, tile = quantity_bands(show), spot.grid.tile
    if lacking := missing_bands(shelf.bands, bands):
        raise Refused(422, f"{show} needs {', '.join(lacking)}; this region's images have {', '.join(shelf.bands)}")

    def within(day: date) -> bool:
        return (start or day) <= day <= (end or day)

    looks = [look for look in held.looks if look.key.tile == tile and within(look.key.day)]
    images = [image for image in held.images if image.tile == tile and within(image.day)]
    # the looks beside the images: most of theirs is Python, most of the images' is inflating, which leaves Python free
    observed = shelf.pool.submit(_observed, shelf, spot, looks, show, bands)
    virtual = _virtual(shelf, spot, images, show, bands)
    return {
        "region": shelf.name, "tile": tile, "lon": spot.lon, "lat": spot.lat, "row": spot.row, "col": spot.col,
        "show": show, "unit": unit_of(show),
        "observed": observed.result(), "virtual": virtual,
    }  # fmt: skip


def as_csv(told: dict[str, Any]) -> str:
    """The series as a table, looks first; what does not apply to a row is empty."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for kind in ("observed", "virtual"):
        for row in told[kind]:
            writer.writerow({"kind": kind} | {name: "" if value is None else value for name, value in row.items()})
    return buffer.getvalue()


def why_masked(fmask: int, region: Region) -> str | None:
    """Why a look is no clear one, None if it is; of several reasons the one that hides most."""
    if fmask == FMASK_FILL:
        return "no data"
    reasons = [(Fmask.CLOUD, "cloud"), (Fmask.SHADOW, "shadow")]
    reasons += [] if region.cloud.adjacent else [(Fmask.ADJACENT, "adjacent")]
    reasons += [] if region.cloud.snow else [(Fmask.SNOW, "snow")]
    return next((word for bit, word in reasons if fmask & bit), None)


def _observed(shelf: Shelf, spot: Spot, looks: Sequence[Look], show: str, bands: Sequence[str]) -> list[dict[str, Any]]:
    region, keys = shelf.region, [look.key for look in looks]
    rows, cols = slice(spot.row, spot.row + 1), slice(spot.col, spot.col + 1)
    fmask_t = read_array(region.home, spot.grid, keys, "fmask", rows=rows, cols=cols)[:, 0, 0, 0]
    refl_tb = np.full((len(keys), len(bands)), FILL, np.int16)
    seen = np.flatnonzero(fmask_t != FMASK_FILL)
    own = [BANDS.index(band) for band in bands]
    wanted = [keys[t] for t in seen]
    refl_tb[seen] = read_array(region.home, spot.grid, wanted, "reflectance", bands=own, rows=rows, cols=cols)[
        ..., 0, 0
    ]
    values = _rounded(_value(show, reflectance(refl_tb), bands))
    clear_t = clear(fmask_t, adjacent=region.cloud.adjacent, snow=region.cloud.snow) & (refl_tb != FILL).all(axis=1)
    return [
        {
            "date": key.day.isoformat(), "sensor": key.sensor, "value": value, "clear": is_clear,
            "why": None if is_clear else why_masked(fmask, region) or "no data",
        }
        for key, value, is_clear, fmask in zip(keys, values, clear_t.tolist(), fmask_t.tolist(), strict=True)
    ]  # fmt: skip


def _virtual(
    shelf: Shelf, spot: Spot, images: Sequence[Published], show: str, bands: Sequence[str]
) -> list[dict[str, Any]]:
    if not images:
        return []
    names = [*((band, False) for band in bands), *((band, True) for band in bands)]
    paths = [band_layer(image, band, sd=sd) for band, sd in names for image in images]
    paths += [layer(image, "qa") for image in images]
    found = read_pixel(paths, spot.row, spot.col, pool=shelf.pool).reshape(-1, len(images))
    count = len(bands)
    refl_tb, sd_tb, qa_t = reflectance(found[:count].T), reflectance(found[count : 2 * count].T), found[-1]
    value_t = _value(show, refl_tb, bands)
    sd_t = index_sd(show, refl_tb.T, sd_tb.T, bands) if show in INDICES else sd_tb[:, 0]
    # an image keeps the standard deviation alone, so the quantiles are a normal distribution's
    columns = [value_t, sd_t, *(value_t + z * sd_t for z in (-Z90, -Z50, Z50, Z90))]
    value, sd, q05, q25, q75, q95 = (_rounded(column) for column in columns)
    return [
        {
            "date": image.day.isoformat(), "value": value[t], "sd": sd[t], "q05": q05[t], "q25": q25[t], "q75": q75[t],
            "q95": q95[t], "origin": None if qa & NO_VALUE else qa & ORIGIN_MASK, "status": image.status,
            "low_confidence": bool(qa & LOW),
        }
        for t, (image, qa) in enumerate(zip(images, qa_t.tolist(), strict=True))
    ]  # fmt: skip


def _value(show: str, refl_tb: Floats, bands: Sequence[str]) -> Floats:
    return index(show, refl_tb.T, bands) if show in INDICES else refl_tb[:, 0]


def _rounded(values: Floats) -> list[float | None]:
    """Numbers for JSON, None for none; more digits than the images have say nothing."""
    wide = np.round(values.astype(np.float64), DIGITS)
    return [None if is_none else number for number, is_none in zip(wide.tolist(), np.isnan(wide).tolist(), strict=True)]
