"""Searching over loopback: complete answers are sorted out, anything else is CatalogueDown and never a shorter list."""

import gzip
import json
import warnings
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import faulty
import pytest
import yaml
from faulty import Catalogue, Server, serving
from granules import GRID, NAME, cmr_item
from hypothesis import given
from hypothesis import strategies as st
from planetary_computer import sas

from vsat.config import Catalogue as Config
from vsat.core.grid import TileGrid
from vsat.errors import CatalogueDown, InputError
from vsat.hls import BANDS, GranuleId
from vsat.io.catalog import Found, endpoint_for, search, select
from vsat.io.download import AttemptError, Client, Patience
from vsat.io.paging import _months, geographic_boxes
from vsat.io.trust import Endpoint

FAST = Patience(attempts=3, first_delay_s=0.001, cap_s=0.01, budget_s=10, connect_s=2, silence_s=0.5)
CMR = endpoint_for(Config(kind="cmr"))
BASE = "https://data.lpdaac.earthdatacloud.nasa.gov/lp-prod-protected"
FIRST, LAST = date(2024, 4, 1), date(2024, 6, 30)


def name_of(day: date, sensor: str = "L30", tile: str = "33UVP", clock: str = "100601", version: str = "2.0") -> str:
    return f"HLS.{sensor}.T{tile}.{day:%Y%j}T{clock}.v{version}"


ITEMS = [
    cmr_item(name_of(FIRST + timedelta(days=k), sensor, tile))
    for k in range(0, 91, 2)
    for sensor in ("L30", "S30")
    for tile in ("33UVP", "33UVQ")
]
OURS = {item["id"] for item in ITEMS if "T33UVP" in item["id"]}


def endpoint_of(server: Server) -> Endpoint:
    return replace(server.endpoint(), hosts=CMR.hosts)


def find(catalogue: Catalogue, start: date = FIRST, end: date = LAST, **options: Any) -> Found:
    with serving(pages=catalogue) as server:
        return search(endpoint_of(server), GRID, start, end, **{"patience": FAST, **options})


def chosen(*items: dict[str, Any], endpoint: Endpoint = CMR, **options: Any) -> Found:
    return select(items, endpoint, "33UVP", FIRST, LAST, **options)


@pytest.mark.parametrize("size", [100, 7, 1])
@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize("empty_last", [True, False])
def test_every_granule_of_the_tile_is_found(size: int, *, counts: bool, empty_last: bool) -> None:
    found = find(Catalogue(ITEMS, size=size, counts=counts, empty_last=empty_last), end=date(2024, 5, 9))
    wanted = {name for name in OURS if GranuleId.from_string(name).acquired.date() <= date(2024, 5, 9)}
    assert {granule.id for granule in found.granules} == wanted
    assert len(found.granules) == 40
    assert found.unusable == found.superseded == found.cloudy == ()
    assert found.listed == 80
    assert [g.acquired for g in found.granules] == sorted(g.acquired for g in found.granules)


def test_nothing_there_is_an_answer() -> None:
    assert find(Catalogue([])) == Found((), (), 0, ())


def test_what_is_asked() -> None:
    """A box, a period, at most 100 a page: nothing else is understood alike by all catalogues."""
    catalogue = Catalogue(ITEMS)
    find(catalogue)
    assert {frozenset(query) - {"host", "page"} for query in catalogue.queries} == {
        frozenset({"bbox", "collections", "datetime", "limit"})
    }
    months = ["2024-03-31", "2024-04-01", "2024-05-01", "2024-06-01", "2024-07-01"]
    assert [query["datetime"][:10] for query in catalogue.queries if query["limit"] == "100"] == months
    assert catalogue.queries[0]["collections"] == "HLSL30_2.0,HLSS30_2.0"


def test_how_often_is_asked() -> None:
    """Once its count has been seen to be more than a page's length, a catalogue that counts is asked once a month."""
    counting, other = Catalogue(ITEMS), Catalogue(ITEMS, counts=False)
    assert find(counting) == find(other)
    assert [query["limit"] for query in counting.queries] == ["100", "100", "59", "59", "100", "100", "100"]
    assert len(other.queries) == 3 * 3 + 2 * 2  # each of three months and its halves, two days


