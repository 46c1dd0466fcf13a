"""The ground of the synthetic prior: parcels with edges, growth, disturbance, wet soil, snow. See `prior`.

Axes: k parcels, g nodes of a time grid, t looks, b six bands; n pixels of a patch.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from vsat.core.landscape import fractal

YEAR = 365.25
NODE_DAYS = 4.0
BRIGHTEST = 0.7  # no ground but snow reflects more
MARGIN_DAYS = 40.0  # of the grid beyond the first and last look: pixels lag

F64 = NDArray[np.float64]
F32 = NDArray[np.float32]
Rng = np.random.Generator

# Reflectance of pure covers, blue to swir2: orders of magnitude from spectral libraries; each patch varies them.
SPECTRA = {
    "leaf": (0.030, 0.060, 0.036, 0.400, 0.190, 0.085),
    "needle": (0.020, 0.034, 0.024, 0.240, 0.100, 0.045),
    "litter": (0.065, 0.100, 0.135, 0.270, 0.300, 0.200),
    "soil": (0.080, 0.115, 0.155, 0.240, 0.320, 0.270),
    "sand": (0.130, 0.190, 0.260, 0.340, 0.430, 0.390),
    "water": (0.050, 0.050, 0.036, 0.020, 0.011, 0.008),
    "built": (0.105, 0.125, 0.145, 0.200, 0.215, 0.195),
    "char": (0.045, 0.050, 0.055, 0.085, 0.150, 0.170),
    "snow": (0.800, 0.810, 0.790, 0.740, 0.130, 0.100),
    "cloud": (0.430, 0.430, 0.440, 0.510, 0.390, 0.310),
}
# Covers: name, how often, share of green that stays, amplitude of the season, start of growth and length in days.
COVERS = {
    "crop": (1.2, (0.0, 0.12), (0.5, 1.0), (60, 190), (45, 150)),
    "winter crop": (0.8, (0.02, 0.2), (0.5, 1.0), (-110, 70), (90, 260)),
    "double crop": (0.4, (0.0, 0.12), (0.4, 0.95), (30, 130), (50, 100)),
    "grass": (1.0, (0.15, 0.6), (0.15, 0.6), (40, 140), (100, 240)),
    "deciduous": (0.8, (0.05, 0.35), (0.4, 0.85), (80, 150), (110, 190)),
    "evergreen": (1.5, (0.55, 1.05), (0.0, 0.2), (60, 160), (100, 220)),
    "dry": (0.9, (0.02, 0.25), (0.05, 0.45), (0, 365), (40, 160)),
    "shrub": (0.6, (0.1, 0.45), (0.03, 0.25), (0, 365), (60, 200)),
    "bare": (0.4, (0.0, 0.08), (0.0, 0.08), (0, 365), (40, 160)),
    "built": (0.3, (0.05, 0.3), (0.0, 0.25), (80, 140), (110, 190)),
    "water": (0.25, (0.0, 0.03), (0.0, 0.05), (0, 365), (60, 160)),
    "paddy": (0.25, (0.0, 0.1), (0.5, 0.95), (90, 220), (60, 120)),
}


def ground(rng: Rng, size: int, day_t: NDArray[np.int64]) -> tuple[F32, F32]:
    """What the ground reflects at every look (t, 6, n), and the share of snow (t, n)."""
    label_n = _parcels(rng, size)
    parcels, pixels = int(label_n.max()) + 1, label_n.size
    day_g = np.arange(day_t[0] - MARGIN_DAYS, day_t[-1] + MARGIN_DAYS + NODE_DAYS, NODE_DAYS)
    year_g = ((day_g - day_g[0] + day_g[0] % YEAR) // YEAR).astype(np.int64)
    years = int(year_g[-1]) + 1
    often = np.array([cover[0] for cover in COVERS.values()])
    scene = rng.dirichlet(often * rng.choice((0.4, 1.0, 3.0)))
    cover_k = rng.choice(len(COVERS), parcels, p=scene)
    names = [list(COVERS)[c] for c in cover_k]
    south = YEAR / 2 if rng.random() < 0.25 else 0.0  # days that seasons come later
    green_kg = _curves(rng, cover_k, day_g, years, year_g, south)
    spread = rng.uniform(0.1, 0.5)
    within = rng.uniform(0.03, 0.2)

    def kind(*chosen: str) -> NDArray[np.bool_]:
        return np.isin(names, chosen)[:, None]

    leaf = np.where(
        kind("evergreen") & (rng.random() < 0.6), *(_near(rng, c, spread, within, parcels) for c in ("needle", "leaf"))
    )
    soil = np.where(
        kind("bare", "dry", "shrub") & (rng.random() < 0.5),
        *(_near(rng, c, spread, within, parcels) for c in ("sand", "soil")),
    )
    soil = np.where(kind("built"), _near(rng, "built", 0.3, 0.25, parcels), soil)
    soil = np.where(kind("water"), _near(rng, "water", 0.5, 0.1, parcels), soil)
    litter, water = _near(rng, "litter", spread, within, parcels), _near(rng, "water", 0.4, 0.1, parcels)
    # Dead leaves: what was green a while ago and is not any more, under a floor of straw that comes and goes.
    lag = max(1, int(rng.uniform(20, 80) / NODE_DAYS))
    dead_kg = np.clip(ndimage.maximum_filter1d(green_kg, 2 * lag + 1, axis=1, origin=lag) - green_kg, 0, 1)
    floor_k = np.where(kind("built", "water", "bare")[:, 0], 0.0, rng.beta(1, 1.5, parcels))
    dead_kg = np.clip(rng.uniform(0.1, 0.9) * dead_kg + floor_k[:, None], 0, 1) * (1 - np.clip(green_kg, 0, 1))
    wet_g = _wander(rng, day_g, 1, 3, 60)[0]
    wet_kg = rng.gamma(1.3, 0.07) * wet_g + rng.gamma(1.2, 0.02) * _wander(rng, day_g, parcels, 3, 60, 6)
    flood_kg = _flood(rng, day_g, kind("paddy")[:, 0], green_kg)
    snow_g = _snow(rng, day_g, south)
    return _pixels(
        rng, size, label_n, day_t, day_g, (green_kg, dead_kg, wet_kg, flood_kg), (leaf, litter, soil, water), snow_g,
        kind("water")[:, 0], pixels,
    )  # fmt: skip


def log_uniform(rng: Rng, low: float, high: float) -> float:
    """A number whose logarithm is uniform between the two."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def field(rng: Rng, size: int, *, longest: float = 16.0, slope: float = 2.6) -> F32:
    """A smooth field (size, size), mean 0, deviation 1."""
    return fractal(rng, (2 * size, 2 * size), slope=slope, longest=longest, shortest=2)[:size, :size]


