"""Nobody else's page reads the viewer, nothing outside the regions' images is served, and nothing large is taken."""

import asyncio
import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from viewer_region import NAME, loaded

from vsat.config import Region
from vsat.errors import InputError, VsatError
from vsat.viewer.app import create_app
from vsat.viewer.guard import MOST_BODY
from vsat.viewer.serving import bound, region_files, run

NAMES = ("VSAT.T33UVP.2023133.v1", "33UVP")  # an image and its tile
RED = f"/files/{NAME}/33UVP/{NAMES[0]}/{NAMES[0]}.red.tif"


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Region:
    return loaded(tmp_path_factory.mktemp("guard"))


@pytest.fixture(scope="module")
def client(region: Region) -> TestClient:
    return TestClient(create_app([region], hosts=["maps.example"], threads=1), base_url="http://127.0.0.1:4300")


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:4300", "LocalHost:80", "[::1]:4300", "maps.example"])
def test_names_of_this_server(client: TestClient, host: str) -> None:
    assert client.get("/api/regions", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", [
    "attacker.example", "127.0.0.1.attacker.example", "localhost.attacker.example:4300", "", "maps.example.", "[::1",
    "attacker.example:127.0.0.1", "localhost@attacker.example",
])  # fmt: skip
def test_strange_names_are_refused_everywhere(client: TestClient, host: str) -> None:
    for path in ("/", "/api/regions", "/stac", RED, "/none"):
        answer = client.get(path, headers={"Host": host})
        assert (answer.status_code, answer.headers["content-type"]) == (403, "application/problem+json")
        assert host not in answer.text or not host


