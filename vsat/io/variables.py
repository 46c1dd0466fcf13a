"""What an export is made of: bands, indices, their standard deviations, quality and age, each one layer of stored integers.

Axes: b bands, y, x.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vsat.core.grid import TileGrid
from vsat.core.indices import index, index_sd, named
from vsat.errors import InputError
from vsat.hls import BANDS, COMMON_NAMES, FILL, SCALE, WAVELENGTH_UM
from vsat.io.images import Published, read_layer, reflectance

INDEX_FILL = -19999  # as in NASA's own HLS index products: -1 is -10000, and so -9999 is a value
_LARGEST = 32767
_ROWS = 256  # an index is made in stripes: in double precision a whole tile takes a gigabyte

AGES = (
    ("days_since_look", "days since the last clear look", "day"),
    ("days_until_look", "days until the next clear look", "day"),
    ("looks", "number of clear looks used", "1"),
)


@dataclass(frozen=True)
class Variable:
    """One layer of an export.

    Attributes:
        name, title, unit: short, in words, as CF has it ("1" for none).
        dtype, fill, scale: of the stored numbers; fill None where every number is a value.
        asset, number: the published layer it is, and which of its bands; "" for an index.
        index: the index it is of; "" for none.
        is_sd: whether it is a standard deviation.
        resampling: for overviews.
    """

    name: str
    title: str
    unit: str
    dtype: str
    fill: int | None
    scale: float
    asset: str = ""
    number: int = 0
    index: str = ""
    is_sd: bool = False
    resampling: str = "average"

    @property
    def band(self) -> str:
        """The band that it is the reflectance of, or its standard deviation; "" for none."""
        return next((band for band in BANDS if COMMON_NAMES[band] == self.asset.removesuffix("_sd")), "")


def chosen(bands: Sequence[str], indices: Sequence[str]) -> tuple[Variable, ...]:
    """Bands, then indices, each with its standard deviation, then quality and age.

    Raises:
        InputError: there is no such band or index.
    """
    unknown = [band for band in bands if band not in BANDS]
    if unknown:
        raise InputError(f"unknown band {unknown[0]!r}", place="--bands", next_step=f"name some of {', '.join(BANDS)}")
    found = []
    for band in (band for band in BANDS if band in bands):
        asset, light = COMMON_NAMES[band], f"{WAVELENGTH_UM[band]} um"
        found += [
            Variable(band, f"{band} surface reflectance, {light}", "1", "int16", FILL, SCALE, asset),
            Variable(
                f"{band}_sd", f"predicted standard deviation of {band} surface reflectance", "1", "int16", FILL, SCALE,
                f"{asset}_sd", is_sd=True,
            ),
        ]  # fmt: skip
    for name in dict.fromkeys(indices):
        title = named(name).title
        found += [
            Variable(name, title, "1", "int16", INDEX_FILL, SCALE, index=name),
            Variable(
                f"{name}_sd", f"standard deviation of the {title}, propagated from the bands'", "1", "int16", INDEX_FILL,
                SCALE, index=name, is_sd=True,
            ),
        ]  # fmt: skip
    found.append(Variable("qa", "quality bits", "1", "uint8", None, 1.0, "qa", resampling="mode"))
    found += [
        Variable(name, title, unit, "int16", FILL, 1.0, "age", number, resampling="nearest")
        for number, (name, title, unit) in enumerate(AGES)
    ]
    return tuple(found)


def read_variable(one: Published, variable: Variable, grid: TileGrid) -> NDArray[np.generic]:
    """The stored numbers (y, x) of a variable of an image; its fill throughout where the image lacks a band for it.

    Raises:
        StoreError: a layer is missing, unreadable, or on another grid.
    """
    if not variable.index:
        if variable.asset not in one.files:
            return np.full(grid.shape, variable.fill or 0, variable.dtype)
        layer_yx: NDArray[np.generic] = read_layer(one.files[variable.asset], grid)[variable.number]
        return layer_yx
    bands = named(variable.index).bands
    stored_yx = np.full(grid.shape, INDEX_FILL, np.int16)
    if set(bands) <= set(one.bands):
        refl_byx = _bands(one, bands, "", grid)
        sd_byx = _bands(one, bands, "_sd", grid) if variable.is_sd else refl_byx
        for top in range(0, grid.height, _ROWS):
            rows = slice(top, top + _ROWS)
            refl, sd = reflectance(refl_byx[:, rows]), reflectance(sd_byx[:, rows])
            value = index_sd(variable.index, refl, sd, bands) if variable.is_sd else index(variable.index, refl, bands)
            stored_yx[rows] = stored(value, variable)
    return stored_yx


def stored(values: NDArray[np.floating], variable: Variable) -> NDArray[np.int16]:
    """Values as the variable stores them; NaN becomes its fill, and what is larger than it can hold its largest."""
    assert variable.fill is not None
    whole = np.clip(np.rint(np.nan_to_num(values) / variable.scale), variable.fill + 1, _LARGEST)
    return np.where(np.isnan(values), variable.fill, whole).astype(np.int16)


def _bands(one: Published, bands: Sequence[str], suffix: str, grid: TileGrid) -> NDArray[np.generic]:
    return np.concatenate([read_layer(one.files[f"{COMMON_NAMES[band]}{suffix}"], grid) for band in bands])
