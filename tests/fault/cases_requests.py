"""Requests to the viewer that nobody means well with, as raw ASGI: clients tidy theirs up before they send them."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fault.confined import Case
from viewer_region import NAME, viewer_region

from vsat.config import load_region
from vsat.errors import InputError
from vsat.viewer.app import create_app

IMAGE = "VSAT.T33UVP.2023133.v1"
FILE = f"/files/{NAME}/33UVP/{IMAGE}/{IMAGE}.red.tif"
RING = [[14.21, 48.105], [14.22, 48.105], [14.22, 48.11], [14.21, 48.105]]
SECRETS = (b"root:", b"SQLite format", b"secret")


@dataclass(frozen=True)
class Asked:
    """A request as it reaches the application; `parts` of a body come one after the other."""

    path: str
    query: bytes = b""
    method: str = "GET"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    parts: tuple[bytes, ...] = (b"",)


def make_region(folder: Path) -> None:
    """A region with images, to be asked for."""
    viewer_region(folder)


def ask(asked: Asked) -> None:
    """Send it to a viewer of the region in the working folder.

    Raises:
        InputError: it was refused, with 4xx.
        AssertionError: the server failed, or gave away what it should not.
    """
    status, body = asyncio.run(_answer(asked))
    assert 200 <= status < 500, f"{status} {body[:300]!r}"
    assert not any(secret in body for secret in SECRETS), body[:300]
    if status >= 400:
        raise InputError(f"{status} {body[:200]!r}")


async def _answer(asked: Asked) -> tuple[int, bytes]:
    app = create_app([load_region(Path(f"{NAME}.yaml"))], hosts=["testserver"], threads=1)
    headers = (
        asked.headers
        if any(name == b"host" for name, _ in asked.headers)
        else ((b"host", b"testserver"), *asked.headers)
    )
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": asked.method, "scheme": "http",
        "path": asked.path, "raw_path": quote(asked.path, safe="/", errors="replace").encode(), "query_string": asked.query,
        "root_path": "", "headers": list(headers), "server": ("127.0.0.1", 4300), "client": ("127.0.0.1", 5),
    }  # fmt: skip
    left = [
        {"type": "http.request", "body": part, "more_body": n + 1 < len(asked.parts)}
        for n, part in enumerate(asked.parts)
    ]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return left.pop(0) if left else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    status = next(one["status"] for one in sent if one["type"] == "http.response.start")
    return status, b"".join(one.get("body", b"") for one in sent if one["type"] == "http.response.body")


def posted(path: str, content: Any, **options: Any) -> Asked:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    headers = ((b"content-type", b"application/json"), *options.pop("headers", ()))
    return Asked(path, method="POST", headers=headers, parts=options.pop("parts", (body,)))


def area(coordinates: Any, **more: Any) -> Asked:
    return posted(
        f"/api/regions/{NAME}/statistics",
        {"geometry": {"type": "Polygon", "coordinates": coordinates}, "show": "nir"} | more,
    )


def search(**fields: Any) -> Asked:
    return posted("/stac/search", fields)


def with_header(name: str, value: bytes, path: str = FILE) -> Asked:
    return Asked(path, headers=((name.encode(), value),))


TRAVERSALS: Sequence[str] = (
    "../../../../etc/passwd", "..%2f..%2fledger.sqlite", "%2e%2e/ledger.sqlite", "..\\..\\ledger.sqlite", "/etc/passwd",
    "file:///etc/passwd", "a\0.tif", f"{IMAGE}.red.tif\0.png", "\ud800", "..", ".", "~root", "x" * 100_000, "ledger.sqlite",
    "....//....//etc/passwd", "%252e%252e%252f", "..;/ledger.sqlite", "\u2025/ledger.sqlite", "con", "nul.tif",
)  # fmt: skip
CASES: list[tuple[str, Asked, str]] = [
    ("sound", Asked("/api/regions"), "fine"),
    ("a sound file", Asked(FILE), "fine"),
    *[(f"a file {n}: {name[:30]!r}", Asked(f"/files/{NAME}/33UVP/{IMAGE}/{name}"), "refused") for n, name in enumerate(TRAVERSALS)],
    *[(f"an item {n}: {name[:30]!r}", Asked(f"/files/{NAME}/33UVP/{name}/{IMAGE}.red.tif"), "refused") for n, name in enumerate(TRAVERSALS[:6])],
    *[(f"a region {n}: {name[:30]!r}", Asked(f"/api/regions/{name}"), "refused") for n, name in enumerate(TRAVERSALS[:6])],
    *[(f"the page's {n}: {name[:30]!r}", Asked(f"/static/{name}"), "refused") for n, name in enumerate(TRAVERSALS[:8])],
    ("a tile of zoom 10**9", Asked(f"/api/regions/{NAME}/tiles/virtual/2023-05-13/1000000000/0/0.png"), "refused"),
    ("a tile of zoom -1", Asked(f"/api/regions/{NAME}/tiles/virtual/2023-05-13/-1/0/0.png"), "refused"),
    ("a tile of column 2**60", Asked(f"/api/regions/{NAME}/tiles/virtual/2023-05-13/5/{2**60}/0.png"), "refused"),
    ("a layer nobody has", Asked(f"/api/regions/{NAME}/tiles/__class__/2023-05-13/5/0/0.png"), "refused"),
    ("a day in other digits", Asked(f"/api/regions/{NAME}/tiles/virtual/٢٠٢٣-٠٥-١٣/5/0/0.png"), "refused"),
    ("a day of month 13", Asked(f"/api/regions/{NAME}/tiles/virtual/2023-13-13/5/0/0.png"), "refused"),
    ("a place of NaN", Asked(f"/api/regions/{NAME}/series", b"lon=nan&lat=nan"), "refused"),
    ("a place of 1e308", Asked(f"/api/regions/{NAME}/series", b"lon=1e308&lat=48"), "refused"),
    ("a place with an underscore", Asked(f"/api/regions/{NAME}/series", b"lon=1_4.2&lat=48.11"), "any"),
    ("an animation 10**9 wide", Asked(f"/api/regions/{NAME}/animation.gif", b"width=1000000000"), "refused"),
    ("an animation of the world", Asked(f"/api/regions/{NAME}/animation.gif", b"bbox=-180,-90,180,90&width=64"), "any"),
    ("an animation of a hair", Asked(f"/api/regions/{NAME}/animation.gif", b"bbox=14.2,48.1,14.2000000001,48.2"), "any"),
    ("an animation of a sliver", Asked(f"/api/regions/{NAME}/animation.gif", b"bbox=-180,48.1,180,48.1000000001"), "any"),
    ("an animation of NaN", Asked(f"/api/regions/{NAME}/animation.gif", b"bbox=nan,nan,nan,nan"), "refused"),
    ("an animation of 1e999", Asked(f"/api/regions/{NAME}/animation.gif", b"bbox=1e999,0,1,1"), "refused"),
    ("a query of 100 kB", Asked("/stac/search", b"ids=" + b"a" * 100_000), "refused"),
    ("a query of no UTF-8", Asked("/stac/search", b"ids=%ff%fe&bbox=%00"), "refused"),
    ("a limit of 10**30", Asked("/stac/search", b"limit=1000000000000000000000000000000"), "refused"),
    ("a limit of 5,000 digits", Asked("/stac/search", b"limit=" + b"9" * 5000), "refused"),
    ("a token of odd letters", Asked("/stac/search", b"token=%00%0a%ed%a0%80"), "any"),
    ("intersects 1,000 deep", Asked("/stac/search", b"intersects=" + b"[" * 1000), "refused"),
    ("intersects of NaN", Asked("/stac/search", b"intersects=" + quote('{"type":"Point","coordinates":[NaN,Infinity]}').encode()), "refused"),
    ("a moment that is none", Asked("/stac/search", b"datetime=9999-99-99T99:99:99Z"), "refused"),
    ("a moment in year 1", Asked("/stac/search", b"datetime=0001-01-01T00:00:00%2B23:59/.."), "any"),
    ("an interval of nothing", Asked("/stac/search", b"datetime=../.."), "refused"),
    # bodies
    ("a body 100,000 deep", posted("/stac/search", b"[" * 100_000), "refused"),
    ("a body 900 deep", posted("/stac/search", b'{"intersects": ' + b'{"geometries": [' * 450 + b"1" + b"]}" * 450 + b"}"), "any"),
    ("geometries 200 in one another", search(intersects=json.loads(
        '{"type": "GeometryCollection", "geometries": [' * 200 + '{"type": "Point", "coordinates": [14, 48]}' + "]}" * 200)), "any"),
    ("a body of 5 MB", posted("/stac/search", b" " * 5_000_000), "refused"),
    ("a body of 5 MB without a length", posted("/stac/search", b"", parts=(b" " * 500_000,) * 10), "refused"),
    ("a body that lies about its length", posted("/stac/search", b"{}", headers=((b"content-length", b"-5"),)), "refused"),
    ("a length of 10**30", posted("/stac/search", b"{}", headers=((b"content-length", b"9" * 30),)), "refused"),
    ("a length in other digits", posted("/stac/search", b"{}", headers=((b"content-length", "²".encode("latin1")),)), "refused"),
    ("a body of no JSON", posted("/stac/search", b"\xff\xfe"), "refused"),
    ("a body of nothing", posted("/stac/search", b""), "refused"),
    ("numbers of 10,000 digits", posted("/stac/search", b'{"limit": ' + b"9" * 10_000 + b"}"), "refused"),
    ("numbers of 1e400", posted("/stac/search", b'{"bbox": [1e400, 0, 1, 1]}'), "refused"),
    ("100,000 ids", search(ids=["a"] * 100_000), "refused"),
    ("a type that is a list", search(intersects={"type": ["Point"], "coordinates": [1, 2]}), "refused"),
    ("a point of texts", search(intersects={"type": "Point", "coordinates": ["a", "b"]}), "refused"),
    ("a point of 10**400", search(intersects={"type": "Point", "coordinates": [10**400, 1]}), "refused"),
    ("features instead of geometries", search(intersects={"type": "Feature", "geometry": None}), "refused"),
    ("coordinates that are a map", search(intersects={"type": "Polygon", "coordinates": {"a": 1}}), "refused"),
    ("an area of NaN", posted(f"/api/regions/{NAME}/statistics", b'{"geometry": {"type": "Polygon", "coordinates": [[[NaN, 1]]]}}'), "refused"),
    ("an area of 1e308", area([[[1e308, 48], [-1e308, 48], [14, 49], [1e308, 48]]]), "refused"),
    ("an area of the world", area([[[-180, -80], [180, -80], [180, 84], [-180, 84], [-180, -80]]]), "refused"),
    ("an area of one point", area([[[14.2, 48.1]]]), "refused"),
    ("an area of points of nothing", area([[[], [], [], []]]), "refused"),
    ("an area of points of one number", area([[[14.2], [14.3], [14.2], [14.2]]]), "refused"),
    ("an area that crosses itself", area([[[14.21, 48.105], [14.22, 48.11], [14.22, 48.105], [14.21, 48.11], [14.21, 48.105]]]), "refused"),
    ("an area of 20,000 corners", area([[[14.21, 48.105]] * 20_000]), "refused"),
    ("an area of 101 rings", area([RING] * 101), "refused"),
    ("an area of 100 equal rings", area([RING] * 100), "refused"),
    ("an area with a spike to the pole", area([[[14.21, 48.105], [14.22, 83.9], [14.22, 48.11], [14.21, 48.105]]]), "any"),
    # headers
    *[(f"a range of {value[:20]!r}", with_header("range", value), expect) for value, expect in [
        (b"bytes=99999999999999999999-", "refused"), (b"bytes=-0", "refused"), (b"bytes=5-1", "refused"), (b"bytes=0-0,1-1", "refused"),
        (b"bytes=" + b"0-1," * 2000, "refused"), (b"lines=0-1", "refused"), (b"bytes=\xff-1", "refused"), (b"", "any"),
        (b"bytes=0-999999999999999999", "fine"), ("bytes=²-".encode("latin1"), "refused"),
    ]],
    *[(f"host {value[:30]!r}", with_header("host", value, "/api/regions"), "refused") for value in [
        b"169.254.169.254", b"testserver.example.org", b"testserver\x00", b"", b"\xff", b"testserver:80:80", b"[::1", b"a" * 100_000]],
    ("a host given as another", with_header("x-forwarded-host", b"example.org", "/stac"), "fine"),
    ("an ETag of 100 kB", with_header("if-none-match", b'"' + b"a" * 100_000 + b'"'), "fine"),
    ("a method nobody has", Asked("/api/regions", method="TRACE"), "refused"),
    ("a file deleted", Asked(FILE, method="DELETE"), "refused"),
    ("a file put", Asked(FILE, method="PUT", parts=(b"x",)), "refused"),
    ("a path of 1 MB", Asked("/" + "a/" * 500_000), "refused"),
    ("a path of control characters", Asked("/api/regions/\x1b[2J\r\nSet-Cookie: a"), "refused"),
]  # fmt: skip
HEAVY = {"a path of 1 MB", "an animation of the world"}


def cases(**_: int) -> list[Case]:
    """All of them."""
    return [
        Case("requests", name, lambda place, asked=asked: asked, ask, expect, heavy=name in HEAVY)
        for name, asked, expect in CASES
    ]
