"""kill -9 in generate: an image is old or new, and the next run ends as an undisturbed one; campaign_kills.py has each write."""

import json
import shutil
from pathlib import Path

import pytest
from fault import killer
from fault.generating import LAST, regenerate

from regions import END, START, tiny
from vsat.config import Region, load_region
from vsat.io.ledger import Ledger, Receipt
from vsat.io.publish import image_folder, read_image
from vsat.io.scenes import ledger_path
from vsat.stages.fetch import fetch

pytestmark = [pytest.mark.fault, pytest.mark.slow]


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Region:
    path = tiny(tmp_path_factory.mktemp("project"))
    path.write_text(path.read_text() + "bands: [nir]\n")
    region = load_region(path)
    fetch(region, START, END)
    return region


def at(region: Region, store: Path) -> Region:
    return region.model_copy(update={"store": store})


def receipts(home: Path) -> list[Receipt]:
    with Ledger(ledger_path(home)) as ledger:
        return ledger.all("image")


def files(home: Path) -> dict[str, bytes]:
    return {
        path.relative_to(home).as_posix(): path.read_bytes() for path in (home / "images").rglob("*") if path.is_file()
    }


def whole(home: Path, region: Region) -> dict[str, str]:
    """Every visible image is whole: all its assets are there, with the sizes that its item tells. Gives key -> status."""
    (grid,) = region.grids()
    found = {}
    for day in (START, LAST):
        folder = image_folder(home, grid.tile, day)
        if not folder.exists():
            continue
        item = json.loads((folder / f"{folder.name}.json").read_text())
        for asset in item["assets"].values():
            assert (folder / asset["href"]).stat().st_size == asset["file:size"]
        found[f"{grid.tile}/{day}"] = read_image(home, grid.tile, day).status
    for receipt in receipts(home):
        assert receipt.key in found
    return found


def test_first_generate_killed_at_every_other_write(fetched: Region, tmp_path: Path) -> None:
    undisturbed = at(fetched, tmp_path / "undisturbed")
    shutil.copytree(fetched.home, undisturbed.home)
    regenerate(undisturbed)
    assert len(receipts(undisturbed.home)) == 2
    region = at(fetched, tmp_path / "killed")

    def prepare() -> Path:
        shutil.copytree(fetched.home, region.home)
        return region.home

    def compare(home: Path) -> None:
        assert receipts(home) == receipts(undisturbed.home)
        assert files(home) == files(undisturbed.home)

    deaths = killer.kill_everywhere(
        prepare, regenerate, lambda _: (region,), lambda home: whole(home, region), compare, step=2
    )
    assert deaths > 2 * 9  # two images of nine files, each opened aside and renamed; every other write


def test_rewriting_as_final_killed_at_every_other_write_shows_old_or_new(fetched: Region, tmp_path: Path) -> None:
    before = at(fetched, tmp_path / "before")
    shutil.copytree(fetched.home, before.home)
    regenerate(before, LAST)
    undisturbed = at(fetched, tmp_path / "undisturbed")
    shutil.copytree(before.home, undisturbed.home)
    regenerate(undisturbed, END)
    region = at(fetched, tmp_path / "killed")
    states = []

    def prepare() -> Path:
        shutil.copytree(before.home, region.home)
        return region.home

    def look(home: Path) -> None:
        found = whole(home, region)
        assert len(found) == 2
        states.append(tuple(found.values()))

    def compare(home: Path) -> None:
        assert receipts(home) == receipts(undisturbed.home)
        assert files(home) == files(undisturbed.home)

    killer.kill_everywhere(prepare, regenerate, lambda _: (region,), look, compare, step=2)
    assert set(states) == {("provisional", "provisional"), ("final", "provisional"), ("final", "final")}
