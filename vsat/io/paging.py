"""Every item that a STAC API has for a place and period, or an error: never a part of them.

"The catalogue is down" and "there are no scenes" are different results. pystac-client gives 150 of 250 items without an
error when a `next` link is lost, takes a page without `features` for the end, and loops where page 1 comes again.

One page that holds as many items as the server counts is complete. Several pages are no one moment's truth: an item that
is revised or removed between two of them moves another one over their border, where nobody sees it, and the count is still
right. They are asked for twice, the second time in pages of another length, and both answers must be the same; so is an
answer of a server whose count has not yet been seen to be more than a page's length. A server that counts nothing is asked
for the halves of the period, too.
"""

import logging
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from pyproj import Transformer
from pystac import Link, STACError
from pystac_client import Client, ItemSearch
from pystac_client.errors import ClientTypeError
from pystac_client.exceptions import APIError
from pystac_client.warnings import DoesNotConformTo
from urllib3 import Retry

from vsat.core.grid import TileGrid
from vsat.errors import CatalogueDown
from vsat.io.download import Patience
from vsat.io.origin import OriginIO, RefusedError, is_same_origin
from vsat.io.trust import Endpoint, netloc, without_secrets

log = logging.getLogger(__name__)

Item = Mapping[str, Any]
Items = dict[tuple[str, str, str], Item]  # by collection, id and revision
Box = tuple[float, float, float, float]

PAGE = 100  # CMR-STAC gives no more
_MAX_PAGES = 500
_PAD_DEGREES = 0.01  # footprints are coarse polygons
_MAX_ON_PAGE = 10 * PAGE  # some give more than they are asked for
_MAX_ITEMS = 10_000  # a month around a tile has some hundred
_KEPT = ("id", "collection", "properties", "assets")  # geometries of ten thousand items are not worth their memory
# what pystac and a page that is no page raise: they trust what a server says
_NO_STAC = (STACError, ClientTypeError, ValueError, LookupError, TypeError, AttributeError, RecursionError)
_DOWN = "the catalogue may be down: try again later; what was fetched before is untouched"


def list_items(endpoint: Endpoint, grid: TileGrid, start: date, end: date, patience: Patience) -> list[Item]:
    """All items whose footprint may touch the grid, from `start` to `end` (UTC days, both included).

    Args:
        endpoint: where to ask, for which collections.
        grid: whose bounds are asked for, as a box in degrees; two boxes where it crosses 180.
        start, end: days.
        patience: limits of trying again; `budget_s` bounds the time spent in failures.

    Returns:
        id, collection, properties and assets of STAC items as the server wrote them, each (id, revision) once.

    Raises:
        CatalogueDown: no complete answer; says which period and why.
    """
    asking = _Asking(endpoint, patience)
    items: Items = {}
    try:
        for first, last in _months(start, end):
            for box in geographic_boxes(grid):
                items |= asking.everything(box, first, last)
    finally:
        asking.close()
    return list(items.values())


def _months(start: date, end: date) -> Iterator[tuple[date, date]]:
    """Calendar months, cut to `start` and `end`: short answers page less, and fail less."""
    while start <= end:
        following = (start.replace(day=1) + timedelta(days=32)).replace(day=1)
        yield start, min(end, following - timedelta(days=1))
        start = following


def geographic_boxes(grid: TileGrid) -> tuple[Box, ...]:
    """Geographic boxes (west, south, east, north) that cover the grid; two where it crosses 180 degrees."""
    transform = Transformer.from_crs(grid.epsg, 4326, always_xy=True)
    west, south, east, north = transform.transform_bounds(*grid.bounds, densify_pts=21)
    west, east = west - _PAD_DEGREES, east + _PAD_DEGREES
    south, north = max(-90.0, south - _PAD_DEGREES), min(90.0, north + _PAD_DEGREES)
    west, east = (west + 180) % 360 - 180, (east + 180) % 360 - 180
    whole = [(west, east)] if west < east else [(west, 180.0), (-180.0, east)]
    return tuple((round(w, 6), round(south, 6), round(e, 6), round(north, 6)) for w, e in whole)


