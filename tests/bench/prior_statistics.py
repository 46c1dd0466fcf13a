"""Does the synthetic prior hold what real records are like: its patches beside pieces of real cubes of the same size.

    python tests/bench/prior_statistics.py [CUBE.nc ...] [--shared ../shared] [--patches 400] [--png FILE] [--json FILE]

Without paths the public cubes of the shared folder are taken, and where there are none, nothing. A real cube is cut into pieces
as a patch is: 16 px and 64 looks at most within 1500 days, a stretch of its record or every k-th look of it; its value is
the median over its pieces, the prior's quantiles are over its patches. Clear looks only. Residuals are looks less Whittaker
without their own day; for shares and correlations they are held within five robust deviations, so that a few leaked clouds
show in the tail weight and nowhere else. Autocorrelation: of a pixel's departures from its own mean, in its own deviations.
Axes: t looks, b bands, y, x; n pixels of a piece.
"""

import argparse
import json
import warnings
from collections.abc import Iterator
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np

from vsat.core.masks import clear
from vsat.core.sensors import measure_offsets
from vsat.core.temporal import fill_temporal
from vsat.hls import BANDS, FILL, SCALE, sensors_of
from vsat.io.exchange import load_cube
from vsat.model.prior import Prior

ROOT = Path(__file__).parents[2]
SIZE_PX, LOOKS, SPAN_DAYS = 16, 64, 1500  # of a piece, at most: those of a patch
LAGS = ((1, 4), (4, 8), (8, 16), (16, 32), (32, 64), (64, 128), (180, 186), (350, 380))
QUANTILES = (5, 50, 95)  # per cent, of levels
SHOWN = (0.1, 0.5, 0.9)
RANGE = (0.05, 0.95)
LEAST_LOOKS, LEAST_PX, LEAST_PAIRS = 8, 8, 200
HELD = 5 * 1.4826  # medians of the absolute residual

Piece = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # int16 (t, b, y, x), clear (t, y, x), days, sensors (t,)
Row = dict[str, float]


