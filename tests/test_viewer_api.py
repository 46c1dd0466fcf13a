"""What the viewer answers about a region is what lies in its stores, pixel for pixel."""

import csv
import io
import shutil
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pyproj import Transformer
from starlette.testclient import TestClient
from viewer_region import END, LAST_NIGHT, NAME, START, loaded

from vsat.config import Region
from vsat.core.indices import INDICES, index, index_sd
from vsat.core.masks import clear
from vsat.hls import BANDS, FILL, SCALE
from vsat.io.ledger import Ledger
from vsat.io.publish import VirtualImage, read_image
from vsat.io.scenes import ledger_path, read_scenes, scene_keys
from vsat.stages.generate import KIND
from vsat.viewer.app import create_app
from vsat.viewer.layers import scale_of
from vsat.viewer.mercator import tile_view
from vsat.viewer.palettes import HATCH_DARK, HATCH_LIGHT, STEPS

AT = f"/api/regions/{NAME}"
ZOOM, X, Y = 14, 8839, 5687  # in the middle of the region
LON, LAT = 14.2171, 48.1132
FINAL, PARTLY = "2023-05-13", "2023-06-18"  # a third of its pixels prior only; half of them observed that day
RING = [[14.21, 48.105], [14.225, 48.105], [14.225, 48.118], [14.21, 48.118], [14.21, 48.105]]


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Region:
    return loaded(tmp_path_factory.mktemp("viewer"))


@pytest.fixture(scope="module")
def client(region: Region) -> TestClient:
    return TestClient(create_app([region], hosts=(), threads=2), base_url="http://127.0.0.1:4300")


def of_store(region: Region, day: str) -> VirtualImage:
    return read_image(region.home, region.grids()[0].tile, date.fromisoformat(day))


def picture(client: TestClient, address: str) -> Image.Image:
    answer = client.get(f"{AT}/tiles/{address}")
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/png", answer.text
    return Image.open(io.BytesIO(answer.content))


def under_tile(region: Region) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row and column of the region's grid at each pixel of the tile, by the projections alone, and which are inside."""
    (grid,), view = region.grids(), tile_view(ZOOM, X, Y)
    x = view.west + (np.arange(256) + 0.5) * (view.east - view.west) / 256
    y = view.north - (np.arange(256) + 0.5) * (view.north - view.south) / 256
    easting, northing = Transformer.from_crs(3857, grid.epsg, always_xy=True).transform(*np.meshgrid(x, y))
    row, col = np.floor((grid.y0 - northing) / 30).astype(int), np.floor((easting - grid.x0) / 30).astype(int)
    inside = (row >= 0) & (row < grid.height) & (col >= 0) & (col < grid.width)
    return row.clip(0, grid.height - 1), col.clip(0, grid.width - 1), inside


def codes_of(values: np.ndarray, layer: str, show: str) -> np.ndarray:
    scale = scale_of(layer, show)
    assert scale is not None
    share = np.clip((values - scale.low) / (scale.top - scale.low), 0, 1)
    return np.where(np.isnan(values), 0, 1 + np.rint(np.nan_to_num(share) * (STEPS - 1)))


def reflectance(stored: np.ndarray) -> np.ndarray:
    return np.where(stored == FILL, np.nan, stored * np.float32(SCALE)).astype(np.float32)


def test_regions_and_their_dates(client: TestClient, region: Region) -> None:
    (listed,) = client.get("/api/regions").json()["regions"]
    assert listed["id"] == NAME and listed["bounds"] == [14.2, 48.1, 14.235, 48.124]
    assert (listed["images"], listed["first"], listed["last"]) == (10, "2023-05-01", "2023-06-24")
    assert listed["tiles"] == ["33UVP"] and listed["bands"] == list(BANDS) and listed["method"] == "linear"
    told = client.get(AT).json()
    assert {name: told[name] for name in listed} == listed
    by_day = {one["date"]: one for one in told["dates"]}
    assert by_day[FINAL]["status"] == "final" and by_day[PARTLY]["status"] == "provisional"
    observed = (of_store(region, PARTLY).qa_yx & 0b10000011) == 0
    assert by_day[PARTLY]["observed"] == pytest.approx(observed.mean(), abs=1e-6)
    with Ledger(ledger_path(region.home)) as ledger:
        keys = scene_keys(ledger, "33UVP")
    assert [(one["date"], one["sensor"]) for one in told["looks"]] == [(str(key.day), key.sensor) for key in keys]
    assert all(0 <= one["clear"] <= 1 for one in told["looks"])


