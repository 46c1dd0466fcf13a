"""A short run of the fuzz campaign, the same each time."""

import pytest
from fault.campaign_fuzz import TARGETS, run


@pytest.mark.fault
def test_what_hypothesis_writes_is_refused_or_harmless() -> None:
    rows, reached = run(7, minutes=5, small=True)
    assert reached, rows
    assert [row["input"] for row in rows] == list(TARGETS)
    assert all(int(row["refused"]) > 0 for row in rows)
