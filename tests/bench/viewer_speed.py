"""Map tiles and the ten-year series of a pixel from a whole HLS tile, beside titiler on the same COGs in the same run.

    python tests/bench/viewer_speed.py [--folder FOLDER] [--repeat 40] [--json FILE]

The store is what the stages write: images by io.publish (3660 x 3660, six bands and their SDs, one each sixteenth day) and
scenes by io.scenes (L30 each eighth, S30 each fifth day), from the synthetic world. Only three images and four scenes
have pixels of their own; all other dates are hard links to them, so the files are in memory after the first look, for both
sides. Headers are kept by path, so links share nothing there. Places are drawn anew for each request, the same for both.

Both are asked in process (Starlette's TestClient, one request at a time), in turns. titiler's point endpoint is asked once
per COG (value and SD of each date), for it takes one; beside it stands rio-tiler's own reader on as many threads as ours.
titiler runs with the GDAL settings that its documentation advises.
"""

import argparse
import json
import math
import os
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from fastapi import FastAPI
from starlette.testclient import TestClient

from vsat.config import Region
from vsat.core.grid import full_tile
from vsat.core.landscape import Landscape
from vsat.core.quality import pack_qa
from vsat.core.synthetic import observe, schedule, truth
from vsat.core.tiles import to_degrees
from vsat.hls import BANDS, SceneKey
from vsat.io.layout import ensure_store, object_path
from vsat.io.ledger import Ledger, Receipt
from vsat.io.publish import VirtualImage, image_folder, image_name, publish
from vsat.io.scenes import KIND as SCENE
from vsat.io.scenes import ledger_path, write_scene
from vsat.stages.generate import KIND as IMAGE
from vsat.viewer.app import create_app

Time = tuple[float, float]
TILE = "33UVP"
GRID = full_tile(TILE)
START, END = date(2014, 1, 1), date(2023, 12, 31)
EVERY_DAYS, L30_DAYS, S30_DAYS = 16, 8, 5
PART_PX = 1220  # of the synthetic world; three by three of it make the tile
THREADS = os.cpu_count() or 1
ZOOMS = (8, 10, 11, 12, 13, 14)
GDAL = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_CACHEMAX": "200", "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
    "VSI_CACHE": "TRUE", "VSI_CACHE_SIZE": "5000000", "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
}  # fmt: skip


