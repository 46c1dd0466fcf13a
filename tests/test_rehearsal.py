"""Stretches that make intervals right, found on looks that were hidden."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm
from shaken import SIX, cube, shaken

from vsat.core.gaps import draw_gaps
from vsat.model import rehearsal
from vsat.model.anydate import AnyDate
from vsat.model.predict import LEVELS, Answer
from vsat.model.rehearsal import (
    DESIGNS,
    FEW_DATES,
    GAP_DAYS,
    LIMITS,
    Rehearsed,
    Stretch,
    rehearse,
    scenes,
    stretch_of,
    views_of,
)

NORMAL = norm.ppf(LEVELS)
SD = 0.02


@pytest.fixture(scope="module")
def model() -> AnyDate:
    return shaken()


def planted(
    narrow: float, *, dates: int = 300, each: int = 20, gap: float = 3.0, scene: bool = False, seed: int = 0
) -> Rehearsed:
    """Normal errors, and intervals that are too narrow by a factor."""
    rng, count = np.random.default_rng(seed), dates * each
    middle = rng.uniform(0.05, 0.4, (count, 6))
    said = middle[:, None] + NORMAL[:, None] * SD / narrow
    truth = middle + SD * rng.standard_normal((count, 6))
    days = np.repeat(np.arange(dates), each)
    return Rehearsed(truth, said, np.full(count, gap), np.full(count, scene), days)


def joined(*parts: Rehearsed) -> Rehearsed:
    return Rehearsed(*(np.concatenate(one) for one in zip(*(vars(part).values() for part in parts), strict=True)))


def covered(found: Rehearsed, stretch: Stretch) -> tuple[float, float]:
    """Share of truths within the 50 and 90 % intervals, once stretched."""
    said = Answer(
        found.quantile_rlb.transpose(1, 2, 0)[None, ..., None].astype(np.float32),
        np.zeros((1, 6, len(found.gap_r), 1), np.float32),
    )
    made = stretch.apply(said, SIX, found.gap_r[None, :, None], found.scene_r[:1]).quantile_qlbyx[0, ..., 0]
    true = found.truth_rb.T
    return tuple(float(((made[low] <= true) & (true <= made[high])).mean()) for low, high in ((1, 3), (0, 4)))  # type: ignore[return-value]


@pytest.mark.parametrize("narrow", [0.5, 1.0, 2.0])
def test_planted_errors_get_the_coverage_that_was_promised(narrow: float) -> None:
    found = planted(narrow)
    made = stretch_of(found, SIX, Stretch.none())
    np.testing.assert_allclose(np.array(made.factors)[0, :, 0], narrow, rtol=0.08)
    half, most = covered(planted(narrow, seed=1), made)
    assert abs(half - 0.5) < 0.03 and abs(most - 0.9) < 0.02
    before = covered(planted(narrow, seed=1), Stretch.none())
    np.testing.assert_allclose(before, [2 * norm.cdf(NORMAL[level] / narrow) - 1 for level in (3, 4)], atol=0.01)


def test_dates_with_and_without_a_scene_are_kept_apart() -> None:
    found = joined(planted(2.0, scene=True), planted(0.5, scene=False, seed=2))
    factors = np.array(stretch_of(found, SIX, Stretch.none()).factors)
    np.testing.assert_allclose(factors[0, :, 0], 0.5, rtol=0.08)
    np.testing.assert_allclose(factors[1, :, 0], 2.0, rtol=0.08)
    lone = np.array(stretch_of(planted(2.0, scene=True), SIX, Stretch.none()).factors)
    assert (lone[0] == 1).all() and (lone[1] > 1.7).all()


def test_gaps_are_kept_apart_and_one_without_dates_takes_the_place_s() -> None:
    found = joined(planted(2.0, gap=GAP_DAYS[0] - 1), planted(0.5, gap=GAP_DAYS[1] + 1, seed=3))
    made = stretch_of(found, SIX, Stretch.none())
    factors = np.array(made.factors)[0]
    np.testing.assert_allclose(factors[:, 0], 2.0, rtol=0.08)
    np.testing.assert_allclose(factors[:, 2], 0.5, rtol=0.08)
    assert made.dates == ((300, 0, 300), (0, 0, 0))
    assert ((factors[:, 1] > 0.6) & (factors[:, 1] < 1.9)).all()


def test_bands_have_their_own_and_those_not_asked_for_keep_what_was_known() -> None:
    before = replace(Stretch.none(), factors=((((1.3, 1.4),) * 3,) * 6,) * 2)
    whole = planted(1.0)
    narrow = whole.quantile_rlb.copy()
    narrow[:, :, 1] = whole.quantile_rlb[:, 2:3, 1] + 0.5 * (narrow[:, :, 1] - whole.quantile_rlb[:, 2:3, 1])
    found = replace(whole, truth_rb=whole.truth_rb[:, :2], quantile_rlb=narrow[:, :, :2])
    factors = np.array(stretch_of(found, np.array([4, 2]), before).factors)
    np.testing.assert_allclose(factors[0, 4, 0], 1.0, rtol=0.08)
    np.testing.assert_allclose(factors[0, 2, 0], 2.0, rtol=0.08)
    np.testing.assert_array_equal(factors[:, [0, 1, 3, 5]], np.broadcast_to((1.3, 1.4), (2, 4, 3, 2)))


@pytest.mark.parametrize("dates", [1, 2, 6, 60])
def test_few_dates_lean_on_what_was_known_by_hand(dates: int) -> None:
    """All scores are 2: own dates count for n / (n + FEW_DATES), for the gap and again for the place."""
    one = planted(1.0, dates=dates, each=3)
    middle = one.quantile_rlb[:, 2]
    said = middle[:, None] + np.array([-1.0, -1.0, 0.0, 1.0, 1.0])[:, None] * SD
    found = replace(one, truth_rb=middle + 2 * SD, quantile_rlb=said)
    before = replace(Stretch.none(), factors=((((0.5, 0.8),) * 3,) * 6,) * 2)
    factors = np.array(stretch_of(found, SIX, before).factors)[0, :, 0]
    trust = dates / (dates + FEW_DATES)
    for at, known in enumerate((0.5, 0.8)):
        wanted = 2 ** (1 - (1 - trust) ** 2) * known ** ((1 - trust) ** 2)
        np.testing.assert_allclose(factors[:, at], wanted, rtol=1e-6)


def test_few_pixels_of_many_cloudy_dates_do_not_decide() -> None:
    """60 dates of 100 pixels are right, 60 of one pixel are far off."""
    good, odd = planted(1.0, dates=60, each=100), planted(4.0, dates=60, each=1, seed=4)
    found = joined(good, replace(odd, date_r=odd.date_r + 60))
    np.testing.assert_allclose(np.array(stretch_of(found, SIX, Stretch.none()).factors)[0, :, 0], 1.0, rtol=0.15)


@pytest.mark.parametrize(("narrow", "limit"), [(0.01, LIMITS[0]), (50.0, LIMITS[1])])
def test_stretches_have_limits(narrow: float, limit: float) -> None:
    factors = np.array(stretch_of(planted(narrow), SIX, Stretch.none()).factors)
    np.testing.assert_allclose(factors[0, :, 0], limit)


def test_without_anything_rehearsed_what_was_known_stays() -> None:
    before = replace(Stretch.none(), factors=((((1.3, 1.4),) * 3,) * 6,) * 2)
    empty = Rehearsed(np.zeros((0, 6)), np.zeros((0, 5, 6)), np.zeros(0), np.zeros(0, bool), np.zeros(0, int))
    assert stretch_of(empty, SIX, before) == before


def test_a_stretch_comes_back_from_json() -> None:
    made = stretch_of(joined(planted(1.7), planted(0.8, scene=True)), SIX, Stretch.none())
    back = Stretch.from_json(json.loads(json.dumps(asdict(made))))
    assert back == made and hash(back) == hash(made)
    assert Stretch.from_json(json.loads(json.dumps(asdict(Stretch.none())))) == Stretch.none()


factor = st.floats(*LIMITS)


@settings(max_examples=60, deadline=None)
@given(half=factor, most=factor, seed=st.integers(0, 1000))
def test_stretched_quantiles_keep_their_order_and_their_median(half: float, most: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    quantile = np.sort(rng.normal(0.2, 0.1, (2, 5, 2, 3, 3)), axis=1).astype(np.float32)
    quantile[:, :, :, 0, 0] = np.nan
    sd = rng.random((2, 2, 3, 3)).astype(np.float32)
    made = Stretch(((((half, most),) * 3,) * 6,) * 2, ((0,) * 3,) * 2)
    gap = rng.choice((1.0, 10.0, 100.0, np.inf), (2, 3, 3))
    kept = quantile.copy()
    done = made.apply(Answer(quantile, sd), np.array([0, 3]), gap, np.array([True, False]))
    np.testing.assert_array_equal(quantile, kept)
    np.testing.assert_array_equal(done.quantile_qlbyx[:, 2], quantile[:, 2])
    assert (np.diff(done.quantile_qlbyx, axis=1)[..., 1:, 1:] >= 0).all()
    assert np.isnan(done.quantile_qlbyx[:, :, :, 0, 0]).all() and np.isfinite(done.quantile_qlbyx[..., 1:, 1:]).all()
    np.testing.assert_allclose(done.sd_qbyx, sd * np.float32(most), rtol=1e-5)


def test_a_stretch_finds_band_gap_and_kind_by_hand() -> None:
    table = 1 + np.arange(2 * 6 * 3 * 2).reshape(2, 6, 3, 2) / 100
    made = Stretch.from_json({"factors": table.tolist(), "dates": [[0] * 3] * 2})
    said = Answer(
        np.broadcast_to(np.array([-2.0, -1, 0, 1, 2], np.float32)[:, None, None, None], (2, 5, 1, 1, 3)).copy(),
        np.ones((2, 1, 1, 3), np.float32),
    )
    gap = np.array([[[1.0, 10.0, np.inf]]] * 2)
    done = made.apply(said, np.array([4]), gap, np.array([False, True]))
    for q, kind in enumerate((0, 1)):
        for g in range(3):
            np.testing.assert_allclose(done.quantile_qlbyx[q, 3, 0, 0, g], table[kind, 4, g, 0], rtol=1e-6)
            np.testing.assert_allclose(done.quantile_qlbyx[q, 0, 0, 0, g], -2 * table[kind, 4, g, 1], rtol=1e-6)
            np.testing.assert_allclose(done.sd_qbyx[q, 0, 0, g], table[kind, 4, g, 1], rtol=1e-6)


def test_no_stretch_leaves_all_as_it_was() -> None:
    quantile = np.sort(np.random.default_rng(0).random((1, 5, 6, 4, 4)), axis=1).astype(np.float32)
    said = Answer(quantile, np.ones((1, 6, 4, 4), np.float32))
    done = Stretch.none().apply(said, SIX, np.full((1, 4, 4), 5.0), np.array([True]))
    np.testing.assert_allclose(done.quantile_qlbyx, quantile, atol=1e-7)
    np.testing.assert_array_equal(done.sd_qbyx, said.sd_qbyx)


# -- rehearse


def one_view(seed: int = 0) -> tuple[NDArray[np.int16], NDArray[np.bool_], NDArray[np.int32]]:
    return cube(seed, looks=18, height=11, width=11)


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_hidden_values_are_never_used(model: AnyDate, n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rehearsal, "DESIGNS", (DESIGNS[n],))
    refl, clear, day = one_view()
    share = clear.mean(axis=(1, 2))
    clouds = ~clear[(share > 0.15) & (share < 0.85)]
    gaps = draw_gaps(np.random.default_rng(3), clear, day, design=DESIGNS[n], clouds_myx=clouds)
    hidden = clear & ~gaps.context_tyx
    assert hidden.any() and (hidden & gaps.target_tyx).any()
    other = np.where(hidden[:, None], refl + 1000, refl).astype(np.int16)
    one, two = (rehearse(model, [(values, clear)], day, slot_b=SIX, seed=3) for values in (refl, other))
    assert len(one.date_r) and one.quantile_rlb.tobytes() == two.quantile_rlb.tobytes()
    np.testing.assert_allclose(two.truth_rb, one.truth_rb + 0.1)
    for name in ("gap_r", "scene_r", "date_r"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert set(one.date_r) <= set(day[gaps.target_tyx.any(axis=(1, 2))])
    # Under a mask the day's other pixels stay; a hidden date has none, for its neighbours within a day go too.
    assert (one.scene_r == (n == 1)).all()


def test_all_designs_take_their_turn_and_views_too(model: AnyDate) -> None:
    views = [one_view()[:2], tuple(np.flip(array, -1) for array in one_view()[:2])]
    found = rehearse(model, views, one_view()[2], slot_b=SIX, seed=1)  # type: ignore[arg-type]
    assert found.scene_r.any() and not found.scene_r.all()
    assert found.truth_rb.shape == (len(found.date_r), 6) and found.quantile_rlb.shape == (len(found.date_r), 5, 6)
    assert np.isfinite(found.quantile_rlb).all() and np.isfinite(found.gap_r).all() and (found.gap_r > 0).all()
    assert (found.truth_rb > 0).all() and (np.diff(found.quantile_rlb, axis=1) >= 0).all()
    again = rehearse(model, views, one_view()[2], slot_b=SIX, seed=1)  # type: ignore[arg-type]
    assert all(a.tobytes() == b.tobytes() for a, b in zip(vars(found).values(), vars(again).values(), strict=True))


@pytest.mark.parametrize("looks", [0, 1, 2])
def test_too_few_looks_rehearse_nothing(model: AnyDate, looks: int) -> None:
    refl, clear, day = one_view()
    found = rehearse(model, [(refl[:looks], clear[:looks])], day[:looks], slot_b=SIX)
    assert found.truth_rb.shape == (0, 6) and found.quantile_rlb.shape == (0, 5, 6)
    assert stretch_of(found, SIX, Stretch.none()) == Stretch.none()


def test_scenes_are_days_on_which_something_clear_was_seen() -> None:
    clear = np.zeros((3, 2, 2), bool)
    clear[1, 0, 1] = clear[2] = True
    assert scenes(clear, np.array([5, 8, 9], np.int32), np.array([5, 6, 8, 9], np.int32)).tolist() == [
        False,
        False,
        True,
        True,
    ]


def test_views_of_a_large_cube_are_windows_of_it() -> None:
    clear = np.random.default_rng(0).random((2, 70, 40)) < 0.5
    refl = np.arange(2 * 70 * 40, dtype=np.int16).reshape(2, 1, 70, 40)
    found = views_of(refl, clear, seed=2)
    assert len(found) == rehearsal.VIEWS
    for values, seen in found:
        assert values.shape == (2, 1, 48, 40) and seen.shape == (2, 48, 40)
        y = int(values[0, 0, 0, 0]) // 40
        np.testing.assert_array_equal(values, refl[:, :, y : y + 48])
        np.testing.assert_array_equal(seen, clear[:, y : y + 48])
    assert views_of(refl[..., :48, :], clear[:, :48])[0][0].shape == (2, 1, 48, 40)
    assert len(views_of(refl[..., :48, :], clear[:, :48])) == 1
