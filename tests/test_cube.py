"""The cube: what goes in comes out, for us and for stock zarr; what is damaged is an error and never fill."""

import itertools
import json
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from vsat.config import Region
from vsat.core.grid import TileGrid
from vsat.errors import InputError, StoreError
from vsat.hls import BANDS, FILL, FMASK_FILL, SENSORS, SceneKey
from vsat.io import shard
from vsat.io.cube import (
    cube_grid,
    ledger_path,
    open_cube,
    open_tile,
    read_scenes,
    scene_keys,
    settle,
    sweep,
    write_scene,
)
from vsat.io.layout import ensure_store, object_path, shard_layout, store_folder
from vsat.io.ledger import Ledger, Receipt

GRID = TileGrid("33UVP", 32633, 399960.0, 5900040.0, 300, 520)  # 2 x 3 chunks, cut at the edges
DAYS = (date(2023, 12, 31), date(2024, 1, 1), date(2024, 12, 31))
Pixels = tuple[np.ndarray, np.ndarray]


def pixels(seed: int, grid: TileGrid = GRID) -> Pixels:
    rng = np.random.default_rng(seed)
    refl_byx = rng.integers(-200, 9000, (len(BANDS), *grid.shape)).astype(np.int16)
    refl_byx[:, :40] = FILL
    return refl_byx, rng.integers(0, 256, grid.shape).astype(np.uint8)


def store(home: Path, key: SceneKey, scene: Pixels, **facts: str) -> Receipt:
    receipt = Receipt("scene", str(key), "done", ("id",), "s", write_scene(home, GRID, key, *scene), dict(facts))
    with Ledger(ledger_path(home)) as ledger:
        ledger.record(receipt)
    settle(home, receipt.outputs)
    return receipt


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[SceneKey, Pixels]]:
    home = tmp_path_factory.mktemp("region")
    keys = [SceneKey("33UVP", day, sensor) for day in DAYS for sensor in SENSORS][1:]
    scenes = {key: pixels(seed) for seed, key in enumerate(keys)}
    scenes[keys[1]] = np.full((6, *GRID.shape), FILL, np.int16), np.full(GRID.shape, FMASK_FILL, np.uint8)
    for at, (key, scene) in enumerate(scenes.items()):
        store(home, key, scene, acquired=f"{key.day}T12:{59 - at}:30+02:00")
    return home, scenes


@pytest.fixture
def copied(made: tuple[Path, dict[SceneKey, Pixels]], tmp_path: Path) -> Iterator[tuple[Path, dict[SceneKey, Pixels]]]:
    home = tmp_path / "copy"
    shutil.copytree(made[0], home)
    yield home, made[1]


# --- shards


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_window_of_a_shard_is_the_slice(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    shape = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40)))
    chunk = data.draw(st.tuples(st.integers(1, 20), st.integers(1, 20)))
    dtype = data.draw(st.sampled_from(["int16", "uint8"]))
    array_byx = data.draw(hnp.arrays(dtype, shape))
    rows, cols = (
        range(*sorted(data.draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True)))) for n in shape[1:]
    )
    layout = shard.ShardLayout(shape, chunk, dtype, 7)
    path = tmp_path_factory.getbasetemp() / "window.shard"
    path.write_bytes(b"".join(shard.encode(layout, array_byx)))
    out_byx = np.empty((shape[0], len(rows), len(cols)), dtype)
    shard.read_window(path, layout, (rows, cols), out_byx)
    np.testing.assert_array_equal(out_byx, array_byx[:, rows.start : rows.stop, cols.start : cols.stop])


