"""A site that the region lists, a neighbour that it doesn't, files nobody may read, and one attempt on them at a time.

An attempt ends in a text: what the user is told. Anything else that is raised is a crash.
"""

import contextlib
import json
import socket
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import faulty
import numpy as np
import pytest
from fault.watcher import Seen, watching
from faulty import Fault, Server, serving
from granules import GRID, NAME, cmr_item, geotiff, pixels

from vsat.errors import VsatError
from vsat.hls import BANDS, FILES
from vsat.io.catalog import Endpoint, search
from vsat.io.download import Patience
from vsat.io.reader import read_granule

DAY = date(2024, 5, 2)
ONCE = Patience(attempts=1, first_delay_s=0.001, cap_s=0.001, budget_s=20, attempt_s=10, connect_s=2, silence_s=2)
ARRAYS = pixels(GRID.shape)
GOOD = {band: geotiff(array) for band, array in ARRAYS.items()}
MAX_PEAK_MB = 400.0  # of one attempt, over what the process held before
LISTED = "data.example.org"
GZIP = b"\x1f\x8b\x08\0\0\0\0\0\0\xff"  # the head of a gzip stream


class SilentError(AssertionError):
    """Pixels came that are not the granule's, and nobody was told."""


@dataclass
class World:
    """What an attempt has around it."""

    site: Server
    neighbour: Server
    secrets: Path

    def item(self, **changes: Any) -> dict[str, Any]:
        """A good item; `changes` replace its keys."""
        return {**cmr_item(NAME, base=self.site.url), **changes}

    def path(self, band: str) -> str:
        file = {**FILES["L30"], "fmask": "Fmask"}[band]
        return f"/HLSL30.020/{NAME}/{NAME}.{file}.tif"

    def reset(self) -> None:
        """The site is good again: one good item, and its files."""
        self.site.state.files = {self.path(band): data for band, data in GOOD.items()}
        self.site.state.always.clear()
        self.site.state.faults.clear()
        self.serve(self.item())
        self.neighbour.state.log.clear()

    def serve(self, *items: Any) -> None:
        """These items are the catalogue's answer."""
        page = {"type": "FeatureCollection", "features": list(items), "links": [], "numberMatched": len(items)}
        self.site.state.pages = lambda _query: page

    def answer(self, path: str, body: bytes, **headers: str) -> None:
        """Always this body there."""
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        self.site.always(path, lambda handler, _body, _headers: handler.answer(200, body, named))

    def fill_in(self, text: str) -> str:
        """Addresses and paths of this world for their names in braces."""
        places = {
            "site": self.site.netloc,
            "port": str(self.neighbour.port),
            "secret": str(self.secrets / "secret.txt"),
            "image": str(self.secrets / "secret.tif"),
        }
        for name, value in places.items():
            text = text.replace("{" + name + "}", value)
        return text

    @property
    def endpoint(self) -> Endpoint:
        return self.site.endpoint()


Setup = Callable[[World], None]


@dataclass(frozen=True)
class Case:
    """One hostile input.

    Attributes:
        kind: of what the input is.
        name: unique among its kind.
        setup: makes the world hostile.
        told: what the outcome must match; "read" is for inputs that do no harm and are read right.
    """

    kind: str
    name: str
    setup: Setup
    told: str


@dataclass(frozen=True)
class Outcome:
    """What came of a case: what was told, what was reached for, memory, and what broke."""

    told: str
    seen: Seen
    crash: str = ""


@contextlib.contextmanager
def world(folder: Path) -> Iterator[World]:
    """Both servers and the canaries, in a folder of its own."""
    secrets = folder / "secrets"
    secrets.mkdir(parents=True)
    (secrets / "secret.txt").write_text("SECRET")
    (secrets / "secret.tif").write_bytes(geotiff(np.full(GRID.shape, 4321, np.int16)))
    (secrets / "netrc").write_text("machine data.example.org login SECRET password SECRET\n")
    with serving() as site, serving({"/secret": b"SECRET"}) as neighbour, pytest.MonkeyPatch.context() as patch:
        patch.setenv("NETRC", str(secrets / "netrc"))
        made = World(site, neighbour, secrets)
        made.reset()
        assert attempt(made) == "read"  # everything is loaded and compiled before anyone watches
        yield made


