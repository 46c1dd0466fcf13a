"""`vsat train` from end to end, small: a checkpoint that fills, its card, going on, and what it refuses."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from pystac.validation.local_validator import LocalValidator
from safetensors.torch import load_file
from stac_schemas import extension_errors
from stores import write_store
from transformers import GPT2Config, GPT2Model
from typer.testing import CliRunner

from vsat.cli import app
from vsat.errors import InputError
from vsat.model import anydate
from vsat.model.checkpoint import load_checkpoint
from vsat.model.examples import DESIGN, SKIES, WHOLE, Examples, Mixed
from vsat.model.options import TrainOptions
from vsat.model.prior import Prior
from vsat.stages import train as module
from vsat.stages.card import CARD, CARD_JSON
from vsat.stages.train import TrainPlan, default_pace, train

OPTIONS = TrainOptions(optimizer="adamw", lr=1e-3, steps=4, batch=3, save_every=2, evaluate_every=2)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A size that trains in seconds, calibrated on few patches; an epoch that is ordered at once."""
    monkeypatch.setitem(anydate.SIZES, "tiny", (16, 2, 2))
    monkeypatch.setattr(module, "CALIBRATED_ON", 3)
    monkeypatch.setattr(module, "PRIOR_PATCHES", 1000)


def test_a_checkpoint_from_the_prior_fills_and_has_a_card(tmp_path: Path) -> None:
    out = tmp_path / "model"
    report = train(TrainPlan(held_out=6, options=OPTIONS), out)
    assert (report.steps, report.stopped) == (4, "steps") and report.held_out_best is not None
    assert sorted(path.name for path in out.iterdir() if path.name[0] != ".") == sorted(
        ["README.md", "calibration.json", "card.json", "config.json", "item.json", "model.safetensors", "run"]
    )
    ready = load_checkpoint(out)
    day_t = np.arange(18000, 18400, 8).astype(np.int32)
    refl = np.random.default_rng(0).integers(500, 3000, (len(day_t), 6, 5, 5)).astype(np.int16)
    filled = ready.fill(refl, np.ones((len(day_t), 5, 5), bool), day_t, np.array([18103], np.int32))
    assert np.isfinite(filled.refl_qbyx).all() and (filled.p05_qbyx < filled.p95_qbyx).all()
    facts = json.loads((out / CARD_JSON).read_text())
    assert facts["options"]["steps"] == 4 and facts["report"]["out"] == "model" and facts["losses"]["held_out"]
    item = json.loads((out / "item.json").read_text())
    LocalValidator().item_validator().validate(item)
    assert extension_errors(item) == [] and item["id"] == "model"
    text = (out / CARD).read_text()
    assert "synthetic records" in text and "no real cube" in text and str(tmp_path) not in text


def test_the_card_tells_of_the_checkpoint_that_a_model_began_with(tmp_path: Path) -> None:
    store, first = tmp_path / "store", tmp_path / "first"
    write_store(store, (0,) * 16 + (1,) * 8)
    train(TrainPlan(held_out=6, patches=(store,), prior=False, options=OPTIONS), first)
    (begun,) = json.loads((first / CARD_JSON).read_text())["commands"]
    tuned = TrainPlan(held_out=6, init=str(first), options=OPTIONS)
    train(tuned, tmp_path / "tuned")
    facts = json.loads((tmp_path / "tuned" / CARD_JSON).read_text())
    assert facts["commands"][0] == begun and "--patches store" in begun and "--init first" in facts["commands"][1]
    item = json.loads((tmp_path / "tuned" / "item.json").read_text())
    assert item["properties"]["mlm:pretrained_source"] == "first" and item["properties"]["mlm:pretrained"]
    assert ["real patches of store" in line for line in facts["data"]] == [True, False]
    text = (tmp_path / "tuned" / CARD).read_text()
    assert all(f"    {command}" in text for command in facts["commands"]) and "no real cube" not in text
    (first / CARD_JSON).unlink()
    train(tuned, tmp_path / "again")
    assert "what the checkpoint first was made from" in (tmp_path / "again" / CARD).read_text()


def test_the_prior_is_one_part_all_kinds_of_gaps_and_three_of_whole_dates_elsewhere() -> None:
    learn, held, _ = module._sets(TrainPlan(held_out=6, options=OPTIONS), 2)
    (mixed,) = learn.parts
    assert isinstance(mixed, Mixed) and len(learn) == 4 * 1000
    parts = [part for part in mixed.parts if isinstance(part, Examples)]
    sources = [part.patches.source for part in parts]
    assert [(one.size_px, one.first) for one in sources if isinstance(one, Prior)] == [
        (12, 0), (12, 1000), (12, 2000), (12, 3000)
    ]  # fmt: skip
    assert [part.cells for part in parts] == [8, 3, 3, 3]
    assert parts[0].patches.design == DESIGN and all(part.patches.design == WHOLE for part in parts[1:])
    assert [mixed[n]["truth"].shape[-1] for n in range(4)] == [SKIES] * 4
    assert isinstance(held.parts[0], Examples) and held.parts[0].patches.design == DESIGN


