"""Fill a cube that a user brings: observation cube in, virtual dates out, no region and no server.

Axes: t looks, q dates asked, b bands, l looks of `age` (last, next, count), y, x.
"""

import logging
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import psutil
import xarray as xr

from vsat.core.fill import NONE, Filled, fill
from vsat.core.joint import Ties, draw_scores, measure_ties
from vsat.core.joint import samples as draw_samples
from vsat.core.masks import clear
from vsat.errors import AllCloudy, InputError
from vsat.hls import FILL, sensors_of
from vsat.io.exchange import load_cube, save_filled
from vsat.methods import DEFAULT_METHOD, is_trained
from vsat.stages.models import label, model_of

log = logging.getLogger(__name__)

VALUE_BYTES = 50  # of a value asked for: six estimates in float32, once more while they are written
SAMPLE_BYTES = 8
DAYS_BEFORE = 1 << 20  # makes every day a number that can seed a generator

ESTIMATES = {
    "reflectance": ("refl_qbyx", "surface reflectance: observed where origin is 0, else the estimate"),
    "sd": ("sd_qbyx", "predicted standard deviation of reflectance; 0 where observed"),
    "p05": ("p05_qbyx", "5 % quantile of reflectance"),
    "p25": ("p25_qbyx", "25 % quantile of reflectance"),
    "p75": ("p75_qbyx", "75 % quantile of reflectance"),
    "p95": ("p95_qbyx", "95 % quantile of reflectance"),
}


def predict(
    cube: xr.Dataset,
    dates: Sequence[date],
    *,
    method: str = DEFAULT_METHOD,
    adjacent: bool = False,
    snow: bool = False,
    samples: int = 0,
    seed: int = 0,
) -> xr.Dataset:
    """Reflectance with its uncertainty for any dates, observed or not.

    Args:
        cube: an observation cube in memory, as `load_cube` gives it: `reflectance` int16 (time, band, y, x), scale 1e-4,
            fill -9999; `fmask` uint8 (time, y, x).
        dates: the UTC days wanted, in any order; repeats are dropped.
        method: one of methods.METHODS, or anydate:<checkpoint>.
        adjacent, snow: True takes pixels next to cloud, or under snow, as clear looks.
        samples: so many joint samples of each date come along, for who propagates uncertainty.
        seed: of the samples.

    Returns:
        Dataset on `time` = the dates in order: `reflectance`, `sd`, `p05`, `p25`, `p75`, `p95` float32 (time, band, y, x)
        in reflectance, NaN where there is no value; `origin` uint8 (time, y, x): 0 observed that day, 1 filled with a
        clear look within 16 days, 2 filled farther, 3 prior only, 255 no value; `age` int16 (time, look, y, x): days since
        the last and until the next clear look, and the number of clear looks, -9999 missing. A clear look on a date
        asked for passes through unchanged. With `samples` also `samples` float32 (sample, time, band, y, x): values that
        could be true together in all bands and pixels of a date; dates are drawn independently of each other.

    Raises:
        InputError: no date, one that is none or not of the years 1678 to 2261, fewer than 0 samples, or an unknown method.
        AllCloudy: the cube has not one clear look.
    """
    trained = is_trained(method)
    wanted = _days_asked(dates)
    if samples < 0:
        raise InputError(f"{samples} samples", place="samples", next_step="give 0 for none, or more")
    refl_tbyx = cube["reflectance"].values
    clear_tyx = clear(cube["fmask"].values, refl_tbyx, adjacent=adjacent, snow=snow)
    if not clear_tyx.any():
        raise AllCloudy(
            "there is not one clear look", place="fmask", next_step="check the mask's bits, or bring more dates"
        )
    # from dates outwards the arrays know days only: every look of one UTC day is that day's
    day_t = cube["time"].values.astype("datetime64[D]").astype(np.int32)
    query_q = np.array(wanted, "datetime64[D]").astype(np.int32)
    if trained:
        bands, sensor_t = tuple(map(str, cube["band"].values)), sensors_of(cube["sensor"].values)
        filled = model_of(method).fill(refl_tbyx, clear_tyx, day_t, query_q, bands=bands, sensor_t=sensor_t)
    else:
        filled = fill(refl_tbyx, clear_tyx, day_t, query_q, method=method)
    out = _dataset(cube, wanted, filled, label(method))
    if samples:
        ties = measure_ties(refl_tbyx, clear_tyx, day_t, seed=seed)
        out["samples"] = _samples(filled, ties, query_q, samples, seed)
        out["samples"].attrs = {**out["sd"].attrs, "long_name": "values that could be true together on a date"}
    return out


def _samples(filled: Filled, ties: Ties, query_q: np.ndarray, count: int, seed: int) -> xr.Variable:
    """Joint samples (sample, time, band, y, x); a day's own are the same whatever other days are asked for."""
    shape = filled.refl_qbyx.shape
    out = np.empty((count, *shape), np.float32)
    for q, day in enumerate(query_q.tolist()):
        values = (filled.p05_qbyx, filled.p25_qbyx, filled.refl_qbyx, filled.p75_qbyx, filled.p95_qbyx)
        scores = draw_scores(ties, (shape[2], shape[3]), count, np.random.default_rng([seed, day + DAYS_BEFORE]))
        out[:, q] = draw_samples(np.stack([one[q] for one in values]), scores)
    return xr.Variable(("sample", "time", "band", "y", "x"), out)


