"""The sky of the synthetic world: weather, moving clouds with shadows, and what Fmask makes of them.

Axes: b bands, y, x pixels of 30 m. Everything is a function of (landscape, day, hour).
"""

from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage
from scipy.special import expit, ndtri

from vsat.core.landscape import F32, Landscape, fractal
from vsat.core.seasons import SPECTRUM, sun
from vsat.hls import Fmask

MARGIN_PX = 96  # clouds beyond the area whose shadows fall into it
SHADE_B = np.array(
    (0.50, 0.56, 0.62, 0.74, 0.80, 0.82), np.float32
)  # light that a dense cloud takes; less in the blue, which the sky scatters


@dataclass(frozen=True)
class Sky:
    """Clouds over one area at one moment. `alpha` is what the cloud hides, 0..1; `thin` its part that is cirrus."""

    alpha_yx: F32
    bright_yx: F32
    shade_yx: F32  # 0 full sun .. 1 core of the shadow
    doubt_yx: F32  # where a mask errs: smooth, mean 0, standard deviation 1
    haze_yx: F32  # aerosol left after correction, 0 none .. about 2 much


def cover(land: Landscape, day: date) -> float:
    """Expected share of cloud on a day, 0..1: mostly nearly clear or nearly overcast, in spells, winters dull."""
    rng = land.random(30)
    latent = 0.0
    for length_days, weight in ((1.6, 0.8), (9.0, 0.5)):
        frequency, phase = rng.standard_normal(12) / length_days, rng.uniform(0, 2 * np.pi, 12)
        latent += weight * float(np.cos(frequency * (day.toordinal() - 730_120) + phase).sum()) * np.sqrt(2 / 12)
    winter = np.cos(2 * np.pi * (day.timetuple().tm_yday - 5) / 365.25)
    return float(expit(3.3 * latent + 1.0 * winter - 0.6))


def sky(land: Landscape, day: date, hour: float) -> Sky:
    """Clouds at a local solar time: one cloud field a day, carried by the wind between two looks."""
    rng = land.random(31, day.toordinal())
    share, wind, kind = cover(land, day), rng.normal(0, 7, 2), float(rng.random())
    stratus = share > 0.9 or kind < 0.35
    canvas = tuple(fft.next_fast_len(n + 2 * MARGIN_PX, real=True) for n in land.shape)
    size = (canvas[0], canvas[1])
    field = fractal(rng, size, slope=3.4 if stratus else 3.0, longest=240 if stratus else 60, shortest=4)
    field = np.roll(field, [int(v) for v in wind * (hour - 10.0) * 3600 / 30], axis=(0, 1))
    high = _cut(land, np.roll(fractal(rng, size, slope=3.4, longest=160, shortest=6), (11, 5), axis=(0, 1)))
    depth = np.maximum(field + ndtri(np.clip(share, 1e-3, 1 - 1e-3)), 0)
    alpha = 1 - np.exp(-depth * (2.6 if stratus else 5.0))
    zenith, azimuth = sun(land, day, hour)
    shift = _displacement(
        zenith, azimuth, height_m=float(rng.uniform(500, 1100) if stratus else rng.uniform(900, 2000))
    )
    shade = np.roll(alpha, shift, axis=(0, 1))
    cirrus = float(rng.uniform(0.05, 0.4)) if rng.random() < 0.3 else 0.0
    veil = cirrus * np.clip(high + 0.3, 0, 1)
    low, bright = _cut(land, alpha), _cut(land, 0.42 + 0.36 * (1 - np.exp(-1.1 * depth)) + 0.025 * field)
    hidden = 1 - (1 - low) * (1 - veil)
    haze = max(float(rng.gamma(1.6, 0.28)), 0.02) * (1 + 0.25 * _cut(land, field) * 0.5 + 0.2 * high)
    return Sky(
        hidden.astype(np.float32),
        bright.astype(np.float32),
        _cut(land, shade),
        high,
        np.maximum(haze, 0).astype(np.float32),
    )


def through(sky: Sky, refl_byx: F32) -> F32:
    """The ground as seen through this sky, (b, y, x): hazed, shaded where a cloud stands before the sun, and hidden."""
    haze_b = np.array((0.014, 0.008, 0.005, 0.0015, 0.0005, 0.0), np.float32)
    seen = np.empty_like(refl_byx)
    for b, ground_yx in enumerate(refl_byx):
        lit = ground_yx * (1 - SHADE_B[b] * sky.shade_yx) + haze_b[b] * sky.haze_yx
        seen[b] = lit + sky.alpha_yx * (SPECTRUM["cloud"][b] * sky.bright_yx - lit)
    return seen


def fmask(land: Landscape, sky: Sky, *, key: int, bright_yx: F32, snow_yx: F32, water_yx: F32) -> NDArray[np.uint8]:
    """The Fmask layer, uint8: it misses thin cloud and some shadow, takes bright roofs for cloud on some days.

    Args:
        land: the landscape.
        sky: the clouds.
        key: what tells this look from others: its day and sensor.
        bright_yx: built ground's visible reflectance, 0 where none.
        snow_yx: share of snow, 0..1.
        water_yx: share of water, 0..1.
    """
    rng = land.random(32, key)
    threshold = 0.13 + 0.03 * sky.doubt_yx + np.where(np.abs(sky.doubt_yx) > 2.4, 0.4, 0)
    cloud = sky.alpha_yx > threshold
    if rng.random() < 0.3:
        cloud |= (bright_yx > rng.uniform(0.18, 0.26)) & (snow_yx < 0.3)
    cloud = ndimage.binary_dilation(cloud, iterations=1)
    shadow = (sky.shade_yx > 0.22 + 0.06 * sky.doubt_yx) & ~cloud
    edge = ndimage.maximum_filter((cloud | shadow).view(np.uint8), size=7) > 0
    clear = ~cloud
    bits = np.where(cloud, int(Fmask.CLOUD), 0) | np.where(shadow, int(Fmask.SHADOW), 0)
    bits |= np.where(edge & clear & ~shadow, int(Fmask.ADJACENT), 0)
    bits |= np.where((snow_yx > 0.1) & clear, int(Fmask.SNOW), 0) | np.where(
        (water_yx > 0.5) & clear & (snow_yx <= 0.1), int(Fmask.WATER), 0
    )
    aerosol = np.digitize(sky.haze_yx + np.where(edge, 0.5, 0), (0.15, 0.6, 1.2))
    return (bits | (aerosol << 6)).astype(np.uint8)


def _displacement(zenith: float, azimuth: float, *, height_m: float) -> tuple[int, int]:
    """Rows down and columns right from a cloud to its shadow, which lies away from the sun, at most the margin."""
    far = min(height_m * np.tan(np.radians(min(zenith, 80.0))) / 30, MARGIN_PX - 1)
    return round(far * np.cos(np.radians(azimuth))), round(-far * np.sin(np.radians(azimuth)))


def _cut(land: Landscape, canvas_yx: NDArray[np.floating]) -> F32:
    height, width = land.shape
    return canvas_yx[MARGIN_PX : MARGIN_PX + height, MARGIN_PX : MARGIN_PX + width].astype(np.float32)
