"""Two servers on this machine for an archive: a STAC API (`rustac serve`) and files with range requests (Starlette).

A supervisor process (this module run with -m) holds both. It ends when the pipe from its parent closes, so nothing is
left behind, however the parent dies.
"""

import contextlib
import ctypes
import http.client
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vsat.errors import CatalogueDown, VsatError

HOST = "127.0.0.1"
FILES_ROOT = "archive:/"  # stands in served documents for the address of the file server
PATIENCE_S = 30.0
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Servers:
    """Where the two answer: the API's root, and `127.0.0.1:port` of the file server."""

    api: str
    files: str


@contextlib.contextmanager
def running(folder: Path, documents: Path, *, patience_s: float = PATIENCE_S) -> Iterator[Servers]:
    """Serve the files below `folder` and the STAC documents in `documents` until the block ends.

    Args:
        folder: root of the files.
        documents: a folder of our own with STAC collections and items in JSON; FILES_ROOT in them is replaced.
        patience_s: how long they may take to answer.

    Yields:
        Their addresses; both have answered once.

    Raises:
        CatalogueDown: they did not start or did not answer in time.
        VsatError: `rustac` is not installed.
    """
    command = [
        sys.executable,
        "-P",
        "-m",
        "vsat.io.servers",
        _rustac(),
        str(folder.resolve()),
        str(documents.resolve()),
    ]
    package_root = str(Path(__file__).parents[2])
    paths = [package_root, *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    with (documents / "log.txt").open("w+b") as complaints:
        # its own session: Ctrl-C goes to the parent alone, which may still need its files, and then closes the pipe
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env=environment,
            start_new_session=True,
        )
        try:
            yield _await(process, documents / "log.txt", patience_s)
        finally:
            _end(process)


def _await(process: subprocess.Popen[bytes], complaints: Path, patience_s: float) -> Servers:
    """The addresses that the supervisor tells when both servers have answered."""
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], patience_s)
    line = process.stdout.readline() if ready else b""
    if not line:
        said = " | ".join(complaints.read_text(errors="replace").strip().splitlines()[-3:]) or "no message"
        what = "ended at once" if ready else f"did not answer within {patience_s:g} s"
        problem = f"the archive's servers {what}: {said}"
        raise CatalogueDown(
            problem, place=HOST, next_step="try again; if it stays, run `rustac serve` by hand and see what it says"
        )
    told = json.loads(line)
    return Servers(f"http://{HOST}:{told['api']}", f"{HOST}:{told['files']}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Close the pipe, on which the supervisor ends itself and its child; kill it if it does not."""
    assert process.stdin is not None and process.stdout is not None
    with contextlib.suppress(OSError):
        process.stdin.close()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def _rustac() -> str:
    """The program beside this Python, else on the path."""
    found = shutil.which("rustac", path=sysconfig.get_path("scripts")) or shutil.which("rustac")
    if found is None:
        raise VsatError("the program `rustac` is not installed", next_step="pip install rustac")
    return found


def main(rustac: str, folder: str, documents: str) -> None:
    """Run both servers until standard input closes or the parent is gone; the supervisor's whole life."""
    listener = socket.create_server((HOST, 0))
    files_port = listener.getsockname()[1]
    _fill_in(Path(documents), f"http://{HOST}:{files_port}")
    api, api_port = _start_api(rustac, Path(documents))
    threading.Thread(target=_watch, args=(os.getppid(), api, Path(documents)), daemon=True).start()
    threading.Thread(target=_tell, args=(api_port, files_port), daemon=True).start()
    try:
        _serve_files(folder, listener)
    finally:
        api.kill()


def _fill_in(documents: Path, address: str) -> None:
    for document in documents.glob("*.json"):
        document.write_text(document.read_text().replace(FILES_ROOT, address))


def _start_api(rustac: str, documents: Path) -> tuple[subprocess.Popen[bytes], int]:
    """rustac on a free port. Another process may take the port in between: then it ends at once, and we try another."""
    hrefs = [str(path) for path in sorted(documents.glob("*.json"))]
    for _ in range(5):
        with socket.create_server((HOST, 0)) as probe:
            port = probe.getsockname()[1]
        process = subprocess.Popen(
            [rustac, "serve", "--addr", f"{HOST}:{port}", *hrefs],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            preexec_fn=_die_with_parent,  # noqa: PLW1509 - no other thread runs yet
        )
        while process.poll() is None:
            if _answers(port):
                return process, port
            time.sleep(0.02)
    raise SystemExit(f"rustac ended at once, {process.returncode}")


def _die_with_parent() -> None:
    """Ask the kernel to end rustac with the supervisor, should that be killed; only Linux knows this."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=2)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status < 500
    except OSError:
        return False
    finally:
        connection.close()


def _tell(api_port: int, files_port: int) -> None:
    """One line to the parent, once the file server answers too; the API has."""
    while not _answers(files_port):
        time.sleep(0.02)
    print(json.dumps({"api": api_port, "files": files_port}), flush=True)  # noqa: T201 - to the pipe


def _watch(parent: int, api: subprocess.Popen[bytes], documents: Path) -> None:
    """End everything when the pipe closes; when a forked sibling still holds it, when the parent is gone."""
    while os.getppid() == parent and api.poll() is None:
        ready, _, _ = select.select([0], [], [], 1.0)
        if ready and not os.read(0, 1):
            break
    told_to_end = api.poll() is None
    api.kill()
    api.wait()
    if told_to_end:  # a parent that was killed can't do it; its pipe closes before the kernel gives us another parent
        shutil.rmtree(documents, ignore_errors=True)
    os._exit(0)


def _serve_files(folder: str, listener: socket.socket) -> None:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.routing import Mount
    from starlette.staticfiles import StaticFiles

    app = Starlette(routes=[Mount("/", StaticFiles(directory=folder))])
    config = uvicorn.Config(app, log_level="warning", access_log=False, lifespan="off")
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main(*sys.argv[1:])
