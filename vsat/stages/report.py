"""What a run did, in words a person reads the next morning: outcome, counts, a before/after picture, tile x date table.

Axes: b bands, y, x pixels.
"""

import base64
import io
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsat.config import Region
from vsat.errors import ExitCode, StoreError, VsatError
from vsat.hls import BANDS, SceneKey
from vsat.io.durable import PARTIAL, unwritable, write_file
from vsat.io.images import KIND, version_of
from vsat.io.layout import store_folder, stored_grid
from vsat.io.ledger import Ledger, Receipt
from vsat.io.publish import VirtualImage, read_image
from vsat.io.scenes import done_scenes, ledger_path, read_scenes
from vsat.io.sealed import open_json, sealed_json, sealed_page
from vsat.objects import StorePath
from vsat.stages.fetch import FetchReport
from vsat.stages.generate import GenerateReport
from vsat.stages.page import true_colour

log = logging.getLogger(__name__)
LEFT_S = 60  # a report is written in milliseconds: one half-written for longer is nobody's

OUTCOMES = {
    ExitCode.DONE: "done",
    ExitCode.FAILED: "some work failed",
    ExitCode.BAD_INPUT: "the input cannot be used",
    ExitCode.CATALOGUE_DOWN: "catalogue down",
    ExitCode.NO_SCENES: "no scenes",
    ExitCode.ALL_CLOUDY: "all cloudy",
    ExitCode.ACCESS_REFUSED: "access refused",
    ExitCode.DISK_FULL: "disk full",
}
PICTURE_PX = 240  # two of them side by side in 256 colours stay below 160 kB as a data URI: Prefect shows up to 200 kB
_DATES = 60  # of the table: the newest


@dataclass(frozen=True)
class RunReport:
    """One run of fetch, generate, nightly or backfill on a region.

    Attributes:
        verb: what ran.
        region: name.
        day: as of which day, ISO.
        exit_code: what the process ends with; also the name of the outcome.
        message: the error in words, "" if there was none.
        fetch, generate: what the stages did; None if they did not run or did not end.
        notes: what else there is to know.
    """

    verb: str
    region: str
    day: str
    exit_code: ExitCode
    message: str
    fetch: FetchReport | None
    generate: GenerateReport | None
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        verb: str,
        region: str,
        day: date,
        fetch: FetchReport | None,
        generate: GenerateReport | None,
        *,
        notes: tuple[str, ...] = (),
    ) -> "RunReport":
        """The report of a run that came to its end; failed scenes or images make its exit code FAILED."""
        failed = (fetch.failed if fetch else 0) + (len(generate.failed) if generate else 0)
        tiles = ", ".join(tile for tile, _ in fetch.lost_tiles) if fetch else ""
        told = [f"{failed} scenes or images failed"] if failed else []
        told += [f"tiles left out: {tiles}"] if tiles else []
        code, message = ExitCode.FAILED if told else ExitCode.DONE, "; ".join(told)
        return cls(verb, region, day.isoformat(), code, message, fetch, generate, notes)

    @classmethod
    def of_error(
        cls, verb: str, region: str, day: date, error: VsatError, fetch: FetchReport | None = None
    ) -> "RunReport":
        """The report of a run that an error ended."""
        return cls(verb, region, day.isoformat(), error.exit_code, str(error), fetch, None)

    @property
    def outcome(self) -> str:
        """In one line, with the numbers."""
        parts = [OUTCOMES[self.exit_code]]
        if self.fetch:
            parts.append(f"{self.fetch.fetched} scenes fetched")
        if self.generate:
            parts.append(f"{len(self.generate.images)} images made, {self.generate.kept} kept")
        if self.message:
            parts.append(self.message)
        return "; ".join(parts)


def write_report(region: Region, report: RunReport) -> StorePath:
    """The report lies in the region's folder as Markdown, `reports/<verb>-<day>.md`, and as JSON beside; returns its path.

    Raises:
        StoreError: it cannot be written; DiskFull where there is no room.
    """
    path = region.home / "reports" / f"{report.verb}-{report.day}.md"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file(path.with_suffix(".json"), [sealed_json(_told_plain(report))])
        write_file(path, [sealed_page(markdown(region, report))])
        _sweep(path)
    except OSError as error:
        raise unwritable(error, path.name, path) from error
    return path


