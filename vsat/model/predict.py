"""Any number of dates of a cube of any size, by the any-date model: in overlapping windows, with bounded memory.

A window sees only itself: its evidence and tokens come from its own pixels. Where windows overlap, their answers are
averaged with weights that fall to nothing at a window's edge, in whole numbers, so that no order of windows changes a
bit. Queries that lie close together share one context, the looks nearest to them.
Axes: t looks, q days asked, l quantile levels, b bands, y, x; n sequences, p pixels of a token.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from vsat.core.evidence import Evidence, gather_evidence
from vsat.core.sensors import Kinds, sensors_on
from vsat.core.temporal import MEMBERS
from vsat.model.anydate import AnyDate
from vsat.model.loss import moments, quantiles
from vsat.model.tokens import gather_tokens

LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)
WINDOW_PX = 128
OVERLAP_PX = 12
MOST_LOOKS = 64  # tokens of a context
MOST_QUERIES = 16  # that share one
SPAN_DAYS = 120
REACH_DAYS = 1100  # looks farther from the queries than this are used only
ENOUGH_LOOKS = 100  # where fewer than so many are nearer,
ENOUGH_ON_ONE_SIDE = 25  # or than so many where all lie before, or all after: what changed since then cannot be seen
LONG_REACH_DAYS = 3000  # and none beyond this
SEQUENCES = 1024  # in one pass of the model
# A mean of forecasts often errs less than the best of them: shares of two robust estimates in the median, and how far each may draw
# it, as a share of the way to its quartile.
LEANS = {"harmonic": 0.15, "departures": 0.3}
LEAN_LIMIT = 0.5
COUNTS = 1 << 24  # a unit of weighted reflectance: sums of whole numbers have no order

Int16 = NDArray[np.int16]
Bools = NDArray[np.bool_]
Float = NDArray[np.float32]


Read = Callable[[slice, slice], tuple[Int16, Bools]]  # rows, columns: int16 (t, b, y, x) and bool (t, y, x)


@dataclass(frozen=True)
class Answer:
    """What the model says: reflectance float32, NaN where a pixel has no look; quantiles at LEVELS, standard deviation."""

    quantile_qlbyx: Float
    sd_qbyx: Float


@dataclass(frozen=True)
class Question:
    """What all windows share.

    Attributes:
        day_t: int32, days of the looks since 1970-01-01, ascending, repeats allowed.
        query_q: int32, days asked for, ascending, without repeats.
        slot_b: which of the six bands each of b is.
        sensor_t: uint8, see `hls.sensors_of`; None: none is known.
    """

    day_t: NDArray[np.int32]
    query_q: NDArray[np.int32]
    slot_b: NDArray[np.int64]
    sensor_t: NDArray[np.uint8] | None = None


def answer(
    model: AnyDate, refl_tbyx: Int16, clear_tyx: Bools, question: Question, *, wanted_yx: Bools | None = None
) -> Answer:
    """Distributions of every pixel on every day asked, for a cube in memory.

    Args:
        model: on any device, in evaluation mode.
        refl_tbyx: int16 (t, b, y, x) x 1e-4. Values under a False of `clear_tyx` are never used.
        clear_tyx: bool, the context. What is said of a pixel on a day on which it is clear itself rests on that very
            look; the look is what is wanted then, and `fill.dated` passes it through.
        question: looks' and queries' days, bands, sensors.
        wanted_yx: which pixels are wanted; the others stay NaN.
    """

    def read(rows: slice, cols: slice) -> tuple[Int16, Bools]:
        return refl_tbyx[..., rows, cols], clear_tyx[:, rows, cols]

    height, width = clear_tyx.shape[1:]
    bands = [made for _, made in answer_rows(model, read, (height, width), question, wanted_yx=wanted_yx)]
    return Answer(
        np.concatenate([one.quantile_qlbyx for one in bands], axis=-2),
        np.concatenate([one.sd_qbyx for one in bands], axis=-2),
    )


def answer_rows(
    model: AnyDate, read: Read, shape: tuple[int, int], question: Question, *, wanted_yx: Bools | None = None
) -> Iterator[tuple[slice, Answer]]:
    """`answer` for a cube of any height: rows as they are done, from the top, a window's height in memory at a time."""
    height, width = shape
    fields = (len(question.query_q), len(LEVELS) + 1, len(question.slot_b))
    spans = _spans(height)
    left, left_weight = np.zeros((*fields, 0, width), np.int64), np.zeros((0, width), np.int64)
    for n, (top, tall) in enumerate(spans):
        total, weight = np.zeros((*fields, tall, width), np.int64), np.zeros((tall, width), np.int64)
        total[..., : left.shape[-2], :], weight[: left.shape[-2]] = left, left_weight
        seen_yx = np.zeros((tall, width), bool)
        for x, wide in _spans(width):
            refl_tbyx, clear_tyx = read(slice(top, top + tall), slice(x, x + wide))
            wanted = np.ones((tall, wide), bool) if wanted_yx is None else wanted_yx[top : top + tall, x : x + wide]
            ramp = _ramp(top, tall, height)[:, None] * _ramp(x, wide, width)[None, :]
            seen_yx[:, x : x + wide] = clear_tyx.any(axis=0) & wanted
            weight[:, x : x + wide] += ramp
            for part in groups(question.query_q):
                found = _window(model, refl_tbyx, clear_tyx, question, question.query_q[part], wanted)
                # NaN has no whole number: such pixels are known by their lack of looks, below.
                total[part, ..., x : x + wide] += np.rint(np.nan_to_num(found) * COUNTS).astype(np.int64) * ramp
        done = spans[n + 1][0] - top if n + 1 < len(spans) else tall
        left, left_weight = total[..., done:, :], weight[done:]
        mean = total[..., :done, :] / (np.float64(COUNTS) * weight[:done])
        mean[..., ~seen_yx[:done]] = np.nan
        yield slice(top, top + done), Answer(mean[:, :-1].astype(np.float32), mean[:, -1].astype(np.float32))


