"""The server of a stack as its owner asks it: nights and backfills from their deployments, and what leaks are tried out on."""

import gzip
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests
from fault.canary_servers import LAST
from killable import until
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

OUT_OF_TIME_S = 1500.0
REGIONS_AT_ONCE = 2
ENDS = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}  # of a flow run
BUSY = 503  # what Prefect answers while SQLite is locked


class Api:
    """Prefect's API, with its password."""

    def __init__(self, url: str, password: str) -> None:
        self.url, self._session = url, requests.Session()
        self._session.trust_env = False
        patient = Retry(20, allowed_methods=None, status_forcelist=[BUSY], backoff_factor=1, raise_on_status=False)
        self._session.mount("http://", HTTPAdapter(max_retries=patient))
        self._session.auth = ("vsat", password)
        token = self._session.get(f"{url}/csrf-token", params={"client": "test"}, timeout=30).json()["token"]
        self._session.headers.update({"Prefect-Csrf-Client": "test", "Prefect-Csrf-Token": token})

    def raw(self, method: str, path: str, body: Any = None) -> bytes:
        return self._session.request(method, f"{self.url}/{path}", json=body or {}, timeout=60).content

    def get(self, path: str) -> Any:
        return self._json("GET", path)

    def post(self, path: str, body: Any) -> Any:
        return self._json("POST", path, body)

    def _json(self, method: str, path: str, body: Any = None) -> Any:
        answer = self._session.request(method, f"{self.url}/{path}", json=body or {}, timeout=60)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text[:500]}"
        return answer.json()

    def plant(self, secret: str) -> None:
        """The control goes the ways that a leak would: an artifact that is packed twice, and a line of a log."""
        packed = b64encode(gzip.compress(f"x{secret}".encode())).decode()
        self.post("artifacts/", {"key": "control", "type": "markdown", "data": packed, "description": "x" * 9000})
        line = {"name": "control", "level": 20, "message": secret, "timestamp": "2026-01-01T00:00:00Z"}
        self.post("logs/", [line])


def nights(api: Api, files: Mapping[str, Path]) -> None:
    """A night and a backfill of every region, to their ends; not all at once, which is more than SQLite takes."""
    request = {"start": "2023-05-01", "end": LAST, "policy": "replace"}
    states: dict[str, str] = {}
    names = list(files)
    for at in range(0, len(names), REGIONS_AT_ONCE):
        runs = {}
        for name in names[at : at + REGIONS_AT_ONCE]:
            for flow, given in (("nightly", {"day": LAST}), ("backfill", {"request": request})):
                deployment = api.get(f"deployments/name/{flow}/{name}")
                body = {"parameters": {**deployment["parameters"], **given}}
                runs[api.post(f"deployments/{deployment['id']}/create_flow_run", body)["id"]] = f"{flow} {name}"

        def found(runs: Mapping[str, str] = runs) -> dict[str, str]:
            told = api.post("flow_runs/filter", {"flow_runs": {"id": {"any_": list(runs)}}})
            return {runs[run["id"]]: run["state_type"] for run in told}

        until(lambda found=found: set(found().values()) <= ENDS, OUT_OF_TIME_S, "the nights and backfills end")
        states |= found()
    assert states["nightly good"] == "COMPLETED" and states["nightly refused"] == "FAILED", states
