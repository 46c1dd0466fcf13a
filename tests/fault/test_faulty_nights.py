"""Some nights at a high share of faults; `campaign_nights.py` does two hundred at five per cent."""

from pathlib import Path

import pytest
from fault.campaign_nights import campaign

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.timeout(900)]


def test_every_date_is_complete_in_the_end_and_nothing_stays_open(tmp_path: Path) -> None:
    found = campaign(tmp_path, count=20, every_days=3, seed=32, share=0.08)
    assert (found.final, found.unlike, found.problems) == (found.dates, 0, ())
    assert found.dates == 7 and found.killed and sum(found.trouble.values()) > found.trouble["good"]
    assert found.growth("files") <= 0 and found.growth("threads") <= 0
