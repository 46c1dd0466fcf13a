"""What one sensor sees otherwise than another over the same ground, from looks of both that lie close together.

HLS brings Landsat and Sentinel-2 to one band pass and one view angle, but not all the way: over one real forest pixel its
blue differs by a quarter of itself between the two (docs/log.md). The difference is a place's own, so it is measured there.
Axes: t looks, q query days, k sensors, b bands, y, x; n = y * x, pixels in a row.
"""

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from vsat.hls import FILL, NO_SENSOR, SCALE

REACH_DAYS = 24  # of a line between two looks: neither of its ends is farther from the look that is compared with it
FEW_DATES = 4.0  # what so many dates say of the place counts for half, and so does
FEW_LOOKS = 8.0  # what so many looks say of a pixel beside its place
USUAL_GAIN = 0.05  # by which a difference grows with reflectance, as a standard deviation over places
MOST_GAIN = 0.5  # more is no sensor's
LEAST_DATES = 6  # for a gain
ROUNDS, HELD = 6, 2.0  # of the fit; departures beyond so many robust deviations lose weight
FIT_PX = 256  # pixels that a gain is fitted to, at most

Int16 = npt.NDArray[np.int16]
Bools = npt.NDArray[np.bool_]
Days = npt.NDArray[np.int64]
Kinds = npt.NDArray[np.uint8]
Float = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Offsets:
    """How far the looks of each sensor lie from the mean look of the place, at a middling reflectance and by reflectance.

    Attributes:
        kind_k: the sensors' numbers; of a sensor that is not among them nothing is known, and its offset is 0.
        offset_kbyx: float32, reflectance, where the mean look has `middle_b`.
        gain_kb: by how much more, for each unit of reflectance above that.
    """

    kind_k: Kinds
    offset_kbyx: Float
    gain_kb: Float
    middle_b: Float

    def of(self, sensor: Kinds, refl_nbyx: Float) -> Float:
        """What some sensors (n) add where the mean look would have this reflectance: (n, b, y, x)."""
        out = np.zeros(refl_nbyx.shape, np.float32)
        for kind, offset_byx, gain_b in zip(self.kind_k, self.offset_kbyx, self.gain_kb, strict=True):
            n = sensor == kind
            out[n] = offset_byx + gain_b[:, None, None] * (refl_nbyx[n] - self.middle_b[:, None, None])
        return out

    def taken_from(self, refl_tbyx: Int16, sensor_t: Kinds) -> Int16:
        """Looks as the mean look of all sensors, int16; the looks themselves where there is nothing to take."""
        if not self.offset_kbyx.any() and not self.gain_kb.any():
            return refl_tbyx
        out = np.array(refl_tbyx)
        for kind, offset_byx, gain_b in zip(self.kind_k, self.offset_kbyx, self.gain_kb, strict=True):
            t, gain, middle = sensor_t == kind, gain_b[:, None, None], self.middle_b[:, None, None]
            mean = (out[t] * np.float32(SCALE) - offset_byx + gain * middle) / (1 + gain)
            out[t] = np.clip(np.rint(mean / np.float32(SCALE)), FILL + 1, 32767).astype(np.int16)
        return out


def sensors_on(query_q: npt.NDArray[np.integer], day_t: npt.NDArray[np.integer], sensor_t: Kinds) -> Kinds:
    """The sensor that looked on each day, cloud or not; NO_SENSOR where none did, or two.

    Args:
        query_q: days.
        day_t, sensor_t: days of the looks, ascending, and their sensors.
    """
    first, end = np.searchsorted(day_t, query_q, "left"), np.searchsorted(day_t, query_q, "right")
    found = [set(sensor_t[i:j].tolist()) for i, j in zip(first, end, strict=True)]
    return np.array([one.pop() if len(one) == 1 else NO_SENSOR for one in found], np.uint8)