def test_the_day_is_that_of_the_name() -> None:
    """S30 names carry the datatake's start: a scene just after midnight belongs to the day before."""
    late = cmr_item("HLS.S30.T33UVP.2024100T235901.v2.0", moment="2024-04-10T00:04:00.000Z")
    for day, count in ((date(2024, 4, 9), 1), (date(2024, 4, 10), 0)):
        assert len(find(Catalogue([late]), day, day).granules) == count


# Sorting out


def test_a_granule_has_its_six_bands_by_file_and_never_by_common_name() -> None:
    item = cmr_item(NAME.replace("L30", "S30"), updated="2024-05-09T01:00:00Z", cloud_cover="31")
    item["assets"]["B08"]["eo:bands"] = [{"common_name": "nir"}]
    (granule,) = chosen(item).granules
    files = {band: href.split(".")[-2] for band, href in granule.hrefs}
    assert files == {
        "blue": "B02",
        "green": "B03",
        "red": "B04",
        "nir": "B8A",
        "swir1": "B11",
        "swir2": "B12",
        "fmask": "Fmask",
    }
    assert all(href.startswith("https://data.lpdaac") for _, href in granule.hrefs)
    assert (granule.sensor, granule.tile, granule.cloud_cover) == ("S30", "33UVP", 31.0)
    assert granule.acquired == "2024-05-02T10:06:01+00:00"
    assert granule.revision == "2024-05-09T01:00:00+00:00"
    (landsat,) = chosen(cmr_item(NAME)).granules
    assert dict(landsat.hrefs)["swir1"].endswith(".B06.tif")


def test_assets_under_other_keys_are_known_by_their_files() -> None:
    item = cmr_item(NAME)
    item["assets"] = {f"asset{k}": asset for k, asset in enumerate(item["assets"].values())}
    assert len(dict(chosen(item).granules[0].hrefs)) == len(BANDS) + 1


def test_the_https_one_of_two() -> None:
    item = cmr_item(NAME)
    item["assets"]["B04"], item["assets"]["https_B04"] = item["assets"]["s3_B04"], item["assets"]["B04"]
    assert dict(chosen(item).granules[0].hrefs)["red"].startswith("https://")


@pytest.mark.parametrize("absent", ["Fmask", "B04", "B07"])
def test_without_a_file(absent: str) -> None:
    item = cmr_item(NAME)
    del item["assets"][absent], item["assets"][f"s3_{absent}"]
    found = chosen(item)
    assert not found.granules
    assert [(bad.id, bad.reason) for bad in found.unusable] == [(NAME, f"without {absent}")]


def _with(**changes: Any) -> dict[str, Any]:
    return {**cmr_item(NAME), **changes}


def _href(href: object) -> dict[str, Any]:
    item = cmr_item(NAME)
    del item["assets"]["s3_B04"]
    item["assets"]["B04"] = {"href": href}
    return item


BAD = {
    "an id with a path": (_with(id="../../etc/passwd"), "part of a path"),
    "a hidden id": (_with(id=".HLS"), "part of a path"),
    "no id": (_with(id=None), "part of a path"),
    "a number": (_with(id=7), "part of a path"),
    "another product": (_with(id="S2A_MSIL2A_20240502"), "not an HLS granule name"),
    "vegetation indices": (_with(id=NAME.replace("HLS.", "HLS-VI.")), "not an HLS granule name"),
    "no assets": (_with(assets=None), "without properties or assets"),
    "no properties": (_with(properties=[]), "without properties or assets"),
    "odd assets": (_with(assets={"B02": "x", "B03": 3}), "B02: no address"),
    "another host": (_href("https://evil.org/x.B04.tif"), "host 'evil.org'"),
    "plain http": (_href(f"http://{CMR.hosts[0]}/x.B04.tif"), "only https"),
    "local file": (_href("/etc/passwd.B04.tif"), "only https"),
    "vsi": (_href("/vsicurl/https://evil.org/x.B04.tif"), "/vsi"),
    "bucket only": (_href("s3://lp-prod-protected/x.B04.tif"), "only https"),
    "no text": (_href(None), "no address"),
}


