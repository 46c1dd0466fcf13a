"""Whom we read from: which hosts, which addresses, which names. What a catalogue says is checked here before use."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal
from urllib.parse import SplitResult, unquote, urlsplit

_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")  # ids become paths
_MAX_HREF = 4096
_ODD = re.compile(r"[\x00-\x20\x7f\\]")  # urlsplit drops some of these silently, others parse differently elsewhere


@dataclass(frozen=True)
class Endpoint:
    """A catalogue, and the hosts that its files may be read from.

    Attributes:
        kind: how to talk to it; `cmr` sends the Earthdata token, `planetary-computer` signs addresses.
        url: root of the STAC API.
        collections: (sensor, collection id) pairs.
        hosts: hosts of files: names (https, port 443), or `127.0.0.1:8123`-like entries that allow plain http to that
            port of this machine.
        redirects: further hosts that a listed host may send us on to; `.example.org` means all below example.org.
        login: the one host that may get the name and password of .netrc.
    """

    kind: Literal["cmr", "planetary-computer", "stac"]
    url: str
    collections: tuple[tuple[str, str], ...]
    hosts: tuple[str, ...]
    redirects: tuple[str, ...] = ()
    login: str = ""


def is_safe_id(text: str) -> bool:
    """True if `text` can stand in a path: `[A-Za-z0-9._-]`, 1 to 128 characters, no leading dot."""
    return _ID.fullmatch(text) is not None


def refusal(href: str, hosts: tuple[str, ...]) -> str | None:
    """Why `href` must not be read, or None if it may be.

    Args:
        href: an absolute address, as a catalogue or a redirect gave it.
        hosts: as `Endpoint.hosts` and `Endpoint.redirects`.
    """
    if len(href) > _MAX_HREF or _ODD.search(href):
        return "an address with odd characters or over 4096 long"
    try:
        parts, port = urlsplit(href), urlsplit(href).port
    except ValueError:
        return "an address that does not parse"
    return _odd_form(parts) or _wrong_host(parts.scheme, parts.hostname or "", port, hosts)


def _odd_form(parts: SplitResult) -> str | None:
    path = unquote(unquote(parts.path)).lower()
    if "@" in parts.netloc:
        return "an address with a user name in it"
    if ".." in path.split("/") or "/vsi" in path or "\\" in path:
        return "an address whose path contains '..', '/vsi' or a backslash"
    return None


def _wrong_host(scheme: str, host: str, port: int | None, hosts: tuple[str, ...]) -> str | None:
    if port is not None and is_loopback(host):
        listed = {f"{host}:{port}", f"[{host}]:{port}"} & set(hosts)
        return None if listed and scheme in ("http", "https") else f"local address {host}:{port} is not listed"
    if scheme != "https":
        return f"scheme {scheme or 'none'!r}: only https is read"
    if port not in (None, 443):
        return f"port {port}: only 443 is read"
    if not any(host == h or (h.startswith(".") and host.endswith(h)) for h in hosts):
        return f"host {host!r} is not among {', '.join(hosts) or 'none'}"
    return None


def is_loopback(host: str) -> bool:
    """True for `localhost` and addresses of this machine; a name that merely begins like one is not."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def netloc(href: str) -> str:
    """Host of an address, with its port if it names one other than the scheme's, in lower case."""
    parts = urlsplit(href)
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    return host if parts.port in (None, 443) else f"{host}:{parts.port}"


def without_secrets(href: str) -> str:
    """The address without user name, query string and fragment (which may hold tokens), for messages and signatures."""
    try:
        parts = urlsplit(href)
        return SplitResult(parts.scheme, netloc(href), parts.path, "", "").geturl()
    except ValueError:
        return "an address that does not parse"
