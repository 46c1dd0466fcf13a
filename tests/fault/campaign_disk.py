"""A disk that fills up under each verb: a clean stop, nothing of the old lost, and the end once there is room again.

    python tests/fault/campaign_disk.py --record

Every verb runs as the command does, in a process of its own, on a file system that has so much room left: none, a few
pages, and in equal steps up to all that the verb needs; and on one that has bytes but no more files. Where it cannot end,
it must end with exit code 7 and a message that says what to do, every file must be whole, the old one or the new one, and
the ledger must list nothing that is not there. Then the disk is given room, and the same command must end as one that never
lacked any: in the same bytes.
"""

import json
import random
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
import xarray as xr
from disks import PAGE_BYTES, SmallDisk, small_disk
from fault import figures, killer
from fault.filling import verb
from faulty import Catalogue, Server, serving

from regions import write_archive, write_region
from vsat.config import Region, load_region
from vsat.errors import ExitCode
from vsat.hls import BANDS
from vsat.io import archive
from vsat.io.ledger import Ledger, Receipt
from vsat.io.scenes import ledger_path
from vsat.io.sealed import page_problem
from vsat.model import saves
from vsat.stages.verify import verify

START, LATER, END, NIGHT = date(2023, 5, 1), date(2023, 5, 11), date(2023, 5, 20), date(2023, 5, 31)
SAMPLED, GROWN = date(2023, 6, 12), date(2023, 6, 30)  # last days of the scenes that patches are drawn from
ROOMY = 256 << 20
LIMIT_S = 300  # of one run
TEXT = """
name: {name}
area: {{bbox: [14.2, 48.1, 14.2118, 48.1077]}}
period: {{start: {start}, end: {end}}}
catalogue: %s
cadence: {{every_days: 10}}
look_back_days: 10
final_after_days: 20
context_days: 60
method: linear
store: %s
"""
DAYS = ("--start", str(START), "--end", str(END))
SAMPLING = (
    "--patches", "40", "--size", "8", "--stride", "2", "--days", "32", "--every", "8", "--strata", "greenness",
    "--block", "10", "--buffer", "0", "--validation", "0.3", "--test", "0.1",
)  # fmt: skip
TRAINING = ("--steps", "3", "--every", "1", "--batch", "2", "--held-out", "3", "--optimizer", "adamw", "--no-bf16")
# these tell of the run, and not of what it made; the ledger is compared by its receipts
_OF_THE_RUN = (
    "reports/",
    "ledger.sqlite",
    "run/",
    "card.json",
    "README.md",
    "item.json",
    "model.part/",
    "verdict.",
    "report.html",
    "report.md",
)


@dataclass(frozen=True)
class Bench:
    """What all verbs work on: a region's file, the disk that its store is on, and the catalogue it reads from."""

    folder: Path
    disk: SmallDisk
    file: Path
    server: Server
    archives: Mapping[str, Path]

    @property
    def region(self) -> Region:
        return load_region(self.file)

    def serve(self, name: str) -> None:
        """From now on the catalogue and its files are those of this archive."""
        root = self.archives[name]
        self.server.state.pages = Catalogue(
            json.loads(json.dumps(archive.items(root)).replace("archive:/", self.server.url))
        )
        self.server.state.files = {f"/{path.relative_to(root)}": path.read_bytes() for path in root.rglob("*.tif")}

    def run(self, words: Sequence[str]) -> tuple[int, str]:
        """Exit code and words of a verb."""
        said = self.folder / "said.txt"
        process = killer.nursery(verb.__module__).Process(target=verb, args=(self.filled(words), said))
        process.start()
        process.join(LIMIT_S)
        if process.exitcode is None:
            process.kill()
            process.join()
            return -1, f"it had not ended after {LIMIT_S} s"
        return process.exitcode, said.read_text()

    def must(self, *words: str) -> None:
        """The verb ends well."""
        code, said = self.run(words)
        assert code == ExitCode.DONE, f"vsat {' '.join(words)} ended with {code}: {said}"

    def filled(self, words: Sequence[str]) -> tuple[str, ...]:
        """The words of a verb with the paths put in."""
        places = {"REGION": self.file, "DISK": self.disk.folder, "HERE": self.folder}
        return tuple("/".join(str(places.get(part, part)) for part in word.split("/")) for word in words)


