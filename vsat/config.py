"""What a user wants: a Region, one YAML file. Where it runs is `vsat.settings`."""

import hashlib
import ipaddress
import json
import re
from collections.abc import Callable, Iterable
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StrictBool,
    StrictInt,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError
from shapely.geometry.base import BaseGeometry

from vsat.core.area import area_of_box, area_of_geojson
from vsat.core.grid import TileGrid, tiles_over
from vsat.core.tiles import Square
from vsat.document import explain, read_json, read_yaml
from vsat.errors import InputError
from vsat.fields import Day, Store, given_folder
from vsat.hls import BANDS
from vsat.methods import DEFAULT_METHOD, METHOD_PATTERN, METHODS
from vsat.objects import StorePath

Band = Literal["blue", "green", "red", "nir", "swir1", "swir2"]
HLS_BEGINS = date(2013, 4, 11)
_COLLECTION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,252}[A-Za-z0-9])?(:\d{1,5})?")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)


class Area(_Strict):
    """Where: exactly one of a box and a GeoJSON geometry, in degrees."""

    bbox: tuple[float, float, float, float] | None = Field(
        default=None, description="west, south, east, north in degrees; west > east crosses 180 degrees"
    )
    geojson: Annotated[str | dict[str, Any] | None, Field(union_mode="left_to_right")] = Field(
        default=None,
        description="a GeoJSON Polygon or MultiPolygon (a Feature or FeatureCollection of them is fine), "
        "or the path of a file that holds one, relative to the region file; degrees, longitude first",
    )

    @field_validator("bbox", mode="before")
    @classmethod
    def _numbers(cls, value: object) -> object:
        if value is None:
            return value
        if not isinstance(value, list | tuple) or len(value) != 4 or not all(_is_number(v) for v in value):
            raise ValueError("four numbers are needed, in degrees: [west, south, east, north]")
        return tuple(float(v) for v in value)

    @field_validator("bbox")
    @classmethod
    def _sound_box(cls, value: tuple[float, float, float, float] | None) -> tuple[float, float, float, float] | None:
        if value:
            _told(lambda: area_of_box(*value))
        return value

    @field_validator("geojson", mode="before")
    @classmethod
    def _sound_geojson(cls, value: object, info: ValidationInfo) -> object:
        if value is None:
            return value
        if not isinstance(value, str | dict):
            raise ValueError("a GeoJSON geometry, or the path of a file that holds one, is needed")
        found = str(given_folder(Path(value), info)) if isinstance(value, str) else value
        _told(lambda: _geojson_area(found))
        return found

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.bbox is None) == (self.geojson is None):
            raise ValueError("give one of bbox and geojson" + (", not both" if self.bbox else ""))
        return self

    def geometry(self) -> BaseGeometry:
        """The area as checked polygons in degrees, longitude first, split at 180 degrees.

        Raises:
            InputError: the GeoJSON file is gone or has changed into something that is no area.
        """
        return area_of_box(*self.bbox) if self.bbox else _geojson_area(self.geojson)


class Period(_Strict):
    """When: from `start` to `end`; without `end` the region goes on with the days."""

    start: Day = Field(description="the first day")
    end: Day | None = Field(default=None, description="the last day; left out, the region goes on with the days")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.end and self.start > self.end:
            raise ValueError(f"it starts ({self.start}) after its end ({self.end})")
        return self


