"""Batches ahead of the model: threads read and cut gaps while the last batch is trained on.

Reading releases Python's lock for nearly all of its time, so a thread is enough, and nothing is sent between processes.
"""

import itertools
import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vsat.model.dataset import PatchSampler, Sample, collate


class Samples(Protocol):
    """What batches are made of: `PatchDataset`, or anything whose samples are decided by seed, epoch and index."""

    def __len__(self) -> int: ...

    def __getitem__(self, item: int, /) -> Sample: ...

    def set_epoch(self, epoch: int, /) -> None:
        """Other samples from now on."""
        ...

    def name(self, item: int, /) -> str:
        """Which one it is, for messages."""
        ...


class PatchLoader:
    """Batches of a dataset in a sampler's order.

    Args:
        dataset, sampler: as long as each other.
        batch_size: samples in a batch; the last one of an epoch may be smaller.
        threads: that make batches.
        ahead: batches made before they are asked for, per thread.
        pin: True puts batches into memory that a GPU copies from faster.
        collate: makes a batch of samples.

    `state_dict` says what was handed out, not what was made ahead: a loader with that state goes on with the very next
    batch. An error in a thread is raised where the batch is asked for.
    """

    def __init__(
        self,
        dataset: Samples,
        sampler: PatchSampler,
        *,
        batch_size: int,
        threads: int = 1,
        ahead: int = 2,
        pin: bool = False,
        collate: Callable[[list[Sample]], Sample] = collate,
    ) -> None:
        assert batch_size > 0 and threads > 0 and ahead > 0
        self.dataset, self.sampler, self.batch_size = dataset, sampler, batch_size
        self.threads, self.ahead, self.pin, self.collate = threads, ahead, pin, collate

    def __len__(self) -> int:
        return math.ceil(len(self.sampler) / self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Another order and other gaps, from the beginning."""
        self.sampler.set_epoch(epoch)
        self.dataset.set_epoch(epoch)

    def state_dict(self) -> dict[str, int]:
        """Epoch, and samples handed out."""
        return self.sampler.state_dict()

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Go on from there."""
        self.sampler.load_state_dict(state)
        self.dataset.set_epoch(state["epoch"])

    def __iter__(self) -> Iterator[Sample]:
        order = self.sampler.order()
        starts = deque(range(self.sampler.position, len(order), self.batch_size))
        waiting: deque[tuple[int, Future[Sample]]] = deque()
        pool = ThreadPoolExecutor(self.threads, thread_name_prefix="patches")
        try:
            while starts or waiting:
                while starts and len(waiting) < self.threads * self.ahead:
                    start = starts.popleft()
                    items = order[start : start + self.batch_size]
                    waiting.append((start + len(items), pool.submit(self._batch, items)))
                end, made = waiting.popleft()
                batch = made.result()
                self.sampler.position = end % len(order)
                yield batch
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _batch(self, items: Any) -> Sample:
        batch = self.collate([self.dataset[int(item)] for item in items])
        return {name: values.pin_memory() for name, values in batch.items()} if self.pin else batch


class StepLoader(PatchLoader):
    """Batches of all steps that are left, through as many epochs as that takes; its length is that of all steps.

    Args:
        dataset, sampler, batch_size, threads, pin, collate: of PatchLoader.
        steps: from the first to the last.
        accumulate: batches in a step. An epoch has whole steps only; what is left over waits for another order.
        done: steps not to make again.
    """

    def __init__(
        self,
        dataset: Samples,
        sampler: PatchSampler,
        *,
        batch_size: int,
        steps: int,
        accumulate: int = 1,
        done: int = 0,
        threads: int = 1,
        pin: bool = False,
        collate: Callable[[list[Sample]], Sample] = collate,
    ) -> None:
        super().__init__(dataset, sampler, batch_size=batch_size, threads=threads, pin=pin, collate=collate)
        self.accumulate, self.length, self.first = accumulate, steps * accumulate, done * accumulate
        self.per_epoch = len(sampler) // (batch_size * accumulate) * accumulate
        assert self.per_epoch > 0

    def __len__(self) -> int:
        return self.length

    def items(self, step: int) -> NDArray[np.int64]:
        """Of this process's samples those of a step of the epoch that is under way."""
        size = self.batch_size * self.accumulate
        place = step % (self.per_epoch // self.accumulate) * size
        return self.sampler.order()[place : place + size]

    def __iter__(self) -> Iterator[Sample]:
        made = self.first
        while made < self.length:
            epoch, batch = divmod(made, self.per_epoch)
            self.load_state_dict({"epoch": epoch, "position": batch * self.batch_size})
            for each in itertools.islice(super().__iter__(), min(self.per_epoch - batch, self.length - made)):
                made += 1
                yield each


class EverySample(PatchSampler):
    """All samples in their order, dealt out to processes: some may get one less than the others, none is left over."""

    def __init__(self, length: int, *, rank: int = 0, world: int = 1) -> None:
        super().__init__(length, rank=rank, world=world, shuffle=False)

    def __len__(self) -> int:
        return len(range(self.rank, self.length, self.world))

    def order(self) -> NDArray[np.int64]:
        """This process's samples."""
        return np.arange(self.rank, self.length, self.world)