@pytest.mark.parametrize(("item", "why"), BAD.values(), ids=BAD.keys())
def test_unusable_items_are_listed_with_their_reason(item: dict[str, Any], why: str) -> None:
    good = cmr_item(name_of(date(2024, 5, 4)))
    found = chosen(item, good)
    assert [granule.id for granule in found.granules] == [good["id"]]
    assert len(found.unusable) == 1
    assert why in found.unusable[0].reason
    assert found.unusable[0].id.isprintable()
    assert len(found.unusable[0].id) <= 140
    assert found == find(Catalogue([item, good]))  # and one bad item does not spoil the page


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_no_item_breaks_the_sorting(junk: Any) -> None:
    for key in ("id", "properties", "assets"):
        chosen(_with(**{key: junk}))
    for key in ("datetime", "updated", "created", "eo:cloud_cover"):
        assert len(chosen(_with(properties={key: junk}), max_cover=float("inf")).granules) == 1


def test_newest_production_wins() -> None:
    day = date(2024, 5, 2)
    old, new = (
        cmr_item(name_of(day, version=v), updated=u)
        for v, u in (("2.1", "2024-05-04T00:00:00Z"), ("2.0", "2024-05-20T02:00:00+02:00"))
    )
    for order in ((old, new), (new, old)):
        found = chosen(*order)
        assert [g.id for g in found.granules] == [new["id"]]
        assert found.superseded == (old["id"],)
    undated = cmr_item(name_of(day, version="2.1"))
    assert chosen(undated, new).granules[0].id == undated["id"]  # without times, the higher version
    ten = cmr_item(name_of(day, version="2.10"))
    assert chosen(cmr_item(name_of(day, version="2.9")), ten).granules[0].id == ten["id"]


def test_a_revised_item_replaces_itself_and_signs_differently() -> None:
    first, second = (cmr_item(NAME, updated=f"2024-05-0{k}T00:00:00Z") for k in (3, 5))
    found = chosen(second, first)
    assert found.superseded == ()
    assert [g.revision[:10] for g in found.granules] == ["2024-05-05"]
    assert found.granules[0].signature() != chosen(first).granules[0].signature()
    assert found == find(Catalogue([first, second]))


def test_created_counts_where_there_is_no_updated() -> None:
    assert chosen(cmr_item(NAME, created="2024-05-03T00:00:00Z")).granules[0].revision[:10] == "2024-05-03"


def test_a_newer_but_unusable_production_does_not_hide_the_older() -> None:
    old, new = (cmr_item(name_of(date(2024, 5, 2), version=v)) for v in ("2.0", "2.1"))
    del new["assets"]["Fmask"], new["assets"]["s3_Fmask"]
    found = chosen(old, new)
    assert [g.id for g in found.granules] == [old["id"]]
    assert [bad.id for bad in found.unusable] == [new["id"]]


def test_two_overpasses_of_a_day_both_stay() -> None:
    day = date(2024, 5, 2)
    found = chosen(*(cmr_item(name_of(day, clock=clock)) for clock in ("100601", "100625")))
    assert len(found.granules) == 2
    assert found.superseded == ()


def test_old_names_without_a_time_take_the_catalogue_s() -> None:
    (granule,) = chosen(cmr_item("HLS.L30.T33UVP.2024123.v1.5", moment="2024-05-02T10:06:01Z")).granules
    assert granule.acquired == "2024-05-02T10:06:01+00:00"


def test_cloudy_granules_are_left_out_and_listed() -> None:
    items = [
        cmr_item(name_of(FIRST + timedelta(days=k)), cloud_cover=cover)
        for k, cover in enumerate([0, 50, 51, 100, None, "x"])
    ]
    found = chosen(*items, max_cover=50)
    assert len(found.granules) == 4
    assert found.cloudy == (items[2]["id"], items[3]["id"])


