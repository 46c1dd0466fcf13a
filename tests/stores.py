"""A patch store of a few random patches, as `vsat sample` would write it."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from vsat.core.splits import SplitDesign
from vsat.io.patches import Patch, PatchLayout, finish_store, start_part, write_shard

SIZE, LOOKS = 8, 5


def write_store(
    out: Path,
    split: tuple[int, ...],
    *,
    apart_m: float = 2000.0,
    days: tuple[int, ...] | None = None,
    design: SplitDesign | None = None,
) -> Mapping[str, Any]:
    """A store of one part whose patches lie in a row, `apart_m` from corner to corner; their looks begin on `days`."""
    count = len(split)
    starts = np.array(days or (18000,) * count)
    rng = np.random.default_rng(1)
    refl = rng.integers(100, 5000, (count, LOOKS, 6, SIZE, SIZE)).astype(np.int16)
    day_nt = (starts[:, None] + 8 * np.arange(LOOKS)).astype(np.int32)
    layout = PatchLayout(count, LOOKS, SIZE, 2)
    columns = {
        "count": np.full(count, LOOKS), "day": day_nt, "sensor": np.zeros((count, LOOKS)),
        "scene": np.zeros((count, LOOKS)), "split": np.array(split), "stratum": np.arange(count) % 4,
        "tile": np.zeros(count), "x": 5e5 + apart_m * np.arange(count), "y": np.full(count, 5e6),
        "lon": np.zeros(count), "lat": np.zeros(count), "features": np.zeros((count, 1)),
    }  # fmt: skip
    tiles = [{"region": "tiny", "tile": "33UVP", "epsg": 32633}]
    objects = dict(start_part(out, 0, layout, columns, {"tiles": tiles, "scenes": ["a"], "features": ["season"]}))
    clear = np.zeros((LOOKS, SIZE, SIZE), np.uint8)
    for shard in range(layout.shards):
        patches = [Patch(refl[i], clear, day_nt[i], np.zeros(LOOKS, np.uint8)) for i in layout.patches_of(shard)]
        objects |= dict(write_shard(out, 0, layout, shard, patches))
    about = {
        "options": {"split": asdict(design or SplitDesign())},
        "strata": {"names": ["season"], "edges": [[1.0, 2.0, 3.0]]},
    }
    finish_store(out, [{"patches": count, "objects": objects}], about)
    return {"refl": refl, "layout": layout}
