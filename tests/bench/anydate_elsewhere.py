"""The any-date model on Landsat records of other places, which lie in public repositories and were never trained on.

    python tests/bench/anydate_elsewhere.py FOLDER [--shared ../shared] [--checkpoint FOLDER] [--folds 3] [--sites 20] [--forecast]

FOLDER holds, at any depth, files of these repositories: a row of pixels in Harvard Forest (ceholden/yatsm: p013r030*.npz), pixels
in Washington and California (repository-preservation/lcmap-pyccd: test/resources), points in Greenland, Ellesmere and Alaska
(logan-berner/LandsatTS: *.dt.RData, read by `pyreadr`). Folds and peers are those of prototype/protocol.py: whole dates
withheld, with what lies within a day of them. By place the MAE of the best plain peer, of the best of our own methods (both in
hindsight) and of the model, which is told no sensors; then geometric means of the ratios. Many of these records have cloud that
was called clear: "usual" counts only the dates that some method gets right to .05. With --forecast, dates are asked 8 to 64 days
after the last look that is not withheld, drawn as the judge draws them.
"""

import argparse
import csv
import warnings
from collections.abc import Iterator
from datetime import date, datetime
from pathlib import Path
from statistics import geometric_mean
from types import ModuleType

import numpy as np
from fill_accuracy import load_protocol

from vsat.core.protocols import folds as judged_folds
from vsat.core.temporal import fill_temporal
from vsat.hls import FILL, SCALE
from vsat.model.checkpoint import load_checkpoint
from vsat.model.predict import Question, answer
from vsat.stages.models import SHIPPED

PEERS = ("linear", "harmonic", "whittaker")
OWN = ("linear", "harmonic", "whittaker", "blend")
EPOCH = date(1970, 1, 1).toordinal()
WIDE_PX = slice(100, 164, 4)  # of the row
LEAST_LOOKS = 30
HOPELESS = 0.05  # reflectance: a look that every method misses by more showed something else than ground

Record = tuple[str, np.ndarray, np.ndarray, np.ndarray]  # place, days, reflectance (t, 6, y, x), clear (t, y, x)


def rows_of_npz(path: Path) -> Iterator[Record]:
    """A row of pixels: six bands, temperature and Fmask."""
    with np.load(path, allow_pickle=True, encoding="latin1") as held:
        value_bt, days = held["Y"][:, :, WIDE_PX], held["dates"]
    yield path.stem, days - EPOCH, value_bt[:6].transpose(1, 0, 2)[:, :, None] * SCALE, (value_bt[7] <= 1)[:, None]


def pixels_of_npy(path: Path) -> Iterator[Record]:
    """A pixel of analysis-ready data, whose quality has bit 1 for clear and bit 2 for water."""
    _, held = np.load(path, allow_pickle=True)
    bands = ("blues", "greens", "reds", "nirs", "swir1s", "swir2s")
    value_tb = np.stack([held[name] for name in bands], axis=1) * SCALE
    clear_t = (np.asarray(held["qas"]) & 0b110) > 0
    yield path.stem, np.asarray(held["dates"]) - EPOCH, value_tb[..., None, None], clear_t[:, None, None]


def pixels_of_csv(path: Path) -> Iterator[Record]:
    """A pixel: day, six bands, temperature, Fmask."""
    with path.open(encoding="utf-8") as file:
        value_tk = np.array(
            [[float(cell) for cell in row] for row in csv.reader(file) if row and row[0].strip().isdigit()]
        )
    if value_tk.shape[1:] == (9,):
        clear_t = value_tk[:, 8] <= 1
        yield (
            path.stem,
            value_tk[:, 0].astype(int) - EPOCH,
            value_tk[:, 1:7, None, None] * SCALE,
            clear_t[:, None, None],
        )


def points_of_rdata(path: Path, most: int) -> Iterator[Record]:
    """Points of Landsat collection 2, of which some are drawn."""
    import pyreadr

    table = next(iter(pyreadr.read_r(str(path)).values()))
    table = table[table.QA_PIXEL > 0]
    sites = sorted(table.sample_id.unique())
    for site in np.random.default_rng(0).permutation(sites)[:most]:
        part = table[table.sample_id == site]
        newer = part.SPACECRAFT_ID.isin(["LANDSAT_8", "LANDSAT_9"]).to_numpy()
        old_tb, new_tb = (
            part[[f"SR_B{n}" for n in which]].to_numpy(float) for which in ((1, 2, 3, 4, 5, 7), range(2, 8))
        )
        value_tb = np.where(newer[:, None], new_tb, old_tb) * 2.75e-5 - 0.2
        quality_t = part.QA_PIXEL.to_numpy().astype(int)
        clear_t = (quality_t & 0b1111100) == 0b1000000  # clear, and no snow, shadow, cloud or cirrus
        clear_t &= (part.QA_RADSAT.to_numpy() == 0) & np.isfinite(value_tb).all(axis=1)
        days = [datetime.strptime(name.split("_")[3], "%Y%m%d").toordinal() - EPOCH for name in part.LANDSAT_PRODUCT_ID]
        yield str(site), np.array(days), np.nan_to_num(value_tb, nan=-1)[..., None, None], clear_t[:, None, None]


