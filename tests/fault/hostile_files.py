"""Files that are not what they say: other formats, sizes that lie, blocks that swell, headers of a server that trip."""

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import faulty
import numpy as np
from fault.hostile_world import ARRAYS, GZIP, Case, Setup, World, always, swollen
from granules import geotiff
from numcodecs import Zstd

RED = geotiff(ARRAYS["red"])
_FORMATS = {1: "B", 2: "B", 3: "H", 4: "I", 12: "d", 16: "Q"}
_SIZES = {"B": 1, "H": 2, "I": 4, "d": 8, "Q": 8}
WIDTH, HEIGHT, BITS, COMPRESSION, SAMPLES = 256, 257, 258, 259, 277
TILE_WIDTH, TILE_HEIGHT, OFFSETS, COUNTS, FORMAT = 322, 323, 324, 325, 339
PIXEL_SIZE, TIE_POINT, MATRIX, KEYS, DOUBLES, TEXTS, NODATA = 33550, 33922, 34264, 34735, 34736, 34737, 42113


@dataclass(frozen=True)
class Tag:
    """One entry of a directory; `count` lies where it is given."""

    kind: int
    values: tuple[Any, ...]
    count: int | None = None

    def raw(self) -> bytes:
        """The values as bytes; of a kind that nobody knows none."""
        form = _FORMATS.get(self.kind, "")
        return struct.pack(f"<{len(self.values)}{form}", *self.values) if form else b""


def tags_of(data: bytes) -> dict[int, Tag]:
    """The first directory of a classic little-endian TIFF."""
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    found = {}
    for k in range(count):
        at = start + 2 + 12 * k
        tag, kind, length = struct.unpack_from("<HHI", data, at)
        form = _FORMATS[kind]
        size = _SIZES[form] * length
        place = at + 8 if size <= 4 else struct.unpack_from("<I", data, at + 8)[0]
        found[tag] = Tag(kind, struct.unpack_from(f"<{length}{form}", data, place))
    return found


def rebuilt(changes: Mapping[int, Tag | None], *, big: bool = False, behind: bytes = b"", following: int = 0) -> bytes:
    """The red file with other tags (None takes one away), in a directory at its end.

    Args:
        changes: by tag.
        big: a BigTIFF.
        behind: bytes that the changes may point to; they begin at `len(RED)`.
        following: where the next directory lies; -1 is this one.
    """
    tags = {**tags_of(RED), **changes}
    kept = sorted((tag, value) for tag, value in tags.items() if value is not None)
    data = RED + behind + b"\0" * ((len(RED) + len(behind)) % 2)
    word, inline = ("Q", 8) if big else ("I", 4)
    start = len(data)
    values_at = start + (8 if big else 2) + len(kept) * (20 if big else 12) + inline
    directory, values = struct.pack("<Q" if big else "<H", len(kept)), b""
    for tag, value in kept:
        raw, count = value.raw(), len(value.values) if value.count is None else value.count
        place = raw.ljust(inline, b"\0") if len(raw) <= inline else struct.pack(f"<{word}", values_at + len(values))
        values += b"" if len(raw) <= inline else raw
        directory += struct.pack(f"<HH{word}", tag, value.kind, count) + place
    directory += struct.pack(f"<{word}", start if following < 0 else following)
    head = struct.pack("<2sHHHQ", b"II", 43, 8, 0, start) if big else struct.pack("<2sHI", b"II", 42, start)
    return head + data[len(head) :] + directory + values


def _one(tag: int, *values: Any, kind: int = 4, count: int | None = None) -> dict[int, Tag | None]:
    return {tag: Tag(kind, values, count)}