def _sweep(written: StorePath) -> None:
    """What killed runs left half-written beside it is gone; another run may be writing, but not for so long."""
    if isinstance(written, Path):
        for left in written.parent.glob(f"*{PARTIAL}"):
            with suppress(FileNotFoundError):
                if written.stat().st_mtime - left.stat().st_mtime > LEFT_S:
                    left.unlink()


def write_last_report(region: Region, report: RunReport) -> None:
    """The same for a run that an error ended, which may well keep us from writing this too: a full disk, a lost bucket."""
    try:
        write_report(region, report)
    except VsatError as other:
        log.warning("%s: no report: %s", region.name, other)


def last_report(region: Region, verb: str) -> dict[str, Any] | None:
    """What the last run of a verb did, as plain values: day, outcome, exit_code, message, notes, counts; None if none ran.

    Raises:
        StoreError: the report is there and cannot be read.
    """
    found = max((region.home / "reports").glob(f"{verb}-*.json"), key=lambda path: path.name, default=None)
    if found is None:
        return None
    path = region.home / "reports" / found.name
    try:
        told = open_json(path.read_bytes())
    except (OSError, ValueError) as error:
        step = f"remove it; the next {verb} writes one"
        raise StoreError("a report cannot be read", place=str(path), next_step=step) from error
    return told


def markdown(region: Region, report: RunReport) -> str:
    """The report as Markdown, with a before/after picture where an image was made; below 200 kB."""
    blocks = [f"# {region.name}: {report.verb} for {report.day}", f"**{OUTCOMES[report.exit_code].capitalize()}.**"]
    blocks += [report.message] if report.message else []
    blocks += [f"- {note}" for note in report.notes]
    blocks += _fetch_lines(report.fetch) if report.fetch else []
    if report.generate:
        blocks += _generate_lines(report.generate)
        blocks += _picture_lines(region, report.generate)
    return "\n\n".join(blocks) + "\n"


def tile_date_table(region: Region) -> list[dict[str, str]]:
    """A row per date, newest first, at most 60; a column per tile: status and shares observed and filled."""
    receipts = _images(region)
    cells = {tuple(receipt.key.split("/")): _cell(receipt) for receipt in receipts}
    tiles, days = sorted({tile for tile, _ in cells}), sorted({day for _, day in cells}, reverse=True)
    return [{"date": day} | {tile: cells.get((tile, day), "-") for tile in tiles} for day in days[:_DATES]]


def before_after(region: Region, key: str) -> str:
    """Two pictures in one PNG as a data URI: what was last seen at a date, clouds and all, and the virtual image.

    Args:
        region: whose.
        key: tile and day of an image, `33UVP/2024-05-02`.

    Raises:
        StoreError: the scene cannot be read.
    """
    tile, day = key.split("/")
    image = _virtual(region, tile, date.fromisoformat(day))
    before, after = _last_scene(region, tile, image), _small(image.refl_byx, image.bands)
    gap = np.full((after.shape[0], 6, 3), 255, np.uint8)
    return _png_uri(np.concatenate([before, gap, after], axis=1) if before is not None else after)


def _told_plain(report: RunReport) -> dict[str, Any]:
    """The report in numbers and words, for programs."""
    fetch, made = report.fetch, report.generate
    counts = {"scenes_fetched": fetch.fetched, "scenes_already": fetch.already, "scenes_failed": fetch.failed,
              "scenes_unusable": fetch.unusable, "scenes": fetch.scenes} if fetch else {}  # fmt: skip
    if made:
        counts |= {"images_made": len(made.images), "images_kept": made.kept, "images_failed": len(made.failed),
                   "images_without_context": len(made.without_context)}  # fmt: skip
    return {
        "verb": report.verb, "region": report.region, "day": report.day, "exit_code": int(report.exit_code),
        "outcome": OUTCOMES[report.exit_code], "message": report.message, "notes": list(report.notes), "counts": counts,
    }  # fmt: skip


