"""What can go wrong and the user can mend: each error says the value, the place and the next step."""

import re
from enum import IntEnum

_LOGIN = re.compile(r"(?:(?<=://)[^\s/@'\"]+|[^\s:/@'\"\[(]+:[^\s/@'\"]+)@(?=[^\s@])")
_QUERY = re.compile(r"(?<=://)([^\s?#'\"]+)\?[^\s'\"]+")
_CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)  # all but tab and new line
_LONGEST = 8000  # characters: what a file says of itself may be megabytes

PAGE = "docs/errors.md"  # has an anchor for each class of error and each exit code


class ExitCode(IntEnum):
    """What the process says when it ends; `vsat --help` prints this list."""

    DONE = 0
    FAILED = 1
    BAD_INPUT = 2
    CATALOGUE_DOWN = 3
    NO_SCENES = 4
    ALL_CLOUDY = 5
    ACCESS_REFUSED = 6
    DISK_FULL = 7

    @property
    def page(self) -> str:
        """Where in the documents this outcome is explained."""
        return f"{PAGE}#exit-{int(self)}"


def without_logins(text: str) -> str:
    """The text without what stands before the @ of an address and behind its ?: a password or a key in most cases."""
    return _QUERY.sub(r"\1?...", _LOGIN.sub("...@", text))


class VsatError(Exception):
    """Base of all errors that a user can mend. No login of an address is in its words, whoever wrote it where.

    Args:
        problem: what is wrong, with the offending value.
        place: where: a file, key path, granule, URL without secrets.
        next_step: what to do about it.
    """

    exit_code: ExitCode = ExitCode.FAILED

    def __init__(self, problem: str, *, place: str = "", next_step: str = "") -> None:
        texts = [_shown(without_logins(text)) for text in (problem, place, next_step)]
        self.problem, self.place, self.next_step = texts
        super().__init__(*texts)

    @property
    def page(self) -> str:
        """Where in the documents errors of this kind are explained."""
        return f"{PAGE}#{type(self).__name__.lower()}"

    def __str__(self) -> str:
        where = f"{self.place}: " if self.place else ""
        step = f". Next: {self.next_step}" if self.next_step else ""
        return f"{where}{self.problem}{step}"

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle with the keyword arguments, so that errors cross process borders whole."""
        return _rebuild, (type(self), self.problem, self.place, self.next_step)


def _shown(text: str) -> str:
    """The text with control characters written out, which on a terminal would do as they say, and not too long."""
    plain = _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    more = len(plain) - _LONGEST
    return plain if more <= 0 else f"{plain[: _LONGEST - 40]}... ({more + 40} more characters)"


def _rebuild(kind: type[VsatError], problem: str, place: str, next_step: str) -> VsatError:
    return kind(problem, place=place, next_step=next_step)


class InputError(VsatError):
    """The user's region, cube or option is not usable as it stands."""

    exit_code = ExitCode.BAD_INPUT


class CatalogueDown(VsatError):
    """The catalogue gave no complete answer: nothing is known about what exists."""

    exit_code = ExitCode.CATALOGUE_DOWN


class ClusterDown(VsatError):
    """The Dask cluster that is to do the work cannot be used; what was done before stays."""


class NoScenes(VsatError):
    """The catalogue answered completely, and there is nothing in this area and period."""

    exit_code = ExitCode.NO_SCENES


class AllCloudy(VsatError):
    """Scenes were found and read, and none has a single clear pixel."""

    exit_code = ExitCode.ALL_CLOUDY


class ReadError(VsatError):
    """A file could not be read and verified: the scene has failed, it is not empty."""


class AccessError(ReadError):
    """The server refuses our credentials: every further read from it would fail alike."""

    exit_code = ExitCode.ACCESS_REFUSED


class StoreError(VsatError):
    """What lies in a store contradicts its ledger: a missing, torn or altered object."""


class DiskFull(StoreError):
    """There is no room to write; what is finished stays, and every further write would fail alike."""

    exit_code = ExitCode.DISK_FULL
