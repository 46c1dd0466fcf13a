from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vsat.core.grid import TileGrid, full_tile
from vsat.core.splits import (
    NEITHER,
    TEST,
    TRAIN,
    VALIDATION,
    SplitDesign,
    block_split,
    check_splits,
    combine,
    near_other_zones,
    period_days,
    split_places,
    split_times,
)
from vsat.errors import InputError

EPOCH = date(1970, 1, 1)


def day(text: str) -> int:
    return (date.fromisoformat(text) - EPOCH).days


def corners(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 3000, count), rng.integers(0, 3000, count)


def places_of(design: SplitDesign, grid: TileGrid, top: np.ndarray, left: np.ndarray, size: int) -> list[str]:
    """`check_splits` on windows of a grid."""
    split = split_places(design, grid, top, left, size)
    kept = split != NEITHER
    n = int(kept.sum())
    return check_splits(
        np.full(n, grid.epsg), grid.x0 + left[kept] * 30.0, grid.y0 - top[kept] * 30.0, split[kept], size_m=size * 30.0,
        buffer_m=design.buffer_px * 30.0, first_day_n=np.zeros(n, np.int64), last_day_n=np.zeros(n, np.int64),
    )  # fmt: skip


@settings(max_examples=30, deadline=None)
@given(
    block=st.integers(40, 200), buffer=st.integers(0, 60), size=st.integers(8, 80), seed=st.integers(0, 999),
    shift=st.integers(-50, 50),
)  # fmt: skip
def test_no_pixel_and_no_neighbour_inside_the_buffer_is_in_another_split(
    block: int, buffer: int, size: int, seed: int, shift: int
) -> None:
    design = SplitDesign(block_px=block, buffer_px=buffer, seed=seed, validation_share=0.2, test_share=0.3)
    grid = TileGrid("33UVP", 32633, 399960.0 + 30 * shift, 5300040.0 - 30 * shift, 3600, 3600)
    top, left = corners(600, seed)
    assert places_of(design, grid, top, left, size) == []


def test_pixel_by_pixel_no_test_ground_or_its_surroundings_is_trained_on() -> None:
    """The plain slow twin: paint every train pixel, grow every test window by the buffer, and look."""
    design, size, buffer = SplitDesign(block_px=50, buffer_px=10, validation_share=0.2, test_share=0.3), 16, 10
    grid = TileGrid("33UVP", 32633, 399960.0, 5300040.0, 400, 400)
    top, left = (one.ravel() for one in np.meshgrid(np.arange(0, 384, 4), np.arange(0, 384, 4), indexing="ij"))
    split = split_places(design, grid, top, left, size)
    assert {TRAIN, VALIDATION, TEST} <= set(split.tolist())
    trained = np.zeros((400, 400), bool)
    for y, x in zip(top[split == TRAIN], left[split == TRAIN], strict=True):
        trained[y : y + size, x : x + size] = True
    for y, x in zip(top[split == TEST], left[split == TEST], strict=True):
        assert not trained[max(y - buffer, 0) : y + size + buffer, max(x - buffer, 0) : x + size + buffer].any()


def test_overlapping_tiles_agree_about_their_common_ground() -> None:
    design = SplitDesign(block_px=64, buffer_px=16)
    west, east = full_tile("33UVP"), full_tile("33UWP")
    assert west.epsg == east.epsg
    shift = round((east.x0 - west.x0) / 30)
    top, left = corners(400)
    left = left % 200  # the overlap is 9.8 km
    down = round((west.y0 - east.y0) / 30)
    in_west, in_east = (
        split_places(design, west, top + max(0, down), left + shift, 32),
        split_places(design, east, top + max(0, down) - down, left, 32),
    )
    assert np.array_equal(in_west, in_east)
    assert len(set(in_west.tolist())) > 1


@pytest.mark.parametrize("seed", range(5))
def test_every_neighbourhood_has_about_its_share_of_test_blocks(seed: int) -> None:
    design = SplitDesign(seed=seed, validation_share=0.15, test_share=0.2)
    rows, cols = np.meshgrid(np.arange(900), np.arange(900), indexing="ij")
    split = block_split(design, 32633, cols, rows)
    assert abs((split == TEST).mean() - 0.2) < 0.002
    windows = (split == TEST).reshape(90, 10, 90, 10).mean(axis=(1, 3))
    assert windows.min() >= 0.14 and windows.max() <= 0.26  # independent draws would reach from .08 to .35


def test_another_seed_shares_the_blocks_out_otherwise() -> None:
    rows, cols = np.meshgrid(np.arange(30), np.arange(30), indexing="ij")
    one, two = (block_split(SplitDesign(seed=seed), 32633, cols, rows) for seed in (0, 1))
    assert not np.array_equal(one, two)


