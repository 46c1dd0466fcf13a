"""Several granules of one tile, day and sensor become one scene. Axes: b band, y, x."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vsat.core.masks import clear
from vsat.hls import FILL, FMASK_FILL

Int16 = NDArray[np.int16]
UInt8 = NDArray[np.uint8]


def mosaic(scenes: Sequence[tuple[Int16, UInt8]]) -> tuple[Int16, UInt8]:
    """One scene: at each pixel the first clear granule, else the first with a value, else the first.

    A pixel is taken whole, all bands and its Fmask from one granule: bands of two overpasses never mix.

    Args:
        scenes: at least one (refl_byx int16, scale 1e-4, fill -9999; fmask_yx uint8, fill 255), all of one
            shape, in order of preference.

    Returns:
        refl_byx and fmask_yx of the same shapes and types; a single scene comes back as it is, not copied.

    Raises:
        ValueError: no scenes, or shapes that differ.
    """
    if not scenes:
        raise ValueError("no scenes to mosaic")
    if len({(refl.shape, fmask.shape) for refl, fmask in scenes}) > 1:
        raise ValueError(f"scenes of different shapes: {sorted({refl.shape for refl, _ in scenes})}")
    if len(scenes) == 1:
        return scenes[0]
    refl_byx, fmask_yx = scenes[0][0].copy(), scenes[0][1].copy()
    best_yx = _rank(refl_byx, fmask_yx)
    for other_byx, other_yx in scenes[1:]:
        rank_yx = _rank(other_byx, other_yx)
        better_yx = rank_yx > best_yx
        np.copyto(refl_byx, other_byx, where=better_yx)
        np.copyto(fmask_yx, other_yx, where=better_yx)
        np.maximum(best_yx, rank_yx, out=best_yx)
    return refl_byx, fmask_yx


def _rank(refl_byx: Int16, fmask_yx: UInt8) -> UInt8:
    """2 clear, 1 has a value and a mask, 0 nothing: uint8 (y, x)."""
    valid_yx = (fmask_yx != FMASK_FILL) & (refl_byx != FILL).any(axis=0)
    rank_yx: UInt8 = valid_yx.astype(np.uint8) + clear(fmask_yx, refl_byx)
    return rank_yx
