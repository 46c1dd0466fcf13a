"""Hostile catalogues, addresses and files: each ends in words, reaches for nothing it should not, and stays small."""

import re
import warnings
from collections.abc import Iterator

import pytest
import rasterio
from fault.hostile_addresses import HREFS, PRIVATE_ADDRESSES, REDIRECTS
from fault.hostile_catalogues import ITEMS, PAGES, ROOTS
from fault.hostile_files import FILES
from fault.hostile_world import (
    LISTED,
    MAX_PEAK_MB,
    Case,
    Outcome,
    World,
    attempt,
    dns_outcome,
    leading,
    outcome,
    tried,
    world,
)
from fault.watcher import watching

from vsat.io.peers import refused_address

CASES = [*HREFS, *REDIRECTS, *ITEMS, *PAGES, *ROOTS, *FILES]
pytestmark = pytest.mark.fault


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("hostile")) as made:
        yield made


def assert_harmless(found: Outcome, told: str) -> None:
    assert not found.crash
    assert found.seen.outside == []
    assert re.search(told, found.told), found.told
    assert "SECRET" not in found.told
    assert found.seen.peak_mb < MAX_PEAK_MB


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}: {case.name}")
def test_hostile(hostile: World, case: Case) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # libraries have opinions about such answers; what counts is the outcome
        assert_harmless(tried(hostile, case), case.told)


@pytest.mark.parametrize("catalogue", [True, False], ids=["catalogue", "files"])
@pytest.mark.parametrize("address", PRIVATE_ADDRESSES)
def test_a_listed_name_that_leads_into_a_private_network(hostile: World, address: str, *, catalogue: bool) -> None:
    assert_harmless(dns_outcome(hostile, (address,), catalogue=catalogue), "leads to .*no public address")


def test_one_private_address_among_public_ones_is_enough(hostile: World) -> None:
    both = dns_outcome(hostile, ("93.184.215.14", "10.0.0.1"), catalogue=False)
    assert_harmless(both, "leads to 10.0.0.1")


def test_a_name_for_this_machine_that_leads_elsewhere(hostile: World) -> None:
    with leading({"localhost": ("10.0.0.1",)}):
        hostile.reset()
        found = tried(hostile, Case("href", "localhost", _on_localhost, ""))
    assert_harmless(found, "port|not listed|not this machine")


def _on_localhost(world: World) -> None:
    item = world.item()
    item["assets"]["B04"]["href"] = f"http://localhost:{world.site.port}/x.B04.tif"
    world.serve(item)


def test_the_operator_may_name_private_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert refused_address(LISTED, "93.184.215.14") is None
    assert refused_address(LISTED, "2606:2800:21f:cb07:6820:80da:af6b:8b2c") is None
    assert "no public address" in str(refused_address(LISTED, "10.0.0.1"))
    monkeypatch.setenv("VSAT_PRIVATE_HOSTS", f"other.example.org, {LISTED.upper()}")
    assert refused_address(LISTED, "10.0.0.1") is None
    assert refused_address("x" + LISTED, "10.0.0.1") is not None
    assert refused_address("localhost", "127.0.0.1") is None
    assert refused_address("127.0.0.1", "10.0.0.1") is not None


def test_the_watcher_sees(hostile: World) -> None:
    """Each of its observers hears what it is there for; else a clean table would say nothing."""

    nowhere = {("127.0.0.1", 1)}
    hostile.reset()
    with watching(hosts=nowhere, canaries=hostile.secrets) as seen:
        outcome(lambda: attempt(hostile))
    assert any(f"connect ('127.0.0.1', {hostile.site.port})" in text for text in seen.outside)
    with watching(hosts=nowhere, canaries=hostile.secrets) as seen:
        (hostile.secrets / "secret.txt").read_text()
    assert any(text.startswith("open ") for text in seen.outside)
    with watching(hosts=nowhere, canaries=hostile.secrets) as seen:
        rasterio.open(hostile.secrets / "secret.tif").close()  # GDAL opens files behind Python's back
    assert "canary secret.tif" in seen.outside
    with watching(hosts=nowhere, canaries=hostile.secrets) as seen:
        large = bytearray(b"x") * 200_000_000
    assert seen.peak_mb > 180
    del large
