"""Servers that leak: each gives back what it was told, or signs what it lists, in the worst place it can find."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from faulty import Catalogue, Fault, Handler, Server, needs, serving

from regions import TEXT, write_region
from vsat.config import load_region
from vsat.io import archive

FIRST, LAST = "2023-05-01", "2023-05-08"  # a few scenes, one image
Planted = Mapping[str, str]


def token_of(planted: Planted) -> str:
    """The Earthdata token, whose signature is the secret; it says that it holds for long."""
    parts = (json.dumps(part).encode() for part in ({"alg": "RS256"}, {"exp": 4102444800, "uid": "somebody"}))
    return ".".join([*(urlsafe_b64encode(part).decode().rstrip("=") for part in parts), planted["EARTHDATA_TOKEN"]])


@contextmanager
def regions_of(folder: Path, made: Path, planted: Planted, names: Sequence[str]) -> Iterator[dict[str, Path]]:
    """A region file for each name in `folder`, and the servers that they read from, until the block ends.

    Args:
        folder: where the region files and their stores lie.
        made: a region file whose archive they have.
        planted: secrets by name.
        names: of KINDS.
    """
    root = load_region(made).catalogue.path
    assert root is not None
    items = [item for item in archive.items(root) if FIRST <= item["properties"]["datetime"][:10] <= LAST]
    files = {f"/blobs/{path.relative_to(root)}": path.read_bytes() for path in root.rglob("*.tif")}
    with ExitStack() as servers:
        found = {}
        for name in names:
            http = servers.enter_context(serving())
            behave, kind = KINDS[name]
            query = f"?sig={planted['SIGNED_ADDRESS']}" if name in ("signed", "gone") else ""
            listed = json.loads(
                json.dumps(items).replace("archive:/", f"{http.url}/blobs").replace('.tif"', f'.tif{query}"')
            )
            http.state.pages = Catalogue(listed)
            http.state.files.update(files)
            for path in files:
                http.always(path, behave(http, planted))
            if name == "liar":
                http.always(
                    "/search", told({"code": "Expired", "description": planted["SERVER_SESSION"], "features": 1})
                )
            catalogue = f"kind: {kind}, url: '{http.url}', hosts: ['{http.netloc}']"
            found[name] = write_region(folder, name, text=TEXT.replace("kind: archive, path: archive", catalogue))
        yield found


def told(answer: Any, status: int = 200) -> Fault:
    """This JSON, whatever was asked."""
    return lambda handler, _body, _headers: handler.answer(
        status, json.dumps(answer).encode(), {"Content-Type": "application/json"}
    )


def _good(_http: Server, planted: Planted) -> Fault:
    return needs(lambda: f"Bearer {token_of(planted)}")


def _refused(_http: Server, _planted: Planted) -> Fault:
    """Refuses, and repeats the credentials in body and headers."""

    def answer(handler: Handler, _body: bytes, _headers: dict[str, str]) -> None:
        given = handler.headers.get("Authorization", "none")
        handler.answer(401, f"bad credentials: {given}".encode(), {"WWW-Authenticate": f"Bearer error={given}"})

    return answer


def _moved(_http: Server, _planted: Planted) -> Fault:
    """Sends on to a host that is not allowed, with the credentials in the address."""

    def answer(handler: Handler, _body: bytes, _headers: dict[str, str]) -> None:
        given = handler.headers.get("Authorization", "").removeprefix("Bearer ")
        handler.answer(302, b"", {"Location": f"https://{given}:x@elsewhere.invalid/{given}/?token={given}"})

    return answer


def _page(_http: Server, _planted: Planted) -> Fault:
    """A page of HTML with status 200 that repeats the credentials."""

    def answer(handler: Handler, _body: bytes, _headers: dict[str, str]) -> None:
        given = handler.headers.get("Authorization", "")
        handler.answer(200, f"<!DOCTYPE html><p>no such user: {given}".encode(), {"Content-Type": "text/html"})

    return answer


def _marked(_http: Server, planted: Planted) -> Fault:
    """Good bytes, whose ETag is the token."""

    def answer(handler: Handler, body: bytes, headers: dict[str, str]) -> None:
        handler.send_good(body, {**headers, "ETag": f'"{token_of(planted)}"', "Last-Modified": token_of(planted)})

    return answer


def _failing(_http: Server, planted: Planted) -> Fault:
    """Not here: with the address, query and all, in the body."""
    return lambda handler, _body, _headers: handler.answer(
        404, f"{handler.path} of {planted['SERVER_SESSION']}".encode()
    )


def _signed(_http: Server, planted: Planted) -> Fault:
    """Good for those who bring the signature of the address."""

    def answer(handler: Handler, body: bytes, headers: dict[str, str]) -> None:
        if planted["SIGNED_ADDRESS"] in handler.path:
            handler.send_good(body, headers)
        else:
            handler.answer(403, b"")

    return answer


# What each region's server does with reads, and of what kind its catalogue is.
KINDS: dict[str, tuple[Callable[[Server, Planted], Fault], str]] = {
    "good": (_good, "cmr"),
    "refused": (_refused, "cmr"),
    "moved": (_moved, "cmr"),
    "page": (_page, "cmr"),
    "marked": (_marked, "cmr"),
    "liar": (_good, "cmr"),
    "signed": (_signed, "stac"),
    "gone": (_failing, "stac"),
}
