"""A folder that holds a trained model: weights, configuration, stretches of its intervals, card.

    model.safetensors  config.json  calibration.json  card.json  README.md

The one that comes with the package is vsat/model/weights/anydate-tiny. Axes: as in `predict`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vsat.core.calibration import NORMAL, PRIOR_SD
from vsat.core.fill import PRIOR, Estimated, Filled, FilledDate, Look, Neighbours, dated, look_of_day
from vsat.core.looks import bridge_days
from vsat.core.temporal import fill_temporal
from vsat.hls import BANDS, SCALE
from vsat.model import CALIBRATION, WEIGHTS
from vsat.model.anydate import AnyDate
from vsat.model.folders import folder_of, read_json, read_model, told
from vsat.model.predict import Answer, Question, Read, answer_rows
from vsat.model.rehearsal import Stretch, rehearse, scenes, stretch_of, views_of

__all__ = ["Checkpoint", "load_checkpoint", "slots"]

LEAST_VALUES = 3  # that a spread can be told from

Int16 = NDArray[np.int16]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Checkpoint:
    """A model that is ready to fill, and the stretches found when it was trained."""

    name: str
    model: AnyDate
    stretch: Stretch
    climate_b: tuple[float, ...] = (PRIOR_SD,) * len(BANDS)

    def calibrated(
        self,
        views: Sequence[tuple[Int16, Bools]],
        day_t: NDArray[np.int32],
        *,
        bands: Sequence[str] = BANDS,
        sensor_t: NDArray[np.uint8] | None = None,
        seed: int = 0,
    ) -> "Checkpoint":
        """This checkpoint with its intervals stretched to what the cube's own hidden looks show.

        `climate_b` becomes the spread of the looks themselves: what a value may be off by where nothing near is known.

        Args:
            views: windows of the cube, see `rehearsal.views_of`.
            day_t, bands, sensor_t, seed: see `fill`.
        """
        slot_b = slots(bands)
        found = rehearse(self.model, views, day_t, slot_b=slot_b, sensor_t=sensor_t, seed=seed)
        climate = list(self.climate_b)
        for b, slot in enumerate(slot_b):
            values = np.concatenate([refl_tbyx[:, b][clear_tyx] for refl_tbyx, clear_tyx in views]) * SCALE
            if values.size >= LEAST_VALUES:
                low, high = np.quantile(values, (0.05, 0.95))
                climate[slot] = max(float(high - low) / 3.29, 0.02)
        return replace(self, stretch=stretch_of(found, slot_b, self.stretch), climate_b=tuple(climate))

    def fill(
        self,
        refl_tbyx: Int16,
        clear_tyx: Bools,
        day_t: NDArray[np.int32],
        query_q: NDArray[np.int32],
        *,
        bands: Sequence[str] = BANDS,
        sensor_t: NDArray[np.uint8] | None = None,
        seed: int = 0,
    ) -> Filled:
        """The call of `core.fill.fill`, calibrated on the cube itself.

        Args:
            refl_tbyx, clear_tyx, day_t: see `core.fill.fill`.
            query_q: int32, in any order.
            bands: names of hls.BANDS along b.
            sensor_t: uint8, see `hls.sensors_of`.
            seed: of the looks that are hidden to calibrate.
        """
        views = views_of(refl_tbyx, clear_tyx, seed=seed)
        ready = self.calibrated(views, day_t, bands=bands, sensor_t=sensor_t, seed=seed)
        days, back = np.unique(query_q, return_inverse=True)

        def read(rows: slice, cols: slice) -> tuple[Int16, Bools]:
            return refl_tbyx[..., rows, cols], clear_tyx[:, rows, cols]

        question = Question(day_t, days, slots(bands), sensor_t)
        looks = [look_of_day(refl_tbyx, clear_tyx, day_t, int(day)) for day in days]
        scene_q = scenes(clear_tyx, day_t, days)
        parts = [
            [dated(made, near, _rows_of(look, rows)) for made, near, look in zip(made_q, near_q, looks, strict=True)]
            for rows, made_q, near_q in ready.rows(read, clear_tyx.shape[1:], question, scene_q)
        ]
        return _stacked([_joined([part[q] for part in parts]) for q in back])

    def rows(
        self, read: Read, shape: tuple[int, ...], question: Question, scene_q: Bools
    ) -> Iterator[tuple[slice, list[Estimated], list[Neighbours]]]:
        """Estimates of each day and where its looks are, rows as they are done: see `predict.answer_rows`.

        Args:
            scene_q: on which days something clear was seen, anywhere.
        """
        height, width = shape
        wide_b = np.array(self.climate_b, np.float32)[question.slot_b]
        for rows, raw in answer_rows(self.model, read, (height, width), question):
            refl_tbyx, clear_tyx = read(rows, slice(0, width))
            near = fill_temporal(
                refl_tbyx, clear_tyx, question.day_t, question.query_q, method="nearest", exclude_days=0
            )
            gap_qyx = bridge_days(near.last_qyx, near.next_qyx)
            said = self.stretch.apply(raw, question.slot_b, gap_qyx, scene_q)
            near_q = [
                Neighbours(near.last_qyx[q], near.next_qyx[q], near.count_qyx[q], near.nearest_qyx[q])
                for q in range(len(question.query_q))
            ]
            yield rows, [_estimated(said, q, one, wide_b) for q, one in enumerate(near_q)], near_q


def load_checkpoint(source: str | Path, *, device: str | None = None) -> Checkpoint:
    """A checkpoint from its folder or its hub id; read once per process and device as long as it stays the same.

    Args:
        source: a folder written by training, or a hub id, which is looked up only where it is no folder.
        device: by default the GPU where there is one.

    Raises:
        InputError: there is no such checkpoint, or it is not one of this kind.
    """
    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    paths = [path for name in (WEIGHTS, CALIBRATION) if (path := Path(source) / name).is_file()]
    return _loaded(str(source), chosen, sum(path.stat().st_mtime_ns for path in paths))


@lru_cache(maxsize=4)
def _loaded(source: str, device: str, _: int) -> Checkpoint:
    folder = folder_of(source, optional=(CALIBRATION,))
    model: Any = read_model(source, folder)  # its methods of torch are not typed
    stretch = Stretch.none()
    if (folder / CALIBRATION).exists():
        try:
            stretch = Stretch.from_json(read_json(folder, CALIBRATION))
        except (ValueError, LookupError, TypeError) as error:
            raise told(f"{CALIBRATION} holds no stretches: {error}", source) from error
    model.to(torch.device(device))
    model.train(mode=False)
    return Checkpoint(Path(source).name, model, stretch)


def slots(bands: Sequence[str]) -> NDArray[np.int64]:
    """The place of each band among the six of hls.BANDS."""
    return np.array([BANDS.index(name) for name in bands], np.int64)


def _estimated(said: Answer, q: int, near: Neighbours, wide_b: NDArray[np.float32]) -> Estimated:
    """One date, no narrower than the place's own spread where it rests on nothing near."""
    quantile, sd = said.quantile_qlbyx[q].copy(), said.sd_qbyx[q].copy()
    lone = near.origin_yx() == PRIOR
    if lone.any():
        for level in (0, 1, 3, 4):
            wide = quantile[2] + np.float32(NORMAL[level]) * wide_b[:, None, None]
            outer = np.minimum if level < 2 else np.maximum
            quantile[level] = np.where(lone, outer(quantile[level], wide), quantile[level])
        sd = np.where(lone, np.maximum(sd, wide_b[:, None, None]), sd)
    return Estimated(quantile[2].copy(), sd, quantile[0], quantile[1], quantile[3], quantile[4])


def _rows_of(look: Look | None, rows: slice) -> Look | None:
    return None if look is None else Look(look.refl_byx[:, rows], look.clear_yx[rows], look.source_yx[rows])


def _joined(parts: list[FilledDate]) -> FilledDate:
    """Rows of one date put together."""
    if len(parts) == 1:
        return parts[0]
    return FilledDate(*(np.concatenate([getattr(one, f.name) for one in parts], axis=-2) for f in fields(FilledDate)))


def _stacked(dates: list[FilledDate]) -> Filled:
    names = ("refl", "sd", "p05", "p25", "p75", "p95")
    made: dict[str, Any] = {f"{name}_qbyx": np.stack([getattr(one, f"{name}_byx") for one in dates]) for name in names}
    return Filled(
        **made,
        origin_qyx=np.stack([one.origin_yx for one in dates]),
        age_qlyx=np.stack([one.age_lyx for one in dates]),
        source_qyx=np.stack([one.source_yx for one in dates]),
        spread=None,
    )
