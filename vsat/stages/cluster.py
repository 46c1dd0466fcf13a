"""Jobs on a Dask cluster. Through its scheduler go plain jobs, receipts and log lines; pixels and models never do.

A job is repeated by Dask itself when its worker dies: jobs are safe to repeat, and what they write has the same bytes
wherever they run. Everything that can be wrong with the cluster ends in bounded time as ClusterDown.
"""

import asyncio
import logging
import platform
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar, runtime_checkable

from distributed import Client, Future, Security, rpc
from distributed import Worker as DaskWorker
from distributed.scheduler import KilledWorker

import vsat
from vsat.errors import ClusterDown, VsatError
from vsat.objects import StorePath
from vsat.stages.models import share_model
from vsat.stages.pool import Progress

log = logging.getLogger(__name__)
Job = TypeVar("Job")
Result = TypeVar("Result")
Versions = tuple[tuple[str, str], ...]
Line = tuple[str, int, str]
Connection = Any  # distributed.Client, which has no types

CONNECT_S = 20.0
LOOK_S = 5.0  # between two looks at the cluster while jobs are out
NO_WORKERS_S = 300.0  # an autoscaler may start the first machine when there is work, which takes minutes
AHEAD = 3  # jobs handed out for each thread of the cluster; the others wait here, not in the scheduler's memory
LEAST_AHEAD = 16
MOST_LINES, LINE_CHARS = 100, 500  # of a job's log that come back
_DECISIVE = ("distributed", "numpy", "numba", "scipy", "torch")  # another one may mean other bytes


@runtime_checkable
class Stored(Protocol):
    """A job that reads and writes below a folder."""

    @property
    def store(self) -> StorePath:
        """The folder: a region's, or that of a patch store."""


def run_on_cluster(
    one: Callable[[Job], Result], jobs: Sequence[Job], address: str, *, progress: Progress | None = None
) -> list[Result]:
    """Every job is done on the cluster; see `pool.run_jobs`.

    Args:
        one: does one job; a function of a module that the workers have.
        jobs: plain values, at least one.
        address: of the scheduler, tcp://host:8786 or tls://host:8786.
        progress: called in this thread with (done, all) after each job.

    Raises:
        VsatError: what a job raised, as on threads.
        ClusterDown: no scheduler, no workers, other versions, another file system, or a job that ends its workers.
    """
    with _connected(address) as client, _marked(jobs) as marks, ExitStack() as leaving:
        watch = _Watch(client, address)
        running: dict[str, tuple[Future[Any], int]] = {}
        results: dict[int, Result] = {}
        ended: SimpleQueue[str] = SimpleQueue()
        leaving.callback(lambda: client.cancel([future for future, _ in running.values()]))  # after an error
        waiting = iter(range(len(jobs)))
        while True:
            for at in islice(waiting, max(0, watch.ahead - len(running))):
                order = Order(watch.threads, versions(), marks.get(_store_of(jobs[at]), ""))
                name = f"{getattr(one, '__name__', 'job')}-{uuid.uuid4().hex}"
                future = client.submit(do, one, jobs[at], order, key=name, pure=False)
                running[name] = future, at
                future.add_done_callback(partial(_put_key, ended))
            if not running:
                return [results[at] for at in range(len(jobs))]
            try:
                name = ended.get(timeout=LOOK_S)
            except Empty:
                watch.look()
                continue
            future, at = running[name]
            results[at], lines = _result(future, watch)
            del running[name]  # Dask forgets it, so that the death of its worker makes nobody do it again
            for logger, level, text in lines:
                logging.getLogger(logger).log(level, "%s", text)
            watch.alive()
            if progress is not None:
                progress(len(results), len(jobs))


@dataclass(frozen=True)
class Order:
    """What goes along with a job: threads that work beside it on its machine, our versions, and a file to be seen."""

    threads: int
    versions: Versions
    mark: str