class Catalogue(_Strict):
    """Where scenes are found."""

    kind: Literal["cmr", "planetary-computer", "stac", "archive"] = Field(
        default="cmr",
        description="cmr: NASA, needs an Earthdata login to read; planetary-computer: Microsoft, needs none; "
        "stac: any STAC API; archive: a folder on this machine",
    )
    url: str | None = Field(default=None, description="root of the STAC API; needed for kind stac; https only")
    path: Path | None = Field(default=None, description="the folder, for kind archive, relative to the region file")
    collections: dict[Literal["L30", "S30"], str] | None = Field(
        default=None,
        description="collection id per sensor, where it differs from HLSL30_2.0 and HLSS30_2.0",
        min_length=1,
    )
    hosts: tuple[str, ...] = Field(default=(), description="further hosts that assets may be read from")

    @field_validator("url")
    @classmethod
    def _safe(cls, value: str | None) -> str | None:
        return None if value is None else _checked_url(value)

    @field_validator("path")
    @classmethod
    def _from_file(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        return value and given_folder(value, info)

    @field_validator("collections")
    @classmethod
    def _ids(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        for name in (value or {}).values():
            if not _COLLECTION.fullmatch(name):
                raise ValueError(f"{name!r} is no collection id: letters, digits, dot, dash and underscore make one")
        return value

    @field_validator("hosts")
    @classmethod
    def _names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not _HOST.fullmatch(name):
                raise ValueError(f"{name!r} is no host name: write it without https:// and path")
        return value

    @model_validator(mode="after")
    def _fitting(self) -> Self:
        if self.kind == "archive":
            if self.path is None or self.url or self.hosts:
                raise ValueError("kind archive needs path, the archive's folder, and takes no url and no hosts")
        elif self.path is not None:
            raise ValueError(f"path is for kind archive, this is kind {self.kind}")
        if self.kind == "stac" and self.url is None:
            raise ValueError("kind stac needs url, the root of the STAC API")
        return self


class Cadence(_Strict):
    """For which dates there is a virtual image: exactly one of three."""

    every_days: StrictInt | None = Field(
        default=None, ge=1, le=366, description="every N days, counted from the period's first day"
    )
    acquisitions: StrictBool = Field(default=False, description="true: on every day with a scene")
    dates: tuple[Day, ...] | None = Field(default=None, min_length=1, description="on these days")

    @field_validator("dates")
    @classmethod
    def _in_order(cls, value: tuple[date, ...] | None) -> tuple[date, ...] | None:
        return tuple(sorted(set(value))) if value else value

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.every_days is not None) + self.acquisitions + (self.dates is not None) != 1:
            raise ValueError("give exactly one of every_days, acquisitions: true, and dates")
        return self


class Cloud(_Strict):
    """What counts as a clear look."""

    adjacent: StrictBool = Field(default=False, description="true keeps pixels next to cloud or shadow as clear looks")
    snow: StrictBool = Field(default=False, description="true keeps snow and ice as clear looks")
    max_cover: float = Field(
        default=100.0, ge=0, le=100, strict=True, description="scenes cloudier than this, in per cent, are not fetched"
    )


class Region(_Strict):
    """One region file, `regions/<name>.yaml`. Paths in it are relative to the file."""

    model_config = ConfigDict(title="vsat region")

    name: str = Field(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$",
        description="names the region's folder in the store: small letters, digits, dash, underscore",
    )
    area: Area
    period: Period
    catalogue: Catalogue = Catalogue()
    bands: tuple[Band, ...] = Field(
        default=BANDS,  # type: ignore[arg-type]
        min_length=1,
        description="bands of the virtual images; the order is always that of the wavelengths",
    )
    cadence: Cadence = Cadence(every_days=8)
    look_back_days: StrictInt = Field(
        default=21, ge=0, le=365, description="each night looks back this many days for late and revised scenes"
    )
    final_after_days: StrictInt = Field(
        default=60,
        ge=0,
        le=365,
        description="scenes up to this many days after the month of a date go into its image; then it is final",
    )
    context_days: StrictInt = Field(
        default=730,
        ge=16,
        le=3650,
        description="scenes up to this many days before the month of a date go into its image",
    )
    method: str = Field(
        default=DEFAULT_METHOD,
        pattern=METHOD_PATTERN,
        description=f"how gaps are filled: {', '.join(METHODS)}, or anydate:FOLDER; docs/log.md compares them",
    )
    store: Store = Field(default=Path("../var"), validate_default=True, description="a folder, or s3://bucket/prefix")
    cloud: Cloud = Cloud()
    tiles: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="only these MGRS tiles (33UVP) of those that the area touches"
    )

    @field_validator("bands")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("a band is named twice")
        return tuple(band for band in BANDS if band in value)

    @field_validator("tiles")
    @classmethod
    def _existing(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        names = [name.upper().removeprefix("T") for name in value or ()]
        for name in names:
            _told(partial(Square.from_tile, name))
        return tuple(sorted(set(names))) if names else value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        outside = [str(day) for day in self.cadence.dates or () if not self._has(day)]
        if outside:
            raise ValueError(f"cadence.dates are outside the period: {', '.join(outside[:5])}")
        end = self.period.end
        if self.catalogue.kind in ("cmr", "planetary-computer") and end and end < HLS_BEGINS:
            raise ValueError(f"period.end ({end}) is before HLS begins ({HLS_BEGINS})")
        if self.tiles:
            _told(self.grids)
        return self

    @property
    def home(self) -> StorePath:
        """The place that holds everything of this region: `<store>/<name>`."""
        return self.store / self.name

    def grids(self) -> tuple[TileGrid, ...]:
        """The windows of HLS tiles that the region works on, sorted by tile: `tiles` of those over its area.

        Raises:
            InputError: one of `tiles` does not lie over the area, or the area's file has changed for the worse.
        """
        found = {grid.tile: grid for grid in tiles_over(self.area.geometry())}
        absent = [name for name in self.tiles or () if name not in found]
        if absent:
            step = f"choose among {', '.join(list(found)[:20])}{', ...' if len(found) > 20 else ''}"
            raise InputError(f"tiles that own nothing of the area: {', '.join(absent)}", next_step=step)
        return tuple(found[name] for name in self.tiles or found)

    def dates(self, until: date, acquisitions: Iterable[date] = ()) -> list[date]:
        """The days that shall have a virtual image, in order, from the period's start to its end or `until`.

        Args:
            until: the last day wanted, usually the day of the run.
            acquisitions: days with a scene; they matter where the cadence is `acquisitions`.
        """
        last = min(until, self.period.end or until)
        if self.cadence.every_days:
            count = (last - self.period.start).days // self.cadence.every_days + 1
            return [self.period.start + timedelta(self.cadence.every_days * i) for i in range(count)]
        days = self.cadence.dates if self.cadence.dates else acquisitions
        return sorted({day for day in days if self._has(day) and day <= last})

    def fingerprint(self) -> str:
        """SHA-256, in hexadecimal, over the options that decide the bytes of an image from given scenes."""
        kept = self.model_dump(mode="json", include={"bands", "method", "context_days", "final_after_days", "cloud"})
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()

    def _has(self, day: date) -> bool:
        return self.period.start <= day <= (self.period.end or day)


def load_region(path: Path) -> Region:
    """The region of a file; relative paths in it are taken from the file's folder.

    Raises:
        InputError: unreadable, not YAML, or not a region. Every problem is named, with line, key path and value.
    """
    document = read_yaml(path)
    try:
        return Region.model_validate(document.content, context={"folder": path.resolve().parent})
    except ValidationError as error:
        step = "mend the file; `vsat init` writes one with every key explained"
        raise InputError(explain(error, document, Region), place=str(path), next_step=step) from error


def _told(check: Callable[[], object]) -> None:
    """Runs a check of ours inside pydantic, which gathers no errors but its own."""
    try:
        check()
    except InputError as error:
        place = f"{error.place}: " if error.place else ""
        raise PydanticCustomError("told", "{text}", {"text": f"{place}{error.problem}; {error.next_step}"}) from error


def _geojson_area(geojson: str | dict[str, Any] | None) -> BaseGeometry:
    if not isinstance(geojson, str):
        return area_of_geojson(geojson)
    document = read_json(Path(geojson), next_step="give the path of a GeoJSON file, relative to the region file")
    try:
        return area_of_geojson(document)
    except InputError as error:
        raise InputError(error.problem, place=geojson, next_step=error.next_step) from error


def _checked_url(url: str) -> str:
    """Raises pydantic's errors; where a secret may stand in the URL, it is not repeated."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise ValueError(f"this is no URL: {error}") from error
    if "@" in parts.netloc or parts.query or parts.fragment:
        text = "a STAC API's root has no ?, no # and no user name or password: credentials come from the environment"
        raise PydanticCustomError("told", "{text}", {"text": text})
    if not host or not (parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(host))):
        raise ValueError("the root of a STAC API is needed, https://... (http for this machine only)")
    return url.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
