"""The viewer's STAC API as its users see it: pystac-client opens, walks and searches it, GDAL reads its files."""

import threading
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
import requests
import uvicorn
from pystac_client import Client
from viewer_region import NAME, loaded

from vsat.config import Region
from vsat.io.publish import read_image
from vsat.viewer.app import create_app
from vsat.viewer.serving import bound

WHOLE = [14.2, 48.1, 14.235, 48.124]


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Region:
    return loaded(tmp_path_factory.mktemp("stac"))


@pytest.fixture(scope="module")
def address(region: Region, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with the region, and with another one that has nothing yet."""
    empty = region.model_copy(update={"name": "empty", "store": tmp_path_factory.mktemp("none")})
    listener = bound("127.0.0.1", 0)
    app = create_app([region, empty], hosts=(), threads=2)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(60)


@pytest.fixture(scope="module")
def client(address: str) -> Client:
    return Client.open(f"{address}/stac")


def test_it_is_a_catalogue_with_a_collection_per_region(client: Client, address: str) -> None:
    assert client.conforms_to("ITEM_SEARCH") and client.conforms_to("COLLECTIONS") and client.conforms_to("FEATURES")
    assert [one.id for one in client.get_collections()] == [NAME, "empty"]
    collection = client.get_collection(NAME)
    assert collection.extent.spatial.bboxes == [WHOLE] and collection.extent.temporal.intervals[0][0].month == 5
    assert list(client.get_collection("empty").get_items()) == []
    assert requests.get(f"{address}/stac/conformance", timeout=60).json()["conformsTo"] == client.get_conforms_to()


def test_walking_and_searching_give_every_item_once(client: Client) -> None:
    walked = [item.id for item in client.get_collection(NAME).get_items()]
    assert len(walked) == len(set(walked)) == 10
    assert walked == sorted(walked, reverse=True)
    for method in ("GET", "POST"):
        for limit in (1, 3, 10, 100):
            found = client.search(method=method, limit=limit, collections=[NAME])
            assert [item.id for item in found.items()] == walked
            assert found.matched() == 10


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_searches_narrow_down(client: Client, method: str) -> None:
    def ids(**fields: object) -> list[str]:
        return [item.id for item in client.search(method=method, **fields).items()]

    june = ids(datetime="2023-06-01/2023-06-30")
    assert len(june) == 4 and all(name.split(".")[2] >= "2023152" for name in june)
    assert ids(datetime="2023-06-18") == ["VSAT.T33UVP.2023169.v1"]
    assert len(ids(datetime="2023-06-18T12:00:00Z/..")) == 2 and len(ids(datetime="../2023-05-01T00:00:00Z")) == 1
    assert len(ids(bbox=WHOLE)) == 10 and ids(bbox=[0, 0, 1, 1]) == [] and len(ids(bbox=[-180, -90, 180, 90])) == 10
    assert ids(bbox=[170, 40, -170, 50]) == []  # across 180
    assert len(ids(bbox=[100, 40, 20, 50])) == 10
    square = {"type": "Polygon", "coordinates": [[[14.2, 48.1], [14.21, 48.1], [14.21, 48.11], [14.2, 48.1]]]}
    assert len(ids(intersects=square)) == 10
    assert len(ids(intersects={"type": "Point", "coordinates": [14.22, 48.11]})) == 10
    assert ids(intersects={"type": "Point", "coordinates": [10, 48.11]}) == []
    assert ids(ids=june[:1]) == june[:1] and ids(ids=["none"]) == [] and ids(collections=["empty"]) == []


def test_items_are_valid_and_lead_to_files_that_gdal_reads(client: Client, region: Region) -> None:
    (item,) = client.search(ids=["VSAT.T33UVP.2023169.v1"]).items()
    schema = pystac.validation.stac_validator.JsonSchemaSTACValidator
    assert schema is not None and item.collection_id == NAME
    assert item.get_parent() is not None and item.get_self_href().endswith(f"/collections/{NAME}/items/{item.id}")
    image = read_image(region.home, "33UVP", date(2023, 6, 18))
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
        with rasterio.open(item.assets["nir08"].href) as file:
            assert np.array_equal(file.read(1), image.refl_byx[3]) and file.crs.to_epsg() == 32633
        with rasterio.open(f"/vsicurl/{item.assets['sr'].href}") as layer:  # the VRT finds its bands beside it
            assert np.array_equal(layer.read(), image.refl_byx)
    for asset in item.assets.values():
        answer = requests.get(asset.href, timeout=60)
        assert answer.ok and len(answer.content) == asset.extra_fields["file:size"]
        assert answer.headers["content-type"] == asset.media_type


@pytest.mark.parametrize("query", [
    "bbox=1,2,3", "bbox=a,b,c,d", "bbox=0,10,1,5", "bbox=0,0,400,1", "datetime=yesterday", "datetime=..%2F..",
    "datetime=2023-06-02%2F2023-06-01", "datetime=2023-13-01T00:00:00Z", "limit=0", "limit=x", "intersects={}",
    "intersects=[1]", 'intersects={"type":"Point","coordinates":["a","b"]}', 'intersects={"type":"Point","coordinates":[]}',
    'intersects={"type":"GeometryCollection","geometries":[]}', "datetime=0001-01-01T00:00:00%2B14:00", "bbox=nan,0,1,1",
])  # fmt: skip
def test_searches_that_cannot_be_used_are_told(address: str, query: str) -> None:
    answer = requests.get(f"{address}/stac/search?{query}", timeout=60)
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json"), answer.text[:300]


def test_a_strange_token_gives_a_page_and_no_error(address: str) -> None:
    for token in ("", "x", "2023-06-01", "../../..", "|", "9999"):
        assert requests.get(f"{address}/stac/search", params={"token": token}, timeout=60).ok


def test_the_published_files_of_a_tile_are_all_there(address: str, region: Region) -> None:
    name = "VSAT.T33UVP.2023169.v1"
    folder = Path(str(region.home)) / "images" / "33UVP" / name
    for path in folder.iterdir():
        answer = requests.get(f"{address}/files/{NAME}/33UVP/{name}/{path.name}", timeout=60)
        assert answer.content == path.read_bytes(), path.name
