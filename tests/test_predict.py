"""Windows, contexts and rows: the same answer however a cube is cut."""

import tracemalloc
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shaken import SIX, cube, shaken, untrained

from vsat.core.evidence import gather_evidence
from vsat.core.temporal import MEMBERS
from vsat.model import predict
from vsat.model.anydate import AnyDate
from vsat.model.checkpoint import load_checkpoint
from vsat.model.predict import LEVELS, Answer, Question, answer, answer_rows, cells_of, groups, lean, nearest, reached
from vsat.stages.models import SHIPPED

DAY = np.array([19010, 19040, 19041, 19075], np.int32)


@pytest.fixture(scope="module")
def model() -> AnyDate:
    return shaken()


@pytest.fixture(autouse=True)
def _exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """Single precision, whatever the machine has: a shaken model makes much of a bit."""
    monkeypatch.setattr(predict, "has_bfloat16", lambda _: False)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of 10 pixels that overlap by 4."""
    monkeypatch.setattr(predict, "WINDOW_PX", 10)
    monkeypatch.setattr(predict, "OVERLAP_PX", 4)


def same(one: Answer, other: Answer) -> bool:
    return one.quantile_qlbyx.tobytes() == other.quantile_qlbyx.tobytes() and (
        one.sd_qbyx.tobytes() == other.sd_qbyx.tobytes()
    )


def close(one: Answer, other: Answer, tolerance: float = 1e-5) -> None:
    np.testing.assert_allclose(one.quantile_qlbyx, other.quantile_qlbyx, atol=tolerance, rtol=0)
    np.testing.assert_allclose(one.sd_qbyx, other.sd_qbyx, atol=tolerance, rtol=0)


def test_half_precision_moves_the_shipped_model_by_less_than_a_step_of_the_product(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shipped = load_checkpoint(SHIPPED, device="cpu").model
    refl, clear, day = cube(2, height=12, width=12, looks=30)
    exact = answer(shipped, refl, clear, Question(day, DAY, SIX))
    monkeypatch.setattr(predict, "has_bfloat16", lambda _: True)
    quick = answer(shipped, refl, clear, Question(day, DAY, SIX))
    off = np.abs(quick.quantile_qlbyx - exact.quantile_qlbyx)
    assert 0 < np.nanmean(off) < 1e-4 and np.nanquantile(off, 0.99) < 1e-3


# -- windows


@settings(max_examples=150, deadline=None)
@given(size=st.integers(1, 1200))
def test_windows_cover_every_pixel_and_their_shares_have_no_jump(size: int) -> None:
    spans = predict._spans(size)
    weights = np.zeros((len(spans), size + 2))  # with a pixel outside on either side
    for n, (start, length) in enumerate(spans):
        assert start >= 0 and start + length <= size and length <= predict.WINDOW_PX
        weights[n, start + 1 : start + 1 + length] = predict._ramp(start, length, size)
    inside = weights[:, 1:-1]
    assert (inside.sum(axis=0) >= predict.OVERLAP_PX).all()
    assert all(low[0] < high[0] for low, high in pairwise(spans))
    share = inside / inside.sum(axis=0)
    assert np.abs(np.diff(share, axis=1)).max(initial=0) < 2 / predict.OVERLAP_PX
    np.testing.assert_allclose(share.sum(axis=0), 1)


def test_a_small_image_is_one_window_of_even_weight() -> None:
    assert predict._spans(128) == [(0, 128)]
    assert len(set(predict._ramp(0, 128, 128).tolist())) == 1
    assert predict._spans(129) == [(0, 71), (59, 70)]


@pytest.mark.usefixtures("small")
def test_the_median_of_an_untrained_model_knows_no_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """On days without a scene its base is each pixel's own: any seam would be one of the windows'."""
    monkeypatch.setattr(predict, "LEANS", {})  # how far these may draw it depends on the window's own scale
    refl, clear, day = cube(1, height=13, width=23)
    query = np.setdiff1d(DAY, day)[:2]
    cut = answer(untrained(), refl, clear, Question(day, query, SIX))
    monkeypatch.setattr(predict, "WINDOW_PX", 128)
    whole = answer(untrained(), refl, clear, Question(day, query, SIX))
    np.testing.assert_allclose(cut.quantile_qlbyx[:, 2], whole.quantile_qlbyx[:, 2], atol=2e-7, rtol=0)
    base = gather_evidence(refl, clear, day, query).base_qbyx
    np.testing.assert_allclose(whole.quantile_qlbyx[:, 2], np.where(clear.any(axis=0), base, np.nan), atol=2e-6)


@pytest.mark.usefixtures("small")
def test_a_cut_cube_has_no_seam(model: AnyDate) -> None:
    """Where windows meet, neighbours differ no more than elsewhere: all pixels have the same record."""
    refl, clear, day = cube(2, height=1, width=1)
    refl, clear = np.tile(refl, (1, 1, 7, 31)), np.tile(clear, (1, 7, 31))
    said = answer(model, refl, clear, Question(day, DAY, SIX)).quantile_qlbyx
    step = np.abs(np.diff(said, axis=-1)).max(axis=(0, 1, 2, 3))
    seams = sorted({edge for start, length in predict._spans(31) for edge in (start, start + length)} - {0, 31})
    assert len(seams) == 8
    rest = np.setdiff1d(np.arange(1, 31), seams)
    assert step[np.array(seams) - 1].max() < 2 * step[rest - 1].max() + 1e-6


@pytest.mark.usefixtures("small")
def test_windows_are_averaged_as_a_plain_loop_does(model: AnyDate) -> None:
    """A window sees only itself, so its answer is that of a cube that is no larger."""
    refl, clear, day = cube(18, height=17, width=14)
    clear[:, 6:9, 4] = False
    question = Question(day, DAY[:2], SIX)
    total, weights = np.zeros((2, 5, 6, 17, 14)), np.zeros((17, 14))
    for y, tall in predict._spans(17):
        for x, wide in predict._spans(14):
            at = np.s_[..., y : y + tall, x : x + wide]
            ramp = predict._ramp(y, tall, 17)[:, None] * predict._ramp(x, wide, 14)
            alone = answer(model, refl[at], clear[at], question).quantile_qlbyx
            total[at] += ramp * alone
            weights[at] += ramp
    found = answer(model, refl, clear, question).quantile_qlbyx
    np.testing.assert_allclose(found, total / weights, atol=1e-6, rtol=0)


@pytest.mark.usefixtures("small")
def test_no_order_of_windows_changes_a_bit(model: AnyDate, monkeypatch: pytest.MonkeyPatch) -> None:
    refl, clear, day = cube(3, height=9, width=27)
    clear[:, :, 12] = False
    question = Question(day, DAY, SIX)
    straight = answer(model, refl, clear, question)
    spans = predict._spans
    for seed in range(2):
        rng = np.random.default_rng(seed)
        monkeypatch.setattr(predict, "_spans", lambda size, rng=rng: rng.permutation(spans(size)).tolist())
        assert same(straight, answer(model, refl, clear, question))


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("sequences", [7, 64])
def test_how_many_go_through_at_once_changes_next_to_nothing(
    model: AnyDate, sequences: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    refl, clear, day = cube(4, height=9, width=11)
    question = Question(day, DAY, SIX)
    at_once = answer(model, refl, clear, question)
    monkeypatch.setattr(predict, "SEQUENCES", sequences)
    close(at_once, answer(model, refl, clear, question))


@pytest.mark.usefixtures("small")
def test_rows_joined_are_the_answer(model: AnyDate) -> None:
    refl, clear, day = cube(5, height=24, width=9)
    question = Question(day, DAY[:2], SIX)
    asked: list[tuple[slice, slice]] = []

    def read(rows: slice, cols: slice) -> tuple[np.ndarray, np.ndarray]:
        asked.append((rows, cols))
        return refl[..., rows, cols], clear[:, rows, cols]

    parts = []
    for rows, made in answer_rows(model, read, (24, 9), question):
        parts.append((rows, made))
        assert max(part.stop for part, _ in asked) <= rows.start + predict.WINDOW_PX
    assert parts[0][0].start == 0 and parts[-1][0].stop == 24
    assert all(one.stop == other.start for (one, _), (other, _) in pairwise(parts))
    whole = answer(model, refl, clear, question)
    for rows, made in parts:
        assert same(made, Answer(whole.quantile_qlbyx[..., rows, :], whole.sd_qbyx[..., rows, :]))
    assert whole.quantile_qlbyx.shape == (2, len(LEVELS), 6, 24, 9) and whole.quantile_qlbyx.dtype == np.float32


@pytest.mark.usefixtures("small")
def test_a_tall_image_needs_no_more_memory_than_a_low_one() -> None:
    refl, clear, day = cube(6, height=10, width=6, looks=8, bands=2)
    plain = untrained()

    def read(rows: slice, cols: slice) -> tuple[np.ndarray, np.ndarray]:
        at = np.arange(rows.start, rows.stop) % 10
        return refl[:, :, at][..., cols], clear[:, at][..., cols]

    def most(height: int) -> int:
        tracemalloc.start()
        for _ in answer_rows(plain, read, (height, 6), Question(day, DAY[:1], np.array([2, 3]))):
            pass
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    most(10)  # what the first call alone allocates
    assert most(94) < 1.15 * most(34)


# -- queries


def test_groups_share_a_context_of_limited_length() -> None:
    day = np.arange(0, 400, 3, dtype=np.int32)
    found = list(groups(day))
    assert np.concatenate([day[part] for part in found]).tolist() == day.tolist()
    assert all(len(day[part]) <= predict.MOST_QUERIES for part in found)
    far = np.array([0, 60, 120, 121, 500], np.int32)
    assert [far[part].tolist() for part in groups(far)] == [[0, 60, 120], [121], [500]]
    assert list(groups(far[:0])) == []


def test_queries_one_by_one_are_the_same_as_together(model: AnyDate) -> None:
    """With rotary phases, where days asked alone get the looks that they get together: all lie within one group, and the
    record has no more than MOST_LOOKS days within REACH_DAYS of any of them. Then only float noise is left, for days
    count from the first one asked.
    """
    refl, clear, day = cube(7)
    together = answer(model, refl, clear, Question(day, DAY, SIX))
    for q, when in enumerate(DAY):
        alone = answer(model, refl, clear, Question(day, np.array([when], np.int32), SIX))
        close(alone, Answer(together.quantile_qlbyx[q : q + 1], together.sd_qbyx[q : q + 1]), 3e-5)


def test_queries_with_other_looks_differ(model: AnyDate, monkeypatch: pytest.MonkeyPatch) -> None:
    """Why the test above says precisely when."""
    monkeypatch.setattr(predict, "MOST_LOOKS", 6)
    refl, clear, day = cube(7)
    together = answer(model, refl, clear, Question(day, DAY, SIX))
    alone = answer(model, refl, clear, Question(day, DAY[-1:], SIX))
    assert np.nanmax(np.abs(alone.quantile_qlbyx[0] - together.quantile_qlbyx[-1])) > 1e-4


def test_groups_of_queries_do_not_know_each_other(model: AnyDate) -> None:
    refl, clear, day = cube(8)
    far = np.array([19010, 19030, 19151, 19700], np.int32)
    whole = answer(model, refl, clear, Question(day, far, SIX))
    part = answer(model, refl, clear, Question(day, far[2:], SIX))
    assert same(part, Answer(whole.quantile_qlbyx[2:], whole.sd_qbyx[2:]))


def test_the_nearest_looks_stay() -> None:
    refl, clear, day = cube(9)
    evidence = gather_evidence(refl, clear, day, DAY[:2])
    some = nearest(evidence, 5)
    gap = np.abs(day[:, None] - DAY[:2]).min(axis=1)
    assert (np.diff(some.day_t) > 0).all() and len(some.day_t) == 5
    assert np.abs(some.day_t[:, None] - DAY[:2]).min(axis=1).max() <= np.sort(gap)[4]
    at = np.searchsorted(day, some.day_t)
    for name in ("sensor_t", "refl_tbyx", "clear_tyx", "rest_tbyx", "near_tbyx", "wide_tbyx", "near_tyx", "wide_tyx"):
        np.testing.assert_array_equal(getattr(some, name), getattr(evidence, name)[at])
    assert nearest(evidence, 14) is evidence and replace(some).query_q is evidence.query_q


@pytest.mark.parametrize("every", [1, 10, 40, 90])
def test_a_context_reaches_farther_where_looks_are_few(every: int) -> None:
    day = np.arange(0, 9000, every, dtype=np.int32)
    seen = np.random.default_rng(every).random(day.size) < 0.7
    query = np.array([4000, 4010], np.int32)
    found = reached(day, seen, query)
    away = np.maximum(4000 - day, day - 4010)
    assert not (found & ~seen).any()
    assert found[seen & (away <= predict.REACH_DAYS)].all()
    assert not found[away > predict.LONG_REACH_DAYS].any()
    farthest = away[found].max()
    assert found[seen & (away <= farthest)].all(), "the nearest ones"
    if farthest > predict.REACH_DAYS:
        assert found.sum() <= predict.ENOUGH_LOOKS + 1, "two may be equally far"
    if found.sum() < predict.ENOUGH_LOOKS:
        assert not (seen & ~found & (away <= predict.LONG_REACH_DAYS)).any()


@pytest.mark.parametrize("when", [-30, 9030])
def test_a_context_that_lies_on_one_side_reaches_less_far(when: int) -> None:
    day = np.arange(0, 9000, 90, dtype=np.int32)
    query = np.array([when, when + 5], np.int32)
    found = reached(day, np.ones(day.size, bool), query)
    away = np.maximum(query[0] - day, day - query[-1])
    assert found.sum() == predict.ENOUGH_ON_ONE_SIDE < predict.ENOUGH_LOOKS
    assert away[found].max() > predict.REACH_DAYS and away[found].max() < away[~found].min()


def test_a_look_that_is_too_old_is_no_side() -> None:
    day = np.concatenate([[0], np.arange(6000, 9000, 90)]).astype(np.int32)
    found = reached(day, np.ones(day.size, bool), np.array([5990], np.int32))
    assert not found[0] and found.sum() == predict.ENOUGH_ON_ONE_SIDE


def test_without_a_look_in_reach_there_is_whatever_there_is() -> None:
    day = np.array([0, 9000], np.int32)
    assert reached(day, np.array([True, False]), np.array([4500], np.int32)).tolist() == [True, False]
    assert not reached(day, np.zeros(2, bool), np.array([4500], np.int32)).any()


def test_looks_beyond_reach_are_used_only_where_there_are_no_others(model: AnyDate) -> None:
    refl, clear, day = cube(10)
    old = np.concatenate([day[:4] - 4000, day[4:]]).astype(np.int32)
    question = Question(old, DAY, SIX)
    other = np.concatenate([refl[:4] + 700, refl[4:]]).astype(np.int16)
    no_old = np.concatenate([np.zeros_like(clear[:4]), clear[4:]])
    seen = no_old.any(axis=0)
    one, two = (answer(model, values, clear, question) for values in (refl, other))
    assert same(one, two)
    close(
        Answer(one.quantile_qlbyx[..., seen], one.sd_qbyx[..., seen]),
        Answer(*(field[..., seen] for field in vars(answer(model, refl, no_old, question)).values())),
    )
    lone = answer(model, refl, clear, Question((day - 4000).astype(np.int32), DAY, SIX))
    assert np.isfinite(lone.sd_qbyx).all()


# -- the combination with classical estimates


@pytest.mark.parametrize("away", [-0.2, -0.004, 0.0, 0.004, 0.2])
def test_quantiles_are_drawn_towards_the_two_estimates_and_no_farther_than_the_limit(away: float) -> None:
    """The model says .3, and .28 to .34 for its quartiles; harmonic and departures say something else of it."""
    refl, clear, day = cube(11)
    clear[np.isin(day, DAY)] = False
    evidence = gather_evidence(refl, clear, day, DAY)
    shape = evidence.blend_qbyx.shape
    said = np.stack([np.full(shape, v, np.float32) for v in (0.2, 0.28, 0.3, 0.34, 0.5, 0.07)], axis=1)
    peers = evidence.peers_mqbyx.copy()
    for name in predict.LEANS:
        peers[MEMBERS.index(name)] = 0.3 + away
    moved = lean(said, replace(evidence, peers_mqbyx=peers))
    total = sum(predict.LEANS.values()) * np.clip(away, -0.02 * predict.LEAN_LIMIT, 0.04 * predict.LEAN_LIMIT)
    np.testing.assert_allclose(moved[:, :5] - said[:, :5], total, atol=1e-6)
    np.testing.assert_array_equal(moved[:, 5], said[:, 5])
    assert 0 < sum(predict.LEANS.values()) < 1


def test_dates_with_clear_pixels_of_their_own_stay_as_the_model_says() -> None:
    refl, clear, day = cube(12, height=24, width=24)
    clear[4, :, :8], clear[4, :, 8:] = False, True
    unseen = next(when for when in range(int(day[4]) + 1, int(day[-1])) if when not in day)
    evidence = gather_evidence(refl, clear, day, np.array([day[4], unseen], np.int32))
    kriged = evidence.error_qbyx > 0
    assert kriged[0].any() and not kriged[1].any(), "or nothing is tested"
    said = np.random.default_rng(0).random((2, len(LEVELS) + 1, *evidence.blend_qbyx.shape[1:])).astype(np.float32)
    said[:, : len(LEVELS)].sort(axis=1)
    moved = lean(said, evidence)
    assert (moved[:, 2][kriged] == said[:, 2][kriged]).all()
    assert (moved[:, 2][~kriged] != said[:, 2][~kriged]).mean() > 0.9


# -- pixels


def test_wanted_only_blanks(model: AnyDate) -> None:
    refl, clear, day = cube(11)
    question = Question(day, DAY, SIX)
    whole = answer(model, refl, clear, question)
    wanted = np.random.default_rng(0).random(clear.shape[1:]) < 0.4
    some = answer(model, refl, clear, question, wanted_yx=wanted)
    close(some, Answer(*(np.where(wanted, field, np.nan) for field in vars(whole).values())))
    assert np.isnan(some.sd_qbyx[..., ~wanted]).all() and np.isfinite(some.sd_qbyx[..., wanted]).all()


def test_what_is_hidden_on_the_day_asked_is_not_used(model: AnyDate) -> None:
    """The day's clear pixels speak for the others; what is not clear, that day or any other, has no say."""
    refl, clear, day = cube(12, height=8, width=8)
    t = int(np.argmax(clear.mean(axis=(1, 2)) < 0.95))
    query = day[t : t + 1]
    noise = np.random.default_rng(1).integers(0, 9000, refl.shape)
    other = np.where(clear[:, None], refl, noise).astype(np.int16)
    question = Question(day, query, SIX, np.zeros(len(day), np.uint8))
    before = answer(model, refl, clear, question)
    assert same(before, answer(model, other, clear, question))
    moved = refl.copy()
    moved[t] += np.where(clear[t], 300, 0).astype(np.int16)
    after = answer(model, moved, clear, question)
    assert np.abs(before.sd_qbyx - after.sd_qbyx)[..., ~clear[t]].max() > 0


