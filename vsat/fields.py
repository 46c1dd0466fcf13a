"""Kinds of fields in a region file: a day, a folder beside the file, the place of a store."""

import re
from datetime import date
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer, PlainValidator, ValidationInfo, WithJsonSchema

from vsat.objects import SCHEME, ObjectPath, StorePath, bucket_place

_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")


def _day(value: object) -> object:
    """A date as YAML or JSON writes it. Left alone, pydantic would take 20240501 for a number of seconds."""
    if isinstance(value, str) and _DAY.fullmatch(value):
        return date.fromisoformat(value)
    if type(value) is date:
        return value
    raise ValueError("a day is written as 2024-05-01")


def given_folder(value: Path, info: ValidationInfo) -> Path:
    """Relative to the region file, where there is one."""
    if not str(value).isprintable():
        raise ValueError("a path has no control characters")
    folder = (info.context or {}).get("folder")
    try:
        return (Path(folder) / value.expanduser()).resolve() if folder else value
    except (RuntimeError, OSError) as error:  # no such user, a loop of links, a name that is too long
        raise ValueError(f"there can be no such path: {error}") from error


def _store(value: object, info: ValidationInfo) -> StorePath:
    if not isinstance(value, str | Path | ObjectPath):
        raise ValueError("a folder, or s3://bucket/prefix, is needed")
    return bucket_place(str(value)) if str(value).startswith(SCHEME) else given_folder(Path(value), info)


Day = Annotated[date, BeforeValidator(_day)]
_SCHEMA = WithJsonSchema({"type": "string", "format": "path"})
Store = Annotated[StorePath, PlainValidator(_store), PlainSerializer(str, when_used="json"), _SCHEMA]
