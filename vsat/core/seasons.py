"""The year of the synthetic world: what grows on each parcel on a day, soil moisture, snow, the height of the sun.

Axes: p parcels, b bands (order of hls.BANDS), y, x pixels. Spectra are surface reflectance, 0..1. Every function
depends on the landscape and the day alone.
"""

from datetime import date, timedelta
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from vsat.core.landscape import CONIFER, DECIDUOUS, F32, GARDEN, KINDS, MEADOW, PASTURE, ROTATING, Ground, Landscape

# Typical surface reflectance of pure covers, six bands blue..swir2 (USGS spectral library and HLS scenes, rounded).
SPECTRA = {
    "leaf": (0.025, 0.062, 0.030, 0.46, 0.205, 0.088),
    "grass": (0.032, 0.075, 0.046, 0.39, 0.225, 0.112),
    "broadleaf": (0.020, 0.046, 0.024, 0.41, 0.180, 0.072),
    "needle": (0.018, 0.032, 0.021, 0.235, 0.098, 0.042),
    "autumn": (0.034, 0.070, 0.092, 0.33, 0.205, 0.105),
    "twigs": (0.036, 0.052, 0.066, 0.185, 0.195, 0.125),
    "straw": (0.082, 0.122, 0.165, 0.285, 0.345, 0.255),
    "soil": (0.062, 0.088, 0.118, 0.195, 0.285, 0.245),
    "flower": (0.040, 0.165, 0.150, 0.47, 0.230, 0.110),
    "water": (0.028, 0.034, 0.021, 0.014, 0.009, 0.006),
    "mud": (0.060, 0.095, 0.090, 0.045, 0.012, 0.008),
    "asphalt": (0.085, 0.098, 0.108, 0.135, 0.150, 0.140),
    "char": (0.036, 0.040, 0.046, 0.078, 0.165, 0.185),
    "snow": (0.80, 0.80, 0.79, 0.70, 0.13, 0.10),
    "cloud": (1.00, 0.985, 0.98, 0.99, 0.74, 0.58),
}
SPECTRUM = {name: np.array(values, np.float32) for name, values in SPECTRA.items()}
ROOF_B = np.array((0.82, 0.96, 1.06, 1.32, 1.42, 1.34), np.float32)  # of a roof's visible reflectance

# Crop calendar of the rotating kinds, days from 1 January of the harvest year: sown, share of cover in winter, spring
# rise (day, width), full cover, ripening (day, width), harvest, straw left, bloom (0 none), second crop (rise, 0 none).
CALENDAR = np.array([
    (-72, 0.30, 96, 10, 0.93, 184, 7, 206, 0.85, 0, 0),      # wheat
    (-85, 0.36, 88, 10, 0.90, 164, 7, 184, 0.80, 0, 232),    # barley, then a catch crop until it freezes
    (-120, 0.55, 82, 9, 0.95, 172, 8, 197, 0.70, 120, 0),    # rapeseed
    (128, 0.0, 163, 8, 0.94, 258, 9, 276, 0.60, 0, 0),       # maize
    (100, 0.0, 150, 12, 0.96, 330, 20, 302, 0.10, 0, 0),     # beet, lifted green
    (110, 0.0, 152, 9, 0.90, 236, 8, 262, 0.15, 0, 0),       # potato
])  # fmt: skip


@lru_cache(maxsize=8)
def season_shifts(land: Landscape, parcels: int, year: int) -> F32:
    """(5, p): days early or late, vigour, first and second cut, rotation step, of one harvest year."""
    rng = land.random(20, year)
    late = rng.normal(0, 5) + rng.normal(0, 5, parcels)
    cuts = rng.normal(0, 8, (2, parcels))
    return np.stack([late, rng.normal(0, 0.07, parcels), *cuts, np.full(parcels, year % ROTATING)]).astype(np.float32)


@lru_cache(maxsize=4)
def _waves(land: Landscape, parcels: int, length_days: float, key: int) -> tuple[F32, F32]:
    """Random Fourier features of a Gaussian process in time: frequencies (k,), phases (p, k)."""
    rng = land.random(key)
    return (rng.standard_normal(10) / length_days).astype(np.float32), rng.uniform(0, 2 * np.pi, (parcels, 10)).astype(
        np.float32
    )


