"""Answers of a catalogue that are no answers: items that lie, JSON that swells, pages that lead astray."""

import gzip
import json
from collections.abc import Callable
from typing import Any

from fault.hostile_world import GZIP, Case, Setup, World, bad_json, page, swollen
from faulty import Handler
from granules import NAME, cmr_item

BIG = 10_000_000
_DEEP = 100_000
_DOWN = "no complete answer"
Item = dict[str, Any]


def _nested(depth: int, inner: object = 0) -> list[Any]:
    found: list[Any] = [inner]
    for _ in range(depth):
        found = [found]
    return found


def _with(**changes: Any) -> Setup:
    """One item with these keys."""
    return lambda world: world.serve(world.item(**changes))


def _properties(**changes: Any) -> Setup:
    return lambda world: world.serve(world.item(properties={**world.item()["properties"], **changes}))


def _asset(**changes: Any) -> Setup:
    """The red asset with these keys."""

    def setup(world: World) -> None:
        item = world.item()
        item["assets"]["B04"] |= {key.replace("_", ":", 1): value for key, value in changes.items()}
        world.serve(item)

    return setup


def _assets(value: Callable[[Item], object]) -> Setup:
    return lambda world: world.serve(world.item(assets=value(world.item()["assets"])))


_IDS: dict[str, Any] = {
    "up": "../../etc/passwd",
    "absolute": "/etc/passwd",
    "hidden": ".ssh",
    "a NUL": f"{NAME}\0",
    "a newline": f"{NAME}\n",
    "empty": "",
    "number": 5,
    "none": None,
    "truth": True,
    "list": [NAME],
    "object": {"id": NAME},
    "deep": _nested(900),
    "10 kB": "a" * 10_000,
    "a space": f"{NAME} ",
    "markup": "<script>alert(1)</script>",
    "a shell": "$(touch x).v2.0",
    "right to left": "\u202e" + NAME,
    "a surrogate": "\ud800",
    "day 366 of 2023": "HLS.L30.T33UVP.2023366T100601.v2.0",
    "day 0": "HLS.L30.T33UVP.2024000T100601.v2.0",
    "year 0": "HLS.L30.T33UVP.0000123T100601.v2.0",
    "hour 99": "HLS.L30.T33UVP.2024123T990601.v2.0",
    "other digits": NAME.replace("2024", "２０２４"),
    "a long version": f"{NAME[:-3]}{'9' * 60}.{'9' * 30}",
    "tile I": NAME.replace("33UVP", "33IVP"),
    "a drive": "C:\\x",
    "a device": "CON",
    "percent": "%2e%2e%2f",
    "only dots": "...",
}
_ID_TOLD = "can't be part of a path|not an HLS granule name|no complete answer|read|nothing"

