"""Cores for torch, and for the threads beside it."""

import os
from collections.abc import Iterator

import pytest
import torch

from vsat.model.cores import leave_cores, share_cores
from vsat.stages.models import make_room

CORES = len(os.sched_getaffinity(0))


@pytest.fixture(autouse=True)
def _back() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_what_others_need_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for count in (0, 1, CORES, CORES + 5):
        leave_cores(count)
        assert torch.get_num_threads() == max(1, CORES - count)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    torch.set_num_threads(1)
    leave_cores(0)
    assert torch.get_num_threads() == 1


def test_jobs_side_by_side_share() -> None:
    for jobs in (1, 2, CORES, 10 * CORES):
        share_cores(jobs)
        assert torch.get_num_threads() == max(1, CORES // jobs)


def test_only_a_model_s_jobs_need_room() -> None:
    torch.set_num_threads(CORES + 1)
    make_room("linear", 2)
    make_room("anydate", 0)
    assert torch.get_num_threads() == CORES + 1
    make_room("anydate", CORES)
    assert torch.get_num_threads() == 1
