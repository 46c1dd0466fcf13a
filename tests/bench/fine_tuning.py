"""The any-date model before and after fine-tuning on a place's own patches, on ground and dates that it never trained on.

    python tests/bench/fine_tuning.py --shared ../shared [--minutes 10] [--checkpoint FOLDER] [--work FOLDER]

Two places. The embedded archive, sampled by `vsat sample`: trained on its train patches, judged on its test patches. And
flanders-2018, cut here: the left part trains on its first eleven months and decides by the last five when to stop; the right
part is judged, on dates of neither: four trainings, each without the dates that it is judged on, some days of every 40, and
those 4 days around them. 4 px lie between the parts. Early stopping goes by the validation patches alone. Both models
fill the same folds of the judge (core.protocols) with their calibration (Checkpoint.fill), and are compared on the same
values; MAE, coverage and CRPS are means over bands, and the ratio's 95 % interval comes from a bootstrap over dates and blocks.
"""

import argparse
import logging
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import numpy.typing as npt
from stores import write_patches

from vsat.config import Region, load_region
from vsat.core.protocols import check_fold, folds
from vsat.core.splits import TEST, TRAIN, VALIDATION, SplitDesign
from vsat.core.sums import finish
from vsat.core.synthetic import Landscape
from vsat.hls import sensors_of
from vsat.io.archive import write_synthetic
from vsat.io.exchange import load_cube
from vsat.io.patches import Patch
from vsat.model.checkpoint import load_checkpoint
from vsat.model.options import TrainOptions
from vsat.stages.demo import FIRE, SEED
from vsat.stages.evaluate import Fill, FoldJob, evaluate_one, plan_evaluate
from vsat.stages.fetch import fetch
from vsat.stages.models import SHIPPED
from vsat.stages.sample import SampleOptions, sample
from vsat.stages.scores import headlines
from vsat.stages.sources import Block, Source, cube_source, patch_source
from vsat.stages.tally import Key, Tally, Unit
from vsat.stages.train import TrainPlan, TrainReport, default_pace, train

BEFORE, AFTER = "anydate", "anydate:tuned"  # names by which the judge tells a model bands and sensors
PROTOCOLS = ("dates", "masks")
COLUMN_NAMES = (
    "place", "hidden", "values", "MAE zero-shot", "MAE fine-tuned", "ratio", "95 % interval", "90 % holds", "then",
    "CRPS ratio", "best steps", "seconds of training",
)  # fmt: skip
ROOT = Path(__file__).parents[2]
DEMO = SampleOptions(
    patches=800,
    days=120,
    step_days=20,
    split=SplitDesign(buffer_px=16, validation_share=0.2, test_share=0.2),
)
JUDGED_PX = 32  # of a test patch

# flanders-2018, 32 x 32 px: columns that train, those that are judged, and days that are judged in each of four trainings.
PATCH_PX = 12
COLUMNS = {TRAIN: slice(0, 14), VALIDATION: slice(0, 14), TEST: slice(18, 32)}
CYCLE_DAYS, JUDGED_DAYS, AWAY_DAYS = 40, 6, 4
LEARN_DAYS = 330  # of the record; the rest decides when to stop
PHASES = range(0, CYCLE_DAYS, 10)
SPANS = ((0.0, 1.0), (0.0, 0.6), (0.2, 0.8), (0.4, 1.0))  # of the record that a patch holds
PATCHES = 6  # judged for each draw of flanders' folds

Ints = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Place:
    """A store to learn from, and folds that ask both models for what neither learned from."""

    name: str
    store: Path
    jobs: Callable[[dict[str, Fill]], list[FoldJob]]


def demo_place(work: Path, draws: int) -> Place:
    """The embedded archive; what is there already is kept."""
    region = _demo_region(work)
    (grid,), period = region.grids(), region.period
    assert region.catalogue.path is not None and period.end is not None
    land = Landscape(SEED, grid.shape, fire=FIRE)
    write_synthetic(region.catalogue.path, grid=grid, land=land, start=period.start, end=period.end)
    fetch(region, period.start, period.end)
    store = work / "demo-patches"
    sample([region], store, DEMO)
    source = patch_source(store)
    cut = Source(
        source.name, tuple(_cut(block, np.s_[:JUDGED_PX, :JUDGED_PX]) for block in source.blocks[: PATCHES * draws])
    )
    return Place("demo", store, lambda fills: [*plan_evaluate(cut, fills, BEFORE, PROTOCOLS, 1, 0, [])])


