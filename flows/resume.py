"""Runs that died with their server or worker: backfills go on, others have crashed.

`python -m flows.resume`, with PREFECT_API_URL naming the server, after an outage and before its workers start. It takes no
process for alive, so it is for whoever has just seen all of them end: it is right where one worker serves the pool, and
just before that one starts.
"""

import argparse

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import FlowRunFilter, WorkPoolFilter
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import Cancelled, Crashed, Scheduled

from flows.deploy import POOL

GOES_ON = "backfill"  # a night that died is made up for by the next
_DEAD = ["RUNNING", "PENDING", "CANCELLING"]
_PAGE = 200


def resume(pool: str = POOL) -> int:
    """No run of the pool is in a state that only a living process could be in; returns how many backfills are to go on."""
    with get_client(sync_client=True) as client:
        where = WorkPoolFilter.model_validate({"name": {"any_": [pool]}})
        wanted = FlowRunFilter.model_validate({"state": {"type": {"any_": _DEAD}}})
        count = 0
        while runs := client.read_flow_runs(flow_run_filter=wanted, work_pool_filter=where, limit=_PAGE):
            for run in runs:
                state = _state(client, run)
                client.set_flow_run_state(run.id, state, force=True)  # from any state, and its slot is free again
                count += state.is_scheduled()
    return count


def _state(client: SyncPrefectClient, run: FlowRun) -> State[None]:
    if run.state_type == StateType.CANCELLING:
        return Cancelled(message="its process ended with the worker")
    if client.read_flow(run.flow_id).name == GOES_ON:
        return Scheduled(name="Resuming", message="its process ended with the worker; it goes on where it was")
    return Crashed(message="its process ended with the worker")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pool", default=POOL, help="the work pool whose worker is about to start")
    print(f"{resume(parser.parse_args().pool)} backfills go on")