ITEMS = [
    *(Case("item id", name, _with(id=value), _ID_TOLD) for name, value in _IDS.items()),
    *(
        Case("item geometry", name, _with(geometry=value, bbox=box), "read|" + _DOWN)
        for name, value, box in [
            ("NaN", {"type": "Point", "coordinates": [float("nan"), float("nan")]}, [float("nan")] * 4),
            ("infinite", {"type": "Point", "coordinates": [float("inf"), 0]}, [float("-inf")] * 4),
            ("huge", {"type": "Polygon", "coordinates": [[[1e300, -1e300]] * 5]}, [1e308] * 4),
            ("deep", {"type": "Polygon", "coordinates": _nested(800)}, []),
            ("20,000 points", {"type": "Polygon", "coordinates": [[[0, 0]] * 20_000]}, None),
            ("no geometry", "POLYGON((0 0))", "box"),
        ]
    ),
    *(
        Case("item properties", name, _properties(**{key: value}), told)
        for name, key, value, told in [
            ("the first hours of year 1", "updated", "0001-01-01T00:00:00+14:00", "read"),
            ("the last hours of 9999", "created", "9999-12-31T23:59:59-14:00", "read"),
            ("a time of 1 MB", "updated", "2" * 1_000_000, "read"),
            ("a list for a time", "updated", [1], "read"),
            ("cloud NaN", "eo:cloud_cover", float("nan"), "read|no complete answer"),
            ("cloud infinite", "eo:cloud_cover", float("inf"), "read|no complete answer"),
            ("cloud of 400 digits", "eo:cloud_cover", 10**400, "read|no complete answer"),
            ("cloud as text of 400 digits", "eo:cloud_cover", "9" * 400, "read|nothing"),
            ("cloud a list", "eo:cloud_cover", [1], "read"),
            ("cloud negative", "eo:cloud_cover", -1e308, "read"),
            ("cloud over all", "eo:cloud_cover", 1e308, "nothing"),
            ("no moment", "datetime", None, "read"),
            ("a surrogate", "title", "\ud800", "read|no complete answer"),
            ("5 MB of text", "description", "x" * 5_000_000, "read"),
        ]
    ),
    Case("item properties", "a list", _with(properties=[]), "without properties or assets"),
    Case("item properties", "none", _with(properties=None), "without properties or assets"),
    Case("item properties", "deep", _with(properties=_nested(900)), "without properties|no complete answer"),
    *(
        Case("item assets", name, _assets(value), told)
        for name, value, told in [
            ("none", lambda _: None, "without properties or assets"),
            ("a list", lambda a: list(a.values()), "without properties or assets"),
            ("empty", lambda _: {}, "without B0"),
            ("texts", lambda a: dict.fromkeys(a, "x"), "no address"),
            ("numbers", lambda a: dict.fromkeys(a, 1), "no address"),
            ("5,000 more", lambda a: a | {f"x{k}": {"href": f"file:///x.{k}.B04.tif"} for k in range(5_000)}, "read"),
            ("deep", lambda a: a | {"B04": _nested(900)}, "no address|no complete answer"),
            ("names of methods", lambda a: a | {"__class__": {"href": "x"}, "__init__": None}, "read"),
            ("Fmask for red", lambda a: a | {"B04": a["Fmask"]}, "wanted int16"),
            ("red for Fmask", lambda a: a | {"Fmask": a["B04"]}, "wanted uint8"),
        ]
    ),
    *(
        Case("item checks", name, _asset(**{key: value}), told)
        for name, key, value, told in [
            ("size true", "file_size", True, "read"),
            ("size negative", "file_size", -1, "read"),
            ("size of 400 digits", "file_size", 10**400, "read|no complete answer"),
            ("size a text", "file_size", "12", "read"),
            ("size too large", "file_size", 1 << 62, "the catalogue says"),
            ("size 0", "file_size", 0, "the catalogue says"),
            ("size NaN", "file_size", float("nan"), "read|no complete answer"),
            ("checksum a path", "file_checksum", "../../etc/passwd", "read"),
            ("checksum of zeros", "file_checksum", "1220" + "0" * 64, "sha256 is not"),
            ("checksum too short", "file_checksum", "1220", "sha256 is not"),
            ("checksum unknown", "file_checksum", "ffff" * 8, "read"),
            ("checksum a list", "file_checksum", ["1220"], "read"),
        ]
    ),
]


def _next(**link: Any) -> Setup:
    """The first page leads on by this link."""

    def setup(world: World) -> None:
        told = {key: world.fill_in(value) if isinstance(value, str) else value for key, value in link.items()}
        world.answer("/search", page(features=[world.item()], links=[{"rel": "next", **told}]).encode())

    return setup


def _many(count: int, start: int = 0) -> list[Item]:
    return [{"id": f"x{start + k}", "properties": {}, "assets": {}} for k in range(count)]


def _flood(world: World) -> None:
    """Each page has a thousand new items, for ever."""

    def more(query: dict[str, str]) -> Item:
        number = int(query.get("page", 0))
        link = {"rel": "next", "href": f"{query['host']}/search?page={number + 1}"}
        return {"type": "FeatureCollection", "features": _many(1000, 1000 * number), "links": [link]}

    world.site.state.pages = more


def _swollen_pages(world: World) -> None:
    """Each page is nearly as large as it may be, and there are ever more."""
    assets = json.dumps({f"a{k}": {} for k in range(400_000)})

    def more(handler: Handler, _body: bytes, _headers: dict[str, str]) -> None:
        number = sum(request.path == "/search" for request in world.site.state.log)
        link = json.dumps({"rel": "next", "href": f"{world.site.url}/search?page={number}"})
        item = f'{{"id": "y{number}", "properties": {{}}, "assets": {assets}}}'
        handler.answer(200, f'{{"features": [{item}], "links": [{link}]}}'.encode())

    world.site.always("/search", more)


