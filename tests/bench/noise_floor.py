"""What a perfect fill of the embedded archive's dates would score: the error of its noise-free ground against clear looks.

    python tests/bench/noise_floor.py [--every 3]

No method can be better on dates that are hidden whole, but by chance: air and noise of a date are its own.
"""

import argparse
from pathlib import Path

import numpy as np

from vsat.config import load_region
from vsat.core.masks import clear
from vsat.core.synthetic import Landscape, observe, schedule, truth
from vsat.hls import SCALE
from vsat.stages.demo import FIRE, SEED

REGION = Path(__file__).parents[2] / "regions" / "demo.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=3, help="looks to go on after each")
    given = parser.parse_args()
    region = load_region(REGION)
    (grid,), period = region.grids(), region.period
    assert period.end is not None
    land = Landscape(SEED, grid.shape, fire=FIRE)
    total, count = 0.0, 0
    for day, sensor in schedule(land, period.start, period.end)[:: given.every]:
        look = observe(land, day, sensor)
        if look is not None:
            seen_yx = clear(look.fmask_yx, look.refl_byx)
            error_yx = np.abs(look.refl_byx * SCALE - truth(land, day)).mean(axis=0)
            total += float(error_yx[seen_yx].sum())
            count += int(seen_yx.sum())
    print(f"mean absolute error of the ground itself against {count} clear values of a band: {total / count:.5f}")


if __name__ == "__main__":
    main()
