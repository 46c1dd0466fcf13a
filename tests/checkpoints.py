"""Checkpoints for tests: small ones with random weights, so that what they say depends on everything that goes in."""

import json
from dataclasses import asdict
from pathlib import Path

import torch

from vsat.model import CALIBRATION
from vsat.model.anydate import AnyDateConfig, new_model
from vsat.model.rehearsal import Stretch


def write_checkpoint(folder: Path, *, seed: int = 0, backbone: str = "llama", noise: float = 0.05) -> Path:
    """A checkpoint of 2 narrow layers; `noise` on its head makes it no classical estimate any more."""
    model = new_model(AnyDateConfig(width=16, layers=2, heads=2, backbone=backbone), seed=seed)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        model.head.weight.add_(noise * torch.randn(model.head.weight.shape, generator=generator))
    model.save_pretrained(folder)
    (folder / CALIBRATION).write_text(json.dumps(asdict(Stretch.none())))
    return folder
