"""Training: the loss of a step whatever its batches, numbers that are none, and what is told."""

import copy
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_model import UNSCORED, Points, collate, tiny_model
from torch.optim import AdamW
from training_runs import HELD_OUT, OPTIONS, Killed, batches_of, lr_of, run, same

from vsat.errors import InputError, VsatError
from vsat.model.dataset import Sample
from vsat.model.optimizers import ADAMW_BETAS
from vsat.model.sophia import SophiaG
from vsat.model.training import TrainOptions, train

ROOT = Path(__file__).parents[1]
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
    total = sum(float(p.detach().double().abs().sum()) for p in model.parameters())
    told[name] = [result.losses, result.held_out, total]
rank = torch.distributed.get_rank()
(out / f"rank{rank}.json").write_text(json.dumps(told))
torch.distributed.destroy_process_group()
# one that outlives this aborts, now and then, the interpreter that ends under it (pytorch issue 190489)
assert not [path for path in Path("/proc/self/task").glob("*/comm") if "gloo" in path.read_text()]
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
    assert done.returncode == 0, done.stderr[-9000:]
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


# Values that are not scored


class Unscored(Points):
    """Only every `share`-th sample has scored values."""

    share = 10**9

    def __getitem__(self, item: int) -> Sample:
        sample = super().__getitem__(item)
        return sample | ({"y": torch.full_like(sample["y"], UNSCORED)} if (item + 1) % self.share else {})


def test_a_step_without_scored_values_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(VsatError, match="step 1 has no scored value; samples"):
        run(tmp_path, OPTIONS, train_set=Unscored())


def test_batches_without_scored_values_add_nothing(tmp_path: Path) -> None:
    half = Unscored()
    half.share = 2
    options = replace(OPTIONS, optimizer="sophia", batch=1, accumulate=8)
    assert any(not (batch["y"] != UNSCORED).any() for batch in batches_of(options, half, 0))
    _, in_ones = run(tmp_path / "ones", options, train_set=half)
    _, in_eights = run(tmp_path / "eights", replace(options, batch=8, accumulate=1), train_set=half)
    assert in_ones.losses[0][1] == pytest.approx(in_eights.losses[0][1], rel=1e-4)
    assert np.isfinite(in_ones.losses).all() and np.isfinite(in_ones.held_out).all()


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


def test_given_weights_stay_where_no_step_makes_them_better(tmp_path: Path) -> None:
    given = tiny_model()
    model, result = run(tmp_path, replace(OPTIONS, lr=5.0, evaluate_first=True), model=copy.deepcopy(given))
    assert result.held_out[0][0] == 0 and result.best_step == 0 and same(model, given)
    better, found = run(tmp_path / "more", replace(OPTIONS, evaluate_first=True), model=copy.deepcopy(given))
    assert found.best_step > 0 and not same(better, given)
