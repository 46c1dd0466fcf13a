"""Cubes that nobody means well with, for `vsat fill` and `vsat evaluate`: NetCDF and Zarr.

Each case is built in a folder of its own; what it points to lies in `place.outside` and must not be touched.
"""

import gzip
import json
import os
import shutil
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr
from fault.confined import Case, Place
from numcodecs.pickles import Pickle

from vsat.hls import BANDS, FILL
from vsat.io.exchange import load_cube
from vsat.stages.fill import fill_file
from vsat.stages.sources import cube_source

AXES = ("time", "band", "y", "x")
SIZES = (3, 6, 4, 5)
MASK_AXES, MASK_SIZES = ("time", "y", "x"), (3, 4, 5)
BOMB = 1 << 30  # bytes that a bomb inflates to; it takes a thousandth of that

Build = Callable[[Place], Path]


def cube() -> xr.Dataset:
    """A sound cube, 3 looks x 6 bands x 4 x 5 pixels."""
    rng = np.random.default_rng(0)
    refl_tbyx = rng.integers(100, 6000, SIZES).astype(np.int16)
    return xr.Dataset(
        {
            "reflectance": (AXES, refl_tbyx, {"scale_factor": 1e-4, "_FillValue": np.int16(FILL)}),
            "fmask": (MASK_AXES, np.zeros(MASK_SIZES, np.uint8)),
        },
        coords={
            "time": np.array(["2024-05-02", "2024-05-07", "2024-05-12"], "datetime64[ns]"),
            "sensor": ("time", ["L30", "S30", "S30"]),
            "band": list(BANDS),
            "y": 5900000.0 - 30 * np.arange(4),
            "x": 400000.0 + 30 * np.arange(5),
        },
    )


def fill(path: Path) -> object:
    """What `vsat fill` does with it."""
    return fill_file(path, path.with_name("filled.nc"), acquisitions=True, method="linear")


def judge(path: Path) -> object:
    """How `vsat evaluate` reads it."""
    return cube_source(path)


# -- NetCDF


def netcdf(change: Callable[[xr.Dataset], xr.Dataset], **options: Any) -> Build:
    def build(place: Place) -> Path:
        path = place.folder / "cube.nc"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            change(cube()).to_netcdf(path, **options)
        return path

    return build


def hdf5(change: Callable[[h5py.File, Place], object], **options: Any) -> Build:
    """A sound NetCDF file that h5py has changed."""

    def build(place: Place) -> Path:
        path = netcdf(lambda ds: ds)(place)
        with h5py.File(path, "r+", **options) as file:
            change(file, place)
        return path

    return build


def secret_cube(place: Place) -> Path:
    """A sound cube outside; nobody is to read it by way of another."""
    path = place.outside / "secret.nc"
    if not path.exists():
        cube().to_netcdf(path)
        (place.outside / "secret.bin").write_bytes(bytes(range(200)) * 200)
    return path


def put(file: h5py.File, name: str, **options: Any) -> h5py.Dataset:
    """A dataset instead of the one of that name, on the same dimensions."""
    del file[name]
    made = file.create_dataset(name, **options)
    for axis, scale in enumerate(AXES if made.ndim == 4 else MASK_AXES):
        made.dims[axis].attach_scale(file[scale])
    return made


def external_bytes(file: h5py.File, place: Place) -> None:
    secret_cube(place)
    told = [("../outside/secret.bin", 0, h5py.h5f.UNLIMITED)]
    made = put(file, "reflectance", shape=SIZES, dtype="<i2", external=told)
    made.attrs["scale_factor"] = 1e-4


def virtual_dataset(source: str) -> Callable[[h5py.File, Place], None]:
    def change(file: h5py.File, place: Place) -> None:
        told = source.format(secret=secret_cube(place))
        layout = h5py.VirtualLayout(SIZES, "<i2")
        layout[:] = h5py.VirtualSource(told, "reflectance", SIZES)
        del file["reflectance"]
        made = file.create_virtual_dataset("reflectance", layout)
        made.attrs["scale_factor"] = 1e-4
        for axis, scale in enumerate(AXES):
            made.dims[axis].attach_scale(file[scale])

    return change


