"""What the judge judges on: observation cubes, the test ground of a region, the test split of a patch store.

Whatever it is becomes blocks: pixels that were seen together, small enough to be filled dozens of times.
Axes: t looks, b bands, y, x; n patches.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vsat.config import Region, load_region
from vsat.core.grid import TileGrid
from vsat.core.masks import clear
from vsat.core.sampling import Strata
from vsat.core.splits import TEST, SplitDesign, block_split, check_splits
from vsat.errors import InputError, StoreError
from vsat.hls import BANDS, RESOLUTION_M, sensors_of
from vsat.io.cube import cube_grid, cube_tiles
from vsat.io.exchange import load_cube
from vsat.io.ledger import Ledger
from vsat.io.patch_reader import PatchStore
from vsat.io.patches import MANIFEST
from vsat.io.scenes import ledger_path, read_scenes, scene_keys
from vsat.objects import StorePath
from vsat.settings import find_region

if TYPE_CHECKING:
    import xarray as xr

log = logging.getLogger(__name__)

WHOLE_PX = 128  # a cube with no longer side is one block
WINDOW_PX = 96  # with half the usual buffer on both sides it fits into a block of the splits
WINDOWS = 6
LEAST_PX = 32  # narrower test ground is not worth a window
PATCHES = 24
_EPOCH = date(1970, 1, 1)

Int16 = NDArray[np.int16]
Bool = NDArray[np.bool_]


@dataclass(frozen=True)
class Block:
    """Pixels that are judged together.

    Attributes:
        source, name: where they are from; `name` tells blocks of a source apart.
        bands: names of hls.BANDS along b.
        refl_tbyx: int16 x 1e-4, FILL none.
        clear_tyx: bool.
        day_t: int32, days since 1970-01-01, ascending, repeats allowed.
        sensor_t: uint8, see `hls.sensors_of`.
        stratum: in words, "" where there are no strata.
        x, y: upper-left corner in metres, or in whatever the cube counts in.
    """

    source: str
    name: str
    bands: tuple[str, ...]
    refl_tbyx: Int16
    clear_tyx: Bool
    day_t: NDArray[np.int32]
    sensor_t: NDArray[np.uint8]
    stratum: str
    x: float
    y: float


@dataclass(frozen=True)
class Source:
    """Blocks of one source, what of it could not be read, and what there is to know about it."""

    name: str
    blocks: tuple[Block, ...]
    unreadable: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def load_source(source: str | Path, *, regions_folder: Path, seed: int = 0, trained: bool = False) -> Source:
    """The blocks of a source.

    Args:
        source: a patch store's folder, a cube (.nc, .zarr), a region file, or a region's name.
        regions_folder: where regions are looked for by name.
        seed: which windows or patches are drawn, where there are more than needed.
        trained: True keeps a region's windows to its test ground, for a method that may have learned from the rest;
            else a region without enough of it is judged anywhere, and a note says so.

    Raises:
        InputError: there is no such source, it is no cube, or it has nothing to judge on.
        StoreError: the cube's or the store's objects contradict their ledger or manifest, or the store's splits leak.
    """
    path = Path(source)
    if (path / MANIFEST).exists():
        return patch_source(path, seed=seed)
    if str(source).endswith((".yaml", ".yml")) or not path.exists():
        return region_source(load_region(find_region(str(source), regions_folder)), seed=seed, trained=trained)
    return cube_source(path, seed=seed)


def cube_source(path: Path, *, seed: int = 0) -> Source:
    """A cube as one block, or as windows of it where it is large."""
    cube = load_cube(path)
    refl_tbyx, fmask_tyx = cube["reflectance"].values, cube["fmask"].values
    clear_tyx = clear(fmask_tyx, refl_tbyx)
    height, width = fmask_tyx.shape[1:]
    whole = max(height, width) <= WHOLE_PX
    boxes = [(0, 0, height, width)] if whole else _lattice(height, width, np.random.default_rng(seed))
    x, y, (half_x, half_y) = cube["x"].values, cube["y"].values, _half_pixel(cube)
    blocks = [
        Block(
            path.stem,
            "whole" if whole else f"row {top} col {left}",
            tuple(map(str, cube["band"].values)),
            np.ascontiguousarray(refl_tbyx[..., top : top + tall, left : left + wide]),
            np.ascontiguousarray(clear_tyx[:, top : top + tall, left : left + wide]),
            cube["time"].values.astype("datetime64[D]").astype(np.int32),
            sensors_of(cube["sensor"].values),
            "",
            float(x[left] - half_x),
            float(y[top] + half_y),
        )
        for top, left, tall, wide in boxes
    ]
    return Source(path.stem, _worth_it(blocks, path))


def region_source(region: Region, *, seed: int = 0, trained: bool = False) -> Source:
    """Windows of a region's cubes on the ground that `core.splits` keeps for testing."""
    tiles = cube_tiles(region.home) if ledger_path(region.home).exists() else []
    if not tiles:
        step = f"fetch its scenes first: vsat fetch {region.name}"
        raise InputError("the region has no scenes yet", place=region.name, next_step=step)
    rng, notes = np.random.default_rng(seed), []
    grids = [cube_grid(region.home, tile) for tile in tiles]
    places = [(grid, box) for grid in grids for box in _test_boxes(grid, SplitDesign())]
    if not places and trained:
        step = "judge on another region, or on the test split of a patch store"
        raise InputError(f"no test block of {LEAST_PX} px or more lies in it", place=region.name, next_step=step)
    if not places:
        notes.append(f"{region.name}: too little test ground, windows lie anywhere; no method here was trained on it")
        places = [(grid, box) for grid in grids for box in _lattice(*grid.shape, rng)]
    picked = sorted(rng.permutation(len(places))[:WINDOWS].tolist())
    blocks = [_region_block(region, *places[at]) for at in picked]
    return Source(region.name, _worth_it(blocks, region.home), notes=tuple(notes))


