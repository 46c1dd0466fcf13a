"""Validation of STAC extensions without a network, by the vendored schemas."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pystac.validation
from referencing import Registry, Resource

SCHEMAS = Path(__file__).parent / "schemas"
CORE = "https://schemas.stacspec.org/v1.1.0"
PROJJSON = "https://proj.org/schemas/v0.7/projjson.schema.json"  # of fields that our items do not have


def extension_errors(item: dict[str, Any]) -> list[str]:
    """What the vendored schemas of the item's extensions say against it."""
    nothing = Resource.from_contents({"$schema": "http://json-schema.org/draft-07/schema#"})
    # PROJJSON and GeoJSON are named by $ref for fields that our items do not have, or that the core schema checks
    registry: Registry[Any] = Registry(retrieve=lambda _: nothing)
    older = json.loads((SCHEMAS / "raster-v1.1.0.json").read_text())  # of which the schema of models takes a part
    registry = registry.with_resource(older["$id"].rstrip("#"), Resource.from_contents(older))
    found = []
    for url in item["stac_extensions"]:
        schema = json.loads((SCHEMAS / f"{url.split('/')[3]}.json").read_text())
        assert schema["$id"].rstrip("#") == url
        validator = jsonschema.Draft7Validator(schema, registry=registry)
        found += [f"{url}: {error.message}" for error in validator.iter_errors(item)]
    return found


def validator_errors(path: Path) -> list[str]:
    """What stac-validator says against a file, its schemas taken from here and from pystac."""
    from stac_validator.validate import StacValidate

    core = Path(pystac.validation.__file__).parent / "jsonschemas"
    known = [*SCHEMAS.glob("*.json"), *core.glob("geojson/*.json")]
    places = {json.loads(file.read_text()).get("$id", "").rstrip("#"): str(file) for file in known}
    for file in core.glob("stac-spec/v1.1.0/*.json"):
        kind = file.stem if file.stem in ("catalog", "collection") else "item"
        places[f"{CORE}/{kind}-spec/json-schema/{file.name}"] = str(file)
    places[PROJJSON] = str(SCHEMAS / "anything.json")
    check = StacValidate(str(path), schema_map=places)
    check.run()
    return [] if check.valid else [json.dumps(check.message)]
