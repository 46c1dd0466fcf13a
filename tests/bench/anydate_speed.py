"""Pixels per second of the any-date model on two cores, beside a GPT-2 of its shape that writes one value after the other.

    python tests/bench/anydate_speed.py [--side 512] [--checkpoint FOLDER]

A block of side x side pixels, 60 acquisitions, 16 dates in one pass, evidence and blending included. The other reads the same
record as a sentence of one token per value (60 looks x 6 bands), with cached keys, and emits 16 x 6 values one at a time:
kinder to it than text, where a value takes several tokens. Prints both, their ratio, and what a whole tile would take.
"""

import argparse
import time

import numpy as np
import torch
from transformers import GPT2Config, GPT2Model

from vsat.core.evidence import gather_evidence
from vsat.core.masks import clear
from vsat.model.checkpoint import load_checkpoint
from vsat.model.predict import Question, answer
from vsat.model.prior import Prior
from vsat.stages.models import SHIPPED

LOOKS, DATES, TILE_PX = 60, 16, 3660


def block(side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reflectance, clear pixels and days of a record with enough looks, its patch repeated over the block."""
    for index in range(1000):
        patch = Prior(seed=5, size_px=64).read(index)
        seen = clear(patch.fmask_tyx, patch.refl_tbyx)
        if len(np.unique(patch.day_t)) >= LOOKS and 0.4 < seen.mean() < 0.6:
            days = np.unique(patch.day_t, return_index=True)[1][:LOOKS]
            times = -(-side // 64)
            refl = np.tile(patch.refl_tbyx[days], (1, 1, times, times))[..., :side, :side]
            return refl, np.tile(seen[days], (1, times, times))[:, :side, :side], patch.day_t[days]
    raise AssertionError("no such record")


def one_value_at_a_time(width: int, layers: int, heads: int, pixels: int = 64) -> float:
    """Pixels per second of a GPT-2 that emits DATES x 6 values for each."""
    config = GPT2Config(n_embd=width, n_layer=layers, n_head=heads, vocab_size=1024, n_positions=1024)
    model = GPT2Model(config).eval()
    head = torch.nn.Linear(width, config.vocab_size)
    words = torch.randint(0, config.vocab_size, (pixels, LOOKS * 6))
    with torch.inference_mode():
        start = time.perf_counter()
        out = model(words, use_cache=True)
        for _ in range(DATES * 6):
            word = head(out.last_hidden_state[:, -1:]).argmax(-1)
            out = model(word, past_key_values=out.past_key_values, use_cache=True)
        return pixels / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", help="not used")
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--checkpoint", default=str(SHIPPED))
    given = parser.parse_args()
    model = load_checkpoint(given.checkpoint, device="cpu").model
    refl, seen, days = block(given.side)
    query = np.linspace(int(days[20]), int(days[20]) + 115, DATES).astype(np.int32)
    warm = np.s_[..., :32, :32]
    answer(model, refl[warm], seen[warm], Question(days, query, np.arange(6)))
    start = time.perf_counter()
    gather_evidence(refl[..., :128, :128], seen[..., :128, :128], days, query)
    share = (time.perf_counter() - start) / 128**2
    start = time.perf_counter()
    answer(model, refl, seen, Question(days, query, np.arange(6)))
    seconds = time.perf_counter() - start
    ours = given.side**2 / seconds
    other = one_value_at_a_time(model.config.width, model.config.layers, model.config.heads)
    print(f"{given.side} x {given.side} x 6, {LOOKS} looks ({seen.mean():.0%} clear), {DATES} dates: {seconds:.0f} s")
    print(f"pixels per second, {DATES} dates each: {ours:.0f}; of this time {share * ours:.0%} is evidence")
    print(f"one value at a time, same width and depth: {other:.1f}; ratio {ours / other:.0f}")
    print(
        f"a whole tile: {TILE_PX**2 / ours / 60:.0f} min for {DATES} dates, {TILE_PX**2 / ours / 60 / DATES:.1f} min a date"
    )


if __name__ == "__main__":
    main()
