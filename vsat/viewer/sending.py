"""Answers that a browser may keep: it asks again each time, and gets 304 as long as nothing has changed."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

from fastapi import Request
from starlette.responses import Response

import vsat


def etag(request: Request, digest: str) -> str:
    """The entity tag of what this address shows of sources with this digest."""
    told = f"{vsat.__version__} {request.url.path}?{request.url.query} {digest}"
    return f'"{hashlib.sha256(told.encode()).hexdigest()[:32]}"'


def kept(request: Request, digest: str, make: Callable[[], bytes], media: str) -> Response:
    """The content, or 304 where the browser has it already; it is not made then."""
    tag = etag(request, digest)
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if tag in [one.strip().removeprefix("W/") for one in request.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=304, headers=headers)
    return Response(make(), media_type=media, headers=headers)


def as_json(value: Any, media: str = "application/json") -> Response:
    """The value as JSON; NaN is a mistake of ours."""
    content = json.dumps(value, allow_nan=False, separators=(",", ":")).encode()
    return Response(content, media_type=media, headers={"Cache-Control": "no-cache"})


def attachment(content: str, name: str, media: str = "text/csv; charset=utf-8") -> Response:
    """A text to be saved under a name."""
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-cache"}
    return Response(content.encode(), media_type=media, headers=headers)
