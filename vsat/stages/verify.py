"""Verify: whether all that a region has is what was written, all there, listed, and up to date. Nothing is changed.

What the ledger lists is read and compared with its SHA-256: scenes, the groups they lie in, images, the catalogue. Reports
and pointers carry their own checksums. Then the other way round: what lies there and nobody lists.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from vsat.config import Region
from vsat.core.grid import TileGrid
from vsat.errors import StoreError, VsatError
from vsat.hls import SceneKey
from vsat.io.durable import PARTIAL, sha256_of, sha256_of_parts, size_of
from vsat.io.images import KIND as IMAGE
from vsat.io.images import folder_of
from vsat.io.layout import store_files, store_folder, stored_grid
from vsat.io.ledger import Ledger, Receipt
from vsat.io.ledger_check import DAMAGED, ledger_problems
from vsat.io.patches import MANIFEST
from vsat.io.scenes import CUBE, NEXT, ledger_path, waiting_for
from vsat.io.scenes import KIND as SCENE
from vsat.io.sealed import open_json, page_problem
from vsat.io.stac import catalogue_files
from vsat.io.stac_check import item_problems
from vsat.objects import AT_ONCE, ObjectPath, StorePath
from vsat.stages.findings import Finding
from vsat.stages.generate import CATALOGUE, catalogue_signature
from vsat.stages.map_page import MAP, map_page
from vsat.stages.promotion import FOLDER as MODELS
from vsat.stages.promotion import POINTER
from vsat.stages.stale import stale_images
from vsat.stages.verify_stores import verify_checkpoint, verify_patches

Digests = dict[StorePath, tuple[str, int] | None]


@dataclass(frozen=True)
class VerifyReport:
    """Objects that are listed, their bytes, and what is not as it should be."""

    objects: int
    bytes: int
    findings: tuple[Finding, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """A line for each finding."""
        return tuple(map(str, self.findings))


def verify(region: Region, *, patches: Sequence[Path] = (), checkpoints: Sequence[Path] = ()) -> VerifyReport:
    """All that the region has, and other stores and checkpoints if given, is read and compared with what was written.

    The region's own store of patches and its checkpoints are looked at too. Looking makes no ledger.

    Args:
        region: which.
        patches: folders of patch stores.
        checkpoints: folders of checkpoints, with what training would go on from.

    Raises:
        InputError: there is no patch store or checkpoint in such a folder.
    """
    looks = [(path, verify_patches(path)) for path in elsewhere(region, patches)]
    looks += [(path, verify_checkpoint(path)) for path in elsewhere(region, checkpoints)]
    others = [replace(one, path=str(path / one.path)) for path, found in looks for one in found]
    own = _region(region)
    return VerifyReport(own.objects, own.bytes, (*own.findings, *others))


def elsewhere(region: Region, folders: Iterable[Path]) -> list[Path]:
    """Those of the folders that are not the region's own, which is looked at anyway."""
    home = region.home
    return [one for one in folders if isinstance(home, ObjectPath) or not one.resolve().is_relative_to(home.resolve())]


def _region(region: Region) -> VerifyReport:
    home, path = region.home, ledger_path(region.home)
    files = _files_of(home)
    if not path.exists():
        held = [one for one in files if _top(home, one) in ("cubes", "images")]
        lost = [Finding("missing", path.name, "ledger")] if held else []
        return VerifyReport(0, 0, (*lost, *_nobodys(home, held, set()), *_others(home, files)))
    problems = ledger_problems(path)
    if problems:  # what it lists cannot be believed
        told = tuple(Finding("altered", path.name, "ledger", problem) for problem in problems)
        return VerifyReport(0, 0, (*told, *_others(home, files)))
    with Ledger(path) as ledger:
        cubes, scenes, images = ledger.all(CUBE), ledger.all(SCENE), ledger.all(IMAGE)
        catalogue = ledger.get(CATALOGUE, "images")
        old = set(stale_images(region, ledger))
    stale = [Finding("stale", _item(home, one), f"image {one.key}") for one in images if one.key in old]
    listed = [*cubes, *scenes, *images]
    digests = _read({home / name for one in (*listed, *([catalogue] if catalogue else [])) for name, _ in one.outputs})
    wrong = [*_wrong(home, listed, digests)]
    shown = [(folder_of(home, one), str(one.facts["status"])) for one in images]
    findings = [*wrong, *_groups(region, cubes, scenes), *_items(home, images, digests), *stale]
    findings += _catalogue(region, shown, catalogue, digests, {home / one.path for one in wrong})
    findings += [*_nobodys(home, _held(home, files), _known(region, listed, shown)), *_others(home, files)]
    there = [found for found in digests.values() if found]
    return VerifyReport(len(there), sum(size for _, size in there), tuple(findings))


