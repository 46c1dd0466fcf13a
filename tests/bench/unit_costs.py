"""What one scene, one image and one job cost, and from that what a country and a continent cost a night and a year.

    python tests/bench/unit_costs.py [--days 31] [--method linear] [--json FILE]

Seconds, requests and bytes are measured here, on an archive of the size of regions/demo.yaml, in one thread, as CPU time
of this process without the archive's servers, and scaled by area to a whole tile of 3660 x 3660 pixels. The any-date
model's seconds come from `tests/bench/anydate_speed.py --side 512`. How often a satellite passes follows from its orbit
and swath, how many tiles there are from `vsat.core.grid.tiles_over` on a coarse outline. Prices and the sizes of real HLS
files are assumptions, written below. Prints the tables of docs/outgrowing.md.
"""

import argparse
import json
import math
import os
import tempfile
import time
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

START = date(2023, 5, 1)
TILE_PX = 3660**2
# coarse outlines in degrees: enough to count tiles to a few per cent
FRANCE = (
    "-4.8 48.5,-1.6 48.7,-1.9 49.7,1.6 50.9,2.5 51.1,4.2 49.9,6.2 49.5,8.2 49.0,7.6 47.6,6.1 46.4,7.0 45.9,7.0 44.3,"
    "7.5 43.8,6.1 43.0,4.0 43.5,3.1 43.1,3.2 42.4,0.7 42.7,-1.8 43.4,-1.2 44.6,-1.2 46.0,-2.5 47.3,-4.8 48.0"
)
AFRICA = (
    "-5.9 35.8,10.0 37.3,11.1 36.9,10.1 34.3,15.2 32.4,20.1 30.4,20.1 32.6,23.1 32.6,29.0 30.9,32.5 31.2,33.2 28.5,"
    "35.5 24.0,37.2 21.0,38.6 18.0,43.3 12.5,44.0 10.5,51.2 11.9,48.0 4.5,41.5 -2.0,39.2 -6.5,40.6 -15.0,35.0 -20.0,"
    "35.5 -24.0,32.8 -26.0,31.0 -29.9,27.0 -33.8,20.0 -34.8,18.3 -34.0,17.0 -29.5,14.5 -22.7,11.8 -16.5,13.5 -10.0,"
    "12.0 -5.0,8.8 -0.8,9.6 3.9,4.3 6.3,-7.6 4.4,-13.2 8.9,-16.8 12.5,-17.4 14.7,-16.3 19.2,-17.0 21.5,-13.0 27.8,"
    "-9.8 31.4"
)
# name: (outline, latitude of its middle)
AREAS = {"France, one country": (FRANCE, 46.5), "Africa, one continent": (AFRICA, 5.0)}

EQUATOR_KM, TILE_KM = 40_075.0, 109.8
# paths around the Earth, km of swath, days until one satellite is back on a path, satellites
ORBITS = {"L30": (233, 185.0, 16, 2), "S30": (143, 290.0, 10, 2)}

ANYDATE_CPU_S = 7.7 * 60 * 2  # a date of a whole tile: 7.7 minutes on two cores, 1,812 pixels a second with 16 dates
SEARCH_S = 1.0  # a question to NASA's catalogue: one for each tile and sensor
REAL_FILE_MB = 14.0  # a band of a whole HLS tile, mean; the largest are some 20
CADENCE, FINAL_AFTER, NIGHT_H = 8, 30, 8.0
VCPU_H, GPU_H, GPU_TIMES = 0.04, 1.0, 60.0  # dollars an hour; how many cores' work a GPU does, to be measured
GB_MONTH, THOUSAND_PUTS = 0.023, 0.005  # dollars: object storage


@dataclass(frozen=True)
class Units:
    """Of a whole tile. CPU seconds, bytes, requests; `job_s` seconds that Dask adds to a job, `job_bytes` its pickle."""

    scene_s: float
    scene_requests: float
    scene_bytes_read: float
    scene_bytes_kept: float
    image_s: float
    image_bytes: float
    job_s: float
    job_bytes: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--days", type=int, default=31)
    parser.add_argument("--method", default="linear")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--shared", type=Path, help="not used: the scenes are synthetic")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        units = measure(Path(folder), given.days, given.method)
    areas = {name: area(units, *of) for name, of in AREAS.items()}
    print(unit_table(units, given.method))
    print(area_table(areas))
    if given.json:
        given.json.write_text(json.dumps({"units": vars(units), "areas": areas}, indent=1))


