"""A tiny region with an archive: 36 x 30 pixels, May and June 2023, 20 scenes, an image every tenth day."""

from datetime import date
from pathlib import Path

from vsat.config import Region, load_region
from vsat.core.synthetic import Landscape
from vsat.io.archive import write_synthetic

START, END = date(2023, 5, 1), date(2023, 6, 30)
TEXT = """
name: {name}
area: {{bbox: [14.2, 48.1, 14.2118, 48.1077]}}
period: {{start: {start}, end: {end}}}
catalogue: {{kind: archive, path: archive}}
cadence: {{every_days: 10}}
look_back_days: 10
final_after_days: 20
context_days: 60
method: linear
store: var
"""
TWO_TILES = "[14.996, 48.1, 15.004, 48.104]"  # on the border of 33UVP and 33UWP


def write_region(folder: Path, name: str = "tiny", *, start: date = START, end: date = END, text: str = TEXT) -> Path:
    """A region file in `folder`, without its archive."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.yaml"
    path.write_text(text.format(name=name, start=start, end=end))
    return path


def write_archive(region: Region, start: date = START, end: date = END, seed: int = 3) -> None:
    """The archive that the region names, with the looks of these days."""
    (grid,) = region.grids()
    assert region.catalogue.path is not None
    write_synthetic(region.catalogue.path, grid=grid, land=Landscape(seed, grid.shape), start=start, end=end)


def tiny(folder: Path) -> Path:
    """A region file with its archive."""
    path = write_region(folder)
    write_archive(load_region(path))
    return path


def two_tiles(folder: Path) -> Region:
    """A region over two tiles, 33UVP and 33UWP, with an archive of May for both."""
    text = TEXT.replace("[14.2, 48.1, 14.2118, 48.1077]", TWO_TILES)
    region = load_region(write_region(folder, text=text, end=date(2023, 5, 31)))
    assert region.catalogue.path is not None
    for seed, grid in enumerate(region.grids()):
        land = Landscape(seed, grid.shape)
        write_synthetic(region.catalogue.path, grid=grid, land=land, start=START, end=date(2023, 5, 31))
    return region
