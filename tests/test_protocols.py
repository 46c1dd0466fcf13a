import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsat.core.fill import fill, fill_many
from vsat.core.protocols import LEVELS, PROTOCOLS, Fold, LeakError, check_fold, folds, hidden
from vsat.hls import FILL
from vsat.methods import CLASSICAL


def cube(
    seed: int = 0, looks: int = 60, shape: tuple[int, int] = (24, 24)
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    day = np.sort(rng.integers(18000, 18720, looks)).astype(np.int32)
    season = 0.25 + 0.15 * np.sin(2 * np.pi * day / 365.25)
    field = rng.random((6, *shape)) * 0.1
    refl = ((season[:, None, None, None] + field + rng.normal(0, 0.005, (looks, 6, *shape))) * 1e4).astype(np.int16)
    size = (-(-shape[0] // 6), -(-shape[1] // 6))
    coarse = rng.random((looks, *size)) < (rng.random((looks, 1, 1)) * 0.7)
    cloud = np.repeat(np.repeat(coarse, 6, 1), 6, 2)[:, : shape[0], : shape[1]]
    return refl, ~cloud, day


def first(protocol: str, level: int | None = None, seed: int = 0) -> tuple[Fold, np.ndarray, np.ndarray, np.ndarray]:
    refl, clear, day = cube()
    found = [fold for fold in folds(clear, day, protocol, seed=seed) if level in (None, fold.level)]
    return found[0], refl, clear, day


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_fold_is_clean_and_every_level_is_there(protocol: str) -> None:
    _, clear, day = cube()
    found = list(folds(clear, day, protocol))
    assert {fold.level for fold in found} == set(LEVELS[protocol])
    for fold in found:
        check_fold(fold, clear, day)
        assert fold.targets
        for target in fold.targets:
            assert target.day == day[target.look]
            assert not (target.mask_yx & ~clear[target.look]).any() and target.mask_yx.any()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 500), protocol=st.sampled_from(PROTOCOLS), looks=st.integers(0, 40))
def test_folds_of_any_record_are_clean(seed: int, protocol: str, looks: int) -> None:
    _, clear, day = cube(seed, looks)
    for fold in folds(clear, day, protocol, count=1, seed=seed):
        check_fold(fold, clear, day)


def planted(fold: Fold, context: np.ndarray) -> Fold:
    return Fold(fold.protocol, fold.level, fold.number, context, fold.targets)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_target_left_in_the_context_is_found(protocol: str) -> None:
    fold, _, clear, day = first(protocol)
    leak, target = fold.context_tyx.copy(), fold.targets[0]
    y, x = np.argwhere(target.mask_yx)[0]
    leak[target.look, y, x] = True
    with pytest.raises(LeakError, match="1 target pixels"):
        check_fold(planted(fold, leak), clear, day)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("apart", [0, 1, -1])
def test_a_neighbour_date_left_in_the_context_is_found(protocol: str, apart: int) -> None:
    fold, _, clear, day = first(protocol)
    target = fold.targets[-1]
    others = np.setdiff1d(np.arange(len(day)), [one.look for one in fold.targets])
    t = int(others[0])
    day, clear, leak = day.copy(), clear.copy(), fold.context_tyx.copy()
    day[t], clear[t, 3, 3], leak[t] = target.day + apart, True, False
    check_fold(planted(fold, leak), clear, day)
    leak[t, 3, 3] = True
    with pytest.raises(LeakError, match=r"within a day of the target|in the gap|later than"):
        check_fold(planted(fold, leak), clear, day)


def test_a_look_inside_the_gap_is_found() -> None:
    fold, _, clear, day = first("gaps", 64)
    t = int(
        np.flatnonzero(
            (np.abs(day - fold.targets[0].day) <= 32) & clear.any(axis=(1, 2)) & (np.abs(day - fold.targets[0].day) > 1)
        )[0]
    )
    leak = fold.context_tyx.copy()
    leak[t] = clear[t]
    with pytest.raises(LeakError, match="in the gap"):
        check_fold(planted(fold, leak), clear, day)


def test_a_look_after_the_last_allowed_one_is_found() -> None:
    fold, _, clear, day = first("forecast", 32)
    t = int(np.flatnonzero((day > fold.targets[0].day + 3) & clear.any(axis=(1, 2)))[0])
    leak = fold.context_tyx.copy()
    leak[t] = clear[t]
    with pytest.raises(LeakError, match="later than 32 days"):
        check_fold(planted(fold, leak), clear, day)


def test_what_is_not_clear_is_no_context() -> None:
    fold, _, clear, day = first("dates")
    leak = fold.context_tyx.copy()
    leak |= ~clear
    with pytest.raises(LeakError, match="not clear"):
        check_fold(planted(fold, leak), clear, day)


def test_what_a_method_is_given_holds_the_context_alone() -> None:
    fold, refl, _, _ = first("masks")
    given_tbyx = hidden(refl, fold.context_tyx)
    assert (given_tbyx[~np.broadcast_to(fold.context_tyx[:, None], refl.shape)] == FILL).all()
    kept = np.broadcast_to(fold.context_tyx[:, None], refl.shape)
    assert np.array_equal(given_tbyx[kept], refl[kept])


@pytest.mark.slow
@pytest.mark.parametrize("protocol", ["dates", "masks", "forecast"])
def test_another_truth_under_the_targets_changes_no_bit_of_any_fill(protocol: str) -> None:
    fold, refl, _, day = first(protocol)
    other = refl.copy()
    for target in fold.targets:
        other[target.look][:, target.mask_yx] = 9000
    query = np.unique([target.day for target in fold.targets]).astype(np.int32)
    one, two = (
        fill_many(hidden(r, fold.context_tyx), fold.context_tyx, day, query, methods=CLASSICAL) for r in (refl, other)
    )
    for name in CLASSICAL:
        assert np.array_equal(one[name].refl_qbyx, two[name].refl_qbyx, equal_nan=True)
        assert np.array_equal(one[name].sd_qbyx, two[name].sd_qbyx, equal_nan=True)
        assert one[name].spread == two[name].spread


@pytest.mark.slow
def test_methods_filled_together_are_as_alone() -> None:
    fold, refl, _, day = first("masks")
    given_tbyx, query = hidden(refl, fold.context_tyx), np.array([fold.targets[0].day], np.int32)
    together = fill_many(given_tbyx, fold.context_tyx, day, query, methods=CLASSICAL)
    for name in CLASSICAL:
        alone = fill(given_tbyx, fold.context_tyx, day, query, method=name)
        assert alone.spread == together[name].spread
        assert np.array_equal(alone.refl_qbyx, together[name].refl_qbyx, equal_nan=True)


@pytest.mark.parametrize("shape", [(1, 1), (1, 30)])
def test_single_pixels_and_rows_have_folds_but_no_clouds(shape: tuple[int, int]) -> None:
    _, clear, day = cube(shape=shape)
    assert list(folds(clear, day, "masks")) == []
    assert list(folds(clear, day, "dates")) and list(folds(clear, day, "thinning"))


def test_the_seed_decides() -> None:
    _, clear, day = cube()
    one, two, other = ([f.context_tyx for f in folds(clear, day, "dates", seed=seed)] for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one, other, strict=False))