def _fetch_lines(report: FetchReport) -> list[str]:
    counts = (
        ("fetched", report.fetched), ("there already", report.already), ("revised", report.revised),
        ("failed", report.failed), ("unusable granules", report.unusable), ("superseded granules", report.superseded),
        ("too cloudy granules", report.cloudy), ("listed granules", report.listed),
        ("scenes in the cube", report.scenes),
    )  # fmt: skip
    clear = f" {report.clear:.0%} of their pixels are clear." if report.clear is not None else ""
    lines = [f"## Scenes, {report.start} to {report.end}", _table(("scenes", "number"), counts) + clear]
    trouble = [*report.lost_tiles, *report.failures, *report.reasons]
    return lines + ([_table(("tile, scene or granule", "why"), trouble)] if trouble else [])


def _generate_lines(report: GenerateReport) -> list[str]:
    counts = [*(f"{number} {status}" for status, number in report.statuses.items()), f"{report.kept} kept as they were"]
    if report.without_context:
        counts.append(f"{len(report.without_context)} dates without any scene to go by")
    if report.lost:
        counts.append(f"{len(report.lost)} images of other dates are gone from the disk")
    lines = ["## Images", ", ".join(counts) + "."]
    shown = [
        (key, *(_told(facts.get(name)) for name in ("status", "observed", "filled")))
        for key, facts in report.images[-20:]
    ]
    if shown:
        lines.append(_table(("image", "status", "observed", "filled"), shown))
    return lines + ([_table(("image", "why it failed"), report.failed)] if report.failed else [])


def _picture_lines(region: Region, report: GenerateReport) -> list[str]:
    made = [key for key, _ in report.images] or _image_keys(region)
    if not made:
        return []
    key = max(made, key=lambda name: name.split("/")[1])
    try:
        uri = before_after(region, key)
    except StoreError as error:  # a report without a picture is better than none
        return [f"No picture: {error}"]
    return [f"## {key}", "Left what a satellite last saw, right the virtual image.", f"![before and after]({uri})"]


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return (
        "\n".join(
            "| " + " | ".join(str(cell).replace("|", "/").replace("\n", " ") for cell in row) + " |" for row in lines
        )
        + "\n"
    )


def _told(fact: object) -> str:
    return f"{fact:.0%}" if isinstance(fact, float) else str(fact)


def _cell(receipt: Receipt) -> str:
    if receipt.status != "done":
        return "failed"
    return ", ".join(
        [str(receipt.facts.get("status")), *(f"{_told(receipt.facts.get(n))} {n}" for n in ("observed", "filled"))]
    )


def _images(region: Region) -> list[Receipt]:
    path = ledger_path(region.home)
    if not path.exists():
        return []
    with Ledger(path) as ledger:
        return ledger.all(KIND)


def _image_keys(region: Region) -> list[str]:
    return [receipt.key for receipt in _images(region) if receipt.status == "done"]


def _last_scene(region: Region, tile: str, image: VirtualImage) -> NDArray[np.uint8] | None:
    """The last scene of the image's date or before it, shown as the image is."""
    with Ledger(ledger_path(region.home)) as ledger:
        keys = [key for key in map(_key, done_scenes(ledger, tile)) if key.day <= image.day]
    if not keys:
        return None
    grid = stored_grid(store_folder(region.home, tile, keys[-1].day.year))
    refl_tbyx, _ = read_scenes(region.home, grid, keys[-1:])
    return _small(refl_tbyx[0, [BANDS.index(band) for band in image.bands]], image.bands)


def _virtual(region: Region, tile: str, day: date) -> VirtualImage:
    with Ledger(ledger_path(region.home)) as ledger:
        version = version_of(ledger.get(KIND, f"{tile}/{day}"))
    return read_image(region.home, tile, day, version)


def _key(receipt: Receipt) -> SceneKey:
    return SceneKey.from_string(receipt.key)


def _small(refl_byx: NDArray[np.int16], bands: Sequence[str]) -> NDArray[np.uint8]:
    """True colour, no side longer than PICTURE_PX, every n-th pixel."""
    step = -(-max(refl_byx.shape[1:]) // PICTURE_PX)
    return true_colour(refl_byx[:, ::step, ::step], bands)


def _png_uri(picture_yxc: NDArray[np.uint8]) -> str:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(picture_yxc).quantize(256, dither=Image.Dither.NONE).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
