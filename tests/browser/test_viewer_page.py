"""The viewer's page in a real browser, over a real server and real products of a small region.

Every test fails also on a request that leaves the host, on a word in the console's errors, and on an answer of 400 or more
that it did not ask for.
"""

import io
import json
import math
import shutil
import threading
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from urllib.parse import urljoin

import numpy as np
import pytest
import rasterio
import requests
import uvicorn
from PIL import Image
from rasterio.warp import transform
from viewer_region import NAME, TEXT, loaded

from regions import write_region
from vsat.config import Region, load_region
from vsat.core.indices import index
from vsat.core.masks import clear
from vsat.hls import BANDS, COMMON_NAMES, SCALE, SceneKey
from vsat.io.ledger import Ledger
from vsat.io.scenes import done_scenes, ledger_path, read_array
from vsat.viewer.app import create_app
from vsat.viewer.palettes import DARK, LIGHT

playwright_api = pytest.importorskip("playwright.sync_api")
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Route, expect, sync_playwright  # noqa: E402

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
PATIENCE_MS = 60_000
MIDDLE = (14.2175, 48.112)
FIRST, NEXT, BEFORE, LOOKED = (
    "2023-05-01",
    "2023-05-07",
    "2023-06-12",
    "2023-06-18",
)  # images; on the last of them a satellite looked, too
LAST = "2023-06-24"
WIDE, SMALL, USUAL = (1440, 900), (360, 740), (1100, 760)

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason="no chromium here; make system installs it"),
]


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Region:
    return loaded(tmp_path_factory.mktemp("viewer"))


