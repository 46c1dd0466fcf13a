"""Colours of the map's layers, chosen to be told apart by people who see few colours, in print and in the dark.

Ramps are given by a few anchors, evenly spaced, and interpolated. The order of lightness is the order of values, but for
the diverging ones, which are light in the middle.
"""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

STEPS = 253  # colours of a ramp; a palette has 256, of which 0 is nothing and the last two are the hatching
NOTHING, HATCH_LIGHT, HATCH_DARK = 0, 254, 255
LIGHT, DARK = (240, 237, 243), (72, 66, 82)  # of the hatching: seen on bright and on dark ground

# viridis, cividis and magma after matplotlib (CC0); brown to green and purple to orange after ColorBrewer's BrBG and PuOr
RAMPS = {
    "viridis": ("#440154", "#472d7b", "#3b528b", "#2c728e", "#21918c", "#28ae80", "#5ec962", "#addc30", "#fde725"),
    "cividis": ("#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369", "#e1cc55", "#fee838"),
    "magma": ("#000004", "#1c1044", "#4f127b", "#812581", "#b5367a", "#e55064", "#fb8761", "#fec287", "#fcfdbf"),
    "brown-green": ("#543005", "#8c510a", "#bf812d", "#dfc27d", "#f6e8c3", "#c7eae5", "#80cdc1", "#35978f", "#01665e", "#003c30"),
    "orange-purple": ("#7f3b08", "#b35806", "#e08214", "#fdb863", "#f7f7f7", "#b2abd2", "#8073ac", "#542788", "#2d004b"),
}  # fmt: skip
# Okabe and Ito's colours, which differ for all common kinds of colour blindness
ORIGINS = (
    (0, "observed that day", "#0072b2"),
    (1, "filled, a clear look within 16 days", "#56b4e9"),
    (2, "filled, looks are farther", "#f0e442"),
    (3, "prior only: no look stands behind it", "#d55e00"),
)


@lru_cache
def ramp(name: str) -> NDArray[np.uint8]:
    """The ramp's colours, uint8 (STEPS, 3)."""
    anchors = np.array([rgb(colour) for colour in RAMPS[name]], np.float64)
    at = np.linspace(0, len(anchors) - 1, STEPS)
    parts = [np.interp(at, np.arange(len(anchors)), anchors[:, channel]) for channel in range(3)]
    return np.rint(np.stack(parts, axis=1)).astype(np.uint8)


@lru_cache
def palette(name: str) -> bytes:
    """A ramp as a picture's palette: 256 x 3 bytes, with NOTHING before and the hatching behind."""
    return bytes(3) + ramp(name).tobytes() + bytes(LIGHT) + bytes(DARK)


@lru_cache
def origin_palette() -> bytes:
    """The classes of the origin as a palette: class n is colour n + 1."""
    colours = [(0, 0, 0), *(rgb(colour) for _, _, colour in ORIGINS)]
    return bytes(value for colour in colours for value in colour).ljust(768, b"\0")


def hexes(name: str, count: int = 17) -> list[str]:
    """Some of a ramp's colours, evenly spaced, for a legend."""
    chosen = ramp(name)[np.linspace(0, STEPS - 1, count).round().astype(int)]
    return [f"#{r:02x}{g:02x}{b:02x}" for r, g, b in chosen.tolist()]


def rgb(colour: str) -> tuple[int, int, int]:
    """Red, green, blue of `#rrggbb`."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)
