"""Pictures and the one-file HTML page that shows a run: before and after, a time series with its band, the table.

Axes: b band, y, x pixels. Reflectance is int16 x 1e-4 with FILL for none.
"""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from importlib import resources

import numpy as np
from jinja2 import Environment, StrictUndefined, select_autoescape
from numpy.typing import NDArray
from PIL import Image

from vsat.core.calibration import Z90
from vsat.hls import FILL, SCALE

TRUE_COLOUR = (2, 1, 0)  # red, green, blue in the order of hls.BANDS
WHITE_AT = 0.24  # reflectance shown as white after the square root; bare soil and towns stay below it
NO_VALUE = (214, 209, 219)


@dataclass(frozen=True)
class Look:
    """One observation of the pixel in a time series: reflectance, and whether the mask called it clear."""

    day: date
    value: float
    sensor: str
    clear: bool


@dataclass(frozen=True)
class Series:
    """What is drawn for one pixel and band: looks, the virtual images' values with SD, and the truth where it is known."""

    title: str
    looks: tuple[Look, ...]
    days: tuple[date, ...]
    values: tuple[float, ...]
    sds: tuple[float, ...]
    truth: tuple[float, ...] = ()


def true_colour(refl_byx: NDArray[np.int16]) -> NDArray[np.uint8]:
    """Red, green and blue of six-band int16 reflectance (b, y, x) as an sRGB-like picture (y, x, 3); no value is grey."""
    rgb = refl_byx[list(TRUE_COLOUR)].transpose(1, 2, 0)
    bright = np.sqrt(np.clip(rgb * SCALE / WHITE_AT, 0, 1)) * 255
    missing = (rgb == FILL).any(-1)
    return np.where(missing[..., None], np.array(NO_VALUE), bright).astype(np.uint8)


def shades(values_yx: NDArray[np.float32], top: float) -> NDArray[np.uint8]:
    """Values from 0 (dark) to `top` (light) as a viridis picture (y, x, 3) uint8; NaN is grey."""
    import matplotlib as mpl

    rgba = mpl.colormaps["viridis"](np.clip(np.nan_to_num(values_yx) / top, 0, 1))
    picture: NDArray[np.uint8] = (rgba[..., :3] * 255).astype(np.uint8)
    picture[np.isnan(values_yx)] = NO_VALUE
    return picture


def data_uri(picture_yxc: NDArray[np.uint8], *, longest_px: int = 360) -> str:
    """A PNG of a picture (y, x, 3) uint8 as a data URI, no side longer than `longest_px`."""
    image = Image.fromarray(picture_yxc)
    if max(image.size) > longest_px:
        image.thumbnail((longest_px, longest_px), Image.Resampling.BOX)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def series_svg(series: Series, *, ylabel: str) -> str:
    """The series as an SVG element: band of 90 %, line, looks by sensor (hollow where masked), truth dashed."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams.update({"svg.hashsalt": "vsat", "svg.fonttype": "none", "font.size": 10})
    figure = Figure(figsize=(9.2, 3.2), layout="constrained")
    axes = figure.add_subplot()
    days, values = np.array(series.days, "datetime64[D]"), np.array(series.values)
    half = Z90 * np.array(series.sds)
    axes.fill_between(days, values - half, values + half, color="#4477aa", alpha=0.22, lw=0, label="90 % interval")
    axes.plot(days, values, color="#4477aa", lw=1.8, marker=".", label="virtual images")
    if series.truth:
        axes.plot(days, series.truth, color="#222222", lw=1, ls=(0, (4, 2)), label="truth")
    for sensor, colour, marker in (("L30", "#cc3311", "^"), ("S30", "#009988", "o")):
        for clear, face, word in ((True, colour, "clear"), (False, "none", "masked")):
            seen = [look for look in series.looks if look.sensor == sensor and look.clear is clear]
            axes.scatter(
                np.array([look.day for look in seen], "datetime64[D]"), [look.value for look in seen], s=22, marker=marker,
                facecolors=face, edgecolors=colour, linewidths=0.9, zorder=3, label=f"{sensor} {word}",
            )  # fmt: skip
    top = max([v for v in (*series.values, *series.truth) if np.isfinite(v)], default=0.4)
    axes.set_ylim(-0.02, 1.6 * top + 0.02)
    axes.set_ylabel(ylabel)
    axes.grid(color="#dddddd", lw=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(ncols=4, fontsize=8, frameon=False, loc="upper left")
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def render(template: str, **values: object) -> str:
    """Fill in one of the package's templates; everything is escaped but what is marked safe in the template."""
    source = resources.files("vsat.stages").joinpath(template).read_text("utf-8")
    environment = Environment(autoescape=select_autoescape(default=True), undefined=StrictUndefined)
    return environment.from_string(source).render(**values)


def text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A plain table, first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = [
        [cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))]
        for row in (header, *rows)
    ]
    return "\n".join("  ".join(line) for line in [lines[0], ["-" * w for w in widths], *lines[1:]])