@pytest.fixture(scope="module")
def address(region: Region, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of the region, and of another one of which nothing is made yet."""
    empty = load_region(write_region(tmp_path_factory.mktemp("empty"), "empty", text=TEXT))
    server = uvicorn.Server(uvicorn.Config(create_app([region, empty]), host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + 60
    while not server.started:
        assert time.monotonic() < until and thread.is_alive(), "the server does not start"
        time.sleep(0.05)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(30)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        expect.set_options(timeout=PATIENCE_MS)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--disable-gpu", "--disable-quic"])
        yield browser
        browser.close()


class Viewer:
    """A page on the viewer, and what went wrong in it."""

    def __init__(self, context: BrowserContext, address: str) -> None:
        self.address, self.context = address, context
        self.wrong: list[str] = []
        self.refused_is_expected = False
        self.page = self._watched(context.new_page())

    def _watched(self, page: Page) -> Page:
        page.set_default_timeout(PATIENCE_MS)
        page.on("request", lambda one: self._outside(one.url))
        page.on("pageerror", lambda error: self.wrong.append(f"error {error}"))
        page.on("console", lambda one: one.type in ("error", "warning") and self._said(one.text))
        return page

    def _outside(self, url: str) -> None:
        if not url.startswith((self.address + "/", "data:", "blob:")):
            self.wrong.append(f"request to {url}")

    def _said(self, text: str) -> None:
        if not (self.refused_is_expected and text.startswith("Failed to load resource")):
            self.wrong.append(f"console: {text}")

    def open(self, view: str = "", *, fresh: bool = False) -> Page:
        """The page at this state; `fresh` loads it in a new tab."""
        if fresh:
            self.page.close()
            self.page = self._watched(self.context.new_page())
        self.page.goto(f"{self.address}/#region={NAME}&{view}")
        self.page.reload()  # the same page with another hash is not loaded anew by itself
        self.page.wait_for_selector("html[data-ready]")
        return self.page

    def shows(self, picture: str) -> None:
        """Waits until this picture is on the screen: layer, colours, date."""
        self.page.wait_for_selector(f'#map[data-picture="{picture}"]')

    def until(self, expression: str) -> None:
        """Waits until it is true in the page. Playwright's own way needs eval, which the page's CSP forbids."""
        patience = time.monotonic() + PATIENCE_MS / 1000
        while not self.page.evaluate(expression):
            assert time.monotonic() < patience, expression
            self.page.wait_for_timeout(50)

    def picture(self) -> np.ndarray:
        """The middle of the map, uint8 (y, x, 3)."""
        box = self.page.locator("#map").bounding_box()
        assert box is not None
        half = int(min(200, box["width"] / 2 - 20, box["height"] / 2 - 60))
        clip = {"x": round(box["x"] + box["width"] / 2 - half), "y": round(box["y"] + box["height"] / 2 - half)}
        data = self.page.screenshot(clip=clip | {"width": 2 * half, "height": 2 * half})
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    def values(self) -> list[list[str]]:
        """The rows of the curve's table."""
        self.page.wait_for_selector("#plot:not(.busy) .uplot")
        rows: list[list[str]] = self.page.evaluate(
            "[...document.querySelectorAll('#values-table tbody tr')].map(r => [...r.cells].map(c => c.textContent))"
        )
        return rows


@pytest.fixture
def opened(browser: Browser, address: str) -> Iterator[Viewer]:
    context = browser.new_context(viewport={"width": USUAL[0], "height": USUAL[1]}, accept_downloads=True)
    viewer = Viewer(context, address)
    yield viewer
    context.close()
    assert viewer.wrong == []


def unlike(one: np.ndarray, other: np.ndarray) -> float:
    """Share of pixels that differ."""
    assert one.shape == other.shape
    return float((one != other).any(axis=-1).mean())


def layer(page: Page, name: str) -> Locator:
    return page.get_by_role("radio", name=name, exact=True)


def chooser(page: Page, name: str) -> Locator:
    return page.get_by_role("combobox", name=name)


def test_the_slider_changes_the_picture_and_snaps_to_dates_with_an_image(opened: Viewer) -> None:
    page = opened.open(f"date={BEFORE}")
    opened.shows(f"virtual true-colour {BEFORE}")
    first = opened.picture()
    slider = page.get_by_role("slider", name="Date of the image")
    slider.focus()
    page.keyboard.press("ArrowRight")
    opened.shows(f"virtual true-colour {LOOKED}")
    expect(page.locator("#date-text")).to_have_text("18 June 2023")
    assert unlike(first, opened.picture()) > 0.2
    page.keyboard.press("End")
    opened.shows(f"virtual true-colour {LAST}")
    assert "image provisional" in str(slider.get_attribute("aria-valuetext"))
    page.keyboard.press("Home")
    opened.shows(f"virtual true-colour {FIRST}")
    assert unlike(first, opened.picture()) > 0.2
    box = page.locator("#track").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)  # between two dates
    opened.shows("virtual true-colour 2023-05-31")
    page.get_by_role("button", name="Next date").click()
    opened.shows("virtual true-colour 2023-06-06")
    page.get_by_role("button", name="Previous date").click()
    opened.shows("virtual true-colour 2023-05-31")


def test_the_slider_marks_when_the_satellites_looked_and_where_images_are(opened: Viewer, region: Region) -> None:
    page = opened.open()
    with Ledger(ledger_path(region.home)) as ledger:
        keys = [receipt.key for receipt in done_scenes(ledger)]
    for sensor in ("L30", "S30"):
        ticks = page.locator(f"#ticks path.{sensor.lower()}").get_attribute("d") or ""
        assert ticks.count("M") == sum(sensor in key for key in keys) > 3
    assert page.locator("#ticks circle.image").count() == 10
    assert page.locator("#ticks circle.image.open").count() == 4  # June's are provisional
    box = page.locator("#ticks circle").first.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 3, box["y"] + 3)
    expect(page.locator("#track-hint")).to_contain_text("1 May 2023")


def test_a_long_record_can_be_looked_at_year_by_year(opened: Viewer) -> None:
    def longer(route: Route) -> None:
        told = route.fetch().json()
        told["looks"] = [{"date": "2016-03-04", "tile": "33UVP", "sensor": "L30", "clear": 0.5}, *told["looks"]]
        route.fulfill(json=told)

    opened.page.route(f"**/api/regions/{NAME}", longer)
    page = opened.open(f"date={FIRST}")
    slider, years = page.locator("#date"), chooser(page, "Years on the slider")
    assert slider.get_attribute("min") == str((date(2016, 3, 4) - date(1970, 1, 1)).days)
    assert years.locator("option").all_inner_texts() == ["all years", *[str(year) for year in range(2023, 2015, -1)]]
    years.select_option("2023")
    assert slider.get_attribute("min") == str((date(2023, 1, 1) - date(1970, 1, 1)).days)
    assert page.locator("#ticks circle.image").count() == 10
    assert "M" in (page.locator("#ticks path.l30").get_attribute("d") or "")
    opened.shows(f"virtual true-colour {FIRST}")
    years.select_option("2016")  # without an image: the nearest date is shown, and its year
    opened.until("document.getElementById('span').value === '2023'")


