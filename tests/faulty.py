"""A loopback server for files and STAC that answers well, or as badly as it is told to.

    with serving({"/a.tif": data}) as server:
        server.fail("/a.tif", truncated(100), status(503))   # the first two answers; then it is good again
        read(server.href("/a.tif"))
        assert len(server.asked("/a.tif")) == 3

A fault is a function of (handler, body, headers) that writes the answer itself.
"""

import json
import socket
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from vsat.io.trust import Endpoint

Fault = Callable[["Handler", bytes, dict[str, str]], None]
LOGIN_PAGE = b"<!DOCTYPE html>\n<html><title>Earthdata Login</title><form>urs.earthdata.nasa.gov</form></html>"


@dataclass(frozen=True)
class Request:
    path: str
    query: str
    headers: Mapping[str, str]


@dataclass
class State:
    files: dict[str, bytes]
    faults: dict[str, list[Fault]] = field(default_factory=lambda: defaultdict(list))
    always: dict[str, Fault] = field(default_factory=dict)
    log: list[Request] = field(default_factory=list)
    pages: Callable[[dict[str, str]], Any] | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    state: State

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        with self.state.lock:
            self.state.log.append(Request(url.path, url.query, dict(self.headers)))
            waiting = self.state.faults.get(url.path)
            fault = waiting.pop(0) if waiting else self.state.always.get(url.path)
        body, headers = self._body(url.path)
        try:
            if fault is not None:
                fault(self, body or b"", headers)
            elif body is None:
                self.answer(404, b"not here")
            else:
                self.send_good(body, headers)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def do_POST(self) -> None:
        """As a GET, once what was sent is read."""
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.do_GET()

    def do_HEAD(self) -> None:
        """Only the length, for clients such as GDAL that ask first; never faulty, never logged."""
        body, headers = self._body(urlsplit(self.path).path)
        self.send_response(404 if body is None else 200)
        for key, value in {"Content-Length": str(len(body or b"")), "Accept-Ranges": "bytes", **headers}.items():
            self.send_header(key, value)
        self.end_headers()

    def _body(self, path: str) -> tuple[bytes | None, dict[str, str]]:
        if self.state.pages is not None and path in ("/", "/search"):
            host = f"http://{self.headers['Host']}"
            query = {key: values[-1] for key, values in parse_qs(urlsplit(self.path).query).items()}
            page = root(host) if path == "/" else self.state.pages({**query, "host": host})
            return json.dumps(page).encode(), {"Content-Type": "application/json"}
        return self.state.files.get(path), {}

    def good(self, body: bytes, headers: dict[str, str]) -> tuple[int, bytes, dict[str, str]]:
        """Status, bytes and headers of a good answer: the body, or the part of it that Range asks for."""
        span = self.headers.get("Range", "")
        if not span.startswith("bytes="):
            return 200, body, headers
        first, _, last = span[6:].partition("-")
        start, stop = int(first), min(len(body), int(last) + 1 if last else len(body))
        if start >= len(body):
            return 416, b"", {}
        return 206, body[start:stop], {**headers, "Content-Range": f"bytes {start}-{stop - 1}/{len(body)}"}

    def send_good(self, body: bytes, headers: dict[str, str]) -> None:
        self.answer(*self.good(body, headers))

    def answer(self, code: int, body: bytes, headers: Mapping[str, str] = {}) -> None:
        self.send_response(code)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()


class Server:
    """What a test holds of a running server."""

    def __init__(self, state: State, port: int) -> None:
        self.state, self.port = state, port
        self.netloc = f"127.0.0.1:{port}"
        self.url = f"http://{self.netloc}"

    def href(self, path: str) -> str:
        return self.url + path

    def fail(self, path: str, *faults: Fault) -> None:
        """The next answers for a path, in this order."""
        self.state.faults[path].extend(faults)

    def always(self, path: str, fault: Fault) -> None:
        self.state.always[path] = fault

    def asked(self, path: str) -> list[Request]:
        return [request for request in self.state.log if request.path == path]

    def endpoint(self, kind: Any = "stac", **more: Any) -> Endpoint:
        """An endpoint whose catalogue and files are this server."""
        return Endpoint(kind, self.url, (("L30", "HLSL30_2.0"), ("S30", "HLSS30_2.0")), (self.netloc,), **more)


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@contextmanager
def serving(
    files: Mapping[str, bytes] | None = None, *, pages: Callable[[dict[str, str]], Any] | None = None
) -> Iterator[Server]:
    """A server of files (by path) and, with `pages`, of a STAC API at its root; down when the block ends."""
    state = State(dict(files or {}), pages=pages)
    with _Quiet(("127.0.0.1", 0), type("Bound", (Handler,), {"state": state})) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield Server(state, http.server_address[1])
        finally:
            http.shutdown()
            thread.join(5)


# What can go wrong with an answer.


def status(code: int, body: bytes = b"", **headers: str) -> Fault:
    """Only a status, with headers such as Retry_After="1"."""
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return lambda handler, _body, _headers: handler.answer(code, body, named)


def redirect(target: str, code: int = 302, **headers: str) -> Fault:
    named = {key.replace("_", "-"): value for key, value in headers.items()}
    return lambda handler, _body, _headers: handler.answer(code, b"", {"Location": target, **named})


def html(page: bytes = LOGIN_PAGE) -> Fault:
    """A page with status 200 where a file or JSON was asked."""
    return lambda handler, _body, _headers: handler.answer(200, page, {"Content-Type": "text/html"})


def replaced(new: bytes) -> Fault:
    """Other bytes, in a perfectly good answer."""
    return lambda handler, _body, headers: handler.send_good(new, headers)


