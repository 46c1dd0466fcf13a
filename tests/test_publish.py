"""The folder of a virtual image: what readers of HLS, QGIS and rasterio find in it, and that it is old or new, never a mix."""

import dataclasses
import errno
import fcntl
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import rasterio
from images import DAY, GRID, image
from PIL import Image
from rio_cogeo.cogeo import cog_validate

from vsat.errors import StoreError
from vsat.hls import COMMON_NAMES, FILL
from vsat.io import publish as module
from vsat.io.publish import image_folder, image_name, publish, read_image


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, tuple[tuple[str, str], ...]]:
    home = tmp_path_factory.mktemp("region")
    return home, publish(home, image())


def test_outputs_are_every_file_with_its_digest(published: tuple[Path, tuple[tuple[str, str], ...]]) -> None:
    home, outputs = published
    folder = image_folder(home, "33UVP", DAY)
    assert folder.name == "VSAT.T33UVP.2024123.v1" == image_name("33UVP", DAY)
    assert sorted(str(path.relative_to(home)) for path in folder.iterdir()) == [name for name, _ in outputs]
    assert all(hashlib.sha256((home / name).read_bytes()).hexdigest() == digest for name, digest in outputs)
    assert not [path for path in folder.parent.iterdir() if path.name.startswith(".")]


def test_read_image_is_the_inverse(published: tuple[Path, tuple[tuple[str, str], ...]]) -> None:
    back, put = read_image(published[0], "33UVP", DAY), image()
    for field in dataclasses.fields(put):
        got, want = getattr(back, field.name), getattr(put, field.name)
        assert np.array_equal(got, want) if isinstance(want, np.ndarray) else got == want, field.name


def test_every_tiff_is_a_strict_cog(published: tuple[Path, tuple[tuple[str, str], ...]]) -> None:
    tiffs = sorted(image_folder(published[0], "33UVP", DAY).glob("*.tif"))
    assert len(tiffs) == 15
    for path in tiffs:
        valid, errors, warnings = cog_validate(path, strict=True)
        assert valid and not errors and not warnings, path.name


@pytest.mark.parametrize("asset", [*COMMON_NAMES.values(), *(f"{name}_sd" for name in COMMON_NAMES.values())])
def test_bands_carry_what_hls_carries(published: tuple[Path, tuple[tuple[str, str], ...]], asset: str) -> None:
    folder = image_folder(published[0], "33UVP", DAY)
    with rasterio.open(folder / f"{folder.name}.{asset}.tif") as file:
        assert (file.dtypes, file.nodata, file.scales, file.offsets) == (("int16",), FILL, (1e-4,), (0.0,))
        assert file.descriptions[0] and file.units == ("1",)
        assert file.block_shapes == [(256, 256)] and file.overviews(1)
        assert (file.crs.to_epsg(), file.transform, file.shape) == (GRID.epsg, GRID.transform, GRID.shape)


def test_overviews_of_bits_hold_legal_codes_only(published: tuple[Path, tuple[tuple[str, str], ...]]) -> None:
    folder = image_folder(published[0], "33UVP", DAY)
    with rasterio.open(folder / f"{folder.name}.qa.tif", overview_level=0) as small:
        codes = set(np.unique(small.read(1)).tolist())
    assert codes <= set(np.unique(image().qa_yx).tolist())


def test_vrts_are_the_bands_as_one_layer_by_relative_path(
    published: tuple[Path, tuple[tuple[str, str], ...]], tmp_path: Path
) -> None:
    folder = image_folder(published[0], "33UVP", DAY)
    moved = tmp_path / folder.name
    moved.mkdir()
    for path in folder.iterdir():
        (moved / path.name).write_bytes(path.read_bytes())
    for kind, want in (("sr", image().refl_byx), ("sd", image().sd_byx)):
        with rasterio.open(moved / f"{folder.name}.{kind}.vrt") as file:
            assert np.array_equal(file.read(), want) and file.descriptions == image().bands