class _Partial(Exception):
    """An answer that came and can't be the whole truth."""


@dataclass(frozen=True)
class _Listed:
    """What one listing gave: items, on how many pages, the longest one's length, the server's count, whether it is right."""

    items: Items
    pages: int
    longest: int
    matched: int | None
    is_counted: bool


class _Asking:
    """A conversation with one STAC API; knows the time lost in failures, and whether its counts are to be believed."""

    def __init__(self, endpoint: Endpoint, patience: Patience) -> None:
        self._endpoint, self._patience = endpoint, patience
        self._lost_s, self._counts = 0.0, False
        retry = Retry(
            total=patience.attempts - 1,
            read=2,  # a server that hangs costs the full silence each time
            backoff_factor=patience.first_delay_s,
            backoff_max=patience.cap_s,
            retry_after_max=round(patience.cap_s),
            status_forcelist=[429, 500, 502, 503, 504],
            allowed_methods=None,
            raise_on_status=False,
        )
        self._io = OriginIO(endpoint.url, patience, retry)
        self._client: Client | None = None

    def close(self) -> None:
        self._io.session.close()

    def everything(self, box: Box, first: date, last: date) -> Items:
        """Every item of a period, by (id, revision); tried again while the answer is partial.

        Raises:
            CatalogueDown: with the place and what was wrong.
        """
        for attempt in range(1, self._patience.attempts + 1):
            began = time.monotonic()
            try:
                return self._period(box, first, last)
            except RefusedError as error:
                raise self._down(str(error), first, last) from None
            except APIError as error:
                reason = _reason(error)
                if getattr(error, "status_code", None) or "Max retries" in str(error):  # urllib3 has tried
                    raise self._down(reason, first, last) from None
            except DoesNotConformTo:
                raise self._down("this is not a STAC API with item search", first, last) from None
            except (_Partial, *_NO_STAC) as error:
                reason = str(error) if isinstance(error, _Partial) else f"an answer that is no STAC ({_kind(error)})"
            wait = self._patience.delay_s(attempt, f"{box}{first}")
            self._lost_s += time.monotonic() - began + wait
            if attempt == self._patience.attempts or self._lost_s > self._patience.budget_s:
                raise self._down(reason, first, last)
            log.info("%s, %s to %s: %s; try %d follows", netloc(self._endpoint.url), first, last, reason, attempt + 1)
            time.sleep(wait)
        raise AssertionError("patience without attempts")

    def _down(self, reason: str, first: date, last: date) -> CatalogueDown:
        place = f"{without_secrets(self._endpoint.url)}, {first} to {last}"
        return CatalogueDown(f"no complete answer: {reason}", place=place, next_step=_DOWN)

    def _period(self, box: Box, first: date, last: date) -> Items:
        listed = self._pages(box, first, last, PAGE)
        believed = self._counts or len(listed.items) <= 1
        if listed.pages == 1 and listed.is_counted and believed:
            return listed.items
        if listed.matched is None:
            again = self._in_parts(box, first, last)
        else:
            shorter = max(1, min(listed.longest, len(listed.items)) - 1)
            second = self._pages(box, first, last, shorter)
            again, self._counts = second.items, listed.is_counted and second.is_counted and second.pages > 1
        if again.keys() != listed.items.keys():
            raise _Partial(f"{len(listed.items)} items came, and other ones ({len(again)}) when asked again")
        return listed.items

    def _in_parts(self, box: Box, first: date, last: date) -> Items:
        """The same once more, for both halves of the period.

        Where all lies in one of them, that one is halved, too: two halves that hold something and are together no more
        than the whole show that the whole did not end at the length of a page.
        """
        if first == last:
            return self._pages(box, first, last, PAGE - 1).items
        middle = first + (last - first) // 2
        halves = (first, middle), (middle + timedelta(days=1), last)
        early, late = (self._pages(box, *half, PAGE - 1).items for half in halves)
        if bool(early) != bool(late) and len(early | late) > 1:
            return early | late | self._in_parts(box, *halves[0 if early else 1])
        return early | late

    def _pages(self, box: Box, first: date, last: date, limit: int) -> "_Listed":
        """What all pages of at most `limit` items hold."""
        asked = self._search(box, first, last, limit)
        parameters = asked.get_parameters()
        items: Items = {}
        longest, matched, self._io.taken = 0, None, 0
        page = self._io.read_json(asked.url, parameters=parameters)
        for count in range(1, _MAX_PAGES + 1):
            features, matched = _features(page), _matched(page, matched)
            fresh = {_key(item) for item in features} - items.keys()
            if features and not fresh and (matched is None or len(items) < matched):
                raise _Partial(f"page {count} repeats earlier ones")
            items |= {_key(item): {key: item[key] for key in _KEPT if key in item} for item in features}
            if len(items) > _MAX_ITEMS:
                raise _Partial(f"more than {_MAX_ITEMS} items")
            longest = max(longest, len(features))
            link = _next(page, self._endpoint) if fresh else None
            if link is None:
                break
            page = self._io.read_json(link, parameters=parameters)
        else:
            raise _Partial(f"more than {_MAX_PAGES} pages")
        came = len(features) if count == 1 else len(items)  # one page may hold an item twice, and count it twice
        if matched is not None and came < matched:
            raise _Partial(f"{came} of {matched} items came")
        return _Listed(items, count, longest, matched, came == matched)

    def _search(self, box: Box, first: date, last: date, limit: int) -> ItemSearch:
        if self._client is None:
            # Without `timeout` here, too, `open` sets the one of the connection back to none.
            self._client = Client.open(self._endpoint.url, stac_io=self._io, timeout=self._io.timeout)
        asked = self._client.search(
            method="GET",
            collections=[name for _, name in self._endpoint.collections],
            bbox=box,
            # until the next midnight: an item of the last second would be in no month's answer
            datetime=f"{first}T00:00:00Z/{last + timedelta(days=1)}T00:00:00Z",
            limit=limit,
        )
        if not is_same_origin(asked.url, self._endpoint.url):
            raise _Partial("the catalogue sends its searches to another host")
        return asked


