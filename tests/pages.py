"""The blocks of code on a page of the documents, and a project folder in which they can be run.

A block may be led by a comment line: `<!-- not run: WHY -->`, or `<!-- needs: PROGRAM -->` where it is run if that is there. A
page with `<!-- prepared: farm -->` begins with a region that has scenes and images; every page has `cube.nc` and an archive.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import xarray as xr
import yaml

from vsat.config import load_region
from vsat.core.synthetic import Landscape, observe, schedule
from vsat.hls import BANDS
from vsat.io.archive import write_synthetic

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
RUN = ("bash", "python")
SHOWN = ("text", "yaml", "json", "csv", "xml")  # languages of blocks that nobody runs
_FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
_LED = re.compile(r"<!-- (not run|needs): (.+?) -->\s*$")

# What the documents call a farm is, where they are run, a square kilometre of the embedded archive.
START, END = date(2024, 4, 1), date(2024, 5, 31)
BOX = "14.2, 48.1, 14.2118, 48.1077"
FARM = f"""\
name: farm
area: {{bbox: [{BOX}]}}
period: {{start: {START}, end: {END}}}
catalogue: {{kind: archive, path: ../archive}}
method: linear
store: ../var
"""
# `vsat init` writes NASA's catalogue, a larger area and no end; after it, the file means the farm above.
_STAND_IN = f"""\
s/^  bbox: .*/  bbox: [{BOX}]/
s/^  # end: .*/  end: {END}/
s/^  kind: .*/  kind: archive\\n  path: ..\\/archive/
s/^# method: .*/method: linear/
"""
# Longer than a test may take: what stands here in a command is replaced. Every entry must occur.
SMALLER = {
    "vsat up farm --detach": "vsat up farm --detach --port 0 --viewer-port 0",
    "--out var/model --minutes 20": "--out var/model --steps 1 --batch 1 --held-out 2",
    "--patches 500 --size 32 --days 60 --every 10 --block 64": "--patches 24 --size 8 --stride 2 --days 40 --every 10 "
    "--block 12 --buffer 0 --validation .3 --test .2 --strata clear",
}
VIEWER = "4300"  # its port on the pages; a free one here


@dataclass(frozen=True)
class Block:
    """A fenced block: its language and text, and what the comment before it says."""

    language: str
    text: str
    not_run: str = ""
    needs: str = ""

    @property
    def first(self) -> str:
        """Its first two words."""
        return " ".join(self.text.split()[:2])

    @property
    def missing(self) -> bool:
        """True if it needs a program that is not installed."""
        return bool(self.needs) and shutil.which(self.needs) is None


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks_of(page: Path) -> list[Block]:
    """All fenced blocks of the page, in order."""
    text, found = page.read_text("utf-8"), []
    for fence in _FENCE.finditer(text):
        led = _LED.search(text[: fence.start()])
        said = {led[1]: led[2]} if led else {}
        found.append(Block(fence[2], textwrap.dedent(fence[3]), said.get("not run", ""), said.get("needs", "")))
    return found


def runnable(page: Path) -> list[Block]:
    return [one for one in blocks_of(page) if one.language in RUN and not one.not_run and not one.missing]


def make_project(folder: Path) -> None:
    """An archive, `cube.nc`, and a `.venv` whose `vsat` is the one under test."""
    (folder / "regions").mkdir(parents=True)
    (folder / "regions" / "farm.yaml").write_text(FARM)
    region = load_region(folder / "regions" / "farm.yaml")
    (grid,) = region.grids()
    write_synthetic(folder / "archive", grid=grid, land=Landscape(3, grid.shape), start=START, end=END)
    (folder / "regions" / "farm.yaml").unlink()
    _cube().to_netcdf(folder / "cube.nc")
    programs = folder / ".venv" / "bin"
    programs.mkdir(parents=True)
    (programs / "activate").write_text(f'PATH="{programs}:$PATH"\n')
    (programs / "stand-in.sed").write_text(_STAND_IN)
    program = f'"{sys.executable}" -m vsat.cli "$@"'
    vsat = f'[ "$1" = init ] || exec {program}\n{program} && sed -i -f "{programs}/stand-in.sed" "regions/$2.yaml"\n'
    for name, text in (("vsat", vsat), ("python", f'exec "{sys.executable}" "$@"\n')):
        (programs / name).write_text(f"#!/bin/sh\n{text}")
        (programs / name).chmod(0o755)


def prepare_farm(folder: Path) -> None:
    """The region is there with its scenes and images."""
    (folder / "regions" / "farm.yaml").write_text(FARM)
    command = [folder / ".venv/bin/vsat", "nightly", "farm", "--day", END.isoformat()]
    subprocess.run(command, cwd=folder, env=environment(folder), check=True, timeout=300)


def run_page(page: Path, folder: Path) -> tuple[int, str]:
    """Every runnable block of the page, in order, in one shell, up to the first that fails: exit code, all that was said."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    steps = []
    for number, block in enumerate(runnable(page)):
        text = smaller(block.text, port)
        if block.language == "python":
            file = folder / f"block-{number}.py"
            file.write_text(text)
            steps.append(f"(cd {folder}; python {file.name})")
        else:
            steps.append(f"cd {folder}\n{text}")
    script = folder / "page.sh"
    begin = ["set -euxo pipefail", "exec 2>&1", "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT"]
    script.write_text("\n".join([*begin, *steps]))
    told = folder / "page.log"  # a pipe would be waited for as long as anything that was started has it
    with told.open("wb") as out:
        done = subprocess.run(
            ["bash", str(script)], cwd=folder, env=environment(folder), stdin=subprocess.DEVNULL, stdout=out,
            timeout=600, check=False,
        )  # fmt: skip
    return done.returncode, told.read_text("utf-8", errors="replace")


