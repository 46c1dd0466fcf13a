"""Where vsat runs: what the environment says, and where the region files are."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vsat.errors import InputError

VIEWER_PORT = 4300  # on 127.0.0.1, unless another is asked for


@dataclass(frozen=True)
class Settings:
    """Where vsat runs. Credentials are not among them: they are read where they are used, and kept nowhere.

    Attributes:
        workers: threads for scenes and tile-dates.
        dask_scheduler: address of a Dask scheduler that does the work instead; "" for none.
        regions: the folder of the region files.
    """

    workers: int
    dask_scheduler: str = ""
    regions: Path = Path("regions")

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Settings":
        """From `VSAT_WORKERS` (default: the processors), `VSAT_DASK_SCHEDULER` and `VSAT_REGIONS` (default: regions).

        Raises:
            InputError: a value that is of no use.
        """
        given = os.environ if environment is None else environment
        workers = given.get("VSAT_WORKERS", "").strip() or str(os.cpu_count() or 1)
        if not workers.isascii() or not workers.isdigit() or not 1 <= int(workers) <= 1024:
            step = "give a number of threads from 1 to 1024, or unset it"
            raise InputError(f"{workers!r} is no number of threads", place="VSAT_WORKERS", next_step=step)
        scheduler = given.get("VSAT_DASK_SCHEDULER", "").strip()
        if scheduler and not re.fullmatch(r"[a-z]+://[^\s@]+", scheduler):
            step = "give an address like tcp://127.0.0.1:8786, or unset it"
            raise InputError(f"{scheduler!r} is no scheduler's address", place="VSAT_DASK_SCHEDULER", next_step=step)
        return cls(int(workers), scheduler, Path(given.get("VSAT_REGIONS", "").strip() or "regions"))


def find_region(text: str, folder: Path) -> Path:
    """The region file that is meant by a path, or by the name of a region in `folder`.

    Raises:
        InputError: there is neither, with the names that there are.
    """
    if text.endswith((".yaml", ".yml")):
        return Path(text)
    path = folder / f"{text}.yaml"
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in folder.glob("*.yaml"))) or "none"
        raise InputError(f"no region {text!r}", place=str(folder), next_step=f"the regions there are: {names}")
    return path
