"""Which checkpoint a region's images are made with where its method is anydate: a pointer, and how it came to be.

    <home>/models/<name>/         a checkpoint, as training writes it
    <home>/models/current.json    the name of the one in use, and every promotion and rollback

Without the file it is the checkpoint that comes with the package, by the name anydate.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Literal

from vsat.errors import InputError, StoreError
from vsat.io.durable import make_folder, unwritable, write_file
from vsat.io.ledger import Ledger, Receipt, lease
from vsat.io.scenes import ledger_path
from vsat.io.sealed import open_json, sealed_json
from vsat.io.trust import is_safe_id
from vsat.methods import ANYDATE
from vsat.model import WEIGHTS
from vsat.objects import ObjectPath, StorePath

FOLDER, POINTER = "models", "current.json"
KIND = "model-choice"
TURN_S = 60.0


@dataclass(frozen=True)
class Change:
    """One move of the pointer to `name`, on a day (ISO), and why."""

    verb: Literal["promote", "rollback"]
    name: str
    day: str
    reason: str


@dataclass(frozen=True)
class Pointer:
    """The name of the checkpoint in use, and the moves that led to it, oldest first."""

    current: str = ANYDATE
    history: tuple[Change, ...] = ()

    @property
    def earlier(self) -> tuple[str, ...]:
        """Checkpoints that rollbacks lead to, the next one last."""
        stack = [ANYDATE]
        for change in self.history:
            if change.verb == "promote":
                stack.append(change.name)
            else:
                stack.pop()
        return tuple(stack[:-1])


def read_pointer(home: StorePath) -> Pointer:
    """The region's pointer; a region in a bucket has none, for models are trained into folders.

    Raises:
        StoreError: the file is not what this module writes.
    """
    if isinstance(home, ObjectPath):
        return Pointer()
    path = home / FOLDER / POINTER
    try:
        told = open_json(path.read_bytes())
        found = Pointer(str(told["current"]), tuple(Change(**change) for change in told["history"]))
        for name in (found.current, *(change.name for change in found.history)):
            if not is_safe_id(name):  # names become paths
                raise ValueError(f"{name!r} is no name of a checkpoint")
        return found
    except FileNotFoundError:
        return Pointer()
    except (ValueError, TypeError, KeyError) as error:
        step = "move the file away, then name the checkpoint to use: vsat model promote"
        raise StoreError(f"it names no checkpoint: {error}", place=str(path), next_step=step) from error


def method_of(home: StorePath, name: str) -> str:
    """The method that a checkpoint's name stands for: "anydate", or "anydate:" and its folder."""
    return ANYDATE if name == ANYDATE else f"{ANYDATE}:{home / FOLDER / name}"


def checkpoints(home: StorePath) -> tuple[str, ...]:
    """Names of the whole checkpoints that can be promoted, the package's own first."""
    if isinstance(home, ObjectPath):
        return (ANYDATE,)
    found = sorted(path.parent.name for path in (home / FOLDER).glob(f"*/{WEIGHTS}"))
    return (ANYDATE, *found)


def promote(home: StorePath, name: str, day: date, *, reason: str) -> Pointer:
    """From the next plan on, images are made with this checkpoint; already in use, nothing changes.

    Raises:
        InputError: the region has no such checkpoint, or its store is a bucket.
        StoreError: the pointer cannot be read or written.
    """
    local = folder_of_models(home).parent
    if name not in checkpoints(local):
        step = f"choose among {', '.join(checkpoints(local))}"
        raise InputError(f"no checkpoint {name!r}", place=str(local / FOLDER), next_step=step)
    with lease(local, "promotion", wait_s=TURN_S):
        before = read_pointer(local)
        if before.current == name:
            return before
        return _moved(local, name, (*before.history, Change("promote", name, day.isoformat(), reason)))


def rollback(home: StorePath, day: date) -> Pointer:
    """The checkpoint that was in use before the last promotion is in use again.

    Raises:
        InputError: nothing was promoted, the earlier one is gone, or the region's store is a bucket.
        StoreError: the pointer cannot be read or written.
    """
    local = folder_of_models(home).parent
    with lease(local, "promotion", wait_s=TURN_S):
        before = read_pointer(local)
        if not before.earlier:
            step = "vsat model list says what is there"
            raise InputError("no promotion to take back", place=str(local / FOLDER), next_step=step)
        name = before.earlier[-1]
        if name not in checkpoints(local):
            step = "vsat model promote one that is there"
            raise InputError(f"the checkpoint {name} is gone", place=str(local / FOLDER), next_step=step)
        change = Change("rollback", name, day.isoformat(), f"instead of {before.current}")
        return _moved(local, name, (*before.history, change))


def folder_of_models(home: StorePath) -> Path:
    """Where the region's checkpoints lie.

    Raises:
        InputError: in a bucket there is no such folder.
    """
    if isinstance(home, ObjectPath):
        step = "train on a machine with a folder, and name the checkpoint in the region file: method: anydate:FOLDER"
        raise InputError("models are kept in folders, and this store is a bucket", place=str(home), next_step=step)
    return home / FOLDER


def restore_pointer(home: Path) -> bool:
    """The pointer is what the ledger says that it was; False where the ledger does not know."""
    with Ledger(ledger_path(home)) as ledger:
        known = ledger.get(KIND, POINTER)
    if known is None:
        return False
    make_folder(home / FOLDER)
    write_file(home / FOLDER / POINTER, [str(known.facts["text"]).encode()])
    return True


def _moved(home: Path, name: str, history: Sequence[Change]) -> Pointer:
    path = home / FOLDER / POINTER
    content = sealed_json({"current": name, "history": [asdict(change) for change in history]})
    make_folder(path.parent)
    with Ledger(ledger_path(home)) as ledger:  # first: what a repair brings back is then at least as new as the file
        ledger.record(Receipt(KIND, POINTER, "done", facts={"text": content.decode()}))
    try:
        write_file(path, [content])
    except OSError as error:
        raise unwritable(error, "the choice of the checkpoint", path) from error
    return Pointer(name, tuple(history))
