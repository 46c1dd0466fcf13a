"""What every test gets: no network but loopback, no home of the user's, the real data where they lie beside the project."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from disks import PAGE_BYTES, CannotMountError, small_disk
from object_store import ObjectStore, serving

from vsat.objects import ObjectPath, place_of

SHARED = Path(os.environ.get("VSAT_SHARED", Path(__file__).parents[2] / "shared"))
# A shell's background jobs come with SIGINT ignored, and so would every process that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
LOOPBACK = {"127.0.0.1", "::1", "localhost"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `real` where the real data are absent; files that wait and kill go first, for all to end together."""
    if not (SHARED / "data").is_dir():
        absent = pytest.mark.skip(reason="real data are not beside the project (../shared/data)")
        for item in items:
            if "real" in item.keywords:
                item.add_marker(absent)
    longest = {item.path for item in items if {"fault", "flow"} & set(item.keywords)}
    items.sort(key=lambda item: item.path not in longest)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the real data and the reference protocol."""
    return SHARED


@pytest.fixture(scope="session")
def shared_data(shared: Path) -> Path:
    """The folder with the real cubes, granules and recorded answers."""
    return shared / "data"


@pytest.fixture(autouse=True)
def only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every connection to another host than this one fails."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if (
            self.family in (socket.AF_INET, socket.AF_INET6)
            and isinstance(address, tuple)
            and address[0] not in LOOPBACK
        ):
            raise OSError(f"a test tried to reach {address[0]}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No token, proxy or setting of the person who runs the tests reaches a test."""
    for name in list(os.environ):
        if name.startswith(("EARTHDATA_", "AWS_", "GDAL_", "VSAT_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path_factory.getbasetemp() / "no-netrc"))
    yield


@pytest.fixture(scope="session")
def mounts(tmp_path_factory: pytest.TempPathFactory) -> None:
    """File systems may be mounted; skips where they may not."""
    try:
        with small_disk(tmp_path_factory.mktemp("mounts") / "disk", PAGE_BYTES):
            pass
    except CannotMountError as error:
        pytest.skip(f"no file system can be mounted here: {error}")


@pytest.fixture(scope="session")
def object_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """A real S3 server on loopback; skips where there is none."""
    with serving(tmp_path_factory.mktemp("object-store")) as store:
        yield store


@pytest.fixture
def bucket(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ObjectPath:
    """An empty place in a bucket, with what reaches it in the environment."""
    for name, value in object_store.environment.items():
        monkeypatch.setenv(name, value)
    return place_of(f"s3://{object_store.bucket}/{abs(hash(request.node.nodeid)):x}")