def main() -> None:
    """Print one markdown table, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="keep the store here, or use the one that is here")
    parser.add_argument("--repeat", type=int, default=40)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--shared", type=Path, help="not used: the tile is synthetic")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    os.environ |= GDAL
    folder = options.folder or Path(tempfile.mkdtemp(prefix="vsat-viewer-speed-"))
    try:
        region = store(folder)
        rows = measure(region, options.repeat)
    finally:
        if options.folder is None:
            shutil.rmtree(folder, ignore_errors=True)
    heads = ("what", "median ms", "90th percentile ms", "median CPU ms", "requests", "x titiler")
    print("\n| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    for row in rows:
        print("| " + " | ".join(str(row[head]) for head in heads) + " |")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


def store(folder: Path) -> Region:
    """The region with ten years of images and scenes, made if it is not there."""
    region = Region.model_validate({
        "name": "speed", "area": {"bbox": [13.8, 47.9, 14.9, 48.6]}, "period": {"start": START, "end": END},
        "cadence": {"every_days": EVERY_DAYS}, "tiles": [TILE], "method": "linear", "store": str(folder.resolve()),
    })  # fmt: skip
    if not (Path(region.home) / "done").exists():
        began = time.perf_counter()
        land = Landscape(3, (PART_PX, PART_PX))
        images = publish_images(Path(region.home), land)
        scenes = write_scenes(Path(region.home), land)
        (Path(region.home) / "done").touch()
        print(f"{images} images and {scenes} scenes of {TILE}, {time.perf_counter() - began:.0f} s")
    return region


def publish_images(home: Path, land: Landscape) -> int:
    """Three images by io.publish, linked to all dates of the cadence, with a receipt each."""
    made: list[tuple[date, tuple[tuple[str, str], ...]]] = []
    rng = np.random.default_rng(5)
    for month in (2, 6, 9):
        day = date(2030, month, 3)  # no date of the cadence
        refl = whole(truth(land, day))
        stored = np.rint((refl + rng.normal(0, 0.004, refl.shape).astype(np.float32)) * 1e4).astype(np.int16)
        sd = np.clip(rng.gamma(4, 0.004, (1, *GRID.shape)) * (1 + refl), 0.001, 0.3)
        origin = whole(rng.integers(0, 4, (1, PART_PX // 20, PART_PX // 20)).repeat(20, 1).repeat(20, 2))[0]
        none = np.zeros(GRID.shape, bool)
        age = np.broadcast_to(origin.astype(np.int16) * 9, (3, *GRID.shape)).copy()
        flags = dict.fromkeys(("extrapolated", "snow", "water", "change", "low"), none)
        publish(home, VirtualImage(
            GRID, day, BANDS, stored, np.rint(sd * 1e4).astype(np.int16), pack_qa(origin.astype(np.uint8), **flags), age,
            np.zeros(GRID.shape, np.uint16), (), "final", "linear", day,
        ))  # fmt: skip
        files = sorted(image_folder(home, TILE, day).iterdir())
        made.append((day, tuple((path.name, "0" * 64) for path in files)))
    days = [START + timedelta(EVERY_DAYS * n) for n in range((END - START).days // EVERY_DAYS + 1)]
    with Ledger(ledger_path(home)) as ledger:
        for n, day in enumerate(days):
            source, files = made[n % len(made)]
            folder, outputs = Path(image_folder(home, TILE, day)), []
            folder.mkdir(parents=True)
            for name, digest in files:
                link = folder / name.replace(image_name(TILE, source), image_name(TILE, day))
                os.link(Path(image_folder(home, TILE, source)) / name, link)
                outputs.append((str(link.relative_to(home)), digest))
            facts = {"status": "final", "observed": 0.25}
            ledger.record(Receipt(IMAGE, f"{TILE}/{day}", "done", (), str(n), tuple(outputs), facts))
    return len(days)


def write_scenes(home: Path, land: Landscape) -> int:
    """Two scenes of each sensor by io.scenes, linked to all days of their orbit, with a receipt each."""
    passes = schedule(land, date(2020, 5, 1), date(2020, 6, 30))
    count = 0
    with Ledger(ledger_path(home)) as ledger:
        for sensor, every in (("L30", L30_DAYS), ("S30", S30_DAYS)):
            keys = [SceneKey(TILE, day, sensor) for day, name in passes if name == sensor][:2]
            for key in keys:
                look = observe(land, key.day, sensor)
                assert look is not None
                write_scene(home, GRID, key, whole(look.refl_byx), whole(look.fmask_yx[None])[0])
            for n in range((END - START).days // every + 1):
                key, source = SceneKey(TILE, START + timedelta(every * n), sensor), keys[n % 2]
                ensure_store(home, GRID, key.day.year)
                for array in ("reflectance", "fmask"):
                    if not (path := Path(object_path(home, key, array))).exists():
                        os.link(object_path(home, source, array), path)
                ledger.record(Receipt(SCENE, str(key), "done", (), str(n), (), {"clear": 0.5}))
                count += 1
    return count


def whole(part_byx: np.ndarray) -> np.ndarray:
    """A part of the world, three by three times."""
    return np.tile(part_byx, (1, 3, 3))


def measure(region: Region, repeat: int) -> list[dict[str, object]]:
    """A row for each of what is asked, ours first, titiler's behind it."""
    from titiler.core.factory import TilerFactory

    app = create_app([region], hosts=["testserver"], threads=THREADS)
    app.state.shelves.of(region.name).grids = {TILE: GRID}  # a region's own window is what the tile owns: 100 km of 110
    other = FastAPI()
    other.include_router(TilerFactory().router)
    ours, theirs = TestClient(app), TestClient(other)
    rng = np.random.default_rng(1)
    return [*tiles(region, ours, theirs, rng, repeat), *series(region, ours, theirs, rng, max(5, repeat // 4))]


def tiles(
    region: Region, ours: TestClient, theirs: TestClient, rng: np.random.Generator, repeat: int
) -> list[dict[str, object]]:
    """256 px tiles of the near infrared in colours, at zoom levels from the whole tile to a few pixels each."""
    days = [one["date"] for one in ours.get("/api/regions/speed").json()["dates"]]
    plain, hatched, colour, titiler = (list[Time]() for _ in range(4))
    by_zoom: dict[int, tuple[list[Time], list[Time]]] = {zoom: ([], []) for zoom in ZOOMS}
    for n in range(repeat * len(ZOOMS)):
        zoom, day = ZOOMS[n % len(ZOOMS)], days[int(rng.integers(len(days)))]
        place = tile_of(*lon_lat(rng), zoom)
        folder = Path(image_folder(region.home, TILE, date.fromisoformat(day)))
        cog = folder / f"{folder.name}.nir08.tif"
        address = f"/api/regions/speed/tiles/virtual/{day}/{place}.png"
        asked: list[tuple[list[Time], Callable[[], object]]] = [
            (plain, lambda a=address: got(ours, f"{a}?show=nir&hatch=false")),
            (hatched, lambda a=address: got(ours, f"{a}?show=nir")),
            (colour, lambda a=address: got(ours, a)),
            (titiler, lambda c=cog, p=place: got(
                theirs, f"/tiles/WebMercatorQuad/{p}.png?url={c}&rescale=0,6000&colormap_name=viridis")),
        ]  # fmt: skip
        for at in rng.permutation(len(asked)):
            asked[at][0].append(timed(asked[at][1]))
        by_zoom[zoom][0].append(hatched[-1])
        by_zoom[zoom][1].append(titiler[-1])
    print("\nby zoom level, ours with hatching and titiler, median ms: " + "; ".join(
        f"{zoom}: {median(mine):.0f} and {median(yours):.0f}" for zoom, (mine, yours) in by_zoom.items()))  # fmt: skip
    return [
        row("tile, near infrared, hatching off (1 COG)", plain, titiler),
        row("tile, near infrared, hatched (2 COGs)", hatched, titiler),
        row("tile, true colour, hatched (4 COGs)", colour, titiler),
        row("titiler: tile, near infrared (1 COG)", titiler, titiler),
    ]


def series(
    region: Region, ours: TestClient, theirs: TestClient, rng: np.random.Generator, repeat: int
) -> list[dict[str, object]]:
    """Ten years of a pixel: values with SD of all dates, and every look; titiler gives values and SDs alone."""
    from rio_tiler.io import Reader

    days = [date.fromisoformat(one["date"]) for one in ours.get("/api/regions/speed").json()["dates"]]
    folders = [Path(image_folder(region.home, TILE, day)) for day in days]
    cogs = [folder / f"{folder.name}.{asset}.tif" for asset in ("nir08", "nir08_sd") for folder in folders]

    def one_by_one(lon: float, lat: float) -> None:
        for cog in cogs:
            got(theirs, f"/point/{lon},{lat}?url={cog}")

    def read(cog: Path, lon: float, lat: float) -> None:
        with Reader(str(cog)) as reader:
            reader.point(lon, lat)

    columns: dict[str, list[Time]] = {name: [] for name in ("first", "nir", "ndvi", "titiler", "reader")}
    lon, lat = lon_lat(rng)
    columns["first"].append(timed(lambda: got(ours, f"/api/regions/speed/series?lon={lon}&lat={lat}&show=nir")))
    with ThreadPoolExecutor(THREADS) as pool:
        for n in range(repeat):
            lon, lat = lon_lat(rng)
            address = f"/api/regions/speed/series?lon={lon}&lat={lat}&show="
            columns["nir"].append(timed(lambda a=address: got(ours, f"{a}nir")))
            columns["ndvi"].append(timed(lambda a=address: got(ours, f"{a}ndvi")))
            if n < 5:
                columns["titiler"].append(timed(lambda at=(lon, lat): one_by_one(*at)))
                columns["reader"].append(timed(lambda at=(lon, lat): list(pool.map(lambda c: read(c, *at), cogs))))
    told = ours.get(address + "nir").json()
    print(f"series: {len(told['virtual'])} dates, {len(told['observed'])} looks; titiler reads {len(cogs)} COGs")
    titiler = columns["titiler"]
    return [
        row("series, near infrared, first request (no header known)", columns["first"], titiler),
        row("series, near infrared, with SD and looks", columns["nir"], titiler),
        row("series, NDVI, with SD and looks", columns["ndvi"], titiler),
        row("titiler: point of each COG, one after the other", titiler, titiler),
        row(f"rio-tiler: point of each COG, {THREADS} threads, no server", columns["reader"], titiler),
    ]


def got(client: TestClient, address: str) -> None:
    """The answer is there and good."""
    answer = client.get(address)
    assert answer.status_code == 200, f"{address}: {answer.status_code} {answer.text[:200]}"


def timed(action: Callable[[], object]) -> Time:
    """Milliseconds by the clock, and of the CPU in all threads: the latter says the same on a busy machine."""
    began, cpu = time.perf_counter(), time.process_time()
    action()
    return (time.perf_counter() - began) * 1e3, (time.process_time() - cpu) * 1e3


def lon_lat(rng: np.random.Generator) -> tuple[float, float]:
    """A place on the tile, not at its edge."""
    west, south, east, north = GRID.bounds
    x, y = rng.uniform(west + 2000, east - 2000), rng.uniform(south + 2000, north - 2000)
    lon, lat = to_degrees(GRID.epsg - 32600, np.array([x]), np.array([y]))
    return round(float(lon[0]), 6), round(float(lat[0]), 6)


def tile_of(lon: float, lat: float, zoom: int) -> str:
    """z/x/y of the map tile at a place."""
    x = (lon + 180) / 360 * 2**zoom
    y = (1 - math.asinh(math.tan(math.radians(lat))) / math.pi) / 2 * 2**zoom
    return f"{zoom}/{int(x)}/{int(y)}"


def median(values: list[Time], which: int = 0) -> float:
    """The middle one."""
    return statistics.median(one[which] for one in values)


def row(what: str, values: list[Time], beside: list[Time]) -> dict[str, object]:
    """A line of the table."""
    late = round(float(np.percentile([one[0] for one in values], 90)), 1)
    return {
        "what": what, "median ms": round(median(values), 1), "90th percentile ms": late,
        "median CPU ms": round(median(values, 1), 1), "requests": len(values),
        "x titiler": round(median(values) / median(beside), 2),
    }  # fmt: skip


if __name__ == "__main__":
    main()
