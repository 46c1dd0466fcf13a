"""Endless synthetic records of small patches: what the any-date model learns before it has seen a real one.

A patch is decided by seed and index alone. Ground: parcels with edges, each of a cover with a growth curve of its own,
pixels that lag and differ within it, disturbance and recovery, wet soil, snow. Sky: looks at the cadence of one or more
satellites, cloud in spells and seasons, what the mask missed, haze and view angle common to a date, noise. Constants are
ranges, wider than any one place: docs/log.md compares what comes out with real records.
Axes: k parcels, g nodes of a time grid, t looks, b six bands, y, x pixels of 30 m; n pixels, t and n of a patch first.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from vsat.core.landscape import fractal
from vsat.hls import FILL, FMASK_FILL, SCALE, Fmask
from vsat.model.prior_ground import SPECTRA, YEAR, field, ground, log_uniform

F32 = NDArray[np.float32]
Rng = np.random.Generator


@dataclass(frozen=True)
class PriorPatch:
    """int16 (t, 6, y, x) x 1e-4 with FILL, Fmask uint8 (t, y, x), days since 1970-01-01, index of hls.SENSORS.

    And what no real patch has: the ground's reflectance float32 (t, 6, y, x), and the air that it was seen through.
    """

    refl_tbyx: NDArray[np.int16]
    fmask_tyx: NDArray[np.uint8]
    day_t: NDArray[np.int32]
    sensor_t: NDArray[np.uint8]
    ground_tbyx: F32
    air: "Air"


@dataclass(frozen=True)
class Prior:
    """A source of patches, like `io.patch_reader.PatchStore`, without an end.

    Attributes:
        seed: another seed is another world.
        length: how many patches an epoch has.
        size_px: side of a patch.
        most_looks: longer records are thinned to it.
        first: index of the first patch: a held-out set lies elsewhere.
    """

    seed: int = 0
    length: int = 100_000
    size_px: int = 16
    most_looks: int = 110
    first: int = 0

    def __len__(self) -> int:
        return self.length

    def name(self, index: int) -> str:
        """Which one it is, for messages."""
        return f"prior {self.seed}, patch {self.first + index}"

    def read(self, index: int) -> PriorPatch:
        """The patch of an index: the same whenever it is asked for."""
        rng = np.random.default_rng([self.seed, self.first + index])
        size = self.size_px
        day_t, sensor_t = _looks(rng, self.most_looks)
        ground_tbn = ground(rng, size, day_t)
        air = Air.of(rng)
        cloud_tyx, missed_tyx, snow_known = _sky(rng, size, day_t, air.leak)
        smooth_tyx = _windows(rng, field(rng, 2 * size, longest=40), len(day_t), size)
        flat = (len(day_t), size * size)
        seen_tbn = air.seen(rng, ground_tbn[0], sensor_t, smooth_tyx.reshape(flat), missed_tyx.reshape(flat))
        seen_tbyx = seen_tbn.reshape(len(day_t), 6, size, size)
        snow_tyx = ground_tbn[1].reshape(len(day_t), size, size) > 0.1
        bits = np.where(cloud_tyx, int(Fmask.CLOUD), 0) | np.where(snow_tyx & snow_known, int(Fmask.SNOW), 0)
        refl, fmask = np.clip(np.rint(seen_tbyx / SCALE), -500, 16000).astype(np.int16), bits.astype(np.uint8)
        edge_tyx = _swath(rng, size, len(day_t))
        refl[np.broadcast_to(edge_tyx[:, None], refl.shape)], fmask[edge_tyx] = FILL, FMASK_FILL
        return PriorPatch(refl, fmask, day_t.astype(np.int32), sensor_t, ground_tbn[0].reshape(seen_tbyx.shape), air)


def _looks(rng: Rng, most: int) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Days of the looks, ascending, and their sensors: one satellite or several, some passes never acquired."""
    long = rng.random() < 0.25  # and sparse, for it is thinned to as many looks
    span = int(log_uniform(rng, *((1500, 4500) if long else (150, 1500))))
    start = int(rng.integers(5000, 20000))
    plan = [(0, 16), (0, 8), (1, 5), (1, 10)]
    which = rng.choice(5, p=(0.14, 0.1, 0.1, 0.1, 0.56))
    chosen = plan if which == 4 else [plan[which]]
    if which == 4:
        chosen = [plan[rng.integers(2)], plan[2 + rng.integers(2)]]
    days, sensors = [], []
    for sensor, every in chosen:
        passes = np.arange(rng.integers(every), span, every)
        if rng.random() < 0.35:  # a second orbit sees the place too
            passes = np.sort(np.concatenate([passes, passes + rng.integers(1, max(2, every // 2))]))
        days.append(passes)
        sensors.append(np.full(passes.size, sensor, np.uint8))
    day, sensor_t = np.concatenate(days), np.concatenate(sensors)
    if rng.random() < 0.35:  # looks that clouds left: the archive keeps scenes up to a cloud share only
        season = 0.5 + 0.45 * np.cos(2 * np.pi * (day - rng.uniform(0, YEAR)) / YEAR)
        keep = rng.random(day.size) < np.clip(season * rng.uniform(0.5, 2), 0.05, 1)
        day, sensor_t = day[keep], sensor_t[keep]
    if rng.random() < 0.12:  # no looks in the dark, or under snow: some months of every year are empty
        lit = np.cos(2 * np.pi * (day - rng.uniform(0, YEAR)) / YEAR) < rng.uniform(-0.3, 0.9)
        day, sensor_t = day[lit], sensor_t[lit]
    if day.size < 8:
        day, sensor_t = np.sort(rng.choice(span, 12, replace=False)), np.zeros(12, np.uint8)
    count = min(day.size, int(rng.integers(min(12, most), most + 1)))
    if not long and rng.random() < 0.5 and day.size > count:  # a stretch of the record, or a record that was thinned
        order = np.argsort(day, kind="stable")
        first = int(rng.integers(0, day.size - count + 1))
        chosen_t = order[first : first + count]
    else:
        chosen_t = rng.choice(day.size, count, replace=False)
    chosen_t = chosen_t[np.lexsort((sensor_t[chosen_t], day[chosen_t]))]
    return day[chosen_t] + start, sensor_t[chosen_t]


def _sky(rng: Rng, size: int, day_t: NDArray[np.int64], leak: float) -> tuple[NDArray[np.bool_], F32, bool]:
    """Cloud that is masked, opacity of what the mask missed (negative: shadow), and whether snow is flagged."""
    count = len(day_t)
    sunny = 5.0 * (rng.random() < 0.2)  # a desert, or a record that holds clear looks only
    dull = (
        rng.uniform(-5.5, 0.5) - sunny + rng.uniform(0, 1.5) * np.cos(2 * np.pi * (day_t - rng.uniform(0, YEAR)) / YEAR)
    )
    weather = rng.uniform(1.5, 7) * rng.standard_normal(count) + dull
    share = 1 / (1 + np.exp(-weather))
    big = 6 * size
    longest = log_uniform(rng, 10, 120)
    sheets = fractal(rng, (big, big), slope=float(rng.uniform(2.4, 3.6)), longest=longest, shortest=3)
    cut = np.sort(sheets.ravel())
    cloud = np.empty((count, size, size), bool)
    for t, window in enumerate(_windows(rng, sheets, count, size)):
        cloud[t] = window > cut[min(int((1 - share[t]) * cut.size), cut.size - 1)]
    if rng.random() < 0.7:
        cloud = ndimage.maximum_filter(cloud, size=(1, 3, 3))
    missed = np.zeros((count, size, size), np.float32)
    leaky = np.flatnonzero(rng.random(count) < leak)
    veil = _windows(rng, sheets, leaky.size, size) + rng.normal(0.5, 1, (leaky.size, 1, 1))
    missed[leaky] = np.clip(veil, 0, 1.5) / 1.5 * _opacity(rng, leaky.size)[:, None, None]
    return cloud, missed, bool(rng.random() < 0.7)


def _windows(rng: Rng, field_yx: F32, count: int, size: int) -> F32:
    """Squares (count, size, size) of a larger field."""
    corners = rng.integers(0, len(field_yx) - size + 1, (count, 2)).tolist()
    found = [field_yx[y : y + size, x : x + size] for y, x in corners]
    return np.stack(found) if found else np.empty((0, size, size), np.float32)


@dataclass(frozen=True)
class Air:
    """What differs from look to look of one record, and from sensor to sensor: air, view angle, instrument.

    Attributes:
        loud_b, answer_b, blue_b: noise, view-angle effect and haze of the bands, relative.
        sensor_b, sensor_dark_b: gain of one sensor, and what it adds to a dark ground; the other's are 2 minus the one and
            minus the other.
        view, orbit, band, haze: sizes of what a look has of its own: view angle, side it looks from, gain, haze.
        noise, own, uneven: of a pixel, absolute and relative; of smooth fields, relative.
        leak: share of the looks with cloud or shadow that the mask missed.
    """

    loud_b: NDArray[np.float64]
    answer_b: NDArray[np.float64]
    blue_b: NDArray[np.float64]
    sensor_b: NDArray[np.float64]
    sensor_dark_b: NDArray[np.float64]
    view: float
    orbit: float
    band: float
    haze: float
    noise: float
    own: float
    uneven: float
    leak: float

    @classmethod
    def of(cls, rng: Rng) -> "Air":
        """That of a new record."""
        loud = float(np.exp(rng.normal(-0.3, 0.75)))  # some records are quiet, some are not
        loud_b = np.exp(rng.normal(0, 0.3, 6))
        blue_b = np.array((1, 0.8, 0.62, 0.35, 0.2, 0.13)) * np.exp(rng.normal(0, 0.25, 6))
        return cls(
            loud_b,
            loud_b * (1 + rng.normal(0, 0.3, 6)),
            blue_b,
            1 + rng.normal(0, 1, 6) * rng.gamma(1.5, 0.012),
            rng.normal(0, 1, 6) * blue_b * rng.gamma(1.2, 0.0015),
            view=rng.gamma(1.5, 0.016) * loud,
            orbit=rng.gamma(1.2, 0.008),  # two orbits look from two sides
            band=rng.gamma(1.5, 0.005) * loud,
            haze=rng.gamma(1.5, 0.006) * loud,
            noise=rng.gamma(1.3, 0.0014) * loud,
            own=rng.gamma(1.0, 0.007) * loud,
            uneven=rng.gamma(1.3, 0.014) * loud,
            leak=rng.beta(1, 11),
        )

    def seen(self, rng: Rng, ground_tbn: F32, sensor_t: NDArray[np.uint8], smooth_tn: F32, veil_tn: F32) -> F32:
        """The ground (t, 6, n) as looks show it.

        Args:
            rng: decides what each look has of its own.
            ground_tbn: reflectance.
            sensor_t: which sensor looked.
            smooth_tn: smooth fields, deviation 1.
            veil_tn: opacity of cloud that the mask missed; negative: shadow.
        """
        count, bands = len(sensor_t), len(self.loud_b)
        view = rng.standard_t(3.5, count) * self.view + np.where(rng.random(count) < 0.5, 1, -1) * self.orbit
        second = sensor_t[:, None] == 1
        gain = np.where(second, self.sensor_b, 2 - self.sensor_b) * (1 + view[:, None] * self.answer_b)
        gain = gain + rng.standard_t(3, (count, bands)) * self.band * self.loud_b
        haze = rng.standard_t(3.5, count) * self.haze
        haze = np.where(haze < 0, 0.5 * haze, haze)  # less air than was corrected for is rarer than more
        factor = (
            gain.astype(np.float32)[..., None]
            + (self.uneven * self.answer_b).astype(np.float32)[:, None] * smooth_tn[:, None]
        )
        air = haze.astype(np.float32)[:, None] * (1 + np.float32(0.4) * smooth_tn)
        dark = np.where(second, self.sensor_dark_b, -self.sensor_dark_b).astype(np.float32)[..., None]
        lit = ground_tbn * factor + dark + self.blue_b.astype(np.float32)[:, None] * air[:, None]
        rough = rng.standard_normal(lit.shape, np.float32) * self.loud_b.astype(np.float32)[:, None]
        lit = lit + (np.float32(self.noise) + np.float32(self.own) * lit) * rough
        cloud = np.asarray(SPECTRA["cloud"], np.float32)[:, None]
        veil = veil_tn[:, None]
        lit = np.where(veil < 0, lit * (1 + veil), lit + veil * (cloud - lit))
        odd = rng.random(count) < 0.02  # a look that is wrong as a whole
        lit[odd] *= np.exp(rng.normal(0, 0.15, (int(odd.sum()), bands, 1))).astype(np.float32)
        return np.asarray(lit, np.float32)

    def again(self, rng: Rng, ground_qbn: F32, sensor_q: NDArray[np.uint8], draws: int) -> F32:
        """What some pixels could have shown on some dates under other skies: (draws, q, 6, n), each draw its own."""
        looks, pixels = len(sensor_q), ground_qbn.shape[-1]
        count = draws * looks
        smooth = rng.standard_normal((count, pixels), np.float32)
        veil = np.clip(rng.normal(0.5, 1, count) + rng.standard_normal(count), 0, 1.5) / 1.5 * _opacity(rng, count)
        veil = np.where(rng.random(count) < self.leak, veil, 0).astype(np.float32)
        ground, sensor = np.tile(ground_qbn, (draws, 1, 1)), np.tile(sensor_q, draws)
        shown = self.seen(rng, ground, sensor, smooth, np.repeat(veil[:, None], pixels, axis=1))
        return shown.reshape(draws, looks, -1, pixels)


def _opacity(rng: Rng, count: int) -> NDArray[np.float64]:
    """Of cloud that the mask missed; negative: shadow."""
    return rng.beta(1, 2, count) * np.where(rng.random(count) < 0.3, -0.7, 0.75)


def _swath(rng: Rng, size: int, count: int) -> NDArray[np.bool_]:
    """Pixels that a look never reached."""
    outside = np.zeros((count, size, size), bool)
    if rng.random() < 0.12:
        y, x = np.ogrid[:size, :size]
        for t in np.flatnonzero(rng.random(count) < 0.3):
            outside[t] = x + 0.2 * y > rng.uniform(-0.2, 1.2) * size
    return outside
