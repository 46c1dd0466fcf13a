"""The Prefect server and the viewer: they answer, no one gets in without a password, a worker lives, nights are not late."""

import os
import socket
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import requests

from vsat.doctor.finding import Finding, for_people
from vsat.stack import POOL, auth_of, read_up

PORT = 4200
LATE = timedelta(minutes=15)
_UP = "vsat up REGION..., or set PREFECT_API_URL to the server that you mean"
_PASSWORD = "set PREFECT_API_AUTH_STRING to the server's name:password; vsat up keeps it in the file auth of its folder"  # noqa: S105


class _Unanswered(Exception):
    """The server refuses, or does not answer."""


class _Api:
    """Prefect's REST API, as far as the doctor asks it."""

    def __init__(self, api: str, auth: str, timeout_s: float) -> None:
        self.api, self._timeout_s = api.rstrip("/"), timeout_s
        self._session = requests.Session()
        self._session.trust_env = False  # a login of .netrc for this host would replace ours
        if auth:
            name, _, password = auth.partition(":")
            self._session.auth = (name, password)

    def get(self, path: str) -> Any:
        """The JSON at a path, None where there is none (404)."""
        return self._answer("GET", path, None)

    def ask(self, path: str, **body: Any) -> Any:
        """The JSON that a filter gives, None where there is no such thing (404)."""
        return self._answer("POST", path, body)

    def _answer(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        try:
            headers = self._csrf() if method == "POST" else {}
            answer = self._session.request(
                method, f"{self.api}{path}", json=body, headers=headers, timeout=self._timeout_s
            )
            if answer.status_code == 404:
                return None
            answer.raise_for_status()
            return answer.json()
        except requests.HTTPError as error:
            raise _Unanswered(f"HTTP {error.response.status_code}") from None
        except (requests.RequestException, ValueError) as error:
            raise _Unanswered(type(error).__name__) from None

    def _csrf(self) -> dict[str, str]:
        answer = self._session.get(f"{self.api}/csrf-token", params={"client": "vsat-doctor"}, timeout=self._timeout_s)
        if not answer.ok:  # switched off
            return {}
        return {"Prefect-Csrf-Client": "vsat-doctor", "Prefect-Csrf-Token": answer.json()["token"]}


def server_findings(
    regions: Sequence[str], folder: Path, clock: Callable[[], datetime], patience_s: float
) -> list[Finding]:
    """What there is to say about the server that PREFECT_API_URL names, else about the stack in `folder`."""
    up = read_up(folder)
    url = os.environ.get("PREFECT_API_URL") or (up or {}).get("api", "")
    if not url:
        return [_port(), Finding("server", "error", f"no stack runs in {folder}", _UP)]
    api = _Api(url, auth_of(folder, os.environ), patience_s)
    try:
        told = api.get("/admin/version")
    except _Unanswered as error:
        refused = str(error) in ("HTTP 401", "HTTP 403")
        step = _PASSWORD if refused else _UP
        return [Finding("server", "error", f"{url}: {error}", step)]
    found = [_protected(url, str(told), patience_s)]
    if up and "viewer" in up:
        found.append(_viewer(up["viewer"], patience_s))
    try:
        found.append(_worker(api))
        for name in regions:
            found += _nights(api, name, clock())
    except _Unanswered as error:
        found.append(Finding("server", "error", f"{url}: {error}", "see the log of the server"))
    return found


def _port() -> Finding:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", PORT))
        except OSError:
            return Finding("port", "warning", f"{PORT} is taken", "vsat up --port 0 takes a free one")
    return Finding("port", "ok", f"{PORT} is free")


def _protected(url: str, version: str, patience_s: float) -> Finding:
    """The server does not let in whoever comes."""
    try:
        _Api(url, "", patience_s).get("/admin/version")
    except _Unanswered:
        return Finding("server", "ok", f"Prefect {version} at {url}, with a password")
    step = "set PREFECT_SERVER_API_AUTH_STRING for it: whoever reaches it can read secrets and start runs"
    return Finding("server", "warning", f"Prefect {version} at {url} lets everyone in", step)


def _viewer(url: str, patience_s: float) -> Finding:
    try:
        if requests.get(f"{url}/api/regions", timeout=patience_s).ok:
            return Finding("viewer", "ok", f"the map is at {url}")
    except requests.RequestException:
        pass
    step = "see logs/viewer.log in the stack's folder; vsat down, then vsat up, starts another"
    return Finding("viewer", "error", f"{url} does not answer", step)


def _worker(api: _Api) -> Finding:
    workers = api.ask(f"/work_pools/{POOL}/workers/filter")
    if workers is None:
        return Finding("worker", "error", f"no work pool {POOL}", _UP)
    online = [one["name"] for one in workers if one.get("status") == "ONLINE"]
    if not online:
        step = "see logs/worker.log in the stack's folder; vsat down, then vsat up, starts another"
        return Finding("worker", "error", f"none of {len(workers)} is alive", step)
    return Finding("worker", "ok", f"{len(online)} alive")


def _nights(api: _Api, region: str, now: datetime) -> list[Finding]:
    """The schedule of a region's nights, and how the last one ended."""
    name = f"{region}: schedule"
    deployment = api.get(f"/deployments/name/nightly/{region}")
    if deployment is None:
        return [Finding(name, "error", "no deployment nightly", f"vsat up with {region} among its regions")]
    active = [one["schedule"] for one in deployment.get("schedules", ()) if one["active"]]
    if deployment.get("paused") or not active:
        return [Finding(name, "error", "none is active", f"switch it on in the UI: Deployments, nightly/{region}")]
    only = {"deployments": {"id": {"any_": [deployment["id"]]}}, "limit": 1}
    waiting = api.ask(
        "/flow_runs/filter",
        **only,
        sort="EXPECTED_START_TIME_ASC",
        flow_runs={"state": {"type": {"any_": ["SCHEDULED"]}}},
    )
    return [_schedule(name, waiting, now), _last(api, region, only, _every(active), now)]


def _schedule(name: str, waiting: Sequence[Any], now: datetime) -> Finding:
    if not waiting:
        step = "wait a minute; if it stays: pip install 'sqlalchemy<2.1', with 2.1 the scheduler makes none"
        return Finding(name, "error", "active, and no run is planned", step)
    due = datetime.fromisoformat(waiting[0]["expected_start_time"])
    if now - due > LATE:
        step = "see that a worker is alive, and that no earlier run of the region is stuck: Runs in the UI"
        return Finding(name, "error", f"a run is {for_people(now - due)} late", step)
    return Finding(name, "ok", f"the next night begins {due:%Y-%m-%d %H:%M} UTC")


def _last(api: _Api, region: str, only: dict[str, Any], every: timedelta, now: datetime) -> Finding:
    name = f"{region}: last run"
    states = {"type": {"any_": ["COMPLETED", "FAILED", "CRASHED", "CANCELLED"]}}
    ended = api.ask("/flow_runs/filter", **only, sort="END_TIME_DESC", flow_runs={"state": states})
    if not ended:
        return Finding(name, "warning", "none yet", f"start one: prefect deployment run nightly/{region}")
    run = ended[0]
    ago = now - datetime.fromisoformat(run["end_time"])
    told = f"{run['name']}: {run['state']['name']} {for_people(ago)} ago"
    if run["state"]["type"] != "COMPLETED":
        return Finding(
            name, "error", f"{told}; {run['state'].get('message') or 'no message'}", "see its report in the UI"
        )
    if ago > 1.5 * every + LATE:
        return Finding(name, "error", f"{told}, and one is due every {for_people(every)}", "see that a worker is alive")
    return Finding(name, "ok", told)


def _every(schedules: Sequence[dict[str, Any]]) -> timedelta:
    """How often a night is due: by the interval, a day for what is written as cron."""
    return min(timedelta(seconds=float(one.get("interval") or 86400)) for one in schedules)
