import logging
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from vsat.errors import StoreError
from vsat.hls import FILL
from vsat.io.patches import Patch
from vsat.model.dataset import PatchDataset, PatchSampler, Sample, collate
from vsat.model.loader import PatchLoader


@dataclass
class Source:
    """Patches in memory, some of which cannot be read."""

    count: int = 23
    bad: tuple[int, ...] = ()
    px: int = 8

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return f"patch {index}"

    def read(self, index: int) -> Patch:
        if index in self.bad:
            raise StoreError(f"patch {index} cannot be read", place="here", next_step="draw again")
        rng = np.random.default_rng(index)
        looks = int(rng.integers(6, 13))
        shape = (looks, self.px, self.px)
        cloud = rng.random(shape) < rng.random((looks, 1, 1))
        refl = rng.integers(0, 4000, (looks, 6, *shape[1:])).astype(np.int16)
        day = np.sort(rng.choice(np.arange(19000, 19200), looks, replace=False)).astype(np.int32)
        return Patch(refl, np.where(cloud, 2, 0).astype(np.uint8), day, rng.integers(0, 2, looks).astype(np.uint8))


def dataset(**options: object) -> PatchDataset:
    return PatchDataset(Source(), np.arange(23), **options)  # type: ignore[arg-type]


def same(one: Sample, other: Sample) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_what_the_model_gets_holds_the_context_and_nothing_else() -> None:
    made = dataset()
    for item in range(23):
        one = made[item]
        hidden = ~one["context"][:, None].expand_as(one["refl"])
        assert (one["refl"][hidden] == FILL).all()
        assert (one["truth"][one["target"][:, None].expand_as(one["truth"])] != FILL).all()
        assert not (one["context"] & one["target"]).any()
        assert torch.equal(one["refl"][~hidden], one["truth"][~hidden])


def test_a_sample_is_decided_by_seed_epoch_and_index() -> None:
    one, two = dataset(), dataset()
    assert all(same(one[i], two[i]) for i in (5, 0, 5))
    two.set_epoch(1)
    assert not all(same(one[i], two[i]) for i in range(5))
    assert not all(same(one[i], dataset(seed=1)[i]) for i in range(5))


def test_symmetries_move_pixels_and_masks_together() -> None:
    plain, turned = dataset(flips=False), dataset()
    moved = 0
    for i in range(23):
        one, two = plain[i], turned[i]
        for turn in range(8):
            back = torch.flip(two["truth"], (-1,)) if turn >= 4 else two["truth"]
            back = torch.rot90(back, -(turn % 4), (-2, -1))
            if torch.equal(back, one["truth"]):
                moved += turn > 0
                break
        else:
            raise AssertionError("not one of the eight symmetries")
    assert moved > 10


def test_patches_of_one_pixel_turn_too() -> None:
    made = PatchDataset(Source(px=1), np.arange(23))
    assert all(made[n]["refl"].shape[1:] == (6, 1, 1) for n in range(23))


def test_a_patch_that_cannot_be_read_is_named_once_counted_and_replaced(caplog: pytest.LogCaptureFixture) -> None:
    made = PatchDataset(Source(40, bad=(3, 4)), np.arange(40))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            found = [int(made[i]["index"]) for i in range(40)]
    assert not {3, 4} & set(found)
    assert found[3] == found[4] == found[5] == 5
    assert made.unreadable == {"patch 3": "patch 3 cannot be read", "patch 4": "patch 4 cannot be read"}
    assert sum("left out of training" in record.message for record in caplog.records) == 2


def test_a_store_with_much_of_it_gone_is_not_trained_on() -> None:
    made = PatchDataset(Source(40, bad=(3, 4, 5)), np.arange(40))
    with pytest.raises(StoreError, match="3 of 40 patches"):
        [made[i] for i in range(40)]


def test_batches_are_padded_and_say_where() -> None:
    samples = [dataset()[i] for i in range(5)]
    batch = collate(samples)
    longest = max(len(one["day"]) for one in samples)
    assert batch["refl"].shape == (5, longest, 6, 8, 8) and batch["look"].sum(1).tolist() == [
        len(one["day"]) for one in samples
    ]
    for n, one in enumerate(samples):
        assert torch.equal(batch["refl"][n][: len(one["day"])], one["refl"])
        assert (batch["refl"][n][len(one["day"]) :] == FILL).all()
        assert not batch["target"][n][len(one["day"]) :].any()


