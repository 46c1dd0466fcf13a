"""The pinned packages are asked for in a list of known vulnerabilities.

    python infra/audit.py                          asks PyPI's service: needs the network
    python infra/audit.py --advisories FOLDER      a copy of the Python advisory database (its folder vulns), without it

The copy is served to pip-audit on loopback, as OSV would answer. Exit code 1: a package is vulnerable, or the service did
not answer; 2: FOLDER has no advisories.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

ROOT = Path(__file__).parents[1]
# what was looked at, and why it does not concern vsat
ACCEPTED = {
    "PYSEC-2023-163": "LangChain lets others write expressions for numexpr; here it comes with rio-tiler, for a benchmark",
}
Advisories = Mapping[str, Sequence[Mapping[str, Any]]]


def read_advisories(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """The advisories below a folder `vulns`, by name of package."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for path in sorted(folder.glob("**/*.yaml")):
        loaded = yaml.load(path.read_text("utf-8"), Loader=yaml.CSafeLoader)
        told = json.loads(
            json.dumps(loaded, default=lambda moment: f"{moment:%Y-%m-%dT%H:%M:%S}Z")
        )  # as OSV writes them
        for affected in told.get("affected", ()):
            found[canonicalize_name(affected["package"]["name"])].append(told)
    return dict(found)


def is_affected(advisory: Mapping[str, Any], name: str, version: str) -> bool:
    """Whether the advisory is about this version, by its list of versions and by its ranges."""
    about = [one for one in advisory["affected"] if canonicalize_name(one["package"]["name"]) == name]
    return any(version in one.get("versions", ()) or _within(one.get("ranges", ()), version) for one in about)


def _within(ranges: Sequence[Mapping[str, Any]], version: str) -> bool:
    asked = Version(version)
    for one in ranges:
        if one["type"] != "ECOSYSTEM":
            continue
        inside = False
        for kind, edge in sorted(_edges(one["events"]), key=lambda pair: pair[1]):
            if edge <= asked and not (kind == "last_affected" and edge == asked):
                inside = kind == "introduced"
        if inside:
            return True
    return False


def _edges(events: Sequence[Mapping[str, str]]) -> Iterator[tuple[str, Version]]:
    for event in events:
        for kind, text in event.items():
            try:
                yield kind, Version(text)
            except InvalidVersion:  # of a few old ones
                continue


@contextmanager
def serving(advisories: Advisories) -> Iterator[str]:
    """An address that answers as OSV's `query` does, on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            name, version = canonicalize_name(asked["package"]["name"]), asked["version"]
            hits = [one for one in advisories.get(name, ()) if is_affected(one, name, version)]
            body = json.dumps({"vulns": hits} if hits else {}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_address[1]}/v1/query"
        http.shutdown()


def audit(lock: Path, advisories: Path | None) -> int:
    """What pip-audit says of the lock file; its exit code."""
    words = ["--requirement", str(lock), "--no-deps", "--disable-pip", "--strict", "--progress-spinner", "off"]
    words += [word for name in ACCEPTED for word in ("--ignore-vuln", name)]
    if advisories is None:
        return _pip_audit(words)
    told = read_advisories(advisories)
    if not told:
        print(f"no advisories in {advisories}", file=sys.stderr)
        return 2
    print(f"{sum(map(len, told.values()))} advisories for {len(told)} packages", file=sys.stderr)
    with serving(told) as url:
        return _pip_audit([*words, "--vulnerability-service", "osv", "--osv-url", url])


def _pip_audit(words: Sequence[str]) -> int:
    with tempfile.TemporaryDirectory() as cache:
        command = [sys.executable, "-m", "pip_audit", *words, "--cache-dir", cache]
        return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--advisories", type=Path, default=None)
    parser.add_argument("--lock", type=Path, default=ROOT / "requirements.lock")
    given = parser.parse_args()
    sys.exit(audit(given.lock, given.advisories))
