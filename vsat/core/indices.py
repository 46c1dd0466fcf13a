"""Spectral indices of reflectance, with the standard deviation that the bands' own give them.

Each is a gain times one weighted sum of bands over another, so one formula serves all. Axes: b bands, then any others;
the usual ones are b, y, x.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vsat.errors import InputError
from vsat.hls import BANDS

LIMIT = 1.0  # beyond it a value says nothing of the ground: EVI over bright snow, where its divisor nears zero

Float = NDArray[np.float32]


@dataclass(frozen=True)
class Index:
    """One index: `gain * sum(above * refl) / (sum(below * refl) + constant)`, without unit, from -1 to 1.

    Attributes:
        name, title: short, and in full.
        formula: as the paper has it, in names of hls.BANDS.
        source: the paper.
        above, below: weight of each band in the dividend and in the divisor.
        gain, constant: see above.
    """

    name: str
    title: str
    formula: str
    source: str
    above: Mapping[str, float] = field(repr=False)
    below: Mapping[str, float] = field(repr=False)
    gain: float = 1.0
    constant: float = 0.0

    @property
    def bands(self) -> tuple[str, ...]:
        """The bands it needs, in the order of hls.BANDS."""
        return tuple(band for band in BANDS if band in self.above or band in self.below)


def _difference(name: str, title: str, first: str, second: str, source: str) -> Index:
    """The normalised difference of two bands."""
    formula = f"({first} - {second}) / ({first} + {second})"
    return Index(name, title, formula, source, {first: 1.0, second: -1.0}, {first: 1.0, second: 1.0})


_EVI = Index(
    "evi", "enhanced vegetation index", "2.5 * (nir - red) / (nir + 6 * red - 7.5 * blue + 1)",
    "Huete et al. 2002, doi:10.1016/S0034-4257(02)00096-2",
    {"nir": 1.0, "red": -1.0}, {"nir": 1.0, "red": 6.0, "blue": -7.5}, gain=2.5, constant=1.0,
)  # fmt: skip
INDICES = {
    one.name: one
    for one in (
        _difference(
            "ndvi", "normalised difference vegetation index", "nir", "red",
            "Tucker 1979, doi:10.1016/0034-4257(79)90013-0",
        ),
        _EVI,
        _difference(
            "ndwi", "normalised difference water index", "green", "nir",
            "McFeeters 1996, doi:10.1080/01431169608948714",
        ),
        _difference(
            "nbr", "normalised burn ratio", "nir", "swir2",
            "Key and Benson 2006, USDA Forest Service RMRS-GTR-164-CD",
        ),
    )
}  # fmt: skip


def index(name: str, refl_byx: NDArray[np.floating], bands: Sequence[str]) -> Float:
    """The index of every pixel.

    Args:
        name: one of INDICES.
        refl_byx: (b, ...) reflectance (0..1, not the stored integers), NaN none.
        bands: names along b; more than needed is fine.

    Returns:
        float32 (...), -1..1. NaN where a needed band is missing or not above 0, as in NASA's own HLS index products,
        and where the formula leaves -1..1.

    Raises:
        InputError: there is no such index, or a band that it needs is not among `bands`.
    """
    one = named(name)
    return _value(one, _chosen(one, refl_byx, bands)).astype(np.float32)


def index_sd(
    name: str,
    refl_byx: NDArray[np.floating],
    sd_byx: NDArray[np.floating],
    bands: Sequence[str],
    *,
    correlation: float = 0.0,
) -> Float:
    """The standard deviation of every pixel's index, to first order (delta method): its slope along each band, times SD.

    The errors of two bands are taken as independent unless a correlation is given. Errors of one date's estimate mostly
    go the same way in all bands (haze, a wrong level); in a difference of two bands they then cancel in part, so that
    independence gives the larger and more careful figure for NDVI, NDWI and NBR. To first order, the figure is good
    while SDs are small beside the divisor: at a tenth of the bands' sum within some percent.

    Args:
        name, refl_byx, bands: as in `index`.
        sd_byx: (b, ...) standard deviation of reflectance in the same unit, NaN none.
        correlation: of the errors of any two bands, 0..1.

    Returns:
        float32 (...), at least 0; NaN where the index is, and where an SD of a needed band is missing.

    Raises:
        InputError: as `index`.
    """
    one = named(name)
    refl, sd = _chosen(one, refl_byx, bands), _chosen(one, sd_byx, bands)
    above, below = _sums(one, refl)
    own, joint = np.zeros_like(below), np.zeros_like(below)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for b, band in enumerate(one.bands):
            slope = one.gain * (one.above.get(band, 0.0) * below - one.below.get(band, 0.0) * above) / below**2
            own += (slope * sd[b]) ** 2
            joint += slope * sd[b]
        spread = np.sqrt((1 - correlation) * own + correlation * joint**2)
    return np.where(np.isnan(_value(one, refl)), np.nan, spread).astype(np.float32)


def named(name: str) -> Index:
    """The index of this name.

    Raises:
        InputError: there is none.
    """
    if name not in INDICES:
        raise InputError(f"there is no index {name!r}", next_step=f"ask for one of {', '.join(INDICES)}")
    return INDICES[name]


def _chosen(one: Index, values: NDArray[np.floating], bands: Sequence[str]) -> NDArray[np.float64]:
    missing = [band for band in one.bands if band not in bands]
    if missing:
        step = f"ask for {', '.join(one.bands)} in the region's bands, or for another index"
        raise InputError(f"{one.name} needs {', '.join(missing)}", place=", ".join(bands), next_step=step)
    return np.asarray(values[[list(bands).index(band) for band in one.bands]], np.float64)


def _sums(one: Index, refl: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Dividend and divisor, of the needed bands alone."""
    above, below = np.zeros(refl.shape[1:]), np.full(refl.shape[1:], one.constant)
    for b, band in enumerate(one.bands):
        above += one.above.get(band, 0.0) * refl[b]
        below += one.below.get(band, 0.0) * refl[b]
    return above, below


def _value(one: Index, refl: NDArray[np.float64]) -> NDArray[np.float64]:
    above, below = _sums(one, refl)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        value = one.gain * above / below
        fits = (refl > 0).all(axis=0) & (np.abs(value) <= LIMIT)
    return np.where(fits, value, np.nan)
