"""A layer as a picture of any window of the map. Axes: b bands, y, x of the picture; nothing is NaN, and transparent."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from vsat.core.grid import TileGrid
from vsat.core.indices import INDICES, index, index_sd
from vsat.core.masks import clear
from vsat.core.quality import NO_VALUE, NONE, ORIGIN_MASK
from vsat.hls import BANDS, FILL, FMASK_FILL
from vsat.io.cog import level_shapes, read_window
from vsat.io.images import Published, reflectance
from vsat.io.preview import PRIOR
from vsat.io.scenes import read_array
from vsat.objects import StorePath
from vsat.viewer.holdings import Holdings, Look, Shelf, band_layer, layer, missing_bands
from vsat.viewer.layers import COMPOSITES, WHITE_AT, quantity_bands, scale_of
from vsat.viewer.mercator import Sight, View, sight
from vsat.viewer.palettes import DARK, HATCH_DARK, HATCH_LIGHT, LIGHT, NOTHING, STEPS, origin_palette, palette
from vsat.viewer.problems import Refused

HATCH_PX = 8
_AGE_SAMPLES = 3

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Asked:
    """Which layer of which day, and what of it."""

    layer: str
    show: str
    day: date
    hatch: bool = True


@dataclass(frozen=True)
class Sources:
    """What the picture is made from, by tile; `digest` changes with any of it."""

    images: dict[str, Published]
    looks: dict[str, list[Look]]

    @property
    def digest(self) -> str:
        """Texts that change with the content, joined."""
        parts = [image.digest for image in self.images.values()]
        return "".join(parts + [look.digest for looks in self.looks.values() for look in looks])


def sources_of(shelf: Shelf, held: Holdings, asked: Asked) -> Sources:
    """What there is to draw from.

    Raises:
        Refused: there is no image, or no look, of the day; or the region lacks a band.
    """
    scale_of(asked.layer, asked.show)
    looks: dict[str, list[Look]] = {}
    if asked.layer in ("observed", "difference"):
        for look in held.looks_of(asked.day):
            looks.setdefault(look.key.tile, []).append(look)
    images = held.images_of(asked.day) if asked.layer != "observed" else {}
    if asked.layer in ("virtual", "sd", "difference"):
        lacking = missing_bands(shelf.bands, quantity_bands(asked.show))
        if lacking:
            detail = f"{asked.show} needs {', '.join(lacking)}; this region's images have {', '.join(shelf.bands)}"
            raise Refused(422, detail)
    return Sources(images, looks)


def draw(shelf: Shelf, asked: Asked, sources: Sources, view: View) -> Pillow.Image:
    """The picture, of mode P with colour 0 for nothing, or RGBA."""
    seen = _Seen(shelf, asked, sources, view)
    for grid in shelf.grids.values():
        if grid.tile in sources.images or grid.tile in sources.looks:
            seen.add(grid)
    return seen.picture()


def png(picture: Pillow.Image) -> bytes:
    """The picture as PNG; little effort goes into its size, for it is made at every look."""
    buffer = io.BytesIO()
    if picture.mode == "P":
        picture.save(buffer, "PNG", compress_level=1, transparency=NOTHING)
    else:
        picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


class _Seen:
    """The picture as it grows tile by tile: reflectance or whatever the layer needs, where nothing was before."""

    def __init__(self, shelf: Shelf, asked: Asked, sources: Sources, view: View) -> None:
        self._shelf, self._asked, self._sources, self._view = shelf, asked, sources, view
        self._is_composite = asked.layer in ("virtual", "observed") and asked.show in COMPOSITES
        count = 3 if self._is_composite else 1
        self._values_byx = np.full((count, view.height, view.width), np.nan, np.float32)
        self._prior_yx = np.zeros((view.height, view.width), bool)

    def add(self, grid: TileGrid) -> None:
        """What the tile has, where no tile before it had a value."""
        where = sight(self._view, grid)
        if where is None:
            return
        window = _Window(self._shelf, grid, where)
        values_byx, prior_yx = self._values(window)
        fresh_yx = np.isnan(self._values_byx).all(axis=0) & where.inside_yx
        np.copyto(self._values_byx, values_byx, where=fresh_yx)
        self._prior_yx |= prior_yx & fresh_yx

    def picture(self) -> Pillow.Image:
        """The picture of all tiles so far."""
        hatched = self._stripes() if self._asked.hatch and self._asked.layer in ("virtual", "sd") else None
        if self._is_composite:
            return _coloured(self._values_byx, COMPOSITES[self._asked.show], hatched)
        scale = scale_of(self._asked.layer, self._asked.show)
        values_yx, there_yx = self._values_byx[0], np.isfinite(self._values_byx[0])
        codes = np.full(values_yx.shape, NOTHING, np.uint8)
        if scale is None:
            codes[there_yx] = values_yx[there_yx].astype(np.uint8) + 1
            return _indexed(codes, origin_palette())
        share = (values_yx[there_yx] - scale.low) / (scale.top - scale.low)
        codes[there_yx] = 1 + np.rint(np.clip(share, 0, 1) * (STEPS - 1)).astype(np.uint8)
        if hatched is not None:
            codes[hatched == 1], codes[hatched == 2] = HATCH_LIGHT, HATCH_DARK
        return _indexed(codes, palette(scale.ramp))

    def _values(self, window: "_Window") -> tuple[Floats, NDArray[np.bool_]]:
        """Values (b, y, x) of the layer, and where they are prior only."""
        asked, tile = self._asked, window.grid.tile
        bands, image = quantity_bands(asked.show), self._sources.images.get(tile)
        if asked.layer == "observed":
            return self._shown(window.observed(self._sources.looks[tile], bands), bands), window.nowhere
        if image is None:
            return np.full_like(self._values_byx, np.nan), window.nowhere
        origin_yx = window.origin(image)
        if asked.layer in ("age", "origin"):
            classes_yx = np.where(origin_yx == NONE, np.nan, origin_yx).astype(np.float32)
            return (window.age(image) if asked.layer == "age" else classes_yx)[None], window.nowhere
        refl_byx = window.reflectance(image, bands)
        if asked.layer == "difference":
            looks = self._sources.looks.get(tile, [])
            seen_byx = window.observed(looks, bands) if looks else np.full_like(refl_byx, np.nan)
            return self._shown(refl_byx, bands) - self._shown(seen_byx, bands), window.nowhere
        if asked.layer == "sd":
            sd_byx = window.reflectance(image, bands, sd=True)
            shown_byx = index_sd(asked.show, refl_byx, sd_byx, bands)[None] if asked.show in INDICES else sd_byx
        else:
            shown_byx = self._shown(refl_byx, bands)
        return shown_byx, origin_yx == PRIOR

    def _shown(self, refl_byx: Floats, bands: Sequence[str]) -> Floats:
        return index(self._asked.show, refl_byx, bands)[None] if self._asked.show in INDICES else refl_byx

    def _stripes(self) -> NDArray[np.uint8]:
        """1 and 2 where a light and a dark line of the hatching goes, 0 elsewhere; it goes on from tile to tile."""
        y, x = np.ogrid[: self._view.height, : self._view.width]
        at = (x + y) % HATCH_PX
        lines = np.where(at < 2, 1, np.where(at == 2, 2, 0)).astype(np.uint8)
        return np.where(self._prior_yx & np.isfinite(self._values_byx).all(axis=0), lines, np.uint8(0))


class _Window:
    """One tile's pixels under the picture."""

    def __init__(self, shelf: Shelf, grid: TileGrid, where: Sight) -> None:
        self.grid, self._shelf, self._where = grid, shelf, where
        self.nowhere = np.zeros(where.inside_yx.shape, bool)

    def reflectance(self, image: Published, bands: Sequence[str], *, sd: bool = False) -> Floats:
        """Reflectance (b, y, x), or its standard deviation."""
        paths = [band_layer(image, band, sd=sd) for band in bands]
        return np.stack([reflectance(self._file(path, FILL)) for path in paths])

    def origin(self, image: Published) -> NDArray[np.uint8]:
        """Where each value comes from, 0..3, 255 none."""
        qa_yx = self._file(layer(image, "qa"), NO_VALUE).astype(np.uint8)
        return np.where(qa_yx & NO_VALUE, NONE, qa_yx & ORIGIN_MASK).astype(np.uint8)

    def age(self, image: Published) -> Floats:
        """Days to the nearest clear look on either side, NaN where there is none."""
        ages_yxl = self._file(layer(image, "age"), FILL, samples=_AGE_SAMPLES)[..., :2].astype(np.float32)
        ages_yxl[ages_yxl == FILL] = np.inf
        nearest = ages_yxl.min(axis=-1)
        return np.where(np.isfinite(nearest), nearest, np.nan).astype(np.float32)

    def observed(self, looks: Sequence[Look], bands: Sequence[str]) -> Floats:
        """What was seen that day (b, y, x), clouds and all; of two looks the one that is clear, else the first."""
        rows, cols = self._pixels(self.grid.shape)
        window = _span(rows), _span(cols)
        at = (rows - window[0].start), (cols - window[1].start)
        keys = [look.key for look in looks]
        own = [BANDS.index(band) for band in bands]
        home = self._shelf.region.home
        fmask_tyx = read_array(home, self.grid, keys, "fmask", rows=window[0], cols=window[1])[:, 0]
        refl_tbyx = read_array(home, self.grid, keys, "reflectance", rows=window[0], cols=window[1], bands=own)
        cloud = self._shelf.region.cloud
        found = np.full((len(bands), *self.nowhere.shape), np.nan, np.float32)
        for wanted in (True, False):
            for fmask_yx, refl_byx in zip(fmask_tyx, refl_tbyx, strict=True):
                picked = fmask_yx[at]
                clear_yx = clear(picked, adjacent=cloud.adjacent, snow=cloud.snow)
                good = (clear_yx == wanted) & (picked != FMASK_FILL) & np.isnan(found).all(axis=0)
                np.copyto(found, reflectance(refl_byx[:, at[0], at[1]]), where=good & self._where.inside_yx)
        return found

    def _file(self, path: StorePath, nothing: int, *, samples: int = 1) -> NDArray[Any]:
        """The file's pixels under the picture, from the level whose pixels are nearest below the picture's in size."""
        shapes = level_shapes(path, samples=samples)
        if shapes[0] != self.grid.shape:
            raise Refused(503, f"an image of {self.grid.tile} is on another grid than the region; generate it again")
        fitting = [level for level, shape in enumerate(shapes) if shapes[0][0] / shape[0] <= max(1.0, self._where.step)]
        shape = shapes[fitting[-1]]
        rows, cols = self._pixels(shape)
        window = _span(rows), _span(cols)
        part = read_window(path, *window, level=fitting[-1], samples=samples)
        picked: NDArray[Any] = part[rows - window[0].start, cols - window[1].start]
        inside = self._where.inside_yx[..., None] if samples > 1 else self._where.inside_yx
        return np.where(inside, picked, picked.dtype.type(nothing))

    def _pixels(self, shape: tuple[int, int]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Row and column of the level's pixel at each of the picture's; outside the nearest one of those used."""
        where = self._where
        rows = np.floor(where.row_yx * (shape[0] / self.grid.height)).astype(np.intp)
        cols = np.floor(where.col_yx * (shape[1] / self.grid.width)).astype(np.intp)
        return _kept(rows, where.inside_yx, shape[0]), _kept(cols, where.inside_yx, shape[1])


def _kept(at: NDArray[np.intp], inside: NDArray[np.bool_], length: int) -> NDArray[np.intp]:
    """Indices between the least and the largest that are inside, so that no more is read than is shown."""
    used = at[inside]
    return np.clip(at, max(0, int(used.min())), min(length - 1, int(used.max())))


def _span(at: NDArray[np.intp]) -> slice:
    return slice(int(at.min()), int(at.max()) + 1)


def _coloured(refl_byx: Floats, bands: Sequence[str], hatched: NDArray[np.uint8] | None) -> Pillow.Image:
    there_yx = np.isfinite(refl_byx).all(axis=0)
    white = np.array([WHITE_AT[band] for band in bands], np.float32)[:, None, None]
    bright = np.sqrt(np.clip(np.nan_to_num(refl_byx) / white, 0, 1)) * 255
    rgba = np.zeros((*there_yx.shape, 4), np.uint8)
    rgba[..., :3] = bright.transpose(1, 2, 0).astype(np.uint8)
    rgba[..., 3] = there_yx * np.uint8(255)
    if hatched is not None:
        rgba[hatched == 1, :3], rgba[hatched == 2, :3] = LIGHT, DARK
    rgba[~there_yx] = 0
    return Pillow.fromarray(rgba)


def _indexed(codes: NDArray[np.uint8], colours: bytes) -> Pillow.Image:
    picture = Pillow.fromarray(codes)
    picture.putpalette(colours)  # of a grey picture it makes one of mode P
    return picture
