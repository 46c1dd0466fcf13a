"""A model trained on one place alone must not learn its dates by heart: on dates it never saw, it stays at the classical floor."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from vsat.core.fill import look_of_day
from vsat.core.gaps import near
from vsat.core.masks import clear
from vsat.core.temporal import fill_temporal
from vsat.hls import FILL, SCALE
from vsat.io.patches import Patch
from vsat.model.anydate import AnyDate, AnyDateConfig, new_model
from vsat.model.dataset import PatchDataset
from vsat.model.examples import DESIGN, Examples, collate
from vsat.model.options import TrainOptions
from vsat.model.predict import Question, answer
from vsat.model.prior import Prior, PriorPatch
from vsat.model.training import train

PX = 24


@dataclass(frozen=True)
class OnePlace:
    """Windows of one place's record, from which some dates have been taken out for good."""

    patch: Patch

    def __len__(self) -> int:
        return 64

    def name(self, index: int) -> str:
        return f"window {index}"

    def read(self, index: int) -> Patch:
        y, x = np.random.default_rng(index).integers(0, PX - 12 + 1, 2)
        window = np.s_[..., y : y + 12, x : x + 12]
        return Patch(self.patch.refl_tbyx[window], self.patch.fmask_tyx[window], self.patch.day_t, self.patch.sensor_t)


def place() -> PriorPatch:
    """The first record of another seed that is long, busy and mostly clear."""
    for index in range(100):
        patch = Prior(seed=77, size_px=PX).read(index)
        share_t = clear(patch.fmask_tyx, patch.refl_tbyx).mean(axis=(1, 2))
        if len(patch.day_t) > 50 and np.count_nonzero(share_t > 0.8) > 30:
            return patch
    raise AssertionError("no such record among a hundred")


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> tuple[float, list[float]]:
    """Mean absolute error on withheld dates: of the blend, and of the model after more and more training."""
    torch.set_num_threads(2)
    patch = place()
    seen = clear(patch.fmask_tyx, patch.refl_tbyx)
    good = np.flatnonzero(seen.mean(axis=(1, 2)) > 0.6)
    held = np.unique(patch.day_t[np.sort(np.random.default_rng(5).choice(good[2:-2], 8, replace=False))])
    held = held[np.diff(held, prepend=-10) > 1].astype(np.int32)
    kept = ~near(patch.day_t, held)
    record = Patch(patch.refl_tbyx[kept], patch.fmask_tyx[kept], patch.day_t[kept], patch.sensor_t[kept])
    place_set = Examples(PatchDataset(OnePlace(record), np.arange(64), design=DESIGN), cells=8)
    model = new_model(AnyDateConfig(width=32, layers=2, heads=2), seed=0)
    truth = [look_of_day(patch.refl_tbyx, seen, patch.day_t, int(day)) for day in held]
    context = clear(record.fmask_tyx, record.refl_tbyx)
    floor_qbyx = fill_temporal(record.refl_tbyx, context, record.day_t, held, method="blend").refl_qbyx
    asked = [look.clear_yx & (floor_qbyx[q, 0] != FILL) for q, look in enumerate(truth) if look is not None]

    def error(made_qbyx: np.ndarray) -> float:
        misses = [
            np.abs(made_qbyx[q][:, mask] - look.refl_byx[:, mask] * SCALE).mean()
            for q, (look, mask) in enumerate(zip(truth, asked, strict=True))
            if look is not None
        ]
        return float(np.mean(misses))

    def model_error(model: AnyDate) -> float:
        model.train(mode=False)
        question = Question(patch.day_t, held, np.arange(6), patch.sensor_t)  # which sensor looks is known of any date
        said = answer(model, patch.refl_tbyx, seen & kept[:, None, None], question)
        return error(said.quantile_qlbyx[:, 2])

    found = [model_error(model)]
    out: Path = tmp_path_factory.mktemp("trap")
    for steps in (20, 60):
        options = TrainOptions(optimizer="adamw", steps=steps, batch=6, save_every=200, evaluate_every=200)
        train(model, place_set, None, options, out / str(steps), collate=collate)
        found.append(model_error(model))
    return error(floor_qbyx * SCALE), found


def test_an_untrained_model_is_the_classical_floor(errors: tuple[float, list[float]]) -> None:
    floor, found = errors
    assert found[0] == pytest.approx(floor, rel=0.01)


def test_error_on_dates_never_seen_does_not_rise_above_the_floor(errors: tuple[float, list[float]]) -> None:
    floor, found = errors
    assert all(one < 1.03 * floor for one in found[1:]), f"floor {floor:.5f}, in training {found}"
