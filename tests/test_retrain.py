"""Retraining a region's model: promoted when the judge finds it better, kept when not, rolled back, resumed, followed by images.

The models are narrow and train for some steps; patches, judge and images are real.
"""

import json
import shutil
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest
import torch
from checkpoints import write_checkpoint
from typer.testing import CliRunner

from regions import END, START, TEXT, tiny, write_archive, write_region
from vsat.cli import app
from vsat.config import Region, load_region
from vsat.core.splits import SplitDesign
from vsat.errors import InputError, StoreError
from vsat.io.ledger import Ledger, Receipt
from vsat.io.patch_reader import PatchStore
from vsat.io.publish import read_image
from vsat.io.scenes import ledger_path
from vsat.io.sealed import open_json
from vsat.methods import ANYDATE
from vsat.objects import place_of
from vsat.stages import retrain as module
from vsat.stages import train as training
from vsat.stages.fetch import fetch
from vsat.stages.generate import KIND, Policy, generate, plan_generate
from vsat.stages.models import weights_of
from vsat.stages.promotion import (
    POINTER,
    Pointer,
    checkpoints,
    folder_of_models,
    method_of,
    promote,
    read_pointer,
    rollback,
)
from vsat.stages.retrain import BEGUN, PATCHES, REPORT, Compared, RetrainOptions, retrain, verdict
from vsat.stages.sample import SampleOptions, sample
from vsat.stages.train import TrainPlan, train

MIDDLE = date(2023, 6, 22)  # images of May are final, those of June are not
LATER = END + timedelta(60)
DRAWN = SampleOptions(
    patches=16, size_px=20, stride_px=2, days=60, step_days=30, min_looks=4, most_looks=14, shard_patches=8,
    strata=("clear",), split=SplitDesign(block_px=24, buffer_px=2, validation_share=0.25, test_share=0.25),
)  # fmt: skip
OPTIONS = RetrainOptions(sample=DRAWN, optimizer="adamw", batch=4, held_out=6, steps=12, folds=1)
QUICK = replace(OPTIONS, protocols=("dates",))
DAY = date(2023, 7, 2)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with its scenes on ground for several blocks, and the patches drawn."""
    folder = tmp_path_factory.mktemp("retrain")
    region = wide(folder)
    sample([region], folder_of_models(region.home) / PATCHES, DRAWN)
    return folder


@pytest.fixture
def region(drawn: Path, tmp_path: Path) -> Region:
    """A copy of it, whose images are made with a checkpoint named start that is far off."""
    shutil.copytree(drawn, tmp_path / "project")
    return begun(tmp_path / "project" / "tiny.yaml")


@pytest.fixture(scope="module")
def fetched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A smaller one, with its scenes."""
    folder = tmp_path_factory.mktemp("images")
    path = tiny(folder)
    path.write_text(path.read_text().replace("linear", ANYDATE))
    fetch(load_region(path), START, END)
    return folder


@pytest.fixture
def small_region(fetched: Path, tmp_path: Path) -> Region:
    """A copy of it."""
    shutil.copytree(fetched, tmp_path / "project")
    return begun(tmp_path / "project" / "tiny.yaml")


def wide(folder: Path) -> Region:
    """A region file with its archive and its scenes, large enough for some blocks of each split."""
    path = write_region(folder, text=TEXT.replace("14.2118, 48.1077", "14.235, 48.124").replace("linear", ANYDATE))
    region = load_region(path)
    write_archive(region)
    fetch(region, START, END)
    return region


def begun(file: Path) -> Region:
    region = load_region(file)
    write_checkpoint(folder_of_models(region.home) / "start", noise=1.0)
    promote(region.home, "start", START, reason="to begin with")
    return region


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few steps that learn much, calibrated on few patches; an epoch of the prior that is ordered at once."""
    torch.set_num_threads(1)  # for models of this size more are slower
    monkeypatch.setattr(training, "CALIBRATED_ON", 3)
    monkeypatch.setattr(training, "PRIOR_PATCHES", 1000)
    monkeypatch.setattr(training, "TUNING_LR", 10.0)
    monkeypatch.setattr(training, "TUNING_EVERY", 4)


def unlearn(plan: TrainPlan, out: Path) -> None:
    """A training that came to something worse."""
    write_checkpoint(out, seed=1, noise=3.0)


def receipts(region: Region) -> dict[str, Receipt]:
    with Ledger(ledger_path(region.home)) as ledger:
        return {receipt.key.split("/")[1]: receipt for receipt in ledger.all(KIND)}


def made_with(region: Region) -> dict[str, str]:
    """The checkpoint that each date's receipt names."""
    return {day: str(receipt.facts.get("checkpoint", ANYDATE)) for day, receipt in receipts(region).items()}