def _wander(rng: Rng, day_g: F64, count: int, shortest: float, longest: float, waves: int = 12) -> F64:
    """Random curves (count, g), variance 1, rough to smooth: random Fourier features with heavy tails."""
    length = np.exp(rng.uniform(np.log(shortest), np.log(longest), (count, 1)))
    turn = rng.standard_t(3, (count, waves)) / length
    phase = rng.uniform(0, 2 * np.pi, (count, waves))
    curve = np.cos(day_g[None, None, :] * turn[:, :, None] + phase[:, :, None]).sum(axis=1)
    return np.asarray(curve * np.sqrt(2 / waves))


def _parcels(rng: Rng, size: int) -> NDArray[np.int64]:
    """Which parcel each pixel belongs to (n,): one, or cells of a stretched, turned and ragged grid."""
    if rng.random() < 0.12:
        return np.zeros(size * size, np.int64)
    count = int(rng.integers(2, 13))
    turn, stretch = rng.uniform(0, np.pi), log_uniform(rng, 1.0, 3.0)
    y, x = np.mgrid[:size, :size].reshape(2, -1) + 0.9 * rng.standard_normal((2, 1))
    ragged = rng.choice((0.0, 0.0, 1.5))
    y, x = y + ragged * field(rng, size).ravel(), x + ragged * field(rng, size).ravel()
    along, across = (np.cos(turn) * x + np.sin(turn) * y), (np.cos(turn) * y - np.sin(turn) * x) * stretch
    at = rng.integers(0, size * size, count)
    far = (along[:, None] - along[at]) ** 2 + (across[:, None] - across[at]) ** 2
    _, label = np.unique(far.argmin(axis=1), return_inverse=True)
    return label.astype(np.int64)


