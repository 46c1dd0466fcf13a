"""The draw of a part: candidates of all places into strata and splits, and which of them become patches.

Axes: n candidates, then patches; t looks; f features; s strata.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer

from vsat.core.sampling import Drawn, Extents, Strata, draw, make_strata
from vsat.core.splits import NEITHER, SPLITS, combine, near_other_zones, split_places, split_times
from vsat.core.strata import Candidates
from vsat.errors import InputError
from vsat.hls import NO_SENSOR, RESOLUTION_M, SENSORS, SceneKey
from vsat.io.patch_reader import PatchStore
from vsat.io.zarr_json import Json
from vsat.stages.survey import Place, SurveyJob, candidates_of, days_since

if TYPE_CHECKING:
    from vsat.stages.sample import SampleOptions

Ints = NDArray[np.int64]
Window = list[Any]  # [region, tile, first day]
Numbering = dict[str, dict[str, int]]  # per tile: scene to number


@dataclass(frozen=True)
class Draw:
    """The patches of one part, in the order in which they are stored, and the figures of the draw."""

    places: tuple[Place, ...]
    strata: Strata
    names: tuple[str, ...]
    place_n: Ints
    top_n: Ints
    left_n: Ints
    looks_n: Ints
    scene_nt: list[NDArray[np.int64]]
    stratum_n: Ints
    split_n: Ints
    features_nf: NDArray[np.float32]
    windows: list[Window]
    figures: Json

    @property
    def count(self) -> int:
        """Number of patches."""
        return len(self.place_n)

    def digest(self) -> str:
        """SHA-256 over which patches were drawn, in hexadecimal."""
        found = hashlib.sha256()
        for column in (self.place_n, self.top_n, self.left_n, self.stratum_n, self.split_n, *self.scene_nt):
            found.update(np.ascontiguousarray(column, np.int64).tobytes())
        return found.hexdigest()

    def scenes_of(self, n: int) -> tuple[int, ...]:
        """The scenes of a patch, by their number in its place."""
        return tuple(int(t) for t in self.scene_nt[n])

    def summary(self) -> Json:
        """What the manifest keeps of the draw."""
        return self.figures

    def columns(self, looks: int) -> dict[str, NDArray[Any]]:
        """The part's columns, see io.patches.COLUMNS."""
        offsets = np.cumsum([0, *(len(place.scenes) for place in self.places)])
        day, sensor, scene = (np.full((self.count, looks), pad, np.int64) for pad in (-1, NO_SENSOR, -1))
        for n, t in enumerate(self.scene_nt):
            keys = [SceneKey.from_string(self.places[self.place_n[n]].scenes[i][0]) for i in t]
            day[n, : t.size] = [days_since(key.day) for key in keys]
            sensor[n, : t.size] = [SENSORS.index(key.sensor) for key in keys]
            scene[n, : t.size] = t + offsets[self.place_n[n]]
        x, y, lon, lat = self._corners()
        return {
            "count": self.looks_n, "day": day, "sensor": sensor, "scene": scene, "split": self.split_n,
            "stratum": self.stratum_n, "tile": self.place_n, "x": x, "y": y, "lon": lon, "lat": lat,
            "features": self.features_nf,
        }  # fmt: skip

    def attributes(self) -> Json:
        """The part's attributes: scenes with granules and signatures, in the order of the tiles; names of the features."""
        return {
            "scenes": [key for place in self.places for key, _, _ in place.scenes],
            "granules": [list(granules) for place in self.places for _, granules, _ in place.scenes],
            "signatures": [signature for place in self.places for _, _, signature in place.scenes],
            "tiles": [
                {"region": p.region, "tile": p.grid.tile, "epsg": p.grid.epsg, "scenes": len(p.scenes)}
                for p in self.places
            ],
            "features": list(self.names),
        }

    def _corners(self) -> tuple[NDArray[np.float64], ...]:
        """Upper-left corner in metres, centre in degrees."""
        out = np.empty((4, self.count))
        half = self.figures["size_px"] * RESOLUTION_M / 2
        for number, place in enumerate(self.places):
            here = self.place_n == number
            out[0, here] = place.grid.x0 + self.left_n[here] * RESOLUTION_M
            out[1, here] = place.grid.y0 - self.top_n[here] * RESOLUTION_M
            to_degrees = Transformer.from_crs(place.grid.epsg, 4326, always_xy=True)
            out[2:, here] = to_degrees.transform(out[0, here] + half, out[1, here] - half)
        return tuple(out)


@dataclass(frozen=True)
class _Pool:
    """All candidates that a split has, of all places: columns along n, and what was left out on the way."""

    place_n: Ints
    top_n: Ints
    left_n: Ints
    first_n: Ints
    look_nt: NDArray[np.bool_]  # along the looks of the place's tile, see _numbering
    features_nf: NDArray[np.float32]
    spread_n: NDArray[np.float32]
    split_n: Ints
    names: tuple[str, ...]
    in_buffers: int

    def take(self, keep: NDArray[np.bool_]) -> "_Pool":
        """Some of the candidates; the others are counted as lying in buffers."""
        return _Pool(
            self.place_n[keep], self.top_n[keep], self.left_n[keep], self.first_n[keep], self.look_nt[keep],
            self.features_nf[keep], self.spread_n[keep], self.split_n[keep], self.names,
            self.in_buffers + int((~keep).sum()),
        )  # fmt: skip


