"""A model trained on one place alone must not learn its dates by heart: on dates it never saw, it stays at the classical floor.

Training goes on long enough to learn them; what keeps the trap shut is what `vsat train` has for it: evidence on the query, no
absolute time, and the choice of the best weights by dates of neither.
"""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from stores import write_patches

from vsat.core.fill import look_of_day
from vsat.core.gaps import near
from vsat.core.masks import clear
from vsat.core.splits import TRAIN, VALIDATION
from vsat.core.temporal import fill_temporal
from vsat.hls import FILL, SCALE
from vsat.io.patches import Patch
from vsat.model import anydate, predict
from vsat.model.anydate import AnyDate, AnyDateConfig, new_model
from vsat.model.checkpoint import load_checkpoint
from vsat.model.options import TrainOptions
from vsat.model.predict import Question, answer
from vsat.model.prior import Prior, PriorPatch
from vsat.stages import train as module
from vsat.stages.train import TrainPlan, TrainReport, train

PX, WINDOW_PX, WINDOWS = 24, 12, 48
WITHHELD = 8  # dates
LEARN = 0.65  # of the record's dates; the later ones decide which weights are best
SMALL = (32, 2, 2)
OPTIONS = TrainOptions(optimizer="adamw", steps=200, batch=6, save_every=40, evaluate_every=20, bf16=False)


@dataclass(frozen=True)
class Place:
    """A record, which of its looks are not withheld, and the days that are."""

    patch: PriorPatch
    kept_t: np.ndarray
    held_q: np.ndarray

    @property
    def seen_tyx(self) -> np.ndarray:
        return clear(self.patch.fmask_tyx, self.patch.refl_tbyx)

    def cut(self, at_t: np.ndarray, y: int, x: int) -> Patch:
        """A window of some of the looks."""
        patch, window = self.patch, np.s_[..., y : y + WINDOW_PX, x : x + WINDOW_PX]
        return Patch(
            patch.refl_tbyx[at_t][window], patch.fmask_tyx[at_t][window], patch.day_t[at_t], patch.sensor_t[at_t]
        )


def place() -> Place:
    """The first record of another seed that is long, busy and mostly clear; some of its dates are taken out for good."""
    for index in range(100):
        patch = Prior(seed=77, size_px=PX).read(index)
        share_t = clear(patch.fmask_tyx, patch.refl_tbyx).mean(axis=(1, 2))
        if len(patch.day_t) > 50 and np.count_nonzero(share_t > 0.8) > 30:
            break
    else:
        raise AssertionError("no such record among a hundred")
    good = np.flatnonzero(share_t > 0.6)
    held = np.unique(patch.day_t[np.sort(np.random.default_rng(5).choice(good[2:-2], WITHHELD, replace=False))])
    held = held[np.diff(held, prepend=-10) > 1].astype(np.int32)
    return Place(patch, ~near(patch.day_t, held), held)


def write(of: Place, out: Path) -> None:
    """Windows of the place as a store: the first dates to learn from, the later ones to choose by."""
    looks = np.flatnonzero(of.kept_t)
    first = int(LEARN * looks.size)
    rng, patches, split, corners = np.random.default_rng(0), [], [], []
    for own, at_t in ((TRAIN, looks[:first]), (VALIDATION, looks[first:])):
        for y, x in rng.integers(0, PX - WINDOW_PX + 1, (WINDOWS, 2)).tolist():
            patches.append(of.cut(at_t, y, x))
            split.append(own)
            corners.append((30.0 * x, -30.0 * y))
    write_patches(out, patches, split, corners)


def miss(of: Place, made_qbyx: np.ndarray, asked_qyx: np.ndarray) -> float:
    """Mean absolute error on the withheld dates."""
    found = []
    for q, day in enumerate(of.held_q.tolist()):
        look = look_of_day(of.patch.refl_tbyx, of.seen_tyx, of.patch.day_t, day)
        assert look is not None
        mask = look.clear_yx & asked_qyx[q]
        found.append(np.abs(made_qbyx[q][:, mask] - look.refl_byx[:, mask] * SCALE).mean())
    return float(np.mean(found))


def said(model: AnyDate, of: Place) -> np.ndarray:
    """The model's own medians on the withheld days, from all other looks; which sensor looks is known of any date."""
    model.train(mode=False)
    question = Question(of.patch.day_t, of.held_q, np.arange(6), of.patch.sensor_t)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(predict, "LEANS", {})
        made = answer(model, of.patch.refl_tbyx, of.seen_tyx & of.kept_t[:, None, None], question)
    return made.quantile_qlbyx[:, 2]


@dataclass(frozen=True)
class Found:
    """Errors on withheld dates: of the blend, of a model with random weights, of the one that training gave."""

    floor: float
    untrained: float
    trained: float
    report: TrainReport


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    of, folder = place(), tmp_path_factory.mktemp("trap")
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(anydate.SIZES, "tiny", SMALL)
        patched.setattr(module, "CALIBRATED_ON", 3)
        write(of, folder / "store")
        plan = TrainPlan(prior=False, patches=(folder / "store",), held_out=WINDOWS, options=OPTIONS)
        report = train(plan, folder / "model")
    context = of.seen_tyx & of.kept_t[:, None, None]
    blend = fill_temporal(of.patch.refl_tbyx, context, of.patch.day_t, of.held_q, method="blend").refl_qbyx
    error = partial(miss, of, asked_qyx=blend[:, 0] != FILL)
    width, layers, heads = SMALL
    untrained = new_model(AnyDateConfig(width=width, layers=layers, heads=heads), seed=0)
    trained = load_checkpoint(folder / "model", device="cpu").model
    return Found(error(blend * SCALE), error(said(untrained, of)), error(said(trained, of)), report)


def test_an_untrained_model_is_the_classical_floor(found: Found) -> None:
    assert found.untrained == pytest.approx(found.floor, rel=0.01)


def test_error_on_dates_never_seen_does_not_rise_above_the_floor(found: Found) -> None:
    assert found.trained < 1.03 * found.floor, found