def test_only_the_sensors_asked_for() -> None:
    landsat = replace(CMR, collections=(("L30", "HLSL30_2.0"),))
    found = chosen(cmr_item(NAME), cmr_item(NAME.replace("L30", "S30")), endpoint=landsat)
    assert [g.sensor for g in found.granules] == ["L30"]


def test_a_signature_does_not_depend_on_where_it_is_served() -> None:
    (here,) = chosen(cmr_item(NAME)).granules
    there = replace(
        here,
        hrefs=tuple((b, h.replace(BASE, "http://127.0.0.1:81/lp-prod-protected") + "?sig=1") for b, h in here.hrefs),
    )
    assert here.signature() == there.signature()
    assert here.signature() != replace(here, checks=(("red", "size:1"),)).signature()
    assert here.signature() != replace(here, hrefs=here.hrefs[::-1]).signature()
    assert here.signature() == replace(here, cloud_cover=1.0).signature()


def test_sizes_and_checksums_are_taken_along() -> None:
    item = cmr_item(NAME)
    item["assets"]["B04"] |= {"file:size": 12, "file:checksum": "1220AB"}
    item["assets"]["B03"] |= {"file:size": -3, "file:checksum": "../x"}
    assert chosen(item).granules[0].checks == (("red", "size:12;multihash:1220ab"),)


# A catalogue that misbehaves


@pytest.mark.fault
@pytest.mark.parametrize("counts", [True, False])
def test_a_lost_next_link_is_noticed_and_asked_again(*, counts: bool) -> None:
    items = [item for item in ITEMS if "2024-05" in item["properties"]["datetime"]] * 2
    for k, item in enumerate(items := [dict(item) for item in items]):
        item["id"] = f"{item['id'][:-5]}.v{k + 3}.0"
    items = [{**item, "assets": cmr_item(item["id"])["assets"]} for item in items] + ITEMS
    full = find(Catalogue(items, size=100, counts=counts))
    assert len(full.superseded) > 30
    assert find(Catalogue(items, size=100, counts=counts, lose_next=1)) == full


@pytest.mark.fault
def test_next_links_that_stay_lost_are_a_catalogue_down() -> None:
    with pytest.raises(CatalogueDown, match=r"20 of \d+ items came"):
        find(Catalogue(ITEMS, size=20, lose_next=100), date(2024, 5, 2), date(2024, 5, 30))


@pytest.mark.fault
def test_a_repeated_page_once_and_for_ever() -> None:
    assert find(Catalogue(ITEMS, size=20, repeat=1)).granules == find(Catalogue(ITEMS)).granules
    for counts in (True, False):
        with pytest.raises(CatalogueDown, match="repeats"):
            find(Catalogue(ITEMS, size=20, repeat=1000, counts=counts))


@pytest.mark.fault
@pytest.mark.parametrize("size", [100, 20])
def test_a_count_of_the_page_proves_nothing(size: int) -> None:
    """Some servers write the page's own length where the number of all items belongs."""
    days = date(2024, 5, 2), date(2024, 6, 20)
    wanted = find(Catalogue(ITEMS), *days).granules

    class CountsPages(Catalogue):
        def __call__(self, query: dict[str, str]) -> dict[str, Any]:
            page = super().__call__(query)
            return {**page, "numberMatched": len(page["features"])}

    assert find(CountsPages(ITEMS, size=size), *days).granules == wanted
    assert find(CountsPages(ITEMS, size=size, lose_next=1), *days).granules == wanted
    with pytest.raises(CatalogueDown, match="when asked again"):
        find(CountsPages(ITEMS, size=20, lose_next=1000), *days)


@pytest.mark.fault
def test_short_pages_without_a_count_lose_nothing() -> None:
    wanted = find(Catalogue(ITEMS)).granules
    assert find(Catalogue(ITEMS, size=20, counts=False, lose_next=1)).granules == wanted
    with pytest.raises(CatalogueDown, match="when asked again"):
        find(Catalogue(ITEMS, size=20, counts=False, lose_next=1000))
    early = [item for item in ITEMS if item["properties"]["datetime"] < "2024-04-14"]
    with pytest.raises(CatalogueDown, match="20 items came, and other ones"):
        find(Catalogue(early, size=20, counts=False, lose_next=1000))


