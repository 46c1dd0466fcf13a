"""The Harmonized Landsat Sentinel-2 product: bands, scale, Fmask bits, names.

Source: HLS Product User Guide v2.0 (Masek et al. 2021), tables 5, 6 and 9.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import IntFlag

import numpy as np
from numpy.typing import NDArray

BANDS = ("blue", "green", "red", "nir", "swir1", "swir2")
SENSORS = ("L30", "S30")
NO_SENSOR = 255  # in arrays of indices of SENSORS
SCALE = 1e-4
FILL = -9999
FMASK_FILL = 255
TILE_PX = 3660
RESOLUTION_M = 30.0

# Never by STAC common name: on S30 that gives the broad near infrared, B08. L30's own B10 and B11 are thermal.
FILES = {
    "L30": dict(zip(BANDS, ("B02", "B03", "B04", "B05", "B06", "B07"), strict=True)),
    "S30": dict(zip(BANDS, ("B02", "B03", "B04", "B8A", "B11", "B12"), strict=True)),
}
COMMON_NAMES = dict(zip(BANDS, ("blue", "green", "red", "nir08", "swir16", "swir22"), strict=True))
WAVELENGTH_UM = dict(zip(BANDS, (0.482, 0.561, 0.655, 0.865, 1.609, 2.201), strict=True))  # OLI band centres


class Fmask(IntFlag):
    """Bits of the v2 Fmask layer; 255 is no data and has every bit set, so test it first."""

    CLOUD = 1 << 1
    ADJACENT = 1 << 2
    SHADOW = 1 << 3
    SNOW = 1 << 4
    WATER = 1 << 5
    AEROSOL_LOW = 1 << 6
    AEROSOL_HIGH = 1 << 7


def sensors_of(names: Iterable[object]) -> NDArray[np.uint8]:
    """Index of each name in SENSORS; others count on in the order of their names; "", and what finds no number, is NO_SENSOR."""
    named = [str(name) for name in names]
    known = [*SENSORS, *sorted(set(named) - {*SENSORS, ""})][:NO_SENSOR]
    index = {name: n for n, name in enumerate(known)}
    return np.array([index.get(name, NO_SENSOR) for name in named], np.uint8)


_TILE = r"(?P<tile>\d{2}[C-HJ-NP-X][A-HJ-NP-Z][A-HJ-NP-V])"
_GRANULE = re.compile(
    rf"HLS\.(?P<sensor>L30|S30)\.T{_TILE}"
    r"\.(?P<when>\d{7}(?:T\d{6})?)\.v(?P<version>\d+\.\d+)",
    re.ASCII,
)
_SCENE = re.compile(rf"{_TILE}/(?P<day>\d{{4}}-\d{{2}}-\d{{2}})/(?P<sensor>L30|S30)", re.ASCII)


@dataclass(frozen=True, order=True)
class GranuleId:
    """The name of one HLS granule; `from_string` and `str` are inverse.

    `acquired` is the time in the name (UTC): for S30 that of the datatake's start, not the scene's. Version 1.5 names
    carry a day only; then `acquired` is its midnight and `has_time` is False.
    """

    sensor: str
    tile: str
    acquired: datetime
    version: str = "2.0"
    has_time: bool = True

    @classmethod
    def from_string(cls, text: str) -> "GranuleId":
        """Parse `HLS.L30.T19LBJ.2020239T144556.v2.0`.

        Raises:
            ValueError: the text is not a granule name.
        """
        found = _GRANULE.fullmatch(text)
        if not found:
            raise ValueError(f"not an HLS granule name: {text!r}")
        has_time = "T" in found["when"]
        acquired = datetime.strptime(found["when"], "%Y%jT%H%M%S" if has_time else "%Y%j").replace(tzinfo=UTC)
        granule = cls(found["sensor"], found["tile"], acquired, found["version"], has_time)
        if str(granule) != text:  # strptime takes day 366 of any year, as the next year's first
            raise ValueError(f"not an HLS granule name: {text!r}")
        return granule

    def __str__(self) -> str:
        when = self.acquired.strftime("%Y%jT%H%M%S" if self.has_time else "%Y%j")
        return f"HLS.{self.sensor}.T{self.tile}.{when}.v{self.version}"

    @property
    def scene(self) -> "SceneKey":
        """The scene (tile, day, sensor) that this granule is part of."""
        return SceneKey(self.tile, self.acquired.date(), self.sensor)


@dataclass(frozen=True, order=True)
class SceneKey:
    """One tile, one UTC day, one sensor: the unit of storage.

    `from_string` and `str` (`33UVP/2024-05-02/L30`) are inverse.
    """

    tile: str
    day: date
    sensor: str

    @classmethod
    def from_string(cls, text: str) -> "SceneKey":
        """Parse `33UVP/2024-05-02/L30`.

        Raises:
            ValueError: the text is not a scene key.
        """
        found = _SCENE.fullmatch(text)
        if not found:
            raise ValueError(f"not a scene key: {text!r}")
        return cls(found["tile"], date.fromisoformat(found["day"]), found["sensor"])

    def __str__(self) -> str:
        return f"{self.tile}/{self.day.isoformat()}/{self.sensor}"
