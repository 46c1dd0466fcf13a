"""The flows on Prefect's own test server: states, exit codes, artifacts, retries. One server for the session."""

import json
import os
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from faulty import serving

from regions import END, START, TEXT, tiny, write_archive, write_region
from vsat.config import load_region
from vsat.errors import AccessError, CatalogueDown, ExitCode, InputError, ReadError
from vsat.hls import GranuleId
from vsat.io.archive import withhold
from vsat.stages.status import region_status

pytestmark = [pytest.mark.flow, pytest.mark.slow]


@pytest.fixture(scope="module", autouse=True)
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Prefect with a home of its own: nothing of this person's is read or written."""
    patch = pytest.MonkeyPatch()
    for name in list(os.environ):
        if name.startswith("PREFECT_"):
            patch.delenv(name)
    patch.setenv("PREFECT_HOME", str(tmp_path_factory.mktemp("prefect")))
    patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    patch.setenv("DO_NOT_TRACK", "1")
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=120):
        yield
    patch.undo()


@pytest.fixture(scope="module")
def region_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny(tmp_path_factory.mktemp("flows"))


def artifacts(key: str) -> list[Any]:
    """Artifacts of a key, newest first."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
    from prefect.client.schemas.sorting import ArtifactSort

    with get_client(sync_client=True) as client:
        wanted = ArtifactFilter(key=ArtifactFilterKey(any_=[key]))
        return client.read_artifacts(artifact_filter=wanted, sort=ArtifactSort.CREATED_DESC)


def test_a_night_ends_completed_with_report_table_and_progress(region_file: Path) -> None:
    from flows.nightly import nightly
    from flows.settings import exit_code

    state = nightly(str(region_file), END, return_state=True)
    assert (state.name, exit_code(state)) == ("Completed", ExitCode.DONE)
    assert "7 images made" in str(state.message)
    assert run_of(state).name == "nightly tiny 2023-06-30"
    report = artifacts("tiny-nightly-report")[0].data
    assert "data:image/png;base64," in report
    assert len(report) < 200_000
    assert "2023-06-30" in str(artifacts("tiny-images")[0].data)
    assert {artifact.data for artifact in artifacts("tiny-progress")} == {100.0}


def test_a_night_on_a_dask_cluster_is_the_same_night(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from distributed import LocalCluster

    from flows.generate import generate
    from flows.nightly import nightly

    file = tiny(tmp_path)
    options: dict[str, Any] = {"processes": False, "dashboard_address": "127.0.0.1:0", "protocol": "tcp"}
    with LocalCluster(n_workers=1, threads_per_worker=2, host="127.0.0.1", **options) as cluster:
        monkeypatch.setenv("VSAT_DASK_SCHEDULER", cluster.scheduler_address)
        state = nightly(str(file), END, return_state=True)
        done = {str(one[0]).rpartition("-")[0] for one in cluster.scheduler.transition_log}
    assert state.name == "Completed" and "7 images made" in str(state.message)
    assert done == {"fetch_one", "generate_one"}

    monkeypatch.setattr("vsat.stages.cluster.CONNECT_S", 1.0)  # the cluster is gone
    state = generate(str(file), START, END, END, "replace", return_state=True)
    assert (state.name, state.type.value) == ("WorkFailed", "FAILED")
    assert "no Dask scheduler" in str(artifacts("tiny-generate-report")[0].data)


def run_of(state: Any) -> Any:
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        return client.read_flow_run(state.state_details.flow_run_id)


def test_a_late_run_behind_a_later_night_has_nothing_to_do(region_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import flows.nightly as module

    assert module.nightly(str(region_file), END, return_state=True).name == "Completed"
    monkeypatch.setattr(module, "run_day", lambda: date(2023, 6, 29))
    state = module.nightly(str(region_file), return_state=True)
    assert state.name == "NothingToDo"
    assert state.is_completed()


def test_the_first_of_late_runs_stands_for_today(region_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten nights are queued: the first does the work of all, the others find nothing to do, however often one comes."""
    import flows.nightly as module

    monkeypatch.setattr(module, "today", lambda: date(2023, 7, 9))
    names = []
    for day in range(9):
        monkeypatch.setattr(module, "run_day", lambda day=day: date(2023, 6, 30) + timedelta(day))
        names.append(module.nightly(str(region_file), return_state=True).name)
    assert names == ["Completed", *["NothingToDo"] * 8]
    assert region_status(load_region(region_file))["up_to"] == "2023-07-09"


