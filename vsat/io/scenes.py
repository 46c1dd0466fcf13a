"""Scenes in, scenes out. One scene is one object per array; it counts when the ledger lists it.

A first write goes straight into place: nobody sees it before its receipt. A revised scene is laid beside the old one
(`<object>.<sha256>.next`) and takes its place after its receipt is in the ledger; until then readers take the old
object, and from then on, wherever the process may have died, the new one. So all that is ever seen is old or new.

Arrays: refl int16 (t, b, y, x), scale 1e-4, fill -9999, bands as `hls.BANDS`; fmask uint8 (t, y, x), fill 255.
"""

import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from os.path import commonprefix
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vsat.core.grid import TileGrid
from vsat.errors import StoreError
from vsat.hls import SceneKey
from vsat.io import shard
from vsat.io.durable import PARTIAL, sha256_of, sha256_of_parts, sync_folder, unwritable, write_file
from vsat.io.layout import check_grid, cubes_folder, ensure_store, object_path, shard_layout, store_files, store_folder
from vsat.io.ledger import Ledger, Receipt
from vsat.objects import ABSENT, AT_ONCE, ObjectPath, StorePath

Int16 = NDArray[np.int16]
UInt8 = NDArray[np.uint8]
Read = TypeVar("Read")
KIND, CUBE = "scene", "cube"
NEXT = ".next"


def ledger_path(home: StorePath) -> StorePath:
    """The ledger of a region's folder; in a bucket it is a place with an object per receipt."""
    return home / ("ledger" if isinstance(home, ObjectPath) else "ledger.sqlite")


def write_scene(
    home: StorePath, grid: TileGrid, key: SceneKey, refl_byx: Int16, fmask_yx: UInt8
) -> tuple[tuple[str, str], ...]:
    """The scene is on the disk; it counts once a receipt with the returned outputs is in the ledger.

    Equal arrays give equal bytes; a second write of the same scene changes nothing. Another content beside an existing
    one waits as `.next`, see `settle`.

    Args:
        home: the region's folder.
        grid: the tile's grid.
        key: tile, day, sensor.
        refl_byx: int16 (6, y, x), fill -9999.
        fmask_yx: uint8 (y, x), fill 255.

    Returns:
        (path relative to `home`, sha256) of reflectance and fmask.

    Raises:
        StoreError: the cube is on another grid, or cannot be written (disk full).
    """
    assert key.tile == grid.tile
    try:
        ensure_store(home, grid, key.day.year)
        return (
            _write_object(home, key, "reflectance", grid, refl_byx),
            _write_object(home, key, "fmask", grid, fmask_yx[np.newaxis]),
        )
    except OSError as error:
        raise unwritable(error, str(key), store_folder(home, key.tile, key.day.year)) from error


def list_store(home: StorePath, ledger: Ledger, grid: TileGrid, year: int) -> None:
    """The ledger lists the files of the year's group that are no scenes: metadata and coordinates. Repeating is harmless."""
    key, folder = f"{grid.tile}/{year}", store_folder(home, grid.tile, year)
    if ledger.get(CUBE, key) is None:
        names = [name for name, _ in store_files(grid, year)]
        outputs = tuple(((folder / name).relative_to(home).as_posix(), sha256_of(folder / name)) for name in names)
        ledger.record(Receipt(CUBE, key, "done", (), "", outputs))


def settle(home: StorePath, outputs: Sequence[tuple[str, str]]) -> None:
    """Objects that waited for their receipt take their place. Call after `Ledger.record`; repeating is harmless."""
    for path, digest in outputs:
        waiting = waiting_for(home / path, digest)
        if waiting.is_file():
            _move(waiting, home / path)


