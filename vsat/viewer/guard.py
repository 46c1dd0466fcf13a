"""What every request passes: the Host it names, the size of what it brings, and the headers of what it gets.

A page of another site that the same browser shows can point a name of its own at 127.0.0.1 (DNS rebinding) and would
then read this server as if it were its own; it can't choose the Host header, so a strange one is refused.
"""

import json
from collections.abc import Iterable

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vsat.viewer.problems import MEDIA, problem_body

MOST_BODY = 1 << 20  # bytes of a request; a polygon of 10,000 corners has 400 kB
MOST_QUERY = 8 << 10
LOOPBACK = frozenset(("localhost", "127.0.0.1", "[::1]"))
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' data: blob:; style-src 'self' 'unsafe-inline'; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class Guard:
    """ASGI middleware: refuses strange hosts and bodies that are too large, and adds HEADERS to every answer.

    Args:
        app: what is guarded.
        hosts: names that the server goes by, without port, besides those of loopback.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str] = ()) -> None:
        self._app, self._hosts = app, LOOPBACK | {name.lower() for name in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        if _name(headers.get("host", "")) not in self._hosts:
            detail = "the Host header names another server; VSAT_VIEWER_HOSTS lists the names that this one goes by"
            await _refuse(scope, sending, 403, detail)
        elif len(scope.get("query_string", b"")) > MOST_QUERY:
            await _refuse(scope, sending, 413, f"a query has at most {MOST_QUERY} characters")
        elif (body := await _body(scope["method"], headers, receive)) is None:
            await _refuse(scope, sending, 413, f"a request brings at most {MOST_BODY} bytes")
        else:
            await self._app(scope, _once(body, receive), sending)


async def _body(method: str, headers: Headers, receive: Receive) -> bytes | None:
    """All of the body; None if it is too large, by its header or in fact."""
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdigit()) or int(length[:20]) > MOST_BODY:
        return None
    parts, size, more = [], 0, method not in ("GET", "HEAD", "OPTIONS")
    while more:
        message = await receive()
        if message["type"] != "http.request":
            return b""
        part = message.get("body", b"")
        size, more = size + len(part), message.get("more_body", False)
        if size > MOST_BODY:
            return None
        parts.append(part)
    return b"".join(parts)


def _once(body: bytes, receive: Receive) -> Receive:
    """The body again, for the app to read; then whatever else comes."""
    left: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return left.pop() if left else await receive()

    return again


def _name(host: str) -> str:
    """The name in a Host header, without its port."""
    name = host.lower().rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host.lower()
    return name or host.lower()


async def _refuse(scope: Scope, send: Send, status: int, detail: str) -> None:
    body = json.dumps(problem_body(status, detail, scope["path"])).encode()
    headers = [(b"content-type", MEDIA.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body if scope["method"] != "HEAD" else b""})
