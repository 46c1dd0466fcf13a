"""The quality byte of a virtual image: where a value comes from, and what to be careful about. Axes: b bands, y, x."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NONE = 255  # origin of a pixel without a value
ORIGIN_MASK = 0b11
EXTRAPOLATED, SNOW, WATER, CHANGE, LOW, NO_VALUE = (1 << bit for bit in range(2, 8))

# Looks on both sides of a date differ by their two errors and the season's course; three standard deviations of the
# difference, and no less than a visible step, is more than either explains.
CHANGE_SDS = 3.0
CHANGE_LEAST = 0.06  # reflectance; a harvest moves the near infrared by .1 to .2
# A relative SD above a third leaves an index's sign open; the floor keeps dark water from being called uncertain.
LOW_SHARE = 0.35
LOW_LEAST = 0.03  # reflectance

Bool = NDArray[np.bool_]
Float = NDArray[np.float32]


@dataclass(frozen=True)
class Quality:
    """The byte taken apart, all (y, x): `origin` uint8 0..3 or 255 for no value, and the flags as bool."""

    origin: NDArray[np.uint8]
    extrapolated: Bool
    snow: Bool
    water: Bool
    change: Bool
    low: Bool


def pack_qa(
    origin_yx: NDArray[np.uint8], *, extrapolated: Bool, snow: Bool, water: Bool, change: Bool, low: Bool
) -> NDArray[np.uint8]:
    """The quality byte (y, x): bits 0-1 origin, 2 extrapolated, 3 snow, 4 water, 5 change suspected, 6 low confidence, 7
    no value.

    Args:
        origin_yx: 0 observed that day, 1 filled with a clear look within 16 days, 2 filled farther, 3 prior only, 255 no
            value.
        extrapolated: no clear look on one side of the date.
        snow, water: as the Fmask of the nearest look of the ground says; one of snow counts, even where snow is no
            clear look and the value is therefore that of bare ground.
        change: see `change_suspected`.
        low: see `low_confidence`.
    """
    none = origin_yx == NONE
    qa = np.where(none, NO_VALUE, origin_yx & ORIGIN_MASK).astype(np.uint8)
    for bit, flag in ((EXTRAPOLATED, extrapolated), (SNOW, snow), (WATER, water), (CHANGE, change), (LOW, low)):
        qa |= np.where(flag, np.uint8(bit), np.uint8(0))
    return qa


def unpack_qa(qa_yx: NDArray[np.uint8]) -> Quality:
    """The inverse of `pack_qa`."""
    origin = np.where(qa_yx & NO_VALUE, NONE, qa_yx & ORIGIN_MASK).astype(np.uint8)
    flags = [(qa_yx & np.uint8(bit)) > 0 for bit in (EXTRAPOLATED, SNOW, WATER, CHANGE, LOW)]
    return Quality(origin, *flags)


def change_suspected(step_byx: Float, sd_byx: Float) -> Bool:
    """True (y, x) where the looks before and after a date disagree in some band by more than the spread explains.

    Args:
        step_byx: reflectance of the first look after less that of the last before, NaN where one is missing.
        sd_byx: standard deviation of a value on the date, NaN none. Where either is NaN nothing is suspected.
    """
    step = np.abs(step_byx)
    with np.errstate(invalid="ignore"):
        beyond: Bool = (step > CHANGE_SDS * np.sqrt(2) * sd_byx) & (step > CHANGE_LEAST)
    return np.asarray(beyond.any(axis=0))


def low_confidence(refl_byx: Float, sd_byx: Float) -> Bool:
    """True (y, x) where the mean SD over bands exceeds LOW_LEAST and LOW_SHARE of the mean reflectance; False for NaN."""
    sd, level = sd_byx.mean(axis=0), refl_byx.mean(axis=0)
    with np.errstate(invalid="ignore"):
        return np.asarray((sd > LOW_LEAST) & (sd > LOW_SHARE * level))
