"""The job table of a backfill: a row per stage, month and tile, in the region's ledger, so that it outlives every process.

A request is open as long as one of its units is not done. Whoever asks for the same again goes on with it; after that, the
same words make a new request. Only the holder of the region's backfill lease may begin one.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from vsat.io.ledger import Ledger, Step
from vsat.objects import ObjectPath, StorePath

Stage = Literal["fetch", "generate"]
State = Literal["waiting", "running", "done", "failed"]
MOST_BEGINNINGS = 5  # a unit in the middle of which the process ended so often is left out: it may be what ends it

_COLUMNS = "stage, month, tile, state, done, failed, seconds, begun, reason"
_ROWS = f"SELECT {_COLUMNS} FROM job WHERE request = ? ORDER BY stage, month, tile"  # noqa: S608 - a constant
_NEW = f"INSERT OR IGNORE INTO job (request, {_COLUMNS}, todo) VALUES (?, ?, ?, ?, 'waiting', 0, 0, 0, 0, '', 0)"  # noqa: S608
_UNIT = "request = ? AND stage = ? AND month = ? AND tile = ?"
_AGAIN = f"""
UPDATE job SET
    reason = CASE WHEN state = 'running' AND begun >= {MOST_BEGINNINGS}
        THEN 'the process ended ' || begun || ' times in the middle of it' ELSE '' END,
    failed = 0,
    begun = CASE WHEN state = 'failed' THEN 0 ELSE begun END,
    state = CASE WHEN state = 'running' AND begun >= {MOST_BEGINNINGS} THEN 'failed' ELSE 'waiting' END
WHERE request = ? AND state IN ('running', 'failed')
"""  # noqa: S608 - a constant
_PLAN = f"""
UPDATE job SET
    todo = ?, begun = CASE WHEN ? THEN begun ELSE 0 END,
    state = CASE WHEN ? THEN 'waiting' WHEN failed THEN 'failed' ELSE 'done' END
WHERE {_UNIT}
"""  # noqa: S608 - a constant
_START = f"UPDATE job SET state = 'running', begun = begun + 1 WHERE {_UNIT} AND state = 'waiting'"  # noqa: S608
_END = """
UPDATE job SET
    todo = todo - 1, done = done + :done, failed = failed + :failed, seconds = seconds + :seconds,
    reason = CASE WHEN :reason = '' THEN reason ELSE :reason END,
    begun = CASE WHEN todo <= 1 THEN 0 ELSE begun END,
    state = CASE WHEN todo > 1 THEN state WHEN failed + :failed > 0 THEN 'failed' ELSE 'done' END
WHERE request = :request AND stage = :stage AND month = :month AND tile = :tile
"""
_FAIL = f"UPDATE job SET state = 'failed', begun = 0, reason = ? WHERE {_UNIT}"  # noqa: S608 - a constant
_DROP = f"DELETE FROM job WHERE {_UNIT}"  # noqa: S608 - a constant
_REST = "UPDATE job SET state = 'waiting', begun = 0 WHERE request = ? AND state = 'running'"


@dataclass(frozen=True, order=True)
class Unit:
    """One stage's work on one month (`2023-05`) and tile."""

    stage: Stage
    month: str
    tile: str


@dataclass(frozen=True)
class Row:
    """A unit and how far it is.

    Attributes:
        unit: which.
        state: waiting, running, done or failed.
        done, failed: scenes or images that were seen to end so; a kill may hide some that have their receipt.
        seconds: that its jobs took, added up.
        begun: how often it began since it last came to an end.
        reason: why it failed.
    """

    unit: Unit
    state: State = "waiting"
    done: int = 0
    failed: int = 0
    seconds: float = 0.0
    begun: int = 0
    reason: str = ""


class JobTable(Ledger):
    """The ledger of a region with its table of units. A context manager; every thread and process opens its own."""

    def __new__(cls, path: StorePath) -> "JobTable":
        """See Ledger."""
        if isinstance(path, ObjectPath):
            from vsat.io.object_ledger import ObjectJobTable

            return object.__new__(ObjectJobTable)
        return object.__new__(cls)

    def begin(self, wish: str, units: Iterable[Unit]) -> str:
        """The open request of this wish has a row for every unit, and none of them is running.

        What a killed process left running waits again, and what failed does; but what ended its process too often has
        failed.

        Args:
            wish: what is asked for, in words; equal wishes are one request until all its units are done.
            units: all there are.

        Returns:
            The request's name: the wish, `#` and a number.
        """
        numbers = [int(name.rpartition("#")[2]) for name in self.requests() if name.rpartition("#")[0] == wish]
        newest = f"{wish}#{max(numbers, default=0)}"
        is_open = any(row.state != "done" for row in self.rows(newest))
        request = newest if is_open else f"{wish}#{max(numbers, default=0) + 1}"
        wanted = list(units)
        gone = [row.unit for row in self.rows(request) if row.unit not in set(wanted)]  # the region has changed
        new: list[Step] = [(_NEW, _key(request, unit)) for unit in wanted]
        self._all_or_nothing([*new, *((_DROP, _key(request, unit)) for unit in gone), (_AGAIN, (request,))])
        return request

    def requests(self) -> list[str]:
        """The names of all requests."""
        return [name for (name,) in self._read("SELECT DISTINCT request FROM job ORDER BY request", ())]

    def rows(self, request: str) -> list[Row]:
        """The units of a request in order of stage, month and tile."""
        return [_row(*values) for values in self._read(_ROWS, (request,))]  # type: ignore[arg-type]

    def plan(self, request: str, jobs: Mapping[Unit, int]) -> None:
        """So many jobs are left of each unit; one without any has ended."""
        steps = [(_PLAN, (count, count, count, *_key(request, unit))) for unit, count in jobs.items()]
        self._all_or_nothing(steps)

    def start(self, request: str, unit: Unit) -> None:
        """A job of the unit has begun, so the unit is running."""
        self._write("job", unit.stage, _START, _key(request, unit))

    def end(self, request: str, unit: Unit, *, done: int, failed: int, seconds: float, reason: str = "") -> None:
        """A job of the unit has ended, with so many scenes or images; the last one ends the unit."""
        given: dict[str, str | int | float] = {"done": done, "failed": failed, "seconds": seconds, "reason": reason}
        key = dict(zip(("request", "stage", "month", "tile"), _key(request, unit), strict=True))
        self._write("job", unit.stage, _END, given | key)

    def fail(self, request: str, unit: Unit, reason: str) -> None:
        """The unit has failed, whatever jobs are left of it."""
        self._write("job", unit.stage, _FAIL, (reason, *_key(request, unit)))

    def rest(self, request: str) -> None:
        """No unit is running: the request was stopped in good order."""
        self._write("job", request, _REST, (request,))

    def forget(self, request: str) -> None:
        """No unit of the request is listed."""
        self._write("job", request, "DELETE FROM job WHERE request = ?", (request,))


def _key(request: str, unit: Unit) -> tuple[str, str, str, str]:
    return request, unit.stage, unit.month, unit.tile


def _row(
    stage: Stage, month: str, tile: str, state: State, done: int, failed: int, seconds: float, begun: int, reason: str
) -> Row:
    return Row(Unit(stage, month, tile), state, done, failed, seconds, begun, reason)
