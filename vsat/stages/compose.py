"""From the cube's scenes to the arrays of virtual images, with bounded memory on a whole tile.

Axes: t scenes, q dates, b bands, l looks of `age` (last, next, count), y, x.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from vsat.core.calibration import Spread, calibrate
from vsat.core.fill import (
    NONE,
    OBSERVED,
    PRIOR,
    Estimated,
    FilledDate,
    Neighbours,
    dated,
    finish_date,
    look_of_day,
)
from vsat.core.grid import TileGrid
from vsat.core.masks import clear
from vsat.core.quality import change_suspected, low_confidence, pack_qa
from vsat.core.temporal import DEFAULT_MIX, Estimate, fill_temporal, temporal_of
from vsat.hls import BANDS, FILL, SCALE, Fmask, SceneKey, sensors_of
from vsat.io.publish import VirtualImage
from vsat.io.scenes import read_scenes
from vsat.methods import is_trained
from vsat.objects import StorePath
from vsat.stages.models import label, model_of

Int16 = NDArray[np.int16]
UInt8 = NDArray[np.uint8]
Bool = NDArray[np.bool_]

BLOCK_BYTES = 1 << 28  # of reflectance read at once; filling takes some four times that
CHUNK_PX = 256
SAMPLE_PX = 192  # side of a window in the sample for the spread
SAMPLE_WINDOWS = 4
EPOCH = date(1970, 1, 1)


class DateJob(Protocol):
    """What is needed to know of a date; see stages.generate."""

    @property
    def day(self) -> str:
        """The date, ISO."""

    @property
    def asof(self) -> str:
        """The state of the record that its image shows, ISO; see VirtualImage."""

    @property
    def status(self) -> Literal["provisional", "final"]:
        """Whether later scenes can still change its image."""


@dataclass(frozen=True)
class Context:
    """What all dates of a job share."""

    home: StorePath
    grid: TileGrid
    method: str
    bands: tuple[str, ...]
    adjacent: bool
    snow: bool

    def looks(self, keys: Sequence[SceneKey], rows: slice = slice(None), cols: slice = slice(None)) -> "Looks":
        """The scenes' pixels in a window, and which are clear or show at least the ground."""
        refl_tbyx, fmask_tyx = read_scenes(self.home, self.grid, keys, rows, cols)
        day_t = np.array([(key.day - EPOCH).days for key in keys], np.int32)
        clear_tyx = clear(fmask_tyx, refl_tbyx, adjacent=self.adjacent, snow=self.snow)
        ground_tyx = clear_tyx if self.snow else clear(fmask_tyx, refl_tbyx, adjacent=self.adjacent, snow=True)
        return Looks(refl_tbyx, fmask_tyx, clear_tyx, ground_tyx, day_t)


@dataclass(frozen=True)
class Looks:
    """Scenes in memory, in order of day: int16 (t, b, y, x), uint8 (t, y, x), two bool (t, y, x), int32 (t,).

    `ground_tyx` is True where a look is clear or shows snow without cloud.
    """

    refl_tbyx: Int16
    fmask_tyx: UInt8
    clear_tyx: Bool
    ground_tyx: Bool
    day_t: NDArray[np.int32]


@dataclass
class _Draft:
    """A date's arrays as the blocks fill them in: temporal estimate, neighbours, and what they look like.

    `made` is what a trained model says, instead of a temporal estimate that is to be finished.
    """

    base_byx: Int16
    near_kyx: Int16  # days since last, until next, number of looks, index of the nearest in the date's context
    step_byx: Int16  # from the look before to the one after, FILL where one is missing
    fmask_yx: UInt8
    made: Estimated | None = None

    @classmethod
    def empty(cls, shape: tuple[int, int]) -> "_Draft":
        base_byx, step_byx = (np.full((len(BANDS), *shape), FILL, np.int16) for _ in range(2))
        return cls(base_byx, np.full((4, *shape), -1, np.int16), step_byx, np.zeros(shape, np.uint8))