def patch_source(path: Path, *, seed: int = 0) -> Source:
    """Patches of a store's test split; those that cannot be read are named.

    Raises:
        StoreError: the store's splits leak, or more than half of the patches cannot be read.
    """
    store = PatchStore(path)
    refuse_leaks(store, path)
    test = np.flatnonzero(store.split_n == TEST)
    if not test.size:
        raise InputError("it has no test patches", place=str(path), next_step="draw it with a share for the test")
    picked = np.sort(np.random.default_rng(seed).permutation(test)[:PATCHES])
    blocks, unreadable = [], []
    for index in picked.tolist():
        try:
            blocks.append(_patch_block(store, path, index))
        except StoreError as error:
            log.warning("%s", error)
            unreadable.append(f"{path.name}, {store.name(index)}: {error.problem}")
    if len(unreadable) > len(blocks):
        problem = f"{len(unreadable)} of {len(picked)} test patches cannot be read"
        raise StoreError(problem, place=str(path), next_step="draw the store again: vsat sample")
    return Source(path.name, _worth_it(blocks, path), tuple(unreadable))


def refuse_leaks(store: PatchStore, path: Path) -> None:
    """Nothing happens if no two splits of the store touch in space, nor in time where times are kept.

    Raises:
        StoreError: they do; with the two patches that are nearest.
    """
    design = _design(store)
    day_nt = store.column("day")
    first_n = np.where(day_nt < 0, np.iinfo(np.int32).max, day_nt).min(axis=1)
    problems = check_splits(
        store.epsg_n,
        store.column("x"),
        store.column("y"),
        store.split_n,
        size_m=store.size_px * RESOLUTION_M,
        buffer_m=design.buffer_px * RESOLUTION_M,
        first_day_n=first_n,
        last_day_n=day_nt.max(axis=1),
        design=design,
    )
    if problems:
        step = "what was trained on it has seen the test: draw the store again, and train again"
        raise StoreError(f"its splits leak: {problems[0]}", place=str(path), next_step=step)


def _design(store: PatchStore) -> SplitDesign:
    """The split design that the store's manifest names."""
    try:
        told: dict[str, Any] = store.manifest["options"]["split"]
        plain: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in told.items()}
        return SplitDesign(**plain)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _odd_manifest(store, error) from error


