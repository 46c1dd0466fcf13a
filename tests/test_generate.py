"""Virtual images from a small cube: which are planned, what they hold, and that only their own context decides their bytes."""

import shutil
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest

from regions import END, START, tiny
from vsat.config import Region, load_region
from vsat.core.fill import fill
from vsat.core.masks import clear
from vsat.core.quality import unpack_qa
from vsat.hls import FILL, SCALE, SceneKey
from vsat.io.ledger import Ledger
from vsat.io.publish import image_folder, image_name, read_image
from vsat.io.scenes import ledger_path, read_scenes, scene_keys
from vsat.stages import compose as module
from vsat.stages.fetch import fetch
from vsat.stages.generate import generate, plan_generate

ALL_DAYS = END + timedelta(60)


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Region:
    """Fetched, with images of every acquisition day and all scenes in."""
    path = tiny(tmp_path_factory.mktemp("project"))
    path.write_text(
        path.read_text().replace("{every_days: 10}", "{acquisitions: true}").replace("linear", "linear+scene")
    )
    region = load_region(path)
    fetch(region, START, END)
    generate(region, START, END, ALL_DAYS)
    return region


def images(region: Region) -> dict[str, bytes]:
    return {
        str(path.relative_to(region.home)): path.read_bytes()
        for path in (region.home / "images").rglob("*.*")
        if path.is_file()
    }


def context(region: Region) -> tuple[list[SceneKey], np.ndarray, np.ndarray, np.ndarray]:
    (grid,) = region.grids()
    with Ledger(ledger_path(region.home)) as ledger:
        keys = scene_keys(ledger, grid.tile)
    refl, fmask = read_scenes(region.home, grid, keys)
    days = np.array([key.day for key in keys], "datetime64[D]").astype(np.int32)
    return keys, refl, clear(fmask, refl), days


def test_observed_pixels_are_those_that_went_in_and_sources_name_their_scene(region: Region) -> None:
    keys, refl, clear_tyx, _ = context(region)
    (grid,) = region.grids()
    seen = 0
    for day in sorted({key.day for key in keys}):
        image = read_image(region.home, grid.tile, day)
        origin = unpack_qa(image.qa_yx).origin
        for t in [t for t, key in enumerate(keys) if key.day == day][::-1]:
            assert (origin[clear_tyx[t]] == 0).all()
        first = next(t for t, key in enumerate(keys) if key.day == day)
        here = clear_tyx[first]
        assert np.array_equal(image.refl_byx[:, here], refl[first][:, here]) and not image.sd_byx[:, here].any()
        named = np.array(["", *image.sources])[image.src_yx[here]]
        assert all(
            name.split(".")[1] == keys[first].sensor and name.split(".")[3][:7] == f"{day:%Y%j}" for name in named
        )
        seen += int(here.sum())
    assert seen > 1000


def test_the_stage_gives_the_numbers_of_the_fill_in_memory(region: Region, monkeypatch: pytest.MonkeyPatch) -> None:
    _, refl, clear_tyx, days = context(region)
    (grid,) = region.grids()
    monkeypatch.setattr(module, "CHUNK_PX", 16)  # six blocks, and rows by rows, instead of one of each
    monkeypatch.setattr(module, "BLOCK_BYTES", 40_000)
    day = START + timedelta(20)
    wide = region.model_copy(update={"context_days": 400, "final_after_days": 40})
    generate(
        wide.model_copy(update={"cadence": region.cadence.model_copy(update={"acquisitions": False, "dates": (day,)})}),
        day,
        day,
        ALL_DAYS,
        policy="replace",
    )
    image = read_image(region.home, grid.tile, day)
    want = fill(refl, clear_tyx, days, np.array([np.datetime64(day).astype(int)], np.int32), method=region.method)
    stored = np.where(image.refl_byx == FILL, np.nan, image.refl_byx * SCALE)
    np.testing.assert_allclose(stored, want.refl_qbyx[0], atol=0.51 * SCALE)
    np.testing.assert_allclose(image.sd_byx * SCALE, want.sd_qbyx[0], atol=0.51 * SCALE)
    assert np.array_equal(image.age_lyx, want.age_qlyx[0])
    generate(region, day, day, ALL_DAYS, policy="replace")


def test_nothing_is_planned_twice_and_a_lost_file_is_made_again_to_the_same_bytes(region: Region) -> None:
    before = images(region)
    assert plan_generate(region, START, END, ALL_DAYS).jobs == ()
    victim = next(name for name in before if name.endswith(".qa.tif"))
    (region.home / victim).unlink()
    plan = plan_generate(region, START, END, ALL_DAYS)
    assert sum(len(job.dates) for job in plan.jobs) == 1
    generate(region, START, END, ALL_DAYS)
    assert images(region) == before


def test_policies_skip_what_is_stale_and_replace_everything(region: Region) -> None:
    other = region.model_copy(update={"method": "linear"})
    total = sum(len(job.dates) for job in plan_generate(region, START, END, ALL_DAYS, policy="replace").jobs)
    assert total == plan_generate(region, START, END, ALL_DAYS).kept
    assert sum(len(job.dates) for job in plan_generate(other, START, END, ALL_DAYS).jobs) == total
    assert plan_generate(other, START, END, ALL_DAYS, policy="skip").jobs == ()


