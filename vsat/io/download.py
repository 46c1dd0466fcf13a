"""Bytes over HTTP: own redirects, own retries, credentials only where they belong.

GDAL never touches the network in vsat. Its curl layer follows redirects unseen, remembers a 401 for the life of the
process, keeps bad bytes in its cache and never retries a truncated body; here each hop is checked against the
allow-list, and every answer's length and range against what was asked.
"""

import json
import logging
import os
import random
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.auth import AuthBase

from vsat.io.credentials import TOKEN, netrc_login
from vsat.io.peers import PeerSession, PrivateAddressError
from vsat.io.trust import Endpoint, is_loopback, netloc, refusal

if TYPE_CHECKING:
    from planetary_computer.sas import SASToken

log = logging.getLogger(__name__)
T = TypeVar("T")

MAX_FILE_BYTES = 1 << 26  # a whole HLS band with overviews, not compressed at all, is 36 MB
_MAX_HOPS = 8  # data host -> login -> data host -> cookie -> signed address is five
_CHUNK = 1 << 20
_MOVED = (301, 302, 303, 307, 308)
_TRY_AGAIN = {400, 408, 409, 425, 429, 500, 502, 503, 504}  # 400: LP DAAC gives it under load
_CONTENT_ATTEMPTS = 3
_SAS_SPARE_S = 120
_MAX_TOKEN_BYTES = 1 << 16


@dataclass(frozen=True)
class Patience:
    """How long and how often to try. Seconds.

    Attributes:
        attempts: tries of one read in all.
        first_delay_s: wait after the first failure; doubles each time, with up to a half taken off at random.
        cap_s: longest single wait, also when a server asks for more.
        budget_s: no new try begins later than this after the first one began.
        attempt_s: one answer, body included, may take this long.
        connect_s: to connect.
        silence_s: between two packets.
        seed: of the random part of the waits.
    """

    attempts: int = 5
    first_delay_s: float = 1.0
    cap_s: float = 30.0
    budget_s: float = 300.0
    attempt_s: float = 600.0
    connect_s: float = 5.0
    silence_s: float = 30.0
    seed: int = 0

    def delay_s(self, failures: int, name: str, asked_s: float | None = None) -> float:
        """Wait after so many failures (1, 2, ...) of the read called `name`; the same for the same arguments."""
        full = min(self.cap_s, self.first_delay_s * 2.0 ** (failures - 1))
        jittered = full * (1 - 0.5 * random.Random(f"{self.seed}/{name}/{failures}").random())  # noqa: S311
        return max(jittered, min(self.cap_s, asked_s or 0.0))


class AttemptError(Exception):
    """One try of a read failed; `retrying` decides what comes of it.

    Args:
        reason: for the user, without secrets.
        kind: `transport` is tried again, `content` a few times only, `final` never, `access` never (credentials).
        after_s: what the server asked us to wait.
    """

    def __init__(self, reason: str, kind: str = "transport", after_s: float | None = None) -> None:
        self.reason, self.kind, self.after_s = reason, kind, after_s
        super().__init__(reason)


def retrying(read: Callable[[], T], name: str, patience: Patience) -> T:
    """The first success of `read`, which is called afresh until `patience` ends.

    Args:
        read: one try; raises AttemptError.
        name: of what is read, for the log and the seed of the waits.
        patience: limits.

    Raises:
        AttemptError: the last failure.
    """
    began = time.monotonic()
    for failures in range(1, patience.attempts + 1):
        try:
            return read()
        except AttemptError as failed:
            limit = {"transport": patience.attempts, "content": min(patience.attempts, _CONTENT_ATTEMPTS)}
            wait = patience.delay_s(failures, name, failed.after_s)
            if failures >= limit.get(failed.kind, 0) or time.monotonic() + wait - began > patience.budget_s:
                raise
            log.info("%s: %s; try %d follows in %.1f s", name, failed.reason, failures + 1, wait)
            time.sleep(wait)
    raise AssertionError("patience without attempts")


@dataclass(frozen=True)
class Body:
    """Bytes `start` to `start + len(data)` of a file of `total` bytes; `mark` changes when the file does."""

    data: bytes
    start: int
    total: int
    mark: str = ""