def test_every_flipped_bit_and_every_cut_is_noticed(tmp_path: Path) -> None:
    layout = shard.ShardLayout((2, 20, 20), (16, 16), "int16", FILL)
    array_byx = np.random.default_rng(0).integers(0, 100, layout.shape).astype(np.int16)
    sound, path = b"".join(shard.encode(layout, array_byx)), tmp_path / "shard"
    out_byx = np.empty_like(array_byx)
    for at in range(0, len(sound), 3):
        damaged = bytearray(sound)
        damaged[at] ^= 1 << (at % 8)
        path.write_bytes(damaged)
        with pytest.raises(shard.TornShardError):
            shard.read_window(path, layout, (range(20), range(20)), out_byx)
    for length in (*range(0, len(sound), 97), len(sound) - 1):
        path.write_bytes(sound[:length])
        with pytest.raises(shard.TornShardError):
            shard.read_window(path, layout, (range(20), range(20)), out_byx)


def test_encoding_is_the_same_in_every_thread() -> None:
    layout = shard_layout(GRID, "reflectance")
    refl_byx = pixels(1)[0]
    here = b"".join(shard.encode(layout, refl_byx))
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(lambda _: b"".join(shard.encode(layout, refl_byx)), range(8))) == {here}


# --- scenes


def test_scenes_come_back_and_stock_zarr_sees_the_same(made: tuple[Path, dict[SceneKey, Pixels]]) -> None:
    home, scenes = made
    refl_tbyx, fmask_tyx = read_scenes(home, GRID, list(scenes), workers=2)
    for at, (key, (refl_byx, fmask_yx)) in enumerate(scenes.items()):
        np.testing.assert_array_equal(refl_tbyx[at], refl_byx)
        np.testing.assert_array_equal(fmask_tyx[at], fmask_yx)
        group = zarr.open_group(store_folder(home, "33UVP", key.day.year), mode="r")
        slot = key.day.timetuple().tm_yday - 1, SENSORS.index(key.sensor)
        np.testing.assert_array_equal(group["reflectance"][slot], refl_byx)
        np.testing.assert_array_equal(group["fmask"][slot], fmask_yx)


def test_zarr_would_write_the_same_arrays(tmp_path: Path) -> None:
    """The plain twin: zarr's own sharding, told the same, gives the same metadata and chunks that read the same."""
    ensure_store(tmp_path, GRID, 2024)
    ours = store_folder(tmp_path, "33UVP", 2024)
    codecs = [
        zarr.codecs.BloscCodec(typesize=2, cname="lz4", clevel=5, shuffle="bitshuffle"),
        zarr.codecs.Crc32cCodec(),
    ]
    twin = zarr.create_array(
        tmp_path / "twin", shape=(366, 2, 6, *GRID.shape), dtype="int16", chunks=(1, 1, 1, 256, 256), fill_value=FILL,
        shards=(1, 1, 6, 512, 768), compressors=codecs, dimension_names=["day", "sensor", "band", "y", "x"],
        chunk_key_encoding={"name": "default", "separator": "."}, config={"write_empty_chunks": True},
    )  # fmt: skip
    metadata = json.loads((ours / "reflectance/zarr.json").read_text())
    metadata["attributes"] = {}
    assert metadata == json.loads((tmp_path / "twin/zarr.json").read_text())
    key, (refl_byx, fmask_yx) = SceneKey("33UVP", date(2024, 2, 29), "S30"), pixels(3)
    write_scene(tmp_path, GRID, key, refl_byx, fmask_yx)
    twin[59, 1] = refl_byx
    theirs, out_byx = tmp_path / "twin/c.59.1.0.0.0", np.empty_like(refl_byx)
    shard.read_window(theirs, shard_layout(GRID, "reflectance"), (range(300), range(520)), out_byx)
    np.testing.assert_array_equal(out_byx, refl_byx)
    assert abs(theirs.stat().st_size - object_path(tmp_path, key, "reflectance").stat().st_size) < 1000