@pytest.mark.parametrize("show", ["nir", "ndvi", "nbr"])
def test_the_picture_is_the_store(client: TestClient, region: Region, show: str) -> None:
    got = np.asarray(picture(client, f"virtual/{PARTLY}/{ZOOM}/{X}/{Y}.png?show={show}&hatch=false"))
    refl = reflectance(of_store(region, PARTLY).refl_byx)
    values = index(show, refl, BANDS) if show in INDICES else refl[BANDS.index(show)]
    row, col, inside = under_tile(region)
    want = np.where(inside, codes_of(values, "virtual", show)[row, col], 0)
    assert inside.mean() > 0.5
    assert (got == want).mean() > 0.995  # at the edges of pixels the hundredth of one decides


def test_other_layers_are_the_store_too(client: TestClient, region: Region) -> None:
    row, col, inside = under_tile(region)
    image = of_store(region, FINAL)
    refl, sd = reflectance(image.refl_byx), reflectance(image.sd_byx)
    origin = np.where(image.qa_yx & 128, 255, image.qa_yx & 3).astype(float)
    age = np.where(image.age_lyx[:2] == FILL, np.inf, image.age_lyx[:2]).min(0).astype(float)
    layers = {
        "origin?": np.where(origin == 255, 0, origin + 1),
        "age?": codes_of(np.where(np.isfinite(age), age, np.nan), "age", "nir"),
        "sd?hatch=false&show=red": codes_of(sd[2], "sd", "red"),
        "sd?hatch=false&show=ndvi": codes_of(index_sd("ndvi", refl, sd, BANDS), "sd", "ndvi"),
    }
    for name, codes in layers.items():
        layer, query = name.split("?")
        got = np.asarray(picture(client, f"{layer}/{FINAL}/{ZOOM}/{X}/{Y}.png?{query}"))
        assert (got == np.where(inside, codes[row, col], 0)).mean() > 0.995, name
        assert len(np.unique(got)) > 2, name


def test_what_is_prior_only_is_hatched_and_nothing_else(client: TestClient, region: Region) -> None:
    row, col, inside = under_tile(region)
    qa = of_store(region, FINAL).qa_yx
    prior = (((qa & 3) == 3) & (qa < 128))[row, col] & inside
    for layer in ("virtual", "sd"):
        plain = np.asarray(picture(client, f"{layer}/{FINAL}/{ZOOM}/{X}/{Y}.png?show=nir&hatch=false"))
        drawn = np.asarray(picture(client, f"{layer}/{FINAL}/{ZOOM}/{X}/{Y}.png?show=nir"))
        lines = np.isin(drawn, (HATCH_LIGHT, HATCH_DARK))
        assert not np.isin(plain, (HATCH_LIGHT, HATCH_DARK)).any()
        assert (drawn[~lines] == plain[~lines]).all()
        assert lines[prior].mean() == pytest.approx(3 / 8, abs=0.05) and lines[~prior].mean() < 0.005
    colour = [np.asarray(picture(client, f"virtual/{FINAL}/{ZOOM}/{X}/{Y}.png?hatch={on}")) for on in ("true", "false")]
    differs = (colour[0] != colour[1]).any(-1)
    assert differs[prior].mean() == pytest.approx(3 / 8, abs=0.05) and differs[~prior].mean() < 0.005


