"""The STAC item of a checkpoint, by the machine learning model extension: what goes in, what comes out, where the weights are."""

import hashlib
import json
from pathlib import Path
from typing import Any

from shapely.geometry import box, mapping

from vsat.hls import BANDS, COMMON_NAMES, RESOLUTION_M, WAVELENGTH_UM
from vsat.io.sealed import sealed_json
from vsat.model import CALIBRATION, CONFIG, WEIGHTS
from vsat.stages.card import CARD, CARD_JSON

MODEL_ITEM = "item.json"
STAC_VERSION = "1.1.0"
SCHEMAS = "https://stac-extensions.github.io"
EXTENSIONS = (f"{SCHEMAS}/mlm/v1.5.2/schema.json", f"{SCHEMAS}/file/v2.1.0/schema.json")
WORLD = (-180.0, -80.0, 180.0, 84.0)  # where HLS has tiles
HLS_BEGINS = "2013-04-11T00:00:00Z"
QUANTILES = 5
ASSETS: tuple[tuple[str, str, list[str], str, str], ...] = (
    (WEIGHTS, "model", ["mlm:model", "mlm:weights"], "application/octet-stream", "weights"),
    (CONFIG, "config", ["metadata"], "application/json", "configuration of the architecture"),
    (CALIBRATION, "calibration", ["metadata"], "application/json", "stretches of the intervals"),
    (
        CARD_JSON,
        "card",
        ["metadata", "mlm:training-result"],
        "application/json",
        "how it was trained, and what was measured",
    ),
    (CARD, "readme", ["overview", "mlm:model-card"], "text/markdown", "the card, for people"),
)


def write_model_item(folder: Path, name: str) -> None:
    """`item.json` describes the checkpoint in the folder, whose other files are all there."""
    (folder / MODEL_ITEM).write_bytes(sealed_json(model_item(folder, name)))


def model_item(folder: Path, name: str) -> dict[str, Any]:
    """The item of a checkpoint, from its card, configuration and files; equal files give an equal item.

    A model has no date of its own, so `datetime` is null, and it applies from the first HLS scene on, wherever HLS is.

    Args:
        folder: of the checkpoint, with all files but the item.
        name: of the checkpoint.
    """
    card, config = (json.loads((folder / file).read_text("utf-8")) for file in (CARD_JSON, CONFIG))
    bands = [
        {
            "name": COMMON_NAMES[band],
            "description": f"{band}, {WAVELENGTH_UM[band]} um",
            "gsd": RESOLUTION_M,
            "unit": "1",
        }
        for band in BANDS
    ]
    return {
        "type": "Feature", "stac_version": STAC_VERSION, "stac_extensions": list(EXTENSIONS), "id": name,
        "geometry": json.loads(json.dumps(mapping(box(*WORLD)))), "bbox": list(WORLD),
        "properties": {
            "datetime": None, "start_datetime": HLS_BEGINS, "end_datetime": "9999-12-31T23:59:59Z",
            "title": f"{name}: HLS reflectance on any date", "license": "other", "gsd": RESOLUTION_M,
            "description": "Fills Harmonized Landsat Sentinel-2 reflectance with a predictive distribution: a set "
            "transformer over clear looks that predicts the residual over the best classical estimate.",
            "bands": bands,
            "mlm:name": name, "mlm:architecture": f"set transformer ({config['backbone']})", "mlm:tasks": ["regression"],
            "mlm:framework": "PyTorch", "mlm:total_parameters": card["report"]["parameters"],
            "mlm:memory_size": (folder / WEIGHTS).stat().st_size,
            "mlm:pretrained": card["init"] is not None, "mlm:pretrained_source": card["init"],
            "mlm:accelerator": None, "mlm:accelerator_constrained": False,
            "mlm:hyperparameters": {key: value for key, value in card["options"].items() if value is not None},
            "mlm:input": [_input()], "mlm:output": [_output()],
        },
        "links": [{"rel": "about", "href": f"./{CARD}", "type": "text/markdown"}],
        "assets": {
            key: _asset(folder / file, roles, kind, title)
            for file, key, roles, kind, title in ASSETS if (folder / file).is_file()
        },
    }  # fmt: skip


def _input() -> dict[str, Any]:
    return {
        "name": "clear looks of a place",
        "description": "Reflectance of any number of dates, with which pixels are clear, days and sensors beside it.",
        "bands": [COMMON_NAMES[band] for band in BANDS],
        "input": {
            "shape": [-1, -1, len(BANDS), -1, -1], "dim_order": ["batch", "time", "bands", "height", "width"],
            "data_type": "float32",
        },
        "value_scaling": None, "resize_type": None,
    }  # fmt: skip


def _output() -> dict[str, Any]:
    return {
        "name": "reflectance of the dates asked for",
        "description": "Quantiles .05, .25, .5, .75 and .95 of reflectance per date, band and pixel.",
        "tasks": ["regression"],
        "bands": [COMMON_NAMES[band] for band in BANDS],
        "result": {
            "shape": [-1, -1, QUANTILES, len(BANDS), -1, -1],
            "dim_order": ["batch", "time", "quantile", "bands", "height", "width"], "data_type": "float32",
        },
    }  # fmt: skip


def _asset(path: Path, roles: list[str], kind: str, title: str) -> dict[str, Any]:
    content = path.read_bytes()
    asset: dict[str, Any] = {
        "href": f"./{path.name}", "type": kind, "roles": roles, "title": title, "file:size": len(content),
        "file:checksum": f"1220{hashlib.sha256(content).hexdigest()}",
    }  # fmt: skip
    if "mlm:model" in roles:
        asset |= {
            "mlm:artifact_type": "safetensors.torch.save_file",
            "bands": [{"name": n} for n in COMMON_NAMES.values()],
        }
    return asset
