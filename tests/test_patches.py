import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from vsat.errors import InputError, StoreError
from vsat.hls import FILL
from vsat.io.patch_reader import PatchStore
from vsat.io.patches import (
    COLUMNS,
    Patch,
    PatchError,
    PatchLayout,
    finish_store,
    part_folder,
    start_part,
    write_shard,
)
from vsat.io.sealed import sealed_json

LAYOUT = PatchLayout(patches=11, looks=5, size_px=8, shard_patches=4)


def patches(layout: PatchLayout, seed: int = 0) -> list[Patch]:
    rng = np.random.default_rng(seed)
    made = []
    for _ in range(layout.patches):
        looks = int(rng.integers(1, layout.looks + 1))
        refl = rng.integers(0, 4000, (looks, 6, layout.size_px, layout.size_px)).astype(np.int16)
        fmask = rng.integers(0, 255, (looks, layout.size_px, layout.size_px)).astype(np.uint8)
        day = np.sort(rng.choice(1000, looks, replace=False)).astype(np.int32)
        made.append(Patch(refl, fmask, day, rng.integers(0, 2, looks).astype(np.uint8)))
    return made


def columns(layout: PatchLayout, made: list[Patch]) -> dict[str, np.ndarray]:
    sizes = {"patch": layout.patches, "look": layout.looks, "feature": 2}
    found = {name: np.zeros([sizes[axis] for axis in axes], dtype) for name, (dtype, axes, _) in COLUMNS.items()}
    found["count"][:] = [len(one.day_t) for one in made]
    for name, pad in (("day", -1), ("sensor", 255), ("scene", -1)):
        found[name][:] = pad
    for n, one in enumerate(made):
        found["day"][n, : len(one.day_t)] = one.day_t
        found["sensor"][n, : len(one.day_t)] = one.sensor_t
        found["scene"][n, : len(one.day_t)] = np.arange(len(one.day_t))
    found["split"][:] = np.arange(layout.patches) % 3
    return found


def write_part(out: Path, part: int, layout: PatchLayout, made: list[Patch]) -> dict[str, object]:
    about = {
        "scenes": list("abcdefg"),
        "tiles": [{"region": "r", "tile": "33UVP", "epsg": 32633}],
        "features": ["p", "q"],
    }
    objects = dict(start_part(out, part, layout, columns(layout, made), about))
    for number in range(layout.shards):
        objects |= dict(write_shard(out, part, layout, number, [made[i] for i in layout.patches_of(number)]))
    return {"patches": layout.patches, "objects": objects}


@pytest.fixture
def store(tmp_path: Path) -> tuple[Path, list[Patch]]:
    first, second = patches(LAYOUT), patches(PatchLayout(3, 7, 8, 4), seed=1)
    parts = [write_part(tmp_path, 0, LAYOUT, first), write_part(tmp_path, 1, PatchLayout(3, 7, 8, 4), second)]
    finish_store(tmp_path, parts, {"statistics": {}})
    return tmp_path, [*first, *second]


def same(one: Patch, other: Patch) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("refl_tbyx", "fmask_tyx", "day_t", "sensor_t")
    )


def test_what_is_written_is_read(store: tuple[Path, list[Patch]]) -> None:
    path, made = store
    found = PatchStore(path)
    assert (len(found), found.looks, found.size_px) == (14, 7, 8)
    assert all(same(found.read(i), one) for i, one in enumerate(made))
    assert found.verify() == []
    assert found.scenes(12) == list("abcdefg"[: len(made[12].day_t)])
    assert found.name(12) == "parts/0001.zarr patch 1"
    assert found.column("day").shape == (14, 7)
    with pytest.raises(IndexError):
        found.read(14)