def test_true_colour_is_transparent_where_there_is_nothing(client: TestClient, region: Region) -> None:
    row, col, inside = under_tile(region)
    image = of_store(region, FINAL)
    there = ((image.qa_yx < 128) & (image.refl_byx[:3] != FILL).all(0))[row, col] & inside
    got = np.asarray(picture(client, f"virtual/{FINAL}/{ZOOM}/{X}/{Y}.png?hatch=false"))
    assert ((got[..., 3] == 255) == there).mean() > 0.995
    red = np.sqrt(np.clip(reflectance(image.refl_byx[2]) / 0.24, 0, 1)) * 255
    near = np.abs(got[..., 0] - np.nan_to_num(red)[row, col]) <= 1
    assert near[there].mean() > 0.99
    far = client.get(f"{AT}/tiles/virtual/{FINAL}/{ZOOM}/{X + 300}/{Y}.png")
    assert far.status_code == 200 and not np.asarray(Image.open(io.BytesIO(far.content)))[..., 3].any()
    double = picture(client, f"virtual/{FINAL}/{ZOOM}/{X}/{Y}.png?scale=2&hatch=false")
    assert double.size == (512, 512)


def test_observed_is_what_was_seen_and_difference_is_between_both(client: TestClient, region: Region) -> None:
    (grid,) = region.grids()
    with Ledger(ledger_path(region.home)) as ledger:
        keys = [key for key in scene_keys(ledger, grid.tile) if str(key.day) == PARTLY]
    refl_tbyx, _ = read_scenes(region.home, grid, keys)
    row, col, inside = under_tile(region)
    seen = reflectance(refl_tbyx[0, 3])
    got = np.asarray(picture(client, f"observed/{PARTLY}/{ZOOM}/{X}/{Y}.png?show=nir"))
    assert (got == np.where(inside, codes_of(seen, "observed", "nir")[row, col], 0)).mean() > 0.995
    made = reflectance(of_store(region, PARTLY).refl_byx[3])
    got = np.asarray(picture(client, f"difference/{PARTLY}/{ZOOM}/{X}/{Y}.png?show=nir"))
    assert (got == np.where(inside, codes_of(made - seen, "difference", "nir")[row, col], 0)).mean() > 0.995
    both = client.get(f"{AT}/tiles/observed/2023-06-23/{ZOOM}/{X}/{Y}.png")  # two sensors on one day
    assert both.status_code == 200


def test_small_scales_show_overviews_of_the_whole(client: TestClient) -> None:
    for zoom in (0, 3, 6, 9, 11):
        shift = ZOOM - zoom
        got = np.asarray(picture(client, f"virtual/{PARTLY}/{zoom}/{X >> shift}/{Y >> shift}.png?show=nir"))
        assert (got > 0).any() or zoom < 6
    tight = np.asarray(picture(client, f"virtual/{PARTLY}/20/{X << 6}/{Y << 6}.png?show=nir&hatch=false"))
    assert 1 <= len(np.unique(tight)) <= 9  # one or a few pixels fill the tile


@pytest.mark.parametrize("address", [
    f"tiles/virtual/2023-05-02/{ZOOM}/{X}/{Y}.png", f"tiles/observed/2023-05-02/{ZOOM}/{X}/{Y}.png",
    f"tiles/difference/{FINAL}/{ZOOM}/{X}/{Y}.png?show=nir", f"tiles/virtual/{FINAL}/3/8/0.png",
    "series?lon=0&lat=0&show=nir", "animation.gif?start=2030-01-01",
])  # fmt: skip
def test_what_is_not_there_is_not_found(client: TestClient, address: str) -> None:
    answer = client.get(f"{AT}/{address}")
    told = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert told["status"] == 404 and told["detail"] and told["instance"].startswith(AT)


@pytest.mark.parametrize("address", [
    f"tiles/sd/{FINAL}/{ZOOM}/{X}/{Y}.png", f"tiles/virtual/2023-02-30/{ZOOM}/{X}/{Y}.png", "legend/sd?show=true-colour",
    f"tiles/virtual/{FINAL}/21/0/0.png", "series?lon=14.2&lat=nan&show=nir", "series?lon=14.2&lat=48.1&show=nirr",
    "series?lon=14.2171&lat=48.1132&show=nir&start=2023-06-01&end=2023-05-01", "animation.gif?bbox=1,2,3",
    "animation.gif?bbox=1,2,1,3", "animation.gif?width=5000",
])  # fmt: skip
def test_what_cannot_be_used_is_told(client: TestClient, address: str) -> None:
    answer = client.get(f"{AT}/{address}")
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json"), answer.text


