"""What is published, handed over: one NetCDF file, stacked COGs, or a table for points and polygons."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

from vsat.config import Region
from vsat.core.indices import named
from vsat.errors import InputError
from vsat.io.durable import make_folder, put_file
from vsat.io.images import Published, image_grid, published, tile_images
from vsat.io.netcdf import write_netcdf
from vsat.io.stacks import write_stack
from vsat.io.styles import style_of
from vsat.io.variables import Variable, chosen
from vsat.stages.export_table import area_table, point_table, read_areas, read_points, write_table
from vsat.stages.pool import Progress

log = logging.getLogger(__name__)

Kind = Literal["netcdf", "cog", "csv"]


@dataclass(frozen=True)
class ExportOptions:
    """What is wanted of a region's images.

    Attributes:
        tile: which; None where the region has one, or for all of them in a table.
        start, end: first and last day; None for the images' own.
        dates: only these days; () for all.
        bands: names of hls.BANDS; None for all that the images have, () for none.
        indices: names of core.indices.INDICES, each with its propagated standard deviation.
        points, polygons: a CSV file or a GeoJSON file, for a table; exactly one of the two.
    """

    tile: str | None = None
    start: date | None = None
    end: date | None = None
    dates: tuple[date, ...] = ()
    bands: tuple[str, ...] | None = None
    indices: tuple[str, ...] = ()
    points: Path | None = None
    polygons: Path | None = None


@dataclass(frozen=True)
class ExportReport:
    """What was written: files, images, names of the variables, rows of a table, and what was asked for and lies outside."""

    kind: Kind
    files: tuple[str, ...]
    images: int
    variables: tuple[str, ...]
    rows: int = 0
    outside: tuple[str, ...] = ()

    def text(self) -> str:
        """For people."""
        made = f"{self.rows} rows" if self.kind == "csv" else ", ".join(self.variables)
        lost = [f"outside the images: {', '.join(self.outside[:10])} ({len(self.outside)})"] if self.outside else []
        return "\n".join([f"{self.images} images: {made}", *self.files, *lost])


def export(
    region: Region, out: Path, options: ExportOptions, *, kind: Kind | None = None, progress: Progress | None = None
) -> ExportReport:
    """What is wanted of a region's images lies in `out`; files that were there are replaced.

    Args:
        region: whose images, in a folder or a bucket.
        out: a file for NetCDF (.nc) and for a table (.csv), a folder for COGs; on this machine.
        options: what is wanted.
        kind: by default what the name of `out` says; a name without an ending means COGs.
        progress: told (images or files done, in all).

    Raises:
        InputError: no image fits, or an option or file of points or polygons cannot be used.
        StoreError: an image cannot be read, or the disk is full.
    """
    form = kind or _kind_of(out)
    _check(form, out, options)
    if form == "csv":
        return _table(region, out, options, progress)
    images = _within(tile_images(region, options.tile), options, region.name)
    grid, variables = image_grid(images[-1]), _variables(images, options, region.name)
    if form == "netcdf":
        make_folder(out.parent)
        write_netcdf(out, region.name, grid, images, variables, progress)
        files = [out]
    else:
        make_folder(out)
        files = []
        for done, variable in enumerate(variables, start=1):
            path = out / f"{region.name}.T{grid.tile}.{variable.name}.tif"
            write_stack(path, grid, images, variable)
            files.append(path)
            if style := style_of(variable):
                put_file(path.with_suffix(".qml"), style)
            if progress:
                progress(done, len(variables))
    log.info("%s: %d images of %s, %d variables", out, len(images), grid.tile, len(variables))
    return ExportReport(form, tuple(map(str, files)), len(images), tuple(one.name for one in variables))


def _table(region: Region, out: Path, options: ExportOptions, progress: Progress | None) -> ExportReport:
    listed = tile_images(region, options.tile) if options.tile else published(region.home)
    images = _within(listed, options, region.name)
    variables = [one for one in _variables(images, options, region.name) if not one.is_sd and (one.band or one.index)]
    names = tuple(one.name for one in variables)
    if options.points is not None:
        table, outside = point_table(images, read_points(options.points), names, progress)
    else:
        assert options.polygons is not None
        table, outside = area_table(images, read_areas(options.polygons), names, progress)
    make_folder(out.parent)
    rows = write_table(out, table)
    log.info("%s: %d rows, %d places outside the images", out, rows, len(outside))
    return ExportReport("csv", (str(out),), len(images), names, rows, tuple(outside))


def _variables(images: Sequence[Published], options: ExportOptions, region: str) -> tuple[Variable, ...]:
    there = tuple(dict.fromkeys(band for one in images for band in one.bands))
    bands = there if options.bands is None else options.bands
    variables = chosen(bands, options.indices)
    needed = (*bands, *(band for name in options.indices for band in named(name).bands))
    lacking = [band for band in needed if band not in there]
    if lacking:
        step = f"name some of {', '.join(there)}, or add it to the region's bands and generate again"
        raise InputError(f"the images have no band {lacking[0]!r}", place=region, next_step=step)
    return variables


def _within(images: Sequence[Published], options: ExportOptions, region: str) -> list[Published]:
    """The images of the days that are wanted, at least one."""
    found = [
        one
        for one in images
        if (options.start or one.day) <= one.day <= (options.end or one.day)
        and (not options.dates or one.day in options.dates)
    ]
    if not found:
        days = [one.day for one in images]
        has = f"it has {len(days)}, {min(days)} to {max(days)}" if days else "make them first: vsat nightly"
        raise InputError("the region has no image of these days", place=region, next_step=has)
    return found


def _kind_of(out: Path) -> Kind:
    match out.suffix.lower():
        case ".nc":
            return "netcdf"
        case ".csv":
            return "csv"
        case "":
            return "cog"
    step = "end the name in .nc or .csv, or name a folder for COGs"
    raise InputError(f"{out.name!r} says no format", place=str(out), next_step=step)


def _check(form: Kind, out: Path, options: ExportOptions) -> None:
    is_table = form == "csv"
    if (options.points is not None) + (options.polygons is not None) != is_table:
        step = "give --points FILE or --polygons FILE with a .csv file, and neither with another format"
        raise InputError("a table is made of points or of polygons", place="options", next_step=step)
    if (form == "cog" and out.exists() and not out.is_dir()) or (form != "cog" and out.is_dir()):
        what = "a folder" if form == "cog" else "a file"
        raise InputError("something else is there", place=str(out), next_step=f"name {what} of another name")
