"""A place in an S3-compatible bucket, with as much of pathlib's Path as stores need: who uses a store sees no difference.

Endpoint, region and credentials come from the environment alone, by their usual names: AWS_ENDPOINT_URL, AWS_REGION,
AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN. An object is put whole or not at all, and the bucket must
know conditional puts (If-None-Match, If-Match), which AWS S3, MinIO, R2, Ceph and SeaweedFS do.
"""

import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from vsat.errors import AccessError, StoreError

if TYPE_CHECKING:
    from obstore import PutMode
    from obstore.store import S3Store

SCHEME = "s3:"
ABSENT = ""  # the ETag of an object that is not there
RETRIES, RETRY_S = 6, 60.0  # with pauses from .1 s that double: some six seconds of refused connections, then an error
REQUEST_S = 300.0  # for the largest scene, 80 MB, over a slow line
AT_ONCE = 16  # small requests side by side
_PAGE = 1000  # keys in one answer to a listing; S3 gives no more
_PLACE = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9_=.-]+)*/?")
_REFUSED = {
    "AccessDenied",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
}


@dataclass(frozen=True)
class Entry:
    """One object of a listing: its place, bytes, ETag, and when it was put by the server's clock."""

    path: "ObjectPath"
    size: int
    etag: str
    modified: datetime


