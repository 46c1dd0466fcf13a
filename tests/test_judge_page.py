import json
import re
from dataclasses import replace

import numpy as np
import pytest

from vsat.hls import FILL
from vsat.stages.judge_page import markdown, page
from vsat.stages.verdict import Calibration, CasePicture, Cost, Headline, Row, Verdict

METHODS = ("blend+scene", "linear", "nearest")
LEVELS = {"dates": (0,), "gaps": (8, 16, 32), "forecast": (8, 64), "thinning": (10, 90)}


def verdict(sources: tuple[str, ...] = ("field", "forest")) -> Verdict:
    rng = np.random.default_rng(0)
    rows, headlines, calibrations, costs = [], [], [], []
    for source in sources:
        for method in METHODS:
            costs.append(Cost(source, method, 0.5, None, None))
            for protocol, levels in LEVELS.items():
                mae = float(rng.uniform(0.01, 0.03))
                headlines.append(Headline(source, protocol, method, mae, "linear", 0.02, mae / 0.02, 0.8, 1.1, 0.9))
                pit = tuple(float(one) for one in rng.dirichlet(np.ones(20)))
                calibrations.append(
                    Calibration(source, protocol, method, pit, (0.01, 0.02), (0.012, 0.021), (100, 200))
                )
                rows += [
                    Row(source, protocol, level, "all", "", method, "mean", 100, 5, mae=mae, cover90=0.9)
                    for level in levels
                ]
                rows.append(Row(source, protocol, levels[0], "season", "summer", method, "mean", 50, 2, mae=mae))
    return Verdict(
        sources, METHODS[:1], METHODS[1:], tuple(LEVELS), 2, 0, 17, tuple(rows), tuple(headlines), tuple(calibrations),
        tuple(costs), unreadable=("parts/0000.zarr patch 3",), notes=("field: too small for masks",),
    )  # fmt: skip


def picture(bands: int = 6) -> CasePicture:
    rng = np.random.default_rng(0)
    image = rng.integers(100, 3000, (bands, 20, 24)).astype(np.int16)
    mask = np.zeros((20, 24), bool)
    mask[5:12] = True
    before = np.where(mask, FILL, image).astype(np.int16)
    return CasePicture(
        "field", "whole", "dates", 0, "blend+scene", "worst", "2018-05-03", 0.031, "linear", 0.025, "2018-04-28", "", before,
        None, before, image, image, (image // 10).astype(np.int16), mask,
    )  # fmt: skip


def test_the_page_needs_nothing_from_outside() -> None:
    text = page(verdict(), [picture()])
    assert not re.findall(r"(?:src|href)=\"(?!data:|#)[^\"]", text)
    assert "<script" not in text and "@import" not in text
    assert len(text) < 3_000_000


def test_the_page_shows_every_part() -> None:
    text = page(verdict(), [picture(), replace(picture(1), kind="median")])
    for one in (
        "field",
        "forest",
        "blend+scene",
        "nearest",
        "0.80 to 1.10",
        "17 draws",
        "too small for masks",
        "patch 3",
        "2018-05-03",
        "worst",
        "median",
    ):
        assert one in text
    assert text.count("<svg") == 2 + 2  # levels and calibration of both sources
    assert text.count("<img") == text.count("alt=") == 2 * 6  # before, seen, truth, estimate, SD, error


def test_a_cover_outside_the_goal_is_marked() -> None:
    one = verdict(("field",))
    low = tuple(replace(line, cover90=0.6) if line.protocol == "gaps" else line for line in one.headlines)
    assert '<td class="bad">60%</td>' in page(replace(one, headlines=low), [])
    assert '<td class="bad">60%</td>' not in page(one, [])


def test_little_is_enough() -> None:
    one = verdict(("field",))
    bare = Verdict(("field",), METHODS[:1], METHODS[1:], ("dates",), 1, 0, 0, (), (), (), ())
    assert "<h1>" in page(bare, [])
    missing = tuple(replace(line, low=None, high=None, cover90=None) for line in one.headlines)
    assert "<h1>" in page(replace(one, headlines=missing), [])
    assert markdown(bare, []).startswith("# Judge")


def test_markdown_fits_an_artifact() -> None:
    text = markdown(verdict(), [picture(), picture(), picture()])
    assert len(text.encode()) < 200_000
    assert text.count("data:image/png") == 2 * 6
    assert "| field | dates | blend+scene |" in text


def test_json_comes_back_and_is_the_same_each_time() -> None:
    one = verdict()
    assert one.to_json() == verdict().to_json()
    assert json.loads(one.to_json())["headlines"][0]["source"] == "field"
    with pytest.raises(ValueError, match="JSON"):
        replace(one, headlines=(replace(one.headlines[0], mae=float("nan")),)).to_json()


def test_the_text_has_the_judged_methods_and_what_was_lost() -> None:
    text = verdict().text()
    assert "blend+scene" in text and "0.80 to 1.10" in text and "17 folds" in text and "patch 3" in text
