"""Automations: what happens by itself when a run dies, a night does not run, or a region fails. No person, no secret.

- no heartbeat, stuck pending: the run ends as Crashed, so that one dead run does not block its region for ever;
- night missing: no night of a region has ended for 26 hours; one is started;
- night failed: the catalogue was down or the run crashed; the night is tried again an hour later, until one ends well;
- tell people: where VSAT_NOTIFY_BLOCK names a notification block of the server, it is sent every failure of a run.
"""

import os
from datetime import timedelta
from typing import Any

from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import StateType
from prefect.events import emit_event
from prefect.events.actions import ChangeFlowRunState, RunDeployment, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.events.worker import EventsWorker
from prefect.exceptions import ObjectNotFound
from prefect.states import Failed

from flows.events import NIGHT_AWAITED
from flows.settings import STATES
from vsat.errors import InputError

NOTIFY = "VSAT_NOTIFY_BLOCK"
NIGHT_WITHIN = timedelta(hours=26)  # a day, and two hours for a late start and a long catch-up
PENDING_WITHIN = timedelta(minutes=10)  # a machine may have to start, and an image to be pulled
TRY_AGAIN_AFTER = timedelta(hours=1)
ENDED = {name for _, name in STATES.values()} | {"NothingToDo", "Failed", "Crashed", "Cancelled"}
BAD_ENDS = {name for kind, name in STATES.values() if kind is Failed} | {"Failed", "Crashed"}


def automate(*, night_within: timedelta = NIGHT_WITHIN, pending_within: timedelta = PENDING_WITHIN) -> None:
    """The automations are on the server as this version has them, and each region's night is awaited.

    Args:
        night_within: how long after the end of a night the next one shall have ended.
        pending_within: how long a run may take from its worker's hands to its first line.

    Raises:
        InputError: VSAT_NOTIFY_BLOCK names no block of the server.
    """
    moves = {"Cancelling", "Paused", "AwaitingRetry", "heartbeat"}
    beats = _runs(ENDED | moves)
    with get_client(sync_client=True) as client:
        _put(
            client, "vsat: no heartbeat", _silence({"prefect.flow-run.heartbeat"}, beats, timedelta(seconds=90)),
            _crash("no heartbeat for 90 seconds: its process is gone"),
        )  # fmt: skip
        _put(
            client, "vsat: stuck pending",
            _silence({"prefect.flow-run.Pending"}, beats | _runs({"Running"}), pending_within),
            _crash(f"pending for {pending_within.total_seconds():g} seconds: its worker is gone"),
        )  # fmt: skip
        _put(client, "vsat: night missing", _night_missing(night_within), _run_again(timedelta(0)))
        again = _run_again(TRY_AGAIN_AFTER)
        _put(client, "vsat: night failed", _on({"CatalogueDown", "Crashed"}, of_night=True), again)
        block = os.environ.get(NOTIFY, "").strip()
        if block:
            _put(client, "vsat: tell people", _on(BAD_ENDS), _notification(client, block))
        _await_nights(client)


def _runs(names: set[str]) -> set[str]:
    """The events of flow runs that come into states of these names."""
    return {f"prefect.flow-run.{name}" for name in names}


def _silence(after: set[str], expect: set[str], within: timedelta) -> EventTrigger:
    """Fires for a run when none of `expect` follows one of `after` in time."""
    return EventTrigger(
        match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
        for_each={"prefect.resource.id"},
        after=after,
        expect=expect,
        posture=Posture.Proactive,
        threshold=1,
        within=within,
    )


def _night_missing(within: timedelta) -> EventTrigger:
    """Fires for a deployment of `nightly` when none of its runs has ended in time, well or not, since the last one did.

    Each end waits for the next; NIGHT_AWAITED, which a deployment begins with, waits for the first.
    """
    return EventTrigger(
        match_related=_of_night(),
        for_each={"related:deployment:prefect.resource.id"},
        after=_runs(ENDED) | {NIGHT_AWAITED},
        expect=_runs(ENDED),
        posture=Posture.Proactive,
        threshold=1,
        within=within,
    )


def _on(states: set[str], *, of_night: bool = False) -> EventTrigger:
    """Fires whenever a run from a deployment, or a night, ends so."""
    related = _of_night() if of_night else ResourceSpecification({"prefect.resource.role": "deployment"})
    return EventTrigger(
        match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
        match_related=related,
        for_each={"prefect.resource.id"},
        expect=_runs(states),
        posture=Posture.Reactive,
        threshold=1,
        within=timedelta(0),
    )


def _of_night() -> ResourceSpecification:
    return ResourceSpecification({"prefect.resource.role": "flow", "prefect.resource.name": "nightly"})


def _crash(message: str) -> ChangeFlowRunState:
    return ChangeFlowRunState(state=StateType.CRASHED, name="Crashed", message=message, force=False)


def _run_again(after: timedelta) -> RunDeployment:
    """The deployment that the event is about runs, so much later."""
    return RunDeployment.model_validate({"source": "inferred", "schedule_after": after})


def _notification(client: SyncPrefectClient, block: str) -> SendNotification:
    kind, _, name = block.partition("/")
    try:
        found = client.read_block_document_by_name(name, kind)
    except ObjectNotFound as error:
        step = "write TYPE/NAME of a notification block, as in slack-webhook/ops, after making it in the UI"
        raise InputError(f"no block {block!r} on the server", place=NOTIFY, next_step=step) from error
    body = "{{ flow_run.name }} ended as {{ flow_run.state.name }}: {{ flow_run.state.message }}\n{{ flow_run|ui_url }}"
    return SendNotification(block_document_id=found.id, subject="vsat: {{ flow_run.name }}", body=body)


def _put(client: SyncPrefectClient, name: str, trigger: EventTrigger, action: Any) -> None:
    """The automation of this name is as given; one that is so already keeps what it has counted."""
    wanted = AutomationCore(name=name, trigger=trigger, actions=[action])
    held = client.read_automations_by_name(name)
    if not held:
        client.create_automation(wanted)
    elif _told(held[0]) != _told(wanted):
        client.update_automation(held[0].id, wanted)


def _told(automation: AutomationCore) -> dict[str, Any]:
    return AutomationCore.model_validate(automation.model_dump(include=set(AutomationCore.model_fields))).model_dump(
        mode="json", exclude={"trigger": {"id"}}
    )


def _await_nights(client: SyncPrefectClient) -> None:
    for deployment in client.read_deployments():
        flow = client.read_flow(deployment.flow_id)
        if flow.name == "nightly":
            emit_event(
                NIGHT_AWAITED,
                {"prefect.resource.id": f"vsat.region.{deployment.name}", "prefect.resource.name": deployment.name},
                related=[
                    {
                        "prefect.resource.id": f"prefect.deployment.{deployment.id}",
                        "prefect.resource.role": "deployment", "prefect.resource.name": deployment.name,
                    },
                    {
                        "prefect.resource.id": f"prefect.flow.{flow.id}",
                        "prefect.resource.role": "flow", "prefect.resource.name": flow.name,
                    },
                ],
            )  # fmt: skip
    EventsWorker.instance().drain()  # this process ends soon