def test_fetch_then_generate_then_backfill(tmp_path: Path) -> None:
    from flows.backfill import backfill
    from flows.fetch import fetch
    from flows.generate import generate

    file = tiny(tmp_path)
    state = fetch(str(file), START, date(2023, 5, 20), return_state=True)
    assert state.name == "Completed"
    scenes = sum(region_status(load_region(file))["scenes"].values())
    assert f"{scenes} scenes fetched" in str(state.message)
    assert generate(str(file), START, date(2023, 5, 12), END, "skip", return_state=True).name == "Completed"
    assert sum(region_status(load_region(file))["images"].values()) == 2
    asked: Any = {"start": "2023-05-01", "end": "2023-06-30"}  # as a form or a command line gives it
    state = backfill(str(file), asked | {"dry_run": True}, return_state=True)
    assert (state.name, run_of(state).name) == ("Completed", "backfill tiny 2023-05-01 2023-06-30 dry run")
    assert "7 to make by linear, 0 stay as they are" in artifacts("tiny-backfill-estimate")[0].data
    assert sum(region_status(load_region(file))["images"].values()) == 2
    state = backfill(str(file), asked, return_state=True)
    assert (state.name, run_of(state).name) == ("Completed", "backfill tiny 2023-05-01 2023-06-30")
    assert region_status(load_region(file))["images"] == {"final": 7}
    assert artifacts("tiny-backfill-progress")[0].data == 100.0
    (table,) = artifacts("tiny-backfill-months")
    assert [row["month"] for row in json.loads(table.data)] == ["2023-05", "2023-06"]
    assert "images done (4, " in json.loads(table.data)[0]["33UVP"]


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"start": "2023-06-01", "end": "2023-05-01"}, "the first day (2023-06-01) is after the last (2023-05-01)"),
        ({"start": "2023-05-01", "end": "2023-06-01", "method": "magic"}, "'magic' is no method"),
    ],
)
def test_a_form_that_makes_no_sense_ends_in_words(region_file: Path, asked: Any, told: str) -> None:
    from flows.backfill import backfill

    state = backfill(str(region_file), asked, return_state=True)
    assert state.is_failed() and told in str(state.message)


def test_a_server_that_is_away_costs_no_work(caplog: pytest.LogCaptureFixture) -> None:
    import httpx

    from flows.settings import shown_or_not

    with shown_or_not():
        raise httpx.ConnectError("refused")
    assert "an artifact was not updated: refused" in caplog.text


def test_no_scenes_and_all_cloudy_are_answers_and_a_dead_catalogue_is_a_failure(tmp_path: Path) -> None:
    from flows.nightly import nightly
    from flows.settings import exit_code

    empty = write_region(tmp_path / "a", "empty")
    write_archive(load_region(empty))
    withhold(tmp_path / "a" / "archive", date(2023, 1, 1))
    state = nightly(str(empty), END, return_state=True)
    assert (state.name, state.type.value, exit_code(state)) == ("NoScenes", "COMPLETED", ExitCode.NO_SCENES)
    assert "No scenes" in artifacts("empty-nightly-report")[0].data

    white = write_region(tmp_path / "b", "white", text=TEXT + "cloud: {{max_cover: 0}}\n", end=date(2023, 5, 20))
    write_archive(load_region(white), end=date(2023, 5, 20))
    state = nightly(str(white), END, return_state=True)
    assert (state.name, state.type.value, exit_code(state)) == ("AllCloudy", "COMPLETED", ExitCode.ALL_CLOUDY)

    with serving() as server:  # every answer is 404
        text = TEXT.replace("kind: archive, path: archive", f"kind: stac, url: '{server.url}'")
        dead = write_region(tmp_path / "c", "dead", text=text)
        state = nightly(str(dead), END, return_state=True)
    assert (state.name, state.type.value, exit_code(state)) == ("CatalogueDown", "FAILED", ExitCode.CATALOGUE_DOWN)
    assert "Catalogue down" in artifacts("dead-nightly-report")[0].data


def test_a_damaged_scene_is_work_that_failed_and_the_rest_is_done(tmp_path: Path) -> None:
    from flows.nightly import nightly
    from flows.settings import exit_code

    file = tiny(tmp_path)
    torn = sorted(tmp_path.glob("archive/HLSS30_2.0/*/*.B04.tif"))[3]
    torn.write_bytes(torn.read_bytes()[:200])
    state = nightly(str(file), END, return_state=True)
    assert (state.name, state.type.value, exit_code(state)) == ("WorkFailed", "FAILED", ExitCode.FAILED)
    key = GranuleId.from_string(torn.name.removesuffix(".B04.tif")).scene
    assert f"| {key} |" in artifacts("tiny-nightly-report")[0].data
    assert sum(region_status(load_region(file))["images"].values()) == 7


