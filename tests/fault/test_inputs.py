"""Hostile cubes, checkpoints, region files, patch stores and requests: the small size of `campaign_inputs.py`.

In a process of its own, for every case is a fork of it, and forks of a process with threads would not do.
"""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from fault.campaign_inputs import GROUPS

pytestmark = pytest.mark.fault
CAMPAIGN = Path(__file__).with_name("campaign_inputs.py")
LEAST = {"cubes": 20, "checkpoints": 20, "regions": 30, "patches": 20, "requests": 10}

Told = Sequence[Mapping[str, Any]]


@pytest.fixture(scope="module")
def came_of(tmp_path_factory: pytest.TempPathFactory) -> Told:
    told = tmp_path_factory.mktemp("inputs") / "told.json"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, str(CAMPAIGN), "--small", "--json", str(told)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1500, check=False)
    assert told.exists(), done.stderr[-3000:]
    found: Told = [json.loads(line) for line in told.read_text().splitlines()]
    assert not any(one["group"] == "watch" and not one["sound"] for one in found), done.stderr[-3000:]
    return found


@pytest.mark.timeout(1600)
@pytest.mark.parametrize("group", GROUPS)
def test_hostile_inputs_are_refused_or_harmless(came_of: Told, group: str) -> None:
    """Nothing crashes, reaches outside, or takes memory without bound."""
    of_group = [one for one in came_of if one["group"] == group]
    assert len(of_group) >= LEAST[group]
    wrong = [one for one in of_group if not one["sound"]]
    assert not wrong, json.dumps(wrong, indent=1)[:4000]


@pytest.mark.timeout(1600)
def test_the_watch_sees_what_it_is_there_for(came_of: Told) -> None:
    """Opens, calls, pickles, processes, crashes and gigabytes planted on purpose are each noticed."""
    seen = [one["name"] for one in came_of if one["group"] == "watch"]
    assert len(seen) == len(set(seen)) >= 8