def _moved(items: list[Any], last: list[Any]) -> list[Any]:
    return [*items[1:], *last]


CHANGES = {
    "removed": lambda items: _moved(items, []),
    "replaced": lambda items: _moved(items, [cmr_item(items[0]["id"].replace("T1006", "T1007"))]),
    "revised": lambda items: _moved(items, [cmr_item(items[0]["id"], updated="2024-07-01T00:00:00Z")]),
}


@pytest.mark.fault
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
@pytest.mark.parametrize("counts", [True, False])
def test_a_catalogue_that_changes_between_two_pages(change: Any, *, counts: bool) -> None:
    """An item leaves the first page, and the first one of the second page moves to where nobody looks any more."""
    may = [item for item in ITEMS if item["properties"]["datetime"].startswith("2024-05")]

    class Changing(Catalogue):
        def __call__(self, query: dict[str, str]) -> dict[str, Any]:
            page = super().__call__(query)
            if page["links"] and self.items is may:
                self.items = change(may)
            return page

    found = find(Changing(may, size=20, counts=counts), date(2024, 5, 1), date(2024, 5, 31))
    assert OURS & {item["id"] for item in may[1:]} <= {granule.id for granule in found.granules}


def test_the_last_second_of_a_month_belongs_to_it() -> None:
    """Catalogues compare to the millisecond."""
    late = cmr_item("HLS.S30.T33UVP.2024121T235941.v2.0", moment="2024-04-30T23:59:59.336Z")

    class Exact(Catalogue):
        def _fits(self, item: Any, query: dict[str, str]) -> bool:
            start, _, end = query["datetime"].partition("/")
            first, moment, last = map(datetime.fromisoformat, (start, item["properties"]["datetime"], end))
            return first <= moment <= last

    assert [granule.id for granule in find(Exact([late])).granules] == [late["id"]]


@pytest.mark.fault
def test_a_catalogue_that_claims_more_than_it_gives() -> None:
    with pytest.raises(CatalogueDown, match=r"2024-03-31 to 2024-03-31.*0 of 3 items"):
        find(Catalogue(ITEMS, claims=3))


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(pages=Catalogue(ITEMS, size=20)) as running:
        yield running


ANSWERS = {
    "500": (faulty.status(500), "HTTP 500"),
    "502": (faulty.status(502), "HTTP 502"),
    "504": (faulty.status(504, b"<html>gateway</html>"), "HTTP 504"),
    "429": (faulty.status(429, Retry_After="0"), "HTTP 429"),
    "hang": (faulty.hang(3), "ReadTimeout"),
    "reset": (faulty.reset, "Protocol|reset|aborted|no answer"),
    "page": (faulty.html(b"<html>down for maintenance</html>"), "no STAC"),
    "broken": (faulty.replaced(b'{"type": "FeatureCollection", "features": [{'), "no STAC"),
    "cut": (faulty.truncated(50), "."),
    "error as an answer": (faulty.replaced(b'{"errors": ["Oops"]}'), "features|no STAC"),
    "null": (faulty.replaced(b"null"), "features|no STAC"),
    "no list": (faulty.replaced(b'{"type": "FeatureCollection", "features": {"a": 1}}'), "features|no STAC"),
    "list of texts": (faulty.replaced(b'{"type": "FeatureCollection", "features": ["a"]}'), "features|no STAC"),
    "not text": (faulty.replaced(b"\xff\xfe\x00\x01"), "."),
}


@pytest.mark.fault
@pytest.mark.parametrize(("fault", "why"), ANSWERS.values(), ids=ANSWERS.keys())
@pytest.mark.parametrize("path", ["/", "/search"])
def test_bad_answers_pass_once_and_are_a_catalogue_down_if_they_stay(
    server: Server, fault: faulty.Fault, why: str, path: str
) -> None:
    endpoint, day = endpoint_of(server), date(2024, 5, 2)
    server.fail(path, fault)
    try:
        once = search(endpoint, GRID, day, day, patience=FAST)
    except CatalogueDown:
        once = None  # a body cut short has no second try below ours; it must not pass for an answer
    assert once is None or {g.id for g in once.granules} == {name for name in OURS if "2024123" in name}
    server.always(path, fault)
    with pytest.raises(CatalogueDown, match=why) as caught:
        search(endpoint, GRID, day, day, patience=FAST)
    assert "no complete answer" in str(caught.value)
    assert "2024-05-01" in str(caught.value)


