"""The loop of a stage: the same jobs in threads here or, where VSAT_DASK_SCHEDULER names one, on a Dask cluster."""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

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
    return _in_threads(one, jobs, max(1, workers), progress)


def each(one: Callable[[Job], Result]) -> Callable[[Sequence[Job]], list[Result]]:
    """A function that does several jobs, one after the other: few coarse tasks for a scheduler that charges for each."""

    def several(jobs: Sequence[Job]) -> list[Result]:
        return [one(job) for job in jobs]

    return several


def _in_threads(
    one: Callable[[Job], Result], jobs: Sequence[Job], workers: int, progress: Progress | None
) -> list[Result]:
    """No more jobs are handed out than there are threads, so that after an error none begins."""
    waiting = iter(range(len(jobs)))
    running: dict[Future[Result], int] = {}
    results: dict[int, Result] = {}
    with ThreadPoolExecutor(workers) as pool:
        while True:
            for at in islice(waiting, workers - len(running)):
                running[pool.submit(one, jobs[at])] = at
            if not running:
                return [results[at] for at in range(len(jobs))]
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                results[running.pop(future)] = future.result()
                if progress is not None:
                    progress(len(results), len(jobs))


def _on_cluster(
    one: Callable[[Job], Result], jobs: Sequence[Job], scheduler: str, progress: Progress | None
) -> list[Result]:
    from distributed import Client, as_completed

    with Client(scheduler, set_as_default=False) as client:  # type: ignore[no-untyped-call]
        futures = client.map(one, jobs, pure=False)
        try:
            for count, future in enumerate(as_completed(futures, loop=client.loop), start=1):  # type: ignore[no-untyped-call]
                future.result()
                if progress is not None:
                    progress(count, len(jobs))
            results: list[Result] = client.gather(futures)
        finally:
            client.cancel(futures)  # after an error, those that have not begun
    return results
