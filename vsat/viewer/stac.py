"""STAC of the published images as documents: landing page, collections, items with addresses of this server."""

from collections.abc import Mapping
from typing import Any

from vsat.io.images import Published
from vsat.io.stac import STAC_VERSION, read_item
from vsat.viewer.holdings import Holdings, Shelf, Shelves

CONFORMANCE = [
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/collections",
    "https://api.stacspec.org/v1.0.0/ogcapi-features",
    "https://api.stacspec.org/v1.0.0/item-search",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/core",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/oas30",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/geojson",
]
JSON, GEOJSON = "application/json", "application/geo+json"
OPENAPI = "application/vnd.oai.openapi+json;version=3.1"

Json = dict[str, Any]


def landing(shelves: Shelves, base: str) -> Json:
    """The root of the API."""
    children = [
        link("child", f"{base}/stac/collections/{shelf.name}", title=f"virtual images of {shelf.name}")
        for shelf in shelves
    ]
    return {
        "type": "Catalog", "stac_version": STAC_VERSION, "id": "vsat", "title": "vsat: virtual images",
        "description": "Cloud-free reflectance with its uncertainty, a collection per region.",
        "conformsTo": CONFORMANCE,
        "links": [
            link("self", f"{base}/stac"), link("root", f"{base}/stac"),
            link("service-desc", f"{base}/api/openapi.json", OPENAPI),
            link("service-doc", f"{base}/", "text/html"),
            link("conformance", f"{base}/stac/conformance"), link("data", f"{base}/stac/collections"),
            link("search", f"{base}/stac/search", GEOJSON) | {"method": "GET"},
            link("search", f"{base}/stac/search", GEOJSON) | {"method": "POST"},
            *children,
        ],
    }  # fmt: skip


def collections(shelves: Shelves, base: str) -> Json:
    """A collection per region."""
    links = [link("self", f"{base}/stac/collections"), link("root", f"{base}/stac")]
    made = [collection(shelf, shelf.holdings(), base) for shelf in shelves]
    return {"collections": made, "links": links, "numberMatched": len(made), "numberReturned": len(made)}


def collection(shelf: Shelf, held: Holdings, base: str) -> Json:
    """The collection of a region's images; without any, its extent is that of what was asked for."""
    here = f"{base}/stac/collections/{shelf.name}"
    days = list(held.by_day)
    period = shelf.region.period
    first = (days[0] if days else period.start).isoformat()
    last = (days[-1] if days else period.end or period.start).isoformat()
    west, south, east, north = shelf.region.area.geometry().bounds
    return {
        "type": "Collection", "stac_version": STAC_VERSION, "id": shelf.name, "title": f"Virtual images of {shelf.name}",
        "description": f"Cloud-free reflectance with its uncertainty for region {shelf.name}.", "license": "other",
        "keywords": ["HLS", "gap filling", "surface reflectance", "uncertainty"],
        "extent": {
            "spatial": {"bbox": [[west, south, east, north]]},
            "temporal": {"interval": [[f"{first}T00:00:00Z", f"{last}T23:59:59Z"]]},
        },
        "links": [
            link("self", here), link("root", f"{base}/stac"), link("parent", f"{base}/stac"),
            link("items", f"{here}/items", GEOJSON),
        ],
    }  # fmt: skip


def published(shelf: Shelf, image: Published) -> Json:
    """The item of an image as it was published; kept for as long as nothing changes.

    Raises:
        StoreError: it cannot be read.
    """
    return shelf.remembered(f"item {image.name}", lambda: read_item(image.objects[f"{image.name}.json"][0]))


def item(shelf: Shelf, image: Published, base: str) -> Json:
    """The item of an image with addresses of this server.

    Raises:
        StoreError: it cannot be read.
    """
    told = published(shelf, image)
    above = f"{base}/stac/collections/{shelf.name}"
    links = [
        link("self", f"{above}/items/{image.name}", GEOJSON), link("root", f"{base}/stac"), link("parent", above),
        link("collection", above), *(one for one in told["links"] if one["rel"] == "derived_from"),
    ]  # fmt: skip
    assets = {key: _asset(asset, shelf, image, base) for key, asset in told["assets"].items()}
    return told | {"collection": shelf.name, "links": links, "assets": assets}


def link(rel: str, href: str, media: str = JSON, *, title: str = "") -> Json:
    """A link of a document."""
    return {"rel": rel, "href": href, "type": media} | ({"title": title} if title else {})


def _asset(asset: Mapping[str, Any], shelf: Shelf, image: Published, base: str) -> Json:
    name = str(asset["href"]).rpartition("/")[2]
    return dict(asset) | {"href": f"{base}/files/{shelf.name}/{image.tile}/{image.name}/{name}"}
