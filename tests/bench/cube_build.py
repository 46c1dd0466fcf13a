"""CPU time of building a cube from the same COGs over the same range server: vsat's fetch against odc-stac with Dask.

    python tests/bench/cube_build.py [--size 1830] [--scenes 8] [--repeat 3] [--json FILE]

Each run is a process of its own; its imports and one small warm-up are not counted, the servers (other processes)
neither. The times are user + system of the process. vsat verifies checksums, syncs to disk and keeps a ledger meanwhile;
odc-stac does not. The arrays of both are compared, pixel by pixel, before any number is printed.
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
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

SCENES_FROM = date(2024, 5, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1830, help="pixels along each side; a whole tile has 3660")
    parser.add_argument("--scenes", type=int, default=8)
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

    packed = write_archive(scenes, size, count)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in METHODS}
    with archive.serve(scenes) as endpoint:
        told = {"url": endpoint.url, "collections": endpoint.collections, "hosts": endpoint.hosts, "size": size}
        (folder / "endpoint.json").write_text(json.dumps(told))
        for turn in range(repeat):
            for name in METHODS:
                runs[name].append(in_process(name, folder, folder / f"{name}-{turn}"))
                assert runs[name][-1]["sum"] == runs["vsat"][0]["sum"], f"{name} gives other pixels"
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


def write_archive(folder: Path, size: int, count: int) -> float:
    """Scenes as an archive: textured, with noise and clouds, so that they deflate about as HLS does. Megabytes."""
    from vsat.core.grid import TileGrid
    from vsat.core.synthetic import Landscape, schedule
    from vsat.io import archive

    grid = TileGrid("33UVP", 32633, 399960.0, 5800020.0, size, size)
    land = Landscape(seed=1, shape=grid.shape, swath_edge=False)
    end = SCENES_FROM
    while len(schedule(land, SCENES_FROM, end)) < count:
        end += timedelta(days=1)
    archive.write_synthetic(folder, grid=grid, land=land, start=SCENES_FROM, end=end)
    return sum(path.stat().st_size for path in folder.rglob("*.tif")) / 1e6


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


def odc(folder: Path, out: Path, *, lz4: bool = False) -> Callable[[], Any]:
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
        aliases = {band: FILES[sensor][band] for band in BANDS}
        configuration[name] = {"assets": pixel, "aliases": aliases}
    odc.stac.configure_rio(cloud_defaults=True)

    def load(items: list[Any], geobox: Any, chunk: int) -> Any:
        names = [*BANDS, "Fmask"]
        return odc.stac.load(
            items, bands=names, geobox=geobox, chunks={"x": chunk, "y": chunk}, groupby="id", resampling="nearest",
            stac_cfg=configuration,
        )  # fmt: skip

    def write(cube: Any, path: Path) -> None:
        encoding = {}
        if lz4:
            for name in cube.data_vars:
                shuffle = zarr.codecs.BloscCodec(
                    cname="lz4", clevel=5, shuffle="bitshuffle", typesize=cube[name].dtype.itemsize
                )
                encoding[name] = {"compressors": [shuffle, zarr.codecs.Crc32cCodec()]}
        cube.drop_encoding().to_zarr(path, encoding=encoding, consolidated=False)

    write(load(items[:1], geobox[:16, :16], 16), folder / "warm" / out.name)

    def work() -> Any:
        # whole scenes as chunks read each COG once; smaller chunks were slower
        write(load(items, geobox, CHUNK), out)
        return opened

    def opened() -> list[np.ndarray]:
        with xr.open_zarr(out, consolidated=False, mask_and_scale=False) as cube:
            return [cube[name].values for name in (*BANDS, "Fmask")]

    return work


def day_of(name: str) -> str:
    return datetime.strptime(name.split(".")[3][:7], "%Y%j").date().isoformat()


CHUNK = 1024
METHODS: dict[str, Callable[[Path, Path], Callable[[], Any]]] = {
    "vsat": vsat,
    "odc-stac": odc,
    "odc-stac-lz4": lambda folder, out: odc(folder, out, lz4=True),
}
LABELS = {
    "vsat": "vsat fetch",
    "odc-stac": "odc-stac + Dask to Zarr (default codec)",
    "odc-stac-lz4": "odc-stac + Dask to Zarr (lz4, bitshuffle, crc32c as ours)",
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
        ratio = run["cpu_s"] / methods["vsat"]["cpu_s"]
        lines.append(
            f"| {LABELS[name]} | {run['cpu_s']:.2f} | {run['wall_s']:.2f} | {run['megabytes']:.0f} | {ratio:.2f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