def compose(
    context: Context, dates: Sequence[DateJob], scenes: Sequence[tuple[str, tuple[str, ...]]]
) -> Iterator[VirtualImage]:
    """The virtual images of the dates, in their order.

    Args:
        context: cube, grid, method.
        dates: the days wanted.
        scenes: (key, granule ids) of the scenes that all of them may use, in order of day and sensor.

    Raises:
        StoreError: a scene that the ledger lists cannot be read.
    """
    keys = [SceneKey.from_string(key) for key, _ in scenes]
    query_q = np.array([_days(one.day) for one in dates], np.int32)
    drafts = [_Draft.empty(context.grid.shape) for _ in dates]
    spread = None if is_trained(context.method) else _spread(context, keys)
    hidden = _by_model(context, keys, query_q, drafts) if spread is None else spread.dates
    for block in _blocks(context.grid, len(keys)):
        looks = context.looks(keys, *block)
        found = fill_temporal(
            looks.refl_tbyx, looks.clear_tyx, looks.day_t, query_q,
            method=temporal_of(context.method) if spread else "nearest", mix=spread.mix if spread else DEFAULT_MIX,
            exclude_days=0,
        )  # fmt: skip
        for q, draft in enumerate(drafts):
            _draw(draft, block, looks, found, q, int(query_q[q]))
    drafts.reverse()
    return (
        _image(context, one, scenes, drafts.pop(), spread, hidden) for one in dates
    )  # each is let go after its image


def _days(day: str) -> int:
    return (date.fromisoformat(day) - EPOCH).days