def flipped(at: int, bit: int = 0) -> Fault:
    """One bit of the file is wrong."""

    def answer(handler: Handler, body: bytes, headers: dict[str, str]) -> None:
        wrong = bytearray(body)
        wrong[at] ^= 1 << bit
        handler.send_good(bytes(wrong), headers)

    return answer


def truncated(keep: int, *, honest: bool = False) -> Fault:
    """Only `keep` bytes come; `honest` declares that length, else the full one, and the line is cut."""

    def answer(handler: Handler, body: bytes, headers: dict[str, str]) -> None:
        if honest:
            handler.answer(200, body[:keep], headers)
            return
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[:keep])
        handler.wfile.flush()
        handler.close_connection = True

    return answer


def cut(share: float, *, ends: str) -> Fault:
    """Only a share of what was asked comes.

    Args:
        share: of the bytes, 0 to 1.
        ends: "closed" declares all of them and closes the line, "reset" resets it, "honest" declares the fewer ones.
    """

    def answer(handler: Handler, body: bytes, headers: dict[str, str]) -> None:
        code, part, told = handler.good(body, headers)
        keep = part[: int(share * len(part))]
        if ends == "honest":
            handler.answer(code, keep, told)
            return
        handler.answer(code, keep, {"Content-Length": str(len(part)), **told})
        handler.close_connection = True
        if ends == "reset":
            reset(handler, body, headers)

    return answer


def ignores_range(handler: Handler, body: bytes, headers: dict[str, str]) -> None:
    """The whole file, whatever was asked."""
    handler.answer(200, body, headers)


def wrong_range(handler: Handler, body: bytes, headers: dict[str, str]) -> None:
    """A part of the file from another place than asked."""
    handler.answer(206, body[7:1007], {**headers, "Content-Range": f"bytes 7-1006/{len(body)}"})


def hang(seconds: float) -> Fault:
    """Silence, then the line is cut."""

    def answer(handler: Handler, _body: bytes, _headers: dict[str, str]) -> None:
        time.sleep(seconds)
        handler.close_connection = True

    return answer


def drip(pause_s: float, size: int = 1) -> Fault:
    """A few bytes at a time: never silent for long, never done."""

    def answer(handler: Handler, body: bytes, headers: dict[str, str]) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        for at in range(0, len(body), size):
            handler.wfile.write(body[at : at + size])
            handler.wfile.flush()
            time.sleep(pause_s)

    return answer


def reset(handler: Handler, _body: bytes, _headers: dict[str, str]) -> None:
    """The connection is reset before an answer."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
    handler.close_connection = True


def needs(authorization: Callable[[], str]) -> Fault:
    """Good answers for those who send this Authorization, 401 for the others."""

    def answer(handler: Handler, body: bytes, headers: dict[str, str]) -> None:
        if handler.headers.get("Authorization") == authorization():
            handler.send_good(body, headers)
        else:
            handler.answer(401, b"")

    return answer


# A STAC API that pages as CMR-STAC does: GET, next links, numberMatched, an empty last page.


def root(host: str) -> dict[str, Any]:
    return {
        "type": "Catalog",
        "id": "faulty",
        "description": "a catalogue on loopback",
        "stac_version": "1.0.0",
        "conformsTo": ["https://api.stacspec.org/v1.0.0/core", "https://api.stacspec.org/v1.0.0/item-search"],
        "links": [
            {"rel": "self", "href": host},
            {"rel": "root", "href": host},
            {"rel": "search", "href": f"{host}/search", "method": "GET", "type": "application/geo+json"},
        ],
    }


@dataclass
class Catalogue:
    """Pages of items, with what may be wrong with them.

    Attributes:
        items: STAC items; filtered by `datetime` and `collections` of the query as real ones are.
        size: items of a page.
        counts: whether numberMatched is given.
        empty_last: whether the last full page links to an empty one.
        lose_next: this many searches lack the `next` link of their first page.
        repeat: this many second pages are the first page again.
        claims: added to numberMatched.
    """

    items: Sequence[Mapping[str, Any]]
    size: int = 100
    counts: bool = True
    empty_last: bool = False
    lose_next: int = 0
    repeat: int = 0
    claims: int = 0
    queries: list[dict[str, str]] = field(default_factory=list)

    def __call__(self, query: dict[str, str]) -> dict[str, Any]:
        self.queries.append(query)
        found = [item for item in self.items if self._fits(item, query)]
        size, number = min(self.size, int(query.get("limit", 10))), int(query.get("page", 0))
        if number == 1 and self.repeat > 0:
            self.repeat, number = self.repeat - 1, 0
        part = found[number * size : (number + 1) * size]
        more = len(found) > (number + 1) * size or (self.empty_last and bool(part))
        if more and number == 0 and self.lose_next > 0:
            self.lose_next, more = self.lose_next - 1, False
        links = []
        if more:
            following = {key: value for key, value in query.items() if key != "host"} | {"page": str(number + 1)}
            links = [{"rel": "next", "method": "GET", "href": f"{query['host']}/search?{urlencode(following)}"}]
        counts = {"numberMatched": len(found) + self.claims, "numberReturned": len(part)} if self.counts else {}
        return {"type": "FeatureCollection", "features": part, "links": links, **counts}

    def _fits(self, item: Mapping[str, Any], query: dict[str, str]) -> bool:
        start, _, end = query.get("datetime", "/9999").partition("/")
        collections = query.get("collections", "").split(",")
        properties = item.get("properties") or {"datetime": start}
        return (
            start[:19] <= properties["datetime"][:19] <= end[:19]
            and item.get("collection", collections[0]) in collections
        )
