"""What training survives: memory that runs out, samples that are no numbers, patches that are gone."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from fault import campaign_training as campaign
from sick_models import SHORT, Short, Steep, Where, short_model
from tiny_model import Points, tiny_model
from training_runs import OPTIONS, Killed, batches_of, run, same

from vsat.errors import InputError, VsatError
from vsat.model import passes, saves
from vsat.model.passes import Passes, cut, is_out_of_memory

pytestmark = pytest.mark.fault

# Memory


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run(tmp_path_factory.mktemp("undisturbed"), OPTIONS)


@pytest.mark.parametrize(("where", "kind"), zip(["forward", "backward", "held-out", "backward"], SHORT, strict=True))
def test_a_batch_that_does_not_fit_is_halved_and_the_steps_stay_the_same(
    where: str, kind: str, undisturbed: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = short_model(cast(Where, where), SHORT[kind], most=2)
    _, result = run(tmp_path, OPTIONS, model=model)
    wanted_model, wanted = undisturbed
    assert result.parts == 4 and model.times == 2  # 8 rows, then 4: and never again
    assert "from now on batches are cut into 4 parts" in caplog.text
    np.testing.assert_allclose(result.losses, wanted.losses, rtol=1e-5)
    np.testing.assert_allclose(result.held_out, wanted.held_out, rtol=1e-5)
    for mine, its in zip(model.parameters(), wanted_model.parameters(), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-5)


def test_a_pass_against_drawn_labels_that_does_not_fit_is_halved(tmp_path: Path) -> None:
    options = replace(OPTIONS, optimizer="sophia", accumulate=2, batch=4)
    model = short_model("drawn labels", SHORT["CPU"], most=2)
    _, result = run(tmp_path / "short", options, model=model)
    _, wanted = run(tmp_path / "whole", options)
    assert (result.parts, model.times) == (2, 1)
    assert result.losses[0] == wanted.losses[0]  # the passes before it were whole
    # other labels are drawn, so what follows is another run of the same kind
    np.testing.assert_allclose(result.losses, wanted.losses, rtol=0.2)
    assert result.unclipped == pytest.approx(wanted.unclipped, abs=0.2)


def test_a_run_that_was_short_of_memory_and_then_killed_goes_on_to_the_bit(tmp_path: Path) -> None:
    options = replace(OPTIONS, optimizer="sophia")

    def fresh() -> Short:
        return short_model("backward", SHORT["GPU"], dropout=0.3)

    whole, wanted = run(tmp_path / "whole", options, model=fresh())
    with pytest.raises(Killed):
        run(tmp_path / "killed", options, model=fresh(), until=6)
    again = fresh()
    _, result = run(tmp_path / "killed", options, model=again)
    assert again.times == 0  # it was told by the checkpoint
    assert same(again, whole) and result.losses == wanted.losses


def test_a_run_goes_on_with_smaller_batches_of_the_same_steps(tmp_path: Path, undisturbed: Any) -> None:
    with pytest.raises(Killed):
        run(tmp_path, OPTIONS, until=6)
    with pytest.raises(InputError, match="batch was 8 and is 4 now"):
        run(tmp_path, replace(OPTIONS, batch=4))
    _, result = run(tmp_path, replace(OPTIONS, batch=2, accumulate=4))
    np.testing.assert_allclose(result.losses, undisturbed[1].losses, rtol=1e-5)


def test_where_nothing_can_be_halved_training_ends_and_what_is_saved_stays(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(tmp_path, OPTIONS, until=6)
    with pytest.raises(VsatError, match="one sequence at a time is too much") as error:
        run(tmp_path, OPTIONS, model=short_model("forward", SHORT["CPU"], most=0))
    assert "smaller --size" in error.value.next_step
    assert run(tmp_path, OPTIONS)[1].steps == OPTIONS.steps


def test_of_several_processes_none_halves_alone() -> None:
    halved = Passes(tiny_model(), None, OPTIONS, world=2, parts=1)
    with pytest.raises(VsatError, match="memory ran out: no room") as error:
        halved._cut_more("no room", {"x": torch.zeros(8, 1)})
    assert "--batch 4 --accumulate 2" in error.value.next_step


class Heavy(Points):
    """Its samples do not fit."""

    def __getitem__(self, item: int) -> Any:
        raise SHORT["NumPy"]


def test_memory_that_runs_out_elsewhere_is_told(tmp_path: Path) -> None:
    with pytest.raises(VsatError, match="memory ran out: Unable to allocate"):
        run(tmp_path, OPTIONS, train_set=Heavy())


def test_other_errors_are_not_taken_for_it() -> None:
    assert all(map(is_out_of_memory, SHORT.values()))
    assert not any(map(is_out_of_memory, (RuntimeError("shape mismatch"), OSError("out of memory"), ValueError())))
    with pytest.raises(RuntimeError, match="shape"):
        passes.shortage(lambda: torch.zeros(2, 3).view(4))


def test_parts_hold_every_row_once() -> None:
    batch = {"x": torch.arange(7), "index": torch.arange(3)}
    parts = cut(batch, 4)
    assert sorted(int(x) for part in parts for x in part["x"]) == list(range(7))
    assert [len(part["x"]) for part in parts] == [2, 2, 2, 1] and all(len(part["index"]) == 3 for part in parts)
    assert cut(batch, 1) == [batch] and len(cut(batch, 99)) == 7


# Samples


def test_a_sample_that_is_no_number_is_named_and_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    options = replace(OPTIONS, batch=2, accumulate=4)
    step = next(i for i in range(5) if any(13 in batch["index"] for batch in batches_of(options, Points(), i)))
    _, result = run(tmp_path, options, train_set=Points(lost=[13]))
    told = [record.message for record in caplog.records if "left out" in record.message]
    assert told == [f"left out: train 13, for the loss of step {step + 1} is not finite with it"]  # once, of two epochs
    assert result.left_out == ("train 13",) and np.isfinite(result.losses).all()


def test_a_sample_whose_gradient_is_too_long_for_its_numbers_is_left_out(tmp_path: Path) -> None:
    """Each of its components is finite; the sum of their squares is not."""
    _, result = run(tmp_path, OPTIONS, train_set=Points(lost=[13], poison=1e38))
    assert result.left_out == ("train 13",) and np.isfinite(result.losses).all()


def test_a_sample_without_a_gradient_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    step = next(i for i in range(5) if 13 in batches_of(OPTIONS, Points(), i)[0]["index"])
    _, result = run(tmp_path, OPTIONS, model=Steep(tiny_model().config))
    assert f"left out: train 13, for the gradient of step {step + 1} is not finite" in caplog.text
    assert result.left_out == ("train 13",)


def test_a_held_out_sample_that_is_no_number_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _, result = run(tmp_path, OPTIONS, held_out=Points(11, seed=1, lost=[9]))
    assert caplog.text.count("left out: held-out 9, for the held-out loss after step 3 is not finite with it") == 1
    assert result.left_out == ("held-out 9",) and np.isfinite(result.held_out).all()
    with pytest.raises(VsatError, match="2 of 11 are left out by now; samples held-out 3, held-out 9"):
        run(tmp_path / "more", OPTIONS, held_out=Points(11, seed=1, lost=[3, 9]))


def test_too_many_that_are_no_numbers_end_training(tmp_path: Path) -> None:
    with pytest.raises(VsatError, match="3 of 40 are left out by now") as error:
        run(tmp_path, replace(OPTIONS, save_every=1), train_set=Points(lost=[3, 13, 23]))
    assert saves.steps(tmp_path) and error.value.exit_code == 1


def test_weights_that_are_no_numbers_end_training_with_what_was_saved(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(tmp_path, OPTIONS, until=6)
    model = tiny_model()

    def spoil(module: Any, given: Any) -> None:
        with torch.no_grad():
            module.head.bias[0] = torch.nan

    model.register_forward_pre_hook(spoil)
    with pytest.raises(
        VsatError, match=r"loss of step 5 is not finite, with 8 of 8 samples alone; samples \d+(, \d+){7}\."
    ):
        run(tmp_path, OPTIONS, model=model)
    assert run(tmp_path, OPTIONS)[1].steps == OPTIONS.steps


# A small part of the campaign


@pytest.mark.slow
def test_the_campaign_finds_nothing_that_cannot_go_on(tmp_path: Path) -> None:
    rows = campaign.run_all(tmp_path, 7, small=True)
    assert [row["unresumable"] for row in rows] == [0] * len(rows)
    assert all(row["as wanted"] == row["cases"] > 0 for row in rows)