def measure_offsets(refl_tbyx: Int16, clear_tyx: Bools, day_t: npt.NDArray[np.int32], sensor_t: Kinds) -> Offsets:
    """Offsets of the sensors in a window.

    A look is compared with the straight line between the two nearest looks of the other sensor around it. How much the
    difference grows with reflectance is fitted to the whole window (Huber 1964), and held to nothing by its standard error.
    What is left at a pixel is the median over its looks, held to the median of all pixels by how many there are, and that to
    nothing by how many dates there are. With three sensors or more, each is compared with the most frequent one.

    Args:
        refl_tbyx: int16 (t, b, y, x) x 1e-4. Values under a False of `clear_tyx` are never used.
        clear_tyx: bool.
        day_t: ascending, repeats allowed.
        sensor_t: NO_SENSOR where unknown: such looks are no sensor's.
    """
    bands, (height, width) = refl_tbyx.shape[1], clear_tyx.shape[1:]
    seen_t = clear_tyx.any(axis=(1, 2))
    kind_k, count_k = np.unique(sensor_t[seen_t & (sensor_t != NO_SENSOR)], return_counts=True)
    kinds = len(kind_k) if len(kind_k) > 1 else 0
    offset_kbn = np.zeros((kinds, bands, height * width), np.float32)
    gain_kb, middle_b = np.zeros((kinds, bands), np.float32), np.zeros(bands, np.float32)
    if kinds:
        refl_tbn = np.ascontiguousarray(refl_tbyx).reshape(len(day_t), bands, -1)
        clear_tn = np.ascontiguousarray(clear_tyx).reshape(len(day_t), -1)
        most, share_k = int(count_k.argmax()), (count_k / count_k.sum()).astype(np.float32)
        middle_b = np.array([np.median(refl_tbn[:, b][clear_tn]) for b in range(bands)], np.float32)
        for k in range(kinds):
            if k != most:
                chosen = np.flatnonzero((sensor_t == kind_k[k]) | (sensor_t == kind_k[most]))
                given = refl_tbn[chosen], clear_tn[chosen], day_t[chosen].astype(np.int64)
                offset_kbn[k], gain_kb[k] = _difference(*given, sensor_t[chosen] == kind_k[k], middle_b)
        offset_kbn -= np.einsum("k,kbn->bn", share_k, offset_kbn)
        gain_kb -= share_k @ gain_kb
    offset_kbyx = (offset_kbn * np.float32(SCALE)).reshape(-1, bands, height, width)
    return Offsets(kind_k[:kinds], offset_kbyx, gain_kb, middle_b * np.float32(SCALE))


