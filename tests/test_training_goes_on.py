"""Training that was ended, in whatever way, goes on to the bit; checkpoints are whole or are not."""

import json
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_model import Points, TinyModel, tiny_model
from training_runs import OPTIONS, Killed, run, same

from vsat.errors import InputError, StoreError
from vsat.model import saves

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
    saved = max(saves.steps(tmp_path / "killed"), default=0)
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
    assert saves.steps(tmp_path / "late") == {1}
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
    assert saves.steps(tmp_path) == {result.best_step, 12, 16}
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
    assert saves.steps(out) >= {8, 9}
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
    best = min(saves.steps(tmp_path))
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
    assert saves.newest(tmp_path) == tmp_path / "checkpoint-4"
    assert same(run(tmp_path, OPTIONS)[0], run(tmp_path / "whole", OPTIONS)[0])
