"""A region: credentials, catalogue, one real read, clock against the catalogue's, room on the disk."""

import os
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Literal

import requests

from vsat.config import Region
from vsat.doctor.finding import Finding, for_people, gigabytes
from vsat.doctor.machine import nearest
from vsat.errors import CatalogueDown, ReadError, StoreError, VsatError
from vsat.io.catalog import search
from vsat.io.credentials import EARTHDATA_STEP, LOGIN_HOST, TOKEN, Token, earthdata_token, netrc_login, netrc_path
from vsat.io.download import Patience
from vsat.io.durable import size_of
from vsat.io.ledger import Ledger, Receipt
from vsat.io.reader import probe
from vsat.io.scenes import KIND as SCENE
from vsat.io.scenes import ledger_path
from vsat.io.trust import Endpoint, without_secrets
from vsat.objects import ObjectPath
from vsat.stages.fetch import open_endpoint
from vsat.stages.nightly import up_to

LOOK_BACK = timedelta(days=30)
SOON = timedelta(days=7)
SKEW_S = 60.0
_PACKED = 0.7  # of the arrays' size, as cloud and land of the demo come out
_SCENE_BYTES, _IMAGE_BYTES = 13, 33  # of a pixel: 6 x int16 + mask; the same twice over, qa, age, src
_OVERHEAD = 60_000  # of an image: headers and overviews of 15 files
_SPARE = 64e6  # the ledger, reports, files written aside
_NIGHT = 12  # scenes and images of a tile that a night may bring: some late ones, some revised
_A_SCENE_EVERY_DAYS = 1.7  # both sensors together at middle latitudes


def region_findings(region: Region, clock: Callable[[], datetime], patience_s: float) -> list[Finding]:
    """What there is to say about a region; asks its catalogue, reads a few bytes of one file, writes nothing."""
    name, now = region.name, clock()
    found = [_credentials(region, now)]
    try:
        with open_endpoint(region) as endpoint:
            found += _catalogue(region, endpoint, clock, patience_s)
    except VsatError as error:
        found.append(Finding(f"{name}: catalogue", "error", error.problem, error.next_step))
    return [*found, _disk(region, now), _watermark(region, now)]


def _credentials(region: Region, now: datetime) -> Finding:
    name = f"{region.name}: credentials"
    if region.catalogue.kind != "cmr":
        return Finding(name, "ok", f"none needed for {region.catalogue.kind}")
    token, (_, password) = earthdata_token(), netrc_login(LOGIN_HOST)
    if token is not None:
        return _token(name, token, now, f"; {netrc_path()} goes in its place" if password else "")
    if not password:
        return Finding(name, "error", f"neither {TOKEN} nor a login in {netrc_path()}", EARTHDATA_STEP)
    if netrc_path().stat().st_mode & 0o077:
        return Finding(name, "warning", f"others can read {netrc_path()}", f"chmod 600 {netrc_path()}")
    return Finding(name, "ok", f"a login for {LOGIN_HOST} in {netrc_path()}, which does not end")


def _token(name: str, token: Token, now: datetime, instead: str) -> Finding:
    level: Literal["warning", "error"] = "warning" if instead else "error"
    if not token.is_token:
        return Finding(name, level, token.told() + instead, EARTHDATA_STEP)
    if token.ends is None:
        return Finding(name, "warning", token.told(), "see at https://urs.earthdata.nasa.gov how long it holds")
    left = token.ends - now
    if left <= timedelta():
        return Finding(name, level, f"{TOKEN} ended {for_people(left)} ago{instead}", EARTHDATA_STEP)
    said = f"{TOKEN} holds {for_people(left)} more"
    return Finding(name, "warning", said, EARTHDATA_STEP) if left < SOON else Finding(name, "ok", said)


def _catalogue(region: Region, endpoint: Endpoint, clock: Callable[[], datetime], patience_s: float) -> list[Finding]:
    """The catalogue answers, its clock is ours, and a file it lists can be read."""
    name = region.name
    patience = Patience(2, 0.5, 1.0, patience_s, patience_s, min(5.0, patience_s), patience_s)
    end = min(clock().date(), region.period.end or clock().date())
    start = max(region.period.start, end - LOOK_BACK)
    skew = _skew(name, endpoint, clock, patience)
    try:
        found = search(endpoint, region.grids()[0], start, end, patience=patience)
    except CatalogueDown as error:
        return [*skew, Finding(f"{name}: catalogue", "error", f"{error.place}: {error.problem}", error.next_step)]
    told = f"{len(found.granules)} granules from {start} to {end} at {without_secrets(endpoint.url)}"
    if not found.granules:
        step = "look at the area and the period; HLS comes with some days' delay"
        return [*skew, Finding(f"{name}: catalogue", "warning", told, step)]
    answers = Finding(f"{name}: catalogue", "ok", told)
    try:
        probe(found.granules[-1], endpoint, patience=patience)
    except ReadError as error:
        return [*skew, answers, Finding(f"{name}: reading", "error", error.problem, error.next_step)]
    return [*skew, answers, Finding(f"{name}: reading", "ok", f"{found.granules[-1].id} can be read")]


