import json
import shutil
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest

from regions import END, START, tiny, write_archive
from vsat.config import Cloud, Region, load_region
from vsat.core.masks import clear, without_cloud
from vsat.core.splits import SplitDesign, check_splits
from vsat.errors import InputError, NoScenes
from vsat.hls import FILL, SceneKey
from vsat.io.archive import pixels, revise
from vsat.io.cube import cube_grid, read_scenes
from vsat.io.patch_reader import PatchStore
from vsat.io.patches import part_folder
from vsat.stages.fetch import fetch
from vsat.stages.sample import SampleOptions, sample
from vsat.stages.sample_report import as_json, markdown

OPTIONS = SampleOptions(
    patches=24, size_px=8, stride_px=2, days=30, step_days=10, min_looks=2, shard_patches=5,
    strata=("season", "greenness", "clear"), split=SplitDesign(block_px=13, buffer_px=2, validation_share=0.2, test_share=0.25),
)  # fmt: skip


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Region:
    found = load_region(tiny(tmp_path_factory.mktemp("sample")))
    fetch(found, START, END)
    return found


@pytest.fixture(scope="module")
def out(region: Region, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store") / "patches"
    sample([region], folder, OPTIONS)
    return folder


def files(out: Path) -> dict[str, bytes]:
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and "ledger" not in path.name and not path.name.startswith((".", "report"))
    }


def test_patches_are_the_cube_s_pixels_without_what_lies_under_cloud(region: Region, out: Path) -> None:
    store = PatchStore(out)
    grid = cube_grid(region.home, "33UVP")
    assert len(store) == 24
    for i in range(0, 24, 3):
        patch = store.read(i)
        keys = [SceneKey.from_string(text) for text in store.scenes(i)]
        top, left = round((grid.y0 - store.column("y")[i]) / 30), round((store.column("x")[i] - grid.x0) / 30)
        refl, fmask = read_scenes(region.home, grid, keys, slice(top, top + 8), slice(left, left + 8))
        assert np.array_equal(patch.fmask_tyx, fmask)
        assert np.array_equal(patch.refl_tbyx, without_cloud(refl, fmask))
        assert [date(1970, 1, 1).toordinal() + int(day) for day in patch.day_t] == [key.day.toordinal() for key in keys]
        seen = clear(fmask, refl)
        assert (seen.mean(axis=(1, 2)) >= OPTIONS.min_clear).all()
        assert (patch.refl_tbyx[:, 0][seen] != FILL).all()


def test_drawn_again_elsewhere_the_bytes_are_the_same(region: Region, out: Path, tmp_path: Path) -> None:
    sample([region], tmp_path / "again", OPTIONS, workers=1)
    assert files(tmp_path / "again") == files(out)


def test_another_seed_draws_others(region: Region, out: Path, tmp_path: Path) -> None:
    sample([region], tmp_path / "other", replace(OPTIONS, seed=1))
    assert files(tmp_path / "other").keys() == files(out).keys()
    assert files(tmp_path / "other") != files(out)


def test_a_second_run_changes_nothing(region: Region, out: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (out / "parts").rglob("*")}
    report = sample([region], out, OPTIONS)
    assert (report.patches, report.new) == (24, 0)
    assert before == {path: path.stat().st_mtime_ns for path in (out / "parts").rglob("*")}


def test_the_report_counts_and_shows(region: Region, out: Path) -> None:
    report = sample([region], out, OPTIONS)
    assert sum(row.drawn for row in report.strata) == report.patches == sum(report.splits.values())
    assert sum(row.wanted for row in report.strata) == report.asked == 24
    assert report.stored_bytes < report.raw_bytes
    page = (out / "report.html").read_text()
    assert page.count("<svg") == 1 and 'src="http' not in page and 'href="http' not in page
    assert "24 patches" in report.text()
    assert "data:image/svg+xml" in markdown(report) and len(markdown(report)) < 200_000
    assert json.loads(as_json(report))["patches"] == 24
    (red,) = [one for band, one in report.statistics.items() if band == "red"]
    store = PatchStore(out)
    values = np.concatenate([
        patch.refl_tbyx[:, 2][clear(patch.fmask_tyx, patch.refl_tbyx)]
        for patch in (store.read(int(i)) for i in np.flatnonzero(store.split_n == 0))
    ])  # fmt: skip
    assert red["count"] == values.size
    assert red["median"] == pytest.approx(np.median(values) * 1e-4, abs=1e-4)
    assert red["sd"] == pytest.approx(1.4826e-4 * np.median(np.abs(values - np.median(values))), abs=3e-4)


