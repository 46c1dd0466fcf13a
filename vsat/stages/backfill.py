"""Backfill: the same work as a night's for a past stretch of days, over a grid of tiles and months.

First all scenes, then the images, for an image rests on scenes before and after its date. A stretch of months that is
done stays done: the run may be killed and started again.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from functools import reduce
from itertools import count

from vsat.config import Region
from vsat.errors import AllCloudy, InputError, NoScenes, VsatError
from vsat.stages.fetch import FetchReport
from vsat.stages.generate import GenerateReport, Policy
from vsat.stages.nightly import FetchStage, GenerateStage, fetch_stage, generate_stage
from vsat.stages.report import RunReport, write_report

log = logging.getLogger(__name__)
MOST_STRETCHES = 12  # per phase; between two of them a night may take its turn
Progress = Callable[[int, int], None]
Stretch = tuple[date, date]


def backfill(
    region: Region,
    start: date,
    end: date,
    day: date,
    *,
    policy: Policy = "missing",
    fetch: FetchStage = fetch_stage,
    generate: GenerateStage = generate_stage,
    progress: Progress | None = None,
) -> RunReport:
    """Every image from `start` to `end` is there, as of `day`, from every scene there is for them.

    Args:
        region: which; only days of its period count.
        start, end: first and last date of images, both included.
        day: as of which day; later scenes are not used.
        policy: "missing" makes what is missing or stale, "skip" only what is missing, "replace" all.
        fetch, generate: how the two stages run.
        progress: told (stretches done, stretches in all).

    Raises:
        InputError: none of the days is in the region's period and before `day`.
        CatalogueDown, NoScenes, AllCloudy, StoreError: as in `nightly`; what was done before stays.
    """
    scenes, images = plan_backfill(region, start, end, day)
    tick = _ticker(len(scenes) + len(images), progress)
    try:
        fetched, notes = _fetch_all(region, scenes, fetch, tick)
        made = []
        for first, last in images:
            made.append(generate(region, first, last, day, policy))
            tick()
    except VsatError as error:
        write_report(region, RunReport.of_error("backfill", region.name, day, error))
        raise
    report = RunReport.of("backfill", region.name, day, fetched, joined_generate(made), notes=notes)
    write_report(region, report)
    log.info("%s, %s to %s: %s", region.name, start, end, report.outcome)
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
    firsts = [start]
    while (following := (firsts[-1].replace(day=1) + timedelta(32)).replace(day=1)) <= end:
        firsts.append(following)
    firsts = firsts[:: -(-len(firsts) // MOST_STRETCHES)]
    lasts = [*(following - timedelta(1) for following in firsts[1:]), end]
    return list(zip(firsts, lasts, strict=True))


def joined_fetch(reports: list[FetchReport]) -> FetchReport:
    """One report over several stretches, in their order; at least one."""
    return reduce(_add_fetch, reports)


def joined_generate(reports: list[GenerateReport]) -> GenerateReport:
    """One report over several stretches, in their order; at least one."""
    return reduce(_add_generate, reports)


def _fetch_all(
    region: Region, scenes: list[Stretch], fetch: FetchStage, tick: Callable[[], None]
) -> tuple[FetchReport, tuple[str, ...]]:
    """The joined report, and what was said of stretches without a scene or a clear pixel: another may have some."""
    reports: list[FetchReport] = []
    empty: list[NoScenes | AllCloudy] = []
    for first, last in scenes:
        try:
            reports.append(fetch(region, first, last))
        except (NoScenes, AllCloudy) as error:
            empty.append(error)
        tick()
    if not reports:
        raise empty[-1]
    return joined_fetch(reports), tuple(str(error) for error in empty)


def _ticker(total: int, progress: Progress | None) -> Callable[[], None]:
    steps = count(1)

    def tick() -> None:
        done = next(steps)
        if progress is not None:
            progress(done, total)

    return tick


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
