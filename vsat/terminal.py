"""What the verbs share: options, what texts mean, progress on standard error, and how a result is told."""

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vsat.errors import ExitCode, InputError

if TYPE_CHECKING:
    from vsat.config import Region
    from vsat.stages.nightly import FetchStage, GenerateStage
    from vsat.stages.report import RunReport
    from vsat.stages.units import RunJobs

RegionFile = Annotated[str, typer.Argument(help="a region file, or the name of one in regions/", metavar="REGION")]
Json = Annotated[bool, typer.Option("--json", help="print the result as one JSON object")]
Start = Annotated[str | None, typer.Option(help="first day, 2024-05-01; by default the period's first")]
End = Annotated[str | None, typer.Option(help="last day, 2024-05-31; by default the period's last, or today")]
AsOf = Annotated[str | None, typer.Option("--day", help="as of which UTC day; by default today")]
Workers = Annotated[int | None, typer.Option(min=1, help="threads; by default VSAT_WORKERS, or the processors")]
PolicyName = Annotated[
    Literal["missing", "skip", "replace", "new-version"],
    typer.Option(
        help="missing makes what is missing or stale, skip only what is missing, replace all, new-version what is "
        "missing or stale beside the image that is there"
    ),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="a line on standard error for each unit of work")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="no progress, warnings only")]


def region_of(text: str) -> "Region":
    """The region that a path or a name means."""
    from vsat.config import load_region

    return load_region(file_of(text))


def file_of(text: str) -> Path:
    """The region file that a path or a name means."""
    from vsat.settings import Settings, find_region

    return find_region(text, Settings.from_environment().regions)


def today() -> date:
    """The UTC day it is now."""
    return datetime.now(UTC).date()


def now() -> datetime:
    """The moment it is, UTC."""
    return datetime.now(UTC)


def listed(text: str | None) -> list[str]:
    """The parts of `a,b, c`."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def day_of(text: str) -> date:
    """The day that an option names, 2024-05-31.

    Raises:
        InputError: it names none.
    """
    try:
        return date.fromisoformat(text.strip())
    except ValueError as error:
        raise InputError(f"{text!r} is not a day", place="options", next_step="write it as 2024-05-31") from error


def stretch(region: "Region", start: str | None, end: str | None) -> tuple[date, date]:
    """First and last day: as given, else the region's period, to today at most.

    Raises:
        InputError: a text is no day, or they are in the wrong order.
    """
    first = day_of(start) if start else region.period.start
    last = day_of(end) if end else min(today(), region.period.end or today())
    if first > last:
        raise InputError(f"{first} is after {last}", place="options", next_step="give the earlier day first")
    return first, last


def box_of(text: str) -> tuple[float, float, float, float]:
    """West, south, east, north in degrees.

    Raises:
        InputError: the text is not four numbers.
    """
    try:
        west, south, east, north = (float(part) for part in text.split(","))
    except ValueError as error:
        step = "write west,south,east,north in degrees: 13.1,48.2,13.3,48.4"
        raise InputError(f"{text!r} is not a box", place="--bbox", next_step=step) from error
    return west, south, east, north


@contextmanager
def stages(context: typer.Context, workers: int | None) -> Iterator[tuple["FetchStage", "GenerateStage"]]:
    """The two stages on threads here, with a bar on a terminal and a line at each tenth elsewhere."""
    from vsat.stages.fetch import fetch as run_fetch
    from vsat.stages.nightly import generate_stage

    with progress(quiet=bool(context.obj)) as of:
        yield (
            lambda region, start, end: run_fetch(
                region, start, end, workers=workers, progress=of(f"scenes, {start} to {end}")
            ),
            lambda region, start, end, day, policy: generate_stage(
                region, start, end, day, policy, workers=workers, progress=of(f"images, {start} to {end}")
            ),
        )


@contextmanager
def unit_stages(context: typer.Context, workers: int | None) -> Iterator["RunJobs"]:
    """The jobs of a backfill's stretches on threads here, with progress as in `stages`. SIGTERM ends it as Ctrl-C does."""
    from vsat.settings import Settings
    from vsat.stages.pool import run_jobs
    from vsat.stages.units import unit_job

    threads = workers or Settings.from_environment().workers
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with progress(quiet=bool(context.obj)) as of:
            yield lambda jobs, name: run_jobs(unit_job, jobs, workers=threads, progress=of(name))
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def progress(*, quiet: bool) -> Iterator[Callable[[str], Callable[[int, int], None]]]:
    """Inside, a function that makes (done, total) callbacks by name of what is counted; all on standard error."""
    if quiet or not sys.stderr.isatty():
        yield lambda unit: partial(_line, "" if quiet else unit)
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bars:

        def bar(unit: str) -> Callable[[int, int], None]:
            task = bars.add_task(unit, total=None)
            return lambda done, total: bars.update(task, completed=done, total=total)

        yield bar


def _line(unit: str, done: int, total: int) -> None:
    if unit and 10 * done // total != 10 * (done - 1) // total:
        typer.echo(f"{done} of {total} {unit}", err=True)


def tell_run(report: "RunReport", as_json: bool) -> None:
    """Print what a run did, and end with its exit code."""
    failures = [*(report.fetch.failures if report.fetch else ()), *(report.generate.failed if report.generate else ())]
    tell(report, as_json, "\n".join([report.outcome, *(f"  {key}: {why}" for key, why in failures), *report.notes]))
    end_with(report.exit_code)


def tell(value: Any, as_json: bool, text: str) -> None:
    """Print a result: the text, or the value as one JSON object."""
    plain = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    typer.echo(json.dumps(plain, default=str) if as_json else text)


def aligned(told: dict[str, Any]) -> str:
    """Names and values below each other."""
    lines = []
    for key, value in told.items():
        inner = ", ".join(f"{number} {name}" for name, number in value.items()) if isinstance(value, dict) else value
        lines.append(f"{key.replace('_', ' '):16} {'-' if inner in (None, '') else inner}".replace("_", " "))
    return "\n".join(lines)


def end_with(code: ExitCode) -> None:
    """End the process with this code, unless it is DONE; standard error says where it is explained."""
    if code:
        typer.echo(f"see {code.page}", err=True)
        raise typer.Exit(int(code))