def test_years_and_seasons() -> None:
    assert period_days("2023") == (day("2023-01-01"), day("2023-12-31"))
    assert period_days("2024-DJF") == (day("2023-12-01"), day("2024-02-29"))
    assert period_days("2023-SON") == (day("2023-09-01"), day("2023-11-30"))


@given(first=st.integers(day("2021-06-01"), day("2024-06-01")), length=st.integers(1, 200))
def test_kept_times_are_whole_and_apart(first: int, length: int) -> None:
    design = SplitDesign(test_times=("2023-JJA",), validation_times=("2022",), time_buffer_days=20)
    found = int(split_times(design, np.array([first]), np.array([first + length]))[0])
    days = [EPOCH + timedelta(first + n) for n in range(length + 1)]
    grown = [days[0] - timedelta(n) for n in range(21)] + days + [days[-1] + timedelta(n) for n in range(21)]
    in_test = [date(2023, 6, 1) <= one <= date(2023, 8, 31) for one in days]
    if found == TEST:
        assert all(in_test)
    if found == VALIDATION:
        assert all(one.year == 2022 for one in days)
    if found == TRAIN:
        assert not any(date(2023, 6, 1) <= one <= date(2023, 8, 31) or one.year == 2022 for one in grown)


def test_a_patch_needs_both_place_and_time() -> None:
    design = SplitDesign(test_times=("2023",))
    place = np.array([TRAIN, TEST, TEST, TRAIN, VALIDATION, NEITHER], np.int8)
    time = np.array([TRAIN, TEST, TRAIN, TEST, TRAIN, TRAIN], np.int8)
    assert combine(design, place, time).tolist() == [TRAIN, TEST, NEITHER, NEITHER, VALIDATION, NEITHER]


def checked(x: list[float], split: list[int], epsg: list[int] | None = None, **options: object) -> list[str]:
    n = len(x)
    given = {"first_day_n": np.zeros(n, np.int64), "last_day_n": np.full(n, 10), "size_m": 300.0, "buffer_m": 100.0}
    return check_splits(
        np.array(epsg or [32633] * n), np.array(x), np.full(n, 5.3e6), np.array(split), **(given | options)
    )  # type: ignore[arg-type]


def test_a_planted_test_block_in_train_is_found() -> None:
    assert checked([0.0, 400.0], [TRAIN, TEST]) == []
    assert "train patch 0 and test patch 1 are 99 m apart" in checked([0.0, 399.0], [TRAIN, TEST])[0]
    assert "0 m apart" in checked([0.0, 100.0], [VALIDATION, TEST])[0]
    assert checked([0.0, 100.0], [TEST, TEST]) == []


def test_a_planted_date_is_found_where_times_are_kept() -> None:
    design = SplitDesign(test_times=("2023",), time_buffer_days=16)
    days = {"first_day_n": np.array([0, 26]), "last_day_n": np.array([10, 50])}
    assert "16 days apart" in checked([0.0, 9e5], [TRAIN, TEST], design=design, **days)[0]
    days["first_day_n"] = np.array([0, 27])
    assert checked([0.0, 9e5], [TRAIN, TEST], design=design, **days) == []


def test_patches_of_two_zones_that_share_ground_are_found_and_named() -> None:
    # one place near 12 degrees east, in both zones' metres
    from pyproj import Transformer

    x, y = zip(
        *(Transformer.from_crs(4326, epsg, always_xy=True).transform(12.0, 48.0) for epsg in (32632, 32633)),
        strict=True,
    )
    epsg, x_n, y_n, split = np.array([32632, 32633]), np.array(x), np.array(y), np.array([TRAIN, TEST])
    days = {"first_day_n": np.zeros(2, np.int64), "last_day_n": np.zeros(2, np.int64)}
    assert "of two zones and 0 m apart" in check_splits(epsg, x_n, y_n, split, size_m=300, buffer_m=100, **days)[0]
    assert near_other_zones(epsg, x_n, y_n, split, 300, 100).tolist() == [0]
    assert near_other_zones(epsg, x_n + np.array([5000, 0]), y_n, split, 300, 100).tolist() == []


@pytest.mark.parametrize(
    "options",
    [{"validation_share": 0.6, "test_share": 0.4}, {"test_share": -0.1}, {"block_px": 0}, {"buffer_px": -1},
     {"test_times": ("2023-XYZ",)}, {"test_times": ("2023",), "validation_times": ("2023",)}],
)  # fmt: skip
def test_a_design_that_cannot_be_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(InputError):
        SplitDesign(**options)  # type: ignore[arg-type]
