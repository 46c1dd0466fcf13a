"""The head's distribution: bins of a residual that are even in asinh, scored by CRPS and cross-entropy.

Between edges the distribution function is linear. Axes: ... values, k bins.
"""

import math
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

BIN_COUNT = 40
REACH = 3.6  # asinh of the last edge: 18 scales
ENTROPY_SHARE = 0.05  # of the loss, beside CRPS
SMOOTH = 0.6  # width of the label's smoothing, bins


@lru_cache(maxsize=8)
def edges(device: torch.device | None = None) -> Tensor:
    """Edges of the bins in scales of the residual, float32 (k + 1,).

    No buffer of the model: transformers builds models without values, and fills in what the file holds. Named as being
    on the CPU at first: what is made while such a model is built must have values, for it is kept.
    """
    even = torch.linspace(-REACH, REACH, BIN_COUNT + 1, dtype=torch.float64, device="cpu")
    return torch.sinh(even).float().to(device)


def start_logits() -> Tensor:
    """Logits of a Student distribution with 3 degrees of freedom: what a model says before it has learned."""
    edge = edges().double()
    cdf = 0.5 + (torch.atan(edge / math.sqrt(3)) + edge * math.sqrt(3) / (edge**2 + 3)) / math.pi
    return (cdf.diff() + 1e-6).log().float()


def score(logits: Tensor, residual: Tensor, scored: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weighted mean of the loss over the values scored, and their number.

    Args:
        logits: (..., k); residual: (..., s) in scales, s truths of which each counts the same; scored: bool (...); weight:
            (...) relative to a mean of about 1.
    """
    count = scored.sum()
    picked, true, share = logits[scored].float()[:, None], residual[scored].float(), weight[scored].float()
    loss = share * (crps(picked, true) + ENTROPY_SHARE * cross_entropy(picked, true)).mean(-1)
    return loss.sum() / count.clamp(min=1), count


def crps(logits: Tensor, true: Tensor) -> Tensor:
    """Integral of (F(x) - 1{x >= truth})^2 for F linear within bins, exact; truths beyond the edges count as on them.

    Of a bin of width w, with F from a to b: w (a^2 + ab + b^2) / 3 of F^2 below the truth, the same of 1 - F above.
    """
    edge = edges(logits.device)
    width = edge.diff()
    mass = torch.softmax(logits, -1)
    above = mass.cumsum(-1)
    below = above - mass
    part = ((true[..., None].clamp(edge[0].item(), edge[-1].item()) - edge[:-1]) / width).clamp(0, 1)
    middle = below + part * mass
    left = part * (below * below + below * middle + middle * middle)
    up, down = 1 - middle, 1 - above
    right = (1 - part) * (up * up + up * down + down * down)
    return ((left + right) * width).sum(-1) / 3


def cross_entropy(logits: Tensor, true: Tensor) -> Tensor:
    """Against the truth's bin, smeared over its neighbours."""
    at = (torch.asinh(true).clamp(-REACH, REACH) + REACH) * (BIN_COUNT / (2 * REACH)) - 0.5
    far = torch.arange(BIN_COUNT, device=true.device) - at[..., None]
    label = torch.softmax(-0.5 * (far / SMOOTH) ** 2, -1)
    return -(label * functional.log_softmax(logits, -1)).sum(-1)


def sampled_targets(logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """A bin drawn from each distribution, int64."""
    return torch.multinomial(torch.softmax(logits.float(), -1), 1, generator=generator)[..., 0]


def quantiles(logits: Tensor, levels: tuple[float, ...]) -> Tensor:
    """Quantiles (..., l) in scales: the inverse of the piecewise linear distribution function."""
    edge = edges(logits.device)
    cdf = torch.softmax(logits.float(), -1).cumsum(-1)
    cdf = torch.cat([torch.zeros_like(cdf[..., :1]), cdf], -1)
    found = []
    for level in levels:
        k = (cdf[..., 1:] < level).sum(-1, keepdim=True).clamp(max=BIN_COUNT - 1)
        low, high = cdf.gather(-1, k), cdf.gather(-1, k + 1)
        share = ((level - low) / (high - low).clamp(min=1e-9)).clamp(0, 1)
        found.append((edge[k] + share * (edge[k + 1] - edge[k]))[..., 0])
    return torch.stack(found, -1)


def moments(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation in scales."""
    edge, mass = edges(logits.device), torch.softmax(logits.float(), -1)
    middle, width = (edge[1:] + edge[:-1]) / 2, edge.diff()
    mean = (mass * middle).sum(-1)
    square = (mass * (middle**2 + width**2 / 12)).sum(-1)
    return mean, (square - mean**2).clamp(min=0).sqrt()


def inverse(uniform: NDArray[np.float32], cdf: NDArray[np.float32]) -> NDArray[np.float32]:
    """Values in scales at which a distribution function (..., k + 1) reaches `uniform` (...): for joint samples."""
    edge = edges().numpy()
    k = np.clip((cdf[..., 1:] < uniform[..., None]).sum(axis=-1), 0, BIN_COUNT - 1)
    low = np.take_along_axis(cdf, k[..., None], -1)[..., 0]
    high = np.take_along_axis(cdf, k[..., None] + 1, -1)[..., 0]
    share = np.clip((uniform - low) / np.maximum(high - low, 1e-9), 0, 1)
    return np.asarray(edge[k] + share * (edge[k + 1] - edge[k]), np.float32)