def _features(page: Any) -> list[Item]:
    """The items of a page; an answer without the list is no answer, not an empty one."""
    features = page.get("features") if isinstance(page, Mapping) else None
    if not isinstance(features, list) or not all(isinstance(item, Mapping) for item in features):
        raise _Partial("an answer without a list of features")
    if len(features) > _MAX_ON_PAGE:
        raise _Partial(f"a page of {len(features)} items where {PAGE} were asked for")
    return features


def _matched(page: Item, before: int | None) -> int | None:
    """How many items there are in all, if the server says so."""
    context = page.get("context")
    told = page.get("numberMatched", context.get("matched") if isinstance(context, Mapping) else None)
    return told if type(told) is int and told >= 0 else before  # True is none


def _next(page: Item, endpoint: Endpoint) -> Link | None:
    for link in page.get("links") or ():
        if link.get("rel") == "next":
            if not is_same_origin(link["href"], endpoint.url):
                raise _Partial("the next page is on another host")
            return Link.from_dict(link)
    return None


def _reason(error: APIError) -> str:
    """What happened, without the address (which may hold a key)."""
    if status := getattr(error, "status_code", None):
        return f"HTTP {status}"
    cause = re.search(r"Caused by (\w+)", str(error)) or re.search(r"(timed out|reset|refused|aborted)", str(error))
    return cause[1] if cause else "no answer"


def _key(item: Item) -> tuple[str, str, str]:
    properties = item.get("properties")
    revision = properties.get("updated") if isinstance(properties, Mapping) else None
    return repr(item.get("collection")), repr(item.get("id")), repr(revision)


def _kind(error: Exception) -> str:
    return type(error).__name__