def linked(name: str, target: str) -> Callable[[h5py.File, Place], None]:
    def change(file: h5py.File, place: Place) -> None:
        secret = secret_cube(place)
        if name in file:
            del file[name]
        file[name] = h5py.ExternalLink(target.format(secret=secret), "/reflectance")

    return change


def deep_groups(file: h5py.File, _: Place) -> None:
    group = file
    for _ in range(3000):
        group = group.create_group("g")


def group_in_itself(file: h5py.File, _: Place) -> None:
    made = file.create_group("loop")
    made["again"] = made
    made["root"] = file["/"]


def soft_circle(file: h5py.File, _: Place) -> None:
    file["one"], file["two"] = h5py.SoftLink("/two"), h5py.SoftLink("/one")
    file["lost"] = h5py.SoftLink("/nowhere/at/all")


def many_objects(file: h5py.File, _: Place) -> None:
    for n in range(5000):
        file.create_group(f"g{n}")


def chunk_bomb(file: h5py.File, _: Place) -> None:
    """One chunk whose deflated bytes hold far more than the chunk."""
    made = put(file, "reflectance", shape=SIZES, dtype="<i2", chunks=SIZES, compression="gzip")
    made.attrs["scale_factor"] = 1e-4
    made.id.write_direct_chunk((0, 0, 0, 0), zeros(BOMB))


def declared(name: str, shape: tuple[int, ...], **options: Any) -> Callable[[h5py.File, Place], None]:
    """A dataset that declares much and holds nothing."""

    def change(file: h5py.File, _: Place) -> None:
        if name in file:
            del file[name]
        made = file.create_dataset(name, shape=shape, dtype=options.pop("dtype", "<i2"), **options)
        if len(shape) == 1:
            made.make_scale(name)

    return change


def huge(**options: Any) -> Build:
    """Both arrays on huge dimensions, without a byte of data."""
    sizes = dict(zip(AXES, (300, 6, 200_000, 200_000), strict=True)) | options.pop("sizes", {})

    def build(place: Place) -> Path:
        path = place.folder / "cube.nc"
        with h5py.File(path, "w") as file:
            for name, shape, dtype in (
                ("reflectance", tuple(sizes[axis] for axis in AXES), "<i2"),
                ("fmask", tuple(sizes[axis] for axis in MASK_AXES), "u1"),
            ):
                chunks = options.get("chunks") or tuple(min(size, 64) for size in shape)
                file.create_dataset(name, shape=shape, dtype=dtype, chunks=chunks[-len(shape) :])
            file["band"] = [name.encode() for name in BANDS]
            for axis in ("time", "y", "x"):
                file.create_dataset(axis, shape=(sizes[axis],), dtype="<f8", chunks=(min(sizes[axis], 1000),))
            file["time"].attrs["units"] = "days since 2020-01-01"
            for axis in AXES:
                file[axis].make_scale(axis)
            for name, axes in (("reflectance", AXES), ("fmask", MASK_AXES)):
                for n, axis in enumerate(axes):
                    file[name].dims[n].attach_scale(file[axis])
        return path

    return build


def object_references(file: h5py.File, _: Place) -> None:
    made = put(file, "reflectance", shape=SIZES, dtype=h5py.ref_dtype)
    made[...] = file["fmask"].ref


def variable_lengths(file: h5py.File, _: Place) -> None:
    put(file, "reflectance", shape=SIZES, dtype=h5py.vlen_dtype(np.dtype("<i2")))


def compound(file: h5py.File, _: Place) -> None:
    put(file, "reflectance", shape=SIZES, dtype=[("a", "<i2"), ("b", "S8")])


def long_names(file: h5py.File, _: Place) -> None:
    del file["band"]
    made = file.create_dataset("band", shape=(6,), dtype=h5py.string_dtype())
    made[...] = ["b" * 40_000_000] * 6
    made.make_scale("band")


def classic(count: int, length: int, *, version: int = 1) -> Build:
    """A classic NetCDF header that counts more than there is."""

    def build(place: Place) -> Path:
        path = place.folder / "cube.nc"
        wide = ">q" if version == 5 else ">i"
        dims = struct.pack(">i", 10) + struct.pack(wide, count)
        dims += struct.pack(wide, 4) + b"time" + struct.pack(wide, length)
        path.write_bytes(b"CDF" + bytes([version]) + struct.pack(wide, 0) + dims)
        return path

    return build