@dataclass(frozen=True)
class Case:
    """One verb and what was there before.

    Attributes:
        name: of the row.
        words: of the verb; REGION, DISK and HERE stand for paths.
        prepare: makes what was there before, on a disk with room.
        most_levels: of room, for what takes long.
    """

    name: str
    words: tuple[str, ...]
    prepare: Callable[[Bench], None]
    most_levels: int = 100


def _nothing(bench: Bench) -> None:
    bench.serve("first")


def _scenes(bench: Bench) -> None:
    bench.serve("first")
    bench.must("fetch", "REGION", *DAYS)


def _then_revised(bench: Bench) -> None:
    _scenes(bench)
    bench.serve("revised")


def _images_of_old_scenes(bench: Bench) -> None:
    _then_revised(bench)
    bench.must("generate", "REGION", *DAYS, "--day", str(NIGHT))
    bench.must("fetch", "REGION", *DAYS)


def _images(bench: Bench) -> None:
    _scenes(bench)
    bench.must("generate", "REGION", *DAYS, "--day", str(NIGHT))


def _exported(*words: str) -> Callable[[Bench], None]:
    """An export of other days lies there already."""

    def prepare(bench: Bench) -> None:
        _images(bench)
        bench.must(*words, "--start", str(LATER))

    return prepare


def _more_scenes(bench: Bench) -> None:
    bench.serve("first")
    bench.must("fetch", "REGION", "--start", str(START), "--end", str(SAMPLED))


def _patches_of_fewer_scenes(bench: Bench) -> None:
    _more_scenes(bench)
    bench.must("sample", "REGION", "--out", "DISK/patches", *SAMPLING)
    bench.must("fetch", "REGION", "--start", str(START), "--end", str(GROWN))


def _patches(bench: Bench) -> None:
    bench.serve("first")
    if not (bench.folder / "patches").exists():
        bench.must("fetch", "REGION", "--start", str(START), "--end", str(GROWN))
        bench.must("sample", "REGION", "--out", "HERE/patches", *SAMPLING)


def _half_trained(bench: Bench) -> None:
    _patches(bench)
    bench.must(*TRAIN, "--minutes", "1e-6")


def _verdict(bench: Bench) -> None:
    _cube(bench)
    for name in ("verdict.json", "verdict.html"):
        (bench.disk.folder / name).write_text("an older one")


def _filled(bench: Bench) -> None:
    _cube(bench)
    for name in ("nc", "zarr"):
        bench.must(
            "fill", "HERE/cube.nc", "--method", "linear", "--dates", "2023-05-02", "--out", f"DISK/filled.{name}"
        )


def _cube(bench: Bench) -> None:
    """A user's cube, not on the disk: sixteen looks at 12 x 10 pixels."""
    path, rng = bench.folder / "cube.nc", np.random.default_rng(0)
    if path.exists():
        return
    day = np.datetime64(START, "ns") + np.arange(0, 80, 5) * np.timedelta64(1, "D")
    season = 1500 + 400 * np.sin(np.arange(len(day)) / 3)
    refl = (season[:, None, None, None] + rng.normal(0, 30, (len(day), 6, 12, 10))).astype(np.int16)
    fmask = np.where(rng.random((len(day), 12, 10)) < 0.2, 66, 64).astype(np.uint8)
    axes = ("time", "band", "y", "x")
    coords = {"time": day, "sensor": ("time", ["L30", "S30"] * 8), "band": list(BANDS)}
    coords |= {"y": 30.0 * np.arange(12)[::-1], "x": 30.0 * np.arange(10)}
    data = {"reflectance": (axes, refl, {"scale_factor": 1e-4}), "fmask": (("time", "y", "x"), fmask)}
    xr.Dataset(data, coords=coords).to_netcdf(path, engine="netcdf4")