def records(folder: Path, sites: int) -> Iterator[Record]:
    """Every record there is, days ascending, its clear looks only."""
    readers = {
        "p013r030*.npz": rows_of_npz, "*_pixel*.npy": pixels_of_npy, "sample_WA_*.csv": pixels_of_csv,
        "*_observations.csv": pixels_of_csv, "*.dt.RData": lambda path: points_of_rdata(path, sites),
    }  # fmt: skip
    for pattern, read in readers.items():
        for path in sorted({path.name: path for path in folder.rglob(pattern)}.values()):
            for place, days, refl, clear in read(path):
                possible = clear & (refl > -0.02).all(axis=1) & (refl < 1.2).all(axis=1)
                order = np.argsort(days, kind="stable")
                order = order[possible[order].any(axis=(1, 2))]
                if len(order) >= LEAST_LOOKS:
                    yield place, days[order].astype(np.int32), refl[order], possible[order]


def draws(
    record: Record, protocol: ModuleType, folds: int, forecast: bool
) -> Iterator[tuple[np.ndarray, dict[int, np.ndarray]]]:
    """Clear pixels that are given (t, y, x), and by look those that are asked for (y, x)."""
    _, days, _, clear = record
    if forecast:
        for fold in judged_folds(clear, days, "forecast", count=folds):
            yield fold.context_tyx, {target.look: target.mask_yx for target in fold.targets}
    else:
        yield from protocol.folds(clear, days.astype(float), "date", n=folds)


def misses(
    record: Record, shared: Path, checkpoint: str, folds: int, forecast: bool
) -> tuple[dict[str, np.ndarray], float]:
    """Mean absolute error of each method on every date withheld, and the share of values in the 90 % intervals."""
    protocol, model = load_protocol(shared), load_checkpoint(checkpoint, device="cpu").model
    _, days, refl, _ = record
    found: dict[str, list[float]] = {}
    held: list[np.ndarray] = []
    for context, targets in draws(record, protocol, folds, forecast):
        when = np.array(sorted(targets))
        asked, at = np.unique(days[when], return_inverse=True)
        given = np.where(context[:, None], np.rint(refl / SCALE), FILL).astype(np.int16)
        seen = np.where(context[:, None], refl, np.nan)
        made = {
            name: getattr(protocol, name)(seen, context, days.astype(float), days[when].astype(float)) for name in PEERS
        }
        for name in OWN:
            of_days = fill_temporal(given, context, days, asked, method=name, exclude_days=0).refl_qbyx
            made["own " + name] = of_days[at] * SCALE
        said = answer(model, given, context, Question(days, asked, np.arange(6))).quantile_qlbyx[at]
        made["anydate"] = said[:, 2]
        for n, look in enumerate(when):
            mask, true = targets[look] & context.any(axis=0), refl[look]
            if not mask.any():
                continue
            for name, value in made.items():
                found.setdefault(name, []).append(float(np.abs(value[n] - true)[:, mask].mean()))
            held.append(((true >= said[n, 0]) & (true <= said[n, 4]))[:, mask].ravel())
    return {name: np.array(values) for name, values in found.items()}, float(np.concatenate(held).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--checkpoint", default=str(SHIPPED))
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--sites", type=int, default=20, help="of each table of points")
    parser.add_argument("--forecast", action="store_true", help="ask for what lies after the last look")
    given = parser.parse_args()
    warnings.filterwarnings("ignore", category=RuntimeWarning)
    ratios: dict[str, list[float]] = {}
    print("| place | dates | best peer | best own | anydate | to the peer | to the own | usual | 90 % holds |")
    print("|---" * 9 + "|")
    for record in records(given.folder, given.sites):
        missed, held = misses(record, given.shared, given.checkpoint, given.folds, given.forecast)
        usual = np.min([*missed.values()], axis=0) < HOPELESS
        mae = {name: (float(values.mean()), float(values[usual].mean())) for name, values in missed.items()}
        peer, own = min(mae[name][0] for name in PEERS), min(mae["own " + name][0] for name in OWN)
        of_all, of_usual = mae["anydate"]
        told = of_all / peer, of_all / own, of_usual / min(mae[name][1] for name in PEERS)
        for name, value in zip(
            ("to the best peer", "to the best own", "to the best peer, usual dates"), told, strict=True
        ):
            ratios.setdefault(name, []).append(value)
        row = (peer, own, of_all), told
        cells = [f"{v:.4f}" for v in row[0]] + [f"{v:.2f}" for v in row[1]] + [f"{held:.0%}"]
        print(f"| {record[0]} | {len(usual)} | " + " | ".join(cells) + " |", flush=True)
    for name, values in ratios.items():
        print(
            f"{len(values)} places, {name}: {geometric_mean(values):.3f}, {np.mean(np.array(values) < 1):.0%} below 1"
        )


if __name__ == "__main__":
    main()
