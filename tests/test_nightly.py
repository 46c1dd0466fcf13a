"""A night without Prefect: from the watermark, safe to repeat, and every outcome told apart."""

import base64
import io
import os
import re
import shutil
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regions import END, START, TEXT, tiny, two_tiles, write_archive, write_region
from vsat.config import Region, load_region
from vsat.errors import AllCloudy, CatalogueDown, ExitCode, NoScenes, StoreError
from vsat.io.archive import withhold
from vsat.io.ledger import Ledger, Receipt, lease
from vsat.io.scenes import ledger_path
from vsat.stages.fetch import FAILED, FetchReport
from vsat.stages.generate import GenerateReport, Policy
from vsat.stages.nightly import generate_stage, is_finished, nightly, plan_night, up_to
from vsat.stages.report import RunReport, before_after, markdown, tile_date_table
from vsat.stages.status import region_status
from vsat.stages.verify import verify

FETCHED = FetchReport(("33UVP",), "", "", 0, 0, 0, 0, 0, 0, (), 1, 0, (), 0, None, 1)


def made(region: Region) -> GenerateReport:
    return GenerateReport(region.name, "", (), (), 0, ())


@pytest.fixture(scope="module")
def region_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("nightly"))


@pytest.fixture
def region(tmp_path: Path) -> Region:
    return load_region(write_region(tmp_path))


class Stages:
    """Stages that do nothing and remember for which days they were called."""

    def __init__(self, error: Exception | None = None) -> None:
        self.fetched: list[tuple[date, date]] = []
        self.generated: list[tuple[date, date, date]] = []
        self.error = error

    def fetch(self, region: Region, start: date, end: date) -> FetchReport:
        if self.error:
            raise self.error
        self.fetched.append((start, end))
        return FETCHED

    def generate(self, region: Region, start: date, end: date, day: date, policy: Policy) -> GenerateReport:
        assert policy == "missing"
        self.generated.append((start, end, day))
        return made(region)


def night(region: Region, day: date, error: Exception | None = None) -> Stages:
    stages = Stages(error)
    nightly(region, day, fetch=stages.fetch, generate=stages.generate)
    return stages


def test_a_night_works_from_the_watermark_less_the_look_back(region: Region) -> None:
    first = night(region, date(2023, 5, 20))
    assert first.fetched == [(START, date(2023, 5, 20))]
    assert first.generated == [(START, date(2023, 5, 20), date(2023, 5, 20))]
    assert night(region, date(2023, 5, 21)).fetched == [(date(2023, 5, 10), date(2023, 5, 21))]
    # three lost nights: what they would have fetched is fetched now
    assert night(region, date(2023, 5, 25)).fetched == [(date(2023, 5, 11), date(2023, 5, 25))]


def test_the_look_back_does_not_reach_before_the_period_nor_a_night_beyond_it(region: Region) -> None:
    night(region, START + timedelta(3))
    assert plan_night(region, START + timedelta(4)).fetch_from == START
    late = plan_night(region, END + timedelta(5))
    assert (late.fetch_to, late.generate_to, late.day) == (END, END, END + timedelta(5))


def test_long_after_the_period_nothing_is_fetched_but_images_become_final(region: Region) -> None:
    night(region, END + timedelta(30))
    after = night(region, END + timedelta(60))
    assert after.fetched == []
    assert after.generated == [(START, END, END + timedelta(60))]


def test_a_failed_scene_is_asked_for_again_until_its_images_are_final(region: Region) -> None:
    night(region, date(2023, 6, 20))
    with Ledger(ledger_path(region.home)) as ledger:
        ledger.record(Receipt(FAILED, "33UVP/2023-06-02/L30", "failed", facts={"reason": "torn"}))
    assert plan_night(region, date(2023, 6, 21)).fetch_from == date(2023, 6, 2)
    assert plan_night(region, date(2023, 7, 20)).fetch_from == date(2023, 6, 2)  # June's images become final that day
    assert plan_night(region, date(2023, 7, 21)).fetch_from == date(2023, 6, 10)


def test_an_older_night_leaves_the_watermark_and_is_known_to_be_finished(region: Region) -> None:
    night(region, date(2023, 6, 10))
    assert is_finished(region, date(2023, 6, 9))
    assert not is_finished(region, date(2023, 6, 10))
    again = night(region, date(2023, 5, 5))
    assert again.fetched == [(START, date(2023, 5, 5))]
    assert up_to(region) == date(2023, 6, 10)


@pytest.mark.parametrize(
    ("error", "words"),
    [(CatalogueDown("503"), "Catalogue down"), (NoScenes("none"), "No scenes"), (AllCloudy("white"), "All cloudy")],
)
def test_each_outcome_is_raised_and_reported_and_moves_no_watermark(
    region: Region, error: Exception, words: str
) -> None:
    with pytest.raises(type(error)):
        night(region, date(2023, 5, 20), error)
    text = (region.home / "reports" / "nightly-2023-05-20.md").read_text()
    assert words in text
    assert str(error) in text
    assert region_status(region)["up_to"] is None


