"""The any-date model: a set transformer over looks that answers any number of dates in one pass.

Context tokens see all context in both directions; a query sees the context and itself, so no answer depends on another
query. The head gives a distribution of the residual over the best classical estimate, in units of what that estimate is
typically off by: an untrained model is the classical floor. Axes: n sequences, t looks, q queries, p pixels of a token,
b six bands, k bins.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2Model, LlamaConfig, LlamaModel, PretrainedConfig, PreTrainedModel

from vsat.model.loss import BIN_COUNT, sampled_targets, score, start_logits
from vsat.model.tokens import (
    BANDS,
    LOOK_AROUND,
    LOOK_FEATURES,
    QUERY_AROUND,
    QUERY_FEATURES,
    SHARED_FEATURES,
    WAVELENGTH_UM,
    Numbers,
)

PERIODS_DAYS = (365.25, 365.25 / 2, 365.25 / 4)  # and a geometric row of
SHORTEST_DAYS, LONGEST_DAYS = 10.0, 2500.0
TOGETHER = 64  # sequences in one pass of the backbone
BACKBONES = ("llama", "gpt2")
SIZES = {  # width, layers, heads: about 1, 10, 44 and 130 million weights
    "tiny": (128, 4, 4),
    "small": (320, 8, 8),
    "base": (768, 6, 12),
    "large": (1024, 10, 16),
}


class AnyDateConfig(PretrainedConfig):  # type: ignore[no-untyped-call]
    """What a model is built from; saved beside its weights.

    Attributes:
        backbone: "llama" (rotary phases in real days: time enters as distance only) or "gpt2" (dates in the embedding).
        numbers: how reflectance becomes features, see tokens.Numbers.
        patch_px: side of the square of pixels that one token holds.
        evidence, scene: False hides the classical estimates but the base, or all that comes from other pixels of the
            query's date but what the base and its scale have of it.
    """

    model_type = "vsat-anydate"

    def __init__(
        self,
        *,
        width: int = 128,
        layers: int = 4,
        heads: int = 4,
        backbone: Literal["llama", "gpt2"] = "llama",
        numbers: Literal["asinh", "digits", "plain"] = "asinh",
        patch_px: int = 1,
        evidence: bool = True,
        scene: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.width, self.layers, self.heads = width, layers, heads
        self.backbone, self.numbers, self.patch_px = backbone, numbers, patch_px
        self.evidence, self.scene = evidence, scene

    @classmethod
    def of_size(cls, size: str, **options: Any) -> "AnyDateConfig":
        """One of SIZES."""
        width, layers, heads = SIZES[size]
        return cls(width=width, layers=layers, heads=heads, **options)


@dataclass
class AnyDateOutput:
    """`logits` (n, q, p, b, k) of the residual's bins; `loss` and `count`, the number of values scored, with a truth."""

    logits: Tensor
    loss: Tensor | None = None
    count: Tensor | None = None


