"""Real pixels through the whole pipeline: a Sentinel-2 and Landsat cube as archive, through STAC and COGs, to virtual images."""

from datetime import date
from pathlib import Path

import numpy as np
import pytest
from pyproj import Transformer

from vsat.config import load_region
from vsat.core.masks import clear
from vsat.core.quality import unpack_qa
from vsat.io.archive import write_cube
from vsat.io.exchange import load_cube
from vsat.io.publish import read_image
from vsat.stages.nightly import nightly

REGION = """
name: flanders
area: {{bbox: {bbox}}}
period: {{start: 2018-04-01, end: 2018-09-30}}
catalogue: {{kind: archive, path: archive}}
cadence: {{acquisitions: true}}
store: var
"""


@pytest.mark.real
@pytest.mark.slow
def test_pixels_that_come_out_observed_equal_those_that_went_in(shared_data: Path, tmp_path: Path) -> None:
    cube = load_cube(shared_data / "cubes" / "flanders-2018.nc")
    report = write_cube(tmp_path / "archive", cube, tile="31UES")
    file = tmp_path / "flanders.yaml"
    west, south, east, north = report.grid.bounds
    corners = Transformer.from_crs(report.grid.epsg, 4326, always_xy=True).transform(
        [west + 40, east - 40], [south + 40, north - 40]
    )
    file.write_text(REGION.format(bbox=[corners[0][0], corners[1][0], corners[0][1], corners[1][1]]))
    region = load_region(file)
    (whole,) = region.grids()
    night = nightly(region, date(2018, 12, 1))
    days = cube["time"].values.astype("datetime64[D]")
    row, col = round((report.grid.y0 - whole.y0) / 30), round((whole.x0 - report.grid.x0) / 30)
    window = (..., slice(row, row + whole.height), slice(col, col + whole.width))
    assert row >= 0 and col >= 0 and min(whole.shape) > 25
    refl_tbyx, fmask_tyx = cube["reflectance"].values[window], cube["fmask"].values[window]
    clear_tyx = clear(fmask_tyx, refl_tbyx)
    observed = 0
    asked = np.unique(days[(days >= np.datetime64("2018-04-01")) & (days <= np.datetime64("2018-09-30"))])
    for day in asked:
        image = read_image(region.home, "31UES", day.astype(date))
        origin = unpack_qa(image.qa_yx).origin
        refl = image.refl_byx
        looks = np.flatnonzero(days == day)
        assert np.array_equal(origin == 0, clear_tyx[looks].any(0))
        # each observed pixel is one of the day's clear looks, all bands of the same one
        same = np.stack([(refl == refl_tbyx[t]).all(0) & clear_tyx[t] for t in looks]).any(0)
        assert same[origin == 0].all()
        observed += int((origin == 0).sum())
    assert night.fetch and not night.fetch.failed and night.generate and not night.generate.failed
    assert observed > 15_000
