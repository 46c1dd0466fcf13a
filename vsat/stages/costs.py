"""What a method takes: CPU seconds, memory, and what is left to see of the edges of blocks that it filled one by one.

Axes: t looks, q days asked, b bands, y, x.
"""

import resource
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vsat.core.fill import Filled
from vsat.core.metrics import seam_index
from vsat.core.protocols import Fold, hidden
from vsat.stages.sources import Block
from vsat.stages.verdict import Cost

LEAST_SIDE_PX = 16  # quarters of fewer than 8 pixels a side would tell nothing about joints

Fill = Callable[..., Filled]


def measure(source: str, block: Block, fold: Fold, fills: Mapping[str, Fill], seed: int) -> tuple[Cost, ...]:
    """Every method fills one fold by itself, whole and in quarters. Nothing else may run in this process meanwhile."""
    given_tbyx = hidden(block.refl_tbyx, fold.context_tyx)
    query_q = np.unique([target.day for target in fold.targets]).astype(np.int32)
    costs = []
    for name, fill in fills.items():
        _forget_peak()
        begin = time.process_time()
        whole = fill(given_tbyx, fold.context_tyx, block.day_t, query_q, seed=seed)
        spent, peak = time.process_time() - begin, _peak_mb()
        seam = _seam(fill, given_tbyx, fold, block.day_t, query_q, seed, whole.refl_qbyx)
        looks, height, width = fold.context_tyx.shape
        costs.append(Cost(source, name, round(spent, 3), peak, seam, looks, query_q.size, height * width))
    return tuple(costs)


def _seam(
    fill: Fill,
    given_tbyx: NDArray[np.int16],
    fold: Fold,
    day_t: NDArray[np.int32],
    query_q: NDArray[np.int32],
    seed: int,
    whole_qbyx: NDArray[np.float32],
) -> float | None:
    """The seam index of the estimates joined from quarters over that of those made whole, mean over the days asked.

    What lies on the ground along the joints steps in both. None where the quarters are too small.
    """
    height, width = fold.context_tyx.shape[1:]
    if min(height, width) < LEAST_SIDE_PX:
        return None
    row, col = height // 2, width // 2
    halves = [slice(0, row), slice(row, height)], [slice(0, col), slice(col, width)]
    joined_qbyx = np.full((query_q.size, *given_tbyx.shape[1:]), np.nan, np.float32)
    for rows in halves[0]:
        for cols in halves[1]:
            part = fill(given_tbyx[..., rows, cols], fold.context_tyx[:, rows, cols], day_t, query_q, seed=seed)
            joined_qbyx[..., rows, cols] = part.refl_qbyx
    joined, alone = (np.array([seam_index(one, [row], [col]) for one in made]) for made in (joined_qbyx, whole_qbyx))
    with np.errstate(invalid="ignore", divide="ignore"):
        found = joined / alone
    known = found[np.isfinite(found)]
    return float(known.mean()) if known.size else None


def _forget_peak() -> None:
    """Linux forgets the highest resident size there has been: see proc(5), clear_refs 5. Where it may not, it stays."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak_mb() -> float | None:
    """The highest resident size since `_forget_peak`, in MB."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        found = next(line for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
    return round(int(found.split()[1]) / 1024, 1)
