"""What the any-date model gains from each of its parts, and which optimiser trains it best, in small equal runs.

    python tests/bench/anydate_ablations.py [--shared ../shared] [--table 1|2|both] [--only NAME,...] [--out FILE.json]
        [--steps 300] [--batch 32] [--size tiny] [--seeds 3] [--optimizer adamw] [--lr LR] [--threads 1] [--cache FOLDER]

All runs learn from the same batches of the synthetic prior (those of `vsat train --prior`) in bfloat16, with the schedule
of `vsat train`, and are measured on the same held-out patches. The batches are made once, in --cache or a temporary
folder. --out keeps what is finished: the same command goes on from there.

Table 1 has a model without one of its parts in each row. Losses are of the held-out prior; MAE there is of the median,
relative to the blend in time, on dates hidden whole and on dates partly seen; on real cubes it is relative to the best of
linear, harmonic and Whittaker on dates hidden whole, geometric mean of the cubes. Where the blend lies beyond the reach of a
feature that holds it (8 scales from the kriged estimate) it counts as at its end. "untrained" is what all begin as: the
blend, kriged where the date is partly seen. "no-prior" learns from the left half of flanders-2018 instead, 70 % of its
dates, with the same gaps; in all rows flanders-2018 is measured in its right half.

Table 2 has an optimiser in each row, each with the best of a few learning rates at half the steps; a loss between two
evaluations is interpolated. Where Sophia clips too many coordinates or too few, it also gets the best of a few rho.

Milliseconds are of the processor, in training steps alone: with one thread other programs change them little.
"""

import argparse
import json
import math
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import get_scheduler
from value_tokens import SEQUENCES, ValueTokens

from vsat.core.gaps import GapDesign
from vsat.core.protocols import folds, hidden
from vsat.core.temporal import fill_temporal
from vsat.hls import BANDS, SCALE, Fmask
from vsat.model.anydate import SIZES, TOGETHER, AnyDate, AnyDateConfig, new_model
from vsat.model.dataset import PatchDataset
from vsat.model.examples import CELLS, DESIGN, WHOLE, Example, Examples, Mixed, collate
from vsat.model.loss import quantiles
from vsat.model.optimizers import LEARNING_RATE, WEIGHT_DECAY, Name, make_optimizer
from vsat.model.options import TrainOptions
from vsat.model.predict import Question, answer
from vsat.model.prior import Prior
from vsat.stages.sources import Block, cube_source
from vsat.stages.train import HELD_OUT_FIRST, SMALL_CELLS, SMALL_PARTS, _synthetic

ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    "untrained": ("untrained", {}),
    "llama": ("llama, with everything", {}),
    "gpt2": ("gpt2 backbone", {"backbone": "gpt2"}),
    "no-evidence": ("no evidence", {"evidence": False}),
    "no-scene": ("no scene", {"scene": False}),
    "digits": ("numbers as digits", {"numbers": "digits"}),
    "plain": ("plain numbers", {"numbers": "plain"}),
    "value-tokens": ("one token per band value", {}),
    "no-prior": ("no prior: one real place", {}),
}
RATES: dict[Name, tuple[float, ...]] = {
    "sophia": (2.4e-4, 4.8e-4, 9.6e-4, 1.92e-3),
    "adamw": (6e-4, 1.2e-3, 2.4e-3),
    "muon": (6e-4, 1.2e-3, 2.4e-3),
}
RHO, RHOS = 0.04, (0.4, 4.0, 40.0)  # SophiaG's own; others to try where it clips too many or too few
PAIRS = ((0.4, 9.6e-4), (4, 1.92e-3), (40, 4.8e-3))  # and rates to go with them
UNCLIPPED = (0.05, 0.6)  # about .1 to .5 is meant
SEED = 0
QUARTERS, EVALUATIONS = 4, 12  # of table 1, of table 2
CUBES = ("flanders-2018", "hls-pixel-logging", "landsat-row-colorado")
REAL = CUBES[0]  # what "no-prior" learns from
REAL_PX, REAL_STEP_PX, REAL_DATES, REAL_LENGTH = 16, 4, 0.7, 1_000_000
PEERS = ("linear", "harmonic", "whittaker")
PIXELS, FOLDS = 80, 2
BLEND = slice(5 * len(BANDS), 6 * len(BANDS))  # of a query's features: asinh of how far the blend is from the base

