"""One shard of patches: read from the cube, written, receipted; and shards that the disk has lost, put together again."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vsat.core.grid import TileGrid
from vsat.core.masks import without_cloud
from vsat.errors import InputError
from vsat.hls import RESOLUTION_M, SENSORS, SceneKey
from vsat.io.ledger import Ledger, Receipt
from vsat.io.patch_reader import PatchStore
from vsat.io.patches import Patch, PatchLayout, write_shard
from vsat.io.scenes import ledger_path, read_scenes
from vsat.objects import place_of
from vsat.stages.survey import Place, days_since

log = logging.getLogger(__name__)
KIND = "shard"


@dataclass(frozen=True)
class PatchSpec:
    """Where one patch is read: upper-left pixel, and scenes by their number in the job's place."""

    place: int
    top: int
    left: int
    scenes: tuple[int, ...]


@dataclass(frozen=True)
class SampleJob:
    """One shard; plain values. `homes`, `grids`, `scenes` are those of the places that `patches` refer to."""

    out: str
    part: int
    layout: PatchLayout
    number: int
    signature: str
    homes: tuple[str, ...]
    grids: tuple[TileGrid, ...]
    scenes: tuple[tuple[str, ...], ...]
    patches: tuple[PatchSpec, ...]

    @property
    def store(self) -> Path:
        """The patch store's folder."""
        return Path(self.out)


def sample_one(job: SampleJob) -> Receipt:
    """The job's shard is on the disk and has its receipt; safe to repeat.

    Raises:
        StoreError: a scene cannot be read, or the shard cannot be written.
    """
    key, out = f"{job.part:04d}/{job.number:06d}", Path(job.out)
    with Ledger(ledger_path(out)) as ledger:
        there = ledger.get(KIND, key)
        if there and there.signature == job.signature and all((out / path).is_file() for path, _ in there.outputs):
            return there
        patches = _read(job)
        outputs = write_shard(out, job.part, job.layout, job.number, patches)
        raw = sum(patch.refl_tbyx.nbytes + patch.fmask_tyx.nbytes for patch in patches)
        stored = sum((out / path).stat().st_size for path, _ in outputs)
        facts = {"patches": len(patches), "raw_bytes": raw, "stored_bytes": stored}
        receipt = Receipt(KIND, key, "done", (), job.signature, outputs, dict(facts))
        ledger.record(receipt)
    log.info("%s: %d patches, %.1f MB", key, len(patches), stored / 1e6)
    return receipt


def shard_job(
    out: Path, part: int, layout: PatchLayout, number: int, signature: str, places: Sequence[Place],
    patches: Sequence[PatchSpec],
) -> SampleJob:  # fmt: skip
    """The job for a shard, with those places and scenes only that its patches need: it travels to other machines.

    Args:
        out, part, layout, number, signature: as in SampleJob.
        places: all there are; `place` and `scenes` of the patches are numbers in them.
        patches: of the shard, in order.
    """
    used = sorted({one.place for one in patches})
    needed = [sorted({scene for one in patches if one.place == place for scene in one.scenes}) for place in used]
    at = [{scene: i for i, scene in enumerate(scenes)} for scenes in needed]
    specs = tuple(
        PatchSpec(p, one.top, one.left, tuple(at[p][scene] for scene in one.scenes))
        for one in patches
        for p in [used.index(one.place)]
    )
    keys = tuple(tuple(places[p].scenes[scene][0] for scene in needed[i]) for i, p in enumerate(used))
    homes, grids = tuple(places[p].home for p in used), tuple(places[p].grid for p in used)
    return SampleJob(str(out), part, layout, number, signature, homes, grids, keys, specs)


def lost_shards(out: Path, places: Sequence[Place]) -> list[SampleJob]:
    """Jobs for shards of finished parts whose objects are gone, put together from the store's own columns."""
    store, jobs, at = PatchStore(out), [], {place.name: i for i, place in enumerate(places)}
    with Ledger(ledger_path(out)) as ledger:
        for receipt in ledger.all(KIND):
            part, number = (int(text) for text in receipt.key.split("/"))
            if part < len(store.parts) and not all((out / path).is_file() for path, _ in receipt.outputs):
                jobs.append(_lost(store, part, number, receipt.signature, places, at))
    return jobs


def _lost(
    store: PatchStore, part: int, number: int, signature: str, places: Sequence[Place], at: dict[str, int]
) -> SampleJob:
    one, specs = store.parts[part], list[PatchSpec]()
    for n in one.layout.patches_of(number):
        tile = one.attributes["tiles"][one.columns["tile"][n]]
        name = f"{tile['region']}/{tile['tile']}"
        if name not in at:
            step = f"name region {tile['region']} too: its cube is where the shard comes from"
            raise InputError(f"shard {number} of part {part} is gone", place=str(store.path), next_step=step)
        place = places[at[name]]
        left = round((float(one.columns["x"][n]) - place.grid.x0) / RESOLUTION_M)
        top = round((place.grid.y0 - float(one.columns["y"][n])) / RESOLUTION_M)
        index = {key: i for i, (key, _, _) in enumerate(place.scenes)}
        scenes = tuple(index[key] for key in store.scenes(one.first + n))
        specs.append(PatchSpec(at[name], top, left, scenes))
    return shard_job(store.path, part, one.layout, number, signature, places, specs)


def _read(job: SampleJob) -> list[Patch]:
    """The patches of a shard; each place's scenes are read once over the window that holds them all."""
    size, found = job.layout.size_px, dict[int, Patch]()
    for place in sorted({spec.place for spec in job.patches}):
        here = [i for i, spec in enumerate(job.patches) if spec.place == place]
        top, left = (min(getattr(job.patches[i], side) for i in here) for side in ("top", "left"))
        bottom, right = (max(getattr(job.patches[i], side) for i in here) + size for side in ("top", "left"))
        wanted = sorted({scene for i in here for scene in job.patches[i].scenes})
        keys = [SceneKey.from_string(job.scenes[place][scene]) for scene in wanted]
        window = slice(top, bottom), slice(left, right)
        refl, fmask = read_scenes(place_of(job.homes[place]), job.grids[place], keys, *window)
        day = np.array([days_since(key.day) for key in keys], np.int32)
        sensor = np.array([SENSORS.index(key.sensor) for key in keys], np.uint8)
        for i in here:
            spec = job.patches[i]
            t = np.searchsorted(wanted, spec.scenes)
            y, x = slice(spec.top - top, spec.top - top + size), slice(spec.left - left, spec.left - left + size)
            mask = fmask[t, y, x]
            found[i] = Patch(without_cloud(refl[t, :, y, x], mask), mask, day[t], sensor[t])
    return [found[i] for i in range(len(job.patches))]
