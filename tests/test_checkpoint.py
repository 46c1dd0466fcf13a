"""A checkpoint fills as the classical fill does: what was seen, where values come from, in any order."""

import json
import os
from dataclasses import asdict, fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from shaken import cube, shaken
from transformers import GPT2Config, GPT2Model

from vsat.core.fill import NONE, OBSERVED, PRIOR, Filled, fill
from vsat.errors import InputError
from vsat.hls import BANDS, FILL, SCALE
from vsat.model import CALIBRATION, WEIGHTS, predict
from vsat.model.checkpoint import Checkpoint, load_checkpoint
from vsat.model.rehearsal import Stretch, views_of

ARRAYS = [field.name for field in fields(Filled) if field.name != "spread"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("anydate")
    shaken().save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def checkpoint(folder: Path) -> Checkpoint:
    return load_checkpoint(folder, device="cpu")


def small_cube(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """With two looks on one day, a pixel without a look, and one with two."""
    refl, clear, day = cube(seed, repeats=True)
    clear[:, 1, 2] = clear[2:, 3, 3] = False
    clear[:2, 3, 3] = True
    refl = np.where(clear[:, None], np.where(refl == FILL, 1400, refl), FILL).astype(np.int16)
    return refl, clear, day


def queries(day: np.ndarray) -> np.ndarray:
    """Days with looks, days without, and one that is far from all, in no order."""
    return np.array([day[7], day[0] - 9, day[-1] + 400, day[3], day[3] + 1, day[0] + 80], np.int32)


@pytest.fixture(scope="module")
def both(checkpoint: Checkpoint) -> tuple[Filled, Filled]:
    """The model's and the classical fill of one cube."""
    refl, clear, day = small_cube()
    return checkpoint.fill(refl, clear, day, queries(day)), fill(refl, clear, day, queries(day), method="nearest")


def test_origin_age_and_source_are_the_classical_fill_s(both: tuple[Filled, Filled]) -> None:
    ours, theirs = both
    for name in ("origin_qyx", "age_qlyx", "source_qyx"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    assert {OBSERVED, PRIOR, NONE} < set(ours.origin_qyx.ravel().tolist())
    for name in ARRAYS:
        one, other = getattr(ours, name), getattr(theirs, name)
        assert one.dtype == other.dtype and one.shape == other.shape, name
    assert ours.spread is None


def test_a_clear_look_passes_through_bit_for_bit(both: tuple[Filled, Filled]) -> None:
    refl, _, _ = small_cube()
    ours, theirs = both
    seen = ours.origin_qyx == OBSERVED
    assert seen.any()
    for name in ("refl_qbyx", "sd_qbyx", "p05_qbyx", "p25_qbyx", "p75_qbyx", "p95_qbyx"):
        one, other = (np.moveaxis(getattr(made, name), 1, -1)[seen] for made in (ours, theirs))
        np.testing.assert_array_equal(one, other)
    q, y, x = np.nonzero(seen)
    wanted = refl[ours.source_qyx[q, y, x], :, y, x].astype(np.float32) * np.float32(SCALE)
    np.testing.assert_array_equal(ours.refl_qbyx[q, :, y, x], wanted)


def test_nothing_is_said_of_pixels_never_seen_and_quantiles_are_ordered(both: tuple[Filled, Filled]) -> None:
    ours = both[0]
    none = ours.origin_qyx == NONE
    assert (none == none[0]).all() and none[0].sum() == 1
    order = [ours.p05_qbyx, ours.p25_qbyx, ours.refl_qbyx, ours.p75_qbyx, ours.p95_qbyx]
    for field in (*order, ours.sd_qbyx):
        np.testing.assert_array_equal(np.isnan(field), np.broadcast_to(none[:, None], field.shape))
    assert all((high >= low)[~np.isnan(high)].all() for low, high in pairwise(order))
    guessed = (ours.origin_qyx != OBSERVED) & ~none
    assert (np.moveaxis(ours.sd_qbyx, 1, -1)[guessed] > 0).all()


def test_queries_come_in_any_order_and_more_than_once(checkpoint: Checkpoint, both: tuple[Filled, Filled]) -> None:
    refl, clear, day = small_cube()
    order = np.array([5, 0, 0, 3, 1, 4, 2])
    other = checkpoint.fill(refl, clear, day, queries(day)[order])
    for name in ARRAYS:
        assert getattr(other, name).tobytes() == getattr(both[0], name)[order].tobytes()


def test_what_rests_on_nothing_near_is_wide(checkpoint: Checkpoint, both: tuple[Filled, Filled]) -> None:
    refl, clear, day = small_cube()
    ready = checkpoint.calibrated(views_of(refl, clear), day)
    lone = both[0].origin_qyx == PRIOR
    assert lone[2].sum() == 29 and lone[:, 3, 3].all()  # 400 days from any look; a pixel with two looks
    low, middle, high, sd = (
        np.moveaxis(getattr(both[0], name), 1, -1)[lone] for name in ("p05_qbyx", "refl_qbyx", "p95_qbyx", "sd_qbyx")
    )
    climate = np.array(ready.climate_b)
    assert (sd >= climate * 0.999).all()
    assert (middle - low >= 1.64 * climate).all() and (high - middle >= 1.64 * climate).all()
    values = np.concatenate([refl[:, b][clear] for b in range(6)]).reshape(6, -1) * SCALE
    low_b, high_b = np.quantile(values, (0.05, 0.95), axis=1)
    np.testing.assert_allclose(climate, np.maximum((high_b - low_b) / 3.29, 0.02), rtol=1e-6)


def test_hidden_values_are_never_used_and_inputs_are_left_alone(
    checkpoint: Checkpoint, both: tuple[Filled, Filled]
) -> None:
    refl, clear, day = small_cube()
    noise = np.random.default_rng(0).integers(0, 9000, refl.shape)
    other = np.where(clear[:, None], refl, noise).astype(np.int16)
    kept = other.copy(), clear.copy()
    made = checkpoint.fill(other, clear, day, queries(day))
    for name in ARRAYS:
        assert getattr(made, name).tobytes() == getattr(both[0], name).tobytes()
    np.testing.assert_array_equal(other, kept[0])
    np.testing.assert_array_equal(clear, kept[1])


def test_a_part_of_the_bands_in_windows(checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "WINDOW_PX", 8)
    monkeypatch.setattr(predict, "OVERLAP_PX", 3)
    refl, clear, day = cube(3, height=13, width=6, bands=2)
    asked = queries(day)[:3]
    made = checkpoint.fill(refl, clear, day, asked, bands=("red", "swir1"), sensor_t=np.zeros(len(day), np.uint8))
    classical = fill(refl, clear, day, asked, method="nearest")
    assert made.refl_qbyx.shape == (3, 2, 13, 6)
    for name in ("origin_qyx", "age_qlyx", "source_qyx"):
        np.testing.assert_array_equal(getattr(made, name), getattr(classical, name))
    seen = made.origin_qyx == OBSERVED
    np.testing.assert_array_equal(np.moveaxis(made.p05_qbyx, 1, -1)[seen], np.moveaxis(classical.p05_qbyx, 1, -1)[seen])


@pytest.mark.parametrize("looks", [1, 3])
def test_next_to_nothing(checkpoint: Checkpoint, looks: int) -> None:
    refl, day = np.full((looks, 6, 1, 1), 2000, np.int16), np.arange(looks, dtype=np.int32) * 8
    made = checkpoint.fill(refl, np.ones((looks, 1, 1), bool), day, np.array([4, 400], np.int32))
    assert np.isfinite(made.refl_qbyx).all() and (made.sd_qbyx > 0).all() and (made.origin_qyx[1] == PRIOR).all()


@pytest.mark.parametrize("looks", [0, 2])
def test_without_a_clear_look_there_is_nothing(checkpoint: Checkpoint, looks: int) -> None:
    refl, day = np.full((looks, 6, 2, 2), FILL, np.int16), np.arange(looks, dtype=np.int32)
    made = checkpoint.fill(refl, np.zeros((looks, 2, 2), bool), day, np.array([4], np.int32))
    assert np.isnan(made.refl_qbyx).all() and (made.origin_qyx == NONE).all() and (made.source_qyx == -1).all()


# -- loading


def test_without_a_calibration_nothing_is_stretched(folder: Path, checkpoint: Checkpoint) -> None:
    assert not (folder / CALIBRATION).exists()
    assert checkpoint.stretch == Stretch.none() and checkpoint.name == folder.name
    assert not checkpoint.model.training and len(checkpoint.climate_b) == len(BANDS)


def test_a_calibration_is_read_and_used(tmp_path: Path) -> None:
    shaken().save_pretrained(tmp_path)
    known = replace(Stretch.none(), factors=((((1.5, 2.5),) * 3,) * 6,) * 2, dates=((9,) * 3,) * 2)
    (tmp_path / CALIBRATION).write_text(json.dumps(asdict(known)))
    made = load_checkpoint(tmp_path, device="cpu")
    assert made.stretch == known
    refl, clear, day = small_cube()
    one, two = (
        replace(made, stretch=stretch).fill(refl[:3], clear[:3], day[:3], queries(day)[3:5])
        for stretch in (Stretch.none(), known)
    )
    far = (one.origin_qyx != OBSERVED) & (one.origin_qyx != NONE) & (one.origin_qyx != PRIOR)
    np.testing.assert_array_equal(one.refl_qbyx, two.refl_qbyx)
    wide = [np.moveaxis(each.p95_qbyx - each.refl_qbyx, 1, -1)[far] for each in (one, two)]
    assert not far.any() or (wide[1] > wide[0]).all()
    assert (two.sd_qbyx >= one.sd_qbyx)[~np.isnan(one.sd_qbyx)].all()


def test_a_checkpoint_is_read_once_and_again_when_it_has_changed(tmp_path: Path) -> None:
    shaken().save_pretrained(tmp_path)
    first = load_checkpoint(tmp_path, device="cpu")
    assert load_checkpoint(str(tmp_path), device="cpu") is first
    shaken(seed=1).save_pretrained(tmp_path)
    os.utime(tmp_path / WEIGHTS, ns=(1, 10**18))
    second = load_checkpoint(tmp_path, device="cpu")
    assert second is not first
    ours, theirs = (one.model.state_dict() for one in (second, first))
    assert any(not ours[name].equal(theirs[name]) for name in ours)


def failing(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_checkpoint(path, device="cpu")
    assert caught.value.place == str(path) and "vsat train" in caught.value.next_step
    return caught.value.problem


def test_a_missing_folder_is_named_with_what_to_do(tmp_path: Path) -> None:
    assert "no any-date checkpoint" in failing(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    assert "no any-date checkpoint" in failing(tmp_path / "empty")


def test_another_kind_of_model_is_none_of_this_kind(tmp_path: Path) -> None:
    """Its weights would be passed over, and random ones would fill."""
    config = GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=8, n_positions=8, bos_token_id=0, eos_token_id=0)
    GPT2Model(config).save_pretrained(tmp_path)
    assert "no any-date checkpoint" in failing(tmp_path)


def test_weights_that_are_cut_are_none(tmp_path: Path) -> None:
    shaken().save_pretrained(tmp_path)
    whole = (tmp_path / WEIGHTS).read_bytes()
    (tmp_path / WEIGHTS).write_bytes(whole[: len(whole) // 2])
    assert "no any-date checkpoint" in failing(tmp_path)
