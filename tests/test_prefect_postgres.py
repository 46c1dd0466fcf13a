"""The server's database is PostgreSQL: ten backfills at once, and not one is locked out."""

from pathlib import Path

import pytest
from crowd import RUNS, crowd
from postgres import cluster

pytestmark = [pytest.mark.flow, pytest.mark.slow, pytest.mark.integration, pytest.mark.timeout(600)]


def test_ten_backfills_at_once_on_postgres(tmp_path: Path) -> None:
    with cluster("prefect", connections=100) as database:
        url = f"postgresql+asyncpg://postgres:none@127.0.0.1:{database['PGPORT']}/prefect"
        found = crowd(tmp_path / "crowd", url)
    print(f"\n{RUNS} backfills at once on PostgreSQL: {found.seconds} s")
    assert found.states == ("Completed",) * RUNS
    assert found.locked == 0
    assert found.tables == "elsewhere"
