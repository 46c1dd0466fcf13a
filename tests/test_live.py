"""The stack as `vsat up` starts it: a schedule fires, a backfill runs from its deployment, and nothing is left."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from fault.canary import plant, search
from killable import until

from regions import tiny
from vsat.config import load_region
from vsat.doctor.server import server_findings
from vsat.errors import VsatError
from vsat.stack import stack
from vsat.stages.status import region_status

pytestmark = [pytest.mark.flow, pytest.mark.slow, pytest.mark.timeout(400)]
# as a user may have them, needed by this region or not
SECRETS = plant(
    5, ["EARTHDATA_TOKEN", "PC_SDK_SUBSCRIPTION_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "PGPASSWORD"]
)
OPEN = {("get", "/health"), ("get", "/ready")}  # what the server tells to whoever asks: that it lives
SHOWN = {"tiny-nightly-report", "tiny-images", "tiny-progress", "tiny-map"}


@dataclass(frozen=True)
class Up:
    """A running `vsat up`."""

    api: str
    viewer: str
    folder: Path
    region: Path
    process: subprocess.Popen[str]

    @property
    def auth(self) -> tuple[str, str]:
        name, _, password = (self.folder / "auth").read_text().strip().partition(":")
        return name, password

    def ask(self, what: str, **body: Any) -> list[dict[str, Any]]:
        given: dict[str, Any] = {"auth": self.auth, "timeout": 20}
        token = requests.get(f"{self.api}/csrf-token", params={"client": "test"}, **given).json()["token"]
        headers = {"Prefect-Csrf-Client": "test", "Prefect-Csrf-Token": token}
        answer = requests.post(f"{self.api}/{what}/filter", json=body, headers=headers, **given)
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()
        return found

    def events(self, name: str) -> list[dict[str, Any]]:
        found: Any = self.ask("events", filter={"event": {"name": [name]}})
        return list(found["events"])

    def runs(self, flow: str, state: str) -> list[dict[str, Any]]:
        return self.ask("flow_runs", flows={"name": {"any_": [flow]}}, flow_runs={"state": {"type": {"any_": [state]}}})

    def keys(self, run: dict[str, Any]) -> set[str]:
        return {one["key"] for one in self.ask("artifacts", artifacts={"flow_run_id": {"any_": [run["id"]]}})}


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    folder = tmp_path_factory.mktemp("live")
    region = tiny(folder)
    command = [
        sys.executable,
        "-m",
        "vsat.cli",
        "up",
        str(region),
        "--folder",
        str(folder / "stack"),
        "--port",
        "0",
        "--viewer-port",
        "0",
    ]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    # a wrong address in the caller's environment must not leak into the stack
    environment = clean | {"PREFECT_API_URL": "http://127.0.0.1:9/api", "VSAT_WORKERS": "2"} | SECRETS
    process = subprocess.Popen(
        [*command, "--every-s", "45"], stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
    )
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(6)]
        found = [re.search(r"http://127\.0\.0\.1:\d+", line) for line in lines[:2]]
        viewer, ui = (one[0] if one else "" for one in found)
        assert ui and viewer, lines
        yield Up(ui + "/api", viewer, folder / "stack", region, process)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(30)


def test_a_schedule_fires_and_a_backfill_started_from_its_deployment_finishes(up: Up) -> None:
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deployment", "run", "backfill/tiny"]
    environment = dict(os.environ) | {
        "PREFECT_PROFILES_PATH": str(up.folder / "profiles.toml"), "PREFECT_HOME": str(up.folder / "client"),
    }  # fmt: skip
    request = json.dumps({"start": "2023-05-01", "end": "2023-05-20", "policy": "replace"})
    subprocess.run([*command, "-p", f"request={request}"], env=environment, check=True, capture_output=True, timeout=60)

    night = until(lambda: up.runs("nightly", "COMPLETED"), 100, "a scheduled night")[0]
    past = until(lambda: up.runs("backfill", "COMPLETED"), 60, "the backfill")[0]

    assert night["auto_scheduled"]
    late = datetime.fromisoformat(night["start_time"]) - datetime.fromisoformat(night["expected_start_time"])
    assert abs(late.total_seconds()) < 60
    assert night["name"].startswith("nightly tiny 20")
    assert up.keys(night) >= SHOWN
    assert up.keys(past) >= {"tiny-backfill-report", "tiny-backfill-progress", "tiny-backfill-months"}
    assert past["work_queue_name"] == "backfill"
    assert up.runs("nightly", "FAILED") == up.runs("backfill", "FAILED") == []
    status = region_status(load_region(up.region))
    assert sum(status["images"].values()) == 7
    assert status["up_to"] == night["expected_start_time"][:10]


def test_new_images_are_an_event_and_log_lines_have_their_numbers(up: Up) -> None:
    night = until(lambda: up.runs("nightly", "COMPLETED"), 100, "a scheduled night")[-1]
    told = until(lambda: up.events("vsat.images.new"), 30, "an event of new images")
    for event in told:
        assert event["resource"]["prefect.resource.id"] == "vsat.region.tiny.33UVP"
        assert {"flow-run", "deployment"} <= {one["prefect.resource.role"] for one in event["related"]}
        payload = event["payload"]
        assert (payload["region"], payload["tile"], len(payload["dates"])) == ("tiny", "33UVP", payload["count"])
    assert "2023-05-01" in {day for event in told for day in event["payload"]["dates"]}
    (awaited,) = up.events("vsat.night.awaited")
    assert awaited["resource"]["prefect.resource.name"] == "tiny"
    wanted = re.compile(r"tiny is up to 20\d\d-\d\d-\d\d: done; \d+ scenes fetched; \d+ images made")

    def lines() -> list[str]:
        found = up.ask("logs", logs={"flow_run_id": {"any_": [night["id"]]}})
        return [one["message"] for one in found if wanted.search(one["message"])]

    assert until(lines, 30, "the night's last line, which the server gets after the run's state")


def test_a_night_that_found_the_catalogue_down_is_tried_again_an_hour_later(up: Up) -> None:
    """The server's own automations, on events as it gives them."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.objects import StateType
    from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings
    from prefect.states import State

    there = {PREFECT_API_URL: up.api, PREFECT_API_AUTH_STRING: ":".join(up.auth)}
    with temporary_settings(there), get_client(sync_client=True) as client:
        (one,) = [one for one in up.ask("deployments") if one["entrypoint"].endswith("nightly.nightly")]
        run = client.create_flow_run_from_deployment(one["id"])
        client.set_flow_run_state(run.id, State(type=StateType.FAILED, name="CatalogueDown", message="503"), force=True)

    def again() -> list[dict[str, Any]]:
        return [run for run in up.runs("nightly", "SCHEDULED") if (run["created_by"] or {}).get("type") == "AUTOMATION"]

    (made,) = until(again, 60, "another try of the night")
    late = datetime.fromisoformat(made["expected_start_time"]) - datetime.now(UTC)
    assert 50 * 60 < late.total_seconds() < 61 * 60
    with temporary_settings(there), get_client(sync_client=True) as client:
        client.delete_flow_run(run.id)  # the doctor would tell of it


