"""Errors as problem JSON (RFC 9457): one shape for all, and never more than a reader may know."""

import json
import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from vsat.errors import InputError, VsatError

log = logging.getLogger(__name__)

MEDIA = "application/problem+json"
_TITLES = {
    400: "bad request", 403: "forbidden", 404: "not found", 405: "method not allowed", 413: "too large",
    416: "range not satisfiable", 422: "the request cannot be used", 500: "internal error", 503: "the store cannot be read",
}  # fmt: skip


class Problem(BaseModel):
    """What went wrong, and what to do about it."""

    type: str = Field(description="about:blank, or a page of the documentation")
    title: str = Field(description="the same for all problems of this kind")
    status: int = Field(description="the HTTP status")
    detail: str = Field(description="what is wrong here, and the next step")
    instance: str = Field(description="path of the request")


class Refused(Exception):
    """A request that cannot be served: status and words for the reader.

    Args:
        status: of HTTP.
        detail: what is wrong, and what to do about it.
    """

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        self.status, self.detail, self.headers = status, detail, headers
        super().__init__(detail)


def not_found(what: str) -> Refused:
    """The problem of something that is not there."""
    return Refused(404, what)


def problem_body(status: int, detail: str, instance: str) -> dict[str, Any]:
    """The JSON of a problem."""
    title = _TITLES.get(status, "error")
    return {"type": "about:blank", "title": title, "status": status, "detail": detail, "instance": instance}


def answers(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route's documentation says about these statuses."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {n: {"description": _TITLES[n], "content": {MEDIA: {"schema": schema}}} for n in sorted({*statuses, 400})}


def add_handlers(app: FastAPI) -> None:
    """Every error of the app becomes problem JSON."""

    def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refused)
        return _response(request, error.status, error.detail, error.headers)

    def http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _response(request, error.status_code, str(error.detail), dict(error.headers or {}))

    def invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        told = [f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()[:5]]
        return _response(request, 422, "; ".join(told))

    def vsat(request: Request, error: Exception) -> Response:
        assert isinstance(error, VsatError)
        status = 422 if isinstance(error, InputError) else 503
        if status == 503:
            log.error("%s: %s", request.url.path, error)
            return _response(
                request, status, f"{error.problem}; {error.next_step}"
            )  # the place is this machine's affair
        return _response(request, status, str(error))

    app.add_exception_handler(Refused, refused)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(VsatError, vsat)


def _response(request: Request, status: int, detail: str, headers: dict[str, str] | None = None) -> Response:
    # in ASCII: an address may hold what no encoding can say
    body = json.dumps(problem_body(status, detail, request.scope["path"])).encode()
    return Response(body, status, headers=headers, media_type=MEDIA)
