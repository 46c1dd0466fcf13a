"""The judge on the public cubes, beside the reference peers and EVIDENCE.md 1, with coverage and seconds.

    python tests/bench/judge.py [--shared ../shared] [--folds 2] [--seed 0] [--cubes flanders-2018 ...] [--region FILE]
                                [--draws 2] [--json FILE] [--html FILE]

First `evaluate` as a user runs it, all protocols, timed. Then the reference implementations of `prototype/protocol.py`
go through the judge: on the very draw of targets that EVIDENCE.md 1 was measured with, where its figures (read from that
file) must come out; and on some of our own draws, which shows how much a draw decides.
"""

import argparse
import json
import re
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np

from vsat.core.calibration import Spread
from vsat.core.fill import Filled
from vsat.core.protocols import Fold, Target
from vsat.hls import SCALE
from vsat.methods import BEST_CLASSICAL
from vsat.stages.evaluate import Fill, FoldJob, evaluate, evaluate_one, fills_of, judge
from vsat.stages.page import text_table
from vsat.stages.scores import rows as score_rows
from vsat.stages.sources import load_source
from vsat.stages.tally import Tally
from vsat.stages.verdict import Verdict

Run = tuple[Verdict, tuple, float, float]

ROOT = Path(__file__).parents[2]
CUBES = ("flanders-2018", "hls-pixel-logging", "landsat-row-colorado")
COLUMNS = ("linear", "harmonic", "whittaker", "linear+scene", "harmonic+scene")  # of the table in EVIDENCE.md 1
FAMILY = {"dates": "dates", "masks": "partial"}


def main() -> None:
    """Print coverage, headlines, seconds, and what lies beside EVIDENCE.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared")
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cubes", nargs="*", default=CUBES)
    parser.add_argument("--region", action="append", default=[], help="a region file whose scenes are fetched")
    parser.add_argument("--draws", type=int, default=2, help="of our own for the peers, which are slow")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--html", type=Path)
    options = parser.parse_args()
    sources = [*(str(options.shared / "data" / "cubes" / f"{name}.nc") for name in options.cubes), *options.region]
    evidence = read_evidence(options.shared / "EVIDENCE.md")
    runs = {source: timed(source, options) for source in sources}
    print("\n## Coverage of the 90 % intervals, mean over bands\n\n" + coverage(runs))
    print("\n## Ratio to the best classical method\n\n" + ratios(runs))
    print("\n## Seconds of vsat evaluate, all protocols\n\n" + seconds(runs), flush=True)
    if options.json:
        told = {source: json.loads(verdict.to_json()) for source, (verdict, _, _, _) in runs.items()}
        options.json.write_text(json.dumps(told))
    if options.html:
        from vsat.stages.judge_page import page

        for source, (verdict, pictures, _, _) in runs.items():
            options.html.with_name(f"{Path(source).stem}-{options.html.name}").write_text(page(verdict, pictures))
    known = {source: columns_of(evidence, verdict.sources[0]) for source, (verdict, _, _, _) in runs.items()}
    cubes = [source for source, columns in known.items() if columns]
    same = {source: on_its_draw(source, options, known[source]) for source in cubes}
    again = {source: on_our_draws(source, options, known[source]) for source in cubes}
    print("\n## Beside EVIDENCE.md 1: mean over bands of the MAE\n\n" + beside(evidence, runs, same, again))


def timed(source: str, options: argparse.Namespace) -> Run:
    """The verdict on one source, its pictures, wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    verdict, pictures = evaluate([source], folds=options.folds, seed=options.seed, regions_folder=ROOT / "regions")
    return verdict, pictures, time.perf_counter() - wall, time.process_time() - cpu


