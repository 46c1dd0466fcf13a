"""Sophia-G: momentum divided by an estimate of the curvature, and clipped where there is little of it.

Liu, Li, Hall, Liang and Ma 2023, "Sophia: A Scalable Stochastic Second-order Optimizer for Language Model Pre-training",
arXiv 2305.14342: the step is their algorithm 3, the estimate (Gauss-Newton-Bartlett) their algorithm 2. In a loop:

    if optimizer.hessian_due:
        optimizer.zero_grad()
        loss_of(model(batch), labels drawn from its output).backward()  # mean of -log p over scored tokens, never clipped
        optimizer.update_hessian(bs)
    loss_of(model(batch), truth).backward()
    optimizer.step()
    optimizer.zero_grad()
"""

import math
from collections.abc import Callable
from typing import Any, overload

import torch
from torch.optim.optimizer import Optimizer, ParamsT, StateDict

from vsat.errors import InputError

EPS = 1e-15  # the smallest divisor, as in the authors' code: a coordinate without curvature moves by lr
COUNTERS = {"steps": 0, "estimated_at": -1, "bs": 0}  # kept in the first group, so they are saved and copied with it


class SophiaG(Optimizer):
    """Parameters that move by at most lr per step, and by less where there is curvature for it.

    With g the gradient of the training loss, for every coordinate (algorithm 3, lines 6, 9, 12 and 13):

        m <- beta1 m + (1 - beta1) g                    every step
        h <- beta2 h + (1 - beta2) bs ghat^2            before the first step, then before every k-th
        p <- p (1 - lr weight_decay)                    matrices only
        p <- p - lr clip(m / max(rho h, 1e-15), -1, 1)

    Where bs stands: labels drawn from the model give each scored token a gradient s_i of -log p whose mean is zero, and
    independent of the others'. So ghat = sum(s_i) / bs, the gradient of the mean loss, has E[ghat^2] = mean(E[s_i^2]) / bs,
    and bs ghat^2 estimates mean(E[s_i^2]), the diagonal of the mean loss's Gauss-Newton matrix, however many tokens there
    were. bs enters once: here in h, as in algorithm 2, and the step divides by rho h. The authors' code averages ghat^2
    alone and divides by rho bs h: the same while bs is constant, so their rho carries over. Scored tokens differ from batch
    to batch, so here each estimate has its own bs, and `step` takes none. Neither paper nor code corrects for bias.
    Smoothed labels or CRPS have no such mean: the estimate is of the plain cross-entropy, whatever is trained on.

    Several processes: DDP has averaged .grad over ranks before either method reads it, that of drawn labels as that of true
    ones, so h is alike on all ranks and nothing is sent here. For a mean over the global batch, a rank's loss is the sum
    over its tokens times ranks / bs. Ranks draw labels from seeds of their own. float16 gradients come unscaled.

    Args:
        params: parameters, or groups of them with lr, betas, rho or weight_decay of their own.
        lr: the farthest that a coordinate moves in a step; about .8 of what AdamW would have.
        betas: of m and h.
        rho: larger leaves more coordinates unclipped; .04 to .08 by size of the model.
        weight_decay: decoupled, and of parameters with two axes or more only, in groups too.
        every: steps from one estimate to the next, the paper's k; the same in all groups.

    m and h are float32 of the parameter's shape. Parameters of less precision are moved in float32, then rounded once.
    Raises InputError for an option that cannot be.
    """

    _unclipped: tuple[torch.Tensor, ...] = ()  # counts; they stay on the device until asked for
    _coordinates: int = 0

    def __init__(
        self,
        params: ParamsT,
        lr: float,
        *,
        betas: tuple[float, float] = (0.965, 0.99),
        rho: float = 0.04,
        weight_decay: float = 0.2,
        every: int = 10,
    ) -> None:
        options = {"lr": lr, "betas": betas, "rho": rho, "weight_decay": weight_decay, "every": every}
        super().__init__(params, options)
        self.param_groups[0].update(COUNTERS)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Takes these parameters too, as torch has it. Raises InputError for an option that cannot be."""
        options = self.defaults | param_group
        sound = {
            "lr, 0 or more": options["lr"] >= 0,
            "betas, in [0, 1)": all(0 <= beta < 1 for beta in options["betas"]),
            "rho, more than 0": options["rho"] > 0,
            "weight_decay, 0 or more": options["weight_decay"] >= 0,
            "every, 1 or more and alike in all groups": options["every"] == self.defaults["every"] >= 1,
        }
        for rule in (rule for rule, kept in sound.items() if not kept):
            raise _error(f"{rule.split(',')[0]} is {options[rule.split(',')[0]]!r}", f"give {rule}")
        super().add_param_group(param_group)

    @property
    def hessian_due(self) -> bool:
        """True while the coming step needs an estimate that `update_hessian` has not made yet."""
        first = self.param_groups[0]
        return bool(first["steps"] % first["every"] == 0 and first["estimated_at"] != first["steps"])

    @property
    def unclipped(self) -> float:
        """Share of coordinates that the last step did not clip, 0-1, best .1-.5; NaN before a step and after a load."""
        return sum(int(count) for count in self._unclipped) / self._coordinates if self._coordinates else math.nan

    @torch.no_grad()
    def update_hessian(self, bs: int) -> None:
        """Takes the gradient of the loss against drawn labels, alone in .grad, into h, and clears it from there.

        Args:
            bs: scored tokens that the gradient is the mean over, of all ranks and accumulated batches together.

        A parameter without gradient keeps its h, which is 0 before its first.

        Raises:
            InputError: no estimate is due, bs is not a number of tokens, or the gradient is missing, sparse or not finite.
        """
        steps, found = self.param_groups[0]["steps"], self._gradients()
        if not self.hessian_due:
            raise _error(f"step {steps} needs no new h", "call update_hessian where hessian_due is True")
        if not 1 <= bs < math.inf:
            raise _error(f"bs is {bs}", "give the number of scored tokens, 1 or more")
        if not found:
            raise _error("no parameter has a gradient", "run backward against labels drawn from the model's output")
        # Such an estimate would stay: h is then NaN for ever, or infinite, and its coordinate never moves again.
        if not all(bool(torch.isfinite(grad).all()) for _, _, grad in found):
            raise _error("the gradient of drawn labels is not finite", "look at this batch and the model's output")
        for group, p, grad in found:
            beta2 = group["betas"][1]
            self._averages(p)["h"].mul_(beta2).addcmul_(grad, grad, value=(1 - beta2) * int(bs))
            p.grad = None
        self.param_groups[0].update(estimated_at=steps, bs=int(bs))

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Moves each parameter that has a gradient, and returns the loss of the closure, which makes the gradients.

        Raises:
            InputError: h was never estimated or is k steps old, or a gradient is sparse. Nothing has moved.
        """
        steps = self.param_groups[0]["steps"]
        if self.hessian_due:
            problem = f"h is {self.param_groups[0]['every']} steps old" if steps else "h was never estimated"
            raise _error(problem, "run backward against drawn labels, then update_hessian, where hessian_due is True")
        with torch.enable_grad():
            loss = closure() if closure is not None else None
        found = self._gradients()
        self._unclipped = tuple(self._move(p, grad, group) for group, p, grad in found)
        self._coordinates = sum(p.numel() for _, p, _ in found)
        self.param_groups[0]["steps"] = steps + 1
        return loss

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Goes on where the state was saved, to the bit, with the options saved there.

        Raises:
            InputError: it is the state of another optimiser.
        """
        if not state_dict["param_groups"][0].keys() >= COUNTERS.keys():
            raise _error("this is not the state of a SophiaG", "load the one that was saved with the weights")
        super().load_state_dict(state_dict)
        own = (p for group in self.param_groups for p in group["params"])
        saved = (key for group in state_dict["param_groups"] for key in group["params"])
        for p, key in zip(own, saved, strict=True):
            if key in state_dict["state"]:  # torch has cast these to the parameter's dtype
                kept = state_dict["state"][key]
                self.state[p] = {name: kept[name].to(p.device, torch.float32, copy=True) for name in ("m", "h")}
        self._unclipped, self._coordinates = (), 0

    def _move(self, p: torch.Tensor, grad: torch.Tensor, group: dict[str, Any]) -> torch.Tensor:
        """Changes p, and returns how many of its coordinates were not clipped."""
        beta1, lr, kept = group["betas"][0], group["lr"], self._averages(p)
        kept["m"].mul_(beta1).add_(grad, alpha=1 - beta1)
        ratio = kept["m"] / (group["rho"] * kept["h"]).clamp_(min=EPS)
        decay = group["weight_decay"] if p.ndim >= 2 else 0.0
        exact = p.to(torch.promote_types(p.dtype, torch.float32))
        p.copy_(exact * (1 - lr * decay) - lr * ratio.clamp(-1, 1))
        return torch.count_nonzero(ratio.abs() <= 1)

    def _gradients(self) -> list[tuple[dict[str, Any], torch.Tensor, torch.Tensor]]:
        """Group, parameter and float32 gradient of each parameter that has one."""
        pairs = [(group, p, p.grad) for group in self.param_groups for p in group["params"]]
        for _, p, grad in pairs:
            if grad is not None and grad.layout != torch.strided:
                raise _error(f"the gradient of parameter {tuple(p.shape)} is sparse", "make its layer sparse=False")
        return [(group, p, grad.float()) for group, p, grad in pairs if grad is not None]

    def _averages(self, p: torch.Tensor) -> dict[str, torch.Tensor]:
        if p not in self.state:
            self.state[p] = {name: torch.zeros_like(p, dtype=torch.float32) for name in ("m", "h")}
        kept: dict[str, torch.Tensor] = self.state[p]
        return kept


def _error(problem: str, next_step: str) -> InputError:
    return InputError(problem, place="SophiaG", next_step=next_step)