def flanders_place(path: Path, work: Path, draws: int, phase: int) -> Place:
    """A cube of 32 x 32 px, split by block and date."""
    store = work / f"flanders-patches-{phase}"
    cut_patches(path, store, phase)
    block = _cut(cube_source(path).blocks[0], np.s_[:, COLUMNS[TEST]])
    return Place("flanders-2018", store, lambda fills: _kept_folds(block, fills, draws, phase))


def of_split(day_t: Ints, split: int, phase: int) -> npt.NDArray[np.bool_]:
    """Which looks are a split's."""
    since = day_t - day_t[0]
    at = (since - phase) % CYCLE_DAYS
    if split == TEST:
        return np.asarray(at < JUDGED_DAYS)
    away = (at >= JUDGED_DAYS + AWAY_DAYS) & (at < CYCLE_DAYS - AWAY_DAYS)
    return np.asarray(away & (since < LEARN_DAYS if split == TRAIN else since >= LEARN_DAYS + AWAY_DAYS))


def cut_patches(cube: Path, out: Path, phase: int) -> None:
    """A store of train and validation patches of the cube, as `vsat sample` writes them."""
    made = [(split, *one) for split in (TRAIN, VALIDATION) for one in _patches(cube, split, phase)]
    write_patches(out, [one[3] for one in made], [one[0] for one in made], [one[1:3] for one in made])


def tuned(place: Place, given: argparse.Namespace, out: Path) -> TrainReport:
    """A checkpoint that went on learning on the place."""
    lr, steps, every = default_pace(given.optimizer, begun=True)
    often = given.every or every
    options = TrainOptions(
        optimizer=given.optimizer, lr=given.lr or lr, steps=given.steps or steps, batch=given.batch, bf16=True,
        save_every=often, evaluate_every=often, patience=given.patience, minutes=given.minutes, seed=given.seed,
        warmup=0.04, floor=0.02,
    )  # fmt: skip
    plan = TrainPlan(
        prior=given.both, patches=(place.store,), init=given.checkpoint, held_out=given.held_out, options=options
    )
    return train(plan, out)


@dataclass
class Judged:
    """Both models on the same values of a place, over all its trainings."""

    units: list[Unit] = field(default_factory=list)
    tally: Tally = field(default_factory=Tally)
    steps: list[int] = field(default_factory=list)
    seconds: float = 0.0

    def add(self, jobs: Sequence[FoldJob], training: int, report: TrainReport) -> None:
        """Judge one more training."""
        for job in jobs:
            found = evaluate_one(job)
            self.units += [replace(unit, block=f"{unit.block} {training}") for unit in found.units]
            self.tally.add(found.tally)
        self.steps.append(report.best_step)
        self.seconds += report.seconds

    def rows(self, place: str) -> list[str]:
        """Of the table."""
        rows = []
        for line in headlines(place, self.units, self.tally, (BEFORE,), seed=0):
            if line.method != AFTER:
                continue
            before, after = (
                finish(self.tally.sums[Key(line.protocol, 0, "all", "", name)]) for name in (BEFORE, AFTER)
            )
            interval = "-" if line.low is None or line.high is None else f"{line.low:.3f} to {line.high:.3f}"
            cells = (
                place, line.protocol, f"{int(after.count.sum())}", f"{before.mae.mean():.5f}", f"{after.mae.mean():.5f}",
                f"{line.ratio:.3f}", interval, f"{before.cover_sb[-1].mean():.1%}", f"{after.cover_sb[-1].mean():.1%}",
                f"{after.crps.mean() / before.crps.mean():.3f}", ", ".join(map(str, self.steps)), f"{self.seconds:.0f}",
            )  # fmt: skip
            rows.append(f"| {' | '.join(cells)} |")
        return rows


def _demo_region(work: Path) -> Region:
    region = load_region(ROOT / "regions" / "demo.yaml")
    catalogue = region.catalogue.model_copy(update={"path": work / "archive"})
    return region.model_copy(update={"store": work, "catalogue": catalogue})