def nobodys(region: Region) -> list[Finding]:
    """What lies in the region's cubes and images and nothing lists, and what killed writers have left; reads no content.

    Raises:
        StoreError: the ledger is damaged or missing: then everything would be nobody's.
    """
    home, path = region.home, ledger_path(region.home)
    files = _files_of(home)
    held = _held(home, files)
    problems = ledger_problems(path) if path.exists() else ["it is missing"] if held else []
    if problems:
        step = f"vsat repair {region.name} first: without the ledger nobody knows what is listed"
        raise StoreError(f"the ledger is damaged: {problems[0]}", place=str(path), next_step=step)
    if not held:
        return []
    with Ledger(path) as ledger:
        cubes, scenes, images = ledger.all(CUBE), ledger.all(SCENE), ledger.all(IMAGE)
    shown = [(folder_of(home, one), str(one.facts["status"])) for one in images]
    return list(_nobodys(home, held, _known(region, [*cubes, *scenes, *images], shown)))


def _held(home: StorePath, files: Iterable[StorePath]) -> list[StorePath]:
    """What receipts should list, and what killed writers leave wherever it is."""
    places = ("cubes", "images")
    return [one for one in files if _top(home, one) in places or PARTIAL in one.relative_to(home).as_posix()]


def _known(region: Region, listed: Sequence[Receipt], shown: Sequence[tuple[StorePath, str]]) -> set[StorePath]:
    home, scenes = region.home, [one for one in listed if one.kind == SCENE]
    known = {home / name for one in listed for name, _ in one.outputs} | _catalogue_paths(home, shown)
    known |= {waiting_for(home / name, digest) for one in scenes for name, digest in one.outputs}
    return known | {store_folder(home, key.tile, key.day.year) / name for key, name in _group_names(region, scenes)}


def _files_of(home: StorePath) -> list[StorePath]:
    """Everything that lies there, and folders that a killed writer has left empty."""
    if isinstance(home, ObjectPath):
        return [entry.path for entry in home.entries()]
    return sorted(one for one in home.rglob("*") if one.is_file() or (PARTIAL in one.name and one.is_dir()))


def _top(home: StorePath, path: StorePath) -> str:
    return path.relative_to(home).parts[0]


def _read(paths: Iterable[StorePath]) -> Digests:
    """SHA-256 and bytes of each file; None where it is missing."""
    wanted = sorted(paths)
    with ThreadPoolExecutor(AT_ONCE if any(isinstance(path, ObjectPath) for path in wanted) else 2) as pool:
        return dict(zip(wanted, pool.map(_digest, wanted), strict=True))


