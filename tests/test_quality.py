"""The quality byte: its bits, and what makes a pixel suspected of change or of low confidence."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vsat.core.quality import NONE, change_suspected, low_confidence, pack_qa, unpack_qa

SHAPE = (4, 5)
flag = hnp.arrays(np.bool_, SHAPE)


@given(hnp.arrays(np.uint8, SHAPE, elements=st.sampled_from([0, 1, 2, 3, NONE])), flag, flag, flag, flag, flag)
def test_packing_and_unpacking_are_inverse(origin, extrapolated, snow, water, change, low) -> None:
    qa = pack_qa(origin, extrapolated=extrapolated, snow=snow, water=water, change=change, low=low)
    back = unpack_qa(qa)
    for got, put in (
        (back.origin, origin),
        (back.extrapolated, extrapolated),
        (back.snow, snow),
        (back.water, water),
        (back.change, change),
        (back.low, low),
    ):
        assert np.array_equal(got, put)


def test_bits_are_where_the_product_says() -> None:
    def one(origin: int, **on: bool) -> int:
        flags = {name: np.array([[on.get(name, False)]]) for name in ("extrapolated", "snow", "water", "change", "low")}
        return int(pack_qa(np.array([[origin]], np.uint8), **flags)[0, 0])

    assert [one(k) for k in (0, 1, 2, 3, NONE)] == [0, 1, 2, 3, 128]
    assert [one(0, **{name: True}) for name in ("extrapolated", "snow", "water", "change", "low")] == [4, 8, 16, 32, 64]


def test_change_needs_a_step_beyond_spread_and_beyond_a_visible_amount() -> None:
    step = np.zeros((6, 1, 5), np.float32)
    step[3, 0] = [0.04, 0.10, 0.10, np.nan, -0.10]
    sd = np.full((6, 1, 5), 0.01, np.float32)
    sd[3, 0, 2] = 0.05
    assert change_suspected(step, sd)[0].tolist() == [False, True, False, False, True]


def test_low_confidence_is_relative_with_a_floor() -> None:
    refl = np.full((6, 1, 3), 0.2, np.float32)
    refl[:, 0, 1] = 0.02
    sd = np.full((6, 1, 3), 0.02, np.float32)
    sd[:, 0, 2] = 0.1
    assert low_confidence(refl, sd)[0].tolist() == [False, False, True]
