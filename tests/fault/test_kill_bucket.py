"""kill -9 in a night on a bucket: what is seen is old or new, and the next night, which has nothing but the bucket,
ends as an undisturbed one does."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from fault import killer
from fault.bucket import LAST, night
from object_store import ObjectStore

from regions import END, START, write_archive, write_region
from vsat.config import Region, load_region
from vsat.hls import SceneKey
from vsat.io import archive
from vsat.io.cube import cube_grid, read_scenes
from vsat.io.ledger import Ledger
from vsat.io.publish import read_image
from vsat.io.scenes import KIND, ledger_path
from vsat.objects import ObjectPath
from vsat.stages.verify import verify

pytestmark = [pytest.mark.fault, pytest.mark.slow, pytest.mark.integration]


@pytest.fixture(scope="module")
def region(tmp_path_factory: pytest.TempPathFactory) -> Region:
    """A region with one scene or two in its archive, and images of one band."""
    path = write_region(tmp_path_factory.mktemp("project"))
    path.write_text(path.read_text() + "bands: [nir]\n")
    found = load_region(path)
    write_archive(found, START, LAST)
    return found


def revised(region: Region) -> Path:
    """Another archive, in which the first granule has been processed anew."""
    assert region.catalogue.path is not None
    later = region.catalogue.path.with_name("later")
    shutil.copytree(region.catalogue.path, later)
    name = archive.items(later)[0]["id"]
    refl_byx, fmask_yx = archive.pixels(later, name)
    archive.revise(later, name, refl_byx + np.int16(7), fmask_yx, updated=datetime(2025, 1, 1, tzinfo=UTC))
    return later


def at(region: Region, home: ObjectPath) -> Region:
    return region.model_copy(update={"store": home})


def copied(source: ObjectPath, target: ObjectPath) -> None:
    for entry in source.entries():
        (target / entry.path.relative_to(source)).put(entry.path.read_bytes())


def content(home: ObjectPath) -> dict[str, bytes]:
    """All that stays: without leases."""
    found = {entry.path.relative_to(home).as_posix(): entry.path.read_bytes() for entry in home.entries()}
    return {name: body for name, body in found.items() if not name.startswith(".")}


def seen(home: ObjectPath) -> tuple[str, ...]:
    """What readers get: every scene and image that is listed, whole; gives what the first scene and the image are."""
    with Ledger(ledger_path(home)) as ledger:
        scenes = [SceneKey.from_string(receipt.key) for receipt in ledger.all(KIND)]
    pixels = ()
    if scenes:
        refl_tbyx, fmask_tyx = read_scenes(home, cube_grid(home, scenes[0].tile), scenes)
        pixels = (str(int(refl_tbyx[0].astype(np.int64).sum())),)
        assert fmask_tyx.shape[0] == len(scenes)
    for path in home.glob("images/*/*/*.json"):
        assets = json.loads(path.read_bytes())["assets"].values()
        assert all((path.parent / asset["href"]).size() == asset["file:size"] for asset in assets)
        return *pixels, read_image(home, "33UVP", START).status
    return pixels


@pytest.mark.parametrize("first", [True, False], ids=["first night", "revised and final"])
def test_killed_at_every_seventh_change(
    region: Region, object_store: ObjectStore, bucket: ObjectPath, tmp_path: Path, *, first: bool
) -> None:
    environment = object_store.environment
    assert region.catalogue.path is not None
    before, undisturbed = at(region, bucket / "before"), at(region, bucket / "undisturbed")
    with (
        archive.serve(region.catalogue.path) as old,
        archive.serve(region.catalogue.path if first else revised(region)) as new,
    ):
        if not first:
            night(before, old, LAST, environment)
        copied(before.home, undisturbed.home)
        night(undisturbed, new, LAST if first else END, environment)
        states, count, step = set(), None, 1
        while count is None:
            step += 7  # at each single one it would take minutes; seven is prime to what repeats
            there = at(region, bucket / f"{step}")
            copied(before.home, there.home)
            count = killer.run_killed(step, tmp_path, night, there, new, LAST if first else END, environment)
            if count is None:
                states.add(seen(there.home))
                assert killer.run_killed(killer.NEVER, tmp_path, night, there, new, LAST if first else END, environment)
            assert content(there.home) == content(undisturbed.home)
    assert verify(undisturbed).problems == ()
    assert step > 40
    if not first:
        old_seen, new_seen = seen(before.home), seen(undisturbed.home)
        assert (old_seen[1], new_seen[1]) == ("provisional", "final")
        assert states <= {old_seen, (new_seen[0], old_seen[1]), new_seen}
        assert {old_seen, new_seen} <= states
