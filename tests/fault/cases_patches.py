"""Patch stores that nobody means well with, for `vsat train --patches`, `vsat evaluate` and `vsat sample --out`."""

import json
import math
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from fault.confined import Case, Place, resealed
from stores import write_store

from vsat.io.patch_reader import PatchStore
from vsat.io.patches import MANIFEST
from vsat.stages.sources import patch_source

PART = "parts/0000.zarr"
SHARD = f"{PART}/reflectance/c.0.0.0.0.0"

Build = Callable[[Place], Path]
Change = Callable[[Path, Place], object]


def read(path: Path) -> object:
    """What training and the judge ask of a store; patches that cannot be read are errors here."""
    store = PatchStore(path)
    for name in ("split", "day", "stratum", "features"):
        store.column(name)
    for index in range(len(store)):
        store.read(index)
        store.scenes(index), store.tile(index), store.name(index)
    return store.epsg_n, store.verify()


def judge(path: Path) -> object:
    """How `vsat evaluate` reads it."""
    return patch_source(path)


def store(change: Change = lambda path, place: None) -> Build:
    """A sound store, changed."""

    def build(place: Place) -> Path:
        path = place.folder / "patches"
        write_store(path, (0, 0, 1, 2), apart_m=100_000.0)
        change(path, place)
        return path

    return build


def told(name: str, change: Callable[[Any], object]) -> Build:
    """A JSON file of it changed; what `change` returns, if not None, is put in its place."""

    def rewritten(path: Path, place: Place) -> None:
        found = json.loads((path / name).read_text())
        made = change(found)
        text = json.dumps(found if made is None else made).replace("{outside}", str(place.outside))
        (path / name).write_bytes(resealed(text) if name == MANIFEST else text.encode())

    return store(rewritten)


def manifest(**changes: Any) -> Build:
    return told(MANIFEST, lambda found: found.update(changes))


def listed(**changes: Any) -> Build:
    return told(MANIFEST, lambda found: found["parts"][0].update(changes))


def layout(**changes: Any) -> Build:
    return told(f"{PART}/zarr.json", lambda found: found["attributes"]["layout"].update(changes))


def attributes(**changes: Any) -> Build:
    return told(f"{PART}/zarr.json", lambda found: found["attributes"].update(changes))


def written(name: str, content: str | bytes) -> Build:
    return store(lambda path, _: (path / name).write_bytes(content.encode() if isinstance(content, str) else content))


def column(name: str, dtype: str, value: Any, at: int = 0) -> Build:
    """A number of a column changed, with the checksum that belongs to it."""

    def change(path: Path, _: Place) -> None:
        file = next(one for one in (path / PART / name).iterdir() if one.name != "zarr.json")
        values = np.frombuffer(file.read_bytes()[:-4], dtype).copy()
        values[at] = value
        file.write_bytes(checked(values.tobytes()))

    return store(change)


def checked(body: bytes) -> bytes:
    return body + int(google_crc32c.value(body)).to_bytes(4, "little")


def shard(change: Callable[[bytes, np.ndarray[Any, Any]], bytes]) -> Build:
    """A shard changed: what it holds without its index, and its index, which gets its checksum."""

    def rewritten(path: Path, _: Place) -> None:
        content = (path / SHARD).read_bytes()
        index = np.frombuffer(content[-36:-4], "<u8").reshape(2, 2).copy()
        body = change(content[:-36], index)
        (path / SHARD).write_bytes(body + checked(index.tobytes()))

    return store(rewritten)


def spans(start: int, length: int) -> Build:
    def change(body: bytes, index: np.ndarray[Any, Any]) -> bytes:
        index[0] = start, length
        return body

    return shard(change)


def blosc(at: int, form: str, number: int) -> Build:
    """A number in the header of the first chunk changed, with the checksum that belongs to it."""

    def change(body: bytes, index: np.ndarray[Any, Any]) -> bytes:
        length = int(index[0, 1])
        chunk = bytearray(body[: length - 4])
        struct.pack_into(form, chunk, at, number)
        return checked(bytes(chunk)) + body[length:]

    return shard(change)


def garbage(seed: int) -> Build:
    """The first chunk's packed bytes changed at random, with the checksum that belongs to them."""

    def change(body: bytes, index: np.ndarray[Any, Any]) -> bytes:
        length, rng = int(index[0, 1]), np.random.default_rng(seed)
        chunk = bytearray(body[: length - 4])
        for at in rng.integers(0 if seed % 2 else 16, len(chunk), 20):
            chunk[at] = rng.integers(256)
        return checked(bytes(chunk)) + body[length:]

    return shard(change)