def test_the_schedule_keeps_creating_runs(up: Up) -> None:
    """With some versions of SQLAlchemy the scheduler makes none, and says nothing."""
    assert len(up.runs("nightly", "SCHEDULED")) >= 3


def test_deployments_are_forms_of_dates_and_choices_and_one_run_at_a_time(up: Up) -> None:
    made = {one["name"] + "/" + one["entrypoint"]: one for one in up.ask("deployments")}
    verbs = ("backfill", "evaluate", "fetch", "generate", "nightly", "retrain", "sample", "train")
    assert sorted(made) == [f"tiny/flows.{verb}.{verb}" for verb in verbs]
    form = made["tiny/flows.backfill.backfill"]["parameter_openapi_schema"]["definitions"]["BackfillRequest"]
    fields = form["properties"]
    assert form["required"] == ["start", "end"] and fields["start"]["format"] == "date"
    assert fields["policy"]["enum"] == ["missing", "skip", "replace", "new-version"]
    assert "blend+scene" in fields["method"]["enum"] and fields["method"]["default"] == "region"
    assert fields["dry_run"]["type"] == "boolean"
    assert all(field["title"] and field["description"] for field in fields.values())
    for one in made.values():
        assert one["concurrency_limit"] == 1 or one["global_concurrency_limit"]["limit"] == 1
        assert one["concurrency_options"]["collision_strategy"] == "ENQUEUE"
        command = one["job_variables"]["command"]  # without one the environment goes to a file
        assert command == f"{sys.executable} -m prefect.engine"
    home = load_region(up.region).home
    for name, one in made.items():
        given = one["parameters"]
        about = (given.get("region"), *given.get("sources", ()), *given.get("regions", ()))
        assert str(up.region) in about or (name.endswith(".train") and given["out"] == str(home / "model"))
    assert made["tiny/flows.sample.sample"]["parameters"] == {"regions": [str(up.region)], "out": str(home / "patches")}
    (weekly,) = made["tiny/flows.retrain.retrain"]["schedules"]
    assert not weekly["active"] and weekly["slug"] == "weekly"
    names = {"no heartbeat", "stuck pending", "night missing", "night failed"}
    assert {one["name"] for one in up.ask("automations")} == {f"vsat: {name}" for name in names}


