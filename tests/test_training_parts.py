"""What training is made of: options, optimisers, batches."""

from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_model import Points, TinyModel, TinyOutput, collate, tiny_model
from training_runs import OPTIONS, batches_of, run, same

from vsat.errors import InputError
from vsat.model.dataset import PatchSampler
from vsat.model.loader import EverySample, StepLoader
from vsat.model.optimizers import MuonAdamW, make_optimizer
from vsat.model.training import TrainOptions

# Options, optimisers, batches


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"batch": -1}, {"lr": 0.0}, {"lr": -1e-3}, {"clip": 0.0}, {"warmup": 1.5}, {"floor": -0.1},
     {"minutes": 0.0}, {"patience": 0}, {"optimizer": "adam"}, {"seed": -1}, {"weight_decay": -0.1}],
)  # fmt: skip
def test_options_of_no_use_are_refused(wrong: dict[str, Any]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(InputError, match=f"^{name}: {value!r} is of no use"):
        replace(OPTIONS, **wrong)


def test_a_step_that_takes_more_than_there_is_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="40 samples, and one step takes 48"):
        run(tmp_path, replace(OPTIONS, accumulate=6))


def test_sophia_moves_less_than_adamw_by_default() -> None:
    assert TrainOptions().optimizer == "sophia"
    assert TrainOptions().peak == pytest.approx(0.8 * TrainOptions(optimizer="adamw").peak)


def test_muon_has_hidden_matrices_only_and_comes_back_whole() -> None:
    model, other = tiny_model(), tiny_model()
    made, its = (make_optimizer("muon", m, lr=1e-2, weight_decay=0.1, hessian_every=1) for m in (model, other))
    assert isinstance(made, MuonAdamW) and isinstance(its, MuonAdamW)
    muon, adamw = made.parts
    assert [id(p) for group in muon.param_groups for p in group["params"]] == [id(m.weight) for m in model.layers]
    assert {p.ndim for p in adamw.param_groups[0]["params"]} == {2} and adamw.param_groups[0]["weight_decay"] == 0.1
    assert {p.ndim for p in adamw.param_groups[1]["params"]} == {1} and adamw.param_groups[1]["weight_decay"] == 0
    batch = batches_of(OPTIONS, Points(), 0)[0]

    def step(m: TinyModel, optimizer: torch.optim.Optimizer) -> None:
        m(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    step(model, made)
    other.load_state_dict(model.state_dict())
    its.load_state_dict(deepcopy(made.state_dict()))
    for optimizer in (made, its):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3  # as a schedule does
    step(model, made)
    step(other, its)
    assert same(model, other)
    assert muon.param_groups[0]["lr"] == 3e-3


def test_muon_without_hidden_matrices_is_refused() -> None:
    with pytest.raises(InputError, match="no matrix in repeated layers"):
        make_optimizer("muon", torch.nn.Linear(3, 3), lr=1e-2, weight_decay=0.1, hessian_every=1)


@pytest.mark.parametrize("done", [0, 1, 4, 5, 6])
def test_batches_go_on_where_they_were(done: int) -> None:
    def indices(done: int) -> list[list[int]]:
        loader = StepLoader(
            Points(23), PatchSampler(23, seed=3), batch_size=4, accumulate=2, steps=7, done=done, collate=collate
        )
        assert len(loader) == 14
        return [[*batch["index"].tolist(), loader.dataset.epoch] for batch in loader]

    whole = indices(0)
    assert len(whole) == 14 and [batch[-1] for batch in whole] == [0] * 4 + [1] * 4 + [2] * 4 + [3] * 2
    assert indices(done) == whole[2 * done :]


def test_processes_share_what_one_has_and_leave_no_held_out_sample() -> None:
    def indices(rank: int, world: int) -> list[set[int]]:
        sampler = PatchSampler(24, seed=3, rank=rank, world=world)
        loader = StepLoader(Points(24), sampler, batch_size=8 // world, steps=6, collate=collate)
        return [set(batch["index"].tolist()) for batch in loader]

    assert [one | other for one, other in zip(indices(0, 2), indices(1, 2), strict=True)] == indices(0, 1)
    found = [EverySample(11, rank=rank, world=3).order().tolist() for rank in range(3)]
    assert {item for part in found for item in part} == set(range(11)) and [len(part) for part in found] == [4, 4, 3]


def test_bf16_learns_too(tmp_path: Path) -> None:
    seen = []

    class Watched(TinyModel):
        def forward(self, *, x: torch.Tensor, y: torch.Tensor, index: torch.Tensor) -> TinyOutput:
            seen.append(torch.is_autocast_enabled("cpu"))
            return super().forward(x=x, y=y, index=index)

    options = replace(OPTIONS, optimizer="sophia", bf16=True)
    model, result = run(tmp_path, options, model=Watched(tiny_model().config))
    assert all(seen) and next(model.parameters()).dtype == torch.float32
    assert np.isfinite([loss for _, loss in result.losses]).all() and result.losses[-1][1] < result.losses[0][1]
