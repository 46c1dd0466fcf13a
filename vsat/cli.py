"""The verbs of vsat: parse, call a stage, print. Results go to standard output, everything else to standard error."""

import json
import logging
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from vsat.errors import DiskFull, InputError, VsatError
from vsat.exporting import export
from vsat.learning import evaluate, fill, sample, train
from vsat.mending import gc, repair, verify
from vsat.operating import doctor, down, serve, up
from vsat.promoting import app as models
from vsat.room import MAKE_ROOM, NO_ROOM
from vsat.terminal import (
    AsOf,
    End,
    Json,
    PolicyName,
    Quiet,
    RegionFile,
    Start,
    Verbose,
    Workers,
    aligned,
    box_of,
    day_of,
    file_of,
    region_of,
    stages,
    stretch,
    tell,
    tell_run,
    today,
    unit_stages,
)

EPILOG = (
    "Exit codes: 0 done, 1 some work failed, 2 the input cannot be used, 3 catalogue down, 4 no scenes, 5 all cloudy, "
    "6 access refused, 7 disk full. "
    "Every verb has an example: vsat VERB --help. With --json the result is one JSON object on standard output."
)
app = typer.Typer(
    help="A virtual satellite: cloud-free HLS reflectance with honest uncertainty for any date, seen or not.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)


def main() -> None:
    """Run a verb; an error that the user can mend is one message and its exit code."""
    try:
        app()
    except VsatError as error:
        _end(error)
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        place = str(error.filename or "the disk")
        _end(DiskFull(f"it cannot be written: {error.strerror}", place=place, next_step=MAKE_ROOM))


def _end(error: VsatError) -> NoReturn:
    """Say what went wrong, and end with its exit code."""
    if "--json" in sys.argv:
        told = {
            "problem": error.problem, "place": error.place, "next_step": error.next_step, "page": error.page,
        }  # fmt: skip
        typer.echo(json.dumps({"error": type(error).__name__, **told, "exit_code": int(error.exit_code)}))
    typer.echo(f"vsat: {error}\nsee {error.page}", err=True)
    sys.exit(int(error.exit_code))


@app.callback()
def _options(context: typer.Context, verbose: Verbose = False, quiet: Quiet = False) -> None:
    shown = verbose or not (quiet or sys.stderr.isatty())  # a log file wants the lines, a terminal has the bar
    form = "%(asctime)s %(levelname)s %(message)s" if shown else "%(levelname)s %(message)s"
    logging.basicConfig(level=logging.WARNING, format=form, stream=sys.stderr, force=True)
    logging.getLogger("vsat").setLevel(logging.INFO if shown else logging.WARNING)
    context.obj = quiet


@app.command(epilog="Example: vsat init farm --bbox 13.1,48.2,13.3,48.4 --start 2023-01-01")
def init(
    region: Annotated[str, typer.Argument(help="a name, for regions/NAME.yaml, or the path of a .yaml file to write")],
    *,
    bbox: Annotated[str, typer.Option(help="west,south,east,north in degrees")],
    name: Annotated[str | None, typer.Option(help="the region's name; by default the file's")] = None,
    start: Annotated[str | None, typer.Option(help="first day; by default the first of this year")] = None,
    end: Annotated[str | None, typer.Option(help="last day; by default the region goes on with the days")] = None,
    catalogue: Annotated[str, typer.Option(help="cmr (NASA), planetary-computer, stac or archive")] = "cmr",
    where: Annotated[str, typer.Option(help="the folder of an archive, or the root URL of a STAC API")] = "",
    force: Annotated[bool, typer.Option("--force", help="replace a file that is there")] = False,
    as_json: Json = False,
) -> None:
    """Write a region file with every key explained, and its JSON Schema beside it for editors."""
    from vsat.config import load_region
    from vsat.settings import Settings
    from vsat.starter import SCHEMA_FILE, region_schema, starter

    is_path = region.endswith((".yaml", ".yml"))
    file = Path(region) if is_path else Settings.from_environment().regions / f"{region}.yaml"
    if file.exists() and not force:
        raise InputError("the file is there already", place=str(file), next_step="choose another name, or add --force")
    first = day_of(start) if start else today().replace(month=1, day=1)
    last = day_of(end) if end else None
    text = starter(name or file.stem, box_of(bbox), start=first, end=last, catalogue=catalogue, where=where)
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f".{file.name}")
    aside.write_text(text, "utf-8")
    try:
        load_region(aside)  # a file that could not be used is not left behind
    except VsatError:
        aside.unlink()
        raise
    aside.replace(file)
    (file.parent / SCHEMA_FILE).write_text(json.dumps(region_schema(), indent=1) + "\n", "utf-8")
    tell({"file": str(file)}, as_json, f"{file} is written; look through it, then: vsat check {file}")


@app.command(epilog="Example: vsat check regions/demo.yaml")
def check(region: RegionFile, as_json: Json = False) -> None:
    """Read a region file and say what it asks for: tiles, pixels, dates. Asks no catalogue and writes nothing."""
    wanted = region_of(region)
    dates = wanted.dates(today())
    tiles = {grid.tile: {"epsg": grid.epsg, "height": grid.height, "width": grid.width} for grid in wanted.grids()}
    told = {
        "region": wanted.name, "home": str(wanted.home), "catalogue": wanted.catalogue.kind, "method": wanted.method,
        "tiles": tiles, "dates": len(dates), "first": dates[0] if dates else None, "last": dates[-1] if dates else None,
    }  # fmt: skip
    sizes = [f"{tile} ({at['height']} x {at['width']} pixels, EPSG:{at['epsg']})" for tile, at in tiles.items()]
    until = f", {dates[0]} to {dates[-1]}" if dates else ""
    when = "one for each day with a scene" if wanted.cadence.acquisitions else f"{len(dates)} until today{until}"
    lines = [f"{wanted.name}: fine", f"tiles  {', '.join(sizes)}", f"dates  {when}", f"store  {wanted.home}"]
    tell(told, as_json, "\n".join(lines))