def _difference(refl_tbn: Int16, clear_tn: Bools, day_t: Days, other_t: Bools, middle_b: Float) -> tuple[Float, Float]:
    """How far looks of `other_t` lie above the rest: x 1e-4 (b, n), and its growth with reflectance (b)."""
    between_tnk = _between(clear_tn, day_t, other_t, REACH_DAYS)
    known_tn = between_tnk[..., 0] >= 0
    dates, count_n = int(known_tn.any(axis=1).sum()), known_tn.sum(axis=0)
    bands, pixels = refl_tbn.shape[1:]
    if not dates:
        return np.zeros((bands, pixels), np.float32), np.zeros(bands, np.float32)
    some = np.flatnonzero(count_n)
    fitted = some[:: -(-some.size // FIT_PX)]
    gain_b = np.zeros(bands, np.float32)
    if dates >= LEAST_DATES:
        t, n = np.nonzero(known_tn[:, fitted])
        weight = 1.0 / known_tn[:, fitted].sum(axis=1)[t]
        for b in range(bands):
            off, level = _offs(refl_tbn, day_t, other_t, between_tnk, b, t, fitted[n])
            gain_b[b] = _gain(level - middle_b[b], off, weight, dates)
    median_bn = _medians(refl_tbn, day_t, other_t, between_tnk, gain_b, middle_b)
    place_b1 = np.median(median_bn[:, some], axis=1)[:, None]
    own = np.where(count_n > 0, median_bn - place_b1, 0) * (count_n / (count_n + FEW_LOOKS))
    return (own + place_b1 * (dates / (dates + FEW_DATES))).astype(np.float32), gain_b


def _gain(x: npt.NDArray[np.float64], y: npt.NDArray[np.float64], weight: npt.NDArray[np.float64], dates: int) -> float:
    """Slope of y over x by Huber's weights, held to 0 by its standard error, for dates are what is independent."""
    held = weight
    for _ in range(ROUNDS):
        total = held.sum()
        x_mean, y_mean = (held @ x) / total, (held @ y) / total
        spread = held @ (x - x_mean) ** 2 / total + 1.0
        slope = (held @ ((x - x_mean) * (y - y_mean)) / total) / spread
        left = np.abs(y - y_mean - slope * (x - x_mean))
        size = 1.4826 * np.median(left) + 1.0
        held = weight * np.minimum(1.0, HELD * size / np.maximum(left, 1.0))
    doubt = size**2 / (dates * spread)
    return float(np.clip(slope * USUAL_GAIN**2 / (USUAL_GAIN**2 + doubt), -MOST_GAIN, MOST_GAIN))


@numba.njit(nogil=True, cache=True)
def _between(clear_tn: Bools, day_t: Days, other_t: Bools, reach: int) -> Int16:
    """Of each clear look the nearest looks of the other sensor before and after it (t, n, 2); -1 where one is too far."""
    looks, pixels = clear_tn.shape
    out = np.full((looks, pixels, 2), -1, np.int16)
    for n in range(pixels):
        for t in range(looks):
            if not clear_tn[t, n]:
                continue
            before, after = -1, -1
            for j in range(t - 1, -1, -1):
                if day_t[t] - day_t[j] > reach:
                    break
                if clear_tn[j, n] and other_t[j] != other_t[t]:
                    before = j
                    break
            for j in range(t + 1, looks):
                if day_t[j] - day_t[t] > reach:
                    break
                if clear_tn[j, n] and other_t[j] != other_t[t]:
                    after = j
                    break
            if before >= 0 and after >= 0:
                out[t, n, 0], out[t, n, 1] = before, after
    return out


@numba.njit(nogil=True, cache=True)
def _off(
    refl_tbn: Int16, day_t: Days, other_t: Bools, between_tnk: Int16, b: int, t: int, n: int
) -> tuple[float, float]:
    """How far `other_t` lies above the rest at a look, and the mean of the look and the line that it is compared with."""
    before, after = between_tnk[t, n, 0], between_tnk[t, n, 1]
    share = (day_t[t] - day_t[before]) / max(day_t[after] - day_t[before], 1)
    line = refl_tbn[before, b, n] * (1 - share) + refl_tbn[after, b, n] * share
    off = refl_tbn[t, b, n] - line if other_t[t] else line - refl_tbn[t, b, n]
    return off, (refl_tbn[t, b, n] + line) / 2


@numba.njit(nogil=True, cache=True)
def _offs(
    refl_tbn: Int16, day_t: Days, other_t: Bools, between_tnk: Int16, b: int, t: Days, n: Days
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """`_off` of some looks of some pixels."""
    off, level = np.empty(t.size), np.empty(t.size)
    for i in range(t.size):
        off[i], level[i] = _off(refl_tbn, day_t, other_t, between_tnk, b, t[i], n[i])
    return off, level


@numba.njit(nogil=True, cache=True)
def _medians(
    refl_tbn: Int16, day_t: Days, other_t: Bools, between_tnk: Int16, gain_b: Float, middle_b: Float
) -> npt.NDArray[np.float32]:
    """Median over a pixel's looks of the difference less what its gain says (b, n); 0 without any."""
    looks, bands, pixels = refl_tbn.shape
    out = np.zeros((bands, pixels), np.float32)
    values = np.empty(looks, np.float64)
    for n in range(pixels):
        for b in range(bands):
            found = 0
            for t in range(looks):
                if between_tnk[t, n, 0] < 0:
                    continue
                off, level = _off(refl_tbn, day_t, other_t, between_tnk, b, t, n)
                values[found] = off - gain_b[b] * (level - middle_b[b])
                found += 1
            if found:
                out[b, n] = np.median(values[:found])
    return out
