"""Windows and pixels of published images: GDAL reads the same, and what is damaged is told."""

import os
import random
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st
from images import DAY, image

from vsat.errors import StoreError
from vsat.io.cog import level_shapes, read_pixel, read_window
from vsat.io.publish import image_folder, publish


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("cog")
    publish(home, image(bands=("red", "nir")))
    return Path(image_folder(home, "33UVP", DAY))


def asset(folder: Path, name: str) -> Path:
    return folder / f"{folder.name}.{name}.tif"


@pytest.mark.parametrize(("name", "samples"), [("red", 1), ("nir08_sd", 1), ("qa", 1), ("age", 3)])
def test_every_level_is_what_gdal_reads(folder: Path, name: str, samples: int) -> None:
    path = asset(folder, name)
    shapes = level_shapes(path, samples=samples)
    with rasterio.open(path) as file:
        assert len(shapes) == 1 + len(file.overviews(1)) > 1
    for level, shape in enumerate(shapes):
        options = {"overview_level": level - 1} if level else {}
        with rasterio.open(path, **options) as file:
            want = file.read(1) if samples == 1 else file.read().transpose(1, 2, 0)
        got = read_window(path, slice(0, shape[0]), slice(0, shape[1]), level=level, samples=samples)
        assert got.shape[:2] == shape and got.dtype == want.dtype
        assert np.array_equal(got, want)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_window_is_what_gdal_reads(folder: Path, data: st.DataObject) -> None:
    path = asset(folder, "red")
    level = data.draw(st.integers(0, len(level_shapes(path)) - 1))
    height, width = level_shapes(path)[level]
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    bottom, right = data.draw(st.integers(top + 1, height)), data.draw(st.integers(left + 1, width))
    with rasterio.open(path, **({"overview_level": level - 1} if level else {})) as file:
        want = file.read(1, window=((top, bottom), (left, right)))
    assert np.array_equal(read_window(path, slice(top, bottom), slice(left, right), level=level), want)


def test_a_pixel_of_many_files_and_a_replaced_file(folder: Path, tmp_path: Path) -> None:
    paths = []
    for number in range(7):
        publish(tmp_path / str(number), image(number, bands=("red",)))
        paths.append(asset(Path(image_folder(tmp_path / str(number), "33UVP", DAY)), "red"))
    with ThreadPoolExecutor(3) as pool:
        for row, col in ((0, 0), (299, 279), (256, 255)):
            want = [image(number, bands=("red",)).refl_byx[0, row, col] for number in range(7)]
            assert read_pixel(paths, row, col, pool=pool).tolist() == want
        publish(tmp_path / "0", image(9, bands=("red",)))  # under the same name: its header is another
        assert read_pixel(paths[:1], 3, 3, pool=pool)[0] == image(9, bands=("red",)).refl_byx[0, 3, 3]
        assert read_pixel([], 0, 0, pool=pool).size == 0


@pytest.mark.parametrize("window", [(0, 301, 0, 1), (-1, 1, 0, 1), (5, 5, 0, 1), (0, 1, 279, 281)])
def test_a_window_outside_is_refused(folder: Path, window: tuple[int, int, int, int]) -> None:
    top, bottom, left, right = window
    with pytest.raises(StoreError, match="there are no rows"):
        read_window(asset(folder, "red"), slice(top, bottom), slice(left, right))
    with pytest.raises(StoreError, match="there are no rows"):
        read_window(asset(folder, "red"), slice(0, 1), slice(0, 1), level=7)


def test_flipped_bits_are_found_or_change_nothing(folder: Path, tmp_path: Path) -> None:
    path, copy = asset(folder, "red"), tmp_path / "copy.tif"
    whole = read_window(path, slice(0, 300), slice(0, 280))
    content, rng, found = path.read_bytes(), random.Random(4), 0
    for number in range(60):
        at = rng.randrange(len(content))
        # another file each time, for a header is kept by the file it was read from
        broken = copy.with_name(f"{number}.tif")
        broken.write_bytes(content[:at] + bytes([content[at] ^ (1 << rng.randrange(8))]) + content[at + 1 :])
        try:
            got = read_window(broken, slice(0, 300), slice(0, 280))
        except StoreError:
            found += 1
        else:
            assert np.array_equal(got, whole)  # an overview, or a tag that says nothing of pixels
    assert found > 20


def test_a_truncated_and_a_missing_file_are_told(folder: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.tif"
    shutil.copy(asset(folder, "red"), short)
    os.truncate(short, 5000)
    with pytest.raises(StoreError, match="cannot be read"):
        read_window(short, slice(0, 1), slice(0, 1))
    with pytest.raises(StoreError, match="missing"):
        level_shapes(tmp_path / "none.tif")
    with pytest.raises(StoreError, match="wanted 3 bands"):
        level_shapes(asset(folder, "red"), samples=3)
