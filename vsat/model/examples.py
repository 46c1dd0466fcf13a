"""From a patch with gaps to what the model learns from: evidence, tokens of some of its pixels, truth.

Axes: as in `tokens`; e examples of a batch, whose sequences are laid end to end.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from vsat.core.evidence import gather_evidence
from vsat.core.gaps import GapDesign
from vsat.core.sensors import Kinds
from vsat.hls import FILL, NO_SENSOR, SCALE
from vsat.model.dataset import PatchDataset, Sample
from vsat.model.predict import cells_of
from vsat.model.tokens import BANDS, OF_LOOKS, OF_QUERIES, gather_tokens, only_asked

CELLS = 8  # squares of a patch in one example: they share a sky, so other places teach more than more of them
CROP_PX = 24
QUERIES = 12  # dates of a patch that an epoch asks for
SKIES = 4  # under which a synthetic date that is hidden whole is scored
LEAST_BANDS = 1
DROP_BANDS = 0.15  # share of examples that lack some bands
DROP_SENSOR, DROP_ASKED = 0.2, 0.1  # of examples whose sensors are not told, or only not those of the dates asked for
PLAIN_WEIGHT = 0.75  # 1 weighs errors as reflectance, 0 relative to what is typical of the pixel and band

# What training hides: more at once than a fill ever lacks, for a context is what costs.
DESIGN = GapDesign(masks=0.4, dates=0.25, blocks=0.1, thinning=0.2, ends=0.05, most_dates=0.5, share=(0.1, 0.85))
WHOLE = replace(DESIGN, masks=0.0, dates=0.45, blocks=0.15, thinning=0.25, ends=0.15)  # nothing of the dates asked for

Example = dict[str, Tensor]


class Examples(Dataset[Example]):
    """Examples of a PatchDataset's samples, decided by its seed, the epoch and the index.

    Args:
        patches: with gaps.
        patch_px: side of a token's square.
        cells, queries: how many at most.
        crop_px: larger patches are cut to a window of this side, another one in every epoch.
        drops: False keeps all bands and sensors, for held-out sets.
    """

    def __init__(
        self,
        patches: PatchDataset,
        *,
        patch_px: int = 1,
        cells: int = CELLS,
        queries: int = QUERIES,
        crop_px: int = CROP_PX,
        drops: bool = True,
    ) -> None:
        self.patches, self.patch_px, self.cells, self.queries, self.drops = patches, patch_px, cells, queries, drops
        self.crop_px = crop_px

    def __len__(self) -> int:
        return len(self.patches)

    def set_epoch(self, epoch: int) -> None:
        """Other gaps and pixels from now on."""
        self.patches.set_epoch(epoch)

    @property
    def unreadable(self) -> dict[str, str]:
        """Patches that could not be read, and why."""
        return self.patches.unreadable

    def name(self, item: int) -> str:
        """The patch that an example is made of, for messages."""
        return self.patches.source.name(int(self[item]["index"]))

    def __getitem__(self, item: int) -> Example:
        """One example, see `collate`; of a patch without a gap the next one that has some."""
        for step in range(len(self)):
            found = self._one((item + step) % len(self))
            if found is not None:
                return found
        raise AssertionError("no patch of this set has two clear dates")

    def _one(self, item: int) -> Example | None:
        rng = np.random.default_rng([self.patches.seed, self.patches.epoch, item, 2])
        sample = self._cropped(self.patches[item], rng)
        refl, truth = sample["refl"].numpy(), sample["truth"].numpy()
        context, target, day = sample["context"].numpy(), sample["target"].numpy(), sample["day"].numpy()
        looks = np.flatnonzero(target.any(axis=(1, 2)))
        if not looks.size or not context.any():
            return None
        looks = looks[np.unique(day[looks], return_index=True)[1]]
        looks = np.sort(rng.choice(looks, min(self.queries, looks.size), replace=False))
        slot_b = self._bands(rng)
        sensor_t, sensor_q = self._sensors(rng, sample["sensor"].numpy(), looks.size)
        evidence = gather_evidence(refl[:, slot_b], context, day, day[looks], sensor_t=sensor_t, sensor_q=sensor_q)
        cells = _cells(rng, target[looks], context, self.patch_px, self.cells)
        if not len(cells):
            return None
        tokens = gather_tokens(evidence, cells, slot_b)
        flat, inside = np.maximum(cells, 0), cells >= 0
        asked = target[looks].reshape(len(looks), -1)[:, flat].transpose(1, 0, 2) & inside[:, None]
        true = truth[looks].reshape(len(looks), BANDS, -1)[..., flat].transpose(2, 0, 3, 1)
        asked &= (evidence.count_yx.ravel()[flat] > 0)[:, None]
        tokens["target"] = np.asarray(asked & (true != FILL).all(axis=-1))
        found = np.where(true == FILL, 0, true * np.float32(SCALE)).astype(np.float32)[..., None]
        if "air" in sample:
            found = _under_other_skies(rng, sample, looks, flat, found)
        tokens["truth"] = found
        tokens["weight"] = _weight(tokens["scale"], tokens["target"], tokens["has"])
        tokens = only_asked(tokens, np.asarray(tokens["target"].any(axis=-1)))
        made = {name: torch.from_numpy(np.require(array, requirements=["C", "W"])) for name, array in tokens.items()}
        return made | {"index": sample["index"]}

    def _cropped(self, sample: Sample, rng: np.random.Generator) -> Sample:
        size = sample["refl"].shape[-1]
        if size <= self.crop_px:
            return sample
        y, x = rng.integers(0, size - self.crop_px + 1, 2).tolist()
        window = np.s_[..., y : y + self.crop_px, x : x + self.crop_px]
        return {
            name: array[window] if isinstance(array, Tensor) and array.ndim >= 3 else array
            for name, array in sample.items()
        }

    def _sensors(self, rng: np.random.Generator, sensor_t: Kinds, asked: int) -> tuple[Kinds | None, Kinds | None]:
        """What `gather_evidence` is told of the sensors, of the looks and of the dates asked for."""
        drawn = rng.random() if self.drops else 1.0
        if drawn < DROP_SENSOR:
            return None, None
        return sensor_t, np.full(asked, NO_SENSOR, np.uint8) if drawn < DROP_SENSOR + DROP_ASKED else None

    def _bands(self, rng: np.random.Generator) -> np.ndarray:
        if not self.drops or rng.random() >= DROP_BANDS:
            return np.arange(BANDS)
        return np.sort(rng.choice(BANDS, rng.integers(LEAST_BANDS, BANDS), replace=False))


class Mixed(Dataset[Example]):
    """Several sets of examples in turn: sample n is of set n modulo their number."""

    def __init__(self, parts: Sequence["Examples | Mixed"]) -> None:
        self.parts = parts

    def __len__(self) -> int:
        return max(map(len, self.parts)) * len(self.parts)

    def __getitem__(self, item: int) -> Example:
        """One example."""
        part = self.parts[item % len(self.parts)]
        return part[item // len(self.parts) % len(part)]

    @property
    def unreadable(self) -> dict[str, str]:
        """Patches that could not be read, and why."""
        return {name: why for part in self.parts for name, why in part.unreadable.items()}

    def name(self, item: int) -> str:
        """The patch that an example is made of, for messages."""
        part = self.parts[item % len(self.parts)]
        return part.name(item // len(self.parts) % len(part))

    def set_epoch(self, epoch: int) -> None:
        """Other gaps from now on."""
        for part in self.parts:
            part.set_epoch(epoch)


def _cells(
    rng: np.random.Generator, target_qyx: np.ndarray, context_tyx: np.ndarray, side: int, count: int
) -> np.ndarray:
    """Flat pixel indices (n, p) of squares in which something is asked for and something was seen."""
    height, width = target_qyx.shape[1:]
    cells = cells_of(height, width, side)
    asked = (target_qyx.sum(axis=0) * context_tyx.any(axis=0)).ravel()
    # A context is what costs: rather pixels of which much is asked.
    worth = (asked[np.maximum(cells, 0)] * (cells >= 0)).sum(axis=1).astype(np.float64) ** 2
    useful = min(count, int(np.count_nonzero(worth)))
    return cells[np.sort(rng.choice(len(cells), useful, replace=False, p=worth / worth.sum()))] if useful else cells[:0]


def _under_other_skies(
    rng: np.random.Generator, sample: Sample, looks: np.ndarray, flat_np: np.ndarray, true_nqpb1: np.ndarray
) -> np.ndarray:
    """What was seen, and what could have been: (n, q, p, 6, SKIES).

    Nothing of a date that is hidden whole tells which sky it had, so its loss is the mean over several: the same
    gradient on average, with less noise. Dates that are partly seen keep what they showed.
    """
    again = true_nqpb1.repeat(SKIES, axis=-1)
    whole = np.flatnonzero(~sample["context"].numpy()[looks].any(axis=(1, 2)))
    if whole.size:
        chosen = looks[whole]
        ground_qbm = sample["ground"].numpy()[chosen].reshape(whole.size, BANDS, -1)[..., flat_np.ravel()]
        shown = sample["air"].again(rng, ground_qbm, sample["sensor"].numpy()[chosen], SKIES - 1)
        shown = np.clip(shown, -0.05, 1.6).reshape(SKIES - 1, whole.size, BANDS, *flat_np.shape)
        again[:, whole, ..., 1:] = shown.transpose(3, 1, 4, 2, 0)
    return again


def _weight(scale: np.ndarray, target: np.ndarray, has: np.ndarray) -> np.ndarray:
    """Between error as reflectance and error relative to what is typical; about 1 in every example."""
    scored = target[..., None] & has[:, None, None]
    if not scored.any():
        return np.zeros_like(scale)
    weight = (scale / scale[scored].mean()) ** PLAIN_WEIGHT
    return np.asarray(np.minimum(weight / weight[scored].mean(), 10.0), np.float32)


def collate(examples: list[Example]) -> dict[str, Any]:
    """A batch: sequences of all examples along n, the longest last, padded along t and q with nothing clear or asked.

    `index` (e,) keeps which patches it is made of.
    """
    looks = max(one["clear"].shape[1] for one in examples)
    queries = max(one["base"].shape[1] for one in examples)
    batch: dict[str, Any] = {"index": torch.stack([one["index"] for one in examples])}
    skies = max(one["truth"].shape[-1] for one in examples)
    for name in examples[0]:
        parts = [one[name] for one in examples]
        if name == "truth":  # one that was seen once counts as often as others
            parts = [one.expand(*one.shape[:-1], skies) if one.shape[-1] == 1 else one for one in parts]
        if name in OF_LOOKS:
            parts = [_padded(one, looks, 0.0) for one in parts]
        if name in OF_QUERIES:
            parts = [_padded(one, queries, 1.0 if name == "scale" else 0.0) for one in parts]
        if name != "index":
            batch[name] = torch.cat(parts)
    order = (batch["clear"].any(-1).sum(1) + batch["target"].any(-1).sum(1)).argsort(stable=True)
    return {name: array if name == "index" else array[order] for name, array in batch.items()}


def _padded(array: Tensor, length: int, fill: float) -> Tensor:
    if array.shape[1] == length:
        return array
    out = array.new_full((array.shape[0], length, *array.shape[2:]), fill)
    out[:, : array.shape[1]] = array
    return out
