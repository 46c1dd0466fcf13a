"""The local stack without a server: secrets, the database's URL, restarts, and an end that leaves nothing."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vsat import stack
from vsat.errors import InputError, StoreError, VsatError
from vsat.io.ledger import lease
from vsat.processes import Part, Watched, end_marked, running, start, stop
from vsat.stack import auth_of, bring_down, database_url, detach, read_up

SLEEP = (sys.executable, "-c", "import time; time.sleep(300)")


def part(tmp_path: Path, command: tuple[str, ...] = SLEEP, **more: str) -> Part:
    return Part("it", command, dict(os.environ) | more, tmp_path / "log", takes_all=True)


def gone(pid: int) -> bool:
    try:
        return "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True


def test_a_dead_part_rests_and_is_started_again_and_rests_get_longer(tmp_path: Path) -> None:
    with running(part(tmp_path)) as watched:
        first = watched.process.pid
        assert not watched.look()
        rests = []
        for _ in range(2):
            watched.process.kill()
            watched.process.wait()
            began = time.monotonic()
            while not watched.look():
                time.sleep(0.05)
            rests.append(time.monotonic() - began)
        assert watched.process.poll() is None and watched.process.pid != first
        assert 1.9 < rests[0] < rests[1]
        last = watched.process.pid
    assert gone(last)


def test_what_a_dead_server_has_started_goes_with_it(tmp_path: Path) -> None:
    code = "import subprocess, sys, time; p = subprocess.Popen(sys.argv[1:]); print(p.pid, flush=True); time.sleep(300)"
    parent = Part("it", (sys.executable, "-c", code, *SLEEP), dict(os.environ), tmp_path / "log", takes_all=True)
    watched = Watched(parent, start(parent))
    while not (text := (tmp_path / "log").read_text().strip()):
        time.sleep(0.05)
    watched.process.kill()
    watched.process.wait()
    while not watched.look():
        time.sleep(0.05)
    assert gone(int(text.split()[0]))
    stop(watched.process)


def test_down_ends_what_an_up_that_was_killed_has_left(tmp_path: Path) -> None:
    folder = tmp_path / "stack"
    folder.mkdir()
    left = start(part(tmp_path, VSAT_STACK=str(folder)))
    other = start(part(tmp_path, VSAT_STACK=str(tmp_path / "another")))
    try:
        assert bring_down(folder) == 1
        left.wait(10)
        assert other.poll() is None
        assert bring_down(folder) == 0
        assert end_marked("VSAT_STACK", str(tmp_path / "another")) == 1
    finally:
        stop(other)


def test_down_of_a_folder_that_never_was_makes_none(tmp_path: Path) -> None:
    assert bring_down(tmp_path / "none") == 0
    assert not (tmp_path / "none").exists()


def test_two_stacks_do_not_share_a_folder(tmp_path: Path) -> None:
    with lease(tmp_path, "up"):
        with pytest.raises(StoreError, match="already running"), stack.stack([], tmp_path, port=0):
            pass
        with pytest.raises(StoreError, match="runs here already"):
            detach([], tmp_path)


def test_a_part_that_takes_too_long_to_end_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "DEPLOY_S", 0.3)
    with pytest.raises(VsatError, match="did not end within") as told:
        stack._run([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path / "log", dict(os.environ))
    assert str(tmp_path / "log") in str(told.value) and told.value.__cause__ is None


def test_a_stack_that_does_not_start_in_the_background_says_why(tmp_path: Path) -> None:
    with pytest.raises(VsatError, match=r"absent\.yaml"):
        detach([str(tmp_path / "absent.yaml"), "--folder", str(tmp_path / "stack")], tmp_path / "stack")
    assert read_up(tmp_path / "stack") is None
    assert (tmp_path / "stack").stat().st_mode & 0o777 == 0o700


def test_the_password_is_made_once_or_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_SERVER_API_AUTH_STRING", raising=False)
    monkeypatch.delenv("PREFECT_API_AUTH_STRING", raising=False)
    made = stack._secret(tmp_path)
    assert made == stack._secret(tmp_path) == auth_of(tmp_path, {})
    assert made.startswith("vsat:") and len(made) > 40
    assert (tmp_path / "auth").stat().st_mode & 0o777 == 0o600
    (tmp_path / "auth").chmod(0o644)
    with pytest.raises(InputError, match="others can read") as told:
        stack._secret(tmp_path)
    assert made not in str(told.value)
    monkeypatch.setenv("PREFECT_SERVER_API_AUTH_STRING", "me:mine")
    assert stack._secret(tmp_path / "never made") == "me:mine"


def test_the_callers_settings_and_the_database_stay_out_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", "http://elsewhere/api")
    monkeypatch.setenv("VSAT_POSTGRES", "postgresql://me:hush@127.0.0.1/prefect")
    made = stack._environment(Path("folder"), "http://127.0.0.1:1/api", "a:b")
    assert made["PREFECT_API_URL"] == "http://127.0.0.1:1/api"
    assert made["DO_NOT_TRACK"] == "1" and made["PREFECT_SERVER_ANALYTICS_ENABLED"] == "false"
    assert made["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"] == "http://127.0.0.1:1"
    assert not any("hush" in value for value in made.values())


@pytest.mark.parametrize(
    ("option", "given", "url"),
    [
        (None, "", ""),
        ("postgresql://me@db:5433/prefect", "", "postgresql+asyncpg://me@db:5433/prefect"),
        (None, "postgres://me:hush@db/prefect", "postgresql+asyncpg://me:hush@db/prefect"),
        ("postgresql://a@b/c", "postgresql://d:e@f/g", "postgresql+asyncpg://a@b/c"),
    ],
)
def test_the_database(option: str | None, given: str, url: str) -> None:
    assert database_url(option, {"VSAT_POSTGRES": given}) == url


@pytest.mark.parametrize("option", [
    "postgresql://me:hush@db/prefect", "postgresql://me@db/prefect?password=hush", "mysql://me@db/prefect", "postgresql://db", "?",
])  # fmt: skip
def test_a_database_that_is_none_and_a_password_on_the_command_line(option: str) -> None:
    with pytest.raises(InputError) as told:
        database_url(option, {})
    assert "hush" not in str(told.value)


def test_doctor_is_told_as_json_and_by_its_exit_code(tmp_path: Path) -> None:
    from regions import tiny

    command = [
        sys.executable,
        "-m",
        "vsat.cli",
        "doctor",
        str(tiny(tmp_path)),
        "--folder",
        str(tmp_path / "s"),
        "--json",
    ]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    done = subprocess.run(command, capture_output=True, text=True, env=clean, timeout=200, check=False)
    assert done.returncode == 1, done.stderr
    told = json.loads(done.stdout)
    found = {one["name"]: one for one in told["findings"]}
    assert told["errors"] == sum(one["level"] == "error" for one in told["findings"])
    assert (found["server"]["level"], found["server"]["next_step"][:7]) == ("error", "vsat up")
    assert all(set(one) == {"name", "level", "value", "next_step"} for one in told["findings"])
    for name in ("versions", "GDAL", "clock", "tiny: catalogue", "tiny: reading", "tiny: credentials"):
        assert found[name]["level"] == "ok", found[name]
    assert not (tmp_path / "s").exists() and not (tmp_path / "var").exists()
