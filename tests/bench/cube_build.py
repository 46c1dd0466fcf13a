"""CPU time of building a cube from the same COGs over the same range server: vsat's fetch against odc-stac with Dask.

    python tests/bench/cube_build.py [--size 1830] [--scenes 8] [--repeat 3] [--json FILE]

Each run is a process of its own; its imports and one small warm-up are not counted, the servers (other processes)
neither. Times are user + system of the process. vsat verifies checksums, syncs to disk and keeps a ledger meanwhile;
odc-stac does none of it. Both results are compared, pixel by pixel, before any number is printed.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

SCENES_FROM = date(2024, 5, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1830, help="pixels along each side; a whole tile has 3660")
    parser.add_argument("--scenes", type=int, default=6)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--archive", type=Path, help="keep the scenes here for the next call")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--shared", type=Path, help="not used: the scenes are synthetic")
    parser.add_argument("--run", nargs=3, metavar=("METHOD", "FOLDER", "OUT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        method, folder, out = arguments.run
        print(json.dumps(measured(METHODS[method], Path(folder), Path(out))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        archive = arguments.archive or Path(temporary) / "archive"
        results = compare(Path(temporary), archive, arguments.size, arguments.scenes, arguments.repeat)
    print(table(results))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=1))


def compare(folder: Path, scenes: Path, size: int, count: int, repeat: int) -> dict[str, Any]:
    """Every method `repeat` times in turn; medians, after its last result was found equal to vsat's."""
    from vsat.io import archive

    packed, count = write_archive(scenes, size, count)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in METHODS}
    with archive.serve(scenes) as endpoint:
        told = {"url": endpoint.url, "collections": endpoint.collections, "hosts": endpoint.hosts, "size": size}
        (folder / "endpoint.json").write_text(json.dumps(told))
        for turn in range(repeat):
            for name in METHODS:
                runs[name].append(in_process(name, folder, folder / f"{list(METHODS).index(name)}-{turn}"))
                assert runs[name][-1]["sum"] == runs["vsat fetch"][0]["sum"], f"{name} gives other pixels"
    medians = {
        name: {key: statistics.median(run[key] for run in each) for key in ("cpu_s", "wall_s", "megabytes")}
        for name, each in runs.items()
    }
    raw = count * 13 * size * size / 1e6
    return {"size": size, "scenes": count, "raw_megabytes": raw, "cog_megabytes": packed, "methods": medians}


def in_process(name: str, folder: Path, out: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--run", name, str(folder), str(out)]
    told: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return told


def measured(method: Callable[[Path, Path], Callable[[], Any]], folder: Path, out: Path) -> dict[str, float]:
    work = method(folder, out)
    cpu, wall = time.process_time(), time.perf_counter()
    opened = work()
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    total = checksum(opened())
    megabytes = sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) / 1e6
    return {"cpu_s": cpu, "wall_s": wall, "megabytes": megabytes, "sum": total}


def checksum(arrays: list[np.ndarray]) -> float:
    """A number that depends on every pixel and its place."""
    total = 0
    for at, array in enumerate(arrays):
        weights = np.arange(1, array.shape[-1] + 1, dtype=np.int64)
        total += (at + 1) * int((array.reshape(-1, array.shape[-1]).sum(axis=0, dtype=np.int64) * weights).sum())
    return float(total)


def write_archive(folder: Path, size: int, count: int) -> tuple[float, int]:
    """At least `count` scenes, textured, with noise and clouds, as an archive; their COGs' megabytes, and how many."""
    from vsat.core.grid import TileGrid
    from vsat.core.synthetic import Landscape, schedule
    from vsat.io import archive

    grid = TileGrid("33UVP", 32633, 399960.0, 5800020.0, size, size)
    land = Landscape(seed=1, shape=grid.shape, swath_edge=False)
    end = SCENES_FROM
    while len(schedule(land, SCENES_FROM, end)) < count:
        end += timedelta(days=1)
    report = archive.write_synthetic(folder, grid=grid, land=land, start=SCENES_FROM, end=end)
    return sum(path.stat().st_size for path in folder.rglob("*.tif")) / 1e6, len(report.granules)


# --- the methods: each prepares, imports and warms up, and returns the work; the work returns how to read the result


def vsat(folder: Path, out: Path) -> Callable[[], Any]:
    from vsat.core.grid import TileGrid
    from vsat.io.catalog import Endpoint, search
    from vsat.io.cube import ledger_path, read_scenes, scene_keys
    from vsat.io.ledger import Ledger
    from vsat.stages.fetch import FetchJob, fetch_one
    from vsat.stages.pool import run_jobs

    told = json.loads((folder / "endpoint.json").read_text())
    collections = tuple((sensor, name) for sensor, name in told["collections"])
    endpoint = Endpoint("stac", told["url"], collections, tuple(told["hosts"]))
    grid = TileGrid("33UVP", 32633, 399960.0, 5800020.0, told["size"], told["size"])
    found = search(endpoint, grid, SCENES_FROM, SCENES_FROM + timedelta(days=365)).granules
    jobs = [FetchJob(out, grid, endpoint, scene_of(granule.id), (granule,), granule.signature()) for granule in found]
    small = TileGrid("33UVP", 32633, 399960.0, 5800020.0, 16, 16)
    fetch_one(FetchJob(folder / "warm" / out.name, small, endpoint, jobs[0].key, jobs[0].granules, ""))

    def work() -> Any:
        run_jobs(fetch_one, jobs, workers=os.cpu_count() or 2)
        return opened

    def opened() -> list[np.ndarray]:
        with Ledger(ledger_path(out)) as ledger:
            refl_tbyx, fmask_tyx = read_scenes(out, grid, scene_keys(ledger, grid.tile))
        return [*(refl_tbyx[:, band] for band in range(6)), fmask_tyx]

    return work


