"""What addresses may hold: ids, days, numbers and choices, each checked against a pattern or a range at the door."""

from datetime import date
from typing import Annotated

from fastapi import Path, Query

from vsat.viewer.mercator import MOST_ZOOM
from vsat.viewer.problems import Refused

_DAY = r"^\d{4}-\d{2}-\d{2}$"
_ID = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"

RegionId = Annotated[str, Path(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$", description="a region's name")]
Day = Annotated[str, Path(pattern=_DAY, description="a day, such as 2024-05-02", json_schema_extra={"format": "date"})]
Start = Annotated[str | None, Query(pattern=_DAY, description="first day", json_schema_extra={"format": "date"})]
End = Annotated[str | None, Query(pattern=_DAY, description="last day", json_schema_extra={"format": "date"})]
Zoom = Annotated[int, Path(ge=0, le=MOST_ZOOM, description="zoom level of Web Mercator")]
Column = Annotated[int, Path(ge=0, lt=2**MOST_ZOOM, description="column, from the west")]
Row = Annotated[int, Path(ge=0, lt=2**MOST_ZOOM, description="row, from the north")]
Longitude = Annotated[float, Query(ge=-180, le=180, allow_inf_nan=False, description="degrees east")]
Latitude = Annotated[float, Query(ge=-80, le=84, allow_inf_nan=False, description="degrees north; HLS has no more")]
TileId = Annotated[str, Path(pattern=r"^\d{2}[C-HJ-NP-X][A-HJ-NP-Z][A-HJ-NP-V]$", description="an MGRS tile")]
ItemId = Annotated[str, Path(pattern=_ID, description="name of an image")]
FileName = Annotated[str, Path(pattern=_ID, description="name of a file of the image")]
Box = Annotated[
    str | None, Query(max_length=200, pattern=r"^[0-9eE.,+ -]+$", description="west,south,east,north in degrees")
]


def day_of(text: str) -> date:
    """The day that an address names.

    Raises:
        Refused: the calendar has no such day.
    """
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise Refused(422, f"{text!r} is no day of the calendar; write 2024-05-31") from error


def stretch_of(start: str | None, end: str | None) -> tuple[date | None, date | None]:
    """First and last day, None where it is open.

    Raises:
        Refused: one is no day, or they are in the wrong order.
    """
    first, last = (day_of(text) if text else None for text in (start, end))
    if first and last and first > last:
        raise Refused(422, f"start ({first}) is after end ({last})")
    return first, last


def box_of(text: str) -> tuple[float, float, float, float]:
    """West, south, east, north in degrees; west > east crosses 180.

    Raises:
        Refused: these are no four degrees, or the box has no extent.
    """
    try:
        west, south, east, north = (float(part) for part in text.split(","))
    except ValueError as error:
        raise Refused(422, f"bbox: {text!r} is not west,south,east,north") from error
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south < north <= 90 and west != east):
        raise Refused(422, "bbox: west and east lie from -180 to 180, south below north, and none is equal")
    return west, south, east, north
