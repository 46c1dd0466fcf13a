"""Some nights on a live stack over an archive that grows, is revised and fails; `tests/bench/nights.py` has thirty."""

from pathlib import Path

import pytest
from bench.nights import live

pytestmark = [pytest.mark.flow, pytest.mark.slow, pytest.mark.timeout(900)]


def test_every_date_ends_as_one_final_image_and_no_two_nights_overlap(tmp_path: Path) -> None:
    found = live(tmp_path, cycles=6, every_s=10, missed=1, step_days=12)
    assert found.is_good, found.text()
    assert found.expected == 7 and found.broken_files >= 1 and found.scenes > 5
    assert set(found.states) <= {"Completed", "NothingToDo", "NoScenes", "WorkFailed", "CatalogueDown", "Crashed"}, (
        found.text()
    )
