"""What nobody lists is taken away: leftovers of killed writers, objects without a receipt, files kept over a failure.

Three things keep it from what is at work: it holds the leases under which cubes, images, patches and models are written, so that no
such run is under way; it leaves what is younger than a day, by the clock that the files' own times come from, whatever this
machine's says; and it leaves folders that a living writer has locked. Without a sound ledger it does nothing.
"""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from vsat.config import Region
from vsat.io.durable import PARTIAL
from vsat.io.ledger import lease
from vsat.io.ledger_check import DAMAGED
from vsat.io.publish import is_being_written
from vsat.io.scenes import ledger_path
from vsat.model import saves
from vsat.objects import ObjectPath, StorePath
from vsat.stages.fetch import SCRATCH
from vsat.stages.promotion import FOLDER as MODELS
from vsat.stages.verify import elsewhere, nobodys
from vsat.stages.verify_stores import verify_patches

OLDER_THAN_DAYS = 1.0
_DAY_S = 86400.0


@dataclass(frozen=True)
class GcReport:
    """What was removed, or would be: paths with their bytes; and what was left, with the reason."""

    removed: tuple[tuple[str, int], ...]
    left: tuple[tuple[str, str], ...]
    is_dry: bool

    def text(self) -> str:
        """In lines."""
        verb = "would be removed" if self.is_dry else "removed"
        size = sum(size for _, size in self.removed) / 1e6
        gone = [f"{verb}: {path}" for path, _ in self.removed]
        head = f"{len(self.removed)} {verb}, {size:.1f} MB, {len(self.left)} left"
        return "\n".join([head, *gone, *(f"left: {path}: {why}" for path, why in self.left)])


def gc(
    region: Region, *, older_than_days: float = OLDER_THAN_DAYS, patches: Sequence[Path] = (), dry_run: bool = False
) -> GcReport:
    """Nothing lies in the region's folder, or in the patch stores given, that nobody lists and that is older than that.

    Args:
        region: which; no other run may be at work on it.
        older_than_days: younger files are left: somebody may be at work with them in ways that we cannot see.
        patches: folders of patch stores, besides the region's own.
        dry_run: only say what would be removed.

    Raises:
        StoreError: another run is at work, or the ledger is damaged.
        InputError: there is no patch store in such a folder.
    """
    home, removed, left = region.home, list[tuple[str, int]](), list[tuple[str, str]]()
    if not home.exists():
        return GcReport((), (), dry_run)
    with ExitStack() as held:
        for name in ("nightly", "backfill", "fetch", "generate", "catalogue"):
            held.enter_context(lease(home, name))
        now = _now(home)
        for path in _candidates(region, patches, held):
            name = path.relative_to(home).as_posix() if path.is_relative_to(home) else str(path)
            size, modified = _size_and_time(path)
            if isinstance(path, Path) and path.is_dir() and is_being_written(path):
                left.append((name, "a writer has locked it"))
            elif now - modified < older_than_days * _DAY_S:
                left.append((name, f"it is younger than {older_than_days:g} days"))
            else:
                removed.append((name, size))
                if not dry_run:
                    _remove(path)
    return GcReport(tuple(removed), tuple(left), dry_run)


def _candidates(region: Region, patches: Sequence[Path], held: ExitStack) -> Iterator[StorePath]:
    home = region.home
    yield from [home / one.path for one in nobodys(region)]
    own: list[Path] = []
    if isinstance(home, Path):
        yield from _damaged(ledger_path(home))
        yield from sorted((home / SCRATCH).glob("*"))
        models = home / MODELS
        own = sorted(one.parent for one in models.glob("*/parts") if one.is_dir())
        for run in sorted(models.glob("*/run")):
            held.enter_context(lease(run.parent, "train"))
            yield from sorted(run.glob(f"{saves.PREFIX}*{saves.ASIDE}"))
    for store in [*own, *elsewhere(region, patches)]:
        held.enter_context(lease(store, "sample"))
        yield from _damaged(ledger_path(store))
        # leftovers with the mark are the region's already, where the store is its own
        is_own = isinstance(home, Path) and store.is_relative_to(home)
        lost = [one for one in verify_patches(store) if one.kind == "nobody's"]
        yield from [store / one.path for one in lost if not (is_own and PARTIAL in one.path)]


def _damaged(ledger: StorePath) -> Iterable[StorePath]:
    """Ledgers that a repair has put aside."""
    return sorted(ledger.parent.glob(f"{ledger.name}{DAMAGED}-*"))


def _now(home: StorePath) -> float:
    """Seconds since 1970 by the clock that stamps the files: a disk may be another machine's, and a bucket is."""
    probe = home / f".gc{PARTIAL}"
    if isinstance(probe, ObjectPath):
        probe.put(b"")
        now = probe.modified().timestamp()
    else:
        probe.write_bytes(b"")  # which stamps it, unlike os.utime without a time, by the file system's own clock
        now = probe.stat().st_mtime
    probe.unlink()
    return now


def _size_and_time(path: StorePath) -> tuple[int, float]:
    """Bytes, and when anything in it was last written."""
    if isinstance(path, ObjectPath):
        return path.size(), path.modified().timestamp()
    inside = [path, *path.rglob("*")] if path.is_dir() else [path]
    states = [one.lstat() for one in inside]
    return sum(one.st_size for one in states), max(one.st_mtime for one in states)


def _remove(path: StorePath) -> None:
    if isinstance(path, Path) and path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
