"""The any-date model with a token for every band's value, for `anydate_ablations.py` only.

It takes the same batches and says the same things; what six bands of a look share in one token is here repeated in six. Axes
as in `vsat.model.anydate`; r looks seen, a queries asked.
"""

import torch
from torch import Tensor, nn

from vsat.model.anydate import AnyDate, AnyDateConfig
from vsat.model.loss import BIN_COUNT, start_logits
from vsat.model.tokens import BANDS, LOOK_FEATURES, QUERY_FEATURES, SHARED_FEATURES, WAVELENGTH_UM

LOOK_OWN = 4  # features of a look that each band has
QUERY_OWN = 10
LOOK_COMMON, QUERY_COMMON = LOOK_FEATURES - LOOK_OWN * BANDS, QUERY_FEATURES - QUERY_OWN * BANDS
SEQUENCES = 16  # in one pass of the backbone: these are six times as long


class ValueTokens(AnyDate):
    """Each look and each query is six tokens, one per band.

    A token holds the features of its band, those that the bands have in common, and its wavelength in its band's place of
    six. All looks' tokens see each other; a query's six see them and each other, no other query. The head gives one band.
    """

    def __init__(self, config: AnyDateConfig) -> None:
        super().__init__(config)
        width, pixels, number = config.width, config.patch_px**2, self.numbers.width
        common = SHARED_FEATURES + BANDS
        self.embed_look = nn.Linear(pixels * (number + LOOK_OWN + LOOK_COMMON) + common, width)
        self.embed_query = nn.Linear(pixels * (number + QUERY_OWN + QUERY_COMMON) + common, width)
        self.head = nn.Linear(width, pixels * BIN_COUNT)
        for layer in (self.embed_look, self.embed_query):
            self._init_weights(layer)
        nn.init.zeros_(self.head.weight)
        with torch.no_grad():
            self.head.bias.copy_(start_logits().repeat(pixels))

    def _some(
        self, value: Tensor, look: Tensor, clear: Tensor, look_shared: Tensor, base: Tensor, query: Tensor,
        query_shared: Tensor, day_t: Tensor, day_q: Tensor, has: Tensor, seen: Tensor, asked: Tensor,
    ) -> Tensor:  # fmt: skip
        """Logits of a few sequences, as many at a time as fit."""
        given = (value, look, clear, look_shared, base, query, query_shared, day_t, day_q, has, seen, asked)
        firsts = range(0, len(clear), SEQUENCES)
        return torch.cat([self._few(*(one[first : first + SEQUENCES] for one in given)) for first in firsts])

    def _few(
        self, value: Tensor, look: Tensor, clear: Tensor, look_shared: Tensor, base: Tensor, query: Tensor,
        query_shared: Tensor, day_t: Tensor, day_q: Tensor, has: Tensor, seen: Tensor, asked: Tensor,
    ) -> Tensor:  # fmt: skip
        row_r, t_r = seen.nonzero(as_tuple=True)
        row_a, q_a = asked.nonzero(as_tuple=True)
        look_r, query_a = self._ablated(look[row_r, t_r], query[row_a, q_a])
        number_r = self.numbers(value[row_r, t_r]) * clear[row_r, t_r][..., None, None]
        bands = _places(has)
        look_rbf = _by_band(number_r, look_r, LOOK_OWN, look_shared[row_r, t_r], bands[row_r])
        number_a = self.numbers(base[row_a, q_a])
        query_abf = _by_band(number_a, query_a, QUERY_OWN, query_shared[row_a, q_a], bands[row_a])

        looks = seen.sum(1)
        length = int((looks + asked.sum(1)).max())
        at_r = (seen.cumsum(1) - 1)[row_r, t_r]
        at_a = (looks[:, None] + asked.cumsum(1) - 1)[row_a, q_a]
        embedded = self.embed_look(look_rbf)
        tokens = embedded.new_zeros(len(seen), length, BANDS, embedded.shape[-1])
        tokens = tokens.index_put((row_r, at_r), embedded).index_put((row_a, at_a), self.embed_query(query_abf))
        day = day_t.new_zeros(len(seen), length)
        day[row_r, at_r], day[row_a, at_a] = day_t[row_r, t_r], day_q[row_a, q_a]
        hidden = self._encoded(tokens.flatten(1, 2), day.repeat_interleave(BANDS, 1), looks * BANDS)
        hidden = hidden.view(tokens.shape)
        found = self.head(self.norm(hidden[row_a, at_a]))  # (a, b, p k)
        found = found.unflatten(-1, (-1, BIN_COUNT)).transpose(1, 2)
        return found.new_zeros(*asked.shape, *found.shape[1:]).index_put((row_a, q_a), found)

    def _encoded(self, tokens: Tensor, day: Tensor, looks: Tensor) -> Tensor:
        """Tokens after the backbone, with phases in days; `looks` counts tokens."""
        at = torch.arange(tokens.shape[1], device=tokens.device)
        own = at[:, None] // BANDS == at // BANDS
        seen = (at < looks[:, None])[:, None, :] | own
        mask = tokens.new_zeros(seen.shape).masked_fill_(~seen, torch.finfo(tokens.dtype).min)
        options = {"attention_mask": mask[:, None], "use_cache": False}
        return self.backbone(inputs_embeds=tokens, position_ids=day, **options).last_hidden_state


def _places(has: Tensor) -> Tensor:
    """Wavelengths (n, 6, 6), each in its band's place; zero where the band is not there."""
    bands = torch.where(has, torch.tensor(WAVELENGTH_UM, device=has.device) / 2.2 + 0.5, 0.0)
    return torch.diag_embed(bands)


def _by_band(number: Tensor, features: Tensor, own: int, shared: Tensor, bands: Tensor) -> Tensor:
    """(m, 6, f) of numbers (m, p, 6, w), features (m, p, ...) whose first own * 6 are the bands', shared ones (m, ...)."""
    split = own * BANDS
    of_band = features[..., :split].unflatten(-1, (own, BANDS)).movedim(-1, 1).flatten(2)
    common = torch.cat([features[..., split:].flatten(1), shared], -1)
    common = common[:, None].expand(-1, BANDS, -1)
    return torch.cat([number.movedim(2, 1).flatten(2), of_band, common, bands], -1)