def block(payload: bytes, compression: int, side: int = 4096, *, predictor: int = 1) -> bytes:
    """A file of 40 x 48 pixels in blocks of `side` x `side`, each of which holds this payload."""
    blocks = -(-40 // side) * -(-48 // side)
    changes = {
        TILE_WIDTH: Tag(4, (side,)),
        TILE_HEIGHT: Tag(4, (side,)),
        COMPRESSION: Tag(3, (compression,)),
        317: Tag(3, (predictor,)),
        OFFSETS: Tag(4, (len(RED),) * blocks),
        COUNTS: Tag(4, (len(payload),) * blocks),
    }
    return rebuilt(changes, behind=payload)


def _lzw_of_zeros() -> bytes:
    """LZW data that swell to 64 MB, taken from a file of GDAL's."""
    with_lzw = geotiff(np.zeros((8192, 4096), np.int16), compress="lzw", predictor=1, blockxsize=4096, blockysize=8192)
    tags = tags_of(with_lzw)
    (at,), (size,) = tags[OFFSETS].values, tags[COUNTS].values
    return with_lzw[at : at + size]


def _zip(names: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in names.items():
            archive.writestr(name, data)
    return out.getvalue()


_VRT = (
    '<VRTDataset rasterXSize="40" rasterYSize="48"><VRTRasterBand dataType="Int16" band="1"><SimpleSource>'
    "<SourceFilename>{image}</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
)
_POSING = {
    "VRT": _VRT,
    "VRT of the neighbour": _VRT.replace("{image}", "/vsicurl/http://127.0.0.1:{port}/secret"),
    "VRT behind blanks": " \n\t" * 900 + _VRT,
    "VRT behind a mark": "\ufeff" + _VRT,
    "VRT behind a NUL": "\0" + _VRT,
    "VRT with Python": _VRT.replace(
        "<SimpleSource>", "<PixelFunctionLanguage>Python</PixelFunctionLanguage><SimpleSource>"
    ),
    "GML with an entity": '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file://{secret}">]><a>&x;</a>',
    "WMS": '<GDAL_WMS><Service name="TMS"><ServerUrl>http://127.0.0.1:{port}/secret</ServerUrl></Service></GDAL_WMS>',
    "a path": "{image}",
    "a list of tiles": "{image}\n{image}\n",
    "GTI": "GTI:{image}",
    "SVG": "<svg onload='alert(1)'/>",
    "a tile index": '{"type": "FeatureCollection", "features": [{"properties": {"location": "{image}"}}]}',
    "DERIVED": "DERIVED_SUBDATASET:LOGAMPLITUDE:{image}",
    "a shell script": "#!/bin/sh\ncat {secret}\n",
    "nothing": "",
}


def _posing(text: str) -> Setup:
    def setup(world: World) -> None:
        world.site.state.files[world.path("red")] = world.fill_in(text).encode()

    return setup


def _bytes(data: bytes) -> Setup:
    def setup(world: World) -> None:
        world.site.state.files[world.path("red")] = data

    return setup


_SOUND = "not a sound GeoTIFF"
_NAN, _INF = float("nan"), float("inf")
_HEADERS: dict[str, tuple[bytes, str]] = {
    "width 2^32-1": (rebuilt(_one(WIDTH, 0xFFFFFFFF)), "at most 3660"),
    "height 2^32-1": (rebuilt(_one(HEIGHT, 0xFFFFFFFF)), "at most 3660"),
    "width 2^63": (rebuilt(_one(WIDTH, 1 << 63, kind=16), big=True), "at most 3660"),
    "width 0": (rebuilt(_one(WIDTH, 0)), "at most 3660"),
    "two widths": (rebuilt(_one(WIDTH, 40, 40)), _SOUND),
    "no width": (rebuilt({WIDTH: None}), _SOUND),
    "a width of no values": (rebuilt({WIDTH: Tag(4, ())}), _SOUND),
    "no bits": (rebuilt({BITS: Tag(3, ())}), "of 1 bits"),
    "no sample format": (rebuilt({FORMAT: Tag(3, ())}), "sample format 1"),
    "no samples": (rebuilt({SAMPLES: Tag(3, ())}), _SOUND),
    "65535 samples": (rebuilt(_one(SAMPLES, 65535, kind=3)), "65535 band"),
    "64 bits": (rebuilt(_one(BITS, 64, kind=3)), "64 bits"),
    "complex numbers": (rebuilt(_one(FORMAT, 5, kind=3)), "sample format 5"),
    "blocks of 0": (rebuilt(_one(TILE_WIDTH, 0)), "blocks of"),
    "blocks of 2^31": (rebuilt(_one(TILE_WIDTH, 1 << 31)), "blocks of"),
    "blocks of 1": (rebuilt({**_one(TILE_WIDTH, 1), **_one(TILE_HEIGHT, 1)}), "block offsets"),
    "blocks beyond the file": (rebuilt({OFFSETS: Tag(4, (0xFFFFFF00,) * 9)}), "in a file of"),
    "blocks at 0": (rebuilt({OFFSETS: Tag(4, (0,) * 9)}), "a block of"),
    "blocks of 0 bytes": (rebuilt({COUNTS: Tag(4, (0,) * 9)}), "a block of 0 bytes"),
    "blocks of 4 GB": (rebuilt({COUNTS: Tag(4, (0xFFFFFFFF,) * 9)}), "a block of"),
    "blocks that are the header": (rebuilt({OFFSETS: Tag(4, (4,) * 9)}), _SOUND),
    "no blocks": (rebuilt({OFFSETS: None, COUNTS: None}), "block offsets"),
    "a million blocks": (rebuilt({OFFSETS: Tag(4, (9,) * 9, 1_000_000)}), "bytes|end of the file"),
    "2^32-1 blocks": (rebuilt({OFFSETS: Tag(4, (9,) * 9, 0xFFFFFFFF)}), "tag 324 of"),
    "2^61 blocks": (rebuilt({OFFSETS: Tag(16, (9,) * 9, 1 << 61)}, big=True), "tag 324 of"),
    "a place of an unknown type": (rebuilt({KEYS: Tag(99, (), 1 << 40)}, big=True), "unknown type"),
    "an unknown tag of 2^63": (rebuilt({60000: Tag(99, (), 1 << 63)}, big=True), "ok"),
    "a directory of 65535 tags": (
        RED[:4] + struct.pack("<I", len(RED)) + RED[8:] + b"\xff\xff" + bytes(12 * 65535),
        "65535 tags",
    ),
    "a directory of no tags": (RED[:4] + struct.pack("<I", len(RED)) + RED[8:] + bytes(2), "0 tags"),
    "a directory beyond the file": (RED[:4] + struct.pack("<I", 0xFFFFFFF0) + RED[8:], "behind the end"),
    "a directory that is the header": (RED[:4] + struct.pack("<I", 0) + RED[8:], _SOUND),
    "tags out of order": (
        RED[:4] + struct.pack("<I", len(RED)) + RED[8:] + struct.pack("<H", 2) + b"\xff" * 12 + bytes(12),
        _SOUND,
    ),
    "a directory that leads to itself": (rebuilt({}, following=-1), "ok"),
    "a directory that leads beyond the file": (rebuilt({}, following=0xFFFFFFF0), "ok"),
    "JPEG": (rebuilt(_one(COMPRESSION, 7, kind=3)), "compression 7"),
    "JPEG 2000": (rebuilt(_one(COMPRESSION, 34712, kind=3)), "compression 34712"),
    "LERC": (rebuilt(_one(COMPRESSION, 34887, kind=3)), "compression 34887"),
    "LZMA": (rebuilt(_one(COMPRESSION, 34925, kind=3)), "compression 34925"),
    "WebP": (rebuilt(_one(COMPRESSION, 50001, kind=3)), "compression 50001"),
    "JPEG XL": (rebuilt(_one(COMPRESSION, 50002, kind=3)), "compression 50002"),
    "fax": (rebuilt(_one(COMPRESSION, 4, kind=3)), "compression 4,"),
    "compression 0": (rebuilt(_one(COMPRESSION, 0, kind=3)), "compression 0,"),
    "predictor of floats": (rebuilt(_one(317, 3, kind=3)), "predictor 3"),
    "pixels of NaN metres": (
        rebuilt({PIXEL_SIZE: Tag(12, (_NAN, _NAN, _NAN))}),
        "no place on Earth|not a place on Earth|georeference|pixels are",
    ),
    "pixels of infinite metres": (
        rebuilt({PIXEL_SIZE: Tag(12, (_INF, _INF, 0.0))}),
        "not a place|pixels are|georeference",
    ),
    "pixels of 0 metres": (
        rebuilt({PIXEL_SIZE: Tag(12, (0.0, 0.0, 0.0))}),
        "pixels are|projection|georeference|not a place",
    ),
    "a corner of NaN": (rebuilt({TIE_POINT: Tag(12, (0.0, 0.0, 0.0, _NAN, _NAN, 0.0))}), "not a place"),
    "a corner of infinity": (rebuilt({TIE_POINT: Tag(12, (0.0, 0.0, 0.0, _INF, -_INF, 0.0))}), "not a place"),
    "a corner of 1e300": (rebuilt({TIE_POINT: Tag(12, (0.0, 0.0, 0.0, 1e300, 1e300, 0.0))}), "not a place"),
    "a matrix of NaN": (
        rebuilt({PIXEL_SIZE: None, TIE_POINT: None, MATRIX: Tag(12, (_NAN,) * 16)}),
        "not a place|pixels are|georeference",
    ),
    "100,000 tie points": (
        rebuilt({TIE_POINT: Tag(12, (1.0,) * 60_000)}),
        "georeference|pixels are|not a place|lattice|touch",
    ),
    "keys of nothing": (rebuilt({KEYS: Tag(3, ())}), "projection|georeference"),
    "keys that lie about their number": (rebuilt({KEYS: Tag(3, (1, 1, 0, 65535))}), "projection|georeference"),
    "keys beyond their texts": (
        rebuilt({KEYS: Tag(3, (1, 1, 0, 1, 1026, 34737, 65535, 65535))}),
        "projection|georeference",
    ),
    "a text of 900 kB": (rebuilt({TEXTS: Tag(2, (65,) * 900_000)}), "ok|projection|georeference"),
    "a text of 2 MB": (rebuilt({TEXTS: Tag(2, (65,) * 2_000_000)}), "tag 34737 of"),
    "projection 65535": (
        rebuilt({KEYS: Tag(3, (1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 65535))}),
        "projection|georeference",
    ),
    "a vertical projection": (
        rebuilt({KEYS: Tag(3, (1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 5773))}),
        "projection|georeference",
    ),
    "a projection that is a path": (
        rebuilt(
            {
                TEXTS: Tag(2, tuple(b"ESRI PE String = @/etc/passwd|\0")),
                KEYS: Tag(3, (1, 1, 0, 3, 1024, 0, 1, 1, 1026, 34737, 30, 0, 3072, 0, 1, 32767)),
            }
        ),
        "projection|georeference",
    ),
    "nodata NaN": (rebuilt({NODATA: Tag(2, tuple(b"nan\0"))}), "ok|nodata value"),
    "nodata 1e999": (rebuilt({NODATA: Tag(2, tuple(b"1e999\0"))}), "ok|nodata value"),
    "nodata a path": (rebuilt({NODATA: Tag(2, tuple(b"/etc/passwd\0"))}), "nodata value|ok"),
    "metadata that swell": (
        rebuilt(
            {
                42112: Tag(
                    2,
                    tuple(
                        b'<!DOCTYPE a [<!ENTITY a "'
                        + b"x" * 9000
                        + b'">]><GDALMetadata>'
                        + b"&a;" * 9000
                        + b"</GDALMetadata>\0"
                    ),
                )
            }
        ),
        "ok",
    ),
    "metadata that name a file": (
        rebuilt(
            {
                42112: Tag(
                    2,
                    tuple(
                        b'<GDALMetadata><Item name="OVERVIEW_FILE" domain="OVERVIEWS">/etc/passwd</Item></GDALMetadata>\0'
                    ),
                )
            }
        ),
        "ok",
    ),
}

_MB = 1 << 20
_LZW = _lzw_of_zeros()
_BOMBS: dict[str, tuple[bytes, str]] = {
    "deflate, 1 GB for 512 bytes": (block(swollen(1024)[:_MB], 8, 16), "a block of"),
    "deflate, 256 MB for 32 MB": (block(swollen(256), 8), "does not end after"),
    "deflate, 32 MB for 40 x 48 pixels": (block(zlib.compress(bytes(4096 * 4096 * 2), 1), 8), "coded differently"),
    "deflate, nothing in it": (block(zlib.compress(b""), 8), "inflates to 0"),
    "deflate, an endless one": (block(swollen(64)[:-20], 8), "does not end|does not inflate"),
    "deflate in deflate": (block(zlib.compress(swollen(256), 1), 8), "inflates to"),
    "deflate with a dictionary": (block(b"\x78\xbb\0\0\0\1" + bytes(50), 8), "does not inflate|does not end"),
    "gzip for deflate": (block(gzip.compress(bytes(1 << 24)), 8), "does not inflate"),
    "LZW, 64 MB for 32 MB": (block(_LZW, 5), "coded differently|GDAL can't decode"),
    "LZW, 64 MB for 512 bytes": (block(_LZW[:4000], 5, 16), "coded differently|block offsets|GDAL can't"),
    "LZW, noise": (block(bytes(range(256)) * 200, 5), "GDAL can't decode|coded differently"),
    "Zstandard, 1 GB for 32 MB": (
        block(bytes(Zstd().encode(bytes(1 << 24))) * 64, 50000),
        "coded differently|GDAL can't decode",
    ),
    "Zstandard, a window of 2 GB": (block(b"\x28\xb5\x2f\xfd\x00\xa8" + bytes(4000), 50000), "GDAL can't decode"),
    "Zstandard, 16 EB told": (block(b"\x28\xb5\x2f\xfd\xe0" + b"\xff" * 8 + bytes(4000), 50000), "GDAL can't decode"),
    "PackBits, runs for ever": (block(b"\x81\0" * 500_000, 32773), "coded differently|GDAL can't"),
    "PackBits, cut in a run": (block(b"\x7f", 32773), "GDAL can't decode"),
    "not compressed, too short": (block(b"abc", 1), "inflates to 3"),
}

_OTHERS: dict[str, bytes] = {
    "zip": _zip({"red.tif": RED}),
    "zip that leads up": _zip({"../../red.tif": RED}),
    "gzip": gzip.compress(RED),
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(600),
    "PNG": b"\x89PNG\r\n\x1a\n" + bytes(600),
    "JPEG": b"\xff\xd8\xff\xe0" + bytes(600),
    "NetCDF": b"CDF\1" + bytes(600),
    "ELF": b"\x7fELF" + bytes(600),
    "PDF": b"%PDF-1.4\n" + bytes(600),
    "SQLite": b"SQLite format 3\0" + bytes(600),
    "pickle": b"\x80\x04cos\nsystem\n(S'id'\ntR.",
    "a TIFF in a TIFF": b"II*\0" + RED,
    "four bytes": b"II*\0",
    "BigTIFF of 8 bytes": b"II+\0\x08\0\0\0",
    "BigTIFF with offsets of 255 bytes": b"II+\0\xff\0\0\0" + bytes(600),
    "both orders": b"IM*\0" + RED[4:],
    "noise": np.random.default_rng(1).bytes(20_000),
    "a TIFF of noise": b"II*\0\x08\0\0\0" + np.random.default_rng(2).bytes(20_000),
    "64 MB and one byte of blanks": b" " * ((1 << 26) + 1),
}


def _raw(head: bytes, body: bytes = b"") -> Setup:
    """A server that writes these bytes for an answer, then the body, and hangs up."""

    def answer(handler: faulty.Handler, _body: bytes, _headers: dict[str, str]) -> None:
        handler.wfile.write(head + b"\r\n\r\n" + body)
        handler.wfile.flush()
        handler.close_connection = True

    return always("red", answer)


def _ok(*lines: str, body: bytes = RED) -> Setup:
    return _raw("\r\n".join(["HTTP/1.1 200 OK", *lines]).encode("latin-1"), body)


def _endless(head: str) -> Setup:
    """Blanks for as long as anyone listens."""

    def answer(handler: faulty.Handler, _body: bytes, _headers: dict[str, str]) -> None:
        handler.close_connection = True
        handler.wfile.write(head.encode() + b"\r\n\r\n")
        for _ in range(4096):
            handler.wfile.write(b" " * _MB)

    return always("red", answer)


_LENGTH = f"Content-Length: {len(RED)}"
_GZIP_BOMB = swollen(1024, GZIP)
_ANSWERS: dict[str, tuple[Setup, str]] = {
    "a length of another script": (_ok("Content-Length: \xb2"), "read|red: "),
    "a length of 5000 digits": (_ok("Content-Length: " + "9" * 5000), "read|red: "),
    "a negative length": (_ok("Content-Length: -5"), "read|red: "),
    "a length that is a text": (_ok("Content-Length: many"), "read|red: "),
    "two lengths": (_ok(_LENGTH, "Content-Length: 5"), "red: "),
    "a length of 1 TB": (_ok(f"Content-Length: {1 << 40}"), "none of HLS is over"),
    "a length too small": (_ok("Content-Length: 100"), _SOUND),
    "no length": (_ok(), "read"),
    "200 headers": (_ok(_LENGTH, *(f"X-{k}: 1" for k in range(200))), "red: "),
    "a header of 1 MB": (_ok(_LENGTH, "X: " + "a" * _MB), "red: "),
    "a header without colon": (_ok("nonsense", _LENGTH), "read|red: "),
    "a NUL in a header": (_ok(_LENGTH, "X: a\0b"), "read|red: "),
    "a status that is a text": (_raw(b"HTTP/1.1 yes"), "red: "),
    "status 999": (_raw(b"HTTP/1.1 999 x"), "red: HTTP 999"),
    "status 99": (_raw(b"HTTP/1.1 099 x"), "red: "),
    "no status": (_raw(b"hello"), "red: "),
    "a part of another file": (
        _raw(b"HTTP/1.1 206 x\r\nContent-Range: bytes 0-99/18446744073709551616", bytes(100)),
        "red: ",
    ),
    "a part in another script": (
        _raw("HTTP/1.1 206 x\r\nContent-Range: bytes \xb2-9/\xb3".encode("latin-1"), bytes(8)),
        "another range",
    ),
    "a part of 5000 digits": (
        _raw(b"HTTP/1.1 206 x\r\nContent-Range: bytes 0-9/" + b"9" * 5000, bytes(10)),
        "another range",
    ),
    "a part of unknown size": (_raw(b"HTTP/1.1 206 x\r\nContent-Range: bytes 0-9/*", bytes(10)), "another range"),
    "a part beyond its file": (_raw(b"HTTP/1.1 206 x\r\nContent-Range: bytes 0-99/10", RED[:100]), "red: "),
    "1 GB behind gzip": (
        _ok("Content-Encoding: gzip", f"Content-Length: {len(_GZIP_BOMB)}", body=_GZIP_BOMB),
        "compresses files",
    ),
    "brotli": (_ok("Content-Encoding: br"), "compresses files"),
    "a redirect with 1 GB behind gzip": (
        _raw(b"HTTP/1.1 302 x\r\nLocation: http://127.0.0.1:1/\r\nContent-Encoding: gzip", _GZIP_BOMB),
        "refused",
    ),
    "an endless redirect": (_endless("HTTP/1.1 302 x\r\nLocation: http://127.0.0.1:1/"), "refused"),
    "an endless error": (_endless("HTTP/1.1 404 x"), "HTTP 404"),
    "an endless file": (_endless("HTTP/1.1 200 x"), "more than|HTML"),
    "a chunk of 2^63": (_raw(b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked", b"7FFFFFFFFFFFFFFF\r\n" + RED), "red: "),
    "a chunk of -1": (_raw(b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked", b"-1\r\n" + RED), "red: "),
    "chunks that are none": (_raw(b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked", RED), "red: "),
    "a cookie for all hosts": (_ok(_LENGTH, "Set-Cookie: a=b; Domain=.com; Path=/"), "read"),
    "Retry-After for a year": (_raw(b"HTTP/1.1 503 x\r\nRetry-After: 31536000\r\nContent-Length: 0"), "HTTP 503"),
    "Retry-After of 5000 digits": (
        _raw(b"HTTP/1.1 503 x\r\nContent-Length: 0\r\nRetry-After: " + b"9" * 5000),
        "HTTP 503",
    ),
    "an ETag of 60 kB": (_ok(_LENGTH, "ETag: " + "a" * 60_000), "read"),
}


FILES = [
    *(Case("posing as TIFF", name, _posing(text), "HTML page|HTTP 416|" + _SOUND) for name, text in _POSING.items()),
    *(Case("posing as TIFF", name, _bytes(data), "none of HLS|HTML page|" + _SOUND) for name, data in _OTHERS.items()),
    *(Case("TIFF", name, _bytes(data), told.replace("ok", "read")) for name, (data, told) in _HEADERS.items()),
    *(Case("bomb", name, _bytes(data), told.replace("ok", "read")) for name, (data, told) in _BOMBS.items()),
    *(Case("answer for a file", name, setup, told) for name, (setup, told) in _ANSWERS.items()),
]