def do(one: Callable[[Job], Result], job: Job, order: Order) -> tuple[Result, list[Line]]:
    """On a worker: the job's result, and what vsat logged meanwhile.

    Raises:
        VsatError: what the job raised.
        ClusterDown: this worker has other versions than the sender, or another file system.
    """
    other = differing(dict(order.versions), dict(versions()))
    if other:
        problem, step = "its workers have other versions: " + ", ".join(other), "install the same lock file everywhere"
        raise ClusterDown(problem, place=_here(), next_step=step)
    if order.mark and not Path(order.mark).exists():
        problem = f"this worker does not see the folder {Path(order.mark).parent}"
        step = "give scheduler, workers and this machine one file system, mounted at the same path"
        raise ClusterDown(problem, place=_here(), next_step=step)
    share_model(order.threads)
    with _heard() as lines:
        return one(job), lines


@lru_cache(maxsize=1)
def versions() -> Versions:
    """Name and version of what decides whether two machines understand each other and make the same bytes."""
    found = {"python": ".".join(platform.python_version_tuple()[:2]), "vsat": vsat.__version__}
    for name in _DECISIVE:
        try:
            found[name] = version(name).partition("+")[0]  # torch 2.13.0+cpu and +cu126 are the same torch
        except PackageNotFoundError:  # a machine without models
            continue
    return tuple(found.items())


def differing(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """`numpy 2.1 (here 2.2)` for each that both have and that differs."""
    return [f"{name} {theirs[name]} (here {ours[name]})" for name in ours if theirs.get(name, ours[name]) != ours[name]]


class _Watch:
    """How the cluster is while jobs are out: its size, and for how long it has had no worker."""

    def __init__(self, client: Connection, address: str) -> None:
        self._client, self._address = client, address
        self._since: float | None = None
        self.threads, self.ahead = 1, LEAST_AHEAD
        self.look()

    def look(self) -> None:
        """See how many threads there are.

        Raises:
            ClusterDown: the scheduler does not answer, or there has been no worker for NO_WORKERS_S.
        """
        try:
            told = self._client.sync(self._client.scheduler.identity, n_workers=-1, callback_timeout=CONNECT_S)
        except (OSError, AttributeError) as error:  # it forgets its scheduler when it gives up
            raise self.gone() from error
        hosts = Counter[str]()
        for one in told["workers"].values():
            hosts[str(one["host"])] += int(one["nthreads"])
        if hosts:
            self.threads, self.ahead = max(hosts.values()), max(LEAST_AHEAD, AHEAD * hosts.total())
            self._since = None
            return
        now = time.monotonic()
        self._since = self._since or now
        if now - self._since >= NO_WORKERS_S:
            step = f"start some: dask worker {self._address}"
            raise ClusterDown(f"it has had no worker for {NO_WORKERS_S:g} s", place=self._address, next_step=step)

    def alive(self) -> None:
        """A job has ended: there is a worker."""
        self._since = None

    def gone(self) -> ClusterDown:
        """The error for a scheduler that does not answer any more."""
        step = "see that it runs, then start again: what is done stays done"
        return ClusterDown("the Dask scheduler does not answer any more", place=self._address, next_step=step)

    def killed(self, error: KilledWorker) -> ClusterDown:
        """The error for a job whose workers die."""
        problem = f"{error.task} has ended {error.allowed_failures + 1} workers, the last {error.last_worker.address}"
        step = "give workers more memory or fewer threads, and see their logs"
        return ClusterDown(problem, place=self._address, next_step=step)

    def strange(self, error: Exception) -> ClusterDown:
        """The error for a scheduler or worker that cannot load what was sent."""
        problem = f"its scheduler or workers cannot load vsat {vsat.__version__}: {_in_short(error)}"
        return ClusterDown(problem, place=self._address, next_step="install the same vsat and lock file everywhere")


def _put_key(ended: "SimpleQueue[str]", future: Future[Any]) -> None:
    ended.put(str(future.key))


def _result(future: Future[Any], watch: _Watch) -> tuple[Any, list[Line]]:
    """What `do` returned; it may have to be asked for again where the worker that holds it has just died."""
    while True:
        try:
            found: tuple[Any, list[Line]] = future.result(timeout=LOOK_S)
            return found
        except VsatError:
            raise
        except TimeoutError:
            if future.status == "error":  # the job's own
                raise
            watch.look()
        except KilledWorker as error:
            raise watch.killed(error) from error
        except CancelledError as error:
            raise watch.gone() from error
        except (RuntimeError, ImportError, AttributeError) as error:
            if "deserializ" in str(error) or _is_ours(error):
                raise watch.strange(error) from error
            raise


def _in_short(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or ['no message'])[0]}"