def to_make(region: Region, day: date, policy: Policy = "missing") -> set[str]:
    return {one.day for job in plan_generate(region, START, END, day, policy=policy).jobs for one in job.dates}


def test_a_better_checkpoint_is_promoted_and_rolled_back(region: Region) -> None:
    models = folder_of_models(region.home)
    before = weights_of(method_of(region.home, "start"))
    report = retrain(region, DAY, OPTIONS)
    assert report.promoted and report.outcome.startswith("promoted 2023-07-02: better on held-out patches")
    assert [one.protocol for one in report.compared] == ["dates", "masks"] and report.patches == 16
    for one in report.compared:
        assert one.ratio < 1 and one.crps_ratio < 1 and one.mae_new < one.mae_current and one.values > 100
        assert one.low is None or one.low <= one.ratio
    assert "| dates |" in report.markdown() and "rollback tiny" in report.text()
    assert read_pointer(region.home).current == "2023-07-02"
    assert json.loads((models / POINTER).read_text())["history"][-1]["reason"] == report.reason
    assert checkpoints(region.home) == (ANYDATE, "2023-07-02", "start")
    assert weights_of(method_of(region.home, "start")) == before != weights_of(method_of(region.home, "2023-07-02"))
    assert retrain(region, DAY, OPTIONS, train=unlearn) == report  # a day is over once it has its report

    (models / "2023-07-02" / REPORT).unlink()  # as a kill leaves it that comes after the promotion
    again = retrain(region, DAY, QUICK, train=lambda plan, out: None)
    assert again.current == "start" and again.compared == report.compared[:1]
    assert [one.name for one in read_pointer(region.home).history] == ["start", "2023-07-02"]

    assert rollback(region.home, DAY).current == "start"
    assert rollback(region.home, DAY).current == ANYDATE
    with pytest.raises(InputError, match="no promotion to take back"):
        rollback(region.home, DAY)
    assert [one.verb for one in read_pointer(region.home).history] == ["promote", "promote", "rollback", "rollback"]


def test_one_that_is_not_better_is_kept_out_but_stays(region: Region) -> None:
    report = retrain(region, DAY, QUICK, train=unlearn)
    assert not report.promoted and report.outcome.startswith("kept start: the new one is not better with")
    assert any(one.ratio > 1 for one in report.compared)
    assert read_pointer(region.home).current == "start" and "2023-07-02" in checkpoints(region.home)
    promote(region.home, "2023-07-02", DAY, reason="by hand")  # a person may know better
    assert read_pointer(region.home).earlier == (ANYDATE, "start")


def test_it_must_be_better_by_both_measures_in_every_protocol() -> None:
    good = Compared("dates", 100, 0.02, 0.01, 0.5, None, None, 0.6, 0.9, 0.9)
    other = Compared("masks", 100, 0.02, 0.01, 0.5, 0.4, 0.7, 0.6, 0.9, 0.9)
    both = ("dates", "masks")
    assert verdict((good, other), both)[0]
    for worse in ({"ratio": 1.0}, {"crps_ratio": 1.2}, {"crps_ratio": float("nan")}):
        promoted, reason = verdict((good, Compared(**vars(other) | worse)), both)
        assert not promoted and reason == "the new one is not better with masks"
    assert verdict((good,), both) == (False, "nothing could be judged with masks")
    assert verdict((), both) == (False, "nothing could be judged with dates, masks")


def test_a_killed_retraining_goes_on_with_what_it_began_with(region: Region) -> None:
    class Killed(Exception):
        """Ends a run in the middle of it."""

    def killed(plan: TrainPlan, out: Path) -> None:
        def report(done: int, total: int) -> None:
            seen.append(done)
            if done == 9:
                raise Killed

        train(plan, out, progress=report)

    seen: list[int] = []
    with pytest.raises(Killed):
        retrain(region, DAY, QUICK, train=killed)
    models = folder_of_models(region.home)
    told = open_json((models / "2023-07-02" / BEGUN).read_bytes())
    assert told == {"init": "start"} and read_pointer(region.home).current == "start"
    steps: list[int] = []
    plans: list[TrainPlan] = []

    def goes_on(plan: TrainPlan, out: Path) -> None:
        plans.append(plan)
        train(plan, out, progress=lambda done, _: steps.append(done))

    report = retrain(region, DAY, QUICK, train=goes_on)
    assert steps == [9, 10, 11, 12] and report.compared  # saved at 8
    train(plans[0], models / "undisturbed")
    assert weights_of(method_of(region.home, "2023-07-02")) == weights_of(method_of(region.home, "undisturbed"))


