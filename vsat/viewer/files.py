"""Files of the published images, whole or in ranges; exactly those that the ledger lists, found by name."""

import os
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from fastapi import APIRouter, Request
from starlette.responses import Response, StreamingResponse

from vsat.io.stac import TYPES
from vsat.objects import ObjectPath
from vsat.viewer.asked import FileName, ItemId, TileId
from vsat.viewer.problems import Refused, not_found
from vsat.viewer.problems import answers as told
from vsat.viewer.regions import OfRegion

router = APIRouter(prefix="/files", tags=["files"])
_PIECE = 1 << 20
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)
_OTHER, _MEDIA = "application/octet-stream", {**TYPES, ".json": "application/geo+json"}
_BYTES: dict[str, Any] = {"content": {media: {} for media in (*_MEDIA.values(), _OTHER)}}


@router.head("/{region}/{tile}/{item}/{file}", include_in_schema=False)
@router.get(
    "/{region}/{tile}/{item}/{file}",
    responses={
        200: _BYTES | {"description": "the file"},
        206: _BYTES | {"description": "the range that was asked for"},
        **told(404, 416, 422, 503),
    },
    response_class=Response,
)
def file_of(request: Request, shelf: OfRegion, tile: TileId, item: ItemId, file: FileName) -> Response:
    """A file of an image; one range of bytes at a time, as COG readers ask for them."""
    image = shelf.holdings().by_name.get(item)
    if image is None or image.tile != tile or file not in image.objects:
        raise not_found("there is no such file of an image")
    path, digest = image.objects[file]
    try:
        source = path if isinstance(path, ObjectPath) else path.open("rb")
        size = source.size() if isinstance(source, ObjectPath) else os.fstat(source.fileno()).st_size
    except FileNotFoundError as error:
        raise not_found("the ledger lists this file, and it is gone; generate the image again") from error
    headers = {
        "Accept-Ranges": "bytes", "ETag": f'"{digest[:32]}"', "Cache-Control": "no-cache",
        "Content-Disposition": f'inline; filename="{file}"',
    }  # fmt: skip
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    given = request.headers.get("range")
    # a range of a content that has changed since would be put beside bytes of the old one
    whole = given is None or request.headers.get("if-range", headers["ETag"]) != headers["ETag"]
    start, stop = (0, size) if whole else _span(str(given), size)
    if not whole:
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    headers["Content-Length"] = str(stop - start)
    media, status = _media(file), 200 if whole else 206
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers, media_type=media)
    return StreamingResponse(_pieces(source, start, stop), status, headers, media)


def _span(text: str, size: int) -> tuple[int, int]:
    """First byte and the one behind the last."""
    found = _RANGE.fullmatch(text.strip())
    first, last = found.groups() if found else ("", "")
    if first:
        start, stop = int(first), min(size, int(last) + 1 if last else size)
    else:
        start, stop = max(0, size - int(last or 0)), size
    if start >= stop:
        detail = f"the file has {size} bytes; ask for one range of them: bytes=0-1023"
        raise Refused(416, detail, {"Content-Range": f"bytes */{size}"})
    return start, stop


def _pieces(source: ObjectPath | BinaryIO, start: int, stop: int) -> Iterator[bytes]:
    """The bytes of an object, or of a file that was opened before its size was told: it may be replaced meanwhile."""
    if isinstance(source, ObjectPath):
        for at in range(start, stop, _PIECE):
            yield from map(bytes, source.read_ranges([(at, min(stop, at + _PIECE))]))
        return
    with source as file:
        file.seek(start)
        while start < stop and (piece := file.read(min(_PIECE, stop - start))):
            yield piece
            start += len(piece)


def _media(name: str) -> str:
    suffix = f".{name.rpartition('.')[2]}"
    return _MEDIA.get(suffix, _OTHER)
