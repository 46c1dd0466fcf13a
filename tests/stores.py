"""Patch stores as `vsat sample` would write them: of given patches, or of a few random ones."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from vsat.core.splits import SplitDesign
from vsat.io.patches import Patch, PatchLayout, finish_store, start_part, write_shard

SIZE, LOOKS = 8, 5


def write_patches(
    out: Path,
    patches: Sequence[Patch],
    split: Sequence[int],
    corners: Sequence[tuple[float, float]],
    *,
    design: SplitDesign | None = None,
    shard_patches: int = 16,
) -> PatchLayout:
    """A store of one part that holds these patches, squares of one size with at least a look each.

    Args:
        out: its folder.
        patches: in the order of the store.
        split: of each, an index into `splits.SPLITS`.
        corners: of each, upper left, metres.
        design: of the splits, for the manifest.
        shard_patches: patches in a shard.
    """
    count, looks = len(patches), [len(patch.day_t) for patch in patches]
    layout = PatchLayout(count, max(looks), patches[0].fmask_tyx.shape[-1], shard_patches)
    day_nt, sensor_nt = np.full((count, layout.looks), -1), np.full((count, layout.looks), 255)
    for n, patch in enumerate(patches):
        day_nt[n, : looks[n]], sensor_nt[n, : looks[n]] = patch.day_t, patch.sensor_t
    x, y = np.array(corners, np.float64).T
    columns = {
        "count": np.array(looks), "day": day_nt, "sensor": sensor_nt, "scene": np.where(day_nt < 0, -1, 0),
        "split": np.array(split), "stratum": np.arange(count) % 4, "tile": np.zeros(count), "x": x, "y": y,
        "lon": np.zeros(count), "lat": np.zeros(count), "features": np.zeros((count, 1)),
    }  # fmt: skip
    tiles = [{"region": "tiny", "tile": "33UVP", "epsg": 32633}]
    objects = dict(start_part(out, 0, layout, columns, {"tiles": tiles, "scenes": ["a"], "features": ["season"]}))
    for shard in range(layout.shards):
        objects |= dict(write_shard(out, 0, layout, shard, [patches[n] for n in layout.patches_of(shard)]))
    about = {
        "options": {"split": asdict(design or SplitDesign())},
        "strata": {"names": ["season"], "edges": [[1.0, 2.0, 3.0]]},
    }
    finish_store(out, [{"patches": count, "objects": objects}], about)
    return layout


def write_store(
    out: Path,
    split: tuple[int, ...],
    *,
    apart_m: float = 2000.0,
    days: tuple[int, ...] | None = None,
    design: SplitDesign | None = None,
) -> Mapping[str, Any]:
    """A store of random patches that lie in a row, `apart_m` from corner to corner; their looks begin on `days`."""
    count = len(split)
    refl = np.random.default_rng(1).integers(100, 5000, (count, LOOKS, 6, SIZE, SIZE)).astype(np.int16)
    clear, sensor_t = np.zeros((LOOKS, SIZE, SIZE), np.uint8), np.zeros(LOOKS, np.uint8)
    patches = [
        Patch(refl[n], clear, (start + 8 * np.arange(LOOKS)).astype(np.int32), sensor_t)
        for n, start in enumerate(days or (18000,) * count)
    ]
    corners = [(5e5 + apart_m * n, 5e6) for n in range(count)]
    return {"refl": refl, "layout": write_patches(out, patches, split, corners, design=design, shard_patches=2)}