def test_every_layer_and_every_colouring_is_a_picture_of_its_own(opened: Viewer) -> None:
    page = opened.open(f"date={LOOKED}")
    opened.shows(f"virtual true-colour {LOOKED}")
    seen = {"virtual": opened.picture()}
    legends = {}
    for name, picture in {
        "Observed": "observed true-colour", "Uncertainty": "sd ndvi", "Origin": "origin", "Age": "age",
        "Difference": "difference ndvi",
    }.items():  # fmt: skip
        layer(page, name).click()
        opened.shows(f"{picture} {LOOKED}")
        page.wait_for_load_state("networkidle")
        seen[name], legends[name] = opened.picture(), page.locator("#legend").inner_text()
    assert "prior only" in legends["Origin"] and "observed that day" in legends["Origin"]
    assert "days" in legends["Age"] and "standard deviation" in legends["Uncertainty"]
    assert "Hatched" in legends["Uncertainty"] and "−0.5" in legends["Difference"]
    layer(page, "Virtual").click()
    for show in ("false-colour", "ndvi", "evi", "ndwi", "nbr", "swir1"):
        chooser(page, "Colours").select_option(show)
        opened.shows(f"virtual {show} {LOOKED}")
        seen[show] = opened.picture()
    names = sorted(seen)
    alike = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :] if unlike(seen[a], seen[b]) < 0.1]
    assert alike == []
    assert chooser(page, "Measure").input_value() == "swir1"  # the curve goes with the picture


def test_keys_go_through_the_layers(opened: Viewer) -> None:
    page = opened.open(f"date={LOOKED}")
    layer(page, "Virtual").focus()
    page.keyboard.press("ArrowRight")
    opened.shows(f"observed true-colour {LOOKED}")
    expect(layer(page, "Observed")).to_be_focused()
    page.keyboard.press("ArrowLeft")
    opened.shows(f"virtual true-colour {LOOKED}")


def test_where_no_satellite_looked_the_page_says_so_and_leads_to_a_look(opened: Viewer) -> None:
    page = opened.open(f"date={FIRST}&layer=observed")
    expect(page.locator("#seen")).to_contain_text("No look on this day")
    page.locator("#seen button").click()
    opened.shows("observed true-colour 2023-05-19")
    expect(page.locator("#seen")).to_be_empty()


def test_the_divider_shows_observed_at_the_left_and_virtual_at_the_right(opened: Viewer) -> None:
    page = opened.open(f"date={LOOKED}&layer=observed")
    opened.shows(f"observed true-colour {LOOKED}")
    observed = opened.picture()
    layer(page, "Virtual").click()
    opened.shows(f"virtual true-colour {LOOKED}")
    virtual = opened.picture()
    page.get_by_role("switch", name="Compare with observed").check()
    opened.shows(f"virtual true-colour {LOOKED} swipe")
    both, half = opened.picture(), observed.shape[1] // 2
    left, right = np.s_[:150, : half - 30], np.s_[:150, half + 30 :]  # above the handle and the names
    assert unlike(both[left], observed[left]) == 0 and unlike(both[right], virtual[right]) == 0
    assert unlike(observed[left], virtual[left]) > 0.05
    divider = page.get_by_role("slider", name="Divider between the pictures")
    divider.focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("PageUp")
    assert divider.get_attribute("aria-valuenow") == "62"
    page.keyboard.press("End")
    assert unlike(opened.picture()[:150], observed[:150]) == 0
    page.keyboard.press("Home")
    assert unlike(opened.picture()[:150], virtual[:150]) == 0
    box = page.locator("#map").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 5, box["y"] + 400)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + 400, steps=4)
    page.mouse.up()
    assert divider.get_attribute("aria-valuenow") == "25"
    opened.until("location.hash.includes('at=25')")