def test_windows_read_only_what_they_touch(copied: tuple[Path, dict[SceneKey, Pixels]]) -> None:
    home, scenes = copied
    key = next(iter(scenes))
    path = object_path(home, key, "reflectance")
    damaged = bytearray(path.read_bytes())
    damaged[40] ^= 1  # in the first chunk: blue, upper left
    path.write_bytes(damaged)
    refl_tbyx, fmask_tyx = read_scenes(home, GRID, [key], slice(256, None), slice(10, 411))
    np.testing.assert_array_equal(refl_tbyx[0], scenes[key][0][:, 256:, 10:411])
    np.testing.assert_array_equal(fmask_tyx[0], scenes[key][1][256:, 10:411])
    with pytest.raises(StoreError, match=rf"{path.name}: .*33UVP/2023-12-31/S30.*checksum") as caught:
        read_scenes(home, GRID, [key], slice(200, 300))
    assert "vsat fetch" in caught.value.next_step


def test_missing_object_of_a_listed_scene_is_an_error(copied: tuple[Path, dict[SceneKey, Pixels]]) -> None:
    home, scenes = copied
    object_path(home, list(scenes)[2], "fmask").unlink()
    with pytest.raises(StoreError, match=r"fmask of scene 33UVP/2024-01-01/S30.*missing"):
        read_scenes(home, GRID, list(scenes))
    with pytest.raises(StoreError, match="missing"):
        open_tile(home, "33UVP")["fmask"].compute()


def test_empty_asks(made: tuple[Path, dict[SceneKey, Pixels]]) -> None:
    home, scenes = made
    assert read_scenes(home, GRID, [])[0].shape == (0, 6, 300, 520)
    assert read_scenes(home, GRID, list(scenes), slice(5, 5))[1].shape == (5, 0, 520)


def test_same_scene_twice_changes_nothing(tmp_path: Path) -> None:
    key, scene = SceneKey("33UVP", date(2024, 5, 2), "L30"), pixels(0)
    first = write_scene(tmp_path, GRID, key, *scene)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert write_scene(tmp_path, GRID, key, *scene) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == files


def test_revised_scene_is_seen_from_its_receipt_on(tmp_path: Path) -> None:
    key, old, new = SceneKey("33UVP", date(2024, 5, 2), "L30"), pixels(0), pixels(1)
    store(tmp_path, key, old)
    outputs = write_scene(tmp_path, GRID, key, *new)
    np.testing.assert_array_equal(read_scenes(tmp_path, GRID, [key])[0][0], old[0])
    with Ledger(ledger_path(tmp_path)) as ledger:
        ledger.record(Receipt("scene", str(key), "done", outputs=outputs))
    np.testing.assert_array_equal(read_scenes(tmp_path, GRID, [key])[0][0], new[0])
    np.testing.assert_array_equal(open_tile(tmp_path, "33UVP")["fmask"][0], new[1])
    settle(tmp_path, outputs)
    settle(tmp_path, outputs)
    np.testing.assert_array_equal(read_scenes(tmp_path, GRID, [key])[1][0], new[1])
    assert not list(tmp_path.rglob("*.next"))


def test_mask_and_pixels_are_of_one_production_however_often_a_scene_is_revised(tmp_path: Path) -> None:
    """Each production's mask says which its pixels are; a reader that takes one after the other would see both."""
    key, read, stop = SceneKey("33UVP", date(2024, 5, 2), "L30"), Counter[tuple[int, int]](), threading.Event()
    shape, window = GRID.shape, slice(0, 4)

    def produce(n: int) -> None:
        store(tmp_path, key, (np.full((6, *shape), n, np.int16), np.full(shape, n, np.uint8)))

    def revise() -> None:
        for n in itertools.takewhile(lambda _: not stop.is_set(), itertools.cycle(range(1, 200))):
            produce(n)  # always another one: as a production that comes again does not

    produce(1)

    writer = threading.Thread(target=revise)
    writer.start()
    try:
        until = time.monotonic() + 3
        while time.monotonic() < until or len(read) < 2:
            refl_tbyx, fmask_tyx = read_scenes(tmp_path, GRID, [key], window, window)
            read[int(refl_tbyx[0, 0, 0, 0]), int(fmask_tyx[0, 0, 0])] += 1
    finally:
        stop.set()
        writer.join()
    assert all(pixels == mask for pixels, mask in read), read