def draw_patches(surveys: Sequence[SurveyJob], options: "SampleOptions", store: PatchStore | None) -> Draw | None:
    """The next part of a store, or None where no stretch of time is new, or nothing in it differs from what is there.

    Args:
        surveys: done, one per place.
        options: of the store.
        store: as it is, whose patches count as taken; None for the first part.

    Raises:
        InputError: there is no candidate at all.
    """
    places, manifest = tuple(job.place for job in surveys), store.manifest if store is not None else None
    numbering = _numbering(places, store)
    old = {tuple(window) for window in manifest["windows"]} if manifest else set()
    pool, windows = _pool(surveys, options, old, numbering)
    if not windows and manifest:
        return None
    if not pool.place_n.size:
        if manifest:
            return None
        step = "take a larger area or a longer period, or smaller --size, --days, --block or --buffer"
        problem = f"no window of {options.size_px} px and {options.days} days has {options.min_looks} looks and a split"
        raise InputError(problem, place=", ".join(place.name for place in places), next_step=step)
    used = [pool.names.index(name) for name in (*options.strata, *(name for name, _ in options.static))]
    if manifest:
        stored = manifest["strata"]
        strata = Strata(tuple(stored["names"]), tuple(tuple(edges) for edges in stored["edges"]))
        first = manifest["draws"][0]
        total = round(options.patches * pool.place_n.size / first["candidates"])
    else:
        strata = make_strata(pool.features_nf[:, used], [pool.names[f] for f in used])
        total = options.patches
    stratum_n, (x_n, y_n) = strata.of(pool.features_nf[:, used]), _ground(places, pool)
    tiles = sorted(numbering)
    tile_n = np.array([tiles.index(place.grid.tile) for place in places], np.int64)[pool.place_n]
    drawn = draw(
        stratum_n=stratum_n, block_n=_blocks(places, pool, options, x_n, y_n), spread_n=pool.spread_n, place_n=tile_n,
        x_n=x_n, y_n=y_n, size=options.size_px * RESOLUTION_M, look_nk=np.packbits(pool.look_nt, axis=1),
        strata=strata.count, total=total, rule=options.rule, floor=options.floor, max_overlap=options.max_overlap,
        seed=options.seed + len(old), earlier=_earlier(store, numbering) if store is not None else None,
    )  # fmt: skip
    if not drawn.picked.size:
        return None
    return _drawn(places, options, pool, strata, stratum_n, drawn, windows, total, numbering)


def _pool(
    surveys: Sequence[SurveyJob], options: "SampleOptions", old: set[tuple[Any, ...]], numbering: Numbering
) -> tuple[_Pool, list[Window]]:
    looks = _most_scenes(numbering)
    parts, windows, in_buffers = [], list[Window](), 0
    names: tuple[str, ...] = ()
    for number, job in enumerate(surveys):
        found = candidates_of(
            job, size_px=options.size_px, days=options.days, step_days=options.step_days, most_looks=options.most_looks,
            min_looks=options.min_looks, min_clear=options.min_clear,
        )  # fmt: skip
        names, region, tile = found.names, job.place.region, job.place.grid.tile
        new = [int(day) for day in np.unique(found.first_day_n) if (region, tile, int(day)) not in old]
        windows += [[region, tile, day] for day in new]
        split = combine(
            options.split,
            split_places(options.split, job.place.grid, found.top_n, found.left_n, options.size_px),
            split_times(options.split, found.first_day_n, found.last_day_n),
        )
        fresh = np.isin(found.first_day_n, new)
        in_buffers += int((fresh & (split == NEITHER)).sum())
        parts.append(
            _columns(number, found, split, np.flatnonzero(fresh & (split != NEITHER)), job.place, numbering, looks)
        )
    joined: list[NDArray[Any]] = [np.concatenate(list(column)) for column in zip(*parts, strict=True)]
    place, top, left, first, look, features, spread, splits = joined
    pool = _Pool(place, top, left, first, look, features, spread, splits, names, in_buffers)
    return _apart(pool, [job.place for job in surveys], options), windows


def _columns(
    number: int,
    found: Candidates,
    split: Any,
    keep: Ints,
    place: Place,
    numbering: Numbering,
    looks: int,
) -> tuple[NDArray[Any], ...]:
    """The pool's columns of one place."""
    bits = np.unpackbits(found.look_nk[keep], axis=1, count=len(place.scenes)).astype(np.bool_)
    look = np.zeros((keep.size, looks), np.bool_)
    look[:, [numbering[place.grid.tile][key] for key, _, _ in place.scenes]] = bits
    return (
        np.full(keep.size, number, np.int64), found.top_n[keep].astype(np.int64), found.left_n[keep].astype(np.int64),
        found.first_day_n[keep].astype(np.int64), look, found.features_nf[keep], found.variability_n[keep],
        split[keep].astype(np.int64),
    )  # fmt: skip


