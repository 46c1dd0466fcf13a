"""The machine: versions, GDAL, clock, the disk of Prefect's server."""

import os
import shutil
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from packaging.requirements import Requirement

from vsat.doctor.finding import Finding, gigabytes

SHOWN = ("prefect", "fastapi", "sqlalchemy", "zarr", "rasterio")
SERVER_BYTES = 500e6  # runs, logs and artifacts of some months
_BUILT = datetime(2026, 1, 1, tzinfo=UTC)  # no clock that is right shows an earlier day than that of the code


def versions() -> Finding:
    """Installed packages against what vsat's own metadata asks for."""
    wrong = []
    for text in requires("vsat") or ():
        asked = Requirement(text)
        if asked.marker and not asked.marker.evaluate({"extra": ""}):
            continue
        try:
            there = version(asked.name)
        except PackageNotFoundError:
            there = "not installed"
        if not asked.specifier.contains(there, prereleases=True) if there != "not installed" else True:
            wrong.append(f"{asked.name} {there}, wanted {asked.specifier or 'any'}")
    if wrong:
        return Finding("versions", "error", "; ".join(wrong), "install what requirements.lock says: make setup")
    return Finding("versions", "ok", ", ".join(f"{name} {version(name)}" for name in SHOWN))


def gdal() -> Finding:
    """GDAL has the drivers and the projections, and no setting of another installation spoils it."""
    import rasterio
    from rasterio.crs import CRS
    from rasterio.drivers import raster_driver_extensions
    from rasterio.errors import CRSError

    set_here = sorted(name for name in os.environ if name.startswith(("GDAL_", "CPL_", "VSI_", "PROJ_")))
    told = f"{rasterio.__gdal_version__}" + (f", with {', '.join(set_here)} set" if set_here else "")
    try:
        CRS.from_epsg(32633).to_wkt()
    except CRSError:
        step = "unset PROJ_LIB, PROJ_DATA and GDAL_DATA: they name the files of another installation"
        return Finding("GDAL", "error", f"{told}: it finds no projections", step)
    with rasterio.Env() as env:
        missing = {"GTiff", "COG", "VRT"} - set(env.drivers())
    if missing or "tif" not in raster_driver_extensions():
        return Finding("GDAL", "error", f"{told}: without {', '.join(sorted(missing))}", "unset GDAL_SKIP")
    cache = os.environ.get("GDAL_CACHEMAX", "")
    if cache.isdigit() and 100_000 <= int(cache) < 16_000_000:
        step = "unset GDAL_CACHEMAX, or give megabytes, 256: numbers from 100000 on are bytes"
        return Finding("GDAL", "warning", f"{told}: a cache of {int(cache)} bytes", step)
    return Finding("GDAL", "ok", told)


def plausible_clock(now: datetime) -> Finding:
    """The machine's clock is not years off; by how much it differs from others' is said where others are asked."""
    if now < _BUILT:
        return Finding(
            "clock", "error", f"{now:%Y-%m-%d %H:%M} UTC is before this vsat was made", "set the clock (NTP)"
        )
    return Finding("clock", "ok", f"{now:%Y-%m-%d %H:%M} UTC")


def room_for_server(folder: Path) -> Finding:
    """The disk of the stack has room for the server's database and the logs."""
    usage = shutil.disk_usage(nearest(folder))
    told = f"{gigabytes(usage.free)} free at {folder}"
    if usage.free < SERVER_BYTES / 10:
        return Finding("disk of the server", "error", told, "make room there: Prefect's database cannot grow")
    if usage.free < SERVER_BYTES:
        return Finding("disk of the server", "warning", told, f"make room there: {gigabytes(SERVER_BYTES)} are good")
    return Finding("disk of the server", "ok", told)


def nearest(path: Path) -> Path:
    """The path, or the first above it that exists."""
    path = path.resolve()
    return next(place for place in (path, *path.parents) if place.exists())