def drift(land: Landscape, parcels: int, day: date, *, length_days: float, key: int) -> F32:
    """(p,) unit-variance anomalies that wander smoothly in time, independent between parcels."""
    frequency, phase = _waves(land, parcels, length_days, key)
    # days since 2000, so that phases stay exact in float32
    waves = np.cos(frequency * (day.toordinal() - 730_120) + phase).sum(axis=1)
    return np.asarray(waves * np.sqrt(2 / 10), np.float32)


def parcel_spectra(land: Landscape, ground: Ground, day: date) -> tuple[F32, F32]:
    """Reflectance of every parcel (p, b), and by how much it changes per unit of green cover gained (p, b)."""
    kind, parcels = ground.kind_p, len(ground.kind_p)
    green, dry, bloom = (np.zeros(parcels, np.float32) for _ in range(3))
    for year in (day.year, day.year + 1):
        shifts = season_shifts(land, parcels, year)
        for part, value in zip((green, dry, bloom), _crops(kind, shifts, (day - date(year, 1, 1)).days), strict=True):
            np.maximum(part, value, out=part)
    shifts = season_shifts(land, parcels, day.year)
    t = (day - date(day.year, 1, 1)).days
    _grassland(kind, shifts, t, green, dry)
    green[(kind == DECIDUOUS) | (kind == CONIFER)] = 0.95  # canopy; whether it bears leaves is the canopy's spectrum
    leaves, colour = _trees(shifts, t)
    rotating = kind < ROTATING
    # weeds and volunteers green up what lies bare; conditions wander within a season
    green = np.where(rotating, np.maximum(green, 0.06 + 0.05 * np.sin((t - 100) / 58)), green)
    # a parcel of its own, and all of one kind together, for they have the same weather
    alike = drift(land, len(KINDS), day, length_days=9, key=24)[kind]
    wander = 0.07 * drift(land, parcels, day, length_days=16, key=21) + 0.09 * alike + shifts[1]
    green = np.clip(green * (1 + wander * np.where(kind == CONIFER, 0.5, 1)), 0, 1)
    dry = np.minimum(dry, 1 - green)
    wet = moisture(land, day)
    soil = (
        SPECTRUM["soil"]
        * ground.soil_p[:, None]
        * (1 - wet * np.array((0.25, 0.26, 0.27, 0.27, 0.36, 0.38), np.float32))
    )
    bare = np.where((kind == DECIDUOUS)[:, None] | (kind == CONIFER)[:, None], SPECTRUM["twigs"], soil)
    leaf = _leaves(kind, leaves, colour, bloom)
    dull = np.float32(1 + 0.05) * SPECTRUM["straw"] * (1 - 0.2 * wet)
    spectra = green[:, None] * leaf + dry[:, None] * dull + (1 - green - dry)[:, None] * bare
    return spectra.astype(np.float32), (green[:, None] * (leaf - bare)).astype(np.float32)


def _crops(kind: NDArray[np.uint8], shifts: F32, t: int) -> tuple[F32, F32, F32]:
    """Green, dry and flowering share of rotating parcels, `t` days after 1 January of the harvest year."""
    rotating = kind < ROTATING
    crop = np.where(rotating, (kind + shifts[4].astype(np.int64)) % ROTATING, 0)
    sown, winter, rise, rise_w, full, ripe, ripe_w, harvest, straw, blooms, second = CALENDAR[crop].T
    t_p = t - shifts[0]
    up = winter * _step(t_p, sown + 24, 7) + (full - winter) * _step(t_p, rise, rise_w)
    ripening = _step(t_p, ripe, ripe_w)
    stands = t_p < harvest
    plough = harvest + 25 + 2.5 * np.abs(shifts[2])
    after = t_p - harvest
    green = np.where(stands & (t_p > sown), up * (1 - ripening), 0)
    stubble = np.where((after >= 0) & (t_p < plough), straw * np.exp(-np.maximum(after, 0) / 60), 0)
    dry = np.where(stands, up * ripening * 0.95, stubble)
    catch = np.where((second > 0) & (t_p > plough), 0.8 * _step(t_p, second + 14, 7) * (1 - _step(t_p, 338, 5)), 0)
    bloom = np.where(blooms > 0, np.exp(-(((t_p - blooms) / 9) ** 2)), 0)
    return tuple(np.where(rotating, part, 0).astype(np.float32) for part in (np.maximum(green, catch), dry, bloom))  # type: ignore[return-value]


