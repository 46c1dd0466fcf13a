"""The ground of the synthetic world: what lies where. Static fields, drawn once from a seed.

Axes: p parcels (fields, meadows, forest stands, gardens), y, x pixels. Lengths are pixels of 30 m.
"""

from dataclasses import dataclass
from datetime import date
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage
from scipy.spatial import cKDTree

F32 = NDArray[np.float32]
# What can grow on a parcel. The first six are a rotation; the others stay.
KINDS = (
    "wheat",
    "barley+catch",
    "rapeseed",
    "maize",
    "beet",
    "potato",
    "meadow",
    "pasture",
    "deciduous",
    "conifer",
    "garden",
)
ROTATING = 6
MEADOW, PASTURE, DECIDUOUS, CONIFER, GARDEN = range(6, 11)


@dataclass(frozen=True)
class Landscape:
    """A synthetic piece of land, given wholly by these values. `shape` is (y, x) in pixels of 30 m.

    `fire` is the day on which part of its forest burns. With `swath_edge`, every fourth Sentinel-2 look comes from the
    neighbouring orbit and sees only part of the area.
    """

    seed: int
    shape: tuple[int, int] = (384, 384)
    fire: date = date(2024, 8, 3)
    latitude_deg: float = 50.0
    swath_edge: bool = True

    def random(self, *key: int) -> np.random.Generator:
        """A generator that depends on the seed and `key` alone."""
        return np.random.default_rng([self.seed, *key])


@dataclass(frozen=True)
class Ground:
    """What does not change with the days. Shares are 0..1; a pixel's rest after water, road and built is its parcel."""

    parcel_yx: NDArray[np.int32]
    kind_p: NDArray[np.uint8]  # index into KINDS; for rotating fields where the rotation starts
    soil_p: F32  # relative soil brightness
    water_yx: F32
    road_yx: F32
    built_yx: F32
    roof_yx: F32  # reflectance of the built part in the visible
    height_yx: F32  # relative height, mean 0, standard deviation 1
    within_kyx: F32  # three smooth patterns of growth inside and across parcels, unit variance
    grain_kyx: F32  # two patterns of single pixels that never change, unit variance
    burn_yx: F32  # severity of the fire

    @property
    def forest_yx(self) -> NDArray[np.bool_]:
        """Pixels of forest stands."""
        kind = self.kind_p[self.parcel_yx]
        forest: NDArray[np.bool_] = (kind == DECIDUOUS) | (kind == CONIFER)
        return forest


