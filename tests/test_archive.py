"""The embedded archive: files like HLS v2, items like LP DAAC's, whole after interruptions, served."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pystac
import pystac_client
import pytest
import rasterio
from rio_cogeo.cogeo import cog_validate

from vsat.core.grid import TileGrid, full_tile
from vsat.core.synthetic import Landscape, observe, schedule
from vsat.errors import CatalogueDown, InputError
from vsat.hls import FILES, FILL, FMASK_FILL, SCALE, GranuleId
from vsat.io.archive import items, pixels, revise, serve, withhold, write_synthetic
from vsat.io.catalog import search
from vsat.io.reader import read_granule
from vsat.io.servers import running

SIZE = 96
TILE = full_tile("33UVP")
GRID = TileGrid(TILE.tile, TILE.epsg, TILE.x0 + 900 * 30, TILE.y0 - 1200 * 30, SIZE, SIZE)
LAND = Landscape(7, (SIZE, SIZE))
START, END = date(2024, 5, 1), date(2024, 6, 30)


def make(folder: Path, end: date = END, **more):
    return write_synthetic(folder, grid=GRID, land=LAND, start=START, end=end, **more)


def contents(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """A written archive; tests that change it make their own."""
    folder = tmp_path_factory.mktemp("archive")
    make(folder)
    return folder


@pytest.fixture(scope="module")
def endpoint(archive):
    with serve(archive) as served:
        yield served


# The files


def test_every_look_of_the_schedule_is_there_to_the_pixel(archive):
    looks = schedule(LAND, START, END)
    names = [item["id"] for item in items(archive)]
    assert len(names) == len(looks) == len(set(names))
    found = {(name.scene.day, name.sensor): str(name) for name in map(GranuleId.from_string, names)}
    for look in looks[::3]:
        seen, (refl, fmask) = observe(LAND, *look), pixels(archive, found[look])
        assert (refl == seen.refl_byx).all() and (fmask == seen.fmask_yx).all()


@pytest.mark.parametrize("size", [96, 600])
def test_files_are_cogs_like_those_of_hls(tmp_path, size):
    grid = TileGrid(GRID.tile, GRID.epsg, GRID.x0, GRID.y0, size, size)
    report = write_synthetic(
        tmp_path, grid=grid, land=Landscape(7, (size, size)), start=START, end=START + timedelta(6)
    )
    for name in report.granules:
        sensor = GranuleId.from_string(name).sensor
        folder = tmp_path / f"HLS{sensor}_2.0" / name
        expected = {f"{name}.{key}.tif" for key in (*FILES[sensor].values(), "Fmask")} | {f"{name}_stac.json"}
        assert {path.name for path in folder.iterdir()} == expected
        for path in folder.glob("*.tif"):
            assert cog_validate(path, strict=True) == (True, [], [])
            with rasterio.open(path) as file:
                is_fmask = path.name.endswith("Fmask.tif")
                assert file.dtypes == (("uint8",) if is_fmask else ("int16",))
                assert file.nodata == (FMASK_FILL if is_fmask else FILL)
                assert file.scales == ((1.0,) if is_fmask else (SCALE,))
                assert file.block_shapes == [(256, 256)] and file.crs.to_epsg() == GRID.epsg
                assert file.transform == grid.transform and file.shape == grid.shape
                assert file.overviews(1) == ([] if size == 96 else [2, 4])
                assert file.tags(ns="IMAGE_STRUCTURE")["PREDICTOR"] == "2"
                tags = file.tags()
                assert tags["_FillValue"] == str(int(file.nodata)) and tags["SENSING_TIME"].startswith("2024-05-0")
                assert is_fmask or (tags["scale_factor"], tags["add_offset"]) == ("0.0001", "0.0")


def test_fmask_overviews_hold_legal_codes_only(tmp_path):
    grid = TileGrid(GRID.tile, GRID.epsg, GRID.x0, GRID.y0, 300, 300)
    report = write_synthetic(tmp_path, grid=grid, land=Landscape(7, (300, 300)), start=START, end=START + timedelta(20))
    for path in tmp_path.rglob("*Fmask.tif"):
        with rasterio.open(path) as file:
            full = file.read(1)
        with rasterio.open(path, overview_level=0) as file:
            assert set(np.unique(file.read(1))) <= set(np.unique(full))
    assert report.granules


@pytest.mark.real
def test_tags_are_those_of_a_real_granule(archive, shared_data):
    with rasterio.open(shared_data / "hls" / "HLS.L30.T19LBJ.2020239T144556.v2.0.B01.tif") as file:
        real = file.tags()
    with rasterio.open(next(archive.glob("HLSL30_2.0/*/*.B02.tif"))) as file:
        ours = file.tags()
    assert set(ours) <= set(real) and {"SENSING_TIME", "scale_factor", "add_offset", "_FillValue", "ULX"} <= set(ours)


# The items


def test_items_are_valid_stac_and_true_of_their_files(archive):
    for item in items(archive):
        read = pystac.Item.from_dict(item, preserve_dict=True)
        assert read.datetime is not None and read.properties["updated"] > read.properties["datetime"]
        sensor = GranuleId.from_string(item["id"]).sensor
        assert list(item["assets"]) == [*FILES[sensor].values(), "Fmask"]
        assert item["collection"] == f"HLS{sensor}_2.0"
        for asset in item["assets"].values():
            data = (archive / asset["href"].removeprefix("archive:/").lstrip("/")).read_bytes()
            assert asset["file:size"] == len(data)
            assert asset["file:checksum"] == "1220" + hashlib.sha256(data).hexdigest()
        fmask = pixels(archive, item["id"])[1]
        cloud = (fmask != FMASK_FILL) & ((fmask & 2) > 0)
        assert item["properties"]["eo:cloud_cover"] == pytest.approx(
            100 * cloud.sum() / (fmask != FMASK_FILL).sum(), abs=0.51
        )


def test_collections_span_their_items(archive):
    for name in ("HLSL30_2.0", "HLSS30_2.0"):
        read = pystac.Collection.from_file(str(archive / name / "collection.json"))
        mine = [item for item in items(archive) if item["collection"] == name]
        first, last = read.extent.temporal.intervals[0]
        assert first.isoformat()[:19] + "Z" == min(i["properties"]["datetime"] for i in mine)
        assert last.isoformat()[:19] + "Z" == max(i["properties"]["datetime"] for i in mine)
        assert read.extent.spatial.bboxes[0] == pytest.approx(mine[0]["bbox"])


def test_item_files_are_plain_json_with_places_relative_to_the_archive(archive):
    for path in archive.glob("HLS*/*/*_stac.json"):
        text = path.read_text()
        assert str(archive) not in text and "http://127" not in text
        assert all(a["href"].startswith("archive:/") for a in json.loads(text)["assets"].values())


# Writing again, and after an interruption


def test_writing_again_keeps_every_file_as_it_is(tmp_path):
    first = make(tmp_path, START + timedelta(20))
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*") if path.name != "collection.json"}
    before, again = contents(tmp_path), make(tmp_path, START + timedelta(20))
    assert (first.kept, again.written) == (0, 0) and again.kept == first.written == len(first.granules)
    assert contents(tmp_path) == before
    assert all(path.stat().st_mtime_ns == then for path, then in times.items() if path.is_file())


def test_what_is_missing_cut_or_altered_is_made_again_alike(tmp_path):
    make(tmp_path, START + timedelta(20))
    before = contents(tmp_path)
    one, two, three, four = sorted(tmp_path.glob("HLS*/*/"))[:4]
    next(one.glob("*.B03.tif")).unlink()
    cut = next(two.glob("*.B02.tif"))
    cut.write_bytes(cut.read_bytes()[:-100])
    flipped = next(three.glob("*Fmask.tif"))
    data = bytearray(flipped.read_bytes())
    data[len(data) // 2] ^= 1
    flipped.write_bytes(data)
    next(four.glob("*_stac.json")).unlink()
    (four / "x.tif.123-4.partial").write_bytes(b"left by a kill")
    report = make(tmp_path, START + timedelta(20))
    assert report.written == 4 and contents(tmp_path) == before


def test_two_archives_are_equal_whatever_the_threads(tmp_path):
    make(tmp_path / "a", START + timedelta(20), threads=1)
    make(tmp_path / "b", START + timedelta(20), threads=4)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_two_worlds_do_not_mix_in_one_tile(tmp_path):
    make(tmp_path, START + timedelta(8))
    with pytest.raises(InputError, match="another source"):
        write_synthetic(tmp_path, grid=GRID, land=Landscape(8, LAND.shape), start=START, end=END)
    with pytest.raises(InputError, match="pixels"):
        write_synthetic(tmp_path, grid=GRID, land=Landscape(8, (10, 10)), start=START, end=END)


# Served


def test_a_client_finds_all_by_box_time_collection_and_pages(archive, endpoint):
    client, everything = pystac_client.Client.open(endpoint.url), items(archive)
    names = {item["id"] for item in everything}
    west, south, east, north = everything[0]["bbox"]
    assert {c.id for c in client.get_collections()} == {"HLSL30_2.0", "HLSS30_2.0"}
    both = ["HLSL30_2.0", "HLSS30_2.0"]
    for limit in (3, 100):
        found = [
            item.id for item in client.search(collections=both, bbox=(west, south, east, north), limit=limit).items()
        ]
        assert len(found) == len(names) and set(found) == names
    only = client.search(collections=["HLSS30_2.0"], bbox=(west, south, east, north), datetime="2024-05-10/2024-05-31")
    wanted = {
        n
        for n in names
        if ".S30." in n and date(2024, 5, 10) <= GranuleId.from_string(n).scene.day <= date(2024, 5, 31)
    }
    assert {item.id for item in only.items()} == wanted and wanted
    assert not list(client.search(collections=both, bbox=(east + 1, south, east + 2, north)).items())


def test_our_search_and_reader_give_back_what_was_observed(archive, endpoint):
    found = search(endpoint, GRID, START, END)
    assert len(found.granules) == len(items(archive)) and not found.unusable and not found.superseded
    for granule in found.granules[::6]:
        assert len(granule.checks) == 7 and granule.revision
        scene, (refl, fmask) = read_granule(granule, GRID, endpoint), pixels(archive, granule.id)
        assert (scene.refl_byx == refl).all() and (scene.fmask_yx == fmask).all()


def test_files_are_served_by_range(archive, endpoint):
    path = next(archive.glob("HLSL30_2.0/*/*.B02.tif"))
    request = urllib.request.Request(
        f"http://{endpoint.hosts[0]}/{path.relative_to(archive)}", headers={"Range": "bytes=100-299"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 206 and answer.read() == path.read_bytes()[100:300]
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"http://{endpoint.hosts[0]}/../../etc/passwd", timeout=10)


def test_only_this_machine_can_reach_it(endpoint):
    assert endpoint.url.startswith("http://127.0.0.1:") and endpoint.hosts[0].startswith("127.0.0.1:")
    for address in (endpoint.url.removeprefix("http://"), endpoint.hosts[0]):
        port = int(address.split(":")[1])
        listening = Path("/proc/net/tcp").read_text()
        assert f"0100007F:{port:04X}" in listening and f"00000000:{port:04X}" not in listening


def is_open(address: str) -> bool:
    with closing(socket.socket()) as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", int(address.rsplit(":", 1)[1]))) == 0


def wait_until_closed(*addresses: str) -> bool:
    ends = time.monotonic() + 10
    while any(map(is_open, addresses)) and time.monotonic() < ends:
        time.sleep(0.05)
    return not any(map(is_open, addresses))


def test_both_servers_and_their_documents_are_gone_after_the_block(archive, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with serve(archive) as one, serve(archive) as two:
        assert len({one.url, two.url, *one.hosts, *two.hosts}) == 4
        assert is_open(one.url) and is_open(one.hosts[0])
    assert wait_until_closed(one.url, two.url, *one.hosts, *two.hosts)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ZeroDivisionError), serve(archive) as broken:
        raise ZeroDivisionError
    assert wait_until_closed(broken.url, *broken.hosts)


SERVE_AND_WAIT = """
import sys, time, tempfile
from pathlib import Path
from vsat.io.archive import serve
tempfile.tempdir = sys.argv[2]
with serve(Path(sys.argv[1])) as endpoint:
    print(endpoint.url, endpoint.hosts[0], flush=True)
    time.sleep(60)