def test_hosts_come_from_the_environment(region: Region, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VSAT_VIEWER_HOSTS", "one.example, two.example")
    client = TestClient(create_app([region], threads=1), base_url="http://two.example")
    assert client.get("/api/regions").status_code == 200
    assert client.get("/api/regions", headers={"Host": "three.example"}).status_code == 403


@pytest.mark.parametrize("path", ["/", "/api/regions", "/api/regions/none", "/none", "/stac", RED, "/api/openapi.json"])
def test_every_answer_has_the_headers(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'self'" and "script-src" not in policy
    assert policy["img-src"] == "'self' data: blob:" and policy["frame-ancestors"] == "'none'"
    assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
    assert "access-control-allow-origin" not in headers and "server" not in headers


TRAVERSALS = ["..", "../../../ledger.sqlite", "....//", "\0", "a\0b", "/etc/passwd", "..\\..\\ledger.sqlite", "~", "-", ".",
              "file:///etc/passwd", "http://127.0.0.1:1/x", "VSAT.T33UVP.2023133.v1.red.tif\0.png", ".hidden", "x" * 3000,
              "\ud800", "é", "%2e%2e", " ", "*", "?", "#"]  # fmt: skip


def asked(app: FastAPI, path: str) -> tuple[int, bytes]:
    """Status and body for a path that reaches the app as it is: clients tidy theirs up before they ask."""
    got: list[dict[str, Any]] = []
    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http", "path": path,
        "raw_path": b"", "query_string": b"", "root_path": "", "headers": [(b"host", b"localhost")], "server": None,
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        got.append(message)

    asyncio.run(app(scope, receive, send))  # type: ignore[arg-type]
    return got[0]["status"], b"".join(message.get("body", b"") for message in got)


@pytest.mark.parametrize("part", TRAVERSALS, ids=ascii)
def test_no_part_of_an_address_leads_elsewhere(client: TestClient, part: str) -> None:
    image, tile = NAMES
    for path in (
        f"/files/{NAME}/{tile}/{image}/{part}", f"/files/{NAME}/{tile}/{part}/{image}.red.tif", f"/static/{part}",
        f"/files/{NAME}/{part}/{image}/{image}.red.tif", f"/files/{part}/{tile}/{image}/{image}.red.tif",
        f"/api/regions/{part}", f"/api/regions/{NAME}/tiles/virtual/{part}/1/0/0.png", f"/stac/collections/{part}",
        f"/api/regions/{NAME}/tiles/{part}/2023-05-13/1/0/0.png", f"/stac/collections/{NAME}/items/{part}",
        f"/api/regions/{NAME}/legend/{part}",
    ):  # fmt: skip
        status, body = asked(client.app, path)  # type: ignore[arg-type]
        assert status in (404, 422), path
        assert b"root:" not in body and b"SQLite" not in body and json.loads(body)["status"] == status


def test_only_listed_files_are_served(client: TestClient, region: Region) -> None:
    (folder,) = (region.home / "images" / "33UVP").glob(NAMES[0])
    (Path(str(folder)) / "notes.txt").write_text("mine")
    (Path(str(folder)) / "link.tif").symlink_to("/etc/hostname")
    for name in ("notes.txt", "link.tif"):
        assert client.get(f"/files/{NAME}/33UVP/{NAMES[0]}/{name}").status_code == 404
    assert client.get(f"/files/{NAME}/33UWP/{NAMES[0]}/{NAMES[0]}.red.tif").status_code == 404  # another tile's
    assert client.get(RED).content == (Path(str(folder)) / f"{NAMES[0]}.red.tif").read_bytes()


@pytest.mark.parametrize(("given", "start", "stop"), [
    ("bytes=0-99", 0, 100), ("bytes=100-", 100, None), ("bytes=-7", -7, None), ("bytes=0-99999999", 0, None),
    ("bytes=5-5", 5, 6), ("bytes=-99999999", 0, None),
])  # fmt: skip
def test_ranges_are_those_bytes(client: TestClient, given: str, start: int, stop: int | None) -> None:
    whole = client.get(RED).content
    answer = client.get(RED, headers={"Range": given})
    assert answer.status_code == 206 and answer.content == whole[start:stop]
    first = start if start >= 0 else len(whole) + start
    assert answer.headers["content-range"] == f"bytes {first}-{first + len(answer.content) - 1}/{len(whole)}"


@pytest.mark.parametrize("given", [
    "bytes=9-5", "bytes=", "bytes=-", "bytes=-0", "bytes=a-b", "bytes=0-1,3-4", "items=0-5", "bytes=99999999999-",
    "bytes=" + "0-1," * 1000, "bytes=0x0-0x9", "bytes=" + "9" * 400 + "-",
])  # fmt: skip
def test_hostile_ranges_are_refused(client: TestClient, given: str) -> None:
    answer = client.get(RED, headers={"Range": given})
    assert answer.status_code == 416 and answer.headers["content-range"].startswith("bytes */")
    assert answer.headers["content-type"] == "application/problem+json"


def test_a_range_of_a_changed_file_is_the_whole_new_one(client: TestClient) -> None:
    tag, whole = client.get(RED).headers["etag"], client.get(RED).content
    assert client.get(RED, headers={"Range": "bytes=0-9", "If-Range": tag}).content == whole[:10]
    assert client.get(RED, headers={"Range": "bytes=0-9", "If-Range": '"old"'}).content == whole
    assert client.get(RED, headers={"If-None-Match": tag}).status_code == 304
    head = client.head(RED)
    assert head.status_code == 200 and int(head.headers["content-length"]) == len(whole) and not head.content


def test_large_bodies_and_queries_are_refused(client: TestClient) -> None:
    large = b'{"geometry":"' + b"x" * MOST_BODY + b'"}'
    pieces = (large[at : at + 65536] for at in range(0, len(large), 65536))  # without a length in its header
    for path in (f"/api/regions/{NAME}/statistics", "/stac/search"):
        headers = {"content-type": "application/json"}
        assert client.post(path, content=large, headers=headers).status_code == 413
        assert client.post(path, content=pieces, headers=headers).status_code == 413
        pieces = iter([large])
    assert client.get("/stac/search?ids=" + "x" * 9000).status_code == 413
    for length in ("-1", "1e9", "x", "9" * 500):
        answer = client.post("/stac/search", content=b"{}", headers={"content-length": length})
        assert answer.status_code == 413


@pytest.mark.parametrize("body", [
    b"", b"[", b"null", b"[]", b"{}", b'{"geometry": null}', b"[" * 100_000, b'{"geometry":' * 5000, b"\xff\xfe", b'"x"',
    b'{"geometry":{"type":"Polygon","coordinates":[[[NaN,0],[1,1],[2,0],[NaN,0]]]}}',
    b'{"geometry":{"type":"Polygon","coordinates":[[[1e999,0],[1,1],[2,0],[1e999,0]]]}}',
    b'{"geometry":{"type":"Point","coordinates":[1,2]}}', b'{"geometry":{"type":"Polygon","coordinates":[]}}',
])  # fmt: skip
def test_bodies_that_are_none_are_refused(client: TestClient, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    answer = client.post(f"/api/regions/{NAME}/statistics", content=body, headers=headers)
    assert answer.status_code in (400, 422), answer.text[:200]
    assert answer.headers["content-type"] == "application/problem+json" and len(answer.content) < 5000
    assert client.post("/stac/search", content=body, headers=headers).status_code in (200, 400, 422)


def test_other_methods_are_refused(client: TestClient) -> None:
    for method in ("PUT", "DELETE", "PATCH", "POST", "TRACE"):
        answer = client.request(method, f"/api/regions/{NAME}")
        assert (answer.status_code, answer.headers["content-type"]) == (405, "application/problem+json")


def test_an_area_too_large_is_refused_before_a_pixel_is_read(client: TestClient) -> None:
    world = [[-179, -79], [179, -79], [179, 79], [-179, 79], [-179, -79]]
    answer = client.post(
        f"/api/regions/{NAME}/statistics", json={"geometry": {"type": "Polygon", "coordinates": [world]}}
    )
    assert answer.status_code == 422
    corners = [[14.2 + 1e-6 * (i % 2), 48.1 + 1e-7 * i] for i in range(10_001)]
    many = {"geometry": {"type": "Polygon", "coordinates": [[*corners, corners[0]]]}}
    answer = client.post(f"/api/regions/{NAME}/statistics", json=many)
    assert answer.status_code == 422 and "corners" in answer.json()["detail"]


def test_regions_that_cannot_be_served_are_told(
    region: Region, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with bound("127.0.0.1", 0) as listener:
        with pytest.raises(InputError, match=f"two regions are named {NAME}"):
            run([region, region], listener)
        taken = listener.getsockname()[1]
        listener.listen()
        with pytest.raises(VsatError, match=str(taken)):
            bound("127.0.0.1", taken)
    with pytest.raises(VsatError, match="nothing can listen"):
        bound("192.0.2.1", 0)
    monkeypatch.setenv("VSAT_REGIONS", str(tmp_path))
    with pytest.raises(InputError, match="no region file"):
        region_files()


def test_serve_answers_on_loopback_and_ends_when_asked(tmp_path: Path) -> None:
    from regions import write_region

    command = [sys.executable, "-m", "vsat.cli", "serve", str(write_region(tmp_path)), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("map       http://127.0.0.1:") and line.strip().endswith("/?region=tiny")
        port = int(line.split(":")[2].split("/")[0])
        with socket.create_connection(("127.0.0.1", port), timeout=60) as line_out:
            line_out.sendall(b"GET /api/regions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            answer = b"".join(iter(lambda: line_out.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200") and b'"tiny"' in answer
    finally:
        process.terminate()
        assert process.wait(60) == 0
