"""The work that the kill test of generate kills; a module of its own, so that forked processes find it by name."""

from datetime import date

from fault.compiled import load_compiled

from regions import END, START
from vsat.config import Region
from vsat.stages.generate import finish_generate, generate_one, plan_generate

LAST = date(2023, 5, 11)


def regenerate(region: Region, day: date = END) -> None:
    """What `generate` does over the first two dates, one job at a time."""
    plan = plan_generate(region, START, LAST, day)
    finish_generate(region, day, plan, [receipt for job in plan.jobs for receipt in generate_one(job)])


load_compiled()  # once, and not in each of two hundred forks
