"""Hostile inputs: cubes, checkpoints, region files, patch stores, and requests to the viewer.

Each case is worked on in a process of its own, watched by `fault.confined`. It has to end as an error that a user can
mend, or rightly with a result; nothing outside its folder may be opened, called, started or unpickled on the way.

    python tests/fault/campaign_inputs.py --record
"""

import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from fault import cases_checkpoints, cases_cubes, cases_patches, cases_regions, cases_requests, figures
from fault.confined import Case, Outcome, Place, apart, load_libraries, places, tried

Told = dict[str, Any]
GROUPS = ("cubes", "checkpoints", "regions", "patches", "requests")
DAMAGED = 50  # NetCDF files with bytes changed at random
MOST_MB = 1300  # what vsat allows a cube beyond what it declares, and the libraries' own


def all_cases(seed: int, *, small: bool) -> list[Case]:
    """The cases of all kinds; a small run takes every fourth of those that are not heavy."""
    tables = (cases_cubes, cases_checkpoints, cases_regions, cases_patches, cases_requests)
    found = [case for table in tables for case in table.cases(seed=seed, damaged_files=8 if small else DAMAGED)]
    return [case for case in found if not case.heavy][::4] if small else found


def run(cases: Sequence[Case], root: Path, until: float) -> Iterator[Told]:
    """What came of each case, as JSON has it, until `time.monotonic()` says `until`."""
    load_libraries(root)
    viewer = root / "viewer"
    with places(root / "cases") as place_of:
        for number, case in enumerate(cases):
            if time.monotonic() > until:
                return
            place = place_of(f"c{number}")
            if case.group == "requests":
                if not viewer.exists():
                    viewer.mkdir()
                    apart(lambda: cases_requests.make_region(viewer))
                place = Place(viewer, place.outside, place.port)
            yield told_of(case, tried(case, place))


def told_of(case: Case, outcome: Outcome) -> Told:
    """A case and what came of it, as JSON has it; `sound` says whether it is as it should be."""
    told = asdict(outcome) | {"group": case.group, "name": case.name, "expect": case.expect}
    return told | {"sound": is_as_expected(case, outcome)}


def run_beside(jobs: int, options: Sequence[str]) -> list[Told]:
    """The campaign shared out among so many processes."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, f"{n}.json") for n in range(jobs)]
        running = [
            subprocess.Popen([sys.executable, __file__, *options, "--share", f"{n}/{jobs}", "--json", str(file)])
            for n, file in enumerate(files)
        ]
        for one in running:
            one.wait()
        return [json.loads(line) for file in files if file.exists() for line in file.read_text().splitlines()]


def is_as_expected(case: Case, outcome: Outcome) -> bool:
    """Sound, and refused or not as it should be; what was planted, noticed."""
    if case.group == "watch":
        return is_noticed(outcome, next(word for one, word in proofs() if one.name == case.name))
    return outcome.is_sound and outcome.peak_mb <= MOST_MB and case.expect in ("any", outcome.said)


def proofs() -> list[tuple[Case, str]]:
    """What the watch must notice, and a word of how it says so."""

    def secret(place: Place) -> Place:
        (place.outside / "planted").write_text("planted")
        return place

    def library(place: Place) -> object:
        """Opened by a C library, behind Python's back."""
        import ctypes

        handle = ctypes.CDLL(None).open(os.fsencode(place.outside / "planted"), os.O_RDONLY)
        assert handle >= 0
        return handle

    def call(place: Place) -> object:
        return socket.create_connection(("127.0.0.1", place.port), timeout=5)

    planted: list[tuple[str, Callable[[Place], object], str]] = [
        ("a file opened by Python", lambda place: (place.outside / "planted").read_text(), "opened"),
        ("a file opened by a library", library, "touched"),
        ("a file made", lambda place: (place.outside / "made").touch(), "touched"),
        ("a file of the machine", lambda place: (place.folder.parent / "beside").open("a").close(), "opened"),
        ("a connection", call, "called"),
        ("a process", lambda place: subprocess.run(["/bin/true"], check=True), "subprocess"),
        ("a pickle", lambda place: pickle.loads(pickle.dumps(Path())), "unpickled"),
        ("an error of another kind", lambda place: 1 // 0, "ZeroDivisionError"),
        ("a signal", lambda place: os.kill(os.getpid(), signal.SIGSEGV), "SIGSEGV"),
        ("two gigabytes", lambda place: bytearray(b"x") * (2 << 30), "MB"),
    ]  # fmt: skip
    return [(Case("watch", name, secret, work, "any"), word) for name, work, word in planted]


def is_noticed(outcome: Outcome, word: str) -> bool:
    """The watch says so."""
    return outcome.peak_mb > MOST_MB if word == "MB" else word in " ".join([outcome.text, *outcome.reached])


def rows(found: Sequence[Told]) -> list[dict[str, str | int | float]]:
    """A line per kind of input."""
    table: list[dict[str, str | int | float]] = []
    for group in GROUPS:
        told = [one for one in found if one["group"] == group]
        if not told:
            continue
        said = [one["said"] for one in told]
        table.append({
            "input": group, "cases": len(told), "refused": said.count("refused"), "harmless": said.count("fine"),
            "crashes": said.count("crashed"), "reached outside": sum(bool(one["reached"]) for one in told),
            "other than expected": sum(not one["sound"] for one in told),
            "peak memory, MB": round(max(one["peak_mb"] for one in told)),
            "slowest, s": round(max(one["seconds"] for one in told), 1),
        })  # fmt: skip
    return table


def main() -> None:
    """Run, print, record."""
    parser = figures.arguments(__doc__)
    parser.add_argument("--json", type=Path, help="write every outcome to this file, a line each")
    parser.add_argument("--group", choices=GROUPS, help="only this kind")
    parser.add_argument("--name", default="", help="only cases whose name contains this")
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side")
    parser.add_argument("--share", default="0/1", help="1/4: only the second of each four cases")
    given = parser.parse_args()
    at, of = (int(part) for part in given.share.split("/"))
    wanted = [case for case, _ in proofs()]
    wanted += [case for case in all_cases(given.seed, small=given.small) if given.group in (None, case.group)]
    wanted = [case for case in wanted if given.name in case.name]
    if given.jobs > 1:
        options = ["--seed", str(given.seed), "--minutes", str(given.minutes), *(["--small"] if given.small else [])]
        found = run_beside(
            given.jobs, [*options, "--name", given.name, *(["--group", given.group] if given.group else [])]
        )
    else:
        with tempfile.TemporaryDirectory() as folder:
            share = wanted[len(wanted) * at // of : len(wanted) * (at + 1) // of]
            found = []
            for one in run(share, Path(folder).resolve(), time.monotonic() + given.minutes * 60):
                found.append(one)
                if not one["sound"]:
                    print(json.dumps(one | {"text": one["text"][-600:]}), file=sys.stderr, flush=True)
    if given.json:
        given.json.write_text("\n".join(map(json.dumps, found)))
    if of > 1:
        return
    ok = all(one["sound"] for one in found) and len(found) == len(wanted)
    figures.record("inputs", "python tests/fault/campaign_inputs.py --record", rows(found), ok, write=given.record)


if __name__ == "__main__":
    main()
