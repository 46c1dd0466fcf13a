"""transformers' Trainer, as vsat needs it: the loss of a step is the mean over its scored values, whatever its batches are.

Gradients are summed over all scored values of a step, of its accumulated batches and of all processes, and divided once
by their number. Sophia's second pass, batches in a fixed order, whole checkpoints. Samples whose own loss or gradient is
not finite are left out by name; where the weights are at fault, or too many samples are, training ends. Nothing here
reaches the network.
"""

import importlib.util
import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
import torch
from safetensors import SafetensorError
from torch import distributed
from torch.optim import Optimizer
from transformers import PreTrainedModel, Trainer, TrainerCallback, TrainingArguments, set_seed
from transformers.integrations.integration_utils import TensorBoardCallback
from transformers.trainer_callback import PrinterCallback, TrainerControl, TrainerState
from transformers.utils import logging as transformers_logging

from vsat.errors import DiskFull, StoreError, VsatError
from vsat.model import saves
from vsat.model.dataset import PatchSampler, Sample
from vsat.model.loader import EverySample, PatchLoader, Samples, StepLoader
from vsat.model.optimizers import make_optimizer
from vsat.model.options import TrainOptions, TrainResult
from vsat.model.passes import Passes
from vsat.room import is_full

log = logging.getLogger(__name__)

KEPT = 2  # checkpoints, and the best one
STATE, RUN, HELD_OUT = "trainer_state.json", "run.json", "eval_loss"
MOST_LEFT_OUT = 0.05  # of a set, and half of a step; with more of it gone, it is not what was to be learned
NAMED = 8  # samples in a message


@dataclass(frozen=True)
class TrainData:
    """What a model learns from, what it is measured on (or None), and what makes batches of their samples."""

    train_set: Samples
    held_out: Samples | None
    collate: Callable[[list[Sample]], Sample]


