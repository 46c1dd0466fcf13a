"""`vsat train` as a process that can be killed; a module of its own, so that forked processes find it by name."""

import os
import resource
import sys
import threading
from pathlib import Path
from typing import Any

import torch
from sick_models import Wide
from tiny_model import Points, TinyConfig, collate, tiny_model
from torch.utils.tensorboard import SummaryWriter  # noqa: F401 - imported here, once, and not in each fork

from vsat.cli import main
from vsat.model import anydate, saves
from vsat.model.sophia import SophiaG  # noqa: F401
from vsat.model.training import TrainOptions, TrainResult, train
from vsat.stages import train as stage

STEPS = 3
SIZE, CALIBRATED_ON, PRIOR_PATCHES = (16, 2, 2), 1, 1000  # a model that trains in seconds, and comes by the same way
WIDE = TrainOptions(optimizer="adamw", lr=1e-2, steps=4, batch=16, evaluate_every=2)
ROOM = 500_000_000  # bytes

torch.set_num_threads(1)


def load_compiled() -> None:
    """What an example calls of numba's, and what calibration does: each process that is forked would load it again."""
    learn, _, sources = stage._sets(stage.TrainPlan(held_out=1), 1)
    learn.parts[0][0]
    model = anydate.new_model(anydate.AnyDateConfig(width=16, layers=2, heads=2), seed=0)
    stage._rehearsed(model, sources, 0, 1)


if os.environ.get("VSAT_TEST_COMPILED"):  # for who forks many of these
    load_compiled()


def verb(out: Path, *words: str) -> None:
    """`vsat train --out OUT` with a save after every step."""
    anydate.SIZES["tiny"] = SIZE
    stage.CALIBRATED_ON, stage.PRIOR_PATCHES = CALIBRATED_ON, PRIOR_PATCHES
    with Path(os.devnull).open("w") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
    given = ["--steps", str(STEPS), "--every", "1", "--batch", "2", "--held-out", "2", *words]
    sys.argv = ["vsat", "train", "--out", str(out), *given]
    try:
        main()
    except SystemExit as done:
        if done.code:
            raise


def announced(pipe: Any, nth: int, out: Path) -> None:
    """The same; says when its n-th save begins, and when it ends."""
    seen = {"os.mkdir": 0, "os.rename": 0}

    def hear(event: str, args: tuple[Any, ...]) -> None:
        if (
            event in seen
            and str(args[0]).startswith(f"{out}/run/{saves.PREFIX}")
            and str(args[0]).endswith(saves.ASIDE)
        ):
            seen[event] += 1
            if seen[event] == nth:
                pipe.send(event)

    sys.addaudithook(hear)
    verb(out)


def short_of_memory(out: Path, pipe: Any, short: bool) -> None:
    """A model whose batch takes more than the process may have, by the system's own limit; sends what came of it."""

    def limit(done: int, _: int) -> None:
        if short and done == 1:
            used = next(
                line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData")
            )
            room = ROOM // 4 + (24 << 20)  # the latter for threads, and what is left in pieces
            resource.setrlimit(resource.RLIMIT_DATA, (int(used.split()[1]) * 1024 + room,) * 2)

    threading.stack_size(1 << 20)  # the loader's threads want theirs beside a batch
    model = Wide(TinyConfig(width=16))
    model.load_state_dict(tiny_model().state_dict())
    result: TrainResult = train(model, Points(), Points(11, seed=1), WIDE, out, collate=collate, report=limit)
    pipe.send((result.parts, result.losses, result.held_out))