def test_prior_only_pixels_are_hatched_and_no_others(opened: Viewer, region: Region) -> None:
    zoom = 15  # a tile's pixel is a screen's pixel
    opened.open(f"date={FIRST}&layer=sd&measure=nir&map={zoom}/{MIDDLE[1]}/{MIDDLE[0]}")
    opened.shows(f"sd nir {FIRST}")
    picture = opened.picture()
    height, width = picture.shape[:2]
    y, x = np.mgrid[:height, :width]
    world = 256 * 2**zoom
    x = (MIDDLE[0] + 180) / 360 * world + x - width / 2 + 0.5
    turned = math.asinh(math.tan(math.radians(MIDDLE[1])))
    y = (1 - turned / math.pi) / 2 * world + y - height / 2 + 0.5
    lat = np.degrees(np.arctan(np.sinh(np.pi * (1 - 2 * y / world))))
    (path,) = _images(region, FIRST, "qa")
    with rasterio.open(path) as qa:
        easting, northing = transform("EPSG:4326", qa.crs, (x / world * 360 - 180).ravel(), lat.ravel())
        cols, rows = ~qa.transform * (np.array(easting), np.array(northing))
        origin = (qa.read(1)[rows.astype(int), cols.astype(int)] & 0b10000011).reshape(height, width)
    hatched = (picture == LIGHT).all(axis=-1) | (picture == DARK).all(axis=-1)
    prior = origin == 3
    assert 0.1 < prior.mean() < 0.9
    assert hatched[prior].mean() > 0.3  # three pixels of eight are lines
    assert hatched[~prior].mean() < 0.02  # the edges may be a pixel off
    expect(opened.page.locator("#legend")).to_contain_text("Hatched: prior only")


@pytest.mark.parametrize("measure", ["nir", "ndvi"])
def test_the_curve_of_a_place_equals_the_store(opened: Viewer, region: Region, measure: str) -> None:
    page = opened.open(f"measure={measure}")
    page.locator("#map").click()  # its middle
    expect(page.locator("#dock-facts")).to_contain_text("tile 33UVP")
    lon, lat = (float(page.get_by_label(name).input_value()) for name in ("Longitude", "Latitude"))
    assert (lon, lat) == pytest.approx(MIDDLE, abs=2e-4)
    (grid,) = region.grids()
    ((east,), (north,)) = transform("EPSG:4326", f"EPSG:{grid.epsg}", [lon], [lat])
    row, col = int((grid.y0 - north) // grid.resolution_m), int((east - grid.x0) // grid.resolution_m)
    rows = opened.values()
    virtual = {cells[0]: cells for cells in rows if cells[1] == "virtual"}
    assert len(virtual) == 10
    for day, cells in virtual.items():
        stored = _stored(region, day, row, col)
        wanted = (
            stored[BANDS.index(measure)] if measure in BANDS else index(measure, stored[:, None, None], BANDS).item()
        )
        told = math.nan if cells[2] == "–" else float(cells[2])
        assert told == pytest.approx(float(wanted), abs=6e-5, nan_ok=True), day
        if measure in BANDS:
            sd = _stored(region, day, row, col, suffix="_sd")[BANDS.index(measure)]
            assert float(cells[3].replace("–", "nan")) == pytest.approx(float(sd), abs=6e-5, nan_ok=True)
    with Ledger(ledger_path(region.home)) as ledger:
        keys = [receipt.key for receipt in done_scenes(ledger)]
    looks = [cells for cells in rows if cells[1] != "virtual"]
    assert len(looks) == len(keys)
    _looks_equal(region, looks, row, col, measure)


def _looks_equal(region: Region, looks: list[list[str]], row: int, col: int, measure: str) -> None:
    (grid,) = region.grids()
    sensors = {"Landsat": "L30", "Sentinel-2": "S30"}
    with Ledger(ledger_path(region.home)) as ledger:
        keys = {
            (one.day.isoformat(), one.sensor): one
            for one in map(SceneKey.from_string, (r.key for r in done_scenes(ledger)))
        }
    at = {"rows": slice(row, row + 1), "cols": slice(col, col + 1)}
    clear_count = 0
    for day, source, value, *_, mask in looks:
        key = keys[day, sensors[source]]
        stored = read_array(region.home, grid, [key], "reflectance", **at)[0] * SCALE
        fmask = read_array(region.home, grid, [key], "fmask", **at)[0, 0]
        is_clear = bool(clear(fmask, adjacent=region.cloud.adjacent, snow=region.cloud.snow).item())
        assert (mask == "clear") == is_clear, (day, source, mask)
        if is_clear:
            clear_count += 1
            wanted = (
                stored[BANDS.index(measure)] if measure in BANDS else index(measure, stored.astype(np.float32), BANDS)
            )
            assert float(value) == pytest.approx(wanted.item(), abs=6e-5)
    assert 0 < clear_count < len(looks)  # filled marks and hollow ones


def test_a_curve_has_bands_marks_and_words_for_who_hovers_or_uses_keys(opened: Viewer) -> None:
    page = opened.open(f"date={FIRST}&point={MIDDLE[0]},{MIDDLE[1]}&measure=nir")
    opened.values()
    plot = page.locator("#plot .u-over")
    box = plot.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page.locator(".tip")).to_be_visible()
    assert "2023" in page.locator(".tip b").inner_text()
    page.locator("#plot").focus()
    page.keyboard.press("Home")
    expect(page.locator("#plot-now")).to_contain_text("1 May 2023: virtual")
    page.keyboard.press("End")
    expect(page.locator("#plot-now")).to_contain_text("June 2023")
    page.keyboard.press("Enter")
    opened.shows(f"virtual true-colour {LAST}")
    picture = np.asarray(Image.open(io.BytesIO(plot.screenshot())).convert("RGB")).reshape(-1, 3)
    colours = {name: _colour(page, name) for name in ("curve", "l30", "s30")}
    for name, colour in colours.items():
        assert (np.abs(picture.astype(int) - colour).max(axis=1) < 12).sum() > 20, name
    page.get_by_role("button", name="Close the curve").click()
    expect(page.locator("#dock")).to_be_hidden()