def main() -> None:
    """Print the table, what share of each cube lies in the prior's range, and what does not."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", type=Path, nargs="*")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--patches", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--png", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    folder = options.shared / "data" / "cubes"
    paths = [path for path in options.paths or sorted(folder.glob("*.nc")) if not path.stem.endswith("_s1")]
    paths = [path for path in paths if path.exists()]
    if not paths:
        print(f"no cubes in {folder}: nothing to compare the prior with")
        return
    real = {path.stem: medians([statistics(*piece) for piece in pieces(path)]) for path in paths}
    prior = [statistics(*patch(Prior(seed=options.seed), n)) for n in range(options.patches)]
    names = list(max(prior, key=len))
    values = {name: np.array([row.get(name, np.nan) for row in prior]) for name in names}
    print(f"{options.patches} patches of seed {options.seed}; * lies outside the prior's 5 to 95 %\n")
    print(table(names, real, values))
    print("\n" + verdict(names, real, values))
    if options.png:
        draw(options.png, names, real, values)
    if options.json:
        told = {name: np.nanquantile(values[name], (*RANGE, *SHOWN)).tolist() for name in names}
        options.json.write_text(json.dumps({"real": real, "prior": told}, indent=1))


# -- what is compared


def patch(prior: Prior, index: int) -> Piece:
    """A patch as a piece."""
    one = prior.read(index)
    return one.refl_tbyx, clear(one.fmask_tyx, one.refl_tbyx), one.day_t, one.sensor_t


def pieces(path: Path) -> Iterator[Piece]:
    """All pieces of a cube: stretches, and the same days thinned instead."""
    cube = load_cube(path)
    refl, fmask = cube["reflectance"].values, cube["fmask"].values
    day = cube["time"].values.astype("datetime64[D]").astype(np.int32)
    is_clear, (height, width), sensor = clear(fmask, refl), fmask.shape[1:], sensors_of(cube["sensor"].values)
    ends = np.linspace(day[0], day[-1] + 1, int(np.ceil((day[-1] - day[0]) / SPAN_DAYS)) + 1)
    for first, last in pairwise(ends):
        here = np.flatnonzero((day >= first) & (day < last))
        parts = int(np.ceil(here.size / LOOKS))
        chosen = [*np.array_split(here, parts), *((here[k::parts] for k in range(parts)) if parts > 1 else ())]
        for looks in chosen:
            for y in range(0, max(1, height - SIZE_PX + 1), SIZE_PX):
                for x in range(0, max(1, width - SIZE_PX + 1), SIZE_PX):
                    part = (looks, ..., slice(y, y + SIZE_PX), slice(x, x + SIZE_PX))
                    yield refl[part], is_clear[part], day[looks], sensor[looks]


def statistics(refl_tbyx: np.ndarray, clear_tyx: np.ndarray, day_t: np.ndarray, sensor_t: np.ndarray) -> Row:
    """All figures of one piece, by name; those that it is too small for are missing."""
    looks, pixels = len(day_t), clear_tyx[0].size
    if clear_tyx.any(axis=(1, 2)).sum() < LEAST_LOOKS:
        return {}
    refl_btn = (refl_tbyx.transpose(1, 0, 2, 3) * SCALE).reshape(6, looks, pixels)
    clear_tn = clear_tyx.reshape(looks, pixels)
    found = {"clear share": float(clear_tn.mean())}
    if min(clear_tyx.shape[1:]) >= SIZE_PX:
        share_t = clear_tn.mean(axis=1)
        found |= {"looks wholly clear": float((share_t == 1).mean()), "looks without": float((share_t == 0).mean())}
    levels = refl_btn[:, clear_tn]
    for q in QUANTILES:
        for band, value in zip(BANDS, np.quantile(levels, q / 100, axis=1), strict=True):
            found[f"level {q} % {band}"] = float(value)
    found |= autocorrelations(refl_btn, clear_tn, day_t)
    found |= correlations("levels", levels)
    offset_kb = measure_offsets(refl_tbyx, clear_tyx, day_t, sensor_t).offset_kbyx.mean(axis=(2, 3))
    if offset_kb.any():
        found |= {f"sensors differ {band}": float(m) for band, m in zip(BANDS, np.ptp(offset_kb, axis=0), strict=True)}
    return found | residual_figures(refl_tbyx, clear_tyx, day_t)


def autocorrelations(refl_btn: np.ndarray, clear_tn: np.ndarray, day_t: np.ndarray) -> Row:
    """Mean over bands, per bin of lags; pixels with few looks left out."""
    ok_n = clear_tn.sum(axis=0) >= LEAST_LOOKS
    known = clear_tn[:, ok_n].astype(float)
    count = np.maximum(known.sum(axis=0), 1)
    refl = np.where(known > 0, refl_btn[:, :, ok_n], 0)
    rest = (refl - refl.sum(axis=1, keepdims=True) / count) * known
    rest /= np.sqrt((rest**2).sum(axis=1, keepdims=True) / count) + 1e-4
    product_tt = np.einsum("btn,bsn->ts", rest, rest, optimize=True) / len(refl)
    pairs_tt, apart_tt = known @ known.T, np.abs(day_t[:, None].astype(int) - day_t[None])
    found = {}
    for low, high in LAGS:
        bin_tt = (apart_tt >= low) & (apart_tt < high)
        if pairs_tt[bin_tt].sum() >= min(LEAST_PAIRS, 10 * ok_n.sum()):
            found[f"autocorrelation {low} to {high} d"] = float(product_tt[bin_tt].sum() / pairs_tt[bin_tt].sum())
    return found


def correlations(kind: str, values_bn: np.ndarray) -> Row:
    """Of each pair of bands."""
    matrix = np.corrcoef(values_bn)
    pairs = combinations(range(len(BANDS)), 2)
    return {f"correlation of {kind} {BANDS[i]} {BANDS[j]}": float(matrix[i, j]) for i, j in pairs}


def residual_figures(refl_tbyx: np.ndarray, clear_tyx: np.ndarray, day_t: np.ndarray) -> Row:
    """Size, tail, colour and reach of what Whittaker does not know."""
    days = np.unique(day_t)
    done = fill_temporal(refl_tbyx, clear_tyx, day_t, days, method="whittaker", exclude_days=0)
    blind = done.refl_qbyx[np.searchsorted(days, day_t)]
    known_tyx = clear_tyx & (blind[:, 0] != FILL)
    if known_tyx.any(axis=(1, 2)).sum() < LEAST_LOOKS:
        return {}
    rest_btyx = ((refl_tbyx.astype(float) - blind) * SCALE).transpose(1, 0, 2, 3)
    size_bn = np.abs(rest_btyx[:, known_tyx])
    middle_b = np.median(size_bn, axis=1)
    found = {f"noise {band}": float(m) for band, m in zip(BANDS, middle_b, strict=True)}
    found["tail weight"] = float((size_bn.mean(axis=1) / np.maximum(middle_b, 1e-4)).mean())
    limit = HELD * middle_b[:, None, None, None]
    rest = np.where(known_tyx, np.clip(rest_btyx, -limit, limit), 0)
    found |= correlations("residuals", rest[:, known_tyx])
    count_t = known_tyx.sum(axis=(1, 2))
    many = count_t >= LEAST_PX
    if many.sum() < LEAST_LOOKS:
        return found
    rest, known, count_t = rest[:, many], known_tyx[many], count_t[many]
    date_bt = rest.sum(axis=(2, 3)) / count_t
    common = (date_bt**2 * count_t).sum(axis=1) / np.maximum((rest**2).sum(axis=(1, 2, 3)), 1e-12)
    found["residual variance common to a date"] = float(common.mean())
    if min(clear_tyx.shape[1:]) < SIZE_PX:  # the mean of a short row takes its own field with it: no fair comparison
        return found
    left = np.where(known, rest - date_bt[:, :, None, None], 0)
    for px in (1, 4):
        both = known[..., px:] & known[..., :-px]
        one, two = np.where(both, left[..., px:], 0), np.where(both, left[..., :-px], 0)
        size = np.sqrt((one**2).sum(axis=(1, 2, 3)) * (two**2).sum(axis=(1, 2, 3)))
        if both.sum() >= LEAST_PAIRS:
            near = (one * two).sum(axis=(1, 2, 3)) / np.maximum(size, 1e-12)
            found[f"correlation of residuals at {px} px"] = float(near.mean())
    return found


# -- what is said


def medians(rows: list[Row]) -> Row:
    """Over the pieces that have the figure."""
    names = {name for row in rows for name in row}
    return {name: float(np.median([row[name] for row in rows if name in row])) for name in names}


def is_inside(value: float, prior: np.ndarray) -> bool:
    """In the prior's 5 to 95 %."""
    low, high = np.nanquantile(prior, RANGE)
    return bool(low <= value <= high)