def _curves(
    rng: Rng, cover_k: NDArray[np.int64], day_g: F64, years: int, year_g: NDArray[np.int64], south: float
) -> F64:
    """Green share of each parcel on the grid (k, g), 0 to about 1.2."""
    names = list(COVERS)
    doy_g = day_g % YEAR
    # A late spring is late for all, a dry year dry; some places' years are much alike, others' are not.
    shared = rng.normal(0, log_uniform(rng, 2, 20), years)
    grown = 1 + rng.normal(0, log_uniform(rng, 0.03, 0.35), years)
    vigour = log_uniform(rng, 0.03, 0.15)
    out = np.empty((cover_k.size, day_g.size))
    for k, c in enumerate(cover_k):
        name = names[c]
        _, stays, rises, starts, lengths = COVERS[name]
        base, rise = rng.uniform(*stays), rng.uniform(*rises)
        start, length = rng.uniform(*starts) + south, rng.uniform(*lengths)
        own = rng.normal(0, log_uniform(rng, 1, 15), years)
        up = log_uniform(rng, 4, 30)
        down = log_uniform(rng, 1.2, 10) if "crop" in name or name == "paddy" else log_uniform(rng, 5, 40)
        height = np.clip(grown * (1 + rng.normal(0, vigour, years)), 0, None)
        curve = _season(doy_g, year_g, start + shared + own, length, up, down, height)
        if name == "double crop" or (name in {"winter crop", "crop", "paddy"} and rng.random() < 0.3):
            later = start + length + rng.uniform(15, 90)
            second = rng.uniform(0.2, 0.9) * (rng.random(years) < rng.uniform(0.4, 1))
            curve = curve + _season(
                doy_g, year_g, later + shared + own, rng.uniform(35, 110), up, down, height * second
            )
        green = base + rise * np.clip(curve, 0, 1.3)
        if name in {"crop", "winter crop"} and rng.random() < 0.5:  # rotation: another crop in some years
            other = _season(
                doy_g,
                year_g,
                rng.uniform(-60, 190, years),
                rng.uniform(50, 200),
                up,
                down,
                rng.uniform(0.4, 1.1, years),
            )
            green = np.where((rng.random(years) < 0.5)[year_g], base + rise * np.clip(other, 0, 1.3), green)
        if name == "grass" and rng.random() < 0.6:  # mown or grazed: sudden losses that grow back
            green = green * _cuts(rng, day_g, years * rng.uniform(0.5, 4), (0.2, 0.75), (12, 45))
        if name in {"dry", "shrub", "bare"}:  # growth follows rain
            green = green + _flushes(rng, day_g, years) * rng.uniform(0.02, 0.35)
        green = green + _wander(rng, day_g, 1, 8, 250)[0] * rng.gamma(1.2, 0.025)
        if rng.random() < 0.14:  # logging, fire, drought, sowing of something else
            at = rng.uniform(day_g[0] - 200, day_g[-1])
            left = 1 - rng.beta(1.2, 1) * np.exp(-np.clip(day_g - at, 0, None) / log_uniform(rng, 25, 2500))
            green = np.where(day_g > at, green * left, green)
        out[k] = np.clip(green, 0, 1.25)
    return out