def _grassland(kind: NDArray[np.uint8], shifts: F32, t: int, green: F32, dry: F32) -> None:
    """Meadows are cut three times, pastures are grazed, gardens are a bit of both: writes into `green` and `dry`."""
    t_p = t - shifts[0]
    grown = 0.55 + 0.36 * _step(t_p, 92, 11) * (1 - _step(t_p, 305, 16))
    cut = np.zeros_like(grown)
    for centre, shift in ((146, shifts[2]), (196, shifts[3]), (254, -shifts[2])):
        since = t_p - (centre + shift)
        cut = np.maximum(cut, np.where(since >= 0, np.exp(-np.maximum(since, 0) / 15), 0))
    for which, loss, straw in ((MEADOW, 0.62, 0.35), (PASTURE, 0.16, 0.1), (GARDEN, 0.05, 0.05)):
        here = kind == which
        green[here] = (grown * (1 - loss * cut))[here]
        dry[here] = (0.12 + straw * cut)[here]


def _trees(shifts: F32, t: int) -> tuple[F32, F32]:
    """Leaf cover 0..1 of deciduous stands, undergrowth included, and its autumn colour 0..1."""
    t_p = t - 0.5 * shifts[0]
    leaves = 0.18 + 0.8 * _step(t_p, 116, 5) * (1 - _step(t_p, 309, 5))
    return leaves.astype(np.float32), _step(t_p, 290, 5).astype(np.float32)


def _leaves(kind: NDArray[np.uint8], leaves: F32, colour: F32, bloom: F32) -> F32:
    """(p, b): reflectance of the green part of every parcel."""
    grassy = np.isin(kind, (MEADOW, PASTURE, GARDEN))[:, None]
    leaf = np.where(grassy, SPECTRUM["grass"], SPECTRUM["leaf"])
    leaf = leaf + bloom[:, None] * (SPECTRUM["flower"] - leaf)
    tree = SPECTRUM["broadleaf"] + colour[:, None] * (SPECTRUM["autumn"] - SPECTRUM["broadleaf"])
    tree = SPECTRUM["twigs"] + leaves[:, None] * (tree - SPECTRUM["twigs"])
    leaf = np.where((kind == DECIDUOUS)[:, None], tree, leaf)
    return np.where((kind == CONIFER)[:, None], SPECTRUM["needle"], leaf).astype(np.float32)


def _step(
    t: NDArray[np.floating], centre: NDArray[np.floating] | float, width: NDArray[np.floating] | float
) -> NDArray[np.floating]:
    rise: NDArray[np.floating] = 1 / (1 + np.exp(-np.clip((t - centre) / width, -30, 30)))
    return rise


def moisture(land: Landscape, day: date) -> float:
    """Wetness of bare soil, 0 dry to 1 just rained; rain comes on single days and dries over about four."""
    wet = 0.0
    for lag in range(16):
        rng = land.random(22, (day - timedelta(lag)).toordinal())
        if rng.random() < 0.30:
            wet = max(wet, float(rng.uniform(0.4, 1.0)) * float(np.exp(-lag / 4)))
    return wet


def snow_depth(land: Landscape, day: date) -> float:
    """Snow on the ground, 0 none to about 1; three spells a winter, each falls in a night and melts over days."""
    depth = 0.0
    winter = day.year if day.month > 6 else day.year - 1
    rng = land.random(23, winter)
    for middle in (345, 378, 410):
        start = date(winter, 1, 1) + timedelta(int(rng.normal(middle, 8)))
        length, most = int(rng.integers(5, 13)), float(rng.uniform(0.7, 1.15))
        since = (day - start).days
        if 0 <= since < length:
            depth = max(depth, most * (1 - 0.75 * (since / length) ** 2))
    return depth


def sun(land: Landscape, day: date, hour: float) -> tuple[float, float]:
    """Zenith and azimuth (clockwise from north) of the sun in degrees at a local solar time."""
    turn = 2 * np.pi * (day.timetuple().tm_yday + 10) / 365.25
    declination, latitude, angle = (
        np.radians(-23.44 * np.cos(turn)),
        np.radians(land.latitude_deg),
        np.radians(15 * (hour - 12)),
    )
    up = np.sin(latitude) * np.sin(declination) + np.cos(latitude) * np.cos(declination) * np.cos(angle)
    east = -np.cos(declination) * np.sin(angle)
    north = np.cos(latitude) * np.sin(declination) - np.sin(latitude) * np.cos(declination) * np.cos(angle)
    return float(np.degrees(np.arccos(up))), float(np.degrees(np.arctan2(east, north)) % 360)
