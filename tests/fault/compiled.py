"""Compiled code, loaded in the process that forks those that are killed: each of them would load it again."""

import numpy as np

from vsat.core.fill import fill
from vsat.io import tiff


def load_compiled() -> None:
    """What a night with the linear method calls of numba's."""
    fill(
        np.ones((3, 6, 2, 2), np.int16),
        np.ones((3, 2, 2), bool),
        np.arange(3, dtype=np.int32),
        np.array([1], np.int32),
        method="linear",
    )
    for dtype in ("<i2", "u1"):
        block_yx = np.frombuffer(bytes(8), dtype)[:4].reshape(2, 2)
        tiff._integrate(block_yx, 0, 2, 0, 2, np.empty((2, 2), dtype), 0, 0)
