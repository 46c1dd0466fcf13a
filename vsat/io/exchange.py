"""Cubes that come from users, and filled cubes that go to them: NetCDF or Zarr files. DESIGN 4.

What comes in is checked at the door: what can be understood without doubt is put into our form, what was guessed is
said in a `CubeWarning`, and the rest is an `InputError` with the next step.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import xarray as xr
from numpy.typing import NDArray

from vsat.errors import InputError
from vsat.hls import BANDS, FILL, FMASK_FILL, SCALE
from vsat.io.containers import open_container, read_values, save_filled

__all__ = ["CubeWarning", "load_cube", "save_filled"]
AXES = ("time", "band", "y", "x")
MAX_BYTES = 8 << 30  # a year of a whole tile, uncompressed, has ten times as much: that is what regions are for
_PLAUSIBLE = (-0.3, 2.0)  # reflectance; snow and glint go over 1
_LARGEST = 32767 * SCALE
_BEYOND = 10**9  # what is larger is missing all the same
_MOST_FILLS = 16
_PEAK_BYTES = 24  # for each value of reflectance, while it becomes ours


class CubeWarning(UserWarning):
    """Something about a user's cube was guessed, or left out."""


def load_cube(path: Path, *, max_bytes: int = MAX_BYTES) -> xr.Dataset:
    """A user's observation cube in our form, in memory.

    Args:
        path: NetCDF file or Zarr folder (v2 or v3) with `reflectance` (time, band, y, x; any order of axes) and
            `fmask` (time, y, x). Reflectance is 0..1 as floats, or integers with or without `scale_factor`; without,
            1e-4 is taken. `sensor` and `spatial_ref` may be absent.
        max_bytes: a cube that declares more than this, uncompressed, is refused before it is read.

    Returns:
        Dataset with `reflectance` int16 (time, band, y, x), scale 1e-4 (attribute `scale_factor`, not applied), fill
        -9999; `fmask` uint8 (time, y, x), fill 255; time datetime64 sorted, repeats kept; sensor ("unknown" where
        absent); band in the order of `hls.BANDS`; y downwards, x to the right; spatial_ref if there was one.

    Raises:
        InputError: not a cube, or not one that can be understood; with the value, the place and the next step.
    """
    with open_container(path) as found:
        _check_shape(found, path, max_bytes)
        refl_tbyx = _reflectance(found, path)
        fmask_tyx = _fmask(found, path)
        cube = xr.Dataset(
            {"reflectance": (AXES, refl_tbyx), "fmask": (("time", "y", "x"), fmask_tyx)},
            coords={
                "time": _times(found, path),
                "sensor": ("time", _sensors(found, path)),
                "band": _bands(found, path),
                "y": _centres(found, "y", path),
                "x": _centres(found, "x", path),
            },
            attrs={key: value for key, value in found.attrs.items() if isinstance(value, str)},
        )
        cube = _located(cube, found)
    return _in_order(cube, path)


def _check_shape(found: xr.Dataset, path: Path, max_bytes: int) -> None:
    for name, axes in (("reflectance", AXES), ("fmask", ("time", "y", "x"))):
        if name not in found.variables:
            has = ", ".join(sorted(map(str, found.variables))) or "nothing"
            raise _refused(f"there is no variable {name!r}; it has {has}", path, f"rename yours to {name!r}")
        if set(found[name].dims) != set(axes):
            told = ", ".join(map(str, found[name].dims))
            raise _refused(f"{name} has the dimensions ({told})", path, f"give it ({', '.join(axes)})")
        if found[name].dtype.kind not in "iuf":
            raise _refused(f"{name} holds {found[name].dtype}, not numbers", path, "write integers or floats")
    empty = [axis for axis in AXES if not found.sizes[axis]]
    if empty:
        raise _refused(f"the dimension {empty[0]!r} is empty", path, "write a cube with at least one of each")
    declared = int(found["reflectance"].nbytes + found["fmask"].nbytes)
    if declared > max_bytes:
        step = "cut it into smaller areas, or fetch a region instead: vsat init"
        raise _refused(f"it declares {declared / 1e9:.1f} GB, the limit is {max_bytes / 1e9:.1f} GB", path, step)
    needed, free = _PEAK_BYTES * found["reflectance"].size, psutil.virtual_memory().available
    if needed > free:
        step = "cut it into smaller areas, or read it on a larger machine"
        raise _refused(f"to read it takes {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are free", path, step)


