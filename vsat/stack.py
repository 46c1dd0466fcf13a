"""The local stack of `vsat up`: Prefect server, worker, deployments and viewer as child processes, all on 127.0.0.1.

Everything of a stack lies in its folder: `auth` (the server's name and password, readable by its owner alone),
`profiles.toml` (the same and the address, for `prefect` commands), `up.json` while it runs, `prefect/`, `logs/`.
"""

import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import requests

from vsat.errors import PAGE, InputError, StoreError, VsatError
from vsat.io.ledger import lease
from vsat.processes import Part, Watched, end_marked, running
from vsat.settings import VIEWER_PORT

POOL = "vsat"
MARK = "VSAT_STACK"  # in the environment of every process of a stack: its folder
AUTH, PROFILES, UP = "auth", "profiles.toml", "up.json"
START_S = 300.0  # the server's first start makes its database: 10 to 20 seconds on two free cores
DEPLOY_S = 600.0  # a deployment takes a second or two, and each region has eight
DOWN_S = 90.0
_GIVEN_AUTH = "PREFECT_SERVER_API_AUTH_STRING"
_GIVEN_DATABASE = "VSAT_POSTGRES"
# Secrets by the beginnings of their names, and whose they are: nobody else has them in its environment.
_OF_DATABASE = ("PGPASS", _GIVEN_DATABASE)  # the server's
_OF_CATALOGUE = ("EARTHDATA_", "NETRC", "PC_SDK_")  # the worker's, who fetches scenes
_OF_BUCKET = ("AWS_",)  # the worker's and the viewer's


@dataclass(frozen=True)
class Addresses:
    """Where the stack answers, how `prefect` commands reach it, and what runs."""

    ui: str
    api: str
    viewer: str
    log_folder: Path
    profiles: Path
    environment: dict[str, str] = field(repr=False)
    parts: tuple[Watched, ...] = field(repr=False)


@contextmanager
def stack(
    regions: Sequence[Path],
    folder: Path,
    *,
    port: int = 4200,
    viewer_port: int = VIEWER_PORT,
    every_s: int | None = None,
    postgres: str | None = None,
) -> Iterator[Addresses]:
    """A running server, worker and viewer with the deployments of every region; all end with the block or this process.

    Args:
        regions: region files; each gets its deployments, named after it.
        folder: Prefect's home, the secret and the logs go here.
        port: of the server on 127.0.0.1; 0 takes a free one.
        viewer_port: the same of the viewer.
        every_s: run nightly every so many seconds instead of once a night.
        postgres: URL of the server's database, without a password; by default VSAT_POSTGRES, else SQLite in `folder`.

    Raises:
        InputError: a URL with a password in it, or a secret that others can read.
        StoreError: a stack runs in this folder already.
        VsatError: a port is taken, or the server, the viewer or a deployment did not come up; the message names the log.
    """
    folder = folder.resolve()
    logs = folder / "logs"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    logs.mkdir(exist_ok=True)
    with lease(folder, "up"), ExitStack() as ending:
        end_marked(MARK, str(folder))  # flow runs that have outlived a stack that was killed
        port, viewer_port = _checked_port(port), _checked_port(viewer_port, "--viewer-port")
        api, viewer = f"http://127.0.0.1:{port}/api", f"http://127.0.0.1:{viewer_port}"
        environment = _environment(folder, api, _secret(folder)) | {"VSAT_VIEWER_URL": viewer}
        database = database_url(postgres, os.environ)
        store = {name: value for name, value in os.environ.items() if name.startswith("PGPASS")}
        store |= {"PREFECT_SERVER_DATABASE_CONNECTION_URL": database} if database else {}
        serving = _without(environment, *_OF_CATALOGUE, *_OF_BUCKET)
        prefect = (sys.executable, "-m", "prefect", "--no-prompt")
        serve = (*prefect, "server", "start", "--host", "127.0.0.1", "--port", str(port))
        server = ending.enter_context(
            running(Part("the server", serve, serving | store, logs / "server.log", takes_all=True))
        )
        files = [str(path.resolve()) for path in regions]
        show = (sys.executable, "-m", "vsat.cli", "serve", *files, "--port", str(viewer_port))
        # what the viewer answers on the network needs none of the server's secrets, and no token for scenes
        shown = _without(environment, "PREFECT_", *_OF_CATALOGUE)
        page = ending.enter_context(running(Part("the viewer", show, shown, logs / "viewer.log", takes_all=True)))
        _wait_for(f"{api}/health", server, "the Prefect server")
        interval = ["--every-s", str(every_s)] if every_s else []
        deploy = [sys.executable, "-m", "flows.deploy", *interval, *files]
        _run(deploy, logs / "deploy.log", environment)
        # this server and its worker are the only ones here: what it takes for running has died with those before
        _run([sys.executable, "-m", "flows.resume"], logs / "deploy.log", environment)
        work = (*prefect, "worker", "start", "--pool", POOL)
        worker = ending.enter_context(running(Part("the worker", work, environment, logs / "worker.log")))
        _wait_for(f"{viewer}/api/regions", page, "the viewer")
        profiles = _write_profile(folder, api, environment["PREFECT_API_AUTH_STRING"])
        ui = api.removesuffix("/api")
        _write(folder / UP, json.dumps({"ui": ui, "api": api, "viewer": viewer}))
        ending.callback((folder / UP).unlink, missing_ok=True)
        yield Addresses(ui, api, viewer, logs, profiles, environment, (server, worker, page))