def _season(
    doy_g: F64, year_g: NDArray[np.int64], start_y: F64, length: float, up: float, down: float, height_y: F64
) -> F64:
    """Double logistic, each year with its own start and height; growth may reach into the next year."""
    out = np.zeros_like(doy_g)
    for shift in (-1, 0, 1):
        year = np.clip(year_g - shift, 0, start_y.size - 1)
        at = doy_g + shift * YEAR
        rising = 1 / (1 + np.exp(np.clip((start_y[year] - at) / up, -50, 50)))
        falling = 1 / (1 + np.exp(np.clip((start_y[year] + length - at) / down, -50, 50)))
        out += height_y[year] * np.clip(rising - falling, 0, None)
    return out


def _cuts(rng: Rng, day_g: F64, count: float, depth: tuple[float, float], recovery: tuple[float, float]) -> F64:
    left = np.ones_like(day_g)
    for at in rng.uniform(day_g[0], day_g[-1], rng.poisson(count)):
        since = day_g - at
        loss = rng.uniform(*depth) * np.exp(-np.clip(since, 0, None) / rng.uniform(*recovery))
        left *= np.where(since > 0, 1 - loss, 1)
    return left


def _flushes(rng: Rng, day_g: F64, years: int) -> F64:
    """Growth after rain: quick up, slow down."""
    out = np.zeros_like(day_g)
    fade = log_uniform(rng, 15, 90)
    for at in rng.uniform(day_g[0] - 60, day_g[-1], rng.poisson(years * rng.uniform(0.5, 5))):
        since = np.clip(day_g - at, 0, None)
        out += rng.gamma(1.5, 0.4) * (1 - np.exp(-since / 8)) * np.exp(-since / fade)
    return np.asarray(np.clip(out, 0, 2.5))


def _varied(rng: Rng, name: str, count: int, spread: float) -> F64:
    """Spectra of a cover (count, 6): brighter or darker, and a little of another colour."""
    level = np.exp(rng.normal(0, spread, (count, 1)))
    tilt = np.exp(rng.normal(0, 0.4 * spread, (count, 1)) * np.linspace(-1, 1, 6))
    return np.asarray(SPECTRA[name]) * level * tilt * np.exp(rng.normal(0, 0.35 * spread, (count, 6)))


def _near(rng: Rng, name: str, spread: float, within: float, count: int) -> F64:
    """Spectra of a cover in one scene: the scene differs from the book, its parcels a little from each other."""
    level = np.exp(rng.normal(-0.3, within, (count, 1)))
    found = _varied(rng, name, 1, spread) * level * np.exp(rng.normal(0, 0.4 * within, (count, 6)))
    return np.asarray(np.minimum(found, BRIGHTEST))


def _flood(rng: Rng, day_g: F64, paddy_k: NDArray[np.bool_], green_kg: F64) -> F64:
    """Water that stands before the crop closes."""
    flood = np.zeros_like(green_kg)
    for k in np.flatnonzero(paddy_k):
        ahead = np.roll(green_kg[k], -int(rng.uniform(10, 40) / NODE_DAYS))
        flood[k] = np.clip((ahead - green_kg[k]) * rng.uniform(0.5, 2.5), 0, 0.95)
    if rng.random() < 0.06:
        one, at = int(rng.integers(len(green_kg))), rng.uniform(day_g[0], day_g[-1])
        since = day_g - at
        flood[one] = np.maximum(
            flood[one], np.where(since > 0, 0.9 * np.exp(-np.clip(since, 0, None) / rng.uniform(5, 40)), 0)
        )
    return flood


def _snow(rng: Rng, day_g: F64, south: float) -> F64:
    """Share of the ground under snow on the grid, 0 in most places."""
    if rng.random() > 0.3:
        return np.zeros_like(day_g)
    cold = np.cos(2 * np.pi * (day_g % YEAR - rng.normal(15, 12) - south) / YEAR)
    depth = 3 * (cold - rng.uniform(0.3, 1.1)) + rng.uniform(0.3, 1.5) * _wander(rng, day_g, 1, 6, 30)[0]
    return np.asarray(np.clip(depth, 0, 1))


