"""An HLS archive on this machine: written from the synthetic world or from any observation cube, served on loopback.

Layout: `<folder>/HLSL30_2.0/<granule id>/<granule id>.B02.tif` .. `.Fmask.tif` and, last, `<granule id>_stac.json`; a
granule without its item is not there. Axes: t looks, b bands, y, x pixels.
"""

import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from vsat.core.grid import TileGrid
from vsat.core.synthetic import PASS, VERSION, Landscape, angles, observe, schedule
from vsat.errors import InputError
from vsat.hls import FILES, SENSORS, GranuleId
from vsat.io.cube_looks import looks_of
from vsat.io.durable import sha256_of, sync_folder, write_file
from vsat.io.hls_files import (
    COLLECTIONS,
    FMASK,
    GranuleFacts,
    collection,
    day_of,
    facts_of,
    granule_files,
    granule_item,
)
from vsat.io.servers import FILES_ROOT, running
from vsat.io.trust import Endpoint

if TYPE_CHECKING:
    import xarray as xr

log = logging.getLogger(__name__)

WITHHELD = "withheld.json"
_Pixels = tuple[NDArray[np.int16], NDArray[np.uint8]]


@dataclass(frozen=True)
class ArchiveReport:
    """What a write left in the folder. `notes` are what a user should know: each a sentence with its number."""

    folder: str
    grid: TileGrid
    granules: tuple[str, ...]
    written: int
    kept: int
    notes: tuple[str, ...] = ()


def write_synthetic(
    folder: Path, *, grid: TileGrid, land: Landscape, start: date, end: date, threads: int = 2
) -> ArchiveReport:
    """All looks of the synthetic world from `start` to `end` are in the archive; what is there and whole is kept.

    Args:
        folder: the archive's root; made if need be.
        grid: window of a tile, of the landscape's shape.
        land: the synthetic world.
        start, end: days, both included.
        threads: how many granules are made at a time.

    Raises:
        InputError: the shapes differ, or the folder holds granules of this tile from another source.
    """
    if grid.shape != land.shape:
        raise InputError(
            f"the landscape is {land.shape} pixels, the grid {grid.shape}",
            place="write_synthetic",
            next_step="make both the same",
        )
    source = "synthetic:" + _digest([VERSION, asdict(land), asdict(grid)])
    jobs = {}
    for day, sensor in schedule(land, start, end):
        jobs[_synthetic_facts(grid, land, day, sensor, source)] = _observer(land, day, sensor)
    _refuse_mixture(folder, grid.tile, source)
    return _write(folder, grid, jobs, threads)


def write_cube(
    folder: Path,
    cube: "xr.Dataset",
    *,
    tile: str,
    x0: float | None = None,
    y0: float | None = None,
    threads: int = 2,
) -> ArchiveReport:
    """All looks of an observation cube are in the archive, pixel for pixel on the tile's 30 m lattice.

    Pixels are not resampled: a cube of another resolution is laid on the lattice as it is, and a note says so. Sensors
    other than L30 and S30 become L30; several looks of one sensor on one day become granules five minutes apart.

    Args:
        folder: the archive's root; made if need be.
        cube: as `io.cube.load_cube` gives it, with all six bands.
        tile: MGRS tile that it becomes part of.
        x0, y0: upper-left corner in metres in the tile's UTM zone; by default the cube's own, else the tile's centre.
        threads: how many granules are made at a time.

    Raises:
        InputError: a band is missing, the cube does not lie in the tile, or the folder holds a synthetic archive.
    """
    grid, looks, notes = looks_of(cube, tile, x0=x0, y0=y0)
    jobs = {facts: _constant(look) for facts, look in looks}
    _refuse_mixture(folder, tile, "cube:")
    return replace(_write(folder, grid, jobs, threads), notes=notes)


def revise(
    folder: Path, name: str, refl_byx: NDArray[np.int16], fmask_yx: NDArray[np.uint8], *, updated: datetime
) -> None:
    """Granule `name` has these pixels and this time of production, as after NASA reprocesses it.

    Args:
        folder: the archive's root.
        name: granule id.
        refl_byx, fmask_yx: the new pixels, as `pixels` gives them.
        updated: time of production (UTC).

    Raises:
        InputError: there is no such granule.
    """
    facts = replace(facts_of(_item(folder, name)), updated=updated)
    _put(folder, facts, (refl_byx, fmask_yx))


