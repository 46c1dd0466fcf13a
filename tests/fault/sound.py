"""What a reader sees of a region's store, and whether it may: each scene and image old or new, whole, none lost, none twice.

`see` is what the viewer, an export or a user's script would read at this moment, checked byte by byte; it may run beside a
writer. `faults` compares it with the states before and after the writer's work. `content` is everything that stays.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

from vsat.hls import SceneKey
from vsat.io.cube import cube_grid, read_scenes
from vsat.io.durable import sha256_of
from vsat.io.items_table import ITEMS_TABLE
from vsat.io.ledger import Ledger, Receipt
from vsat.io.scenes import KIND as SCENE
from vsat.io.scenes import ledger_path
from vsat.stages.fetch import FAILED
from vsat.stages.generate import KIND as IMAGE

MIXED, LOST, DOUBLED = "mixed", "lost", "doubled"


@dataclass
class Seen:
    """Units as a reader gets them.

    Attributes:
        units: `scene/<key>` or `image/<tile>/<name>` to a checksum over all that belongs to it.
        faults: (kind, what): units that are not whole, dates that are there twice, entries that lead nowhere.
    """

    units: dict[str, str] = field(default_factory=dict)
    faults: list[tuple[str, str]] = field(default_factory=list)


def see(home: Path) -> Seen:
    """What is to be seen in the region's folder now."""
    seen = Seen()
    if ledger_path(home).exists():
        with closing(Ledger(ledger_path(home))) as ledger:
            scenes, images = ledger.all(SCENE), ledger.all(IMAGE)
        for receipt in scenes:
            seen.units[f"scene/{receipt.key}"] = _scene(home, SceneKey.from_string(receipt.key))
        for receipt in images:
            tile, day = receipt.key.split("/")
            if not list(home.glob(f"images/{tile}/VSAT.T{tile}.{date.fromisoformat(day):%Y%j}.v*/*.json")):
                seen.faults.append((LOST, f"image {receipt.key} is listed and not there"))
    folders = sorted(home.glob("images/*/VSAT.*"))
    seen.faults += _twice("folder of", (f"{folder.parent.name}/{folder.name.split('.')[2]}" for folder in folders))
    for folder in folders:
        unit = f"image/{folder.parent.name}/{folder.name}"
        found = _image(folder)
        seen.units[unit] = found or ""
        seen.faults += [] if found else [(MIXED, f"{unit} is not what its item says")]
    seen.faults += _catalogue(home / "images")
    return seen


def faults(seen: Seen, before: Seen, *after: Seen, any_image: bool = False) -> list[tuple[str, str]]:
    """What a reader should not have seen: its own faults, units that are neither as before nor as after, units gone.

    With `any_image` an image may also be of a state in between, as long as it is whole.
    """
    strange = [
        (MIXED, f"{unit} is neither old nor new")
        for unit, digest in seen.units.items()
        if not (any_image and unit.startswith("image/"))
        and digest not in [state.units.get(unit) for state in (before, *after)]
    ]
    gone = [(LOST, f"{unit} was there") for unit in before.units if unit not in seen.units]
    return [*seen.faults, *strange, *gone]


def content(home: Path) -> dict[str, str]:
    """Path to checksum of all files that stay: not the ledger's own, locks, and the runs' reports, which tell their run."""
    found = {}
    for path in sorted(home.rglob("*")):
        name = path.relative_to(home)
        is_other = name.parts[0] == "reports" or name.name.startswith("ledger.sqlite") or name.suffix == ".lock"
        if path.is_file() and not is_other:
            found[name.as_posix()] = sha256_of(path)
    return found


def told(home: Path, tiles: Iterable[str]) -> dict[str, Any]:
    """What the ledger says: receipts, but for who asked for an image, and watermarks."""
    with closing(Ledger(ledger_path(home))) as ledger:
        marks = {tile: ledger.watermark(f"nightly/{tile}") for tile in tiles}
        receipts = {kind: [_unasked(receipt) for receipt in ledger.all(kind)] for kind in (SCENE, FAILED, IMAGE)}
    return {**receipts, "watermarks": marks}


def _unasked(receipt: Receipt) -> Receipt:
    return replace(receipt, facts={name: value for name, value in receipt.facts.items() if name != "request"})


def _scene(home: Path, key: SceneKey) -> str:
    refl_tbyx, fmask_tyx = read_scenes(home, cube_grid(home, key.tile), [key])
    return hashlib.sha256(refl_tbyx.tobytes() + fmask_tyx.tobytes()).hexdigest()


def _image(folder: Path) -> str | None:
    """Checksum over the item, which has those of all files; None where they are not those files."""
    item = folder / f"{folder.name}.json"
    while True:
        text = item.read_bytes()
        try:
            is_whole = _is_whole(folder, text)
        except FileNotFoundError:
            is_whole = False
        if item.read_bytes() == text:  # else it was replaced while it was read
            return hashlib.sha256(text).hexdigest() if is_whole else None


def _is_whole(folder: Path, item: bytes) -> bool:
    assets = json.loads(item)["assets"].values()
    files = {folder / asset["href"]: asset["file:checksum"].removeprefix("1220") for asset in assets}
    names = {path.name for path in folder.iterdir()}
    return names == {path.name for path in files} | {f"{folder.name}.json"} and all(
        sha256_of(path) == digest for path, digest in files.items()
    )


def _catalogue(root: Path) -> list[tuple[str, str]]:
    """What is wrong with the files that list the images."""
    found: list[tuple[str, str]] = []
    if not (root / "catalog.json").exists():
        return found
    for child in _hrefs(root / "catalog.json", "child"):
        collection = root / child
        items = _hrefs(collection, "item")
        found += _twice("item", items)
        found += [(LOST, f"{href} leads nowhere") for href in items if not (collection.parent / href).is_file()]
        rows = _rows(collection.parent / ITEMS_TABLE)
        found += _twice("row", rows)
        found += [
            (LOST, f"row {name} has no image")
            for name in rows
            if not (collection.parent / name / f"{name}.json").is_file()
        ]
    if (root / "map.html").exists() and not (root / "map.html").read_text().rstrip().endswith("</html>"):
        found.append((MIXED, "map.html has no end"))
    return found


def _hrefs(path: Path, rel: str) -> list[str]:
    return [link["href"] for link in json.loads(path.read_bytes())["links"] if link["rel"] == rel]


def _rows(path: Path) -> list[str]:
    import rustac

    return [str(item["id"]) for item in rustac.read_sync(str(path))["features"]]


def _twice(what: str, names: Iterable[str]) -> list[tuple[str, str]]:
    return [(DOUBLED, f"{what} {name} {count} times") for name, count in Counter(names).items() if count > 1]