def smaller(text: str, port: int) -> str:
    for long, short in SMALLER.items():
        text = text.replace(long, short)
    return text.replace(VIEWER, str(port))


def environment(folder: Path) -> dict[str, str]:
    """That of a person with nothing set; other hosts than this one cannot be reached by it."""
    strange = ("EARTHDATA_", "AWS_", "GDAL_", "VSAT_", "PREFECT_")
    kept: Mapping[str, str] = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(strange) and not name.lower().endswith("_proxy")
    }
    nowhere = "http://127.0.0.1:9"
    return {
        **kept, "PATH": f"{folder / '.venv/bin'}:{kept['PATH']}", "PYTHONPATH": str(ROOT), "NETRC": str(folder / "no-netrc"),
        "HTTPS_PROXY": nowhere, "HTTP_PROXY": nowhere, "NO_PROXY": "127.0.0.1,localhost", "MPLBACKEND": "agg",
    }  # fmt: skip


def regions_shown(page: Path) -> list[str]:
    """The YAML blocks that are whole region files."""
    found = [block.text for block in blocks_of(page) if block.language == "yaml"]
    return [text for text in found if {"name", "area", "period"} <= set(yaml.safe_load(text))]


def _cube() -> xr.Dataset:
    """A year of looks at 8 x 8 pixels."""
    land = Landscape(3, (24, 24))
    days = schedule(land, date(2018, 1, 1), date(2018, 12, 31))[::2]
    looks = [observe(land, day, sensor) for day, sensor in days]
    refl = np.stack([look.refl_byx for look in looks if look])[:, :, 8:16, 8:16]
    fmask = np.stack([look.fmask_yx for look in looks if look])[:, 8:16, 8:16]
    return xr.Dataset(
        {
            "reflectance": (("time", "band", "y", "x"), refl, {"scale_factor": 1e-4, "_FillValue": np.int16(-9999)}),
            "fmask": (("time", "y", "x"), fmask),
        },
        coords={
            "time": np.array([day for day, _ in days], "datetime64[ns]"), "sensor": ("time", [sensor for _, sensor in days]),
            "band": list(BANDS), "y": 5_340_000.0 - 30 * np.arange(8), "x": 440_000.0 + 30 * np.arange(8),
        },
    )  # fmt: skip
