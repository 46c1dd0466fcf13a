"""The process that runs a verb on a disk that fills up; a module of its own, so that forked processes find it by name."""

import os
import sys
from pathlib import Path

import torch
from fault.compiled import load_compiled
from torch.utils.tensorboard import SummaryWriter  # noqa: F401 - what the verbs import themselves is loaded once, here

from vsat import cli
from vsat.io import exchange  # noqa: F401
from vsat.stages import backfill, evaluate, export, fill, judge_page, nightly, sample, train  # noqa: F401


def verb(words: tuple[str, ...], said: Path) -> None:
    """`vsat WORDS`, as the command does it; what it says lies in `said`, and the process ends with its exit code."""
    handle = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(handle, stream)
    os.close(handle)
    sys.argv = ["vsat", *words]
    cli.main()


torch.set_num_threads(1)  # for a fork has no threads but its own
load_compiled()
