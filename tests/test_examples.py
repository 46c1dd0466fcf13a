"""Examples: truths under several skies, real and synthetic ones in a batch, sets in turn."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from shaken import shaken

from vsat.core.gaps import GapDesign
from vsat.hls import FILL, SCALE
from vsat.io.patches import Patch
from vsat.model import examples as module
from vsat.model.dataset import PatchDataset, Sample
from vsat.model.examples import CROP_PX, DESIGN, SKIES, WHOLE, Example, Examples, Mixed, _under_other_skies, collate
from vsat.model.prior import Air, Prior
from vsat.model.tokens import SEASONS, SENSOR_KINDS

COUNT, SIZE = 8, 6


class Bare(Prior):
    """Patches of the prior as if they were real: nobody knows their ground."""

    def read(self, index: int) -> Patch:  # type: ignore[override]
        patch = super().read(index)
        return Patch(patch.refl_tbyx, patch.fmask_tyx, patch.day_t, patch.sensor_t)


def patches(kind: type[Prior] = Prior, design: GapDesign = DESIGN, size: int = SIZE) -> PatchDataset:
    return PatchDataset(kind(5, COUNT, size, most_looks=30), np.arange(COUNT), seed=2, design=design)


@pytest.fixture(scope="module")
def synthetic() -> list[Example]:
    made = Examples(patches(), cells=4)
    return [made[n] for n in range(COUNT)]


@pytest.fixture(scope="module")
def bare() -> list[Example]:
    made = Examples(patches(Bare), cells=4)
    return [made[n] for n in range(COUNT)]


def shown(sample: Sample, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Looks asked for, what they showed (n, q, p, 6, 1) in squares of two pixels, and the same under SKIES."""
    looks = np.flatnonzero(sample["target"].numpy().any(axis=(1, 2)))
    flat = rng.permutation(SIZE * SIZE).reshape(-1, 2)
    true = (
        sample["truth"].numpy()[looks].reshape(len(looks), 6, SIZE * SIZE)[..., flat].transpose(2, 0, 3, 1)[..., None]
    )
    once = np.where(true == FILL, 0, true * np.float32(SCALE)).astype(np.float32)
    return looks, once, _under_other_skies(rng, sample, looks, flat, once)


def test_the_first_sky_is_the_real_one_and_only_dates_hidden_whole_have_others() -> None:
    whole = partly = 0
    for design in (DESIGN, WHOLE):
        given = patches(design=design)
        for n in range(COUNT):
            sample = given[n]
            looks, once, found = shown(sample, np.random.default_rng(n))
            assert found.shape == (*once.shape[:-1], SKIES)
            assert np.array_equal(found[..., :1], once)
            for q, t in enumerate(looks):
                if sample["context"][t].any():
                    partly += 1
                    assert (found[:, q] == once[:, q]).all()
                else:
                    whole += 1
                    assert (found[:, q, ..., 1:] != once[:, q]).mean() > 0.99
                    assert (np.diff(found[:, q, ..., 1:], axis=-1) != 0).mean() > 0.99
    assert partly > 3 and whole > 15, (partly, whole)


def test_other_skies_are_over_the_ground_of_that_pixel_and_date() -> None:
    """Without air all that is seen is the ground, but for a look in fifty."""
    sizes = {one.name: 0.0 for one in fields(Air) if one.type == "float" or one.type is float}
    right = []
    for n in range(COUNT):
        sample = patches(design=WHOLE)[n]
        nothing = replace(sample["air"], sensor_b=np.ones(6), sensor_dark_b=np.zeros(6), **sizes)
        looks, _, found = shown(sample | {"air": nothing}, np.random.default_rng(n))
        flat = np.random.default_rng(n).permutation(SIZE * SIZE).reshape(-1, 2)
        for q, t in enumerate(looks):
            ground = sample["ground"][t].reshape(6, -1).numpy()[:, flat].transpose(1, 2, 0)
            off = np.abs(found[:, q, ..., 1:] - ground[..., None])
            right.append(off.max(axis=(0, 1, 2)) < 1e-5)
    assert np.mean(right) > 0.9