def test_a_failed_scene_makes_the_exit_code_1_and_is_named_in_the_report(region: Region) -> None:
    torn = FetchReport(**{**vars(FETCHED), "failed": 1, "failures": (("33UVP/2023-05-02/L30", "torn"),)})
    report = nightly(region, START, fetch=lambda *_: torn, generate=lambda *_: made(region))
    assert report.exit_code == ExitCode.FAILED
    assert "| 33UVP/2023-05-02/L30 | torn |" in markdown(region, report)


def test_a_real_night_makes_images_and_repeating_it_changes_nothing(region_file: Path) -> None:
    region = load_region(region_file)
    assert region.catalogue.path is not None
    withhold(region.catalogue.path, date(2023, 6, 10))
    report = nightly(region, date(2023, 6, 10))
    assert report.fetch is not None
    assert report.generate is not None
    assert report.fetch.fetched > 8
    assert [key for key, _ in report.generate.images] == [
        f"33UVP/{day}" for day in ("2023-05-01", "2023-05-11", "2023-05-21", "2023-05-31", "2023-06-10")
    ]
    before = bytes_of(region)
    again = nightly(region, date(2023, 6, 10))
    assert (again.fetch and again.fetch.fetched, again.generate and again.generate.images) == (0, ())
    assert bytes_of(region) == before

    withhold(region.catalogue.path, None)
    later = nightly(region, END)
    assert later.fetch is not None
    assert later.fetch.fetched > 0
    assert later.fetch.start == "2023-05-31"  # the watermark less ten days
    assert "data:image/png;base64," in markdown(region, later)
    assert len(markdown(region, later)) < 200_000
    rows = tile_date_table(region)
    assert [row["date"] for row in rows] == sorted((row["date"] for row in rows), reverse=True)
    assert len(rows) == 7
    assert "observed" in rows[0]["33UVP"]
    assert region_status(region)["up_to"] == END.isoformat()


def bytes_of(region: Region) -> dict[str, bytes]:
    folders = [region.home / "cubes", region.home / "images"]
    return {str(path): path.read_bytes() for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()}


def test_verify_finds_what_is_missing_altered_and_nobodys(region_file: Path, tmp_path: Path) -> None:
    region = load_region(region_file)
    if not region.home.exists():
        nightly(region, END)
    shutil.copytree(region.home, tmp_path / "var" / "tiny")
    copy = load_region(shutil.copy(region_file, tmp_path / "tiny.yaml"))
    assert verify(copy).problems == ()
    objects = sorted(copy.home.glob("cubes/*/*/reflectance/c.*"))
    objects[0].unlink()
    objects[1].write_bytes(objects[1].read_bytes()[:-1] + b"!")
    stranger = objects[2].with_name("c.300.0.0.0.0")
    stranger.write_bytes(b"?")
    problems = verify(copy).problems
    assert [line.split(":")[0] for line in problems] == ["missing", "altered", "nobody's"]
    assert "c.300" in problems[2]
    assert before_after(copy, "33UVP/2023-06-10").startswith("data:image/png;base64,")


def test_a_status_of_a_region_never_worked_on_makes_no_ledger(region: Region) -> None:
    assert region_status(region)["images"] == {}
    assert verify(region).objects == 0
    assert not region.home.exists()


def test_a_report_survives_a_scene_that_cannot_be_shown(tmp_path: Path) -> None:
    region = load_region(write_region(tmp_path, end=date(2023, 5, 31)))
    write_archive(region, end=date(2023, 5, 31))
    report = nightly(region, date(2023, 5, 31))
    for path in region.home.glob("cubes/*/*/reflectance/c.*"):
        path.write_bytes(b"torn")
    assert "No picture: " in markdown(region, report)


@pytest.mark.parametrize("bands", [["nir"], ["blue", "red", "nir"]])
def test_a_night_of_a_region_with_some_bands_only_comes_to_its_end(tmp_path: Path, bands: list[str]) -> None:
    region = load_region(write_region(tmp_path, end=date(2023, 5, 12), text=f"{TEXT}bands: {bands}\n"))
    write_archive(region, end=date(2023, 5, 12))
    nightly(region, date(2023, 5, 12))
    assert up_to(region) == date(2023, 5, 12)
    report = (region.home / "reports" / "nightly-2023-05-12.md").read_text()
    (picture,) = re.findall(r"data:image/png;base64,([^)]+)", report)
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB"))
    tint = np.abs(shown[..., 0].astype(int) - shown[..., 2])
    assert (tint <= 6).all()  # no red, green and blue: one band in grey, and the grey of no value


def test_two_nights_on_one_region_take_turns(region: Region) -> None:
    with lease(region.home, "nightly"), pytest.raises(StoreError, match="nightly is already running"):
        night(region, END)
    assert up_to(region) is None and not (region.home / "reports").exists()


