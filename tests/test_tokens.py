"""Numbers as features, and what of the evidence is put into a token."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from shaken import SIX, cube, evidence_of

from vsat.core.evidence import Evidence, gather_evidence
from vsat.hls import FILL, SCALE
from vsat.model.predict import cells_of
from vsat.model.tokens import BANDS, BINS, HIGH, LOW, OF_QUERIES, STEP, WAVES, Numbers, gather_tokens, only_asked

FIXED = 1 + 2 * WAVES
EVERYWHERE = torch.linspace(LOW, HIGH, 4001)


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def test_asinh_numbers_are_continuous() -> None:
    found = Numbers("asinh")(EVERYWHERE).detach()
    assert found.shape == (4001, Numbers("asinh").width)
    # No feature jumps: a step of 0.0003 moves the coordinate by 0.0022 at most, a wave of 8 pi times that.
    assert found.diff(dim=0).abs().max() < 0.08


def test_asinh_numbers_are_a_monotone_coordinate_by_hand() -> None:
    coordinate = Numbers("asinh")(EVERYWHERE)[:, 0]
    assert (coordinate.diff() > 0).all()
    torch.testing.assert_close(coordinate[[0, -1]], torch.tensor([-1.0, 1.0]))
    low, high = math.asinh(LOW / STEP), math.asinh(HIGH / STEP)
    middle = STEP * math.sinh((low + high) / 2)
    torch.testing.assert_close(Numbers("asinh")(torch.tensor(middle))[0], torch.tensor(0.0), atol=1e-6, rtol=0)


def test_asinh_s_geometry_is_fixed_and_only_the_rest_is_learned() -> None:
    one, other = Numbers("asinh"), Numbers("asinh")
    with torch.no_grad():
        other.table.weight += 1
    torch.testing.assert_close(one(EVERYWHERE)[:, :FIXED], other(EVERYWHERE)[:, :FIXED], rtol=0, atol=0)
    assert (one(EVERYWHERE)[:, FIXED:] != other(EVERYWHERE)[:, FIXED:]).all()
    one(EVERYWHERE)[:, :FIXED].sum().backward()
    assert one.table.weight.grad is None or not one.table.weight.grad.any()


def test_a_bin_s_value_has_the_bin_s_learned_vector() -> None:
    made = Numbers("asinh")
    low, high = math.asinh(LOW / STEP), math.asinh(HIGH / STEP)
    edges = STEP * torch.sinh(torch.linspace(low, high, BINS, dtype=torch.float64)).float()
    torch.testing.assert_close(made(edges)[:, FIXED:], made.table.weight, atol=1e-4, rtol=0)


@pytest.mark.parametrize("at", [0.0, 0.03, 0.2, 0.9])
def test_near_values_have_near_features(at: float) -> None:
    made = Numbers("asinh")
    values = at + torch.tensor([0.0, 0.0005, 0.003, 0.02])
    far = (made(values) - made(values[:1])).norm(dim=-1)
    assert far[0] == 0 and far[1] < 0.35 * far[2] and far[2] < far[3]
    # The same step says more where reflectance is small.
    step = torch.tensor([0.01, 0.015, 0.8, 0.805])
    assert (made(step)[1] - made(step)[0]).norm() > 3 * (made(step)[3] - made(step)[2]).norm()


def test_values_beyond_the_ends_are_as_on_them() -> None:
    made = Numbers("asinh")
    beyond, on = torch.tensor([-3.0, 1.2001, 40.0]), torch.tensor([LOW, HIGH, HIGH])
    torch.testing.assert_close(made(beyond), made(on), rtol=0, atol=0)


def test_digits_are_the_regression_transformer_s_encoding_by_hand() -> None:
    """Born & Manica (2023), eq. 1: (-1)^j v 10^p / (j + 1); of 0.1234 the digit 1 stands at p = -1."""
    made = Numbers("digits", learned=4)
    with torch.no_grad():
        made.table.weight.zero_()
    wanted = [
        [0.1, -0.1 / 2, 0.1 / 3, -0.1 / 4],
        [0.02, -0.02 / 2, 0.02 / 3, -0.02 / 4],
        [0.003, -0.003 / 2, 0.003 / 3, -0.003 / 4],
        [0.0004, -0.0004 / 2, 0.0004 / 3, -0.0004 / 4],
    ]
    torch.testing.assert_close(made(torch.tensor(0.1234)), torch.tensor(wanted).flatten())
    torch.testing.assert_close(made(torch.tensor(0.9007))[[0, 4, 8, 12]], torch.tensor([0.9, 0.0, 0.0, 0.0007]))


def test_each_digit_and_place_has_a_learned_vector_of_its_own() -> None:
    made = Numbers("digits")
    plain, other = made(torch.tensor(0.1134)), Numbers("digits")
    other.load_state_dict(made.state_dict())
    with torch.no_grad():
        other.table.weight[10 + 1] += 1  # digit 1, second place
    moved = (other(torch.tensor(0.1134)) != plain).view(4, -1)
    assert moved.all(1).tolist() == [False, True, False, False] and moved.any(1).sum() == 1
    assert torch.equal(made(torch.tensor(-0.5)), made(torch.tensor(0.0)))
    assert torch.equal(made(torch.tensor(1.5)), made(torch.tensor(0.9999)))


def test_plain_numbers_are_the_numbers() -> None:
    values = torch.rand(3, 2)
    assert torch.equal(Numbers("plain")(values), values[..., None])


# -- gather_tokens


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(one[k].tobytes() == other[k].tobytes() for k in one)


def test_bands_stand_in_their_slots() -> None:
    refl, clear, day = cube(1, bands=3)
    slot_b = np.array([1, 3, 4])
    evidence = gather_evidence(refl, clear, day, day[[2]])
    made = gather_tokens(evidence, np.arange(30)[:, None], slot_b)
    assert (made["has"] == np.isin(SIX, slot_b)).all()
    absent = np.setdiff1d(SIX, slot_b)
    for n in range(30):
        seen = clear[:, n // 5, n % 5]
        wanted = refl[seen][..., n // 5, n % 5] * np.float32(SCALE)
        np.testing.assert_array_equal(made["value"][n, : seen.sum(), 0][:, slot_b], wanted)
        np.testing.assert_allclose(made["base"][n, 0, 0, slot_b], evidence.base_qbyx[0, :, n // 5, n % 5], rtol=1e-6)
    for name in ("value", "base"):
        assert (made[name][..., absent] == 0).all()
    for name in ("look", "query"):
        assert (made[name][..., absent] == 0).all() and np.isfinite(made[name]).all()
    assert (made["scale"] > 0).all()
    np.testing.assert_allclose(
        made["scale"][:, 0, 0, slot_b].T[evidence.error_qbyx[0].reshape(3, -1) == 0],
        evidence.scale_byx.reshape(3, -1)[evidence.error_qbyx[0].reshape(3, -1) == 0],
        rtol=1e-6,
    )


def test_six_bands_are_the_same_with_and_without_slots() -> None:
    evidence = evidence_of(2)
    cells = np.arange(30)[:, None]
    whole = gather_tokens(evidence, cells, SIX)
    backwards = np.array([5, 4, 3, 2, 1, 0])
    turned = {
        f.name: np.ascontiguousarray(np.flip(array, axis=array.ndim - 3))
        for f in fields(Evidence)
        if "b" in f.name.split("_")[-1] and (array := getattr(evidence, f.name)).ndim >= 3
    }
    other = gather_tokens(replace(evidence, **turned), cells, backwards)
    for name, array in whole.items():
        np.testing.assert_allclose(other[name], array, atol=1e-6, err_msg=name)


def test_what_is_not_clear_is_hidden() -> None:
    refl, clear, day = cube(3, repeats=True)
    other = np.where(clear[:, None], refl, np.random.default_rng(0).integers(-500, 9000, refl.shape)).astype(np.int16)
    query = np.array([day[0] - 3, day[6], day[-1]], np.int32)
    one, two = (
        gather_tokens(gather_evidence(values, clear, day, query), np.arange(30)[:, None], SIX)
        for values in (refl, np.where(clear[:, None], refl, FILL).astype(np.int16))
    )
    assert same(one, two)
    assert same(one, gather_tokens(gather_evidence(other, clear, day, query), np.arange(30)[:, None], SIX))


@pytest.mark.parametrize("side", [1, 2, 4])
def test_a_sequence_holds_its_own_clear_looks_in_order(side: int) -> None:
    evidence = evidence_of(4)
    cells = cells_of(6, 5, side)
    made = gather_tokens(evidence, cells, SIX)
    clear_tp = evidence.clear_tyx.reshape(-1, 30)
    longest = 0
    for n, cell in enumerate(cells):
        seen_tp = clear_tp[:, np.maximum(cell, 0)] & (cell >= 0)
        at = np.flatnonzero(seen_tp.any(axis=1))
        longest = max(longest, at.size)
        assert (made["day_t"][n, : at.size] == evidence.day_t[at] - evidence.day_t[0]).all()
        assert (made["clear"][n, : at.size] == seen_tp[at]).all() and not made["clear"][n, at.size :].any()
        assert (made["value"][n][~made["clear"][n]] == 0).all()
        own = evidence.refl_tbyx.reshape(-1, BANDS, 30)[at][:, :, np.maximum(cell, 0)].transpose(0, 2, 1)
        np.testing.assert_array_equal(made["value"][n, : at.size], np.where(seen_tp[at][..., None], own, 0))
    assert made["value"].shape[:2] == (len(cells), longest)


def test_beyond_the_window_s_edge_there_is_nothing() -> None:
    """Pixels of a square that hangs over the edge hold nothing of another pixel."""
    evidence = evidence_of(5)
    far = {
        f.name: array
        for f in fields(Evidence)
        if f.name.endswith("yx") and (array := getattr(evidence, f.name).copy()).dtype == np.float32
    }
    for array in far.values():
        array[..., 0, 0] += 0.07
    cells = cells_of(6, 5, 4)
    over = (cells < 0).any(axis=1) & ~(cells == 0).any(axis=1)
    assert over.sum() == 3
    one, two = (gather_tokens(found, cells[over], SIX) for found in (evidence, replace(evidence, **far)))
    assert same(one, two)


def test_sensors_are_those_of_a_day_or_unknown() -> None:
    refl, clear, day = cube(6, repeats=True)
    clear[:] = True
    refl = np.where(refl == FILL, 1500, refl).astype(np.int16)
    sensor = np.array([0, 1, 255, 7] * 4, np.uint8)[: len(day)]
    query = np.array([day[1], day[1] + 1000], np.int32)
    evidence = gather_evidence(refl, clear, day, query, sensor_t=sensor)
    kinds = gather_tokens(evidence, np.array([[0]]), SIX)
    unique, first, count = np.unique(day, return_index=True, return_counts=True)
    wanted = np.where(count > 1, 2, np.minimum(sensor[first], 2))
    assert (kinds["look_shared"][0, :, 8:11].argmax(-1) == wanted).all() and (count > 1).any()
    assert kinds["query_shared"][0, :, 8:11].argmax(-1).tolist() == [wanted[unique == day[1]][0], 2]
    none = gather_tokens(gather_evidence(refl, clear, day, query), np.array([[0]]), SIX)
    assert (none["look_shared"][0, :, 8:11].argmax(-1) == 2).all()


def test_the_season_comes_round() -> None:
    refl, clear, day = cube(7)
    query = np.array([day[0], day[0] + 1461], np.int32)  # four years of 365.25 days
    made = gather_tokens(gather_evidence(refl, clear, day, query), np.array([[0]]), SIX)["query_shared"][0]
    np.testing.assert_allclose(made[0, :8], made[1, :8], atol=1e-5)
    assert np.abs(made[0, :8]).max() > 0.5


def test_only_what_is_asked_comes_first_and_in_order() -> None:
    made = gather_tokens(evidence_of(8), np.arange(4)[:, None], SIX)
    asked = np.zeros(made["base"].shape[:2], bool)
    asked[0, [1, 4]] = asked[1, [0, 2, 3]] = asked[2, 5] = True
    short = only_asked(made, asked)
    for name, array in made.items():
        if name not in OF_QUERIES:
            assert short[name] is array
            continue
        assert short[name].shape[1] == 3
        for n in range(4):
            at = np.flatnonzero(asked[n])
            np.testing.assert_array_equal(short[name][n, : at.size], array[n, at])