def test_no_test_pixel_date_and_no_neighbour_is_in_train(region: Region, out: Path) -> None:
    """From the stored patches alone: every train pixel, and every test pixel grown by the buffer."""
    store, grid = PatchStore(out), cube_grid(region.home, "33UVP")
    assert {0, 2} <= set(store.split_n.tolist())
    trained = np.zeros(grid.shape, bool)
    tops = np.rint((grid.y0 - store.column("y")) / 30).astype(int)
    lefts = np.rint((store.column("x") - grid.x0) / 30).astype(int)
    for i in np.flatnonzero(store.split_n == 0):
        trained[tops[i] : tops[i] + 8, lefts[i] : lefts[i] + 8] = True
    for i in np.flatnonzero(store.split_n == 2):
        y, x = max(tops[i] - 2, 0), max(lefts[i] - 2, 0)
        assert not trained[y : tops[i] + 10, x : lefts[i] + 10].any()
    days = store.column("day")
    planted = store.split_n.copy()
    planted[np.flatnonzero(planted == 2)[0]] = 0  # and a test patch that is called train is found
    for split, clean in ((store.split_n, True), (planted, False)):
        found = check_splits(
            store.epsg_n, store.column("x"), store.column("y"), split, size_m=240, buffer_m=60,
            first_day_n=days[:, 0], last_day_n=days.max(axis=1),
        )  # fmt: skip
        assert (found == []) is clean


def test_other_options_for_the_same_store_are_refused(region: Region, out: Path) -> None:
    with pytest.raises(InputError, match="seed 0, not 7"):
        sample([region], out, replace(OPTIONS, seed=7))


@pytest.mark.parametrize("name", ["adjacent", "snow"])
def test_another_cloud_rule_for_the_same_store_is_refused(region: Region, out: Path, name: str) -> None:
    other = region.model_copy(update={"cloud": region.cloud.model_copy(update={name: True})})
    before = files(out)
    with pytest.raises(InputError) as caught:
        sample([other], out, OPTIONS)
    assert caught.value.problem == f"it was drawn with cloud.{name} false, tiny/33UVP has true"
    assert caught.value.place == str(out)
    assert caught.value.next_step == f"set cloud.{name} to false for tiny, or draw it into another folder"
    assert files(out) == before
    assert sample([region], out, OPTIONS).new == 0


def test_a_shard_that_is_gone_is_drawn_again(region: Region, tmp_path: Path) -> None:
    sample([region], tmp_path / "p", OPTIONS)
    before = files(tmp_path / "p")
    (part_folder(tmp_path / "p", 0) / "reflectance" / "c.2.0.0.0.0").unlink()
    sample([region], tmp_path / "p", OPTIONS)
    assert files(tmp_path / "p") == before


def test_a_grown_cube_gives_a_new_part_and_keeps_the_first(tmp_path: Path) -> None:
    region = load_region(tiny(tmp_path))
    fetch(region, START, date(2023, 6, 10))
    options, out = replace(OPTIONS, patches=10, step_days=15), tmp_path / "patches"
    first = sample([region], out, options)
    kept = {name: body for name, body in files(out).items() if name.startswith("parts/0000")}
    fetch(region, START, END)
    second = sample([region], out, options)
    assert second.parts == 2 and second.patches == first.patches + second.new and second.new > 0
    assert kept.items() <= files(out).items()
    store = PatchStore(out)
    assert store.column("day")[10:].max() > store.column("day")[:10].max()
    assert sample([region], out, options).new == 0


