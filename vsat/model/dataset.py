"""Training patches with artificial gaps, as torch samples: shuffled, split over processes, resumed where they were.

A sample is decided by seed, epoch and index alone, whichever worker or thread makes it. What the model is given (`refl`)
holds the context and nothing else; what it is asked for (`truth`) is another tensor.
Axes: n samples, t looks, b bands, y, x.
"""

import logging
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from vsat.core.gaps import KINDS, GapDesign, draw_gaps
from vsat.core.masks import clear
from vsat.errors import StoreError
from vsat.hls import FILL, NO_SENSOR

log = logging.getLogger(__name__)

BANK_PATCHES = 32  # whose clouds are laid over others
BANK_CLEAR = (0.15, 0.85)  # clear share of a look that has a cloud worth laying
DAYS = range(
    73_050
)  # since 1970: of a look; what claims another one is no patch, and would ask for a calendar without end
MOST_UNREADABLE = 0.05  # of a store; with more of it gone, what is left is not what was drawn

Sample = dict[str, Any]  # tensors, but for `air`


class PatchLike(Protocol):
    """One patch: int16 (t, 6, y, x) x 1e-4 with FILL, Fmask uint8 (t, y, x), days since 1970-01-01, index of sensors."""

    refl_tbyx: NDArray[np.int16]
    fmask_tyx: NDArray[np.uint8]
    day_t: NDArray[np.int32]
    sensor_t: NDArray[np.uint8]


class PatchSource(Protocol):
    """Where patches come from: `io.patch_reader.PatchStore`, or anything like it."""

    def __len__(self) -> int: ...

    def read(self, index: int) -> Any:
        """A patch, like PatchLike."""
        ...

    def name(self, index: int) -> str:
        """Which one it is, for messages."""
        ...


class PatchDataset(Dataset[Sample]):
    """Samples of some patches of a source, each with gaps of its own in every epoch.

    Args:
        source: raises StoreError for a patch that cannot be read.
        indices: which patches, such as those of the train split.
        seed: of gaps and symmetries.
        design: of the gaps.
        adjacent, snow: what counts as clear, see `core.masks.clear`.
        flips: True turns and mirrors each patch in one of eight ways.

    `unreadable` names the patches that could not be read, with the reason: each is told once, counted, and replaced by
    another one, the same in every run; a sample of it is never made.
    """

    def __init__(
        self,
        source: PatchSource,
        indices: Sequence[int] | NDArray[np.integer],
        *,
        seed: int = 0,
        design: GapDesign | None = None,
        adjacent: bool = False,
        snow: bool = False,
        flips: bool = True,
    ) -> None:
        self.source, self.indices = source, np.asarray(indices, np.int64)
        self.seed, self.design, self.flips = seed, design or GapDesign(), flips
        self.adjacent, self.snow = adjacent, snow
        self.epoch = 0
        self.unreadable: dict[str, str] = {}
        self._bank: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def set_epoch(self, epoch: int) -> None:
        """Other gaps from now on."""
        self.epoch = epoch

    def __getitem__(self, item: int) -> Sample:
        """One sample.

        Returns:
            `refl` int16 (t, b, y, x), the context's values and FILL elsewhere; `truth` int16, all clear values; `context`
            and `target` bool (t, y, x); `day` int32 (t); `sensor` uint8 (t); `kind`, index into gaps.KINDS or -1;
            `index`, of the patch that was read. Of a synthetic patch also `ground` float32 (t, b, y, x) and `air`, see
            `prior.PriorPatch`.

        Raises:
            StoreError: too much of the source cannot be read.
        """
        rng = np.random.default_rng([self.seed, self.epoch, int(item)])
        index, patch = self._readable(int(item))
        if self._bank is None:
            self._bank = self._clouds()
        seen = clear(patch.fmask_tyx, patch.refl_tbyx, adjacent=self.adjacent, snow=self.snow)
        gaps = draw_gaps(rng, seen, patch.day_t, design=self.design, clouds_myx=self._bank)
        turn = int(rng.integers(8)) if self.flips else 0
        truth = np.where(seen[:, None], patch.refl_tbyx, np.int16(FILL))
        given = np.where(gaps.context_tyx[:, None], patch.refl_tbyx, np.int16(FILL))
        sample = {
            "refl": _turned(given, turn),
            "truth": _turned(truth, turn),
            "context": _turned(gaps.context_tyx, turn),
            "target": _turned(gaps.target_tyx, turn),
            "day": torch.from_numpy(np.array(patch.day_t, np.int32)),
            "sensor": torch.from_numpy(np.array(patch.sensor_t, np.uint8)),
            "kind": torch.tensor(KINDS.index(gaps.kind) if gaps.kind else -1),
            "index": torch.tensor(index),
        }
        if hasattr(patch, "ground_tbyx"):
            sample |= {"ground": _turned(patch.ground_tbyx, turn), "air": patch.air}
        return sample

    def _readable(self, item: int) -> tuple[int, Any]:
        """The patch asked for, or the next one that can be read."""
        for step in range(len(self.indices)):
            index = int(self.indices[(item + step) % len(self.indices)])
            name = self.source.name(index)
            if name not in self.unreadable:
                try:
                    return index, _dated(self.source.read(index), name)
                except StoreError as error:
                    self._count(name, error)
        raise StoreError("not one patch can be read", place="patches", next_step="run vsat sample again")

    def _count(self, name: str, error: StoreError) -> None:
        self.unreadable[name] = error.problem
        log.warning("left out of training: %s", error)
        if len(self.unreadable) > max(1.0, MOST_UNREADABLE * len(self.indices)):
            problem = f"{len(self.unreadable)} of {len(self.indices)} patches cannot be read, the last one {name}"
            raise StoreError(problem, place=error.place, next_step=error.next_step) from error

    def _clouds(self) -> NDArray[np.bool_]:
        """Cloud of looks of some patches (m, y, x), the same for every worker."""
        rng, found = np.random.default_rng([self.seed, 0]), []
        for item in rng.permutation(len(self.indices))[:BANK_PATCHES]:
            _, patch = self._readable(int(item))
            seen = clear(patch.fmask_tyx, patch.refl_tbyx, adjacent=self.adjacent, snow=self.snow)
            share = seen.mean(axis=(1, 2))
            found.append(~seen[(share > BANK_CLEAR[0]) & (share < BANK_CLEAR[1])])
        return np.concatenate(found)