def pixels(folder: Path, name: str) -> _Pixels:
    """Reflectance int16 (6, y, x) and Fmask uint8 (y, x) of a granule in the archive.

    Raises:
        InputError: there is no such granule.
    """
    granule = _path(folder, name).parent
    keys = [*FILES[GranuleId.from_string(name).sensor].values(), FMASK]
    _item(folder, name)
    bands = []
    for key in keys:
        with rasterio.open(granule / f"{name}.{key}.tif") as file:
            bands.append(file.read(1))
    return np.stack(bands[:-1]), bands[-1]


def withhold(folder: Path, after: date | None) -> None:
    """From the next `serve` on, granules of days after `after` are not listed; None lists all. The files stay."""
    text = json.dumps({"after": after.isoformat() if after else None})
    write_file(folder / WITHHELD, [text.encode()])


@contextmanager
def serve(folder: Path, *, patience_s: float = 30.0) -> Iterator[Endpoint]:
    """A STAC API and a file server for the archive, on loopback, until the block ends; what is there now is listed.

    Args:
        folder: the archive's root.
        patience_s: how long the servers may take to answer.

    Raises:
        InputError: the folder holds no archive.
        CatalogueDown: the servers did not start.
    """
    listed = _listed(folder)
    if not any((folder / name / "collection.json").is_file() for name in COLLECTIONS.values()):
        raise InputError(
            "no HLS archive here", place=str(folder), next_step="write one with `vsat demo`, or check the path"
        )
    with tempfile.TemporaryDirectory(prefix="vsat-archive-", ignore_cleanup_errors=True) as temporary:
        documents = Path(temporary)
        for sensor, name in COLLECTIONS.items():
            of_sensor = [item for item in listed if item["collection"] == name]
            (documents / f"0-{name}.json").write_text(json.dumps(_collection(sensor, of_sensor)))
        listing = {"type": "FeatureCollection", "features": listed}
        (documents / "1-items.json").write_text(json.dumps(listing))
        with running(folder, documents, patience_s=patience_s) as servers:
            log.info("archive %s: %d granules at %s, files at %s", folder.name, len(listed), servers.api, servers.files)
            yield Endpoint("stac", servers.api, tuple(COLLECTIONS.items()), (servers.files,))


def items(folder: Path) -> list[dict[str, Any]]:
    """All STAC items (JSON objects), sorted by id, withheld ones too; addresses start with `archive:/`."""
    paths = sorted(folder.glob("HLS*_2.0/*/*_stac.json"), key=lambda path: path.name)
    return [json.loads(path.read_text()) for path in paths]


def _listed(folder: Path) -> list[dict[str, Any]]:
    limit = folder / WITHHELD
    after = json.loads(limit.read_text())["after"] if limit.is_file() else None
    return [item for item in items(folder) if after is None or day_of(item) <= date.fromisoformat(after)]


def _write(
    folder: Path, grid: TileGrid, jobs: Mapping[GranuleFacts, Callable[[], _Pixels]], threads: int
) -> ArchiveReport:
    for name in COLLECTIONS.values():
        (folder / name).mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(threads) as pool:
        fresh = list(pool.map(lambda job: _write_one(folder, *job), jobs.items()))
    _write_collections(folder)
    report = ArchiveReport(
        str(folder), grid, tuple(str(facts.id) for facts in jobs), sum(fresh), len(fresh) - sum(fresh)
    )
    log.info("archive %s: %d granules of tile %s written, %d kept", folder.name, report.written, grid.tile, report.kept)
    return report


def _write_one(folder: Path, facts: GranuleFacts, look: Callable[[], _Pixels]) -> bool:
    """True if the granule had to be written, False if it was there and whole."""
    if _is_whole(folder, facts):
        return False
    _put(folder, facts, look())
    return True