def attribute(name: str, key: str, value: object) -> Build:
    def change(ds: xr.Dataset) -> xr.Dataset:
        made = ds.copy()
        made[name].attrs[key] = value
        if key in ("_FillValue", "scale_factor", "add_offset"):
            made[name].encoding = {}
        return made

    return netcdf(change)


def titled(text: str) -> Build:
    return netcdf(lambda ds: ds.assign_attrs(title=text))


def located(text: str) -> Build:
    def change(ds: xr.Dataset) -> xr.Dataset:
        made = ds.assign_coords(spatial_ref=xr.Variable((), 0, {"crs_wkt": text, "spatial_ref": text}))
        made["reflectance"].attrs["grid_mapping"] = "spatial_ref"
        return made

    return lambda place: netcdf(
        lambda ds: change(ds).map(lambda one: one, keep_attrs=True) if "{" not in text else change(ds)
    )(place)


def at_times(*times: str) -> Build:
    return netcdf(lambda ds: ds.assign_coords(time=np.array(times, "datetime64[ns]")))


def counted(values: object, units: str) -> Build:
    return netcdf(lambda ds: ds.assign_coords(time=("time", np.asarray(values), {"units": units})))


def stored(dtype: str, value: object) -> Build:
    """Reflectance of that type, one pixel of it with that value."""

    def change(ds: xr.Dataset) -> xr.Dataset:
        values = ds["reflectance"].values.astype(dtype)
        values[0, 0, 0, 0] = value
        return ds.assign(reflectance=(AXES, values, {"scale_factor": 1e-4}))

    return netcdf(change)


def masked(dtype: str, value: object) -> Build:
    def change(ds: xr.Dataset) -> xr.Dataset:
        values = ds["fmask"].values.astype(dtype)
        values[0, 0, 0] = value
        return ds.assign(fmask=(MASK_AXES, values))

    return netcdf(change)


def special(kind: str) -> Build:
    """What is no file at all behind the name of one."""

    def build(place: Place) -> Path:
        path = place.folder / "cube.nc"
        match kind:
            case "fifo":
                os.mkfifo(path)
            case "device":
                path.symlink_to("/dev/zero")
            case "circle":
                path.symlink_to(path)
            case "empty":
                path.touch()
            case _:
                path.write_bytes(kind.encode("latin1"))
        return path

    return build