def test_a_task_that_breaks_down_leaves_the_other_months_their_images(
    region_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that nobody foresaw, in one job: the run fails and says which dates, the others are made and listed."""
    import flows.generate as module
    from flows.nightly import nightly
    from flows.settings import coarse

    file = tiny(tmp_path)

    def one(job: Any) -> Any:
        if job.dates[0].day.startswith("2023-06"):
            raise RuntimeError("out of the blue")
        return module.generate_one(job)

    with monkeypatch.context() as patch:
        patch.setattr(module, "make_images", coarse(one, name="make images"))
        state = nightly(str(file), END, return_state=True)
    assert (state.name, state.type.value) == ("WorkFailed", "FAILED")
    report = artifacts("tiny-nightly-report")[0].data
    assert "| 33UVP/2023-06-10 | RuntimeError: out of the blue |" in report and "4 final" in report
    region = load_region(file)
    listed = (region.home / "images" / "33UVP" / "collection.json").read_text()
    assert listed.count('"rel": "item"') == 4 == sum(region_status(region)["images"].values())
    assert nightly(str(file), END, return_state=True).name == "Completed"
    assert sum(region_status(region)["images"].values()) == 7
    link = artifacts("tiny-map")[0].data
    assert (region.home / "images" / "map.html").as_uri() in link


def test_the_map_s_link_leads_to_the_viewer_where_there_is_one(
    region_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.settings import map_of

    monkeypatch.setenv("VSAT_VIEWER_URL", "http://127.0.0.1:8000/")
    assert map_of(load_region(region_file)) == ("http://127.0.0.1:8000/?region=tiny", "map of tiny")
    monkeypatch.setenv("VSAT_VIEWER_URL", "https://me:hush@maps.example")
    assert map_of(load_region(region_file)) == ("https://maps.example/?region=tiny", "map of tiny")


def test_a_region_that_cannot_be_used_is_bad_input(tmp_path: Path) -> None:
    from flows.nightly import nightly
    from flows.settings import exit_code

    state = nightly(str(tmp_path / "absent.yaml"), END, return_state=True)
    assert state.is_failed()
    assert exit_code(state) == ExitCode.BAD_INPUT


@pytest.mark.parametrize(
    ("error", "calls"),
    [(ReadError("reset"), 3), (CatalogueDown("503"), 3), (AccessError("401"), 1), (InputError("?"), 1)],
)
def test_retries_where_they_help(error: Exception, calls: int) -> None:
    from prefect import flow

    from flows.settings import coarse

    seen: list[int] = []

    def one(job: int) -> int:
        seen.append(job)
        raise error

    task = coarse(one, name="one", retries=2).with_options(retry_delay_seconds=0, retry_jitter_factor=None)
    state = flow(lambda: task([1]), name="try")(return_state=True)
    assert state.is_failed()
    assert len(seen) == calls


@pytest.mark.parametrize(
    ("jobs", "most", "sizes"), [(0, 4, []), (3, 4, [1, 1, 1]), (9, 4, [3, 3, 3]), (41, 40, [2] * 20 + [1])]
)
def test_few_coarse_tasks(jobs: int, most: int, sizes: list[int]) -> None:
    from flows.settings import batches

    groups = batches(range(jobs), most)
    assert [len(group) for group in groups] == sizes
    assert [job for group in groups for job in group] == list(range(jobs))


def test_patches_are_drawn_by_a_flow_and_shown(region_file: Path, tmp_path: Path) -> None:
    from flows.fetch import fetch
    from flows.sample import sample
    from flows.settings import exit_code

    fetch(str(region_file), START, END, return_state=True)
    out = tmp_path / "patches"
    given: dict[str, Any] = {"patches": 6, "size_px": 8, "days": 40, "step_days": 10}
    state = sample([str(region_file)], str(out), **given, return_state=True)
    assert (state.name, exit_code(state)) == ("Completed", ExitCode.DONE)
    text = artifacts("tiny-sample-report")[0].data
    assert "# Patches: 6" in text and "data:image/svg+xml" in text and len(text) < 200_000
    state = sample([str(region_file)], str(out), **given | {"patches": 7}, return_state=True)
    assert state.name == "BadInput" and "patches 6, not 7" in (state.message or "")


def test_a_judge_s_verdict_is_an_artifact(tmp_path: Path) -> None:
    import xarray as xr
    from test_protocols import cube

    from flows.evaluate import evaluate
    from flows.settings import exit_code

    refl, clear, day = cube(looks=30, shape=(12, 12))
    made = xr.Dataset(
        {
            "reflectance": (("time", "band", "y", "x"), refl, {"scale_factor": 1e-4, "_FillValue": -9999}),
            "fmask": (("time", "y", "x"), (~clear * 2).astype("u1")),
        },
        coords={
            "time": day.astype("datetime64[D]").astype("datetime64[ns]"),
            "band": ["blue", "green", "red", "nir", "swir1", "swir2"], "y": range(12, 0, -1), "x": range(12),
        },
    )  # fmt: skip
    made.to_netcdf(tmp_path / "field.nc")
    out = tmp_path / "judge"
    state = evaluate([str(tmp_path / "field.nc")], str(out), protocols=["dates"], folds=1, return_state=True)
    assert (state.name, exit_code(state)) == ("Completed", ExitCode.DONE)
    assert (out / "verdict.json").exists() and "<h1>" in (out / "verdict.html").read_text()
    assert "| field | dates | anydate |" in artifacts("field-judge")[0].data
    state = evaluate([str(tmp_path / "none.nc")], str(out), return_state=True)
    assert state.name == "BadInput"


def test_training_is_a_flow_with_its_card(tmp_path: Path) -> None:
    """In a process of its own, as on a GPU machine; two steps from random weights."""
    from flows.train import Pace, command, train

    out = tmp_path / "model"
    pace = Pace(steps=2, batch=2, optimizer="adamw", held_out=6)
    state = train(str(out), init=None, pace=pace, return_state=True)
    assert state.is_completed() and state.name == "Completed", state.message
    assert "2 steps" in artifacts("train-card")[0].data and (out / "model.safetensors").is_file()
    failed = train(str(out), init=None, pace=pace.model_copy(update={"batch": 3}), return_state=True)
    assert failed.name == "BadInput" and "batch was 2 and is 3" in str(failed.message)
    assert command(["--out", "x"], processes=2)[1:4] == ["-m", "torch.distributed.run", "--standalone"]


def test_automations_are_put_once_and_people_are_told_where_a_block_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.blocks.notifications import SlackWebhook
    from prefect.client.orchestration import get_client

    from flows.automations import automate

    def held() -> dict[str, Any]:
        with get_client(sync_client=True) as client:
            return {one.name: one for one in client.read_automations()}

    automate()
    automate()
    first = held()
    assert set(first) == {f"vsat: {n}" for n in ("no heartbeat", "stuck pending", "night missing", "night failed")}
    automate(pending_within=timedelta(minutes=3))
    assert held()["vsat: stuck pending"].id == first["vsat: stuck pending"].id
    assert held()["vsat: stuck pending"].trigger.within == timedelta(minutes=3)

    monkeypatch.setenv("VSAT_NOTIFY_BLOCK", "slack-webhook/ops")
    with pytest.raises(InputError, match="no block 'slack-webhook/ops'"):
        automate()
    SlackWebhook(url="http://127.0.0.1:9/never").save("ops")
    automate()
    told = held()["vsat: tell people"]
    (action,) = told.actions
    assert action.type == "send-notification"
    assert {f"prefect.flow-run.{name}" for name in ("WorkFailed", "AccessRefused", "DiskFull", "Crashed")} <= set(
        told.trigger.expect
    )
    assert "prefect.flow-run.AllCloudy" not in told.trigger.expect


def test_retraining_is_a_flow_that_says_promoted_or_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trained by a process of its own for two steps from a checkpoint that is far off; the judge is the real one."""
    import torch
    from checkpoints import write_checkpoint
    from test_retrain import DRAWN, wide

    from flows.retrain import retrain
    from flows.train import Pace
    from vsat.stages.promotion import folder_of_models, promote, read_pointer
    from vsat.stages.sample import sample

    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # for models of this size more are slower
    torch.set_num_threads(1)
    region = wide(tmp_path)
    models = folder_of_models(region.home)
    sample([region], models / "patches", DRAWN)  # retraining goes on with the options of the store
    write_checkpoint(models / "start", noise=1.0)
    promote(region.home, "start", START, reason="to begin with")
    given: dict[str, Any] = {"pace": Pace(steps=2, batch=2, optimizer="adamw", held_out=6), "folds": 1}
    state = retrain(str(tmp_path / "tiny.yaml"), END, **given, return_state=True)
    assert state.is_completed() and state.name == "Completed", state.message
    promoted = read_pointer(region.home).current == str(END)
    assert str(state.message).startswith(
        f"promoted {END}: better" if promoted else "kept start: the new one is not better"
    )
    shown = artifacts("tiny-retrain-report")[0]
    assert shown.description == state.message and "| dates |" in shown.data
    again = retrain(str(tmp_path / "tiny.yaml"), END, **given, return_state=True)
    assert again.message == state.message
