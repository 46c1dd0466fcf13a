"""Any-date models whose every weight is random, small cubes, and their tokens as a batch.

The head of a new model is zero: whatever it is asked, it says the classical estimate. Invariances mean something only
once all weights have been shaken.
"""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vsat.core.evidence import Evidence, gather_evidence
from vsat.hls import FILL
from vsat.model.anydate import AnyDate, AnyDateConfig
from vsat.model.predict import cells_of
from vsat.model.tokens import gather_tokens

SIX = np.arange(6)


def cube(
    seed: int = 0, *, looks: int = 14, height: int = 6, width: int = 5, bands: int = 6, repeats: bool = False
) -> tuple[NDArray[np.int16], NDArray[np.bool_], NDArray[np.int32]]:
    """Reflectance, clear and days: season, an effect of each date, pixels that differ; half of it cloudy."""
    rng = np.random.default_rng(seed)
    day = np.sort(rng.choice(np.arange(19000, 19000 + 12 * looks), looks, replace=False)).astype(np.int32)
    if repeats:
        day[looks // 2] = day[looks // 2 - 1]
    phase = rng.normal(0, 0.3, (height, width))
    level = np.linspace(800, 2600, bands)[:, None, None] * np.exp(rng.normal(0, 0.2, (height, width)))
    wave = level * (1 + 0.3 * np.sin(day[:, None, None, None] / 58.0 + phase))
    refl = wave + rng.normal(0, 120, (looks, 1, 1, 1)) + rng.normal(0, 40, wave.shape)
    clear = rng.random((looks, height, width)) < rng.choice((0.2, 0.6, 0.9), (looks, 1, 1))
    clear[rng.choice(looks, 2, replace=False)] = True
    return np.where(clear[:, None], refl, FILL).astype(np.int16), clear, day


def untrained(*, seed: int = 0, **options: object) -> AnyDate:
    """A small new model."""
    config = AnyDateConfig(**{"width": 32, "layers": 2, "heads": 2} | options)  # type: ignore[arg-type]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AnyDate(config).train(mode=False)


def shaken(*, seed: int = 0, **options: object) -> AnyDate:
    """A small model with random numbers on all of its weights."""
    model, generator = untrained(seed=seed, **options), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.15 * torch.randn(weight.shape, generator=generator)
    return model


def evidence_of(seed: int = 0, **options: int) -> Evidence:
    """Evidence on six days of a cube: two of them with a look."""
    refl, clear, day = cube(seed, **options)  # type: ignore[arg-type]
    query = np.unique([*day[[3, 8]], *(day[0] + np.array([-20, 33, 71, 400]))]).astype(np.int32)
    return gather_evidence(refl, clear, day, query)


def batch(seed: int = 0, *, patch_px: int = 1, sequences: int = 8, **options: int) -> dict[str, Tensor]:
    """Tokens of some squares of a cube, with a target, a truth and weights."""
    found = evidence_of(seed, **options)
    cells = cells_of(*found.count_yx.shape, patch_px)[:sequences]
    found = replace(found, sensor_t=(np.arange(len(found.day_t)) % 3).astype(np.uint8))
    tokens = gather_tokens(found, cells, SIX)
    made = {name: torch.from_numpy(np.array(array)) for name, array in tokens.items()}
    generator = torch.Generator().manual_seed(seed)
    made["target"] = torch.rand(made["base"].shape[:-1], generator=generator) < 0.6
    made["truth"] = (made["base"] + made["scale"] * torch.randn(made["base"].shape, generator=generator))[..., None]
    made["weight"] = 0.5 + torch.rand(made["base"].shape, generator=generator)
    return made


def changed(values: Tensor, where: Tensor | None = None, *, seed: int = 9) -> Tensor:
    """The values with other ones (random: a constant would be taken out by a norm) everywhere or where it is said."""
    noise = torch.rand(values.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float32) + 0.5
    other = (values + noise).to(values.dtype)
    return other if where is None else torch.where(where, other, values)
