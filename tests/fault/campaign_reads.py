"""Files read from a server that fails on purpose: each gives all its pixels, or is a failed read with a reason.

    python tests/fault/campaign_reads.py [--small] [--minutes 30] [--seed 7] [--record]

Each kind of fault at 1 %, at 10 % and at all of the answers. A read is one file by the real reader: half of them whole,
half of them a small window that takes several ranges. The files are small, and so are, in this process, the reader's own
sizes (its first range, what counts as most of a tile); everything else is as in a fetch. Which answer fails, and how,
depends on the seed and the file's address only. The goal: no wrong pixel, no crash, nothing asked of another server.
"""

import multiprocessing
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).parents[1]))

import faulty
import numpy as np
from fault import figures
from granules import GRID, NAME, cog, geotiff, granule_on, path_of

from vsat.errors import ReadError
from vsat.hls import BANDS
from vsat.io import reader
from vsat.io.download import Patience
from vsat.io.reader import Scene, read_granule
from vsat.io.trust import Endpoint

COMMAND = "python tests/fault/campaign_reads.py --record"
PATIENCE = Patience(first_delay_s=0.001, cap_s=0.01, budget_s=120, attempt_s=60, connect_s=10, silence_s=5)
SILENCE_S = 0.25  # where the fault is silence
RATES = (0.01, 0.1, 1.0)
WHOLE = replace(GRID, height=160, width=160)
ROWS, COLS = slice(70, 110), slice(20, 60)
WINDOW = replace(WHOLE, x0=WHOLE.x0 + 30 * COLS.start, y0=WHOLE.y0 - 30 * ROWS.start, height=40, width=40)
_READS = {True: 14, False: 1000}  # of each kind and rate, small and full
_THREADS, _PROCESSES = 12, 2

Arrays = dict[str, Any]


@cache
def arrays(version: int) -> Arrays:
    """Six bands and Fmask of a granule, by name; no pixel is the same in two versions."""
    y, x = np.mgrid[: WHOLE.height, : WHOLE.width]
    rng = np.random.default_rng(version)
    bands = {
        band: (2000 + 97 * k + 5000 * version + 800 * np.sin(x / (5 + k)) + rng.integers(0, 9, x.shape)).astype(
            np.int16
        )
        for k, band in enumerate(BANDS)
    }
    return {**bands, "fmask": (rng.integers(0, 4, x.shape) * 2 + 64 * version + (y > 80) * 32).astype(np.uint8)}


@cache
def files(version: int, *, packed: bool) -> dict[str, bytes]:
    """The granule's files by path; those not packed are of the same length and layout in every version."""
    make = (lambda a: cog(a, WHOLE, 32)) if packed else (lambda a: plain(a))
    return {path_of(NAME, band): make(array) for band, array in arrays(version).items()}


def plain(array_yx: Any) -> bytes:
    """Tiles without compression, so without a checksum: nothing but its mark tells one version from another."""
    data = geotiff(array_yx, WHOLE, compress=None, predictor=1, blockxsize=32, blockysize=32, COPY_SRC_OVERVIEWS="NO")
    return data


@dataclass
class World:
    """A server whose answers fail at a rate, and what is known of each request.

    Attributes:
        fault: writes a bad answer; given the handler, body, headers and a generator of its own.
        rate: share of the answers that fail.
        seed: of which do.
        struck: paths that met a fault.
        asked: requests by path.
    """

    fault: "Bad"
    rate: float
    seed: str
    struck: set[str] = field(default_factory=set)
    asked: Counter[str] = field(default_factory=Counter)

    def answer(self, handler: faulty.Handler, body: bytes, headers: dict[str, str]) -> None:
        """A good answer, or a bad one."""
        path = handler.path.partition("?")[0]
        with handler.state.lock:
            handler.state.log.clear()
            self.asked[path] += 1
            rng = random.Random(f"{self.seed}/{path}/{self.asked[path]}")
            is_struck = rng.random() < self.rate
            if is_struck:
                self.struck.add(path)
        if is_struck:
            self.fault(self, handler, body, headers, rng)
        else:
            self.good(handler, body, headers)

    def good(self, handler: faulty.Handler, body: bytes, headers: dict[str, str]) -> None:
        """The file."""
        handler.send_good(body, {**headers, "ETag": '"1"'})


Bad = Callable[[World, faulty.Handler, bytes, dict[str, str], random.Random], None]


class Shelf(dict[str, bytes]):
    """The same files for every read, whose paths begin with its number: /r7/data/..."""

    def get(self, path: str, default: Any = None) -> Any:
        return super().get("/" + path.partition("/data/")[1].strip("/") + "/" + path.partition("/data/")[2], default)


class Everywhere(dict[str, faulty.Fault]):
    """One way to answer for all paths."""

    def __init__(self, fault: faulty.Fault) -> None:
        super().__init__()
        self.fault = fault

    def get(self, _path: str, default: Any = None) -> Any:
        return self.fault


# Faults: one of several forms each


def one_of(*forms: faulty.Fault) -> Bad:
    return lambda _world, handler, body, headers, rng: rng.choice(forms)(handler, body, headers)