def test_the_outcome_in_one_line_has_the_numbers(region: Region) -> None:
    report = RunReport.of("nightly", "tiny", START, FETCHED, made(region))
    assert report.outcome == "done; 1 scenes fetched; 0 images made, 0 kept"


def test_two_runs_on_one_region_take_turns(region: Region) -> None:
    with lease(region.home, "generate"), pytest.raises(StoreError, match="already running"):
        generate_stage(region, START, END, END, "missing")


def test_a_tile_s_failure_leaves_the_others_their_images_and_is_made_good(tmp_path: Path) -> None:
    """One tile's cube lies on another grid: it cannot be fetched, its images are not touched, its watermark stays."""
    region = two_tiles(tmp_path)
    assert [grid.tile for grid in region.grids()] == ["33UVP", "33UWP"]
    nightly(region, date(2023, 5, 12))
    attributes = next(region.home.glob("cubes/33UWP/*.zarr")) / "zarr.json"
    sound = attributes.read_text()
    grid = region.grids()[1]
    assert f'"width": {grid.width}' in sound
    attributes.write_text(sound.replace(f'"width": {grid.width}', f'"width": {grid.width + 1}'))

    report = nightly(region, date(2023, 5, 31))
    assert report.exit_code == ExitCode.FAILED and "tiles left out: 33UWP" in report.outcome
    assert {key.split("/")[0] for key, _ in (report.generate and report.generate.images) or ()} == {"33UVP"}
    assert up_to(region) == date(2023, 5, 12)
    assert "| 33UWP | " in markdown(region, report)
    assert {row["33UWP"] for row in tile_date_table(region) if row["date"] > "2023-05-12"} == {"-"}

    attributes.write_text(sound)
    mended = nightly(region, date(2023, 5, 31))
    assert mended.exit_code == ExitCode.DONE and up_to(region) == date(2023, 5, 31)
    assert {key.split("/")[0] for key, _ in (mended.generate and mended.generate.images) or ()} == {"33UWP"}
    assert region_status(region)["images"] == {"provisional": 8}


def test_a_region_that_has_grown_by_a_tile_gets_that_tile_from_the_first_day(tmp_path: Path) -> None:
    region = two_tiles(tmp_path)
    nightly(region.model_copy(update={"tiles": ("33UVP",)}), date(2023, 5, 31))
    assert up_to(region) is None
    grown = nightly(region, date(2023, 5, 31))
    assert grown.fetch is not None and grown.fetch.start == START.isoformat()
    assert {key.split("/")[0] for key, _ in (grown.generate and grown.generate.images) or ()} == {"33UWP"}


def test_ten_lost_nights_cost_one_catch_up_and_give_what_ten_nights_give(region_file: Path, tmp_path: Path) -> None:
    shutil.copytree(region_file.parent / "archive", tmp_path / "a" / "archive")
    shutil.copytree(region_file.parent / "archive", tmp_path / "b" / "archive")
    each, lost = (load_region(write_region(tmp_path / name)) for name in "ab")
    days = [date(2023, 5, 31) + timedelta(i) for i in range(11)]
    for region, nights in ((each, days), (lost, [days[0], days[-1]])):
        assert region.catalogue.path is not None
        for day in nights:
            withhold(region.catalogue.path, day)
            report = nightly(region, day)
    assert report.fetch is not None and report.fetch.fetched >= 3
    assert bytes_of(each) == {name.replace("/b/", "/a/"): data for name, data in bytes_of(lost).items()}
    # the nights that were queued meanwhile
    assert all(is_finished(lost, day) for day in days[:-1])


def test_the_map_shows_the_newest_image_of_every_tile(tmp_path: Path) -> None:
    region = two_tiles(tmp_path)
    nightly(region, date(2023, 5, 31))
    page = (region.home / "images" / "map.html").read_text()
    shown = re.findall(r'<image href="([^"]+)" x="([\d.]+)" y="[\d.]+" width="([\d.]+)"', page)
    assert [href.split("/")[0] for href, _, _ in shown] == ["33UVP", "33UWP"]
    assert all((region.home / "images" / href).is_file() and "2023151" in href for href, _, _ in shown)
    (_, left, width), (_, right, _) = shown
    one, other = region.grids()
    apart = (other.x0 - one.x0) / (one.width * one.resolution_m)  # they lie side by side, a column of pixels in common
    assert float(left) == 0 and float(right) / float(width) == pytest.approx(apart, abs=0.01)
    assert page.count(">picture<") == 8


def test_what_killed_runs_left_beside_the_reports_is_swept_and_a_living_run_s_is_not(region: Region) -> None:
    reports = Path(str(region.home)) / "reports"
    reports.mkdir(parents=True)
    left, living = reports / "nightly-2023-05-01.md.1-1.partial", reports / "backfill-2023-05-01.md.2-2.partial"
    for path in (left, living):
        path.write_text("half")
    os.utime(left, (0, 0))
    night(region, START)
    assert not left.exists() and living.exists()
