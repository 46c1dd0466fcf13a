"""Backfill: the same work as a night's for a past stretch of days, over a grid of tiles and months.

First all scenes, then the images, for an image rests on scenes before and after its date. Each stage's work on a month and
tile is a unit with a row in the ledger's job table: killed, stopped or failed, the same request goes on with what is left.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import reduce
from itertools import chain

from vsat.config import Region
from vsat.errors import AllCloudy, ExitCode, InputError, NoScenes, VsatError
from vsat.io.jobs import JobTable, Row, Stage, Unit
from vsat.io.ledger import Receipt, lease
from vsat.io.scenes import ledger_path
from vsat.settings import Settings
from vsat.stages.fetch import FetchReport, finish_fetch, open_endpoint, plan_fetch, tidy
from vsat.stages.generate import GenerateReport, finish_generate, plan_generate
from vsat.stages.models import make_room
from vsat.stages.report import RunReport, write_report
from vsat.stages.request import BackfillRequest
from vsat.stages.units import Job, RunJobs, months, run_here, unit_jobs

log = logging.getLogger(__name__)
MOST_STRETCHES = 12  # per phase; between two of them a night may take its turn
MOST_TOLD = 20  # failed units that a report spells out; the table has all
Progress = Callable[[Sequence[Row]], None]
Stretch = tuple[date, date]


def backfill(
    region: Region,
    asked: BackfillRequest,
    day: date,
    *,
    run: RunJobs = run_here,
    wait_s: float = 0.0,
    progress: Progress | None = None,
) -> RunReport:
    """Every image of the days asked for is there, as of `day`, from every scene there is for them.

    Args:
        region: which; only days of its period count.
        asked: first and last date of images, policy, method.
        day: as of which day; later scenes are not used.
        run: does the jobs of a stretch.
        wait_s: how long to wait for another run on the region, of each stretch anew.
        progress: told all units, at the beginning and after each stretch.

    Raises:
        InputError: none of the days is in the region's period and before `day`, or the method cannot be used.
        CatalogueDown, NoScenes, AllCloudy, AccessError, StoreError: as in `nightly`; what was done before stays, and the
            same request goes on with the rest.
    """
    scenes, images = plan_backfill(region, asked.start, asked.end, day)
    with lease(region.home, "backfill", wait_s=wait_s):
        request = _begin(region, asked, scenes, images)
        before, _ = share_done(_rows(region, request))
        work = _Work(region, asked, day, request, run, wait_s, progress)
        try:
            with work.resting():
                fetched, notes = work.fetch_all(scenes)
                report = work.report(before, fetched, work.generate_all(images), notes)
        except VsatError as error:
            write_report(region, RunReport.of_error("backfill", region.name, day, error))
            raise
    write_report(region, report)
    log.info("%s, %s to %s: %s", region.name, asked.start, asked.end, report.outcome)
    return report


def plan_backfill(region: Region, start: date, end: date, day: date) -> tuple[list[Stretch], list[Stretch]]:
    """The stretches to fetch and those to make images for; touches nothing.

    Raises:
        InputError: none of the days is in the region's period and before `day`.
    """
    limit = min(day, region.period.end or day)
    first, last = max(start, region.period.start), min(end, limit)
    if first > last:
        problem = f"no day from {start} to {end} is in the region's period, {region.period.start} to {limit}"
        raise InputError(problem, place=region.name, next_step="give other days, or change period in the region file")
    final = min(last + timedelta(region.final_after_days), limit)
    return stretches(first, final), stretches(first, last)


def stretches(start: date, end: date) -> list[Stretch]:
    """Calendar months from `start` to `end`, both included; joined where there are more than MOST_STRETCHES."""
    firsts = months(start, end)
    firsts = firsts[:: -(-len(firsts) // MOST_STRETCHES)]
    lasts = [*(following - timedelta(1) for following in firsts[1:]), end]
    return list(zip(firsts, lasts, strict=True))


def share_done(rows: Sequence[Row]) -> tuple[int, int]:
    """How many units are done, of how many."""
    return sum(row.state == "done" for row in rows), len(rows)


def month_table(rows: Sequence[Row]) -> list[dict[str, str]]:
    """A row per month, a column per tile: how far its scenes and its images are, and what they took."""
    found: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        cells = found.setdefault(row.unit.month, {}).setdefault(row.unit.tile, [])
        what = "scenes" if row.unit.stage == "fetch" else "images"
        failed = f", {row.failed} failed" if row.failed else ""
        numbers = f" ({row.done}{failed}, {row.seconds:.1f} s)" if row.done or row.failed else ""
        cells.append(f"{what} {row.state}{numbers}")
    return [
        {"month": month} | {tile: "; ".join(cells) for tile, cells in sorted(tiles.items())}
        for month, tiles in sorted(found.items())
    ]


def joined_fetch(reports: list[FetchReport]) -> FetchReport:
    """One report over several stretches, in their order; at least one."""
    return reduce(_add_fetch, reports)


def joined_generate(reports: list[GenerateReport]) -> GenerateReport:
    """One report over several stretches, in their order; at least one."""
    return reduce(_add_generate, reports)


def _begin(region: Region, asked: BackfillRequest, scenes: list[Stretch], images: list[Stretch]) -> str:
    tiles = [grid.tile for grid in region.grids()]
    phases: tuple[tuple[Stage, list[Stretch]], ...] = (("fetch", scenes), ("generate", images))
    units = [
        Unit(stage, str(month)[:7], tile)
        for stage, spans in phases
        for month in months(spans[0][0], spans[-1][1])
        for tile in tiles
    ]
    with JobTable(ledger_path(region.home)) as table:
        return table.begin(asked.words(region), units)


def _rows(region: Region, request: str) -> list[Row]:
    with JobTable(ledger_path(region.home)) as table:
        return table.rows(request)


@dataclass(frozen=True)
class _Work:
    """One run of a request: its stretches, one after the other."""

    region: Region
    asked: BackfillRequest
    day: date
    request: str
    run: RunJobs
    wait_s: float
    progress: Progress | None

    @contextmanager
    def resting(self) -> Iterator[None]:
        """However it is left, by an error, a signal or a cancellation, no unit is said to be running after it."""
        try:
            self._tell()
            yield
        finally:
            with JobTable(ledger_path(self.region.home)) as table:
                table.rest(self.request)

    def fetch_all(self, scenes: list[Stretch]) -> tuple[FetchReport | None, tuple[str, ...]]:
        """The joined report, None where nothing was left to do; and what was said of stretches without a scene or a
        clear pixel: another may have some.

        Raises:
            NoScenes, AllCloudy: none has any; the request is over, for that is an answer.
        """
        reports: list[FetchReport] = []
        empty: list[NoScenes | AllCloudy] = []
        for first, last in scenes:
            try:
                reports += self._fetch(first, last)
            except (NoScenes, AllCloudy) as error:
                empty.append(error)
            self._tell()
        if empty and not reports:
            with JobTable(ledger_path(self.region.home)) as table:
                table.forget(self.request)
            raise next((error for error in empty if isinstance(error, AllCloudy)), empty[-1])
        return joined_fetch(reports) if reports else None, tuple(str(error) for error in empty)

    def generate_all(self, images: list[Stretch]) -> GenerateReport | None:
        """The joined report, None where nothing was left to do."""
        reports: list[GenerateReport] = []
        for first, last in images:
            reports += self._generate(first, last)
            self._tell()
        return joined_generate(reports) if reports else None

    def report(
        self, before: int, fetched: FetchReport | None, made: GenerateReport | None, notes: tuple[str, ...]
    ) -> RunReport:
        """The run's report, `before` units having been done before it; it has failed where a unit of the request has."""
        rows = _rows(self.region, self.request)
        failed = [row for row in rows if row.state == "failed"]
        done, units = share_done(rows)
        told = [f"{done} of {units} units are done, {before} of them before this run."] if before else []
        told += [
            f"{row.unit.stage} {row.unit.month} {row.unit.tile} failed: {row.reason}" for row in failed[:MOST_TOLD]
        ]
        report = RunReport.of("backfill", self.region.name, self.day, fetched, made, notes=(*told, *notes))
        if not failed:
            return report
        message = f"{len(failed)} of {units} units failed; the same request tries them again"
        return replace(report, exit_code=ExitCode.FAILED, message=message)

    def _fetch(self, first: date, last: date) -> list[FetchReport]:
        """The report over the units of a stretch that wait; nothing where none does."""
        pending = self._pending("fetch", first, last)
        if not pending:
            return []
        region = _narrowed(self.region, pending)
        with lease(region.home, "fetch", wait_s=self.wait_s), open_endpoint(region) as endpoint:
            tidy(region)
            plan = plan_fetch(region, endpoint, first, last)
            receipts = self._done(plan.jobs, "fetch", pending, f"scenes, {first} to {last}")
            return [finish_fetch(region, plan, receipts)]

    def _generate(self, first: date, last: date) -> list[GenerateReport]:
        pending = self._pending("generate", first, last)
        if not pending:
            return []
        region, asked = _narrowed(self.region, pending), self.asked
        with lease(region.home, "generate", wait_s=self.wait_s):
            plan = plan_generate(
                region, first, last, self.day, policy=asked.policy, method=asked.chosen, request=self.request
            )
            make_room(asked.chosen or region.method, min(Settings.from_environment().workers, len(plan.jobs)))
            receipts = self._done(plan.jobs, "generate", pending, f"images, {first} to {last}")
            return [finish_generate(self.region, self.day, plan, receipts)]

    def _pending(self, stage: Stage, first: date, last: date) -> list[Unit]:
        within = str(first)[:7], str(last)[:7]
        return [
            row.unit
            for row in _rows(self.region, self.request)
            if row.state == "waiting" and row.unit.stage == stage and within[0] <= row.unit.month <= within[1]
        ]

    def _done(self, jobs: Sequence[Job], stage: Stage, pending: list[Unit], of: str) -> list[Receipt]:
        """The jobs of the pending units are done, and these say so; returns their receipts."""
        mine, counts = unit_jobs(jobs, self.region.home, self.request, stage, pending)
        with JobTable(ledger_path(self.region.home)) as table:
            table.plan(self.request, counts)
            receipts = self.run(mine, of) if mine else []
            # what another process did meanwhile was not counted here, and is there nevertheless
            left = {row.unit: 0 for row in table.rows(self.request) if row.state in ("waiting", "running")}
            table.plan(self.request, {unit: 0 for unit in pending if unit in left})
        return list(chain.from_iterable(receipts))

    def _tell(self) -> None:
        if self.progress is not None:
            self.progress(_rows(self.region, self.request))