@app.command(epilog="Example: vsat plan regions/demo.yaml --start 2023-01-01 --end 2023-03-31")
def plan(region: RegionFile, start: Start = None, end: End = None, day: AsOf = None, as_json: Json = False) -> None:
    """Say what would be fetched and made: asks the catalogue, touches no pixel and changes nothing."""
    from vsat.stages.status import planned

    wanted = region_of(region)
    told = planned(wanted, *stretch(wanted, start, end), day_of(day) if day else today())
    tell(told, as_json, aligned(told))


@app.command(epilog="Example: vsat fetch regions/demo.yaml --start 2023-05-01 --end 2023-05-31")
def fetch(
    context: typer.Context,
    region: RegionFile,
    *,
    start: Start = None,
    end: End = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Find, read, verify and keep the scenes of a stretch of days."""
    from vsat.stages.report import RunReport

    wanted = region_of(region)
    with stages(context, workers) as (fetch_days, _):
        report = fetch_days(wanted, *stretch(wanted, start, end))
    tell_run(RunReport.of("fetch", wanted.name, today(), report, None), as_json)


@app.command(epilog="Example: vsat generate regions/demo.yaml --start 2023-05-01 --end 2023-05-31 --policy replace")
def generate(
    context: typer.Context,
    region: RegionFile,
    *,
    start: Start = None,
    end: End = None,
    day: AsOf = None,
    policy: PolicyName = "missing",
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Make the virtual images of a stretch of days from the scenes in the cube."""
    from vsat.stages.report import RunReport

    wanted, asof = region_of(region), day_of(day) if day else today()
    with stages(context, workers) as (_, generate_days):
        report = generate_days(wanted, *stretch(wanted, start, end), asof, policy)
    tell_run(RunReport.of("generate", wanted.name, asof, None, report), as_json)


app.command(epilog="Example: vsat fill cube.nc --every 10 --out filled.nc")(fill)
app.command(epilog="Example: vsat sample regions/demo.yaml --out var/patches --patches 500")(sample)
app.command(epilog="Example: vsat train --patches var/patches --init anydate --out var/model --minutes 20")(train)
app.command(epilog="Example: vsat evaluate cube.nc --json verdict.json --html verdict.html")(evaluate)
app.command(epilog="Example: vsat export regions/demo.yaml --out farm.nc --index ndvi --start 2023-05-01")(export)
app.add_typer(models, name="model")


@app.command(epilog="Example: vsat backfill regions/farm.yaml --start 2020-01-01 --end 2020-12-31 --dry-run")
def backfill(
    context: typer.Context,
    region: RegionFile,
    *,
    start: Start = None,
    end: End = None,
    day: AsOf = None,
    policy: PolicyName = "missing",
    method: Annotated[str | None, typer.Option(help="how gaps are filled; by default as the region says")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only count, and estimate bytes and time")] = False,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Fetch and make a past stretch of days, month by month. Stopped, the same command goes on where it was."""
    from vsat.stages.backfill import backfill as run
    from vsat.stages.estimate import estimate
    from vsat.stages.request import asked_for

    wanted, asof = region_of(region), day_of(day) if day else today()
    first, last = stretch(wanted, start, end)
    asked = asked_for(first, last, policy=policy, method=method, dry_run=dry_run)
    if asked.dry_run:
        told = estimate(wanted, asked, asof, workers=workers)
        tell(told, as_json, told.text())
        return
    with unit_stages(context, workers) as run_jobs:
        report = run(wanted, asked, asof, run=run_jobs)
    tell_run(report, as_json)


@app.command(epilog="Example: vsat nightly regions/demo.yaml --day 2023-12-31")
def nightly(
    context: typer.Context, region: RegionFile, *, day: AsOf = None, workers: Workers = None, as_json: Json = False
) -> None:
    """Bring a region up to the day, here and now, without Prefect: for cron, and for trying out."""
    from vsat.stages.nightly import nightly as run

    with stages(context, workers) as (fetch_days, generate_days):
        report = run(region_of(region), day_of(day) if day else today(), fetch=fetch_days, generate=generate_days)
    tell_run(report, as_json)


@app.command(epilog="Example: vsat status regions/demo.yaml --json")
def status(region: RegionFile, as_json: Json = False) -> None:
    """What the ledger says: scenes, images, failures, and up to which day the nights have come."""
    from vsat.stages.status import region_status

    told = region_status(region_of(region))
    tell(told, as_json, aligned(told))


app.command(epilog="Example: vsat verify regions/demo.yaml && echo sound")(verify)
app.command(epilog="Example: vsat repair regions/demo.yaml --dry-run")(repair)
app.command(epilog="Example: vsat gc regions/demo.yaml --older-than 7 --dry-run")(gc)


@app.command(epilog="Example: vsat demo")
def demo(region: RegionFile = "regions/demo.yaml", as_json: Json = False) -> None:
    """Run the whole job on an archive on this machine, and compare every image with the known truth."""
    from vsat.stages.demo import run_demo

    report = run_demo(file_of(region), partial(typer.echo, err=True))
    tell(report, as_json, report.text())


app.command(epilog="Example: vsat up regions/demo.yaml --detach, then open the address it prints")(up)
app.command(epilog="Example: vsat down")(down)
app.command(epilog="Example: vsat serve regions/demo.yaml, then open the address it prints")(serve)
app.command(epilog="Example: vsat doctor regions/demo.yaml")(doctor)


if __name__ == "__main__":
    main()