@pytest.mark.fault
def test_a_fault_in_the_middle_of_the_pages_passes(server: Server) -> None:
    for fault in (faulty.status(503), faulty.html(), faulty.reset):
        good = lambda handler, body, headers: handler.send_good(body, headers)  # noqa: E731
        server.fail("/search", good, good, fault)
        assert {g.id for g in search(endpoint_of(server), GRID, FIRST, LAST, patience=FAST).granules} == OURS


@pytest.mark.fault
def test_next_pages_and_searches_stay_on_their_host(server: Server) -> None:
    page = {"type": "FeatureCollection", "features": ITEMS[:1], "links": [{"rel": "next", "href": "https://evil.org/"}]}
    server.always("/search", faulty.replaced(json.dumps(page).encode()))
    with pytest.raises(CatalogueDown, match="next page is on another host"):
        search(endpoint_of(server), GRID, FIRST, LAST, patience=FAST)
    server.always("/", faulty.replaced(json.dumps(faulty.root("https://evil.org")).encode()))
    with pytest.raises(CatalogueDown, match="no complete answer"):
        search(endpoint_of(server), GRID, FIRST, LAST, patience=FAST)


@pytest.mark.fault
def test_nobody_listens() -> None:
    endpoint = Endpoint("stac", "http://127.0.0.1:9", CMR.collections, ())
    with pytest.raises(CatalogueDown, match=r"NewConnectionError|refused"):
        search(endpoint, GRID, FIRST, LAST, patience=FAST)


def test_a_static_catalogue_is_told_apart(server: Server) -> None:
    plain = {k: v for k, v in faulty.root(server.url).items() if k != "links"} | {
        "conformsTo": ["https://api.stacspec.org/v1.0.0/core"],
        "links": [],
    }
    server.always("/", faulty.replaced(json.dumps(plain).encode()))
    with warnings.catch_warnings(), pytest.raises(CatalogueDown, match="not a STAC API"):
        warnings.simplefilter("ignore")
        search(endpoint_of(server), GRID, FIRST, LAST, patience=FAST)


@pytest.mark.fault
def test_the_budget_ends_trying() -> None:
    slow = replace(FAST, attempts=50, first_delay_s=0.05, cap_s=0.05, budget_s=0.4)
    catalogue = Catalogue(ITEMS, claims=1)
    with pytest.raises(CatalogueDown):
        find(catalogue, patience=slow)
    assert 4 < len(catalogue.queries) < 25


# Places and periods


def test_boxes_cover_the_tile_and_little_more() -> None:
    ((west, south, east, north),) = geographic_boxes(replace(GRID, height=3660, width=3660))
    assert 13.3 < west < 13.6
    assert 15.0 < east < 15.3
    assert 51.2 < south < 51.4
    assert 52.2 < north < 52.4


def test_a_tile_across_180_degrees_is_two_boxes() -> None:
    west_side, east_side = geographic_boxes(TileGrid("01KAB", 32601, 199980.0, -1799980.0, 3660, 3660)), ()
    assert len(west_side) in (1, 2)
    crossing = geographic_boxes(TileGrid("60KYF", 32660, 799980.0, -1799980.0, 3660, 3660))
    assert len(crossing) == 2
    (w0, s0, e0, n0), (w1, s1, e1, n1) = crossing
    assert (e0, w1) == (180.0, -180.0)
    assert (s0, n0) == (s1, n1)
    assert w0 > 179
    assert e1 < -178
    assert not east_side


def test_both_boxes_are_asked() -> None:
    grid = TileGrid("60KYF", 32660, 799980.0, -1799980.0, 3660, 3660)
    item = cmr_item("HLS.L30.T60KYF.2024123T220601.v2.0")
    catalogue = Catalogue([item])
    with serving(pages=catalogue) as server:
        found = search(endpoint_of(server), grid, FIRST, LAST, patience=FAST)
    assert len(found.granules) == found.listed == 1
    assert len({query["bbox"] for query in catalogue.queries}) == 2


