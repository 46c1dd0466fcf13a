"""The work in a bucket that the kill test kills; a module of its own, so that forked processes find it by name."""

import os
from datetime import date

import numpy as np

from regions import START
from vsat.config import Region
from vsat.core.fill import fill
from vsat.io import tiff
from vsat.io.catalog import Endpoint
from vsat.io.ledger import lease
from vsat.stages.fetch import fetch_one, finish_fetch, plan_fetch, tidy
from vsat.stages.generate import finish_generate, generate_one, plan_generate

LAST = date(2023, 5, 8)


def night(region: Region, endpoint: Endpoint, day: date, environment: dict[str, str]) -> None:
    """What a night does, one job at a time, from a server that goes on."""
    os.environ.update(environment)
    with lease(region.home, "fetch"):
        tidy(region)
        plan = plan_fetch(region, endpoint, START, LAST)
        finish_fetch(region, plan, [fetch_one(job) for job in plan.jobs])
    with lease(region.home, "generate"):
        images = plan_generate(region, START, START, day)
        finish_generate(region, day, images, [receipt for job in images.jobs for receipt in generate_one(job)])


# Compiled code is loaded here, once, and not in each of a hundred forks.
fill(
    np.ones((3, 6, 2, 2), np.int16),
    np.ones((3, 2, 2), bool),
    np.arange(3, dtype=np.int32),
    np.array([1], np.int32),
    method="linear",
)
for _dtype in ("<i2", "u1"):
    _block_yx = np.frombuffer(bytes(8), _dtype)[:4].reshape(2, 2)
    tiff._integrate(_block_yx, 0, 2, 0, 2, np.empty((2, 2), _dtype), 0, 0)
