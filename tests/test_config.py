"""Region files: what they mean, and how wrong ones are told."""

import json
import pickle
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from vsat.config import Area, Cadence, Catalogue, Period, Region, load_region
from vsat.errors import ExitCode, InputError
from vsat.hls import BANDS
from vsat.methods import METHODS
from vsat.starter import region_schema

BASE: dict[str, Any] = {"name": "some", "area": {"bbox": [15.1, 48.2, 15.3, 48.4]}, "period": {"start": "2023-01-01"}}
TRIANGLE = {"type": "Polygon", "coordinates": [[[15, 48], [15.1, 48], [15.1, 48.1], [15, 48]]]}
STAC = {"kind": "stac", "url": "https://example.org"}
days = st.dates(date(2013, 1, 1), date(2040, 1, 1))


def write(folder: Path, content: dict[str, Any] | str) -> Path:
    path = folder / "regions" / "some.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def problem(folder: Path, content: dict[str, Any] | str) -> str:
    with pytest.raises(InputError) as error:
        load_region(write(folder, content))
    assert error.value.exit_code == ExitCode.BAD_INPUT
    assert error.value.place.endswith("some.yaml")
    return error.value.problem


def region(**changes: Any) -> Region:
    return Region.model_validate({**BASE, **changes})


def test_the_least_region_has_the_documented_defaults(tmp_path: Path) -> None:
    found = load_region(write(tmp_path, BASE))
    assert (found.bands, found.catalogue.kind, found.cadence.every_days) == (BANDS, "cmr", 8)
    assert found.home == tmp_path / "var" / "some"
    assert found.period == Period(start=date(2023, 1, 1))


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(
        tmp_path,
        {**BASE, "area": {"geojson": "area.json"}, "store": "~/x", "catalogue": {"kind": "archive", "path": "../a"}},
    )
    (path.parent / "area.json").write_text(json.dumps(TRIANGLE))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    found = load_region(Path("regions/some.yaml"))
    assert (found.catalogue.path, found.store) == (tmp_path / "a", tmp_path / "home" / "x")
    assert [grid.tile for grid in found.grids()] == ["33UWP"]
    monkeypatch.chdir("/")  # and stay so when the process goes elsewhere
    assert found.area.geometry().bounds == (15, 48, 15.1, 48.1)


