"""The true-colour preview of a virtual image: small, and hatched where nothing but the season stands behind a value."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vsat.core.quality import NO_VALUE, ORIGIN_MASK
from vsat.hls import FILL, SCALE

LONGEST_PX = 1024
WHITE_AT = 0.24  # reflectance shown as white after the square root
GREY = np.array((214, 209, 219), np.uint8)
PRIOR = 3
HATCH_PX = 8


def preview_png(refl_byx: NDArray[np.int16], bands: tuple[str, ...], qa_yx: NDArray[np.uint8]) -> bytes:
    """A PNG, no side longer than LONGEST_PX; grey where there is no value, hatched where it is prior only.

    Args:
        refl_byx: int16 (b, y, x) x 1e-4, FILL none.
        bands: their names; without red, green and blue the first band is shown in grey.
        qa_yx: quality bits (y, x).
    """
    step = -(-max(qa_yx.shape) // LONGEST_PX)
    rgb = (
        [bands.index(band) for band in ("red", "green", "blue")]
        if {"red", "green", "blue"} <= set(bands)
        else [0, 0, 0]
    )
    small = refl_byx[rgb, ::step, ::step].transpose(1, 2, 0)
    qa = qa_yx[::step, ::step]
    picture = (np.sqrt(np.clip(small * np.float32(SCALE) / WHITE_AT, 0, 1)) * 255).astype(np.uint8)
    y, x = np.ogrid[: qa.shape[0], : qa.shape[1]]
    hatched = ((qa & ORIGIN_MASK) == PRIOR) & ((x + y) % HATCH_PX < 2)
    picture[hatched] = GREY
    picture[(small == FILL).any(-1) | ((qa & NO_VALUE) > 0)] = GREY
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()
