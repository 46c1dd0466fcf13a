"""Item JSON and pages of a search that hypothesis writes: a good item with anything at any place in it."""

import json
import warnings
from datetime import date, timedelta, timezone
from pathlib import PurePosixPath
from typing import Any

import faulty
from fault.hostile_addresses import TARGETS
from fault.hostile_world import DAY, ONCE, World
from granules import GRID, NAME, cmr_item
from hypothesis import strategies as st
from urllib3.util import parse_url

from vsat.errors import VsatError
from vsat.io.catalog import Found, search, select

_ODD_NUMBERS = st.sampled_from([0, -1, 1 << 31, 1 << 63, -(1 << 63), 1e308, -1e308, 5e-324, 10**400, True])
_NUMBERS = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), _ODD_NUMBERS)
_LEAVES = st.one_of(st.none(), st.booleans(), _NUMBERS, st.text(max_size=20))
ANY_JSON = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)

_SCHEMES = st.sampled_from(
    ["http://", "https://", "HTTP://", "file://", "ftp://", "//", "", "/vsicurl/http://", "http:", "http:\\\\"]
)
_HOSTS = st.sampled_from(
    [
        "{site}",
        "{site}",
        "127.0.0.1:{port}",
        "127.0.0.1",
        "localhost",
        "[::1]",
        "10.0.0.1",
        "evil.example",
        "{site}.evil.example",
        "{site}@evil.example",
        "evil.example@{site}",
        "evil.example#@{site}",
        "evil.example?@{site}",
        "{site}:80",
        "{site}\\@evil.example",
        "[{site}]",
        "127.1",
        "0x7f.1",
        "①②⑦.0.0.1",
        "{site}%00.evil.example",
        "evil.example%2f@{site}",
        "{site}\t",
        "[::1",
        "",
        "{site}:",
    ]
)
_PATHS = st.sampled_from(
    ["/x.B04.tif", "/../x.tif", "/%2e%2e/x", "/vsimem/x", "", "/a//b.B04.tif", "?x.B04.tif", "#x", "/\u202e", "/\ud800"]
)
HREFS = st.one_of(
    st.tuples(_SCHEMES, _HOSTS, _PATHS, st.text(max_size=3)).map("".join),
    st.sampled_from(list(TARGETS.values())),
    ANY_JSON,
)
_IDS = st.one_of(
    st.just(NAME),
    st.from_regex(r"HLS\.[LS]30\.T\d{2}[A-Z]{3}\.\d{7}T\d{6}\.v\d+\.\d+", fullmatch=True),
    st.from_regex(r"HLS\.L30\.T33UVP\.2024123(T\d{6})?\.v\d{1,40}\.\d{1,40}", fullmatch=True),
    st.tuples(st.just(NAME), st.text(max_size=3)).map("".join),
    ANY_JSON,
)
_TIMES = st.one_of(
    st.datetimes(timezones=st.none() | st.integers(-1439, 1439).map(lambda m: timezone(timedelta(minutes=m)))).map(str),
    st.from_regex(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}([+-]\d{2}:\d{2}|Z)?", fullmatch=True),
    ANY_JSON,
)
_ITEM = cmr_item(NAME)
# places in an item, and what is put there
_PLACES: dict[tuple[str, ...], st.SearchStrategy[Any]] = {
    ("id",): _IDS,
    **{("assets", key, "href"): HREFS for key in ("B02", "B03", "B04", "B05", "B06", "B07", "Fmask", "s3_B04")},
    **{("assets", key, "file:size"): ANY_JSON for key in ("B04", "Fmask")},
    **{
        ("assets", key, "file:checksum"): st.one_of(ANY_JSON, st.from_regex(r"[0-9a-fA-F]{2,90}", fullmatch=True))
        for key in ("B04", "Fmask")
    },
    **{("properties", key): _TIMES for key in ("datetime", "updated", "created")},
    ("properties", "eo:cloud_cover"): ANY_JSON,
    **{
        (key,): ANY_JSON
        for key in ("properties", "assets", "geometry", "bbox", "links", "collection", "type", "stac_version")
    },
    **{("assets", key): ANY_JSON for key in ("B04", "Fmask", "extra")},
}
CHANGES = st.lists(
    st.sampled_from(list(_PLACES)).flatmap(lambda place: st.tuples(st.just(place), _PLACES[place])), max_size=4
)
PAGES = st.tuples(
    st.lists(CHANGES, max_size=3),
    st.dictionaries(st.sampled_from(["features", "links", "context", "numberMatched", "type"]), ANY_JSON, max_size=2),
    st.lists(
        st.fixed_dictionaries(
            {"rel": st.sampled_from(["next", "self", "prev"]) | ANY_JSON},
            optional={
                "href": HREFS,
                "method": ANY_JSON | st.just("POST"),
                "body": ANY_JSON,
                "headers": ANY_JSON,
                "merge": ANY_JSON,
            },
        ),
        max_size=2,
    ),
    st.lists(st.tuples(st.integers(0, 1 << 20), st.binary(max_size=3)), max_size=2),
)
ROOTS = st.tuples(
    st.dictionaries(
        st.sampled_from(
            ["type", "id", "description", "stac_version", "conformsTo", "links", "stac_extensions", "title"]
        ),
        ANY_JSON,
        max_size=3,
    ),
    st.lists(
        st.fixed_dictionaries(
            {"rel": st.sampled_from(["search", "root", "self", "child", "conformance", "data"]) | ANY_JSON},
            optional={"href": HREFS, "method": ANY_JSON, "type": ANY_JSON},
        ),
        max_size=3,
    ),
)