class ObjectPath(PurePosixPath):
    """`s3://bucket/key`. Methods that pathlib has too do what they do there, as far as a bucket can.

    Raises:
        AccessError: by every method that asks the bucket: it refuses the credentials.
        StoreError: likewise: there is no such bucket, or the endpoint does not answer.
    """

    __slots__ = ()

    def __str__(self) -> str:
        text = super().__str__()
        return f"{SCHEME}//{text.removeprefix(SCHEME).lstrip('/')}" if text.startswith(SCHEME) else text

    @property
    def bucket(self) -> str:
        """Name of the bucket."""
        return self.parts[1]

    @property
    def key(self) -> str:
        """The place inside the bucket; "" for the bucket itself."""
        return "/".join(self.parts[2:])

    def exists(self) -> bool:
        """True if there is an object, or one below."""
        return self.is_file() or self.is_dir()

    def is_dir(self) -> bool:
        """True if there is an object below."""
        with _told(self):
            return any(_client(self.bucket).list(prefix=self.key or None, chunk_size=1))

    def is_file(self) -> bool:
        """True if there is an object."""
        try:
            self.size()
        except FileNotFoundError:
            return False
        return True

    def size(self) -> int:
        """Bytes of the object.

        Raises:
            FileNotFoundError: there is none.
        """
        with _told(self):
            return int(_client(self.bucket).head(self.key)["size"])

    def modified(self) -> datetime:
        """When the object was put, by the server's clock.

        Raises:
            FileNotFoundError: there is none.
        """
        with _told(self):
            found: datetime = _client(self.bucket).head(self.key)["last_modified"]
            return found

    def read_bytes(self) -> bytes:
        """The object's content.

        Raises:
            FileNotFoundError: there is none.
        """
        return self.read()[0]

    def read_text(self, encoding: str = "utf-8") -> str:
        """The object's content as text."""
        return self.read_bytes().decode(encoding)

    def read(self) -> tuple[bytes, str]:
        """The object's content and ETag.

        Raises:
            FileNotFoundError: there is none.
        """
        with _told(self):
            found = _client(self.bucket).get(self.key)
            return bytes(found.bytes()), str(found.meta["e_tag"])

    def read_tail(self, length: int) -> tuple[bytes, int]:
        """The last `length` bytes of the object, or as many as it has, and its size."""
        with _told(self):
            found = _client(self.bucket).get(self.key, options={"range": {"suffix": length}})
            return bytes(found.bytes()), int(found.meta["size"])

    def read_ranges(self, spans: Sequence[tuple[int, int]]) -> list[memoryview]:
        """The bytes of each (start, stop) of the object; what lies close together comes by one request."""
        if not spans:
            return []
        starts, ends = zip(*spans, strict=True)
        with _told(self):
            found = _client(self.bucket).get_ranges(self.key, starts=starts, ends=ends)
            return [memoryview(part) for part in found]

    def put(self, content: bytes, *, instead_of: str | None = None) -> str | None:
        """The object is there, whole, in place of an earlier one.

        Args:
            content: its bytes.
            instead_of: put it only where the object has this ETag; ABSENT: only where there is none.

        Returns:
            Its ETag, or None where `instead_of` is not, or no longer, what is there.
        """
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        sys.audit("vsat.object", "put", str(self))  # where the kill tests end the process
        mode: PutMode = {"e_tag": instead_of} if instead_of else "overwrite" if instead_of is None else "create"
        try:
            with _told(self):
                # one request: a killed upload in parts would leave parts that nobody sees and somebody pays
                done = _client(self.bucket).put(self.key, content, mode=mode, use_multipart=False)
        except (AlreadyExistsError, PreconditionError):
            return None
        except FileNotFoundError:
            if not instead_of:
                raise
            return None  # the object to be replaced is gone
        return str(done["e_tag"])

    def replace(self, other: "ObjectPath") -> None:
        """The object is at `other`, in place of what was there, and not here. A kill may leave it in both places."""
        sys.audit("vsat.object", "copy", str(other))
        with _told(self):
            _client(self.bucket).copy(self.key, other.key)
        self.unlink()

    def unlink(self, missing_ok: bool = True) -> None:
        """There is no such object."""
        sys.audit("vsat.object", "delete", str(self))
        with _told(self):
            _client(self.bucket).delete(self.key)

    def mkdir(self, *, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: a bucket has no folders."""

    def entries(self) -> list[Entry]:
        """All objects below, in order."""
        with _told(self):
            found = _client(self.bucket).list(prefix=self.key or None, chunk_size=_PAGE).collect()
        root = type(self)(f"{SCHEME}//{self.bucket}")
        made = [Entry(root / one["path"], one["size"], str(one["e_tag"]), one["last_modified"]) for one in found]
        return sorted(made, key=lambda one: one.path)

    def glob(self, pattern: str) -> Iterator["ObjectPath"]:
        """Objects below whose path matches, in order: `*` within a name, `**/` for any number of levels."""
        fixed = takewhile(lambda part: "*" not in part, pattern.split("/")[:-1])
        rule = re.compile(re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*"))
        for entry in self.joinpath(*fixed).entries():
            if rule.fullmatch(entry.path.relative_to(self).as_posix()):
                yield entry.path

    def rglob(self, pattern: str) -> Iterator["ObjectPath"]:
        """Objects at any depth below whose name matches."""
        return self.glob(f"**/{pattern}")


StorePath = Path | ObjectPath


def place_of(text: str | StorePath) -> StorePath:
    """The place that a text means: a bucket's where it begins with s3://, else a folder of this machine."""
    return ObjectPath(text) if str(text).startswith(f"{SCHEME}//") else Path(text)


def bucket_place(text: str) -> ObjectPath:
    """The place that a user wrote.

    Raises:
        ValueError: it is not s3://bucket or s3://bucket/prefix.
    """
    if not _PLACE.fullmatch(text) or ".." in text:
        raise ValueError("a place in a bucket is written s3://bucket/prefix; credentials come from the environment")
    return ObjectPath(text)


def existing(paths: Iterable[StorePath]) -> set[StorePath]:
    """Those of the paths where there is something; in a bucket by a listing of what lies above them all."""
    wanted = set(paths)
    remote = [path for path in wanted if isinstance(path, ObjectPath)]
    if not remote:
        return {path for path in wanted if path.exists()}
    above = os.path.commonpath([path.parent.key for path in remote])
    listed = {entry.path for entry in ObjectPath(f"{SCHEME}//{remote[0].bucket}/{above}").entries()}
    return wanted & listed


def read_all(paths: Sequence[ObjectPath]) -> list[tuple[bytes, str] | None]:
    """Content and ETag of each object, several at a time; None where it is gone."""
    with ThreadPoolExecutor(min(AT_ONCE, len(paths) or 1)) as pool:
        return list(pool.map(_read_or_none, paths))


def _read_or_none(path: ObjectPath) -> tuple[bytes, str] | None:
    try:
        return path.read()
    except FileNotFoundError:
        return None


def _client(bucket: str) -> "S3Store":
    return _made_client(bucket, tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_"))))


@lru_cache(maxsize=8)
def _made_client(bucket: str, environment: tuple[tuple[str, str], ...]) -> "S3Store":
    """One client, with its connections, per bucket and environment; it reads the environment itself."""
    from obstore.store import S3Store

    endpoint = dict(environment).get("AWS_ENDPOINT_URL_S3") or dict(environment).get("AWS_ENDPOINT_URL") or ""
    return S3Store(
        bucket,
        client_options={"allow_http": endpoint.startswith("http://"), "timeout": timedelta(seconds=REQUEST_S)},
        retry_config={"max_retries": RETRIES, "retry_timeout": timedelta(seconds=RETRY_S)},
    )


@contextmanager
def _told(path: ObjectPath) -> Iterator[None]:
    """Errors in words. The library's own text is left out, for an answer to an expired token repeats the token."""
    from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

    try:
        yield
    except (AlreadyExistsError, PreconditionError):
        raise
    except FileNotFoundError as error:
        if "<Code>NoSuchBucket</Code>" in str(error):
            raise _no_bucket(path) from None
        raise FileNotFoundError(2, "no such object", str(path)) from None
    except BaseError as error:
        raise _error(path, error) from None


def _error(path: ObjectPath, error: Exception) -> StoreError | AccessError:
    text = str(error)
    code = _between(text, "Code")
    status = re.search(r"status code: (\d+)", text)
    if code == "NoSuchBucket":
        return _no_bucket(path)
    if code in _REFUSED or (status and status[1] in ("401", "403")):
        step = (
            "see AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN in the environment: they must be valid "
            "and allow to list, read, write and delete in this bucket"
        )
        told = code or f"status {status[1]}" if status else code
        return AccessError(f"the bucket refuses our credentials ({told})", place=str(path), next_step=step)
    if status:
        step = "run again later: what is finished stays"
        return StoreError(f"the bucket answers {status[1]} {code}".strip(), place=str(path), next_step=step)
    step = "see that AWS_ENDPOINT_URL and AWS_REGION name the object store and that it runs, then run again"
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "AWS"
    return StoreError(f"the object store at {endpoint} cannot be reached", place=str(path), next_step=step)


def _no_bucket(path: ObjectPath) -> StoreError:
    step = "make the bucket, or mend `store` in the region file"
    return StoreError(f"there is no bucket {path.bucket!r}", place=str(path), next_step=step)


def _between(text: str, tag: str) -> str:
    found = re.search(f"<{tag}>([A-Za-z]{{1,60}})</{tag}>", text)
    return found[1] if found else ""
