"""NetCDF files and Zarr folders as such: opened undecoded, and saved aside and renamed."""

import shutil
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from vsat.errors import InputError
from vsat.io.doors import bounded_memory, check_hdf5, check_zarr
from vsat.io.durable import aside_name, sync_folder, sync_tree, unwritten

_HDF5, _CLASSIC = b"\x89HDF\r\n\x1a\n", b"CDF"
_ZARR = ("zarr.json", ".zgroup")
_STORAGE = ("_FillValue", "scale_factor", "add_offset")  # how numbers were stored elsewhere
_TRIES, _PAUSE_S = 40, 0.05
_LONG_DAYS = 100 * 365
_LEVEL = 4  # deflate; higher levels cost seconds for one per cent


@contextmanager
def open_container(path: Path) -> Iterator[xr.Dataset]:
    """The file's variables: times decoded, numbers as they are stored, nothing read yet.

    Raises:
        InputError: there is nothing, or it is neither NetCDF nor Zarr, or it is damaged; also when the damage shows
            only while the caller reads.
    """
    options = _engine(path)
    step = "write it again; ncdump -h or xarray.open_dataset show what is in it"
    try:
        with bounded_memory():
            if options["engine"] == "zarr":
                check_zarr(path)
            elif not _is_classic(path):
                check_hdf5(path)
            # no index of any axis is read: what is wanted is asked for by name
            found = xr.open_dataset(
                path, mask_and_scale=False, decode_timedelta=False, cache=False, create_default_indexes=False, **options
            )
        with found:
            yield found
    except InputError:
        raise
    except MemoryError as error:
        problem = "it takes more memory to read than it declares to hold"
        raise InputError(problem, place=str(path), next_step=step) from error
    # what libraries raise for damaged files: HDF5 and NetCDF (OSError, RuntimeError), codecs, JSON and dates (the rest)
    except (
        OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError, ArithmeticError, EOFError,
        zlib.error,
    ) as error:  # fmt: skip
        raise InputError(
            f"it cannot be read: {type(error).__name__}: {str(error)[:200]}", place=str(path), next_step=step
        ) from error


def read_values(variable: xr.DataArray) -> NDArray[Any]:
    """All numbers or texts of a variable; its file can take no more memory for it than it declares, and some more."""
    with bounded_memory(int(variable.nbytes)):
        values: NDArray[Any] = variable.values
    return values


def save_filled(ds: xr.Dataset, path: Path) -> None:
    """The filled cube lies whole in `path`, replacing what was there.

    Written with compression and CF attributes: reflectance variables are float32 with unit "1" and NaN where missing.

    Args:
        ds: a cube as `vsat fill` makes it.
        path: ends with `.nc` (NetCDF-4) or `.zarr` (Zarr v2, which every reader knows; v3 has no agreed text type yet).

    Raises:
        InputError: another ending, a folder that does not exist, or something else in the way.
        StoreError: it cannot be written (disk full).
    """
    _check_place(path)
    aside = path.with_name(aside_name(path.name))
    try:
        if path.suffix == ".nc":
            _with_attributes(ds).to_netcdf(aside, engine="netcdf4", encoding=_encoding(ds, zlib=True, complevel=_LEVEL))
            aside.replace(path)
        else:
            _with_attributes(ds).to_zarr(aside, zarr_format=2, encoding=_encoding(ds))
            sync_tree(aside)
            _replace_folder(aside, path)
        sync_folder(path.parent)
    except (OSError, RuntimeError) as error:  # HDF5's own errors are of the latter kind
        raise unwritten(error, path) from error
    finally:
        if aside.is_dir():
            _remove(aside)
        else:
            aside.unlink(missing_ok=True)


def _remove(folder: Path) -> None:
    """The folder is gone. Zarr's own threads may still be writing other chunks when the first of them has failed."""
    for _ in range(_TRIES):
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(_PAUSE_S)
        if not folder.exists():
            return


def _engine(path: Path) -> dict[str, Any]:
    if path.is_dir() and any((path / name).exists() for name in _ZARR):
        return {"engine": "zarr", "consolidated": False}  # what lies there counts, not what a summary says of it
    if path.is_file():
        with path.open("rb") as file:
            if file.read(len(_HDF5)).startswith((_HDF5, _CLASSIC)):
                return {"engine": "netcdf4"}
    problem = "there is no such file"
    if path.exists():
        problem = "this folder is not a Zarr group" if path.is_dir() else "this file is not NetCDF"
    raise InputError(problem, place=str(path), next_step="give the path of a NetCDF file or Zarr folder")


def _is_classic(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_CLASSIC)) == _CLASSIC


def _check_place(path: Path) -> None:
    if path.suffix not in (".nc", ".zarr"):
        raise InputError(f"unknown ending {path.suffix!r}", place=str(path), next_step="end the name with .nc or .zarr")
    if not path.parent.is_dir():
        raise InputError("its folder does not exist", place=str(path), next_step=f"make the folder {path.parent} first")
    taken = path.is_dir() if path.suffix == ".nc" else path.exists() and not any((path / n).exists() for n in _ZARR)
    if taken:
        raise InputError("something else is there", place=str(path), next_step="name another file")


def _with_attributes(ds: xr.Dataset) -> xr.Dataset:
    """A copy with CF attributes where the maker gave none, and nothing that a file format would stumble over."""
    copy = ds.assign_coords(time=ds["time"].values.astype("datetime64[s]")) if _is_long(ds) else ds.copy()
    copy.attrs = {"Conventions": "CF-1.11"} | copy.attrs
    for name, variable in copy.variables.items():
        variable.encoding = {}
        variable.attrs = {key: value for key, value in variable.attrs.items() if key not in _STORAGE}
        if name in copy.data_vars:
            if variable.dtype.kind == "f":
                variable.attrs = {"units": "1", "long_name": _LONG_NAMES.get(str(name), str(name))} | variable.attrs
            if "spatial_ref" in copy.variables and {"y", "x"} <= set(variable.dims):
                variable.attrs["grid_mapping"] = "spatial_ref"
    return copy


_LONG_NAMES = {
    "reflectance": "surface reflectance, median",
    "sd": "predicted standard deviation of reflectance",
    **{f"p{level:02d}": f"{level} % quantile of reflectance" for level in (5, 25, 75, 95)},
}


def _encoding(ds: xr.Dataset, **options: Any) -> dict[str, dict[str, Any]]:
    encoding: dict[str, dict[str, Any]] = {}
    for name, variable in ds.data_vars.items():
        if variable.dtype.kind == "f":
            encoding[str(name)] = {"dtype": "float32", "_FillValue": np.float32(np.nan), **options}
        else:
            encoding[str(name)] = {"_FillValue": variable.attrs.get("_FillValue"), **options}
    if _is_long(ds):
        encoding["time"] = {"units": "seconds since 1970-01-01", "dtype": "int64"}
    return encoding


def _is_long(ds: xr.Dataset) -> bool:
    """From its first date to its last there are more nanoseconds than 64 bits count, or nearly so."""
    if "time" not in ds.coords:
        return False
    days = ds["time"].values.astype("datetime64[D]").astype(np.int64)
    return bool(np.ptp(days) > _LONG_DAYS)


def _replace_folder(aside: Path, path: Path) -> None:
    """Put the folder in place; an old one is moved away first, for folders are not renamed onto each other."""
    if path.exists():
        old = path.with_name(aside_name(f"{path.name}.old"))
        path.rename(old)
        aside.rename(path)
        shutil.rmtree(old)
    else:
        aside.rename(path)
