"""What the judge judges on: cubes, regions, patch stores; and which of them it refuses."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from stores import SIZE, write_store

import regions
from vsat.config import load_region
from vsat.core.grid import TileGrid
from vsat.core.splits import TEST, TRAIN, SplitDesign, split_places
from vsat.errors import InputError, StoreError
from vsat.hls import BANDS, FILL
from vsat.io.patches import shard_path
from vsat.io.scenes import read_scenes
from vsat.stages.fetch import fetch
from vsat.stages.sources import LEAST_PX, PATCHES, WINDOW_PX, WINDOWS, _test_boxes, load_source


def write_cube(path: Path, height: int, width: int, looks: int = 4) -> xr.Dataset:
    rng = np.random.default_rng(0)
    refl = rng.integers(0, 6000, (looks, 6, height, width)).astype(np.int16)
    refl[1, :, 0, 0] = FILL
    fmask = rng.choice(np.array([0, 2, 64], np.uint8), (looks, height, width))
    days = np.arange(looks) * 5 + np.datetime64("2021-03-01", "ns").astype("datetime64[D]")
    cube = xr.Dataset(
        {
            "reflectance": (("time", "band", "y", "x"), refl, {"scale_factor": 1e-4}),
            "fmask": (("time", "y", "x"), fmask),
        },
        coords={
            "time": days.astype("datetime64[ns]"), "sensor": ("time", ["L30", "S30", "MSI", "L30"][:looks]),
            "band": list(BANDS), "y": 9e5 - 30.0 * np.arange(height), "x": 3e5 + 30.0 * np.arange(width),
        },
    )  # fmt: skip
    cube.to_netcdf(path)
    return cube


def test_a_small_cube_is_one_block(tmp_path: Path) -> None:
    cube = write_cube(tmp_path / "farm.nc", 20, 30)
    found = load_source(tmp_path / "farm.nc", regions_folder=tmp_path)
    (block,) = found.blocks
    assert (found.name, block.name, block.stratum, block.bands) == ("farm", "whole", "", BANDS)
    np.testing.assert_array_equal(block.refl_tbyx, cube["reflectance"].values)
    clear = np.isin(cube["fmask"].values, (0, 64)) & (cube["reflectance"].values != FILL).all(1)
    np.testing.assert_array_equal(block.clear_tyx, clear)
    np.testing.assert_array_equal(block.day_t, cube["time"].values.astype("datetime64[D]").astype(int))
    assert block.sensor_t.tolist() == [0, 1, 2, 0]
    assert (block.x, block.y) == (3e5 - 15, 9e5 + 15)


def test_a_large_cube_is_windows_that_do_not_overlap(tmp_path: Path) -> None:
    cube = write_cube(tmp_path / "large.nc", 300, 320, looks=2)
    found = load_source(str(tmp_path / "large.nc"), regions_folder=tmp_path, seed=1)
    assert len(found.blocks) == WINDOWS
    corners = set()
    for block in found.blocks:
        top, left = round((9e5 + 15 - block.y) / 30), round((block.x - 3e5 + 15) / 30)
        corners.add((top, left))
        inside = cube["reflectance"].values[..., top : top + WINDOW_PX, left : left + WINDOW_PX]
        np.testing.assert_array_equal(block.refl_tbyx, inside)
    assert len(corners) == WINDOWS and all(top % WINDOW_PX == left % WINDOW_PX == 0 for top, left in corners)
    again, other = (load_source(tmp_path / "large.nc", regions_folder=tmp_path, seed=seed) for seed in (1, 2))
    assert [b.name for b in again.blocks] == [b.name for b in found.blocks] != [b.name for b in other.blocks]


def test_a_source_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no region 'nowhere'"):
        load_source("nowhere", regions_folder=tmp_path)
    with pytest.raises(InputError):
        load_source(tmp_path / "absent.nc", regions_folder=tmp_path)


def test_a_cube_without_a_clear_look_is_refused(tmp_path: Path) -> None:
    cube = write_cube(tmp_path / "a.nc", 4, 4)
    cube.assign(fmask=cube["fmask"] * 0 + 2).to_netcdf(tmp_path / "cloudy.nc")
    with pytest.raises(InputError, match="not one clear look"):
        load_source(tmp_path / "cloudy.nc", regions_folder=tmp_path)


def test_a_region_too_small_for_test_ground_is_judged_anywhere_but_not_for_a_trained_method(tmp_path: Path) -> None:
    region = load_region(regions.tiny(tmp_path))
    with pytest.raises(InputError, match="no scenes yet"):
        load_source(tmp_path / "tiny.yaml", regions_folder=tmp_path)
    fetch(region, regions.START, regions.END)
    found = load_source("tiny", regions_folder=tmp_path)
    (block,) = found.blocks
    assert "too little test ground" in found.notes[0]
    (grid,) = region.grids()
    assert block.refl_tbyx.shape[2:] == grid.shape
    from vsat.io.ledger import Ledger
    from vsat.io.scenes import ledger_path, scene_keys

    with Ledger(ledger_path(region.home)) as ledger:
        keys = scene_keys(ledger, grid.tile)
    np.testing.assert_array_equal(block.refl_tbyx, read_scenes(region.home, grid, keys)[0])
    assert (np.diff(block.day_t) >= 0).all()
    with pytest.raises(InputError, match="no test block"):
        load_source("tiny", regions_folder=tmp_path, trained=True)


@given(
    st.integers(0, 20000), st.integers(100000, 200000), st.integers(40, 700), st.integers(40, 700), st.integers(0, 9)
)
def test_windows_of_a_region_lie_on_test_ground_only(west: int, north: int, height: int, width: int, seed: int) -> None:
    grid, design = TileGrid("33UVP", 32633, west * 30.0, north * 30.0, height, width), SplitDesign(seed=seed)
    for top, left, tall, wide in _test_boxes(grid, design):
        assert LEAST_PX <= min(tall, wide) <= max(tall, wide) <= WINDOW_PX
        assert top >= 0 and top + tall <= height and left >= 0 and left + wide <= width
        # every pixel of it, by itself, is test ground half a buffer away from any other
        rows, cols = np.meshgrid([top, top + tall - 1], [left, left + wide - 1])
        assert (split_places(design, grid, rows.ravel(), cols.ravel(), 1) == TEST).all()


def test_a_region_with_test_ground_is_judged_there(tmp_path: Path) -> None:
    found = 0
    design = SplitDesign()
    for k in range(40):
        found += len(_test_boxes(TileGrid("33UVP", 32633, 4e5 + 30 * 500 * k, 5.3e6, 512, 512), design))
    share = found / (40 * 16)
    assert 0.8 * design.test_share < share < 1.2 * design.test_share


def test_the_test_patches_of_a_store_are_blocks(tmp_path: Path) -> None:
    told = write_store(tmp_path / "store", (0, 2, 1, 2, 0))
    found = load_source(tmp_path / "store", regions_folder=tmp_path)
    assert [block.name for block in found.blocks] == ["patch 1", "patch 3"]
    np.testing.assert_array_equal(found.blocks[1].refl_tbyx, told["refl"][3])
    assert [block.stratum for block in found.blocks] == ["spring", "autumn"]
    assert found.blocks[0].day_t.tolist() == [18000, 18008, 18016, 18024, 18032] and found.blocks[0].clear_tyx.all()


def test_of_many_test_patches_some_are_drawn(tmp_path: Path) -> None:
    write_store(tmp_path / "store", (TEST,) * (PATCHES + 6))
    one, again, other = (load_source(tmp_path / "store", regions_folder=tmp_path, seed=seed) for seed in (0, 0, 1))
    assert len(one.blocks) == PATCHES
    assert [b.name for b in one.blocks] == [b.name for b in again.blocks] != [b.name for b in other.blocks]


def test_a_store_without_test_patches_is_refused(tmp_path: Path) -> None:
    write_store(tmp_path / "store", (TRAIN, TRAIN))
    with pytest.raises(InputError, match="no test patches"):
        load_source(tmp_path / "store", regions_folder=tmp_path)


def test_a_test_patch_beside_a_training_patch_is_a_leak(tmp_path: Path) -> None:
    buffer_m = 32 * 30.0
    write_store(tmp_path / "apart", (0, 2), apart_m=SIZE * 30.0 + buffer_m)
    load_source(tmp_path / "apart", regions_folder=tmp_path)
    for name, apart_m in (("near", SIZE * 30.0 + buffer_m - 30.0), ("on-it", 0.0)):
        write_store(tmp_path / name, (0, 2), apart_m=apart_m)
        with pytest.raises(StoreError, match="its splits leak: train patch 0 and test patch 1"):
            load_source(tmp_path / name, regions_folder=tmp_path)


def test_a_test_patch_in_the_time_of_a_training_patch_is_a_leak(tmp_path: Path) -> None:
    design = SplitDesign(test_times=("2020",), time_buffer_days=16)
    year = 18262  # 2020-01-01
    write_store(tmp_path / "apart", (0, 2), days=(year - 49, year), design=design)
    load_source(tmp_path / "apart", regions_folder=tmp_path)
    write_store(tmp_path / "near", (0, 2), days=(year - 48, year), design=design)
    with pytest.raises(StoreError, match="days apart"):
        load_source(tmp_path / "near", regions_folder=tmp_path)
    # without kept times the same two are none
    write_store(tmp_path / "free", (0, 2), days=(year - 48, year), design=replace(design, test_times=()))
    load_source(tmp_path / "free", regions_folder=tmp_path)


@pytest.mark.fault
def test_patches_that_cannot_be_read_are_named_and_too_many_are_an_error(tmp_path: Path) -> None:
    store = tmp_path / "store"
    layout = write_store(store, (2, 2, 2, 2, 2, 2))["layout"]
    path = shard_path(store, 0, layout, "fmask", 1)
    body = bytearray(path.read_bytes())
    body[5] ^= 1  # in the chunk of the shard's first patch
    path.write_bytes(bytes(body))
    found = load_source(store, regions_folder=tmp_path)
    assert [block.name for block in found.blocks] == [f"patch {i}" for i in (0, 1, 3, 4, 5)]
    assert len(found.unreadable) == 1 and "parts/0000.zarr patch 2" in found.unreadable[0]
    path.unlink()
    shard_path(store, 0, layout, "reflectance", 0).unlink()
    with pytest.raises(StoreError, match="4 of 6 test patches"):
        load_source(store, regions_folder=tmp_path)
