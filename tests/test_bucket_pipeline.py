"""A region whose store is a bucket: every night, backfill, check and reader gives what it gives on a disk."""

import json
import os
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path, PurePosixPath
from tempfile import NamedTemporaryFile
from urllib.parse import urlsplit

import numpy as np
import obstore.store
import pytest
import rasterio
import rustac
import xarray as xr
import zarr.storage

from regions import END, START, tiny
from vsat.config import Region, load_region
from vsat.core.splits import SplitDesign
from vsat.doctor import examine
from vsat.errors import AccessError, StoreError
from vsat.io import archive
from vsat.io.cube import open_cube
from vsat.io.ledger import Ledger, Receipt
from vsat.io.patch_reader import PatchStore
from vsat.io.publish import read_image
from vsat.io.scenes import ledger_path
from vsat.objects import ObjectPath, StorePath
from vsat.stages.backfill import backfill
from vsat.stages.fetch import fetch
from vsat.stages.nightly import nightly
from vsat.stages.report import before_after
from vsat.stages.request import BackfillRequest
from vsat.stages.sample import SampleOptions, sample
from vsat.stages.sources import region_source
from vsat.stages.status import planned, region_status
from vsat.stages.verify import verify

pytestmark = [pytest.mark.integration, pytest.mark.slow]
DAY = date(2023, 5, 31)


def region_in(file: Path, store: StorePath) -> Region:
    """The region of a file with another store, as its file would say it."""
    path = file.with_name(f"{file.stem}-elsewhere.yaml")
    path.write_text(file.read_text().replace("store: var", f"store: {store}"))
    return load_region(path)


def files(home: StorePath) -> dict[str, bytes]:
    if isinstance(home, ObjectPath):
        return {entry.path.relative_to(home).as_posix(): entry.path.read_bytes() for entry in home.entries()}
    return {path.relative_to(home).as_posix(): path.read_bytes() for path in home.rglob("*") if path.is_file()}


def products(home: StorePath) -> dict[str, bytes]:
    """Cubes, images and catalogue; an image's files without the folder between, and its item without that in its links."""
    found = {}
    for name, content in files(home).items():
        path = PurePosixPath(name)
        if path.parts[0] == "cubes":
            found[name] = content
        elif path.parts[0] == "images" and len(path.parts) == 5:
            found["/".join((*path.parts[:3], path.name))] = content
        elif path.suffix == ".parquet":
            found[name] = items_of(content)
        elif path.parts[0] == "images" and path.suffix != ".json":
            found[name] = content
        elif path.parts[0] == "images":
            item = json.loads(content)
            for asset in item.get("assets", {}).values():
                asset["href"] = f"./{PurePosixPath(asset['href']).name}"
            found[name] = json.dumps(item, indent=1, sort_keys=True).encode() + b"\n"
    return found


def items_of(table: bytes) -> bytes:
    """The items of a GeoParquet file as JSON, without the folder between and the links to others."""
    with NamedTemporaryFile(suffix=".parquet") as file:
        file.write(table)
        file.flush()
        items = rustac.read_sync(file.name)["features"]
    for item in items:
        for asset in item["assets"].values():
            assert asset["href"].startswith(f"./{item['id']}/")
            asset["href"] = PurePosixPath(asset["href"]).name
    return json.dumps(items).encode()


def receipts(home: StorePath, kind: str) -> list[Receipt]:
    """Without the digests of items, which differ in their links."""
    with Ledger(ledger_path(home)) as ledger:
        found = ledger.all(kind)
    return [
        replace(
            one, outputs=tuple(sorted((PurePosixPath(p).name, d) for p, d in one.outputs if not p.endswith(".json")))
        )
        for one in found
    ]


def test_the_whole_pipeline_gives_what_it_gives_on_a_disk(bucket: ObjectPath, tmp_path: Path) -> None:
    file = tiny(tmp_path)
    local, remote = load_region(file), region_in(file, bucket)
    assert remote.home == bucket / "tiny"
    assert region_status(remote)["images"] == {}
    plan = planned(remote, START, DAY, DAY)
    assert plan["scenes"] == planned(local, START, DAY, DAY)["scenes"]
    assert not remote.home.exists()  # looking makes nothing
    for day in (DAY, END):  # the second rewrites provisional images as final ones
        mine, theirs = nightly(remote, day), nightly(local, day)
        assert mine.outcome == theirs.outcome
    assert mine.generate is not None
    assert mine.generate.statuses == {"final": 4, "provisional": 3}

    assert products(remote.home) == products(local.home)
    for kind in ("scene", "image"):
        assert receipts(remote.home, kind) == receipts(local.home, kind)
    assert verify(remote).problems == ()
    assert region_status(remote) == {**region_status(local), "home": str(remote.home)}
    assert len(list(remote.home.glob("reports/*.md"))) == 2

    before = files(remote.home)
    again = nightly(remote, END)
    assert (again.fetch and again.fetch.fetched, again.generate and again.generate.images) == (0, ())
    after = files(remote.home)
    assert {name: after[name] for name in after if "reports" not in name} == {
        name: before[name] for name in before if "reports" not in name
    }

    key = "33UVP/2023-06-10"
    assert before_after(remote, key) == before_after(local, key)
    mine_image, local_image = (read_image(one.home, "33UVP", date(2023, 6, 10)) for one in (remote, local))
    assert (mine_image.refl_byx == local_image.refl_byx).all()
    xr.testing.assert_identical(open_cube(remote).compute(), open_cube(local).compute())
    mine_blocks, local_blocks = (region_source(one).blocks for one in (remote, local))
    assert all((a.refl_tbyx == b.refl_tbyx).all() for a, b in zip(mine_blocks, local_blocks, strict=True))

    for words in ({"policy": "replace"}, {"policy": "new-version", "method": "harmonic"}):
        asked = BackfillRequest.model_validate({"start": START, "end": date(2023, 5, 12), **words})
        reports = [backfill(one, asked, END) for one in (remote, local)]
        assert [len(one.generate.images) for one in reports if one.generate] == [2, 2]
        assert products(remote.home) == products(local.home)
        assert verify(remote).problems == ()