def _strata(store: PatchStore) -> Strata:
    """The strata that the store's manifest names."""
    try:
        told = store.manifest["strata"]
        return Strata(tuple(told["names"]), tuple(tuple(float(edge) for edge in edges) for edges in told["edges"]))
    except (KeyError, TypeError, ValueError) as error:
        raise _odd_manifest(store, error) from error


def _odd_manifest(store: PatchStore, error: Exception) -> StoreError:
    problem = f"its manifest has another form: {type(error).__name__}: {str(error)[:200]}"
    return StoreError(problem, place=str(store.path), next_step="draw the store again: vsat sample")


def _patch_block(store: PatchStore, path: Path, index: int) -> Block:
    patch = store.read(index)
    design = _strata(store)
    return Block(
        path.name,
        f"patch {index}",
        BANDS,
        patch.refl_tbyx,
        clear(patch.fmask_tyx, patch.refl_tbyx),
        patch.day_t,
        patch.sensor_t,
        design.label(int(store.column("stratum")[index])),
        float(store.column("x")[index]),
        float(store.column("y")[index]),
    )


def _region_block(region: Region, grid: TileGrid, box: tuple[int, int, int, int]) -> Block:
    """The looks that an image of the region would rest on: those of the last `context_days`."""
    top, left, tall, wide = box
    with Ledger(ledger_path(region.home)) as ledger:
        keys = scene_keys(ledger, grid.tile)
    keys = [key for key in keys if (keys[-1].day - key.day).days <= region.context_days]
    window = slice(top, top + tall), slice(left, left + wide)
    refl_tbyx, fmask_tyx = read_scenes(region.home, grid, keys, *window)
    return Block(
        region.name,
        f"{grid.tile} row {top} col {left}",
        BANDS,
        refl_tbyx,
        clear(fmask_tyx, refl_tbyx, adjacent=region.cloud.adjacent, snow=region.cloud.snow),
        np.array([(key.day - _EPOCH).days for key in keys], np.int32),
        sensors_of([key.sensor for key in keys]),
        "",
        grid.x0 + left * grid.resolution_m,
        grid.y0 - top * grid.resolution_m,
    )


def _test_boxes(grid: TileGrid, design: SplitDesign) -> list[tuple[int, int, int, int]]:
    """(top, left, height, width) of the test blocks' insides on a grid: half the buffer away from all other ground.

    The larger ones are cut to WINDOW_PX.
    """
    west, north = round(grid.x0 / RESOLUTION_M), round(grid.y0 / RESOLUTION_M)
    size, margin = design.block_px, -(-design.buffer_px // 2)
    boxes = []
    for row in range((north - grid.height) // size, (north - 1) // size + 1):
        for col in range(west // size, (west + grid.width - 1) // size + 1):
            if block_split(design, grid.epsg, np.array(col), np.array(row)) != TEST:
                continue
            left, right = max(col * size + margin - west, 0), min((col + 1) * size - margin - west, grid.width)
            top, bottom = max(north - (row + 1) * size + margin, 0), min(north - row * size - margin, grid.height)
            if min(right - left, bottom - top) >= LEAST_PX:
                boxes.append((top, left, min(bottom - top, WINDOW_PX), min(right - left, WINDOW_PX)))
    return boxes


def _lattice(height: int, width: int, rng: np.random.Generator) -> list[tuple[int, int, int, int]]:
    """Up to WINDOWS windows (top, left, height, width) of a lattice over an image, drawn."""
    tall, wide = min(WINDOW_PX, height), min(WINDOW_PX, width)
    boxes = [(y, x, tall, wide) for y in range(0, height - tall + 1, tall) for x in range(0, width - wide + 1, wide)]
    return [boxes[at] for at in sorted(rng.permutation(len(boxes))[:WINDOWS].tolist())]


def _worth_it(blocks: Sequence[Block], place: StorePath) -> tuple[Block, ...]:
    kept = tuple(block for block in blocks if block.clear_tyx.any())
    if not kept:
        raise InputError("there is not one clear look", place=str(place), next_step="judge on something that was seen")
    return kept


def _half_pixel(cube: "xr.Dataset") -> tuple[float, float]:
    steps = [abs(float(v[1] - v[0])) / 2 if len(v) > 1 else 0.0 for v in (cube["x"].values, cube["y"].values)]
    return steps[0], steps[1]
