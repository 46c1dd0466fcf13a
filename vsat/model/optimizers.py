"""The optimisers to choose from: Sophia, AdamW, and Muon with AdamW for what is no hidden matrix."""

import itertools
from collections.abc import Callable
from typing import Any, Literal, overload

import torch
from torch import nn
from torch.optim import AdamW, Muon, Optimizer
from torch.optim.optimizer import StateDict

from vsat.errors import InputError

Name = Literal["sophia", "adamw", "muon"]

# Peak of the schedule. AdamW's is GPT-2 small's; Sophia's is .8 of it, as its authors advise; Muon's steps are scaled to
# the size of AdamW's, so it takes the same.
LEARNING_RATE: dict[Name, float] = {"sophia": 4.8e-4, "adamw": 6e-4, "muon": 6e-4}
WEIGHT_DECAY: dict[Name, float] = {"sophia": 0.2, "adamw": 0.1, "muon": 0.1}
ADAMW_BETAS = (0.9, 0.95)


def make_optimizer(name: Name, model: nn.Module, *, lr: float, weight_decay: float, hessian_every: int) -> Optimizer:
    """The optimiser of a model's trainable parameters; decay is of matrices only.

    Args:
        name: which one.
        model: on the device where it will be trained.
        lr: the peak of the schedule.
        weight_decay: decoupled.
        hessian_every: steps between two estimates of the curvature; Sophia only.

    Raises:
        InputError: Muon, and the model has no hidden matrix.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    match name:
        case "sophia":
            from vsat.model.sophia import SophiaG

            return SophiaG(trained, lr, weight_decay=weight_decay, every=hessian_every)
        case "adamw":
            return _adamw(trained, lr, weight_decay)
        case "muon":
            hidden = _hidden_matrices(model)
            if not hidden:
                step = "choose sophia or adamw"
                raise InputError("the model has no matrix in repeated layers", place="optimizer muon", next_step=step)
            chosen = {id(p) for p in hidden}
            muon = Muon(hidden, lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
            return MuonAdamW(muon, _adamw([p for p in trained if id(p) not in chosen], lr, weight_decay))


class MuonAdamW(Optimizer):
    """Two optimisers that step, are scheduled and are saved as one.

    Args:
        parts: optimisers of different parameters; this one's groups are theirs, in order.
    """

    def __init__(self, *parts: Optimizer) -> None:
        self.parts = parts
        super().__init__(list(itertools.chain.from_iterable(part.param_groups for part in parts)), {})

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Both step; the loss of the closure, which makes the gradients, is returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The parts' states, in order."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Goes on where the state was saved."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        # loading gives a part new groups; ours stay the same objects as theirs, so that the schedule reaches them
        self.param_groups = list(itertools.chain.from_iterable(part.param_groups for part in self.parts))


def _adamw(params: list[nn.Parameter], lr: float, weight_decay: float) -> AdamW:
    groups = [
        {"params": [p for p in params if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in params if p.ndim < 2], "weight_decay": 0.0},
    ]
    return AdamW([group for group in groups if group["params"]], lr, betas=ADAMW_BETAS)


def _hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """Matrices of repeated layers: what stands in a ModuleList, and so neither embeds nor predicts."""
    layers = [module for module in model.modules() if isinstance(module, nn.ModuleList)]
    embeds = {id(p) for module in model.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}
    inside = {id(p): p for layer in layers for p in layer.parameters()}
    return [p for p in inside.values() if p.ndim == 2 and p.requires_grad and id(p) not in embeds]
