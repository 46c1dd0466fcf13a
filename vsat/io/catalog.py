"""Which granules there are: a STAC API asked month by month, its answer checked for completeness and sorted out.

The server's own filters are used for box and period only; NASA's catalogue knows little more, and others ignore what
they do not know without saying so. Tile, day, cloud cover and versions are sorted out here.
"""

import hashlib
import json
import logging
import math
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from vsat import config
from vsat.core.grid import TileGrid
from vsat.errors import InputError
from vsat.hls import FILES, GranuleId
from vsat.io.download import Patience
from vsat.io.paging import list_items
from vsat.io.trust import Endpoint, is_loopback, is_safe_id, netloc, refusal, without_secrets

__all__ = ["Endpoint", "Found", "Granule", "Unusable", "endpoint_for", "search", "select"]
log = logging.getLogger(__name__)

Item = Mapping[str, Any]
_NASA = (("L30", "HLSL30_2.0"), ("S30", "HLSS30_2.0"))
_MICROSOFT = (("L30", "hls2-l30"), ("S30", "hls2-s30"))


@dataclass(frozen=True)
class Granule:
    """One granule with everything needed to read it.

    Attributes:
        id: HLS name, safe as a path.
        sensor, tile: as in the name.
        acquired: ISO time (UTC) of the name; for names without a time that of the catalogue.
        revision: ISO time of production as the catalogue has it, or "".
        hrefs: (band or "fmask", address) pairs, unsigned.
        checks: (band or "fmask", "size:123;multihash:1220ab..") pairs, where the catalogue gives one of the two.
        cloud_cover: per cent, None if not given.
    """

    id: str
    sensor: str
    tile: str
    acquired: str
    revision: str
    hrefs: tuple[tuple[str, str], ...]
    checks: tuple[tuple[str, str], ...] = ()
    cloud_cover: float | None = None

    def signature(self) -> str:
        """sha256 of what decides the pixels; the same from another host, port or with another query string."""
        paths = [(name, urlsplit(href).path) for name, href in self.hrefs]
        told = json.dumps([self.id, self.revision, paths, self.checks])
        return hashlib.sha256(told.encode()).hexdigest()


@dataclass(frozen=True)
class Unusable:
    """An item that was listed and can't be used, and why."""

    id: str
    reason: str


@dataclass(frozen=True)
class Found:
    """A complete answer.

    Attributes:
        granules: sorted by acquisition, then id.
        unusable: items without a band, with an address that is not allowed, or that are no HLS granules.
        listed: different ids the catalogue gave, neighbouring tiles and days included.
        superseded: ids of older productions of `granules`.
        cloudy: ids left out because their cloud cover is over the limit.
    """

    granules: tuple[Granule, ...]
    unusable: tuple[Unusable, ...]
    listed: int
    superseded: tuple[str, ...]
    cloudy: tuple[str, ...] = ()


def endpoint_for(catalogue: config.Catalogue) -> Endpoint:
    """The endpoint that a region's `catalogue` means.

    Raises:
        InputError: an API without a usable URL, or kind `archive`, which vsat serves itself.
    """
    chosen = tuple((catalogue.collections or {}).items())
    match catalogue.kind:
        case "cmr":
            return Endpoint(
                "cmr",
                catalogue.url or "https://cmr.earthdata.nasa.gov/stac/LPCLOUD",
                chosen or _NASA,
                ("data.lpdaac.earthdatacloud.nasa.gov", *catalogue.hosts),
                redirects=(".cloudfront.net", "lp-prod-protected.s3.us-west-2.amazonaws.com"),
                login="urs.earthdata.nasa.gov",
            )
        case "planetary-computer":
            url = catalogue.url or "https://planetarycomputer.microsoft.com/api/stac/v1"
            hosts = ("hls2euwest.blob.core.windows.net", *catalogue.hosts)
            return Endpoint("planetary-computer", url, chosen or _MICROSOFT, hosts)
        case "stac":
            url = _checked_url(catalogue.url)
            return Endpoint("stac", url, chosen or _NASA, (netloc(url), *catalogue.hosts))
        case _:
            raise InputError("an archive is served by vsat itself", place="catalogue.kind")