def _reflectance(found: xr.Dataset, path: Path) -> NDArray[np.int16]:
    """Stored numbers, int16; a cube in our own form comes through bit for bit."""
    variable = found["reflectance"].transpose(*AXES)
    raw_tbyx = read_values(variable)
    scale, offset = _scale(variable.attrs, raw_tbyx, path)
    absent_tbyx = _absent(raw_tbyx, variable.attrs, path)
    wide = raw_tbyx.dtype.itemsize > 2
    if raw_tbyx.dtype.kind in "iu" and np.isclose(scale, SCALE, rtol=1e-6) and offset == 0:
        # clipped before it is narrowed: else uint64's largest number would come in as -1
        dn_tbyx = np.clip(raw_tbyx, -_BEYOND, _BEYOND).astype(np.int64) if wide else raw_tbyx.astype(np.int32)
    else:
        with np.errstate(invalid="ignore", over="ignore"):
            real_tbyx = (raw_tbyx.astype(np.float64) * scale + offset) / SCALE
        absent_tbyx |= ~np.isfinite(real_tbyx)
        dn_tbyx = np.rint(np.where(absent_tbyx, 0, np.clip(real_tbyx, -_BEYOND, _BEYOND))).astype(np.int64)
    _check_values(dn_tbyx, absent_tbyx, path)
    beyond_tbyx = (np.abs(dn_tbyx) > np.iinfo(np.int16).max) & ~absent_tbyx
    # a real value of exactly -0.9999 would read as missing; none is plausible, so it may
    if count := int(beyond_tbyx.sum()):
        _doubt(f"{count} values beyond ±{_LARGEST:.2f} are taken as missing", path)
    return np.where(absent_tbyx | beyond_tbyx, FILL, dn_tbyx).astype(np.int16)


def _scale(attributes: dict[Any, Any], raw_tbyx: NDArray[Any], path: Path) -> tuple[float, float]:
    try:
        scale, offset = float(attributes.get("scale_factor", np.nan)), float(attributes.get("add_offset", 0.0))
    except (TypeError, ValueError):
        step = "write numbers, or leave them out"
        raise _refused("scale_factor and add_offset are not numbers", path, step) from None
    if "scale_factor" in attributes and not (np.isfinite(scale) and np.isfinite(offset) and scale != 0):
        raise _refused(f"scale_factor {scale}, add_offset {offset}", path, "write finite numbers, or leave them out")
    if np.isfinite(scale):
        return scale, offset
    if raw_tbyx.dtype.kind in "iu":
        _doubt("integers without scale_factor: 0..10000 is taken as reflectance 0..1", path)
        return SCALE, offset
    seen = raw_tbyx[np.isfinite(raw_tbyx) & ~_absent(raw_tbyx, attributes, path)]
    if seen.size and np.median(np.abs(seen)) > 10:
        _doubt(f"floats with median {np.median(seen):.0f}: 0..10000 is taken as reflectance 0..1", path)
        return SCALE, offset
    return 1.0, offset


def _absent(raw: NDArray[Any], attributes: dict[Any, Any], path: Path) -> NDArray[np.bool_]:
    """Where the file says that nothing was measured; -9999 always says so."""
    absent: NDArray[np.bool_] = np.asarray(raw == FILL)
    for value in _fills(attributes, ("_FillValue", "missing_value"), path):
        absent |= raw == value
    if raw.dtype.kind == "f":
        absent |= np.isnan(raw)
    return absent


