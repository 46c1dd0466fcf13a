"""What the classical methods know about each pixel and day, gathered for a model to weigh.

Of every look: how far it is from what the others say (its rest), for the pixel and its neighbourhood. Of every query: all
temporal estimates, what the day's clear pixels add by kriging, and how far the looks are. Looks are brought to the mean of the
place's sensors first, and estimates of a day from there to the sensor that looked on it, cloud or not: which one that was is
known ahead, and is all that is taken from a look that is hidden. No look of a query's own day is in its estimates, and a
pixel's rest is made without that look, but for what robust weights and the season under the departures learned from it (see
`fill_temporal`). Axes: t looks (one a day), q query days, m members, b bands, y, x.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import uniform_filter

from vsat.core.kriging import krige
from vsat.core.looks import merge_days, neighbours
from vsat.core.sensors import Kinds, measure_offsets, sensors_on
from vsat.core.temporal import MEMBERS, fill_members, fill_temporal
from vsat.hls import FILL, NO_SENSOR, SCALE

NEAR_PX, WIDE_PX = 5, 15  # sides of the squares that a neighbourhood's rest is averaged over
LEAST_SCALE = 0.002  # reflectance
FAR_DAYS = 2000  # stands for "no look on this side"
# Days around a date: pixels whose records run alike there depart alike.
COURSE_DAYS = (-100, -70, -45, -25, -12, 12, 25, 45, 70, 100)

Float = npt.NDArray[np.float32]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Evidence:
    """Reflectance is float32 and 0 where nothing is known.

    Attributes:
        day_t: days of the looks, one a day.
        sensor_t: which sensor looked, NO_SENSOR where that is unknown, or where two did.
        refl_tbyx, clear_tyx: the looks, less the offset of their sensor.
        rest_tbyx: look minus blend of the others; near_tbyx, wide_tbyx: its mean over a square, near_tyx, wide_tyx: share
            of the square that is clear.
        query_q: the days asked for, ascending; sensor_q: the sensor that looked on them, as which the next three are.
        peers_mqbyx: the members of the blend; blend_qbyx: their blend; base_qbyx: with the day's clear pixels kriged, or
            the blend where there are none; error_qbyx: kriging's standard error, 0 where it was not used.
        day_near_qbyx, day_wide_qbyx, day_near_qyx, day_wide_qyx: rest of the day's clear pixels around, as for the looks.
        last_qyx, next_qyx: days to the looks before and after (FAR_DAYS none), own day left out; count_yx: clear looks.
        scale_byx: what an estimate is off by, typically: mean absolute rest of pixel and neighbourhood.
        miss_myx: mean absolute rest of each member relative to the blend's, as a natural logarithm.
    """

    day_t: npt.NDArray[np.int64]
    sensor_t: Kinds
    refl_tbyx: Float
    clear_tyx: Bools
    rest_tbyx: Float
    near_tbyx: Float
    wide_tbyx: Float
    near_tyx: Float
    wide_tyx: Float
    query_q: npt.NDArray[np.int64]
    sensor_q: Kinds
    peers_mqbyx: Float
    blend_qbyx: Float
    base_qbyx: Float
    error_qbyx: Float
    day_near_qbyx: Float
    day_wide_qbyx: Float
    day_near_qyx: Float
    day_wide_qyx: Float
    last_qyx: npt.NDArray[np.int16]
    next_qyx: npt.NDArray[np.int16]
    count_yx: npt.NDArray[np.int16]
    scale_byx: Float
    miss_myx: Float


def gather_evidence(
    refl_tbyx: npt.NDArray[np.int16],
    clear_tyx: Bools,
    day_t: npt.NDArray[np.int32],
    query_q: npt.NDArray[np.int32],
    *,
    sensor_t: Kinds | None = None,
    sensor_q: Kinds | None = None,
) -> Evidence:
    """All evidence on some days.

    Args:
        refl_tbyx: int16 (t, b, y, x) x 1e-4. Values under a False of `clear_tyx` are never used.
        clear_tyx: bool, the context. At least one look.
        day_t: int32, days since 1970-01-01, ascending, repeats allowed: they are averaged.
        query_q: int32, ascending, without repeats.
        sensor_t: uint8, see `hls.sensors_of`; None: none is known.
        sensor_q: likewise, of the days asked; None: what `sensor_t` says of them.

    Returns:
        See Evidence. Pixels without a clear look have zeros and count 0.
    """
    bands, height, width = refl_tbyx.shape[1:]
    kind_t = np.full(len(day_t), NO_SENSOR, np.uint8) if sensor_t is None else sensor_t
    kind_q = sensors_on(query_q, day_t, kind_t) if sensor_q is None else sensor_q
    offsets = measure_offsets(refl_tbyx, clear_tyx, day_t, kind_t)
    looks = merge_days(
        np.ascontiguousarray(offsets.taken_from(refl_tbyx, kind_t)).reshape(len(day_t), bands, -1),
        np.ascontiguousarray(clear_tyx).reshape(len(day_t), -1),
        np.asarray(day_t, np.int64),
    )
    refl = looks.refl_tbn.reshape(-1, bands, height, width)
    clear = looks.clear_tn.reshape(-1, height, width)
    queries = np.asarray(query_q, np.int64)
    days = np.union1d(looks.day_t, queries)
    peers, blend = fill_members(refl, clear, looks.day_t.astype(np.int32), days.astype(np.int32), exclude_days=0)
    at_t, at_q = np.searchsorted(days, looks.day_t), np.searchsorted(days, queries)
    known_tyx = clear & (blend[at_t, 0] != FILL)
    rest = np.where(known_tyx[:, None], _float(refl) - _float(blend[at_t]), np.float32(0))
    near, near_share = _around(rest, known_tyx, NEAR_PX)
    wide, wide_share = _around(rest, known_tyx, WIDE_PX)
    off = np.abs(rest)
    scale_byx, miss_myx = _scales(off, known_tyx, refl, peers[:, at_t])
    day_of = {int(day): t for t, day in enumerate(looks.day_t)}
    own_q = [day_of.get(int(day), -1) for day in queries]
    base_qbyx, error_qbyx = _with_scene(peers[:, at_q], blend[at_q], refl, clear, looks.day_t, own_q)
    last_qn, next_qn, _ = neighbours(looks.clear_tn, looks.day_t, queries, 0)
    last_qyx, next_qyx = (
        np.where(at < 0, FAR_DAYS, np.abs(looks.day_t[at] - queries[:, None])).clip(0, FAR_DAYS)
        .astype(np.int16).reshape(-1, height, width)
        for at in (last_qn, next_qn)
    )  # fmt: skip
    known_q1yx = (blend[at_q, :1] != FILL).astype(np.float32)

    def seen(mean_qbyx: Float) -> Float:
        """What the day's sensor would show."""
        return np.asarray(mean_qbyx + offsets.of(kind_q, mean_qbyx) * known_q1yx)

    blank, none = np.zeros_like(rest[:1]), np.zeros_like(near_share[:1])
    return Evidence(
        looks.day_t,
        sensors_on(looks.day_t, day_t, kind_t),
        np.where(clear[:, None], _float(refl), np.float32(0)),
        clear,
        rest,
        near,
        wide,
        near_share,
        wide_share,
        queries,
        kind_q,
        np.stack([seen(_float(one)) for one in peers[:, at_q]]),
        seen(_float(blend[at_q])),
        seen(base_qbyx),
        error_qbyx,
        np.concatenate([near, blank])[own_q],
        np.concatenate([wide, blank])[own_q],
        np.concatenate([near_share, none])[own_q],
        np.concatenate([wide_share, none])[own_q],
        last_qyx,
        next_qyx,
        clear.sum(axis=0, dtype=np.int16),
        scale_byx,
        miss_myx,
    )