def on_its_draw(source: str, options: argparse.Namespace, known: set[tuple[str, str]]) -> dict[tuple[str, str], float]:
    """MAE per protocol and method, of peers and of ours, on the targets that protocol.py draws by default."""
    protocol = load_protocol(options.shared)
    (block,) = load_source(source, regions_folder=ROOT / "regions").blocks
    _, _, valid_tyx, time_t = protocol.load(source)
    assert (valid_tyx == block.clear_tyx).all()
    found = {}
    for kind, family in FAMILY.items():
        fills = peers(protocol, kind, known)
        fills |= fills_of([name.removeprefix("peer ") for name in fills])
        tally = Tally()
        for number, (context, masks) in enumerate(protocol.folds(valid_tyx, time_t, family.rstrip("s"), n=2)):
            targets = tuple(Target(int(t), int(block.day_t[t]), mask) for t, mask in sorted(masks.items()))
            fold = Fold(kind, 0, number, context, targets)
            tally.add(evaluate_one(FoldJob(block, fold, fills, next(iter(fills)), 0)).tally if fills else Tally())
        rows = [row for row in score_rows(block.source, (), tally) if row.group == "all" and row.band == "mean"]
        found |= {(row.protocol, row.method): row.mae for row in rows}
    return found


def on_our_draws(
    source: str, options: argparse.Namespace, known: set[tuple[str, str]]
) -> dict[tuple[str, str], list[float]]:
    """The peers' MAE per protocol and method, one for each draw of targets."""
    protocol = load_protocol(options.shared)
    loaded = load_source(source, regions_folder=ROOT / "regions")
    found: dict[tuple[str, str], list[float]] = {}
    for kind in FAMILY:
        fills = peers(protocol, kind, known)
        for seed in range(options.seed, options.seed + options.draws) if fills else ():
            verdict, _ = judge([loaded], fills, methods=tuple(fills), protocols=(kind,), count=1, seed=seed)
            for line in verdict.headlines:
                found.setdefault((line.protocol, line.method), []).append(line.mae)
    return found


def peers(protocol: ModuleType, kind: str, known: set[tuple[str, str]]) -> dict[str, Fill]:
    """The reference implementations for which EVIDENCE.md has a figure; the others are not run, for they are slow."""
    return {f"peer {name}": partial(peer, protocol, name) for name in COLUMNS if (kind, name) in known}


def load_protocol(shared: Path) -> ModuleType:
    """The reference protocol as a module."""
    sys.path.insert(0, str(shared / "prototype"))
    import protocol

    return protocol


def peer(
    protocol: ModuleType,
    name: str,
    refl_tbyx: np.ndarray,
    context_tyx: np.ndarray,
    day_t: np.ndarray,
    query_q: np.ndarray,
    *,
    seed: int,
) -> Filled:
    """A reference implementation with the call of `core.fill.fill`; its intervals have no width."""
    del seed
    refl = np.where(context_tyx[:, None], refl_tbyx * SCALE, np.nan)
    alone = context_tyx & ~np.isin(day_t, query_q)[:, None, None]
    temporal = name.partition("+")[0]
    # as EVIDENCE.md was made: two yearly terms by itself, one below the scene regression
    order = {"order": 1 if name.endswith("+scene") else 2} if temporal == "harmonic" else {}
    solve: Callable[..., np.ndarray] = getattr(protocol, temporal)
    found = solve(refl, alone, day_t.astype(float), query_q.astype(float), **order)
    if name.endswith("+scene"):
        looks = [np.flatnonzero(day_t == day) for day in query_q]
        shown = [max(t.tolist(), key=lambda i: context_tyx[i].sum(), default=0) for t in looks]
        with_day = [protocol.scene_regression(base, refl, context_tyx, i) for base, i in zip(found, shown, strict=True)]
        found = np.stack(with_day)
    found, none = found.astype(np.float32), np.zeros(found.shape, np.float32)
    queries, (height, width) = len(query_q), found.shape[-2:]
    spread = Spread("peer", (), (), (), (), (), (), 0)
    return Filled(
        found, none, found, found, found, found, np.zeros((queries, height, width), np.uint8),
        np.zeros((queries, 3, height, width), np.int16), np.zeros((queries, height, width), np.int32), spread,
    )  # fmt: skip


