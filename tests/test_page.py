"""Pictures, charts and tables of the report page."""

import base64
import io
from datetime import date

import numpy as np
import pytest
from jinja2 import UndefinedError
from PIL import Image

from vsat.hls import FILL
from vsat.stages.page import Look, Series, data_uri, render, series_svg, shades, text_table, true_colour


def decoded(uri: str) -> Image.Image:
    head, body = uri.split(",")
    assert head == "data:image/png;base64"
    return Image.open(io.BytesIO(base64.b64decode(body)))


def test_true_colour_orders_bands_as_red_green_blue_and_greys_what_is_missing() -> None:
    refl_byx = np.zeros((6, 1, 2), np.int16)
    refl_byx[2, 0, 0] = 2400
    refl_byx[0, 0, 1] = FILL
    picture = true_colour(refl_byx)
    assert picture[0, 0].tolist() == [255, 0, 0]
    assert len(set(picture[0, 1].tolist())) > 1 and picture[0, 1].min() > 200


def test_data_uri_holds_the_picture_and_never_exceeds_the_longest_side() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (50, 100, 3)).astype(np.uint8)
    assert np.array_equal(np.asarray(decoded(data_uri(picture))), picture)
    assert decoded(data_uri(picture, longest_px=20)).size == (20, 10)


def test_shades_run_from_dark_to_light_and_grey_is_no_value() -> None:
    row = shades(np.array([[0.0, 0.5, 1.0, np.nan]], np.float32), 1.0)[0].astype(int).sum(1)
    assert row[0] < row[1] < row[2]
    assert shades(np.full((1, 1), np.nan, np.float32), 1.0)[0, 0].tolist() == [214, 209, 219]


def test_series_svg_is_the_same_for_the_same_series_and_shows_every_kind_of_look() -> None:
    day = date(2023, 5, 1)
    series = Series("p", (Look(day, 0.1, "L30", True), Look(day, 0.6, "S30", False)), (day,), (0.1,), (0.01,), (0.11,))
    svg = series_svg(series, ylabel="red")
    assert svg == series_svg(series, ylabel="red")
    assert svg.startswith("<svg") and "S30 masked" in svg and "truth" in svg


def test_text_table_aligns_and_render_escapes_and_names_what_is_missing() -> None:
    table = text_table(("date", "MAE"), [("2023-05-01", ".01"), ("x", ".012")])
    assert {len(line) for line in table.splitlines()} == {16}
    with pytest.raises(UndefinedError):
        render("demo.html", region="x")
