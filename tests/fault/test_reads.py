"""Small campaigns of reads and searches, and what they find where a check is missing."""

import time
from dataclasses import replace
from pathlib import Path
from unittest import mock

import pytest
from fault import campaign_catalogue, campaign_reads, figures

from vsat.io import paging, reader

pytestmark = pytest.mark.fault


@pytest.mark.parametrize("kind", [*campaign_reads.FAULTS, campaign_reads.MIXED])
def test_no_wrong_pixel(kind: str) -> None:
    for rate in campaign_reads.RATES:
        row = campaign_reads.cell(kind, rate, 1, 14, time.monotonic() + 200)
        assert campaign_reads.is_good(row, 14), row
        assert rate < 1 or int(row["met it"]) > 0


def test_a_reader_that_does_not_look_at_the_mark_gives_wrong_pixels() -> None:
    """The faults are real, and the campaign sees what they do."""
    read_range = reader._range

    def careless(file: reader._File, head: reader.Body, start: int, stop: int) -> bytes:
        mark = file.client.get(file.href, file.patience, start=start, stop=stop).mark
        return read_range(file, replace(head, mark=mark), start, stop)

    with mock.patch.object(reader, "_range", careless):
        row = campaign_reads.cell("file and ETag change", 0.1, 1, 200, time.monotonic() + 200)
    assert int(row["silently wrong"]) > 0
    assert not campaign_reads.is_good(row, 200)


@pytest.mark.parametrize("kind", campaign_catalogue.KINDS)
@pytest.mark.filterwarnings("ignore")
def test_no_search_is_falsely_complete(kind: str) -> None:
    assert campaign_catalogue.one_search(kind, "1") in ("complete", "refused")


@pytest.mark.filterwarnings("ignore")
def test_a_listing_that_is_asked_for_once_is_falsely_complete() -> None:
    once = lambda self, box, first, last: self._pages(box, first, last, paging.PAGE).items  # noqa: E731
    with mock.patch.object(paging._Asking, "_period", once):
        outcomes = {campaign_catalogue.one_search("item removed meanwhile", str(seed)) for seed in range(4)}
    assert "false" in outcomes


ROWS = [{"fault": "a|b", "share": 1 / 3}, {"fault": "c", "reads": 12345}]


def test_figures_stand_on_the_page_in_their_place_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A\n<!-- figures: one -->\nold\n<!-- end -->\nprose\n<!-- figures: two -->\n<!-- end -->\n")
    figures.record("one", "python x", ROWS, ok=True, page=page)
    first = page.read_text()
    assert first.startswith("# A\n<!-- figures: one -->\n\n`python x`: ")
    assert "goal reached" in first and "old" not in first
    assert (
        "| fault | share | reads |\n| --- | --- | --- |\n| a\\|b | 0.3333 |  |\n| c |  | 12,345 |\n\n<!-- end -->"
        in first
    )
    assert first.endswith("\n<!-- end -->\nprose\n<!-- figures: two -->\n<!-- end -->\n")
    with pytest.raises(SystemExit) as ended:
        figures.record("two", "python y", ROWS[:1], ok=False, page=page)
    assert ended.value.code == 1
    assert page.read_text().startswith(first.partition("prose")[0])
    assert "**goal missed**" in page.read_text().partition("prose")[2]
    before = page.read_text()
    figures.record("one", "python x", ROWS, ok=True, write=False, page=page)
    assert page.read_text() == before
    assert "python x" in capsys.readouterr().out
    with pytest.raises(LookupError, match="<!-- figures: three -->"):
        figures.record("three", "python x", ROWS, ok=True, page=page)


def test_every_recorded_campaign_is_one_that_can_be_run() -> None:
    page = figures.PAGE.read_text("utf-8")
    for command in (part.partition("`")[0] for part in page.split("\n`python ")[1:]):
        assert (figures.PAGE.parents[1] / command.split()[0]).is_file()
    assert "**goal missed**" not in page