def _blocks(grid: TileGrid, scenes: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of blocks of whole chunks, so that each chunk is read once: many rows of chunks, or part of one."""
    fit = BLOCK_BYTES // (max(1, scenes) * len(BANDS) * 2 * CHUNK_PX**2)
    across = -(-grid.width // CHUNK_PX)
    tall, wide = CHUNK_PX * max(1, fit // across), CHUNK_PX * max(1, min(fit, across))
    for top in range(0, grid.height, tall):
        for left in range(0, grid.width, wide):
            yield slice(top, min(top + tall, grid.height)), slice(left, min(left + wide, grid.width))


def _by_model(context: Context, keys: Sequence[SceneKey], query_q: NDArray[np.int32], drafts: list[_Draft]) -> int:
    """What the trained model says, put into the drafts; how many hidden dates it was calibrated on."""
    from vsat.model.checkpoint import slots
    from vsat.model.predict import Question
    from vsat.model.rehearsal import WINDOW_PX, scenes

    days, back = np.unique(query_q, return_inverse=True)
    sensor_t = sensors_of([key.sensor for key in keys])
    views, day_t = list[tuple[Int16, Bool]](), np.array([(key.day - EPOCH).days for key in keys], np.int32)
    for y, x in _corners(context.grid, WINDOW_PX):
        looks = context.looks(keys, slice(y, y + WINDOW_PX), slice(x, x + WINDOW_PX))
        views.append((looks.refl_tbyx, looks.clear_tyx))
    ready = model_of(context.method).calibrated(views, day_t, sensor_t=sensor_t)

    def read(rows: slice, cols: slice) -> tuple[Int16, Bool]:
        looks = context.looks(keys, rows, cols)
        return looks.refl_tbyx, looks.clear_tyx

    seen = [t for t, day in enumerate(day_t) if day in days]
    whole = context.looks([keys[t] for t in seen]) if seen else None
    scene_q = np.zeros(len(days), bool) if whole is None else scenes(whole.clear_tyx, whole.day_t, days)
    question = Question(day_t, days.astype(np.int32), slots(BANDS), sensor_t)
    for rows, made_q, _ in ready.rows(read, context.grid.shape, question, scene_q):
        for draft, q in zip(drafts, back, strict=True):
            if draft.made is None:
                blank = [np.full(draft.base_byx.shape, np.nan, np.float32) for _ in range(2)]
                # the quantiles are no part of the product: one array stands for all of them
                draft.made = Estimated(blank[0], blank[1], *(4 * [blank[1]]))
            draft.made.refl_byx[:, rows], draft.made.sd_byx[:, rows] = made_q[q].refl_byx, made_q[q].sd_byx
    return sum(map(sum, ready.stretch.dates))


def _corners(grid: TileGrid, size: int) -> list[tuple[int, int]]:
    """Upper-left corners of a few windows spread over the tile."""
    height, width = grid.shape
    side = int(np.ceil(np.sqrt(SAMPLE_WINDOWS)))
    tall, wide = min(size, height), min(size, width)
    return [
        (int((height - tall) * (i + 0.5) / side), int((width - wide) * (j + 0.5) / side))
        for i in range(side)
        for j in range(side)
    ]


def _spread(context: Context, keys: Sequence[SceneKey]) -> Spread:
    """Measured on windows spread over the tile, side by side; the whole of a small region."""
    height, width = context.grid.shape
    side = int(np.ceil(np.sqrt(SAMPLE_WINDOWS)))
    if height <= SAMPLE_PX * side and width <= SAMPLE_PX * side:
        looks = context.looks(keys)
        return calibrate(looks.refl_tbyx, looks.clear_tyx, looks.day_t, method=context.method)
    tall, wide = min(SAMPLE_PX, height), min(SAMPLE_PX, width)
    corners = _corners(context.grid, SAMPLE_PX)
    parts = [context.looks(keys, slice(y, y + tall), slice(x, x + wide)) for y, x in corners]
    refl_tbyx = np.concatenate([part.refl_tbyx for part in parts], axis=-1)
    clear_tyx = np.concatenate([part.clear_tyx for part in parts], axis=-1)
    return calibrate(refl_tbyx, clear_tyx, parts[0].day_t, method=context.method)


def _draw(draft: _Draft, block: tuple[slice, slice], looks: Looks, found: Estimate, q: int, day: int) -> None:
    """Fill in a block of one date."""
    draft.base_byx[:, *block] = found.refl_qbyx[q]
    draft.near_kyx[:, *block] = np.stack(
        [a[q] for a in (found.last_qyx, found.next_qyx, found.count_qyx, found.nearest_qyx)]
    )
    before_byx = _looked_at(looks, day, found.last_qyx[q], -1)
    after_byx = _looked_at(looks, day, found.next_qyx[q], 1)
    step_byx = np.clip(after_byx.astype(np.int32) - before_byx, FILL + 1, 32767)
    draft.step_byx[:, *block] = np.where((before_byx == FILL) | (after_byx == FILL), FILL, step_byx)
    draft.fmask_yx[block] = _ground_fmask(looks, day)


def _looked_at(looks: Looks, day: int, far_yx: Int16, sign: int) -> Int16:
    """Reflectance (b, y, x) of the clear look `far_yx` days away, FILL where there is none."""
    out_byx = np.full(looks.refl_tbyx.shape[1:], FILL, np.int16)
    for far in np.unique(far_yx[far_yx >= 0]):
        for t in np.flatnonzero(looks.day_t == day + sign * int(far))[::-1]:
            here = (far_yx == far) & looks.clear_tyx[t]
            out_byx[:, here] = looks.refl_tbyx[t][:, here]
    return out_byx


def _ground_fmask(looks: Looks, day: int) -> UInt8:
    """Fmask of the look of the ground that is nearest in time, 0 where there is none; of two as near the earlier."""
    fmask_yx = np.zeros(looks.fmask_tyx.shape[1:], np.uint8)
    open_yx = np.ones(fmask_yx.shape, np.bool_)
    for t in np.argsort(np.abs(looks.day_t - day), kind="stable"):
        here = open_yx & looks.ground_tyx[t]
        fmask_yx[here] = looks.fmask_tyx[t][here]
        open_yx &= ~here
        if not open_yx.any():
            break
    return fmask_yx


def _image(
    context: Context,
    one: DateJob,
    scenes: Sequence[tuple[str, tuple[str, ...]]],
    draft: _Draft,
    spread: Spread | None,
    hidden: int,
) -> VirtualImage:
    """Scene regression, spread, pass-through and quality of one date; `hidden` dates are behind its uncertainty."""
    day = date.fromisoformat(one.day)
    keys = [SceneKey.from_string(key) for key, _ in scenes]
    that_day = [t for t, key in enumerate(keys) if key.day == day]
    look = None
    if that_day:
        seen = context.looks([keys[t] for t in that_day])
        look = look_of_day(seen.refl_tbyx, seen.clear_tyx, seen.day_t, _days(one.day))
    if spread is None:
        assert draft.made is not None
        done = dated(draft.made, Neighbours(*draft.near_kyx), look)
    else:
        done = finish_date(draft.base_byx, look, *draft.near_kyx, spread=spread, method=context.method)
    source_yx = done.source_yx.copy()
    observed = done.origin_yx == OBSERVED
    source_yx[observed] = np.array(that_day or [-1])[done.source_yx[observed]]
    src_yx, sources = _sources(source_yx, [ids for _, ids in scenes])
    chosen = [BANDS.index(band) for band in context.bands]
    rows = [slice(top, top + CHUNK_PX) for top in range(0, context.grid.height, CHUNK_PX)]
    return VirtualImage(
        grid=context.grid, day=day, bands=context.bands,
        refl_byx=np.stack([_stored(done.refl_byx[b]) for b in chosen]),
        sd_byx=np.stack([_stored(done.sd_byx[b]) for b in chosen]),
        qa_yx=np.concatenate([_quality(done, draft, part) for part in rows]),
        age_lyx=done.age_lyx, src_yx=src_yx, sources=sources,
        status=one.status, method=label(context.method), asof=date.fromisoformat(one.asof),
        facts=_facts(done, one.status, len(sources)) | {"hidden_dates": hidden},
    )  # fmt: skip


def _stored(values_yx: NDArray[np.float32]) -> Int16:
    """Reflectance as int16 x 1e-4; NaN becomes FILL, and so does nothing else."""
    whole = np.clip(np.rint(np.nan_to_num(values_yx) / SCALE), FILL + 1, 32767)
    return np.where(np.isnan(values_yx), FILL, whole).astype(np.int16)


def _quality(done: FilledDate, draft: _Draft, rows: slice) -> UInt8:
    """The quality byte of some rows."""
    origin_yx, fmask_yx, sd_byx = done.origin_yx[rows], draft.fmask_yx[rows], done.sd_byx[:, rows]
    last, following = draft.near_kyx[:2, rows]
    seen = origin_yx == OBSERVED
    step = draft.step_byx[:, rows]
    step_byx = np.where(step == FILL, np.float32(np.nan), step * np.float32(SCALE))
    return pack_qa(
        origin_yx,
        extrapolated=((last < 0) != (following < 0)) & ~seen,
        snow=(fmask_yx & Fmask.SNOW) > 0,
        water=(fmask_yx & Fmask.WATER) > 0,
        change=change_suspected(step_byx, sd_byx) & ~seen,
        low=low_confidence(done.refl_byx[:, rows], sd_byx) | (origin_yx == PRIOR),
    )


def _sources(
    source_yx: NDArray[np.int32], ids: Sequence[tuple[str, ...]]
) -> tuple[NDArray[np.uint16], tuple[str, ...]]:
    """One-based index per pixel into the granules that pixels refer to; a scene of several granules goes by its first."""
    used = np.flatnonzero(np.bincount(source_yx.ravel() + 1, minlength=1)[1:]).tolist()
    index = np.zeros(len(ids) + 1, np.uint16)
    index[used] = np.arange(1, len(used) + 1)
    further = tuple(name for t in used for name in ids[t][1:])
    return index[source_yx], tuple(ids[t][0] for t in used) + further


def _facts(done: FilledDate, status: str, sources: int) -> dict[str, float | int | str]:
    observed = float((done.origin_yx == OBSERVED).mean())
    none = float((done.origin_yx == NONE).mean())
    filled_yx = (done.origin_yx != OBSERVED) & (done.origin_yx != NONE)
    mean_sd = np.mean([sd_yx[filled_yx].mean(dtype=float) for sd_yx in done.sd_byx]) if filled_yx.any() else 0.0
    return {
        "status": status, "observed": round(observed, 6), "filled": round(1 - observed - none, 6), "none": round(none, 6),
        "mean_sd": round(float(mean_sd), 6), "sources": sources,
    }  # fmt: skip
