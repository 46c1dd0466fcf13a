"""Numbers, bands, dates and evidence as features of tokens. Axes: n token sequences, t looks, q queries, p pixels of a
token's square, b six bands, f features.

Everything a token holds is an input of one linear map, with validity beside every value: a cloudy pixel or an absent band
never drops a token. Reflectance enters twice: as a number with a geometry (`Numbers`), and standardised by the pixel's own
record.
"""

import math
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vsat.core.evidence import Evidence

BANDS = 6
WAVELENGTH_UM = (0.482, 0.561, 0.655, 0.865, 1.609, 2.201)  # OLI band centres, USGS
SENSOR_KINDS = 3  # L30, S30, another or unknown
SEASONS = 4  # harmonics of the year
STEP, LOW, HIGH = 0.05, -0.02, 1.2  # of asinh bins: linear below the step, logarithmic above
BINS = 64
WAVES = 4
DIGITS = 4  # 0.1234
MEMBERS = 4
YEAR = 365.25
CLIP = 8.0  # rests beyond this many scales say no more

LOOK_FEATURES = BANDS * 4 + 3  # of a pixel: standardised, rest, near, wide; clear, two shares
QUERY_FEATURES = BANDS * (1 + MEMBERS + 1 + 1 + 2 + 1) + MEMBERS + 2 + 6  # in the order of `gather_tokens`
LOOK_AROUND = (
    slice(BANDS * 2, BANDS * 4),
    slice(BANDS * 4 + 1, LOOK_FEATURES),
)  # from pixels around, with their shares
QUERY_AROUND = (  # from the date's other pixels: error of kriging and rests, shares, whether it was used
    slice(BANDS * 6, BANDS * 9),
    slice(QUERY_FEATURES - 8, QUERY_FEATURES - 6),
    slice(QUERY_FEATURES - 2, QUERY_FEATURES - 1),
)
SHARED_FEATURES = 2 * SEASONS + SENSOR_KINDS + 4

OF_LOOKS = ("value", "look", "clear", "look_shared", "day_t")
OF_QUERIES = ("base", "scale", "query", "query_shared", "day_q", "target", "truth", "weight")

NumberKind = Literal["asinh", "digits", "plain"]
NUMBER_KINDS: tuple[str, ...] = get_args(NumberKind)


class Numbers(nn.Module):
    """Reflectance as features, of fixed geometry and with a learned residual.

    "asinh" places a value on bins that are even in asinh(value / .05): a coordinate, sines of it, and a learned vector
    that is interpolated between bins, so that near values have near features. "digits" writes the value as four decimal
    places; each digit has a learned vector plus the numeric encoding of the Regression Transformer (Born & Manica 2023,
    eq. 1: (-1)^j v 10^p / (j + 1)). "plain" is the value itself.

    `width` is the number of features per value.
    """

    def __init__(self, kind: NumberKind, learned: int = 8) -> None:
        super().__init__()
        self.kind, self.learned = kind, learned
        self.width = {"asinh": 1 + 2 * WAVES + learned, "digits": learned * DIGITS, "plain": 1}[kind]
        if kind == "asinh":
            self.table = nn.Embedding(BINS, learned)
            nn.init.normal_(self.table.weight, std=0.1)
        if kind == "digits":
            self.table = nn.Embedding(10 * DIGITS, learned)
            nn.init.normal_(self.table.weight, std=0.1)
            place, digit = torch.meshgrid(torch.arange(DIGITS), torch.arange(10), indexing="ij")
            j = torch.arange(learned)
            size = digit[..., None] * 10.0 ** -(place[..., None] + 1) / (j + 1)
            self.register_buffer("places", (torch.where(j % 2 == 0, 1.0, -1.0) * size).reshape(-1, learned))

    def forward(self, values: Tensor) -> Tensor:
        """Values (...) reflectance to features (..., width)."""
        if self.kind == "plain":
            return values[..., None]
        if self.kind == "digits":
            return self._digits(values)
        low, high = math.asinh(LOW / STEP), math.asinh(HIGH / STEP)
        at = (torch.asinh(values.clamp(LOW, HIGH) / STEP) - low) / (high - low)
        angle = at[..., None] * (math.pi * 2.0 ** torch.arange(WAVES, device=values.device))
        bin_at = at * (BINS - 1)
        below = bin_at.floor().clamp(0, BINS - 2)
        share = (bin_at - below)[..., None]
        index = below.long()
        learned = self.table(index) * (1 - share) + self.table(index + 1) * share
        return torch.cat([2 * at[..., None] - 1, angle.sin(), angle.cos(), learned.to(at.dtype)], -1)

    def _digits(self, values: Tensor) -> Tensor:
        number = (values.clamp(0, 0.9999) * 10**DIGITS).round().long()
        found = []
        for place in range(DIGITS):
            index = (number // 10 ** (DIGITS - 1 - place)) % 10 + 10 * place
            found.append(self.table(index) + self.places[index])  # type: ignore[index]
        return torch.cat(found, -1)


def season_features(day: np.ndarray) -> np.ndarray:
    """Sines and cosines of the year's first harmonics, float32 (..., 8)."""
    angle = 2 * np.pi * (np.asarray(day, np.float64)[..., None] % YEAR) / YEAR * np.arange(1, SEASONS + 1)
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=-1).astype(np.float32)


