"""To which addresses a name may lead. A listed host is a name, and whoever answers for it in DNS decides where it leads.

A name that leads into the own network (10.0.0.1), to this machine or to a cloud's metadata (169.254.169.254) is
refused before anything is connected, whether a catalogue, a redirect or a changed DNS entry brought it up. Who runs a
catalogue in an own network names its hosts in VSAT_PRIVATE_HOSTS: that is the operator's to say, not a region file's.
"""

import ipaddress
import os
import socket
from collections.abc import Callable
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, Retry
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, HTTPError, NameResolutionError, NewConnectionError

from vsat.io.trust import is_loopback

PRIVATE_HOSTS = "VSAT_PRIVATE_HOSTS"
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64 = ipaddress.ip_network("64:ff9b::/96")  # an IPv4 address in its last four bytes


class PrivateAddressError(HTTPError):
    """A name leads to an address that nobody outside should send us to; no connection was made."""


class PeerSession(requests.Session):
    """A session whose connections look where they go, and that leaves redirects and their bodies alone.

    Args:
        retries: of connections and requests, as in requests' adapters; none by default.
        pool: connections kept for each host.
    """

    def __init__(self, retries: Retry | int = 0, pool: int = 10) -> None:
        super().__init__()
        for scheme in ("https://", "http://"):
            self.mount(scheme, _PeerAdapter(pool_connections=8, pool_maxsize=pool, max_retries=retries))

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """None: even where it shall not follow, requests takes in the body of a redirect, however long."""
        return None


class _PeerAdapter(HTTPAdapter):
    """Connects to addresses that `refused_address` lets pass. Behind a proxy it is the proxy that resolves names."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        """As in requests, with connections that look where they go."""
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}


def refused_address(host: str, address: str) -> str | None:
    """Why `host` must not lead to the IP `address`, or None if it may.

    Args:
        host: as the allow-list has it. This machine leads to this machine, every other name out into the world.
        address: what DNS says.
    """
    ip = _embedded(ipaddress.ip_address(address.partition("%")[0]))
    if is_loopback(host):
        return None if ip.is_loopback else f"{host} leads to {ip}, which is not this machine"
    if (ip.is_global and not ip.is_multicast) or host.lower() in _private_hosts():
        return None
    return f"{host} leads to {ip}, which is no public address; if it is to be, name the host in {PRIVATE_HOSTS}"


def _embedded(ip: _Address) -> _Address:
    """The IPv4 address that an IPv6 address stands for, else the address itself."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip


def _private_hosts() -> set[str]:
    return {name.strip().lower() for name in os.environ.get(PRIVATE_HOSTS, "").split(",") if name.strip()}


def _open(connection: HTTPConnection, connect: Callable[[], socket.socket]) -> socket.socket:
    """A socket to one of the addresses of the connection's host, all of which must be allowed."""
    host = connection._dns_host
    try:
        found = socket.getaddrinfo(host, connection.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        told = error if isinstance(error, socket.gaierror) else socket.gaierror(str(error))
        raise NameResolutionError(host, connection, told) from None
    addresses = [str(entry[4][0]) for entry in found]
    for address in addresses:  # one good one among them would be no excuse for the others
        if reason := refused_address(host, address):
            raise PrivateAddressError(reason)
    failed: HTTPError = NewConnectionError(connection, f"{host} has no address")
    for address in addresses:
        try:
            connection._dns_host = address  # what was checked is what is connected: no second look into DNS
            return connect()
        except (NewConnectionError, ConnectTimeoutError) as error:
            failed = error
        finally:
            connection._dns_host = host
    raise failed


class _Connection(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _open(self, super()._new_conn)


class _SecureConnection(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _open(self, super()._new_conn)


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection
