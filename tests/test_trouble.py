"""A wrong token, an expired one, a full disk, a dead catalogue: each ends as a state that says what to do."""

import base64
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from disks import small_disk
from faulty import Catalogue, Server, needs, serving
from test_flows import artifacts, server  # noqa: F401 - the fixture of one Prefect server

from regions import TEXT, tiny, write_region
from vsat.config import load_region
from vsat.doctor import Finding, examine
from vsat.errors import ExitCode
from vsat.io import archive

pytestmark = [pytest.mark.flow, pytest.mark.slow]
NOW = datetime(2023, 6, 30, 9, tzinfo=UTC)


def token(ends: datetime) -> str:
    """A JSON Web Token that says when it ends."""
    parts = [{"alg": "RS256"}, {"exp": int(ends.timestamp()), "uid": "somebody"}]
    coded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*coded, "c2lnbmF0dXJl"])


GOOD = token(NOW + timedelta(days=40))


@contextmanager
def protected(folder: Path) -> Iterator[Server]:
    """The granules of a tiny region behind a catalogue like NASA's, whose files want the token GOOD."""
    made = tiny(folder / "made")
    root = load_region(made).catalogue.path
    assert root is not None
    with serving() as http:
        items = json.loads(json.dumps(archive.items(root)).replace("archive:/", http.url))
        http.state.pages = Catalogue(items)
        for path in root.rglob("*.tif"):
            place = f"/{path.relative_to(root)}"
            http.state.files[place] = path.read_bytes()
            http.always(place, needs(lambda: f"Bearer {GOOD}"))
        yield http


def nasa(folder: Path, http: Server, **more: str) -> Path:
    """A region that reads from there as it reads from NASA."""
    catalogue = f"kind: cmr, url: '{http.url}', hosts: ['{http.netloc}']"
    text = TEXT.replace("kind: archive, path: archive", catalogue)
    return write_region(folder, "farm", text=text, end=date(2023, 5, 20))


def night(file: Path) -> tuple[str, str, ExitCode, str, str]:
    """State, type, exit code, message and report of a night."""
    from flows.nightly import nightly
    from flows.settings import exit_code

    state: Any = nightly(str(file), date(2023, 5, 20), return_state=True)
    report = artifacts(f"{load_region(file).name}-nightly-report")[0].data
    return state.name, state.type.value, exit_code(state), str(state.message), report


def find(file: Path, name: str, folder: Path) -> Finding:
    found = {one.name: one for one in examine([load_region(file)], folder, NOW, patience_s=5)}
    return found[name]


def test_a_wrong_token_is_refused_access_and_says_where_to_get_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EARTHDATA_TOKEN", token(NOW + timedelta(days=41)))
    with protected(tmp_path) as http:
        file = nasa(tmp_path, http)
        name, kind, code, message, report = night(file)
        assert (name, kind, code) == ("AccessRefused", "FAILED", ExitCode.ACCESS_REFUSED)
        for text in (message, report):
            assert "HTTP 401" in text and "Generate Token" in text and "urs.earthdata.nasa.gov" in text
            assert os.environ["EARTHDATA_TOKEN"] not in text
        found = find(file, "farm: reading", tmp_path)
        assert found.level == "error" and "401" in found.value and "Generate Token" in found.next_step

        monkeypatch.setenv("EARTHDATA_TOKEN", GOOD)
        assert night(file)[0] == "Completed"
        assert find(file, "farm: reading", tmp_path).level == "ok"


def test_an_expired_token_is_named_with_its_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EARTHDATA_TOKEN", token(NOW - timedelta(days=3)))
    with protected(tmp_path) as http:
        file = nasa(tmp_path, http)
        name, _, _, message, report = night(file)
        assert name == "AccessRefused"
        assert all(
            "holds until 2023-06-27 09:00 UTC" in text and "Generate Token" in text for text in (message, report)
        )
        found = find(file, "farm: credentials", tmp_path)
    assert (found.level, found.value) == ("error", "EARTHDATA_TOKEN ended 3 days ago")
    assert "Generate Token" in found.next_step


def test_a_catalogue_that_does_not_answer(tmp_path: Path) -> None:
    with serving() as http:
        gone = http.url
    text = TEXT.replace("kind: archive, path: archive", f"kind: stac, url: '{gone}'")
    file = write_region(tmp_path, "farm", text=text)
    found = find(file, "farm: catalogue", tmp_path)
    assert found.level == "error" and "no complete answer" in found.value and "try again later" in found.next_step
    with serving() as http:  # an answer that is none, which is not worth waiting for
        text = TEXT.replace("kind: archive, path: archive", f"kind: stac, url: '{http.url}'")
        name, kind, code, message, report = night(write_region(tmp_path, "farm", text=text))
    assert (name, kind, code) == ("CatalogueDown", "FAILED", ExitCode.CATALOGUE_DOWN)
    assert all("try again later" in text for text in (message, report))


def test_a_catalogue_that_hangs_costs_the_doctor_seconds(tmp_path: Path) -> None:
    from faulty import hang

    with serving() as http:
        http.always("/", hang(60))
        text = TEXT.replace("kind: archive, path: archive", f"kind: stac, url: '{http.url}'")
        began = time.monotonic()
        assert find(write_region(tmp_path, "farm", text=text), "farm: catalogue", tmp_path).level == "error"
    assert time.monotonic() - began < 45


@pytest.mark.usefixtures("mounts")
@pytest.mark.parametrize("size_kb", [8, 120, 400])
def test_a_full_disk_ends_the_night_wherever_it_is_and_more_room_mends_it(tmp_path: Path, size_kb: int) -> None:
    made = tiny(tmp_path / "region")
    with small_disk(tmp_path / "disk", size_kb << 10) as small:
        disk = small.folder
        file = made.with_name("full.yaml")
        file.write_text(made.read_text().replace("store: var", f"store: {disk}").replace("name: tiny", "name: full"))
        name, kind, code, message, report = night(file)
        assert (name, kind, code) == ("DiskFull", "FAILED", ExitCode.DISK_FULL), message
        for text in (message, report):
            assert "cannot be written" in text and "make room" in text and str(disk) in text
        found = find(file, "full: disk", tmp_path)
        assert found.level == "error" and "make room" in found.next_step
        small.leave(64 << 20)
        assert night(file)[0] == "Completed"