def table(names: list[str], real: dict[str, Row], prior: dict[str, np.ndarray]) -> str:
    """Markdown, a row per figure."""
    heads = ("figure", *real, *(f"prior {q:.0%}" for q in SHOWN))
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for name in names:
        cells = []
        for row in real.values():
            told = f"{row[name]:.3f}" + ("" if is_inside(row[name], prior[name]) else " *") if name in row else "-"
            cells.append(told)
        cells += [f"{value:.3f}" for value in np.nanquantile(prior[name], SHOWN)]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def verdict(names: list[str], real: dict[str, Row], prior: dict[str, np.ndarray]) -> str:
    """Per cube the share of figures in the prior's range, and the others with the share of patches below them."""
    lines = []
    for cube, row in real.items():
        has = [name for name in names if name in row]
        out = [name for name in has if not is_inside(row[name], prior[name])]
        lines.append(f"{cube}: {len(has) - len(out)} of {len(has)} figures inside ({1 - len(out) / len(has):.0%})")
        for name in out:
            values = prior[name][np.isfinite(prior[name])]
            lines.append(f"  {name} = {row[name]:.3f}: {np.mean(values < row[name]):.1%} of the patches lie below")
    return "\n".join(lines)


def draw(path: Path, names: list[str], real: dict[str, Row], prior: dict[str, np.ndarray]) -> None:
    """A panel per kind of figure: the prior's 5 to 95 and 10 to 90 % in grey, the cubes as marks."""
    from matplotlib.figure import Figure

    kinds = ("level 50 %", "autocorrelation", "noise", "correlation of levels", "correlation of residuals", "")
    kind_of = {name: next(kind for kind in kinds if name.startswith(kind)) for name in names}
    figure = Figure(figsize=(15, 9), layout="constrained")
    for panel, kind in zip(figure.subplots(2, 3).ravel(), kinds, strict=True):
        shown = [name for name in names if kind_of[name] == kind and not name.startswith("level 5 ")]
        shown = [name for name in shown if not name.startswith("level 95")]
        spread = np.nanquantile([prior[name] for name in shown], (*RANGE, *SHOWN), axis=1)
        at = np.arange(len(shown))
        panel.bar(at, spread[1] - spread[0], bottom=spread[0], color="#dddddd", width=0.9)
        panel.bar(at, spread[4] - spread[2], bottom=spread[2], color="#bbbbbb", width=0.9)
        panel.plot(at, spread[3], "_", color="black", ms=12)
        for mark, (cube, row) in zip("osDv^<>" * 9, real.items(), strict=False):
            panel.plot(at, [row.get(name, np.nan) for name in shown], mark, ms=5, label=cube)
        labels = [name.removeprefix(kind).strip() for name in shown]
        panel.set_xticks(at, labels, rotation=60, ha="right", fontsize=7)
        panel.set_title(kind or "other", fontsize=9)
        panel.spines[["top", "right"]].set_visible(False)
    panel.legend(fontsize=7)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
