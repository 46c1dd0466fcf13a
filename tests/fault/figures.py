"""What a campaign found, as a table on the page docs/reliability.md, with the command that finds it again.

    args = figures.arguments(__doc__)          # --small, --minutes, --seed, --record
    rows, ok = run(args.seed, small=args.small, minutes=args.minutes)
    figures.record("reads", "python tests/fault/campaign_reads.py --record", rows, ok, write=args.record)

The page keeps each campaign's place between the lines `<!-- figures: NAME -->` and `<!-- end -->`; nothing outside of
them is touched.
"""

import argparse
import os
import platform
import re
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import psutil

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
Cell = str | int | float
_NAME = re.compile(r"[a-z][a-z0-9-]*")
_STARTED = time.monotonic() - max(0.0, time.time() - psutil.Process().create_time())  # imports count, too


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser of the options that every campaign has; a campaign may add its own before it parses."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="the size that the suite runs")
    parser.add_argument("--minutes", type=float, default=60.0, help="at most so long; what is done by then is shown")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--record", action="store_true", help="write the table into docs/reliability.md")
    return parser


def table(rows: Sequence[Mapping[str, Cell]]) -> str:
    """The rows as a markdown table; columns are the keys, in the order they first appear."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [columns, ["---"] * len(columns), *([_cell(row.get(key, "")) for key in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def record(
    name: str,
    command: str,
    rows: Sequence[Mapping[str, Cell]],
    ok: bool,
    *,
    write: bool = True,
    page: Path = PAGE,
) -> None:
    """The table is printed and, with `write`, stands on the page at the place of that name.

    Args:
        name: the place on the page.
        command: what finds these figures again.
        rows: the table; keys are its columns.
        ok: whether the goal is reached.
        write: False prints only.
        page: another page than docs/reliability.md.

    Raises:
        LookupError: the page has no such place.
        SystemExit: the goal is missed (exit code 1); the table is printed and written first.
    """
    section = _section(command, rows, ok)
    print(section)
    if write:
        _write(page, name, section)
    if not ok:
        sys.exit(1)


def _section(command: str, rows: Sequence[Mapping[str, Cell]], ok: bool) -> str:
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, {datetime.now(UTC).date()}"
    taken = f"{time.monotonic() - _STARTED:.0f} s"
    outcome = "goal reached" if ok else "**goal missed**"
    return f"`{command}`: {machine}, {taken}, {outcome}.\n\n{table(rows)}"


def _write(page: Path, name: str, section: str) -> None:
    assert _NAME.fullmatch(name), name
    begin, end = f"<!-- figures: {name} -->", "<!-- end -->"
    text = page.read_text("utf-8")
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise LookupError(f"{page.name} has no place for it: add the lines {begin} and {end}")
    part = page.with_suffix(f".{os.getpid()}.part")
    part.write_text(f"{before}{begin}\n\n{section}\n\n{end}{after}", "utf-8")
    part.replace(page)


def _cell(value: Cell) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value).replace("|", "\\|")
