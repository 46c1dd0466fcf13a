"""Routes of the STAC API over the published images."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from vsat.viewer import answers, stac
from vsat.viewer.asked import ItemId
from vsat.viewer.holdings import Shelves
from vsat.viewer.problems import answers as told
from vsat.viewer.problems import not_found
from vsat.viewer.regions import OfRegion
from vsat.viewer.search import USUAL, Found, SearchBody, asked_by_query, next_by_body, page, search
from vsat.viewer.sending import as_json
from vsat.viewer.stac import CONFORMANCE, GEOJSON, link

router = APIRouter(prefix="/stac", tags=["STAC"])
_FEATURES: dict[str, Any] = {"content": {GEOJSON: {"schema": {"type": "object"}}}, "description": "GeoJSON"}

Limit = Annotated[int, Query(ge=1, le=10_000, description="items on a page")]
Token = Annotated[str | None, Query(max_length=200, description="from a page's next link")]
BoxText = Annotated[str | None, Query(max_length=200, description="west,south,east,north in degrees")]
When = Annotated[str | None, Query(alias="datetime", max_length=100, description="a moment, or an interval a/b")]


@router.get("", responses={200: {"model": answers.Json}})
def stac_root(request: Request) -> Response:
    """The root of the STAC API."""
    return as_json(stac.landing(_shelves(request), _base(request)))


@router.get("/conformance", responses={200: {"model": answers.Json}})
def stac_conformance() -> Response:
    """What the API conforms to."""
    return as_json({"conformsTo": CONFORMANCE})


@router.get("/collections", responses={200: {"model": answers.Json}})
def stac_collections(request: Request) -> Response:
    """A collection per region."""
    return as_json(stac.collections(_shelves(request), _base(request)))


@router.get("/collections/{region}", responses={200: {"model": answers.Json}, **told(404, 422)})
def stac_collection(request: Request, shelf: OfRegion) -> Response:
    """The collection of a region's images."""
    return as_json(stac.collection(shelf, shelf.holdings(), _base(request)))


@router.get("/collections/{region}/items", responses={200: _FEATURES, **told(404, 422, 503)}, response_class=Response)
def stac_items(
    request: Request,
    shelf: OfRegion,
    limit: Limit = USUAL,
    token: Token = None,
    bbox: BoxText = None,
    when: When = None,
) -> Response:
    """The items of a region, newest first."""
    asked = asked_by_query(bbox, when, None, shelf.name, None, limit, token)
    found = search(list(_shelves(request)), asked, _base(request))
    above = f"{_base(request)}/stac/collections/{shelf.name}"
    links = [link("collection", above), link("parent", above), *_around(request, found)]
    return as_json(page(found, links), GEOJSON)


@router.get(
    "/collections/{region}/items/{item}", responses={200: _FEATURES, **told(404, 422, 503)}, response_class=Response
)
def stac_item(request: Request, shelf: OfRegion, item: ItemId) -> Response:
    """An item."""
    image = shelf.holdings().by_name.get(item)
    if image is None:
        raise not_found("there is no such item in this region")
    return as_json(stac.item(shelf, image, _base(request)), GEOJSON)


@router.get("/search", responses={200: _FEATURES, **told(422, 503)}, response_class=Response)
def stac_search(
    request: Request, bbox: BoxText = None, when: When = None,
    ids: Annotated[str | None, Query(max_length=4000, description="names of items, with commas")] = None,
    collections: Annotated[str | None, Query(max_length=4000, description="regions, with commas")] = None,
    intersects: Annotated[str | None, Query(max_length=8000, description="a GeoJSON geometry")] = None,
    limit: Limit = USUAL, token: Token = None,
) -> Response:  # fmt: skip
    """Items of all regions that match, newest first."""
    asked = asked_by_query(bbox, when, ids, collections, intersects, limit, token)
    found = search(list(_shelves(request)), asked, _base(request))
    return as_json(page(found, _around(request, found)), GEOJSON)


@router.post("/search", responses={200: _FEATURES, **told(413, 422, 503)}, response_class=Response)
def stac_search_by_body(request: Request, asked: SearchBody) -> Response:
    """The same with the fields in a JSON body."""
    found = search(list(_shelves(request)), asked, _base(request))
    links = [link("root", f"{_base(request)}/stac"), *next_by_body(found, asked, _base(request))]
    return as_json(page(found, links), GEOJSON)


def _around(request: Request, found: Found) -> list[dict[str, Any]]:
    """Links of a page: itself, the root, the next one."""
    links = [link("self", str(request.url), GEOJSON), link("root", f"{_base(request)}/stac")]
    if found.token is not None:
        links.append(
            link("next", str(request.url.include_query_params(token=found.token)), GEOJSON) | {"method": "GET"}
        )
    return links


def _base(request: Request) -> str:
    """Scheme and host of the request; the guard has seen that the host is ours."""
    return str(request.base_url).rstrip("/")


def _shelves(request: Request) -> Shelves:
    found: Shelves = request.app.state.shelves
    return found
