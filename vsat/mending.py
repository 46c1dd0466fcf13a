"""The verbs that look after what is stored: verify, repair, gc. `cli` puts them beside the others."""

from pathlib import Path
from typing import Annotated

import typer

from vsat.errors import ExitCode
from vsat.terminal import Json, RegionFile, Workers, end_with, progress, region_of, tell, today

Patches = Annotated[
    list[Path] | None,
    typer.Option(help="a store of patches to look after too, besides the region's own; may be repeated"),
]
Checkpoints = Annotated[
    list[Path] | None, typer.Option("--checkpoint", help="a checkpoint's folder to look after too; may be repeated")
]


def verify(
    region: RegionFile, *, patches: Patches = None, checkpoint: Checkpoints = None, as_json: Json = False
) -> None:
    """Read all that a region has and compare it with what was written; name what is missing, altered, stale or nobody's."""
    from vsat.stages.verify import verify as run

    report = run(region_of(region), patches=patches or (), checkpoints=checkpoint or ())
    summary = f"{report.objects} objects, {report.bytes / 1e6:.1f} MB, {len(report.findings)} problems"
    told = {"objects": report.objects, "bytes": report.bytes, "problems": report.problems}
    tell(told, as_json, "\n".join([summary, *report.problems]))
    end_with(ExitCode.FAILED if report.findings else ExitCode.DONE)


def repair(
    context: typer.Context,
    region: RegionFile,
    *,
    patches: Patches = None,
    checkpoint: Checkpoints = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be done")] = False,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Bring back what verify finds: scenes from the catalogue, images from scenes, patches from the same draw; then verify."""
    from vsat.stages.repair import remedy
    from vsat.stages.repair import repair as run
    from vsat.stages.verify import verify as look

    wanted, stores, folders = region_of(region), patches or (), checkpoint or ()
    if dry_run:
        found = look(wanted, patches=stores, checkpoints=folders).findings
        lines = [f"{len(found)} problems", *(f"{one}: {remedy(one)}" for one in found)]
        tell({"problems": [str(one) for one in found]}, as_json, "\n".join(lines))
        return
    with progress(quiet=bool(context.obj)) as of:
        report = run(
            wanted, today(), patches=stores, checkpoints=folders, workers=workers, progress=of("jobs of the repair")
        )
    told = {
        "problems": [str(one) for one in report.found], "done": report.done, "failed": report.failed, "left": report.left.problems,
    }  # fmt: skip
    tell(told, as_json, report.text())
    end_with(ExitCode.FAILED if report.left.findings else ExitCode.DONE)


def gc(
    region: RegionFile,
    *,
    patches: Patches = None,
    older_than: Annotated[
        float, typer.Option(min=0, metavar="DAYS", help="younger files stay: somebody may be at work with them")
    ] = 1.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be removed")] = False,
    as_json: Json = False,
) -> None:
    """Remove what nobody lists: leftovers of killed runs, objects without a receipt. Never what a run is writing."""
    from vsat.stages.gc import gc as run

    report = run(region_of(region), older_than_days=older_than, patches=patches or (), dry_run=dry_run)
    tell(report, as_json, report.text())
