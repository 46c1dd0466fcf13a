"""Every hostile input of the table, in one process: how many, what they reached for, what broke, and how much memory.

python tests/fault/campaign_hostile.py --record
"""

import re
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from fault import figures
from fault.hostile_addresses import HREFS, PRIVATE_ADDRESSES, REDIRECTS
from fault.hostile_catalogues import ITEMS, PAGES, ROOTS
from fault.hostile_files import FILES
from fault.hostile_world import MAX_PEAK_MB, Case, Outcome, dns_outcome, tried, world

GROUPS = {
    "addresses of files": HREFS,
    "redirects": REDIRECTS,
    "items": ITEMS,
    "pages of a search": PAGES,
    "first pages of a catalogue": ROOTS,
    "files posing as TIFF": [case for case in FILES if case.kind == "posing as TIFF"],
    "headers of TIFFs": [case for case in FILES if case.kind == "TIFF"],
    "compression bombs": [case for case in FILES if case.kind == "bomb"],
    "answers to a read": [case for case in FILES if case.kind == "answer for a file"],
}


def run(minutes: float) -> tuple[list[dict[str, figures.Cell]], bool]:
    """The table, a row for each kind of input, and whether nothing happened that should not."""
    end = time.monotonic() + 60 * minutes
    rows: list[dict[str, figures.Cell]] = []
    with tempfile.TemporaryDirectory() as folder, world(Path(folder) / "world") as made, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, cases in GROUPS.items():
            rows.append(_row(name, [(case, tried(made, case)) for case in cases if time.monotonic() < end]))
        names = [(address, catalogue) for address in PRIVATE_ADDRESSES for catalogue in (True, False)]
        told = Case("DNS", "", lambda _: None, "no public address")
        rows.append(
            _row(
                "names that lead to private addresses", [(told, dns_outcome(made, (a,), catalogue=c)) for a, c in names]
            )
        )
    total: dict[str, figures.Cell] = {"input": "all"}
    for key in ("cases", "read, and right", "refused with a reason", "reads outside", "crashes", "told otherwise"):
        total[key] = sum(int(row[key]) for row in rows)
    total["peak MB"] = max(float(row["peak MB"]) for row in rows)
    wanted = sum(map(len, GROUPS.values())) + 2 * len(PRIVATE_ADDRESSES)
    bad = int(total["reads outside"]) + int(total["crashes"]) + int(total["told otherwise"])
    return [*rows, total], bad == 0 and total["cases"] == wanted and float(total["peak MB"]) < MAX_PEAK_MB


def _row(name: str, tried: Sequence[tuple[Case, Outcome]]) -> dict[str, figures.Cell]:
    for case, outcome in tried:
        if outcome.crash or outcome.seen.outside or not re.search(case.told, outcome.told):
            print(f"{case.kind}: {case.name}: {outcome.told} {outcome.crash} {outcome.seen.outside}", file=sys.stderr)
    outcomes = [outcome for _, outcome in tried]
    read = sum(outcome.told in ("read", "nothing") for outcome in outcomes)
    crashes = sum(bool(outcome.crash) for outcome in outcomes)
    return {
        "input": name,
        "cases": len(tried),
        "read, and right": read,
        "refused with a reason": len(tried) - read - crashes,
        "reads outside": sum(len(outcome.seen.outside) for outcome in outcomes),
        "crashes": crashes,
        "told otherwise": sum(not o.crash and not re.search(case.told, o.told) for case, o in tried),
        "peak MB": round(max((outcome.seen.peak_mb for outcome in outcomes), default=0.0), 1),
    }


if __name__ == "__main__":
    options = figures.arguments(__doc__).parse_args()
    found, reached = run(options.minutes)
    figures.record("hostile", "python tests/fault/campaign_hostile.py --record", found, reached, write=options.record)
