"""What the judge says: plain values, JSON in and out. Reflectance units unless a name says otherwise; None: undefined.

Axes: b bands (in the order of `hls.BANDS`), y, x pixels.
"""

import json
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from vsat.stages.page import text_table


@dataclass(frozen=True)
class Row:
    """The scores of one method on one group of target values.

    Attributes:
        source: what was judged.
        protocol, level: how the targets were hidden; level is days or per cent, 0 where there is none.
        group, value: "all" and "", or one of "gap", "cloud", "season", "stratum" and which of them.
        method: its name; a baseline or the method under test.
        band: a name of hls.BANDS, or "mean" for the mean over bands.
        values, dates: number of target values and of target dates.
        mae, median, rmse, bias: of estimate minus truth.
        sam_deg, psnr_db, ssim, ssim_chip, ndvi_mae: over all bands, so in rows of band "mean" only.
        crps, cover50, cover80, cover90, width50, width80, width90: of the predictive distribution.
    """

    source: str
    protocol: str
    level: int
    group: str
    value: str
    method: str
    band: str
    values: int
    dates: int
    mae: float | None = None
    median: float | None = None
    rmse: float | None = None
    bias: float | None = None
    sam_deg: float | None = None
    psnr_db: float | None = None
    ssim: float | None = None
    ssim_chip: float | None = None
    ndvi_mae: float | None = None
    crps: float | None = None
    cover50: float | None = None
    cover80: float | None = None
    cover90: float | None = None
    width50: float | None = None
    width80: float | None = None
    width90: float | None = None


@dataclass(frozen=True)
class Headline:
    """One method beside the best classical method of the same source and protocol, all levels together.

    The best is chosen in hindsight, on these very targets: that favours it. `ratio` is the method's MAE over the best
    one's; `low`, `high` are its 95 % interval from a paired bootstrap over dates and blocks.
    """

    source: str
    protocol: str
    method: str
    mae: float
    best: str
    best_mae: float
    ratio: float
    low: float | None
    high: float | None
    cover90: float | None


@dataclass(frozen=True)
class Calibration:
    """Is the uncertainty true: PIT histogram (shares of 20 equal bins), and error against predicted SD.

    `sd`, `rmse`, `values`: per bin of predicted standard deviation its mean, the error's root mean square, the count.
    """

    source: str
    protocol: str
    method: str
    pit: tuple[float, ...]
    sd: tuple[float, ...]
    rmse: tuple[float, ...]
    values: tuple[int, ...]


@dataclass(frozen=True)
class Cost:
    """What a method took to calibrate itself on one fold of a source and fill it: CPU seconds and the process's peak memory.

    `seam` is how much the joints of separately filled quarters step, over how much the whole image steps there: 1 for none.
    `looks`, `dates`, `pixels` say how large the fold was: looks in it, dates filled, pixels of each.
    """

    source: str
    method: str
    cpu_s: float
    peak_mb: float | None
    seam: float | None
    looks: int = 0
    dates: int = 0
    pixels: int = 0


@dataclass(frozen=True)
class Verdict:
    """One run of the judge.

    Attributes:
        sources, methods, baselines, protocols: what ran, in order.
        folds, seed: how often and from which seed targets were drawn.
        checked: number of folds that were looked through for leaks before any method saw them.
        unreadable: names of patches that could not be read, and were left out.
        notes: what else there is to know, such as protocols that a source is too small for.
    """

    sources: tuple[str, ...]
    methods: tuple[str, ...]
    baselines: tuple[str, ...]
    protocols: tuple[str, ...]
    folds: int
    seed: int
    checked: int
    rows: tuple[Row, ...]
    headlines: tuple[Headline, ...]
    calibrations: tuple[Calibration, ...]
    costs: tuple[Cost, ...]
    unreadable: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """The verdict as one JSON object; equal verdicts give equal text."""
        return json.dumps(asdict(self), indent=1, allow_nan=False) + "\n"

    def text(self) -> str:
        """The headline of the judged methods as a table to print; the baselines' are in the JSON and on the page."""
        header = (
            "source",
            "protocol",
            "method",
            "MAE",
            "best classical",
            "its MAE",
            "ratio",
            "95 % interval",
            "90 % holds",
        )
        rows = [
            (
                one.source, one.protocol, one.method, f"{one.mae:.4f}", one.best, f"{one.best_mae:.4f}", f"{one.ratio:.2f}",
                "-" if one.low is None or one.high is None else f"{one.low:.2f} to {one.high:.2f}",
                "-" if one.cover90 is None else f"{one.cover90:.0%}",
            )
            for one in self.headlines
            if one.method in self.methods
        ]  # fmt: skip
        lost = [f"{len(self.unreadable)} patches could not be read, and were left out:", *self.unreadable]
        tail = [f"{self.checked} folds looked through for leaks", *self.notes, *(lost if self.unreadable else [])]
        return "\n".join([text_table(header, rows), *tail])


@dataclass(frozen=True)
class CasePicture:
    """One target date as it was judged: what a picture of it needs. int16 x 1e-4 with FILL, bool.

    Attributes:
        kind: "worst" or "median" of its source and protocol, by `mae`.
        before_byx, after_byx: the nearest context looks on both sides, FILL where not clear; None if there is none.
        before, after: their ISO days, "" if there is none.
        seen_byx: what the context holds of the date itself (protocol masks), FILL elsewhere; None if nothing.
        truth_byx, estimate_byx, sd_byx: the date; `mask_yx` is where it was hidden and is judged.
    """

    source: str
    block: str
    protocol: str
    level: int
    method: str
    kind: str
    day: str
    mae: float
    best: str
    best_mae: float
    before: str
    after: str
    before_byx: NDArray[np.int16] | None
    after_byx: NDArray[np.int16] | None
    seen_byx: NDArray[np.int16] | None
    truth_byx: NDArray[np.int16]
    estimate_byx: NDArray[np.int16]
    sd_byx: NDArray[np.int16]
    mask_yx: NDArray[np.bool_]