def test_the_csv_has_the_values_of_the_curve(opened: Viewer) -> None:
    page = opened.open(f"point={MIDDLE[0]},{MIDDLE[1]}&measure=nir")
    rows = opened.values()
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert len(lines) == 1 + len(rows)


def test_a_place_by_keys_and_by_degrees(opened: Viewer) -> None:
    page = opened.open()
    page.locator("#map").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#dock-title")).to_contain_text("48.112")
    page.get_by_label("Longitude").fill("14,2100")
    page.get_by_label("Latitude").fill("48.1200")
    page.keyboard.press("Enter")
    expect(page.locator("#dock-title")).to_have_text("NDVI at 48.1200°\N{NO-BREAK SPACE}N, 14.2100°\N{NO-BREAK SPACE}E")
    page.get_by_label("Longitude").fill("12")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("outside the region")
    page.get_by_role("button", name="Close", exact=True).click()
    expect(page.locator("#alert")).to_be_hidden()


@pytest.mark.parametrize("by", ["pointer", "keys"])
def test_the_mean_of_an_area_comes_with_its_uncertainty(opened: Viewer, address: str, by: str) -> None:
    page = opened.open("measure=nir")
    page.get_by_role("button", name="Draw an area").click()
    if by == "pointer":
        box = page.locator("#map").bounding_box()
        assert box is not None
        middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        for across, down in ((-80, -60), (90, -50), (70, 80), (-90, 60)):
            page.mouse.click(middle[0] + across, middle[1] + down)
        page.get_by_role("button", name="Undo").click()
        expect(page.locator("#draw-text")).to_contain_text("3 corners")
        page.get_by_role("button", name="Finish").click()
    else:
        for key in ("ArrowRight", "ArrowDown", "ArrowLeft"):
            page.keyboard.press("Enter")
            page.keyboard.press(key)
            page.wait_for_timeout(600)  # the map moves softly
        page.keyboard.press("f")
    expect(page.locator("#dock-title")).to_have_text("nir, mean of the area")
    rows = opened.values()
    opened.until("location.hash.includes('area=')")
    corners = [
        [float(one) for one in place.split(",")]
        for place in page.evaluate("location.hash").split("area=")[1].split("&")[0].split(";")
    ]
    geometry = {"type": "Polygon", "coordinates": [[*corners, corners[0]]]}
    told = requests.post(
        f"{address}/api/regions/{NAME}/statistics", json={"geometry": geometry, "show": "nir"}, timeout=60
    ).json()
    assert len(rows) == len([one for one in told["dates"] if one["mean"] is not None]) == 10
    for cells, one in zip(rows, told["dates"], strict=True):
        numbers = [one["mean"], one["sd"], one["sd_independent"], one["p10"], one["p90"]]
        assert [float(cell) for cell in cells[1:6]] == pytest.approx(
            numbers, abs=2e-3
        )  # the address holds five decimals
        assert one["sd"] >= one["sd_independent"] > 0
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV").click()
    assert len(Path(download.value.path()).read_text().splitlines()) == 11


