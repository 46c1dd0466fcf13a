"""What a user wants (Region, one YAML file) and where it runs (Settings, the environment)."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vsat.errors import InputError
from vsat.hls import BANDS

Band = Literal["blue", "green", "red", "nir", "swir1", "swir2"]
Temporal = Literal["linear", "whittaker", "harmonic"]
METHODS = ("linear", "whittaker", "harmonic", "linear+scene", "whittaker+scene", "harmonic+scene")
Method = Literal["linear", "whittaker", "harmonic", "linear+scene", "whittaker+scene", "harmonic+scene"]
DEFAULT_METHOD: Method = "whittaker+scene"


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Area(_Strict):
    """Where: one of a box and a GeoJSON geometry, in degrees."""

    bbox: tuple[float, float, float, float] | None = Field(None, description="west, south, east, north in degrees; west > east crosses 180")
    geojson: str | dict[str, Any] | None = Field(None, description="a GeoJSON Polygon or MultiPolygon, or the path of a file that holds one")


class Period(_Strict):
    """When: from `start` to `end`; without `end` the region goes on with the days."""

    start: date
    end: date | None = None


class Catalogue(_Strict):
    """Where scenes are found."""

    kind: Literal["cmr", "planetary-computer", "stac", "archive"] = "cmr"
    url: str | None = Field(None, description="API root, for kind stac")
    path: Path | None = Field(None, description="folder, for kind archive")
    collections: dict[Literal["L30", "S30"], str] | None = Field(None, description="collection id per sensor, where it differs from HLSL30_2.0 and HLSS30_2.0")
    hosts: tuple[str, ...] = Field((), description="further hosts that assets may be read from, for kind stac")


class Cadence(_Strict):
    """For which dates there is a virtual image: exactly one of three."""

    every_days: int | None = Field(None, ge=1, le=366, description="from the period's first day, every N days")
    acquisitions: bool = Field(False, description="on every day with a scene")
    dates: tuple[date, ...] | None = Field(None, min_length=1)


class Cloud(_Strict):
    """What counts as a clear look."""

    adjacent: bool = Field(False, description="true keeps pixels next to cloud or shadow as clear looks")
    snow: bool = Field(False, description="true keeps snow and ice as clear looks")
    max_cover: float = Field(100.0, ge=0, le=100, description="scenes cloudier than this, in per cent, are not fetched")


class Region(_Strict):
    """One region file, `regions/<name>.yaml`. Paths in it are relative to the file."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")
    area: Area
    period: Period
    catalogue: Catalogue = Catalogue()
    bands: tuple[Band, ...] = BANDS  # type: ignore[assignment]
    cadence: Cadence = Cadence(every_days=8)
    look_back_days: int = Field(21, ge=0, le=365, description="each night looks back this far for late and revised scenes")
    final_after_days: int = Field(60, ge=0, le=365, description="later scenes up to this many days after a date go into its image; then it is final")
    context_days: int = Field(730, ge=16, le=3650, description="earlier scenes up to this many days before a date go into its image")
    method: Method = DEFAULT_METHOD
    store: Path = Path("../var")
    cloud: Cloud = Cloud()
    tiles: tuple[str, ...] | None = Field(None, description="only these MGRS tiles")

    @property
    def home(self) -> Path:
        """The folder that holds everything of this region: `<store>/<name>`."""
        return self.store / self.name