def _put(folder: Path, facts: GranuleFacts, look: _Pixels) -> None:
    granule = folder / facts.folder
    granule.mkdir(parents=True, exist_ok=True)
    for left in granule.glob("*.partial"):
        left.unlink()
    checks = {}
    for key, data in granule_files(facts, *look).items():
        path, digest = granule / f"{facts.id}.{key}.tif", hashlib.sha256(data).hexdigest()
        if not _is_file(path, len(data), digest):
            write_file(path, [data])
        checks[key] = (len(data), digest)
    item = granule_item(facts, look[1], checks)
    write_file(granule / f"{facts.id}_stac.json", [json.dumps(item, indent=1).encode()])
    sync_folder(granule.parent)


def _is_whole(folder: Path, facts: GranuleFacts) -> bool:
    path = folder / facts.folder / f"{facts.id}_stac.json"
    if not path.is_file():
        return False
    item = json.loads(path.read_text())
    if item["properties"]["vsat:source"] != facts.source:
        return False
    assets = item["assets"].values()
    return all(
        _is_file(folder / a["href"].removeprefix(f"{FILES_ROOT}/"), a["file:size"], a["file:checksum"][4:])
        for a in assets
    )


def _is_file(path: Path, size: int, digest: str) -> bool:
    return path.is_file() and path.stat().st_size == size and sha256_of(path) == digest


def _write_collections(folder: Path) -> None:
    everything = items(folder)
    for sensor, name in COLLECTIONS.items():
        document = _collection(sensor, [item for item in everything if item["collection"] == name])
        write_file(folder / name / "collection.json", [json.dumps(document, indent=1).encode()])


def _collection(sensor: str, members: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    boxes = sorted({tuple(item["bbox"]) for item in members})
    return collection(sensor, boxes, [item["properties"]["datetime"] for item in members])


def _refuse_mixture(folder: Path, tile: str, source: str) -> None:
    """Granules of two worlds under one tile would contradict each other, and nothing later could tell."""
    for item in items(folder) if folder.is_dir() else ():
        other = str(item["properties"].get("vsat:source", ""))
        if GranuleId.from_string(item["id"]).tile == tile and not other.startswith(source):
            raise InputError(
                f"the folder holds granules of tile {tile} from another source ({item['id']})",
                place=str(folder),
                next_step="give an empty folder",
            )


def _synthetic_facts(grid: TileGrid, land: Landscape, day: date, sensor: str, source: str) -> GranuleFacts:
    """Names with the local solar time of the pass taken for UTC, and platforms in turn."""
    moment = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(
        hours=PASS[sensor][2], seconds=day.toordinal() % 60
    )
    turn = day.toordinal() // PASS[sensor][0] % 2
    platform = (("landsat-8", "landsat-9"), ("sentinel-2a", "sentinel-2b"))[SENSORS.index(sensor)][turn]
    zenith, azimuth, view = angles(land, day, sensor)
    name = GranuleId(sensor, grid.tile, moment.replace(microsecond=0))
    return GranuleFacts(name, grid, platform, name.acquired + timedelta(days=2), source, (zenith, azimuth), view)


def _observer(land: Landscape, day: date, sensor: str) -> Callable[[], _Pixels]:
    def look() -> _Pixels:
        seen = observe(land, day, sensor)
        assert seen is not None, "the schedule and the orbit agree"
        return seen.refl_byx, seen.fmask_yx

    return look


def _constant(look: _Pixels) -> Callable[[], _Pixels]:
    return lambda: look


def _path(folder: Path, name: str) -> Path:
    try:
        sensor = GranuleId.from_string(name).sensor
    except ValueError as error:
        raise InputError(
            str(error), place=str(folder), next_step="give an id like HLS.L30.T33UVP.2024123T101200.v2.0"
        ) from error
    return folder / COLLECTIONS[sensor] / name / f"{name}_stac.json"


def _item(folder: Path, name: str) -> dict[str, Any]:
    path = _path(folder, name)
    if not path.is_file():
        raise InputError(f"no granule {name}", place=str(folder), next_step="list the archive with `items`")
    item: dict[str, Any] = json.loads(path.read_text())
    return item


def _digest(value: list[Any]) -> str:
    return hashlib.sha256(json.dumps(value, default=str, sort_keys=True).encode()).hexdigest()