def _float(refl: npt.NDArray[np.int16]) -> Float:
    return np.where(refl == FILL, np.float32(0), refl * np.float32(SCALE))


def _around(rest_tbyx: Float, known_tyx: Bools, side_px: int) -> tuple[Float, Float]:
    """Mean of the known rests in a square around each pixel, 0 where there is none, and their share of the square."""
    share = uniform_filter(known_tyx.astype(np.float32), (0, side_px, side_px), mode="constant")
    total = uniform_filter(rest_tbyx, (0, 0, side_px, side_px), mode="constant")
    some = share > 0.5 / side_px**2
    return np.where(some[:, None], total / np.maximum(share, 1e-6)[:, None], np.float32(0)), np.where(some, share, 0)


def _scales(
    off_tbyx: Float, known_tyx: Bools, refl_tbyx: npt.NDArray[np.int16], peers_mtbyx: npt.NDArray[np.int16]
) -> tuple[Float, Float]:
    """`scale_byx` and `miss_myx`."""
    total_yx = known_tyx.sum(axis=0, dtype=np.float32)
    wide_yx = uniform_filter(total_yx, WIDE_PX, mode="constant")
    own = off_tbyx.sum(axis=0)
    wide = uniform_filter(own, (0, WIDE_PX, WIDE_PX), mode="constant") / np.maximum(wide_yx, 1e-6)
    # A pixel's own few looks lean on its neighbours' as if these were eight more of them.
    scale = (own + 8 * wide) / (total_yx + 8) + LEAST_SCALE
    blend = uniform_filter(own.mean(axis=0), WIDE_PX, mode="constant")
    miss = []
    for peers_tbyx in peers_mtbyx:
        gap = np.abs(refl_tbyx - peers_tbyx.astype(np.int32)).mean(axis=1, dtype=np.float32) * np.float32(SCALE)
        total = np.where(known_tyx, gap, 0).sum(axis=0)
        theirs = uniform_filter(total, WIDE_PX, mode="constant")
        least = LEAST_SCALE * np.maximum(wide_yx, 1)
        miss.append(np.log((theirs + least) / (blend + least)))
    return scale.astype(np.float32), np.stack(miss).astype(np.float32)