@settings(max_examples=15, deadline=None)
@given(
    count=st.integers(1, 9),
    looks=st.integers(1, 6),
    size=st.sampled_from([8, 16]),
    shard=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_any_shape_comes_back(
    tmp_path_factory: pytest.TempPathFactory, count: int, looks: int, size: int, shard: int, seed: int
) -> None:
    layout, out = PatchLayout(count, looks, size, shard), tmp_path_factory.mktemp("store")
    made = patches(layout, seed)
    finish_store(out, [write_part(out, 0, layout, made)], {})
    found = PatchStore(out)
    assert all(same(found.read(i), one) for i, one in enumerate(made))


def test_zarr_python_reads_the_same(store: tuple[Path, list[Patch]]) -> None:
    """The twin: stock zarr-python, which knows nothing of our reader."""
    path, made = store
    group = zarr.open_group(part_folder(path, 0), mode="r")
    for i, one in enumerate(made[:11]):
        looks = len(one.day_t)
        assert np.array_equal(group["reflectance"][i][:looks], one.refl_tbyx)  # type: ignore[index]
        assert np.array_equal(group["fmask"][i][:looks], one.fmask_tyx)  # type: ignore[index]
        assert (group["reflectance"][i][looks:] == FILL).all()  # type: ignore[index]
    assert np.array_equal(group["count"][:], [len(one.day_t) for one in made[:11]])  # type: ignore[index]
    codecs = str(group["reflectance"].metadata.to_dict())  # type: ignore[union-attr]
    assert "crc32c" in codecs and "lz4hc" in codecs


def test_the_same_patches_give_the_same_bytes_and_a_second_write_changes_nothing(
    store: tuple[Path, list[Patch]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path, made = store
    other = tmp_path_factory.mktemp("other")
    write_part(other, 0, LAYOUT, made[:11])
    files = sorted(one.relative_to(other) for one in other.rglob("*") if one.is_file())
    assert files and all((path / one).read_bytes() == (other / one).read_bytes() for one in files)
    before = {one: one.stat().st_mtime_ns for one in other.rglob("*") if one.is_file()}
    write_part(other, 0, LAYOUT, made[:11])
    assert before == {one: one.stat().st_mtime_ns for one in other.rglob("*") if one.is_file()}


def test_a_store_can_be_pickled(store: tuple[Path, list[Patch]]) -> None:
    path, made = store
    found = pickle.loads(pickle.dumps(PatchStore(path)))
    assert same(found.read(3), made[3])


def reading(path: Path) -> tuple[list[int], list[str]]:
    """Patches that read back, and the errors of the others."""
    good, errors, found = [], [], PatchStore(path)
    for i in range(len(found)):
        try:
            found.read(i)
            good.append(i)
        except PatchError as error:
            assert error.index == i and error.next_step and found.name(i) in error.problem
            errors.append(str(error))
    return good, errors


@pytest.mark.fault
def test_every_flipped_bit_of_a_shard_is_noticed(store: tuple[Path, list[Patch]]) -> None:
    path, made = store
    victim = part_folder(path, 0) / "reflectance" / "c.1.0.0.0.0"
    whole = victim.read_bytes()
    rng = np.random.default_rng(0)
    for at in [*rng.integers(0, len(whole), 60).tolist(), len(whole) - 1, len(whole) - 5]:
        flipped = bytearray(whole)
        flipped[at] ^= 1 << int(rng.integers(8))
        victim.write_bytes(bytes(flipped))
        found = PatchStore(path)
        bad = [i for i in range(4, 8) if isinstance(_read(found, i), PatchError)]
        assert bad, f"byte {at}"
        assert all(same(found.read(i), made[i]) for i in range(14) if i not in bad)  # the others are whole
        assert found.verify() == ["parts/0000.zarr/reflectance/c.1.0.0.0.0 has been altered"]
    victim.write_bytes(whole)
    assert reading(path) == (list(range(14)), [])


def _read(found: PatchStore, index: int) -> Patch | PatchError:
    try:
        return found.read(index)
    except PatchError as error:
        return error


@pytest.mark.fault
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_cut_shard_is_noticed(store: tuple[Path, list[Patch]], share: float) -> None:
    path, _ = store
    victim = part_folder(path, 0) / "fmask" / "c.0.0.0.0"
    victim.write_bytes(victim.read_bytes()[: int(share * victim.stat().st_size)])
    good, errors = reading(path)
    assert good == list(range(4, 14)) and len(errors) == 4


@pytest.mark.fault
def test_a_missing_shard_is_an_error_and_never_fill(store: tuple[Path, list[Patch]]) -> None:
    path, _ = store
    (part_folder(path, 1) / "reflectance" / "c.0.0.0.0.0").unlink()
    good, errors = reading(path)
    assert good == list(range(11)) and "its shard is missing" in errors[0]
    assert PatchStore(path).verify() == ["parts/0001.zarr/reflectance/c.0.0.0.0.0 is missing"]


@pytest.mark.fault
def test_a_chunk_that_was_never_written_is_an_error(store: tuple[Path, list[Patch]]) -> None:
    """Zarr marks it in the index; stock readers would give fill."""
    import google_crc32c

    path, _ = store
    victim = part_folder(path, 0) / "reflectance" / "c.0.0.0.0.0"
    whole = bytearray(victim.read_bytes())
    index = whole[-4 * 16 - 4 : -4]
    index[16:32] = b"\xff" * 16
    whole[-4 * 16 - 4 :] = index + int(google_crc32c.value(bytes(index))).to_bytes(4, "little")
    victim.write_bytes(bytes(whole))
    good, errors = reading(path)
    assert 1 not in good and len(errors) == 1 and "missing" in errors[0]


@pytest.mark.fault
@pytest.mark.parametrize("name", ["day/c.0.0", "count/c.0", "zarr.json", "x/zarr.json"])
def test_a_column_that_is_altered_or_gone_is_named(store: tuple[Path, list[Patch]], name: str) -> None:
    path, _ = store
    victim = part_folder(path, 0) / name
    whole = bytearray(victim.read_bytes())
    whole[len(whole) // 2] ^= 1
    if not name.endswith("json"):
        victim.write_bytes(bytes(whole))
        with pytest.raises(StoreError, match="part 0 cannot be read"):
            PatchStore(path)
    victim.unlink()
    with pytest.raises(StoreError, match="part 0 cannot be read"):
        PatchStore(path)


def test_a_folder_without_a_manifest_is_no_store(store: tuple[Path, list[Patch]], tmp_path: Path) -> None:
    path, _ = store
    (path / "patches.json").unlink()
    with pytest.raises(InputError, match="no patch store"):
        PatchStore(path)
    shutil.rmtree(path / "parts")
    (path / "patches.json").write_text("{")
    with pytest.raises(StoreError, match="manifest"):
        PatchStore(path)
    (path / "patches.json").write_bytes(sealed_json({"version": 99, "parts": []}))
    with pytest.raises(StoreError, match="version 99"):
        PatchStore(path)
