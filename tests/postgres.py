"""A PostgreSQL server of a test's own, from Debian's package, and processes that end with a block."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


def binaries(*, postgis: bool = False) -> Path:
    """The newest PostgreSQL's programs; skips where there is none, or no PostGIS where that is wanted."""
    servers = Path("/usr/lib/postgresql").glob("*/bin/initdb")  # the client's package has a bin folder, too
    folders = sorted((path.parent for path in servers), key=lambda path: int(path.parent.name))
    if not folders:
        pytest.skip("PostgreSQL is not installed (infra/install-test-packages.sh)")
    if postgis and not Path(f"/usr/share/postgresql/{folders[-1].parent.name}/extension/postgis.control").is_file():
        pytest.skip("PostGIS is not installed (infra/install-test-packages.sh)")
    return folders[-1]


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


def run(command: list[str], **more) -> str:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, **more)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}"
    return done.stdout


@contextmanager
def process(command: list[str], *, stop: signal.Signals, log: Path, **more) -> Iterator[subprocess.Popen]:
    """Run until the block ends, which ends it too."""
    with log.open("wb") as output:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **more)
    try:
        yield child
    finally:
        child.send_signal(stop)
        try:
            child.wait(timeout=20)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def wait_for(ready, child: subprocess.Popen, log: Path) -> None:
    ends = time.monotonic() + 60
    while not ready():
        assert child.poll() is None and time.monotonic() < ends, log.read_text(errors="replace")[-2000:]
        time.sleep(0.1)


@contextmanager
def cluster(name: str, *, postgis: bool = False, connections: int = 30) -> Iterator[dict[str, str]]:
    """Environment of an empty database `name` in a cluster on this machine's loopback, in a folder of its own."""
    programs, port = binaries(postgis=postgis), free_port()
    folder = Path(tempfile.mkdtemp(prefix="vsat-pg-"))  # pytest's folders are closed to the user postgres
    # PostgreSQL refuses to run as root
    identity = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    if identity:
        shutil.chown(folder, "postgres", "postgres")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PG")},
        **{"PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": "postgres", "PGPASSWORD": "none"},
    }
    try:
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"]
        run([str(programs / "initdb"), f"--pgdata={folder / 'data'}", *options], cwd=folder, **identity)
        command = [str(programs / "postgres"), "-D", str(folder / "data"), "-h", "127.0.0.1", "-p", str(port)]
        command += ["-k", str(folder), "-c", "fsync=off", "-c", f"max_connections={connections}"]
        log = folder / "postgres.log"
        with process(command, stop=signal.SIGINT, log=log, cwd=folder, **identity) as server:
            ready = [str(programs / "pg_isready"), "--quiet"]
            wait_for(lambda: subprocess.run(ready, env=environment, check=False).returncode == 0, server, log)
            run([str(programs / "createdb"), name], env=environment)
            yield environment | {"PGDATABASE": name, "PSQL": str(programs / "psql")}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