def _days_asked(dates: Sequence[date]) -> list[date]:
    """The days, each once, in order; what numpy takes for a date is one."""
    wanted = set()
    for one in dates:
        try:
            day = np.datetime64(one, "D").item()
        except (TypeError, ValueError):
            day = None
        # the years that nanoseconds since 1970 reach, which is how xarray and NetCDF readers keep time
        if not isinstance(day, date) or not 1678 <= day.year <= 2261:
            raise InputError(
                f"{one!s} is no day", place="dates", next_step="give days as YYYY-MM-DD, from 1678 to 2261"
            )
        wanted.add(day)
    if not wanted:
        raise InputError("no date is asked for", place="dates", next_step="give at least one day as YYYY-MM-DD")
    return sorted(wanted)


def fill_file(
    source: Path,
    out: Path,
    *,
    dates: Sequence[date] = (),
    every: int | None = None,
    acquisitions: bool = False,
    method: str = DEFAULT_METHOD,
    samples: int = 0,
) -> xr.Dataset:
    """The filled cube of the file `source` lies in `out` (.nc or .zarr).

    Args:
        source: NetCDF or Zarr observation cube.
        out: file to write; an existing one is replaced in one step.
        dates, every, acquisitions: exactly one of: these days; every so many days from the first look to the last; every
            day with a look.
        method: one of methods.METHODS, or anydate:<checkpoint>.
        samples: joint samples of each date that come along.

    Returns:
        What was written, see `predict`.

    Raises:
        InputError: the cube, an option or the output's name is not usable.
        AllCloudy: the cube has not one clear look.
    """
    if bool(dates) + (every is not None) + acquisitions != 1:
        raise InputError(
            "which dates?", place="options", next_step="give exactly one of --dates, --every and --acquisitions"
        )
    if every is not None and every < 1:
        raise InputError(f"--every {every} is not a number of days", place="options", next_step="give 1 or more")
    if out.suffix not in (".nc", ".zarr"):
        raise InputError(
            f"{out.name!r} is neither .nc nor .zarr", place=str(out), next_step="end the name in .nc or .zarr"
        )
    cube = load_cube(source)
    seen = sorted({value.astype("datetime64[D]").astype(date) for value in cube["time"].values})
    if every is not None:
        dates = [seen[0] + timedelta(n) for n in range(0, (seen[-1] - seen[0]).days + 1, every)]
    _check_room(cube, len(dates) or len(seen), samples)
    filled = predict(cube, list(dates) or seen, method=method, samples=samples)
    save_filled(filled, out)
    log.info("%s: %d dates with %s from %d looks", out, filled.sizes["time"], method, cube.sizes["time"])
    return filled


def _check_room(cube: xr.Dataset, dates: int, samples: int) -> None:
    """A look of the year 1700 among those of today asks for a hundred thousand dates: said before memory is full."""
    values = cube["reflectance"].size // cube.sizes["time"]
    needed, free = dates * values * (VALUE_BYTES + SAMPLE_BYTES * samples), psutil.virtual_memory().available
    if needed > free:
        problem = f"{dates:,} dates take {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free"
        raise InputError(problem, place="options", next_step="ask for fewer dates, or cut the cube into smaller areas")


def _dataset(cube: xr.Dataset, wanted: Sequence[date], filled: Filled, method: str) -> xr.Dataset:
    located = {"grid_mapping": "spatial_ref"} if "spatial_ref" in cube.coords else {}
    variables = {
        name: (("time", "band", "y", "x"), getattr(filled, field), {"units": "1", "long_name": told, **located})
        for name, (field, told) in ESTIMATES.items()
    }
    origin = {
        "long_name": "where a value comes from", "flag_values": np.array([0, 1, 2, 3, NONE], np.uint8),
        "flag_meanings": "observed filled_near filled_far prior_only no_value", **located,
    }  # fmt: skip
    # no _FillValue on the two: readers that apply it would turn codes and counts into floats
    age = {
        "long_name": "days since the last and until the next clear look; number of clear looks",
        "comment": f"{FILL} is missing", **located,
    }  # fmt: skip
    kept = {name: cube.coords[name] for name in ("y", "x", "spatial_ref") if name in cube.coords}
    return xr.Dataset(
        variables
        | {
            "origin": (("time", "y", "x"), filled.origin_qyx, origin),
            "age": (("time", "look", "y", "x"), filled.age_qlyx, age),
        },
        coords=kept
        | {
            "time": np.array(wanted, "datetime64[ns]"),
            "band": cube["band"].values,
            "look": ["last", "next", "count"],
        },
        attrs={"Conventions": "CF-1.11", "title": "virtual images", "source": f"vsat, method {method}"},
    )
