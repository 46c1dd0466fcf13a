"""A small virtual image with every kind of pixel, for tests of what is published."""

from datetime import date

import numpy as np

from vsat.core.grid import TileGrid
from vsat.core.quality import pack_qa
from vsat.hls import BANDS, FILL
from vsat.io.publish import VirtualImage

GRID = TileGrid("33UVP", 32633, 440430.0, 5337510.0, 300, 280)
DAY = date(2024, 5, 2)


def image(seed: int = 0, *, bands: tuple[str, ...] = BANDS, day: date = DAY) -> VirtualImage:
    """Random reflectance with a corner without value, a quarter observed and a stripe that is prior only."""
    rng = np.random.default_rng(seed)
    shape = GRID.shape
    refl = rng.integers(100, 4000, (len(bands), *shape)).astype(np.int16)
    sd = rng.integers(1, 400, (len(bands), *shape)).astype(np.int16)
    origin = np.full(shape, 1, np.uint8)
    origin[:150, :140] = 0
    origin[200:220] = 3
    origin[-20:, -20:] = 255
    refl[:, origin == 255] = FILL
    sd[:, origin == 255] = FILL
    sd[:, origin == 0] = 0
    flags = {name: rng.random(shape) < 0.2 for name in ("extrapolated", "snow", "water", "change", "low")}
    age = rng.integers(0, 40, (3, *shape)).astype(np.int16)
    age[:, origin == 255] = FILL
    src = rng.integers(1, 3, shape).astype(np.uint16)
    sources = ("HLS.L30.T33UVP.2024123T095800.v2.0", "HLS.S30.T33UVP.2024120T100031.v2.0")
    facts = {"status": "final", "observed": 0.25, "filled": 0.74, "none": 0.01, "mean_sd": 0.02, "sources": 2}
    return VirtualImage(
        GRID, day, bands, refl, sd, pack_qa(origin, **flags), age, src, sources, "final", "blend+scene", date(2024, 8, 1), facts
    )  # fmt: skip
