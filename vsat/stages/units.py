"""The units of a backfill: one stage's work on one month and tile. Their jobs run side by side, in any order.

A unit ends with its last job. A job whose receipt is there already is not done again, whoever did it.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from vsat.errors import VsatError
from vsat.hls import SceneKey
from vsat.io import images, scenes
from vsat.io.jobs import JobTable, Stage, Unit
from vsat.io.ledger import Ledger, Receipt
from vsat.io.scenes import ledger_path
from vsat.objects import StorePath, existing, place_of
from vsat.settings import Settings
from vsat.stages.fetch import FetchJob, fetch_one
from vsat.stages.generate import GenerateJob, generate_one
from vsat.stages.pool import run_jobs

log = logging.getLogger(__name__)

Job = FetchJob | GenerateJob


@dataclass(frozen=True)
class UnitJob:
    """A job, and the unit of a request that it is part of; plain values."""

    home: str
    request: str
    unit: Unit
    job: Job

    @property
    def store(self) -> StorePath:
        """The region's folder."""
        return place_of(self.home)


RunJobs = Callable[[Sequence[UnitJob], str], list[list[Receipt]]]


def run_here(jobs: Sequence[UnitJob], of: str) -> list[list[Receipt]]:
    """The jobs on threads here, as many as VSAT_WORKERS says; `of` tells what they are about."""
    log.info("%d jobs of %s", len(jobs), of)
    return run_jobs(unit_job, jobs, workers=Settings.from_environment().workers)


def unit_job(given: UnitJob) -> list[Receipt]:
    """The job is done, or has failed with a reason, and its unit's row says so; safe to repeat.

    Raises:
        AccessError, StoreError, InputError: others would fail alike: credentials, disk, checkpoint.
    """
    with JobTable(ledger_path(place_of(given.home))) as table:
        there = _there(table, given.job)
        if there:
            return there
        table.start(given.request, given.unit)
    begin = time.perf_counter()
    try:
        receipts = [fetch_one(given.job)] if isinstance(given.job, FetchJob) else generate_one(given.job)
    except VsatError as error:
        with JobTable(ledger_path(place_of(given.home))) as table:
            table.fail(given.request, given.unit, str(error))
        raise
    reasons = [str(receipt.facts["reason"]) for receipt in receipts if receipt.status == "failed"]
    with JobTable(ledger_path(place_of(given.home))) as table:
        table.end(
            given.request, given.unit, done=len(receipts) - len(reasons), failed=len(reasons),
            seconds=round(time.perf_counter() - begin, 3), reason="; ".join(reasons[:1]),
        )  # fmt: skip
    return receipts


def unit_jobs(
    jobs: Iterable[Job], home: StorePath, request: str, stage: Stage, pending: Sequence[Unit]
) -> tuple[list[UnitJob], dict[Unit, int]]:
    """The jobs of the pending units in their order, and how many each of these has; jobs of others are left out."""
    made = [UnitJob(str(home), request, Unit(stage, _day(job)[:7], job.grid.tile), job) for job in jobs]
    wanted = [one for one in made if one.unit in set(pending)]
    found = Counter(one.unit for one in wanted)
    return wanted, {unit: found[unit] for unit in pending}


def months(start: date, end: date) -> list[date]:
    """`start`, and the firsts of the calendar months after it to `end`."""
    firsts = [start]
    while (following := (firsts[-1].replace(day=1) + timedelta(32)).replace(day=1)) <= end:
        firsts.append(following)
    return firsts


def _day(job: Job) -> str:
    return str(SceneKey.from_string(job.key).day) if isinstance(job, FetchJob) else job.dates[0].day


def _there(ledger: Ledger, job: Job) -> list[Receipt]:
    """The receipts of a job that was done meanwhile: by a process that was taken for dead, or before a task's retry."""
    home = place_of(job.home)
    if isinstance(job, FetchJob):
        wanted = [(scenes.KIND, job.key, job.signature)]
    else:
        wanted = [(images.KIND, f"{job.grid.tile}/{one.day}", one.signature) for one in job.dates]
    asked = "" if isinstance(job, FetchJob) else dict(job.asked).get("request", "")
    found = []
    for kind, key, signature in wanted:
        receipt = ledger.get(kind, key)
        is_it = receipt and receipt.signature == signature and (not asked or receipt.facts.get("request") == asked)
        if (
            receipt is None
            or not is_it
            or len(existing(home / path for path, _ in receipt.outputs)) < len(receipt.outputs)
        ):
            return []
        found.append(receipt)
    return found