class AnyDate(PreTrainedModel):  # type: ignore[no-untyped-call]
    """See the module. Inputs are those of `tokens.gather_tokens`, batched by `examples.collate`."""

    config_class = AnyDateConfig
    main_input_name = "value"

    def __init__(self, config: AnyDateConfig) -> None:
        super().__init__(config)
        width, pixels = config.width, config.patch_px**2
        self.numbers = Numbers(config.numbers)
        values = BANDS * self.numbers.width
        self.embed_look = nn.Linear(pixels * (values + LOOK_FEATURES) + SHARED_FEATURES + BANDS, width)
        self.embed_query = nn.Linear(pixels * (values + QUERY_FEATURES) + SHARED_FEATURES + BANDS, width)
        self.place = nn.Linear(2, width) if config.backbone == "gpt2" else None
        self.backbone = _backbone(config)
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, pixels * BANDS * BIN_COUNT)
        self.post_init()  # type: ignore[no-untyped-call]
        nn.init.zeros_(self.head.weight)
        with torch.no_grad():
            self.head.bias.copy_(start_logits().repeat(pixels * BANDS))

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=1 / math.sqrt(module.in_features))
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(
        self,
        value: Tensor,
        look: Tensor,
        clear: Tensor,
        look_shared: Tensor,
        base: Tensor,
        scale: Tensor,
        query: Tensor,
        query_shared: Tensor,
        day_t: Tensor,
        day_q: Tensor,
        has: Tensor,
        truth: Tensor | None = None,
        target: Tensor | None = None,
        weight: Tensor | None = None,
        **_: Tensor,
    ) -> AnyDateOutput:
        """Distributions, and their loss where there is a truth.

        Args:
            value, look, clear, base, scale, query: see `tokens.gather_tokens`, (n, ...).
            look_shared, query_shared: (n, t, f) and (n, q, f).
            day_t, day_q: float32 (n, t) and (n, q); only differences matter with rotary phases.
            has: bool (n, 6), bands there are.
            truth: float32 (n, q, p, 6, s) reflectance, under s skies of which each counts the same; target: bool (n, q, p);
                weight: float32 (n, q, p, 6) of the loss.
        """
        asked = None if target is None else target.any(-1)
        logits = self.logits(value, look, clear, look_shared, base, query, query_shared, day_t, day_q, has, asked)
        if truth is None or target is None or weight is None:
            return AnyDateOutput(logits)
        scored = (target[..., None] & has[:, None, None, :]).expand_as(base)
        loss, count = score(logits, (truth - base[..., None]) / scale[..., None], scored, weight)
        return AnyDateOutput(logits, loss, count)

    def sampled_loss(self, *, generator: torch.Generator | None = None, **batch: Tensor) -> Tensor:
        """Loss against labels drawn from the model's own distribution (mean over the values scored), for Sophia's h."""
        names = ("value", "look", "clear", "look_shared", "base", "query", "query_shared", "day_t", "day_q", "has")
        logits = self.logits(**{name: batch[name] for name in names}, asked=batch["target"].any(-1))
        scored = (batch["target"][..., None] & batch["has"][:, None, None, :]).expand(logits.shape[:-1])
        picked = logits[scored]
        labels = sampled_targets(picked.detach(), generator)
        return nn.functional.cross_entropy(picked.float(), labels)

    def logits(
        self,
        value: Tensor,
        look: Tensor,
        clear: Tensor,
        look_shared: Tensor,
        base: Tensor,
        query: Tensor,
        query_shared: Tensor,
        day_t: Tensor,
        day_q: Tensor,
        has: Tensor,
        asked: Tensor | None = None,
    ) -> Tensor:
        """Logits (n, q, p, 6, k) of the queries asked, 0 of others: by default all are asked.

        Only looks that show something and queries that are asked become tokens; sequences of like length should come
        together, so that little is spent on padding.
        """
        seen = clear.any(-1)
        wanted = torch.ones(base.shape[:2], dtype=torch.bool, device=base.device) if asked is None else asked
        parts = []
        for first in range(0, len(clear), TOGETHER):
            n = slice(first, first + TOGETHER)
            parts.append(
                self._some(
                    value[n], look[n], clear[n], look_shared[n], base[n], query[n], query_shared[n], day_t[n], day_q[n],
                    has[n], seen[n], wanted[n],
                )
            )  # fmt: skip
        return torch.cat(parts)

    def _some(
        self,
        value: Tensor,
        look: Tensor,
        clear: Tensor,
        look_shared: Tensor,
        base: Tensor,
        query: Tensor,
        query_shared: Tensor,
        day_t: Tensor,
        day_q: Tensor,
        has: Tensor,
        seen: Tensor,
        asked: Tensor,
    ) -> Tensor:
        """Logits of a few sequences. Rows of what follows are single tokens: r looks seen, a queries asked."""
        row_r, t_r = seen.nonzero(as_tuple=True)
        row_a, q_a = asked.nonzero(as_tuple=True)
        look_r, query_a = self._ablated(look[row_r, t_r], query[row_a, q_a])
        bands = torch.where(has, torch.tensor(WAVELENGTH_UM, device=has.device) / 2.2 + 0.5, 0.0)
        number_r = self.numbers(value[row_r, t_r]) * clear[row_r, t_r][..., None, None]
        look_r = torch.cat([number_r.flatten(1), look_r.flatten(1), look_shared[row_r, t_r], bands[row_r]], -1)
        number_a = self.numbers(base[row_a, q_a])
        query_a = torch.cat([number_a.flatten(1), query_a.flatten(1), query_shared[row_a, q_a], bands[row_a]], -1)
        looks, queries = seen.sum(1), asked.sum(1)
        length = int((looks + queries).max())
        at_r = (seen.cumsum(1) - 1)[row_r, t_r]
        at_a = (looks[:, None] + asked.cumsum(1) - 1)[row_a, q_a]
        embedded = self.embed_look(look_r)
        tokens = embedded.new_zeros(len(seen), length, embedded.shape[-1])
        tokens = tokens.index_put((row_r, at_r), embedded).index_put((row_a, at_a), self.embed_query(query_a))
        day = day_t.new_zeros(len(seen), length)
        day[row_r, at_r], day[row_a, at_a] = day_t[row_r, t_r], day_q[row_a, q_a]
        hidden = self._encoded(tokens, day, looks)
        found = self.head(self.norm(hidden[row_a, at_a]))
        out = found.new_zeros(*asked.shape, found.shape[-1]).index_put((row_a, q_a), found)
        return cast(Tensor, out.view(*asked.shape, clear.shape[-1], BANDS, BIN_COUNT))

    def _ablated(self, look: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
        """With what the configuration hides set to zero."""
        if not self.config.evidence:
            query = _without(query, slice(BANDS, None))
        if not self.config.scene:
            look = _without(look, *LOOK_AROUND)
            query = _without(query, *QUERY_AROUND)
        return look, query

    def _encoded(self, tokens: Tensor, day: Tensor, looks: Tensor) -> Tensor:
        """Tokens after the backbone: everyone sees the looks, which come first, and a query itself."""
        length = tokens.shape[1]
        at = torch.arange(length, device=tokens.device)
        seen = (at < looks[:, None])[:, None, :] | (at[:, None] == at)
        mask = tokens.new_zeros(seen.shape).masked_fill_(~seen, torch.finfo(tokens.dtype).min)
        options: dict[str, Any] = {"attention_mask": mask[:, None], "use_cache": False}
        if self.place is None:
            options |= {"inputs_embeds": tokens, "position_ids": day}
        else:
            # from the middle of the looks, for a query's answer is not to depend on the other queries
            before = at < looks[:, None]
            middle = (day * before).sum(1, keepdim=True) / looks.clamp(min=1)[:, None]
            near = torch.asinh((day - middle) / 30)
            placed = tokens + self.place(torch.stack([near, near.abs()], -1))
            options |= {"inputs_embeds": placed, "position_ids": torch.zeros_like(day, dtype=torch.long)}
        return cast(Tensor, self.backbone(**options).last_hidden_state)


def new_model(config: AnyDateConfig, *, seed: int) -> AnyDate:
    """A model with random weights, the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AnyDate(config)


def _without(features: Tensor, *hidden: slice) -> Tensor:
    seen = features.clone()
    for part in hidden:
        seen[..., part] = 0
    return seen


def _backbone(config: AnyDateConfig) -> nn.Module:
    # Written out, attention trains 1.8 times as fast on a CPU as torch's own kernel, whose backward pass is slow in bfloat16.
    plain: dict[str, Any] = {"attn_implementation": "eager"}
    if config.backbone == "gpt2":
        return GPT2Model(
            GPT2Config(
                n_embd=config.width, n_layer=config.layers, n_head=config.heads, vocab_size=1, n_positions=1,
                bos_token_id=None, eos_token_id=None,
                resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **plain,
            )
        )  # fmt: skip
    model = LlamaModel(
        LlamaConfig(
            hidden_size=config.width,
            intermediate_size=3 * config.width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.heads,
            vocab_size=1,
            max_position_embeddings=4096,
            bos_token_id=None,
            eos_token_id=None,
            **plain,
        )
    )
    half = config.width // config.heads // 2
    row = np.geomspace(SHORTEST_DAYS, LONGEST_DAYS, half - len(PERIODS_DAYS))
    turns = torch.tensor(2 * math.pi / np.concatenate([PERIODS_DAYS, row]), dtype=torch.float32)
    model.rotary_emb.register_buffer("inv_freq", turns, persistent=True)
    return model