def _spans(size: int) -> list[tuple[int, int]]:
    """Starts and lengths of the fewest windows that overlap enough, of like length."""
    count = max(1, -(-(size - OVERLAP_PX) // (WINDOW_PX - OVERLAP_PX)))
    ends = [-(-(size - OVERLAP_PX) * n // count) + OVERLAP_PX for n in range(1, count + 1)]
    return [
        (start, end - start) for start, end in zip((0, *(end - OVERLAP_PX for end in ends[:-1])), ends, strict=True)
    ]


def _ramp(start: int, length: int, size: int) -> NDArray[np.int64]:
    """Weights of a window's rows: rising over the overlap, but not at the image's own edge."""
    at = np.arange(length)
    rising = np.minimum(at + 1, OVERLAP_PX) if start > 0 else np.full(length, OVERLAP_PX)
    falling = np.minimum(length - at, OVERLAP_PX) if start + length < size else np.full(length, OVERLAP_PX)
    return np.asarray(np.minimum(rising, falling), np.int64)


def groups(query_q: NDArray[np.int32]) -> Iterator[slice]:
    """Stretches of ascending days that share a context."""
    start = 0
    for end in range(1, len(query_q) + 1):
        if end == len(query_q) or end - start == MOST_QUERIES or query_q[end] - query_q[start] > SPAN_DAYS:
            yield slice(start, end)
            start = end


def _window(
    model: AnyDate,
    refl_tbyx: Int16,
    clear_tyx: Bools,
    question: Question,
    query_q: NDArray[np.int32],
    wanted_yx: Bools,
) -> Float:
    """Quantiles and standard deviation (q, l + 1, b, y, x) of a window for days that share a context."""
    bands, height, width = refl_tbyx.shape[1:]
    day_t, slot_b = question.day_t, question.slot_b
    out = np.full((len(query_q), len(LEVELS) + 1, bands, height, width), np.nan, np.float32)
    near = reached(day_t, np.asarray(clear_tyx.any(axis=(1, 2))), query_q)
    if not near.any():
        return out
    told: dict[str, Kinds] = {}
    if question.sensor_t is not None:
        told = {"sensor_t": question.sensor_t[near], "sensor_q": sensors_on(query_q, day_t, question.sensor_t)}
    evidence = gather_evidence(refl_tbyx[near], clear_tyx[near], day_t[near], query_q, **told)
    tokens_of = nearest(evidence, MOST_LOOKS)
    side = model.config.patch_px
    cells = cells_of(height, width, side)
    useful = ((evidence.count_yx > 0) & wanted_yx).ravel()
    cells = cells[(useful[np.maximum(cells, 0)] & (cells >= 0)).any(axis=1)]
    flat = out.reshape(*out.shape[:3], -1)
    for first in range(0, len(cells), SEQUENCES):
        part = cells[first : first + SEQUENCES]
        values = _run(model, gather_tokens(tokens_of, part, slot_b), slot_b)  # (n, q, p, b, l + 1)
        n, p = np.nonzero((part >= 0) & useful[np.maximum(part, 0)])
        flat[..., part[n, p]] = values[n, :, p].transpose(1, 3, 2, 0)
    return lean(out, evidence)


def lean(said_qlbyx: Float, evidence: Evidence) -> Float:
    """The model's quantiles, drawn as a whole a little towards two classical estimates that err otherwise than it does.

    That is the combination of forecasts of Bates and Granger (1969), cut so that an estimate which the model thinks unlikely
    counts no more than one at half of its interval. Dates with clear pixels of their own stay: kriging knows better.

    Args:
        said_qlbyx: float32 (q, l + 1, b, y, x), LEVELS and the standard deviation, which stays.
        evidence: of the same queries.
    """
    low, middle, high = (said_qlbyx[:, LEVELS.index(level)] for level in (0.25, 0.5, 0.75))
    shift = np.zeros_like(middle)
    for name, share in LEANS.items():
        way = evidence.peers_mqbyx[MEMBERS.index(name)] - middle
        shift += share * np.clip(way, LEAN_LIMIT * (low - middle), LEAN_LIMIT * (high - middle))
    shift[evidence.error_qbyx > 0] = 0
    moved = said_qlbyx.copy()
    moved[:, : len(LEVELS)] += shift[:, None]
    return moved


def reached(day_t: NDArray[np.int32], seen_t: Bools, query_q: NDArray[np.int32]) -> Bools:
    """Looks (t) that evidence on some days comes from, of those that show something: the farther away, the fewer there are."""
    away_t = np.maximum(query_q[0] - day_t, day_t - query_q[-1])
    usable_t = seen_t & (away_t <= LONG_REACH_DAYS)
    between = (day_t[usable_t] <= query_q[0]).any() and (day_t[usable_t] >= query_q[-1]).any()
    known = np.sort(away_t[usable_t])[: ENOUGH_LOOKS if between else ENOUGH_ON_ONE_SIDE]
    if not known.size:
        return seen_t  # whatever there is
    return np.asarray(seen_t & (away_t <= max(REACH_DAYS, known[-1])))


def nearest(evidence: Evidence, most: int) -> Evidence:
    """Evidence whose looks are the nearest ones to the days asked."""
    if len(evidence.day_t) <= most:
        return evidence
    far = np.abs(evidence.day_t[:, None] - evidence.query_q).min(axis=1)
    keep = np.sort(np.argsort(far, kind="stable")[:most])
    names = (
        "day_t",
        "sensor_t",
        "refl_tbyx",
        "clear_tyx",
        "rest_tbyx",
        "near_tbyx",
        "wide_tbyx",
        "near_tyx",
        "wide_tyx",
    )
    return replace(evidence, **{name: getattr(evidence, name)[keep] for name in names})


def cells_of(height: int, width: int, side: int) -> NDArray[np.int64]:
    """Flat pixel indices (n, p) of the squares that cover an image; -1 beyond its edge."""
    index = np.full((-(-height // side) * side, -(-width // side) * side), -1)
    index[:height, :width] = np.arange(height * width).reshape(height, width)
    shape = (index.shape[0] // side, side, index.shape[1] // side, side)
    return index.reshape(shape).transpose(0, 2, 1, 3).reshape(-1, side * side)


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 itself: half the time, and less than a step of the product of a difference."""
    return device.type == "cuda" or bool(torch.cpu._is_avx512_bf16_supported())


@torch.inference_mode()
def _run(model: AnyDate, tokens: dict[str, np.ndarray], slot_b: NDArray[np.int64]) -> Float:
    """Quantiles and standard deviation in reflectance, (n, q, p, b, l + 1)."""
    device = model.device
    order = np.argsort(tokens["clear"].any(axis=-1).sum(axis=1), kind="stable")
    batch = {name: torch.from_numpy(array[order]).to(device) for name, array in tokens.items()}
    with torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device)):
        logits = model(**batch).logits[..., slot_b, :]
    _, sd = moments(logits)
    found = torch.cat([quantiles(logits, LEVELS), sd[..., None]], -1)
    base, scale = batch["base"][..., slot_b, None], batch["scale"][..., slot_b, None]
    shift = torch.cat([base.expand(*base.shape[:-1], len(LEVELS)), torch.zeros_like(base)], -1)
    out = np.empty(found.shape, np.float32)
    out[order] = (found * scale + shift).float().cpu().numpy()
    return out
