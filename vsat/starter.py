"""The first region file of a user, every key explained where it stands, and the JSON Schema for editors."""

import json
from datetime import date
from importlib.resources import files
from string import Template
from typing import Any

import yaml

from vsat.config import Region
from vsat.hls import BANDS
from vsat.methods import DEFAULT_METHOD, METHODS

SCHEMA_FILE = "region.schema.json"


def starter(
    name: str,
    bbox: tuple[float, float, float, float],
    *,
    start: date,
    end: date | None = None,
    catalogue: str = "cmr",
    where: str = "",
    schema: str = SCHEMA_FILE,
) -> str:
    """The text of a region file with every key explained; `load_region` reads it.

    Args:
        name: the region's name.
        bbox: west, south, east, north in degrees.
        start: the first day of the period.
        end: the last day; None goes on with the days.
        catalogue: a kind of catalogue.
        where: the folder of kind archive, or the root URL of kind stac.
        schema: the path of the JSON Schema, relative to the file.
    """
    template = Template(files("vsat").joinpath("starter.yaml").read_text(encoding="utf-8"))
    key = {"archive": "path", "stac": "url"}.get(catalogue)
    return template.substitute(
        schema=schema,
        name=name if yaml.safe_load(name) == name else json.dumps(name),
        bbox=", ".join(f"{value:.6f}".rstrip("0").rstrip(".") for value in bbox),
        start=start.isoformat(),
        end=f"\n  end: {end.isoformat()}" if end else "\n  # end: 2026-12-31",
        catalogue=catalogue + (f"\n  {key}: {json.dumps(where)}" if key else ""),
        bands=", ".join(BANDS),
        method=DEFAULT_METHOD,
        methods=", ".join(METHODS),
    )


def region_schema() -> dict[str, Any]:
    """The JSON Schema of a region file, for editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Region.model_json_schema()}
