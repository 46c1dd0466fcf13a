"""Batches ahead of the model: threads read and cut gaps while the last batch is trained on.

Reading releases Python's lock for nearly all of its time, so a thread is enough, and nothing is sent between processes.
"""

import math
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from vsat.model.dataset import PatchDataset, PatchSampler, Sample, collate


class PatchLoader:
    """Batches of a dataset in a sampler's order.

    Args:
        dataset, sampler: as long as each other.
        batch_size: samples in a batch; the last one of an epoch may be smaller.
        threads: that make batches.
        ahead: batches made before they are asked for, per thread.
        pin: True puts batches into memory that a GPU copies from faster.

    `state_dict` says what was handed out, not what was made ahead: a loader with that state goes on with the very next
    batch. An error in a thread is raised where the batch is asked for.
    """

    def __init__(
        self,
        dataset: PatchDataset,
        sampler: PatchSampler,
        *,
        batch_size: int,
        threads: int = 1,
        ahead: int = 2,
        pin: bool = False,
    ) -> None:
        assert batch_size > 0 and threads > 0 and ahead > 0
        self.dataset, self.sampler, self.batch_size = dataset, sampler, batch_size
        self.threads, self.ahead, self.pin = threads, ahead, pin

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
        batch = collate([self.dataset[int(item)] for item in items])
        return {name: values.pin_memory() for name, values in batch.items()} if self.pin else batch
