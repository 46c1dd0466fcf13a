"""kill -9 in sample: there is no store or a whole one, and the next run gives the same bytes; campaign_kills.py has each write."""

import shutil
from datetime import date
from pathlib import Path

import pytest
from fault import killer
from fault.sampling import draw

from regions import END, START, tiny
from vsat.config import Region, load_region
from vsat.io.patch_reader import PatchStore
from vsat.io.patches import MANIFEST
from vsat.stages.fetch import fetch

pytestmark = [pytest.mark.fault, pytest.mark.slow]


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Region:
    found = load_region(tiny(tmp_path_factory.mktemp("project")))
    fetch(found, START, END)
    return found


def files(out: Path) -> dict[str, bytes]:
    """All but the ledger and lock files; and the report, which names its folder."""
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and "ledger" not in path.name and not path.name.startswith((".", "report"))
    }


def test_killed_at_every_third_write_the_next_run_gives_the_same_bytes(region: Region, tmp_path: Path) -> None:
    undisturbed = tmp_path / "undisturbed"
    draw(region, undisturbed)
    wanted = files(undisturbed)
    assert len(PatchStore(undisturbed)) == 6
    out = tmp_path / "killed"

    def prepare() -> Path:
        out.mkdir()
        return out

    def look(out: Path) -> None:
        if (out / MANIFEST).exists():
            store = PatchStore(out)
            assert store.verify() == [] and len(store) == 6
            assert all(store.read(i).day_t.size >= 2 for i in range(6))

    def compare(out: Path) -> None:
        found = {name: body for name, body in files(out).items() if not name.endswith(".partial")}
        assert found == wanted

    deaths = killer.kill_everywhere(prepare, draw, lambda folder: (region, folder), look, compare, step=3)
    assert deaths > 30


def test_a_part_that_is_killed_while_it_is_added_gets_the_same_bytes(tmp_path: Path) -> None:
    region = load_region(tiny(tmp_path))
    fetch(region, START, date(2023, 6, 14))
    first, undisturbed, out = (tmp_path / name for name in ("first", "undisturbed", "killed"))
    draw(region, first)
    fetch(region, START, END)
    shutil.copytree(first, undisturbed)
    draw(region, undisturbed)
    wanted, count = files(undisturbed), len(PatchStore(undisturbed))
    assert len(PatchStore(undisturbed).parts) == 2

    def prepare() -> Path:
        return Path(shutil.copytree(first, out))

    def look(out: Path) -> None:
        store = PatchStore(out)
        assert store.verify() == [] and len(store) in (6, count)

    def compare(out: Path) -> None:
        assert {name: body for name, body in files(out).items() if not name.endswith(".partial")} == wanted

    assert killer.kill_everywhere(prepare, draw, lambda folder: (region, folder), look, compare, step=3) > 30
