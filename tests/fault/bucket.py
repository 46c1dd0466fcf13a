"""The work in a bucket that the kill test kills; a module of its own, so that forked processes find it by name."""

import os
from datetime import date

from fault.compiled import load_compiled

from regions import START
from vsat.config import Region
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


load_compiled()  # once, and not in each of a hundred forks