def _fills(attributes: dict[Any, Any], names: tuple[str, ...], path: Path) -> list[Any]:
    """The numbers that stand for nothing measured."""
    found = [np.atleast_1d(attributes.get(name, [])) for name in names]
    if sum(each.size for each in found) > _MOST_FILLS or any(
        each.size and each.dtype.kind not in "iuf" for each in found
    ):
        step = f"write numbers, at most {_MOST_FILLS}, or leave them out"
        raise _refused("_FillValue or missing_value are no few numbers", path, step)
    return [value for each in found for value in each]


def _check_values(dn_tbyx: NDArray[Any], absent_tbyx: NDArray[np.bool_], path: Path) -> None:
    seen = dn_tbyx[~absent_tbyx] * SCALE
    if not seen.size:
        raise _refused("reflectance has no value at all", path, "write a cube with observations")
    if np.mean((seen < _PLAUSIBLE[0]) | (seen > _PLAUSIBLE[1])) > 0.5:
        step = "write reflectance 0..1, or integers with their scale_factor"
        raise _refused(f"this is no reflectance: its median is {np.median(seen):.4g}", path, step)


def _fmask(found: xr.Dataset, path: Path) -> NDArray[np.uint8]:
    variable = found["fmask"].transpose("time", "y", "x")
    raw_tyx = read_values(variable)
    if raw_tyx.dtype == np.int8:  # NetCDF-3 has no unsigned bytes
        raw_tyx = raw_tyx.view(np.uint8)
    absent_tyx = np.isnan(raw_tyx) if raw_tyx.dtype.kind == "f" else np.zeros(raw_tyx.shape, bool)
    for value in _fills(variable.attrs, ("_FillValue",), path):
        bits = np.uint8(value % 256) if raw_tyx.dtype == np.uint8 and np.isfinite(value) else value
        absent_tyx |= raw_tyx == bits
    whole_tyx = np.where(absent_tyx, FMASK_FILL, raw_tyx)
    wrong = whole_tyx[(whole_tyx < 0) | (whole_tyx > 255) | (whole_tyx != np.floor(whole_tyx))]
    if wrong.size:
        step = "write HLS Fmask bits: 2 cloud, 4 adjacent, 8 shadow, 16 snow, 32 water, 255 no data"
        raise _refused(f"fmask holds {wrong[0]:g}, which is no byte", path, step)
    fmask_tyx: NDArray[np.uint8] = whole_tyx.astype(np.uint8)
    return fmask_tyx


def _times(found: xr.Dataset, path: Path) -> NDArray[np.datetime64]:
    step = "write `time` with units such as 'days since 2020-01-01' and a standard calendar"
    if "time" not in found.variables:
        raise _refused("there is no coordinate 'time'", path, step)
    times = read_values(found["time"])
    if times.dtype.kind != "M" or times.shape != (found.sizes["time"],):
        raise _refused(f"`time` does not hold dates but {times.dtype}", path, step)
    if np.isnat(times).all():
        raise _refused("`time` holds no date at all", path, step)
    return times.astype("datetime64[ns]")


def _bands(found: xr.Dataset, path: Path) -> list[str]:
    step = f"name them as in: {', '.join(BANDS)}"
    if "band" not in found.variables:
        raise _refused("there is no coordinate 'band'", path, step)
    names = _texts(read_values(found["band"]))
    unknown = [name for name in names if name not in BANDS]
    if unknown:
        raise _refused(f"unknown band {unknown[0]!r}", path, step)
    if len(set(names)) < len(names):
        raise _refused(f"a band comes twice: {', '.join(names)}", path, step)
    return names


def _sensors(found: xr.Dataset, path: Path) -> NDArray[np.str_]:
    if "sensor" not in found.variables:
        return np.full(found.sizes["time"], "unknown")
    if found["sensor"].dims != ("time",):
        raise _refused(f"sensor has the dimensions {found['sensor'].dims}", path, "give it (time)")
    return np.array(_texts(read_values(found["sensor"])))