class OutsideError(AssertionError):
    """An address passed that leads elsewhere, or an id that leaves its folder."""


def changed(world: World, changes: list[tuple[tuple[str, ...], Any]]) -> dict[str, Any]:
    """The good item with these values at these places."""
    item: dict[str, Any] = json.loads(json.dumps(world.item()))
    for place, value in changes:
        part: Any = item
        for key in place[:-1]:
            part = part.get(key) if isinstance(part, dict) else None
        if isinstance(part, dict):
            part[place[-1]] = world.fill_in(value) if isinstance(value, str) else value
    return item


def fuzz_item(world: World, changes: list[tuple[tuple[str, ...], Any]]) -> str:
    """What an item means; every address that passed is looked at with another parser than vsat's."""
    item = json.loads(json.dumps(changed(world, changes)))
    found = select([item, item], world.endpoint, GRID.tile, date(2000, 1, 1), date(2050, 1, 1))
    check(world, found)
    return "; ".join(bad.reason for bad in found.unusable) or "taken"


def check(world: World, found: Found) -> None:
    """Nothing if all that was taken stays with the site and in its folder."""
    for granule in found.granules:
        granule.signature()
        for _, href in granule.hrefs:
            parsed = parse_url(href)
            if parsed.auth or (parsed.host, parsed.port) != ("127.0.0.1", world.site.port):
                raise OutsideError(href)
        if PurePosixPath(granule.id).name != granule.id or granule.id in (".", ".."):
            raise OutsideError(granule.id)


def fuzz_page(world: World, drawn: tuple[Any, ...]) -> str:
    """What a search makes of a page, over loopback."""
    items, keys, links, cuts = drawn
    told = [
        {**link, "href": world.fill_in(link["href"])} if isinstance(link.get("href"), str) else link for link in links
    ]
    page = {"type": "FeatureCollection", "features": [changed(world, item) for item in items], "links": told, **keys}
    body = bytearray(json.dumps(page).encode())
    for at, data in cuts:
        body[at % len(body) : at % len(body) + len(data)] = data
    world.answer("/search", bytes(body), Content_Type="application/json")
    return _searched(world)


def fuzz_root(world: World, drawn: tuple[Any, ...]) -> str:
    """What a search makes of a catalogue's first page, over loopback."""
    keys, links = drawn
    root = faulty.root(world.site.url)
    told = [
        {**link, "href": world.fill_in(link["href"])} if isinstance(link.get("href"), str) else link for link in links
    ]
    page = {**root, "links": root["links"] + told, **keys}
    world.answer("/", json.dumps(page).encode(), Content_Type="application/json")
    return _searched(world)


def _searched(world: World) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = search(world.endpoint, GRID, DAY, DAY, patience=ONCE)
    except VsatError as error:
        return str(error)
    check(world, found)
    return "taken"
