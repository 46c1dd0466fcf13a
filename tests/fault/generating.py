"""The work that the kill test of generate kills; a module of its own, so that forked processes find it by name."""

from datetime import date

import numpy as np

from regions import END, START
from vsat.config import Region
from vsat.core.fill import fill
from vsat.stages.generate import finish_generate, generate_one, plan_generate

LAST = date(2023, 5, 11)


def regenerate(region: Region, day: date = END) -> None:
    """What `generate` does over the first two dates, one job at a time."""
    plan = plan_generate(region, START, LAST, day)
    finish_generate(region, day, plan, [receipt for job in plan.jobs for receipt in generate_one(job)])


# Compiled code is loaded here, once, and not in each of two hundred forks.
fill(
    np.ones((3, 6, 2, 2), np.int16),
    np.ones((3, 2, 2), bool),
    np.arange(3, dtype=np.int32),
    np.array([1], np.int32),
    method="linear",
)
