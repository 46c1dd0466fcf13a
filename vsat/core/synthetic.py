"""A synthetic HLS world with a known truth: the ground of every day, and what the satellites would have seen of it.

Axes: b bands (order of hls.BANDS), y, x pixels of 30 m. Everything is a pure function of the landscape and the day: no
state, and the same bytes on every call.
"""

from datetime import date, timedelta
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from vsat.core import clouds
from vsat.core.landscape import CONIFER, DECIDUOUS, F32, Ground, Landscape, ground
from vsat.core.seasons import ROOF_B, SPECTRUM, drift, moisture, parcel_spectra, snow_depth, sun
from vsat.hls import FILL, FMASK_FILL, SCALE, SENSORS, Fmask

__all__ = ["PASS", "VERSION", "Landscape", "Look", "angles", "observe", "schedule", "snow_cover", "truth"]

VERSION = 1  # of the world; another number makes archives be written anew

# Days between two looks (two satellites each), first look in days of the proleptic calendar, local solar time in hours.
PASS = {"L30": (8, 3, 10.2), "S30": (5, 1, 10.8)}
# What remains of the band-pass difference after HLS has adjusted Sentinel-2 to Landsat: gain of S30, six bands.
_S30_GAIN_B = np.array((0.978, 1.006, 0.988, 1.012, 1.008, 0.985), np.float32)
_NOISE = {"L30": 0.0020, "S30": 0.0028}
_VIEW_B = np.array((1.1, 1.0, 1.0, 0.75, 0.65, 0.7), np.float32)  # how strongly a band answers to the view angle


class Look(NamedTuple):
    """One sensor's look: int16 (b, y, x) with FILL, uint8 (y, x) with 255, cloud in per cent of what was seen."""

    refl_byx: NDArray[np.int16]
    fmask_yx: NDArray[np.uint8]
    cloud_cover: int


def schedule(land: Landscape, start: date, end: date) -> list[tuple[date, str]]:
    """All looks from `start` to `end`, both included, in order of day and sensor: L30 every 8 days, S30 every 5."""
    days = [start + timedelta(n) for n in range((end - start).days + 1)]
    return [(day, sensor) for day in days for sensor in SENSORS if _passes(land, day, sensor)]


def truth(land: Landscape, day: date, *, snow: bool = True) -> F32:
    """The cloud-free ground of a day at midday, without noise and without any sensor's peculiarities.

    Args:
        land: the landscape.
        day: any date.
        snow: False gives the ground as if no snow lay on it.

    Returns:
        Surface reflectance (6, y, x) float32, about 0..1; never missing.
    """
    g = ground(land)
    refl = _ground(land, g, day)
    if snow and (depth := snow_cover(land, day)).any():
        refl += depth * (SPECTRUM["snow"][:, None, None] * (1 + 0.03 * g.grain_kyx[0]) - refl)
    return refl


def snow_cover(land: Landscape, day: date) -> F32:
    """Share of each pixel that snow covers, (y, x) float32 0..1; crowns of trees keep it from view, water has none."""
    depth = snow_depth(land, day)
    if depth == 0:
        return np.zeros(land.shape, np.float32)
    g = ground(land)
    kind = g.kind_p[g.parcel_yx]
    lies = np.clip(2.2 * depth - 0.75 + 0.22 * g.height_yx + 0.16 * g.within_kyx[0] + 0.1 * g.grain_kyx[1], 0, 1)
    hides = np.select([kind == CONIFER, kind == DECIDUOUS], [0.72, 0.45], 0.06) + 0.35 * g.built_yx + 0.5 * g.road_yx
    return np.asarray(lies * np.clip(1 - hides, 0, 1) * (1 - g.water_yx), np.float32)


def observe(land: Landscape, day: date, sensor: str) -> Look | None:
    """What `sensor` saw on `day`; None when no orbit passes.

    Args:
        land: the landscape.
        day: UTC day.
        sensor: "L30" or "S30".

    Returns:
        Reflectance in HLS units, Fmask and cloud cover; beyond the swath's edge FILL and 255.
    """
    if not _passes(land, day, sensor):
        return None
    g, snow_yx, key = ground(land), snow_cover(land, day), day.toordinal() * 2 + SENSORS.index(sensor)
    rng = land.random(40, key)
    sky = clouds.sky(land, day, PASS[sensor][2])
    refl = truth(land, day)
    town_yx = np.where(g.built_yx > 0.5, g.roof_yx * g.built_yx, 0)
    fmask = clouds.fmask(land, sky, key=key, bright_yx=town_yx, snow_yx=snow_yx, water_yx=g.water_yx)
    refl *= _sensor_gain(land, day, sensor, rng)
    seen = clouds.through(sky, refl)
    seen += rng.standard_normal(seen.shape, np.float32) * (_NOISE[sensor] + 0.006 * seen)
    stored = np.clip(np.rint(seen / SCALE), -500, 16000).astype(np.int16)
    inside = _swath(land, day, sensor)
    stored[:, ~inside] = FILL
    fmask[~inside] = FMASK_FILL
    cloudy = np.count_nonzero(fmask[inside] & int(Fmask.CLOUD))
    return Look(stored, fmask, round(100 * cloudy / max(int(inside.sum()), 1)))