PAGES = [
    *(
        Case("search JSON", name, bad_json("/search", body), told)
        for name, body, told in [
            ("10 MB of blanks", lambda: b" " * BIG + page().encode(), "more than 8 MB"),
            ("10 MB of text", lambda: page(title="x" * BIG), "more than 8 MB"),
            ("7 MB of text", lambda: page(title="x" * 7_000_000), "nothing"),
            ("4 MB of empty lists", lambda: page(context=[[]] * 1_000_000), "nothing"),
            ("4 MB of empty objects", lambda: page(context=[{}] * 1_000_000), "nothing"),
            ("4 MB of links", lambda: page(links=[{}] * 1_000_000), "nothing"),
            ("3 MB of keys", lambda: page(**{f"k{k}": 0 for k in range(200_000)}), "nothing"),
            ("deep lists", "[" * _DEEP, _DOWN),
            ("deep lists, closed", lambda: "[" * _DEEP + "]" * _DEEP, _DOWN),
            ("deep objects", '{"a":' * _DEEP + "0" + "}" * _DEEP, _DOWN),
            ("deep features", page()[:-1].replace("[]", "[" * 900 + "]" * 900, 1) + "}", _DOWN),
            ("an unclosed text", '{"type": "' + "a" * 1_000_000, _DOWN),
            ("NUL bytes", b"\0" * 1000, _DOWN),
            ("UTF-16", page().encode("utf-16"), _DOWN),
            ("a mark before it", b"\xef\xbb\xbf" + page().encode(), "nothing|" + _DOWN),
            ("half a character", page(title="ä").encode()[:-3].replace(b"\\u00e4", b"\xc3"), _DOWN),
            ("a number of 5000 digits", page().replace("[]", "[]" + ', "n": ' + "9" * 5000, 1), "nothing|" + _DOWN),
            ("a huge power", page().replace("[]", "[]" + ', "n": 1e999999', 1), "nothing|" + _DOWN),
            ("NaN", page(context=float("nan")), "nothing|" + _DOWN),
            ("a key twice", '{"features": [], "features": 5, "links": []}', _DOWN),
            ("XML with an entity", '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><x>&a;</x>', _DOWN),
            ("pickle", b"\x80\x04\x95", _DOWN),
            ("a number", "5", _DOWN),
            ("a text", '"features"', _DOWN),
            ("a list", "[]", _DOWN),
            ("a thousand and one items", page(features=_many(1001)), "a page of 1001"),
            ("20,000 items", lambda: page(features=_many(20_000)), "a page of 20000"),
            ("items that are lists", page(features=[[]]), _DOWN),
            ("items that are nothing", page(features=[None]), _DOWN),
            ("an empty item", page(features=[{}]), "an id that is a NoneType"),
        ]
    ),
    *(
        Case("search counts", name, bad_json("/search", page(numberMatched=value)), told)
        for name, value, told in [
            ("huge", 10**18, _DOWN),
            ("400 digits", 10**400, _DOWN),
            ("negative", -1, "nothing"),
            ("true", True, _DOWN + "|nothing"),
            ("a text", "x", "nothing"),
            ("a list", [], "nothing"),
            ("NaN", float("nan"), "nothing|" + _DOWN),
        ]
    ),
    *(
        Case("next page", name, _next(**link), told)
        for name, link, told in [
            ("a file of this host", {"href": "file://{site}{secret}"}, "another host"),
            ("a file", {"href": "file://{secret}"}, "another host"),
            ("a path", {"href": "{secret}"}, "another host"),
            ("the neighbour", {"href": "http://127.0.0.1:{port}/secret"}, "another host"),
            ("a user name", {"href": "http://me@{site}/search"}, "another host"),
            ("https of it", {"href": "https://{site}/search"}, "another host"),
            ("ftp of it", {"href": "ftp://{site}/search"}, "another host"),
            ("no address", {}, _DOWN),
            ("none", {"href": None}, _DOWN),
            ("a number", {"href": 5}, _DOWN),
            ("a list", {"href": ["a"]}, _DOWN),
            ("half an IPv6", {"href": "http://[::1"}, _DOWN),
            ("DELETE", {"href": "http://{site}/search", "method": "DELETE"}, "more than questions"),
            ("PUT", {"href": "http://{site}/search", "method": "PUT"}, "more than questions"),
            (
                "a method with a newline",
                {"href": "http://{site}/search", "method": "GET\r\nX: 1"},
                "more than questions",
            ),
            ("a method that is a list", {"href": "http://{site}/search", "method": ["GET"]}, _DOWN),
            ("a header with a newline", {"href": "http://{site}/x", "headers": {"a": "b\r\nHost: evil"}}, _DOWN),
            ("headers that are a text", {"href": "http://{site}/x", "headers": "a"}, _DOWN),
            ("headers that are numbers", {"href": "http://{site}/x", "headers": {"a": 1}}, _DOWN),
            ("a body that is a text", {"href": "http://{site}/x", "method": "POST", "body": "x", "merge": True}, _DOWN),
            ("itself", {"href": "http://{site}/search"}, _DOWN),
            ("5 MB long", {"href": "http://{site}/search?" + "a" * 5_000_000}, _DOWN),
        ]
    ),
    Case(
        "search JSON", "links that are texts", bad_json("/search", page(features=[{"id": "a"}], links=["next"])), _DOWN
    ),
    Case("search JSON", "links that are a number", bad_json("/search", page(features=[{"id": "a"}], links=5)), _DOWN),
    Case("search JSON", "pages for ever", _flood, "more than 10000 items"),
    Case("search JSON", "swollen pages for ever", _swollen_pages, "more than 32 MB"),
    Case(
        "search JSON",
        "1 GB behind gzip",
        bad_json("/search", lambda: swollen(1024, GZIP), Content_Encoding="gzip"),
        "more than 8 MB|" + _DOWN,
    ),
    Case(
        "search JSON",
        "1 GB behind deflate",
        bad_json("/search", lambda: swollen(1024), Content_Encoding="deflate"),
        "more than 8 MB|" + _DOWN,
    ),
    Case(
        "search JSON",
        "gzip in gzip",
        bad_json("/search", lambda: gzip.compress(swollen(256, GZIP)), Content_Encoding="gzip, gzip"),
        "more than 8 MB|" + _DOWN,
    ),
    Case("search JSON", "broken gzip", bad_json("/search", b"\x1f\x8b" + bytes(90), Content_Encoding="gzip"), _DOWN),
    Case(
        "search JSON",
        "500 with 100 MB",
        lambda w: w.site.always("/search", lambda h, _b, _s: h.answer(500, bytes(100_000_000))),
        "HTTP 500",
    ),
]