def sweep(home: StorePath, ledger: Ledger) -> int:
    """Leftovers of killed writers are gone: half-written ones removed, waiting ones settled or removed.

    Only for the holder of the region's fetch lease: it would take a living writer's files.

    Returns:
        Number of leftovers.
    """
    committed = {waiting_for(home / path, sha) for receipt in ledger.all(KIND) for path, sha in receipt.outputs}
    leftovers = sorted([*cubes_folder(home).rglob(f"*{PARTIAL}"), *cubes_folder(home).rglob(f"*{NEXT}")])
    for path in leftovers:
        if path in committed:
            _move(path, _final(path))
        elif isinstance(path, Path) and path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    return len(leftovers)


def read_scenes(
    home: StorePath,
    grid: TileGrid,
    keys: Sequence[SceneKey],
    rows: slice = slice(None),
    cols: slice = slice(None),
    *,
    workers: int = 1,
) -> tuple[Int16, UInt8]:
    """The pixels of a window in each scene; only the chunks it touches are read, and each is checked.

    Args:
        home: the region's folder.
        grid: the tile's grid, as the cube was written with.
        keys: scenes that the ledger lists, in the order wanted.
        rows, cols: slices of pixels, step 1.
        workers: threads; one scene each.

    Returns:
        refl_tbyx int16 (t, 6, y, x), fill -9999, and fmask_tyx uint8 (t, y, x), fill 255.

    Raises:
        StoreError: a scene's object is missing, torn or altered, or the cube is on another grid.
    """

    def read() -> tuple[Int16, UInt8]:
        refl_tbyx = read_array(home, grid, keys, "reflectance", rows=rows, cols=cols, workers=workers)
        fmask_tbyx = read_array(home, grid, keys, "fmask", rows=rows, cols=cols, workers=workers)
        return refl_tbyx, fmask_tbyx[:, 0]

    return of_one_state(home, keys, read)


def of_one_state(home: StorePath, keys: Sequence[SceneKey], read: Callable[[], Read]) -> Read:
    """What `read` gives, read while none of the scenes was replaced: a mask never comes with another production's pixels.

    Args:
        home: the region's folder.
        keys: scenes that the ledger lists.
        read: reads both arrays of them; called again where a revised scene has come between.
    """
    before = _stamps(home, keys)
    while True:
        found, after = read(), _stamps(home, keys)
        if after == before:
            return found
        before = after


def read_array(
    home: StorePath,
    grid: TileGrid,
    keys: Sequence[SceneKey],
    array: str,
    *,
    rows: slice = slice(None),
    cols: slice = slice(None),
    bands: Sequence[int] | None = None,
    workers: int = 1,
) -> NDArray[Any]:
    """One of the two arrays of `read_scenes`: (t, 6, y, x) int16, or of the `bands` named alone; or (t, 1, y, x) uint8."""
    for year in {key.day.year for key in keys}:
        check_grid(home, grid, year)
    window = range(grid.height)[rows], range(grid.width)[cols]
    assert window[0].step == window[1].step == 1
    layout = shard_layout(grid, array)
    count = layout.shape[0] if bands is None else len(bands)
    out_tbyx = np.empty((len(keys), count, len(window[0]), len(window[1])), layout.dtype)
    if out_tbyx.size:
        reading = _Reading(home, array, layout, window, _committed(home, keys, array), bands)
        workers = max(workers, AT_ONCE) if isinstance(home, ObjectPath) else workers  # to wait for them all at once
        if workers > 1:
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(reading.read, keys, out_tbyx))
        else:
            for key, out_byx in zip(keys, out_tbyx, strict=True):
                reading.read(key, out_byx)
    return out_tbyx


def scene_keys(ledger: Ledger, tile: str) -> list[SceneKey]:
    """The scenes of a tile that the ledger lists as done, sorted by day, then sensor."""
    return [SceneKey.from_string(receipt.key) for receipt in done_scenes(ledger, tile)]


def done_scenes(ledger: Ledger, tile: str = "") -> list[Receipt]:
    """The receipts of a tile's scenes (of all tiles' without one) that are done, sorted by tile, day, sensor."""
    return [receipt for receipt in ledger.all(KIND, f"{tile}/" if tile else "") if receipt.status == "done"]