def test_patches_drawn_from_a_bucket_are_those_from_a_disk(bucket: ObjectPath, tmp_path: Path) -> None:
    file = tiny(tmp_path)
    local, remote = load_region(file), region_in(file, bucket)
    options = SampleOptions(
        patches=12, size_px=8, stride_px=2, days=30, step_days=10, min_looks=2, strata=("season", "clear"),
        split=SplitDesign(block_px=13, buffer_px=2, validation_share=0.2, test_share=0.25),
    )  # fmt: skip
    found = []
    for name, region in (("local", local), ("remote", remote)):
        fetch(region, START, END)
        sample([region], tmp_path / name, options)
        store = PatchStore(tmp_path / name)
        found.append([store.read(n) for n in range(len(store))])
    assert found[0]
    for mine, theirs in zip(*found, strict=True):
        assert (mine.refl_tbyx == theirs.refl_tbyx).all()


def test_everyones_tools_read_the_bucket(bucket: ObjectPath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    region = region_in(tiny(tmp_path), bucket)
    nightly(region, DAY)
    group = region.home / "cubes" / "33UVP" / "2023.zarr"
    store = obstore.store.S3Store(group.bucket, prefix=group.key, client_options={"allow_http": True})
    with xr.open_zarr(zarr.storage.ObjectStore(store, read_only=True), consolidated=False) as year:
        ours = open_cube(region)
        first = ours["time"].values[0].astype("datetime64[D]")
        day = int((first - np.datetime64("2023-01-01")).astype(int))
        sensor = ("L30", "S30").index(str(ours["sensor"].values[0]))
        assert (year["fmask"][day, sensor].values == ours["fmask"][0].values).all()

    # the catalogue leads from link to link to every file
    root = region.home / "images"
    (child,) = [
        link["href"] for link in json.loads((root / "catalog.json").read_bytes())["links"] if link["rel"] == "child"
    ]
    collection = json.loads((root / child).read_bytes())
    items = [(root / child).parent / link["href"] for link in collection["links"] if link["rel"] == "item"]
    assert len(items) == 4
    assets = json.loads(items[0].read_bytes())["assets"]
    assert all((items[0].parent / asset["href"]).size() == asset["file:size"] for asset in assets.values())

    host = urlsplit(os.environ["AWS_ENDPOINT_URL"]).netloc
    for name, value in (("S3_ENDPOINT", host), ("HTTPS", "NO"), ("VIRTUAL_HOSTING", "FALSE")):  # as GDAL has them
        monkeypatch.setenv(f"AWS_{name}", value)
    image = read_image(region.home, "33UVP", START)
    with rasterio.Env():
        for asset, bands in (("red", image.refl_byx[2:3]), ("sr", image.refl_byx)):
            place = items[0].parent / assets[asset]["href"]
            with rasterio.open(f"/vsis3/{place.bucket}/{place.key}") as file:
                assert (file.read() == bands).all()


def test_a_revised_scene_takes_the_place_of_the_old_one(bucket: ObjectPath, tmp_path: Path) -> None:
    file = tiny(tmp_path)
    local, remote = load_region(file), region_in(file, bucket)
    for region in (local, remote):
        fetch(region, START, DAY)
    assert local.catalogue.path is not None
    name = archive.items(local.catalogue.path)[3]["id"]
    refl_byx, fmask_yx = archive.pixels(local.catalogue.path, name)
    archive.revise(
        local.catalogue.path, name, refl_byx + np.int16(9), fmask_yx, updated=datetime(2025, 1, 1, tzinfo=UTC)
    )
    for region in (local, remote):
        assert fetch(region, START, DAY).revised == 1
    assert products(remote.home) == products(local.home)
    assert verify(remote).problems == ()


def test_verify_finds_what_is_missing_altered_and_nobodys(bucket: ObjectPath, tmp_path: Path) -> None:
    region = region_in(tiny(tmp_path), bucket)
    nightly(region, DAY)
    objects = list(region.home.glob("cubes/*/*/reflectance/c.*"))
    objects[0].unlink()
    objects[1].put(objects[1].read_bytes()[:-1] + b"!")
    objects[2].with_name("c.300.0.0.0.0").put(b"?")
    (tif, *_) = region.home.glob("images/*/*/*/*.red.tif")
    (tif.parent.with_name("0123456789abcdef") / tif.name).put(b"?")
    assert [line.split(":")[0] for line in verify(region).problems] == ["missing", "altered", "nobody's", "nobody's"]
    backfill(region, BackfillRequest(start=START, end=START), DAY)
    assert [line.split(":")[0] for line in verify(region).problems] == ["altered", "nobody's", "nobody's"]


def test_a_wrong_key_or_bucket_ends_a_night_in_words(
    bucket: ObjectPath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tiny(tmp_path)
    with pytest.raises(StoreError, match="there is no bucket"):
        nightly(region_in(file, ObjectPath("s3://no-such-bucket/x")), DAY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(AccessError, match="refuses our credentials"):
        nightly(region_in(file, bucket), DAY)
    told = {
        one.name: one for one in examine([region_in(file, bucket)], tmp_path / "stack", datetime.now(UTC), patience_s=5)
    }
    for what in ("bucket", "nights"):
        assert told[f"tiny: {what}"].level == "error" and "refuses our credentials" in told[f"tiny: {what}"].value