Figures = dict[str, Any]
Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Recipe:
    """How one run is trained; `rho` None for Sophia's own."""

    optimizer: Name
    lr: float
    steps: int
    seed: int = SEED
    evaluations: int = QUARTERS
    rho: float | None = None

    @property
    def name(self) -> str:
        """As in the file of figures."""
        return f"{self.optimizer} lr {self.lr:g} rho {self.rho or RHO:g} steps {self.steps} seed {self.seed}"


@dataclass(frozen=True)
class RealPatch:
    """See vsat.model.dataset.PatchLike."""

    refl_tbyx: np.ndarray
    fmask_tyx: np.ndarray
    day_t: np.ndarray
    sensor_t: np.ndarray


class RealPatches:
    """Overlapping squares of a block's left half, its first dates only, as a PatchSource."""

    def __init__(self, block: Block) -> None:
        looks = int(REAL_DATES * len(block.day_t))
        fmask = np.where(block.clear_tyx[:looks], 0, int(Fmask.CLOUD)).astype(np.uint8)
        height, width = fmask.shape[1:]
        self.patches = []
        for y in range(0, height - REAL_PX + 1, REAL_STEP_PX):
            for x in range(0, width // 2 - REAL_PX + 1, REAL_STEP_PX):
                at = np.s_[..., y : y + REAL_PX, x : x + REAL_PX]
                refl = block.refl_tbyx[:looks][at]
                self.patches.append(RealPatch(refl, fmask[at], block.day_t[:looks], block.sensor_t[:looks]))

    def __len__(self) -> int:
        return len(self.patches)

    def read(self, index: int) -> RealPatch:
        return self.patches[index]

    def name(self, index: int) -> str:
        return f"{REAL}, square {index}"


@dataclass(frozen=True)
class Exam:
    """A fold of a real cube: what a model is given and asked, (target's place among the days, mask, truth), best MAE."""

    cube: str
    given_tbyx: np.ndarray
    context_tyx: np.ndarray
    question: Question
    wanted_yx: np.ndarray
    targets: tuple[tuple[int, np.ndarray, np.ndarray], ...]
    peers: dict[str, np.ndarray]


class Kept:
    """Figures of finished runs, in a file where there is one."""

    def __init__(self, path: Path | None, settings: Figures) -> None:
        self.path, self.settings, self.runs = path, settings, dict[str, Figures]()
        if path is not None and path.exists():
            found = json.loads(path.read_text("utf-8"))
            if found["settings"] != settings:
                raise SystemExit(f"{path} holds runs with {found['settings']}; choose another --out")
            self.runs = found["runs"]

    def of(self, name: str, run: Callable[[], Figures]) -> Figures:
        """The figures of that name, run if they are not there."""
        if name not in self.runs:
            start = time.monotonic()
            self.runs[name] = run()
            tell(f"{name}: {time.monotonic() - start:.0f} s")
            if self.path is not None:
                aside = self.path.with_suffix(".part")
                aside.write_text(json.dumps({"settings": self.settings, "runs": self.runs}, indent=1) + "\n", "utf-8")
                aside.replace(self.path)
        return self.runs[name]


def tell(text: str) -> None:
    print(f"  {text}", file=sys.stderr, flush=True)


# Batches


def real_examples(block: Block) -> Mixed:
    """The synthetic set's mix of gaps and pixels, of real squares."""
    source = RealPatches(block)
    index = np.resize(np.arange(len(source)), REAL_LENGTH)

    def some(seed: int, cells: int, design: GapDesign) -> Examples:
        return Examples(PatchDataset(source, index, seed=seed, design=design), cells=cells)

    small = [some(SEED + 1 + part, SMALL_CELLS, WHOLE) for part in range(SMALL_PARTS)]
    return Mixed([some(SEED, CELLS, DESIGN), *small])


def batches(folder: Path, name: str, count: int, size: int, examples: Callable[[], Mixed]) -> list[Path]:
    """Files of batches, those made that are not there."""
    paths = [folder / f"{name}-{size}-{n:05}.pt" for n in range(count)]
    missing = [(n, path) for n, path in enumerate(paths) if not path.exists()]
    if not missing:
        return paths
    start, made = time.monotonic(), examples()
    folder.mkdir(parents=True, exist_ok=True)
    for n, path in missing:
        chosen = np.random.default_rng([SEED, n]).integers(len(made), size=size)
        torch.save(collate([made[item] for item in chosen.tolist()]), path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)
    tell(f"{len(missing)} batches of {name}: {time.monotonic() - start:.0f} s")
    return paths


def held_out_batches(count: int, size: int) -> list[Batch]:
    """Patches of the prior that no run learns from; `partial` (n,) marks sequences whose dates are partly seen."""
    start, source = time.monotonic(), Prior(SEED, count, first=HELD_OUT_FIRST)
    patches = PatchDataset(source, np.arange(count), seed=SEED + 1, design=DESIGN)
    examples = Examples(patches, drops=False)

    def marked(item: int) -> Example:
        one = examples[item]
        kind = patches[int(one["index"])]["kind"]
        return one | {"partial": (kind == 0).expand(len(one["clear"]))}

    found = [marked(item) for item in range(count)]
    tell(f"{count} held-out patches: {time.monotonic() - start:.0f} s")
    return [collate(found[first : first + size]) for first in range(0, count, size)]


# Training


@contextmanager
def bf16() -> Iterator[None]:
    with torch.autocast("cpu", torch.bfloat16):
        yield


def train(model: AnyDate, paths: list[Path], held_out: list[Batch], recipe: Recipe) -> Figures:
    """Train as `vsat.model.trainer` does. Shorter runs see the first of the batches that longer ones see."""
    options = TrainOptions(optimizer=recipe.optimizer, lr=recipe.lr, steps=recipe.steps, seed=recipe.seed)
    optimizer: Any = make_optimizer(
        recipe.optimizer, model, lr=options.peak, weight_decay=options.decay, hessian_every=options.hessian_every
    )
    if recipe.rho is not None:
        for group in optimizer.param_groups:
            group["rho"] = recipe.rho
    schedule = get_scheduler(
        "cosine_warmup_with_min_lr", optimizer, num_warmup_steps=math.ceil(options.warmup * recipe.steps),
        num_training_steps=recipe.steps, scheduler_specific_kwargs={"min_lr_rate": options.floor},
    )  # fmt: skip
    order = np.random.default_rng(recipe.seed).permutation(len(paths))[: recipe.steps]
    due = {math.ceil(recipe.steps * n / recipe.evaluations) for n in range(1, recipe.evaluations + 1)}
    curve, seconds = [(0, held_out_loss(model, held_out))], 0.0
    for step, n in enumerate(order.tolist()):
        batch = torch.load(paths[n])
        start = time.process_time()
        one_step(model, batch, optimizer, options, step)
        schedule.step()
        seconds += time.process_time() - start
        if step + 1 in due:
            curve.append((step + 1, held_out_loss(model, held_out)))
            tell(
                f"{recipe.name}: step {step + 1}, {1000 * seconds / (step + 1):.0f} ms a step, loss {curve[-1][1]:.4f}"
            )
    share = optimizer.unclipped if recipe.optimizer == "sophia" else None
    return asdict(recipe) | {"curve": curve, "ms": 1000 * seconds / recipe.steps, "unclipped": share}


def one_step(model: AnyDate, batch: Batch, optimizer: Any, options: TrainOptions, step: int) -> None:
    model.train()
    count = 0
    for part in parts_of(batch, SEQUENCES if isinstance(model, ValueTokens) else TOGETHER):
        with bf16():
            out = model(**part)
        (out.loss.float() * out.count).backward()
        count += int(out.count)
    for p in model.parameters():
        if p.grad is not None:
            p.grad.mul_(1 / count)
    if options.optimizer == "sophia" and optimizer.hessian_due:
        estimate_curvature(model, batch, optimizer, count, [options.seed, step, 0])
    torch.nn.utils.clip_grad_norm_(model.parameters(), options.clip)
    optimizer.step()
    model.zero_grad()


def parts_of(batch: Batch, sequences: int) -> Iterator[Batch]:
    """So many sequences at a time: their summed losses have the batch's gradient, in less memory."""
    for first in range(0, len(batch["clear"]), sequences):
        yield {name: array[first : first + sequences] for name, array in batch.items() if name != "index"}


def estimate_curvature(model: AnyDate, batch: Batch, optimizer: Any, count: int, seed: list[int]) -> None:
    """Give Sophia the gradient against labels drawn from the model's output, and then the true one again."""
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
    trained = list(model.parameters())
    true = [p.grad for p in trained]
    with bf16():
        loss = model.sampled_loss(**batch, generator=generator)
    grads = torch.autograd.grad(loss.float(), trained, allow_unused=True)
    for p, grad in zip(trained, grads, strict=True):
        p.grad = torch.zeros_like(p) if grad is None else grad
    optimizer.update_hessian(count)
    for p, before in zip(trained, true, strict=True):
        p.grad = before


# Measuring


@torch.no_grad()
def held_out_loss(model: AnyDate, held_out: list[Batch]) -> float:
    """Mean over all values scored."""
    model.eval()
    total = count = 0.0
    for batch in held_out:
        with bf16():
            out = model(**batch)
        total, count = total + float(out.loss) * int(out.count), count + int(out.count)
    return total / count


@torch.no_grad()
def synthetic_ratios(model: AnyDate, held_out: list[Batch]) -> dict[str, float]:
    """MAE of the median relative to that of the blend in time, on dates hidden whole and dates partly seen."""
    model.eval()
    missed: dict[bool, list[tuple[torch.Tensor, torch.Tensor]]] = {True: [], False: []}
    for batch in held_out:
        asked = batch["target"].any(-1)
        names = ("value", "look", "clear", "look_shared", "base", "query", "query_shared", "day_t", "day_q", "has")
        said = quantiles(model.logits(**{name: batch[name] for name in names}, asked=asked), (0.5,))[..., 0]
        own = said * batch["scale"] + batch["base"]
        blend = batch["query"][..., BLEND].sinh() * batch["scale"] + batch["base"]
        truth = batch["truth"][..., 0]  # the look that was hidden
        scored = batch["target"][..., None] & batch["has"][:, None, None]
        for partial, found in missed.items():
            mine = scored & (batch["partial"] == partial)[:, None, None, None]
            found.append(((own - truth)[mine].abs(), (blend - truth)[mine].abs()))
    return {
        "partial" if partial else "whole": float(
            torch.cat([own for own, _ in found]).mean() / torch.cat([blend for _, blend in found]).mean()
        )
        for partial, found in missed.items()
    }


def load_exams(shared: Path) -> list[Exam]:
    """Folds of the real cubes there are."""
    folder = shared if shared.name == "cubes" else shared / "data" / "cubes"
    start = time.monotonic()
    blocks = [cube_source(folder / f"{name}.nc").blocks[0] for name in CUBES if (folder / f"{name}.nc").exists()]
    found = [exam for block in blocks for exam in exams_of(block)]
    tell(f"{len(found)} folds of {len(blocks)} real cubes: {time.monotonic() - start:.0f} s")
    return found


def exams_of(block: Block) -> Iterator[Exam]:
    """Dates hidden whole, in some pixels; of the cube that "no-prior" learns from, those it has not seen."""
    wanted = np.zeros(block.clear_tyx.shape[1:], bool)
    free = np.ones_like(wanted)
    if block.source == REAL:
        free[:, : wanted.shape[1] // 2] = False
    at = np.flatnonzero(free)
    wanted.flat[np.random.default_rng(SEED).choice(at, min(PIXELS, at.size), replace=False)] = True
    for fold in islice(folds(block.clear_tyx, block.day_t, "dates", count=FOLDS, seed=5), FOLDS):
        context, days = fold.context_tyx, np.unique([target.day for target in fold.targets]).astype(np.int32)
        given, seen = hidden(block.refl_tbyx, context), context[:, wanted][:, None]
        few = given[..., wanted][..., None, :]
        peers: dict[str, list[np.ndarray]] = {name: [] for name in PEERS}
        made = {
            name: fill_temporal(few, seen, block.day_t, days, method=name, exclude_days=0).refl_qbyx for name in PEERS
        }
        targets = []
        for target in fold.targets:
            q, mask = int(np.searchsorted(days, target.day)), target.mask_yx & wanted & context.any(axis=0)
            truth = block.refl_tbyx[target.look][:, mask] * SCALE
            targets.append((q, mask, truth))
            for name in PEERS:
                peers[name].append(np.abs(made[name][q][:, 0, mask[wanted]] * SCALE - truth))
        slots = np.array([BANDS.index(band) for band in block.bands])
        question = Question(block.day_t, days, slots, block.sensor_t)
        misses = {name: np.concatenate(parts, axis=1) for name, parts in peers.items()}
        yield Exam(block.source, given, context, question, wanted, tuple(targets), misses)


def real_ratios(model: AnyDate, exams: list[Exam]) -> dict[str, float]:
    """MAE of the median on each cube relative to the best classical method there."""
    model.eval()
    ratios = {}
    for cube in dict.fromkeys(exam.cube for exam in exams):
        mine, own = [exam for exam in exams if exam.cube == cube], []
        for exam in mine:
            said = answer(model, exam.given_tbyx, exam.context_tyx, exam.question, wanted_yx=exam.wanted_yx)
            own += [np.abs(said.quantile_qlbyx[q, 2][:, mask] - truth) for q, mask, truth in exam.targets]
        best = min(float(np.concatenate([exam.peers[name] for exam in mine], axis=1).mean()) for name in PEERS)
        ratios[cube] = float(np.concatenate(own, axis=1).mean()) / best
    return ratios


# Tables


@dataclass(frozen=True)
class Bench:
    """What all runs share."""

    given: argparse.Namespace
    kept: Kept
    cache: Path
    held_out: list[Batch]
    exams: list[Exam]

    def prior(self) -> list[Path]:
        """Batches of the synthetic prior."""
        return batches(self.cache, "prior", self.given.steps, self.given.batch, lambda: _synthetic(SEED, 1))

    def real(self) -> list[Path]:
        """Batches of one real place."""
        block = cube_source(self.given.shared / "data" / "cubes" / f"{REAL}.nc").blocks[0]
        return batches(self.cache, "real", self.given.steps, self.given.batch, lambda: real_examples(block))

    def run(self, recipe: Recipe) -> Figures:
        """One run of table 2."""

        def figures() -> Figures:
            model = new_model(AnyDateConfig.of_size(self.given.size), seed=recipe.seed)
            return train(model, self.prior(), self.held_out, recipe)

        return self.kept.of(recipe.name, figures)

    def row(self, name: str) -> Figures:
        """One run of table 1."""

        def figures() -> Figures:
            config = AnyDateConfig.of_size(self.given.size, **ROWS[name][1])
            model = values_model(config) if name == "value-tokens" else new_model(config, seed=SEED)
            lr = self.given.lr or LEARNING_RATE[self.given.optimizer]
            found: Figures = {"curve": [(0, held_out_loss(model, self.held_out))], "ms": None}
            if name != "untrained":
                paths = self.real() if name == "no-prior" else self.prior()
                found = train(model, paths, self.held_out, Recipe(self.given.optimizer, lr, self.given.steps))
            found["weights"] = sum(p.numel() for p in model.parameters())
            return found | synthetic_ratios(model, self.held_out) | {"real": real_ratios(model, self.exams)}

        return self.kept.of(f"table 1 {name}", figures)


def values_model(config: AnyDateConfig) -> ValueTokens:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return ValueTokens(config)


def table_1(bench: Bench, names: list[str]) -> None:
    quarters = " | ".join(f"loss at step {math.ceil(bench.given.steps * n / QUARTERS)}" for n in range(1, QUARTERS + 1))
    print(
        f"| model | million weights | {quarters} | whole dates, to blend | partial dates, to blend | real cubes, to best | ms |"
    )
    print("|---|" + "---|" * (QUARTERS + 5))
    for name in names:
        if name == "no-prior" and not any(exam.cube == REAL for exam in bench.exams):
            print(f"| {ROWS[name][0]} |" + " - |" * (QUARTERS + 5), flush=True)
            continue
        found = bench.row(name)
        losses = [f"{loss:.4f}" for _, loss in found["curve"][1:]] or ["", "", "", f"{found['curve'][0][1]:.4f}"]
        real = list(found["real"].values())
        cells = [
            ROWS[name][0], f"{found['weights'] / 1e6:.2f}", *losses, f"{found['whole']:.3f}", f"{found['partial']:.3f}",
            f"{np.exp(np.mean(np.log(real))):.3f}" if real else "-", f"{found['ms']:.0f}" if found["ms"] else "-",
        ]  # fmt: skip
        print(f"| {' | '.join(cells)} |", flush=True)


def best_recipe(bench: Bench, name: Name, tried: list[str]) -> Recipe:
    """With the learning rate, and Sophia's rho, that end lowest at half the steps; `tried` gets a line for each."""
    half = max(2, bench.given.steps // 2)
    recipes = [Recipe(name, lr, half, evaluations=2) for lr in RATES[name]]
    best = lowest(bench, recipes, tried)
    share = bench.run(best)["unclipped"]
    if share is not None and not UNCLIPPED[0] <= share <= UNCLIPPED[1]:
        others = [replace(best, rho=rho) for rho in RHOS] + [replace(best, rho=rho, lr=lr) for rho, lr in PAIRS]
        best = lowest(bench, [best, *others], tried)
    return replace(best, steps=bench.given.steps, evaluations=EVALUATIONS)


def lowest(bench: Bench, recipes: list[Recipe], tried: list[str]) -> Recipe:
    """Which of these ends lowest; one that is lost counts as high."""
    ends = {}
    for recipe in recipes:
        found = bench.run(recipe)
        loss, share = found["curve"][-1][1], found["unclipped"]
        ends[recipe] = loss if math.isfinite(loss) else math.inf
        rho, part = ("-", "-") if share is None else (f"{recipe.rho or RHO:g}", f"{share:.3f}")
        line = f"| {recipe.optimizer} | {recipe.lr:g} | {rho} | {recipe.steps} | {loss:.4f} | {part} |"
        tried += [line] if line not in tried else []
    return min(recipes, key=ends.__getitem__)


def table_2(bench: Bench, names: list[Name]) -> None:
    tried: list[str] = []
    recipes = {name: best_recipe(bench, name, tried) for name in names}
    runs = {
        name: [bench.run(replace(recipe, seed=seed)) for seed in range(bench.given.seeds)]
        for name, recipe in recipes.items()
    }
    curves = {name: np.mean([run["curve"] for run in found], axis=0) for name, found in runs.items()}
    target = max(float(curve[-1, 1]) for curve in curves.values())
    print("| optimiser | lr | rho | steps | held-out loss | unclipped at the end |\n|---|---|---|---|---|---|")
    print("\n".join(tried) + "\n")
    print(
        f"| optimiser | lr | rho | held-out loss, mean of {bench.given.seeds} | least to most | steps to {target:.4f} | "
        "seconds to it | ms | unclipped at the end |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for name, found in runs.items():
        ends = [run["curve"][-1][1] for run in found]
        steps, ms = steps_to(curves[name], target), float(np.mean([run["ms"] for run in found]))
        rho, share = "-", "-"
        if name == "sophia":
            rho, share = f"{recipes[name].rho or RHO:g}", f"{np.mean([run['unclipped'] for run in found]):.3f}"
        print(
            f"| {name} | {recipes[name].lr:g} | {rho} | {np.mean(ends):.4f} | {min(ends):.4f} to {max(ends):.4f} | "
            f"{steps:.0f} | {steps * ms / 1000:.0f} | {ms:.0f} | {share} |"
        )


def steps_to(curve: np.ndarray, target: float) -> float:
    """Where a curve (evaluations, [step, loss]) first comes down to a loss, between two evaluations by a line."""
    first = int(np.flatnonzero(curve[:, 1] <= target)[0])
    if first == 0:
        return 0.0
    (step, loss), (next_step, next_loss) = curve[first - 1], curve[first]
    return float(step + (next_step - step) * (loss - target) / (loss - next_loss))


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--table", choices=("1", "2", "both"), default="both")
    parser.add_argument("--only", default="", help=f"of {', '.join([*ROWS, *RATES])}")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=32, help="patches")
    parser.add_argument("--size", choices=SIZES, default="tiny")
    parser.add_argument("--seeds", type=int, default=3, help="of table 2")
    parser.add_argument("--optimizer", choices=WEIGHT_DECAY, default="adamw", help="of table 1")
    parser.add_argument("--lr", type=float, help="of table 1")
    parser.add_argument("--held-out", type=int, default=96, help="patches")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache", type=Path, help="folder that keeps batches")
    given = parser.parse_args()
    given.shared = given.shared.parent if given.shared.name == "data" else given.shared
    if given.steps < QUARTERS:
        parser.error(f"--steps: {QUARTERS} or more")
    unknown = set(filter(None, given.only.split(","))) - {*ROWS, *RATES}
    if unknown:
        parser.error(f"--only: no {', '.join(sorted(unknown))}")
    return given


def main() -> None:
    given = options()
    torch.set_num_threads(given.threads)
    warnings.filterwarnings("ignore", category=RuntimeWarning)
    settings = ("steps", "batch", "size", "optimizer", "lr", "held_out", "threads")
    kept = Kept(given.out, {name: getattr(given, name) for name in settings})
    chosen = [name for name in given.only.split(",") if name]
    rows, optimisers = ([name for name in table if not chosen or name in chosen] for table in (ROWS, RATES))
    with tempfile.TemporaryDirectory() as folder:
        exams = load_exams(given.shared) if given.table != "2" and rows else []
        bench = Bench(given, kept, given.cache or Path(folder), held_out_batches(given.held_out, given.batch), exams)
        if given.table != "2" and rows:
            table_1(bench, rows)
            print()
        if given.table != "1" and optimisers:
            table_2(bench, optimisers)


if __name__ == "__main__":
    main()
