import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vsat.io.trust import is_loopback, is_safe_id, netloc, refusal, without_secrets

HOSTS = ("data.example.org", ".cdn.example.org", "127.0.0.1:8123", "[::1]:8124")


@pytest.mark.parametrize(
    "href",
    [
        "https://data.example.org/a/b.tif",
        "https://data.example.org:443/b.tif",
        "https://DATA.example.org/b.tif?sig=a%2Fb",
        "https://x.cdn.example.org/b.tif",
        "http://127.0.0.1:8123/b.tif",
        "https://127.0.0.1:8123/b.tif",
        "http://[::1]:8124/b.tif",
    ],
)
def test_allowed(href: str) -> None:
    assert refusal(href, HOSTS) is None


@pytest.mark.parametrize(
    ("href", "why"),
    [
        ("http://data.example.org/b.tif", "scheme 'http'"),
        ("ftp://data.example.org/b.tif", "scheme 'ftp'"),
        ("file:///etc/passwd", "scheme 'file'"),
        ("s3://data.example.org/b.tif", "scheme 's3'"),
        ("/vsicurl/https://data.example.org/b.tif", "/vsi"),
        ("https://data.example.org/vsicurl/https://evil.org/b.tif", "/vsi"),
        ("https://data.example.org/%2576sis3/x", "/vsi"),
        ("https://data.example.org/a/../b.tif", ".."),
        ("https://data.example.org/a/%2e%2e/b.tif", ".."),
        ("https://data.example.org/a/%252e%252e/b.tif", ".."),
        ("https://me:word@data.example.org/b.tif", "user name"),
        ("https://data.example.org@evil.org/b.tif", "user name"),
        ("https://data.example.org:8443/b.tif", "port 8443"),
        ("https://data.example.org:x/b.tif", "parse"),
        ("https://evil.org/data.example.org/b.tif", "'evil.org'"),
        ("https://data.example.org.evil.org/b.tif", "not among"),
        ("https://evilcdn.example.org/b.tif", "not among"),
        ("https://cdn.example.org/b.tif", "not among"),
        ("http://127.0.0.1:8124/b.tif", "8124 is not listed"),
        ("http://127.0.0.1/b.tif", "scheme 'http'"),
        ("http://127.0.0.1.evil.org:8123/b.tif", "scheme 'http'"),
        ("http://localhost:8123/b.tif", "not listed"),
        ("http://169.254.169.254/latest/meta-data", "scheme 'http'"),
        ("https://169.254.169.254/latest", "not among"),
        ("https://data.example.org\\@evil.org/b.tif", "odd"),
        ("https://data.exam\tple.org/b.tif", "odd"),
        (" https://data.example.org/b.tif", "odd"),
        ("https://data.example.org/" + "a" * 5000, "4096"),
        ("<VRTDataset/>", "scheme"),
        ("", "scheme"),
    ],
)
def test_refused(href: str, why: str) -> None:
    reason = refusal(href, HOSTS)
    assert reason is not None
    assert why in reason


def test_nothing_is_allowed_without_hosts() -> None:
    assert refusal("https://data.example.org/b.tif", ()) is not None


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_address_gets_past_the_host_list(middle: str, tail: str) -> None:
    href = f"https://{middle}/{tail}"
    if refusal(href, ("data.example.org",)) is None:
        import requests

        prepared = requests.Request("GET", href).prepare().url
        assert prepared is not None
        assert netloc(prepared) == "data.example.org"


@given(st.ip_addresses())
def test_only_this_machine_is_loopback(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert is_loopback(str(address)) == address.is_loopback


@pytest.mark.parametrize("good", ["HLS.L30.T19LBJ.2020239T144556.v2.0", "a", "-_.x"[1:], "A" * 128])
def test_safe_ids(good: str) -> None:
    assert is_safe_id(good)


@pytest.mark.parametrize("bad", ["", ".", "..", ".hidden", "a/b", "a\\b", "a b", "A" * 129, "a\n", "ä", "a\0", "a:b"])
def test_unsafe_ids(bad: str) -> None:
    assert not is_safe_id(bad)


def test_messages_hold_no_secrets() -> None:
    told = without_secrets("https://me:word@data.example.org/a.tif?sig=SECRET#frag")
    assert told == "https://data.example.org/a.tif"
    assert "SECRET" not in without_secrets("https://data.example.org:bad/?sig=SECRET")
