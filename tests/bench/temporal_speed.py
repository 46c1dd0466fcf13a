"""CPU time of temporal filling against xarray.interpolate_na and eo-learn's core, and the errors on the same truth.

    python tests/bench/temporal_speed.py [--size 96] [--json FILE]

One block of reflectance under patchy cloud, one run, one thread: `time.process_time`, the best of a few. Everyone
gets the looks in the form it takes (int16 and a mask for us, floats with NaN for the others) and gives every query day.
xarray fills a cube that holds the query days as empty dates; eo-learn's core is the numba function of its
LinearInterpolationTask. Pixel-dates are looks x bands x pixels, all of them, clear or not.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import xarray as xr

from vsat.core.temporal import fill_temporal
from vsat.hls import FILL, SCALE

BANDS, LOOKS, QUERIES = 6, 60, 46
METHODS = ("linear", "whittaker", "harmonic", "blend")


def main() -> None:
    """Print one markdown table, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--shared", type=Path, help="not used: the series are synthetic")
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    rows = measure(options.size, options.repeat)
    print(f"{options.size} x {options.size} x {BANDS}, {LOOKS} looks, {QUERIES} query days, one thread\n")
    heads = ("method", "CPU s", "M pixel-dates / CPU s", "x interpolate_na", "x eo-learn core", "MAE", "filled")
    print("| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
    for row in rows:
        print("| " + " | ".join(str(v) for v in row.values()) + " |")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


def world(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """int16 looks, clear mask, look days, query days, and the noise-free truth (q, b, y, x) of the query days."""
    rng = np.random.default_rng(7)
    day_t = np.sort(rng.choice(366, LOOKS, replace=False)).astype(np.int32)
    query_q = np.arange(4, 366, 8, dtype=np.int32)[:QUERIES]
    phase, height = rng.normal(170, 25, (size, size)), rng.gamma(4.0, 0.04, (BANDS, size, size))

    def truth(day: np.ndarray) -> np.ndarray:
        green = np.exp(-(((day[:, None, None] - phase) / 55.0) ** 2))
        return 0.05 + height * green[:, None] + 0.02 * np.sin(day / 40.0)[:, None, None, None]

    # Cloud in patches: coarse noise, stretched, with a share that changes from date to date.
    coarse = rng.random((LOOKS, size // 12, size // 12)).repeat(12, axis=1).repeat(12, axis=2)
    clear = coarse > rng.beta(2, 2.4, LOOKS)[:, None, None]
    noise = rng.normal(0, 0.006, (LOOKS, BANDS, size, size)) + rng.normal(0, 0.004, (LOOKS, 1, 1, 1))
    refl = np.rint((truth(day_t) + noise) / SCALE).astype(np.int16)
    return np.where(clear[:, None], refl, FILL).astype(np.int16), clear, day_t, query_q, truth(query_q)


def measure(size: int, repeat: int) -> list[dict[str, object]]:
    """One row per method."""
    refl, clear, day_t, query_q, truth = world(size)
    floats = np.where(clear[:, None], refl * SCALE, np.nan)
    jobs: dict[str, Callable[[], np.ndarray]] = {
        "xarray.interpolate_na": xarray_job(floats, day_t, query_q),
        "eo-learn core linear": eolearn_job(floats, day_t, query_q),
    }
    for name in METHODS:
        jobs[f"vsat {name}"] = lambda name=name: fill_temporal(refl, clear, day_t, query_q, method=name).refl_qbyx  # type: ignore[misc]
    results, seconds = {}, {}
    for name, job in jobs.items():
        found = job()  # also compiles
        results[name] = np.where(found == FILL, np.nan, found * SCALE) if found.dtype == np.int16 else found
        seconds[name] = best(job, repeat if "vsat" not in name else 3 * repeat)
    # The others leave the ends empty, where estimating is hardest: errors are compared where all have a value.
    known = np.all([np.isfinite(v) for v in results.values()], axis=0)
    values = refl.size
    slow, core = seconds["xarray.interpolate_na"], seconds["eo-learn core linear"]
    return [
        {
            "method": name,
            "cpu_s": round(seconds[name], 4),
            "m_pixel_dates_per_cpu_s": round(values / seconds[name] / 1e6, 2),
            "x_interpolate_na": round(slow / seconds[name], 1),
            "x_eolearn_core": round(core / seconds[name], 1),
            "mae": round(float(np.abs(found - truth)[known].mean()), 5),
            "filled": round(float(np.isfinite(found).mean()), 4),
        }
        for name, found in results.items()
    ]


def best(job: Callable[[], np.ndarray], repeat: int) -> float:
    """Least CPU seconds of a few runs."""
    times = []
    for _ in range(repeat):
        begin = time.process_time()
        job()
        times.append(time.process_time() - begin)
    return min(times)


def xarray_job(floats: np.ndarray, day_t: np.ndarray, query_q: np.ndarray) -> Callable[[], np.ndarray]:
    """`interpolate_na` over time on the looks, with the query days among them as empty dates."""
    cube = xr.DataArray(floats, dims=("time", "band", "y", "x"), coords={"time": day_t.astype(float)})
    cube = cube.reindex(time=np.union1d(day_t, query_q).astype(float))
    return lambda: cube.interpolate_na("time", method="linear").sel(time=query_q.astype(float)).values


def eolearn_job(floats: np.ndarray, day_t: np.ndarray, query_q: np.ndarray) -> Callable[[], np.ndarray]:
    """The compiled core of eo-learn's LinearInterpolationTask, on its own layout."""
    from eolearn.features.extra.interpolation import interpolation_function

    flat = np.ascontiguousarray(floats.reshape(len(floats), -1))
    times, wanted = day_t.astype(np.float64), query_q.astype(np.float64)
    return lambda: interpolation_function(flat, times, wanted).reshape(len(query_q), *floats.shape[1:])


if __name__ == "__main__":
    main()
