"""The verbs of operation: up, down, serve, doctor."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from vsat.errors import ExitCode
from vsat.settings import VIEWER_PORT
from vsat.terminal import Json, end_with, file_of, now, region_of, tell

Regions = Annotated[list[str], typer.Argument(help="region files, or names in regions/", metavar="REGION...")]
Folder = Annotated[Path, typer.Option(help="where the stack keeps its state, its secret and its logs")]
STACK = Path("var/stack")


def up(
    regions: Regions,
    *,
    folder: Folder = STACK,
    port: Annotated[int, typer.Option(help="of the server on 127.0.0.1; 0 takes a free one")] = 4200,
    viewer_port: Annotated[int, typer.Option(help="of the viewer on 127.0.0.1; 0 takes a free one")] = VIEWER_PORT,
    every_s: Annotated[int | None, typer.Option(min=10, help="for a trial: a night every so many seconds")] = None,
    postgres: Annotated[
        str | None, typer.Option(help="the server's database, postgresql://USER@HOST/NAME; a password: VSAT_POSTGRES")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="go on in the background; vsat down stops it")] = False,
) -> None:
    """Start Prefect server, worker, viewer and the regions' deployments on this machine; what dies is started again."""
    from vsat import stack
    from vsat.processes import look_after, stoppable

    names, files = [region_of(text).name for text in regions], [file_of(text) for text in regions]
    typer.echo("starting; the first time this takes half a minute", err=True)
    if detach:
        interval = ["--every-s", str(every_s)] if every_s else []
        database = ["--postgres", postgres] if postgres else []
        at = ["--folder", str(folder.resolve()), "--port", str(port), "--viewer-port", str(viewer_port)]
        told = stack.detach([*(str(file.resolve()) for file in files), *at, *interval, *database], folder)
        _tell_addresses(told["ui"], told["viewer"], folder.resolve(), names, "vsat down" + _unless_default(folder))
        return
    stoppable()
    with stack.stack(files, folder, port=port, viewer_port=viewer_port, every_s=every_s, postgres=postgres) as running:
        _tell_addresses(running.ui, running.viewer, folder.resolve(), names, "Ctrl-C")
        look_after(running.parts)


def down(folder: Folder = STACK, as_json: Json = False) -> None:
    """Stop the stack that was started in this folder, and whatever is left of one that died."""
    from vsat.stack import bring_down

    ended = bring_down(folder)
    tell({"ended": ended}, as_json, "the stack is down" if ended else f"no stack runs in {folder}")


def serve(
    regions: Annotated[
        list[str] | None,
        typer.Argument(help="region files, or names in regions/; by default all that are there", metavar="[REGION]..."),
    ] = None,
    *,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one")] = VIEWER_PORT,
    host: Annotated[
        str, typer.Option(help="address to listen at; by default this machine alone can ask")
    ] = "127.0.0.1",
) -> None:
    """Show the regions: a page with map, curves and status, and the API behind it, until Ctrl-C."""
    from vsat.processes import stoppable
    from vsat.viewer.serving import bound, region_files, run

    files = [file_of(text) for text in regions] if regions else region_files()
    chosen = [region_of(str(file)) for file in files]
    listener = bound(host, port)
    typer.echo(f"map       http://{host}:{listener.getsockname()[1]}/?region={chosen[0].name}\nCtrl-C stops it")
    stoppable()
    run(chosen, listener)


def doctor(regions: Regions, *, folder: Folder = STACK, as_json: Json = False) -> None:
    """Look through everything that a night needs, and say what to do about what is wrong."""
    from vsat.doctor import examine

    findings = examine([region_of(text) for text in regions], folder, now())
    errors = sum(one.level == "error" for one in findings)
    lines = [f"{one.level:8}{one.name:24}{one.value}{one.what_next}" for one in findings]
    told = {"findings": [vars(one) for one in findings], "errors": errors}
    tell(told, as_json, "\n".join(lines))
    end_with(ExitCode.FAILED if errors else ExitCode.DONE)


def _tell_addresses(ui: str, viewer: str, folder: Path, names: list[str], stops: str) -> None:
    command = f"PREFECT_PROFILES_PATH={folder / 'profiles.toml'} {Path(sys.executable).with_name('prefect')}"
    typer.echo(f"map       {viewer}/?region={names[0]}")
    typer.echo(f"Prefect   {ui}, which asks for the text in {folder / 'auth'}")
    typer.echo(f"logs      {folder / 'logs'}\nnightly   07:30 UTC, for {', '.join(names)}")
    typer.echo(f"now       {command} deployment run nightly/{names[0]}")
    request = json.dumps({"start": "2023-01-01", "end": "2023-03-31"})
    typer.echo(f"past      {command} deployment run backfill/{names[0]} -p 'request={request}'")
    typer.echo(f"{stops} stops all")


def _unless_default(folder: Path) -> str:
    return "" if folder == STACK else f" --folder {folder}"