def linked(name: str, target: str = "outside") -> Build:
    def change(path: Path, place: Place) -> None:
        secret = place.outside / name.replace("/", "-")
        if not secret.exists():
            (shutil.copytree if (path / name).is_dir() else shutil.copy)(path / name, secret)
        shutil.rmtree(path / name) if (path / name).is_dir() else (path / name).unlink()
        if target == "fifo":
            os.mkfifo(path / name)
        else:
            (path / name).symlink_to(secret if target == "outside" else target)

    return store(change)


CASES: list[tuple[str, Build, Callable[[Path], object], str]] = [
    ("sound", store(), read, "fine"),
    # the manifest
    ("manifest of no JSON", written(MANIFEST, "x"), read, "refused"),
    ("manifest 100,000 deep", written(MANIFEST, "[" * 100_000), read, "refused"),
    ("manifest that is a list", written(MANIFEST, "[]"), read, "refused"),
    ("manifest of another version", manifest(version=99), read, "refused"),
    ("manifest of version 10**400", manifest(version=10**400), read, "refused"),
    ("manifest of an infinite version", told(MANIFEST, lambda _: {"version": math.inf, "parts": []}), read, "refused"),
    ("manifest without parts", told(MANIFEST, lambda found: found.pop("parts") and None), read, "refused"),
    ("parts that are a map", manifest(parts={"a": 1}), read, "refused"),
    ("parts that are texts", manifest(parts=["a"]), read, "refused"),
    ("no parts", manifest(parts=[]), read, "refused"),
    ("10**18 patches", listed(patches=10**18), read, "refused"),
    ("-1 patches", listed(patches=-1), read, "refused"),
    ("patches as text", listed(patches="4"), read, "refused"),
    ("more patches than the part has", listed(patches=5), read, "refused"),
    ("an object that climbs", listed(objects={"../../outside/secret": "0" * 64}), read, "refused"),
    ("an object that climbs inside", listed(objects={"parts/0000.zarr/../../../outside/secret": "0" * 64}), read, "refused"),
    ("an object that is absolute", listed(objects={"{outside}/secret": "0" * 64}), read, "refused"),
    ("an object with a zero byte", listed(objects={"parts/0000.zarr/a\0b": "0" * 64}), read, "refused"),
    ("objects that are a list", listed(objects=["a"]), read, "refused"),
    ("a digest that is a number", listed(objects={"parts/0000.zarr/zarr.json": 5}), read, "refused"),
    ("300,000 parts", manifest(parts=[{"patches": 0, "objects": {}}] * 300_000), read, "refused"),
    ("splits of another form", manifest(options={"split": {"__class__": 1}}), judge, "refused"),
    ("splits of texts", manifest(options={"split": {"block_px": "a"}}), judge, "refused"),
    ("no options", manifest(options=None), judge, "refused"),
    ("strata that are none", manifest(strata=5), judge, "refused"),
    ("strata of texts", manifest(strata={"names": ["a"], "edges": [["b"]]}), judge, "refused"),
    # a part
    ("layout of 10**12 patches", layout(patches=10**12), read, "refused"),
    ("layout of 10**9 looks", layout(looks=10**9), read, "refused"),
    ("layout of 10**6 pixels", layout(size_px=10**6), read, "refused"),
    ("layout of 4096 pixels, 10,000 looks", layout(size_px=4096, looks=10_000), read, "refused"),
    ("layout of 0 pixels", layout(size_px=0), read, "refused"),
    ("layout of -8 pixels", layout(size_px=-8), read, "refused"),
    ("layout of 7 pixels", layout(size_px=7), read, "refused"),
    ("layout of 9 pixels", layout(size_px=9), read, "refused"),
    ("layout of half pixels", layout(size_px=7.5), read, "refused"),
    ("layout of texts", layout(size_px="8"), read, "refused"),
    ("shards of 0 patches", layout(shard_patches=0), read, "refused"),
    ("shards of 10**15 patches", layout(shard_patches=10**15), read, "refused"),
    ("layout with more words", layout(evil=1), read, "refused"),
    ("attributes that are a list", told(f"{PART}/zarr.json", lambda found: found.update(attributes=[])), read, "refused"),
    ("a part 100,000 deep", written(f"{PART}/zarr.json", "[" * 100_000), read, "refused"),
    ("tiles without zones", attributes(tiles=[{"tile": "33UVP"}]), read, "refused"),
    ("tiles that are none", attributes(tiles=5), read, "refused"),
    ("no tiles", attributes(tiles=[]), read, "refused"),
    ("scenes that are numbers", attributes(scenes=[5]), read, "refused"),
    ("a column of 10**18 numbers", told(f"{PART}/day/zarr.json", lambda found: found.update(shape=[10**9, 10**9])), read, "refused"),
    ("a column of -1 numbers", told(f"{PART}/day/zarr.json", lambda found: found.update(shape=[-1, 5])), read, "refused"),
    ("a column of 3 axes", told(f"{PART}/day/zarr.json", lambda found: found.update(shape=[4, 5, 1])), read, "refused"),
    ("a column without a shape", told(f"{PART}/day/zarr.json", lambda found: {}), read, "refused"),
    ("a column of other bytes", written(f"{PART}/day/c.0.0", bytes(84)), read, "refused"),
    ("a column of 1 byte", written(f"{PART}/day/c.0.0", b"1"), read, "refused"),
    *[(f"{name} of {value}", column(name, dtype, value), read, "refused") for name, dtype, value in [
        ("count", "<i2", 32767), ("count", "<i2", -1), ("day", "<i4", 2**31 - 1), ("day", "<i4", -(2**31)),
        ("scene", "<i4", 10**6), ("scene", "<i4", -7), ("split", "u1", 77), ("tile", "<i2", 9), ("tile", "<i2", -1),
        ("x", "<f8", np.nan), ("y", "<f8", np.inf), ("lon", "<f8", 1e308), ("lat", "<f8", np.nan), ("stratum", "<i4", -5),
        ("stratum", "<i4", 2**31 - 1),
    ]],
    ("a stratum that the design lacks", column("stratum", "<i4", 1000, at=3), judge, "any"),
    # a shard
    ("a chunk of 2**63 bytes", spans(0, 2**63 - 1), read, "refused"),
    ("a chunk of 2**40 bytes", spans(0, 2**40), read, "refused"),
    ("a chunk that begins at 2**63", spans(2**63, 100), read, "refused"),
    ("a chunk that begins at 2**64 - 2", spans(2**64 - 2, 100), read, "refused"),
    ("a chunk of 0 bytes", spans(0, 0), read, "refused"),
    ("a chunk of 3 bytes", spans(0, 3), read, "refused"),
    ("a chunk that is its index", spans(100, 2**64 - 1), read, "refused"),
    ("unpacks to 2 GB", blosc(4, "<I", 2**31 - 100), read, "refused"),
    ("unpacks to 4 GB", blosc(4, "<I", 2**32 - 1), read, "refused"),
    ("unpacks to less than a patch", blosc(4, "<I", 16), read, "refused"),
    ("unpacks to nothing", blosc(4, "<I", 0), read, "refused"),
    ("blocks of 2 GB", blosc(8, "<I", 2**31 - 1), read, "refused"),
    ("blocks of 0", blosc(8, "<I", 0), read, "any"),
    ("packed to 4 GB", blosc(12, "<I", 2**32 - 1), read, "any"),
    ("blosc of version 255", blosc(0, "B", 255), read, "refused"),
    ("numbers of 255 bytes", blosc(3, "B", 255), read, "any"),
    ("numbers of 0 bytes", blosc(3, "B", 0), read, "any"),
    ("another codec", blosc(2, "B", 0xFF), read, "any"),
    *[(f"packed bytes changed ({seed})", garbage(seed), read, "any") for seed in range(12)],
    # files
    ("a shard by a link", linked(SHARD), read, "refused"),
    ("a shard from a device", linked(SHARD, "/dev/zero"), read, "refused"),
    ("a shard that is a pipe", linked(SHARD, "fifo"), read, "refused"),
    ("a column from a pipe", linked(f"{PART}/day/c.0.0", "fifo"), read, "refused"),
    ("metadata from a pipe", linked(f"{PART}/zarr.json", "fifo"), read, "refused"),
    ("a manifest that is a pipe", linked(MANIFEST, "fifo"), read, "refused"),
    ("a manifest from a device", linked(MANIFEST, "/dev/zero"), read, "refused"),
    ("a part by a link", linked(PART), read, "refused"),
]  # fmt: skip
HEAVY = {"300,000 parts"}


def cases(**_: int) -> list[Case]:
    """All of them."""
    return [Case("patches", name, build, work, expect, heavy=name in HEAVY) for name, build, work, expect in CASES]
