"""The work that the kill test of training kills; a module of its own, so that forked processes find it by name."""

import os
from pathlib import Path

import torch
from tiny_model import Points, collate, tiny_model
from torch.utils.tensorboard import SummaryWriter  # noqa: F401 - imported here, once, and not in each fork

from vsat.model.sophia import SophiaG  # noqa: F401
from vsat.model.training import TrainOptions, train

OPTIONS = TrainOptions(
    optimizer="sophia", lr=1e-2, steps=24, batch=4, accumulate=2, save_every=4, evaluate_every=6, hessian_every=3
)

torch.set_num_threads(1)


def learn(out: Path, told: Path) -> None:
    """Train in `out`; each step that has been done is a line of `told`."""

    def report(done: int, _: int) -> None:
        handle = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(handle, f"{done}\n".encode())
        os.close(handle)

    model = tiny_model(dropout=0.3)
    train(model, Points(), Points(11, seed=1), OPTIONS, out, collate=collate, report=report)
    model.save_pretrained(out / "trained")
