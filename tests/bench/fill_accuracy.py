"""Accuracy and interval coverage of every fill method on real cubes with looks withheld, beside the reference peers.

    python tests/bench/fill_accuracy.py [--shared ../shared] [--folds 2] [--cubes flanders-2018 ...] [--json FILE]

Folds and peers are those of `prototype/protocol.py`. In a fold the targets are hidden from everything: temporal
estimate, scene regression and calibration see the context mask only. Every number is over the same target values. Last,
the any-date model's MAE as a ratio to the best peer of each cube: the scale on which the reference model was measured.
"""

import argparse
import json
import sys
import time
import warnings
from pathlib import Path
from statistics import geometric_mean
from types import ModuleType

import numpy as np

from vsat.core.fill import fill
from vsat.core.metrics import score
from vsat.hls import FILL, sensors_of
from vsat.methods import BEST_CLASSICAL, CLASSICAL
from vsat.model.checkpoint import load_checkpoint
from vsat.stages.models import SHIPPED

ROOT = Path(__file__).parents[2]
CUBES = ("flanders-2018", "hls-pixel-logging", "landsat-row-colorado")


def main() -> None:
    """Print one markdown table over all cubes and families."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--cubes", nargs="*", default=CUBES)
    parser.add_argument("--methods", nargs="*", default=(*CLASSICAL, "anydate"))
    parser.add_argument("--checkpoint", default=str(SHIPPED), help="of anydate")
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--families", nargs="*", default=("date", "partial"))
    parser.add_argument(
        "--thin", action="store_true", help="whole dates on some 260 pixels, as the reference model is measured"
    )
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    protocol = load_protocol(options.shared)
    heads = (
        "cube",
        "family",
        "n",
        "method",
        "MAE",
        "median",
        "RMSE",
        "bias",
        "90 % covers",
        "50 % covers",
        "mean width",
    )
    print("| " + " | ".join([*heads, "CPU s"]) + " |\n|" + "---|" * (len(heads) + 1))
    rows = []
    for cube in options.cubes:
        for family in options.families:
            for one in run(protocol, options.shared, cube, family, options):
                rows.append(one)
                print("| " + " | ".join(str(v) for v in one.values()) + " |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    for family in options.families:
        if ratios := to_the_best_peer([one for one in rows if one["family"] == family]):
            told = ", ".join(f"{cube} {ratio:.3f}" for cube, ratio in ratios.items())
            print(
                f"{family}: anydate to the best peer: {told}; geometric mean {geometric_mean([*ratios.values()]):.3f}"
            )


def to_the_best_peer(rows: list[dict[str, object]]) -> dict[str, float]:
    """By cube, the MAE of anydate over that of the reference's best method in hindsight."""
    found = {}
    for cube in dict.fromkeys(str(one["cube"]) for one in rows):
        mae = {str(one["method"]): float(str(one["mae"])) for one in rows if one["cube"] == cube}
        peers = [value for name, value in mae.items() if name.startswith("peer ")]
        if peers and "anydate" in mae:
            found[cube] = mae["anydate"] / min(peers)
    return found


def load_protocol(shared: Path) -> ModuleType:
    """The reference protocol as a module."""
    sys.path.insert(0, str(shared / "prototype"))
    import protocol

    return protocol


def run(
    protocol: ModuleType, shared: Path, cube: str, family: str, options: argparse.Namespace
) -> list[dict[str, object]]:
    """One row per peer and method."""
    dataset, refl, valid, time_t = protocol.load(shared / "data" / "cubes" / f"{cube}.nc")
    known = {"bands": [str(band) for band in dataset.band.values], "sensor_t": sensors_of(dataset.sensor.values)}
    if options.thin and family == "date" and valid[0].size > 300:
        step = int(np.sqrt(valid[0].size / 260)) + 1
        refl, valid = refl[..., ::step, ::step], valid[:, ::step, ::step]
    day_t = np.floor(time_t).astype(np.int32)
    refl_i = np.where(np.isfinite(refl), np.rint(refl * 1e4), FILL).astype(np.int16)
    kept: dict[str, list[tuple[np.ndarray, ...]]] = {}
    spent: dict[str, float] = {}
    # Date folds have no clear pixel on the day, so a scene regression changes nothing there; the default shows that.
    methods = [m for m in options.methods if family == "partial" or not m.endswith("+scene") or m == BEST_CLASSICAL]
    for context, targets in protocol.folds(valid, time_t, family, n=options.folds):
        when = sorted(targets)
        jobs = {} if options.no_peers else peers(protocol, refl, context, time_t, when, family)
        for method in methods:
            begin = time.process_time()
            if method == "anydate":
                done = load_checkpoint(options.checkpoint).fill(refl_i, context, day_t, day_t[when], **known)
            else:
                done = fill(refl_i, context, day_t, day_t[when], method=method)
            spent[method] = spent.get(method, 0.0) + time.process_time() - begin
            jobs[method] = (done.refl_qbyx, done.p05_qbyx, done.p95_qbyx, done.p25_qbyx, done.p75_qbyx)
        for name, estimate in jobs.items():
            for n, i in enumerate(when):
                mask = targets[i] & np.isfinite(refl[i]).all(axis=0)
                kept.setdefault(name, []).append((refl[i][:, mask], *(e[n][:, mask] for e in estimate)))
    return [
        {"cube": cube, "family": family, **row(name, parts), "cpu_s": round(spent[name], 1) if name in spent else "-"}
        for name, parts in kept.items()
    ]


def row(name: str, parts: list[tuple[np.ndarray, ...]]) -> dict[str, object]:
    """Means over bands of the scores on all targets of all folds."""
    truth, estimate, *bounds = (np.concatenate(p, axis=1) for p in zip(*parts, strict=True))
    wide = score(estimate, truth, *bounds[:2])
    half = score(estimate, truth, *bounds[2:])
    values = {k: round(float(getattr(wide, k).mean()), 4) for k in ("mae", "median", "rmse", "bias")}
    shares = {"cover90": wide.coverage, "cover50": half.coverage, "width": wide.width}
    intervals = {k: round(float(v.mean()), 4 if k == "width" else 3) if bounds else "-" for k, v in shares.items()}
    return {"n": truth.shape[1], "method": name, **values, **intervals}


def peers(
    protocol: ModuleType,
    refl: np.ndarray,
    context: np.ndarray,
    time_t: np.ndarray,
    when: list[int],
    family: str,
) -> dict[str, tuple[np.ndarray, ...]]:
    """The reference methods of protocol.py on the same fold."""
    alone = context.copy()
    alone[when] = False
    found = {
        "peer linear": protocol.linear(refl, alone, time_t, time_t[when]),
        "peer harmonic": protocol.harmonic(refl, alone, time_t, time_t[when], 2),
        "peer whittaker": protocol.whittaker(refl, alone, time_t, time_t[when]),
    }
    if family == "partial":
        for name in ("linear", "harmonic"):
            base = found["peer linear"] if name == "linear" else protocol.harmonic(refl, alone, time_t, time_t[when])
            scene = [protocol.scene_regression(base[n], refl, context, i) for n, i in enumerate(when)]
            found[f"peer {name}+scene"] = np.stack(scene)
    return {name: (value,) for name, value in found.items()}


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    main()
