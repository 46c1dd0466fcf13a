import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vsat.core.mosaic import mosaic
from vsat.hls import FILL, FMASK_FILL

Pair = tuple[npt.NDArray[np.int16], npt.NDArray[np.uint8]]
SHAPE = (2, 3, 4)

scene = st.tuples(
    hnp.arrays(np.int16, SHAPE, elements=st.sampled_from([FILL, FILL, 0, 100, 2000, -5])),
    hnp.arrays(np.uint8, SHAPE[1:], elements=st.sampled_from([0, 2, 4, 8, 16, 64, 224, 255])),
)
scenes = st.lists(scene, min_size=1, max_size=4)


def plainly(pairs: list[Pair]) -> Pair:
    """Pixel by pixel, with the Fmask bits of the user guide written out."""

    def is_valid(pair: Pair, y: int, x: int) -> bool:
        return bool(pair[1][y, x] != 255 and any(pair[0][b, y, x] != -9999 for b in range(SHAPE[0])))

    def is_clear(pair: Pair, y: int, x: int) -> bool:
        no_fill = all(pair[0][b, y, x] != -9999 for b in range(SHAPE[0]))
        return bool(no_fill and pair[1][y, x] != 255 and not pair[1][y, x] & 0b11110)

    refl, fmask = pairs[0][0].copy(), pairs[0][1].copy()
    for y in range(SHAPE[1]):
        for x in range(SHAPE[2]):
            ranked = [p for p in pairs if is_clear(p, y, x)] + [p for p in pairs if is_valid(p, y, x)] + [pairs[0]]
            refl[:, y, x], fmask[y, x] = ranked[0][0][:, y, x], ranked[0][1][y, x]
    return refl, fmask


@given(scenes)
def test_equals_its_plain_twin(pairs: list[Pair]) -> None:
    for got, wanted in zip(mosaic(pairs), plainly(pairs), strict=True):
        np.testing.assert_array_equal(got, wanted)


@given(scenes)
def test_invents_nothing_and_loses_nothing(pairs: list[Pair]) -> None:
    refl, fmask = mosaic(pairs)
    assert refl.dtype == np.int16
    assert fmask.dtype == np.uint8
    same = [(refl == r).all(axis=0) & (fmask == f) for r, f in pairs]
    assert np.logical_or.reduce(same).all()  # each pixel is one granule's, whole
    seen = np.logical_or.reduce([(f != FMASK_FILL) & (r != FILL).any(axis=0) for r, f in pairs])
    np.testing.assert_array_equal((fmask != FMASK_FILL) & (refl != FILL).any(axis=0), seen)


@given(scenes, st.randoms())
def test_the_inputs_stay_as_they_were(pairs: list[Pair], _random: object) -> None:
    before = [(r.copy(), f.copy()) for r, f in pairs]
    mosaic(pairs)
    for (r, f), (r0, f0) in zip(pairs, before, strict=True):
        np.testing.assert_array_equal(r, r0)
        np.testing.assert_array_equal(f, f0)


@given(scene)
def test_one_scene_stays_itself_and_twice_is_once(pair: Pair) -> None:
    for got, wanted in zip(mosaic([pair, pair]), pair, strict=True):
        np.testing.assert_array_equal(got, wanted)
    assert mosaic([pair]) is pair


def test_clear_beats_order_and_order_beats_the_rest() -> None:
    def of(value: int, mask: int) -> Pair:
        return np.full(SHAPE, value, np.int16), np.full(SHAPE[1:], mask, np.uint8)

    assert mosaic([of(1, 2), of(2, 0), of(3, 0)])[0].max() == 2
    assert mosaic([of(1, 2), of(2, 8)])[0].max() == 1
    assert mosaic([of(FILL, 255), of(2, 2)])[0].max() == 2
    assert mosaic([of(FILL, 255), of(FILL, 255)])[1].min() == 255


def test_what_can_not_be_laid_together() -> None:
    with pytest.raises(ValueError, match="no scenes"):
        mosaic([])
    small = np.zeros((2, 1, 1), np.int16), np.zeros((1, 1), np.uint8)
    with pytest.raises(ValueError, match="different shapes"):
        mosaic([small, (np.zeros(SHAPE, np.int16), np.zeros(SHAPE[1:], np.uint8))])
