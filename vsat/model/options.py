"""How to train, and what it came to."""

from dataclasses import dataclass
from typing import Literal

from vsat.errors import InputError
from vsat.model.optimizers import LEARNING_RATE, WEIGHT_DECAY, Name

COUNTS = ("steps", "batch", "accumulate", "save_every", "evaluate_every", "hessian_every", "threads")
POSITIVE = ("lr", "clip", "minutes", "patience")


@dataclass(frozen=True)
class TrainOptions:
    """How to train.

    Attributes:
        optimizer: sophia, adamw or muon.
        lr, weight_decay: None for the optimiser's own, see `optimizers`.
        steps: of the optimiser, in all.
        batch: samples of a batch, per process; `accumulate` of them make a step.
        warmup: share of the steps in which lr rises.
        floor: share of lr that the cosine ends at.
        clip: the gradient's largest norm.
        bf16: matrix products in bfloat16.
        seed: of order, dropout and drawn labels.
        save_every, evaluate_every: steps.
        evaluate_first: look at the held-out set before the first step too, so that weights that were given can be the best.
        patience: evaluations without a better held-out loss, after which training stops; None for never.
        hessian_every: steps between two of Sophia's estimates of the curvature.
        minutes: after so many it saves and stops; None for no limit.
        threads: that make batches ahead of the model.
    """

    optimizer: Name = "sophia"
    lr: float | None = None
    steps: int = 1000
    batch: int = 8
    accumulate: int = 1
    warmup: float = 0.05
    floor: float = 0.1
    weight_decay: float | None = None
    clip: float = 1.0
    bf16: bool = False
    seed: int = 0
    save_every: int = 200
    evaluate_every: int = 200
    evaluate_first: bool = False
    patience: int | None = None
    hessian_every: int = 10
    minutes: float | None = None
    threads: int = 1

    def __post_init__(self) -> None:
        sound: dict[str, bool] = {name: getattr(self, name) >= 1 for name in COUNTS}
        sound |= {name: (value := getattr(self, name)) is None or value > 0 for name in POSITIVE}
        sound |= {name: 0 <= getattr(self, name) <= 1 for name in ("warmup", "floor")}
        sound |= {name: (getattr(self, name) or 0) >= 0 for name in ("seed", "weight_decay")}
        sound |= {"optimizer": self.optimizer in LEARNING_RATE}
        for name in (name for name, is_sound in sound.items() if not is_sound):
            step = f"the optimisers are {', '.join(LEARNING_RATE)}" if name == "optimizer" else "give a sensible value"
            raise InputError(f"{getattr(self, name)!r} is of no use", place=name, next_step=step)

    @property
    def peak(self) -> float:
        """The learning rate that the schedule rises to."""
        return LEARNING_RATE[self.optimizer] if self.lr is None else self.lr

    @property
    def decay(self) -> float:
        """The weight decay."""
        return WEIGHT_DECAY[self.optimizer] if self.weight_decay is None else self.weight_decay


@dataclass(frozen=True)
class TrainResult:
    """What training came to, over all runs of it.

    Attributes:
        steps: done.
        seconds: that took.
        losses: step and mean loss over the step's scored values, before it.
        held_out: step and mean loss over all scored values of the held-out set, after it.
        best_step: whose weights the model has now.
        unclipped: share of coordinates that Sophia's last step did not clip; None for others.
        stopped: by what.
        left_out: samples whose loss or gradient was not finite, by set and name.
        parts: into which batches were cut at last, for want of memory.
    """

    steps: int
    seconds: float
    losses: list[tuple[int, float]]
    held_out: list[tuple[int, float]]
    best_step: int
    unclipped: float | None
    stopped: Literal["steps", "patience", "minutes"]
    left_out: tuple[str, ...] = ()
    parts: int = 1
