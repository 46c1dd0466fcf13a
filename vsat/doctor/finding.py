"""One line of the doctor's."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from vsat.errors import without_logins


@dataclass(frozen=True)
class Finding:
    """What was looked at and how it is. No login of an address is in its words.

    Attributes:
        name: what; a region's begin with its name.
        level: ok, warning (it will become an error, or something is not as it should be), error (a night would fail).
        value: what was found.
        next_step: what to do about it, "" where nothing is to be done.
    """

    name: str
    level: Literal["ok", "warning", "error"]
    value: str
    next_step: str = ""

    def __post_init__(self) -> None:
        """Frozen, so set by way of object: addresses come from the environment, and may hold a login there."""
        object.__setattr__(self, "value", without_logins(self.value))

    @property
    def what_next(self) -> str:
        """The next step as the end of a sentence."""
        return f". Next: {self.next_step}" if self.next_step else ""


def gigabytes(size: float) -> str:
    """A size for people: 1.2 GB, 35 MB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def for_people(span: timedelta) -> str:
    """A stretch of time: 3 days, 5 hours, 20 minutes."""
    seconds = abs(span.total_seconds())
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return f"{seconds:.0f} seconds"
