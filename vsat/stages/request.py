"""What a backfill is asked for: the same words on the command line, in Python and in the form of the Prefect UI."""

import re
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from vsat.config import Region
from vsat.errors import InputError
from vsat.fields import Day
from vsat.methods import ANYDATE, METHODS
from vsat.stages.generate import Policy

OWN = "region"


class BackfillRequest(BaseModel):
    """A past stretch of days, and how its images are to be made."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="Backfill", hide_input_in_errors=True)

    start: Day = Field(title="First day", description="Of the images, UTC. Only days of the region's period count.")
    end: Day = Field(
        title="Last day", description="Included. Scenes are fetched beyond it, as far as its images rest on them."
    )
    policy: Policy = Field(
        default="missing",
        title="Images that are there",
        description="missing: make again those that are stale, keep the others; skip: keep all; replace: make all again; "
        "new-version: make again those that are stale, under the next higher version beside the old ones.",
    )
    method: str = Field(
        default=OWN,
        title="Method",
        description="How gaps are filled. region: as its file says, or as an image was asked for before. An image made "
        "with another one keeps it, and nights that find it stale make it again with that one.",
        json_schema_extra={"enum": [OWN, *METHODS]},
    )
    checkpoint: str = Field(
        default="",
        title="Checkpoint",
        description="Folder or hub id of an any-date model, with method anydate. Empty: the one that comes with vsat.",
    )
    dry_run: bool = Field(
        default=False, title="Dry run", description="Only count scenes and images, and estimate bytes and time."
    )

    @field_validator("method")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in (OWN, *METHODS):
            raise ValueError(f"{value!r} is no method: choose among {', '.join((OWN, *METHODS))}")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.start > self.end:
            raise ValueError(f"the first day ({self.start}) is after the last ({self.end})")
        if self.checkpoint and self.method != ANYDATE:
            raise ValueError(f"a checkpoint is for method {ANYDATE}, this is method {self.method}")
        return self

    @property
    def chosen(self) -> str | None:
        """The name of the method; None for the region's."""
        if self.method == OWN:
            return None
        return f"{ANYDATE}:{self.checkpoint}" if self.checkpoint else self.method

    def words(self, region: Region) -> str:
        """Names the request in the region's job table: equal words are one request until it is finished."""
        method = self.chosen or OWN
        return f"{self.start}/{self.end}/{self.policy}/{region.fingerprint()[:8]}/{method}"


def method_in(words: str, region: Region) -> str:
    """The method that a request of these words was made with, as far as they tell."""
    method = re.sub(r"#\d+$", "", words).split("/", 4)[-1]
    return region.method if method == OWN else method


def asked_for(
    start: object, end: object, *, policy: str, method: str | None = None, dry_run: bool = False
) -> BackfillRequest:
    """The request that options of the command line make; `method` may name a checkpoint, anydate:FOLDER.

    Raises:
        InputError: they do not fit; every problem is named.
    """
    name, _, checkpoint = (method or OWN).partition(":")
    given = {"start": start, "end": end, "policy": policy, "method": name, "checkpoint": checkpoint, "dry_run": dry_run}
    try:
        return BackfillRequest.model_validate(given)
    except ValidationError as error:
        told = [": ".join([*map(str, one["loc"]), one["msg"].removeprefix("Value error, ")]) for one in error.errors()]
        raise InputError("; ".join(told), place="options", next_step="mend these, then ask again") from error