@pytest.mark.parametrize(("untold", "unasked", "looks", "queries"), [(1, 0, 0, 0), (0, 1, 1, 0), (0, 0, 1, 1)])
def test_sensors_may_be_unknown_of_all_or_of_the_dates_asked_for(
    monkeypatch: pytest.MonkeyPatch, untold: float, unasked: float, looks: int, queries: int
) -> None:
    monkeypatch.setattr(module, "DROP_SENSOR", untold)
    monkeypatch.setattr(module, "DROP_ASKED", unasked)
    unknown = 2 * SEASONS + SENSOR_KINDS - 1
    for drops in (True, False):
        made = Examples(patches(), cells=4, drops=drops)
        for one in (made[n] for n in range(COUNT)):
            told = [bool((one[name][..., unknown] == 0).any()) for name in ("look_shared", "query_shared")]
            assert told == ([bool(looks), bool(queries)] if drops else [True, True])


def test_knowing_the_ground_changes_nothing_but_other_skies(synthetic: list[Example], bare: list[Example]) -> None:
    more = 0
    for one, other in zip(synthetic, bare, strict=True):
        assert one.keys() == other.keys()
        assert one["truth"].shape == (*other["truth"].shape[:-1], SKIES) and other["truth"].shape[-1] == 1
        assert torch.equal(one["truth"][..., :1], other["truth"])
        assert all(torch.equal(one[name], other[name]) for name in one if name != "truth")
        more += bool((one["truth"][..., 1:] != other["truth"])[one["target"]].any())
    assert more > COUNT / 3


@torch.no_grad()
def test_a_real_patch_counts_beside_synthetic_ones_as_it_does_alone(
    synthetic: list[Example], bare: list[Example]
) -> None:
    model = shaken()
    real, others = bare[0], synthetic[1:3]
    alone = [model(**collate(part)) for part in ([real], others)]
    whole = collate([real, *others])
    together = model(**whole)
    assert whole["truth"].shape == (*whole["base"].shape, SKIES)
    assert int(together.count) == sum(int(one.count) for one in alone)
    wanted = sum(one.loss * one.count for one in alone) / together.count
    torch.testing.assert_close(together.loss, wanted, atol=1e-5, rtol=0)
    assert collate([real, bare[1]])["truth"].shape[-1] == 1


def test_a_large_synthetic_patch_is_cut_with_its_ground() -> None:
    made = Examples(patches(size=CROP_PX + 6), cells=2)
    sample = made.patches[0]
    cut = made._cropped(sample | {"ground": sample["truth"].float()}, np.random.default_rng(0))
    assert cut["truth"].shape[-2:] == (CROP_PX, CROP_PX) and cut["air"] is sample["air"]
    assert torch.equal(cut["ground"], cut["truth"].float())
    assert made[0]["truth"].shape[-1] == SKIES


class Row(Examples):
    """Numbers instead of examples."""

    def __init__(self, name: int, length: int) -> None:
        self.name, self.length, self.epoch = name, length, 0

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, item: int) -> Example:
        assert 0 <= item < self.length
        return {"at": torch.tensor([self.name, item])}

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch


def test_sets_of_sets_take_turns() -> None:
    rows = [Row(0, 3), Row(1, 4), Row(2, 2)]
    mixed = Mixed([rows[0], Mixed(rows[1:])])
    assert len(mixed) == 2 * 8
    found = [tuple(mixed[n]["at"].tolist()) for n in range(len(mixed))]
    assert found[::2] == [(0, n % 3) for n in range(8)]
    assert found[1::2] == [(1, 0), (2, 0), (1, 1), (2, 1), (1, 2), (2, 0), (1, 3), (2, 1)]
    mixed.set_epoch(7)
    assert [row.epoch for row in rows] == [7, 7, 7]