TRAIN = ("train", "--patches", "HERE/patches", "--init", "anydate", "--out", "DISK/model", *TRAINING)
EXPORTS = {
    "export, NetCDF": ("export", "REGION", "--out", "DISK/out.nc", "--index", "ndvi"),
    "export, COGs": ("export", "REGION", "--out", "DISK/out", "--bands", "red,nir", "--index", "ndvi"),
    "export, table": ("export", "REGION", "--out", "DISK/out.csv", "--points", "HERE/points.csv"),
}
EVALUATE = (
    "evaluate", "HERE/cube.nc", "--methods", "linear", "--protocol", "dates", "--folds", "1",
    "--json", "DISK/verdict.json", "--html", "DISK/verdict.html",
)  # fmt: skip
FILL = ("fill", "HERE/cube.nc", "--method", "linear", "--every", "4", "--out")
CASES = (
    Case("fetch", ("fetch", "REGION", *DAYS), _nothing),
    Case("fetch, revised scenes", ("fetch", "REGION", *DAYS), _then_revised),
    Case("sample", ("sample", "REGION", "--out", "DISK/patches", *SAMPLING), _more_scenes),
    Case("sample, grown", ("sample", "REGION", "--out", "DISK/patches", *SAMPLING), _patches_of_fewer_scenes),
    Case("generate and publish", ("generate", "REGION", *DAYS, "--day", str(NIGHT)), _scenes),
    Case("publish, stale images", ("generate", "REGION", *DAYS, "--day", str(NIGHT)), _images_of_old_scenes),
    Case("nightly", ("nightly", "REGION", "--day", str(NIGHT)), _nothing),
    Case("backfill", ("backfill", "REGION", *DAYS, "--day", str(NIGHT)), _nothing),
    Case("train", TRAIN, _patches, 8),
    Case("train, going on", TRAIN, _half_trained, 8),
    Case("evaluate", EVALUATE, _verdict, 8),
    *(Case(name, words, _exported(*words)) for name, words in EXPORTS.items()),
    Case("fill, NetCDF", (*FILL, "DISK/filled.nc"), _filled),
    Case("fill, Zarr", (*FILL, "DISK/filled.zarr"), _filled),
)


@dataclass
class Found:
    """What came of one verb; `faults` are sentences."""

    levels: int = 0
    stopped: int = 0
    faults: list[str] = field(default_factory=list)
    most_kb: float = 0.0

    def row(self, name: str) -> dict[str, figures.Cell]:
        """For the table."""
        wrong = Counter(fault.partition(":")[0] for fault in self.faults)
        told: dict[str, figures.Cell] = {
            kind: wrong[kind] for kind in ("not a clean stop", "old data lost", "not completed")
        }
        return {"verb": name, "needs kB": round(self.most_kb), "levels": self.levels, "stopped": self.stopped} | told


@dataclass(frozen=True)
class Level:
    """How much room is left."""

    free_bytes: int
    free_files: int = 50_000

    def __str__(self) -> str:
        return f"{self.free_bytes} bytes, {self.free_files} files left"


@dataclass(frozen=True)
class Tree:
    """What lies in a folder, and the receipts of its ledger."""

    files: Mapping[str, bytes]
    receipts: tuple[Receipt, ...]

    def made(self) -> tuple[dict[str, bytes], tuple[Receipt, ...]]:
        """Without what tells of the run itself."""
        return {name: body for name, body in self.files.items() if not _is_of_the_run(name)}, self.receipts


def tree_of(disk: Path) -> Tree:
    """Of everything on the disk but locks."""
    files = {
        str(path.relative_to(disk)): path.read_bytes()
        for path in sorted(disk.rglob("*"))
        if path.is_file() and path.suffix != ".lock"
    }
    receipts: list[Receipt] = []
    for path in sorted(disk.rglob("ledger.sqlite")):
        with Ledger(path) as ledger:
            receipts += [
                one for kind in ("scene", "scene-failed", "image", "shard", "part") for one in ledger.all(kind)
            ]
    return Tree(files, tuple(receipts))


