"""The work that the campaigns of kills and of writers start, kill and run again; forked processes find it by name."""

import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

from fault import generating, sampling
from fault.compiled import load_compiled

from vsat import cli
from vsat.config import Region
from vsat.io.catalog import Endpoint
from vsat.io.ledger import Ledger, Receipt, lease
from vsat.io.publish import VirtualImage, publish
from vsat.io.scenes import ledger_path
from vsat.stages import backfill, nightly, sample_report  # noqa: F401 - imported here, once, and not in each fork
from vsat.stages.fetch import fetch_one, finish_fetch, plan_fetch, tidy
from vsat.stages.generate import KIND, GeneratePlan, finish_generate

# options of `vsat sample` for a region of 36 x 30 pixels
SAMPLING = (
    "--patches=6", "--size=8", "--stride=4", "--days=40", "--every=10", "--strata=greenness", "--block=12", "--buffer=0",
)  # fmt: skip


def vsat(words: Sequence[str], folder: Path) -> None:
    """`vsat WORDS` in this process, to its exit code; what it says goes to `folder`, and so do its temporary files."""
    handle = os.open(folder / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    tempfile.tempdir = str(folder)
    sys.argv = ["vsat", *words]
    cli.main()


def fetch_days(region: Region, endpoint: Endpoint, first: date, last: date) -> None:
    """What `fetch` does, one scene at a time, from a server that goes on."""
    with lease(region.home, "fetch"):
        tidy(region)
        plan = plan_fetch(region, endpoint, first, last)
        finish_fetch(region, plan, [fetch_one(job) for job in plan.jobs])


def draw(region: Region, out: Path) -> None:
    """As in `sampling`; of this module, so that one process without threads has loaded all that is killed."""
    sampling.draw(region, out)


def regenerate(region: Region, day: date) -> None:
    """As in `generating`."""
    generating.regenerate(region, day)


def put(region: Region, images: Sequence[VirtualImage], day: date) -> None:
    """What is done with images that are ready: published, recorded, and listed in catalogue, table and map."""
    receipts = []
    with Ledger(ledger_path(region.home)) as ledger:
        for image in images:
            outputs = publish(region.home, image)
            facts = {"status": image.status, "method": image.method}
            receipt = Receipt(KIND, f"{image.grid.tile}/{image.day}", "done", image.sources, "s", outputs, dict(facts))
            ledger.record(receipt)
            receipts.append(receipt)
    finish_generate(region, day, GeneratePlan((), 0, ()), receipts)


def changed(image: VirtualImage) -> VirtualImage:
    """The image with other pixels, as final."""
    return replace(image, refl_byx=image.refl_byx + (image.refl_byx > 0).astype("int16"), status="final")


load_compiled()  # once, and not in each of hundreds of forks