def _root(**changes: Any) -> Setup:
    """The catalogue's first page with these keys; {site} and the others are filled in."""

    def setup(world: World) -> None:
        good = {
            "type": "Catalog",
            "id": "x",
            "description": "x",
            "stac_version": "1.0.0",
            "conformsTo": ["https://api.stacspec.org/v1.0.0/core", "https://api.stacspec.org/v1.0.0/item-search"],
            "links": [{"rel": "search", "href": f"{world.site.url}/search", "method": "GET"}],
        }
        told = json.dumps({key: value for key, value in {**good, **changes}.items() if value is not Ellipsis})
        world.answer("/", world.fill_in(told).encode(), Content_Type="application/json")

    return setup


def _search_link(href: Any) -> list[Item]:
    return [{"rel": "search", "href": href}]


ROOTS = [
    *(
        Case("root JSON", name, _root(**changes), told)
        for name, changes, told in [
            ("search is a file", {"links": _search_link("file://{secret}")}, "read|another host|" + _DOWN),
            (
                "search is a file of this host",
                {"links": _search_link("file://{site}{secret}")},
                "read|another host|" + _DOWN,
            ),
            ("search is a path", {"links": _search_link("{secret}")}, "read|another host|" + _DOWN),
            (
                "search is the neighbour",
                {"links": _search_link("http://127.0.0.1:{port}/secret")},
                "read|another host|" + _DOWN,
            ),
            ("search is a number", {"links": _search_link(5)}, _DOWN),
            ("search is nothing", {"links": _search_link(None)}, _DOWN),
            ("no links", {"links": ...}, _DOWN),
            ("links that are nothing", {"links": None}, _DOWN),
            ("links that are texts", {"links": ["search"]}, _DOWN),
            (
                "root is the neighbour",
                {"links": [{"rel": "root", "href": "http://127.0.0.1:{port}/secret"}]},
                "read|another host|" + _DOWN,
            ),
            ("root is a file", {"links": [{"rel": "root", "href": "{secret}"}]}, "read|another host|" + _DOWN),
            ("children are files", {"links": [{"rel": "child", "href": "{secret}"}]}, "read|another host|" + _DOWN),
            ("an item", {"type": "Feature"}, _DOWN),
            ("a collection", {"type": "Collection"}, _DOWN + "|read"),
            ("no type", {"type": ...}, _DOWN + "|read"),
            ("a type that is a list", {"type": []}, _DOWN),
            ("a version that is a number", {"stac_version": 1}, _DOWN + "|read"),
            ("a version of 1 MB", {"stac_version": "1." * 500_000}, _DOWN + "|read"),
            ("conforms to a number", {"conformsTo": 5}, _DOWN),
            ("conforms to numbers", {"conformsTo": [1, 2]}, _DOWN),
            (
                "extensions of its own",
                {"stac_extensions": ["file://{secret}", "http://127.0.0.1:{port}/secret"]},
                "read",
            ),
            ("extensions that are numbers", {"stac_extensions": [1]}, _DOWN + "|read"),
            ("an id that is deep", {"id": _nested(900)}, _DOWN + "|read"),
            ("10,000 links", {"links": [{"rel": "x", "href": "y"}] * 10_000}, "read"),
        ]
    ),
    Case("root JSON", "10 MB", bad_json("/", lambda: b" " * BIG + b"{}"), "more than 8 MB"),
    Case("root JSON", "deep", bad_json("/", "[" * _DEEP), _DOWN),
    Case("root JSON", "nothing", bad_json("/", ""), _DOWN),
    Case("root JSON", "a list", bad_json("/", "[]"), _DOWN),
]
assert cmr_item(NAME)["id"] == NAME  # what the cases change is a good item
