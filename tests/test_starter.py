"""What `vsat init` writes is a region, and its comments tell the truth."""

import re
from datetime import date
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from vsat.config import Region, load_region
from vsat.starter import SCHEMA_FILE, starter

START = date(2023, 1, 1)


@pytest.mark.parametrize(
    ("kind", "where"),
    [("cmr", ""), ("planetary-computer", ""), ("archive", 'a "b": #c'), ("stac", "https://example.org/x")],
)
@pytest.mark.parametrize("end", [None, date(2023, 12, 31)])
def test_the_starter_loads(tmp_path: Path, kind: str, where: str, end: date | None) -> None:
    path = tmp_path / "alps.yaml"
    path.write_text(starter("alps", (15.1, 48.25, 15.3, 48.4), start=START, end=end, catalogue=kind, where=where))
    found = load_region(path)
    assert (found.name, found.area.bbox, found.period.end) == ("alps", (15.1, 48.25, 15.3, 48.4), end)
    assert found.catalogue.kind == kind
    assert (found.catalogue.url or "") == (where if kind == "stac" else "")
    assert found.catalogue.path == (tmp_path / where if kind == "archive" else None)


@given(st.tuples(*[st.floats(-70, 70).map(lambda v: round(v, 6))] * 4))
def test_the_box_keeps_its_six_digits(box: tuple[float, float, float, float]) -> None:
    assert yaml.safe_load(starter("a", box, start=START))["area"]["bbox"] == list(box)


@pytest.mark.parametrize("name", ["2024", "no", "null", "alps"])
def test_names_that_yaml_would_take_for_something_else(name: str) -> None:
    assert yaml.safe_load(starter(name, (1, 2, 3, 4), start=START))["name"] == name


def test_editors_find_the_schema() -> None:
    text = starter("a", (1, 2, 3, 4), start=START, schema="../x.json")
    assert text.startswith("# yaml-language-server: $schema=../x.json\n")
    assert SCHEMA_FILE in starter("a", (1, 2, 3, 4), start=START).splitlines()[0]


def test_every_key_is_shown_and_what_is_commented_out_is_the_default() -> None:
    lines = starter("a", (15.1, 48.2, 15.3, 48.4), start=START).splitlines()
    text = "\n".join(re.sub(r"^( *)# ([ a-z_]*: ?.*)", r"\1\2", line) for line in lines)
    for other in ("geojson", "acquisitions", "dates", "end", "collections", "tiles"):  # examples, not defaults
        text, count = re.subn(rf"^ *{other}: .*(\n|$)", "", text, flags=re.MULTILINE)
        assert count == 1, other
    shown = yaml.safe_load(text)
    assert set(shown) | {"tiles"} == set(Region.model_fields)
    found = Region.model_validate(shown)
    assert found == Region.model_validate({key: shown[key] for key in ("name", "area", "period")})