"""


@pytest.mark.fault
def test_both_servers_die_with_a_killed_parent(archive, tmp_path):
    command = [sys.executable, "-c", SERVE_AND_WAIT, str(archive), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        addresses = parent.stdout.readline().split()
        assert len(addresses) == 2 and all(map(is_open, addresses))
        parent.kill()
    assert wait_until_closed(*addresses)
    ends = time.monotonic() + 10
    while list(tmp_path.iterdir()) and time.monotonic() < ends:
        time.sleep(0.05)
    assert not list(tmp_path.iterdir())


@pytest.mark.fault
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux can end a grandchild whose parent was killed")
def test_the_api_dies_with_a_killed_supervisor(archive):
    def children() -> set[int]:
        return {int(p) for p in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()}

    before = children()
    with serve(archive) as endpoint:
        (supervisor,) = children() - before
        os.kill(supervisor, signal.SIGKILL)
        assert wait_until_closed(endpoint.url, *endpoint.hosts)


def test_servers_that_do_not_answer_are_a_catalogue_down(archive, tmp_path):
    with pytest.raises(CatalogueDown, match=r"did not answer within 0\.001 s"), serve(archive, patience_s=0.001):
        pass
    (tmp_path / "broken.json").write_text("{ not json")
    with pytest.raises(CatalogueDown, match="ended at once"), running(archive, tmp_path):
        pass


def test_a_folder_without_an_archive_is_not_served(tmp_path):
    with pytest.raises(InputError, match="no HLS archive"), serve(tmp_path):
        pass


# An archive that grows, and granules that are revised


def test_withheld_granules_are_listed_later(tmp_path):
    make(tmp_path, START + timedelta(30))
    withhold(tmp_path, date(2024, 5, 15))
    with serve(tmp_path) as endpoint:
        early = search(endpoint, GRID, START, END).granules
    withhold(tmp_path, None)
    with serve(tmp_path) as endpoint:
        late = search(endpoint, GRID, START, END).granules
    assert early and {g.id for g in early} == {g.id for g in late if g.acquired < "2024-05-16"} < {g.id for g in late}


def test_a_revised_granule_shows_new_pixels_date_and_signature(tmp_path):
    report = make(tmp_path, START + timedelta(12))
    name = report.granules[1]
    with serve(tmp_path) as endpoint:
        before = {g.id: g for g in search(endpoint, GRID, START, END).granules}
    refl, fmask = pixels(tmp_path, name)
    refl[0, :5] += 7
    revise(tmp_path, name, refl, fmask, updated=datetime(2025, 1, 1, tzinfo=UTC))
    assert make(tmp_path, START + timedelta(12)).written == 0, "writing again does not undo a revision"
    with serve(tmp_path) as endpoint:
        after = {g.id: g for g in search(endpoint, GRID, START, END).granules}
        scene = read_granule(after[name], GRID, endpoint)
    assert (scene.refl_byx == refl).all()
    assert {n for n in after if after[n].signature() != before[n].signature()} == {name}
    assert after[name].revision.startswith("2025-01-01")
    with pytest.raises(InputError, match="no granule"):
        revise(tmp_path, "HLS.L30.T33UVP.1999001T000000.v2.0", refl, fmask, updated=datetime(2025, 1, 1, tzinfo=UTC))
