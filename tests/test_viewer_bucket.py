"""A region in a bucket looks in the viewer as it does on a disk."""

from pathlib import Path

import pytest
from starlette.testclient import TestClient
from viewer_region import LAST_NIGHT, NAME, viewer_region

from vsat.config import load_region
from vsat.objects import ObjectPath
from vsat.stages.nightly import nightly
from vsat.viewer.app import create_app

pytestmark = [pytest.mark.integration, pytest.mark.slow]
AT = f"/api/regions/{NAME}"
IMAGE = "VSAT.T33UVP.2023169.v1"
RING = [[14.21, 48.105], [14.225, 48.105], [14.225, 48.118], [14.21, 48.105]]


def test_what_is_seen_is_the_same(tmp_path: Path, bucket: ObjectPath) -> None:
    file = viewer_region(tmp_path)
    local = load_region(file)
    remote = local.model_copy(update={"store": bucket})
    nightly(remote, LAST_NIGHT)
    here, there = (
        TestClient(create_app([region], hosts=(), threads=4), base_url="http://localhost") for region in (local, remote)
    )
    red = f"/files/{NAME}/33UVP/{IMAGE}/{IMAGE}.red.tif"
    for address in (
        AT, f"{AT}/status", f"{AT}/series?lon=14.2171&lat=48.1132&show=ndvi", "/stac/collections", red,
        f"{AT}/tiles/virtual/2023-05-13/14/8839/5687.png", f"{AT}/tiles/age/2023-05-13/12/2209/1421.png",
        f"{AT}/tiles/observed/2023-06-18/14/8839/5687.png?show=nir", f"{AT}/animation.gif?width=64&start=2023-06-10",
    ):  # fmt: skip
        one, other = here.get(address), there.get(address)
        assert one.status_code == other.status_code == 200, (address, other.text)
        assert one.content == other.content, address
    part = there.get(red, headers={"Range": "bytes=100-299"})
    assert part.status_code == 206 and part.content == here.get(red).content[100:300]
    body = {"geometry": {"type": "Polygon", "coordinates": [RING]}, "show": "nir"}
    assert here.post(f"{AT}/statistics", json=body).json() == there.post(f"{AT}/statistics", json=body).json()
    item = there.get(f"/stac/collections/{NAME}/items/{IMAGE}").json()
    assert item["assets"]["red"]["href"] == f"http://localhost{red}"
