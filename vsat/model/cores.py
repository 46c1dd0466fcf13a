"""How many of the machine's cores torch takes: its threads spin while they wait for a core that others hold."""

import os

import torch


def leave_cores(count: int) -> None:
    """So many are left to other threads, unless OMP_NUM_THREADS says what torch is to take."""
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, _cores() - count))


def share_cores(jobs: int) -> None:
    """Each of so many jobs side by side gets its own share. How many they are changes no bit of an image."""
    torch.set_num_threads(max(1, _cores() // max(1, jobs)))


def _cores() -> int:
    return len(os.sched_getaffinity(0))
