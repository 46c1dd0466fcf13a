"""The work that the kill test of fetch kills; a module of its own, so that forked processes find it by name."""

from datetime import date

import numpy as np

from vsat.config import Region
from vsat.io import tiff
from vsat.io.catalog import Endpoint
from vsat.io.ledger import lease
from vsat.stages.fetch import fetch_one, finish_fetch, plan_fetch, tidy

START, END = date(2024, 6, 1), date(2024, 6, 14)


def refetch(region: Region, endpoint: Endpoint) -> None:
    """What `fetch` does, one scene at a time, from a server that goes on."""
    with lease(region.home, "fetch"):
        tidy(region)
        plan = plan_fetch(region, endpoint, START, END)
        finish_fetch(region, plan, [fetch_one(job) for job in plan.jobs])


# Compiled code is loaded here, once, and not in each of two hundred forks.
for _dtype in ("<i2", "u1"):
    _block_yx = np.frombuffer(bytes(8), _dtype)[:4].reshape(2, 2)
    tiff._integrate(_block_yx, 0, 2, 0, 2, np.empty((2, 2), _dtype), 0, 0)