def cut(ends: str) -> Bad:
    return lambda _world, handler, body, headers, rng: faulty.cut(rng.random(), ends=ends)(handler, body, headers)


def chunked(_world: World, handler: faulty.Handler, body: bytes, headers: dict[str, str], rng: random.Random) -> None:
    """No length at all: chunks, of which the last ones are missing."""
    code, part, told = handler.good(body, headers)
    handler.send_response(code)
    for key, value in {"Transfer-Encoding": "chunked", **told}.items():
        handler.send_header(key, value)
    handler.end_headers()
    keep = part[: int(rng.random() * len(part))]
    handler.wfile.write(b"%x\r\n%b\r\n" % (len(keep), keep) if keep else b"")
    handler.close_connection = True


class Elsewhere:
    """Sends us to a server that is not on the list, and would give other pixels."""

    def __init__(self, target: faulty.Server) -> None:
        self.target = target

    def __call__(self, world: World, handler: faulty.Handler, body: bytes, headers: Any, rng: random.Random) -> None:
        url = self.target.href("/data/" + handler.path.partition("/data/")[2])
        faulty.redirect(url, rng.choice([301, 302, 303, 307, 308]))(handler, body, headers)


@dataclass
class Changing(World):
    """The file is replaced by another version of the same length; the mark tells."""

    version: Counter[str] = field(default_factory=Counter)

    def good(self, handler: faulty.Handler, body: bytes, headers: dict[str, str]) -> None:
        path = handler.path.partition("?")[0]
        version = self.version[path] % 2
        body = files(version, packed=False)["/data/" + path.partition("/data/")[2]]
        handler.send_good(body, {**headers, "ETag": f'"{self.version[path]}"'})


def changed(world: World, handler: faulty.Handler, body: bytes, headers: dict[str, str], _rng: random.Random) -> None:
    assert isinstance(world, Changing)
    world.version[handler.path.partition("?")[0]] += 1
    world.good(handler, body, headers)


@dataclass
class Renewed(World):
    """Wants a token that ends at some answers; a new one is in the environment from then on."""

    number: int = 0

    def good(self, handler: faulty.Handler, body: bytes, headers: dict[str, str]) -> None:
        if handler.headers.get("Authorization") == f"Bearer token-{self.number}":
            super().good(handler, body, headers)
        else:
            self.struck.add(handler.path.partition("?")[0])
            handler.answer(401, b"")


def expired(world: World, handler: faulty.Handler, body: bytes, headers: dict[str, str], _rng: random.Random) -> None:
    assert isinstance(world, Renewed)
    with handler.state.lock:
        world.number += 1
        os.environ["EARTHDATA_TOKEN"] = f"token-{world.number}"
    world.good(handler, body, headers)


FAULTS: dict[str, Bad] = {
    "429 Retry-After": one_of(
        faulty.status(429, Retry_After="1"), faulty.status(429, Retry_After="Thu, 01 Jan 2026 00:00:00 GMT")
    ),
    "5xx": one_of(*(faulty.status(code) for code in (500, 502, 503, 504))),
    "reset before the answer": one_of(faulty.reset),
    "reset in the middle": cut("reset"),
    "hang": one_of(faulty.hang(2 * SILENCE_S)),
    "truncated": cut("closed"),
    "truncated, no length told": chunked,
    "cut short, length agrees": cut("honest"),
    "HTML for TIFF": one_of(faulty.html(), faulty.html(b"\n <html>please wait</html>"), faulty.html(b"Please log in.")),
    "token ends": expired,
    "file and ETag change": changed,
    "sent elsewhere": Elsewhere,  # type: ignore[dict-item]  # made when there is somewhere to send us
}
_PASSING = [name for name, bad in FAULTS.items() if bad not in (expired, changed, Elsewhere)]
MIXED = "any of them"


def any_of(world: World, handler: faulty.Handler, body: bytes, headers: dict[str, str], rng: random.Random) -> None:
    FAULTS[rng.choice(_PASSING)](world, handler, body, headers, rng)


@contextmanager
def small_sizes() -> Iterator[None]:
    """The reader's own sizes as small as the files are."""
    with ExitStack() as stack:
        for name, value in {"_HEAD": 4096, "_GAP": 256, "TILE_PX": WHOLE.width}.items():
            stack.enter_context(mock.patch.object(reader, name, value))
        yield