def _digest(path: StorePath) -> tuple[str, int] | None:
    try:
        return sha256_of(path), size_of(path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None


def _wrong(home: StorePath, receipts: Iterable[Receipt], digests: Digests) -> Iterator[Finding]:
    """Listed objects that are missing or altered; a revised scene may wait beside its place still, and readers know."""
    for receipt in receipts:
        for name, wanted in receipt.outputs:
            found, of = digests[home / name], f"{receipt.kind} {receipt.key}"
            if found and found[0] == wanted:
                continue
            waiting = _digest(waiting_for(home / name, wanted)) if receipt.kind == SCENE else None
            if not waiting or waiting[0] != wanted:
                yield Finding("altered" if found else "missing", name, of)


def _group_names(region: Region, scenes: Iterable[Receipt]) -> Iterator[tuple[SceneKey, str]]:
    """The names of a group's own files, for one scene of each year and tile."""
    grids = {grid.tile: grid for grid in region.grids()}
    keys = {(key.tile, key.day.year): key for key in (SceneKey.from_string(one.key) for one in scenes)}
    for key in keys.values():
        grid = grids.get(key.tile) or _stored(region.home, key)
        if grid:
            yield from ((key, name) for name, _ in store_files(grid, key.day.year))


def _stored(home: StorePath, key: SceneKey) -> TileGrid | None:
    try:
        return stored_grid(store_folder(home, key.tile, key.day.year))
    except StoreError:
        return None


def _groups(region: Region, listed: Sequence[Receipt], scenes: Sequence[Receipt]) -> Iterator[Finding]:
    """Groups whose receipt is lost, or taken away by repair: compared with what would be made now."""
    known = {one.key for one in listed}
    grids = {grid.tile: grid for grid in region.grids()}
    for tile, year in sorted({(key.tile, key.day.year) for key in (SceneKey.from_string(one.key) for one in scenes)}):
        if f"{tile}/{year}" in known or tile not in grids:
            continue
        folder = store_folder(region.home, tile, year)
        for name, content in store_files(grids[tile], year):
            found, wanted = _digest(folder / name), sha256_of_parts([content])
            if not found or found[0] != wanted:
                place = (folder / name).relative_to(region.home).as_posix()
                yield Finding("altered" if found else "missing", place, f"{CUBE} {tile}/{year}")


def _items(home: StorePath, images: Iterable[Receipt], digests: Digests) -> Iterator[Finding]:
    """Items that are what was written, and yet not valid, or name files without a receipt."""
    for image in images:
        folder, wanted = folder_of(home, image), dict(image.outputs)
        path = folder / f"{folder.name}.json"
        name = path.relative_to(home).as_posix()
        if name not in wanted:
            yield Finding("invalid", name, f"image {image.key}", "its receipt lists no item")
            continue
        found = digests[path]
        if not found or found[0] != wanted[name]:
            continue
        own = {
            (home / one).relative_to(folder).as_posix(): home / one
            for one in wanted
            if (home / one).is_relative_to(folder)
        }
        inside = {
            one: read
            for one, at in own.items()
            if (read := digests[at]) and read[0] == wanted[at.relative_to(home).as_posix()]
        }
        item: dict[str, Any] = json.loads(path.read_bytes())
        # those of damaged files are told already
        whole = {
            key: one
            for key, one in item["assets"].items()
            if one["href"].removeprefix("./") not in own.keys() - inside.keys()
        }
        item["assets"] = whole
        for problem in item_problems(item, inside, folder.name):
            yield Finding("invalid", name, f"image {image.key}", problem)


def _item(home: StorePath, image: Receipt) -> str:
    folder = folder_of(home, image)
    return (folder / f"{folder.name}.json").relative_to(home).as_posix()


def _catalogue_paths(home: StorePath, shown: Sequence[tuple[StorePath, str]]) -> set[StorePath]:
    if not shown:
        return set()
    tiles = {home / "images" / folder.parent.name for folder, _ in shown}
    tops = {home / "images" / name for name in ("catalog.json", MAP)}
    return tops | {tile / name for tile in tiles for name in ("collection.json", "items.parquet")}


def _catalogue(
    region: Region,
    shown: Sequence[tuple[StorePath, str]],
    listed: Receipt | None,
    digests: Digests,
    damaged: set[StorePath],
) -> Iterator[Finding]:
    """The catalogue's files: as its receipt says, or else what the images, if none is damaged, would now give."""
    home, of = region.home, "catalogue"
    wanted = dict(listed.outputs) if listed else {}
    paths = sorted(_catalogue_paths(home, shown))
    found = {path: digests.get(path) or _digest(path) for path in paths}
    unlike = [path for path in paths if (found[path] or ("",))[0] != wanted.get(path.relative_to(home).as_posix(), "-")]
    if not unlike:
        if listed and listed.signature != catalogue_signature(home, shown):
            yield Finding("stale", "images/catalog.json", of, "it does not list the images that there are")
        return
    items = {folder / f"{folder.name}.json" for folder, _ in shown}
    made = {} if items & damaged else _made_now(region, shown)
    for path in paths if made else unlike:
        name, digest = path.relative_to(home).as_posix(), found[path]
        if digest is None:
            yield Finding("missing", name, of)
        elif digest[0] != made.get(path):
            yield Finding("altered", name, of)


def _made_now(region: Region, shown: Sequence[tuple[StorePath, str]]) -> dict[StorePath, str]:
    """Checksums of the catalogue's files as they would be made now; empty where an item cannot be read."""
    try:
        made = dict(catalogue_files(region.home / "images", region.name, [folder for folder, _ in shown]))
        made[region.home / "images" / MAP] = map_page(region.name, shown)
    except (VsatError, ValueError, KeyError, TypeError):
        return {}
    return {path: sha256_of_parts([content]) for path, content in made.items()}


def _nobodys(home: StorePath, held: Iterable[StorePath], known: set[StorePath]) -> Iterator[Finding]:
    """What lies there and is not listed; of a folder that a killed writer has left, the folder."""
    told = set[str]()
    for path in held:
        parts = path.relative_to(home).parts
        cut = next((n for n, part in enumerate(parts, 1) if PARTIAL in part), len(parts))
        name = PurePosixPath(*parts[:cut]).as_posix()
        if path not in known and name not in told:
            told.add(name)
            why = "what a killed writer has left" if PARTIAL in name or name.endswith(NEXT) else ""
            yield Finding("nobody's", name, "", why)


def _others(home: StorePath, files: Iterable[StorePath]) -> Iterator[Finding]:
    """Reports, pointers, patches and checkpoints of the region: what no receipt lists, and has its own checksums."""
    for path in files:
        name = path.relative_to(home).as_posix()
        if DAMAGED in name:
            continue
        if name.startswith("reports/"):
            yield from _report(path, name)
        elif name in (f"{MODELS}/{POINTER}",) or path.name in ("begun.json", "retrain.json"):
            yield from _sealed(path, name, "model")
        elif name.startswith(f"{MODELS}/") and isinstance(path, Path):
            if path.name == MANIFEST:
                yield from _below(home, path.parent, verify_patches(path.parent))
            elif path.name == "item.json":
                yield from _below(home, path.parent, verify_checkpoint(path.parent))


def _below(home: StorePath, folder: Path, found: Iterable[Finding]) -> Iterator[Finding]:
    for one in found:
        yield replace(one, path=(folder / one.path).relative_to(home).as_posix())


def _report(path: StorePath, name: str) -> Iterator[Finding]:
    if name.endswith(".json"):
        yield from _sealed(path, name, "report")
    elif name.endswith(".md") and (problem := page_problem(path.read_bytes())):
        yield Finding("altered", name, "report", problem)


def _sealed(path: StorePath, name: str, of: str) -> Iterator[Finding]:
    try:
        open_json(path.read_bytes())
    except ValueError as error:
        yield Finding("altered", name, of, str(error))
