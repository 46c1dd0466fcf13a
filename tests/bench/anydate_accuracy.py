"""The any-date model beside classical methods on public cubes: mean absolute error, without the judge's calibration.

    python tests/bench/anydate_accuracy.py --shared ../shared [--checkpoint FOLDER] [--folds 1] [--pixels 200] [--blind]

Prints a line per cube and protocol: the best of linear, harmonic and Whittaker (with scene regression where the date is
partly seen), the best of the reference's plain forms of them (../shared/prototype/protocol.py), the blend, the model's base
(the blend as the date's sensor would show it, kriged where the date is partly seen), and the model; MAE is the mean over
bands. "A look repeats to" is what looks a few days apart differ by: near it, nothing more can be had of whole dates. --blind
does not tell the model which sensor looked when.
"""

import argparse
import math
import sys
import time
import warnings
from pathlib import Path

import numpy as np

from vsat.core.evidence import gather_evidence
from vsat.core.fill import look_of_day
from vsat.core.protocols import folds, hidden
from vsat.core.spatial import regress
from vsat.core.temporal import fill_temporal
from vsat.hls import SCALE
from vsat.model.checkpoint import load_checkpoint
from vsat.model.predict import Question, answer
from vsat.stages.models import SHIPPED
from vsat.stages.sources import Block, cube_source

PEERS = ("linear", "harmonic", "whittaker")


def repeat(block: Block, within_days: int = 8) -> float:
    """How far one look is from the ground it shows, from pairs of looks with little time between: what no fill can know.

    Mean absolute difference of clear pixels in pairs up to so many days apart, over the square root of two. What the ground
    itself changes in that time is in it too, so it is rather too high.
    """
    off = []
    for i, j in zip(*np.triu_indices(len(block.day_t), 1), strict=True):
        both = block.clear_tyx[i] & block.clear_tyx[j]
        if block.day_t[j] - block.day_t[i] <= within_days and both.any():
            one, other = (block.refl_tbyx[t][:, both].astype(np.int32) for t in (i, j))
            off.append(float(np.abs(one - other).mean()) * SCALE)
    return float(np.mean(off)) / math.sqrt(2)


def misses(
    block: Block, protocol: str, model: object, reference: object, *, count: int, pixels: int, blind: bool
) -> dict[str, list]:
    """Absolute errors (b, n) of each target date, by method."""
    sensor_t = None if blind else block.sensor_t
    found: dict[str, list] = {}
    for fold in folds(block.clear_tyx, block.day_t, protocol, count=count, seed=5):
        context, days = fold.context_tyx, np.unique([target.day for target in fold.targets]).astype(np.int32)
        given = hidden(block.refl_tbyx, context)
        made = {
            name: fill_temporal(given, context, block.day_t, days, method=name, exclude_days=0).refl_qbyx
            for name in (*PEERS, "blend")
        }
        wanted = np.zeros(context[0].shape, bool)
        chosen = np.random.default_rng(0).choice(wanted.size, min(pixels, wanted.size), replace=False)
        wanted.flat[chosen] = True
        slots = np.arange(given.shape[1])
        said = answer(model, given, context, Question(block.day_t, days, slots, sensor_t), wanted_yx=wanted)
        base_qbyx = gather_evidence(given, context, block.day_t, days, sensor_t=sensor_t).base_qbyx
        plain = {}
        if protocol == "dates":
            refl = np.where(context[:, None], block.refl_tbyx * SCALE, np.nan)
            day = block.day_t.astype(float)
            plain = {name: getattr(reference, name)(refl, context, day, days.astype(float)) for name in PEERS}
        for target in fold.targets:
            q, mask = int(np.searchsorted(days, target.day)), target.mask_yx & wanted & context.any(axis=0)
            if not mask.any():
                continue
            truth = block.refl_tbyx[target.look][:, mask] * SCALE
            look = look_of_day(given, context, block.day_t, target.day)
            for name, made_qbyx in made.items():
                done = (
                    made_qbyx[q] * SCALE
                    if look is None
                    else regress(made_qbyx[q], look.refl_byx, look.clear_yx).refl_byx
                )
                found.setdefault(name, []).append(np.abs(done[:, mask] - truth))
            found.setdefault("base", []).append(np.abs(base_qbyx[q][:, mask] - truth))
            found.setdefault("anydate", []).append(np.abs(said.quantile_qlbyx[q, 2][:, mask] - truth))
            for name, made_qbyx in plain.items():
                found.setdefault(f"plain {name}", []).append(np.abs(made_qbyx[q][:, mask] - truth))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--checkpoint", default=str(SHIPPED))
    parser.add_argument("--folds", type=int, default=1)
    parser.add_argument("--pixels", type=int, default=200, help="of a cube, at most")
    parser.add_argument("--blind", action="store_true")
    given = parser.parse_args()
    shared = given.shared.parent if given.shared.name == "data" else given.shared
    cubes = sorted((shared / "data" / "cubes").glob("*[!s][!1].nc"))
    if not cubes:
        print(f"no cubes in {shared / 'data' / 'cubes'}: nothing to measure")
        return
    warnings.filterwarnings("ignore", category=RuntimeWarning)
    sys.path.insert(0, str(shared / "prototype"))
    import protocol as reference

    model = load_checkpoint(given.checkpoint).model
    ratios: dict[str, list[float]] = {}
    print(
        "| cube | hidden | values | a look repeats to | best classical | best plain form | blend | base | anydate | its ratio "
        "| to the plain |"
    )
    print("|" + "---|" * 11)
    for path in cubes:
        if path.stem.endswith("_s1"):
            continue
        block = cube_source(path).blocks[0]
        again = repeat(block)
        for name in ("dates", "masks"):
            start = time.monotonic()
            found = misses(block, name, model, reference, count=given.folds, pixels=given.pixels, blind=given.blind)
            if not found:
                continue
            mae = {key: float(np.nanmean(np.concatenate(parts, axis=1))) for key, parts in found.items()}
            best = min(mae[key] for key in PEERS)
            plain = min((mae[key] for key in mae if key.startswith("plain")), default=float("nan"))
            ratios.setdefault(name, []).append(mae["anydate"] / best)
            values = sum(part.shape[1] for part in found["anydate"])
            cells = (again, best, plain, mae["blend"], mae["base"], mae["anydate"])
            print(
                f"| {path.stem} | {name} | {values} | {' | '.join(f'{cell:.4f}' for cell in cells)} | "
                f"{mae['anydate'] / best:.3f} | {mae['anydate'] / plain:.3f} |",
                flush=True,
            )
            print(f"  {path.stem} {name}: {time.monotonic() - start:.0f} s", file=sys.stderr)
    for name, values in ratios.items():
        print(f"{name}: geometric mean of the ratios {np.exp(np.mean(np.log(values))):.3f}")


if __name__ == "__main__":
    main()