def bring_down(folder: Path) -> int:
    """Nothing of the stack in `folder` runs any more, however it was started and whatever of it is dead already.

    Returns:
        How many processes there were that `vsat up` did not end by itself, with `vsat up`.
    """
    folder = folder.resolve()
    ended = 0
    if (pid := _holder(folder)) is not None:
        ended += 1
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            process.terminate()
            try:
                process.wait(DOWN_S)
            except psutil.TimeoutExpired:
                process.kill()
    ended += end_marked(MARK, str(folder))
    (folder / UP).unlink(missing_ok=True)
    return ended


def detach(arguments: Sequence[str], folder: Path) -> dict[str, str]:
    """`vsat up` runs in the background with these arguments; returns what its `up.json` says once all is started.

    Raises:
        VsatError: it ended instead; the message is its own.
    """
    folder = folder.resolve()
    if _holder(folder) is not None:
        step = "vsat doctor says how it is; vsat down stops it"
        raise StoreError("a stack runs here already", place=str(folder), next_step=step)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    (folder / "logs").mkdir(exist_ok=True)
    (folder / UP).unlink(missing_ok=True)
    told = folder / "logs" / "up.log"
    with told.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "vsat.cli", "up", *arguments],
            stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    until = time.monotonic() + 2 * START_S + DEPLOY_S
    while process.poll() is None and time.monotonic() < until:
        if up := read_up(folder):
            return up
        time.sleep(0.3)
    if process.poll() is None:
        bring_down(folder)
    lines = told.read_text(errors="replace").strip().splitlines()
    said = [line for line in lines if not line.startswith(f"see {PAGE}")][-1:]  # our own error names the page
    raise VsatError("the stack did not start", place=str(told), next_step=" ".join(said) or "read that log")


