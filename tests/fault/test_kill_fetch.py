"""kill -9 at every write of fetch: what is seen is old or new, and the next fetch ends as an undisturbed one does."""

import shutil
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from fault import killer
from fault.fetching import END, START, refetch

from vsat.config import Region
from vsat.core.synthetic import Landscape
from vsat.hls import SceneKey
from vsat.io import archive
from vsat.io.catalog import Endpoint
from vsat.io.cube import cube_tiles, ledger_path, open_tile, read_scenes, scene_keys
from vsat.io.ledger import Ledger, Receipt

pytestmark = [pytest.mark.fault, pytest.mark.slow]
SCENES = 2


def region_at(store: Path, folder: Path) -> Region:
    return Region.model_validate(
        {
            "name": "small",
            "area": {"bbox": (13.30, 52.40, 13.306, 52.404)},
            "period": {"start": START},
            "catalogue": {"kind": "archive", "path": str(folder)},
            "store": str(store),
        }
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An archive with two scenes of a few hundred pixels."""
    folder = tmp_path_factory.mktemp("archive")
    grid = region_at(folder, folder).grids()[0]
    report = archive.write_synthetic(folder, grid=grid, land=Landscape(seed=1, shape=grid.shape), start=START, end=END)
    for name in report.granules[SCENES:]:
        shutil.rmtree(next(folder.glob(f"*/{name}")))
    return folder


@pytest.fixture(scope="module")
def revised(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same archive, after the first scene has been processed anew."""
    later = tmp_path_factory.mktemp("revised") / "archive"
    shutil.copytree(folder, later)
    name = archive.items(later)[0]["id"]
    refl_byx, fmask_yx = archive.pixels(later, name)
    archive.revise(
        later, name, refl_byx + np.int16(7), fmask_yx ^ np.uint8(64), updated=datetime(2025, 1, 1, tzinfo=UTC)
    )
    return later


@pytest.fixture
def served(request: pytest.FixtureRequest) -> Iterator[Endpoint]:
    with archive.serve(request.getfixturevalue(request.param)) as endpoint:
        yield endpoint


def receipts(home: Path) -> list[Receipt]:
    with closing(Ledger(ledger_path(home))) as ledger:
        return ledger.all("scene") + ledger.all("scene-failed")


def objects(home: Path) -> dict[str, bytes]:
    return {
        path.relative_to(home).as_posix(): path.read_bytes() for path in (home / "cubes").rglob("*") if path.is_file()
    }


def seen(home: Path, region: Region) -> dict[str, tuple[bytes, bytes]]:
    """Every scene that the ledger lists, as pixels."""
    with closing(Ledger(ledger_path(home))) as ledger:
        keys = [key for tile in cube_tiles(home) for key in scene_keys(ledger, tile)]
    pixels = {}
    for key in keys:
        refl_tbyx, fmask_tyx = read_scenes(home, region.grids()[0], [key])
        pixels[str(key)] = (refl_tbyx.tobytes(), fmask_tyx.tobytes())
    if keys:
        assert open_tile(home, keys[0].tile).sizes["time"] == len(keys)
    return pixels


def archived(folder: Path) -> dict[str, tuple[bytes, bytes]]:
    found = {}
    for item in archive.items(folder):
        refl_byx, fmask_yx = archive.pixels(folder, item["id"])
        sensor, tile, when = item["id"].split(".")[1:4]
        day = datetime.strptime(when[:7], "%Y%j").date()
        found[str(SceneKey(tile[1:], day, sensor))] = (refl_byx.tobytes(), fmask_yx.tobytes())
    return found


@pytest.mark.parametrize("served", ["folder"], indirect=True)
def test_first_fetch_killed_at_every_write(served: Endpoint, folder: Path, tmp_path: Path) -> None:
    truth = archived(folder)
    assert len(truth) == SCENES
    undisturbed = region_at(tmp_path / "undisturbed", folder)
    refetch(undisturbed, served)
    assert seen(undisturbed.home, undisturbed) == truth
    region = region_at(tmp_path / "killed", folder)

    def prepare() -> Path:
        region.home.mkdir(parents=True)
        return region.home

    def look(home: Path) -> None:
        assert seen(home, region).items() <= truth.items()

    def compare(home: Path) -> None:
        assert receipts(home) == receipts(undisturbed.home)
        assert objects(home) == objects(undisturbed.home)

    deaths = killer.kill_everywhere(prepare, refetch, lambda _: (region, served), look, compare)
    # per scene two objects opened and renamed, and two sides of a commit; and the making of the year's group
    assert deaths >= SCENES * 6 + 10


@pytest.mark.parametrize("served", ["revised"], indirect=True)
def test_revision_killed_at_every_write_shows_old_or_new(
    served: Endpoint, folder: Path, revised: Path, tmp_path: Path
) -> None:
    old, new = archived(folder), archived(revised)
    assert old.keys() == new.keys() and sum(old[key] != new[key] for key in old) == 1
    before = region_at(tmp_path / "before", folder)
    with archive.serve(folder) as endpoint:
        refetch(before, endpoint)
    undisturbed = region_at(tmp_path / "undisturbed", folder)
    shutil.copytree(before.home, undisturbed.home)
    refetch(undisturbed, served)
    assert seen(undisturbed.home, undisturbed) == new
    region = region_at(tmp_path / "killed", folder)
    states = []

    def prepare() -> Path:
        shutil.copytree(before.home, region.home)
        return region.home

    def look(home: Path) -> None:
        states.append(seen(home, region))
        assert states[-1] in (old, new)

    def compare(home: Path) -> None:
        assert receipts(home) == receipts(undisturbed.home)
        assert objects(home) == objects(undisturbed.home)

    killer.kill_everywhere(prepare, refetch, lambda _: (region, served), look, compare)
    assert old in states and new in states  # deaths on both sides of the commit