def angles(land: Landscape, day: date, sensor: str) -> tuple[float, float, float]:
    """Sun zenith, sun azimuth, view zenith of a look in degrees."""
    zenith, azimuth = sun(land, day, PASS[sensor][2])
    return zenith, azimuth, abs(_view(land, day, sensor)) * 8.0


def _passes(land: Landscape, day: date, sensor: str) -> bool:
    every, first, _ = PASS[sensor]
    return (day.toordinal() - first - land.seed) % every == 0


def _nth(land: Landscape, day: date, sensor: str) -> int:
    every, first, _ = PASS[sensor]
    return (day.toordinal() - first - land.seed) // every


def _is_edge(land: Landscape, day: date, sensor: str) -> bool:
    return land.swath_edge and sensor == "S30" and _nth(land, day, sensor) % 4 == 3


def _view(land: Landscape, day: date, sensor: str) -> float:
    """Signed view angle of the orbit, about -1.3..1.3: S30 alternates between two orbits, L30 stays near nadir."""
    if sensor == "L30":
        return 0.25 if _nth(land, day, sensor) % 2 else -0.2
    return 1.3 if _is_edge(land, day, sensor) else (0.8 if _nth(land, day, sensor) % 2 else -0.7)


def _swath(land: Landscape, day: date, sensor: str) -> NDArray[np.bool_]:
    """True where the sensor looked: on edge orbits the swath ends in the area, along its inclined track."""
    height, width = land.shape
    if not _is_edge(land, day, sensor):
        return np.ones(land.shape, bool)
    y, x = np.ogrid[:height, :width]
    inside: NDArray[np.bool_] = x + 0.21 * (y - height / 2) < 0.62 * width
    return inside


def _sensor_gain(land: Landscape, day: date, sensor: str, rng: np.random.Generator) -> F32:
    """(6, y, x) factors: band pass, view angle with a slope across the swath, and what varies from look to look."""
    across = np.linspace(-1, 1, land.shape[1], dtype=np.float32)
    view = 0.022 * _view(land, day, sensor) + 0.008 * across + 0.03 * rng.standard_normal()
    band = (_S30_GAIN_B if sensor == "S30" else np.ones(6, np.float32)) * (1 + 0.015 * rng.standard_normal(6))
    return np.asarray(band[:, None, None] * (1 + _VIEW_B[:, None, None] * view), np.float32)


def _ground(land: Landscape, g: Ground, day: date) -> F32:
    """Parcels with their growth inside, then roads, town, water and fire over them, blurred by a pixel's optics."""
    spectra_pb, gain_pb = parcel_spectra(land, g, day)
    vigour = _vigour(land, g, day)
    refl = np.ascontiguousarray(spectra_pb.T)[:, g.parcel_yx] + np.ascontiguousarray(gain_pb.T)[:, g.parcel_yx] * vigour
    _burnt(land, g, day, refl)
    wet = moisture(land, day)
    water = SPECTRUM["water"] + (SPECTRUM["mud"] - SPECTRUM["water"]) * (0.05 + 0.35 * wet)
    for b in range(6):
        refl[b] *= 1 + 0.045 * g.within_kyx[1] * (0.4 if b == 3 else 1)  # soil and stand, a little of their own
        refl[b] += g.road_yx * (SPECTRUM["asphalt"][b] - refl[b])
        refl[b] += g.built_yx * (g.roof_yx * ROOF_B[b] * (1 - 0.12 * wet) - refl[b])
        refl[b] += g.water_yx * (water[b] * (1 + 0.1 * g.within_kyx[2]) - refl[b])
    ndimage.convolve1d(refl, (0.12, 0.76, 0.12), axis=1, output=refl, mode="nearest")
    ndimage.convolve1d(refl, (0.12, 0.76, 0.12), axis=2, output=refl, mode="nearest")
    refl *= 1 + (0.018 + 0.045 * g.forest_yx) * g.grain_kyx[0]
    return np.maximum(refl, 0.002, out=refl)


def _vigour(land: Landscape, g: Ground, day: date) -> F32:
    """Relative surplus of growth (y, x): patterns in each parcel, whose strength wanders over weeks."""
    parcels = len(g.kind_p)
    tree = np.where(np.isin(g.kind_p, (CONIFER, DECIDUOUS)), 0.35, 1.0).astype(np.float32)
    fine = (0.06 + 0.05 * drift(land, parcels, day, length_days=22, key=41)) * tree
    middle = (0.07 + 0.05 * drift(land, parcels, day, length_days=30, key=42)) * tree
    region = 0.09 * drift(land, 1, day, length_days=14, key=43)[0]
    field = fine[g.parcel_yx] * g.within_kyx[0] + middle[g.parcel_yx] * g.within_kyx[1] + region * g.within_kyx[2]
    return np.asarray(np.clip(field + 0.04 * g.grain_kyx[1], -0.6, 0.35), np.float32)


def _burnt(land: Landscape, g: Ground, day: date, refl_byx: F32) -> None:
    """From the day of the fire on: char, then slow recovery under it; changes `refl_byx`."""
    since = (day - land.fire).days
    if since < 0:
        return
    left = g.burn_yx * np.float32(0.25 + 0.75 * np.exp(-since / 420))
    for b in range(6):
        refl_byx[b] += left * (SPECTRUM["char"][b] * (1 + 0.08 * g.within_kyx[0]) - refl_byx[b])