def test_a_day_s_own_look_is_neither_among_its_neighbours_nor_in_its_linear_estimate() -> None:
    refl, clear, day = cube(13)
    moved = refl.copy()
    moved[5] += np.where(clear[5], 900, 0).astype(np.int16)
    one, two = (gather_evidence(values, clear, day, day[[5]]) for values in (refl, moved))
    np.testing.assert_array_equal(one.peers_mqbyx[0], two.peers_mqbyx[0])
    assert (one.last_qyx > 0).all() and (one.next_qyx > 0).all()


@pytest.mark.parametrize("patch_px", [1, 2])
def test_pixels_without_a_look_are_nan_and_quantiles_ascend(patch_px: int) -> None:
    refl, clear, day = cube(14)
    clear[:, 2, 3] = clear[:, 5] = False
    said = answer(shaken(patch_px=patch_px), refl, clear, Question(day, DAY, SIX))
    none = ~clear.any(axis=0)
    assert np.isnan(said.quantile_qlbyx[..., none]).all() and np.isnan(said.sd_qbyx[..., none]).all()
    assert (np.diff(said.quantile_qlbyx[..., ~none], axis=1) >= 0).all() and (said.sd_qbyx[..., ~none] > 0).all()


@pytest.mark.usefixtures("small")
def test_windows_without_a_look_are_nan_all_over(model: AnyDate) -> None:
    refl, clear, day = cube(15, height=5, width=24)
    clear[..., 12:] = False
    said = answer(model, refl, clear, Question(day, DAY[:1], SIX))
    assert np.isfinite(said.sd_qbyx[..., :12]).all() and np.isnan(said.sd_qbyx[..., 12:]).all()
    nothing = answer(model, refl, np.zeros_like(clear), Question(day, DAY[:1], SIX))
    assert np.isnan(nothing.quantile_qlbyx).all()


