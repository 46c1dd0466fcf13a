"""Training that goes on: whatever ended a run, the next one comes to the same weights, on a CPU to the bit."""

import hashlib
import json
import logging
import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import distributed
from transformers import PreTrainedModel, TrainingArguments

from vsat.errors import InputError, VsatError
from vsat.model import saves
from vsat.model.dataset import Sample
from vsat.model.loader import Samples
from vsat.model.options import TrainOptions, TrainResult
from vsat.model.passes import SMALLER, is_out_of_memory
from vsat.model.trainer import RUN, StepTrainer, TrainData

__all__ = ["TrainOptions", "TrainResult", "train"]

log = logging.getLogger(__name__)

FREE = ("save_every", "evaluate_every", "evaluate_first", "patience", "minutes", "threads")  # may change later


def train(
    model: PreTrainedModel,
    train_set: Samples,
    held_out: Samples | None,
    options: TrainOptions,
    out: Path,
    *,
    collate: Callable[[list[Sample]], Sample],
    report: Callable[[int, int], None] | None = None,
) -> TrainResult:
    """Train a model, from its newest whole checkpoint if there is one; it ends with the best weights found.

    Args:
        model: `model(**batch)` has loss, the mean over scored values (0 without any), and count, their number;
            `model.sampled_loss(**batch, generator=g)` is the loss against labels drawn from its output.
        train_set: a sample is decided by its index and the epoch; one whose own loss or gradient is not finite is named in a
            warning, left out, and counted.
        held_out: early stopping and the best weights go by its loss; None to keep the last.
        options: how.
        out: for checkpoints, and TensorBoard's files in `logs`; under torchrun the same for all processes.
        collate: makes a batch of samples: tensors with a row for each sequence, which may be parted where memory is short,
            and "index", which samples they are of.
        report: told (steps done, steps in all) by the first process.

    Raises:
        InputError: an option, the data or the model is not that of the checkpoint, or a step needs more samples than
            there are.
        VsatError: a loss or gradient is not finite, and not for a few samples alone; or memory ran out where nothing can be
            cut any more. Nothing was saved after it.
        StoreError: a checkpoint could not be written; those before it are whole.
    """
    assert held_out is not train_set, "an evaluation sets its epoch"
    args = _arguments(options, out)
    run = _run_of(model, train_set, options, args.world_size)
    if len(train_set) < (needed := options.batch * options.accumulate * args.world_size):
        step = "draw more patches, or choose a smaller batch or accumulate"
        raise InputError(f"{len(train_set)} samples, and one step takes {needed}", place="train", next_step=step)
    begun = _begun(out, run, first=args.process_index == 0)
    data = TrainData(train_set, held_out, collate)
    try:
        return StepTrainer(model, args, options, data, run, begun, report).finished()
    except (MemoryError, RuntimeError) as error:  # beside a batch's passes, which mend it themselves
        if not is_out_of_memory(error):
            raise
        raise VsatError(f"memory ran out: {error}", place="training", next_step=SMALLER) from error


def _arguments(options: TrainOptions, out: Path) -> TrainingArguments:
    """What Trainer does itself; when to log, evaluate and save is said by `_Pace`."""
    args = TrainingArguments(
        output_dir=str(out), max_steps=options.steps, per_device_train_batch_size=options.batch,
        gradient_accumulation_steps=options.accumulate, max_grad_norm=options.clip, bf16=options.bf16, seed=options.seed,
        lr_scheduler_type="cosine_warmup_with_min_lr", lr_scheduler_kwargs={"min_lr_rate": options.floor},
        warmup_steps=math.ceil(options.warmup * options.steps), logging_nan_inf_filter=False, logging_strategy="no",
        eval_strategy="no", save_strategy="no", report_to="none", disable_tqdm=True, ignore_data_skip=True,
        use_cpu=not torch.cuda.is_available(),
    )  # fmt: skip
    args._n_gpu = min(args._n_gpu, 1)  # one device a process: torchrun, never nn.DataParallel
    return args


def _run_of(model: PreTrainedModel, train_set: Samples, options: TrainOptions, processes: int) -> dict[str, Any]:
    """What must stay as it is for a run to go on."""
    fixed = {name: value for name, value in asdict(options).items() if name not in FREE}
    layout = repr([(name, tuple(p.shape)) for name, p in model.named_parameters()]).encode()
    parameters = f"{sum(p.numel() for p in model.parameters())} laid out as {hashlib.sha256(layout).hexdigest()[:8]}"
    sizes = {"processes": processes, "samples": len(train_set), "parameters": parameters}
    return fixed | {"lr": options.peak, "weight_decay": options.decay} | sizes


def _begun(out: Path, run: dict[str, Any], *, first: bool) -> Path | None:
    """The checkpoint to go on from, the same for all processes: the first one looks."""
    found = [saves.newest(out) if first else None]
    if run["processes"] > 1:
        distributed.broadcast_object_list(found)
    if found[0] is None:
        return None
    before = json.loads((found[0] / RUN).read_text(encoding="utf-8"))["run"]
    for name in _changed(before, run):
        problem = f"{name} was {before.get(name)!r} and is {run[name]!r} now"
        raise InputError(problem, place=str(found[0]), next_step="train with what was, or into another folder")
    log.info("going on from %s", found[0])
    return found[0]


def _changed(before: dict[str, Any], run: dict[str, Any]) -> list[str]:
    """Names of what is not as it was; smaller batches and more of them to a step are the same steps, in less memory."""
    is_same_step = before["batch"] * before["accumulate"] == run["batch"] * run["accumulate"]
    alike = ("batch", "accumulate") if is_same_step else ()
    return [name for name in run if before.get(name) != run[name] and name not in alike]