@pytest.mark.parametrize("world", [1, 2, 3])
def test_processes_share_an_epoch_evenly_and_no_sample_comes_twice(world: int) -> None:
    ranks = [list(PatchSampler(23, seed=4, rank=rank, world=world)) for rank in range(world)]
    assert {len(one) for one in ranks} == {23 // world}
    whole = [item for one in ranks for item in one]
    assert len(set(whole)) == len(whole)
    other = PatchSampler(23, seed=4, world=world)
    other.set_epoch(1)
    assert list(other) != ranks[0]


def test_shuffling_reaches_over_the_whole_store() -> None:
    order = np.array(list(PatchSampler(4000, seed=0)))
    assert abs(np.corrcoef(np.arange(4000), order)[0, 1]) < 0.05


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("handed", [0, 1, 3, 5])
def test_a_loader_goes_on_with_the_very_next_batch(threads: int, handed: int) -> None:
    def loader() -> PatchLoader:
        made = PatchLoader(dataset(), PatchSampler(23, seed=7), batch_size=4, threads=threads, ahead=2)
        made.set_epoch(2)
        return made

    whole = list(loader())
    assert len(whole) == len(loader()) == 6
    first = loader()
    turns = iter(first)
    for n in range(handed):
        assert same(next(turns), whole[n])
    state = first.state_dict()
    turns.close()  # type: ignore[attr-defined]
    second = PatchLoader(dataset(), PatchSampler(23, seed=7), batch_size=4, threads=threads)
    second.load_state_dict(state)
    rest = list(second)
    assert len(rest) == 6 - handed and all(same(a, b) for a, b in zip(rest, whole[handed:], strict=True))


def test_torch_s_own_loader_gives_the_same_batches() -> None:
    made = dataset()
    ours = list(PatchLoader(made, PatchSampler(23), batch_size=4))
    for workers in (0, 2):
        theirs = DataLoader(
            made,
            4,
            sampler=PatchSampler(23),
            collate_fn=collate,
            num_workers=workers,
            multiprocessing_context="fork" if workers else None,
        )
        assert all(same(a, b) for a, b in zip(ours, theirs, strict=True))


def test_an_error_in_a_thread_reaches_the_caller_and_the_threads_end() -> None:
    import threading

    loader = PatchLoader(PatchDataset(Source(23, bad=tuple(range(20))), np.arange(23)), PatchSampler(23), batch_size=4)
    with pytest.raises(StoreError):
        list(loader)
    assert not [one for one in threading.enumerate() if one.name.startswith("patches")]


@pytest.mark.slow
def test_two_processes_of_torchrun_see_all_of_it_once(tmp_path: Path) -> None:
    script = tmp_path / "ranks.py"
    script.write_text(
        "import os, sys, torch, torch.distributed as dist\n"
        "from test_dataset import dataset\n"
        "from vsat.model.dataset import PatchSampler\n"
        "from vsat.model.loader import PatchLoader\n"
        "dist.init_process_group('gloo')\n"
        "sampler = PatchSampler(23, rank=dist.get_rank(), world=dist.get_world_size())\n"
        "seen = torch.cat([batch['index'] for batch in PatchLoader(dataset(), sampler, batch_size=4)])\n"
        "both = [torch.zeros_like(seen) for _ in range(2)]\n"
        "dist.all_gather(both, seen)\n"
        "assert len(set(torch.cat(both).tolist())) == 22, both\n"
        "dist.destroy_process_group()\n"
    )
    run = ["-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1", "--nproc_per_node", "2"]
    command = [sys.executable, *run, str(script)]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.fault
def test_a_flipped_byte_a_cut_and_a_missing_shard_are_never_trained_on(tmp_path: Path) -> None:
    from stores import write_store

    from vsat.io.patch_reader import PatchStore
    from vsat.io.patches import part_folder

    truth = write_store(tmp_path, (0,) * 120)["refl"]  # two patches to a shard
    folder = part_folder(tmp_path, 0)
    flipped, cut, gone = (folder / "reflectance" / f"c.{shard}.0.0.0.0" for shard in (3, 11, 40))
    body = bytearray(flipped.read_bytes())
    body[40] ^= 4  # in the first chunk: patch 6
    flipped.write_bytes(bytes(body))
    cut.write_bytes(cut.read_bytes()[:-9])
    gone.unlink()
    made = PatchDataset(PatchStore(tmp_path), np.arange(120), flips=False)
    seen = set()
    for batch in PatchLoader(made, PatchSampler(120), batch_size=8):
        for n, index in enumerate(batch["index"].tolist()):
            seen.add(index)
            clear_values = batch["truth"][n][batch["look"][n]].numpy()
            assert np.array_equal(clear_values, truth[index])
    assert sorted(made.unreadable) == [f"parts/0000.zarr patch {i}" for i in (22, 23, 6, 80, 81)]
    assert seen == set(range(120)) - {6, 22, 23, 80, 81}