def test_a_longer_run_goes_on_and_other_options_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "model"
    train(TrainPlan(held_out=6, options=replace(OPTIONS, minutes=1e-6)), out)
    report = train(TrainPlan(held_out=6, options=OPTIONS), out)
    assert report.steps == 4
    with pytest.raises(InputError, match="batch was 3 and is 2"):
        train(TrainPlan(held_out=6, options=replace(OPTIONS, batch=2)), out)


def test_patches_are_learned_from_and_a_store_without_validation_is_not(tmp_path: Path) -> None:
    store = tmp_path / "store"
    write_store(store, (0,) * 16 + (1,) * 8)
    plan = TrainPlan(held_out=6, prior=False, patches=(store,), options=OPTIONS)
    report = train(plan, tmp_path / "model")
    assert report.steps == 4 and "store" in (tmp_path / "model" / CARD).read_text()
    begun = replace(plan, init=str(tmp_path / "model"))
    assert train(begun, tmp_path / "tuned").parameters == report.parameters
    write_store(tmp_path / "lone", (0,) * 8)
    with pytest.raises(InputError, match="no validation patches"):
        train(replace(plan, patches=(tmp_path / "lone",)), tmp_path / "none")
    with pytest.raises(InputError, match="nothing to learn from"):
        train(TrainPlan(held_out=6, prior=False), tmp_path / "none")
    with pytest.raises(InputError, match="no size 'huge'"):
        train(TrainPlan(held_out=6, size="huge"), tmp_path / "none")


def test_what_is_kept_of_the_given_weights_is_in_the_mean(tmp_path: Path) -> None:
    def weights(name: str) -> dict[str, torch.Tensor]:
        return load_file(tmp_path / name / "model.safetensors")

    train(TrainPlan(held_out=6, options=OPTIONS), tmp_path / "given")
    tuned = TrainPlan(held_out=6, init=str(tmp_path / "given"), options=replace(OPTIONS, seed=3))
    train(tuned, tmp_path / "tuned")
    train(replace(tuned, keep=0.25), tmp_path / "mean")
    given, after, mean = weights("given"), weights("tuned"), weights("mean")
    assert any((given[name] != after[name]).any() for name in given)
    for name in given:
        torch.testing.assert_close(mean[name], 0.25 * given[name] + 0.75 * after[name])
    assert "--keep 0.25" in (tmp_path / "mean" / CARD).read_text()
    with pytest.raises(InputError, match="1 of the given weights cannot be kept"):
        train(replace(tuned, keep=1.0), tmp_path / "none")
    with pytest.raises(InputError, match="of the given weights cannot be kept"):
        train(TrainPlan(held_out=6, keep=0.5, options=OPTIONS), tmp_path / "none")


def test_a_gpt2_gives_its_layers(tmp_path: Path) -> None:
    theirs = GPT2Model(GPT2Config(n_embd=16, n_layer=2, n_head=2, vocab_size=5, n_positions=8))
    theirs.save_pretrained(tmp_path / "gpt2")
    plan = TrainPlan(held_out=6, backbone="gpt2", gpt2=str(tmp_path / "gpt2"), options=OPTIONS)
    model = module._model(plan)
    ours, given = model.backbone.state_dict(), theirs.state_dict()
    assert all((ours[name] == given[name]).all() for name in ours if not name.startswith(("wte", "wpe")))
    wide = GPT2Model(GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=5, n_positions=8))
    wide.save_pretrained(tmp_path / "wide")
    with pytest.raises(InputError, match="n_embd is 32, and 16"):
        module._model(replace(plan, gpt2=str(tmp_path / "wide")))
    with pytest.raises(InputError, match="takes no weights"):
        module._model(replace(plan, backbone="llama"))


def test_the_verb_says_what_came_of_it(tmp_path: Path) -> None:
    given = [
        "train",
        "--out",
        str(tmp_path / "m"),
        "--steps",
        "2",
        "--batch",
        "2",
        "--every",
        "2",
        "--optimizer",
        "sophia",
        "--held-out",
        "6",
    ]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    assert "2 steps" in done.output and f"anydate:{tmp_path / 'm'}" in done.output


def test_a_given_checkpoint_learns_for_shorter_and_with_smaller_steps() -> None:
    assert default_pace("adamw", begun=False) == (None, 4000, 200)
    assert default_pace("adamw", begun=True) == (pytest.approx(1e-4), 250, 25)
    assert default_pace("sgd", begun=True)[0] is None  # refused where options are made