def read_evidence(path: Path) -> dict[tuple[str, str], tuple[str, ...]]:
    """(cube, family) to the five figures of the table in section 1, "-" where there is none."""
    rows = re.findall(r"^\| ([\w-]+) \| (dates|partial) \| (.+) \|$", path.read_text("utf-8"), re.MULTILINE)
    return {(cube, family): tuple(cell.strip() for cell in cells.split("|")) for cube, family, cells in rows}


def columns_of(evidence: dict[tuple[str, str], tuple[str, ...]], name: str) -> set[tuple[str, str]]:
    """Protocols and columns for which EVIDENCE.md has a figure of this cube."""
    cells = {kind: evidence.get((name, family), ("-",) * len(COLUMNS)) for kind, family in FAMILY.items()}
    return {
        (kind, column)
        for kind, found in cells.items()
        for column, cell in zip(COLUMNS, found, strict=True)
        if cell != "-"
    }


def beside(
    evidence: dict[tuple[str, str], tuple[str, ...]],
    runs: dict[str, Run],
    same: dict[str, dict[tuple[str, str], float]],
    again: dict[str, dict[tuple[str, str], list[float]]],
) -> str:
    """One row per cube, protocol and column of EVIDENCE.md."""
    table = []
    for source, (verdict, _, _, _) in runs.items():
        ours = {(h.protocol, h.method): h.mae for h in verdict.headlines}
        for kind, family in FAMILY.items():
            cells = evidence.get((verdict.sources[0], family), ("-",) * len(COLUMNS))
            for column, cell in (*zip(COLUMNS, cells, strict=True), ("nearest", "-"), (BEST_CLASSICAL, "-")):
                there, draws = same.get(source, {}), again.get(source, {}).get((kind, f"peer {column}"), [])
                figures = (there.get((kind, f"peer {column}")), there.get((kind, column)), ours.get((kind, column)))
                code, own, here = ("-" if mae is None else f"{mae:.4f}" for mae in figures)
                among = f"{min(draws):.4f} to {max(draws):.4f}" if draws else "-"
                if (kind, column) in ours:
                    table.append((verdict.sources[0], kind, column, cell, code, own, among, here))
    header = ("cube", "protocol", "column", "EVIDENCE.md", "its code", "vsat", "its code, our draws", "vsat, our draw")
    return text_table(header, table)


def coverage(runs: dict[str, Run]) -> str:
    """Per cube and method by protocol, and over all its targets; outside .85 to .95 is marked."""
    table = []
    for verdict, _, _, _ in runs.values():
        for method in (*verdict.methods, *verdict.baselines):
            rows = {
                row.protocol: row
                for row in verdict.rows
                if (row.group, row.level, row.method, row.band) == ("all", 0, method, "mean")
            }
            total = sum(row.values for row in rows.values())
            covers = [rows[kind].cover90 if kind in rows else None for kind in verdict.protocols]
            covers.append(sum(row.cover90 * row.values for row in rows.values()) / total)
            cells = ["-" if c is None else f"{c:.3f}{'  ' if 0.85 <= c <= 0.95 else ' !'}" for c in covers]
            table.append((verdict.sources[0], method, *cells))
    return text_table(("cube", "method", *next(iter(runs.values()))[0].protocols, "all"), table)


def ratios(runs: dict[str, Run]) -> str:
    """The headline of each cube."""
    return "\n\n".join(verdict.text() for verdict, _, _, _ in runs.values())


def seconds(runs: dict[str, Run]) -> str:
    """Wall and CPU seconds, and folds."""
    rows = [(v.sources[0], str(v.checked), f"{wall:.0f}", f"{cpu:.0f}") for v, _, wall, cpu in runs.values()]
    return text_table(("source", "folds", "wall s", "CPU s"), rows)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    main()
