"""The demo: an archive with a known truth, one nightly run over it, and a page that says how good the images are.

Axes: t scenes, b bands, y, x pixels.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vsat.config import Region, load_region
from vsat.core.calibration import Z90
from vsat.core.grid import TileGrid
from vsat.core.masks import clear
from vsat.core.synthetic import Landscape, truth
from vsat.core.temporal import fill_temporal
from vsat.errors import VsatError
from vsat.hls import BANDS, FILL, SCALE, SceneKey
from vsat.io.archive import write_synthetic
from vsat.io.images import KIND as IMAGE
from vsat.io.ledger import Ledger
from vsat.io.publish import VirtualImage, read_image
from vsat.io.scenes import ledger_path, read_scenes, scene_keys
from vsat.stages.page import Look, Series, data_uri, render, series_svg, shades, text_table, true_colour

HEADER = ("date", "status", "observed", "filled", "MAE", "linear", "cover", "seconds")
SEED = 7
FIRE = date(2023, 8, 3)
SOURCE = "A synthetic landscape, so the truth is known on every day; snow counts as cloud."
SD_TOP = 0.05  # reflectance shown as the lightest shade
RED, NIR = BANDS.index("red"), BANDS.index("nir")


@dataclass(frozen=True)
class Score:
    """How one virtual image compares with the truth; MAE in reflectance over filled pixels, NaN where none was filled."""

    day: date
    status: str
    observed: float
    filled: float
    mae: float
    mae_linear: float
    coverage: float
    seconds: float

    def row(self) -> tuple[str, ...]:
        """The score as cells of the table."""
        return (
            self.day.isoformat(), self.status, f"{self.observed:.0%}", f"{self.filled:.0%}",
            *("-" if np.isnan(v) else f"{v:.4f}" for v in (self.mae, self.mae_linear)),
            "-" if np.isnan(self.coverage) else f"{self.coverage:.0%}", f"{self.seconds:.1f}",
        )  # fmt: skip


@dataclass(frozen=True)
class DemoReport:
    """What the demo found: a score per image, and where the page is."""

    page: str
    scenes: int
    scores: tuple[Score, ...]
    mae: float
    mae_linear: float
    coverage: float
    unseen: int

    def text(self) -> str:
        """The table, the summary and the path of the page."""
        table = text_table(HEADER, [score.row() for score in self.scores])
        summary = (
            f"{len(self.scores)} virtual images from {self.scenes} scenes, {self.unseen} of them of dates without a clear look\n"
            f"filled pixels: MAE {self.mae:.4f}, linear interpolation {self.mae_linear:.4f} "
            f"({self.mae / self.mae_linear:.2f} of it); 90 % intervals hold {self.coverage:.0%} of the truth"
        )
        return f"{table}\n\n{summary}\nopen {self.page}"


def run_demo(file: Path, say: Callable[[str], None]) -> DemoReport:
    """Write the archive, run the nightly flow over it in a process of its own, score every image, and draw the page.

    Args:
        file: the demo's region file; its catalogue is an archive, its area lies in one tile.
        say: told what is going on.
    """
    region = load_region(file)
    (grid,) = region.grids()
    folder, last = region.catalogue.path, region.period.end
    assert folder is not None and last is not None
    land = Landscape(SEED, grid.shape, fire=FIRE)
    say(f"1/3  an archive of {grid.height} x {grid.width} pixels, {region.period.start} to {last}: {folder}")
    written = write_synthetic(folder, grid=grid, land=land, start=region.period.start, end=last)
    say(f"     {len(written.granules)} granules, {written.written} of them new")
    say("2/3  the nightly flow")
    seconds, code = _night(file, last)
    say(f"     {seconds:.0f} seconds")
    if code:
        raise VsatError(f"the nightly flow ended with {code}", place=str(file), next_step="read what it said above")
    say("3/3  every image against the truth")
    return _scored(region, grid, land, seconds)


def _night(file: Path, day: date) -> tuple[float, int]:
    """The nightly flow in a process of its own, as a worker would run it; seconds and exit code."""
    home = Path(tempfile.mkdtemp(prefix="vsat-demo-"))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {
        "DO_NOT_TRACK": "1", "PREFECT_HOME": str(home), "PREFECT_LOGGING_LEVEL": "WARNING",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    }  # fmt: skip
    start = time.perf_counter()
    command = [sys.executable, "-m", "flows.nightly", str(file.resolve()), "--day", day.isoformat()]
    done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False)
    shutil.rmtree(home, ignore_errors=True)
    return time.perf_counter() - start, done.returncode


def _scored(region: Region, grid: TileGrid, land: Landscape, seconds: float) -> DemoReport:
    with Ledger(ledger_path(region.home)) as ledger:
        receipts = ledger.all(IMAGE, f"{grid.tile}/")
        keys = scene_keys(ledger, grid.tile)
    looks = _Cube(*read_scenes(region.home, grid, keys), keys)
    days = [date.fromisoformat(receipt.key.split("/")[1]) for receipt in receipts]
    linear_qbyx = fill_temporal(looks.refl_tbyx, looks.clear_tyx, looks.day_t, _days(days), method="linear").refl_qbyx
    errors = [
        _errors(read_image(region.home, grid.tile, day), _truth(region, land, day), linear_qbyx[q])
        for q, day in enumerate(days)
    ]
    scores = tuple(
        Score(
            day,
            str(receipt.facts["status"]),
            float(receipt.facts["observed"] or 0),
            float(receipt.facts["filled"] or 0),
            _mean(mine),
            _mean(straight),
            _mean(held),
            seconds / len(days),
        )
        for day, receipt, (mine, straight, held) in zip(days, receipts, errors, strict=True)
    )
    mae, linear, cover = (float(np.mean(np.concatenate(parts))) for parts in zip(*errors, strict=True))
    report = DemoReport(
        str(region.home / "report.html"),
        len(keys),
        scores,
        mae,
        linear,
        cover,
        sum(score.observed == 0 for score in scores),
    )
    _draw(region, grid, land, looks, report)
    return report


@dataclass(frozen=True)
class _Cube:
    """All scenes of the tile in memory."""

    refl_tbyx: NDArray[np.int16]
    fmask_tyx: NDArray[np.uint8]
    keys: list[SceneKey]

    @cached_property
    def clear_tyx(self) -> NDArray[np.bool_]:
        return clear(self.fmask_tyx, self.refl_tbyx)

    @cached_property
    def day_t(self) -> NDArray[np.int32]:
        return _days([key.day for key in self.keys])


def _mean(values: NDArray[Any]) -> float:
    return float(values.mean()) if values.size else float("nan")


def _truth(region: Region, land: Landscape, day: date) -> NDArray[np.float32]:
    """What an image of the day should show: the ground, without snow where the region takes snow for cloud."""
    return truth(land, day, snow=region.cloud.snow)


def _days(days: Sequence[date]) -> NDArray[np.int32]:
    return np.array(days, "datetime64[D]").astype(np.int32)


def _errors(
    image: VirtualImage, truth_byx: NDArray[np.float32], linear_byx: NDArray[np.int16]
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """Of all filled values: absolute errors of the image and of linear interpolation, and whether 90 % intervals hold."""
    filled = ((image.qa_yx & 0b11) > 0) & (image.refl_byx != FILL).all(0)
    true = truth_byx[:, filled]
    got, sd, straight = (a[:, filled] * np.float32(SCALE) for a in (image.refl_byx, image.sd_byx, linear_byx))
    return np.abs(got - true).ravel(), np.abs(straight - true).ravel(), (np.abs(got - true) <= Z90 * sd).ravel()


def _draw(region: Region, grid: TileGrid, land: Landscape, looks: _Cube, report: DemoReport) -> None:
    """The page, and the picture that the README shows."""
    unseen = [score for score in report.scores if score.observed == 0]
    partial = [score for score in report.scores if 0.1 < score.observed < 0.9]
    middle = [unseen[round(share * (len(unseen) - 1))] for share in (0.25, 0.5, 0.75)] if unseen else []
    shown = sorted([*middle, *partial[:1]], key=lambda score: score.day)
    pictures = [_pictures(region, grid, land, looks, score) for score in shown]
    spots = _spots(land, grid)
    charts = [
        {
            "title": title,
            "svg": series_svg(_series(region, grid, land, looks, report, title, *spot), ylabel="near infrared"),
        }
        for title, spot in spots.items()
    ]
    page = render(
        "demo.html", region=region.name, count=len(report.scores), scenes=report.scenes, first=region.period.start,
        last=region.period.end, method=region.method, source=SOURCE,
        facts=_headline(report), sd_top=SD_TOP, charts=charts, header=HEADER, rows=[s.row() for s in report.scores],
        pictures=[
            {"title": score.day.isoformat(), "images": [{"uri": data_uri(p), "caption": c} for c, p in parts.items()]}
            for score, parts in zip(shown, pictures, strict=True)
        ],
    )  # fmt: skip
    Path(report.page).write_text(page, "utf-8")
    best = pictures[shown.index(partial[0]) if partial else 0]
    gap = np.full((next(iter(best.values())).shape[0], 12, 3), 255, np.uint8)
    row = [part for picture in best.values() for part in (gap, picture)][1:]
    Image.fromarray(np.concatenate(row, axis=1)).save(region.home / "before-after.png", optimize=True)


def _headline(report: DemoReport) -> list[tuple[str, str]]:
    return [
        ("mean absolute error of filled pixels, reflectance", f"{report.mae:.4f}"),
        ("the same by linear interpolation", f"{report.mae_linear:.4f}"),
        ("of the truth lies in the 90 % interval", f"{report.coverage:.0%}"),
        ("images of dates without a clear look", str(report.unseen)),
    ]


def _pictures(
    region: Region, grid: TileGrid, land: Landscape, looks: _Cube, score: Score
) -> dict[str, NDArray[np.uint8]]:
    """Caption and picture: the last look before the date, the image, the truth, the SD of red."""
    image = read_image(region.home, grid.tile, score.day)
    before = max((t for t, key in enumerate(looks.keys) if key.day <= score.day), default=0)
    key = looks.keys[before]
    real = np.rint(_truth(region, land, score.day) / SCALE).astype(np.int16)
    sd = np.where(image.sd_byx[RED] == FILL, np.nan, image.sd_byx[RED] * np.float32(SCALE)).astype(np.float32)
    return {
        f"last look: {key.sensor}, {key.day}": true_colour(looks.refl_tbyx[before]),
        f"virtual image of {score.day}": true_colour(image.refl_byx),
        "the truth of that day, without snow": true_colour(real),
        f"predicted standard deviation of red, 0 to {SD_TOP}": shades(sd, SD_TOP),
    }


def _spots(land: Landscape, grid: TileGrid) -> dict[str, tuple[int, int]]:
    """The pixel that changes most over the year, and the one in the middle of the ranking: a harvest, and something calm."""
    nir = np.stack([truth(land, FIRE.replace(month=month), snow=False)[NIR] for month in range(2, 12)])
    order = np.argsort(np.ptp(nir, axis=0), axis=None)
    width = grid.width
    return {
        "a field, near infrared": divmod(int(order[int(0.97 * order.size)]), width),
        "a calmer place, near infrared": divmod(int(order[order.size // 3]), width),
    }


def _series(
    region: Region, grid: TileGrid, land: Landscape, looks: _Cube, report: DemoReport, title: str, y: int, x: int
) -> Series:
    days = tuple(score.day for score in report.scores)
    images = [read_image(region.home, grid.tile, day) for day in days]
    seen = tuple(
        Look(key.day, float(looks.refl_tbyx[t, NIR, y, x]) * SCALE, key.sensor, bool(looks.clear_tyx[t, y, x]))
        for t, key in enumerate(looks.keys)
        if looks.refl_tbyx[t, NIR, y, x] != FILL
    )
    return Series(
        title, seen, days, tuple(float(i.refl_byx[NIR, y, x]) * SCALE for i in images),
        tuple(float(i.sd_byx[NIR, y, x]) * SCALE for i in images),
        tuple(float(_truth(region, land, day)[NIR, y, x]) for day in days),
    )  # fmt: skip