def _pixels(
    rng: Rng,
    size: int,
    label_n: NDArray[np.int64],
    day_t: NDArray[np.int64],
    day_g: F64,
    states_kg: tuple[F64, F64, F64, F64],
    spectra_kb: tuple[F64, F64, F64, F64],
    snow_g: F64,
    water_k: NDArray[np.bool_],
    pixels: int,
) -> tuple[F32, F32]:
    """Each pixel follows its parcel with a lag and a strength of its own; edges are mixed."""
    lag_n = rng.gamma(1.2, 2.5) * field(rng, size).ravel() + rng.gamma(1.0, 1.0) * rng.standard_normal(pixels)
    at_tn = np.clip((day_t[:, None] - day_g[0] + lag_n) / NODE_DAYS, 0, day_g.size - 1.001)
    low_tn = at_tn.astype(np.int64)
    share_tn = (at_tn - low_tn).astype(np.float32)
    flat_tn = label_n[None, :] * day_g.size + low_tn

    def on_looks(state_kg: F64) -> F32:
        state = state_kg.astype(np.float32).ravel()
        return np.asarray(state[flat_tn] * (1 - share_tn) + state[flat_tn + 1] * share_tn)

    green, dead, wet, flood = map(on_looks, states_kg)
    strength = rng.gamma(1.5, 0.05) * field(rng, size).ravel() + rng.gamma(1.2, 0.025) * rng.standard_normal(pixels)
    green = np.clip(green * (1 + strength), 0, 1.25)
    cover = np.minimum(green, 1.0)
    # Grain that stays: soil and leaf of a pixel are brighter or darker for good.
    grain = [
        np.exp(
            rng.gamma(1.3, 0.04) * field(rng, size, slope=1.5).ravel()
            + rng.gamma(1.2, 0.02) * rng.standard_normal(pixels)
        )
        for _ in range(2)
    ]
    leaf, litter, soil, water = (one.astype(np.float32)[label_n] for one in spectra_kb)
    deep = np.array((0.6, 0.7, 0.8, 0.9, 1.1, 1.2)) * np.where(water_k[label_n], 0.5, 1)[:, None]
    murk = np.exp(np.where(water_k[label_n], rng.gamma(1.2, 1.2), 1.0) * wet)
    thick = 1 + 0.25 * np.clip(green - 0.6, 0, 1)  # a closed canopy scatters more in the near infrared
    shade = 1 - rng.uniform(0, 0.9) * np.clip(2.5 * cover - 0.75, 0, 1)  # what lies under a canopy is dark
    dry = np.clip(1 - cover - dead, 0, 1) * shade
    dead = np.asarray(dead * shade, np.float32)
    sun_t = 1 + rng.uniform(-0.12, 0.12) * np.cos(2 * np.pi * (day_t % YEAR - 172) / YEAR)
    out = np.empty((len(day_t), 6, pixels), np.float32)
    snow_tn = np.interp(day_t, day_g, snow_g)[:, None] * np.clip(1.1 - 0.6 * cover, 0, 1) * (~water_k[label_n])
    for b in range(6):
        lit = cover * leaf[:, b] * grain[0] * (thick if b == 3 else 1) + dead * litter[:, b] * grain[1]
        lit = lit + dry * soil[:, b] * grain[1] * murk ** deep[:, b].astype(np.float32)
        lit += flood * (water[:, b] - lit)
        lit *= sun_t[:, None]
        lit += snow_tn * (SPECTRA["snow"][b] - lit)
        out[:, b] = lit
    cube = out.reshape(len(day_t), 6, size, size)
    side = float(rng.uniform(0.08, 0.2))
    blur = (side, 1 - 2 * side, side)
    for axis in (2, 3):
        ndimage.convolve1d(cube, blur, axis=axis, output=cube, mode="nearest")
    return np.maximum(cube.reshape(out.shape), 0.001), snow_tn.astype(np.float32)
