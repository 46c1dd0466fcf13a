"""Repair, for what stands by itself: patches drawn again from the cubes they came from, and a checkpoint's own item."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vsat.config import Region
from vsat.errors import InputError, StoreError, VsatError
from vsat.io.durable import PARTIAL, sha256_of, write_file
from vsat.io.ledger import Ledger, Receipt, lease
from vsat.io.ledger_check import ledger_problems, salvage
from vsat.io.patch_reader import PatchStore
from vsat.io.patches import ARRAYS, MANIFEST, read_manifest, shard_path
from vsat.io.scenes import ledger_path
from vsat.io.sealed import sealed_json
from vsat.stages.findings import Finding
from vsat.stages.model_item import MODEL_ITEM, model_item
from vsat.stages.pool import run_jobs
from vsat.stages.sample import PART, SampleOptions, list_mended, options_of, plan_survey, sample
from vsat.stages.sample_report import report_of, write_report
from vsat.stages.shards import KIND as SHARD
from vsat.stages.shards import lost_shards, sample_one
from vsat.stages.survey import light, places_of, survey_one
from vsat.stages.verify_stores import verify_checkpoint, verify_patches

Told = tuple[list[str], list[str]]
_REDRAW = f".redrawn{PARTIAL}"


def repair_patches(store: Path, regions: Sequence[Region], *, workers: int) -> Told:
    """What can be drawn again is there as it was; lines about what was done, and about what could not be.

    Single shards are put together from the store's own columns; metadata, columns and the manifest come out of the same
    draw once more, and are taken where their checksums show that it was the same.

    Raises:
        InputError: there is no patch store.
        StoreError: another run is at work on it.
    """
    done, failed = list[str](), list[str]()
    damages = verify_patches(store)
    if not damages:
        return done, failed
    with lease(store, "sample"):
        ledger = ledger_path(store)
        if isinstance(ledger, Path) and ledger.exists() and ledger_problems(ledger):
            kept, _ = salvage(ledger)
            done.append(f"{store}: ledger: {kept} rows kept; the damaged one is beside it")
        steps = (_redrawn, _shards, _beside)
        for step in steps:
            try:
                done += [f"{store}: {told}" for told in step(store, regions, workers)]
            except VsatError as error:
                failed.append(f"{store}: {error}")
            except (OSError, KeyError, TypeError, ValueError) as error:
                failed.append(f"{store}: {error}")
    return done, failed


def repair_checkpoint(folder: Path) -> Told:
    """A damaged item is written again, where what is left of it proves that the other files are what they were."""
    damages = verify_checkpoint(folder)
    if not any(one.path == MODEL_ITEM for one in damages):
        return [], []
    text = (folder / MODEL_ITEM).read_bytes() if (folder / MODEL_ITEM).exists() else b""
    for name in dict.fromkeys((folder.name, *_ids(text))):
        try:
            item = model_item(folder, name)
        except (OSError, ValueError, KeyError, TypeError):
            break
        content = sealed_json(item)
        digests = [str(asset["file:checksum"]).encode() for asset in item["assets"].values()]
        if json.loads(content)["sha256"].encode() in text or (text and all(digest in text for digest in digests)):
            write_file(folder / MODEL_ITEM, [content])
            return [f"{folder}: {MODEL_ITEM} written again"], []
    return [], [f"{folder}: nothing proves that its files are those that were trained: train again, or copy a backup"]


def _ids(text: bytes) -> list[str]:
    try:
        return [str(json.loads(text)["id"])]
    except (ValueError, KeyError, TypeError):
        return []


def _shards(store: Path, regions: Sequence[Region], workers: int) -> list[str]:
    """Shards that are gone or altered, from the columns of their part."""
    manifest = read_manifest(store)
    lost = [one for one in verify_patches(store) if one.of == "patches" and one.kind in ("missing", "altered")]
    if not lost:
        return []
    for one in lost:
        if one.path.split("/")[2] not in ARRAYS or one.path.endswith("zarr.json"):
            problem = f"{one.path} is {one.kind}, and the cubes have changed since it was drawn"
            raise StoreError(problem, place=str(store), next_step="draw the patches again, into another folder")
    for one in lost:
        (store / one.path).unlink(missing_ok=True)
    _list_shards(store)
    jobs = lost_shards(store, places_of(regions))
    receipts = run_jobs(sample_one, jobs, workers=workers)
    list_mended(store, manifest, receipts)
    return [f"shard {one.key}: put together again" for one in receipts]


def _list_shards(store: Path) -> None:
    """Every shard of the manifest has its receipt, where the ledger has lost it."""
    found = PatchStore(store)
    with Ledger(ledger_path(store)) as ledger:
        known = {receipt.key for receipt in ledger.all(SHARD)}
        for part, listed in zip(found.parts, found.manifest["parts"], strict=True):
            for number in range(part.layout.shards):
                key = f"{part.number:04d}/{number:06d}"
                names = [shard_path(Path(), part.number, part.layout, array, number).as_posix() for array in ARRAYS]
                if key not in known:
                    outputs = tuple((name, str(listed["objects"][name])) for name in names)
                    ledger.record(Receipt(SHARD, key, "done", (), "", outputs))


def _redrawn(store: Path, regions: Sequence[Region], workers: int) -> list[str]:
    """Metadata, columns and manifest, out of the same draw once more; a store that has grown since has no such draw."""
    lost = [one for one in verify_patches(store) if _wants_draw(one)]
    if not lost:
        return []
    options, listed = _known(store)
    aside = store / _REDRAW
    shutil.rmtree(aside, ignore_errors=True)
    try:
        sample(regions, aside, options, workers=workers)
        fresh = read_manifest(aside)["parts"][0]["objects"]
        if listed is None:  # no manifest: what lies there must prove it, all but at most what is damaged besides
            same = [
                name for name, digest in fresh.items() if (store / name).is_file() and sha256_of(store / name) == digest
            ]
            if 2 * len(same) <= len(fresh):
                problem, step = "another draw came out of the cubes", "draw the patches again, into another folder"
                raise StoreError(problem, place=str(store), next_step=step)
        wanted = listed or fresh
        names = [name for name, digest in wanted.items() if fresh.get(name) == digest]
        for name in names:
            if not (store / name).is_file() or sha256_of(store / name) != wanted[name]:
                (store / name).parent.mkdir(parents=True, exist_ok=True)
                write_file(store / name, [(aside / name).read_bytes()])
        if listed is None:
            write_file(store / MANIFEST, [(aside / MANIFEST).read_bytes()])
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return [f"{one.path}: drawn again" for one in lost]


def _wants_draw(one: Finding) -> bool:
    if one.of == "manifest of the patches":
        return True
    is_shard = one.path.split("/")[2:3] in ([array] for array in ARRAYS) and not one.path.endswith("zarr.json")
    return one.of == "patches" and one.kind != "nobody's" and not is_shard


def _known(store: Path) -> tuple[SampleOptions, dict[str, str] | None]:
    """The options of the draw, and the checksums of its objects; None where the manifest is damaged."""
    try:
        manifest = read_manifest(store)
    except (InputError, StoreError):
        with Ledger(ledger_path(store)) as ledger:
            begun = ledger.get(PART, "0000")
        if begun and "options" in begun.facts:
            return options_of(json.loads(str(begun.facts["options"]))), None
        text = (store / MANIFEST).read_text("utf-8", errors="replace") if (store / MANIFEST).exists() else ""
        at = text.find('"options": ')
        if at < 0:
            problem, step = "its options are lost", "draw the patches again, into another folder"
            raise StoreError(problem, place=str(store / MANIFEST), next_step=step) from None
        told: dict[str, Any] = json.JSONDecoder().raw_decode(text, at + len('"options": '))[0]
        return options_of(told), None
    return options_of(manifest["options"]), {
        name: str(sha) for part in manifest["parts"] for name, sha in part["objects"].items()
    }


def _beside(store: Path, regions: Sequence[Region], workers: int) -> list[str]:
    """Surveys, from the cubes; pages, from the store."""
    damages, done = verify_patches(store), list[str]()
    for one in damages:
        if one.of == "survey":
            (store / one.path).unlink(missing_ok=True)
    if any(one.of == "survey" for one in damages):
        options = options_of(read_manifest(store)["options"])
        run_jobs(survey_one, [light(job) for job in plan_survey(regions, store, options)], workers=workers)
        done.append("surveys made again")
    if any(one.of == "report of the patches" for one in damages):
        write_report(store, report_of(store, places_of(regions), kept=False))
        done.append("report written again")
    return done