class StepTrainer(Trainer):
    """Trains as far as `options` say.

    Args:
        model, options, data: see `training.train`.
        args: for Trainer; its strategies are all "no", for `_Pace` says when what is done.
        run: kept with each checkpoint, as it is.
        begun: the checkpoint to go on from, or None.
        report: told (steps done, steps in all) by the first process.
    """

    state: TrainerState
    control: TrainerControl

    def __init__(
        self, model: PreTrainedModel, args: TrainingArguments, options: TrainOptions, data: TrainData,
        run: dict[str, Any], begun: Path | None, report: Callable[[int, int], None] | None,
    ) -> None:  # fmt: skip
        before = {} if begun is None else json.loads((begun / RUN).read_text(encoding="utf-8"))
        self.started, self.earlier, self.late = time.monotonic(), float(before.get("seconds", 0)), False
        self.left_out: set[str] = set(before.get("left_out", ()))
        self.options, self.data, self.run, self.begun, self.report = options, data, run, begun, report
        self.net: Any = model
        self.out = Path(str(args.output_dir))
        super().__init__(model=model, args=args)
        self.passes = Passes(model, self.accelerator, options, world=args.world_size, parts=before.get("parts", 1))
        set_seed(options.seed + args.process_index)  # other dropout in each process
        if begun is not None:
            self.state = TrainerState.load_from_json(str(begun / STATE))
            self.forget_lost_best(self.state)
        self.first_step = self.state.global_step
        self.remove_callback(PrinterCallback)
        self.add_callback(_Pace(self))
        if args.process_index == 0:
            self._add_tensorboard()

    def finished(self) -> TrainResult:
        """Train what is left to train; the model then has the best weights."""
        if self.first_step < self.options.steps and not self.is_out_of_patience:
            self.train(resume_from_checkpoint=str(self.begun) if self.begun else None)
        last = self.state.global_step
        best = last if self.state.best_global_step is None else self.state.best_global_step
        if best != last or last == self.first_step:
            self._load_from_checkpoint(str(saves.folder_of(self.out, best)))
        if self.args.world_size > 1:
            self._let_go()
        ended: Literal["patience", "minutes"] = "patience" if self.is_out_of_patience else "minutes"
        return TrainResult(
            steps=last,
            seconds=self.seconds,
            losses=self._logged("loss"),
            held_out=self._logged(HELD_OUT),
            best_step=best,
            unclipped=next((share for _, share in reversed(self._logged("unclipped"))), None),
            stopped="steps" if last >= self.options.steps else ended,
            left_out=tuple(sorted(self.left_out)),
            parts=self.passes.parts,
        )

    @property
    def seconds(self) -> float:
        """That training took; pauses between runs are left out."""
        return self.earlier + time.monotonic() - self.started

    @property
    def is_out_of_patience(self) -> bool:
        """Whether as many evaluations as there is patience for have passed since the best one."""
        since = [step for step, _ in self._logged(HELD_OUT) if step > (self.state.best_global_step or 0)]
        return self.options.patience is not None and len(since) >= self.options.patience

    def forget_lost_best(self, state: TrainerState) -> None:
        """Where the best checkpoint has been damaged since, let the next evaluation be the best."""
        if state.best_global_step is None:
            return
        problem = saves.what_is_wrong(saves.folder_of(self.out, state.best_global_step))
        if problem:
            log.warning("the best checkpoint, of step %d, is lost: %s", state.best_global_step, problem)
            state.best_global_step = state.best_metric = None

    def _let_go(self) -> None:
        """Drop DDP, which would keep its process group's threads beyond destroy_process_group."""
        self.model_wrapped = self.net
        self.accelerator.free_memory()

    # What Trainer asks for

    def get_train_dataloader(self) -> Any:
        """Batches of the steps that are left."""
        options, data, args = self.options, self.data, self.args
        order = PatchSampler(len(data.train_set), seed=options.seed, rank=args.process_index, world=args.world_size)
        self.batches = StepLoader(
            data.train_set, order, batch_size=options.batch, accumulate=options.accumulate, steps=options.steps,
            done=self.first_step, threads=options.threads, pin=torch.cuda.is_available(), collate=data.collate,
        )  # fmt: skip
        return self.batches

    def create_optimizer(self, model: Any = None) -> Optimizer:
        """The one that the options name; it stays `raw` when accelerate has wrapped it."""
        options = self.options
        self.raw: Any = make_optimizer(
            options.optimizer, self.net, lr=options.peak, weight_decay=options.decay,
            hessian_every=options.hessian_every,
        )  # fmt: skip
        self.optimizer = self.raw
        return self.optimizer

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Add a batch's gradients to the step's; with the step's last batch the step's loss is returned, else 0."""
        model.train()
        self.passes.add(model, self._prepare_inputs(inputs))
        loss = self._close_step() if self.accelerator.sync_gradients else 0.0
        return torch.tensor(loss, device=self.args.device)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Keep and show numbers of this step."""
        share = self.raw.unclipped if "loss" in logs and self.options.optimizer == "sophia" else math.nan
        super().log(logs if math.isnan(share) else logs | {"unclipped": share}, start_time)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Held-out loss; a new best one, and the end of patience, are saved."""
        loss, step = self._held_out_loss(), self.state.global_step
        log.info("step %d of %d, %.0f s: held-out loss %.6g", step, self.options.steps, self.seconds, loss)
        self.log({HELD_OUT: loss})
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, {HELD_OUT: loss})
        if self.state.best_metric is None or loss < self.state.best_metric:
            self.state.best_metric, self.state.best_global_step = loss, step
            self.control.should_save = True
        elif self.is_out_of_patience:
            self.control.should_save = self.control.should_training_stop = True
        return {HELD_OUT: loss}

    def save_now(self) -> None:
        """A checkpoint of this step."""
        self._save_checkpoint(self.net, None)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Aside first; the first process writes all but the other processes' random numbers."""
        step, is_first = self.state.global_step, self.args.process_index == 0
        aside = saves.folder_of(self.out, step, aside=True)
        with _writing(aside):
            if is_first:
                saves.begin(aside)
        self.accelerator.wait_for_everyone()
        with _writing(aside):
            self._save_rng_state(str(aside))
            if is_first:
                with _no_bars():
                    self.net.save_pretrained(aside)
                self._save_optimizer_and_scheduler(str(aside))
                self.state.save_to_json(str(aside / STATE))
                known = {"seconds": self.seconds, "parts": self.passes.parts, "left_out": sorted(self.left_out)}
                (aside / RUN).write_text(json.dumps({"run": self.run} | known), encoding="utf-8")
        self.accelerator.wait_for_everyone()
        with _writing(aside):
            if is_first:
                saves.finish(aside)
                newest, best = sorted(saves.steps(self.out))[-KEPT:], self.state.best_global_step
                saves.keep(self.out, {*newest, step if best is None else best})
        self.accelerator.wait_for_everyone()

    # Parts of them

    def _close_step(self) -> float:
        """Make of the step's summed gradients those of its mean loss, and return that."""
        self.late = self.options.minutes is not None and time.monotonic() - self.started > 60 * self.options.minutes
        step = self.state.global_step
        loss, count, problem = self._averaged()
        if problem:
            self._leave_out(f"the {problem} of step {step + 1} is not finite", self.batches.items(step).tolist())
            loss, count, problem = self._averaged()
        if problem:
            self._stop(f"the {problem} of step {step + 1} is not finite", self._names_of(step))
        if self.options.optimizer == "sophia" and self.raw.hessian_due:
            self._estimate_curvature(count)
        self.passes.seen = []
        return loss

    def _averaged(self) -> tuple[float, int, str]:
        """Mean loss over the step, the number of values that it is of, and what of it is not finite; .grad is its gradient."""
        total, count, late = self._over_processes([*self.passes.totals(), self.late])
        self.late, step = late > 0, self.state.global_step
        if not math.isfinite(total):
            return total, int(count), "loss"
        if not count:
            self._stop(f"step {step + 1} has no scored value", self._names_of(step))
        norm = self.passes.average(int(count))
        return total / count, int(count), "" if math.isfinite(norm) else "gradient"

    def _leave_out(self, problem: str, items: list[int]) -> None:
        """Do the step again without those of its samples that are at fault, if it is they that are."""
        train_set, collate, size = self.data.train_set, self.data.collate, self.options.batch
        lost = [item for item in items if not self.passes.is_sound(self._prepare_inputs(collate([train_set[item]])))]
        kept = [item for item in items if item not in lost]
        some, all_of_them = self._over_processes([len(lost), len(items)])
        if not some or 2 * some > all_of_them:
            at_fault = f"{problem}, with {some:.0f} of {all_of_them:.0f} samples alone"
            self._stop(at_fault, self._names_of(self.state.global_step))
        self._note(problem, "train", lost)
        batches = (kept[first : first + size] for first in range(0, len(kept), size))
        self.passes.replace(self._prepare_inputs(collate([train_set[item] for item in batch])) for batch in batches)

    def _note(self, problem: str, part: Literal["train", "held-out"], items: list[int]) -> None:
        """Count the samples that are left out of a set, by all processes, and tell each once."""
        of: Any = self.data.train_set if part == "train" else self.data.held_out
        fresh = self._everywhere(f"{part} {of.name(item)}" for item in items) - self.left_out
        self.left_out |= fresh
        for name in sorted(fresh) if self.args.process_index == 0 else ():
            log.warning("left out: %s, for %s with it", name, problem)
        gone = {name for name in self.left_out if name.startswith(part)}
        if fresh and len(gone) > max(1.0, MOST_LEFT_OUT * len(of)):
            self._stop(f"{problem}; {len(gone)} of {len(of)} are left out by now", fresh)

    def _estimate_curvature(self, count: int) -> None:
        """Give Sophia the gradient against labels drawn from the model's output, and then the true one again."""
        step, args = self.state.global_step, self.args
        seed = np.random.SeedSequence([self.options.seed, step, args.process_index]).generate_state(1)[0]
        trained = [p for p in self.net.parameters() if p.requires_grad]
        true = [p.grad for p in trained]
        drawn = self.passes.drawn(lambda: torch.Generator(args.device).manual_seed(int(seed)), count)
        for p, grad in zip(trained, drawn, strict=True):
            if args.world_size > 1:
                distributed.all_reduce(grad)
            p.grad = grad
        if not all(bool(grad.isfinite().all()) for grad in drawn):
            self._stop(f"the gradient of step {step + 1} against drawn labels is not finite", self._names_of(step))
        self.raw.update_hessian(count)
        for p, before in zip(trained, true, strict=True):
            p.grad = before

    def _held_out_loss(self) -> float:
        """Mean over all scored values of the held-out set, the same whatever the batches and processes."""
        held_out, args, size, collate = self.data.held_out, self.args, self.options.batch, self.data.collate
        assert held_out is not None
        order = EverySample(len(held_out), rank=args.process_index, world=args.world_size)
        loader = PatchLoader(held_out, order, batch_size=size, threads=self.options.threads, collate=collate)
        loader.set_epoch(0)
        total, scored, lost, items = 0.0, 0, list[int](), order.order().tolist()
        self.net.eval()
        for first, inputs in zip(range(0, len(items), size), loader, strict=True):
            summed, count = self.passes.held_out(self._prepare_inputs(inputs))
            if not math.isfinite(summed):  # of which sample?
                alone = {item: self._measured_alone(item) for item in items[first : first + size]}
                lost += [item for item, (loss, _) in alone.items() if not math.isfinite(loss)]
                summed = sum(loss for item, (loss, _) in alone.items() if item not in lost)
                count = sum(number for item, (_, number) in alone.items() if item not in lost)
            total, scored = total + summed, scored + count
        problem = f"the held-out loss after step {self.state.global_step}"
        self._note(f"{problem} is not finite", "held-out", lost)
        total, values = self._over_processes([total, scored])
        if not values:
            self._stop(f"{problem} is of no scored value", [])
        return total / values

    def _measured_alone(self, item: int) -> tuple[float, int]:
        assert self.data.held_out is not None
        return self.passes.held_out(self._prepare_inputs(self.data.collate([self.data.held_out[item]])))

    def _over_processes(self, values: Iterable[float]) -> list[float]:
        """Sums over all processes."""
        summed = torch.tensor([float(value) for value in values], dtype=torch.float64, device=self.args.device)
        if self.args.world_size > 1:
            distributed.all_reduce(summed)
        return [float(value) for value in summed]

    def _everywhere(self, names: Iterable[str]) -> set[str]:
        """Of all processes."""
        found: list[list[str]] = [list(names)]
        if self.args.world_size > 1:
            found = [[] for _ in range(self.args.world_size)]
            distributed.all_gather_object(found, list(names))
        return {name for part in found for name in part}

    def _names_of(self, step: int) -> list[str]:
        return [self.data.train_set.name(item) for item in self.batches.items(step).tolist()]

    def _stop(self, problem: str, names: Iterable[str]) -> NoReturn:
        """End in all processes alike, with the samples of all of them."""
        named = sorted(self._everywhere(names))
        more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
        step = f"look at these samples, or try a smaller lr; checkpoints in {self.out} are from before it"
        raise VsatError(f"{problem}; samples {', '.join(named[:NAMED])}{more}", place="training", next_step=step)

    def _logged(self, name: str) -> list[tuple[int, float]]:
        return [(int(entry["step"]), float(entry[name])) for entry in self.state.log_history if name in entry]

    def _add_tensorboard(self) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            log.warning("no TensorBoard files are written: tensorboard is not installed")
            return
        from torch.utils.tensorboard import SummaryWriter

        # what a killed run showed beyond its last checkpoint is taken back
        writer = SummaryWriter(log_dir=str(self.out / "logs"), purge_step=self.first_step + 1)
        self.add_callback(TensorBoardCallback(writer))  # type: ignore[no-untyped-call]


