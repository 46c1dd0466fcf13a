"""A place in a bucket behaves as a folder of this machine does, and says in words what is wrong with the bucket."""

import pickle
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from faulty import serving
from object_store import SECRET, free_ports

from vsat.errors import AccessError, StoreError
from vsat.io.durable import sha256_of, size_of, write_file
from vsat.io.shard import ShardLayout, TornShardError, encode, read_window
from vsat.objects import ABSENT, ObjectPath, bucket_place, existing, place_of, read_all

NAMES = ("a.json", "a/b.json", "a/b/c.json", "a/b/.hidden", "a-b/c.json", "z/2023.zarr/zarr.json", "z/2023.zarr/c.0")


def test_a_place_is_its_text() -> None:
    place = place_of("s3://bucket/some/prefix/")
    assert isinstance(place, ObjectPath)
    assert (str(place), place.bucket, place.key) == ("s3://bucket/some/prefix", "bucket", "some/prefix")
    inside = place / "images" / "./x.tif"
    assert str(inside) == "s3://bucket/some/prefix/images/x.tif"
    assert inside.relative_to(place).as_posix() == "images/x.tif"
    assert place_of(str(inside)) == pickle.loads(pickle.dumps(inside)) == inside
    assert place_of("folder/x") == Path("folder/x")


NO_PLACES = ("s3://", "s3://ab", "s3://me:secret@bucket/x", "s3://bucket/../b", "s3://bucket/x?y=z", "s3:bucket")


@pytest.mark.parametrize("text", NO_PLACES)
def test_what_is_no_place_is_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="s3://bucket/prefix") as told:
        bucket_place(text)
    assert "secret@" not in str(told.value)


@pytest.mark.integration
def test_a_bucket_lists_as_a_folder_does(bucket: ObjectPath, tmp_path: Path) -> None:
    for place in (bucket, tmp_path):
        for name in NAMES:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            write_file(place / name, [name[:1].encode(), name[1:].encode()])
    for pattern in ("*", "*.json", "*/*.json", "a/*", "a/**/*", "**/c.*", "*/*.zarr/zarr.json", "none/*", "*/*/**/*"):
        local = sorted({path.relative_to(tmp_path) for path in tmp_path.glob(pattern) if path.is_file()})
        assert [Path(path.relative_to(bucket)) for path in bucket.glob(pattern)] == local, pattern
    assert sorted(path.name for path in bucket.rglob("c.*")) == ["c.0", "c.json", "c.json"]
    for name in ("a", "a.json", "none", "z/2023.zarr"):
        assert (bucket / name).exists() == (tmp_path / name).exists()
        assert (bucket / name).is_file() == (tmp_path / name).is_file()
    paths = [bucket / name for name in (*NAMES, "none", "a/none")]
    assert existing(paths) == set(paths[: len(NAMES)])
    assert [found and found[0].decode() for found in read_all(paths[-3:])] == [NAMES[-1], None, None]
    assert sha256_of(bucket / "a/b.json") == sha256_of(tmp_path / "a/b.json")
    assert size_of(bucket / "a/b.json") == size_of(tmp_path / "a/b.json")


@pytest.mark.integration
def test_conditional_puts_replace_what_was_seen_and_nothing_else(bucket: ObjectPath) -> None:
    path = bucket / "one"
    assert path.put(b"0", instead_of='"0123"') is None
    assert not path.exists()
    first = path.put(b"1", instead_of=ABSENT)
    assert first
    assert path.put(b"2", instead_of=ABSENT) is None
    second = path.put(b"3", instead_of=first)
    assert second
    assert path.put(b"4", instead_of=first) is None
    assert path.read() == (b"3", second)
    path.replace(bucket / "other")
    assert [entry.path.name for entry in bucket.entries()] == ["other"]
    path.unlink()
    with pytest.raises(FileNotFoundError):
        path.read_bytes()


@pytest.mark.integration
def test_a_window_of_a_scene_is_the_same_from_a_bucket(bucket: ObjectPath, tmp_path: Path) -> None:
    layout = ShardLayout((6, 70, 50), (16, 16), "int16", -9999)
    whole = np.random.default_rng(0).integers(0, 9000, layout.shape).astype(np.int16)
    for place in (bucket, tmp_path):
        write_file(place / "shard", encode(layout, whole))
        out = np.empty((6, 30, 20), np.int16)
        read_window(place / "shard", layout, (range(25, 55), range(30, 50)), out)
        assert (out == whole[:, 25:55, 30:50]).all()
        content = bytearray((place / "shard").read_bytes())
        content[200] ^= 1
        for name, torn in (("flipped", bytes(content)), ("short", bytes(content[:99]))):
            write_file(place / name, [torn])
            with pytest.raises(TornShardError):
                read_window(place / name, layout, (range(70), range(50)), np.empty(layout.shape, np.int16))
        with pytest.raises(FileNotFoundError):
            read_window(place / "none", layout, (range(70), range(50)), np.empty(layout.shape, np.int16))


ASKING: list[Callable[[ObjectPath], object]] = [
    lambda path: path.put(b"1"), lambda path: path.put(b"1", instead_of=ABSENT), lambda path: path.exists(),
    lambda path: list(path.glob("*")),
]  # fmt: skip


@pytest.mark.integration
@pytest.mark.parametrize("ask", ASKING, ids=["put", "create", "exists", "list"])
def test_each_trouble_is_told_with_its_next_step(
    bucket: ObjectPath, ask: Callable[[ObjectPath], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoreError, match=r"there is no bucket 'no-such-bucket'.*make the bucket"):
        ask(place_of("s3://no-such-bucket/x"))  # type: ignore[arg-type]
    with monkeypatch.context() as changed:
        changed.setenv("AWS_SECRET_ACCESS_KEY", f"{SECRET}-wrong")
        with pytest.raises(AccessError, match=r"refuses our credentials.*see AWS_ACCESS_KEY_ID") as told:
            ask(bucket / "x")
        assert SECRET not in "".join(traceback.format_exception(told.value))
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_ports(1)[0]}")
    with pytest.raises(StoreError, match=r"http://127.0.0.1:\d+ cannot be reached.*see that AWS_ENDPOINT_URL"):
        ask(bucket / "x")


def test_an_expired_token_is_told_without_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = b"<Error><Code>ExpiredToken</Code><Message>expired</Message><Token-0>the-token-itself</Token-0></Error>"
    for name, value in (("ACCESS_KEY_ID", "key"), ("SECRET_ACCESS_KEY", "x"), ("SESSION_TOKEN", "the-token-itself")):
        monkeypatch.setenv(f"AWS_{name}", value)
    with serving({"/bucket/x": b""}) as server:
        server.fail("/bucket/x", lambda handler, body, headers: handler.answer(400, answer))
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.href("/").rstrip("/"))
        with pytest.raises(AccessError, match="ExpiredToken") as told:
            place_of("s3://bucket/x").read_bytes()
    assert "the-token-itself" not in "".join(traceback.format_exception(told.value))
