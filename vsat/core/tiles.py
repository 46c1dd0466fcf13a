"""MGRS tiles as Sentinel-2 and HLS use them: names, 100 km squares, and which tile owns a place.

Degrees are WGS 84; metres are UTM 326zz in both hemispheres, so southern northings are negative. A square is
(zone, column, row), column and row counted in 100 km from easting 0 and from the equator.
The rules here were compared with all 56,686 tiles of ESA's tiling grid (docs/decisions/001-owner-tile.md).
"""

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pyproj import Transformer

from vsat.errors import InputError

Floats = NDArray[np.float64]

SQUARE_M = 100_000.0
SOUTH, NORTH = -80.0, 84.0
SVALBARD = 72.0  # from here on zones 31, 33, 35 and 37 are wider

_BANDS = "CDEFGHJKLMNPQRSTUVWX"
_COLUMNS = ("ABCDEFGH", "JKLMNPQR", "STUVWXYZ")
_ROWS = "ABCDEFGHJKLMNPQRSTUV"
_TILE = re.compile(r"(?P<zone>0[1-9]|[1-5]\d|60)(?P<band>[C-HJ-NP-X])(?P<column>[A-HJ-NP-Z])(?P<row>[A-HJ-NP-V])")

# First and last column of tiles, from this row on northwards. Where less than half of a zone's westernmost square lies
# in the zone, there is no tile of it: the last tile of the zone before reaches over.
_FIRST_ROW, _LAST_ROW = -93, 93
_Runs = tuple[tuple[int, tuple[int, int] | None], ...]
_SOUTHERN: _Runs = (
    (-93, (5, 5)),
    (-91, (4, 5)),
    (-81, (4, 6)),
    (-71, (3, 6)),
    (-60, (3, 7)),
    (-47, (2, 7)),
    (-29, (2, 8)),
)
_NORTHERN: _Runs = ((29, (2, 7)), (47, (3, 7)), (60, (3, 6)), (71, (4, 6)))
_ODD_SVALBARD: _Runs = ((79, (3, 7)), (81, (3, 6)), (86, (4, 6)), (91, (4, 5)))
_NO_SVALBARD: _Runs = ((79, (5, 6)), (80, None))
_RUNS: dict[int, _Runs] = {
    # At 180 degrees zone 1 keeps its western squares and zone 60 gives up its eastern ones.
    1: ((-93, (4, 5)), (-81, (3, 6)), (-60, (2, 7)), (-29, (1, 8)), (29, (2, 7)), (60, (3, 6)), (81, (4, 5))),
    60: ((-93, None), (-91, (4, 5)), (-71, (3, 6)), (-47, (2, 7)), (47, (3, 6)), (71, (4, 5)), (91, None)),
    31: (
        *_SOUTHERN,
        *_NORTHERN[:3],
        (63, (3, 5)),
        (70, (3, 6)),
        (71, (4, 6)),
        (79, (4, 7)),
        (81, (4, 6)),
        (91, (5, 5)),
    ),
    32: (*_SOUTHERN, *_NORTHERN[:3], (63, (2, 6)), (71, (4, 6)), *_NO_SVALBARD),
    33: (*_SOUTHERN, *_NORTHERN, *_ODD_SVALBARD),
    34: (*_SOUTHERN, *_NORTHERN, *_NO_SVALBARD),
    35: (*_SOUTHERN, *_NORTHERN, *_ODD_SVALBARD),
    36: (*_SOUTHERN, *_NORTHERN, *_NO_SVALBARD),
    37: (*_SOUTHERN, *_NORTHERN, (79, (3, 6)), (81, (3, 5)), (86, (4, 5))),
}
_STANDARD: _Runs = (*_SOUTHERN, *_NORTHERN, (81, (4, 5)), (91, (5, 5)))