@contextmanager
def _no_bars() -> Iterator[None]:
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]


@contextmanager
def _writing(aside: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:  # torch tells of a full disk by a RuntimeError
        step = "make room there, and train again: it goes on from the checkpoint before"
        kind = DiskFull if is_full(error, aside) else StoreError
        raise kind(f"the checkpoint could not be written: {error}", place=str(aside), next_step=step) from error


class _Pace(TrainerCallback):
    """Says after each step what is due: numbers, an evaluation, a checkpoint, the end."""

    def __init__(self, trainer: StepTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Trainer has read the state anew; weights that were given are measured and saved before they change."""
        trainer = self.trainer
        trainer.forget_lost_best(state)
        if trainer.options.evaluate_first and trainer.data.held_out is not None and trainer.begun is None:
            trainer.evaluate()
            trainer.save_now()

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Set `control` for the step that has just been done."""
        trainer, options, step = self.trainer, self.trainer.options, state.global_step
        is_last = step >= options.steps
        control.should_log = True
        control.should_evaluate = trainer.data.held_out is not None and (is_last or step % options.evaluate_every == 0)
        control.should_save = is_last or trainer.late or step % options.save_every == 0
        control.should_training_stop = is_last or trainer.late
        if trainer.report is not None and trainer.args.process_index == 0:
            trainer.report(step, options.steps)
