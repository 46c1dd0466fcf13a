"""Pixels per second of the any-date model on this machine's cores, beside a GPT-2 of its shape that writes value after value.

    python tests/bench/anydate_speed.py [--side 512] [--checkpoint FOLDER]

A block of side x side pixels, 60 acquisitions, 16 dates in one pass, evidence and blending included; filled as stages fill
images, a part on each core. The other model reads the same record (60 looks x 6 bands) and emits 16 x 6 values one at a
time, with cached keys: as text of four digits and a space, and, kinder to it, with one token for a whole value. Prints all,
the ratios, and what a whole tile would take.
"""

import argparse
import os
import time

import numpy as np
import torch
from transformers import GPT2Config, GPT2Model

from vsat.core.evidence import gather_evidence
from vsat.core.masks import clear
from vsat.model.checkpoint import load_checkpoint
from vsat.model.cores import share_cores
from vsat.model.predict import Question, answer, has_bfloat16
from vsat.model.prior import Prior
from vsat.stages.models import SHIPPED
from vsat.stages.pool import run_in_threads

LOOKS, DATES, TILE_PX = 60, 16, 3660
TEXT_TOKENS = 5  # of a value: four digits and a space


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


def one_value_at_a_time(width: int, layers: int, heads: int, tokens: int, pixels: int = 32) -> float:
    """Pixels per second of a GPT-2 that emits DATES x 6 values of some tokens for each."""
    config = GPT2Config(
        n_embd=width,
        n_layer=layers,
        n_head=heads,
        vocab_size=1024,
        n_positions=4096,
        bos_token_id=None,
        eos_token_id=None,
    )
    model = GPT2Model(config).eval()
    head = torch.nn.Linear(width, config.vocab_size)
    words = torch.randint(0, config.vocab_size, (pixels, LOOKS * 6 * tokens))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=has_bfloat16(torch.device("cpu"))):
        start = time.perf_counter()
        out = model(words, use_cache=True)
        for _ in range(DATES * 6 * tokens):
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
    evidence = (time.perf_counter() - start) / 128**2  # seconds a pixel
    cores = len(os.sched_getaffinity(0))
    share_cores(cores)
    parts = [np.s_[..., part] for part in np.array_split(np.arange(given.side), cores)]
    start = time.perf_counter()
    run_in_threads(
        lambda part: answer(model, refl[part], seen[part], Question(days, query, np.arange(6))), parts, workers=cores
    )
    seconds = time.perf_counter() - start
    ours = given.side**2 / seconds
    share_cores(1)
    shape = model.config.width, model.config.layers, model.config.heads
    others = {"text": one_value_at_a_time(*shape, TEXT_TOKENS), "a token a value": one_value_at_a_time(*shape, 1)}
    print(f"{given.side} x {given.side} x 6, {LOOKS} looks ({seen.mean():.0%} clear), {DATES} dates: {seconds:.0f} s")
    print(f"pixels per second, {DATES} dates each: {ours:.0f}; evidence by itself {evidence * given.side**2:.0f} s")
    for name, other in others.items():
        print(f"one value at a time, same width and depth, {name}: {other:.1f}; ratio {ours / other:.0f}")
    print(
        f"a whole tile: {TILE_PX**2 / ours / 60:.0f} min for {DATES} dates, {TILE_PX**2 / ours / 60 / DATES:.1f} min a date"
    )


if __name__ == "__main__":
    main()
