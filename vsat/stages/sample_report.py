"""What a patch store holds, for people: counts of what was wanted and drawn, and the strata on a map.

Axes: y, x pixels of a tile's window; n patches.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsat.core.sampling import Strata
from vsat.core.splits import SPLITS
from vsat.hls import BANDS, RESOLUTION_M
from vsat.io.durable import put_file
from vsat.io.patch_reader import PatchStore
from vsat.io.sealed import sealed_page
from vsat.io.zarr_json import Json
from vsat.stages.page import render
from vsat.stages.sample_map import strata_map
from vsat.stages.survey import Place

MOST_BYTES = 170_000  # of a picture: Prefect shows artifacts up to about 200 kB
MOST_ROWS = 60  # of the strata's table in Markdown: the scarcest; the page has them all


@dataclass(frozen=True)
class StratumRow:
    """One stratum: in words, candidates there were, patches wanted by the allocation, patches drawn."""

    label: str
    available: int
    wanted: int
    drawn: int

    @property
    def is_scarce(self) -> bool:
        """Fewer were drawn than wanted: the others were too much like those."""
        return self.drawn < self.wanted


@dataclass(frozen=True)
class SampleReport:
    """A patch store as it is after a run.

    Attributes:
        out: its folder.
        patches, parts: in all; `new` of them by this run.
        asked: patches asked for, over all draws.
        candidates, in_buffers, thinned: windows to draw from, left out between splits, passed over as near-duplicates.
        splits, strata, tiles: counts of patches.
        looks: (least, mean, most) in a patch.
        size_px: side.
        raw_bytes, stored_bytes: of the patches without padding, and on the disk.
        stale: patches with a scene that has been revised since.
        statistics: per band of the train split's clear pixels.
        maps: per tile a picture of the strata, SVG.
        notes: what else there is to know.
    """

    out: str
    patches: int
    new: int
    parts: int
    asked: int
    candidates: int
    in_buffers: int
    thinned: int
    splits: dict[str, int]
    strata: tuple[StratumRow, ...]
    tiles: dict[str, int]
    looks: tuple[int, float, int]
    size_px: int
    raw_bytes: int
    stored_bytes: int
    stale: int
    statistics: dict[str, Json]
    maps: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]

    def text(self) -> str:
        """The counts, to print."""
        scarce = [row for row in self.strata if row.is_scarce]
        lines = [
            f"{self.out}: {self.patches} patches of {self.size_px} px, {self.new} of them new",
            f"strata    {sum(row.drawn > 0 for row in self.strata)} of {len(self.strata)} drawn from, {len(scarce)} scarce",
            f"splits    {', '.join(f'{count} {name}' for name, count in self.splits.items())}",
            f"looks     {self.looks[0]} to {self.looks[2]} in a patch, {self.looks[1]:.1f} in the mean",
            f"disk      {self.stored_bytes / 1e6:.0f} MB, {self.stored_bytes / max(1, self.raw_bytes):.2f} of the raw bytes",
            f"left out  {self.in_buffers} windows between splits, {self.thinned} near-duplicates",
            *self.notes,
            f"report    {Path(self.out) / 'report.html'}",
        ]
        return "\n".join(lines)


def report_of(out: Path, places: Sequence[Place], *, kept: bool) -> SampleReport:
    """The report of a finished store.

    Args:
        out: its folder.
        places: the cubes as they are now.
        kept: True where this run has drawn nothing.
    """
    store = PatchStore(out)
    manifest, draws = store.manifest, store.manifest["draws"]
    splits = {name: int((store.split_n == i).sum()) for i, name in enumerate(SPLITS)}
    count_n = store.column("count")
    size = {name: sum(part[name] for part in manifest["parts"]) for name in ("raw_bytes", "stored_bytes")}
    stale = _stale(store, places)
    tiles = _tile_of(store)
    return SampleReport(
        out=str(out),
        patches=len(store),
        new=0 if kept else int(manifest["parts"][-1]["patches"]),
        parts=len(manifest["parts"]),
        asked=sum(draw["asked"] for draw in draws),
        candidates=sum(draw["candidates"] for draw in draws),
        in_buffers=sum(draw["in_buffers"] for draw in draws),
        thinned=sum(draw["thinned"] for draw in draws),
        splits=splits,
        strata=_rows(manifest),
        tiles={name: int((tiles == name).sum()) for name in sorted(set(tiles))},
        looks=(int(count_n.min()), float(count_n.mean()), int(count_n.max())),
        size_px=store.size_px,
        **size,
        stale=stale,
        statistics=manifest["statistics"],
        maps=tuple((place.name, _map(store, place, tiles)) for place in places if place.name in tiles),
        notes=_notes(manifest, splits, stale),
    )


def write_report(out: Path, report: SampleReport) -> None:
    """The report lies beside the patches as `report.html` and `report.md`."""
    put_file(out / "report.html", sealed_page(html(report)))
    put_file(out / "report.md", sealed_page(markdown(report)))


def html(report: SampleReport) -> str:
    """The report as one page that needs nothing else."""
    return render("sample.html", report=report, bands=BANDS, rows=sorted(report.strata, key=_scarcest))


def markdown(report: SampleReport) -> str:
    """The report as Markdown with the first tile's map, below 200 kB: for Prefect."""
    rows = sorted(report.strata, key=_scarcest)[:MOST_ROWS]
    cells = [(row.label, row.available, row.wanted, row.drawn) for row in rows]
    more = (
        f"\n\n{len(report.strata) - len(rows)} more strata are on the page." if len(report.strata) > len(rows) else ""
    )
    figures = [
        (band, f"{one['median']:.4f}", f"{one['sd']:.4f}", f"{one['p01']:.4f}", f"{one['p99']:.4f}")
        for band, one in report.statistics.items()
        if one["median"] is not None
    ]
    blocks = [
        f"# Patches: {report.patches}",
        "\n".join(f"    {line}" for line in report.text().splitlines()),
        *_picture(report),
        "## Strata, the scarcest first",
        _table(("stratum", "candidates", "wanted", "drawn"), cells) + more,
        "## Train split, clear pixels, reflectance",
        _table(("band", "median", "sd", "1 %", "99 %"), figures),
    ]
    return "\n\n".join(blocks) + "\n"