def test_few_runs_at_once_and_one_backfill(up: Up) -> None:
    queues = {one["name"]: one["concurrency_limit"] for one in up.ask("work_pools/vsat/queues")}
    assert queues == {"default": 4, "backfill": 1}


def test_a_page_of_another_site_cannot_read_or_start_anything(up: Up) -> None:
    given: dict[str, Any] = {"headers": {"Origin": "http://evil.test"}, "timeout": 20, "auth": up.auth}
    answer = requests.post(f"{up.api}/flow_runs/filter", json={}, **given)
    assert answer.status_code == 403
    assert "evil" not in answer.headers.get("access-control-allow-origin", "")
    assert answer.headers.get("access-control-allow-origin") != "*"


def test_nobody_is_let_in_without_the_password_which_lies_where_its_owner_alone_can_read(up: Up) -> None:
    for path in ("admin/version", "flows/", "csrf-token?client=x", "work_pools/vsat"):
        assert requests.get(f"{up.api}/{path}", timeout=20).status_code == 401
        assert requests.get(f"{up.api}/{path}", auth=("vsat", "wrong"), timeout=20).status_code == 401
    assert requests.get(f"{up.api}/admin/version", auth=up.auth, timeout=20).ok
    password = up.auth[1].encode()
    assert len(password) > 30
    files = {path for path in up.folder.rglob("*") if path.is_file() and password in path.read_bytes()}
    assert files == {up.folder / "auth", up.folder / "profiles.toml"}  # no log, no database
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    for pid in children_of(up.folder):
        assert password not in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_every_socket_of_the_stack_is_for_this_machine_alone(up: Up) -> None:
    heard = {socket for pid in children_of(up.folder) for socket in listening(pid)}
    assert {up.api.split(":")[2].split("/")[0], up.viewer.split(":")[2]} <= {str(port) for _, port in heard}
    assert {address for address, _ in heard} == {"127.0.0.1"}


def listening(pid: int) -> set[tuple[str, int]]:
    """Address and port of every socket that waits for others."""
    try:
        found = psutil.Process(pid).net_connections("inet")
    except psutil.NoSuchProcess:  # a flow run that has ended meanwhile
        return set()
    return {(one.laddr.ip, one.laddr.port) for one in found if one.status == psutil.CONN_LISTEN or not one.raddr}


def test_no_path_of_the_server_answers_without_the_password(up: Up) -> None:
    document = requests.get(f"{up.api.removesuffix('/api')}/openapi.json", timeout=30).json()
    token = requests.get(f"{up.api}/csrf-token", params={"client": "test"}, auth=up.auth, timeout=30).json()["token"]
    headers = {"Prefect-Csrf-Client": "test", "Prefect-Csrf-Token": token}
    ways = {(method, path) for path, operations in document["paths"].items() for method in operations}
    assert len(ways) > 100
    with requests.Session() as stranger:
        stranger.headers.update(headers)
        let_in = {
            (method, path)
            for method, path in ways
            if stranger.request(
                method, up.api + path.replace("{", "").replace("}", ""), json={}, timeout=30
            ).status_code
            != 401
        }
    assert let_in <= OPEN


def test_no_other_site_is_allowed_to_ask(up: Up) -> None:
    asks = {
        "Origin": "http://evil.test",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x",
    }
    for path in ("flow_runs/filter", "deployments/filter", "admin/version"):
        answer = requests.options(f"{up.api}/{path}", headers=asks, auth=up.auth, timeout=20)
        assert answer.headers.get("access-control-allow-origin") in (None, up.api.removesuffix("/api"))
    without_token = requests.post(f"{up.api}/flow_runs/filter", json={}, auth=up.auth, timeout=20)
    assert without_token.status_code == 403 and "CSRF" in without_token.text


