"""Does training wait for its data: an epoch of a model of a million parameters on a patch store, one thread ahead.

    python tests/bench/training_wait.py [--shared ../shared] [--json FILE]

A store of 64 px x 24 looks is written from synthetic scenes; the model is a small transformer over patches of 8 x 8 pixels
of every look, trained with AdamW on what the gaps hide. One run on whatever torch has; three ways of loading, same batches.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import patch_reading
import torch
from torch import nn
from torch.utils.data import DataLoader

from vsat.io.patch_reader import PatchStore
from vsat.model.dataset import PatchDataset, PatchSampler, Sample, collate
from vsat.model.loader import PatchLoader

LOOKS, SIZE, PATCHES, BATCH, CELL, WIDTH = 24, 64, 64, 4, 8, 128


class Small(nn.Module):
    """A million parameters: tokens of 8 x 8 pixels along time, four layers, reflectance back."""

    def __init__(self) -> None:
        super().__init__()
        values = 6 * CELL * CELL
        self.into, self.day = nn.Linear(values + CELL * CELL, WIDTH), nn.Linear(2, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 4, 5 * WIDTH, dropout=0.0, batch_first=True, norm_first=True)
        self.body, self.out = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False), nn.Linear(WIDTH, values)

    def forward(self, batch: Sample) -> torch.Tensor:
        """Mean absolute error on the targets."""
        refl = torch.where(batch["context"][:, :, None], batch["refl"].float() * 1e-4, 0.0)
        tokens = torch.cat([cells(refl), cells(batch["context"][:, :, None].float())], -1)
        angle = batch["day"].float() * (2 * np.pi / 365.25)
        season = self.day(torch.stack([angle.sin(), angle.cos()], -1))
        n, t, p, _ = tokens.shape
        tokens = (self.into(tokens) + season[:, :, None]).transpose(1, 2).reshape(n * p, t, WIDTH)
        hidden = (~batch["look"])[:, None].expand(n, p, t).reshape(n * p, t)
        made = self.out(self.body(tokens, src_key_padding_mask=hidden)).reshape(n, p, t, -1).transpose(1, 2)
        wanted = cells(batch["target"][:, :, None].float().expand(-1, -1, 6, -1, -1))
        return ((made - cells(batch["truth"].float() * 1e-4)).abs() * wanted).sum() / wanted.sum().clamp(min=1)


def cells(images: torch.Tensor) -> torch.Tensor:
    """(n, t, b, y, x) as (n, t, cells, b * 8 * 8)."""
    n, t, b, y, x = images.shape
    cut = images.reshape(n, t, b, y // CELL, CELL, x // CELL, CELL).permute(0, 1, 3, 5, 2, 4, 6)
    return cut.reshape(n, t, (y // CELL) * (x // CELL), b * CELL * CELL)


def main() -> None:
    """Print one markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, help="not used: this bench makes its own data")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder) / "store")
        dataset = PatchDataset(store, np.arange(len(store)))
        model = Small().to(device)
        print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} million parameters, {device}\n")
        print("| loading | samples/s | step waits | loading alone, samples/s |\n|---|---|---|---|")
        for name, batches in loaders(dataset):
            alone = time.perf_counter()
            for _ in batches:
                pass
            alone = len(dataset) / (time.perf_counter() - alone)
            total, waited = epoch(model, batches, device)
            share, rate = waited / total, len(dataset) / total
            rows.append({"loading": name, "samples_per_s": rate, "waits": share, "alone_per_s": alone})
            print(f"| {name} | {rate:.1f} | {share:.2%} | {alone:.0f} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


def make_store(out: Path) -> PatchStore:
    """A store of random windows of a year of scenes."""
    refl, fmask = patch_reading.scenes(LOOKS)
    corners = np.random.default_rng(0).integers(0, patch_reading.SIDE_PX - SIZE + 1, (PATCHES, 2))
    cut = [(slice(None), slice(y, y + SIZE), slice(x, x + SIZE)) for y, x in corners]
    patch_reading.write_store(
        out, np.stack([refl[:, :, one[1], one[2]] for one in cut]), np.stack([fmask[one] for one in cut])
    )
    return PatchStore(out)


def loaders(dataset: PatchDataset) -> Iterable[tuple[str, Iterable[Sample]]]:
    """The ways to load."""
    yield "PatchLoader, one thread", PatchLoader(dataset, PatchSampler(len(dataset)), batch_size=BATCH)
    for workers in (0, 1):
        sampler = PatchSampler(len(dataset))
        loader = DataLoader(dataset, BATCH, sampler=sampler, num_workers=workers, collate_fn=collate)
        yield f"DataLoader, {workers} workers", loader


def epoch(model: nn.Module, batches: Iterable[Sample], device: torch.device) -> tuple[float, float]:
    """Seconds of an epoch, and of them those in which the step waited for a batch; the first batch does not count."""
    optimiser = torch.optim.AdamW(model.parameters(), 1e-3)
    turns, waited = iter(batches), 0.0
    batch = next(turns, None)
    begin = time.perf_counter()
    while batch is not None:
        on_device = {name: values.to(device, non_blocking=True) for name, values in batch.items()}
        loss = model(on_device)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        loss.item()
        asked = time.perf_counter()
        batch = next(turns, None)
        waited += time.perf_counter() - asked
    return time.perf_counter() - begin, waited


if __name__ == "__main__":
    main()
