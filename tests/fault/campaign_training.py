"""What training survives: kills during a save, samples and patches that are spoiled, memory that runs out.

    python tests/fault/campaign_training.py [--small] [--minutes M] [--record]

A run is *unresumable* if what follows a fault neither comes to its end nor says what is at fault and leaves checkpoints
from which a sound run goes on. *As wanted* is the same weights, to the byte, as of a run without kills; for what is left
out, and for batches cut where memory is short, losses as of a run without the sample, or with all the memory, to 1 in 10,000.
"""

import itertools
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[2]))

from fault import figures, killer
from fault.verb_train import STEPS, announced, short_of_memory, verb
from sick_models import SHORT, Steep, Where, Without, short_model
from stores import write_store
from tiny_model import Points, TinyModel, tiny_model
from training_runs import OPTIONS, Killed, run, same

from vsat.io.patches import part_folder
from vsat.model import saves
from vsat.model.checkpoint import load_checkpoint
from vsat.model.options import TrainOptions, TrainResult

KILLS = 50  # in saves: half at a write, half at a moment
CLOSE = 1e-4
POISON = {"NaN": np.nan, "inf": np.inf, "-inf": -np.inf, "1e38": 1e38}
OPTIMIZERS = ("adamw", "muon", "sophia")
POISON_CASES = list(zip(POISON, (*OPTIMIZERS, "adamw"), strict=True))
# the loss of a held-out 1e38 is a number, if a large one, and no step is taken by it
HELD_OUT_KINDS = [kind for kind in POISON if kind != "1e38"]
SHORT_CASES: list[tuple[Where, str]] = list(zip(get_args(Where), SHORT, strict=True))
DAMAGE = [("flipped", 4), ("flipped", 60), ("cut", 4), ("gone", 60)]  # patches of the train split, and of validation
Row = dict[str, figures.Cell]


