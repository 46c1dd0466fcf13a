"""The API keeps to its own document, whatever it is asked: schemathesis asks what the document allows and what it does not.

In process, without a server. No answer is a 5xx, and each has a status, a type and a shape that the document names.
"""

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from viewer_region import NAME, loaded

from vsat.viewer.app import create_app

schemathesis = pytest.importorskip("schemathesis")
from schemathesis.checks import (  # noqa: E402
    content_type_conformance,
    not_a_server_error,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.generation import GenerationMode  # noqa: E402

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = 20
IMAGE = "VSAT.T33UVP.2023133.v1"
# values that are there, so that requests get further than "not found"
KNOWN = {
    "region": [NAME], "tile": ["33UVP"], "item": [IMAGE], "date": ["2023-05-13", "2023-06-18"],
    "file": [f"{IMAGE}.red.tif", f"{IMAGE}.json"], "z": [14], "x": [8839], "y": [5687], "lon": [14.2171],
    "lat": [48.1132], "start": ["2023-05-10"], "end": ["2023-06-20"], "bbox": ["14.2,48.1,14.22,48.12"],
    "datetime": ["2023-05-01T00:00:00Z/.."], "width": [64, 100], "intersects": ['{"type":"Point","coordinates":[14.2,48.1]}'],
}  # fmt: skip
RING = [[14.21, 48.105], [14.22, 48.105], [14.22, 48.11], [14.21, 48.105]]
BODIES = {
    "statistics": {"geometry": {"type": "Polygon", "coordinates": [RING]}, "show": "nir"},
    "search": {"bbox": [14.2, 48.1, 14.22, 48.12], "limit": 2},
}
OPERATIONS = (
    "GET /api/regions", "GET /api/regions/{region}", "GET /api/regions/{region}/tiles/{layer}/{date}/{z}/{x}/{y}.png",
    "GET /api/regions/{region}/legend/{layer}", "GET /api/regions/{region}/series", "POST /api/regions/{region}/statistics",
    "GET /api/regions/{region}/animation.gif", "GET /api/regions/{region}/status", "GET /stac", "GET /stac/conformance",
    "GET /stac/collections", "GET /stac/collections/{region}", "GET /stac/collections/{region}/items",
    "GET /stac/collections/{region}/items/{item}", "GET /stac/search", "POST /stac/search",
    "GET /files/{region}/{tile}/{item}/{file}",
)  # fmt: skip


@pytest.fixture(scope="module")
def operations(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    app = create_app([loaded(tmp_path_factory.mktemp("schema"))], hosts=["testserver"], threads=2)
    schema = schemathesis.openapi.from_asgi("/api/openapi.json", app)
    return {found.ok().label: found.ok() for found in schema.get_all_operations()}


def test_every_operation_is_asked(operations: dict[str, Any]) -> None:
    assert sorted(operations) == sorted(OPERATIONS)


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: str(mode.value))
@pytest.mark.parametrize("label", OPERATIONS)
def test_answers_are_those_of_the_document(operations: dict[str, Any], label: str, mode: GenerationMode) -> None:
    operation, statuses = operations[label], Counter[int]()
    names = [one.name for one in operation.iter_parameters()]

    @settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode), data=st.data())
    def ask(case: Any, data: st.DataObject) -> None:
        share = data.draw(st.sampled_from((0, 1, 2)), "none, some or all as they are there")
        for name in [one for one in KNOWN if one in names and (share == 2 or (share and data.draw(st.booleans())))]:
            place = case.path_parameters if f"{{{name}}}" in label else case.query
            if place is not None:
                place[name] = data.draw(st.sampled_from(KNOWN[name]))
        body = label.rpartition("/")[2]
        if body in BODIES and label.startswith("POST") and data.draw(st.booleans()):
            case.body = BODIES[body]
        answer = case.call()
        statuses[answer.status_code] += 1
        case.validate_response(answer, checks=CHECKS)

    try:
        ask()
    except Unsatisfiable:  # nothing that can be wrong about it
        assert not names and mode is GenerationMode.NEGATIVE
        return
    assert sum(statuses.values()) > 0 and (mode is GenerationMode.NEGATIVE or 200 in statuses), statuses
