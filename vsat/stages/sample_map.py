"""The strata of a tile on a map: where patches lie, in which split, and what the ground under them is like."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vsat.core.splits import SPLITS

MOST_CELLS = 120  # a side
SPLIT_COLOURS = ("#4477aa", "#ddaa33", "#bb5566")  # Paul Tol's high contrast: told apart by anyone
TITLES = {
    "clear": "clear share of looks",
    "gap": "longest gap, days",
    "greenness": "mean NDVI",
    "amplitude": "NDVI's range over time",
    "brightness": "mean reflectance",
    "heterogeneity": "NDVI's spread in space",
    "sensors": "share of S30 looks",
}


def strata_map(
    shape: tuple[int, int],
    *,
    left_n: NDArray[np.float64],
    top_n: NDArray[np.float64],
    size_px: int,
    split_n: NDArray[np.uint8],
    features: Mapping[str, NDArray[np.float32]],
    title: str,
) -> str:
    """An SVG element with a panel for the splits, one for how many patches lie where, and one for each feature.

    Args:
        shape: rows and columns of the tile's window.
        left_n, top_n: patches' upper-left corners in pixels of the window.
        size_px: their side.
        split_n: index into SPLITS.
        features: values per patch; "season" has no place and is left out.
        title: of the picture, for readers who cannot see it.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch as Swatch

    mpl.rcParams.update({"svg.hashsalt": "vsat", "svg.fonttype": "none", "font.size": 9})
    shown = {name: values for name, values in features.items() if name != "season"}
    columns = 3
    rows = -(-(len(shown) + 2) // columns)
    figure = Figure(figsize=(3.3 * columns, 3.1 * rows * max(0.6, min(1.4, shape[0] / shape[1]))), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    cover = [_spread(shape, left_n, top_n, size_px, np.ones(left_n.size), split_n == i) for i in range(len(SPLITS))]
    extent = (0, shape[1] * 0.03, shape[0] * 0.03, 0)
    _splits(panels[0], cover, extent)
    panels[0].set_title("splits")
    present = [
        Swatch(color=SPLIT_COLOURS[i], label=f"{name} {int((split_n == i).sum())}") for i, name in enumerate(SPLITS)
    ]
    panels[0].legend(handles=present, fontsize=7, loc="lower left", framealpha=0.9)
    total = np.sum(cover, axis=0)
    images = [("patches over a place", np.where(total > 0, total, np.nan))]
    for name, values in shown.items():
        known = np.isfinite(values)
        summed = _spread(shape, left_n, top_n, size_px, np.where(known, values, 0), known)
        count = _spread(shape, left_n, top_n, size_px, np.ones(left_n.size), known)
        with np.errstate(invalid="ignore", divide="ignore"):
            images.append((TITLES.get(name, name), summed / count))
    for panel, (name, image) in zip(panels[1:], images, strict=False):
        shade = panel.imshow(image, extent=extent, cmap="viridis", interpolation="nearest", rasterized=True)
        panel.set_title(name)
        figure.colorbar(shade, ax=panel, shrink=0.8)
    for panel in panels[len(images) + 1 :]:
        panel.set_visible(False)
    for panel in panels:
        panel.set_xticks([0, round(extent[1], 1)], ["0", f"{extent[1]:.1f} km"])
        panel.set_yticks([])
        panel.set_facecolor("#d6d1db")
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Title": f"strata of {title}"}, dpi=110)
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def _splits(panel: Any, cover: list[NDArray[np.float64]], extent: tuple[float, float, float, float]) -> None:
    """Each place in the colour of its split; different splits never share a place."""
    from matplotlib.colors import to_rgba

    image = np.zeros((*cover[0].shape, 4))
    for colour, count in zip(SPLIT_COLOURS, cover, strict=True):
        image[count > 0] = to_rgba(colour)
    panel.imshow(image, extent=extent, interpolation="nearest", rasterized=True)


def _spread(
    shape: tuple[int, int],
    left_n: NDArray[np.float64],
    top_n: NDArray[np.float64],
    size_px: int,
    values_n: NDArray[np.floating],
    use_n: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Sums of values over the patches that cover each cell of a coarse grid."""
    cell = max(1, -(-max(shape) // MOST_CELLS))
    total = np.zeros((-(-shape[0] // cell) + 1, -(-shape[1] // cell) + 1))
    top, left = (np.rint(side[use_n] / cell).astype(int) for side in (top_n, left_n))
    side = max(1, round(size_px / cell))
    for sign, y, x in ((1, 0, 0), (-1, side, 0), (-1, 0, side), (1, side, side)):
        at = np.minimum(top + y, total.shape[0] - 1), np.minimum(left + x, total.shape[1] - 1)
        np.add.at(total, at, sign * values_n[use_n])
    return np.asarray(total.cumsum(axis=0).cumsum(axis=1)[:-1, :-1])
