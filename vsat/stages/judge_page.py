"""The judge's verdict as a page that needs no server, and as Markdown for the Prefect UI.

Axes: b bands, y, x.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vsat.hls import FILL, SCALE
from vsat.stages.judge_figures import calibration_figure, level_figure
from vsat.stages.page import data_uri, render, shades, true_colour
from vsat.stages.verdict import CasePicture, Headline, Row, Verdict

WORDS = {
    "dates": "Whole clear dates are hidden, with everything within a day of them.",
    "masks": "Real cloud of other dates of the same place is laid over clear dates; their clear rest stays.",
    "gaps": "Everything 8 to 128 days around a clear date is hidden; the date is in the middle of the gap.",
    "forecast": "Everything later than 8 to 64 days before a clear date is hidden: there is no look on its other side.",
    "thinning": "10 to 90 % of the dates are hidden, and some of the clear ones among them are asked for.",
}
GOAL = (0.85, 0.95)  # of the 90 % interval
LEAST_PX = 192  # small images are enlarged to this, pixel by pixel
MOST_PX = 240
SD_TOP = 0.06


@dataclass(frozen=True)
class Shown:
    """One picture of a case: caption, data URI, words for who cannot see it."""

    caption: str
    uri: str
    alt: str


@dataclass(frozen=True)
class ShownCase:
    """A case with its pictures and what is said about it."""

    title: str
    told: str
    pictures: tuple[Shown, ...]


def page(verdict: Verdict, pictures: Sequence[CasePicture]) -> str:
    """The verdict as one HTML page without any outside part."""
    judged = verdict.methods
    calibrations = [
        (
            f"{source}, {method}",
            calibration_figure(
                [one for one in verdict.calibrations if one.source == source and one.method == method],
                f"calibration of {method} on {source}",
            ),
        )
        for source in verdict.sources
        for method in judged
    ]
    return render(
        "judge.html",
        verdict=verdict,
        words=WORDS,
        goal=GOAL,
        headlines=[one for one in verdict.headlines if one.method in judged],
        tables=[(source, _table(verdict, source)) for source in verdict.sources],
        cover=_covers(verdict),
        figures=[(name, svg) for name in verdict.sources if (svg := level_figure(verdict, name))],
        calibrations=[(name, svg) for name, svg in calibrations if svg],
        cases=[_case(one) for one in pictures],
        details=_details(verdict),
    )


def markdown(verdict: Verdict, pictures: Sequence[CasePicture], *, most: int = 2) -> str:
    """The headline, coverage and a few cases as Markdown, below 200 kB."""
    header = ("source", "protocol", "method", "MAE", "best classical", "ratio", "95 % interval", "90 % holds")
    rows = [
        (one.source, one.protocol, one.method, f"{one.mae:.4f}", f"{one.best} {one.best_mae:.4f}", f"{one.ratio:.2f}",
         between(one), "-" if one.cover90 is None else f"{one.cover90:.0%}")
        for one in verdict.headlines if one.method in verdict.methods
    ]  # fmt: skip
    blocks = [
        "# Judge",
        f"{verdict.checked} folds, each looked through for leaks before any method saw it.",
        _md(header, rows),
    ]
    blocks += [f"- {note}" for note in (*verdict.notes, *(f"unreadable: {name}" for name in verdict.unreadable))]
    for case in (_case(one) for one in pictures[:most]):
        images = " ".join(f"![{shown.alt}]({shown.uri})" for shown in case.pictures)
        blocks += [f"## {case.title}", case.told, images, " · ".join(shown.caption for shown in case.pictures)]
    return "\n\n".join(blocks) + "\n"


def between(one: Headline) -> str:
    """The ratio's interval in words."""
    return "-" if one.low is None or one.high is None else f"{one.low:.2f} to {one.high:.2f}"


def _md(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, ["---"] * len(header), *rows))


def _table(verdict: Verdict, source: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """MAE of every method by protocol: (method, cells); a cell is its text and "best" or ""."""
    found = {(one.protocol, one.method): one.mae for one in verdict.headlines if one.source == source}
    least = {name: min((mae for key, mae in found.items() if key[0] == name), default=0) for name in verdict.protocols}
    lines = []
    for method in (*verdict.methods, *verdict.baselines):
        cells = []
        for name in verdict.protocols:
            mae = found.get((name, method))
            cells.append(("-", "") if mae is None else (f"{mae:.4f}", "best" if mae == least[name] else ""))
        lines.append((method, cells))
    return lines


def _covers(verdict: Verdict) -> list[tuple[str, str, list[tuple[str, bool]]]]:
    """What the 90 % interval holds: (source, method, cells by protocol); a cell is its text and whether it is as wished."""
    found = {(one.source, one.method, one.protocol): one.cover90 for one in verdict.headlines}
    lines = []
    for source in verdict.sources:
        for method in (*verdict.methods, *verdict.baselines):
            cells = []
            for protocol in verdict.protocols:
                cover = found.get((source, method, protocol))
                fine = cover is not None and GOAL[0] <= cover <= GOAL[1]
                cells.append(("-" if cover is None else f"{cover:.0%}", fine or cover is None))
            lines.append((source, method, cells))
    return lines


def _details(verdict: Verdict) -> list[Row]:
    """The judged methods' rows of all bands and groups; the baselines' are in the JSON."""
    return [row for row in verdict.rows if row.method in verdict.methods and (row.band == "mean" or row.group == "all")]


def _case(one: CasePicture) -> ShownCase:
    title = f"{one.source}, {one.protocol}{f' {one.level}' if one.level else ''}: the {one.kind} date, {one.day}"
    told = f"{one.method} is off by {one.mae:.4f}, {one.best} by {one.best_mae:.4f}. Grey is not seen, or not judged."
    error = np.abs(one.estimate_byx.astype(np.float32) - one.truth_byx).mean(axis=0) * SCALE
    judged = np.where(one.mask_yx, error, np.nan).astype(np.float32)
    sd = np.where((one.sd_byx == FILL).any(axis=0), np.nan, one.sd_byx.mean(axis=0) * SCALE).astype(np.float32)
    pictures = [
        _colour(f"before: {one.before}", one.before_byx),
        _colour("seen that day", one.seen_byx),
        _colour(f"after: {one.after}", one.after_byx),
        _colour("truth", one.truth_byx),
        _colour("estimate", one.estimate_byx),
        Shown(f"predicted SD, 0 to {SD_TOP}", _uri(shades(sd, SD_TOP)), f"predicted standard deviation on {one.day}"),
        Shown(f"error, 0 to {SD_TOP}", _uri(shades(judged, SD_TOP)), f"absolute error on {one.day}"),
    ]
    return ShownCase(title, told, tuple(shown for shown in pictures if shown is not None))


def _colour(caption: str, refl_byx: NDArray[np.int16] | None) -> Shown | None:
    """True colour; a band alone where there are fewer than six."""
    if refl_byx is None:
        return None
    six = len(refl_byx) == 6
    grey = np.where(refl_byx[0] == FILL, np.nan, refl_byx[0] * SCALE).astype(np.float32)
    picture = true_colour(refl_byx) if six else shades(grey, 0.4)
    return Shown(caption, _uri(picture), f"{caption}, {'true colour' if six else 'first band'}")


def _uri(picture_yxc: NDArray[np.uint8]) -> str:
    """A small image larger, each pixel a square."""
    times = max(1, LEAST_PX // max(picture_yxc.shape[:2]))
    return data_uri(np.repeat(np.repeat(picture_yxc, times, axis=0), times, axis=1), longest_px=MOST_PX)
