"""From sums to what the judge says: rows of the tables, the headline, and whether the uncertainty is true."""

from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from vsat.core.bootstrap import paired_ratio
from vsat.core.protocols import LEVELS
from vsat.core.sums import Scores, finish
from vsat.stages.tally import CLOUDS, GAPS, Key, Tally, Unit, best_of
from vsat.stages.verdict import Calibration, Headline, Row

GROUPS = ("all", "gap", "cloud", "season", "stratum")
_ORDER = {name: at for at, name in enumerate((*GAPS, *CLOUDS))}


def rows(source: str, units: Sequence[Unit], tally: Tally) -> Iterator[Row]:
    """A row per group, method and band, and one for the mean over bands; groups of a kind together."""
    images = _images(units)
    methods = list(dict.fromkeys(key.method for key in tally.sums))
    for key in sorted(tally.sums, key=lambda key: _place(key, methods)):
        scores = finish(tally.sums[key])
        dates = len(tally.dates[key])
        for b, band in enumerate(tally.bands):
            yield _row(source, key, band, scores, slice(b, b + 1), dates)
        yield _row(source, key, "mean", scores, slice(None), dates, images.get(key, (None, None)))


def _place(key: Key, methods: Sequence[str]) -> tuple[int, int, int, int, str, int]:
    protocol = tuple(LEVELS).index(key.protocol)
    at = (GROUPS.index(key.group), key.level, _ORDER.get(key.value, 0), key.value)
    return (protocol, *at, methods.index(key.method))


def _row(
    source: str,
    key: Key,
    band: str,
    scores: Scores,
    part: slice,
    dates: int,
    images: tuple[float | None, float | None] | None = None,
) -> Row:
    """Means over the bands in `part`; what needs all bands is there when `images` are."""
    cover, width = scores.cover_sb[:, part].mean(axis=1), scores.width_sb[:, part].mean(axis=1)
    ssim, chip = images or (None, None)
    whole = (scores.sam_deg, scores.psnr_db, scores.ndvi_mae) if images else (None, None, None)
    return Row(
        source, key.protocol, key.level, key.group, key.value, key.method, band, int(scores.count[part].sum()), dates,
        mae=_number(scores.mae[part].mean()),
        median=_number(scores.median[part].mean()),
        rmse=_number(scores.rmse[part].mean()),
        bias=_number(scores.bias[part].mean()),
        sam_deg=_number(whole[0]), psnr_db=_number(whole[1]), ssim=ssim, ssim_chip=chip, ndvi_mae=_number(whole[2]),
        crps=_number(scores.crps[part].mean()),
        cover50=_number(cover[0]), cover80=_number(cover[1]), cover90=_number(cover[2]),
        width50=_number(width[0]), width80=_number(width[1]), width90=_number(width[2]),
    )  # fmt: skip


def _images(units: Sequence[Unit]) -> dict[Key, tuple[float | None, float | None]]:
    """Mean of both kinds of SSIM over the target dates of each group; a pixel's gap is no group of images."""
    found: dict[Key, list[tuple[float, float]]] = defaultdict(list)
    for unit in units:
        if unit.ssim is None or unit.ssim_chip is None:
            continue
        groups = [("all", ""), ("cloud", unit.cloud), ("season", unit.season), ("stratum", unit.stratum)]
        for group, value in groups:
            found[Key(unit.protocol, 0, group, value, unit.method)].append((unit.ssim, unit.ssim_chip))
    means = {key: np.mean(values, axis=0) for key, values in found.items()}
    return {key: (_number(one), _number(other)) for key, (one, other) in means.items()}


def headlines(
    source: str, units: Sequence[Unit], tally: Tally, baselines: Sequence[str], seed: int
) -> Iterator[Headline]:
    """Every method beside the best classical one of each protocol, all levels together."""
    for protocol in dict.fromkeys(unit.protocol for unit in units):
        here = [unit for unit in units if unit.protocol == protocol]
        best, best_mae = best_of(here, baselines)
        peer = _errors(here, best)
        places = [(unit.day, unit.block) for unit in here if unit.method == best]
        for method in dict.fromkeys(unit.method for unit in here):
            error = _errors(here, method)
            ratio, low, high = paired_ratio(error, peer, *zip(*places, strict=True), seed=seed)
            scores = finish(tally.sums[Key(protocol, 0, "all", "", method)])
            count = sum(unit.values for unit in here if unit.method == method)
            cover = _number(scores.cover_sb[-1].mean())
            yield Headline(
                source, protocol, method, float(error.sum() / count), best, best_mae, ratio, low, high, cover
            )


def _errors(units: Sequence[Unit], method: str) -> NDArray[np.float64]:
    return np.array([unit.error for unit in units if unit.method == method])


def calibrations(source: str, tally: Tally) -> Iterator[Calibration]:
    """PIT histogram, and error against predicted standard deviation, of each protocol and method."""
    for key, sums in tally.sums.items():
        if key.group == "all" and key.level == 0:
            scores = finish(sums)
            yield Calibration(
                source, key.protocol, key.method, tuple(scores.pit.tolist()), tuple(scores.sd.tolist()),
                tuple(scores.rmse_at_sd.tolist()), tuple(int(n) for n in scores.count_at_sd),
            )  # fmt: skip


def _number(value: float | np.floating | None) -> float | None:
    """A float for JSON: None for what is not finite."""
    return float(value) if value is not None and np.isfinite(value) else None
