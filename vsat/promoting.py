"""The verbs on a region's checkpoints: model list, promote, rollback, retrain. `cli` puts them below `vsat model`."""

from dataclasses import asdict
from typing import Annotated

import typer

from vsat.terminal import AsOf, Json, RegionFile, Workers, day_of, progress, region_of, tell, today

app = typer.Typer(help="Which checkpoint a region's images are made with, where its method is anydate.")


@app.command("list", epilog="Example: vsat model list regions/demo.yaml")
def list_(region: RegionFile, as_json: Json = False) -> None:
    """The checkpoints of a region, the one in use, and how it came to be."""
    from vsat.stages.promotion import checkpoints, read_pointer

    home = region_of(region).home
    pointer, names = read_pointer(home), checkpoints(home)
    told = {"current": pointer.current, "checkpoints": names, "history": [asdict(one) for one in pointer.history]}
    there = [f"{'*' if name == pointer.current else ' '} {name}" for name in names]
    moves = [f"{one.day} {one.verb} {one.name}: {one.reason}" for one in pointer.history]
    tell(told, as_json, "\n".join([*there, *moves]))


@app.command(epilog="Example: vsat model promote regions/demo.yaml 2024-05-05")
def promote(
    region: RegionFile,
    name: Annotated[str, typer.Argument(help="of a checkpoint that vsat model list shows")],
    as_json: Json = False,
) -> None:
    """Make images with this checkpoint from now on; final ones stay as they are."""
    from vsat.stages.promotion import promote as run

    wanted = region_of(region)
    pointer = run(wanted.home, name, today(), reason="by hand")
    tell({"current": pointer.current}, as_json, f"{wanted.name}: images are made with {pointer.current}")


@app.command(epilog="Example: vsat model rollback regions/demo.yaml")
def rollback(region: RegionFile, as_json: Json = False) -> None:
    """Go back to the checkpoint that was in use before the last promotion."""
    from vsat.stages.promotion import rollback as run

    wanted = region_of(region)
    pointer = run(wanted.home, today())
    tell({"current": pointer.current}, as_json, f"{wanted.name}: images are made with {pointer.current} again")


@app.command(epilog="Example: vsat model retrain regions/demo.yaml --minutes 20")
def retrain(
    context: typer.Context,
    region: RegionFile,
    *,
    day: AsOf = None,
    steps: Annotated[int | None, typer.Option(min=1, help="of the optimiser; by default 250")] = None,
    minutes: Annotated[float | None, typer.Option(help="save and stop after so many")] = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Fine-tune on what the region has grown, and promote the result where the judge finds it better."""
    from vsat.stages.retrain import RetrainOptions
    from vsat.stages.retrain import retrain as run

    options = RetrainOptions(steps=steps, minutes=minutes)
    with progress(quiet=bool(context.parent and context.parent.obj)) as of:
        asof = day_of(day) if day else today()
        report = run(region_of(region), asof, options, workers=workers, progress=of("folds judged"))
    tell(report, as_json, report.text())
