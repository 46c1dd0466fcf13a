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
from itertools import pairwise
from pathlib import Path

import numpy as np
import pystac
import pystac_client
import pytest
import rasterio
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS
from rio_cogeo.cogeo import cog_validate

from vsat.core.grid import TileGrid, full_tile
from vsat.core.synthetic import Landscape, observe, schedule
from vsat.errors import CatalogueDown, InputError
from vsat.hls import BANDS, FILES, FILL, FMASK_FILL, SCALE, GranuleId
from vsat.io.archive import items, pixels, revise, serve, withhold, write_cube, write_synthetic
from vsat.io.catalog import search
from vsat.io.cube_looks import looks_of
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
    with pytest.raises(InputError, match="another source"):
        write_cube(tmp_path, cube_of(3), tile=GRID.tile)
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


# Any observation cube


def cube_of(times, *, sensors=None, epsg=TILE.epsg, step=30.0, corner=(GRID.x0 + 7, GRID.y0 - 11), shape=(9, 14)):
    """A cube of random pixels; `times` is a number of days or a list of times; epsg None is one without geolocation."""
    stamps = [f"2024-05-{n + 1:02d}" for n in range(times)] if isinstance(times, int) else times
    rng, count = np.random.default_rng(1), len(stamps)
    refl = rng.integers(-200, 12000, (count, 6, *shape)).astype(np.int16)
    fmask = rng.choice(np.array([0, 2, 4, 8, 16, 64, FMASK_FILL], np.uint8), (count, *shape))
    refl[rng.random(refl.shape) < 0.1] = FILL
    return xr.Dataset(
        {"reflectance": (("time", "band", "y", "x"), refl), "fmask": (("time", "y", "x"), fmask)},
        {
            "time": np.array(stamps, "datetime64[ns]"),
            "band": list(BANDS),
            "sensor": ("time", sensors or ["L30"] * count),
            "y": corner[1] - step * (np.arange(shape[0]) + 0.5),
            "x": corner[0] + step * (np.arange(shape[1]) + 0.5),
            "spatial_ref": ((), 0, {"crs_wkt": CRS.from_epsg(epsg).to_wkt()} if epsg else {}),
        },
    )


def test_a_cube_passes_to_the_bit_and_onto_the_nearest_lattice_point(tmp_path):
    cube = cube_of(5, sensors=["L30", "S30", "S30", "L30", "S30"])
    report = write_cube(tmp_path, cube, tile="33UVP")
    assert (report.grid.x0, report.grid.y0, report.grid.shape) == (GRID.x0, GRID.y0, (9, 14)) and not report.notes
    with serve(tmp_path) as endpoint:
        found = search(endpoint, report.grid, START, END)
        assert [g.sensor for g in found.granules] == ["L30", "S30", "S30", "L30", "S30"]
        for t, granule in enumerate(found.granules):
            scene = read_granule(granule, report.grid, endpoint)
            assert (scene.refl_byx == cube["reflectance"].values[t]).all()
            assert (scene.fmask_yx == cube["fmask"].values[t]).all()
    assert write_cube(tmp_path, cube, tile="33UVP").kept == 5
    cube["reflectance"].values[2, 0, 0, 0] += 1
    assert write_cube(tmp_path, cube, tile="33UVP").written == 1


