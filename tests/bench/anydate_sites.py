"""The any-date model at flux towers around the world, each a short record of mean reflectance that nothing was trained on.

    python tests/bench/anydate_sites.py [--shared ../shared] [--checkpoint FOLDER]

Every clear date of a site is withheld once, in six folds, with what lies within a day of it. Per site the MAE over bands, as a
ratio to the best of linear, harmonic and Whittaker at that site in hindsight; then the mean over sites of each method.
"""

import argparse
import csv
from collections import defaultdict
from datetime import date
from pathlib import Path

import numpy as np

from vsat.core.temporal import fill_temporal
from vsat.hls import FILL, SCALE, SENSORS
from vsat.model.checkpoint import load_checkpoint
from vsat.model.predict import Question, answer
from vsat.stages.models import SHIPPED

PEERS = ("linear", "harmonic", "whittaker")
FOLDS, LEAST_DATES, LEAST_CONTEXT = 6, 12, 4
EPOCH = date(1970, 1, 1)

Record = tuple[np.ndarray, np.ndarray, np.ndarray]


def records(path: Path) -> dict[str, Record]:
    """Days, int16 reflectance (t, 6) and sensors of each site with enough dates."""
    found: dict[str, dict[int, tuple[list[float], int]]] = defaultdict(dict)
    with path.open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            values = [float(row[f"b{band}"]) for band in range(2, 8)]
            if min(values) > 0:
                day = (date.fromisoformat(row["date"][:10]) - EPOCH).days
                found[row["SITE_ID"]][day] = values, SENSORS.index(row["Satellite"])
    return {
        site: (
            np.array(days, np.int32),
            np.rint(np.array([seen[day][0] for day in days]) / SCALE).astype(np.int16),
            np.array([seen[day][1] for day in days], np.uint8),
        )
        for site, seen in sorted(found.items())
        if len(days := sorted(seen)) >= LEAST_DATES
    }


def misses(record: Record, checkpoint: str) -> tuple[dict[str, float], list[bool]]:
    """MAE of each method on withheld dates, and which of them the model's 90 % intervals held."""
    day_t, refl_tb, sensor_t = record
    model = load_checkpoint(checkpoint, device="cpu").model
    found: dict[str, list[np.ndarray]] = defaultdict(list)
    held: list[bool] = []
    fold_t = np.random.default_rng(0).permutation(len(day_t)) % FOLDS
    for fold in range(FOLDS):
        target = np.flatnonzero(fold_t == fold)
        days = day_t[target]
        clear = (np.abs(day_t[:, None] - days).min(axis=1) > 1)[:, None, None]
        if clear.sum() < LEAST_CONTEXT:
            continue
        given = np.where(clear[:, None], refl_tb[:, :, None, None], np.int16(FILL))
        truth = refl_tb[target] * SCALE
        for name in (*PEERS, "blend"):
            made = fill_temporal(given, clear, day_t, days, method=name, exclude_days=0).refl_qbyx[:, :, 0, 0]
            found[name].append(np.abs(made * SCALE - truth))
        said = answer(model, given, clear, Question(day_t, days, np.arange(6), sensor_t)).quantile_qlbyx[..., 0, 0]
        found["anydate"].append(np.abs(said[:, 2] - truth))
        held += ((truth >= said[:, 0]) & (truth <= said[:, 4])).ravel().tolist()
    return {name: float(np.concatenate(parts).mean()) for name, parts in found.items()}, held


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--checkpoint", default=str(SHIPPED))
    given = parser.parse_args()
    shared = given.shared.parent if given.shared.name == "data" else given.shared
    path = shared / "data" / "labels" / "hls-carbon-flux-37-sites.csv"
    if not path.is_file():
        print(f"no {path}: nothing to measure")
        return
    mae: dict[str, list[float]] = defaultdict(list)
    held: list[bool] = []
    for record in records(path).values():
        of_site, held_here = misses(record, given.checkpoint)
        held += held_here
        for name, value in (of_site | {"best in hindsight": min(of_site[name] for name in PEERS)}).items():
            mae[name].append(value)
    ratio = np.array(mae["anydate"]) / np.array(mae["best in hindsight"])
    means = np.mean(mae["anydate"]) / min(np.mean(mae[name]) for name in PEERS)
    print(f"{len(ratio)} sites, {len(held)} values; 90 % intervals, not calibrated, hold {np.mean(held):.1%}")
    print("| method | mean MAE over sites |")
    print("|---|---|")
    for name, values in mae.items():
        print(f"| {name} | {np.mean(values):.4f} |")
    print(
        f"anydate to the best of a site in hindsight: {np.exp(np.log(ratio).mean()):.3f} (geometric mean), "
        f"{np.mean(ratio < 1):.0%} of the sites below 1; to the best method over all sites: {means:.3f}"
    )


if __name__ == "__main__":
    main()