def _with_scene(
    peers_mqbyx: npt.NDArray[np.int16],
    blend_qbyx: npt.NDArray[np.int16],
    refl_tbyx: npt.NDArray[np.int16],
    clear_tyx: Bools,
    day_t: npt.NDArray[np.int64],
    own_q: list[int],
) -> tuple[Float, Float]:
    """Base and its standard error, with what the clear pixels of the day say where there are enough of them."""
    base, error = _float(blend_qbyx), np.zeros(blend_qbyx.shape, np.float32)
    chosen = [MEMBERS.index(name) for name in ("linear", "harmonic", "departures")]
    for q, t in enumerate(own_q):
        if t < 0:
            continue
        course = _course(refl_tbyx, clear_tyx, day_t, t)
        course = np.where(course == FILL, blend_qbyx[q], course)
        alike = np.concatenate([blend_qbyx[q], *peers_mqbyx[chosen, q], *course])
        found = krige(blend_qbyx[q], alike, refl_tbyx[t], clear_tyx[t])
        if found.used:
            base[q] = np.nan_to_num(found.refl_byx)
            error[q] = np.nan_to_num(found.error_byx)
    return base, error


def _course(
    refl_tbyx: npt.NDArray[np.int16], clear_tyx: Bools, day_t: npt.NDArray[np.int64], look: int
) -> npt.NDArray[np.int16]:
    """Each pixel's record around a look, without it: with it, pixels would seem alike for what they show on that very day."""
    clear = clear_tyx.copy()
    clear[look] = False
    days = (day_t[look] + np.array(COURSE_DAYS)).astype(np.int32)
    return fill_temporal(refl_tbyx, clear, day_t.astype(np.int32), days, method="linear").refl_qbyx