def _stamps(home: StorePath, keys: Sequence[SceneKey]) -> dict[str, str]:
    path, names = ledger_path(home), [str(key) for key in keys]
    if not names or (isinstance(path, Path) and not path.exists()):
        return {}
    with Ledger(path) as ledger:
        stamps = ledger.stamps(KIND, commonprefix(names))  # noqa: RUF071 - characters are meant
    return {name: stamps.get(name, "") for name in names}


def _write_object(
    home: StorePath, key: SceneKey, array: str, grid: TileGrid, array_byx: NDArray[Any]
) -> tuple[str, str]:
    path = object_path(home, key, array)
    layout = shard_layout(grid, array)
    if isinstance(path, Path) and not path.exists():
        digest = write_file(path, shard.encode(layout, array_byx))
    else:
        parts = list(shard.encode(layout, array_byx))
        digest = sha256_of_parts(parts)
        if not _is_first(path, parts) and digest != sha256_of(path):
            write_file(waiting_for(path, digest), parts)
    return path.relative_to(home).as_posix(), digest


def _is_first(path: StorePath, parts: Sequence[bytes]) -> bool:
    """True if the object was not in the bucket and is now: nobody, late or not, replaces what a receipt may list."""
    return isinstance(path, ObjectPath) and path.put(b"".join(parts), instead_of=ABSENT) is not None


def _move(waiting: StorePath, path: StorePath) -> None:
    if isinstance(waiting, ObjectPath):
        waiting.replace(ObjectPath(path))
    else:
        waiting.replace(path)
        sync_folder(waiting.parent)


@dataclass(frozen=True)
class _Reading:
    """One window of one array, to be read from any number of scenes; `waiting` are objects not yet in their place."""

    home: StorePath
    array: str
    layout: shard.ShardLayout
    window: shard.Window
    waiting: dict[StorePath, StorePath]
    bands: Sequence[int] | None = None

    def read(self, key: SceneKey, out_byx: NDArray[Any]) -> None:
        path = object_path(self.home, key, self.array)
        try:
            try:
                shard.read_window(self.waiting.get(path, path), self.layout, self.window, out_byx, self.bands)
            except FileNotFoundError:
                if path not in self.waiting:
                    raise
                shard.read_window(
                    path, self.layout, self.window, out_byx, self.bands
                )  # it has taken its place meanwhile
        except (OSError, shard.TornShardError) as error:
            told = "it is missing" if isinstance(error, FileNotFoundError) else str(error)
            raise StoreError(
                f"{self.array} of scene {key} cannot be read: {told}",
                place=str(path),
                next_step="remove this file, if it is there, and run vsat fetch: it reads the scene again",
            ) from error


def _committed(home: StorePath, keys: Sequence[SceneKey], array: str) -> dict[StorePath, StorePath]:
    """Objects whose receipt is in the ledger but which have not taken their place yet: final path to waiting path."""
    folders = {store_folder(home, tile, year) / array for tile, year in {(key.tile, key.day.year) for key in keys}}
    waiting = {path for folder in folders for path in folder.glob(f"*{NEXT}")}
    if not waiting:
        return {}
    wanted = {object_path(home, key, array): key for key in keys}
    with Ledger(ledger_path(home)) as ledger:
        receipts = [ledger.get(KIND, str(wanted[path])) for path in map(_final, waiting) if path in wanted]
    listed = {waiting_for(home / path, digest) for receipt in receipts if receipt for path, digest in receipt.outputs}
    return {_final(path): path for path in waiting & listed}


def waiting_for(path: StorePath, digest: str) -> StorePath:
    """Where a revised object of this checksum waits for its place."""
    return path.with_name(f"{path.name}.{digest}{NEXT}")


def _final(waiting: StorePath) -> StorePath:
    return waiting.with_name(waiting.name.removesuffix(NEXT).rpartition(".")[0])
