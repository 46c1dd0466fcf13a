"""Tiny regions with their archives, copies of their stores, and real runs of `vsat` on them that can be killed."""

import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
from fault import killer
from fault.nights import vsat

from regions import END, tiny
from vsat.config import Region, load_region
from vsat.io import archive
from vsat.io.catalog import Endpoint
from vsat.stages.nightly import nightly

EARLIER, LATER = date(2023, 6, 10), END  # the days of the nights that go before, and of those that meet a fault
SIGKILLED = -9


@dataclass(frozen=True)
class World:
    """A tiny region with its archive, and a folder for copies of its store."""

    region: Region
    folder: Path

    def at(self, name: str) -> Region:
        """The region with another store."""
        return self.region.model_copy(update={"store": self.folder / name})

    def file(self, name: str, endpoint: Endpoint) -> Path:
        """A region file for `vsat` with that store, and with the served catalogue: no run has to start servers first."""
        text = (self.folder / "project" / "tiny.yaml").read_text().replace("store: var", f"store: {self.folder / name}")
        served = f"kind: stac, url: '{endpoint.url}', hosts: {list(endpoint.hosts)}"
        path = self.folder / f"{name}.yaml"
        path.write_text(text.replace("kind: archive, path: archive", served))
        return path

    @property
    def archive(self) -> Path:
        """The region's archive."""
        assert self.region.catalogue.path is not None
        return self.region.catalogue.path

    def earlier(self) -> Path:
        """A store as the night of EARLIER leaves it; after that there are more scenes, and two have been revised."""
        archive.withhold(self.archive, EARLIER)
        nightly(self.at("earlier"), EARLIER)
        archive.withhold(self.archive, None)
        revise(self.archive, 0, 9)
        return self.at("earlier").home


def world(folder: Path) -> World:
    """Two months of scenes, and images of one band."""
    path = tiny(folder / "project")
    path.write_text(path.read_text() + "bands: [nir]\n")
    return World(load_region(path), folder)


def revise(folder: Path, *numbers: int) -> None:
    """These granules of an archive have been processed anew, with other pixels."""
    names = [item["id"] for item in archive.items(folder)]
    for name in (names[number] for number in numbers):
        refl_byx, fmask_yx = archive.pixels(folder, name)
        archive.revise(folder, name, refl_byx + np.int16(7), fmask_yx, updated=datetime(2025, 1, 1, tzinfo=UTC))


def empty(home: Path) -> Path:
    """A store that is not there yet."""
    home.mkdir(parents=True)
    return home


def copy_of(other: Path) -> Callable[[Path], Path]:
    """A store that is as `other`."""
    return lambda home: Path(shutil.copytree(other, home))


class Run:
    """`vsat WORDS` in a process of its own, forked from one that has loaded it; what it says is in `said`."""

    def __init__(self, words: tuple[str, ...], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._said = folder / "said"
        self._said.unlink(missing_ok=True)
        self._begun = time.monotonic()
        self._process: BaseProcess = killer.nursery(vsat.__module__).Process(target=vsat, args=(words, folder))
        killer.start(self._process)

    def kill_after(self, seconds: float) -> None:
        """It is killed then, if it has not ended."""
        threading.Timer(seconds, self._process.kill).start()

    @property
    def is_alive(self) -> bool:
        """True as long as it runs."""
        return self._process.is_alive()

    @property
    def said(self) -> str:
        """All that it wrote to its terminal."""
        return self._said.read_text() if self._said.exists() else ""

    def end(self) -> tuple[int, float]:
        """Waits for its end; its exit code, and seconds from its start."""
        self._process.join()
        assert self._process.exitcode is not None
        return self._process.exitcode, time.monotonic() - self._begun