def scene_of(name: str) -> str:
    from vsat.hls import GranuleId

    return str(GranuleId.from_string(name).scene)


@dataclass(frozen=True)
class Store:
    """What odc-stac's arrays are written as: Dask chunk, and Zarr's shard or chunk, of `dask` x `dask` pixels."""

    dask: int
    inner: int = 0  # chunks within a shard; 0 for plain chunks
    lz4: bool = False


def odc(folder: Path, out: Path, store: Store) -> Callable[[], Any]:
    import warnings

    import odc.stac
    import pystac_client
    import xarray as xr
    import zarr.codecs
    from affine import Affine
    from odc.geo.geobox import GeoBox

    from vsat.hls import BANDS, FILES

    warnings.simplefilter("ignore")
    told = json.loads((folder / "endpoint.json").read_text())
    size = told["size"]
    items = list(pystac_client.Client.open(told["url"]).search(collections=[n for _, n in told["collections"]]).items())
    items.sort(key=lambda item: (day_of(item.id), item.id.split(".")[1]))
    geobox = GeoBox((size, size), Affine(30.0, 0.0, 399960.0, 0.0, -30.0, 5800020.0), 32633)
    pixel = {"*": {"data_type": "int16", "nodata": -9999}, "Fmask": {"data_type": "uint8", "nodata": 255}}
    configuration: dict[str, Any] = {}
    for sensor, name in told["collections"]:
        configuration[name] = {"assets": pixel, "aliases": {band: FILES[sensor][band] for band in BANDS}}
    odc.stac.configure_rio(cloud_defaults=True)

    def build(items: list[Any], geobox: Any, path: Path) -> None:
        cube = odc.stac.load(
            items, bands=[*BANDS, "Fmask"], geobox=geobox, chunks={"x": store.dask, "y": store.dask}, groupby="id",
            resampling="nearest", stac_cfg=configuration,
        ).drop_encoding()  # fmt: skip
        cube.to_zarr(path, encoding={name: encoding(cube[name].dtype.itemsize) for name in cube}, consolidated=False)

    def encoding(itemsize: int) -> dict[str, Any]:
        options: dict[str, Any] = {}
        if store.lz4:
            blosc = zarr.codecs.BloscCodec(cname="lz4", clevel=5, shuffle="bitshuffle", typesize=itemsize)
            options["compressors"] = [blosc, zarr.codecs.Crc32cCodec()]
        if store.inner:
            options |= {"chunks": (1, store.inner, store.inner), "shards": (1, store.dask, store.dask)}
        return options

    build(items[:1], geobox[:16, :16], folder / "warm" / out.name)

    def work() -> Any:
        build(items, geobox, out)
        return opened

    def opened() -> list[np.ndarray]:
        with xr.open_zarr(out, consolidated=False, mask_and_scale=False) as cube:
            return [cube[name].values for name in (*BANDS, "Fmask")]

    return work


def day_of(name: str) -> str:
    return datetime.strptime(name.split(".")[3][:7], "%Y%j").date().isoformat()


# A whole scene per Dask task, which reads every COG once, is odc-stac's best here; a cube that is then read by stripes
# or pixels wants small chunks in it, as ours has.
STORES = {
    "odc-stac, scene per task, our layout and codec": Store(3840, inner=256, lz4=True),
    "odc-stac, scene per task, scene per chunk": Store(3840),
    "odc-stac, tasks and chunks of 1024": Store(1024),
    "odc-stac, tasks and chunks of 512": Store(512),
}
METHODS: dict[str, Callable[[Path, Path], Callable[[], Any]]] = {
    "vsat fetch": vsat,
    **{name: partial(odc, store=store) for name, store in STORES.items()},
}


def table(results: dict[str, Any]) -> str:
    methods = results["methods"]
    lines = [
        f"{results['scenes']} scenes of 6 bands + Fmask, {results['size']} x {results['size']} px, "
        f"{results['raw_megabytes']:.0f} MB, as COG {results['cog_megabytes']:.0f} MB",
        "",
        "| method | CPU s | wall s | store MB | CPU s to vsat's |",
        "|---|---|---|---|---|",
    ]
    for name, run in methods.items():
        ratio = run["cpu_s"] / methods["vsat fetch"]["cpu_s"]
        lines.append(f"| {name} | {run['cpu_s']:.2f} | {run['wall_s']:.2f} | {run['megabytes']:.0f} | {ratio:.2f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
