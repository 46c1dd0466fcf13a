"""The light pass over the cubes before a draw: every scene on cells, and from them the candidates of all regions.

Axes: t looks, y, x; n candidates.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsat.config import Region
from vsat.core.grid import TileGrid, owner_mask
from vsat.core.strata import Candidates, CellStats, Survey, candidates, survey_scene
from vsat.errors import StoreError
from vsat.hls import SENSORS, SceneKey
from vsat.io.durable import put_file
from vsat.io.ledger import Ledger, Receipt
from vsat.io.scenes import done_scenes, ledger_path, read_scenes
from vsat.io.static import read_static
from vsat.objects import place_of

_DIGEST_BYTES = 64
BATCH = 8  # scenes in memory at once


@dataclass(frozen=True)
class Place:
    """One tile of one region, with its scenes as (key, granule ids, signature), in order of day and sensor."""

    region: str
    home: str
    grid: TileGrid
    first_day: int
    adjacent: bool
    snow: bool
    scenes: tuple[tuple[str, tuple[str, ...], str], ...]

    @property
    def name(self) -> str:
        """`farm/33UVP`."""
        return f"{self.region}/{self.grid.tile}"

    @property
    def keys(self) -> list[SceneKey]:
        """The scenes' keys."""
        return [SceneKey.from_string(key) for key, _, _ in self.scenes]


@dataclass(frozen=True)
class SurveyJob:
    """One place to survey; the result goes to `path`. Plain values."""

    place: Place
    cell_px: int
    static: tuple[tuple[str, str], ...]
    path: str
    signature: str

    @property
    def store(self) -> Path:
        """The patch store's folder."""
        return Path(self.path).parents[1]


def places_of(regions: Sequence[Region]) -> list[Place]:
    """The tiles that have scenes, sorted by region and tile."""
    found = []
    for region in sorted(regions, key=lambda one: one.name):
        if not ledger_path(region.home).exists():
            continue
        with Ledger(ledger_path(region.home)) as ledger:
            for grid in region.grids():
                scenes = done_scenes(ledger, grid.tile)
                if scenes:
                    found.append(_place(region, grid, scenes))
    return found


def _place(region: Region, grid: TileGrid, receipts: Sequence[Receipt]) -> Place:
    ordered = sorted(receipts, key=lambda receipt: SceneKey.from_string(receipt.key))
    scenes = tuple((receipt.key, receipt.inputs, receipt.signature) for receipt in ordered)
    return Place(
        region.name,
        str(region.home),
        grid,
        days_since(region.period.start),
        region.cloud.adjacent,
        region.cloud.snow,
        scenes,
    )


def days_since(day: Any) -> int:
    """Days since 1970-01-01."""
    return int(np.datetime64(day, "D").astype(np.int64))


def survey_job(out: Path, place: Place, cell_px: int, static: Sequence[tuple[str, Path]]) -> SurveyJob:
    """The job that surveys a place for the store at `out`."""
    rasters = tuple((name, str(path)) for name, path in static)
    stamps = [[name, Path(path).stat().st_size if Path(path).exists() else 0] for name, path in rasters]
    decisive = json.dumps([asdict(place), cell_px, rasters, stamps], sort_keys=True, default=str)
    path = out / "survey" / f"{place.region}-{place.grid.tile}.npz"
    return SurveyJob(place, cell_px, rasters, str(path), hashlib.sha256(decisive.encode()).hexdigest())


def light(job: SurveyJob) -> SurveyJob:
    """The job without what went into the scenes, which its signature stands for: it travels to other machines."""
    return replace(job, place=replace(job.place, scenes=tuple((key, (), "") for key, _, _ in job.place.scenes)))


