"""Region files that nobody means well with, for every verb that takes one."""

import json
import os
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

from fault.confined import Case, Place

from vsat.config import load_region

BASE = """name: field
area: {bbox: [14.2, 48.1, 14.21, 48.11]}
period: {start: 2023-05-01, end: 2023-06-30}
"""
RING = [[14.2, 48.1], [14.21, 48.1], [14.21, 48.11], [14.2, 48.1]]

Build = Callable[[Place], Path]


def read(path: Path) -> object:
    """What `vsat check` asks of it."""
    region = load_region(path)
    return region.grids(), region.dates(date(2026, 1, 1)), region.fingerprint(), str(region.home)


def text(content: str | bytes) -> Build:
    """A region file of that content; {outside} and {url} stand for what nobody is to touch."""

    def build(place: Place) -> Path:
        (place.outside / "secret.json").write_text('{"type": "secret"}')
        path = place.folder / "region.yaml"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            told = content.replace("{outside}", str(place.outside)).replace("{url}", place.url)
            path.write_text(told, "utf-8", errors="surrogatepass")
        return path

    return build


def added(*lines: str) -> Build:
    return text(BASE + "\n".join(lines) + "\n")


def area(told: str) -> Build:
    return text(BASE.replace("{bbox: [14.2, 48.1, 14.21, 48.11]}", told))


def geojson(document: Any) -> Build:
    """The area in a file of its own."""

    def build(place: Place) -> Path:
        told = document if isinstance(document, str) else json.dumps(document)
        (place.folder / "area.geojson").write_text(told)
        return area("{geojson: area.geojson}")(place)

    return build


def polygon(*coordinates: Any) -> Build:
    return geojson({"type": "Polygon", "coordinates": list(coordinates)})


def nested(kind: str, key: str, levels: int) -> str:
    inner = json.dumps({"type": "Polygon", "coordinates": [RING]})
    opened, closed = (
        (f'{{"type": "{kind}", "{key}": [', "]}") if key != "geometry" else (f'{{"type": "{kind}", "{key}": ', "}")
    )
    return opened * levels + inner + closed * levels


def special(kind: str) -> Build:
    def build(place: Place) -> Path:
        path = place.folder / "region.yaml"
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        else:
            path.symlink_to(kind)
        return path

    return build


def geojson_at(kind: str) -> Build:
    """The area in something that is no file."""

    def build(place: Place) -> Path:
        if kind == "fifo":
            os.mkfifo(place.folder / "area.geojson")
            return area("{geojson: area.geojson}")(place)
        return area(f"{{geojson: {kind}}}")(place)

    return build


LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)

