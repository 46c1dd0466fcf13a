"""Passes through the model: losses and gradients of a step's batches, in as many parts as memory asks for.

The loss of a step is a sum over scored values, so the gradients of a batch's parts add up to the batch's own: where a batch
does not fit into memory it is halved, and twice as many passes make the step. What was added before is thrown away then,
for a backward pass that breaks off has left part of itself behind.
"""

import gc
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, distributed

from vsat.errors import VsatError
from vsat.model.dataset import Sample
from vsat.model.options import TrainOptions

log = logging.getLogger(__name__)

NAMES = "index"  # of a batch: which samples it is made of; all else has a row for each of its sequences
OUT_OF_MEMORY = ("out of memory", "allocate memory", "not enough memory", "bad_alloc", "ALLOC_FAILED")
SMALLER = "choose a smaller --size, or a machine with more memory; the checkpoints before are whole"


@dataclass
class Seen:
    """A batch of a step; of each of its parts the summed loss and the number of scored values."""

    batch: Sample
    scored: list[tuple[Tensor, Tensor]] = field(default_factory=list)


class Passes:
    """Forward and backward passes of one process.

    Args:
        net: the model itself.
        accelerator: of Trainer.
        options: for the advice in messages.
        world: processes.
        parts: into which each batch is cut; it doubles whenever memory runs out, and is never less again.
    """

    def __init__(self, net: Any, accelerator: Any, options: TrainOptions, *, world: int, parts: int) -> None:
        self.net, self.accelerator, self.options, self.world, self.parts = net, accelerator, options, world, parts
        self.seen: list[Seen] = []

    def add(self, model: Any, batch: Sample) -> None:
        """Add a batch to the step, and its gradients to .grad; `model` is the net, or DDP around it."""
        self.seen.append(Seen(batch))
        todo = self.seen[-1:]
        while short := shortage(partial(self._backward, model, todo)):
            self._cut_more(short, batch)
            self.net.zero_grad()
            todo = self.seen

    def replace(self, batches: Iterable[Sample]) -> None:
        """Make of these batches the step, and of their gradients, summed over all processes and divided by them, .grad."""
        self.seen = [Seen(batch) for batch in batches]
        self.net.zero_grad()
        found: list[Tensor] = []
        while short := shortage(lambda: found.extend(self._summed(self._losses(self.seen)))):
            self._cut_more(short, *(seen.batch for seen in self.seen))
            found.clear()
        for p, grad in zip(self._trained(), found, strict=True):
            if self.world > 1:
                distributed.all_reduce(grad)
            p.grad = grad / self.world

    def totals(self) -> tuple[float, int]:
        """Of the step: summed loss, and number of scored values."""
        scored = [pair for seen in self.seen for pair in seen.scored]
        return sum(float(summed) for summed, _ in scored), sum(int(count) for _, count in scored)

    def average(self, count: int) -> float:
        """Make of the summed gradients those of the mean over `count` values of all processes; their norm comes back."""
        grads = [p.grad for p in self.net.parameters() if p.grad is not None]
        for grad in grads:
            grad.mul_(self.world / count)  # DDP has divided the sum over processes by their number
        return float(torch.nn.utils.get_total_norm(grads))

    def drawn(self, generator: Callable[[], torch.Generator], count: int) -> list[Tensor]:
        """Gradients of the step's loss against labels drawn from the model's output, over `count`; .grad is left alone."""
        found: list[Tensor] = []
        while short := shortage(lambda: found.extend(self._summed(self._drawn_losses(generator()), 1 / count))):
            self._cut_more(short, *(seen.batch for seen in self.seen))
            found.clear()
            self._count_again()
        return found

    @torch.no_grad()
    def held_out(self, batch: Sample) -> tuple[float, int]:
        """Summed loss of a batch, and number of scored values."""
        found: list[tuple[float, int]] = []
        while short := shortage(lambda: found.extend(self._measured(batch))):
            self._cut_more(short, batch)
            found.clear()
        return sum(summed for summed, _ in found), sum(count for _, count in found)

    def is_sound(self, batch: Sample) -> bool:
        """Whether its loss and the norm of its gradient are finite; .grad is left alone."""
        alone = Seen(batch)
        norm = torch.nn.utils.get_total_norm(
            self._summed(self._losses([alone]))
        )  # of finite ones it may be none itself
        return all(bool(values.isfinite().all()) for values in (norm, *(summed for summed, _ in alone.scored)))

    # Parts of them

    def _backward(self, model: Any, todo: Sequence[Seen]) -> None:
        for seen in todo:
            seen.scored = []
            for part in cut(seen.batch, self.parts):
                outputs = model(**part)
                summed = outputs.loss.float() * outputs.count
                self.accelerator.backward(summed)
                seen.scored.append((summed.detach(), outputs.count))

    def _losses(self, todo: Sequence[Seen]) -> Iterable[Tensor]:
        for seen in todo:
            seen.scored = []
            for part in cut(seen.batch, self.parts):
                outputs = self.net(**part)
                summed = outputs.loss.float() * outputs.count
                seen.scored.append((summed.detach(), outputs.count))
                yield summed

    def _drawn_losses(self, generator: torch.Generator) -> Iterable[Tensor]:
        for seen in self.seen:
            for part, (_, count) in zip(cut(seen.batch, self.parts), seen.scored, strict=True):
                if int(count):
                    with self.accelerator.autocast():
                        loss = self.net.sampled_loss(**part, generator=generator)
                    yield loss.float() * int(count)

    def _summed(self, losses: Iterable[Tensor], share: float = 1.0) -> list[Tensor]:
        """Gradients of `share` of the sum; not by backward, so .grad and DDP's hooks on it are left alone."""
        trained = self._trained()
        summed = [torch.zeros_like(p) for p in trained]
        for loss in losses:
            for mean, grad in zip(summed, torch.autograd.grad(loss, trained, allow_unused=True), strict=True):
                if grad is not None:
                    mean.add_(grad, alpha=share)
        return summed

    @torch.no_grad()
    def _count_again(self) -> None:
        """The parts have changed; the sums have not."""
        for seen in self.seen:
            found = [self.net(**part) for part in cut(seen.batch, self.parts)]
            seen.scored = [(outputs.loss.float() * outputs.count, outputs.count) for outputs in found]

    def _measured(self, batch: Sample) -> list[tuple[float, int]]:
        found = [self.net(**part) for part in cut(batch, self.parts)]
        return [(float(outputs.loss) * int(outputs.count), int(outputs.count)) for outputs in found]

    def _trained(self) -> list[torch.nn.Parameter]:
        return [p for p in self.net.parameters() if p.requires_grad]

    def _cut_more(self, short: str, *batches: Sample) -> None:
        """Twice as many parts from now on.

        Raises:
            VsatError: there is nothing left to cut, or other processes would wait for passes that this one alone makes.
        """
        options, problem = self.options, f"memory ran out: {short}"
        if self.world > 1:
            half = f"--batch {options.batch // 2} --accumulate {2 * options.accumulate}"
            step = (
                f"train again with {half}: the same steps, from the last checkpoint" if options.batch > 1 else SMALLER
            )
            raise VsatError(problem, place="training", next_step=step)
        if self.parts >= max(map(rows, batches)):
            raise VsatError(f"{problem}; one sequence at a time is too much", place="training", next_step=SMALLER)
        self.parts *= 2
        told = "%s; from now on batches are cut into %d parts, whose gradients are added: the steps stay the same"
        log.warning(told, problem, self.parts)


def shortage(work: Callable[[], object]) -> str:
    """Do the work: "" if memory was enough, else what was said when it ran out, and what the work held is free again."""
    try:
        work()
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        said = str(error).strip().partition("\n")[0] or type(error).__name__
    else:
        return ""
    gc.collect()  # the traceback held what the passes had made; it is gone with the except clause
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return said


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is how Python, NumPy or torch, on a CPU or a GPU, says that there is no memory left."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or (isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY))


def rows(batch: Sample) -> int:
    """Sequences in a batch."""
    return max(len(values) for name, values in batch.items() if name != NAMES)


def cut(batch: Sample, parts: int) -> list[Sample]:
    """A batch's rows dealt out, so that short and long sequences, which lie together, come into every part."""
    if parts == 1:
        return [batch]
    count = min(parts, rows(batch))
    return [
        {name: values if name == NAMES else values[first::count] for name, values in batch.items()}
        for first in range(count)
    ]