@dataclass(frozen=True, order=True)
class Square:
    """One 100 km square of one UTM zone. `from_tile` and `tile` are inverse."""

    zone: int
    column: int
    row: int

    @classmethod
    def from_tile(cls, tile: str) -> "Square":
        """The square of a tile named like `33UVP`.

        Raises:
            InputError: no such tile exists.
        """
        found = _TILE.fullmatch(tile)
        if not found:
            raise InputError(f"{tile!r} is not an MGRS tile", next_step="write it like 33UVP: zone, band, column, row")
        zone = int(found["zone"])
        column = _COLUMNS[(zone - 1) % 3].find(found["column"]) + 1
        low = (_ROWS.index(found["row"]) - _row_shift(zone)) % 20
        rows = (
            [row for row in range(low - 100, 94, 20) if row >= _FIRST_ROW and _band(column, row) == found["band"]]
            if column
            else []
        )
        square = cls(zone, column, rows[0]) if rows else None
        if square is None or not square.is_tile:
            raise InputError(
                f"{tile!r} is not a tile of the HLS grid", next_step="see `vsat check` for the tiles of your area"
            )
        return square

    @property
    def tile(self) -> str:
        """The tile's name. A square that two latitude bands share has the band of its centre, as in ESA's grid."""
        column = _COLUMNS[(self.zone - 1) % 3][self.column - 1]
        row = _ROWS[(self.row + _row_shift(self.zone)) % 20]
        return f"{self.zone:02d}{_band(self.column, self.row)}{column}{row}"

    @property
    def is_tile(self) -> bool:
        """Whether a tile of this square exists; narrow squares at zone borders have none."""
        first, last = columns(self.zone, self.row)
        return first <= self.column <= last

    @property
    def epsg(self) -> int:
        """326zz, in the south too, as NASA writes it."""
        return 32600 + self.zone

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north in metres."""
        west, south = self.column * SQUARE_M, self.row * SQUARE_M
        return west, south, west + SQUARE_M, south + SQUARE_M


def columns(zone: int, row: int) -> tuple[int, int]:
    """First and last column that are tiles in this row of squares; (1, 0) where there is none."""
    found: tuple[int, int] | None = None
    if _FIRST_ROW <= row <= _LAST_ROW:
        for start, run in _RUNS.get(zone, _STANDARD):
            if row >= start:
                found = run
    return found or (1, 0)


def to_metres(zone: int, lon: Floats, lat: Floats) -> tuple[Floats, Floats]:
    """Easting and northing in UTM `zone`, northern numbering, of points in degrees."""
    x, y = _utm(zone).transform(lon, lat)
    return x, y


def to_degrees(zone: int, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Longitude and latitude of points in metres in UTM `zone`, northern numbering."""
    lon, lat = _utm(zone).transform(x, y, direction="INVERSE")
    return lon, lat


def zone_boxes() -> list[tuple[int, tuple[float, float, float, float]]]:
    """Every UTM zone from 80 S to 84 N as boxes: (zone, (west, south, east, north) in degrees)."""
    # Norway (56 to 64 N) and Svalbard (from 72 N on) shift the borders of zones 31 to 37.
    boxes = [
        (zone, (6.0 * zone - 186, SOUTH, 6.0 * zone - 180, NORTH)) for zone in range(1, 61) if not 31 <= zone <= 37
    ]
    for zone in range(31, 38):
        west, east = 6.0 * zone - 186, 6.0 * zone - 180
        boxes.append((zone, (west, SOUTH, east, 56.0)))
        boxes.append((zone, (3.0 if zone == 32 else west, 56.0, 3.0 if zone == 31 else east, 64.0)))
        boxes.append((zone, (west, 64.0, east, SVALBARD)))
    svalbard = ((31, 0.0, 9.0), (33, 9.0, 21.0), (35, 21.0, 33.0), (37, 33.0, 42.0))
    return boxes + [(zone, (west, SVALBARD, east, NORTH)) for zone, west, east in svalbard]


def zone_of(lon: ArrayLike, lat: ArrayLike) -> NDArray[np.int16]:
    """The UTM zone of each point as MGRS has it; degrees in, any shape; -180 and 180 are zone 1."""
    lon_deg, lat_deg = np.broadcast_arrays(np.asarray(lon, float), np.asarray(lat, float))
    zone = (np.floor((lon_deg + 180) / 6).astype(np.int16) % 60) + 1
    zone = np.where((lat_deg >= 56) & (lat_deg < 64) & (lon_deg >= 3) & (lon_deg < 12), 32, zone)
    svalbard = np.array([31, 33, 35, 37])[np.digitize(lon_deg, (9, 21, 33))]
    return np.where((lat_deg >= SVALBARD) & (lon_deg >= 0) & (lon_deg < 42), svalbard, zone).astype(np.int16)


