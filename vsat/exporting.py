"""The verb that hands over what is published: export. `cli` puts it beside the others."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from vsat.terminal import End, Json, RegionFile, Start, day_of, listed, progress, region_of, tell


def export(
    context: typer.Context,
    region: RegionFile,
    *,
    out: Annotated[Path, typer.Option(help="a file ending in .nc or .csv, or a folder for COGs")],
    form: Annotated[
        Literal["netcdf", "cog", "csv"] | None, typer.Option("--format", help="by default what the name of --out says")
    ] = None,
    tile: Annotated[str | None, typer.Option(help="which tile, where the region has several: 33UVP")] = None,
    start: Start = None,
    end: End = None,
    dates: Annotated[str | None, typer.Option(help="only these days: 2024-05-01,2024-06-15")] = None,
    bands: Annotated[str | None, typer.Option(help="red,nir; none for none; by default all that there are")] = None,
    index: Annotated[
        list[str] | None, typer.Option(help="ndvi, evi, ndwi or nbr with its standard deviation; may be repeated")
    ] = None,
    points: Annotated[Path | None, typer.Option(help="a table for the points of a CSV file: id,lon,lat")] = None,
    polygons: Annotated[Path | None, typer.Option(help="a table for the polygons of a GeoJSON file")] = None,
    as_json: Json = False,
) -> None:
    """Hand over images: one CF NetCDF file, COGs with a band per date, or a table for points or polygons."""
    from vsat.stages.export import ExportOptions
    from vsat.stages.export import export as run

    options = ExportOptions(
        tile,
        day_of(start) if start else None,
        day_of(end) if end else None,
        tuple(day_of(text) for text in listed(dates)),
        None if bands is None else tuple(name for name in listed(bands.lower()) if name != "none"),
        tuple(name for text in index or () for name in listed(text.lower())),
        points,
        polygons,
    )
    with progress(quiet=bool(context.obj)) as of:
        unit = "files" if not out.suffix else "images"
        report = run(region_of(region), out, options, kind=form, progress=of(unit))
    tell(asdict(report), as_json, report.text())
