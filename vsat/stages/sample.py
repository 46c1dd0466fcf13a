"""Sample: from the cubes of regions to a store of training patches, stratified, split before it is drawn.

Survey each tile, make the strata, decide the splits, allocate, draw; then each shard of patches is one job. A finished
store is a list of parts; what has grown since is drawn into a new part, and a finished part never changes.
Axes: n candidates or patches, t looks, f features.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from vsat.config import Region
from vsat.core.masks import clear
from vsat.core.sampling import Rule
from vsat.core.splits import SplitDesign, check_splits
from vsat.core.strata import FEATURES
from vsat.errors import InputError, NoScenes, StoreError
from vsat.hls import BANDS, RESOLUTION_M
from vsat.io.ledger import Ledger, Receipt, lease
from vsat.io.patch_reader import PatchStore
from vsat.io.patches import (
    MANIFEST,
    PatchLayout,
    finish_store,
    part_folder,
    read_manifest,
    start_part,
)
from vsat.io.scenes import ledger_path
from vsat.io.zarr_json import Json
from vsat.settings import Settings
from vsat.stages.draw import Draw, draw_patches
from vsat.stages.pool import Progress, run_jobs
from vsat.stages.sample_report import SampleReport, report_of, write_report
from vsat.stages.shards import KIND, PatchSpec, SampleJob, lost_shards, sample_one, shard_job
from vsat.stages.survey import Place, SurveyJob, light, places_of, survey_job, survey_one

log = logging.getLogger(__name__)
PART = "part"
RECIPE = 2  # counts up when the same scenes and options shall give other bytes


@dataclass(frozen=True)
class SampleOptions:
    """What to draw; the defaults are those of `vsat sample`.

    Attributes:
        patches: how many.
        size_px, stride_px: side of a patch, and pixels between places where one may lie; the side is a multiple of it.
        most_looks, min_looks: looks in a patch, at most and at least.
        days, step_days: a patch's stretch of time, and how far apart stretches begin.
        min_clear: share of a patch that must be clear for a look to be kept.
        rule, floor: see `core.sampling.allocate`.
        strata: features that make the strata, of core.strata.FEATURES; those of `static` come on top.
        static: (name, GeoTIFF) of further ones.
        max_overlap: see `core.sampling.draw`.
        seed: decides the draw; `split` has its own.
        split: how ground and time are shared out.
        shard_patches: patches per object.
    """

    patches: int = 2000
    size_px: int = 64
    stride_px: int = 8
    most_looks: int = 64
    min_looks: int = 4
    days: int = 180
    step_days: int = 30
    min_clear: float = 0.01
    rule: Rule = "equal"
    floor: int = 1
    strata: tuple[str, ...] = FEATURES
    static: tuple[tuple[str, Path], ...] = ()
    max_overlap: float = 0.8
    seed: int = 0
    split: SplitDesign = field(default_factory=SplitDesign)
    shard_patches: int = 16

    def __post_init__(self) -> None:
        if self.size_px % self.stride_px or self.stride_px > 255:
            problem = f"a patch of {self.size_px} px is no multiple of a stride of {self.stride_px} px"
            raise InputError(problem, place="options", next_step="choose a stride that divides the size")
        unknown = [name for name in self.strata if name not in FEATURES]
        if unknown:
            step = f"choose among {', '.join(FEATURES)}"
            raise InputError(f"no stratum is made from {unknown[0]!r}", place="options", next_step=step)
        for name in ("patches", "min_looks", "most_looks", "days", "step_days", "shard_patches"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} is {getattr(self, name)}", place="options", next_step="give 1 or more")

    def plain(self) -> Json:
        """The options as JSON values."""
        plain: Json = json.loads(json.dumps(asdict(self), default=str))
        return plain


@dataclass(frozen=True)
class SamplePlan:
    """What is to be done: a draw with its shards, or None where nothing is new; and shards that the disk has lost."""

    places: tuple[Place, ...]
    draw: Draw | None
    part: int
    layout: PatchLayout | None
    signature: str
    jobs: tuple[SampleJob, ...]
    mending: tuple[SampleJob, ...] = ()


def sample(
    regions: Sequence[Region],
    out: Path,
    options: SampleOptions | None = None,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> SampleReport:
    """The patch store at `out` holds the patches that were asked for, or those and what has grown since.

    Args:
        regions: whose cubes; their scenes fetched.
        out: the store's folder.
        options: see SampleOptions; those of an existing store must be the same.
        workers: threads; by default as many as VSAT_WORKERS says.
        progress: told (jobs done, jobs in all).

    Raises:
        NoScenes: no region has a scene in its cube.
        InputError: the options do not fit the cubes, or they or the cloud rule are not those of the store.
        StoreError: a scene cannot be read, or the store cannot be written.
    """
    options, threads = options or SampleOptions(), workers or Settings.from_environment().workers
    with lease(out, "sample"):
        places = plan_survey(regions, out, options)
        run_jobs(survey_one, [light(job) for job in places], workers=threads)
        plan = plan_sample(places, out, options)
        receipts = run_jobs(sample_one, (*plan.mending, *plan.jobs), workers=threads, progress=progress)
        return finish_sample(out, options, plan, receipts)


def options_of(told: Json) -> SampleOptions:
    """The options of a manifest, as `SampleOptions.plain` wrote them."""
    static = tuple((name, Path(path)) for name, path in told["static"])
    return SampleOptions(**_tuples(told) | {"split": SplitDesign(**_tuples(told["split"])), "static": static})


def _tuples(plain: Json) -> Json:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()}


def plan_survey(regions: Sequence[Region], out: Path, options: SampleOptions) -> list[SurveyJob]:
    """One job for every tile that has scenes; touches no pixel.

    Raises:
        NoScenes: no region has a scene in its cube.
        InputError: the store at `out` was drawn with other options or another cloud rule, or the regions' rules differ.
    """
    _check_same(out, options)
    places = places_of(regions)
    if not places:
        step = "fetch scenes first: vsat fetch"
        raise NoScenes("there is no scene in the cubes", place=", ".join(r.name for r in regions), next_step=step)
    _check_cloud(out, places)
    return [survey_job(out, place, options.stride_px, options.static) for place in places]


def plan_sample(surveys: Sequence[SurveyJob], out: Path, options: SampleOptions) -> SamplePlan:
    """The draw from the surveys, and its shards that are not on the disk yet."""
    places = tuple(job.place for job in surveys)
    store = PatchStore(out) if (out / MANIFEST).exists() else None
    part = len(store.parts) if store is not None else 0
    draw = draw_patches(surveys, options, store)
    mending = tuple(lost_shards(out, places)) if store is not None else ()
    if draw is None:
        return SamplePlan(places, None, part, None, "", (), mending)
    layout = PatchLayout(draw.count, int(draw.looks_n.max()), options.size_px, options.shard_patches)
    decisive = [RECIPE, options.plain(), [asdict(place) for place in places], part, draw.digest()]
    signature = hashlib.sha256(json.dumps(decisive, sort_keys=True, default=str).encode()).hexdigest()
    _clear_others(out, part, signature, options)
    jobs = [_job(out, places, draw, part, layout, number, signature) for number in range(layout.shards)]
    return SamplePlan(places, draw, part, layout, signature, tuple(jobs), mending)


def finish_sample(out: Path, options: SampleOptions, plan: SamplePlan, receipts: Iterable[Receipt]) -> SampleReport:
    """The manifest lists the part, and the report lies beside it.

    Raises:
        StoreError: the splits touch each other, which must never be, or a patch cannot be read back.
    """
    record(out, options, plan, receipts)
    report = report_of(out, plan.places, kept=plan.draw is None)
    write_report(out, report)
    return report


def record(out: Path, options: SampleOptions, plan: SamplePlan, receipts: Iterable[Receipt]) -> None:
    """The manifest lists the part: its splits are checked once more, its statistics are those of all train patches."""
    done = sorted(receipts, key=lambda receipt: receipt.key)
    manifest = read_manifest(out) if plan.part else {"parts": [], "draws": [], "windows": []}
    if plan.mending:
        manifest = list_mended(out, manifest, done)
    if plan.draw is None or plan.layout is None:
        return
    done = [receipt for receipt in done if receipt.key.startswith(f"{plan.part:04d}/")]
    columns = plan.draw.columns(plan.layout.looks)
    attributes = plan.draw.attributes()
    objects = dict(start_part(out, plan.part, plan.layout, columns, attributes))
    objects |= {path: digest for receipt in done for path, digest in receipt.outputs}
    size = {name: sum(int(str(receipt.facts[name])) for receipt in done) for name in ("raw_bytes", "stored_bytes")}
    parts = [*manifest["parts"], {"patches": plan.draw.count, "objects": objects, **size}]
    about: Json = {
        "options": options.plain(),
        "strata": {"names": list(plan.draw.strata.names), "edges": [list(edges) for edges in plan.draw.strata.edges]},
        "windows": sorted([*manifest["windows"], *plan.draw.windows]),
        "draws": [*manifest["draws"], plan.draw.summary()],
        "cloud": {"adjacent": plan.places[0].adjacent, "snow": plan.places[0].snow},
    }
    store = PatchStore(out, {"parts": parts} | about)
    _check_disjoint(store, options)
    finish_store(out, parts, about | {"statistics": statistics(store, plan.places[0])})


def statistics(store: PatchStore, place: Place) -> dict[str, Json]:
    """Per band, of the clear pixels of all train patches, in reflectance: median, sd (1.4826 MAD), 1 and 99 %, count."""
    counts = np.zeros((len(BANDS), 65536), np.int64)
    for index in np.flatnonzero(store.split_n == 0):
        patch = store.read(int(index))
        seen = clear(patch.fmask_tyx, patch.refl_tbyx, adjacent=place.adjacent, snow=place.snow)
        for b in range(len(BANDS)):
            counts[b] += np.bincount(patch.refl_tbyx[:, b][seen].astype(np.int64) + 32768, minlength=65536)
    return {band: _robust(counts[b]) for b, band in enumerate(BANDS)}


def _robust(count_v: Any) -> Json:
    """Of stored numbers -32768 .. 32767, each so often."""
    total = int(count_v.sum())
    if not total:
        return {"count": 0, "median": None, "sd": None, "p01": None, "p99": None}
    value, running = np.arange(-32768, 32768), np.cumsum(count_v)
    median, low, high = (int(value[np.searchsorted(running, share * total)]) for share in (0.5, 0.01, 0.99))
    away = np.bincount(np.abs(value - median), count_v)
    mad = int(np.searchsorted(np.cumsum(away), 0.5 * total))
    spread = round(1.4826 * mad * 1e-4, 6)
    return {"count": total, "median": median * 1e-4, "sd": spread, "p01": low * 1e-4, "p99": high * 1e-4}


def _check_disjoint(store: PatchStore, options: SampleOptions) -> None:
    day = store.column("day").astype(np.int64)
    problems = check_splits(
        store.epsg_n,
        store.column("x"),
        store.column("y"),
        store.split_n,
        size_m=store.size_px * RESOLUTION_M,
        buffer_m=options.split.buffer_px * RESOLUTION_M,
        first_day_n=np.where(day < 0, 2**31, day).min(axis=1),
        last_day_n=day.max(axis=1),
        design=options.split,
    )
    if problems:
        step = "keep the store and report this: splits are decided so that it cannot happen"
        raise StoreError(problems[0], place=str(store.path), next_step=step)


def _job(
    out: Path, places: Sequence[Place], draw: Draw, part: int, layout: PatchLayout, number: int, signature: str
) -> SampleJob:
    patches = [
        PatchSpec(int(draw.place_n[n]), int(draw.top_n[n]), int(draw.left_n[n]), draw.scenes_of(n))
        for n in layout.patches_of(number)
    ]
    return shard_job(out, part, layout, number, signature, places, patches)


def list_mended(out: Path, manifest: Json, receipts: Sequence[Receipt]) -> Json:
    """The manifest lists the objects of shards that were written again: other bytes, where a scene has been revised."""
    for receipt in receipts:
        part = int(receipt.key.split("/")[0])
        if part < len(manifest["parts"]):
            manifest["parts"][part]["objects"] |= dict(receipt.outputs)
    about = {key: value for key, value in manifest.items() if key not in ("version", "parts")}
    finish_store(out, manifest["parts"], about)
    return manifest


def _clear_others(out: Path, part: int, signature: str, options: SampleOptions) -> None:
    """What a killed run began from other scenes is gone; what it began from these stays and is completed.

    The part's receipt keeps the options, from which the same draw can be made again where the manifest is damaged.
    """
    folder = part_folder(out, part)
    with Ledger(ledger_path(out)) as ledger:
        begun = ledger.get(PART, f"{part:04d}")
        if begun is None or begun.signature != signature:
            shutil.rmtree(folder, ignore_errors=True)
            for receipt in ledger.all(KIND, f"{part:04d}/"):
                ledger.delete(KIND, receipt.key)
            told = json.dumps(options.plain(), sort_keys=True)
            ledger.record(Receipt(PART, f"{part:04d}", "done", (), signature, (), {"options": told}))


def _check_same(out: Path, options: SampleOptions) -> None:
    """The options are those that the store was drawn with."""
    if not (out / MANIFEST).exists():
        return
    stored, wanted = read_manifest(out).get("options", {}), options.plain()
    for one in fields(options):
        if stored.get(one.name) != wanted[one.name]:
            problem = f"it was drawn with {one.name} {stored.get(one.name)}, not {wanted[one.name]}"
            step = "give the same options to add what has grown, or another folder for another draw"
            raise InputError(problem, place=str(out), next_step=step)


def _check_cloud(out: Path, places: Sequence[Place]) -> None:
    """All places have one cloud rule, that of the store: its statistics are of what this rule calls clear."""
    stored = read_manifest(out).get("cloud") if (out / MANIFEST).exists() else None
    for name in ("adjacent", "snow"):
        kept = stored[name] if stored else getattr(places[0], name)
        for place in places:
            asked = getattr(place, name)
            if asked != kept:
                whose = "it was drawn with" if stored else f"{places[0].name} has"
                problem = f"{whose} cloud.{name} {json.dumps(kept)}, {place.name} has {json.dumps(asked)}"
                step = f"set cloud.{name} to {json.dumps(kept)} for {place.region}, or draw it into another folder"
                raise InputError(problem, place=str(out), next_step=step)