def _cut(block: Block, window: tuple[slice, slice]) -> Block:
    y, x = window
    return replace(block, refl_tbyx=block.refl_tbyx[:, :, y, x], clear_tyx=block.clear_tyx[:, y, x])


def _patches(path: Path, split: int, phase: int) -> list[tuple[float, float, Patch]]:
    """Patches of a split's ground and dates, at every pixel where one fits, with their corners in metres."""
    cube, cols = load_cube(path), COLUMNS[split]
    day_t = cube["time"].values.astype("datetime64[D]").astype(np.int32)
    sensor_t, own_t = sensors_of(cube["sensor"].values), of_split(day_t, split, phase)
    refl_tbyx, fmask_tyx = cube["reflectance"].values, cube["fmask"].values
    made = []
    for low, high in SPANS:
        days = day_t[own_t]
        first, last = (days[0] + share * (days[-1] - days[0]) for share in (low, high))
        at = np.flatnonzero(own_t & (day_t >= first) & (day_t <= last))
        for top in range(cube.sizes["y"] - PATCH_PX + 1):
            for left in range(cols.start, cols.stop - PATCH_PX + 1):
                y, x = slice(top, top + PATCH_PX), slice(left, left + PATCH_PX)
                patch = Patch(refl_tbyx[at][:, :, y, x], fmask_tyx[at][:, y, x], day_t[at], sensor_t[at])
                made.append((30.0 * left, -30.0 * top, patch))
    return made


def _kept_folds(block: Block, fills: dict[str, Fill], draws: int, phase: int) -> list[FoldJob]:
    """Folds of the judge with those targets that lie in the test's stretches of dates."""
    jobs, kept_t = [], of_split(block.day_t, TEST, phase)
    for protocol in PROTOCOLS:
        for fold in folds(block.clear_tyx, block.day_t, protocol, count=draws, seed=0):
            targets = tuple(target for target in fold.targets if kept_t[target.look])
            if targets:
                own = replace(fold, targets=targets)
                check_fold(own, block.clear_tyx, block.day_t)
                jobs.append(FoldJob(block, own, fills, BEFORE, 0))
    return jobs


def _places(given: argparse.Namespace, work: Path) -> Sequence[Place]:
    shared = given.shared.parent if given.shared.name == "data" else given.shared
    cube = shared / "data" / "cubes" / "flanders-2018.nc"
    places = [demo_place(work, given.draws)] if "demo" in given.places else []
    if "flanders" in given.places and cube.exists():
        places += [flanders_place(cube, work, given.draws, phase) for phase in PHASES]
    elif "flanders" in given.places:
        print(f"no {cube}: flanders-2018 is left out")
    return places


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--checkpoint", default=str(SHIPPED), help="to begin with")
    parser.add_argument("--work", type=Path, help="a folder for archive and patches, kept for another run")
    parser.add_argument("--places", default="demo,flanders")
    parser.add_argument("--draws", type=int, default=4, help="of folds, and six times as many test patches")
    parser.add_argument("--minutes", type=float, default=10.0, help="of fine-tuning, each place")
    parser.add_argument("--both", action="store_true", help="learn from synthetic records in turn with the patches")
    parser.add_argument("--optimizer", default="adamw")
    parser.add_argument("--lr", type=float, help="by default that of vsat train --init, like steps and every")
    parser.add_argument("--steps", type=int)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--every", type=int)
    parser.add_argument("--patience", type=int, default=6)
    parser.add_argument("--held-out", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main() -> None:
    given = _arguments()
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
    logging.getLogger("vsat").setLevel(logging.INFO)
    table: dict[str, Judged] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for number, place in enumerate(_places(given, given.work or Path(scratch))):
            out = Path(scratch) / f"tuned-{number}"
            report = tuned(place, given, out)
            print(f"{place.name}: {report.text()}", flush=True)
            fills: dict[str, Fill] = {
                BEFORE: load_checkpoint(given.checkpoint).fill,
                AFTER: load_checkpoint(out).fill,
            }
            table.setdefault(place.name, Judged()).add(place.jobs(fills), number, report)
    print("\n| " + " | ".join(COLUMN_NAMES) + " |\n|" + "---|" * len(COLUMN_NAMES))
    for name, found in table.items():
        print("\n".join(found.rows(name)))


if __name__ == "__main__":
    main()