def test_drawing_can_be_given_up(opened: Viewer) -> None:
    page = opened.open()
    page.get_by_role("button", name="Draw an area").click()
    page.locator("#map").click()
    expect(page.locator("#draw-text")).to_contain_text("1 of at least 3")
    page.locator("#map").focus()
    page.keyboard.press("Escape")
    expect(page.locator("#draw-bar")).to_be_hidden()
    expect(page.locator("#dock")).to_be_hidden()


def test_dates_play_and_pause_and_the_gif_has_them_all(opened: Viewer, address: str) -> None:
    page = opened.open(f"date={FIRST}")
    chooser(page, "Speed").select_option("8")
    page.get_by_role("button", name="Play").click()
    opened.shows(f"virtual true-colour {LAST}")  # it goes on from the first again
    page.get_by_role("button", name="Pause").click()
    page.wait_for_load_state("networkidle")
    held = page.locator("#date-text").inner_text()
    page.wait_for_timeout(600)
    assert page.locator("#date-text").inner_text() == held
    link = page.get_by_role("link", name="GIF").get_attribute("href")
    assert link is not None
    answer = requests.get(urljoin(address, link), timeout=120)
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/gif"
    assert getattr(Image.open(io.BytesIO(answer.content)), "n_frames", 1) == 10


def test_the_address_holds_what_is_seen(opened: Viewer) -> None:
    page = opened.open()
    layer(page, "Uncertainty").click()
    chooser(page, "Measure").select_option("nir")
    slider = page.get_by_role("slider", name="Date of the image")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    opened.shows(f"sd nir {LOOKED}")
    page.locator("#map").click()
    opened.values()
    page.get_by_role("button", name="Zoom in").click()
    opened.until("location.hash.includes('map=')")
    seen = page.evaluate("location.hash")
    page.wait_for_timeout(800)  # the zoom comes to rest
    picture = opened.picture()
    opened.open(seen.removeprefix(f"#region={NAME}&"), fresh=True)
    opened.shows(f"sd nir {LOOKED}")
    opened.values()
    again = opened.page.evaluate("location.hash")
    assert _without_map(again) == _without_map(seen)
    assert _map_of(again) == pytest.approx(_map_of(seen), abs=2e-4)  # the middle is that of a pixel
    assert unlike(picture, opened.picture()) < 0.01
    opened.page.evaluate("location.hash = 'layer=origin&date=2023-05-07'")  # a link pasted into the open page
    opened.shows(f"origin {NEXT}")