def test_every_problem_is_told_at_once_with_line_key_value_and_choice(tmp_path: Path) -> None:
    text = """\
name: Alps
area:
  bbox: [48, 115, 49]
period: {start: 20230101, end: 2022-02-30}
catalogue: {kind: nasa, url: 'http://example.org', host: 1}
bands: [red, nirr]
cadence: {every_days: true}
method: spline
cloud: {adjacent: "yes", max_cover: 101}
tiles: [33UVPP]
look_back_days: 2.5
colour: blue
"""
    told = problem(tmp_path, text).splitlines()
    assert told[0] == "15 problems"
    for line, key, words in [
        (1, "name", "not 'Alps'"),
        (3, "area.bbox", "four numbers"),
        (4, "period.start", "written as 2024-05-01, not 20230101"),
        (4, "period.end", "not '2022-02-30'"),
        (5, "catalogue.kind", "'cmr', 'planetary-computer', 'stac' or 'archive', not 'nasa'"),
        (5, "catalogue.url", "https"),
        (5, "catalogue.host", "known here: kind, url, path, collections, hosts"),
        (6, "bands.1", "'swir2', not 'nirr'"),
        (7, "cadence.every_days", "integer, not True"),
        (8, "method", "not 'spline'"),
        (9, "cloud.adjacent", "not 'yes'"),
        (9, "cloud.max_cover", "100, not 101"),
        (10, "tiles", "'33UVPP' is not an MGRS tile"),
        (11, "look_back_days", "not 2.5"),
    ]:
        assert any(t.strip().startswith(f"line {line}: {key}: ") and words in t for t in told), (line, key, words, told)
    assert (
        any(t.strip().startswith("line 12: colour: there is no such key; known here: name, area") for t in told)
        or len(told) == 15
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"area": {}}, "area: give one of bbox and geojson"),
        ({"area": {"bbox": [1, 2, 3, 4], "geojson": TRIANGLE}}, "not both"),
        ({"area": {"bbox": [115, 48, 116, 97]}}, "swapped"),
        ({"area": {"bbox": [1, 2, 3, True]}}, "four numbers"),
        ({"area": {"bbox": "1,2,3,4"}}, "four numbers"),
        ({"area": {"geojson": "absent.json"}}, "no such file"),
        ({"area": {"geojson": 3}}, "GeoJSON geometry, or the path"),
        ({"area": {"geojson": {"type": "Point", "coordinates": [1, 2]}}}, "this is a Point"),
        ({"area": None}, "area: "),
        ({"period": {"start": "2023-02-01", "end": "2023-01-31"}}, "starts .2023-02-01. after its end"),
        ({"period": {"start": "2023-02-01T00:00:00"}}, "written as 2024-05-01"),
        ({"period": {"start": "1999-01-01", "end": "2001-01-01"}}, "before HLS begins"),
        ({"catalogue": {"kind": "stac"}}, "needs url"),
        ({"catalogue": {"kind": "archive"}}, "needs path"),
        ({"catalogue": {"kind": "archive", "path": "x", "url": "https://example.org"}}, "takes no url"),
        ({"catalogue": {"kind": "cmr", "path": "x"}}, "path is for kind archive"),
        ({"catalogue": {"kind": "stac", "url": "https://me:secret@example.org/"}}, "user name or password"),
        ({"catalogue": {"kind": "stac", "url": "ftp://example.org/"}}, "https"),
        ({"catalogue": {"kind": "stac", "url": "https://[::1/"}}, "no URL"),
        ({"catalogue": {"kind": "stac", "url": "https://example.org/?token=secret"}}, "has no [?]"),
        ({"catalogue": {**STAC, "collections": {"L8": "x"}}}, "'L30' or 'S30'"),
        ({"catalogue": {**STAC, "collections": {"L30": "../x"}}}, "no collection id"),
        ({"catalogue": {**STAC, "collections": {}}}, "collections"),
        ({"catalogue": {**STAC, "hosts": ["https://x.org/"]}}, "no host name"),
        ({"bands": []}, "bands"),
        ({"bands": ["red", "red"]}, "named twice"),
        ({"cadence": {}}, "exactly one"),
        ({"cadence": {"every_days": 8, "acquisitions": True}}, "exactly one"),
        ({"cadence": {"every_days": 367}}, "366"),
        ({"cadence": {"dates": []}}, "cadence.dates"),
        ({"cadence": {"dates": ["2022-12-31"]}}, "outside the period: 2022-12-31"),
        ({"tiles": ["31UDP"]}, "own nothing of the area: 31UDP; choose among 33UWP"),
        ({"tiles": []}, "tiles"),
        ({"name": "../up"}, "name"),
        ({"name": 7}, "string"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_told(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    told = problem(tmp_path, {**BASE, **change})
    with pytest.raises(AssertionError, match=says):
        raise AssertionError(told)
    assert "secret" not in told


def test_missing_keys_are_named(tmp_path: Path) -> None:
    told = problem(tmp_path, {"name": "some"})
    assert "area: this key is missing" in told
    assert "period: this key is missing" in told


@pytest.mark.parametrize(
    "url", ["https://example.org/stac", "http://127.0.0.1:8081", "http://localhost:8081/", "http://[::1]:80"]
)
def test_addresses_that_are_taken(url: str) -> None:
    assert Catalogue(kind="stac", url=url).url == url.rstrip("/")


@pytest.mark.parametrize(
    "url", ["http://10.0.0.1", "http://localhost.example.org", "http://127.0.0.1.example.org", "file:///etc/passwd"]
)
def test_addresses_that_are_not_taken(url: str) -> None:
    with pytest.raises(ValueError, match="https"):
        Catalogue(kind="stac", url=url)


def test_days_may_be_yaml_dates_or_strings(tmp_path: Path) -> None:
    plain = write(tmp_path, yaml.safe_dump(BASE) + "cadence: {dates: [2023-05-02, '2023-05-01', 2023-05-02]}\n")
    assert load_region(plain).cadence.dates == (date(2023, 5, 1), date(2023, 5, 2))


def test_bands_and_tiles_are_put_in_order() -> None:
    found = region(bands=["swir1", "blue"], tiles=["t33uwp", "33UWP"])
    assert (found.bands, found.tiles) == (("blue", "swir1"), ("33UWP",))


def test_tiles_choose_among_those_of_the_area() -> None:
    wide = {"bbox": [14.9, 48.2, 15.3, 48.4]}
    assert [grid.tile for grid in region(area=wide).grids()] == ["33UVP", "33UWP"]
    assert [grid.tile for grid in region(area=wide, tiles=["33UVP"]).grids()] == ["33UVP"]


@given(days, st.integers(0, 400), st.integers(1, 366), st.integers(-30, 900))
def test_every_n_days_counts_from_the_start(start: date, length: int, step: int, until: int) -> None:
    end, last = start + timedelta(length), start + timedelta(until)
    found = region(period={"start": start, "end": max(end, date(2013, 4, 11))}, cadence={"every_days": step}).dates(
        last
    )
    plain = [start + timedelta(n) for n in range(0, 1300) if n % step == 0]
    assert found == [day for day in plain if day <= min(last, max(end, date(2013, 4, 11)))]


@given(st.lists(days, max_size=20), days, st.integers(0, 2000), days)
def test_acquisitions_and_lists_are_cut_to_the_period(
    acquired: list[date], start: date, length: int, until: date
) -> None:
    period = Period(start=start, end=max(start + timedelta(length), date(2013, 4, 11)))
    plain = sorted({day for day in acquired if period.start <= day <= (period.end or day) and day <= until})
    assert region(period=period, cadence={"acquisitions": True}).dates(until, iter(acquired)) == plain
    inside = [day for day in acquired if period.start <= day <= (period.end or day)]
    if inside:
        assert region(period=period, cadence={"dates": inside}).dates(until, [start]) == plain


def test_a_region_without_end_goes_on() -> None:
    assert region(cadence={"every_days": 30}).dates(date(2023, 3, 5)) == [
        date(2023, 1, 1),
        date(2023, 1, 31),
        date(2023, 3, 2),
    ]
    assert region().dates(date(2022, 12, 31)) == []


CHANGES: list[tuple[dict[str, Any], bool]] = [
    ({"method": "linear"}, True), ({"bands": ["red"]}, True), ({"context_days": 365}, True),
    ({"final_after_days": 5}, True),
    ({"cloud": {"snow": True}}, True), ({"cloud": {"adjacent": True}}, True),
    ({"name": "other"}, False), ({"store": "elsewhere"}, False), ({"cadence": {"every_days": 3}}, False),
    ({"look_back_days": 3}, False), ({"period": {"start": "2020-01-01"}}, False),
    ({"catalogue": {"kind": "planetary-computer"}}, False),
]  # fmt: skip


@pytest.mark.parametrize(("change", "decides"), CHANGES)
def test_the_fingerprint_knows_what_decides_an_image(change: dict[str, Any], decides: bool) -> None:
    assert (region(**change).fingerprint() != region().fingerprint()) is decides


def test_the_fingerprint_is_stable() -> None:
    fixed = region(method="linear", bands=["swir1", "red"])
    assert fixed.fingerprint() == region(method="linear", bands=["red", "swir1"]).fingerprint()
    assert fixed.fingerprint() == "a142e766c45996c32cfe4c6b3391639742f84ff150bd78742e37d1983d1e83ef"


@given(
    st.fixed_dictionaries(
        {
            "method": st.sampled_from(METHODS),
            "bands": st.lists(st.sampled_from(BANDS), min_size=1, unique=True),
            "cadence": st.one_of(
                st.builds(lambda n: {"every_days": n}, st.integers(1, 366)),
                st.just({"acquisitions": True}),
                st.lists(st.dates(date(2023, 1, 1), date(2030, 1, 1)), min_size=1, max_size=5).map(
                    lambda d: {"dates": d}
                ),
            ),
            "context_days": st.integers(16, 3650),
            "cloud": st.fixed_dictionaries({"max_cover": st.floats(0, 100), "snow": st.booleans()}),
        }
    )
)
@settings(max_examples=50, deadline=None)
def test_regions_cross_process_borders_whole(change: dict[str, Any]) -> None:
    found = region(**change)
    assert Region.model_validate_json(found.model_dump_json()) == found
    assert pickle.loads(pickle.dumps(found)) == found
    jsonschema.validate(json.loads(found.model_dump_json()), region_schema())


def test_a_region_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        region().name = "other"  # type: ignore[misc]


def test_the_schema_refuses_what_the_model_refuses() -> None:
    schema = region_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    for wrong in ({"colour": 1}, {"method": "spline"}, {"context_days": 2}, {"bands": ["nirr"]}, {"name": "A"}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**BASE, **wrong}, schema)


def test_the_schema_beside_the_regions_is_the_present_one() -> None:
    path = Path(__file__).parents[1] / "regions" / "region.schema.json"
    assert json.loads(path.read_text()) == region_schema(), "write it anew: vsat.starter.region_schema()"


def test_every_key_of_a_region_is_described() -> None:
    schema = region_schema()
    for model in (schema, *schema["$defs"].values()):
        for name, key in model["properties"].items():
            assert "description" in key or "$ref" in key or "$ref" in str(key), name


def test_the_demo_region_is_one_window_of_330_pixels() -> None:
    demo = load_region(Path(__file__).parents[1] / "regions" / "demo.yaml")
    (grid,) = demo.grids()
    assert (demo.name, grid.tile, grid.shape) == ("demo", "33UVP", (330, 330))
    assert len(demo.dates(date(2030, 1, 1))) == 34


def test_parts_can_be_made_in_code() -> None:
    assert Area(bbox=(1, 2, 3, 4)).bbox == (1.0, 2.0, 3.0, 4.0)
    assert Cadence(dates=(date(2024, 1, 2), date(2024, 1, 1))).dates == (date(2024, 1, 1), date(2024, 1, 2))
