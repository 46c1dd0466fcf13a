"""Any observation cube as an archive: pixels pass to the bit, onto the tile's lattice, with names of their own."""

from datetime import date, timedelta
from itertools import pairwise

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS

from vsat.core.grid import TileGrid, full_tile
from vsat.core.synthetic import Landscape
from vsat.errors import InputError
from vsat.hls import BANDS, FILL, FMASK_FILL
from vsat.io.archive import pixels, serve, write_cube, write_synthetic
from vsat.io.catalog import search
from vsat.io.cube_looks import looks_of
from vsat.io.reader import read_granule

TILE = full_tile("33UVP")
GRID = TileGrid(TILE.tile, TILE.epsg, TILE.x0 + 900 * 30, TILE.y0 - 1200 * 30, 9, 14)
START, END = date(2024, 5, 1), date(2024, 6, 30)


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


def test_a_cube_does_not_mix_with_a_synthetic_world(tmp_path):
    write_synthetic(tmp_path, grid=GRID, land=Landscape(7, GRID.shape), start=START, end=date(2024, 5, 9))
    with pytest.raises(InputError, match="another source"):
        write_cube(tmp_path, cube_of(3), tile=GRID.tile)
