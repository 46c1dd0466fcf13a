"""Zarr v3 metadata of our stores: arrays of one chunk, arrays of shards, groups. Every codec chain ends in a checksum."""

import json
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray

from vsat.io.shard import QUICK, Packing

Json = dict[str, Any]


def array_json(
    shape: tuple[int, ...], chunk: tuple[int, ...], dtype: str, *, axes: tuple[str, ...], codecs: list[Json]
) -> Json:
    """The zarr.json of an array whose objects are all in one folder, `c.0.1`."""
    return {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(shape),
        "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(chunk)}},
        # One folder for all objects: nothing to make, and to sync, per object but itself.
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}},
        "fill_value": 0.0 if dtype.startswith("float") else 0,
        "codecs": codecs,
        "dimension_names": list(axes),
        "storage_transformers": [],
    }


def sharded_json(
    shape: tuple[int, ...],
    shard: tuple[int, ...],
    chunk: tuple[int, ...],
    dtype: str,
    *,
    axes: tuple[str, ...],
    fill: int,
    packing: Packing = QUICK,
) -> Json:
    """The zarr.json of an array of shards as `io.shard` writes them: blosc and crc32c in each inner chunk."""
    typesize = np.dtype(dtype).itemsize
    blosc = {"cname": packing.codec, "clevel": packing.level, "shuffle": packing.shuffle}
    inner = {
        "chunk_shape": list(chunk),
        "codecs": [
            bytes_json(typesize),
            {"name": "blosc", "configuration": blosc | {"typesize": typesize, "blocksize": 0}},
            {"name": "crc32c"},
        ],
        "index_codecs": [bytes_json(8), {"name": "crc32c"}],
        "index_location": "end",
    }
    codecs = [{"name": "sharding_indexed", "configuration": inner}]
    return array_json(shape, shard, dtype, axes=axes, codecs=codecs) | {"fill_value": fill}


def whole_array(value: NDArray[Any], axes: tuple[str, ...], attributes: Json) -> tuple[Json, bytes, str]:
    """An array of one chunk: its zarr.json, the content of its only object, and that object's name."""
    codecs = [bytes_json(value.itemsize), {"name": "crc32c"}]
    metadata = array_json(value.shape, value.shape, value.dtype.name, axes=axes, codecs=codecs)
    body = np.ascontiguousarray(value).tobytes()
    crc = int(google_crc32c.value(body)).to_bytes(4, "little")
    return metadata | {"attributes": attributes}, body + crc, ".".join(["c"] + ["0"] * value.ndim)


def group_json(attributes: Json, arrays: dict[str, Json]) -> Json:
    """The zarr.json of a group whose arrays never change, so that they may be listed in it."""
    return {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": attributes,
        # stock xarray warns without it
        "consolidated_metadata": {"kind": "inline", "must_understand": False, "metadata": arrays},
    }


def bytes_json(itemsize: int) -> Json:
    """The codec that says how numbers become bytes."""
    return {"name": "bytes", "configuration": {"endian": "little"}} if itemsize > 1 else {"name": "bytes"}


def to_bytes(value: Json) -> bytes:
    """JSON as it lies on the disk; equal values give equal bytes."""
    return json.dumps(value, indent=1, sort_keys=True).encode() + b"\n"