def attempt(world: World) -> str:
    """Search and read everything, and what is told of it."""
    found = search(world.endpoint, GRID, DAY, DAY, patience=ONCE)
    told = [f"{bad.id}: {bad.reason}" for bad in found.unusable]
    for granule in found.granules:
        scene = read_granule(granule, GRID, world.endpoint, patience=ONCE, threads=2)
        expected = [ARRAYS[band] for band in BANDS]
        if not (np.array_equal(scene.refl_byx, expected) and np.array_equal(scene.fmask_yx, ARRAYS["fmask"])):
            raise SilentError(granule.id)
        told.append("read")
    return "; ".join(told) or "nothing"


def tried(world: World, case: Case) -> Outcome:
    """One case in a fresh world."""
    world.reset()
    case.setup(world)
    hosts = {("127.0.0.1", world.site.port)}
    with watching(hosts=hosts, canaries=world.secrets, names={"localhost"}) as seen:
        told, crash = outcome(lambda: attempt(world))
    seen.outside += [f"neighbour {request.path}" for request in world.neighbour.state.log]
    return Outcome(told, seen, crash)


def outcome(run: Callable[[], str]) -> tuple[str, str]:
    """(what was told, what broke): one of them is empty."""
    try:
        return run(), ""
    except VsatError as error:
        return str(error), ""
    except Exception as error:  # noqa: BLE001 - whatever it is: that is what we are here to see
        return "", f"{type(error).__name__}: {error}"[:300]


@contextlib.contextmanager
def leading(addresses: Mapping[str, tuple[str, ...]]) -> Iterator[None]:
    """DNS says this of these names, and the truth of all others."""
    true = socket.getaddrinfo

    def told(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        if host not in addresses:
            return true(host, port, *args, **options)
        family = {True: socket.AF_INET6, False: socket.AF_INET}
        return [(family[":" in ip], socket.SOCK_STREAM, 6, "", (ip, port)) for ip in addresses[host]]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", told)
        yield


def dns_outcome(world: World, addresses: tuple[str, ...], *, catalogue: bool) -> Outcome:
    """What comes of a listed host whose name leads to these addresses: the catalogue's host, or that of files."""
    world.reset()
    endpoint = replace(world.endpoint, hosts=(LISTED,))
    if catalogue:
        endpoint = replace(endpoint, url=f"https://{LISTED}/stac")
    else:
        world.serve(cmr_item(NAME, base=f"https://{LISTED}"))
    hosts = {("127.0.0.1", world.site.port)}

    def run() -> str:
        found = search(endpoint, GRID, DAY, DAY, patience=ONCE)
        for granule in found.granules:
            read_granule(granule, GRID, endpoint, patience=ONCE, threads=2)
        return "read"

    with leading({LISTED: addresses}), watching(hosts=hosts, canaries=world.secrets, names={LISTED}) as seen:
        told, crash = outcome(run)
    return Outcome(told, seen, crash)


def bad_json(path: str, body: bytes | str | Callable[[], bytes | str], **headers: str) -> Setup:
    """The catalogue answers there with this text; a long one is made when it is needed."""

    def setup(world: World) -> None:
        text = body() if callable(body) else body
        raw = text if isinstance(text, bytes) else text.encode()
        world.answer(path, raw, Content_Type="application/json", **headers)

    return setup


def swollen(megabytes: int, head: bytes = b"\x78\x01") -> bytes:
    """A deflate stream (with gzip's head: of gzip) of so many MB of zeros, made without them; its checksum is wrong."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    packed = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return head + packed * megabytes + b"\x03\0" + bytes(8)


def page(**changes: Any) -> str:
    """A page of search results with these keys."""
    return json.dumps({"type": "FeatureCollection", "features": [], "links": [], **changes})


def always(band: str, fault: Fault) -> Setup:
    """The file of a band is always answered so."""
    return lambda world: world.site.always(world.path(band), fault)


def redirected(path: str | None, target: str) -> Setup:
    """The red file, or a path of the catalogue, sends us elsewhere."""
    return lambda world: world.site.always(path or world.path("red"), faulty.redirect(world.fill_in(target)))