def _is_ours(error: Exception) -> bool:
    """True for a part of vsat that the other side has not."""
    return isinstance(error, ImportError) and (error.name or "").startswith("vsat")


def _here() -> str:
    """The worker's address, for messages."""
    worker = next((one for one in DaskWorker._instances if one.address), None)
    return f"{worker.address} on {platform.node()}" if worker else platform.node()


_lock = threading.Lock()
_open: dict[str, Connection] = {}
_users = Counter[str]()


@contextmanager
def _connected(address: str) -> Iterator[Connection]:
    """A client, one for all threads of this process that are inside at the time."""
    with _lock:
        client: Connection = _open.get(address)
        if client is None or client.status != "running":
            client = _open[address] = _connect(address)
        _users[client.id] += 1
    try:
        yield client
    finally:
        with _lock:
            _users[client.id] -= 1
            if not _users[client.id]:
                del _users[client.id]
                if _open.get(address) is client:
                    del _open[address]
                client.close(timeout=CONNECT_S)


def _connect(address: str) -> Connection:
    """A client of a scheduler with our versions.

    Raises:
        ClusterDown: nobody answers there in time, or something else, or another version of Dask or Python.
    """
    try:
        with ThreadPoolExecutor(1) as aside:  # a notebook has an event loop in its own thread
            told = aside.submit(asyncio.run, _ask_versions(address)).result()
        theirs = {"python": ".".join(str(told["python"]).split(".")[:2]), "distributed": str(told["distributed"])}
        if not (other := differing(dict(versions()), theirs)):
            return Client(address, timeout=CONNECT_S, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TypeError, RuntimeError, ImportError) as error:
        why = _in_short(error) if str(error) else f"no answer within {CONNECT_S:g} s"
        step = "see that the scheduler runs and the address is right (VSAT_DASK_SCHEDULER); unset it to work here"
        raise ClusterDown(f"no Dask scheduler: {why}", place=address, next_step=step) from error
    problem, step = "the scheduler has other versions: " + ", ".join(other), "install the same lock file everywhere"
    raise ClusterDown(problem, place=address, next_step=step)


async def _ask_versions(address: str) -> dict[str, object]:
    """The scheduler's packages. A client would wait for ever for the greeting of a server that says nothing."""
    security: Any = Security()  # type: ignore[no-untyped-call]  # TLS as Dask's own configuration says
    credentials = security.get_connection_args("client")
    scheduler: Any = rpc(address, timeout=CONNECT_S, connection_args=credentials)  # type: ignore[no-untyped-call]
    try:
        told = await asyncio.wait_for(scheduler.versions(), CONNECT_S)
    finally:
        await scheduler.close_rpc()
    packages: dict[str, object] = told["packages"]
    return packages


def _store_of(job: object) -> Path | None:
    # a bucket needs no mark: whoever reaches it at all reaches the same one
    return job.store if isinstance(job, Stored) and isinstance(job.store, Path) else None


@contextmanager
def _marked(jobs: Sequence[object]) -> Iterator[dict[Path | None, str]]:
    """A file in each store that the jobs are about, of a name that nobody has looked for before: who sees it is at home.

    Without this a worker that lacks the common file system would write into a folder of its own, and all would look done.
    """
    marks = {store: str(store / f".seen-{uuid.uuid4().hex}") for store in {_store_of(job) for job in jobs} if store}
    try:
        for path in marks.values():
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).touch()
        yield {store: path for store, path in marks.items()}
    finally:
        for path in marks.values():
            Path(path).unlink(missing_ok=True)


class _Lines(logging.Handler):
    """Keeps what one thread logs."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.thread, self.lines = threading.get_ident(), list[Line]()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self.thread and len(self.lines) < MOST_LINES:
            self.lines.append((record.name, record.levelno, record.getMessage()[:LINE_CHARS]))


@contextmanager
def _heard() -> Iterator[list[Line]]:
    """What this thread logs inside; else a run's numbers would be in the logs of workers only."""
    ours, handler = logging.getLogger("vsat"), _Lines()
    if ours.getEffectiveLevel() > logging.INFO:
        ours.setLevel(logging.INFO)
    ours.addHandler(handler)
    try:
        yield handler.lines
    finally:
        ours.removeHandler(handler)
