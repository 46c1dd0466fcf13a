"""verify, repair and gc on a region that has one of everything; and on one whose store is a bucket."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest
from fault.campaign_verify import campaign
from fault.damage import MODEL, PATCHES, build
from test_bucket_pipeline import region_in

from regions import END, tiny
from vsat import cli
from vsat.config import Region
from vsat.errors import InputError, StoreError
from vsat.io import archive
from vsat.io.durable import PARTIAL, write_file
from vsat.io.ledger import Ledger, Receipt, lease
from vsat.io.scenes import NEXT, ledger_path
from vsat.objects import ObjectPath
from vsat.stages.gc import gc
from vsat.stages.nightly import nightly
from vsat.stages.repair import remedy, repair
from vsat.stages.verify import verify

pytestmark = [pytest.mark.fault, pytest.mark.slow]
OLD_S = 3 * 86400


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Region:
    return build(tmp_path_factory.mktemp("repair"))


@pytest.fixture
def region(made: Region, tmp_path: Path) -> Iterator[Region]:
    """The region, at its own place; what a test does to it is undone."""
    shutil.copytree(made.home, tmp_path / "pristine")
    yield made
    shutil.rmtree(made.home)
    shutil.copytree(tmp_path / "pristine", made.home)


def content(home: Path) -> dict[str, bytes]:
    names = ("cubes", "images")
    return {
        str(path.relative_to(home)): path.read_bytes()
        for name in names
        for path in sorted((home / name).rglob("*"))
        if path.is_file()
    }


def test_damage_of_every_kind_is_found_and_repaired(made: Region) -> None:
    rows, wrong = campaign(made, each=36, seed=3, minutes=10)
    assert wrong == []
    assert sum(int(row["bit flips"]) for row in rows) == sum(int(row["cuts"]) for row in rows) == 36
    assert sum(int(row["found"]) + int(row["in unused bytes"]) for row in rows) == 72


def test_a_lost_ledger_is_made_again_from_the_catalogue(region: Region) -> None:
    before = content(region.home)
    for path in region.home.glob("ledger.sqlite*"):
        path.unlink()
    found = verify(region).findings
    assert found[0].kind == "missing" and found[0].of == "ledger"
    with pytest.raises(StoreError, match="repair"):
        gc(region, older_than_days=0)
    report = repair(region, END, workers=2)
    assert report.left.findings == () and report.failed == ()
    assert content(region.home) == before


def test_scenes_revised_at_their_source_come_back_as_they_are_now(region: Region, tmp_path: Path) -> None:
    root = region.catalogue.path
    assert root is not None
    shutil.copytree(root, tmp_path / "archive")
    name = archive.items(root)[4]["id"]
    refl_byx, fmask_yx = archive.pixels(root, name)
    archive.revise(root, name, refl_byx + np.int16(9), fmask_yx, updated=datetime(2025, 1, 1, tzinfo=UTC))
    try:
        with Ledger(ledger_path(region.home)) as ledger:
            (scene,) = [one for one in ledger.all("scene") if any(name.startswith(part) for part in one.inputs)]
        (region.home / scene.outputs[0][0]).unlink()
        report = repair(region, END, workers=2)
        assert report.left.findings == () and report.failed == ()
        assert any(line.startswith("image ") for line in report.done)  # made of the revised scene
    finally:
        shutil.rmtree(root)
        shutil.copytree(tmp_path / "archive", root)


def test_images_of_other_scenes_are_stale_until_a_repair_or_a_night(region: Region) -> None:
    with Ledger(ledger_path(region.home)) as ledger:
        scene = ledger.all("scene")[3]
        ledger.record(Receipt("scene", scene.key, "done", scene.inputs, "another", scene.outputs, scene.facts))
    kinds = {finding.kind for finding in verify(region).findings}
    assert kinds == {"stale"}
    report = repair(region, END, workers=2)
    assert report.left.findings == ()


def test_an_item_that_says_what_is_not_so_is_invalid(region: Region) -> None:
    with Ledger(ledger_path(region.home)) as ledger:
        image = ledger.all("image")[2]
        (name,) = [one for one, _ in image.outputs if one.endswith(".json")]
        item = json.loads((region.home / name).read_bytes())
        item["properties"]["datetime"] = "2023-07-09T00:00:00Z"
        item["assets"]["red"]["file:size"] += 1
        item["assets"]["stray"] = item["assets"]["qa"] | {"href": "./stray.tif"}
        digest = write_file(region.home / name, [json.dumps(item).encode()])
        outputs = tuple((one, digest if one == name else sha) for one, sha in image.outputs)
        ledger.record(Receipt("image", image.key, "done", image.inputs, image.signature, outputs, image.facts))
    told = [str(finding) for finding in verify(region).findings if finding.kind == "invalid"]
    assert len(told) == 3 and all(name in line for line in told)
    assert repair(region, END).left.findings == ()


def test_what_has_lost_its_receipt_is_compared_with_what_would_be_made(region: Region) -> None:
    with Ledger(ledger_path(region.home)) as ledger:
        ledger.delete("cube", "33UVP/2023")
        ledger.delete("catalogue", "images")
    assert verify(region).findings == ()
    group = next(region.home.glob("cubes/*/*/zarr.json"))
    group.write_bytes(group.read_bytes().replace(b"33UVP", b"33UVQ", 1))
    table = next(region.home.glob("images/*/items.parquet"))
    table.unlink()
    assert {(finding.kind, finding.of) for finding in verify(region).findings} == {
        ("altered", "cube 33UVP/2023"), ("missing", "catalogue"),
    }  # fmt: skip
    assert repair(region, END).left.findings == ()


def test_without_a_source_it_says_so_and_touches_nothing(region: Region, tmp_path: Path) -> None:
    root = region.catalogue.path
    assert root is not None
    (scene,) = sorted(region.home.glob("cubes/*/*/reflectance/c.*"))[:1]
    (report_file,) = sorted(region.home.glob("reports/*.md"))[:1]
    scene.write_bytes(b"torn")
    report_file.write_text("# another night\n")
    root.rename(tmp_path / "archive")
    try:
        report = repair(region, END)
    finally:
        (tmp_path / "archive").rename(root)
    assert scene.read_bytes() == b"torn"
    assert any("scenes" in why for why in report.failed)
    left = {finding.path: remedy(finding) for finding in report.left.findings}
    assert left.keys() == {str(scene.relative_to(region.home)), str(report_file.relative_to(region.home))}
    assert "remove it" in left[str(report_file.relative_to(region.home))]
    assert "failed" in report.text() and "left" in report.text()


def test_gc_takes_what_nobody_lists_and_nothing_else(region: Region) -> None:
    home, before = region.home, content(region.home)
    folder = next(home.glob("images/*/VSAT*"))
    array = next(home.glob("cubes/*/*/fmask"))
    left = [
        array / f"c.9.0.0.0.1-1{PARTIAL}",
        array / f"c.9.0.0.0.{'0' * 64}{NEXT}",
        array / "c.300.0.0.0",
        folder / "stray.tif",
        folder.with_name(f".{folder.name}.1-1{PARTIAL}") / "half.tif",
        home / "scratch" / "granule.tif",
        home / PATCHES / "parts" / "0007.zarr" / "zarr.json",
    ]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
    assert sum(finding.kind == "nobody's" for finding in verify(region).findings) == len(left) - 1  # scratch is no loss
    young = gc(region)
    assert young.removed == () and len(young.left) == len(left)
    dry = gc(region, older_than_days=0, dry_run=True)
    assert all(path.exists() for path in left) and len(dry.removed) == len(left) and "would be" in dry.text()
    done = gc(region, older_than_days=0)
    assert done.removed == dry.removed and not any(path.exists() for path in left)
    assert verify(region).findings == () and content(home) == before
    assert gc(region, older_than_days=0).removed == ()


def test_gc_waits_for_no_run_and_leaves_what_a_writer_has_locked(region: Region) -> None:
    folder = next(region.home.glob("images/*/VSAT*"))
    aside = folder.with_name(f".{folder.name}.1-1{PARTIAL}")
    aside.mkdir()
    script = (
        f"import fcntl, os, time; fcntl.flock(os.open({str(aside)!r}, 0), 2); print(1, flush=True); time.sleep(600)"
    )
    writer = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    try:
        assert writer.stdout is not None and writer.stdout.readline()
        report = gc(region, older_than_days=0)
        assert report.left == ((str(aside.relative_to(region.home)), "a writer has locked it"),) and aside.exists()
    finally:
        writer.kill()
        writer.wait()
    with lease(region.home, "fetch"), pytest.raises(StoreError, match="already running"):
        gc(region, older_than_days=0)
    assert gc(region, older_than_days=0).removed and not aside.exists()


def test_the_verbs_end_with_what_they_found(
    region: Region, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["vsat", "--quiet", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0), capsys.readouterr().out

    file = region.home.parents[1] / "tiny.yaml"
    elsewhere = region.home.with_name("patches")
    shutil.copytree(region.home / PATCHES, elsewhere)
    weights = region.home / "models" / MODEL
    extra = ("--patches", elsewhere, "--checkpoint", weights)
    try:
        assert run("verify", file, *extra)[0] == 0
        shard = next(elsewhere.glob("parts/*/reflectance/c.*"))
        shard.write_bytes(shard.read_bytes()[:-3])
        png = next(region.home.glob("images/*/*/*.png"))
        png.unlink()
        code, out = run("verify", file, *extra, "--json")
        assert code == 1 and len(json.loads(out)["problems"]) == 2
        code, out = run("repair", file, *extra, "--dry-run")
        assert code == 0 and "made again" in out and "drawn again" in out and not png.exists()
        code, out = run("repair", file, *extra)
        assert code == 0 and png.exists() and "2 problems found, 0 left" in out
        assert run("verify", file, *extra)[0] == 0
        assert run("gc", file, "--older-than", 0, "--dry-run", "--json")[0] == 0
    finally:
        shutil.rmtree(elsewhere)
    with pytest.raises(InputError):
        verify(region, patches=[elsewhere])
    with pytest.raises(InputError):
        verify(region, checkpoints=[elsewhere])


@pytest.mark.integration
def test_in_a_bucket_damage_is_found_and_repaired_too(bucket: ObjectPath, tmp_path: Path) -> None:
    region = region_in(tiny(tmp_path), bucket)
    nightly(region, date(2023, 5, 31))
    assert verify(region).findings == ()
    before = {entry.path: entry.path.read_bytes() for entry in region.home.entries()}
    chosen = [
        next(region.home.glob(pattern))
        for pattern in (
            "cubes/*/*/reflectance/c.*", "cubes/*/*/fmask/zarr.json", "images/*/*/*/*.qa.tif", "images/*/*/*.json",
            "images/catalog.json", "images/*/items.parquet", "reports/*.json",
        )
    ]  # fmt: skip
    for path in chosen:
        path.put(before[path][:-7] + b"x" + before[path][-6:])
    found = {region.home / finding.path for finding in verify(region).findings}
    assert found == set(chosen)
    report = repair(region, END, workers=2)
    assert [finding.of for finding in report.left.findings] == ["report"]
    assert all(path.read_bytes() == before[path] for path in chosen[:-1])
    chosen[-1].put(before[chosen[-1]])

    receipts = list(region.home.glob("ledger/receipt/*/*/*/*.json")) + list(
        region.home.glob("ledger/watermark/*/*.json")
    )
    for path in (receipts[2], receipts[-1]):
        path.put(before[path].replace(b"2023", b"2022", 1))
    assert [finding.of for finding in verify(region).findings][:2] == ["ledger", "ledger"]
    report = repair(region, END, workers=2)
    assert report.left.findings == ()
    stray = region.home / "images" / "33UVP" / "stray.tif"
    stray.put(b"?")
    assert gc(region).removed == () and [name for name, _ in gc(region, older_than_days=0).removed] == [
        "images/33UVP/stray.tif"
    ]
    assert verify(region).findings == ()