def test_images_follow_a_promotion_and_final_ones_stay(small_region: Region) -> None:
    region = small_region
    generate(region, START, END, MIDDLE)
    first = receipts(region)
    assert set(made_with(region).values()) == {"start"}
    final = {day for day, receipt in first.items() if receipt.facts["status"] == "final"}
    open_ = set(first) - final
    assert len(final) == 4 and open_
    write_checkpoint(folder_of_models(region.home) / "next", seed=5)
    promote(region.home, "next", MIDDLE, reason="by hand")

    assert to_make(region, MIDDLE) == open_
    generate(region, START, END, MIDDLE)
    after = receipts(region)
    assert all(after[day] == first[day] for day in final)
    assert made_with(region) == {day: "start" if day in final else "next" for day in first}
    (grid,) = region.grids()
    assert read_image(region.home, grid.tile, date.fromisoformat(max(open_))).method == f"{ANYDATE}:next"
    assert not to_make(region, MIDDLE)

    (folder_of_models(region.home) / "next" / "calibration.json").write_text("{}")  # never read by what is final
    assert not to_make(region, MIDDLE) & final
    rollback(region.home, MIDDLE)
    assert to_make(region, MIDDLE) == open_
    assert to_make(region, MIDDLE, "replace") == set(first) and to_make(region, MIDDLE, "new-version") == open_


def test_a_backfill_makes_final_images_with_the_new_one_and_nights_keep_it(small_region: Region) -> None:
    region = small_region
    generate(region, START, END, LATER)
    first = receipts(region)
    write_checkpoint(folder_of_models(region.home) / "next", seed=5)
    promote(region.home, "next", LATER, reason="by hand")
    assert not to_make(region, LATER) and not to_make(region, LATER, "skip")
    assert to_make(region, LATER, "new-version") == set(first)
    generate(region, START, END, LATER, policy="replace")
    assert set(made_with(region).values()) == {"next"}
    assert not to_make(region, LATER)
    rollback(region.home, LATER)
    assert not to_make(region, LATER)


def test_before_any_promotion_nothing_is_different(small_region: Region) -> None:
    region = small_region
    rollback(region.home, START)
    plan = plan_generate(region, START, END, LATER)
    assert all(job.method == ANYDATE and job.asked == () for job in plan.jobs)
    rolled_back = [one for job in plan.jobs for one in job.dates]
    shutil.rmtree(folder_of_models(region.home))
    assert [one for job in plan_generate(region, START, END, LATER).jobs for one in job.dates] == rolled_back
    other = region.model_copy(update={"method": "linear"})
    write_checkpoint(folder_of_models(region.home) / "next")
    named = [job.method for job in plan_generate(other, START, END, LATER).jobs]
    promote(region.home, "next", LATER, reason="by hand")
    assert [job.method for job in plan_generate(other, START, END, LATER).jobs] == named == ["linear"] * len(named)


def test_what_cannot_be_done_is_said(region: Region) -> None:
    bucket = place_of("s3://somewhere/regions")
    for refused in (lambda: retrain(_at(region, bucket), DAY, OPTIONS), lambda: rollback(bucket, DAY)):
        with pytest.raises(InputError, match="this store is a bucket") as caught:
            refused()
        assert "anydate:FOLDER" in caught.value.next_step
    assert read_pointer(bucket) == Pointer()
    for name in ("none", "../start", PATCHES, ""):
        with pytest.raises(InputError, match="no checkpoint"):
            promote(region.home, name, DAY, reason="by hand")
    shutil.rmtree(folder_of_models(region.home) / PATCHES)
    no_test = replace(DRAWN.split, test_share=0.0)
    with pytest.raises(InputError, match="no test patches"):
        retrain(region, DAY, replace(OPTIONS, sample=replace(DRAWN, split=no_test)))
    (folder_of_models(region.home) / POINTER).write_text("[]")
    with pytest.raises(StoreError, match="names no checkpoint"):
        plan_generate(region, START, END, LATER)


def test_a_store_is_added_to_with_the_options_that_it_was_drawn_with(region: Region) -> None:
    assert module._drawn_with(folder_of_models(region.home) / PATCHES) == DRAWN
    assert module._drawn_with(folder_of_models(region.home)) == SampleOptions()
    assert len(PatchStore(folder_of_models(region.home) / PATCHES)) == 16


def test_the_verbs_list_promote_and_roll_back(small_region: Region) -> None:
    region = small_region
    file = str(region.home.parent.parent / "tiny.yaml")

    def say(*words: str) -> str:
        done = CliRunner().invoke(app, ["model", *words])
        assert done.exit_code == 0, done.output
        return done.output

    assert "* start" in say("list", file) and "promote start: to begin with" in say("list", file)
    assert "made with anydate" in say("promote", file, ANYDATE)
    assert json.loads(say("rollback", file, "--json")) == {"current": "start"}
    told = json.loads(say("list", file, "--json"))
    assert told["checkpoints"] == [ANYDATE, "start"] and told["current"] == "start"


def _at(region: Region, store: object) -> Region:
    return region.model_copy(update={"store": store})
