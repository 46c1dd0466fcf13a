"""JSON from one STAC API and from nowhere else, in answers of bounded size.

pystac-client follows redirects to any host, opens `file:` addresses that a server gives for the next page, and takes in
a body of any length; each is a way for a catalogue to make us read what it has no business with.
"""

import time
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from pystac import Link
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO
from urllib3 import Retry

from vsat.io.download import Patience
from vsat.io.peers import PeerSession, PrivateAddressError
from vsat.io.trust import is_loopback, netloc

MAX_ANSWER_BYTES = 8 << 20  # a hundred items of NASA's or Microsoft's are 1 to 2 MB
MAX_TOTAL_BYTES = 32 << 20
_MAX_HOPS = 5
_CHUNK = 1 << 14  # a thousand times as much may come out of it where the server compresses
_MOVED = (301, 302, 303, 307, 308)


class RefusedError(APIError):
    """An answer that we do not take, however often it comes."""


class OriginIO(StacApiIO):
    """Reads from the scheme, host and port of one STAC API only; nothing local, no redirect to elsewhere.

    Attributes:
        taken: bytes of all answers since it was last set to 0; at most MAX_TOTAL_BYTES.
    """

    def __init__(self, root: str, patience: Patience, retries: Retry) -> None:
        super().__init__(timeout=(patience.connect_s, patience.silence_s))
        self.taken = 0
        self._root, self._attempt_s = root, patience.attempt_s
        self.session = PeerSession(retries)
        self.session.trust_env = not is_loopback(urlsplit(root).hostname or "")  # no proxy to this machine

    def read_text(self, source: Any, *args: Any, **kwargs: Any) -> str:
        """The text of an answer; a path is asked of the server like anything else, and refused.

        Raises:
            APIError: no answer, or none of use.
        """
        if isinstance(source, Link):
            return super().read_text(source, *args, **kwargs)
        return self.request(str(source), *args, **kwargs)

    def request(
        self,
        href: str,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> str:
        """The text of an answer.

        Raises:
            RefusedError: another place, another method than GET and POST, or a longer body than any honest one.
            APIError: no answer, or one that says no.
        """
        verb = (method or "GET").upper()
        if verb not in ("GET", "POST"):
            raise RefusedError("the catalogue asks us to send more than questions")
        given: dict[str, Any] = {"json": parameters} if verb == "POST" else {"params": parameters}
        deadline = time.monotonic() + self._attempt_s
        try:
            with self._hops(verb, href, {**given, "headers": headers}) as answer:
                return self._text(answer, deadline)
        except PrivateAddressError as error:
            raise RefusedError(str(error)) from None
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise APIError(str(error)) from None

    def _hops(self, verb: str, href: str, given: dict[str, Any]) -> requests.Response:
        for _ in range(_MAX_HOPS):
            if not is_same_origin(href, self._root):
                raise RefusedError("the catalogue sends us to another place")
            asked = self.session.prepare_request(requests.Request(verb, href, **given, auth=_no_login))
            settings = self.session.merge_environment_settings(asked.url or "", {}, True, None, None)
            answer = self.session.send(asked, timeout=self.timeout, allow_redirects=False, **settings)
            if answer.status_code not in _MOVED or "Location" not in answer.headers:
                return answer
            answer.close()
            href, given = urljoin(href, answer.headers["Location"]), {"headers": given["headers"]}
            verb = "GET"
        raise RefusedError("the catalogue redirects in a circle")

    def _text(self, answer: requests.Response, deadline: float) -> str:
        status = answer.status_code
        if not 200 <= status < 300:
            error = APIError(f"HTTP {status}")
            error.status_code = status
            raise error
        parts, size = [], 0
        for part in answer.iter_content(_CHUNK):
            parts.append(part)
            size += len(part)
            if size > MAX_ANSWER_BYTES:
                raise RefusedError(f"an answer of more than {MAX_ANSWER_BYTES >> 20} MB")
            if time.monotonic() > deadline:
                raise APIError("timed out")
        self.taken += size
        if self.taken > MAX_TOTAL_BYTES:
            raise RefusedError(f"answers of more than {MAX_TOTAL_BYTES >> 20} MB to one question")
        return b"".join(parts).decode("utf-8")


def is_same_origin(href: str, root: str) -> bool:
    """True if the address has the scheme, host and port of `root`, and no user name."""
    try:
        parts, wanted = urlsplit(href), urlsplit(root)
        return "@" not in parts.netloc and (parts.scheme, netloc(href)) == (wanted.scheme, netloc(root))
    except ValueError:
        return False


def _no_login(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Catalogues are open to read; without this, requests looks for each host in .netrc."""
    return request
