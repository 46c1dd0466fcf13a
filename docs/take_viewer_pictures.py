"""Pictures of the viewer's page for the documents, of the demo's images; `make demo` makes those.

    python docs/take_viewer_pictures.py [--region regions/demo.yaml] [--out docs/viewer] [--browser /usr/bin/chromium]

Needs playwright and a Chromium. The pictures have 256 colours, a third of the bytes.
"""

import argparse
import io
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from vsat.config import Region, load_region
from vsat.viewer.app import create_app

ROOT = Path(__file__).parents[1]
WIDE, SMALL = (1440, 900), (360, 1180)
FIELD = "14.21500,48.16050"
AREA = "14.2360,48.1500;14.2475,48.1505;14.2465,48.1440;14.2355,48.1435"
PATIENCE_S = 60


@dataclass(frozen=True)
class Picture:
    """What the page is asked to show, and how."""

    name: str
    state: str
    size: tuple[int, int] = WIDE
    scheme: str = "light"
    hover: float | None = None  # over the curve, at this share of its width


PICTURES = (
    Picture("curve", f"date=2023-06-26&point={FIELD}&map=13.5/48.1540/14.2570", hover=0.9697),
    Picture("swipe", "date=2023-07-29&swipe=1&at=46&map=13/48.1450/14.2657", scheme="dark"),
    Picture("uncertainty", f"date=2023-01-23&layer=sd&measure=ndvi&point={FIELD}", scheme="dark"),
    Picture("area", f"date=2023-05-13&show=ndvi&area={AREA}&map=13.5/48.1420/14.2470"),
    Picture("phone", f"date=2023-08-09&point={FIELD}", size=SMALL),
    Picture("status", "view=status", size=(1440, 520)),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--region", type=Path, default=ROOT / "regions" / "demo.yaml")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "viewer")
    parser.add_argument("--browser", default="/usr/bin/chromium")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    region = load_region(given.region)
    with serving(region) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=given.browser)
        for picture in PICTURES:
            path = given.out / f"{picture.name}.png"
            take(browser, f"{address}/#region={region.name}&{picture.state}", picture, path)
            print(f"{path} {path.stat().st_size / 1000:.0f} kB")
        browser.close()


@contextmanager
def serving(region: Region) -> Iterator[str]:
    """The viewer of this region on a free port."""
    server = uvicorn.Server(uvicorn.Config(create_app([region]), port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until = time.monotonic() + PATIENCE_S
    while not server.started:
        if time.monotonic() > until:
            raise SystemExit("the viewer does not start")
        time.sleep(0.05)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(PATIENCE_S)


def take(browser: Browser, address: str, picture: Picture, path: Path) -> None:
    """The page at this address as a picture in a file."""
    width, height = picture.size
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=picture.scheme)  # type: ignore[arg-type]
    page.goto(address)
    page.wait_for_selector("html[data-ready]")
    if "view=status" not in picture.state:
        page.wait_for_selector("#map[data-picture]")
    _settle(page)
    if picture.hover is not None:
        box = page.locator("#plot .u-over").bounding_box()
        if box:
            page.mouse.move(box["x"] + picture.hover * box["width"], box["y"] + box["height"] / 2)
    _settle(page)
    shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    shot.quantize(palette=_palette(shot, page), dither=Image.Dither.NONE).save(path, optimize=True)
    page.close()


def _palette(shot: Image.Image, page: Page) -> Image.Image:
    """256 colours: 128 for the map and as many for all else, whose few coloured marks would be lost among the ground's."""
    box = page.locator("#map").bounding_box()
    if box is None or box["width"] == 0:
        return shot.quantize(256)
    corners = [round(one) for one in (box["x"], box["y"], box["x"] + box["width"], box["y"] + box["height"])]
    ground, rest = shot.crop((corners[0], corners[1], corners[2], min(corners[3], shot.height))), shot.copy()
    rest.paste(rest.getpixel((0, 0)), (corners[0], corners[1], corners[2], corners[3]))
    colours = [one.quantize(128, kmeans=2).getpalette() or [] for one in (ground, rest)]
    made = Image.new("P", (1, 1))
    made.putpalette([value for some in colours for value in (some + [0] * 384)[:384]])
    return made


def _settle(page: Page) -> None:
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(500)


if __name__ == "__main__":
    main()
