"""kill -9 in the middle of `vsat nightly` and of publishing: a small part of what campaign_kills does."""

import time
from pathlib import Path

import pytest
from fault.campaign_kills import Count, kill_nights, kill_publish
from fault.worlds import world

pytestmark = [pytest.mark.fault, pytest.mark.slow]


def judge(counts: list[Count], deaths: int) -> None:
    assert [line for count in counts for line in count.told] == []
    assert sum(count.deaths for count in counts) >= deaths


def test_at_random_moments_a_reader_sees_old_or_new_and_the_next_night_ends_as_an_undisturbed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VSAT_WORKERS", "2")
    judge(kill_nights(world(tmp_path), 7, 6, time.monotonic() + 240), 6)


def test_at_writes_of_publishing_images_catalogue_table_and_map_are_whole(tmp_path: Path) -> None:
    judge(kill_publish(world(tmp_path), 17, time.monotonic() + 240), 6)