def test_the_status_shows_tiles_dates_and_the_last_night(opened: Viewer, address: str) -> None:
    page = opened.open()
    page.get_by_role("link", name="Status").click()
    told = requests.get(f"{address}/api/regions/{NAME}/status", timeout=60).json()
    cells = page.locator(".grid td")
    expect(cells).to_have_count(len(told["tiles"]) * len(told["dates"]))
    shown = page.evaluate(
        "[...document.querySelectorAll('.grid tbody tr')].map(r => [...r.querySelectorAll('td')].map(c => c.dataset.state))"
    )
    assert shown == [list(row) for row in zip(*told["grid"], strict=True)]  # a row per tile
    night = page.locator("section", has_text="The last night").last.inner_text()
    assert "29 Jun 2023" in night and str(told["night"]["outcome"]) in night
    cells.first.focus()
    page.keyboard.press("ArrowRight")
    expect(cells.nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    opened.shows(f"virtual true-colour {told['dates'][1]}")
    expect(page.locator("#map")).to_be_visible()


def test_a_region_without_images_says_so(opened: Viewer) -> None:
    page = opened.open()
    chooser(page, "Region").select_option("empty")
    expect(page.locator("#seen")).to_contain_text("No virtual image yet")
    page.get_by_role("link", name="Status").click()
    expect(page.locator("#status-view")).to_contain_text("No night has run yet")
    expect(page.locator("#date-text")).to_have_text("No image yet")
    chooser(page, "Region").select_option(NAME)
    page.get_by_role("link", name="Map", exact=True).click()
    opened.shows(f"virtual true-colour {LAST}")


def test_light_and_dark_follow_the_machine_and_the_switch(browser: Browser, address: str) -> None:
    context = browser.new_context(color_scheme="dark")
    viewer = Viewer(context, address)
    page = viewer.open()
    dark = _colour(page, "paper").mean()
    switch = page.get_by_role("button", name="Dark colours")
    assert switch.get_attribute("aria-pressed") == "true" and dark < 60
    switch.click()
    assert _colour(page, "paper").mean() > 200
    page = viewer.open(fresh=True)
    assert _colour(page, "paper").mean() > 200  # the choice is kept
    context.close()
    assert viewer.wrong == []


@pytest.mark.parametrize("size", [WIDE, SMALL], ids=["1440", "360"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser: Browser, address: str, size: tuple[int, int], scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
    viewer = Viewer(context, address)
    page = viewer.open(f"date={LOOKED}&point={MIDDLE[0]},{MIDDLE[1]}&swipe=1")
    viewer.values()
    viewer.shows(f"virtual true-colour {LOOKED} swipe")
    found = [("curve", axe.run(page).response)]
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    page.get_by_text("Values as a table").click()
    layer(page, "Origin").click()
    page.get_by_role("button", name="Draw an area").click()
    found.append(("drawing", axe.run(page).response))
    page.get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Help").click()
    found.append(("help", axe.run(page).response))
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    page.get_by_role("link", name="Status").click()
    page.wait_for_selector(".grid td")
    found.append(("status", axe.run(page).response))
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    context.close()
    assert viewer.wrong == []
    bad = [
        (view, one["id"], [node["html"][:200] for node in one["nodes"]])
        for view, response in found
        for one in response["violations"]
        if one["impact"] in ("serious", "critical")
    ]
    assert bad == [], json.dumps(bad, indent=1)


def _colour(page: Page, name: str) -> np.ndarray:
    """A colour of the style sheet as it is now, (3,)."""
    script = """(name) => {
        const probe = document.createElement("i");
        document.body.append(probe);
        probe.style.color = `var(--${name})`;
        const found = getComputedStyle(probe).color;
        probe.remove();
        return found;
    }"""
    told = page.evaluate(script, name)
    return np.array([float(one) for one in told.removeprefix("rgb(").rstrip(")").split(",")[:3]])


def _without_map(state: str) -> list[str]:
    return [part for part in state.split("&") if not part.startswith("map=")]


def _map_of(state: str) -> list[float]:
    (found,) = [part for part in state.split("&") if part.startswith("map=")]
    return [float(one) for one in found.removeprefix("map=").split("/")]


def _images(region: Region, day: str, key: str) -> list[Path]:
    return sorted(Path(str(region.home)).glob(f"**/VSAT.*.{_ordinal(day)}.v*.{key}.tif"))


def _ordinal(day: str) -> str:
    told = time.strptime(day, "%Y-%m-%d")
    return f"{told.tm_year}{told.tm_yday:03d}"


def _stored(region: Region, day: str, row: int, col: int, suffix: str = "") -> np.ndarray:
    """The image's values of a pixel in all bands, float32 (band,), NaN where there is none."""
    values = []
    for band in BANDS:
        with rasterio.open(_images(region, day, COMMON_NAMES[band] + suffix)[-1]) as file:
            value = file.read(1)[row, col]
            values.append(np.nan if value == file.nodata else value * SCALE)
    return np.array(values, np.float32)