def read_up(folder: Path) -> dict[str, str] | None:
    """`ui`, `api` and `viewer` of the stack in `folder`, None where none has come up or it was ended."""
    try:
        found: dict[str, str] = json.loads((folder / UP).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found


def auth_of(folder: Path, environment: Mapping[str, str]) -> str:
    """`name:password` for the stack's server: as the environment has it, else from the stack's folder, else ""."""
    given = environment.get("PREFECT_API_AUTH_STRING") or environment.get(_GIVEN_AUTH)
    try:
        return given or (folder / AUTH).read_text("utf-8").strip()
    except OSError:
        return ""


def database_url(option: str | None, environment: Mapping[str, str]) -> str:
    """The server's database as SQLAlchemy writes it, "" for SQLite in the stack's folder.

    Raises:
        InputError: no PostgreSQL URL, or a password where everyone on the machine can see it.
    """
    place = "--postgres" if option else _GIVEN_DATABASE
    given = option or environment.get(_GIVEN_DATABASE, "").strip()
    if not given:
        return ""
    parts = urlsplit(given)
    if parts.scheme not in ("postgresql", "postgres", "postgresql+asyncpg") or not parts.path.strip("/"):
        step = "write postgresql://HOST:5432/NAME, with the user and an @ before HOST"
        raise InputError("this is no database's URL", place=place, next_step=step)
    if option and (parts.password is not None or "password" in parts.query.lower()):
        step = f"set {_GIVEN_DATABASE} to the whole URL, or PGPASSWORD to the password"
        raise InputError("a password on the command line is seen by everyone", place=place, next_step=step)
    return parts._replace(scheme="postgresql+asyncpg").geturl()


def _holder(folder: Path) -> int | None:
    """The process whose stack runs in `folder`."""
    if not folder.is_dir():
        return None
    try:
        with lease(folder, "up"):
            return None
    except StoreError:
        text = (folder / ".up.lock").read_text(errors="replace").strip()
        return int(text) if text.isdigit() else None


def _checked_port(port: int, option: str = "--port") -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            step = f"stop what listens there (vsat down, if it is a stack), or give another with {option}"
            raise VsatError(f"port {port} is taken", place="127.0.0.1", next_step=step) from error
        return int(probe.getsockname()[1])


def _secret(folder: Path) -> str:
    """`name:password` of the server: from the environment, else made once and kept in the folder."""
    given = os.environ.get(_GIVEN_AUTH, "").strip()
    if given:
        return given
    path = folder / AUTH
    if not path.exists():
        _write(path, f"vsat:{secrets.token_urlsafe(32)}\n")
    if path.stat().st_mode & 0o077:
        step = f"remove it, and a new one is made; or chmod 600 {path}, if nobody has seen it"
        raise InputError("others can read the server's password", place=str(path), next_step=step)
    return path.read_text("utf-8").strip()


def _write_profile(folder: Path, api: str, auth: str) -> Path:
    """A file of settings by which `prefect` commands find the server and are let in."""
    lines = ['active = "vsat"', "[profiles.vsat]", f"PREFECT_API_URL = {json.dumps(api)}"]
    if (folder / AUTH).exists() and not os.environ.get(_GIVEN_AUTH):
        lines.append(f"PREFECT_API_AUTH_STRING = {json.dumps(auth)}")
    _write(folder / PROFILES, "\n".join(lines) + "\n")
    return folder / PROFILES


def _write(path: Path, text: str) -> None:
    """A file that its owner alone may read, there whole or not at all."""
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.unlink(missing_ok=True)
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    aside.replace(path)


def _environment(folder: Path, api: str, auth: str) -> dict[str, str]:
    """Ours without the caller's PREFECT_ settings, and what FACTS of operation ask for."""
    return _without(os.environ, "PREFECT_", *_OF_DATABASE) | {
        MARK: str(folder),
        "DO_NOT_TRACK": "1",
        "PREFECT_API_AUTH_STRING": auth,
        "PREFECT_API_URL": api,
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "PREFECT_HOME": str(folder / "prefect"),
        "PREFECT_LOGGING_EXTRA_LOGGERS": "vsat",
        "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_API_AUTH_STRING": auth,
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        # no page of another site in the same browser can start runs or read them
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": api.removesuffix("/api"),
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "true",
        "PREFECT_WORKER_QUERY_SECONDS": "5",
    }


def _without(environment: Mapping[str, str], *beginnings: str) -> dict[str, str]:
    """The environment less the variables whose names begin so."""
    return {name: value for name, value in environment.items() if not name.startswith(beginnings)}


def _wait_for(url: str, server: Watched, name: str) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and server.process.poll() is None:
        try:
            if requests.get(url, timeout=2).ok:
                return
        except requests.RequestException:
            pass
        time.sleep(0.3)
    place = str(server.part.log)
    raise VsatError(f"{name} did not come up", place=place, next_step="read the end of that log")


def _run(command: Sequence[str], log: Path, environment: dict[str, str]) -> None:
    told = " ".join(command[1:3])
    try:
        with log.open("ab") as out:
            done = subprocess.run(
                command, stdout=out, stderr=subprocess.STDOUT, env=environment, timeout=DEPLOY_S, check=False
            )
    except subprocess.TimeoutExpired:
        problem = f"{told} did not end within {DEPLOY_S:.0f} s"
        raise VsatError(problem, place=str(log), next_step="read the end of that log, then try again") from None
    if done.returncode:
        problem = f"{told} ended with {done.returncode}"
        raise VsatError(problem, place=str(log), next_step="read the end of that log")