@given(st.dates(date(1999, 1, 1), date(2040, 1, 1)), st.integers(0, 900))
def test_months_cover_each_day_once(start: date, days: int) -> None:
    end = start + timedelta(days=days)
    parts = list(_months(start, end))
    covered = [first + timedelta(days=k) for first, last in parts for k in range((last - first).days + 1)]
    assert covered == [start + timedelta(days=k) for k in range(days + 1)]
    assert all((first.year, first.month) == (last.year, last.month) for first, last in parts)


def test_no_days_no_questions() -> None:
    assert list(_months(date(2024, 5, 2), date(2024, 5, 1))) == []


# Endpoints


def test_the_known_endpoints() -> None:
    assert CMR.url == "https://cmr.earthdata.nasa.gov/stac/LPCLOUD"
    assert CMR.collections == (("L30", "HLSL30_2.0"), ("S30", "HLSS30_2.0"))
    assert CMR.login == "urs.earthdata.nasa.gov"
    microsoft = endpoint_for(Config(kind="planetary-computer"))
    assert microsoft.collections == (("L30", "hls2-l30"), ("S30", "hls2-s30"))
    own = endpoint_for(
        Config(
            kind="stac", url="https://stac.example.org/api", hosts=("data.example.org",), collections={"S30": "mine"}
        )
    )
    assert own == Endpoint(
        "stac", "https://stac.example.org/api", (("S30", "mine"),), ("stac.example.org", "data.example.org")
    )
    assert endpoint_for(Config(kind="stac", url="http://127.0.0.1:81")).hosts == ("127.0.0.1:81",)
    assert hash(own)


@pytest.mark.parametrize(
    "url",
    [None, "", "http://stac.example.org", "stac.example.org", "file:///etc", "https://me:SECRET@stac.example.org"],
)
def test_urls_that_are_none(url: str | None) -> None:
    with pytest.raises(InputError, match=r"catalogue\.url") as caught:
        endpoint_for(Config.model_construct(kind="stac", url=url, hosts=(), collections=None))
    assert "SECRET" not in str(caught.value)


