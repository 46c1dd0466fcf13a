"""The night that is killed or watched; a module of its own, so that forked processes find it by name."""

import logging
from datetime import date
from pathlib import Path

from fault.compiled import load_compiled

from vsat.config import load_region
from vsat.errors import ExitCode, VsatError
from vsat.stages.nightly import nightly

logging.getLogger("vsat").setLevel(logging.CRITICAL)  # the faults are many, and each would be a line


def night(file: Path, day: date) -> ExitCode:
    """Bring the region up to the day; the exit code that `vsat nightly` would end with."""
    try:
        return nightly(load_region(file), day).exit_code
    except VsatError as error:
        return error.exit_code


load_compiled()