def owners(lon: ArrayLike, lat: ArrayLike) -> NDArray[np.str_]:
    """The one tile that owns each point; degrees in, any shape; "" beyond 80 S and 84 N, where HLS has no tiles.

    It is the MGRS square that holds the point, and where ESA's grid has no tile for that square, the tile of the
    neighbouring zone that reaches over it.
    """
    lon_deg, lat_deg = np.broadcast_arrays(np.asarray(lon, float), np.asarray(lat, float))
    inside = ((lat_deg >= SOUTH) & (lat_deg <= NORTH)).ravel()
    names = np.full(inside.shape, "", "U5")
    squares = _squares(lon_deg.ravel()[inside], lat_deg.ravel()[inside])
    unique, index = np.unique(squares, axis=0, return_inverse=True)
    tiles = np.array([Square(*(int(v) for v in row)).tile for row in unique], "U5")
    names[inside] = tiles[index.ravel()] if len(tiles) else ""
    return names.reshape(lon_deg.shape)


def neighbour(zone: int, *, west: bool, polar: bool) -> int:
    """The zone beside this one; with `polar` (from 72 N on) zones 32, 34 and 36 do not exist."""
    step = -1 if west else 1
    beside = (zone + step - 1) % 60 + 1
    return beside + step if polar and beside in (32, 34, 36) else beside


def _squares(lon: Floats, lat: Floats) -> NDArray[np.int16]:
    """(points, 3): zone, column, row of the owner of each point."""
    result = np.stack(_zone_column_row(lon, lat, zone_of(lon, lat)), axis=1)
    first, last = _limits()[result[:, 0], result[:, 2] - _FIRST_ROW].T
    lost = (result[:, 1] < first) | (result[:, 1] > last)
    result[lost] = _beside(result[lost], lon[lost], lat[lost])
    return result


def _beside(squares: NDArray[np.int16], lon: Floats, lat: Floats) -> NDArray[np.int16]:
    west, polar = squares[:, 1] < 5, lat >= SVALBARD
    zone = np.empty(len(squares), np.int16)
    for z, is_west, is_polar in {
        (int(z), bool(w), bool(p)) for z, w, p in zip(squares[:, 0], west, polar, strict=True)
    }:
        here = (squares[:, 0] == z) & (west == is_west) & (polar == is_polar)
        zone[here] = neighbour(z, west=is_west, polar=is_polar)
    zone, column, row = _zone_column_row(lon, lat, zone)
    first, last = _limits()[zone, row - _FIRST_ROW].T
    return np.stack([zone, np.clip(column, first, last), row], axis=1)


def _zone_column_row(lon: Floats, lat: Floats, zone: NDArray[np.int16]) -> tuple[NDArray[np.int16], ...]:
    column, row = np.empty(zone.shape, np.int16), np.empty(zone.shape, np.int16)
    for z in np.unique(zone):
        here = zone == z
        x, y = to_metres(int(z), lon[here], lat[here])
        column[here], row[here] = np.floor(x / SQUARE_M), np.floor(y / SQUARE_M)
    return zone, column, row


@lru_cache(maxsize=1)
def _limits() -> NDArray[np.int16]:
    """(61, rows, 2): `columns` of every zone and row, row counted from the southernmost."""
    rows = range(_FIRST_ROW, _LAST_ROW + 1)
    return np.array([[columns(zone, row) for row in rows] for zone in range(61)], np.int16)


def _row_shift(zone: int) -> int:
    return 5 if zone % 2 == 0 else 0


@lru_cache(maxsize=4096)
def _band(column: int, row: int) -> str:
    """The latitude band of a square's centre; the same in every zone."""
    _, lat = to_degrees(31, np.array([column + 0.5]) * SQUARE_M, np.array([row + 0.5]) * SQUARE_M)
    return _BANDS[min(max(int((lat[0] - SOUTH) // 8), 0), 19)]


@lru_cache(maxsize=60)
def _utm(zone: int) -> Transformer:
    return Transformer.from_crs(4326, 32600 + zone, always_xy=True)
