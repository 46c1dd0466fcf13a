"""Training: the loss of a step whatever its batches, going on to the bit, whole checkpoints, and ends that say why."""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_model import UNSCORED, Points, TinyModel, TinyOutput, collate, tiny_model
from torch.optim import AdamW

from vsat.errors import InputError, StoreError, VsatError
from vsat.model import checkpoint
from vsat.model.dataset import PatchSampler, Sample
from vsat.model.loader import EverySample, StepLoader
from vsat.model.optimizers import ADAMW_BETAS, MuonAdamW, make_optimizer
from vsat.model.sophia import SophiaG
from vsat.model.training import TrainOptions, TrainResult, train

ROOT = Path(__file__).parents[1]
OPTIONS = TrainOptions(
    optimizer="adamw", lr=1e-2, steps=12, batch=8, save_every=4, evaluate_every=3, warmup=0.25, hessian_every=3
)
HELD_OUT = Points(11, seed=1)  # its last batch is smaller


class Killed(Exception):
    """What ends a run in the middle of it."""


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def run(
    out: Path, options: TrainOptions, *, model: TinyModel | None = None, until: int | None = None,
    train_set: Points | None = None, held_out: Points | None = HELD_OUT,
) -> tuple[TinyModel, TrainResult]:  # fmt: skip
    """Train in `out`, and be killed after step `until`."""

    def report(done: int, total: int) -> None:
        assert total == options.steps
        if done == until:
            raise Killed

    model = model or tiny_model()
    result = train(model, train_set or Points(), held_out, options, out, collate=collate, report=report)
    return model, result


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(name == its_name and torch.equal(p, q) for (name, p), (its_name, q) in pairs)


def batches_of(options: TrainOptions, dataset: Points, step: int) -> list[Sample]:
    """The step's batches, by the plain rule: an epoch's order, cut into whole steps."""
    size = options.batch * options.accumulate
    epoch, place = divmod(step, len(dataset) // size)
    sampler = PatchSampler(len(dataset), seed=options.seed)
    sampler.set_epoch(epoch)
    dataset.set_epoch(epoch)
    items = sampler.order()[place * size : (place + 1) * size].reshape(options.accumulate, options.batch)
    return [collate([dataset[int(item)] for item in batch]) for batch in items]


def lr_of(options: TrainOptions, step: int) -> float:
    """Warm-up and cosine, by hand."""
    warm = options.warmup * options.steps
    if step < warm:
        return options.peak * (step + 1) / warm
    way = (step + 1 - warm) / (options.steps - warm)
    return options.peak * (options.floor + (1 - options.floor) * (1 + np.cos(np.pi * way)) / 2)


# The loss of a step


@pytest.mark.parametrize("accumulate", [1, 3])
def test_adamw_is_what_a_plain_loop_does(accumulate: int, tmp_path: Path) -> None:
    options = replace(OPTIONS, batch=4, accumulate=accumulate, clip=1.5)
    _, result = run(tmp_path, options, held_out=None)
    model, dataset = tiny_model(), Points()
    groups = [
        {"params": [p for p in model.parameters() if p.ndim == 2], "weight_decay": 0.1},
        {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer, losses, norms = AdamW(groups, betas=ADAMW_BETAS), [], []
    for step in range(options.steps):
        whole = collate([sample for batch in batches_of(options, dataset, step) for sample in _samples(batch)])
        loss = model(**whole).loss
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.5)))
        for group in optimizer.param_groups:
            group["lr"] = lr_of(options, step)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert [step for step, _ in result.losses] == list(range(1, 13))
    np.testing.assert_allclose([loss for _, loss in result.losses], losses, rtol=1e-4)
    assert min(norms) < 1.5 < max(norms)  # or the clip was not tested
    assert losses[-1] < 0.9 * losses[0]


