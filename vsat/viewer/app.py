"""The viewer as an ASGI application: page, API, STAC and files of some regions, for this machine's user alone."""

import os
from collections.abc import Sequence
from importlib import resources
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.responses import Response

import vsat
from vsat.config import Region
from vsat.settings import Settings
from vsat.viewer import files, stac_routes
from vsat.viewer import regions as region_routes
from vsat.viewer.guard import Guard
from vsat.viewer.holdings import Shelves
from vsat.viewer.problems import Problem, add_handlers, answers, not_found

HOSTS = "VSAT_VIEWER_HOSTS"
MEDIA = {
    ".css": "text/css; charset=utf-8", ".html": "text/html; charset=utf-8", ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8", ".json": "application/json", ".map": "application/json",
    ".md": "text/plain; charset=utf-8", ".png": "image/png", ".svg": "image/svg+xml", ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json", ".woff2": "font/woff2",
}  # fmt: skip


def create_app(regions: Sequence[Region], *, hosts: Sequence[str] | None = None, threads: int | None = None) -> FastAPI:
    """The application over these regions; nothing of them is read before it is asked for.

    Args:
        regions: each with a name of its own.
        hosts: names, without port, that the server goes by besides localhost and 127.0.0.1; by default those that
            VSAT_VIEWER_HOSTS lists, with commas.
        threads: how many read at once; by default VSAT_WORKERS, or the processors.
    """
    app = FastAPI(
        title="vsat viewer",
        version=vsat.__version__,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.shelves = Shelves(regions, threads or Settings.from_environment().workers)
    for routes in (region_routes, stac_routes, files):
        app.include_router(routes.router)
    _add_page(app)
    _add_documentation(app)
    add_handlers(app)
    given = os.environ.get(HOSTS, "").split(",") if hosts is None else hosts
    app.add_middleware(Guard, hosts=[name.strip() for name in given if name.strip()])
    return app


def _add_page(app: FastAPI) -> None:
    """The page and what it needs: exactly the files that are in the package, found when the application is made."""
    root = resources.files("vsat.viewer") / "static"
    files: dict[str, tuple[bytes, str]] = {}

    def gather(folder: Any, prefix: str) -> None:
        for entry in folder.iterdir() if folder.is_dir() else ():
            name = f"{prefix}{entry.name}"
            if entry.is_dir():
                gather(entry, f"{name}/")
            elif (suffix := f".{entry.name.rpartition('.')[2]}") in MEDIA:
                files[name] = entry.read_bytes(), MEDIA[suffix]

    gather(root, "")

    def send(name: str) -> Response:
        if name not in files:
            raise not_found("there is no such file of the page")
        content, media = files[name]
        return Response(content, media_type=media, headers={"Cache-Control": "no-cache"})

    @app.get("/", include_in_schema=False)
    def page() -> Response:
        """The page."""
        return send("index.html")

    @app.get("/static/{name:path}", include_in_schema=False)
    def static(name: str) -> Response:
        """A file of the page."""
        return send(name)


def _add_documentation(app: FastAPI) -> None:
    """The OpenAPI document, with problem JSON where FastAPI would tell of its own errors."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(title=app.title, version=app.version, routes=app.routes, description=__doc__)
            schemas = made["components"]["schemas"]
            schemas["Problem"] = Problem.model_json_schema()
            for left in ("HTTPValidationError", "ValidationError"):
                schemas.pop(left, None)
            for path in made["paths"].values():
                for operation in path.values():
                    operation["responses"] |= {str(n): one for n, one in answers(403, 413, 422).items()}
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]

    @app.get("/api/openapi.json", tags=["about"], responses={200: {"description": "this document"}})
    def openapi() -> dict[str, Any]:
        """This document."""
        return document()