def test_preview_greys_no_value_and_hatches_prior_only(published: tuple[Path, tuple[tuple[str, str], ...]]) -> None:
    folder = image_folder(published[0], "33UVP", DAY)
    picture = np.asarray(Image.open(folder / f"{folder.name}.png"))
    grey = (picture == (214, 209, 219)).all(-1)
    assert grey[-20:, -20:].all()
    assert 0.1 < grey[200:220, :-20].mean() < 0.5
    assert grey[:150, :140].mean() < 0.01


def test_equal_images_give_equal_bytes_and_a_new_one_replaces_the_old_whole(tmp_path: Path) -> None:
    first = publish(tmp_path, image(0))
    assert publish(tmp_path, image(0)) == first
    second = publish(tmp_path, image(1))
    assert dict(second) != dict(first) and dict(second).keys() == dict(first).keys()
    assert np.array_equal(read_image(tmp_path, "33UVP", DAY).refl_byx, image(1).refl_byx)


def test_without_exchange_in_the_kernel_the_image_is_still_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.ctypes, "CDLL", lambda *_, **__: object())
    publish(tmp_path, image(0))
    publish(tmp_path, image(1))
    assert np.array_equal(read_image(tmp_path, "33UVP", DAY).refl_byx, image(1).refl_byx)
    assert len(list((tmp_path / "images" / "33UVP").iterdir())) == 1


def test_leftovers_of_the_dead_go_and_those_of_the_living_stay(tmp_path: Path) -> None:
    publish(tmp_path, image(0))
    tile = tmp_path / "images" / "33UVP"
    dead, living = (tile / f".VSAT.T33UVP.2024123.v1.{who}.partial" for who in ("1-1", "2-2"))
    for folder in (dead, living):
        folder.mkdir()
        (folder / "half.tif").write_bytes(b"II")
    handle = os.open(living, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    publish(tmp_path, image(1))
    assert not dead.exists() and (living / "half.tif").exists()
    os.close(handle)
    publish(tmp_path, image(1))
    assert not living.exists()


def test_two_runs_that_publish_one_image_at_once_leave_one_of_the_two(tmp_path: Path) -> None:
    small = [image(seed, bands=("red",)) for seed in range(2)]
    with ThreadPoolExecutor(4) as pool:
        outputs = {
            dict(each)["images/33UVP/VSAT.T33UVP.2024123.v1/VSAT.T33UVP.2024123.v1.red.tif"]
            for each in pool.map(publish, [tmp_path] * 8, small * 4)
        }
    assert len(outputs) == 2
    left = read_image(tmp_path, "33UVP", DAY)
    assert any(np.array_equal(left.refl_byx, one.refl_byx) and np.array_equal(left.sd_byx, one.sd_byx) for one in small)
    assert len(list((tmp_path / "images" / "33UVP").iterdir())) == 1


def test_an_image_replaced_while_it_is_read_is_read_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(tmp_path, image(0))
    plain, reads = rasterio.open, []

    def opened(path: Path, **options: str) -> rasterio.DatasetReader:
        reads.append(path)
        if len(reads) == 3:
            monkeypatch.setattr(module.rasterio, "open", plain)
            publish(tmp_path, image(1))
        return plain(path, **options)

    monkeypatch.setattr(module.rasterio, "open", opened)
    found = read_image(tmp_path, "33UVP", DAY)
    assert np.array_equal(found.refl_byx, image(1).refl_byx) and np.array_equal(found.sd_byx, image(1).sd_byx)


def test_a_full_disk_leaves_the_old_image_and_nothing_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(tmp_path, image(0))
    monkeypatch.setattr("vsat.io.durable.os.fsync", full_disk)
    with pytest.raises(StoreError, match="No space left"):
        publish(tmp_path, image(1))
    assert np.array_equal(read_image(tmp_path, "33UVP", DAY).refl_byx, image(0).refl_byx)
    assert len(list((tmp_path / "images" / "33UVP").iterdir())) == 1


def full_disk(_: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_missing_or_broken_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="item"):
        read_image(tmp_path, "33UVP", DAY)
    publish(tmp_path, image())
    path = image_folder(tmp_path, "33UVP", DAY) / "VSAT.T33UVP.2024123.v1.red.tif"
    path.write_bytes(b"II*\0" + bytes(100))
    with pytest.raises(StoreError, match=r"red\.tif"):
        read_image(tmp_path, "33UVP", DAY)
