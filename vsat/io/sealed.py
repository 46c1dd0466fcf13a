"""Files that carry their own checksum, for those that no receipt and no manifest lists: JSON, and pages as text.

JSON has it under the key `sha256`; a page as a comment in its last line. Both are one file and one rename, so
that no kill can leave a file and a checksum that do not belong together.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

KEY = "sha256"
_COMMENT = re.compile(rb"<!-- sha256 ([0-9a-f]{64}) of what stands above -->\n")


class BrokenSealError(ValueError):
    """The content is not what was written."""


def sealed_json(value: Mapping[str, Any]) -> bytes:
    """The mapping as JSON with its checksum; equal values give equal bytes."""
    assert KEY not in value
    return _dumped({**value, KEY: _digest(_dumped(value))})


def open_json(content: bytes) -> dict[str, Any]:
    """The mapping that `sealed_json` was given.

    Raises:
        BrokenSealError: the bytes are not what was written, have no checksum, or are nested too deeply to be read.
        ValueError: they are no JSON mapping.
    """
    try:
        told = json.loads(content)
    except RecursionError as error:
        raise BrokenSealError("it is nested too deeply") from error
    if not isinstance(told, dict):
        raise BrokenSealError("it is no mapping")
    wanted = told.pop(KEY, None)
    if wanted is None:
        raise BrokenSealError("its checksum is missing")
    if wanted != _digest(_dumped(told)) or content != _dumped({**told, KEY: wanted}):
        raise BrokenSealError("it is not what was written")
    return told


def sealed_page(text: str) -> bytes:
    """A page in Markdown or HTML with its checksum below."""
    body = text.encode() if text.endswith("\n") else text.encode() + b"\n"
    return body + f"<!-- sha256 {_digest(body)} of what stands above -->\n".encode()


def page_problem(content: bytes) -> str:
    """Why the page is not what `sealed_page` made; "" if it is."""
    body, last = content[: content.rstrip(b"\n").rfind(b"\n") + 1], content[content.rstrip(b"\n").rfind(b"\n") + 1 :]
    found = _COMMENT.fullmatch(last)
    if found is None:
        return "its checksum is missing"
    return "" if found[1].decode() == _digest(body) else "it is not what was written"


def _dumped(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False).encode() + b"\n"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