def overlaps(store: PatchStore) -> np.ndarray:
    """Of any two patches the common pixel-dates over those of either, from the stored columns, pixel by pixel."""
    extents = [
        {(x + 30 * i, y - 30 * j, scene) for i in range(8) for j in range(8) for scene in store.scenes(n)}
        for n, (x, y) in enumerate(zip(store.column("x"), store.column("y"), strict=True))
    ]
    return np.array([[len(one & other) / len(one | other) for other in extents] for one in extents])


def test_a_new_part_holds_no_near_duplicate_of_an_earlier_one(tmp_path: Path) -> None:
    region = load_region(tiny(tmp_path))
    fetch(region, START, date(2023, 6, 10))
    options, out, again = replace(OPTIONS, patches=60, step_days=2), tmp_path / "patches", tmp_path / "again"
    sample([region], out, options)
    shutil.copytree(out, again)
    fetch(region, START, END)
    sample([region], out, options)
    store = PatchStore(out)
    first = store.parts[1].first
    across = overlaps(store)[first:, :first]
    assert across.size and 0.5 < across.max() <= options.max_overlap
    sample([region], again, options, workers=1)
    assert files(again) == files(out)


def test_patches_of_revised_scenes_are_counted(tmp_path: Path) -> None:
    region = load_region(tiny(tmp_path))
    fetch(region, START, END)
    out = tmp_path / "patches"
    assert sample([region], out, OPTIONS).stale == 0
    assert region.catalogue.path is not None
    folder = region.catalogue.path
    store = PatchStore(out)
    name = store.parts[0].attributes["granules"][store.column("scene")[0, 0]][0]  # of the first patch's first look
    refl, fmask = pixels(folder, name)
    revise(folder, name, refl + np.int16(5), fmask, updated=datetime(2030, 1, 1, tzinfo=UTC))
    fetch(region, START, END)
    report = sample([region], out, OPTIONS)
    with_it = int((store.column("scene") == store.column("scene")[0, 0]).any(axis=1).sum())
    assert (report.new, report.stale) == (0, with_it)
    assert "revised" in report.text()


def test_without_scenes_there_is_nothing_to_draw_from(tmp_path: Path) -> None:
    region = load_region(tiny(tmp_path))
    with pytest.raises(NoScenes, match="no scene"):
        sample([region], tmp_path / "p", OPTIONS)


@pytest.mark.parametrize("options", [{"size_px": 9}, {"patches": 0}, {"strata": ("colour",)}, {"step_days": 0}])
def test_options_that_cannot_be_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(InputError):
        replace(OPTIONS, **options)  # type: ignore[arg-type]


def test_windows_larger_than_the_ground_are_refused_with_a_step(region: Region, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="smaller --size"):
        sample([region], tmp_path / "p", replace(OPTIONS, size_px=32, stride_px=2))


def test_two_regions_on_one_ground_are_drawn_from_once(region: Region, tmp_path: Path) -> None:
    other = load_region(tiny(tmp_path))
    twin = other.model_copy(update={"name": "twin"})
    write_archive(twin)
    fetch(twin, START, END)
    report = sample([region, twin], tmp_path / "p", replace(OPTIONS, patches=1000, max_overlap=0.99))
    alone = sample([region], tmp_path / "q", replace(OPTIONS, patches=1000, max_overlap=0.99))
    assert report.patches == alone.patches
    later = sample([twin], tmp_path / "q", replace(OPTIONS, patches=1000, max_overlap=0.99))
    assert (later.patches, later.new) == (alone.patches, 0)


def test_regions_of_unlike_cloud_rules_are_no_one_store(region: Region, tmp_path: Path) -> None:
    twin = load_region(tiny(tmp_path)).model_copy(update={"name": "twin", "cloud": Cloud(snow=True)})
    write_archive(twin)
    fetch(twin, START, END)
    with pytest.raises(InputError, match=r"tiny/33UVP has cloud.snow false, twin/33UVP has true"):
        sample([region, twin], tmp_path / "p", OPTIONS)
