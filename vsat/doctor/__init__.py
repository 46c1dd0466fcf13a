"""Everything that a night needs, looked through: the machine, each region, the server. Changes nothing."""

import time
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from vsat.config import Region
from vsat.doctor.finding import Finding
from vsat.doctor.machine import gdal, plausible_clock, room_for_server, versions
from vsat.doctor.regions import region_findings
from vsat.doctor.server import server_findings

__all__ = ["Finding", "examine"]


def examine(regions: Sequence[Region], folder: Path, now: datetime, *, patience_s: float = 20.0) -> list[Finding]:
    """What there is to say about each thing that a night needs.

    Args:
        regions: whose nights.
        folder: of the stack, as `vsat up` has it.
        now: the moment it is, UTC.
        patience_s: silence of a catalogue or server after which it counts as down; a region costs a few times that.

    Returns:
        The machine first, then each region, then the server.
    """
    clock = _from(now)
    found = [versions(), gdal(), plausible_clock(now), room_for_server(folder)]
    for region in regions:
        found += region_findings(region, clock, patience_s)
    return [*found, *server_findings([region.name for region in regions], folder, clock, patience_s)]


def _from(now: datetime) -> Callable[[], datetime]:
    """A clock that goes on from `now`."""
    began = time.monotonic()
    return lambda: now + timedelta(seconds=time.monotonic() - began)