def _picture(report: SampleReport) -> list[str]:
    """The first tile's map, unless it alone would be too much for an artifact."""
    for name, svg in report.maps[:1]:
        uri = "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
        if len(uri) < MOST_BYTES:
            return [f"## {name}", f"![maps of the strata]({uri})"]
    return []


def _scarcest(row: StratumRow) -> tuple[float, str]:
    return (row.drawn - row.wanted, row.label)


def _table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _rows(manifest: Json) -> tuple[StratumRow, ...]:
    """All draws together."""
    strata = Strata(tuple(manifest["strata"]["names"]), tuple(tuple(edges) for edges in manifest["strata"]["edges"]))
    total: dict[int, NDArray[np.int64]] = {}
    for draw in manifest["draws"]:
        for number, *counts in draw["strata"]:
            total[number] = total.get(number, np.zeros(3, np.int64)) + np.array(counts)
    return tuple(StratumRow(strata.label(number), *map(int, counts)) for number, counts in sorted(total.items()))


def _notes(manifest: Json, splits: dict[str, int], stale: int) -> tuple[str, ...]:
    notes = []
    asked, drawn = (sum(draw[name] for draw in manifest["draws"]) for name in ("asked", "drawn"))
    if drawn < asked:
        notes.append(f"{asked - drawn} patches fewer than asked for: no other window is different enough")
    shares = manifest["options"]["split"]
    for name, count in splits.items():
        if not count and (name == "train" or shares[f"{name}_share"] > 0):
            notes.append(f"no {name} patch: no window lies wholly in such a block; try smaller --block and --buffer")
    if stale:
        notes.append(f"{stale} patches hold a scene that has been revised since; draw them anew into another folder")
    return tuple(notes)


def _stale(store: PatchStore, places: Sequence[Place]) -> int:
    """Patches with a scene whose signature is not that of the draw any more."""
    now = {(place.name, key): signature for place in places for key, _, signature in place.scenes}
    count = 0
    for part in store.parts:
        about = part.attributes
        names = [f"{tile['region']}/{tile['tile']}" for tile in about["tiles"] for _ in range(tile["scenes"])]
        drawn = zip(names, about["scenes"], about["signatures"], strict=True)
        revised = np.array([now.get((name, key), then) != then for name, key, then in drawn] + [False])  # -1: padding
        count += int(revised[part.columns["scene"]].any(axis=1).sum())
    return count


def _tile_of(store: PatchStore) -> NDArray[Any]:
    names = [
        np.array([f"{tile['region']}/{tile['tile']}" for tile in part.attributes["tiles"]])[part.columns["tile"]]
        for part in store.parts
    ]
    return np.concatenate(names)


def _map(store: PatchStore, place: Place, tile_n: NDArray[Any]) -> str:
    """The strata of one tile on a map."""
    here, grid = tile_n == place.name, place.grid
    names = store.parts[0].attributes["features"]
    return strata_map(
        grid.shape,
        left_n=(store.column("x")[here] - grid.x0) / RESOLUTION_M,
        top_n=(grid.y0 - store.column("y")[here]) / RESOLUTION_M,
        size_px=store.size_px,
        split_n=store.split_n[here],
        features=dict(zip(names, store.column("features")[here].T, strict=True)),
        title=place.name,
    )


def as_json(report: SampleReport) -> str:
    """The report without its maps as one JSON object."""
    return json.dumps({key: value for key, value in asdict(report).items() if key != "maps"})