def survey_one(job: SurveyJob) -> str:
    """The place's survey lies in its file, from these very scenes; returns the file's path. Safe to repeat.

    Raises:
        StoreError: a scene cannot be read, or the file cannot be written.
        InputError: a static raster cannot be used.
    """
    if _stored(job) is None:
        keys, stats = job.place.keys, list[CellStats]()
        home, place = place_of(job.place.home), job.place
        for start in range(0, len(keys), BATCH):
            refl, fmask = read_scenes(home, place.grid, keys[start : start + BATCH])
            stats += [
                survey_scene(refl[i], fmask[i], job.cell_px, adjacent=place.adjacent, snow=place.snow)
                for i in range(len(refl))
            ]
        static = {name: _on_cells(read_static(Path(path), place.grid), job.cell_px) for name, path in job.static}
        days = np.array([days_since(key.day) for key in keys], np.int32)
        sensors = np.array([SENSORS.index(key.sensor) for key in keys], np.uint8)
        _store(job, Survey.of(job.cell_px, days, sensors, stats, static))
    return job.path


def load_survey(job: SurveyJob) -> Survey:
    """The survey that `survey_one` wrote.

    Raises:
        StoreError: it is not there any more.
    """
    found = _stored(job)
    if found is None:
        step = "run vsat sample again"
        raise StoreError("the survey is gone, or another one", place=job.path, next_step=step)
    return found


def candidates_of(
    job: SurveyJob, *, size_px: int, days: int, step_days: int, most_looks: int, min_looks: int, min_clear: float
) -> Candidates:
    """The windows of a place that lie wholly on ground that its tile owns. Arguments as in `core.strata.candidates`."""
    return candidates(
        load_survey(job),
        size_px=size_px,
        stride_px=job.cell_px,
        days=days,
        step_days=step_days,
        start_day=job.place.first_day,
        most_looks=most_looks,
        min_looks=min_looks,
        min_clear=min_clear,
        owned_yx=owner_mask(job.place.grid),
    )


def _on_cells(values_yx: NDArray[np.float32], cell: int) -> NDArray[np.float32]:
    """Means over cells of what is known, NaN where nothing is."""
    height, width = (size // cell * cell for size in values_yx.shape)
    blocks = values_yx[:height, :width].reshape(height // cell, cell, width // cell, cell)
    known = np.isfinite(blocks)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, blocks, 0).sum(axis=(1, 3), dtype=np.float64) / known.sum(axis=(1, 3))
    return np.asarray(mean, np.float32)


_FIELDS = ("day_t", "sensor_t", "clear_tyx", "valid_tyx", "ndvi_tyx", "bright_tyx", "rough_tyx")


def _store(job: SurveyJob, survey: Survey) -> None:
    arrays: dict[str, Any] = {name: getattr(survey, name) for name in _FIELDS}
    arrays |= {f"static_{name}": values for name, values in survey.static.items()}
    put_file(Path(job.path), packed_survey(arrays | {"signature": np.array(job.signature)}))


def packed_survey(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The content of a survey's file, its checksum the comment of the zip; equal arrays give equal bytes."""
    buffer = BytesIO()
    np.savez(buffer, **{name: arrays[name] for name in sorted(arrays)})  # type: ignore[arg-type]
    body = buffer.getvalue()
    return body[:-2] + _DIGEST_BYTES.to_bytes(2, "little") + hashlib.sha256(body).hexdigest().encode()


def is_whole_survey(content: bytes) -> bool:
    """True if it is what `packed_survey` made: a zip has bytes of its own that no checksum of its covers."""
    body = content[: -_DIGEST_BYTES - 2] + bytes(2)
    has_comment = content[-_DIGEST_BYTES - 2 : -_DIGEST_BYTES] == _DIGEST_BYTES.to_bytes(2, "little")
    return has_comment and content[-_DIGEST_BYTES:] == hashlib.sha256(body).hexdigest().encode()


def _stored(job: SurveyJob) -> Survey | None:
    """The survey in the job's file, if it is of this very job."""
    try:
        content = Path(job.path).read_bytes()
        if not is_whole_survey(content):  # cut short, or altered: it is made anew
            return None
        with np.load(BytesIO(content), allow_pickle=False) as file:
            if str(file["signature"]) != job.signature:
                return None
            arrays = {name: file[name] for name in _FIELDS}
            static = {name: file[f"static_{name}"] for name, _ in job.static}
    except (OSError, ValueError, KeyError):  # absent, or of another recipe
        return None
    return Survey(job.cell_px, **arrays, static=static)
