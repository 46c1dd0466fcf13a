"""Pictures of the Prefect UI as `vsat up` shows it: dashboard, a night with its artifacts, the backfill form.

    python docs/take_screenshots.py [--out docs/ui] [--browser /usr/bin/chromium]

Starts a stack of its own in a temporary folder, over the embedded archive, runs one night and one backfill on it, and
stops it again. Needs playwright and a Chromium.
"""

import argparse
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import requests
import yaml
from playwright.sync_api import Page, sync_playwright

from vsat.config import load_region
from vsat.core.synthetic import Landscape
from vsat.io.archive import write_synthetic
from vsat.stack import Addresses, stack
from vsat.stages.demo import FIRE, SEED

ROOT = Path(__file__).parents[1]
WIDTH, HEIGHT = 1440, 900
TALLER = {"night-report": 2300, "backfill-form": 1380}  # than the window of most people, to have it all
NIGHT_S = 900.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "ui")
    parser.add_argument("--browser", default="/usr/bin/chromium")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="vsat-") as scratch:
        region = _region(Path(scratch))
        with stack([region], Path(scratch) / "stack", port=0) as up:
            server = Server(up)
            night = server.run("nightly", {"day": "2023-04-30"})
            backfill = server.run("backfill", {"request": {"start": "2023-05-01", "end": "2023-06-30"}})
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=given.browser)
                page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
                _log_in(page, up, server.auth)
                for name, path in server.pages(night, backfill).items():
                    page.set_viewport_size({"width": WIDTH, "height": TALLER.get(name, HEIGHT)})
                    page.goto(f"{up.ui}{path}")
                    if (
                        "/artifacts/" in path
                    ):  # its page comes from a link, and stays empty where it is asked for by itself
                        page.get_by_role("link").filter(has_text=re.compile("^[0-9a-f]{8}$")).first.click()
                    page.wait_for_load_state("networkidle")
                    time.sleep(2)  # charts move into place
                    page.screenshot(path=given.out / f"{name}.png")
                    print(given.out / f"{name}.png")
                browser.close()


class Server:
    """The stack's API, as far as the pictures need it."""

    def __init__(self, up: Addresses) -> None:
        self.api, self.auth = up.api, up.environment["PREFECT_API_AUTH_STRING"]
        name, _, password = self.auth.partition(":")
        self.session = requests.Session()
        self.session.auth = (name, password)
        token = self.session.get(f"{self.api}/csrf-token", params={"client": "pictures"}, timeout=30).json()["token"]
        self.session.headers.update({"Prefect-Csrf-Client": "pictures", "Prefect-Csrf-Token": token})

    def run(self, flow: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """A run of the flow's deployment, ended."""
        deployment = self._get(f"deployments/name/{flow}/demo")
        run = self._post(f"deployments/{deployment['id']}/create_flow_run", {"parameters": parameters})
        until = time.monotonic() + NIGHT_S
        while run["state"]["type"] in ("SCHEDULED", "PENDING", "RUNNING"):
            if time.monotonic() > until:
                raise SystemExit(f"{flow} is {run['state']['name']} after {NIGHT_S:.0f} s")
            time.sleep(2)
            run = self._get(f"flow_runs/{run['id']}")
        print(f"{run['name']}: {run['state']['name']}, {run['state']['message']}")
        return run

    def pages(self, night: dict[str, Any], backfill: dict[str, Any]) -> dict[str, str]:
        """What is shown, and where in the UI."""
        return {
            "dashboard": "/dashboard",
            "night": f"/runs/flow-run/{night['id']}",
            "night-report": "/artifacts/key/demo-nightly-report",
            "images": "/artifacts/key/demo-images",
            "backfill-months": "/artifacts/key/demo-backfill-months",
            "backfill-form": f"/deployments/deployment/{backfill['deployment_id']}/run",
        }

    def _get(self, path: str) -> dict[str, Any]:
        answer = self.session.get(f"{self.api}/{path}", timeout=30)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = self.session.post(f"{self.api}/{path}", json=body, timeout=30)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found


def _region(folder: Path) -> Path:
    """A region file for half a year of the embedded archive, filled by a quick method; the archive is there."""
    demo = load_region(ROOT / "regions" / "demo.yaml")
    (grid,), start = demo.grids(), demo.period.start
    end = start.replace(month=6, day=30)
    write_synthetic(
        folder / "archive", grid=grid, land=Landscape(SEED, grid.shape, fire=FIRE), start=start, end=end
    )  # fmt: skip
    told = yaml.safe_load((ROOT / "regions" / "demo.yaml").read_text("utf-8"))
    told |= {"store": str(folder / "stores"), "method": "blend+scene", "period": {"start": start, "end": end}}
    told["catalogue"]["path"] = str(folder / "archive")
    path = folder / "demo.yaml"
    path.write_text(yaml.safe_dump(told), "utf-8")
    return path


def _log_in(page: Page, up: Addresses, auth: str) -> None:
    page.goto(f"{up.ui}/login")
    page.wait_for_load_state("networkidle")
    page.get_by_role("textbox").first.fill(auth)
    page.keyboard.press("Enter")
    page.wait_for_url("**/dashboard")


if __name__ == "__main__":
    main()