def _skew(name: str, endpoint: Endpoint, clock: Callable[[], datetime], patience: Patience) -> list[Finding]:
    """How far our clock is from the catalogue's; nothing where it does not tell."""
    try:
        timeout = (patience.connect_s, patience.silence_s)
        answer = requests.get(endpoint.url, timeout=timeout, stream=True, allow_redirects=False)
        answer.close()
        told = parsedate_to_datetime(answer.headers["Date"]).astimezone(UTC)
    except (requests.RequestException, KeyError, ValueError):
        return []
    off = (clock() - told).total_seconds()
    where = f"{abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} the catalogue's"
    if abs(off) > SKEW_S:
        return [Finding(f"{name}: clock", "error", where, "set the clock (NTP): days would be taken for others")]
    return [Finding(f"{name}: clock", "ok", where)]


def _disk(region: Region, now: datetime) -> Finding:
    if isinstance(region.home, ObjectPath):
        return _bucket(region.name, region.home)
    name, place = f"{region.name}: disk", nearest(region.home)
    usage, inodes = shutil.disk_usage(place), os.statvfs(place)
    night, rest = _need(region, now)
    told = (
        f"{gigabytes(usage.free)} free at {place}; a night needs {gigabytes(night)}, the period {gigabytes(rest)} more"
    )
    if not os.access(place, os.W_OK):
        return Finding(
            name, "error", f"no right to write at {place}", "give it, or name another store in the region file"
        )
    if inodes.f_files and inodes.f_favail < 1000:
        return Finding(
            name, "error", f"room for {inodes.f_favail} more files at {place}", "make room: remove files there"
        )
    if usage.free < night:
        return Finding(name, "error", told, "make room there, or name another store in the region file")
    if usage.free < rest:
        return Finding(name, "warning", told, "make room there before it is full")
    return Finding(name, "ok", told)


def _bucket(region: str, place: ObjectPath) -> Finding:
    """Whether the bucket answers and lets us in; how much room it has, no S3 server tells."""
    name = f"{region}: bucket"
    try:
        place.is_dir()
    except VsatError as error:
        return Finding(name, "error", f"{error.problem}: {place}", error.next_step)
    return Finding(name, "ok", f"{place} answers")


def _need(region: Region, now: datetime) -> tuple[float, float]:
    """Bytes that a night takes at most, and what is still to come until the end of the period, or for a year."""
    last = region.period.end or now.date() + timedelta(days=365)
    days = (last - region.period.start).days + 1
    dates = len(region.dates(last)) or days / _A_SCENE_EVERY_DAYS
    night = rest = _SPARE
    held = _receipts(region)
    known = sum(int(one.facts.get("bytes") or 0) for one in held)
    for grid in region.grids():
        pixels = grid.height * grid.width
        scene = known / len(held) if known else pixels * _SCENE_BYTES * _PACKED
        image = pixels * _IMAGE_BYTES * _PACKED + _OVERHEAD
        night += _NIGHT * (scene + image)
        rest += days / _A_SCENE_EVERY_DAYS * scene + dates * image
    used = sum(size_of(path) for path in region.home.glob("images/*/*/*")) + known
    return night, max(night, rest - used)


def _receipts(region: Region) -> Sequence[Receipt]:
    """The scenes that are there; none where the ledger cannot be opened, which a full disk brings with it."""
    if not ledger_path(region.home).exists():
        return ()
    try:
        with Ledger(ledger_path(region.home)) as ledger:
            return ledger.all(SCENE)
    except StoreError:
        return ()


def _watermark(region: Region, now: datetime) -> Finding:
    name = f"{region.name}: nights"
    try:
        if not ledger_path(region.home).exists():
            return Finding(name, "warning", "none yet", f"vsat nightly {region.name}, or wait for the schedule")
        day = up_to(region)
    except VsatError as error:
        return Finding(name, "error", error.problem, error.next_step)
    if day is None:
        return Finding(
            name, "warning", "none has come to its end", "see the last run in the Prefect UI, or vsat nightly"
        )
    if day > now.date() + timedelta(days=1):
        return Finding(name, "error", f"up to {day}, which is still to come", "set the clock (NTP)")
    behind = (min(now.date(), region.period.end or now.date()) - day).days
    if behind > 1:
        step = f"the next night catches up; now: vsat nightly {region.name}"
        return Finding(name, "warning", f"up to {day}, {behind} days behind", step)
    return Finding(name, "ok", f"up to {day}")
