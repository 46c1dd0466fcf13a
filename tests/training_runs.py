"""Runs of training that its tests compare, and what a step is by the plain rule."""

from pathlib import Path

import numpy as np
import torch
from tiny_model import Points, TinyModel, collate, tiny_model

from vsat.model.dataset import PatchSampler, Sample
from vsat.model.training import TrainOptions, TrainResult, train

OPTIONS = TrainOptions(
    optimizer="adamw", lr=1e-2, steps=12, batch=8, save_every=4, evaluate_every=3, warmup=0.25, hessian_every=3
)
HELD_OUT = Points(11, seed=1)  # its last batch is smaller


class Killed(Exception):
    """What ends a run in the middle of it."""


def run(
    out: Path, options: TrainOptions, *, model: TinyModel | None = None, until: int | None = None,
    train_set: Points | None = None, held_out: Points | None = HELD_OUT,
) -> tuple[TinyModel, TrainResult]:  # fmt: skip
    """Train in `out`, and be killed after step `until`."""

    def report(done: int, total: int) -> None:
        assert total == options.steps
        if done == until:
            raise Killed

    torch.set_num_threads(1)  # for a model of this size more are slower
    model = model or tiny_model()
    result = train(model, train_set or Points(), held_out, options, out, collate=collate, report=report)
    return model, result


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    pairs = zip(one.state_dict().items(), other.state_dict().items(), strict=True)
    return all(name == its_name and torch.equal(p, q) for (name, p), (its_name, q) in pairs)


def batches_of(options: TrainOptions, dataset: Points, step: int) -> list[Sample]:
    """The step's batches, by the plain rule: an epoch's order, cut into whole steps."""
    size = options.batch * options.accumulate
    epoch, place = divmod(step, len(dataset) // size)
    sampler = PatchSampler(len(dataset), seed=options.seed)
    sampler.set_epoch(epoch)
    dataset.set_epoch(epoch)
    items = sampler.order()[place * size : (place + 1) * size].reshape(options.accumulate, options.batch)
    return [collate([dataset[int(item)] for item in batch]) for batch in items]


def lr_of(options: TrainOptions, step: int) -> float:
    """Warm-up and cosine, by hand."""
    warm = options.warmup * options.steps
    if step < warm:
        return options.peak * (step + 1) / warm
    way = (step + 1 - warm) / (options.steps - warm)
    return options.peak * (options.floor + (1 - options.floor) * (1 + np.cos(np.pi * way)) / 2)