def test_who_answers_on_a_port_has_no_secret_that_it_does_not_need(up: Up) -> None:
    def names(part: bytes) -> set[str]:
        (pid,) = [
            pid for pid in children_of(up.folder) if part in cmdline(pid) and b"multiprocessing" not in cmdline(pid)
        ]
        return set(psutil.Process(pid).environ())

    of_all = {*SECRETS, "PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING"}
    own = {"PREFECT_API_AUTH_STRING", "PREFECT_SERVER_API_AUTH_STRING"}
    assert names(b"vsat.cli\0serve") & of_all == {"AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}
    assert names(b"server\0start") & of_all == {"PGPASSWORD", *own}
    assert names(b"worker\0start") & of_all == {*SECRETS, *own} - {"PGPASSWORD"}


def test_the_doctor_finds_a_stack_that_is_well_and_says_what_is_not(up: Up) -> None:
    def levels() -> dict[str, str]:
        found = server_findings(["tiny", "absent"], up.folder, lambda: datetime.now(UTC), 20)
        return {one.name: one.level for one in found}

    until(lambda: up.runs("nightly", "COMPLETED"), 100, "a scheduled night")
    assert levels() == {
        "server": "ok", "viewer": "ok", "worker": "ok", "tiny: schedule": "ok", "tiny: last run": "ok", "absent: schedule": "error",
    }  # fmt: skip


def test_the_viewer_shows_the_region_and_a_run_s_link_leads_there(up: Up) -> None:
    until(lambda: up.runs("nightly", "COMPLETED"), 100, "a scheduled night")
    (region,) = requests.get(f"{up.viewer}/api/regions", timeout=20).json()["regions"]
    assert region["id"] == "tiny" and region["images"] > 0
    links = up.ask("artifacts", artifacts={"key": {"any_": ["tiny-map"]}})
    assert links and f"{up.viewer}/?region=tiny" in str(links[0]["data"])
    night = requests.get(f"{up.viewer}/api/regions/tiny/status", timeout=20).json()["night"]
    assert night["outcome"] == "done" and night["counts"]["scenes"] > 0
    (pid,) = [pid for pid in children_of(up.folder) if b"vsat.cli\0serve" in cmdline(pid)]
    assert b"PREFECT_API_AUTH_STRING" not in Path(f"/proc/{pid}/environ").read_bytes()


def test_what_dies_is_started_again(up: Up) -> None:
    before = {path.parent.name for path in Path("/proc").glob("[0-9]*/cmdline")}
    parts = (b"server\0start", b"worker\0start", b"vsat.cli\0serve")
    for part in parts:
        (pid,) = [pid for pid in children_of(up.folder) if part in cmdline(pid)]
        os.kill(pid, signal.SIGKILL)

    def again() -> bool:
        fresh = [cmdline(pid) for pid in children_of(up.folder) if str(pid) not in before]
        alive = all(any(part in line for line in fresh) for part in parts)
        try:
            return alive and all(
                requests.get(at, timeout=2).ok for at in (f"{up.api}/health", f"{up.viewer}/api/regions")
            )
        except requests.RequestException:
            return False

    until(again, 120, "another server, worker and viewer")
    known = {run["id"] for run in up.runs("nightly", "COMPLETED")}
    until(lambda: {run["id"] for run in up.runs("nightly", "COMPLETED")} - known, 150, "a night after that")


def cmdline(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_vsat_lines_reach_the_logs_of_a_run(up: Up) -> None:
    def told() -> bool:  # logs travel on their own; and a night with nothing to do says nothing
        ids = [run["id"] for run in up.runs("nightly", "COMPLETED")]
        lines = up.ask("logs", logs={"flow_run_id": {"any_": ids}})
        return any(line["name"].startswith("vsat.") for line in lines)

    until(told, 30, "a line of vsat in the logs of a night")


def test_ctrl_c_ends_everything(up: Up) -> None:
    assert children_of(up.folder)
    up.process.send_signal(signal.SIGINT)
    assert up.process.wait(60) == 0
    until(lambda: not children_of(up.folder), 10, f"no process of {up.folder}")


def test_no_secret_of_the_environment_was_written_anywhere(up: Up) -> None:
    assert (up.folder / "prefect" / "prefect.db").stat().st_size > 100_000
    assert search(up.folder.parent, SECRETS) == []


def children_of(folder: Path) -> list[int]:
    """Processes of the stack in `folder`, by its mark in their environment."""
    mark = f"VSAT_STACK={folder}\0".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in path.read_bytes():
                found.append(int(path.parent.name))
        except OSError:  # gone meanwhile, or not ours
            continue
    return found


def test_children_die_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    script = f"""
import os, pathlib, sys, time
from vsat.processes import Part, running
sleep = (sys.executable, "-c", "import time; time.sleep(100)")
with running(Part("sleep", sleep, dict(os.environ), pathlib.Path({str(tmp_path / "log")!r}))) as it:
    print(it.process.pid, flush=True)
    time.sleep(100)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    until(lambda: not Path(f"/proc/{pid}").exists() or "Z" in Path(f"/proc/{pid}/stat").read_text(), 10, "its end")


def test_a_taken_port_is_told(tmp_path: Path) -> None:
    import socket

    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(VsatError, match=f"port {port} is taken"), stack([], tmp_path, port=port):
            pass