def cell(kind: str, rate: float, seed: int, reads: int, ends: float) -> dict[str, figures.Cell]:
    """One row: a kind of fault at a rate, over at least so many reads; fewer if the time is up."""
    count: Counter[str] = Counter()
    patience = replace(PATIENCE, silence_s=SILENCE_S) if kind in ("hang", MIXED) else PATIENCE
    with ExitStack() as stack:
        stack.enter_context(small_sizes())
        stack.enter_context(mock.patch.dict(os.environ, {"NETRC": os.devnull, "EARTHDATA_TOKEN": "token-0"}))
        other = stack.enter_context(faulty.serving(files(1, packed=True)))
        world = _world(kind, rate, f"{seed}/{kind}/{rate}", other)
        server = stack.enter_context(faulty.serving())
        server.state.files = Shelf(files(0, packed=kind != "file and ETag change"))
        server.state.always = Everywhere(world.answer)
        endpoint = server.endpoint("cmr" if kind == "token ends" else "stac")
        # one reader at a time where a fault ends the token of all readers at once
        pool = stack.enter_context(ThreadPoolExecutor(1 if kind == "token ends" else _THREADS))
        number = 0
        while count["reads"] < reads and time.monotonic() < ends:
            granules = max(2, -(-(reads - count["reads"]) // (1 if rate == 1 else 7)))
            jobs = range(number, number + min(granules, 8 * _THREADS))
            for outcome in pool.map(lambda at: one_granule(at, server, endpoint, world, patience), jobs):
                count += outcome
            number = jobs.stop
        count["elsewhere"] = len(other.state.log)
    return _row(kind, rate, count)


def _world(kind: str, rate: float, seed: str, other: faulty.Server) -> World:
    match kind:
        case "file and ETag change":
            return Changing(changed, rate, seed)
        case "token ends":
            return Renewed(expired, rate, seed)
        case "sent elsewhere":
            return World(Elsewhere(other), rate, seed)
        case _:
            return World(any_of if kind == MIXED else FAULTS[kind], rate, seed)


def one_granule(
    number: int, server: faulty.Server, endpoint: Endpoint, world: World, patience: Patience
) -> Counter[str]:
    """What came of the files of one granule; of those of a failed one only the failed file counts."""
    base = granule_on(server)
    hrefs = tuple((name, href.replace("/data/", f"/r{number}/data/", 1)) for name, href in base.hrefs)
    paths = {name: href.removeprefix(server.url) for name, href in hrefs}
    is_whole = number % 2 == 0
    try:
        scene = read_granule(
            replace(base, hrefs=hrefs), WHOLE if is_whole else WINDOW, endpoint, patience=patience, threads=1
        )
    except ReadError as error:
        name, _, reason = error.problem.partition(": ")
        told = reason and name in paths and NAME in error.place
        return Counter({"reads": 1, "failed" if told else "crashes": 1, "met": paths.get(name) in world.struck})
    except Exception as error:  # noqa: BLE001 - a campaign counts what should not be
        print(f"{paths}: {error!r}", file=sys.stderr)
        return Counter({"reads": 1, "crashes": 1, "met": 1})
    count = Counter(reads=len(paths))
    for name, path in paths.items():
        right = _is_right(scene, name, whole=is_whole, versions=(0, 1) if isinstance(world, Changing) else (0,))
        count["wrong"] += not right
        count["met"] += path in world.struck
        count["recovered"] += right and path in world.struck
    return count


def _is_right(scene: Scene, name: str, *, whole: bool, versions: tuple[int, ...]) -> bool:
    """The file's pixels are all those of one version."""
    got = scene.fmask_yx if name == "fmask" else scene.refl_byx[BANDS.index(name)]
    place = np.s_[:, :] if whole else np.s_[ROWS, COLS]
    return any(np.array_equal(got, arrays(version)[name][place]) for version in versions)


def _row(kind: str, rate: float, count: Counter[str]) -> dict[str, figures.Cell]:
    return {
        "fault": kind, "answers": "all" if rate == 1 else f"{rate:.0%}", "reads": count["reads"],
        "met it": count["met"], "recovered": f"{count['recovered'] / max(1, count['met']):.1%}",
        "failed with a reason": count["failed"], "silently wrong": count["wrong"], "crashes": count["crashes"],
        "asked elsewhere": count["elsewhere"],
    }  # fmt: skip


def run(seed: int, *, small: bool, minutes: float) -> tuple[list[dict[str, figures.Cell]], bool]:
    """The table by kind and rate, and whether nothing was wrong and all was read."""
    ends = time.monotonic() + 60 * minutes
    cells = [(kind, rate, seed, _READS[small], ends) for kind in (*FAULTS, MIXED) for rate in RATES]
    if small:
        rows = [cell(*told) for told in cells]
    else:
        with ProcessPoolExecutor(_PROCESSES, mp_context=multiprocessing.get_context("spawn")) as pool:
            rows = list(pool.map(cell, *zip(*cells, strict=True)))
    return rows, all(is_good(row, _READS[small]) for row in rows)


def is_good(row: dict[str, figures.Cell], reads: int) -> bool:
    """Nothing wrong, nothing failed without a fault, and as many reads as wanted."""
    bad = (row["silently wrong"], row["crashes"], row["asked elsewhere"])
    for_a_reason = int(row["failed with a reason"]) <= int(row["met it"])
    return bad == (0, 0, 0) and for_a_reason and int(row["reads"]) >= reads


if __name__ == "__main__":
    given = figures.arguments(__doc__).parse_args()
    found_rows, is_reached = run(given.seed, small=given.small, minutes=given.minutes)
    figures.record("reads", COMMAND, found_rows, is_reached, write=given.record)
