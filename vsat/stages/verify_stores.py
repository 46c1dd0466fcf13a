"""Verify, for what stands by itself: a store of training patches, and a checkpoint with what training would go on from."""

from collections.abc import Iterator
from pathlib import Path

from vsat.errors import InputError, StoreError
from vsat.io.durable import PARTIAL, sha256_of
from vsat.io.ledger_check import DAMAGED, ledger_problems
from vsat.io.patches import MANIFEST, read_manifest
from vsat.io.scenes import ledger_path
from vsat.io.sealed import open_json, page_problem
from vsat.model import WEIGHTS, saves
from vsat.stages.findings import Finding, Kind
from vsat.stages.model_item import MODEL_ITEM
from vsat.stages.survey import is_whole_survey


def verify_patches(store: Path) -> list[Finding]:
    """What is wrong with a patch store: its manifest, parts, surveys, reports, ledger, and what nobody lists.

    Raises:
        InputError: there is none.
    """
    if not (store / MANIFEST).exists() and not (store / "parts").is_dir():
        step = "draw one: vsat sample REGION --out FOLDER"
        raise InputError("there is no patch store", place=str(store), next_step=step)
    return list(_patches(store))


def verify_checkpoint(folder: Path) -> list[Finding]:
    """What is wrong with a checkpoint: its files against its item, its item against them, and saves of its training.

    Raises:
        InputError: there is none.
    """
    if not any((folder / name).exists() for name in (MODEL_ITEM, WEIGHTS, "run")):
        step = "name a folder that vsat train has written"
        raise InputError("there is no checkpoint", place=str(folder), next_step=step)
    return [*_checkpoint(folder), *_saves(folder / "run")]


def _patches(store: Path) -> Iterator[Finding]:
    ledger = ledger_path(store)
    if not ledger.exists():
        yield Finding("missing", ledger.name, "ledger of the patches")
    else:
        yield from (Finding("altered", ledger.name, "ledger of the patches", why) for why in ledger_problems(ledger))
    listed: set[str] = set()
    try:
        manifest = read_manifest(store)
    except (StoreError, InputError) as error:
        kind: Kind = "altered" if (store / MANIFEST).exists() else "missing"
        yield Finding(kind, MANIFEST, "manifest of the patches", error.problem)
        manifest = None
    for part in manifest["parts"] if manifest else ():
        for name, digest in sorted(part["objects"].items()):
            listed.add(name)
            if not (store / name).is_file():
                yield Finding("missing", name, "patches")
            elif sha256_of(store / name) != digest:
                yield Finding("altered", name, "patches")
    yield from _beside(store, listed, has_manifest=manifest is not None)


def _beside(store: Path, listed: set[str], *, has_manifest: bool) -> Iterator[Finding]:
    """Surveys, pages, and what nobody lists."""
    for path in sorted(one for one in store.rglob("*") if one.is_file()):
        name = path.relative_to(store).as_posix()
        if DAMAGED in name or name.startswith(".") or path.name.startswith("ledger.sqlite"):
            continue
        if PARTIAL in name or (has_manifest and name.startswith("parts/") and name not in listed):
            yield Finding("nobody's", name, "patches")
        elif name.startswith("survey/") and not is_whole_survey(path.read_bytes()):
            yield Finding("altered", name, "survey")
        elif name in ("report.html", "report.md") and (why := page_problem(path.read_bytes())):
            yield Finding("altered", name, "report of the patches", why)


def _checkpoint(folder: Path) -> Iterator[Finding]:
    path, of = folder / MODEL_ITEM, "checkpoint"
    if not path.exists():
        if (folder / WEIGHTS).exists():
            yield Finding("missing", MODEL_ITEM, of)
        return
    try:
        item = open_json(path.read_bytes())
        wanted = {
            str(asset["href"]).removeprefix("./"): str(asset["file:checksum"]) for asset in item["assets"].values()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        yield Finding("altered", MODEL_ITEM, of, str(error))
        return
    for name, digest in sorted(wanted.items()):
        found = f"1220{sha256_of(folder / name)}" if (folder / name).is_file() else ""
        if found != digest:
            yield Finding("altered" if found else "missing", name, of)


def _saves(run: Path) -> Iterator[Finding]:
    for step in sorted(saves.steps(run)):
        folder = saves.folder_of(run, step)
        why = saves.what_is_wrong(folder)
        if why:
            yield Finding("altered", f"run/{folder.name}", "save of the training", why)
    for aside in sorted(run.glob(f"{saves.PREFIX}*{saves.ASIDE}")):
        yield Finding("nobody's", f"run/{aside.name}", "save of the training", "what a killed training has left")
