"""Stages on a Dask cluster: the same bytes as one thread, deaths of workers, and everything that can be wrong with it."""

import logging
import os
import pickle
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from cluster_jobs import Held, end_worker, hold, load, loads, process, refuse
from clusters import Cluster, cluster
from distributed import Client, LocalCluster
from test_bucket_pipeline import products

from regions import END, START, tiny
from vsat.config import Region, load_region
from vsat.core.grid import TileGrid
from vsat.errors import AccessError, ClusterDown, VsatError
from vsat.hls import FILES
from vsat.io.catalog import Granule, endpoint_for
from vsat.io.patches import PatchLayout
from vsat.objects import ObjectPath
from vsat.stages import cluster as module
from vsat.stages.cluster import Order, do, versions
from vsat.stages.fetch import FetchJob, fetch, fetch_one
from vsat.stages.generate import DateJob, GenerateJob, generate, generate_one
from vsat.stages.pool import run_jobs
from vsat.stages.sample import SampleOptions, sample
from vsat.stages.shards import PatchSpec, sample_one, shard_job
from vsat.stages.survey import Place, SurveyJob, light, survey_one

pytestmark = [pytest.mark.slow, pytest.mark.timeout(280)]
MOST_BYTES = 100_000  # of a job, or of a result, on its way through the scheduler
SECRET = "eyJ0eXAiOiJKV1Qi-not-for-others"


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("two"), threads=2, EARTHDATA_TOKEN=SECRET) as made:
        yield made


