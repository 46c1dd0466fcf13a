"""Draws docs/architecture.svg: what goes where in vsat, from the catalogue to whoever looks at an image.

    python docs/draw_architecture.py [--out docs/architecture.svg]

The picture is made of the boxes and arrows below; the same script gives the same bytes.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 1000, 560
INK, SOFT, PAPER = "#1f2a33", "#56646f", "#ffffff"
FILLS = {"outside": "#eef1f4", "stage": "#d8e8f6", "store": "#fbeccb", "model": "#e3dcf4", "people": "#dcefdd"}


@dataclass(frozen=True)
class Box:
    """A box with a title and a few words; `x`, `y` is its upper-left corner."""

    title: str
    words: tuple[str, ...]
    kind: str
    x: int
    y: int
    width: int = 170
    height: int = 78

    def side(self, name: str) -> tuple[int, int]:
        """The middle of one of its sides: left, right, top or bottom."""
        across = {"left": 0, "right": self.width, "top": self.width // 2, "bottom": self.width // 2}[name]
        down = {"left": self.height // 2, "right": self.height // 2, "top": 0, "bottom": self.height}[name]
        return self.x + across, self.y + down


BOXES = {
    "catalogue": Box("catalogue", ("NASA, Microsoft, any", "STAC, or a folder here"), "outside", 20, 150),
    "fetch": Box("fetch", ("find, read, verify,", "merge: one scene a job"), "stage", 220, 150),
    "cube": Box("cube", ("Zarr, by tile and year;", "a scene is an object"), "store", 420, 150),
    "generate": Box("generate", ("fill the gaps of a month's", "dates, with uncertainty"), "stage", 620, 150),
    "images": Box("virtual images", ("COG a band, sd, qa,", "age; static STAC"), "store", 815, 150, 165),
    "sample": Box("sample", ("stratified patches, split", "by place and time"), "stage", 420, 300),
    "patches": Box("patches", ("Zarr, immutable",), "store", 420, 430),
    "train": Box("train", ("synthetic records and", "patches; calibration"), "model", 220, 430),
    "checkpoint": Box("checkpoint", ("weights, calibration;", "promoted when better"), "model", 220, 300),
    "evaluate": Box("evaluate", ("hide what was seen,", "fill it, compare"), "stage", 620, 430),
    "people": Box("people, programs", ("map, curves, QGIS,", "STAC, xarray, export"), "people", 815, 300, 165),
    "fill": Box("fill", ("a cube of one's own,", "no region, no server"), "stage", 620, 300),
}
# from, side, to, side; an arrow goes straight, or around one corner
ARROWS = (
    ("catalogue", "right", "fetch", "left"),
    ("fetch", "right", "cube", "left"),
    ("cube", "right", "generate", "left"),
    ("generate", "right", "images", "left"),
    ("cube", "bottom", "sample", "top"),
    ("sample", "bottom", "patches", "top"),
    ("patches", "left", "train", "right"),
    ("train", "top", "checkpoint", "bottom"),
    ("patches", "right", "evaluate", "left"),
    ("images", "bottom", "people", "top"),
    ("fill", "right", "people", "left"),
)
TITLE = "From the catalogue to virtual images, and what stands beside that path"


def drawing() -> str:
    """The picture as SVG."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="t d" '
        'font-family="system-ui, sans-serif">',
        f'<title id="t">{TITLE}</title>',
        f'<desc id="d">{escape(_in_words())}</desc>',
        '<defs><marker id="tip" markerWidth="9" markerHeight="8" refX="8" refY="4" orient="auto">'
        f'<path d="M0 0L9 4L0 8z" fill="{INK}"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="{PAPER}"/>',
        *_band(20, 14, 960, 84, "Prefect flows: nightly 07:30 UTC, backfill when asked, retrain each week once turned on",
               "they plan, hand each stage its jobs, on threads or a Dask cluster, and tell how it ended; "
               "without them: vsat nightly"),
        *_band(408, 116, 582, 124, "", ""),
        _text(420, 137, "&lt;store&gt;/&lt;region&gt;: a folder or a bucket; a ledger lists what is finished", SOFT, 12),
        *(_box(box) for box in BOXES.values()),
        *(_arrow(BOXES[src].side(out), BOXES[dst].side(into)) for src, out, dst, into in ARROWS),
        # the checkpoint fills: up between the rows, then along them
        _path([(390, 339), (405, 339), (405, 283), (705, 283), (705, 230)], dashed=True),
        _path([(705, 283), (705, 298)], dashed=True),
        _text(20, 538, "arrows: what is read by what comes next; dashed: the model, where the method is anydate", SOFT, 12),
    ]  # fmt: skip
    return "\n".join(part for part in parts if part) + "\n</svg>\n"


def _in_words() -> str:
    steps = [f"{BOXES[src].title} to {BOXES[dst].title}" for src, _, dst, _ in ARROWS]
    return "; ".join([*steps, "checkpoint to generate and fill"]) + "."


def _box(box: Box) -> str:
    lines = [
        f'<rect x="{box.x}" y="{box.y}" width="{box.width}" height="{box.height}" rx="6" fill="{FILLS[box.kind]}" stroke="{INK}"/>',
        _text(box.x + 10, box.y + 24, box.title, INK, 15, bold=True),
        *(_text(box.x + 10, box.y + 45 + 17 * n, escape(words), SOFT, 12) for n, words in enumerate(box.words)),
    ]
    return "\n".join(line for line in lines if line)


def _band(x: int, y: int, width: int, height: int, title: str, words: str) -> list[str]:
    frame = f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="none" stroke="{SOFT}" stroke-dasharray="2 3"/>'
    return [
        frame,
        _text(x + 14, y + 40, escape(title), INK, 15, bold=True),
        _text(x + 14, y + 64, escape(words), SOFT, 13),
    ]


def _arrow(start: tuple[int, int], end: tuple[int, int]) -> str:
    return _path([start, end])


def _path(points: list[tuple[int, int]], *, dashed: bool = False) -> str:
    way = "M" + "L".join(f"{x} {y}" for x, y in points)
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    return f'<path d="{way}" fill="none" stroke="{INK}" stroke-width="1.5" marker-end="url(#tip)"{dash}/>'


def _text(x: int, y: int, words: str, colour: str, size: int, *, bold: bool = False) -> str:
    weight = ' font-weight="600"' if bold else ""
    return f'<text x="{x}" y="{y}" font-size="{size}" fill="{colour}"{weight}>{words}</text>' if words else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("architecture.svg"))
    given = parser.parse_args()
    given.out.write_text(drawing(), "utf-8")
    print(given.out)


if __name__ == "__main__":
    main()
