"""What it is worth to know the sensor: whole dates of public cubes filled by the blend, with looks brought to their mean first.

    python tests/bench/sensor_offsets.py [CUBE.nc ...] [--shared ../shared]

Every date of which most is clear is withheld once, in twelve folds, with what lies within a day of it. Per cube the MAE over
bands and its ratio to that of the blend as it is; then what the sensors differ by there. "By orbit" takes looks of one sensor for
those of several, told apart by the day of its repeat cycle: a check that nothing is gained by cutting finer. Cubes of one sensor
are left out.
"""

import argparse
from collections import defaultdict
from pathlib import Path
from unittest.mock import patch

import numpy as np

from vsat.core import sensors
from vsat.core.sensors import measure_offsets
from vsat.core.temporal import fill_temporal
from vsat.hls import BANDS, FILL, SCALE, SENSORS
from vsat.stages.sources import Block, cube_source

FOLDS, LEAST_CLEAR = 12, 0.6
CYCLE_DAYS = {0: 16, 1: 5}  # of Landsat, and of the two Sentinel-2 together
NEVER = 1e9
DEFAULTS = {"REACH_DAYS": sensors.REACH_DAYS}
WAYS: dict[str, dict[str, float]] = {  # constants of core.sensors
    "an offset of the place": {"FEW_LOOKS": NEVER, "LEAST_DATES": NEVER},
    "and of the pixel": {"LEAST_DATES": NEVER},
    "growing with reflectance, too": {},
    "by orbit": {},
}


def misses(block: Block) -> dict[str, list[np.ndarray]]:
    """Absolute errors of the withheld dates, by way."""
    day_t, clear = block.day_t, block.clear_tyx
    orbit_t = np.array(
        [20 * kind + day % CYCLE_DAYS.get(kind, 1) for kind, day in zip(block.sensor_t, day_t, strict=True)]
    )
    target_t = np.flatnonzero(clear.mean(axis=(1, 2)) > LEAST_CLEAR)
    fold_t = np.random.default_rng(0).permutation(target_t.size) % FOLDS
    found: dict[str, list[np.ndarray]] = defaultdict(list)
    for fold in range(FOLDS):
        hidden = target_t[fold_t == fold]
        context = clear & (np.abs(day_t[:, None] - day_t[hidden]).min(axis=1) > 1)[:, None, None]
        days, at = np.unique(day_t[hidden], return_inverse=True)
        truth = block.refl_tbyx[hidden] * SCALE
        for way in ("as they are", *WAYS):
            given, kind_t = block.refl_tbyx, orbit_t.astype(np.uint8) if way == "by orbit" else block.sensor_t
            with patch.multiple(sensors, **DEFAULTS | WAYS.get(way, {})):
                offsets = None if way == "as they are" else measure_offsets(given, context, day_t, kind_t)
            level = given if offsets is None else offsets.taken_from(given, kind_t)
            level = np.where(context[:, None], level, np.int16(FILL))
            made = fill_temporal(level, context, day_t, days, method="blend", exclude_days=0).refl_qbyx[
                at
            ] * np.float32(SCALE)
            if offsets is not None:
                made = made + offsets.of(kind_t[hidden], made)
            off = np.abs(made - truth).transpose(0, 2, 3, 1)
            found[way].append(off[clear[hidden]].ravel())
    return found


def differences(block: Block) -> str:
    """What one sensor shows above the other, by band."""
    offsets = measure_offsets(block.refl_tbyx, block.clear_tyx, block.day_t, block.sensor_t)
    place_kb = offsets.offset_kbyx.mean(axis=(2, 3))
    told = (f"{band} {value:+.4f} ({gain:+.0%})" for band, value, gain in zip(
        block.bands, place_kb[1] - place_kb[0], offsets.gain_kb[1] - offsets.gain_kb[0], strict=True
    ))  # fmt: skip
    return ", ".join(told)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", type=Path, nargs="*")
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    given = parser.parse_args()
    paths = given.paths or sorted((given.shared / "data" / "cubes").glob("*.nc"))
    blocks = [cube_source(path).blocks[0] for path in paths if not path.stem.endswith("_s1")]
    blocks = [block for block in blocks if set(block.sensor_t) == {0, 1} and block.bands == BANDS]
    if not blocks:
        print(f"no cubes of two sensors in {given.shared / 'data' / 'cubes'}: nothing to measure")
        return
    print(f"| cube | looks less | MAE | ratio |\n{'|---' * 4}|")
    for block in blocks:
        mae = {way: float(np.concatenate(parts).mean()) for way, parts in misses(block).items()}
        for way, value in mae.items():
            print(f"| {block.source} | {way} | {value:.5f} | {value / mae['as they are']:.3f} |", flush=True)
    for block in blocks:
        print(f"{block.source}, {SENSORS[1]} above {SENSORS[0]} (growth with reflectance): {differences(block)}")


if __name__ == "__main__":
    main()
