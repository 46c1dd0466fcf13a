"""Which pixels are clear looks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsat.core.masks import clear
from vsat.hls import FILL


def slow_clear(code: int, adjacent: bool, snow: bool) -> bool:
    """The twin: bit by bit, one code."""
    if code == 255:
        return False
    bits = [int(c) for c in reversed(f"{code:08b}")]
    return not (bits[1] or bits[3] or (bits[2] and not adjacent) or (bits[4] and not snow))


@pytest.mark.parametrize("adjacent", [False, True])
@pytest.mark.parametrize("snow", [False, True])
def test_every_code(adjacent: bool, snow: bool) -> None:
    codes = np.arange(256, dtype=np.uint8)
    expected = [slow_clear(code, adjacent, snow) for code in range(256)]
    np.testing.assert_array_equal(clear(codes, None, adjacent=adjacent, snow=snow), expected)


def test_no_data_is_never_clear_although_all_is_kept() -> None:
    assert not clear(np.array([255], np.uint8), None, adjacent=True, snow=True).any()


def test_water_and_aerosol_are_clear() -> None:
    assert clear(np.array([32, 64, 128, 224, 1], np.uint8), None).all()


@given(st.integers(0, 5), st.integers(0, 1), st.integers(0, 2))
def test_fill_in_any_band_is_not_clear(band: int, y: int, x: int) -> None:
    refl = np.full((1, 6, 2, 3), 500, np.int16)
    refl[0, band, y, x] = FILL
    found = clear(np.zeros((1, 2, 3), np.uint8), refl)
    assert not found[0, y, x]
    assert np.count_nonzero(found) == 5


def test_the_mask_never_adds_pixels_and_leaves_its_input_alone() -> None:
    rng = np.random.default_rng(0)
    fmask = rng.integers(0, 256, (4, 5, 6)).astype(np.uint8)
    before = fmask.copy()
    strict, kind = clear(fmask, None), clear(fmask, None, adjacent=True, snow=True)
    assert not (strict & ~kind).any()
    np.testing.assert_array_equal(fmask, before)