@pytest.fixture
def on_two(two: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    while sum(worker.poll() is None for worker in two.workers) < 2:
        two.add_worker(threads=2)
    with Client(two.address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=120)
    monkeypatch.setenv("VSAT_DASK_SCHEDULER", two.address)
    return two


def made(region: Region, out: Path) -> dict[str, bytes]:
    """Scenes, images and patches of a region; every file but the ledgers, by its path."""
    fetched = fetch(region, START, END, workers=1)
    images = generate(region, START, END, END + timedelta(60), workers=1)
    drawn = sample([region], out, SampleOptions(patches=6, size_px=8, days=40, step_days=10), workers=1)
    assert (fetched.failed, images.failed, drawn.patches) == (0, (), 6)
    assert fetched.fetched == 19 and len(images.images) == 7
    found = {}
    for folder in (region.home / "cubes", region.home / "images", out):
        files = [path for path in sorted(folder.rglob("*")) if path.is_file() and "ledger" not in path.name]
        found |= {f"{folder.name}/{path.relative_to(folder)}": path.read_bytes() for path in files}
    return found


def test_two_processes_write_the_bytes_of_one_thread(
    on_two: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    region = load_region(tiny(tmp_path))
    there = made(region, tmp_path / "patches")
    assert not list(tmp_path.rglob(".seen-*"))
    shutil.rmtree(region.home)  # the same places again: reports and surveys name them
    shutil.rmtree(tmp_path / "patches")
    monkeypatch.delenv("VSAT_DASK_SCHEDULER")
    here = made(region, tmp_path / "patches")
    assert sum(name.startswith("images/") and name.endswith(".tif") for name in here) > 50
    assert sorted(there) == sorted(here)
    assert [name for name in here if there[name] != here[name]] == []


@pytest.mark.integration
def test_two_processes_fill_a_bucket_by_the_model_as_one_thread_fills_a_folder(
    bucket: ObjectPath, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    region = load_region(tiny(tmp_path)).model_copy(update={"method": "anydate"})
    last = START + timedelta(25)
    fetch(region, START, END, workers=1)
    images = generate(region, START, last, END + timedelta(60), workers=1)
    assert len(images.images) == 3
    with cluster(tmp_path / "cluster") as two:
        monkeypatch.setenv("VSAT_DASK_SCHEDULER", two.address)
        there = region.model_copy(update={"store": bucket})
        fetch(there, START, END)
        assert len(generate(there, START, last, END + timedelta(60)).images) == 3
        with Client(two.address, set_as_default=False) as client:
            assert len(client.scheduler_info()["workers"]) == 2
    assert products(there.home) == products(region.home)


def test_a_worker_loads_the_model_once_for_all_its_threads(on_two: Cluster) -> None:
    found = run_jobs(load, range(12))
    alive = {worker.pid for worker in on_two.workers if worker.poll() is None}
    assert {pid for pid, _, _ in found} == alive and len({thread for _, thread, _ in found}) > 2
    with Client(on_two.address, set_as_default=False) as client:
        assert list(client.run(loads).values()) == [1, 1]
    assert {cores for _, _, cores in found} == {max(1, len(os.sched_getaffinity(0)) // 4)}  # four threads share them


def test_results_come_in_order_with_the_log_lines_of_the_workers(
    on_two: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[tuple[int, int]] = []
    with caplog.at_level(logging.INFO, "vsat"):
        found = run_jobs(process, range(40), progress=lambda done, of: told.append((done, of)))
    assert set(found) == {worker.pid for worker in on_two.workers if worker.poll() is None}
    assert told == [(n, 40) for n in range(1, 41)]
    assert sorted(record.getMessage() for record in caplog.records if record.name == "vsat.tests") == sorted(
        f"job {n}" for n in range(40)
    )
    assert run_jobs(abs, range(-50, 0)) == list(range(50, 0, -1))


def test_an_error_of_a_job_is_the_same_as_on_threads(on_two: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = []
    for _ in range(2):
        with pytest.raises(AccessError) as caught:
            run_jobs(refuse, range(100), workers=1)
        errors.append((type(caught.value), str(caught.value), caught.value.exit_code))
        monkeypatch.delenv("VSAT_DASK_SCHEDULER", raising=False)
    assert errors[0] == errors[1]


@pytest.mark.fault
def test_the_jobs_of_a_killed_worker_are_done_by_the_other(on_two: Cluster, tmp_path: Path) -> None:
    alive = {worker.pid: worker for worker in on_two.workers if worker.poll() is None}
    jobs = [Held(tmp_path, number) for number in range(6)]
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(run_jobs, hold, jobs)
        begun = _until(lambda: _begun(tmp_path) if len({pid for _, pid in _begun(tmp_path)}) == 2 else None)
        killed = begun[0][1]
        lost = [number for number, pid in _begun(tmp_path) if pid == killed]
        os.kill(killed, signal.SIGKILL)
        alive[killed].wait(30)
        (tmp_path / "go").touch()
        done = running.result(180)
    (other,) = set(alive) - {killed}
    assert done == [(number, other) for number in range(6)]
    starts = [number for number, _ in _begun(tmp_path)]
    assert sorted(starts) == sorted([*range(6), *lost])  # only what was under way has begun twice


def _begun(folder: Path) -> list[tuple[int, int]]:
    parts = [path.name.split("-") for path in folder.glob("begun-*")]
    return [(int(number), int(pid)) for _, number, pid in parts]


def _until(wanted: Any, seconds: float = 120) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found := wanted():
            return found
        time.sleep(0.05)
    raise AssertionError("not in time")


# --- what can be wrong with a cluster


def down(address: str, monkeypatch: pytest.MonkeyPatch, one: Any = process) -> ClusterDown:
    """The error, which came soon and says where and what to do."""
    monkeypatch.setenv("VSAT_DASK_SCHEDULER", address)
    began = time.monotonic()
    with pytest.raises(ClusterDown) as caught:
        run_jobs(one, [1, 2, 3])
    assert time.monotonic() - began < 60
    assert "127.0.0.1" in caught.value.place and caught.value.next_step
    return caught.value


def test_nobody_or_somebody_else_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECT_S", 2.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert "no Dask scheduler" in down(f"tcp://127.0.0.1:{port}", monkeypatch).problem
    assert "no Dask scheduler" in down(f"tcp://127.0.0.1:{port}", monkeypatch).problem  # closed now
    assert "no Dask scheduler" in down(f"pigeon://127.0.0.1:{port}", monkeypatch).problem


def test_no_workers_other_versions_and_jobs_that_end_their_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.2)
    with cluster(tmp_path, workers=0, DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES="0") as made:
        with monkeypatch.context() as patch:
            patch.setattr(module, "NO_WORKERS_S", 1.0)
            error = down(made.address, patch)
            assert error.problem == "it has had no worker for 1 s" and f"dask worker {made.address}" in error.next_step
        old = made.add_worker(version="0.0.1")
        error = down(made.address, monkeypatch)
        assert "vsat 0.0.1 (here " in error.problem and "lock file" in error.next_step
        old.kill()
        old.wait(30)
        made.add_worker()
        error = down(made.address, monkeypatch, end_worker)
        assert "end_worker-" in error.problem and "memory" in error.next_step

        with monkeypatch.context() as patch:  # the scheduler's Dask is checked before any job is sent
            patch.setattr(module, "versions", lambda: (("distributed", "1.0"),))
            assert "the scheduler has other versions: distributed" in down(made.address, patch).problem


def test_a_scheduler_that_ends_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECT_S", 2.0)
    monkeypatch.setattr(module, "LOOK_S", 0.2)
    options: dict[str, Any] = {
        "processes": False,
        "dashboard_address": "127.0.0.1:0",
        "protocol": "tcp",
        "host": "127.0.0.1",
    }
    with LocalCluster(n_workers=1, threads_per_worker=1, **options) as here:
        monkeypatch.setenv("VSAT_DASK_SCHEDULER", here.scheduler_address)
        assert run_jobs(process, [1]) == [os.getpid()]  # and the connection is closed again: the next one is new
        assert not module._open and not module._users
        with pytest.raises(VsatError, match="does not answer"):
            run_jobs(process, range(200), progress=lambda done, _: here.close() if done == 1 else None)


def test_a_worker_without_the_common_file_system_does_nothing(tmp_path: Path) -> None:
    job = Held(tmp_path, 0)
    with pytest.raises(ClusterDown, match="does not see the folder"):
        do(hold, job, Order(1, versions(), str(tmp_path / ".seen-elsewhere")))
    assert not _begun(tmp_path)


def test_a_cluster_behind_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import dask
    from distributed.security import Security

    made = Security.temporary()
    paths = {}
    for name in ("tls_ca_file", "tls_client_cert", "tls_client_key"):
        paths[name] = tmp_path / name
        paths[name].write_text(getattr(made, name))
    names = {"ca-file": "tls_ca_file", "client.cert": "tls_client_cert", "client.key": "tls_client_key"}
    tls = {f"distributed.comm.tls.{key}": str(paths[name]) for key, name in names.items()}
    options: dict[str, Any] = {
        "processes": False,
        "dashboard_address": "127.0.0.1:0",
        "host": "127.0.0.1",
        "protocol": "tls",
    }
    monkeypatch.setattr(module, "CONNECT_S", 5.0)
    with LocalCluster(n_workers=1, threads_per_worker=1, security=made, **options) as here:
        monkeypatch.setenv("VSAT_DASK_SCHEDULER", here.scheduler_address)
        with dask.config.set(tls):  # as its files or environment would say it
            assert run_jobs(abs, [-1, -2]) == [1, 2]
        assert "no Dask scheduler" in down(here.scheduler_address, monkeypatch).problem


# --- what goes through the scheduler

GRID = TileGrid("33UVP", 32633, 399960.0, 5400000.0, 3660, 3660)
SCENES = tuple(
    f"33UVP/{date(2015, 1, 1) + timedelta(n * 2)}/{('L30', 'S30')[n % 2]}" for n in range(2000)
)  # eleven years of a tile


def large_jobs(folder: Path) -> list[tuple[Any, Any]]:
    """For each stage the largest job that there is: a whole tile with eleven years of scenes."""
    region = load_region(tiny(folder))
    names = [f"HLS.S30.T33UVP.2024{n:03d}T100559.v2.0" for n in range(1, 5)]
    root = "https://data.lpdaac.earthdatacloud.nasa.gov/lp-prod-protected/HLSS30.020"
    files = {**FILES["S30"], "fmask": "Fmask"}
    granules = tuple(
        Granule(name, "S30", "33UVP", "2024-01-01T10:05:59+00:00", "2024-01-03T00:00:00+00:00",
                tuple((band, f"{root}/{name}/{name}.{file}.tif") for band, file in files.items()),
                tuple((band, f"size:20000000;multihash:1220{'ab' * 32}") for band in files), 40.0)
        for name in names
    )  # fmt: skip
    nasa = endpoint_for(region.catalogue.model_copy(update={"kind": "cmr", "path": None}))
    ids = tuple((key, (names[0], names[1])) for key in SCENES[-500:])  # the context of a month: at most two years
    dates = tuple(DateJob(f"2024-05-{n:02d}", "final", "2024-06-30", "ab" * 32) for n in (1, 9, 17, 25))
    place = Place(
        "farm", str(folder), GRID, 0, False, False, tuple((key, tuple(names[:2]), "ab" * 32) for key in SCENES)
    )
    layout = PatchLayout(16, 60, 64)
    specs = [PatchSpec(0, 64 * n, 64 * n, tuple(range(20 * n, 20 * n + 60))) for n in layout.patches_of(0)]
    bands = ("blue", "green", "red", "nir", "swir1", "swir2")
    return [
        (fetch_one, FetchJob(folder, GRID, nasa, SCENES[-1], granules, "ab" * 32)),
        (generate_one, GenerateJob(str(folder), GRID, "anydate", bands, False, False, ids, dates)),
        (survey_one, light(SurveyJob(place, 32, (), str(folder / "survey" / "farm-33UVP.npz"), "ab" * 32))),
        (sample_one, shard_job(folder, 0, layout, 0, "ab" * 32, [place, replace(place, region="other")], specs)),
    ]


def test_jobs_and_results_are_small_and_hold_no_secret(
    two: Cluster, on_two: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EARTHDATA_TOKEN", SECRET)
    order = Order(2, versions(), str(tmp_path / ".seen"))
    for one, job in large_jobs(tmp_path):
        sent = pickle.dumps((one, job, order))
        assert len(sent) < MOST_BYTES, one.__name__
        assert b"eyJ0" not in sent and b"EARTHDATA" not in sent
        assert job.store == tmp_path
    # and what comes back from a real fetch, as its receipts in the ledger: the same objects
    results: list[bytes] = []
    real = module._result
    monkeypatch.setattr(module, "_result", lambda *given: results.append(pickle.dumps(real(*given))) or real(*given))
    region = load_region(tmp_path / "tiny.yaml")
    fetch(region, START, END)
    generate(region, START, END, END + timedelta(60))
    assert len(results) == 19 + 2
    assert max(map(len, results)) < MOST_BYTES
    assert not any(SECRET.encode() in one for one in results)
