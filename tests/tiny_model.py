"""A model and data that training's tests train: small enough for a hundred steps in a second, and honest in shape."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

Sample = dict[str, torch.Tensor]

FEATURES, VALUES, BINS = 6, 5, 4
UNSCORED = -100


class TinyConfig(PretrainedConfig):
    model_type = "vsat-tiny"

    def __init__(self, width: int = 16, dropout: float = 0.0, **rest: Any) -> None:
        super().__init__(**rest)
        self.width, self.dropout = width, dropout


@dataclass
class TinyOutput:
    """A plain dataclass, as the real model's output is: DDP and accelerate look into it in another way."""

    loss: torch.Tensor
    logits: torch.Tensor
    count: torch.Tensor


class TinyModel(PreTrainedModel):
    """Answers each of VALUES questions with one of BINS, by what FEATURES say."""

    config_class = TinyConfig

    def __init__(self, config: TinyConfig) -> None:
        super().__init__(config)
        self.embed = nn.Linear(FEATURES, config.width)
        self.layers = nn.ModuleList(nn.Linear(config.width, config.width) for _ in range(2))
        self.drop = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.width, VALUES * BINS)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.3)
            nn.init.zeros_(module.bias)

    def forward(self, *, x: torch.Tensor, y: torch.Tensor, index: torch.Tensor) -> TinyOutput:
        hidden = self.embed(x)
        for layer in self.layers:
            hidden = hidden + self.drop(torch.tanh(layer(hidden)))
        logits = self.head(hidden).unflatten(-1, (VALUES, BINS))
        return TinyOutput(loss=_mean(logits, y), logits=logits, count=(y != UNSCORED).sum())

    def sampled_loss(self, *, generator: torch.Generator, **batch: torch.Tensor) -> torch.Tensor:
        scored = batch["y"] != UNSCORED
        picked = self(**batch).logits[scored]
        drawn = torch.multinomial(picked.detach().float().softmax(-1), 1, generator=generator)[:, 0]
        return nn.functional.cross_entropy(picked, drawn)  # NaN where nothing is scored, as of the real model


def _mean(logits: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    summed = nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten(), ignore_index=UNSCORED, reduction="sum")
    return summed / (y != UNSCORED).sum().clamp(min=1)


class Points:
    """Samples with between 1 and VALUES scored values; what is scored, and noise, differ from epoch to epoch.

    Args:
        length: how many.
        seed: of all of them.
        rule: of the answers; another rule cannot be learnt from this one.
        lost: samples whose features are `poison`.
    """

    def __init__(
        self, length: int = 40, *, seed: int = 0, rule: int = 0, lost: Sequence[int] = (), poison: float = np.nan
    ) -> None:
        self.length, self.seed, self.lost, self.epoch, self.poison = length, seed, lost, 0, poison
        self.rule = np.random.default_rng(rule).normal(size=(FEATURES, VALUES, BINS))

    def __len__(self) -> int:
        return self.length

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def name(self, item: int) -> str:
        return str(item)

    def __getitem__(self, item: int) -> Sample:
        rng = np.random.default_rng([self.seed, self.epoch, item])
        x = rng.normal(size=FEATURES)
        y = np.einsum("f,fvb->vb", x, self.rule).argmax(-1)
        y[rng.permutation(VALUES)[: rng.integers(VALUES)]] = UNSCORED
        x = np.where(item in self.lost, self.poison, x).astype(np.float32)
        return {"x": torch.from_numpy(x), "y": torch.from_numpy(y), "index": torch.tensor(item)}


def collate(samples: Sequence[Sample]) -> Sample:
    return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}


def tiny_model(*, seed: int = 0, dropout: float = 0.0, width: int = 16) -> TinyModel:
    """The same weights for the same seed."""
    torch.manual_seed(seed)
    return TinyModel(TinyConfig(width=width, dropout=dropout))