@pytest.mark.parametrize("slot", [[3], [0, 2, 5]])
def test_a_subset_of_bands_is_answered(slot: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predict, "LEANS", {})
    refl, clear, day = cube(16, bands=len(slot))
    question = Question(day, DAY, np.array(slot))
    plain, other = answer(untrained(), refl, clear, question), answer(shaken(), refl, clear, question)
    base = gather_evidence(refl, clear, day, DAY).base_qbyx
    np.testing.assert_allclose(plain.quantile_qlbyx[:, 2], base, atol=2e-6)
    assert other.quantile_qlbyx.shape == (4, 5, len(slot), 6, 5) and np.isfinite(other.quantile_qlbyx).all()


@pytest.mark.parametrize("patch_px", [1, 2, 4])
@pytest.mark.parametrize("shape", [(7, 5), (3, 9)])
def test_squares_of_any_side_answer_ragged_windows(patch_px: int, shape: tuple[int, int]) -> None:
    cells = cells_of(*shape, patch_px)
    assert sorted(cells[cells >= 0].tolist()) == list(range(shape[0] * shape[1]))
    refl, clear, day = cube(17, height=shape[0], width=shape[1])
    said = answer(shaken(patch_px=patch_px), refl, clear, Question(day, DAY, SIX))
    assert np.isfinite(said.quantile_qlbyx).all() and said.sd_qbyx.shape == (4, 6, *shape)