def measure(folder: Path, days: int, method: str) -> Units:
    from vsat.config import load_region
    from vsat.core.synthetic import Landscape
    from vsat.io import download
    from vsat.io.archive import write_synthetic
    from vsat.stages.fetch import fetch_one, open_endpoint, plan_fetch
    from vsat.stages.generate import generate_one, plan_generate

    file, end = folder / "costs.yaml", START + timedelta(days - 1)
    file.write_text(
        f"name: costs\narea: {{bbox: [14.2, 48.1, 14.3315, 48.188]}}\nperiod: {{start: {START}, end: {end}}}\n"
        f"catalogue: {{kind: archive, path: archive}}\ncadence: {{every_days: {CADENCE}}}\nmethod: {method}\nstore: var\n"
    )
    region = load_region(file)
    (grid,) = region.grids()
    scale = TILE_PX / (grid.height * grid.width)
    write_synthetic(folder / "archive", grid=grid, land=Landscape(7, grid.shape), start=START, end=end)

    asked: list[int] = []
    get = download.Client.get

    def counted(self: Any, *args: Any, **options: Any) -> download.Body:
        body = get(self, *args, **options)
        asked.append(len(body.data))
        return body

    download.Client.get = counted  # type: ignore[method-assign]
    with open_endpoint(region) as endpoint:
        jobs = plan_fetch(region, endpoint, START, end).jobs
        fetch_one(jobs[0])  # imports, connections
        asked.clear()
        begin = time.process_time()
        receipts = [fetch_one(job) for job in jobs[1:]]
        scene_s = (time.process_time() - begin) / len(receipts)
    download.Client.get = get  # type: ignore[method-assign]
    kept = sum((region.home / path).stat().st_size for one in receipts for path, _ in one.outputs) / len(receipts)

    plan = plan_generate(region, START, end, end + timedelta(90))
    for job in plan.jobs:
        generate_one(job)  # compiles
    begin = time.process_time()
    made = [receipt for job in plan.jobs for receipt in generate_one(job)]
    image_s = (time.process_time() - begin) / len(made)
    size = sum((region.home / path).stat().st_size for one in made for path, _ in one.outputs) / len(made)
    job_s, job_bytes = dask_cost(folder, plan.jobs[-1])
    count = len(receipts)
    return Units(
        scene_s * scale, len(asked) / count, sum(asked) / count * scale, kept * scale, image_s * scale, size * scale,
        job_s, job_bytes,
    )  # fmt: skip


def dask_cost(folder: Path, job: Any, count: int = 400) -> tuple[float, int]:
    """CPU seconds of client, scheduler and worker together for a job that does nothing, and bytes of a real one."""
    import pickle

    from distributed import LocalCluster

    from vsat.stages.cluster import Order, versions
    from vsat.stages.pool import run_jobs

    options: dict[str, Any] = {"processes": False, "dashboard_address": "127.0.0.1:0", "protocol": "tcp"}
    with LocalCluster(n_workers=1, threads_per_worker=2, host="127.0.0.1", **options) as cluster:
        os.environ["VSAT_DASK_SCHEDULER"] = cluster.scheduler_address
        run_jobs(abs, [1])
        begin = time.process_time()
        run_jobs(abs, range(count))
        spent = (time.process_time() - begin) / count
        del os.environ["VSAT_DASK_SCHEDULER"]
    return spent, len(pickle.dumps((job, Order(2, versions(), str(folder)))))


def passes_a_day(latitude: float) -> dict[str, float]:
    """How many scenes (day, sensor) touch a tile each day: swath and tile over the distance of neighbouring paths."""
    around = EQUATOR_KM * math.cos(math.radians(latitude))
    return {
        sensor: (swath + TILE_KM) / (around / paths) / days * satellites
        for sensor, (paths, swath, days, satellites) in ORBITS.items()
    }