def run_all(folder: Path, seed: int, *, small: bool, minutes: float = 60.0) -> list[Row]:
    """All faults; each row counts `cases`, those that ended `as wanted`, and those `unresumable`."""
    began, few = time.monotonic(), 1 if small else None
    os.environ["VSAT_TEST_COMPILED"] = "yes"  # in the process that forks

    def within(cases: Sequence[Any], share: float = 1.0) -> Iterator[Any]:
        """The cases, as long as there is time."""
        yield from itertools.takewhile(lambda _: time.monotonic() < began + 60 * minutes * share, cases)

    kills = range(4 if small else KILLS)
    return [
        _real_memory(folder / "limit"),
        _memory(folder / "memory", within(SHORT_CASES[:few])),
        *_killed(folder / "kills", seed, [partial(within, kills, share) for share in (0.5, 0.8)], len(kills) // 2),
        _samples(folder / "samples", within(POISON_CASES[:few])),
        _gradients(folder / "gradients", within(OPTIMIZERS[:few])),
        _held_out(folder / "held-out", within(HELD_OUT_KINDS[:few])),
        _patches(folder / "patches", within(DAMAGE[:few])),
    ]


# Kills


def _killed(folder: Path, seed: int, times: Sequence[Callable[[], Iterator[int]]], most: int) -> list[Row]:
    """`vsat train`, killed while it saves; then the same words again, to the end."""
    rng, whole = np.random.default_rng(seed), folder / "whole"
    writes = killer.run_killed(killer.NEVER, whole / "run" / saves.PREFIX, verb, whole)
    assert writes is not None
    wanted, took = _weights(whole), _save_seconds(folder / "timed")

    def at_write(out: Path) -> bool:
        return killer.run_killed(int(rng.integers(1, writes + 1)), out / "run" / saves.PREFIX, verb, out) is None

    def at_moment(out: Path) -> bool:
        return _killed_within(out, int(rng.integers(1, STEPS + 1)), float(rng.uniform()) * took)

    rows = []
    ways = ((f"one of the {writes} writes of its saves", at_write), ("a random moment of a save", at_moment))
    for (told, how), numbers in zip(ways, times, strict=True):
        cases = equal = lost = torn = 0
        for number in numbers():  # some may have come to the end of the save first
            out = folder / f"{how.__name__}-{number}"
            if cases < most and how(out):
                left = saves.steps(out / "run")
                sound = not any(saves.what_is_wrong(saves.folder_of(out / "run", step)) for step in left)
                torn += bool(list((out / "run").glob(f"*{saves.ASIDE}")))
                ended = sound and killer.run_killed(killer.NEVER, out, verb, out) is not None
                is_equal = ended and _weights(out) == wanted and not list((out / "run").glob(f"*{saves.ASIDE}"))
                cases, equal, lost = cases + 1, equal + is_equal, lost + (not ended)
            shutil.rmtree(out, ignore_errors=True)
        rows.append(
            _row(f"`vsat train`, SIGKILL at {told}", cases, equal, lost, f"{torn} left a torn folder, told and removed")
        )
    return rows


def _save_seconds(out: Path) -> float:
    """That the second save of a run takes here and now."""
    with _run_announced(out, 2) as (process, pipe):
        pipe.recv()
        began = time.monotonic()
        pipe.recv()
        process.kill()
    return time.monotonic() - began


def _killed_within(out: Path, nth: int, seconds: float) -> bool:
    """Kill it so long after the beginning of its n-th save; False if the save had ended."""
    with _run_announced(out, nth) as (process, pipe):
        pipe.recv()
        over = pipe.poll(seconds)
        process.kill()
    return not over


@contextmanager
def _run_announced(out: Path, nth: int) -> Iterator[tuple[BaseProcess, Connection]]:
    context = killer.nursery(announced.__module__)
    mine, theirs = context.Pipe(duplex=False)
    process = context.Process(target=announced, args=(theirs, nth, out))
    process.start()
    theirs.close()
    yield process, mine
    process.join()


def _weights(out: Path) -> tuple[bytes, ...]:
    """What a checkpoint is used by, and what its run would go on from."""
    load_checkpoint(out)
    last = saves.folder_of(out / "run", STEPS)
    names = (out / "model.safetensors", out / "config.json", out / "calibration.json", last / "model.safetensors")
    return tuple(path.read_bytes() for path in names)


# Samples and patches


def _samples(folder: Path, poisons: Iterable[tuple[str, str]]) -> Row:
    """Sample 13 is no number; the run is killed and goes on, too."""
    cases = equal = lost = 0
    for kind, name in poisons:
        options = replace(OPTIONS, optimizer=cast(Any, name), accumulate=2, batch=4)
        points = Points(lost=[13], poison=POISON[kind])
        _, wanted = run(folder / f"{kind}-{name}-without", options, train_set=Without())
        model, result = run(folder / f"{kind}-{name}", options, train_set=points)
        again, _ = _killed_and_gone_on(folder / f"{kind}-{name}-killed", options, tiny_model, points)
        is_named = result.left_out == ("train 13",)
        # labels are drawn in another order without it, so after Sophia's first estimate it is another run of the same kind
        near = CLOSE if name != "sophia" else 0.2
        cases, lost = cases + 1, lost + (result.steps < options.steps)
        equal += is_named and same(model, again) and _off(result, wanted) < near
    return _row(
        "a sample with NaN, inf, -inf or 1e38", cases, equal, lost, "named, left out, counted; also after a kill"
    )


def _gradients(folder: Path, names: Iterable[str]) -> Row:
    cases = equal = lost = 0
    for name in names:
        options = replace(OPTIONS, optimizer=cast(Any, name))
        sick = Steep(tiny_model().config)
        sick.load_state_dict(tiny_model().state_dict())
        _, result = run(folder / name, options, model=sick)
        _, wanted = run(folder / f"{name}-without", options, train_set=Without())
        near = CLOSE if name != "sophia" else 0.2
        cases, lost = cases + 1, lost + (result.steps < options.steps)
        equal += result.left_out == ("train 13",) and _off(result, wanted) < near
    return _row("a sample with a finite loss and no gradient", cases, equal, lost, "named, left out, counted")


def _held_out(folder: Path, kinds: Iterable[str]) -> Row:
    cases = equal = lost = 0
    _, wanted = run(folder / "whole", OPTIONS)
    for kind in kinds:
        _, result = run(folder / kind, OPTIONS, held_out=Points(11, seed=1, lost=[9], poison=POISON[kind]))
        cases, lost = cases + 1, lost + (result.steps < OPTIONS.steps)
        equal += result.left_out == ("held-out 9",) and _farthest(result.losses, wanted.losses) == 0
    return _row("a held-out sample with NaN, inf or -inf", cases, equal, lost, "named, left out, counted")


def _patches(folder: Path, damage: Iterable[tuple[str, int]]) -> Row:
    """A bit flipped in a patch of each split, a shard cut, a shard gone: `vsat train` on the store."""
    cases = equal = lost = 0
    for kind, patch in damage:
        store, out = folder / f"{kind}-{patch}", folder / f"{kind}-{patch}-model"
        write_store(store, (0,) * 48 + (1,) * 48)
        shard = part_folder(store, 0) / "reflectance" / f"c.{patch // 2}.0.0.0.0"  # two to a shard
        content = bytearray(shard.read_bytes())
        content[40] ^= 4
        shard.unlink()
        if kind != "gone":
            shard.write_bytes(content if kind == "flipped" else content[:-9])
        words = ("--patches", str(store), "--held-out", "48", "--batch", "12")  # an epoch: all are read
        cases += 1
        ended = killer.run_killed(killer.NEVER, out, verb, out, *words) is not None
        lost += not ended
        equal += ended and f"patch {patch} cannot be read" in (out / "card.json").read_text()
    return _row(
        "`vsat train --patches`: a patch flipped, cut or gone", cases, equal, lost, "named in the card, left out"
    )


# Memory


def _memory(folder: Path, shorts: Iterable[tuple[Where, str]]) -> Row:
    """Memory runs out for batches of more than two rows: two halvings, or one against drawn labels, of half batches."""
    cases = equal = lost = 0
    farthest = 0.0
    for where, kind in shorts:
        is_drawn = where == "drawn labels"
        options = replace(OPTIONS, optimizer="sophia" if is_drawn else "adamw")
        out = folder / f"{where}-{kind}"
        _, wanted = run(out / "whole", options)
        model, result = run(out / "short", options, model=short_model(where, SHORT[kind], most=2))
        again, _ = _killed_and_gone_on(
            out / "killed", options, partial(short_model, where, SHORT[kind], most=2), Points()
        )
        off = _off(result, wanted)
        farthest = farthest if is_drawn else max(farthest, off)
        cases, lost = cases + 1, lost + (result.steps < options.steps)
        equal += result.parts == 4 and model.times == 2 and same(model, again) and off < (0.2 if is_drawn else CLOSE)
    return _row(
        "memory runs out in a pass (injected)",
        cases,
        equal,
        lost,
        f"batch halved; losses off by {farthest:.1e} at most",
    )


def _real_memory(folder: Path) -> Row:
    """The system gives a process no more: half of what a batch's passes take."""
    found = []
    for is_short in (False, True):
        context = killer.nursery(short_of_memory.__module__)
        mine, theirs = context.Pipe(duplex=False)
        process = context.Process(target=short_of_memory, args=(folder / str(is_short), theirs, is_short))
        process.start()
        theirs.close()
        try:
            found.append(mine.recv())
        except EOFError:
            found.append((0, [], []))
        process.join()
    (_, *wanted), (parts, *given) = found
    lost = not given[0]
    off = 1.0 if lost else max(_farthest(one, other) for one, other in zip(given, wanted, strict=True))
    how = f"batch cut into {parts} parts; losses off by {off:.1e} at most"
    return _row("memory runs out by the system's limit (RLIMIT_DATA)", 1, parts > 1 and off < CLOSE, lost, how)


# Parts of them


def _killed_and_gone_on(
    out: Path, options: TrainOptions, fresh: Callable[[], TinyModel], points: Points
) -> tuple[TinyModel, TrainResult]:
    with suppress(Killed):
        run(out, options, model=fresh(), until=6, train_set=points)
    return run(out, options, model=fresh(), train_set=points)


def _off(one: TrainResult, other: TrainResult) -> float:
    """How far losses are apart, as a share of them."""
    return max(_farthest(one.losses, other.losses), _farthest(one.held_out, other.held_out))


def _farthest(one: list[tuple[int, float]], other: list[tuple[int, float]]) -> float:
    if [step for step, _ in one] != [step for step, _ in other]:
        return np.inf
    return float(max(abs(a - b) / abs(b) for (_, a), (_, b) in zip(one, other, strict=True)))


def _row(fault: str, cases: int, equal: int, lost: int, how: str) -> Row:
    return {"fault": fault, "cases": cases, "as wanted": int(equal), "unresumable": int(lost), "how it ended": how}


def main() -> None:
    """The full campaign, or the small one."""
    args = figures.arguments(__doc__).parse_args()
    with tempfile.TemporaryDirectory(prefix="training-") as folder:
        rows = run_all(Path(folder), args.seed, small=args.small, minutes=args.minutes)
    kills = sum(int(row["cases"]) for row in rows if "SIGKILL" in str(row["fault"]))
    ok = all(row["as wanted"] == row["cases"] and not row["unresumable"] for row in rows)
    ok = ok and kills == (4 if args.small else KILLS)
    command = f"python tests/fault/campaign_training.py{' --small' * args.small} --record"
    figures.record("training", command, rows, ok, write=args.record)


if __name__ == "__main__":
    main()