CASES: list[tuple[str, Build, str]] = [
    ("sound", text(BASE), "fine"),
    # YAML
    ("a billion laughs", text(LAUGHS + BASE), "refused"),
    ("an anchor that holds itself", text("a: &a [*a]\n" + BASE), "refused"),
    ("an anchor alone", text(BASE.replace("name: field", "name: &n field")), "fine"),
    ("merged keys", text("<<: *x\n" + BASE), "refused"),
    ("a key given twice", text(BASE + "name: other\n"), "refused"),
    ("a tag that runs a program", text("name: !!python/object/apply:os.system ['touch {outside}/made']\n"), "refused"),
    ("a tag that makes an object", text("name: !!python/object/new:subprocess.Popen [[touch, '{outside}/made']]\n"), "refused"),
    ("a tag that names a module", text("name: !!python/module:os\n"), "refused"),
    ("a tag that reads a file", text("name: !include {outside}/secret.json\n" + BASE), "refused"),
    ("a tag that reads the environment", text("name: !env EARTHDATA_TOKEN\n"), "refused"),
    ("bytes as a name", text(BASE.replace("field", "!!binary AAAA")), "refused"),
    ("a set as a name", text(BASE.replace("field", "!!set {a, b}")), "refused"),
    ("an integer of nothing", text(BASE.replace("field", '!!int ""')), "refused"),
    ("a float of nothing", text(BASE.replace("field", '!!float ""')), "refused"),
    ("a boolean that is none", text(BASE.replace("field", "!!bool perhaps")), "refused"),
    ("a moment that is none", text(BASE.replace("field", "!!timestamp now")), "refused"),
    ("an ordered map that is none", text(BASE.replace("field", "!!omap x")), "refused"),
    ("a null tag", text(BASE.replace("field", "!!null x")), "refused"),
    ("900,000 digits", added("look_back_days: " + "9" * 900_000), "refused"),
    ("900,000 hexadecimal digits", added("look_back_days: 0x" + "f" * 900_000), "refused"),
    ("900,000 digits to the base of 60", added("look_back_days: 1" + ":59" * 299_000), "refused"),
    ("a number of 1e999", area("{bbox: [1e999, 0, 1, 1]}"), "refused"),
    ("NaN and infinite", area("{bbox: [.nan, .inf, -.inf, 1]}"), "refused"),
    ("nested 400,000 deep, flow", text("a: " + "[" * 400_000), "refused"),
    ("nested 400,000 deep, maps", text("{a: " * 200_000), "refused"),
    ("nested 39 deep", added("cloud: " + "[" * 38 + "]" * 38), "refused"),
    ("nested 600 deep, block", text("\n".join(" " * n + "a:" for n in range(600))), "refused"),
    ("2 MB", text(BASE + "# " + "x" * 2_000_000), "refused"),
    ("80,000 unknown keys", text(BASE + "".join(f"k{n}: 1\n" for n in range(80_000))), "refused"),
    ("a key that is a list", text("? [a, b]\n: 1\n" + BASE), "refused"),
    ("a key that is a map", text("? {a: b}\n: 1\n" + BASE), "refused"),
    ("keys that are numbers", text("1: 2\n2.5: 3\nnull: 1\ntrue: 0\n" + BASE), "refused"),
    ("several documents", text(BASE + "---\n" + BASE), "refused"),
    ("no document", text("---\n...\n"), "refused"),
    ("a list", text("- name: field\n"), "refused"),
    ("a text", text("field"), "refused"),
    ("directives", text("%YAML 9.9\n%TAG ! tag:evil,2000:\n---\n" + BASE), "any"),
    ("UTF-16", text(BASE.encode("utf-16")), "refused"),
    ("bytes that are no UTF-8", text(b"name: \xff\xfe\n"), "refused"),
    ("half of a surrogate pair", text(BASE.replace("field", '"\\ud800"')), "refused"),
    ("zero bytes", text(BASE.encode() + bytes(1000)), "refused"),
    ("a pipe", special("fifo"), "refused"),
    ("a folder", special("folder"), "refused"),
    ("a device", special("/dev/zero"), "refused"),
    ("the memory of the process", special("/proc/self/mem"), "refused"),
    # names and places
    *[(f"name {shown}", text(BASE.replace("field", json.dumps(name))), "refused") for shown, name in [
        ("that climbs", "../../etc"), ("absolute", "/etc/passwd"), ("with a zero byte", "a\0b"), ("with a new line", "a\nb"),
        ("with an escape sequence", "\x1b[2J"), ("in capitals", "Field"), ("empty", ""), ("of 64 letters", "a" * 64),
        ("with a dot", "a.b"), ("of another alphabet", "поле"), ("that runs backwards", "\u202efield"), ("a number", 5),
        ("that is an option", "-rf"), ("with a space", "a b"), ("with a new line at the end", "field\n"),
    ]],
    *[(f"store {shown}", added(f"store: {json.dumps(told)}"), expect) for shown, told, expect in [
        ("with a zero byte", "a\0b", "refused"), ("with a new line", "a\nb", "refused"), ("with an escape", "\x1b[2J", "refused"),
        ("a number", 5, "refused"), ("a list", ["a"], "refused"), ("a variable", "$HOME/${EARTHDATA_TOKEN}", "fine"),
        ("a bucket that climbs", "s3://bucket/../other", "refused"), ("a bucket with a password", "s3://user:pw@bucket/x", "refused"),
        ("a bucket of no name", "s3://", "refused"), ("a bucket with a query", "s3://bucket/x?acl", "refused"),
        ("of 100,000 letters", "x" * 100_000, "any"), ("of a user that is none", "~nobody-at-all/x", "any"),
    ]],
    *[(f"method {shown}", added(f"method: {json.dumps(told)}"), expect) for shown, told, expect in [
        ("nobody has", "os.system", "refused"), ("with a new line", "linear\n", "refused"),
        ("with an escape", "anydate:\x1b[2J", "any"), ("with a zero byte", "anydate:a\0b", "any"), ("a map", {"a": 1}, "refused"),
    ]],
    # catalogues
    *[(f"catalogue at {shown}", added(f"catalogue: {{kind: stac, url: {json.dumps(url)}}}"), "refused") for shown, url in [
        ("a file", "file:///etc/passwd"), ("plain http", "http://example.org"), ("a private address", "http://10.0.0.1"),
        ("the metadata service", "http://169.254.169.254/latest"), ("an address with a password", "https://u:p@example.org"),
        ("a name like loopback's", "http://localhost.example.org"), ("127.1.example", "http://127.0.0.1.example.org"),
        ("nothing", "https://"), ("a port that is none", "https://example.org:99999"), ("an open bracket", "https://[::1"),
        ("a gopher", "gopher://127.0.0.1"), ("ftp", "ftp://example.org"), ("a query", "https://example.org/?x={url}"),
    ]],
    ("hosts with paths", added("catalogue: {kind: stac, url: 'https://example.org', hosts: ['example.org/../x']}"), "refused"),
    ("hosts with a star", added("catalogue: {kind: stac, url: 'https://example.org', hosts: ['*']}"), "refused"),
    ("a collection that climbs", added("catalogue: {collections: {L30: ../../x}}"), "refused"),
    ("a sensor nobody has", added("catalogue: {collections: {__class__: x}}"), "refused"),
    ("an archive with a zero byte", added('catalogue: {kind: archive, path: "a\\0b"}'), "refused"),
    # areas
    ("an area of the whole world", area("{bbox: [-180, -90, 180, 90]}"), "refused"),
    ("an area of no extent", area("{bbox: [14, 48, 14, 48]}"), "refused"),
    ("an area of texts", area("{bbox: ['14', 48, 15, 49]}"), "refused"),
    ("an area of 1e308", area("{bbox: [-1.7e308, 0, 1.7e308, 1]}"), "refused"),
    ("GeoJSON: a secret file", area("{geojson: '{outside}/not-there.json'}"), "refused"),
    ("GeoJSON: an address", area("{geojson: '{url}'}"), "refused"),
    ("GeoJSON: /vsicurl/", area("{geojson: '/vsicurl/{url}'}"), "refused"),
    ("GeoJSON: a pipe", geojson_at("fifo"), "refused"),
    ("GeoJSON: a device", geojson_at("/dev/zero"), "refused"),
    ("GeoJSON: the environment", geojson_at("/proc/self/environ"), "refused"),
    ("GeoJSON: a zero byte", geojson_at('"a\\0b"'), "refused"),
    ("GeoJSON: 100,000 deep", geojson("[" * 100_000), "refused"),
    ("GeoJSON: 450 collections in one another", geojson(nested("GeometryCollection", "geometries", 450)), "refused"),
    ("GeoJSON: 450 features in one another", geojson(nested("Feature", "geometry", 450)), "refused"),
    ("GeoJSON: 900 features in one another", geojson(nested("Feature", "geometry", 900)), "refused"),
    ("GeoJSON: 2 MB", geojson(" " * 2_000_000), "refused"),
    ("GeoJSON: NaN", polygon([[14, 48], [float("nan"), 48], [14, 49], [14, 48]]), "refused"),
    ("GeoJSON: infinite", polygon([[14, 48], [float("inf"), 48], [14, 49], [14, 48]]), "refused"),
    ("GeoJSON: 1e308", polygon([[14, 48], [1e308, 48], [-1e308, 49], [14, 48]]), "refused"),
    ("GeoJSON: 400 digits", geojson('{"type": "Polygon", "coordinates": [[[14, 48], [1' + "0" * 400 + ", 48], [14, 49], [14, 48]]]}"), "refused"),
    ("GeoJSON: 5,000 digits", geojson('{"type": "Polygon", "coordinates": [[[14, 48], [1' + "0" * 5000 + ", 48], [14, 49], [14, 48]]]}"), "refused"),
    ("GeoJSON: texts", polygon([["a", "b"], ["c", "d"], ["e", "f"], ["a", "b"]]), "refused"),
    ("GeoJSON: nothing", polygon([]), "refused"),
    ("GeoJSON: null", geojson({"type": "Polygon", "coordinates": None}), "refused"),
    ("GeoJSON: null as a point", polygon([None, None, None, None]), "refused"),
    ("GeoJSON: booleans", polygon([[True, False], [False, True], [True, True], [True, False]]), "any"),
    ("GeoJSON: points of 5 numbers", polygon([[14, 48, 1, 2, 3], [14.01, 48, 1, 2, 3], [14, 48.01, 1, 2, 3], [14, 48, 1, 2, 3]]), "any"),
    ("GeoJSON: rings of one point", polygon([[14, 48]]), "refused"),
    ("GeoJSON: crosses itself", polygon([[14, 48], [14.1, 48.1], [14.1, 48], [14, 48.1], [14, 48]]), "refused"),
    ("GeoJSON: a type that is a list", geojson({"type": ["Polygon"], "coordinates": [RING]}), "refused"),
    ("GeoJSON: features that are no list", geojson({"type": "FeatureCollection", "features": 5}), "refused"),
    ("GeoJSON: features that are texts", geojson({"type": "FeatureCollection", "features": "Polygon"}), "refused"),
    ("GeoJSON: geometries that are maps", geojson({"type": "GeometryCollection", "geometries": {"a": 1}}), "refused"),
    ("GeoJSON: 15,000 corners", polygon([[14 + 0.01 * n / 15000, 48 + 0.01 * (n % 2)] for n in range(15_000)] + [[14, 48]]), "refused"),
    ("GeoJSON: 5,000 holes", polygon(RING, *[RING] * 5000), "refused"),
    ("GeoJSON in the file itself, deep", area("{geojson: " + '{"type": "Feature", "geometry": ' * 30 + "1" + "}" * 31), "refused"),
    # times and numbers
    ("a period of 9,999 years", text(BASE.replace("2023-05-01", "0001-01-01").replace("2023-06-30", "9999-12-31")), "any"),
    ("a day that is none", text(BASE.replace("2023-05-01", "2023-02-31")), "refused"),
    ("a day in other digits", text(BASE.replace("2023-05-01", "٢٠٢٣-٠٥-٠١")), "refused"),
    ("a day as seconds", text(BASE.replace("2023-05-01", "20230501")), "refused"),
    ("every 0 days", added("cadence: {every_days: 0}"), "refused"),
    ("every 10**30 days", added("cadence: {every_days: 1" + "0" * 30 + "}"), "refused"),
    ("60,000 dates", added("cadence: {dates: [" + ", ".join(["2023-05-05"] * 60_000) + "]}"), "fine"),
    ("tiles that are none", added("tiles: [33UVP, ../../x]"), "refused"),
    ("tiles of other letters", added("tiles: [３３UVP]"), "refused"),
    ("a sharp s as a tile", added("tiles: [33ßVP]"), "refused"),
    ("tiles of nothing", added("tiles: ['']"), "refused"),
    ("20,000 tiles", added("tiles: [" + ", ".join(["33UVP"] * 20_000) + "]"), "any"),
    ("bands nobody has", added("bands: [red, __class__]"), "refused"),
    ("a key of Python's", added("__class__: x", "model_config: {extra: allow}"), "refused"),
    ("a cover of 1e400", added("cloud: {max_cover: 1e400}"), "refused"),
    ("true as a number", added("look_back_days: true"), "refused"),
]  # fmt: skip


HEAVY = {"80,000 unknown keys", "GeoJSON: 5,000 holes", "60,000 dates", "20,000 tiles"}  # a second of PyYAML or more


def cases(**_: int) -> list[Case]:
    """All of them."""
    return [Case("regions", name, build, read, expect, heavy=name in HEAVY) for name, build, expect in CASES]
