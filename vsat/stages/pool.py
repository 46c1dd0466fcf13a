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
        jobs: plain values, small: what they are about is read and written where they are done.
        workers: threads; a cluster has its own.
        progress: called in this thread with (done, all) after each job, in the order in which they end.

    Returns:
        Results in the order of the jobs.

    Raises:
        VsatError: the first error a job raised; jobs that had not begun are not begun any more.
        ClusterDown: the cluster cannot be used.
    """
    if not jobs:
        return []
    if scheduler := Settings.from_environment().dask_scheduler:
        from vsat.stages.cluster import run_on_cluster  # here, for Dask's part for clusters takes a second to import

        return run_on_cluster(one, jobs, scheduler, progress=progress)
    return run_in_threads(one, jobs, workers=workers, progress=progress)


def each(one: Callable[[Job], Result]) -> Callable[[Sequence[Job]], list[Result]]:
    """A function that does several jobs: few coarse tasks for a scheduler of flows that charges for each.

    It does them one after the other in the caller's thread, whose log lines are the run's; or it hands them to the Dask
    cluster and waits.
    """

    def several(jobs: Sequence[Job]) -> list[Result]:
        if Settings.from_environment().dask_scheduler:
            return run_jobs(one, jobs)
        return [one(job) for job in jobs]

    return several


def run_in_threads(
    one: Callable[[Job], Result], jobs: Sequence[Job], *, workers: int = 2, progress: Progress | None = None
) -> list[Result]:
    """As `run_jobs`, never on a cluster: for jobs that carry arrays.

    No more jobs are handed out than there are threads, so that after an error none begins.
    """
    waiting, workers = iter(range(len(jobs))), max(1, workers)
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
