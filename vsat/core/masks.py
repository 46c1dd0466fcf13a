"""Which pixels are clear looks: Fmask bits and fill values to one boolean array. DESIGN 4."""

import numpy as np
import numpy.typing as npt

from vsat.hls import FILL, FMASK_FILL, Fmask


def clear(
    fmask: npt.NDArray[np.uint8],
    refl_tbyx: npt.NDArray[np.int16] | None = None,
    *,
    adjacent: bool = False,
    snow: bool = False,
) -> npt.NDArray[np.bool_]:
    """True where a pixel is a clear look: seen, and neither cloud nor shadow.

    Args:
        fmask: HLS v2 Fmask, any shape; 255 is no data and is tested first, for it has every bit set.
        refl_tbyx: reflectance int16 of shape (*leading, band, y, x) where `fmask` is (*leading, y, x). Given, a pixel
            with FILL in any band is not clear.
        adjacent: True keeps pixels next to cloud or shadow as clear.
        snow: True keeps snow and ice as clear.

    Returns:
        Boolean array of `fmask`'s shape.
    """
    unwanted = Fmask.CLOUD | Fmask.SHADOW
    if not adjacent:
        unwanted |= Fmask.ADJACENT
    if not snow:
        unwanted |= Fmask.SNOW
    seen: npt.NDArray[np.bool_] = (fmask != FMASK_FILL) & ((fmask & np.uint8(unwanted)) == 0)
    if refl_tbyx is None:
        return seen
    # Band by band, so that no boolean copy of the whole cube is made.
    for band in range(refl_tbyx.shape[-3]):
        seen &= refl_tbyx[..., band, :, :] != FILL
    return seen


def without_cloud(refl_tbyx: npt.NDArray[np.int16], fmask_tyx: npt.NDArray[np.uint8]) -> npt.NDArray[np.int16]:
    """Reflectance with FILL under cloud and shadow, where no option makes a pixel a clear look: a third of the bytes.

    Args:
        refl_tbyx: int16 (..., band, y, x).
        fmask_tyx: HLS v2 Fmask (..., y, x); no data becomes FILL too.

    Returns:
        A new array.
    """
    gone = (fmask_tyx == FMASK_FILL) | ((fmask_tyx & np.uint8(Fmask.CLOUD | Fmask.SHADOW)) != 0)
    return np.where(gone[..., np.newaxis, :, :], np.int16(FILL), refl_tbyx)