def test_an_unchanged_picture_is_not_sent_again(client: TestClient) -> None:
    address = f"{AT}/tiles/virtual/{FINAL}/{ZOOM}/{X}/{Y}.png?show=nir"
    tag = client.get(address).headers["etag"]
    again = client.get(address, headers={"If-None-Match": tag})
    assert again.status_code == 304 and not again.content and again.headers["etag"] == tag
    assert client.get(address + "&hatch=false").headers["etag"] != tag


def test_the_series_is_the_stores(client: TestClient, region: Region) -> None:
    (grid,) = region.grids()
    for show in ("nir", "ndvi"):
        told = client.get(f"{AT}/series?lon={LON}&lat={LAT}&show={show}").json()
        row, col = told["row"], told["col"]
        x, y = Transformer.from_crs(4326, grid.epsg, always_xy=True).transform(LON, LAT)
        assert (row, col) == (int((grid.y0 - y) // 30), int((x - grid.x0) // 30))
        with Ledger(ledger_path(region.home)) as ledger:
            keys = scene_keys(ledger, grid.tile)
        refl_tb, fmask_t = (a[..., row, col] for a in read_scenes(region.home, grid, keys))
        want = index(show, reflectance(refl_tb).T, BANDS) if show in INDICES else reflectance(refl_tb)[:, 3]
        assert [one["clear"] for one in told["observed"]] == clear(fmask_t).tolist()
        assert [one["value"] for one in told["observed"]] == numbers(want)
        assert all((one["why"] is None) == one["clear"] for one in told["observed"])
        days = [date.fromisoformat(one["date"]) for one in told["virtual"]]
        made = [read_image(region.home, grid.tile, day) for day in days]
        refl, sd = (
            np.stack([reflectance(getattr(one, n)[:, row, col]) for one in made], 1) for n in ("refl_byx", "sd_byx")
        )
        value = index(show, refl, BANDS) if show in INDICES else refl[3]
        spread = index_sd(show, refl, sd, BANDS) if show in INDICES else sd[3]
        assert [one["value"] for one in told["virtual"]] == numbers(value)
        assert [one["sd"] for one in told["virtual"]] == numbers(spread)
        assert [one["origin"] for one in told["virtual"]] == [int(one.qa_yx[row, col] & 3) for one in made]
        for one in told["virtual"]:
            assert one["q95"] - one["q05"] == pytest.approx(2 * 1.644854 * one["sd"], abs=1e-4)
            assert one["q75"] - one["value"] == pytest.approx(0.67449 * one["sd"], abs=1e-4)


def numbers(values: np.ndarray) -> list[Any]:
    return [None if np.isnan(one) else pytest.approx(float(one), abs=2e-6) for one in values]


def test_a_part_of_the_series_and_its_table(client: TestClient) -> None:
    address = f"{AT}/series?lon={LON}&lat={LAT}&show=nir&start=2023-05-20&end=2023-06-10"
    told = client.get(address).json()
    days = [one["date"] for one in told["observed"] + told["virtual"]]
    assert days and all("2023-05-20" <= day <= "2023-06-10" for day in days)
    answer = client.get(address + "&format=csv")
    assert (
        answer.headers["content-type"].startswith("text/csv") and "attachment" in answer.headers["content-disposition"]
    )
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["date"] for row in rows] == days
    assert float(rows[-1]["value"]) == told["virtual"][-1]["value"]


def test_statistics_are_those_of_the_pixels_inside(client: TestClient, region: Region) -> None:
    (grid,) = region.grids()
    body = {"geometry": {"type": "Polygon", "coordinates": [RING]}, "show": "nir", "start": FINAL, "end": FINAL}
    told = client.post(f"{AT}/statistics", json=body).json()
    x, y = np.meshgrid(grid.x0 + 30 * (np.arange(grid.width) + 0.5), grid.y0 - 30 * (np.arange(grid.height) + 0.5))
    lon, lat = Transformer.from_crs(grid.epsg, 4326, always_xy=True).transform(x, y)
    inside = (lon > 14.21) & (lon < 14.225) & (lat > 48.105) & (lat < 48.118)
    assert abs(told["pixels"] - inside.sum()) <= 2 and told["hectares"] == pytest.approx(
        0.09 * told["pixels"], abs=0.01
    )
    image = of_store(region, FINAL)
    values, sd = (reflectance(stored[3])[inside] for stored in (image.refl_byx, image.sd_byx))
    origin = (image.qa_yx & 3)[inside][np.isfinite(values)]
    values, sd = values[np.isfinite(values)], sd[np.isfinite(values)]
    (one,) = told["dates"]
    assert one["values"] == pytest.approx(values.size, abs=2)
    assert one["mean"] == pytest.approx(values.mean(), abs=1e-4) and one["sd"] == pytest.approx(sd.mean(), abs=1e-4)
    assert one["sd_independent"] == pytest.approx(np.sqrt((sd**2).sum()) / sd.size, rel=0.01)
    assert (one["p10"], one["p90"]) == pytest.approx(np.percentile(values, (10, 90)), abs=1e-3)
    assert one["origins"] == pytest.approx(np.bincount(origin, minlength=4) / origin.size, abs=2e-3)
    whole = client.post(f"{AT}/statistics", json={"geometry": body["geometry"], "show": "ndvi"}).json()
    assert len(whole["dates"]) == 10 and all(one["sd_independent"] < one["sd"] for one in whole["dates"])
    table = client.post(f"{AT}/statistics?format=csv", json=body).text.splitlines()
    assert len(table) == 2 and table[0].startswith("date,values,mean") and table[1].startswith(FINAL)


@pytest.mark.parametrize("ring", [
    [[0, 0], [1, 0], [1, 1], [0, 0]], [[14.21, 48.11], [14.21001, 48.11], [14.21001, 48.11001], [14.21, 48.11]],
    [[14.21, 48.11], [14.22, 48.12], [14.22, 48.11], [14.21, 48.12], [14.21, 48.11]], [[14.2], [14.3], [14.4], [14.2]],
    [[14.2, 48.1], [14.3, 48.1]], [[1e300, 0], [1e301, 0], [1, 1], [1e300, 0]],
])  # fmt: skip
def test_areas_that_are_none(client: TestClient, ring: list[list[float]]) -> None:
    answer = client.post(f"{AT}/statistics", json={"geometry": {"type": "Polygon", "coordinates": [ring]}})
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json"), answer.text


def test_the_animation_has_a_frame_per_date(client: TestClient) -> None:
    answer = client.get(f"{AT}/animation.gif?width=200")
    film = Image.open(io.BytesIO(answer.content))
    assert answer.headers["content-type"] == "image/gif" and answer.headers["x-vsat-frames"] == "10 of 10"
    assert film.n_frames == 10 and film.width == 200 and 180 < film.height < 230
    frames = []
    for number in range(film.n_frames):
        film.seek(number)
        frames.append(np.asarray(film.convert("RGB")))
    corner = [frame[-22:, :90] for frame in frames]  # where the date is written
    assert all((one != other).any() for one, other in pairwise(corner))
    part = client.get(
        f"{AT}/animation.gif?width=100&bbox=14.21,48.105,14.22,48.12&start={FINAL}&end=2023-06-01&show=ndvi"
    )
    assert Image.open(io.BytesIO(part.content)).n_frames == 4


def test_legends_say_what_the_colours_mean(client: TestClient) -> None:
    told = client.get(f"{AT}/legend/virtual?show=ndvi").json()
    assert (told["kind"], told["min"], told["max"], told["unit"]) == ("continuous", -0.2, 1.0, "index")
    assert all(len(colour) == 7 for colour in told["colours"]) and len(set(told["colours"])) == len(told["colours"]) > 8
    origin = client.get(f"{AT}/legend/origin").json()
    assert origin["kind"] == "classes" and [one["value"] for one in origin["classes"]] == [0, 1, 2, 3]
    drawn = picture(client, f"origin/{FINAL}/{ZOOM}/{X}/{Y}.png").convert("RGBA")
    shown = {"#{:02x}{:02x}{:02x}".format(*rgba[:3]) for _, rgba in drawn.getcolors() if rgba[3]}
    assert shown <= {one["colour"] for one in origin["classes"]} and origin["classes"][3]["colour"] in shown
    composite = client.get(f"{AT}/legend/virtual?show=false-colour").json()
    assert [one["label"].split(",")[0] for one in composite["classes"]] == ["red: nir", "green: red", "blue: green"]


def test_the_status_is_the_grid_and_the_last_night(client: TestClient) -> None:
    told = client.get(f"{AT}/status").json()
    assert told["watermark"] == told["night"]["day"] == LAST_NIGHT.isoformat()
    assert told["night"]["outcome"] == "done" and told["night"]["counts"]["images_made"] == 10
    assert len(told["dates"]) == len(told["grid"]) and told["tiles"] == ["33UVP"]
    cells = dict(zip(told["dates"], (row[0] for row in told["grid"]), strict=True))
    assert (cells[FINAL], cells[PARTLY]) == ("final", "provisional")


def test_images_that_go_stale_or_missing_are_seen_at_once(region: Region, tmp_path: Path) -> None:
    moved = region.model_copy(update={"store": tmp_path})
    shutil.copytree(region.home, tmp_path / NAME)
    client = TestClient(create_app([moved], hosts=(), threads=1), base_url="http://localhost")
    before = client.get(f"{AT}/status").json()
    with Ledger(ledger_path(moved.home)) as ledger:
        ledger.delete(KIND, f"33UVP/{FINAL}")
    after = client.get(f"{AT}/status").json()
    assert before["dates"] == after["dates"] and FINAL not in [one["date"] for one in client.get(AT).json()["dates"]]
    assert dict(zip(after["dates"], after["grid"], strict=True))[FINAL] == ["missing"]
    other = moved.model_copy(update={"method": "harmonic", "context_days": 90})
    stale = TestClient(create_app([other], hosts=(), threads=1), base_url="http://localhost").get(f"{AT}/status").json()
    assert dict(zip(stale["dates"], stale["grid"], strict=True))[PARTLY] == ["stale"]


def test_a_region_without_anything_is_empty_and_stays_untouched(region: Region, tmp_path: Path) -> None:
    bare = region.model_copy(update={"store": tmp_path / "none"})
    client = TestClient(create_app([bare], hosts=(), threads=1), base_url="http://localhost")
    assert client.get(AT).json()["dates"] == [] and client.get("/api/regions").json()["regions"][0]["first"] is None
    assert client.get(f"{AT}/status").json()["grid"] == []
    told = client.get(f"{AT}/series?lon={LON}&lat={LAT}&show=nir").json()
    assert told["observed"] == told["virtual"] == []
    assert not (tmp_path / "none").exists()


def test_a_band_that_the_region_lacks_is_told(region: Region) -> None:
    narrow = region.model_copy(update={"bands": ("red", "nir")})
    client = TestClient(create_app([narrow], hosts=(), threads=1), base_url="http://localhost")
    for address in (f"tiles/virtual/{FINAL}/{ZOOM}/{X}/{Y}.png?show=evi", f"series?lon={LON}&lat={LAT}&show=evi"):
        answer = client.get(f"{AT}/{address}")
        assert answer.status_code == 422 and "blue" in answer.json()["detail"]
    assert client.get(f"{AT}/tiles/observed/{PARTLY}/{ZOOM}/{X}/{Y}.png?show=evi").status_code == 200


def test_a_lost_image_is_told_without_the_place(region: Region, tmp_path: Path) -> None:
    moved = region.model_copy(update={"store": tmp_path})
    shutil.copytree(region.home, tmp_path / NAME)
    for path in (tmp_path / NAME / "images").rglob("*.nir08.tif"):
        path.unlink()
    client = TestClient(create_app([moved], hosts=(), threads=1), base_url="http://localhost")
    answer = client.get(f"{AT}/series?lon={LON}&lat={LAT}&show=nir")
    assert answer.status_code == 503 and "missing" in answer.json()["detail"] and str(tmp_path) not in answer.text


def test_the_period_is_what_the_tests_think() -> None:
    assert (date(2023, 5, 1), date(2023, 6, 30)) == (START, END)