def test_sophia_is_what_a_plain_loop_does(tmp_path: Path) -> None:
    options = replace(OPTIONS, optimizer="sophia", batch=4, accumulate=2)
    trained, result = run(tmp_path, options, held_out=None)
    model, dataset, losses, estimates = tiny_model(), Points(), [], []
    optimizer = SophiaG(list(model.parameters()), lr_of(options, 0), every=3)
    for step in range(options.steps):
        batches = batches_of(options, dataset, step)
        count = sum(int((batch["y"] != UNSCORED).sum()) for batch in batches)
        if optimizer.hessian_due:
            seed = np.random.SeedSequence([options.seed, step, 0]).generate_state(1)[0]
            generator = torch.Generator().manual_seed(int(seed))
            for batch in batches:
                share = int((batch["y"] != UNSCORED).sum()) / count
                (model.sampled_loss(**batch, generator=generator) * share).backward()
            optimizer.update_hessian(count)
            estimates.append(step)
        loss = model(**collate([sample for batch in batches for sample in _samples(batch)])).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), options.clip)
        optimizer.param_groups[0]["lr"] = lr_of(options, step)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert estimates == [0, 3, 6, 9]
    np.testing.assert_allclose([loss for _, loss in result.losses], losses, rtol=1e-4)
    for mine, plain in zip(trained.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(mine, plain, rtol=1e-4, atol=1e-5)
    assert result.unclipped == pytest.approx(optimizer.unclipped, abs=0.02)
    assert 0 < result.unclipped < 1


def _samples(batch: Sample) -> list[Sample]:
    return [{name: values[i] for name, values in batch.items()} for i in range(len(batch["index"]))]


def test_held_out_loss_is_the_mean_over_all_scored_values(tmp_path: Path) -> None:
    model, result = run(tmp_path, replace(OPTIONS, steps=3))
    HELD_OUT.set_epoch(0)
    with torch.no_grad():
        loss = float(model(**collate([HELD_OUT[i] for i in range(len(HELD_OUT))])).loss)
    assert [step for step, _ in result.held_out] == [3]
    assert result.held_out[0][1] == pytest.approx(loss, rel=1e-5)


RANK = """
import json, sys
from pathlib import Path
import torch
from tiny_model import Points, collate, tiny_model
from vsat.model.training import TrainOptions, train

torch.set_num_threads(1)
out = Path(sys.argv[1])
told = {}
for name, given in json.loads(sys.argv[2]).items():
    model = tiny_model()
    result = train(model, Points(), Points(11, seed=1), TrainOptions(**given), out / name, collate=collate)
    told[name] = [result.losses, result.held_out, float(sum(p.double().abs().sum() for p in model.parameters()))]
rank = torch.distributed.get_rank()
(out / f"rank{rank}.json").write_text(json.dumps(told))
torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_do_what_one_does_with_double_batches(tmp_path: Path) -> None:
    options = {"optimizer": "adamw", "lr": 1e-2, "steps": 6, "batch": 2, "accumulate": 2, "evaluate_every": 3}
    given = {
        "plain": options,
        "sophia": options | {"optimizer": "sophia", "hessian_every": 2},
        "half": options | {"save_every": 3, "minutes": 1e-9},
    }
    script = tmp_path / "rank.py"
    script.write_text(RANK)
    paths = os.pathsep.join(filter(None, [str(ROOT / "tests"), str(ROOT), *sys.path]))
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-addr=127.0.0.1",
        "--master-port=0", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", str(script), str(tmp_path),
        json.dumps(given),
    ]  # fmt: skip
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    first, second = (json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in range(2))
    assert first == second  # of both processes, weights too
    _, alone = run(tmp_path / "alone", TrainOptions(**options | {"batch": 4}))
    losses, held_out, _ = first["plain"]
    assert [step for step, _ in losses] == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(losses, alone.losses, rtol=1e-4)
    np.testing.assert_allclose(held_out, alone.held_out, rtol=1e-4)
    # drawn labels differ by process, so only the loss before the first step can agree
    np.testing.assert_allclose(first["sophia"][0][0], losses[0], rtol=1e-4)
    assert np.isfinite(first["sophia"][0]).all() and first["sophia"][0][1:] != losses[1:]
    assert [step for step, _ in first["half"][0]] == [1]  # both stopped when one was late
    saved = {path.name for path in (tmp_path / "half" / "checkpoint-1").iterdir()}
    assert {"rng_state_0.pth", "rng_state_1.pth"} < saved
    with pytest.raises(InputError, match="processes was 2 and is 1 now"):
        run(tmp_path / "plain", TrainOptions(**options))


# Going on


@pytest.mark.parametrize("optimizer", ["adamw", "sophia", "muon"])
@pytest.mark.parametrize("until", [3, 8, 12])
def test_a_killed_run_goes_on_to_the_bit(
    optimizer: Any, until: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    options = replace(OPTIONS, optimizer=optimizer, accumulate=2, batch=4)

    def fresh() -> TinyModel:
        return tiny_model(dropout=0.3)

    whole, wanted = run(tmp_path / "whole", options, model=fresh())
    with pytest.raises(Killed):
        run(tmp_path / "killed", options, model=fresh(), until=until)
    saved = max(checkpoint.steps(tmp_path / "killed"), default=0)
    assert (until - 1) // 4 * 4 <= saved < until
    torch.manual_seed(99)  # what happened in between
    assert "going on from" not in caplog.text
    again, result = run(tmp_path / "killed", options, model=fresh())
    assert saved == 0 or f"going on from {tmp_path / 'killed' / f'checkpoint-{saved}'}" in caplog.text
    assert same(again, whole)
    assert (result.losses, result.held_out) == (wanted.losses, wanted.held_out)
    assert (result.best_step, result.unclipped) == (wanted.best_step, wanted.unclipped)
    for name in ("model.safetensors", "optimizer.pt", "rng_state.pth", "scheduler.pt"):
        mine, its = (tmp_path / which / "checkpoint-12" / name for which in ("killed", "whole"))
        assert _content(mine) == _content(its), name


def _content(path: Path) -> Any:
    """The bytes of weights; tensors and numbers of the rest, for torch's archives hold their own names."""
    if path.suffix == ".safetensors":
        return path.read_bytes()

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [plain(inner) for inner in value]
        return value.tolist() if isinstance(value, torch.Tensor | np.ndarray) else value

    return plain(torch.load(path, weights_only=path.name != "rng_state.pth"))


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    model, first = run(tmp_path, OPTIONS)
    again, second = run(tmp_path, OPTIONS, model=tiny_model(seed=5))
    assert same(again, model) and second.losses == first.losses and second.stopped == "steps"
    before = json.loads((tmp_path / "checkpoint-12" / "run.json").read_text())["seconds"]
    assert 0 < before < min(first.seconds, second.seconds)


def test_minutes_end_a_run_that_then_goes_on(tmp_path: Path) -> None:
    _, stopped = run(tmp_path / "late", replace(OPTIONS, minutes=1e-9))
    assert (stopped.stopped, stopped.steps) == ("minutes", 1)
    assert checkpoint.steps(tmp_path / "late") == {1}
    model, result = run(tmp_path / "late", OPTIONS)
    assert result.stopped == "steps"
    assert same(model, run(tmp_path / "whole", OPTIONS)[0])


def test_a_changed_option_is_told_with_both_values(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(tmp_path, OPTIONS, until=5)
    others: dict[str, Any] = {
        "optimizer": "muon", "seed": 3, "batch": 4, "lr": 0.5, "steps": 20, "weight_decay": 0.3, "accumulate": 2,
    }  # fmt: skip
    for name, value in others.items():
        was = 0.1 if name == "weight_decay" else getattr(OPTIONS, name)
        with pytest.raises(InputError, match=f"{name} was {was!r} and is {value!r} now"):
            run(tmp_path, replace(OPTIONS, **{name: value}))
    with pytest.raises(InputError, match="samples was 40 and is 48 now"):
        run(tmp_path, OPTIONS, train_set=Points(48))
    with pytest.raises(InputError, match=r"parameters was '996 laid out as \w+' and is '380 laid out"):
        run(tmp_path, OPTIONS, model=tiny_model(width=8))
    renamed = tiny_model()
    renamed.answer = renamed.head  # of the same size, and none of its weights would be loaded
    del renamed.head
    with pytest.raises(InputError, match="parameters was '996 laid out as"):
        run(tmp_path, OPTIONS, model=renamed)
    _, result = run(tmp_path, replace(OPTIONS, save_every=7, evaluate_every=6, patience=9, minutes=9.0, threads=2))
    assert [step for step, _ in result.losses] == list(range(1, 13))


# Checkpoints


def test_two_checkpoints_are_kept_and_the_best(tmp_path: Path) -> None:
    # answers by another rule: the more is learnt, the worse it gets
    model, result = run(tmp_path, replace(OPTIONS, lr=0.1, steps=16), held_out=Points(30, seed=1, rule=7))
    losses = dict(result.held_out)
    assert result.best_step == min(losses, key=lambda step: losses[step]) < 12
    assert checkpoint.steps(tmp_path) == {result.best_step, 12, 16}
    assert same(model, TinyModel.from_pretrained(tmp_path / f"checkpoint-{result.best_step}"))
    assert not same(model, TinyModel.from_pretrained(tmp_path / "checkpoint-16"))


def test_patience_ends_training_for_good(tmp_path: Path) -> None:
    options, worse = replace(OPTIONS, lr=0.1, steps=60, patience=2), Points(30, seed=1, rule=7)
    model, result = run(tmp_path, options, held_out=worse)
    assert result.stopped == "patience" and result.steps == result.best_step + 6 < 60
    again, second = run(tmp_path, options, model=tiny_model(seed=5), held_out=worse)
    assert second.steps == result.steps and second.stopped == "patience" and same(again, model)
    _, patient = run(tmp_path, replace(options, patience=3), held_out=worse)
    assert patient.steps == result.steps + 3


def _unfinished(folder: Path) -> None:
    folder.rename(folder.with_name(folder.name + ".part"))


def _unmarked(folder: Path) -> None:
    (folder / "complete.json").unlink()


def _halved_marker(folder: Path) -> None:
    marker = folder / "complete.json"
    marker.write_bytes(marker.read_bytes()[:40])


def _flipped(folder: Path) -> None:
    path = folder / "optimizer.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _missing(folder: Path) -> None:
    (folder / "scheduler.pt").unlink()


@pytest.mark.parametrize("tear", [_unfinished, _unmarked, _halved_marker, _flipped, _missing])
def test_a_torn_checkpoint_is_left_out(
    tear: Callable[[Path], None], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    whole, wanted = run(tmp_path / "whole", OPTIONS)
    out = tmp_path / "torn"
    with pytest.raises(Killed):
        run(out, OPTIONS, until=11)
    assert checkpoint.steps(out) >= {8, 9}
    tear(out / "checkpoint-9")
    model, result = run(out, OPTIONS)
    assert f"{out / 'checkpoint-9'}" in caplog.text and f"going on from {out / 'checkpoint-8'}" in caplog.text
    assert same(model, whole)
    assert not list(out.glob("*.part"))
    assert result.losses == wanted.losses


def test_a_lost_best_checkpoint_is_told_and_done_without(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    options, worse = replace(OPTIONS, lr=0.1, steps=20), Points(30, seed=1, rule=7)
    with pytest.raises(Killed):
        run(tmp_path, options, held_out=worse, until=17)
    best = min(checkpoint.steps(tmp_path))
    _flipped(tmp_path / f"checkpoint-{best}")
    _, result = run(tmp_path, options, held_out=worse)
    assert f"the best checkpoint, of step {best}, is lost" in caplog.text
    assert result.best_step > best


def test_a_full_disk_leaves_the_checkpoints_before(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(tmp_path, OPTIONS, until=6)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = (tmp_path / "checkpoint-4" / "optimizer.pt").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size - 1000, hard))
    try:
        with pytest.raises(StoreError, match="could not be written"):
            run(tmp_path, OPTIONS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert checkpoint.newest(tmp_path) == tmp_path / "checkpoint-4"
    assert same(run(tmp_path, OPTIONS)[0], run(tmp_path / "whole", OPTIONS)[0])


# Numbers that are none


def test_a_loss_that_is_not_finite_names_step_and_samples(tmp_path: Path) -> None:
    lost = 13
    options = replace(OPTIONS, batch=2, accumulate=4, save_every=1)
    step = next(i for i in range(5) if any(lost in batch["index"] for batch in batches_of(options, Points(), i)))
    batch = next(batch for batch in batches_of(options, Points(), step) if lost in batch["index"])
    with pytest.raises(VsatError) as error:
        run(tmp_path, options, train_set=Points(lost=[lost]))
    named = ", ".join(map(str, sorted(batch["index"].tolist())))
    assert f"the loss of step {step + 1} is not finite; samples {named}" in error.value.problem
    assert max(checkpoint.steps(tmp_path), default=0) == step


class Steep(TinyModel):
    """Its loss is finite, and has no gradient, where a batch has sample 13."""

    def forward(self, *, x: torch.Tensor, y: torch.Tensor, index: torch.Tensor) -> TinyOutput:
        output = super().forward(x=x, y=y, index=index)
        assert output.loss is not None
        output.loss = output.loss + torch.sqrt(self.head.bias.square().sum() * 0 * (index == 13).any())
        return output if 13 in index else super().forward(x=x, y=y, index=index)


@pytest.mark.parametrize("optimizer", ["adamw", "sophia"])
def test_a_gradient_that_is_not_finite_names_step_and_samples(optimizer: Any, tmp_path: Path) -> None:
    options = replace(OPTIONS, optimizer=optimizer, save_every=1)
    step = next(i for i in range(5) if 13 in batches_of(options, Points(), i)[0]["index"])
    samples = sorted(batches_of(options, Points(), step)[0]["index"].tolist())
    with pytest.raises(VsatError, match=f"the gradient of step {step + 1} is not finite") as error:
        run(tmp_path, options, model=Steep(tiny_model().config))
    assert ", ".join(map(str, samples)) in error.value.problem
    assert max(checkpoint.steps(tmp_path), default=0) == step


def test_a_held_out_loss_that_is_not_finite_names_samples(tmp_path: Path) -> None:
    with pytest.raises(VsatError, match="the held-out loss after step 3 is not finite; samples 8, 9, 10"):
        run(tmp_path, OPTIONS, held_out=Points(11, seed=1, lost=[9]))
    assert checkpoint.steps(tmp_path) == set()


class Unscored(Points):
    def __getitem__(self, item: int) -> Sample:
        sample = super().__getitem__(item)
        return sample | {"y": torch.full_like(sample["y"], UNSCORED)}


def test_a_step_without_scored_values_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(VsatError, match="step 1 has no scored value; samples"):
        run(tmp_path, OPTIONS, train_set=Unscored())


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


# What is told


def test_tensorboard_shows_each_step_once_though_a_run_was_killed(tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with pytest.raises(Killed):
        run(tmp_path, OPTIONS, until=8)  # step 7 was shown, and not saved
    _, result = run(tmp_path, OPTIONS)
    seen = events.EventAccumulator(str(tmp_path / "logs")).Reload()
    shown = [(event.step, event.value) for event in seen.Scalars("train/loss")]
    np.testing.assert_allclose(shown, result.losses, rtol=1e-5)
    assert [event.step for event in seen.Scalars("eval/loss")] == [3, 6, 9, 12]
    assert {"train/learning_rate", "train/grad_norm"} <= set(seen.Tags()["scalars"])


def test_nothing_is_printed_and_progress_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    told: list[tuple[int, int]] = []
    train(tiny_model(), Points(), None, OPTIONS, tmp_path, collate=collate, report=lambda *pair: told.append(pair))
    assert told == [(step, 12) for step in range(1, 13)]
    assert capfd.readouterr() == ("", "")