def _checked_url(url: str | None) -> str:
    parts = urlsplit(url or "")
    local = parts.scheme == "http" and is_loopback(parts.hostname or "")
    if not url or "@" in parts.netloc or not parts.hostname or not (parts.scheme == "https" or local):
        step = "give the root of a STAC API, https://..., without user name (plain http for this machine only)"
        raise InputError(f"no usable URL: {without_secrets(url or '')!r}", place="catalogue.url", next_step=step)
    return url


def search(
    endpoint: Endpoint,
    grid: TileGrid,
    start: date,
    end: date,
    *,
    max_cover: float = 100.0,
    patience: Patience = Patience(),  # noqa: B008 - frozen
) -> Found:
    """All granules of the grid's tile from `start` to `end`, both included, by the UTC day in their names.

    Args:
        endpoint: where to ask.
        grid: whose tile and place are asked for.
        start, end: days.
        max_cover: granules with more cloud than this, in per cent, are left out and listed in `cloudy`.
        patience: limits of trying again; `budget_s` bounds the time spent in failures.

    Returns:
        What is there; a catalogue that answers completely with nothing gives an empty Found.

    Raises:
        CatalogueDown: no complete answer.
    """
    started = time.monotonic()
    day = timedelta(days=1)  # S30 names carry the datatake's start, minutes before the scene's time
    items = list_items(endpoint, grid, start - day, end + day, patience)
    found = select(items, endpoint, grid.tile, start, end, max_cover=max_cover)
    log.info(
        "%s, tile %s, %s to %s: %d listed, %d granules, %d unusable, %d superseded, %d too cloudy, %.1f s",
        netloc(endpoint.url), grid.tile, start, end, found.listed, len(found.granules), len(found.unusable),
        len(found.superseded), len(found.cloudy), time.monotonic() - started,
    )  # fmt: skip
    return found


def select(
    items: Iterable[Item], endpoint: Endpoint, tile: str, start: date, end: date, *, max_cover: float = 100.0
) -> Found:
    """What a list of STAC items means for one tile and period: newest productions, and everything that was left out.

    Args:
        items: STAC items as the catalogue wrote them; repeats are harmless.
        endpoint: whose sensors and hosts are allowed.
        tile: MGRS tile, `33UVP`.
        start, end: days, both included.
        max_cover: per cent.
    """
    listed: set[str] = set()
    usable: list[Granule] = []
    unusable: dict[str, Unusable] = {}
    for item in items:
        name = _name(item)
        listed.add(name)
        try:
            if _is_wanted(item, name, endpoint, tile, start, end):
                usable.append(_granule(item, name, endpoint))
        except _UnusableError as error:
            unusable[name] = Unusable(name, str(error))
    newest, superseded = _newest(usable)
    clear = [g for g in newest if g.cloud_cover is None or g.cloud_cover <= max_cover]
    return Found(
        granules=tuple(sorted(clear, key=lambda g: (g.acquired, g.id))),
        unusable=tuple(bad for _, bad in sorted(unusable.items()) if bad.id not in {g.id for g in usable}),
        listed=len(listed),
        superseded=superseded,
        cloudy=tuple(sorted({g.id for g in newest} - {g.id for g in clear})),
    )


def _name(item: Item) -> str:
    """The id as printable text of bounded length, whatever the catalogue wrote there."""
    name = item.get("id")
    if isinstance(name, str):
        return name if is_safe_id(name) else ascii(name[:140])[:140]
    return f"an id that is a {type(name).__name__}"


class _UnusableError(Exception):
    """Why an item can't be used."""