def test_several_looks_a_day_become_granules_minutes_apart(tmp_path):
    stamps = ["2024-05-01T10:00:00", "2024-05-01T10:00:00", "2024-05-01T10:02:00", "2024-05-01T11:00:00", "2024-05-02"]
    cube = cube_of(stamps, sensors=["L30", "L30", "LT", "S30", "L5"])
    report = write_cube(tmp_path, cube, tile="33UVP")
    assert [name[8:29] for name in report.granules] == [
        "T33UVP.2024122T100000",
        "T33UVP.2024122T100500",
        "T33UVP.2024122T101000",
        "T33UVP.2024122T110000",
        "T33UVP.2024123T101200",
    ]
    assert report.notes == ("1 looks of sensor L5 are written as L30", "1 looks of sensor LT are written as L30")
    for t, name in enumerate(report.granules):
        assert (pixels(tmp_path, name)[0] == cube["reflectance"].values[t]).all()


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 80_000), st.sampled_from(["L30", "S30"])), min_size=1, max_size=12
    )
)
@settings(max_examples=40, deadline=None)
def test_names_of_looks_are_unique_and_keep_their_day_and_order(looks):
    start = np.datetime64("2024-05-01")
    times = [str(start + np.timedelta64(d, "D") + np.timedelta64(s, "s")) for d, s, _ in looks]
    cube = cube_of(times, sensors=[sensor for *_, sensor in looks], shape=(1, 1))
    names = [facts.id for facts, _ in looks_of(cube, "33UVP")[1]]
    assert len(set(names)) == len(names)
    assert [n.sensor for n in names] == [sensor for *_, sensor in looks]
    assert [str(n.acquired.date()) for n in names] == [t[:10] for t in times]
    for sensor in ("L30", "S30"):
        for day in {n.acquired.date() for n in names}:
            mine = sorted(n.acquired for n in names if (n.sensor, n.acquired.date()) == (sensor, day))
            assert all(b - a >= timedelta(minutes=5) for a, b in pairwise(mine))


def test_cubes_that_do_not_fit_the_lattice_are_laid_on_it_with_a_note(tmp_path):
    grid, _, notes = looks_of(cube_of(1, step=20.0), "33UVP")
    assert (grid.x0, grid.y0) == (GRID.x0, GRID.y0) and notes == ("the cube's pixels of 20 m become pixels of 30 m",)
    grid, _, notes = looks_of(cube_of(1, epsg=None, corner=(0, 0)), "33UVP")
    assert notes == ("the cube has no geolocation: it lies at the centre of tile 33UVP",)
    assert abs(grid.x0 - TILE.x0 - 1830 * 30) <= 8 * 30 and (grid.x0 - TILE.x0) % 30 == 0
    assert abs(TILE.y0 - grid.y0 - 1830 * 30) <= 8 * 30
    grid, _, _ = looks_of(cube_of(1, epsg=None), "33UVP", x0=TILE.x0 + 61, y0=TILE.y0 - 29)
    assert (grid.x0, grid.y0) == (TILE.x0 + 60, TILE.y0 - 30)


def test_southern_cubes_and_neighbouring_zones_find_their_place():
    south = full_tile("19LBJ")
    cube = cube_of(1, epsg=32719, corner=(south.x0 + 300, south.y0 + 10_000_000 - 600))
    grid = looks_of(cube, "19LBJ")[0]
    assert (grid.x0, grid.y0, grid.epsg) == (south.x0 + 300, south.y0 - 600, 32619)
    with pytest.raises(InputError, match="outside tile 33UVQ"):
        looks_of(cube_of(1), "33UVQ")


def test_a_cube_without_a_band_is_refused(tmp_path):
    with pytest.raises(InputError, match="lacks swir1, swir2"):
        write_cube(tmp_path, cube_of(2).isel(band=slice(4)), tile="33UVP")


@pytest.mark.real
def test_the_flanders_cube_goes_through_stac_and_cogs_unchanged(tmp_path, shared_data):
    with xr.open_dataset(shared_data / "cubes" / "flanders-2018.nc", mask_and_scale=False) as cube:
        cube = cube.load()
    report = write_cube(tmp_path, cube, tile="31UES")
    assert report.notes == ("the cube's pixels of 20 m become pixels of 30 m",) and report.written == cube.sizes["time"]
    with serve(tmp_path) as endpoint:
        found = search(endpoint, report.grid, date(2017, 8, 1), date(2018, 11, 30))
        assert {g.id for g in found.granules} == set(report.granules)
        by_name = {g.id: g for g in found.granules}
        for t in range(0, cube.sizes["time"], 9):
            scene = read_granule(by_name[report.granules[t]], report.grid, endpoint)
            assert (scene.refl_byx == cube["reflectance"].values[t]).all()
            assert (scene.fmask_yx == cube["fmask"].values[t]).all()


def test_item_files_are_plain_json_with_places_relative_to_the_archive(archive):
    for path in archive.glob("HLS*/*/*_stac.json"):
        text = path.read_text()
        assert str(archive) not in text and "http://127" not in text
        assert all(a["href"].startswith("archive:/") for a in json.loads(text)["assets"].values())
