"""kill -9 of server, worker and flow in the middle of a backfill: started again, it ends complete and does nothing twice."""

import json
from collections import Counter
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
import requests
from killable import Killable, until
from watched import ended_twice, recorded, watch

from regions import TEXT, write_archive, write_region
from vsat.config import Region, load_region
from vsat.io.jobs import JobTable
from vsat.io.scenes import ledger_path
from vsat.stages.status import region_status
from vsat.stages.verify import verify

pytestmark = [pytest.mark.fault, pytest.mark.flow, pytest.mark.slow, pytest.mark.timeout(600)]
START, END = date(2023, 3, 1), date(2023, 6, 30)
DENSE = TEXT.replace("every_days: 10", "every_days: 2")
IMAGES = 61
REQUEST = {"start": str(START), "end": str(END)}


@pytest.fixture(scope="module")
def region_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backfill")
    path = write_region(folder, "tiny", start=START, end=END, text=DENSE)
    write_archive(load_region(path), START, END)
    return path


@pytest.fixture(scope="module")
def region(region_file: Path) -> Region:
    return load_region(region_file)


@pytest.fixture(scope="module")
def live(region_file: Path) -> Iterator[Killable]:
    made = Killable(region_file.parent / "stack")
    try:
        made.start_server()
        made.run("flows.deploy", str(region_file))
        made.start_worker()
        yield made
    finally:
        made.kill()


def ask_for(live: Killable, **more: str) -> None:
    live.run(
        "prefect", "--no-prompt", "deployment", "run", "backfill/tiny", "-p", f"request={json.dumps(REQUEST | more)}"
    )


def test_killed_in_the_middle_it_ends_complete_and_no_unit_is_done_twice(live: Killable, region: Region) -> None:
    watch(region.home)
    ask_for(live)
    until(lambda: len(recorded(region.home)) >= 15, 120, "some scenes", every=0.01)
    assert live.kill() >= 3  # server, worker, flow
    before = recorded(region.home)
    with JobTable(ledger_path(region.home)) as table:
        states = Counter(row.state for row in table.rows(table.requests()[-1]))
    assert 0 < states["done"] + states["running"] < states.total()
    live.start_server()
    assert "1 backfills go on" in live.run("flows.resume")
    live.start_worker()
    until(lambda: live.states("backfill") == [("Completed", 2)], 200, "the end of the same run")
    count = recorded(region.home)
    assert before.items() <= count.items()
    scenes = sum(region_status(region)["scenes"].values())
    assert Counter(kind for kind, _ in count) == {"scene": scenes, "image": IMAGES} and scenes > len(before)
    assert set(count.values()) == {1}
    assert ended_twice(region.home) == []
    assert region_status(region)["images"] == {"final": IMAGES}
    assert verify(region).problems == ()


def test_cancelled_from_the_ui_the_store_is_sound_and_the_same_request_ends_it(live: Killable, region: Region) -> None:
    before = sum(recorded(region.home).values())
    ask_for(live, policy="replace")
    until(lambda: sum(recorded(region.home).values()) >= before + 8, 120, "some images made again", every=0.02)
    (run,) = live.ask("flow_runs", flow_runs={"state": {"type": {"any_": ["RUNNING"]}}})
    answer = requests.post(
        f"{live.api}/flow_runs/{run['id']}/set_state",
        json={"state": {"type": "CANCELLING", "name": "Cancelling"}},
        timeout=30,
    )  # as the UI's button does
    assert answer.json()["status"] == "ACCEPT"
    until(lambda: live.states("backfill")[-1][0] == "Cancelled", 180, "its end")
    until(lambda: len(live.processes()) <= 3 or None, 60, "the end of its process")
    made = sum(recorded(region.home).values()) - before
    assert 8 <= made < IMAGES
    assert verify(region).problems == ()
    with JobTable(ledger_path(region.home)) as table:
        assert {row.state for row in table.rows(table.requests()[-1])} == {"waiting", "done"}
    ask_for(live, policy="replace")
    until(lambda: live.states("backfill")[-1][0] == "Completed", 200, "the rest")
    assert sum(recorded(region.home).values()) - before == IMAGES
