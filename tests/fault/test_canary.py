"""No secret is written anywhere: the campaign's small size, and the search that it rests on."""

from pathlib import Path

import pytest
from fault.campaign_canary import campaign, controls
from fault.canary import plant, search_bytes
from fault.canary_runs import CONTROL, SECRETS

pytestmark = [pytest.mark.fault, pytest.mark.slow]


def test_what_was_planted_on_purpose_is_found_in_every_form(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    ways = controls(tmp_path / "controls", plant(3, [*SECRETS, CONTROL]))
    assert len(ways) >= 24
    assert [way for way, is_found in ways.items() if not is_found] == []


def test_noise_holds_no_secret() -> None:
    planted, other = plant(1, ["A", "B"]), plant(2, ["A", "B"])
    assert planted == plant(1, ["A", "B"]) and not set(planted.values()) & set(other.values())
    assert search_bytes(" ".join(other.values()).encode() * 1000, "noise", planted) == []


@pytest.mark.timeout(600)
def test_no_secret_is_written_by_verbs_that_do_well_fail_and_are_given_it_in_the_wrong_place(tmp_path: Path) -> None:
    rows, hits, ok = campaign(tmp_path / "canary", 11, small=True, minutes=9)
    assert hits == [] and ok, rows
