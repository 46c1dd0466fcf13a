"""The STAC item of a checkpoint: valid against the core and the machine learning model extension, from the files themselves."""

import hashlib
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from pystac.validation.local_validator import LocalValidator
from stac_schemas import extension_errors

import vsat
from vsat.hls import COMMON_NAMES
from vsat.io.sealed import open_json
from vsat.stages.model_item import MODEL_ITEM, model_item, write_model_item

SHIPPED = Path(vsat.__file__).parent / "model" / "weights" / "anydate-tiny"


@pytest.fixture(scope="module")
def item() -> dict[str, Any]:
    return open_json((SHIPPED / MODEL_ITEM).read_bytes())


def test_the_one_that_comes_along_is_of_the_files_beside_it(item: dict[str, Any]) -> None:
    assert item == model_item(SHIPPED, "anydate-tiny")


def test_the_item_is_valid_against_core_and_extensions(item: dict[str, Any]) -> None:
    LocalValidator().item_validator().validate(item)
    assert extension_errors(item) == []


def test_the_validation_can_fail(item: dict[str, Any]) -> None:
    broken = json.loads(json.dumps(item))
    del broken["properties"]["mlm:architecture"]
    assert extension_errors(broken)
    broken = json.loads(json.dumps(item))
    broken["assets"]["model"]["roles"] = ["data"]
    assert extension_errors(broken)
    broken["geometry"] = 5
    with pytest.raises(jsonschema.ValidationError):
        LocalValidator().item_validator().validate(broken)


def test_it_says_what_the_files_hold(item: dict[str, Any]) -> None:
    told, weights = item["properties"], item["assets"]["model"]
    assert told["mlm:total_parameters"] == 929392 and told["mlm:hyperparameters"]["optimizer"] == "muon"
    assert told["mlm:input"][0]["bands"] == list(COMMON_NAMES.values()) == [band["name"] for band in told["bands"]]
    content = (SHIPPED / weights["href"]).read_bytes()
    assert (weights["file:size"], weights["file:checksum"]) == (
        len(content),
        f"1220{hashlib.sha256(content).hexdigest()}",
    )
    assert weights["mlm:artifact_type"] == "safetensors.torch.save_file"
    assert all((SHIPPED / asset["href"]).is_file() for asset in item["assets"].values())


def test_equal_files_give_equal_bytes(tmp_path: Path) -> None:
    for path in SHIPPED.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    written = []
    for _ in range(2):
        write_model_item(tmp_path, "anydate-tiny")
        written.append((tmp_path / MODEL_ITEM).read_bytes())
    assert written[0] == written[1] and open_json(written[0]) == model_item(SHIPPED, "anydate-tiny")