def _texts(values: NDArray[Any]) -> list[str]:
    return [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in values.ravel()]


def _centres(found: xr.Dataset, axis: str, path: Path) -> xr.Variable:
    if axis not in found.variables:
        _doubt(f"there is no coordinate {axis!r}: pixels are counted instead", path)
        counted = np.arange(found.sizes[axis], dtype=np.float64)
        return xr.Variable(axis, counted[::-1] if axis == "y" else counted)  # the first row is the upper one
    values, step = read_values(found[axis]), f"write the pixel centres into {axis!r}, evenly spaced"
    if values.dtype.kind not in "iuf" or found[axis].dims != (axis,) or not np.isfinite(values).all():
        raise _refused(f"the coordinate {axis!r} does not hold one finite number per pixel", path, step)
    steps = np.diff(values.astype(np.float64))
    if steps.size and not ((steps > 0).all() or (steps < 0).all()):
        raise _refused(f"the coordinate {axis!r} goes up and down", path, step)
    if steps.size and not np.allclose(steps, steps[0], rtol=1e-2):
        _doubt(f"the coordinate {axis!r} is not evenly spaced", path)
    units = {key: value for key, value in found[axis].attrs.items() if key in ("units", "standard_name", "long_name")}
    return xr.Variable(axis, values.astype(np.float64), units)


def _located(cube: xr.Dataset, found: xr.Dataset) -> xr.Dataset:
    """The cube with the file's grid mapping, under the name `spatial_ref`."""
    import rioxarray  # noqa: F401 - gives the Dataset its .rio

    mapping = found["reflectance"].attrs.get("grid_mapping", found["reflectance"].encoding.get("grid_mapping"))
    for name in (mapping, "spatial_ref", "crs"):
        if name in found.variables and not found[name].ndim:
            cube = cube.assign_coords(spatial_ref=xr.Variable((), 0, found[name].attrs))
            break
    cube["reflectance"].attrs = {
        "long_name": "surface reflectance",
        "units": "1",
        "scale_factor": SCALE,
        "_FillValue": FILL,
    }
    cube["fmask"].attrs = {"long_name": "HLS v2 Fmask bits", "comment": "255 = no data"}
    if "spatial_ref" in cube.coords:
        for name in ("reflectance", "fmask"):
            cube[name].attrs["grid_mapping"] = "spatial_ref"
    return cube


def _in_order(cube: xr.Dataset, path: Path) -> xr.Dataset:
    """Time upwards, bands as in `hls.BANDS`, y downwards, x to the right; rows without a date are left out."""
    undated = np.isnat(cube["time"].values)
    if undated.any():
        _doubt(f"{int(undated.sum())} of {undated.size} times are no dates and are left out", path)
    order = np.argsort(cube["time"].values, kind="stable")[: undated.size - int(undated.sum())]  # no dates sort last
    picked = {"time": order, "band": np.argsort([BANDS.index(str(name)) for name in cube["band"].values])}
    if cube.sizes["y"] > 1 and cube["y"].values[0] < cube["y"].values[-1]:
        picked["y"] = np.arange(cube.sizes["y"])[::-1]
    if cube.sizes["x"] > 1 and cube["x"].values[0] > cube["x"].values[-1]:
        picked["x"] = np.arange(cube.sizes["x"])[::-1]
    moved = {axis: index for axis, index in picked.items() if not np.array_equal(index, np.arange(cube.sizes[axis]))}
    return cube.isel(moved)


def _doubt(told: str, path: Path) -> None:
    warnings.warn(f"{path}: {told}", CubeWarning, stacklevel=3)


def _refused(problem: str, path: Path, next_step: str) -> InputError:
    return InputError(problem, place=str(path), next_step=next_step)
