"""The archive's items in stac-fastapi-pgstac on PostgreSQL: another API of the standard, the same granules."""

import json
import signal
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path

import pystac_client
import pytest
from postgres import cluster, free_port, process, run, wait_for

from vsat.core.grid import TileGrid, full_tile
from vsat.core.synthetic import Landscape
from vsat.hls import GranuleId
from vsat.io.archive import items, serve, write_synthetic
from vsat.io.catalog import search
from vsat.io.reader import read_granule
from vsat.io.trust import Endpoint

pytestmark = [pytest.mark.integration, pytest.mark.slow]

TILE = full_tile("33UVP")
GRID = TileGrid(TILE.tile, TILE.epsg, TILE.x0 + 27000, TILE.y0 - 36000, 48, 48)
START, END = date(2023, 12, 1), date(2024, 12, 31)


@pytest.fixture(scope="module")
def database():
    """Environment of an empty PostgreSQL cluster on this machine's loopback, in a folder of its own."""
    with cluster("stac", postgis=True) as environment:
        yield environment


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """The address of an archive of thirteen months, and its folder."""
    folder = tmp_path_factory.mktemp("archive")
    write_synthetic(folder, grid=GRID, land=Landscape(7, GRID.shape), start=START, end=END)
    with serve(folder) as endpoint:
        yield endpoint, folder


@pytest.fixture(scope="module")
def pgstac(database, archive, tmp_path_factory) -> Iterator[Endpoint]:
    """stac-fastapi-pgstac with the archive's items; the files still come from the archive."""
    (endpoint, folder), work = archive, tmp_path_factory.mktemp("pgstac")
    load(database, folder, work, endpoint.hosts[0])
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "stac_fastapi.pgstac.app:create_app", "--factory", "--port", str(port)]
    log, root = work / "api.log", f"http://127.0.0.1:{port}"
    with process(command, stop=signal.SIGINT, log=log, env=database, cwd=work) as server:
        wait_for(lambda: answers(f"{root}/_mgmt/ping"), server, log)
        yield replace(endpoint, url=root)


def load(database: dict[str, str], folder: Path, work: Path, files: str) -> None:
    program = str(Path(sys.executable).with_name("pypgstac"))
    run([program, "migrate"], env=database, cwd=work)
    run([database["PSQL"], "-c", "ALTER DATABASE stac SET search_path TO pgstac, public"], env=database)
    collections = [json.loads(path.read_text()) for path in sorted(folder.glob("*/collection.json"))]
    for table, documents in (("collections", collections), ("items", items(folder))):
        lines = "\n".join(json.dumps(document) for document in documents).replace("archive:/", f"http://{files}")
        (work / f"{table}.ndjson").write_text(lines)
        run([program, "load", table, f"{table}.ndjson", "--method", "upsert"], env=database, cwd=work)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return answer.status == 200
    except OSError:
        return False


def test_both_apis_give_the_same_granules(archive, pgstac):
    by_rustac, by_pgstac = search(archive[0], GRID, START, END), search(pgstac, GRID, START, END)
    assert len(by_pgstac.granules) == len(items(archive[1])) > 100, "more than one page"
    assert by_pgstac == by_rustac


def test_a_part_of_the_period_is_the_same_part(archive, pgstac):
    part = date(2024, 2, 27), date(2024, 4, 2)
    found = search(pgstac, GRID, *part)
    assert found.granules == search(archive[0], GRID, *part).granules and found.granules
    assert all(part[0] <= GranuleId.from_string(g.id).scene.day <= part[1] for g in found.granules)


def test_pixels_come_from_the_addresses_it_gives(archive, pgstac):
    granule = search(pgstac, GRID, START, END).granules[7]
    one, other = read_granule(granule, GRID, pgstac), read_granule(granule, GRID, archive[0])
    assert (one.refl_byx == other.refl_byx).all() and (one.fmask_yx == other.fmask_yx).all()


def test_it_filters_by_cloud_cover_as_we_do_on_our_side(archive, pgstac):
    client = pystac_client.Client.open(pgstac.url)
    names = [name for _, name in pgstac.collections]
    cloudy = {"op": "<=", "args": [{"property": "eo:cloud_cover"}, 30]}
    theirs = {item.id for item in client.search(collections=names, filter=cloudy, filter_lang="cql2-json").items()}
    ours = {g.id for g in search(pgstac, GRID, START, END, max_cover=30).granules}
    assert theirs == ours and 0 < len(ours) < 100