def _narrowed(region: Region, units: Sequence[Unit]) -> Region:
    return region.model_copy(update={"tiles": tuple(sorted({unit.tile for unit in units}))})


def _add_fetch(one: FetchReport, other: FetchReport) -> FetchReport:
    fetched = one.fetched + other.fetched
    parts = [(report.clear, report.fetched) for report in (one, other) if report.clear is not None]
    return replace(
        other,
        start=one.start,
        listed=one.listed + other.listed,
        already=one.already + other.already,
        revised=one.revised + other.revised,
        superseded=one.superseded + other.superseded,
        cloudy=one.cloudy + other.cloudy,
        unusable=one.unusable + other.unusable,
        reasons=one.reasons + other.reasons,
        fetched=fetched,
        failed=one.failed + other.failed,
        failures=one.failures + other.failures,
        lost_tiles=tuple(dict.fromkeys(one.lost_tiles + other.lost_tiles)),
        bytes=one.bytes + other.bytes,
        clear=round(sum(clear * count for clear, count in parts) / fetched, 6) if fetched else None,
    )


def _add_generate(one: GenerateReport, other: GenerateReport) -> GenerateReport:
    return replace(
        other,
        images=one.images + other.images,
        failed=one.failed + other.failed,
        kept=one.kept + other.kept,
        without_context=one.without_context + other.without_context,
    )
