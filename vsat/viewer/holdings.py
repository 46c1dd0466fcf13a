"""What there is to see of a region: its published images and the satellite's looks, as the ledger lists them now."""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from vsat.config import Region
from vsat.core.grid import TileGrid
from vsat.hls import BANDS, COMMON_NAMES, SceneKey
from vsat.io.images import KIND, Published, as_published
from vsat.io.ledger import Ledger, Receipt
from vsat.io.scenes import done_scenes, ledger_path
from vsat.objects import ObjectPath, StorePath
from vsat.viewer.problems import not_found

Made = TypeVar("Made")
REMOTE_S = 10.0  # a ledger in a bucket does not say cheaply whether it has changed: it is read again after that long


@dataclass(frozen=True)
class Look:
    """A scene in the cube: what the satellite really saw of a tile, and the share of it that is clear (None unknown)."""

    key: SceneKey
    clear: float | None
    digest: str


@dataclass(frozen=True)
class Holdings:
    """All images and looks of a region at one state of its ledger, sorted by day, then tile."""

    images: tuple[Published, ...]
    looks: tuple[Look, ...]

    @cached_property
    def by_day(self) -> dict[date, dict[str, Published]]:
        """Images by day and tile."""
        found: dict[date, dict[str, Published]] = {}
        for image in self.images:
            found.setdefault(image.day, {})[image.tile] = image
        return found

    @cached_property
    def by_name(self) -> dict[str, Published]:
        """Images by the name of their item."""
        return {image.name: image for image in self.images}

    @cached_property
    def looks_by_day(self) -> dict[date, list[Look]]:
        """Looks by day."""
        found: dict[date, list[Look]] = {}
        for look in self.looks:
            found.setdefault(look.key.day, []).append(look)
        return found

    def images_of(self, day: date) -> dict[str, Published]:
        """The images of a day by tile.

        Raises:
            Refused: there is none.
        """
        if day not in self.by_day:
            raise not_found(f"there is no virtual image of {day}; the region's dates say which there are")
        return self.by_day[day]

    def looks_of(self, day: date) -> list[Look]:
        """The looks of a day.

        Raises:
            Refused: there is none.
        """
        if day not in self.looks_by_day:
            raise not_found(f"the satellite did not look on {day}; the region's looks say when it did")
        return self.looks_by_day[day]

    def between(self, start: date | None, end: date | None) -> list[date]:
        """Days with an image from `start` to `end`, both included."""
        return [day for day in self.by_day if (start or day) <= day <= (end or day)]


class Shelf:
    """A region as the viewer holds it, for all threads: its grids, and its holdings, read again when the ledger changes."""

    def __init__(self, region: Region, pool: ThreadPoolExecutor) -> None:
        self.region, self.pool = region, pool
        self._lock, self._held = Lock(), Holdings((), ())
        self._mark: tuple[object, ...] = (object(),)  # no mark of a ledger
        self._made: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """The region's id."""
        return self.region.name

    @cached_property
    def grids(self) -> dict[str, TileGrid]:
        """The region's windows by tile."""
        return {grid.tile: grid for grid in self.region.grids()}

    @cached_property
    def bands(self) -> tuple[str, ...]:
        """The bands of its images."""
        return self.region.bands

    def holdings(self) -> Holdings:
        """What there is now."""
        mark = _mark(ledger_path(self.region.home))
        with self._lock:
            if mark != self._mark:
                self._held, self._mark, self._made = _read(self.region, self.grids), mark, {}
            return self._held

    def remembered(self, name: str, make: Callable[[], Made]) -> Made:
        """What `make` makes of the holdings, made once for as long as they stay as they are."""
        self.holdings()
        made = self._made
        if name not in made:
            made[name] = make()
        found: Made = made[name]
        return found


class Shelves:
    """The regions that are served, by id.

    Args:
        regions: each with a name of its own.
        threads: how many read at once.
    """

    def __init__(self, regions: Iterable[Region], threads: int) -> None:
        self.pool = ThreadPoolExecutor(threads, thread_name_prefix="viewer")
        self._shelves = {region.name: Shelf(region, self.pool) for region in regions}

    def __iter__(self) -> Iterator[Shelf]:
        return iter(self._shelves.values())

    def of(self, name: str) -> Shelf:
        """The region of this id.

        Raises:
            Refused: there is none.
        """
        if name not in self._shelves:
            raise not_found("there is no such region")
        return self._shelves[name]


def layer(image: Published, asset: str) -> StorePath:
    """The TIFF of an asset: "red", "nir08_sd", "qa", "age".

    Raises:
        Refused: the image has none.
    """
    if asset not in image.files:
        raise not_found(f"image {image.name} has no {asset}")
    return image.files[asset]


def band_layer(image: Published, band: str, *, sd: bool = False) -> StorePath:
    """The TIFF of a band of hls.BANDS, or of its standard deviation. Raises as `layer`."""
    return layer(image, COMMON_NAMES[band] + ("_sd" if sd else ""))


def missing_bands(bands: Sequence[str], needed: Iterable[str]) -> list[str]:
    """The bands that are needed and not there, in the order of the wavelengths."""
    wanted = set(needed)
    return [band for band in BANDS if band in wanted and band not in bands]


def _mark(path: StorePath) -> tuple[object, ...]:
    """Changes when the ledger does. SQLite writes to the log beside it first, so that counts too."""
    if isinstance(path, ObjectPath):
        return (int(time.monotonic() / REMOTE_S),)
    marks: list[object] = []
    for file in (path, path.with_name(path.name + "-wal")):
        try:
            told = Path(file).stat()
            marks.append((told.st_ino, told.st_mtime_ns, told.st_size))
        except OSError:
            marks.append(None)
    return tuple(marks)


def _read(region: Region, grids: Mapping[str, TileGrid]) -> Holdings:
    path = ledger_path(region.home)
    if not path.exists():  # looking at a region that was never worked on makes no ledger
        return Holdings((), ())
    with Ledger(path) as ledger:
        images = [as_published(region.home, receipt) for receipt in ledger.all(KIND) if receipt.status == "done"]
        looks = [_look(receipt) for receipt in done_scenes(ledger)]
    return Holdings(
        tuple(sorted((one for one in images if one.tile in grids), key=lambda one: (one.day, one.tile))),
        tuple(sorted((one for one in looks if one.key.tile in grids), key=lambda one: (one.key.day, one.key))),
    )


def _look(receipt: Receipt) -> Look:
    share = receipt.facts.get("clear")
    digest = hashlib.sha256(repr(receipt.outputs).encode()).hexdigest()[:32]
    return Look(SceneKey.from_string(receipt.key), float(share) if isinstance(share, int | float) else None, digest)
