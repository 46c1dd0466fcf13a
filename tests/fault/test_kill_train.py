"""kill -9 at random moments of training: the next run goes on from the last save, and comes to the same weights."""

import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fault import killer
from fault.training import OPTIONS, learn

from vsat.model import saves

pytestmark = [pytest.mark.fault, pytest.mark.slow]
IN_SAVES, AT_TIMES = 10, 10
NOTHING = 0


def told(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def weights(out: Path) -> tuple[bytes, ...]:
    """Of the best step, that the run ended with, and of the last."""
    last = saves.folder_of(out, OPTIONS.steps)
    return tuple((folder / "model.safetensors").read_bytes() for folder in (out / "trained", last))


def saved(out: Path) -> int:
    """The newest step that can be gone on from; every folder that has a checkpoint's name is whole."""
    steps = saves.steps(out)
    assert [saves.what_is_wrong(saves.folder_of(out, step)) for step in steps] == [""] * len(steps)
    return max(steps, default=NOTHING)


def kill_after(seconds: float, out: Path, told: Path) -> bool:
    """Train in a fresh process and kill it then; False if it had come to its end."""
    process = killer.nursery(learn.__module__).Process(target=learn, args=(out, told))
    process.start()
    time.sleep(seconds)
    process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def go_on(out: Path, path: Path, wanted: tuple[bytes, ...]) -> bool:
    """Assert what this test is about; True if the kill left something aside."""
    before, torn = told(path), bool(list(out.glob("*.part")))
    at = saved(out)
    assert at >= (max(before, default=1) - 1) // OPTIONS.save_every * OPTIONS.save_every
    assert killer.run_killed(killer.NEVER, out, learn, out, path) is not None
    assert told(path)[len(before) :] == list(range(at + 1, OPTIONS.steps + 1))
    assert weights(out) == wanted
    assert not list(out.glob("*.part"))
    return torn


def test_killed_at_random_moments_training_comes_to_the_same_weights(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    whole, path = tmp_path / "whole", tmp_path / "steps"
    writes = killer.run_killed(killer.NEVER, whole / saves.PREFIX, learn, whole, path)
    assert writes is not None and told(path) == list(range(1, OPTIONS.steps + 1))
    wanted = weights(whole)
    shutil.rmtree(whole)
    path.unlink()
    began = time.monotonic()
    assert killer.run_killed(killer.NEVER, whole, learn, whole, path) is not None
    took = time.monotonic() - began
    assert weights(whole) == wanted

    def in_save(out: Path, path: Path) -> bool:
        """At one of the writes to checkpoints, of those that it sees: not of what C++ and Rust write."""
        return killer.run_killed(int(rng.integers(1, writes)), out / saves.PREFIX, learn, out, path) is None

    def at_time(out: Path, path: Path) -> bool:
        return kill_after(float(rng.uniform(0.05, 0.95)) * took, out, path)

    def kill(how: Callable[[Path, Path], bool], times: int) -> list[tuple[bool, int]]:
        """What each death left: whether something aside, and how many steps done."""
        found: list[tuple[bool, int]] = []
        for attempt in range(2 * times):  # some may come to their end first
            out, path = tmp_path / f"{how.__name__}-{attempt}", tmp_path / f"{how.__name__}-{attempt}.steps"
            if len(found) < times and how(out, path):
                done = max(told(path), default=NOTHING)
                found.append((go_on(out, path, wanted), done))
            shutil.rmtree(out, ignore_errors=True)
        return found

    in_saves, at_times = kill(in_save, IN_SAVES), kill(at_time, AT_TIMES)
    assert (len(in_saves), len(at_times)) == (IN_SAVES, AT_TIMES)
    assert sum(torn for torn, _ in in_saves) >= IN_SAVES // 2  # others died at the first write of a save
    assert len({done for _, done in in_saves + at_times}) >= 8