def zeros(size: int) -> bytes:
    """Zeros, deflated."""
    packer, piece = zlib.compressobj(9), bytes(1 << 22)
    return b"".join(packer.compress(piece) for _ in range(size // len(piece))) + packer.flush()


def damaged(seed: int, *, flips: int = 40) -> Build:
    """Bytes changed at random in the first 8 kB, where a file says what it holds."""

    def build(place: Place) -> Path:
        path = netcdf(lambda ds: ds)(place)
        content, rng = bytearray(path.read_bytes()), np.random.default_rng(seed)
        for at in rng.integers(8, min(8192, len(content)), flips):
            content[at] = rng.integers(256)
        path.write_bytes(content)
        return path

    return build


# -- Zarr


def folder(
    change: Callable[[Path, Place], object] = lambda path, place: None, *, zarr_format: int = 3, **options: Any
) -> Build:
    """A Zarr folder, changed."""

    def build(place: Place) -> Path:
        path = place.folder / "cube.zarr"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cube().to_zarr(path, zarr_format=zarr_format, consolidated=False, **options)
        change(path, place)
        return path

    return build


def metadata(name: str, **changes: Any) -> Callable[[Path, Place], None]:
    """zarr.json, or .zarray, of an array changed; a value may be a function of what is there."""

    def change(path: Path, _: Place) -> None:
        file = path / name / "zarr.json"
        file = file if file.exists() else path / name / ".zarray"
        told = json.loads(file.read_text())
        for key, value in changes.items():
            told[key] = value(told.get(key)) if callable(value) else value
        file.write_text(json.dumps(told))

    return change


def written(name: str, text: str | bytes) -> Callable[[Path, Place], None]:
    def change(path: Path, _: Place) -> None:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(text.encode() if isinstance(text, str) else text)

    return change


def pickled_bands(path: Path, place: Place) -> None:
    """Names of bands as pickled objects, one of which makes a file."""
    shutil.rmtree(path / "band")
    (path / "band").mkdir()
    told = {
        "zarr_format": 2, "shape": [6], "chunks": [6], "dtype": "|O", "fill_value": None, "order": "C",
        "compressor": None, "filters": [{"id": "pickle", "protocol": 5}],
    }  # fmt: skip
    (path / "band/.zarray").write_text(json.dumps(told))
    (path / "band/.zattrs").write_text(json.dumps({"_ARRAY_DIMENSIONS": ["band"]}))
    values = np.empty(6, object)
    values[:] = [Makes(str(place.outside / "made-by-pickle"))] * 6
    (path / "band/0").write_bytes(Pickle().encode(values))


class Makes:
    """Makes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.open, (self._path, os.O_CREAT | os.O_WRONLY)


def zarr_bomb(codec: str) -> Callable[[Path, Place], None]:
    """One chunk that inflates to far more than its array declares."""

    def change(path: Path, _: Place) -> None:
        configuration = {"level": 5} if codec == "gzip" else {"level": 0, "checksum": False}
        codecs = [{"name": "bytes", "configuration": {"endian": "little"}}]
        metadata("reflectance", codecs=[*codecs, {"name": codec, "configuration": configuration}])(path, _)
        shutil.rmtree(path / "reflectance/c")
        if codec == "gzip":
            content = gzip.compress(bytes(1 << 24), 9) * (BOMB >> 24)
        else:  # a zstd frame of blocks that repeat one byte
            block = struct.pack("<I", (1 << 17) << 3 | 0b010)[:3] + b"\0"
            last = struct.pack("<I", (1 << 17) << 3 | 0b011)[:3] + b"\0"
            frame = b"\x28\xb5\x2f\xfd" + bytes([0x20 | 0x80]) + struct.pack("<I", BOMB)
            content = frame + block * (BOMB // (1 << 17) - 1) + last
        target = path / "reflectance/c/0/0/0/0"
        target.parent.mkdir(parents=True)
        target.write_bytes(content)

    return change


def linked_chunk(target: str) -> Callable[[Path, Place], None]:
    def change(path: Path, place: Place) -> None:
        secret_cube(place)
        chunk = next(one for one in sorted((path / "reflectance").rglob("*")) if one.is_file() and one.name == "0")
        chunk.unlink()
        if target == "fifo":
            os.mkfifo(chunk)
        else:
            chunk.symlink_to(place.outside / target if target == "secret.bin" else target)

    return change


def linked_array(path: Path, place: Place) -> None:
    secret = place.outside / "secret.zarr"
    if not secret.exists():
        cube().to_zarr(secret, zarr_format=3, consolidated=False)
    shutil.rmtree(path / "reflectance")
    (path / "reflectance").symlink_to(secret / "reflectance")


def linked_root(place: Place) -> Path:
    """The whole cube by a link: that is the user's own choice of a path."""
    path = folder()(place)
    (place.folder / "link.zarr").symlink_to(path)
    return place.folder / "link.zarr"


def consolidated(change: Callable[[dict[str, Any]], object]) -> Build:
    """A v2 folder whose summary says other than its arrays."""

    def build(place: Place) -> Path:
        path = place.folder / "cube.zarr"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cube().to_zarr(path, zarr_format=2, consolidated=True)
        told = json.loads((path / ".zmetadata").read_text())
        change(told["metadata"])
        (path / ".zmetadata").write_text(json.dumps(told))
        return path

    return build


def traversing(told: dict[str, Any]) -> None:
    for name in (".zarray", ".zattrs"):
        told[f"../../outside/secret.zarr/{name}"] = told[f"reflectance/{name}"]


def many_chunks(path: Path, _: Place) -> None:
    sizes = [3, 6, 30_000, 3_000]
    for name, shape in (("reflectance", sizes), ("fmask", [3, *sizes[2:]])):
        shutil.rmtree(path / name / "c", ignore_errors=True)
        grid = {"name": "regular", "configuration": {"chunk_shape": [1] * len(shape)}}
        metadata(name, shape=shape, chunk_grid=grid)(path, _)
    for name, size in (("y", 30_000), ("x", 3_000)):
        grid = {"name": "regular", "configuration": {"chunk_shape": [size]}}
        metadata(name, shape=[size], chunk_grid=grid)(path, _)
        shutil.rmtree(path / name / "c")
        values = np.arange(size, dtype="<f8") * (-30 if name == "y" else 30)
        target = path / name / "c/0"
        target.parent.mkdir()
        plain = [{"name": "bytes", "configuration": {"endian": "little"}}]
        metadata(name, codecs=plain)(path, _)
        target.write_bytes(values.tobytes())


def reshaped(*shape: int) -> Callable[[Path, Place], None]:
    def change(path: Path, place: Place) -> None:
        metadata("reflectance", shape=list(shape))(path, place)
        metadata("fmask", shape=[shape[0], *shape[-2:]])(path, place)

    return change


def deep(levels: int) -> str:
    return "[" * levels + "]" * levels


def sharded(path: Path, place: Place) -> None:
    """Shards with more chunks than memory has room for their index."""
    inner = {
        "chunk_shape": [1, 1, 1, 1], "index_location": "end",
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
        "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
    }  # fmt: skip
    grid = {"name": "regular", "configuration": {"chunk_shape": [3, 6, 100_000, 100_000]}}
    metadata("reflectance", chunk_grid=grid, codecs=[{"name": "sharding_indexed", "configuration": inner}])(path, place)


CASES: list[tuple[str, Build, str]] = [
    # what reads other files by way of the format
    ("bytes of another file (HDF5 external storage)", hdf5(external_bytes), "refused"),
    ("another file's dataset (HDF5 virtual dataset)", hdf5(virtual_dataset("{secret}"), libver="latest"), "refused"),
    ("virtual dataset by relative path", hdf5(virtual_dataset("../outside/secret.nc"), libver="latest"), "refused"),
    ("virtual dataset of a web address", hdf5(virtual_dataset("http://127.0.0.1:1/x"), libver="latest"), "refused"),
    ("external link instead of reflectance", hdf5(linked("reflectance", "{secret}")), "refused"),
    ("external link by relative path", hdf5(linked("reflectance", "../outside/secret.nc")), "refused"),
    ("external link beside the arrays", hdf5(linked("extra", "{secret}")), "refused"),
    ("external link inside a group", hdf5(linked("group/deep", "{secret}")), "refused"),
    ("external link to a device", hdf5(linked("extra", "/dev/zero")), "refused"),
    # structure
    ("3,000 groups in one another", hdf5(deep_groups), "refused"),
    ("a group that holds itself", hdf5(group_in_itself), "refused"),
    ("soft links in a circle", hdf5(soft_circle), "refused"),
    ("5,000 groups", hdf5(many_objects), "refused"),
    # sizes
    ("declares 144 TB", huge(), "refused"),
    ("declares 2**62 looks", huge(sizes={"time": 1 << 50, "y": 4, "x": 4}), "refused"),
    ("an x of 10**11 pixels", huge(sizes={"time": 1, "y": 1, "x": 10**11}), "refused"),
    ("declares 5 GB in chunks of one number", huge(sizes={"time": 50, "y": 3000, "x": 3000}, chunks=(1, 1, 1, 1)), "refused"),
    ("an axis nobody asked for, 10**12 long", hdf5(declared("extra", (10**12,), chunks=(1000,))), "any"),
    ("a deflate bomb in one chunk", hdf5(chunk_bomb), "any"),
    ("band names of 240 MB", hdf5(long_names), "refused"),
    ("classic header with 2**31 dimensions", classic(2**31 - 1, 10), "refused"),
    ("classic header with a dimension of -1", classic(1, -1), "refused"),
    ("CDF-5 header with 2**60 dimensions", classic(1 << 60, 10, version=5), "refused"),
    ("CDF-5 header with 2**62 looks", classic(1, 1 << 62, version=5), "refused"),
    # types
    ("object references instead of numbers", hdf5(object_references), "refused"),
    ("sequences instead of numbers", hdf5(variable_lengths), "refused"),
    ("records instead of numbers", hdf5(compound), "refused"),
    ("text instead of numbers", netcdf(lambda ds: ds.assign(reflectance=(AXES, np.full(SIZES, "a")))), "refused"),
    ("uint64 beyond int64", stored("uint64", 2**64 - 1), "fine"),
    ("int64 at its least", stored("int64", -(2**63)), "fine"),
    ("floats of 1e308", stored("float64", 1e308), "fine"),
    ("infinite", stored("float32", np.inf), "fine"),
    ("mask beyond a byte", masked("uint64", 2**64 - 1), "refused"),
    ("mask at int64's least", masked("int64", -(2**63)), "refused"),
    ("mask infinite", masked("float64", np.inf), "refused"),
    ("scale of 1e308", attribute("reflectance", "scale_factor", 1e308), "refused"),
    ("scale of 5e-324", attribute("reflectance", "scale_factor", 5e-324), "any"),
    ("scale that is no number", attribute("reflectance", "scale_factor", "NaN; rm -rf /"), "refused"),
    ("scale NaN", attribute("reflectance", "scale_factor", np.nan), "refused"),
    ("offset infinite", attribute("reflectance", "add_offset", np.inf), "any"),
    ("a million missing values", attribute("reflectance", "missing_value", np.arange(1_000_000, dtype="i2")), "refused"),
    ("missing value as text", attribute("reflectance", "missing_value", "-9999"), "any"),
    ("mask's fill as text", attribute("fmask", "missing_value", "x"), "any"),
    # times and places
    ("no time is one", at_times("NaT", "NaT", "NaT"), "refused"),
    ("times 585 years apart", counted([0, 100_000, 213_000], "days since 1678-01-01"), "any"),
    ("times of NaN", counted([0.0, np.nan, np.inf], "days since 2020-01-01"), "any"),
    ("times of 1e300", counted([0.0, 1.0, 1e300], "days since 2020-01-01"), "refused"),
    ("time since year 99999", counted([0, 1, 2], "days since 99999-01-01"), "refused"),
    ("time since nonsense", counted([0, 1, 2], "days since " + "9" * 100_000), "refused"),
    ("time in fortnights", counted([0, 1, 2], "fortnights since 2020-01-01"), "refused"),
    ("x of 1e308", netcdf(lambda ds: ds.assign_coords(x=np.linspace(-1.7e308, 1.7e308, 5))), "any"),
    ("x of NaN", netcdf(lambda ds: ds.assign_coords(x=np.full(5, np.nan))), "refused"),
    ("x all the same", netcdf(lambda ds: ds.assign_coords(x=np.zeros(5))), "refused"),
    ("a projection by address", lambda place: located(place.url)(place), "any"),
    ("a projection by path", lambda place: located(str(secret_cube(place)))(place), "any"),
    ("a projection of 5 MB", located("PROJCS[" * 700_000), "any"),
    ("a projection by /vsicurl/", lambda place: located(f"/vsicurl/{place.url}")(place), "any"),
    # text that is printed
    ("control characters in a band", netcdf(lambda ds: ds.assign_coords(band=[*BANDS[:5], "\x1b[2J\x07"])), "refused"),
    ("control characters in a name", hdf5(lambda file, _: file.move("fmask", "\x1b]0;mine")), "refused"),
    ("a title of 20 MB", titled("t" * 20_000_000), "any"),
    # no file at all
    ("a pipe", special("fifo"), "refused"),
    ("a device", special("device"), "refused"),
    ("a link to itself", special("circle"), "refused"),
    ("nothing", special("empty"), "refused"),
    ("HDF5's first bytes alone", special("\x89HDF\r\n\x1a\n"), "refused"),
    ("XML of GDAL", special("<VRTDataset><SourceFilename>/etc/passwd</SourceFilename></VRTDataset>"), "refused"),
    ("classic NetCDF's first bytes alone", special("CDF\x01"), "refused"),
    # Zarr: what reaches outside or runs
    ("pickled names of bands", folder(pickled_bands, zarr_format=2), "refused"),
    ("an array linked to elsewhere", folder(linked_array), "refused"),
    ("a chunk linked to another file", folder(linked_chunk("secret.bin")), "refused"),
    ("a chunk linked to a device", folder(linked_chunk("/dev/zero")), "refused"),
    ("a chunk that is a pipe", folder(linked_chunk("fifo")), "refused"),
    ("the whole by a link", linked_root, "fine"),
    ("a summary that names arrays outside", consolidated(traversing), "any"),
    ("a summary that declares 10**15 looks", consolidated(lambda m: m["time/.zarray"].update(shape=[10**15])), "any"),
    ("chunk keys that climb", folder(metadata("reflectance", chunk_key_encoding={
        "name": "default", "configuration": {"separator": "/../../../outside/"}})), "refused"),
    ("a dimension separator that climbs", folder(
        metadata("reflectance", dimension_separator="/../../outside/"), zarr_format=2), "refused"),
    ("a codec nobody has", folder(metadata("reflectance", codecs=[{"name": "os.system"}])), "refused"),
    ("a filter nobody has", folder(metadata("reflectance", filters=[{"id": "pickle"}]), zarr_format=2), "refused"),
    ("json filter with objects", folder(
        metadata("band", filters=[{"id": "json2"}], dtype="|O"), zarr_format=2), "refused"),
    ("a gzip bomb", folder(zarr_bomb("gzip")), "refused"),
    ("a zstd bomb", folder(zarr_bomb("zstd")), "refused"),
    # Zarr: sizes and metadata
    ("shape of 10**12 pixels", folder(reshaped(3, 6, 10**6, 10**6)), "refused"),
    ("shape of 2**63", folder(reshaped(3, 6, 2**63, 4)), "refused"),
    ("shape of -4", folder(reshaped(3, 6, -4, 5)), "refused"),
    ("shape of 1e400", folder(written("reflectance/zarr.json", '{"zarr_format": 3, "node_type": "array", "shape": [1e400]}')), "refused"),
    ("1.6 billion chunks", folder(many_chunks), "refused"),
    ("shards of 10**11 chunks", folder(sharded), "refused"),
    ("chunks of 0", folder(metadata("reflectance", chunk_grid={
        "name": "regular", "configuration": {"chunk_shape": [0, 0, 0, 0]}})), "refused"),
    ("a dtype of objects", folder(metadata("reflectance", dtype="|O"), zarr_format=2), "refused"),
    ("a dtype of 2 GB", folder(metadata("reflectance", dtype="|V2147483647"), zarr_format=2), "refused"),
    ("names of 2 GB each", folder(metadata("band", dtype="<U536870911"), zarr_format=2), "refused"),
    ("JSON 100,000 deep", folder(written("zarr.json", deep(100_000))), "refused"),
    ("JSON 100,000 deep in an array", folder(written("reflectance/zarr.json", deep(100_000))), "refused"),
    ("JSON of 30 MB", folder(written("zarr.json", '{"zarr_format": 3, "node_type": "group", "attributes": {"a": "'
                                     + "x" * 30_000_000 + '"}}')), "refused"),
    ("no JSON", folder(written("reflectance/zarr.json", b"\xff\xfe\x00")), "refused"),
    ("a list instead of metadata", folder(written("reflectance/zarr.json", "[]")), "refused"),
    ("null instead of a shape", folder(metadata("reflectance", shape=None)), "refused"),
    ("a fill value of an object", folder(metadata("reflectance", fill_value={"a": 1})), "refused"),
    ("a storage transformer", folder(metadata("reflectance", storage_transformers=[{"name": "x"}])), "any"),
    ("a zarr.json that is a folder", folder(lambda path, place: (
        (path / "reflectance/zarr.json").unlink(), (path / "reflectance/zarr.json").mkdir())), "refused"),
    ("torn chunks", folder(lambda path, place: [
        one.write_bytes(b"\0" * 7) for one in (path / "reflectance/c").rglob("*") if one.is_file()]), "refused"),
]  # fmt: skip


HEAVY = {
    "a gzip bomb",
    "a zstd bomb",
    "a deflate bomb in one chunk",
    "band names of 240 MB",
}  # a gigabyte before they end


def cases(*, seed: int, damaged_files: int) -> list[Case]:
    """All of them, and files damaged at random."""
    found = [Case("cubes", name, build, fill, expect, heavy=name in HEAVY) for name, build, expect in CASES]
    found += [
        Case("cubes", f"evaluate: {name}", build, judge, expect) for name, build, expect in CASES[:3] + CASES[14:15]
    ]
    return found + [
        Case("cubes", f"bytes changed at random ({seed + n})", damaged(seed + n), load_cube, "any")
        for n in range(damaged_files)
    ]