def run_case(bench: Bench, case: Case, *, levels: int, seed: int = 0, seconds: float = 3600.0) -> Found:
    """The verb at so many levels of room, in an order by chance, and what was wrong; at as many as there is time for."""
    until = time.monotonic() + seconds
    disk = bench.disk
    _empty(disk)
    case.prepare(bench)
    disk.leave(ROOMY)
    base = bench.folder / "base"
    shutil.rmtree(base, ignore_errors=True)
    shutil.copytree(disk.folder, base)
    before, (bytes_before, files_before) = tree_of(disk.folder), disk.used
    bench.must(*case.words)
    wanted, (bytes_after, files_after) = tree_of(disk.folder), disk.used
    found = Found()
    new = sum(
        -(-len(body) // PAGE_BYTES) * PAGE_BYTES
        for name, body in wanted.files.items()
        if before.files.get(name) != body
    )
    most = max(bytes_after - bytes_before, new)
    wished = levels_of(most, max(files_after - files_before, 1), min(levels, case.most_levels))
    for level in random.Random(seed).sample(wished, len(wished)):
        if time.monotonic() > until and found.stopped:
            break
        _restore(disk, base)
        _at_level(bench, case, level, before, wanted, found)
    found.most_kb = most / 1024
    return found


def levels_of(most_bytes: int, files: int, count: int) -> list[Level]:
    """No room, a few pages, and equal steps to what is needed; and some numbers of files."""
    tight = [Level(pages * PAGE_BYTES) for pages in (0, 1, 4, 12, 20)]
    spread = [Level(int(most_bytes * (step + 0.5) / count)) for step in range(count)]
    few = [Level(ROOMY, number) for number in {0, 1, 2, 4, files // 2}]
    return sorted(
        {*tight[: 1 + count // 2], *spread, *few[: count // 3]},
        key=lambda one: (one.free_files, one.free_bytes),
    )


def _at_level(bench: Bench, case: Case, level: Level, before: Tree, wanted: Tree, found: Found) -> None:
    disk = bench.disk
    disk.leave(level.free_bytes, level.free_files)
    code, said = bench.run(case.words)
    found.levels += 1
    disk.leave(ROOMY)
    if code != ExitCode.DONE:
        found.stopped += 1
        found.faults += [f"not a clean stop: {case.name}, {level}: {fault}" for fault in _unclean(code, said)]
        found.faults += [f"old data lost: {case.name}, {level}: {fault}" for fault in _lost(bench, before, wanted)]
        code, said = bench.run(case.words)
    if code != ExitCode.DONE:
        found.faults.append(f"not completed: {case.name}, {level}: ended with {code}: {said}")
        return
    found.faults += [f"not completed: {case.name}, {level}: {fault}" for fault in _unlike(tree_of(disk.folder), wanted)]


def _unclean(code: int, said: str) -> Iterator[str]:
    """Sentences about a stop that is none."""
    if code != ExitCode.DISK_FULL:
        yield f"exit code {code}: {said[-600:]}"
    elif "make room" not in said or "Traceback" in said:
        yield f"it says: {said[-1500:]}"


def _lost(bench: Bench, before: Tree, wanted: Tree) -> Iterator[str]:
    """Sentences about files that are neither the old nor the new ones, and receipts of what is not there."""
    now = tree_of(bench.disk.folder)
    for name, body in before.files.items():
        if _is_of_the_run(name):
            if name in now.files and now.files[name] != body and not _is_whole(name, now.files[name]):
                yield f"{name} is neither the old one nor whole"
            continue
        if now.files.get(name) not in (body, wanted.files.get(name)) and not (
            name not in now.files and name not in wanted.files
        ):
            yield f"{name} is {'gone' if name not in now.files else 'neither the old nor the new one'}"
    for name, body in now.files.items():
        if (
            name not in before.files
            and not _is_of_the_run(name)
            and name in wanted.files
            and body != wanted.files[name]
        ):
            yield f"{name} is there, and not whole"
    if any(one not in before.receipts and one not in wanted.receipts for one in now.receipts):
        yield "the ledger has receipts that are neither old nor new"
    if ledger_path(bench.region.home).exists():
        # a catalogue that does not list all images yet, and scenes newer than these, are what the next run is for
        listed = [one for one in verify(bench.region).findings if one.of.split(" ")[0] in ("scene", "image")]
        yield from (str(one) for one in listed if one.kind in ("missing", "altered"))
    for step in saves.steps(bench.disk.folder / "model" / "run"):
        if problem := saves.what_is_wrong(saves.folder_of(bench.disk.folder / "model" / "run", step)):
            yield f"checkpoint {step}: {problem}"


def _unlike(now: Tree, wanted: Tree) -> Iterator[str]:
    """Sentences about what differs from a run that had room."""
    (files, receipts), (wanted_files, wanted_receipts) = now.made(), wanted.made()
    yield from (f"{name} is missing" for name in sorted(wanted_files.keys() - files.keys()))
    yield from (f"{name} is left over" for name in sorted(files.keys() - wanted_files.keys()))
    yield from (
        f"{name} differs" for name in sorted(files.keys() & wanted_files.keys()) if files[name] != wanted_files[name]
    )
    if receipts != wanted_receipts:
        yield "the ledger differs"


def _is_whole(name: str, body: bytes) -> bool:
    """Whether a text is as it was written, as far as its kind shows it."""
    if name.endswith(".json"):
        try:
            json.loads(body)
        except ValueError:
            return False
    return not name.endswith((".html", ".md")) or not page_problem(body)


def _is_of_the_run(name: str) -> bool:
    return any(part in f"{name}/" or name.endswith(part) for part in _OF_THE_RUN)


def _empty(disk: SmallDisk) -> None:
    disk.leave(ROOMY)
    for path in disk.folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _restore(disk: SmallDisk, base: Path) -> None:
    _empty(disk)
    shutil.copytree(base, disk.folder, dirs_exist_ok=True)


@contextmanager
def bench_in(folder: Path) -> Iterator[Bench]:
    """A bench on a new small disk, with an archive and the same one revised.

    Raises:
        CannotMountError: nothing can be mounted here.
    """
    with small_disk(folder / "disk", ROOMY) as disk, serving() as server:
        archives = {name: folder / name for name in ("first", "revised")}
        made = write_region(folder, "made", end=GROWN, text=TEXT % ("{{kind: archive, path: first}}", "unused"))
        write_archive(load_region(made), START, GROWN)
        shutil.copytree(archives["first"], archives["revised"])
        for item in archive.items(archives["revised"])[::3]:
            refl_byx, fmask_yx = archive.pixels(archives["revised"], item["id"])
            later = datetime(2023, 7, 1, tzinfo=UTC)
            changed = np.where(refl_byx > 0, refl_byx + np.int16(40), refl_byx)
            archive.revise(archives["revised"], item["id"], changed, fmask_yx, updated=later)
        text = TEXT % (f"{{{{kind: stac, url: '{server.url}'}}}}", disk.folder / "var")
        file = write_region(folder, "tiny", end=GROWN, text=text)
        (folder / "points.csv").write_text("id,lon,lat\na,14.205,48.104\nb,14.209,48.105\n")
        yield Bench(folder, disk, file, server, archives)


def campaign(
    folder: Path, names: Sequence[str] = (), *, levels: int = 24, seed: int = 0, minutes: float = 60.0
) -> tuple[list[dict[str, figures.Cell]], list[str]]:
    """Rows of the table, and sentences about what was wrong; `names` are of CASES, () for all.

    Each verb gets its share of the time that is left.
    """
    until = time.monotonic() + 60 * minutes
    cases = [one for one in CASES if not names or one.name in names]
    rows, faults = [], list[str]()
    with bench_in(folder) as bench:
        for number, case in enumerate(cases):
            share = (until - time.monotonic()) / (len(cases) - number)
            found = run_case(bench, case, levels=levels, seed=seed, seconds=share)
            rows.append(found.row(case.name))
            faults += found.faults
            sys.stderr.write("\n".join([str(rows[-1]), *found.faults, ""]))
    return rows, faults


def main() -> None:
    """Run, print, record."""
    parser = figures.arguments(__doc__)
    parser.add_argument("--only", default="", help="verbs of the table, with ; between them")
    given = parser.parse_args()
    names = [name.strip() for name in given.only.split(";") if name.strip()]
    with TemporaryDirectory(prefix="vsat-disk-") as folder:
        levels = 3 if given.small else 24
        rows, faults = campaign(Path(folder), names, levels=levels, seed=given.seed, minutes=given.minutes)
    is_whole = len(rows) == len(CASES) and all(int(row["stopped"]) > 0 for row in rows)
    figures.record(
        "disk", "python tests/fault/campaign_disk.py --record", rows, is_whole and not faults, write=given.record
    )


if __name__ == "__main__":
    main()