def test_a_final_image_does_not_depend_on_the_night_that_made_it(tmp_path: Path) -> None:
    region = load_region(tiny(tmp_path))
    fetch(region, START, END)
    may = date(2023, 5, 31)
    early = generate(region, START, may, may)
    assert early.statuses == {"provisional": 4}
    final_day = may + timedelta(region.final_after_days)
    assert generate(region, START, may, final_day).statuses == {"final": 4}
    final = images(region)
    generate(region, START, may, ALL_DAYS, policy="replace")
    assert images(region) == final


def test_a_provisional_image_does_not_depend_on_the_night_either(tmp_path: Path) -> None:
    region = load_region(tiny(tmp_path))
    fetch(region, START, date(2023, 5, 20))
    may = date(2023, 5, 25)
    assert generate(region, START, may, may).statuses == {"provisional": 3}
    before = images(region)
    assert generate(region, START, may, date(2023, 5, 31), policy="replace").statuses == {"provisional": 3}
    assert images(region) == before
    (grid,) = region.grids()
    image = read_image(region.home, grid.tile, START)
    assert image.status == "provisional" and image.asof <= date(2023, 5, 20)


def test_no_later_scene_than_the_day_is_used(tmp_path: Path) -> None:
    region = load_region(tiny(tmp_path))
    fetch(region, START, END)
    day = START + timedelta(10)
    generate(region, START, day, day)
    with Ledger(ledger_path(region.home)) as ledger:
        inputs = [SceneKey.from_string(key).day for receipt in ledger.all("image") for key in receipt.inputs]
    assert max(inputs) <= day


def test_dates_before_any_scene_are_counted_not_made(region: Region) -> None:
    earlier = region.model_copy(update={"period": region.period.model_copy(update={"start": date(2022, 1, 1)})})
    earlier = earlier.model_copy(
        update={"cadence": region.cadence.model_copy(update={"acquisitions": False, "every_days": 30})}
    )
    plan = plan_generate(earlier, date(2022, 1, 1), date(2022, 3, 1), ALL_DAYS)
    assert len(plan.without_context) == 2 and not plan.jobs


def test_an_unreadable_scene_fails_its_images_with_the_reason_and_leaves_the_old(tmp_path: Path) -> None:
    region = load_region(tiny(tmp_path))
    fetch(region, START, END)
    generate(region, START, END, ALL_DAYS)
    before = images(region)
    with Ledger(ledger_path(region.home)) as ledger:
        receipt = ledger.all("scene")[0]
    path = region.home / receipt.outputs[0][0]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    report = generate(region, START, END, ALL_DAYS, policy="replace")
    assert report.failed and receipt.key in report.failed[0][1]
    assert {name: content for name, content in images(region).items() if name.endswith(".tif")} == {
        name: content for name, content in before.items() if name.endswith(".tif")
    }
    assert image_folder(region.home, receipt.key.split("/")[0], START).is_dir()


def test_images_lost_from_the_disk_are_told_and_left_out_of_the_catalogue(tmp_path: Path) -> None:
    region = load_region(tiny(tmp_path))
    fetch(region, START, END)
    generate(region, START, END, ALL_DAYS)
    (grid,) = region.grids()
    shutil.rmtree(image_folder(region.home, grid.tile, START))
    later = START + timedelta(10)
    report = generate(region, later, END, ALL_DAYS)
    assert report.lost == (f"{grid.tile}/{START}",)
    collection = (region.home / "images" / grid.tile / "collection.json").read_text()
    assert image_name(grid.tile, START) not in collection and image_name(grid.tile, later) in collection
    assert generate(region, START, END, ALL_DAYS).lost == ()
    assert image_name(grid.tile, START) in (region.home / "images" / grid.tile / "collection.json").read_text()


def test_snow_and_water_are_those_of_the_nearest_look_of_the_ground() -> None:
    days = np.array([10, 20, 20, 40], np.int32)
    fmask = np.zeros((4, 1, 5), np.uint8)
    fmask[0, 0] = [32, 32, 0, 0, 255]
    fmask[1, 0] = [16, 2, 2, 32, 255]
    fmask[2, 0] = [0, 2, 32, 0, 255]
    fmask[3, 0] = [32, 0, 16, 16, 2]
    ground = clear(fmask, snow=True)
    looks = module.Looks(np.zeros((4, 6, 1, 5), np.int16), fmask, clear(fmask), ground, days)
    assert module._ground_fmask(looks, 22)[0].tolist() == [16, 32, 32, 32, 0]
    assert module._ground_fmask(looks, 15)[0].tolist() == [32, 32, 0, 0, 0]
    assert module._ground_fmask(looks, 39)[0].tolist() == [32, 0, 16, 16, 0]


def test_bands_of_the_region_are_the_bands_of_its_images(tmp_path: Path) -> None:
    path = tiny(tmp_path)
    path.write_text(path.read_text() + "bands: [red, nir]\n")
    region = load_region(path)
    fetch(region, START, END)
    generate(region, START, START, ALL_DAYS)
    image = read_image(region.home, region.grids()[0].tile, START)
    assert image.bands == ("red", "nir") and image.refl_byx.shape[0] == 2
    assert replace(image, bands=("red",)).bands == ("red",)
