"""Region files that hypothesis writes: a good one with odd YAML at any place, keys given twice, bytes overwritten."""

import json
from datetime import date
from typing import Any

from fault.hostile_world import World
from hypothesis import strategies as st

from vsat.config import load_region
from vsat.errors import VsatError
from vsat.io.catalog import endpoint_for

_GOOD = """\
name: fuzz
area:
  bbox: [14.0, 51.9, 14.1, 52.0]
period:
  start: 2024-05-01
  end: 2024-06-30
catalogue:
  kind: stac
  url: https://stac.example.org
  hosts: [data.example.org]
  collections: {L30: a, S30: b}
cadence:
  every_days: 8
bands: [red, nir]
look_back_days: 21
final_after_days: 60
context_days: 730
method: harmonic+scene
store: var
cloud:
  adjacent: false
  max_cover: 90
tiles: [33UVT]
""".splitlines()
_ODD = st.sampled_from(
    [
        "",
        "~",
        "null",
        "true",
        "yes",
        "0",
        "-1",
        "1e999",
        ".nan",
        ".inf",
        "-.inf",
        "0x7fffffffffffffffff",
        "0b1",
        "0o7",
        "190:20:30",
        "9" * 30,
        "9" * 400,
        "9" * 5000,
        "1e400",
        "2024-05-01",
        "2024-99-99",
        "2024-05-01T00:00:00Z",
        "0000-00-00",
        "'2024-05-01'",
        "20240501",
        "!!int ''",
        "!!int _",
        "!!int 0x",
        "!!float ''",
        "!!float x",
        "!!bool maybe",
        "!!null x",
        "!!timestamp now",
        "!!binary '###'",
        "!!binary AAAA",
        "!!set {a, b}",
        "!!omap [a: 1]",
        "!!pairs [a: 1]",
        "!!str {a: b}",
        "!!map [a]",
        "!!seq {a: b}",
        "!!python/object/apply:os.system ['true']",
        "!!python/name:os.system",
        "!<tag:yaml.org,2002:python/tuple> [1]",
        "!local x",
        "&a [*a]",
        "*a",
        "&a x",
        "{<<: {a: 1}}",
        "{<<: 1}",
        "{? [a] : b}",
        "{? {a: b} : c}",
        "{1: 2, 1.0: 3}",
        "{null: 1}",
        "{true: 1}",
        "[" * 60,
        "[" * 60 + "]" * 60,
        "{a: " * 60,
        "[,]",
        "[a",
        "{a",
        "'",
        '"',
        '"\\x00"',
        '"\\uD800"',
        "|\n  text\n  more",
        ">-\n    folded",
        "%YAML 9.9",
        "---",
        "...",
        "# nothing",
        "@x",
        "`x",
        "\t",
        "\ufeff",
        "\u202e",
        "\u2028x",
        "../../../etc",
        "/etc/passwd",
        "~root",
        "$HOME",
        "${HOME}",
        "s3://",
        "s3://a/../b",
        "s3://bucket/x",
        "file:///etc",
        "http://127.0.0.1",
        "https://me:word@x.example",
        "https://[::1",
        "anydate:/etc",
        "anydate:",
        "anydate:../../x",
        "[red, red]",
        "[33UVT, 33UVT]",
        "[01CAB]",
        "{bbox: [0, 0, 1, 1]}",
        "[-180, -80, 180, 84]",
        "[178, -20, -178, -15]",
        "[0, 0, 1e-9, 1e-9]",
    ]
)
_POINT = st.lists(
    st.one_of(st.floats(-200, 200), st.floats(), st.sampled_from([10**400, None, "x", True])), min_size=0, max_size=4
)
_RINGS = st.lists(st.lists(_POINT, max_size=6), max_size=3)
_GEOMETRY = st.recursive(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["Polygon", "MultiPolygon", "Point", "Feature", 5])},
        optional={"coordinates": _RINGS | st.lists(_RINGS, max_size=2) | st.integers() | st.text(max_size=3)},
    ),
    lambda inner: st.fixed_dictionaries(
        {"type": st.sampled_from(["Feature", "FeatureCollection", "GeometryCollection", None])},
        optional={
            "geometry": inner,
            "features": st.lists(inner, max_size=3) | st.integers() | st.text(max_size=2),
            "geometries": st.lists(inner, max_size=3) | inner,
        },
    ),
    max_leaves=4,
)
_SCALARS = st.one_of(
    _ODD,
    st.text(max_size=12),
    st.integers().map(str),
    st.floats().map(str),
    st.lists(st.floats(-200, 200), max_size=5).map(str),
)
CHANGES = st.tuples(
    st.lists(
        st.tuples(
            st.integers(0, len(_GOOD) - 1),
            st.sampled_from(["value", "line", "before", "twice", "away", "indent"]),
            _SCALARS,
        ),
        max_size=4,
    ),
    st.none() | _GEOMETRY,
    st.lists(st.tuples(st.integers(0, 1 << 12), st.binary(max_size=2)), max_size=2),
)


def fuzz_region(world: World, drawn: tuple[Any, ...]) -> str:
    """What loading it says; a region that loads gives its tiles, dates and endpoint, or says why not."""
    path = world.secrets.parent / "fuzz.yaml"
    path.write_bytes(_text(drawn))
    try:
        region = load_region(path)
        region.grids()
        region.dates(date(2026, 1, 1))
        region.fingerprint()
        if region.catalogue.kind != "archive":
            endpoint_for(region.catalogue)
    except VsatError as error:
        return str(error)
    return "taken"


def _text(drawn: tuple[Any, ...]) -> bytes:
    changes, geometry, cuts = drawn
    lines = list(_GOOD)
    if geometry is not None:  # JSON is YAML, but for NaN
        lines[2] = "  geojson: " + json.dumps(geometry).replace("NaN", ".nan").replace("Infinity", ".inf")
    for number, how, text in changes:
        lines[number] = _changed(lines[number], how, text)
    body = bytearray("\n".join(lines).encode("utf-8", "surrogatepass"))
    for at, data in cuts:
        place = at % max(len(body), 1)
        body[place : place + len(data)] = data
    return bytes(body)


def _changed(line: str, how: str, text: str) -> str:
    key, colon, _ = line.partition(":")
    match how:
        case "value":
            return f"{key}{colon} {text}"
        case "line":
            return text
        case "before":
            return f"{text}\n{line}"
        case "twice":
            return f"{line}\n{line}"
        case "away":
            return ""
        case _:
            return f"  {line}"