class Client:
    """HTTP for one endpoint: keep-alive connections shared by threads, cookies, credentials."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._session = PeerSession(pool=32)
        self._session.trust_env = False  # requests would read the whole environment and .netrc at each request
        self._session.verify = os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or True
        self._session.headers["Accept-Encoding"] = "identity"  # ranges and lengths then mean what they say
        self._lock = threading.Lock()
        self._login = _Login.read(endpoint)

    def get(self, href: str, patience: Patience, *, start: int | None = None, stop: int | None = None) -> Body:
        """One try at the bytes of `href`, whole or from `start` until before `stop`.

        Raises:
            AttemptError: with the reason; its text holds no query string.
        """
        login = self._login
        try:
            return self._get(href, patience, start, stop, login)
        except AttemptError as failed:
            if failed.kind != "access" or not self._refresh(login):
                raise
        return self._get(href, patience, start, stop, self._login)

    def _refresh(self, used: "_Login") -> bool:
        """Read the credentials again after a refusal; False if there is nothing to try that was not tried."""
        with self._lock:
            if self._login is used:  # else another thread has done it
                self._login = _Login.read(self.endpoint, refused=used)
                self._session.cookies.clear()
        if self.endpoint.kind != "planetary-computer":
            return self._login != used
        from planetary_computer import sas

        sas.TOKEN_CACHE.clear()
        return True

    def _get(self, href: str, patience: Patience, start: int | None, stop: int | None, login: "_Login") -> Body:
        deadline = time.monotonic() + patience.attempt_s
        try:
            answer = self._hops(href, patience, _range_header(start, stop), login)
            with answer:
                body = _body(answer, start, deadline)
        except PrivateAddressError as error:
            raise AttemptError(f"refused: {error}", "final") from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise AttemptError(f"{type(error).__name__} while reading") from None  # its text holds the signed address
        if body.start == 0 and body.data[:64].lstrip()[:1] == b"<":
            page = body.data[:20000].lower()
            is_login = self.endpoint.kind == "cmr" and (b"earthdata login" in page or b"urs.earthdata" in page)
            raise AttemptError("an HTML page instead of a TIFF", "access" if is_login else "content")
        return body

    def _hops(self, href: str, patience: Patience, ranges: dict[str, str], login: "_Login") -> requests.Response:
        """The answer behind all redirects, each checked before it is followed."""
        url, allowed = self._signed(href, patience), self.endpoint.hosts
        for hop in range(_MAX_HOPS):
            if reason := refusal(
                url, allowed
            ):  # a server that is out of order for a moment sends us to its status page
                raise AttemptError(f"refused: {reason}", "content" if hop else "final")
            answer = self._session.get(
                url,
                headers=ranges,
                stream=True,
                allow_redirects=False,
                timeout=(patience.connect_s, patience.silence_s),
                proxies=_proxies(netloc(url)),
                auth=_Header(login.header(url, self.endpoint)),
            )
            if answer.status_code not in _MOVED or "Location" not in answer.headers:
                _check_status(answer, self.endpoint)
                return answer
            answer.close()
            url = _joined(url, answer.headers["Location"])
            allowed = (*self.endpoint.hosts, *self.endpoint.redirects, *filter(None, [self.endpoint.login]))
            if self.endpoint.login and netloc(url) == self.endpoint.login and not login.password:
                raise AttemptError("the server sends us to its login page", "access")
        raise AttemptError("redirected in a circle", "final")

    def _signed(self, href: str, patience: Patience) -> str:
        """The address, with a read token where the endpoint wants one."""
        if self.endpoint.kind != "planetary-computer" or refusal(href, self.endpoint.hosts):
            return href
        from planetary_computer import sas, sign

        with self._lock:  # one token request for all threads
            try:
                account, container = sas.parse_blob_url(urlsplit(href))
            except ValueError:
                raise AttemptError("refused: an address without container and file", "final") from None
            key = f"{sas.Settings.get().sas_url}/{account}/{container}"
            if key not in sas.TOKEN_CACHE or sas.TOKEN_CACHE[key].ttl() < _SAS_SPARE_S:
                # The package asks without a timeout and for a quarter of an hour: so we put the token in its cache.
                sas.TOKEN_CACHE[key] = self._sas_token(key, patience)
            return str(sign(href))

    def _sas_token(self, url: str, patience: Patience) -> "SASToken":
        """A read token of Planetary Computer, which says itself until when it holds."""
        from planetary_computer.sas import SASToken

        with self._session.get(
            url,
            timeout=(patience.connect_s, patience.silence_s),
            stream=True,
            allow_redirects=False,
            proxies=_proxies(netloc(url)),
            auth=_Header(""),
        ) as answer:
            if answer.status_code != HTTPStatus.OK:
                raise AttemptError(f"no read token from Planetary Computer: HTTP {answer.status_code}")
            text = answer.raw.read(_MAX_TOKEN_BYTES)
        try:
            found = json.loads(text)
            return SASToken(**{name: str(found[name]) for name in ("msft:expiry", "token")})
        except (ValueError, KeyError, TypeError, RecursionError):
            raise AttemptError("no read token from Planetary Computer: not the JSON expected") from None


@lru_cache(maxsize=64)
def _proxies(place: str) -> dict[str, str]:
    """The proxies that the environment names for a host; none for this machine."""
    host = urlsplit(f"//{place}").hostname or ""
    return {} if is_loopback(host) else requests.utils.get_environ_proxies(f"https://{place}")


@lru_cache(maxsize=8)
def client_for(endpoint: Endpoint, pid: int) -> Client:
    """The process's client for an endpoint; `pid` is os.getpid(), so that a fork never shares its parent's sockets."""
    return Client(endpoint)


@dataclass(frozen=True)
class _Login:
    """Earthdata credentials as they stood when read; a bearer token goes first."""

    token: str = field(default="", repr=False)
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    @classmethod
    def read(cls, endpoint: Endpoint, refused: "_Login | None" = None) -> "_Login":
        """From EARTHDATA_TOKEN and .netrc (or the file NETRC names); a token that was refused is not taken again."""
        if endpoint.kind != "cmr":
            return cls()
        token = os.environ.get(TOKEN, "").strip()
        user, password = netrc_login(endpoint.login)
        return cls("" if refused and refused.token == token else token, user, password)

    def header(self, url: str, endpoint: Endpoint) -> str:
        """The Authorization that this address may get, mostly none."""
        place = netloc(url)
        if self.token and place in endpoint.hosts:
            return f"Bearer {self.token}"
        if self.password and endpoint.login and place == endpoint.login:
            return "Basic " + b64encode(f"{self.user}:{self.password}".encode()).decode()
        return ""


class _Header(AuthBase):
    """Sets exactly this Authorization; without it requests would look into .netrc by itself."""

    def __init__(self, value: str) -> None:
        self.value = value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.value:
            request.headers["Authorization"] = self.value
        return request


def _range_header(start: int | None, stop: int | None) -> dict[str, str]:
    if start is None:
        return {}
    return {"Range": f"bytes={start}-{'' if stop is None else stop - 1}"}


def _check_status(answer: requests.Response, endpoint: Endpoint) -> None:
    """Nothing if the answer has a body worth reading, else AttemptError."""
    status = answer.status_code
    if status in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        return
    answer.close()
    if status in (401, 403) or (status == HTTPStatus.CONFLICT and endpoint.kind == "planetary-computer"):
        raise AttemptError(f"HTTP {status}: access refused", "access")
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        raise AttemptError("HTTP 416: a file shorter than it should be", "content")
    if status in _TRY_AGAIN:
        raise AttemptError(f"HTTP {status}", "transport", _retry_after_s(answer.headers.get("Retry-After", "")))
    raise AttemptError(f"HTTP {status}", "final")


def _joined(url: str, target: str) -> str:
    """Where a redirect leads."""
    try:
        return urljoin(url, target)
    except ValueError:
        raise AttemptError("refused: a redirect to an address that does not parse", "final") from None


def _retry_after_s(text: str) -> float | None:
    """What Retry-After asks for, in seconds: it is a number of them, or a date."""
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


def _body(answer: requests.Response, start: int | None, deadline: float) -> Body:
    """The body, its length and place checked against the headers."""
    if answer.headers.get("Content-Encoding", "identity") != "identity":
        raise AttemptError("the server compresses files on the way", "content")
    first, total = _place(answer, start)
    declared = _count(answer.headers.get("Content-Length", ""))
    if (total or declared or 0) > MAX_FILE_BYTES:
        raise AttemptError(f"a file of {total or declared} bytes: none of HLS is over {MAX_FILE_BYTES}", "final")
    parts, size = [], 0
    while part := answer.raw.read1(_CHUNK):  # what has come: the clock is looked at even if bytes drip
        parts.append(part)
        size += len(part)
        if size > MAX_FILE_BYTES:
            raise AttemptError(f"a file of more than {MAX_FILE_BYTES} bytes", "final")
        if time.monotonic() > deadline:
            raise AttemptError("the answer comes too slowly")
    if declared is not None and size != declared:
        raise AttemptError(f"truncated: {size} of {declared} bytes came")
    mark = answer.headers.get("ETag", "") or answer.headers.get("Last-Modified", "")
    return Body(b"".join(parts), first, first + size if total is None else total, mark)


def _place(answer: requests.Response, start: int | None) -> tuple[int, int | None]:
    """Where the body begins in the file, and the file's size if the answer tells."""
    if answer.status_code != HTTPStatus.PARTIAL_CONTENT:
        return 0, None
    unit, _, rest = answer.headers.get("Content-Range", "").partition(" ")
    span, _, total = rest.partition("/")
    first, size = _count(span.partition("-")[0]), _count(total)
    if unit != "bytes" or first is None or size is None or first != (start or 0):
        raise AttemptError("the server answers another range than asked", "content")
    return first, size


def _count(text: str) -> int | None:
    """A number of bytes as headers write it; other digits than 0 to 9, and numbers beyond any file, are none."""
    return int(text) if len(text) < 20 and text.isascii() and text.isdigit() else None
