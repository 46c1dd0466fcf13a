"""Secrets that nobody may write anywhere, and a search for them in every form that they may take.

    planted = plant(7, ["EARTHDATA_TOKEN"])             # by name, 36 random letters and digits each
    ...                                                 # something runs that is given them
    hits = search(folder, planted)                      # in files, their compressed parts, base64, databases

A secret is found by a third of it, so that one that was cut off or broken over two lines is found, too.
"""

import base64
import binascii
import bz2
import io
import lzma
import os
import random
import re
import sqlite3
import string
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from numcodecs.lz4 import LZ4
from numcodecs.zstd import Zstd

PIECE, PIECES = 12, 3
MOST = 1 << 26  # bytes of one view: nothing that vsat writes in a run is larger
_DEEPEST = 3  # base64 of gzip of base64
_ENCODED = re.compile(rb"[A-Za-z0-9+/_-]{40,}={0,2}")
_ZLIB = re.compile(rb"\x78[\x01\x5e\x9c\xda]")
_MAGIC = {b"\x1f\x8b\x08": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz"}


@dataclass(frozen=True, order=True)
class Hit:
    """A secret where none may be: in which file or answer, how it was wrapped, and its name."""

    place: str
    form: str
    name: str


def plant(seed: int, names: Sequence[str]) -> dict[str, str]:
    """A secret for each name, of letters and digits only: no quoting of URLs, JSON or HTML can hide it."""
    rng = random.Random(seed)
    return {name: "".join(rng.choices(string.ascii_letters + string.digits, k=PIECE * PIECES)) for name in names}


class Needles:
    """What the secrets look like in bytes: plain, in either case, as UTF-16, hexadecimal, backwards and base64."""

    def __init__(self, planted: Mapping[str, str]) -> None:
        self._exact: list[tuple[bytes, str, str]] = []
        self._caseless: list[tuple[bytes, str, str]] = []
        for name, secret in planted.items():
            for piece in (secret[at : at + PIECE] for at in range(0, len(secret), PIECE)):
                self._caseless += [
                    (piece.lower().encode(), "plain", name),
                    (piece[::-1].lower().encode(), "back", name),
                ]
                self._caseless += [(piece.encode().hex().encode(), "hex", name)]
                self._exact += [(piece.encode("utf-16-le"), "utf-16", name)]
                for lead in range(3):  # where the piece begins within the three bytes that make four letters
                    coded = base64.b64encode(b"\0" * lead + piece.encode())
                    self._exact += [(coded[(0, 2, 3)[lead] : -4], "base64", name)]

    def found(self, data: bytes) -> set[tuple[str, str]]:
        """(form, name) of what is in the bytes as they stand."""
        lower = data.lower()
        return {(form, name) for piece, form, name in self._exact if piece in data} | {
            (form, name) for piece, form, name in self._caseless if piece in lower
        }


def search(root: Path, planted: Mapping[str, str]) -> list[Hit]:
    """Every secret in the files below `root`, in their names, and in whatever they hold packed."""
    needles, hits = Needles(planted), set()
    for path in sorted(root.rglob("*")):
        place = str(path.relative_to(root))
        hits |= {Hit(place, "file name", name) for _, name in needles.found(os.fsencode(place))}
        if path.is_symlink():
            hits |= {Hit(place, "link", name) for _, name in needles.found(os.fsencode(path.readlink()))}
        elif path.is_file():
            hits |= _in_file(path, place, needles)
    return sorted(hits)


def search_bytes(data: bytes, place: str, planted: Mapping[str, str]) -> list[Hit]:
    """The same for an answer, or for a process's command line."""
    return sorted(_in_bytes(data, place, Needles(planted)))


def _in_file(path: Path, place: str, needles: Needles) -> set[Hit]:
    data = path.read_bytes()
    assert len(data) <= MOST, f"{place} has {len(data)} bytes: the search would leave some out"
    hits = _in_bytes(data, place, needles)
    if data[:16] == b"SQLite format 3\0":
        for table, row in _rows(path):
            hits |= _in_bytes(row, f"{place}, table {table}", needles)
    return hits


def _in_bytes(data: bytes, place: str, needles: Needles) -> set[Hit]:
    return {
        Hit(place, f"{how}{form}", name)
        for how, view in _views(data, "", _DEEPEST)
        for form, name in needles.found(view)
    }


def _views(data: bytes, how: str, depth: int) -> Iterator[tuple[str, bytes]]:
    """The bytes, and what is packed within them, with how it is packed."""
    yield how, data
    if depth == 0:
        return
    for form, inner in _unpacked(data):
        yield from _views(inner, f"{how}{form}, ", depth - 1)


def _unpacked(data: bytes) -> Iterator[tuple[str, bytes]]:
    for magic, form in _MAGIC.items():
        for match in re.finditer(re.escape(magic), data):
            if inner := _inflated(form, data[match.start() :]):
                yield form, inner
    for match in _ZLIB.finditer(data):
        if inner := _inflated("zlib", data[match.start() :]):
            yield "zlib", inner
    if len(data) > 8 and (inner := _inflated("lz4", data)):
        yield "lz4", inner
    for match in _ENCODED.finditer(data):
        text = match[0].rstrip(b"=").replace(b"-", b"+").replace(b"_", b"/")
        with suppress(binascii.Error):
            yield "base64", base64.b64decode(text[: len(text) // 4 * 4])
    yield from _members(data)


def _inflated(form: str, data: bytes) -> bytes:
    """What the stream at the beginning of the bytes holds, as far as it is whole; nothing if it is none."""
    try:
        match form:
            case "gzip":
                return zlib.decompressobj(31).decompress(data, MOST)
            case "zlib":
                return zlib.decompressobj().decompress(data, MOST)
            case "bzip2":
                return bz2.BZ2Decompressor().decompress(data, MOST)
            case "xz":
                return lzma.LZMADecompressor().decompress(data, MOST)
            case "zstd":
                return bytes(Zstd().decode(data))
        return bytes(LZ4().decode(data)) if 0 < int.from_bytes(data[:4], "little") < MOST else b""
    except (zlib.error, OSError, lzma.LZMAError, RuntimeError, ValueError, EOFError):
        return b""


def _members(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Files in a zip (also .npz) or tar."""
    if data[:4] == b"PK\x03\x04":
        with suppress(zipfile.BadZipFile), zipfile.ZipFile(io.BytesIO(data)) as archive:
            for entry in archive.infolist():
                yield "zip", entry.filename.encode() + b"\n" + archive.read(entry)
    if data[257:262] == b"ustar":
        with suppress(tarfile.TarError), tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for member in archive.getmembers():
                file = archive.extractfile(member)
                yield "tar", member.name.encode() + b"\n" + (file.read() if file else b"")


def _rows(path: Path) -> Iterator[tuple[str, bytes]]:
    """(table, cells one after the other) of every row: a long cell lies in pieces all over the file."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as base:
        base.text_factory = bytes
        names = [name.decode() for (name,) in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for name in names:
            with suppress(sqlite3.OperationalError):  # of a module that is not loaded here; its shadow tables are read
                for row in base.execute(f'SELECT * FROM "{name}"'):
                    cells = (cell if isinstance(cell, bytes) else str(cell).encode() for cell in row)
                    yield name, b"\n".join(cells)


class Lines:
    """The command lines of all processes of this machine, looked at again and again."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._end = threading.Event()

    def look(self) -> None:
        """Keeps what is there now."""
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(OSError):
                self.seen.add(path.read_bytes())

    def go_on(self, every_s: float) -> None:
        """Looks until `stop`."""
        while not self._end.wait(every_s):
            self.look()

    def stop(self) -> None:
        """Ends `go_on`, with a last look."""
        self._end.set()
        self.look()


@contextmanager
def watched_lines(every_s: float = 0.1) -> Iterator[Lines]:
    """Every process that lives for a moment within the block has its command line kept.

    Shorter lives are the witness's affair (tests/fault/witness), which hears of each start before it happens.
    """
    lines = Lines()
    thread = threading.Thread(target=lines.go_on, args=(every_s,), daemon=True)
    thread.start()
    try:
        yield lines
    finally:
        lines.stop()
        thread.join()