def tiles_in(outline: str) -> int:
    from shapely.geometry import Polygon

    from vsat.core.grid import tiles_over

    return len(tiles_over(Polygon([tuple(map(float, point.split())) for point in outline.split(",")])))


def area(units: Units, outline: str, latitude: float) -> dict[str, float]:
    """What an area asks for, each night and each year."""
    tiles = tiles_in(outline)
    scenes = tiles * sum(passes_a_day(latitude).values())
    # a new scene makes all provisional dates of its tile stale: those of half a month, mean, and of the month before
    remade = (FINAL_AFTER + 15) / CADENCE
    images = scenes * remade
    final = tiles / CADENCE
    read = scenes * 7 * REAL_FILE_MB * 1e6
    kept = read * units.scene_bytes_kept / units.scene_bytes_read
    linear_h, anydate_h = images * units.image_s / 3600, images * ANYDATE_CPU_S / 3600
    fetch_h = scenes * units.scene_s / 3600
    stored_year = 365 * (kept + final * units.image_bytes)
    puts = 365 * (scenes * 2 + images * 20)
    return {
        "tiles": tiles,
        "scenes a day": scenes,
        "GET requests a day": scenes * units.scene_requests,
        "GB read a day": read / 1e9,
        "Mbit/s for 8 hours": read * 8 / 1e6 / (NIGHT_H * 3600),
        "images made a day": images,
        "images that become final a day": final,
        "CPU hours a day, fetch": fetch_h,
        "CPU hours a day, images, linear": linear_h,
        "CPU hours a day, images, anydate": anydate_h,
        "images a new scene makes stale": remade,
        "cores for a night of 8 hours, linear": (fetch_h + linear_h) / NIGHT_H,
        "cores for a night of 8 hours, anydate": (fetch_h + anydate_h) / NIGHT_H,
        "TB kept after a year": stored_year / 1e12,
        "receipts written a day": scenes + images,
        "minutes a day, asking the catalogue for one tile after the other": tiles * len(ORBITS) * SEARCH_S / 60,
        "CPU minutes a day, Dask": (scenes + images) * units.job_s / 60,
        "$ a year, CPU, linear": 365 * (fetch_h + linear_h) * VCPU_H,
        "$ a year, CPU, anydate": 365 * (fetch_h + anydate_h) * VCPU_H,
        "$ a year, GPU, anydate": 365 * (fetch_h * VCPU_H + anydate_h / GPU_TIMES * GPU_H),
        "$ a year, storage of one year": stored_year / 1e9 * GB_MONTH * 12,
        "$ a year, writing": puts / 1000 * THOUSAND_PUTS,
    }


def unit_table(units: Units, method: str) -> str:
    rows = [
        ("fetch a scene, CPU seconds", f"{units.scene_s:.0f}"),
        ("fetch a scene, GET requests", f"{units.scene_requests:.0f}"),
        ("fetch a scene, MB read (synthetic)", f"{units.scene_bytes_read / 1e6:.0f}"),
        ("a scene in the cube, MB (synthetic)", f"{units.scene_bytes_kept / 1e6:.0f}"),
        (f"make an image with {method}, CPU seconds", f"{units.image_s:.0f}"),
        ("make an image with anydate, CPU seconds", f"{ANYDATE_CPU_S:.0f}"),
        ("an image, MB (synthetic)", f"{units.image_bytes / 1e6:.0f}"),
        ("a job through Dask, CPU milliseconds", f"{units.job_s * 1e3:.1f}"),
        ("a job through Dask, kB", f"{units.job_bytes / 1e3:.1f}"),
    ]
    return "\n".join(["| unit, of a whole tile | measured |", "|---|---:|", *(f"| {a} | {b} |" for a, b in rows), ""])


def area_table(areas: dict[str, dict[str, float]]) -> str:
    lines = ["| | " + " | ".join(areas) + " |", "|---" + "|---:" * len(areas) + "|"]
    for name in next(iter(areas.values())):
        cells = (f"{one[name]:,.0f}" if one[name] >= 10 else f"{one[name]:.1f}" for one in areas.values())
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
