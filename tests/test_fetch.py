"""Fetch: what the catalogue has comes into the cube once, revisions replace, failures are told and tried again."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest
from distributed import LocalCluster
from faulty import serving, status
from granules import GRID, NAME, files_of, granule_on
from granules import pixels as random_pixels
from pydantic import TypeAdapter

from regions import tiny
from vsat.config import Region, load_region
from vsat.core.mosaic import mosaic
from vsat.errors import AccessError, AllCloudy, InputError, NoScenes, StoreError
from vsat.hls import BANDS, FMASK_FILL, Fmask, GranuleId
from vsat.io import archive
from vsat.io.cube import ledger_path, open_cube, read_scenes, scene_keys
from vsat.io.ledger import Ledger, lease
from vsat.stages.fetch import (
    FetchJob,
    FetchPlan,
    FetchReport,
    fetch,
    fetch_one,
    finish_fetch,
    open_endpoint,
    plan_fetch,
)
from vsat.stages.pool import run_jobs

START, END = date(2023, 5, 1), date(2023, 5, 20)


@pytest.fixture(scope="module")
def region_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("made"))


@pytest.fixture
def region(region_file: Path, tmp_path: Path) -> Region:
    """A region with an archive of its own."""
    shutil.copytree(region_file.parent, tmp_path / "region")
    return load_region(tmp_path / "region" / region_file.name)


def folder_of(region: Region) -> Path:
    assert region.catalogue.path is not None
    return region.catalogue.path


def names(region: Region) -> list[str]:
    """Granules of the period in the archive."""
    parsed = [GranuleId.from_string(item["id"]) for item in archive.items(folder_of(region))]
    return [str(name) for name in sorted(parsed, key=lambda n: n.acquired) if START <= name.acquired.date() <= END]


def remove(region: Region, *granules: str) -> None:
    for name in granules:
        shutil.rmtree(next(folder_of(region).glob(f"*/{name}")))


def one_scene(region: Region) -> str:
    """Leave the clearest granule of the period in the archive, and return its name."""
    items = archive.items(folder_of(region))
    covers = {item["id"]: item["properties"]["eo:cloud_cover"] for item in items if item["id"] in names(region)}
    clearest = min(covers, key=lambda name: covers[name])
    remove(region, *(item["id"] for item in items if item["id"] != clearest))
    return clearest


def listed(region: Region) -> list[str]:
    with Ledger(ledger_path(region.home)) as ledger:
        return [receipt.key for receipt in ledger.all("scene")]


def objects(region: Region) -> list[Path]:
    return [path for array in ("reflectance", "fmask") for path in region.home.glob(f"cubes/*/*.zarr/{array}/c.*")]


def test_every_scene_of_the_period_comes_in_once(region: Region) -> None:
    told: list[tuple[int, int]] = []
    report = fetch(region, START, END, workers=3, progress=lambda done, of: told.append((done, of)))
    scenes = {str(GranuleId.from_string(name).scene): name for name in names(region)}
    assert len(scenes) >= 5
    assert listed(region) == sorted(scenes)
    assert told == [(at + 1, len(scenes)) for at in range(len(scenes))]
    assert (report.fetched, report.failed, report.scenes, report.already) == (len(scenes), 0, len(scenes), 0)
    assert report.bytes == sum(path.stat().st_size for path in objects(region))
    (grid,) = region.grids()
    with Ledger(ledger_path(region.home)) as ledger:
        keys = scene_keys(ledger, grid.tile)
        receipts = ledger.all("scene")
    refl_tbyx, fmask_tyx = read_scenes(region.home, grid, keys)
    for at, (key, receipt) in enumerate(zip(keys, receipts, strict=True)):
        refl_byx, fmask_yx = archive.pixels(folder_of(region), scenes[str(key)])
        np.testing.assert_array_equal(refl_tbyx[at], refl_byx)
        np.testing.assert_array_equal(fmask_tyx[at], fmask_yx)
        assert receipt.inputs == (scenes[str(key)],)
        assert receipt.facts["valid"] == pytest.approx(np.mean(fmask_yx != FMASK_FILL), abs=1e-6)
        assert receipt.facts["acquired"] == GranuleId.from_string(scenes[str(key)]).acquired.isoformat()
    assert open_cube(region).sizes["time"] == len(scenes)

    before = {path: path.stat().st_mtime_ns for path in region.home.rglob("c.*")}
    again = fetch(region, START, END)
    assert (again.fetched, again.already, again.clear) == (0, len(scenes), None)
    assert {path: path.stat().st_mtime_ns for path in region.home.rglob("c.*")} == before


def test_revised_granule_replaces_its_scene(region: Region) -> None:
    name = one_scene(region)
    fetch(region, START, END)
    refl_byx, fmask_yx = archive.pixels(folder_of(region), name)
    archive.revise(folder_of(region), name, refl_byx + np.int16(5), fmask_yx, updated=datetime(2030, 1, 1, tzinfo=UTC))
    report = fetch(region, START, END)
    assert (report.fetched, report.revised, report.already, report.scenes) == (1, 1, 0, 1)
    np.testing.assert_array_equal(open_cube(region)["reflectance"][0], refl_byx + np.int16(5))


def test_failed_scene_is_told_and_tried_again(region: Region) -> None:
    name = one_scene(region)
    path = next(folder_of(region).glob(f"*/{name}/{name}.B04.tif"))
    sound = path.read_bytes()
    path.write_bytes(sound[: len(sound) // 2])
    report = fetch(region, START, END)
    ((key, reason),) = report.failures
    assert (report.fetched, report.failed, report.scenes) == (0, 1, 0)
    assert key == str(GranuleId.from_string(name).scene) and name in reason and "red" in reason
    assert listed(region) == []
    path.write_bytes(sound)
    assert fetch(region, START, END).fetched == 1
    with Ledger(ledger_path(region.home)) as ledger:
        assert ledger.all("scene-failed") == []


def test_failed_revision_keeps_the_older_scene(region: Region) -> None:
    name = one_scene(region)
    fetch(region, START, END)
    refl_byx, fmask_yx = archive.pixels(folder_of(region), name)
    archive.revise(folder_of(region), name, refl_byx + np.int16(5), fmask_yx, updated=datetime(2030, 1, 1, tzinfo=UTC))
    next(folder_of(region).glob(f"*/{name}/*.Fmask.tif")).write_bytes(b"<html>")
    report = fetch(region, START, END)
    assert (report.failed, report.revised, report.scenes) == (1, 1, 1)
    np.testing.assert_array_equal(open_cube(region)["reflectance"][0], refl_byx)


def test_lost_object_is_fetched_again(region: Region) -> None:
    fetch(region, START, END)
    lost = next(region.home.glob("cubes/*/*.zarr/fmask/c.*"))
    content = lost.read_bytes()
    lost.unlink()
    report = fetch(region, START, END)
    assert (report.fetched, report.revised) == (1, 0)
    assert lost.read_bytes() == content


def test_what_is_left_out_is_counted(region: Region) -> None:
    items = {item["id"]: item for item in archive.items(folder_of(region)) if item["id"] in names(region)}
    bare, *others = items
    path = next(folder_of(region).glob(f"*/{bare}/{bare}_stac.json"))
    del items[bare]["assets"]["Fmask"]
    path.write_text(json.dumps(items[bare]))
    covers = sorted(items[name]["properties"]["eo:cloud_cover"] for name in others)
    limit = float(covers[len(covers) // 2])
    cloudy = sum(cover > limit for cover in covers)
    assert cloudy
    report = fetch(
        region.model_copy(update={"cloud": region.cloud.model_copy(update={"max_cover": limit})}), START, END
    )
    assert (report.unusable, report.cloudy, report.fetched) == (1, cloudy, len(others) - cloudy)
    assert report.reasons == ((bare, "without Fmask"),)


def test_no_scenes_and_all_cloudy_differ(region: Region) -> None:
    with pytest.raises(NoScenes, match="no scene"):
        fetch(region, date(2010, 1, 1), date(2010, 1, 31))
    name = one_scene(region)
    refl_byx, fmask_yx = archive.pixels(folder_of(region), name)
    cloud_yx = np.full_like(fmask_yx, Fmask.CLOUD)
    archive.revise(folder_of(region), name, refl_byx, cloud_yx, updated=datetime(2030, 1, 1, tzinfo=UTC))
    strict = region.model_copy(update={"cloud": region.cloud.model_copy(update={"max_cover": 50.0})})
    with pytest.raises(AllCloudy, match="cloudier than 50"):
        fetch(strict, START, END)
    with pytest.raises(AllCloudy, match="none of 1 scenes"):
        fetch(region, START, END)
    archive.revise(folder_of(region), name, refl_byx, fmask_yx, updated=datetime(2031, 1, 1, tzinfo=UTC))
    assert fetch(region, START, END).fetched == 1
    assert fetch(region, date(2010, 1, 1), date(2010, 1, 31)).scenes == 1  # a night without new scenes is no failure
    with pytest.raises(InputError):
        fetch(
            region.model_copy(update={"catalogue": region.catalogue.model_copy(update={"path": region.home})}),
            START,
            END,
        )


def test_one_fetch_at_a_time_and_one_grid(region: Region) -> None:
    with lease(region.home, "fetch"), pytest.raises(StoreError, match="already running"):
        fetch(region, START, END)
    fetch(region, START, END)
    moved = region.model_copy(update={"area": region.area.model_copy(update={"bbox": (14.2, 48.1, 14.215, 48.1077)})})
    with pytest.raises(StoreError, match="grid"):
        fetch(moved, START, END)


def test_jobs_and_reports_are_plain_values(region: Region) -> None:
    with open_endpoint(region) as endpoint:
        plan = plan_fetch(region, endpoint, START, END)
        assert not list(region.home.rglob("c.*"))
        told = TypeAdapter(FetchPlan).dump_json(plan)
        assert TypeAdapter(FetchPlan).validate_json(told) == plan
        receipts = [fetch_one(job) for job in plan.jobs]
        assert receipts == [fetch_one(job) for job in plan.jobs]  # safe to repeat
        report = finish_fetch(region, plan, receipts)
    assert TypeAdapter(FetchReport).validate_json(json.dumps(asdict(report))) == report


def test_cluster_gives_what_threads_give(region: Region, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = fetch(region, START, END)
    there = region.model_copy(update={"store": tmp_path / "other"})
    options = {"processes": False, "dashboard_address": "127.0.0.1:0", "protocol": "tcp", "host": "127.0.0.1"}
    told: list[int] = []
    with LocalCluster(n_workers=1, threads_per_worker=2, **options) as cluster:
        monkeypatch.setenv("VSAT_DASK_SCHEDULER", cluster.scheduler_address)
        assert fetch(there, START, END, progress=lambda done, of: told.append(done)) == here
    assert told == list(range(1, here.fetched + 1))
    ours = {path.relative_to(region.home): path.read_bytes() for path in region.home.rglob("c.*")}
    assert {path.relative_to(there.home): path.read_bytes() for path in there.home.rglob("c.*")} == ours


def test_pool_keeps_the_order_and_stops_at_an_error() -> None:
    assert run_jobs(abs, [-3, 2, -1], workers=2) == [3, 2, 1]
    assert run_jobs(abs, range(-50, 0), workers=7) == list(range(50, 0, -1))
    assert run_jobs(abs, [], workers=2) == []
    begun = []

    def fail(job: int) -> None:
        begun.append(job)
        if job == 5:
            raise StoreError("full")

    with pytest.raises(StoreError, match="full"):
        run_jobs(fail, range(1000), workers=1)
    assert begun == list(range(6))


# --- one job, against a server of ours

SECOND = "HLS.L30.T33UVP.2024123T100625.v2.0"


@pytest.fixture
def served() -> Iterator[tuple[object, dict[str, dict[str, np.ndarray]]]]:
    looks = {NAME: random_pixels(GRID.shape, 1), SECOND: random_pixels(GRID.shape, 2)}
    files = {path: data for name, look in looks.items() for path, data in files_of(look, GRID, name).items()}
    with serving(files) as server:
        yield server, looks


def job_on(server: object, home: Path, *granules: str) -> FetchJob:
    key = str(GranuleId.from_string(NAME).scene)
    found = tuple(granule_on(server, name) for name in granules)  # type: ignore[arg-type]
    return FetchJob(home, GRID, server.endpoint(), key, found, "signature")  # type: ignore[attr-defined]


def test_granules_of_a_day_become_one_scene(
    served: tuple[object, dict[str, dict[str, np.ndarray]]], tmp_path: Path
) -> None:
    server, looks = served
    receipt = fetch_one(job_on(server, tmp_path, NAME, SECOND))
    parts = [(np.stack([look[band] for band in BANDS]), look["fmask"]) for look in looks.values()]
    refl_byx, fmask_yx = mosaic(parts)
    assert not np.array_equal(refl_byx, parts[0][0])
    refl_tbyx, fmask_tyx = read_scenes(tmp_path, GRID, [GranuleId.from_string(NAME).scene])
    np.testing.assert_array_equal(refl_tbyx[0], refl_byx)
    np.testing.assert_array_equal(fmask_tyx[0], fmask_yx)
    assert receipt.inputs == (NAME, SECOND) and receipt.facts["granules"] == 2


def test_one_failed_granule_fails_the_scene(
    served: tuple[object, dict[str, dict[str, np.ndarray]]], tmp_path: Path
) -> None:
    server, _ = served
    server.always(f"/data/{SECOND}/{SECOND}.B05.tif", status(404))  # type: ignore[attr-defined]
    receipt = fetch_one(job_on(server, tmp_path, NAME, SECOND))
    assert (receipt.kind, receipt.status) == ("scene-failed", "failed")
    assert "404" in str(receipt.facts["reason"]) and "nir" in str(receipt.facts["reason"])
    assert not list(tmp_path.rglob("c.*"))


def test_refused_credentials_stop_the_fetch(
    served: tuple[object, dict[str, dict[str, np.ndarray]]], tmp_path: Path
) -> None:
    server, _ = served
    server.always(f"/data/{NAME}/{NAME}.B04.tif", status(401))  # type: ignore[attr-defined]
    with pytest.raises(AccessError):
        fetch_one(job_on(server, tmp_path, NAME))


def test_cloud_options_decide_what_counts_as_clear(
    served: tuple[object, dict[str, dict[str, np.ndarray]]], tmp_path: Path
) -> None:
    server, looks = served
    looks[NAME]["fmask"][:] = Fmask.SNOW
    server.state.files |= files_of(looks[NAME], GRID, NAME)  # type: ignore[attr-defined]
    job = job_on(server, tmp_path, NAME)
    assert fetch_one(job).facts["clear"] == 0
    assert fetch_one(replace(job, snow=True)).facts["clear"] == pytest.approx(
        1 - 3 / GRID.height / GRID.width, abs=1e-6
    )