def _is_wanted(item: Item, name: str, endpoint: Endpoint, tile: str, start: date, end: date) -> bool:
    """False for other tiles, sensors and days; _UnusableError if the id does not tell."""
    if item.get("id") != name:
        raise _UnusableError("an id that can't be part of a path")
    try:
        parsed = GranuleId.from_string(name)
    except ValueError:
        raise _UnusableError("not an HLS granule name") from None
    is_ours = parsed.tile == tile and parsed.sensor in dict(endpoint.collections)
    return is_ours and start <= parsed.acquired.date() <= end


def _granule(item: Item, name: str, endpoint: Endpoint) -> Granule:
    """One item whose id is known to be good."""
    parsed = GranuleId.from_string(name)
    properties, assets = item.get("properties"), item.get("assets")
    if not isinstance(properties, Mapping) or not isinstance(assets, Mapping):
        raise _UnusableError("an item without properties or assets")
    files = {**FILES[parsed.sensor], "fmask": "Fmask"}
    picked = {band: _asset(assets, file, endpoint) for band, file in files.items()}
    acquired = parsed.acquired if parsed.has_time else _time(properties.get("datetime")) or parsed.acquired
    return Granule(
        id=name,
        sensor=parsed.sensor,
        tile=parsed.tile,
        acquired=acquired.isoformat(),
        revision=_revision(properties),
        hrefs=tuple((band, str(asset["href"])) for band, asset in picked.items()),
        checks=tuple((band, check) for band, asset in picked.items() if (check := _check(asset))),
        cloud_cover=_number(properties.get("eo:cloud_cover")),
    )


def _asset(assets: Item, file: str, endpoint: Endpoint) -> Item:
    """The asset that is the file `B04` or `Fmask` and may be read over https.

    By key or by file name: CMR names keys `B04` and `s3_B04`. Never by common name, which is B08 for S30's `nir`.
    """
    candidates = [assets[key] for key in (file, file.lower()) if key in assets]
    candidates += [a for a in assets.values() if isinstance(a, Mapping) and _is_file(a.get("href"), file)]
    reasons = []
    for asset in candidates:
        href = asset.get("href") if isinstance(asset, Mapping) else None
        reason = refusal(href, endpoint.hosts) if isinstance(href, str) else "no address"
        if reason is None:
            found: Item = asset
            return found
        reasons.append(reason)
    raise _UnusableError(f"{file}: {reasons[0]}" if reasons else f"without {file}")


def _is_file(href: object, file: str) -> bool:
    return isinstance(href, str) and href.partition("?")[0].endswith(f".{file}.tif")


def _revision(properties: Item) -> str:
    for key in ("updated", "created"):
        if moment := _time(properties.get(key)):
            return moment.isoformat()
    return ""


def _time(text: object) -> datetime | None:
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    try:
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except OverflowError:  # the first hours of year 1 and the last of 9999, elsewhere
        return None


def _number(value: object) -> float | None:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _check(asset: Item) -> str:
    """`file:size` and `file:checksum` as one text, "" if neither is there."""
    size, checksum = asset.get("file:size"), asset.get("file:checksum")
    parts = [f"size:{size}"] if type(size) is int and 0 <= size < 1 << 63 else []
    if isinstance(checksum, str) and re.fullmatch(r"[0-9a-fA-F]{4,300}", checksum):
        parts.append(f"multihash:{checksum.lower()}")
    return ";".join(parts)


def _newest(granules: Sequence[Granule]) -> tuple[list[Granule], tuple[str, ...]]:
    """The newest production of each (sensor, tile, acquisition time), and the ids of the others."""
    groups: dict[tuple[str, str, str], list[Granule]] = {}
    for granule in granules:
        groups.setdefault((granule.sensor, granule.tile, granule.acquired), []).append(granule)
    newest = []
    for group in groups.values():
        dated = all(g.revision for g in group)  # else the version decides: half a set of dates compares nothing
        newest.append(max(group, key=lambda g: (g.revision if dated else "", _version(g.id), g.revision, g.id)))
    superseded = {g.id for g in granules} - {g.id for g in newest}
    return newest, tuple(sorted(superseded))


def _version(name: str) -> tuple[int, ...]:
    return tuple(int(part) for part in GranuleId.from_string(name).version.split("."))
