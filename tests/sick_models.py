"""Models and data that training's tests make sick: memory that runs out, samples that are no numbers."""

from typing import Literal

import torch
from tiny_model import UNSCORED, Points, Sample, TinyConfig, TinyModel, TinyOutput, tiny_model

SHORT: dict[str, Exception] = {
    "GPU": torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 15 GiB"
    ),
    "CPU": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes."),
    "CPU, another system": RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 99 bytes."),
    "NumPy": MemoryError("Unable to allocate 7.45 GiB for an array with shape (1000000000,) and data type float64"),
}
Where = Literal["forward", "backward", "held-out", "drawn labels"]


class Short(TinyModel):
    """Memory runs out in one of its passes, for batches of more than `most` rows."""

    most, where, error, times = 4, "forward", SHORT["GPU"], 0

    def forward(self, *, x: torch.Tensor, y: torch.Tensor, index: torch.Tensor) -> TinyOutput:
        if self.where == ("forward" if self.training else "held-out"):
            self._ask(x)
        if self.where == "backward" and self.training:
            x = x.clone().requires_grad_()
            x.register_hook(lambda _: self._ask(x))  # the last gradient: all weights but the first have theirs
        return super().forward(x=x, y=y, index=index)

    def sampled_loss(self, *, generator: torch.Generator, **batch: torch.Tensor) -> torch.Tensor:
        drawn = super().sampled_loss(generator=generator, **batch)
        if self.where == "drawn labels":
            self._ask(batch["x"])
        return drawn

    def _ask(self, x: torch.Tensor) -> None:
        if len(x) > self.most:
            self.times += 1
            raise self.error


def short_model(where: Where, error: Exception, *, most: int = 4, dropout: float = 0.0) -> Short:
    """The weights of tiny_model()."""
    given = tiny_model(dropout=dropout)
    made = Short(TinyConfig(width=given.config.width, dropout=dropout))
    made.load_state_dict(given.state_dict())
    made.where, made.error, made.most = where, error, most
    return made


class Steep(TinyModel):
    """Its loss is finite, and has no gradient, where a batch has sample 13."""

    def forward(self, *, x: torch.Tensor, y: torch.Tensor, index: torch.Tensor) -> TinyOutput:
        output = super().forward(x=x, y=y, index=index)
        if 13 in index:
            output.loss = output.loss + torch.sqrt(self.head.bias.square().sum() * 0)
        return output


class Without(Points):
    """Sample 13 has nothing that is scored."""

    def __getitem__(self, item: int) -> Sample:
        sample = super().__getitem__(item)
        return sample | ({"y": torch.full_like(sample["y"], UNSCORED)} if item == 13 else {})


class Wide(TinyModel):
    """Its passes take some 13 MB a row, and give what TinyModel gives."""

    def forward(self, *, x: torch.Tensor, y: torch.Tensor, index: torch.Tensor) -> TinyOutput:
        output = super().forward(x=x, y=y, index=index)
        spread = (output.logits.mean(dim=(1, 2))[:, None] * torch.ones(800_000)).tanh().exp()
        output.loss = output.loss + 0 * spread.mean()
        return output
