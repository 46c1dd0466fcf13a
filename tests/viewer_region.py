"""A small region with images, for tests of what people see: every origin is there, prior only among them.

The archive begins on 17 May, so that the images of May rest on two weeks of looks, and many pixels on fewer than three.
"""

from datetime import date
from pathlib import Path

from regions import write_archive, write_region
from vsat.config import Region, load_region
from vsat.stages.nightly import nightly

NAME = "meadow"
START, END, LOOKS_FROM = date(2023, 5, 1), date(2023, 6, 30), date(2023, 5, 17)
LAST_NIGHT = date(2023, 6, 29)  # images of May are final then, those of June provisional
TEXT = """
name: {name}
area: {{bbox: [14.2, 48.1, 14.235, 48.124]}}
period: {{start: {start}, end: {end}}}
catalogue: {{kind: archive, path: archive}}
cadence: {{every_days: 6}}
final_after_days: 0
method: linear
store: var
"""


def viewer_region(folder: Path) -> Path:
    """The region's file; its archive, scenes, images and the last night's report lie beside it."""
    path = write_region(folder, NAME, start=START, end=END, text=TEXT)
    region = load_region(path)
    write_archive(region, LOOKS_FROM, END)
    nightly(region, LAST_NIGHT)
    return path


def loaded(folder: Path) -> Region:
    """The region of `viewer_region`."""
    return load_region(viewer_region(folder))