def test_signing_for_planetary_computer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Just before reading, one token for all files of a container, and no address with a token in a message."""
    href = "https://hls2euwest.blob.core.windows.net/hls2/L30/x.B04.tif"
    microsoft = endpoint_for(Config(kind="planetary-computer"))
    expiry = datetime.now(UTC) + timedelta(hours=1)
    answer = json.dumps({"msft:expiry": expiry.isoformat(), "token": "st=1&se=2&sig=SECRET"}).encode()
    with serving({"/token/hls2euwest/hls2": answer}) as server:
        monkeypatch.setattr(sas.Settings.get(), "sas_url", f"{server.url}/token")
        monkeypatch.setattr(sas, "TOKEN_CACHE", {})
        client = Client(microsoft)
        assert client._signed(href, FAST) == f"{href}?st=1&se=2&sig=SECRET"
        client._signed(href.replace("B04", "B03"), FAST)
        assert len(server.state.log) == 1
        assert client._refresh(client._login)  # after a refusal the token is asked for anew
        client._signed(href, FAST)
        assert len(server.state.log) == 2
        for fault in (faulty.status(503), faulty.html(), faulty.replaced(b"{}"), faulty.hang(0.8)):
            sas.TOKEN_CACHE.clear()
            server.fail("/token/hls2euwest/hls2", fault)
            with pytest.raises(AttemptError):
                client.get(href, FAST)
        assert client._signed("https://evil.org/x", FAST) == "https://evil.org/x"


# Recorded answers of NASA's granule search: 22 and 12 granules, and the empty last page.


def recorded(path: Path) -> list[dict[str, Any]]:
    """The pages of a cassette, each with what CMR-Hits said."""
    tape = yaml.safe_load(path.read_text())
    pages = []
    for exchange in tape["interactions"]:
        body = gzip.decompress(exchange["response"]["body"]["string"])
        hits = int(exchange["response"]["headers"]["CMR-Hits"][0])
        pages.append({"hits": hits, "entries": json.loads(body)["feed"]["entry"]})
    return pages


def stac_of(entry: dict[str, Any]) -> dict[str, Any]:
    """A recorded granule as CMR-STAC serves it: keys and addresses from its own links."""
    item = cmr_item(entry["title"], moment=entry["time_start"], cloud_cover=float(entry["cloud_cover"]))
    data = [link["href"] for link in entry["links"] if link["rel"].endswith(("/data#", "/s3#"))]
    keys = {
        href: ("s3_" if href.startswith("s3:") else "") + href.split(".")[-2] for href in data if href.endswith(".tif")
    }
    return {**item, "assets": {key: {"href": href} for href, key in keys.items()}}


@pytest.mark.real
@pytest.mark.parametrize(("sensor", "count"), [("s30", 22), ("l30", 12)])
def test_recorded_granules(shared_data: Path, sensor: str, count: int) -> None:
    pages = recorded(shared_data / "api" / "cmr" / f"granules-hls{sensor}.yaml")
    assert [page["hits"] for page in pages] == [count, count]
    assert [len(page["entries"]) for page in pages] == [count, 0]
    items = [stac_of(entry) for entry in pages[0]["entries"]]
    by_tile: dict[str, set[str]] = {}
    for item in items:
        by_tile.setdefault(item["id"].split(".")[2][1:], set()).add(item["id"])
    assert len(by_tile) > 1
    total = 0
    for size in (100, 5):
        for tile, names in by_tile.items():
            grid = TileGrid(tile, 32615, 499980.0, 5200020.0, 3660, 3660)
            catalogue = Catalogue(items, size=size, empty_last=True)
            with serving(pages=catalogue) as server:
                found = search(endpoint_of(server), grid, date(2025, 10, 1), date(2025, 10, 10), patience=FAST)
            assert found.listed == count
            assert {g.id for g in found.granules} | set(found.superseded) == names
            assert not found.unusable
            assert found.superseded == ()
            total += len(found.granules)
    assert total == 2 * count


@pytest.mark.real
def test_recorded_lost_pages_are_noticed(shared_data: Path) -> None:
    """CMR said 22 hits; a server that stops after 10 of them is down, not done."""
    (page, _) = recorded(shared_data / "api" / "cmr" / "granules-hlss30.yaml")
    items = [stac_of(entry) for entry in page["entries"]]
    grid = TileGrid("15TWN", 32615, 499980.0, 5200020.0, 3660, 3660)
    with (
        serving(pages=Catalogue(items, size=10, lose_next=99)) as server,
        pytest.raises(CatalogueDown, match=r"10 of \d+ items"),
    ):
        search(endpoint_of(server), grid, date(2025, 10, 1), date(2025, 10, 10), patience=FAST)


@pytest.mark.real
def test_a_recorded_item_of_another_product_is_unusable(shared_data: Path) -> None:
    item = json.loads((shared_data / "api" / "stac" / "HLS-VI_stac_item.json").read_text())
    found = select([item], CMR, "06WVS", date(2024, 1, 1), date(2024, 12, 31))
    assert [bad.reason for bad in found.unusable] == ["not an HLS granule name"]


@pytest.mark.real
@pytest.mark.parametrize("sensor", ["L30", "S30"])
def test_recorded_collections_have_the_files_we_ask_for(shared_data: Path, sensor: str) -> None:
    """Microsoft's asset keys are those of the files, and its files lie where we read them."""
    from vsat.hls import FILES

    microsoft = endpoint_for(Config(kind="planetary-computer"))
    told = json.loads((shared_data / "api" / "stac" / f"hls2-{sensor.lower()}.collection.json").read_text())
    assert told["id"] == dict(microsoft.collections)[sensor]
    assert {*FILES[sensor].values(), "Fmask"} <= set(told["item_assets"])
    assert f"{told['msft:storage_account']}.blob.core.windows.net" in microsoft.hosts