def _numbering(places: Sequence[Place], store: PatchStore | None) -> Numbering:
    """Scene to number, per tile over all regions and the store's parts: two regions on one ground share their looks."""
    keys: dict[str, set[str]] = {}
    for place in places:
        keys.setdefault(place.grid.tile, set()).update(key for key, _, _ in place.scenes)
    for part in store.parts if store is not None else ():
        for key in part.attributes["scenes"]:
            keys.setdefault(SceneKey.from_string(key).tile, set()).add(key)
    return {tile: {key: i for i, key in enumerate(sorted(found))} for tile, found in keys.items()}


def _most_scenes(numbering: Numbering) -> int:
    return max((len(scenes) for scenes in numbering.values()), default=0)


def _earlier(store: PatchStore, numbering: Numbering) -> Extents:
    """The store's patches, whichever region they come from."""
    tiles = sorted(numbering)
    tile, look = np.empty(len(store), np.int64), np.zeros((len(store), _most_scenes(numbering)), np.bool_)
    for n in range(len(store)):
        name = store.tile(n)
        tile[n] = tiles.index(name)
        look[n, [numbering[name][key] for key in store.scenes(n)]] = True
    return Extents(tile, store.column("x"), store.column("y"), np.packbits(look, axis=1))


def _apart(pool: _Pool, places: Sequence[Place], options: "SampleOptions") -> _Pool:
    """Without those that another zone's patches of another split are too near to."""
    epsg = np.array([place.grid.epsg for place in places], np.int64)[pool.place_n]
    if np.unique(epsg).size < 2:
        return pool
    x, y = _ground(places, pool)
    size_m, buffer_m = options.size_px * RESOLUTION_M, options.split.buffer_px * RESOLUTION_M
    at, first, inverse = np.unique(
        np.column_stack([epsg, x, y, pool.split_n]), axis=0, return_index=True, return_inverse=True
    )
    gone = near_other_zones(at[:, 0].astype(np.int64), at[:, 1], at[:, 2], pool.split_n[first], size_m, buffer_m)
    return pool.take(~np.isin(inverse.ravel(), gone))


def _ground(places: Sequence[Place], pool: _Pool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Upper-left corner in metres."""
    x0, y0 = (np.array([getattr(place.grid, side) for place in places])[pool.place_n] for side in ("x0", "y0"))
    return x0 + pool.left_n * RESOLUTION_M, y0 - pool.top_n * RESOLUTION_M


def _blocks(
    places: Sequence[Place], pool: _Pool, options: "SampleOptions", x_n: NDArray[np.float64], y_n: NDArray[np.float64]
) -> Ints:
    """The block of ground, numbered, that each candidate's centre lies in."""
    half, side = options.size_px * RESOLUTION_M / 2, options.split.block_px * RESOLUTION_M
    epsg = np.array([place.grid.epsg for place in places])[pool.place_n]
    at = np.column_stack([epsg, (x_n + half) // side, (y_n - half) // side])
    return np.asarray(np.unique(at, axis=0, return_inverse=True)[1].ravel(), np.int64)


def _drawn(
    places: tuple[Place, ...],
    options: "SampleOptions",
    pool: _Pool,
    strata: Strata,
    stratum_n: Ints,
    drawn: Drawn,
    windows: list[Window],
    total: int,
    numbering: Numbering,
) -> Draw:
    """The part: patches in an order in which those of one shard lie near each other, for training shuffles anyway."""
    picked = drawn.picked
    block = options.split.block_px
    order = picked[
        np.lexsort((
            pool.left_n[picked], pool.top_n[picked], pool.left_n[picked] // block, pool.top_n[picked] // block,
            pool.first_n[picked], pool.place_n[picked],
        ))
    ]  # fmt: skip
    back = [
        np.array([numbering[place.grid.tile][key] for key, _, _ in place.scenes], np.int64) for place in places
    ]  # of a place's scenes, their number in the tile
    scenes = [np.flatnonzero(pool.look_nt[n][back[pool.place_n[n]]]) for n in order]
    available = np.bincount(stratum_n, minlength=strata.count)
    figures: Json = {
        "asked": total, "drawn": int(order.size), "candidates": int(pool.place_n.size), "in_buffers": pool.in_buffers,
        "thinned": drawn.thinned, "size_px": options.size_px,
        "strata": [
            [int(s), int(available[s]), int(drawn.want_s[s]), int(drawn.drawn_s[s])] for s in np.flatnonzero(available)
        ],
        "splits": {name: int((pool.split_n[order] == i).sum()) for i, name in enumerate(SPLITS)},
    }  # fmt: skip
    return Draw(
        places, strata, pool.names, pool.place_n[order], pool.top_n[order], pool.left_n[order],
        np.array([t.size for t in scenes], np.int64), scenes, stratum_n[order], pool.split_n[order],
        pool.features_nf[order], windows, figures,
    )  # fmt: skip