def test_sweep_settles_what_counts_and_removes_the_rest(tmp_path: Path) -> None:
    key, other = SceneKey("33UVP", date(2024, 5, 2), "L30"), SceneKey("33UVP", date(2024, 5, 3), "L30")
    for each in (key, other):
        store(tmp_path, each, pixels(0))
    outputs = write_scene(tmp_path, GRID, key, *pixels(1))
    write_scene(tmp_path, GRID, other, *pixels(2))  # never recorded
    (store_folder(tmp_path, "33UVP", 2024) / "fmask/c.1.0.0.0.77-1.partial").write_bytes(b"torn")
    (store_folder(tmp_path, "33UVP", 2025).with_name("2025.zarr.77-1.partial") / "fmask").mkdir(parents=True)
    with Ledger(ledger_path(tmp_path)) as ledger:
        ledger.record(Receipt("scene", str(key), "done", outputs=outputs))
        assert sweep(tmp_path, ledger) == 6
        assert sweep(tmp_path, ledger) == 0
    refl_tbyx, _ = read_scenes(tmp_path, GRID, [key, other])
    np.testing.assert_array_equal(refl_tbyx[0], pixels(1)[0])
    np.testing.assert_array_equal(refl_tbyx[1], pixels(0)[0])


def test_many_writers_at_once_make_one_store(tmp_path: Path) -> None:
    days = [date(2024, 3, 1) + timedelta(at) for at in range(12)]
    barrier = threading.Barrier(6)

    def write(at: int) -> None:
        if at < 6:
            barrier.wait()
        write_scene(tmp_path, GRID, SceneKey("33UVP", days[at], "S30"), *pixels(at))

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(write, range(12)))
    refl_tbyx, _ = read_scenes(tmp_path, GRID, [SceneKey("33UVP", day, "S30") for day in days])
    for at in range(12):
        np.testing.assert_array_equal(refl_tbyx[at], pixels(at)[0])
    assert not list(tmp_path.rglob("*.partial"))


def test_another_grid_is_refused(made: tuple[Path, dict[SceneKey, Pixels]]) -> None:
    home, scenes = made
    moved = replace(GRID, x0=GRID.x0 + 30)
    with pytest.raises(StoreError, match=r"399960[\s\S]*399990") as caught:
        write_scene(home, moved, next(iter(scenes)), *pixels(0))
    assert "new name" in caught.value.next_step
    with pytest.raises(StoreError, match="399990"):
        read_scenes(home, moved, list(scenes))


def test_foreign_folder_is_no_cube(tmp_path: Path) -> None:
    folder = store_folder(tmp_path, "33UVP", 2024)
    folder.mkdir(parents=True)
    (folder / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group"}')
    with pytest.raises(StoreError, match="no cube"):
        write_scene(tmp_path, GRID, SceneKey("33UVP", date(2024, 5, 2), "L30"), *pixels(0))
    with pytest.raises(StoreError, match="33UVQ"):
        cube_grid(tmp_path, "33UVQ")


def test_full_disk_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    key = SceneKey("33UVP", date(2024, 5, 2), "L30")
    ensure_store(tmp_path, GRID, 2024)
    folder = store_folder(tmp_path, "33UVP", 2024) / "reflectance"

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StoreError, match="No space left") as caught:
        write_scene(tmp_path, GRID, key, *pixels(0))
    assert "make room" in caught.value.next_step
    assert [path.name for path in folder.iterdir()] == ["zarr.json"]


# --- the Dataset


def region(home: Path) -> Region:
    place = {"bbox": (13.3, 52.4, 13.4, 52.5)}
    return Region.model_validate(
        {"name": home.name, "area": place, "period": {"start": "2023-01-01"}, "store": str(home.parent)}
    )