def _squeezed(rest: np.ndarray, scale: np.ndarray) -> np.ndarray:
    return np.asarray(np.arcsinh(np.clip(rest / scale, -CLIP, CLIP)), np.float32)


def gather_tokens(evidence: Evidence, cell_np: np.ndarray, slot_b: np.ndarray) -> dict[str, np.ndarray]:
    """The tokens of some squares of pixels.

    Args:
        evidence: of a window.
        cell_np: int64 (n, p), flat pixel indices y * width + x of each token's pixels; -1 where the window ends.
        slot_b: int64, the place of each of the evidence's bands among the six.

    Returns:
        float32 `value` (n, t, p, 6), `look` (n, t, p, LOOK_FEATURES), `clear` bool (n, t, p), `look_shared` (n, t, ...),
        `base` (n, q, p, 6), `scale` (n, q, p, 6), `query` (n, q, p, QUERY_FEATURES), `query_shared` (n, q, ...), `day_t`
        (n, t) and `day_q` (n, q) float32, counted from the first look, so that no query moves another; `has` bool (n, 6):
        which bands there are. Along t come each sequence's own looks of which a pixel is clear, as many as the longest
        sequence has; what follows a shorter one is not clear.
    """
    n, p = cell_np.shape
    flat = np.maximum(cell_np, 0).ravel()
    inside = (cell_np >= 0)[:, None, :]
    queries = len(evidence.query_q)

    def picked(array: NDArray[Any]) -> NDArray[Any]:
        """(..., [b], y, x) to (n, leading axis, p, [b]), zero beyond the window's end."""
        tall: NDArray[Any] = array.reshape(*array.shape[:-2], -1)[..., flat]
        tall[..., cell_np.ravel() < 0] = 0
        tall = tall.reshape(*tall.shape[:-1], n, p)
        if tall.ndim == 4:  # (a, b, n, p)
            return np.ascontiguousarray(tall.transpose(2, 0, 3, 1))
        return np.ascontiguousarray(tall.transpose(1, 0, 2))

    def slotted(array: np.ndarray) -> np.ndarray:
        """Bands put into their places among the six, zero elsewhere."""
        if len(slot_b) == BANDS and (slot_b == np.arange(BANDS)).all():
            return array
        out = np.zeros((*array.shape[:-1], BANDS), np.float32)
        out[..., slot_b] = array
        return out

    clear = picked(evidence.clear_tyx) & inside
    seen = clear[..., None]
    value = np.where(seen, slotted(picked(evidence.refl_tbyx)), np.float32(0))
    count = np.maximum(clear.sum(axis=1), 1)[:, None, :, None]
    level = value.sum(axis=1, keepdims=True) / count
    spread = np.sqrt((np.where(seen, value - level, 0) ** 2).sum(axis=1, keepdims=True) / count) + 0.004
    scale = slotted(picked(evidence.scale_byx[None]))
    known_b = np.isin(np.arange(BANDS), slot_b)
    scale = np.where(scale > 0, scale, 1).astype(np.float32)
    look = np.concatenate(
        [
            np.where(seen, np.clip((value - level) / spread, -6, 6), 0),
            *(
                _squeezed(slotted(picked(one)), scale)
                for one in (evidence.rest_tbyx * evidence.clear_tyx[:, None], evidence.near_tbyx, evidence.wide_tbyx)
            ),
            clear[..., None],
            picked(evidence.near_tyx)[..., None],
            picked(evidence.wide_tyx)[..., None],
        ],
        axis=-1,
        dtype=np.float32,
    )
    base, blend, error = (
        slotted(picked(one)) for one in (evidence.base_qbyx, evidence.blend_qbyx, evidence.error_qbyx)
    )
    used = error > 0
    ruler = np.where(used, 0.8 * error + 0.1 * scale, scale).astype(np.float32)
    last, following = picked(evidence.last_qyx).astype(np.float32), picked(evidence.next_qyx).astype(np.float32)
    own = np.broadcast_to(picked(evidence.count_yx[None]).astype(np.float32), last.shape)
    query = np.concatenate(
        [
            np.clip((base - level) / spread, -6, 6),
            *(_squeezed(slotted(picked(one)) - base, ruler) for one in evidence.peers_mqbyx),
            _squeezed(blend - base, ruler),
            np.where(used, np.log(np.maximum(error, 1e-4) / scale), 0),
            *(_squeezed(slotted(picked(one)), scale) for one in (evidence.day_near_qbyx, evidence.day_wide_qbyx)),
            np.broadcast_to(np.where(known_b, np.log(scale / 0.01), 0), base.shape),
            np.broadcast_to(picked(evidence.miss_myx[None]), (n, queries, p, MEMBERS)),
            picked(evidence.day_near_qyx)[..., None],
            picked(evidence.day_wide_qyx)[..., None],
            *(np.log1p(one)[..., None] / 4 for one in (last, following, np.minimum(last, following), own)),
            used.any(axis=-1, keepdims=True),
            (np.maximum(last, following) >= 1000)[..., None],
        ],
        axis=-1,
        dtype=np.float32,
    )
    seen_nt = clear.any(axis=-1)
    longest = max(1, int(seen_nt.sum(axis=1).max(initial=0)))
    pick_nt = np.argsort(~seen_nt, axis=1, kind="stable")[:, :longest]
    row_n1 = np.arange(n)[:, None]
    return {
        "value": value[row_n1, pick_nt],
        "look": look[row_n1, pick_nt],
        "clear": clear[row_n1, pick_nt],
        "look_shared": _shared(evidence.day_t, evidence.sensor_t)[pick_nt],
        "base": base,
        "scale": ruler,
        "query": query,
        "query_shared": np.broadcast_to(_shared(evidence.query_q, evidence.sensor_q), (n, queries, SHARED_FEATURES)),
        "day_t": (evidence.day_t - evidence.day_t[0]).astype(np.float32)[pick_nt],
        "day_q": np.broadcast_to((evidence.query_q - evidence.day_t[0]).astype(np.float32), (n, queries)),
        "has": np.broadcast_to(known_b, (n, BANDS)),
    }


def only_asked(tokens: dict[str, np.ndarray], asked_nq: np.ndarray) -> dict[str, np.ndarray]:
    """Tokens with each sequence's own asked queries first, and no more queries than the most that one has."""
    most = max(1, int(asked_nq.sum(axis=1).max(initial=0)))
    pick_nq = np.argsort(~asked_nq, axis=1, kind="stable")[:, :most]
    row_n1 = np.arange(len(asked_nq))[:, None]
    return {name: array[row_n1, pick_nq] if name in OF_QUERIES else array for name, array in tokens.items()}


def _shared(day: np.ndarray, sensor: np.ndarray) -> np.ndarray:
    """What all pixels of a look have in common: season, sensor, and four places for where it is (unknown: zeros)."""
    kind = np.eye(SENSOR_KINDS, dtype=np.float32)[np.minimum(sensor, SENSOR_KINDS - 1)]
    return np.concatenate([season_features(day), kind, np.zeros((len(day), 4), np.float32)], axis=-1)
