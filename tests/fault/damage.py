"""A small region with one of everything that vsat stores, and ways to damage it."""

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from regions import END, tiny
from vsat.config import Region, load_region
from vsat.core.splits import SplitDesign
from vsat.model import saves
from vsat.stages.model_item import write_model_item
from vsat.stages.models import SHIPPED
from vsat.stages.nightly import nightly
from vsat.stages.promotion import promote
from vsat.stages.sample import SampleOptions, sample

MODEL = "2023-06-30"
PATCHES = "models/patches"
OPTIONS = SampleOptions(
    patches=12, size_px=8, stride_px=2, days=30, step_days=10, min_looks=2, strata=("season", "clear"),
    split=SplitDesign(block_px=13, buffer_px=2, validation_share=0.2, test_share=0.25), shard_patches=3,
)  # fmt: skip
NO_SOURCE = {"report, JSON", "report, page", "checkpoint", "save of a training"}
ALONE = {"ledger", "ledger of the patches", "manifest of the patches"}  # damaged, they leave others' loss untold

AXES = {"day", "sensor", "band", "y", "x", "spatial_ref"}
# kind: whether a path below the region's folder is of it
KINDS: dict[str, Callable[[str], bool]] = {
    "scene": lambda p: "/reflectance/c." in p and p.startswith("cubes/"),
    "mask of a scene": lambda p: "/fmask/c." in p and p.startswith("cubes/"),
    "zarr.json of a cube": lambda p: p.startswith("cubes/") and p.endswith("zarr.json"),
    "coordinates of a cube": lambda p: p.startswith("cubes/") and p.split("/")[-1][0] == "c" and p.split("/")[-2] in AXES,
    "image, COG": lambda p: p.startswith("images/") and p.endswith(".tif"),
    "image, STAC item": lambda p: p.startswith("images/") and p.count("/") == 3 and p.endswith(".json"),
    "image, VRT": lambda p: p.endswith(".vrt"),
    "image, QML": lambda p: p.endswith(".qml"),
    "image, PNG": lambda p: p.endswith(".png"),
    "catalogue, JSON": lambda p: p.startswith("images/") and p.count("/") < 3 and p.endswith(".json"),
    "catalogue, GeoParquet": lambda p: p.endswith(".parquet"),
    "map": lambda p: p.endswith("map.html"),
    "report, JSON": lambda p: p.startswith("reports/") and p.endswith(".json"),
    "report, page": lambda p: p.startswith("reports/") and p.endswith(".md"),
    "choice of the model": lambda p: p == "models/current.json",
    "patches": lambda p: p.startswith(f"{PATCHES}/parts/") and ("/reflectance/c." in p or "/fmask/c." in p),
    "metadata, columns of patches": lambda p: p.startswith(f"{PATCHES}/parts/") and not KINDS["patches"](p),
    "survey": lambda p: p.endswith(".npz"),
    "report of the patches": lambda p: p.startswith(f"{PATCHES}/report."),
    "checkpoint": lambda p: p.startswith(f"models/{MODEL}/") and p.count("/") == 2,
    "save of a training": lambda p: p.startswith(f"models/{MODEL}/run/"),
    "ledger": lambda p: p == "ledger.sqlite",
    "ledger of the patches": lambda p: p == f"{PATCHES}/ledger.sqlite",
    "manifest of the patches": lambda p: p == f"{PATCHES}/patches.json",
}  # fmt: skip


@dataclass(frozen=True)
class Damage:
    """One flipped bit (`at` counts bits) or one cut (`at` is the length that is left) of a stored object."""

    kind: str
    path: str
    way: str
    at: int

    def __str__(self) -> str:
        return f"{self.way} of {self.kind} {self.path} at {self.at}"


def build(folder: Path) -> Region:
    """The region with scenes, images, catalogue, reports, patches, a promoted checkpoint and a save of its training."""
    region = load_region(tiny(folder))
    for day in (date(2023, 5, 31), END):
        nightly(region, day)
    sample([region], region.home / PATCHES, OPTIONS)
    model = region.home / "models" / MODEL
    model.mkdir(parents=True)
    for path in SHIPPED.iterdir():
        if path.name != "item.json":
            (model / path.name).write_bytes(path.read_bytes())
    write_model_item(model, MODEL)
    aside = saves.folder_of(model / "run", 25, aside=True)
    saves.begin(aside)
    for name, size in (("model.safetensors", 4000), ("optimizer.safetensors", 8000), ("trainer_state.json", 300)):
        (aside / name).write_bytes(random.Random(name).randbytes(size))
    saves.finish(aside)
    promote(region.home, MODEL, END, reason="by hand")
    return region


def stored(home: Path) -> dict[str, list[str]]:
    """Paths below the region's folder by kind.

    Raises:
        AssertionError: something is stored that is of no kind, or of two.
    """
    found: dict[str, list[str]] = {kind: [] for kind in KINDS}
    for path in sorted(one for one in home.rglob("*") if one.is_file() and not one.name.endswith(".lock")):
        name = path.relative_to(home).as_posix()
        kinds = [kind for kind, is_of in KINDS.items() if is_of(name)]
        assert len(kinds) == 1, (name, kinds)
        found[kinds[0]].append(name)
    return found


def damage(home: Path, kind: str, path: str, way: str, rng: random.Random) -> Damage:
    """Flip a random bit, or cut at a random length."""
    content = bytearray((home / path).read_bytes())
    at = rng.randrange(len(content) * 8 if way == "bit flip" else len(content))
    if way == "bit flip":
        content[at // 8] ^= 1 << at % 8
    else:
        del content[at:]
    (home / path).write_bytes(content)
    return Damage(kind, path, way, at)


def rows_of(path: Path) -> object:
    """All that a ledger says, by SQLite; None where it cannot be read."""
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as db:
            names = dict(db.execute("SELECT name, sql FROM sqlite_master"))
            sound = db.execute("PRAGMA integrity_check").fetchall()
            version = db.execute("PRAGMA user_version").fetchone()
            return names, sound, version, {name: db.execute(f"SELECT * FROM {name}").fetchall() for name in names}
    except (sqlite3.Error, UnicodeError):
        return None