def test_open_cube_is_what_the_ledger_lists(copied: tuple[Path, dict[SceneKey, Pixels]]) -> None:
    home, scenes = copied
    with Ledger(ledger_path(home)) as ledger:
        assert scene_keys(ledger, "33UVP") == sorted(scenes)
        hidden = next(iter(scenes))
        ledger.delete("scene", str(hidden))
        ledger.record(Receipt("scene-failed", "33UVP/2024-07-01/L30", "failed"))
    cube = open_cube(region(home))
    # times run against sensors within a day here: 12:58 +02:00 is before 12:59
    order = sorted((key for key in scenes if key != hidden), key=lambda key: (key.day, list(scenes)[::-1].index(key)))
    assert list(cube["sensor"].values) == [key.sensor for key in order]
    assert [str(day)[:10] for day in cube["time"].values] == [str(key.day) for key in order]
    assert str(cube["time"].values[0])[:19] == "2024-01-01T10:57:30"
    assert cube["reflectance"].chunks is not None and cube["reflectance"].dtype == np.int16
    computed = cube.compute(scheduler="threads")
    np.testing.assert_array_equal(computed["reflectance"], np.stack([scenes[key][0] for key in order]))
    np.testing.assert_array_equal(computed["fmask"], np.stack([scenes[key][1] for key in order]))
    decoded = xr.decode_cf(computed)["reflectance"]
    assert np.isnan(decoded[0, 0, 0, 0]) and decoded.max() < 1


def test_open_cube_is_georeferenced(made: tuple[Path, dict[SceneKey, Pixels]]) -> None:
    cube = open_cube(region(made[0]), "33UVP")
    assert cube.rio.crs.to_epsg() == 32633
    assert tuple(cube.rio.transform()) == tuple(GRID.transform)
    assert cube.rio.bounds() == pytest.approx(GRID.bounds)
    assert list(cube["band"].values) == list(BANDS)


@pytest.mark.parametrize(
    "index",
    [
        np.s_[1],
        np.s_[:, 2:4, 7, 5],
        np.s_[::2, ::-1, 255:258, 250:520:9],
        np.s_[3:1, :, :, 0],
        np.s_[[0, 3], :, ::-7, 519],
    ],
)
def test_any_slice_of_the_lazy_cube_is_the_slice(
    made: tuple[Path, dict[SceneKey, Pixels]], index: tuple[object, ...]
) -> None:
    cube = open_tile(made[0], "33UVP")
    whole = cube["reflectance"].compute().variable
    np.testing.assert_array_equal(cube["reflectance"].variable[index].compute(), whole[index])


def test_open_cube_says_what_is_missing(made: tuple[Path, dict[SceneKey, Pixels]], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="33UVQ") as caught:
        open_cube(region(made[0]), "33UVQ")
    assert "33UVP" in caught.value.next_step
    with pytest.raises(StoreError, match="no scene"):
        open_cube(region(tmp_path / "empty"))


def test_several_tiles_want_a_name(copied: tuple[Path, dict[SceneKey, Pixels]]) -> None:
    home, _ = copied
    grid = replace(GRID, tile="33UVQ", y0=GRID.y0 + 99960)
    key = SceneKey("33UVQ", date(2024, 5, 2), "L30")
    outputs = write_scene(home, grid, key, *pixels(0))
    with Ledger(ledger_path(home)) as ledger:
        ledger.record(Receipt("scene", str(key), "done", outputs=outputs))
    with pytest.raises(InputError, match="several") as caught:
        open_cube(region(home))
    assert "33UVP, 33UVQ" in caught.value.next_step
    assert open_cube(region(home), "33UVQ").sizes["time"] == 1


def test_stock_xarray_reads_the_store(made: tuple[Path, dict[SceneKey, Pixels]]) -> None:
    home, scenes = made
    key = SceneKey("33UVP", date(2024, 12, 31), "L30")
    with xr.open_zarr(store_folder(home, "33UVP", 2024)) as group:
        assert group.rio.crs.to_epsg() == 32633
        assert group["sensor"].attrs["flag_meanings"] == "L30 S30"
        scene = group["reflectance"].sel(day="2024-12-31", sensor=0).compute()
    expected = np.where(scenes[key][0] == FILL, np.nan, scenes[key][0] * 1e-4)
    np.testing.assert_allclose(scene, expected, rtol=1e-6)