def _dated(patch: Any, name: str) -> Any:
    """The patch, if its looks are of our time."""
    for day in patch.day_t.tolist():
        if day not in DAYS:
            raise StoreError(f"a look of day {day} since 1970", place=name, next_step="draw the patches again")
    return patch


def _turned(array: NDArray[Any], turn: int) -> torch.Tensor:
    """One of the eight symmetries of a square, on the last two axes."""
    turned = np.rot90(array, turn % 4, axes=(-2, -1))
    # a copy, for a patch of one pixel counts as contiguous with its strides below zero, which torch refuses
    return torch.from_numpy((turned[..., ::-1] if turn >= 4 else turned).copy())


class PatchSampler(Sampler[int]):
    """The order of an epoch: all samples once, shuffled over the whole store, dealt out to processes.

    Args:
        length: of the dataset.
        seed: of the order.
        rank, world: this process and their number. Each gets as many as the others; what is left over waits for another
            epoch's order.
        shuffle: False keeps the order.

    `state_dict` and `load_state_dict` keep epoch and position: the rest of the epoch is exactly what was left of it.
    """

    def __init__(self, length: int, *, seed: int = 0, rank: int = 0, world: int = 1, shuffle: bool = True) -> None:
        assert 0 <= rank < world
        self.length, self.seed, self.rank, self.world, self.shuffle = length, seed, rank, world, shuffle
        self.epoch = self.position = 0

    def __len__(self) -> int:
        return self.length // self.world

    def set_epoch(self, epoch: int) -> None:
        """Another order, from its beginning."""
        self.epoch, self.position = epoch, 0

    def order(self) -> NDArray[np.int64]:
        """This process's samples of the epoch."""
        rng = np.random.default_rng([self.seed, self.epoch, 1])
        whole = rng.permutation(self.length) if self.shuffle else np.arange(self.length)
        return whole[: len(self) * self.world][self.rank :: self.world]

    def __iter__(self) -> Iterator[int]:
        for item in self.order()[self.position :]:
            self.position += 1
            yield int(item)
        self.position = 0

    def state_dict(self) -> dict[str, int]:
        """Epoch and position."""
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from there."""
        self.epoch, self.position = state["epoch"], state["position"]


def collate(samples: Sequence[Sample]) -> Sample:
    """A batch: samples padded along t to the longest, and `look`, bool (n, t), True where there is one.

    Padding is FILL in reflectance, False in masks, day 0, sensor 255.
    """
    longest = max(len(sample["day"]) for sample in samples)
    fills = {"refl": FILL, "truth": FILL, "context": False, "target": False, "day": 0, "sensor": NO_SENSOR}
    batch = {
        name: torch.stack([_padded(sample[name], longest, fill) for sample in samples]) for name, fill in fills.items()
    }
    count = torch.tensor([len(sample["day"]) for sample in samples])
    batch["look"] = torch.arange(longest)[None, :] < count[:, None]
    return batch | {name: torch.stack([sample[name] for sample in samples]) for name in ("kind", "index")}


def _padded(values: torch.Tensor, longest: int, fill: int | bool) -> torch.Tensor:
    out = values.new_full((longest, *values.shape[1:]), fill)
    out[: len(values)] = values
    return out
