"""Secrets are planted wherever vsat may be given one, and searched for in everything that is written or said.

    python tests/fault/campaign_canary.py here --record       verbs, a proxy, a store in a bucket
    python tests/fault/campaign_canary.py prefect --record    the stack of `vsat up`, on SQLite and on PostgreSQL

Each phase runs in a folder of its own: stores, ledgers, logs, Prefect's database, answers of server and viewer, the files
of PostgreSQL and of the object store, what was removed or replaced meanwhile, and the command line of every process. One
secret, the control, is written on purpose in each way that a leak could take; the search has to find it each time.
"""

import base64
import bz2
import gzip
import lzma
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from fault import canary_runs, figures
from fault.canary import Hit, plant, search, search_bytes, watched_lines
from fault.canary_runs import CONTROL, SECRETS, World
from numcodecs.lz4 import LZ4
from numcodecs.zstd import Zstd

from regions import tiny

SMALL = ("good", "refused", "gone")
FLOWS = (*SMALL, "moved", "liar", "signed")
ALL = (*FLOWS, "page", "marked")
AT_ONCE = 5  # phases: they wait most of the time, for servers that fail and for tries that come later


def phases(world: Callable[[str], World], which: str, *, small: bool) -> dict[str, Callable[[], World]]:
    """What is run, by name; each returns its world."""

    def run(name: str, work: Callable[[World], None]) -> World:
        made = world(name)
        try:
            work(made)
        finally:
            made.end()
        return made

    def on_postgres(made: World) -> None:
        with canary_runs.on_postgres(made) as database:
            canary_runs.stack(made, SMALL[:2], database)

    if small:
        return {"verbs": partial(run, "verbs", partial(canary_runs.commands, kinds=SMALL))}
    if which == "here":
        return {
            "verbs": partial(run, "verbs", partial(canary_runs.commands, kinds=ALL)),
            "by a proxy, at NASA's and Microsoft's addresses": partial(run, "proxy", canary_runs.by_proxy),
            "store in a bucket": partial(run, "bucket", canary_runs.bucket),
        }
    return {
        "up, Prefect on SQLite": partial(run, "sqlite", partial(canary_runs.stack, kinds=FLOWS, database=None)),
        "up, Prefect on PostgreSQL": partial(run, "postgres", on_postgres),
    }


def campaign(
    folder: Path, seed: int, which: str = "here", *, small: bool, minutes: float
) -> tuple[list[dict[str, figures.Cell]], list[Hit], bool]:
    """Rows of the table, the hits, and whether all was run, nothing was found and every control was."""
    began, planted = time.monotonic(), plant(seed, [*SECRETS, CONTROL])
    secret = folder / "secret"
    secret.mkdir(parents=True)
    made = tiny(secret / "made")

    def world(name: str) -> World:
        root = folder / name
        root.mkdir()
        return World(root, secret, made, planted)

    def searched(run: Callable[[], World]) -> tuple[World | None, list[Hit], str]:
        if time.monotonic() - began > 60 * minutes:
            return None, [], "no time left"
        try:
            done = run()
            return done, search(done.root, planted), ""
        except (AssertionError, LookupError, OSError, subprocess.SubprocessError) as error:
            traceback.print_exc()
            return None, [], f"did not come to its end: {type(error).__name__}"

    rows: list[dict[str, figures.Cell]] = []
    hits, is_complete, ways = [], True, controls(folder / "controls", planted)
    work = phases(world, which, small=small)
    with watched_lines() as lines:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            outcomes = list(pool.map(searched, work.values()))
        for name, (done, found, why) in zip(work, outcomes, strict=True):
            if done is None:
                rows.append({"what ran": name, "runs": why})
                is_complete = False
                continue
            real = [hit for hit in found if hit.name != CONTROL]
            if done.root.name in ("sqlite", "postgres"):
                ways |= {f"{done.root.name}: {way}": is_found for way, is_found in _by_prefect(found).items()}
            hits += real
            rows.append(_row(name, len(done.runs), done.root, len(real)))
        command = [sys.executable, "-c", "import time; time.sleep(1)", planted[CONTROL]]
        subprocess.run(command, check=True)
    told = search_bytes(b"\n".join(lines.seen), "a command line", planted)
    ways["a command line"] = any(hit.name == CONTROL for hit in told)
    real = [hit for hit in told if hit.name != CONTROL]
    hits += real
    rows.append({"what ran": "command lines of all processes", "runs": "", "files": len(lines.seen), "hits": len(real)})
    missed = [way for way, is_found in ways.items() if not is_found]
    rows.append({"what ran": f"controls: {len(ways) - len(missed)} of {len(ways)} found"})
    for way in missed:
        print(f"control not found: {way}")
    for hit in hits:
        print(f"{hit.name} in {hit.place}: {hit.form}")
    print(f"secrets: {len(SECRETS)}, seed {seed}")
    return rows, hits, is_complete and not hits and not missed


