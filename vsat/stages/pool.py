"""The loop of a stage: the same jobs in threads here or, where VSAT_DASK_SCHEDULER names one, on a Dask cluster."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import Any, TypeVar

from vsat.settings import Settings

Job = TypeVar("Job")
Result = TypeVar("Result")
Progress = Callable[[int, int], None]


def run_jobs(
    one: Callable[[Job], Result],
    jobs: Sequence[Job],
    *,
    workers: int = 2,
    progress: Progress | None = None,
) -> list[Result]:
    """Every job is done once.

    Args:
        one: does one job; a function of a module, so that a cluster can find it.
        jobs: plain values.
        workers: threads; a cluster has its own.
        progress: called in this thread with (done, all) after each job, in the order in which they end.

    Returns:
        Results in the order of the jobs.

    Raises:
        VsatError: the first error a job raised; jobs that had not begun are not begun any more.
    """
    if not jobs:
        return []
    scheduler = Settings.from_environment().dask_scheduler
    if scheduler:
        return _on_cluster(one, jobs, scheduler, progress)
    with ThreadPoolExecutor(max(1, workers)) as pool:
        futures = [pool.submit(one, job) for job in jobs]
        _watch(futures, as_completed(futures), progress)
        return [future.result() for future in futures]


def each(one: Callable[[Job], Result]) -> Callable[[Sequence[Job]], list[Result]]:
    """A function that does several jobs, one after the other: few coarse tasks for a scheduler that charges for each."""

    def several(jobs: Sequence[Job]) -> list[Result]:
        return [one(job) for job in jobs]

    return several


def _on_cluster(
    one: Callable[[Job], Result], jobs: Sequence[Job], scheduler: str, progress: Progress | None
) -> list[Result]:
    from distributed import Client, as_completed

    with Client(scheduler, set_as_default=False) as client:  # type: ignore[no-untyped-call]
        futures = client.map(one, jobs, pure=False)
        _watch(futures, as_completed(futures, loop=client.loop), progress)  # type: ignore[no-untyped-call]
        results: list[Result] = client.gather(futures)
        return results


def _watch(futures: Sequence[Future[Any]], ended: Any, progress: Progress | None) -> None:
    """Report each end; at the first error, or an interrupt, call off what has not begun."""
    reported = 0
    try:
        for future in ended:
            future.result()
            reported += 1
            if progress is not None:
                progress(reported, len(futures))
    finally:
        if reported < len(futures):
            for future in futures:
                future.cancel()