def fractal(
    rng: np.random.Generator, shape: tuple[int, int], *, slope: float, longest: float = 1e9, shortest: float = 2.0
) -> F32:
    """Random periodic field with spectrum k^-slope between two wavelengths in pixels; mean 0, deviation 1."""
    height, width = shape
    k_y = np.fft.fftfreq(height).astype(np.float32)[:, None]
    k_x = np.fft.rfftfreq(width).astype(np.float32)[None, :]
    k = np.sqrt(k_y**2 + k_x**2)
    k[0, 0] = 1.0
    gain = (k**2 + np.float32(1 / longest**2)) ** np.float32(-slope / 4) * np.exp(-((k * shortest / 2) ** 4))
    gain[0, 0] = 0.0
    noise = rng.standard_normal((2, height, width // 2 + 1), np.float32)
    field = fft.irfft2((noise[0] + 1j * noise[1]) * gain, s=shape)
    return (field / max(float(field.std()), 1e-9)).astype(np.float32)


@lru_cache(maxsize=2)
def ground(land: Landscape) -> Ground:
    """Draw the land. The same landscape gives the same ground, to the byte."""
    size = min(land.shape)
    height = _relief(land)
    water = _water(land, size)
    town, centres = _settlements(land, size, water)
    parcel, kind_p, soil_p = _parcels(land, height, water, town)
    road = _roads(land, size, centres) * (1 - water)
    built, roof = _buildings(land, town, water)
    rng = land.random(7)
    within = np.stack(
        [fractal(rng, land.shape, slope=s, longest=w, shortest=4) for s, w in ((2.6, 12), (2.6, 30), (3.0, 90))]
    )
    grain = np.stack([fractal(rng, land.shape, slope=s, longest=20, shortest=2) for s in (0.6, 1.2)])
    forest = np.isin(kind_p[parcel], (DECIDUOUS, CONIFER)) & (water < 0.5) & (built < 0.3)
    burn = _burn(land, size, forest)
    return Ground(parcel, kind_p, soil_p, water, road, built * (1 - road), roof, height, within, grain, burn)


def _axes(land: Landscape) -> tuple[F32, F32]:
    """Row and column of every pixel, (y, 1) and (1, x)."""
    height, width = land.shape
    return np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)[None, :]


def _relief(land: Landscape) -> F32:
    y, x = _axes(land)
    slope = 1.2 * (x / land.shape[1] - 0.5) - 1.6 * (y / land.shape[0] - 0.5)
    rough = fractal(land.random(1), land.shape, slope=3.6, longest=160, shortest=8)
    field = rough + slope
    return np.asarray((field - field.mean()) / field.std(), np.float32)


def _water(land: Landscape, size: int) -> F32:
    """A river that winds from north to south, and a lake beside it."""
    y, x = _axes(land)
    rng = land.random(2)
    bends = ndimage.gaussian_filter1d(rng.standard_normal(land.shape[0] + 400), 22, mode="wrap")[: land.shape[0]]
    bends = bends / bends.std() * 0.022 * size
    course = (land.shape[1] * 0.30 + 0.10 * size * np.sin(y[:, 0] / size * 4 + 1) + bends).astype(np.float32)[:, None]
    lean = np.sqrt(1 + np.gradient(course[:, 0]) ** 2).astype(np.float32)[:, None]
    wide = 1.1 + 0.6 * np.sin(y / 37)
    river = np.clip(wide - np.abs(x - course) / lean + 0.5, 0, 1)
    ragged = fractal(rng, land.shape, slope=3.0, longest=60, shortest=4)
    far = np.hypot((y - 0.78 * land.shape[0]) / 0.8, x - 0.17 * land.shape[1])
    lake = np.clip(0.075 * size + 0.018 * size * ragged - far + 0.5, 0, 1)
    return np.asarray(np.maximum(river, lake), np.float32)


def _settlements(land: Landscape, size: int, water_yx: F32) -> tuple[F32, list[tuple[float, float]]]:
    """Density of building 0..1: one town and some villages, and their centres (row, column)."""
    y, x = _axes(land)
    rng = land.random(3)
    rough = fractal(rng, land.shape, slope=2.4, longest=24, shortest=3)
    centres = [(0.38 * land.shape[0], 0.62 * land.shape[1])]
    radii = [0.10 * size]
    for _ in range(max(2, size // 60)):
        centres.append((float(rng.uniform(0.06, 0.94)) * land.shape[0], float(rng.uniform(0.06, 0.94)) * land.shape[1]))
        radii.append(float(rng.uniform(0.014, 0.028)) * size + 1.5)
    density = np.zeros(land.shape, np.float32)
    for (row, column), radius in zip(centres, radii, strict=True):
        far = np.hypot(y - row, x - column) / radius
        density = np.maximum(density, np.clip(1.25 - far + 0.28 * rough, 0, 1))
    return (density * (water_yx < 0.3)).astype(np.float32), centres


def _blocks(land: Landscape, key: int, spacing: float) -> tuple[NDArray[np.int64], F32, F32]:
    """Cells of a jittered grid with ragged borders: (cell, distance to the border in pixels, cell centres (n, 2))."""
    rng = land.random(key)
    rows, columns = (np.arange(-spacing, n + spacing, spacing) for n in land.shape)
    centres = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)
    centres = centres + rng.uniform(-0.42, 0.42, centres.shape) * spacing
    warp = (
        np.stack([fractal(rng, land.shape, slope=3.2, longest=40, shortest=8) for _ in range(2)], -1) * spacing * 0.07
    )
    y, x = np.mgrid[: land.shape[0], : land.shape[1]]
    near, cell = cKDTree(centres).query(np.stack([y, x], -1) + warp, k=2)
    near, cell = np.asarray(near), np.asarray(cell)
    border = (near[..., 1] - near[..., 0]) / 2
    return cell[..., 0], border.astype(np.float32), centres.astype(np.float32)


def _parcels(
    land: Landscape, height_yx: F32, water_yx: F32, town_yx: F32
) -> tuple[NDArray[np.int32], NDArray[np.uint8], F32]:
    """Fields as strips in blocks of common direction; forest stands on the heights; gardens in the town."""
    rng = land.random(4)
    block, _, centres = _blocks(land, 5, 26.0)
    angle = rng.choice([0.35, 0.35 + np.pi / 2, 0.9, 1.8], len(centres)) + rng.normal(0, 0.08, len(centres))
    wide, long = rng.uniform(3.5, 10, len(centres)), rng.uniform(9, 22, len(centres))
    y, x = np.mgrid[: land.shape[0], : land.shape[1]].astype(np.float32)
    dy, dx = y - centres[block, 0], x - centres[block, 1]
    across = np.floor((dx * np.cos(angle[block]) + dy * np.sin(angle[block])) / wide[block]) + 40
    along = np.floor((dy * np.cos(angle[block]) - dx * np.sin(angle[block])) / long[block]) + 40
    field = (block * 6400 + across * 80 + along).astype(np.int64)
    stand, _, _ = _blocks(land, 6, 13.0)
    wood = 0.75 * fractal(rng, land.shape, slope=3.1, longest=60, shortest=6) + 0.65 * height_yx
    is_forest = wood > np.quantile(wood, 0.70)
    valley = ndimage.distance_transform_edt(water_yx < 0.5) < 0.018 * min(land.shape) + 3
    label = np.where(is_forest, stand + 10_000_000, np.where(valley, field + 20_000_000, field))
    label = np.where(town_yx > 0.12, stand + 30_000_000, label)
    names, parcel = np.unique(label, return_inverse=True)
    group = names // 10_000_000
    n = len(names)
    high = ndimage.mean(height_yx, parcel.reshape(land.shape), np.arange(n))
    kind = rng.choice(ROTATING + 2, n, p=[0.26, 0.13, 0.11, 0.2, 0.08, 0.05, 0.1, 0.07])
    kind = np.where(group == 1, np.where(rng.normal(0, 0.8, n) + high > 0.75, CONIFER, DECIDUOUS), kind)
    kind = np.where(group == 2, np.where(rng.random(n) < 0.6, MEADOW, PASTURE), kind)
    kind = np.where(group == 3, GARDEN, kind)
    soil = np.clip(1 + 0.14 * rng.standard_normal(n) + 0.05 * high, 0.6, 1.5)
    return parcel.reshape(land.shape).astype(np.int32), kind.astype(np.uint8), soil.astype(np.float32)


def _roads(land: Landscape, size: int, centres: list[tuple[float, float]]) -> F32:
    """Country roads along the borders of large cells, and a motorway."""
    y, x = _axes(land)
    _, border, _ = _blocks(land, 8, max(40.0, 0.16 * size))
    lane = 0.45 * np.clip(0.9 - border, 0, 1)
    row, column = centres[0]
    course = row + 0.16 * size + 0.35 * (x - column) + 0.03 * size * np.sin(x / size * 5)
    motorway = 0.8 * np.clip(1.35 - np.abs(y - course) / 1.06, 0, 1)
    return np.asarray(np.maximum(lane, motorway), np.float32)


def _buildings(land: Landscape, town_yx: F32, water_yx: F32) -> tuple[F32, F32]:
    """Built share and its brightness: small plots, halls with bright roofs at the town's edge, dark streets between."""
    rng = land.random(9)
    plot, _, centres = _blocks(land, 10, 3.2)
    plot_share = np.clip(rng.beta(2.2, 1.6, len(centres)), 0.05, 1)[plot]
    hall, _, halls = _blocks(land, 11, 7.0)
    is_hall = (rng.random(len(halls)) < 0.16)[hall] & (town_yx > 0.3) & (town_yx < 0.75)
    built = np.clip(np.sqrt(town_yx) * (0.35 + 0.75 * plot_share), 0, 0.95) * (town_yx > 0.05)
    roof = np.clip(rng.normal(0.125, 0.03, len(centres)), 0.07, 0.25)[plot] + 0.03 * rng.standard_normal(land.shape)
    bright = rng.uniform(0.18, 0.34, len(halls))[hall]
    built = np.where(is_hall, 0.92, built) * (1 - water_yx)
    return built.astype(np.float32), np.clip(np.where(is_hall, bright, roof), 0.05, 0.6).astype(np.float32)


def _burn(land: Landscape, size: int, forest_yx: NDArray[np.bool_]) -> F32:
    """Severity of a fire in the densest part of the forest."""
    dense = ndimage.gaussian_filter(forest_yx.astype(np.float32), 0.04 * size)
    row, column = np.unravel_index(int(dense.argmax()), land.shape)
    y, x = _axes(land)
    ragged = fractal(land.random(12), land.shape, slope=2.4, longest=30, shortest=3)
    far = np.hypot((y - row) / 0.7, x - column) / (0.085 * size + 2)
    severity = np.clip(1.35 - far + 0.33 * ragged, 0, 1) * np.where(forest_yx, 1.0, 0.25)
    return np.asarray(severity, np.float32)