def _row(name: str, runs: int, root: Path, hits: int) -> dict[str, figures.Cell]:
    sizes = [path.stat().st_size for path in root.rglob("*") if path.is_file() and not path.is_symlink()]
    return {"what ran": name, "runs": runs, "files": len(sizes), "MB searched": sum(sizes) / 1e6, "hits": hits}


def _by_prefect(found: list[Hit]) -> dict[str, bool]:
    """Whether the control was found where Prefect keeps an artifact that is packed twice, and a line of a log."""
    told = [hit for hit in found if hit.name == CONTROL and ("prefect" in hit.place or hit.place == "dump.sql")]
    answers = [hit for hit in found if hit.name == CONTROL and hit.place.startswith("answers/")]
    return {
        "packed, in the database": any("base64, gzip" in hit.form for hit in told),
        "plain, in the database": any(hit.form == "plain" for hit in told),
        "an answer of the API": bool(answers),
    }


def controls(folder: Path, planted: Mapping[str, str]) -> dict[str, bool]:
    """Ways in which a secret can lie in a file, and whether it was found there; each in a file of its own."""
    secret = planted[CONTROL]
    text = f'{{"a": "{secret}"}}'.encode()
    coded = base64.b64encode(b"ab" + text)
    noise = random.Random(1).randbytes(1000)
    forms = {
        "plain": text, "capitals": text.upper(), "its first third": noise + secret[:12].encode() + noise,
        "backwards": text[::-1], "utf-16": text.decode().encode("utf-16"), "hexadecimal": text.hex().encode(),
        "base64": coded, "base64, lines of 76": base64.encodebytes(b"x" * 40 + text), "base64 for addresses":
        base64.urlsafe_b64encode(b"x" + text), "base64 of base64": base64.b64encode(coded), "gzip": gzip.compress(text),
        "gzip within": noise + gzip.compress(text) + noise, "zlib": zlib.compress(text), "bzip2": bz2.compress(text),
        "xz": lzma.compress(text), "zstd": bytes(Zstd().encode(text * 40)), "lz4": bytes(LZ4().encode(text * 40)),
        "base64 of zlib": base64.b64encode(zlib.compress(text)),
    }  # fmt: skip
    folder.mkdir()
    for name, data in forms.items():
        (folder / name).write_bytes(data)
    with zipfile.ZipFile(folder / "zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", text)
    with closing(sqlite3.connect(folder / "a long cell of a database")) as base, base:
        base.execute("CREATE TABLE t (x BLOB)")
        base.execute("INSERT INTO t VALUES (?)", (base64.b64encode(zlib.compress(noise * 20 + text)),))
    (folder / f"name of {secret}").write_bytes(b"")
    (folder / "link").symlink_to(secret)
    found = search(folder, planted)
    names = {*forms, "zip", "a long cell of a database", f"name of {secret}", "link"}
    ways = {name.removesuffix(secret): any(hit.place.startswith(name) for hit in found) for name in names}
    return ways | _witnessed(folder.with_name("witnessed"), planted)


def _witnessed(root: Path, planted: Mapping[str, str]) -> dict[str, bool]:
    """A file that was removed again, one that was replaced, and a process that was gone before anyone looked."""
    root.mkdir()
    world = World(root, root.with_name("secret"), root, planted)
    code = """
import os, pathlib, subprocess, sys, tempfile
secret = os.environ["TOLD"]
with tempfile.TemporaryDirectory() as folder:
    pathlib.Path(folder, "x").write_text("removed " + secret)
pathlib.Path("y").write_text("replaced " + secret)
pathlib.Path("z").write_text("new")
pathlib.Path("z").replace("y")
subprocess.run(["true", "started " + secret])
"""
    subprocess.run([sys.executable, "-c", code], env=world.environment(TOLD=planted[CONTROL]), cwd=root, check=True)
    kept = [path.read_bytes() for path in (root / "witness").iterdir()]
    return {
        way: any(way.encode() in data and search_bytes(data, "", planted) for data in kept)
        for way in ("removed", "replaced", "started")
    }


def main() -> None:
    """The campaign, in a folder that is gone afterwards unless something was found."""
    parser = figures.arguments(__doc__)
    parser.add_argument("which", choices=["here", "prefect"], default="here", nargs="?")
    parser.add_argument("--keep", type=Path, default=None, help="a new folder to work in, which stays")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="vsat-canary-") as scratch:
        folder = given.keep or Path(scratch) / "canary"
        rows, _, ok = campaign(folder.resolve(), given.seed, given.which, small=given.small, minutes=given.minutes)
    command = f"python tests/fault/campaign_canary.py {given.which} --record"
    figures.record(f"canary-{given.which}", command, rows, ok, write=given.record)


if __name__ == "__main__":
    main()
