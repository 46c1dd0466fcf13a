"""How QGIS shows our layers: a `.qml` beside a raster of the same name is its style. Colours tell apart for all eyes.

QGIS applies a file's scale itself, so ranges are in reflectance, in the index's unit, in days.
"""

from collections.abc import Iterable, Sequence
from itertools import product
from typing import TYPE_CHECKING

from vsat.core.quality import CHANGE, EXTRAPOLATED, LOW, NO_VALUE, NONE, SNOW, WATER

if TYPE_CHECKING:
    from vsat.io.variables import Variable

QML = "3.22"  # of QGIS, the oldest that these were tried with
ORIGIN_COLOURS = {0: "#0072b2", 1: "#56b4e9", 2: "#e69f00", 3: "#d55e00", NONE: "#bdb8c2"}  # Okabe and Ito's
ORIGIN_WORDS = {
    0: "observed that day", 1: "clear look within 16 days", 2: "clear look farther off", 3: "prior only", NONE: "no value",
}  # fmt: skip
FLAG_WORDS = {
    EXTRAPOLATED: "extrapolated", SNOW: "snow", WATER: "water", CHANGE: "change suspected", LOW: "low confidence",
}  # fmt: skip
SPREAD = ("#000004", "#56106e", "#bb3754", "#f98c0a", "#fcffa4")  # dark is certain
DRY_TO_GREEN = ("#8c510a", "#d8b365", "#f6e8c3", "#c7eae5", "#5ab4ac", "#01665e")
DRY_TO_WET = ("#a6611a", "#dfc27d", "#f5f5f5", "#92c5de", "#0571b0")
BURNT_TO_GREEN = ("#40004b", "#9970ab", "#f7f7f7", "#a6dba0", "#1b7837")
DAYS = ("#fde725", "#5ec962", "#21918c", "#3b528b", "#440154")
INDEX_RAMPS = {
    "ndvi": (DRY_TO_GREEN, -0.1, 0.9),
    "evi": (DRY_TO_GREEN, -0.1, 0.8),
    "ndwi": (DRY_TO_WET, -0.8, 0.6),
    "nbr": (BURNT_TO_GREEN, -0.5, 0.9),
}
WHITE_AT = 0.24  # reflectance, as in the preview
SD_MOST, INDEX_SD_MOST = 0.08, 0.2
DAYS_MOST = 64
GAMMA = 1.6


def image_styles(bands: Sequence[str]) -> dict[str, bytes]:
    """Style by layer of an image's folder: `sr` in true colour (grey without the three bands), `sd`, `qa`, `origin`, `age`."""
    rgb = [bands.index(name) + 1 if name in bands else 1 for name in ("red", "green", "blue")]
    if not {"red", "green", "blue"} <= set(bands):
        rgb = [1, 1, 1]
    middle = bands.index("nir") + 1 if "nir" in bands else 1
    return {
        "sr": _true_colour(rgb),
        "sd": _ramp(SPREAD, 0.0, SD_MOST, band=middle),
        "qa": _classes((code, ORIGIN_COLOURS[origin], words) for code, origin, words in _codes()),
        "origin": _classes((code, ORIGIN_COLOURS[code], ORIGIN_WORDS[code]) for code in ORIGIN_COLOURS if code != NONE),
        "age": _ramp(DAYS, 0, DAYS_MOST),
    }


def style_of(variable: "Variable") -> bytes | None:
    """The style of an exported variable's first date; None where QGIS's own grey does."""
    if variable.is_sd:
        return _ramp(SPREAD, 0.0, INDEX_SD_MOST if variable.index else SD_MOST)
    if variable.index:
        colours, low, high = INDEX_RAMPS[variable.index]
        return _ramp(colours, low, high)
    if variable.name == "qa":
        return _classes((code, ORIGIN_COLOURS[origin], words) for code, origin, words in _codes())
    if variable.asset == "age" and variable.unit == "day":
        return _ramp(DAYS, 0, DAYS_MOST)
    return None


def _codes() -> Iterable[tuple[int, int, str]]:
    """Every legal quality byte, its origin, and it in words."""
    for origin in (0, 1, 2, 3, NONE):
        for flags in product((0, 1), repeat=len(FLAG_WORDS)):
            raised = [bit for bit, on in zip(FLAG_WORDS, flags, strict=True) if on]
            code = (NO_VALUE if origin == NONE else origin) + sum(raised)
            yield code, origin, ", ".join([ORIGIN_WORDS[origin], *(FLAG_WORDS[bit] for bit in raised)])


def _true_colour(rgb: Sequence[int]) -> bytes:
    stretch = "".join(
        f"<{name}ContrastEnhancement><minValue>0</minValue><maxValue>{WHITE_AT}</maxValue>"
        f"<algorithm>StretchToMinimumMaximum</algorithm></{name}ContrastEnhancement>"
        for name in ("red", "green", "blue")
    )
    bands = " ".join(f'{name}Band="{number}"' for name, number in zip(("red", "green", "blue"), rgb, strict=True))
    return _qml(
        f'<rasterrenderer type="multibandcolor" {bands} alphaBand="-1" opacity="1">{stretch}</rasterrenderer>', GAMMA
    )


def _ramp(colours: Sequence[str], low: float, high: float, *, band: int = 1) -> bytes:
    steps = [low + (high - low) * n / (len(colours) - 1) for n in range(len(colours))]
    items = "".join(
        f'<item value="{value:.6g}" color="{colour}" label="{value:.3g}" alpha="255"/>'
        for value, colour in zip(steps, colours, strict=True)
    )
    span = f'minimumValue="{low}" maximumValue="{high}"'
    shader = f'<colorrampshader colorRampType="INTERPOLATED" classificationMode="1" clip="0" {span}>{items}</colorrampshader>'
    given = f'band="{band}" classificationMin="{low}" classificationMax="{high}" alphaBand="-1" opacity="1"'
    told = f"<rastershader>{shader}</rastershader>"
    return _qml(f'<rasterrenderer type="singlebandpseudocolor" {given}>{told}</rasterrenderer>')


def _classes(classes: Iterable[tuple[int, str, str]]) -> bytes:
    entries = "".join(
        f'<paletteEntry value="{value}" color="{colour}" label="{label}" alpha="255"/>'
        for value, colour, label in classes
    )
    palette = f"<colorPalette>{entries}</colorPalette>"
    return _qml(f'<rasterrenderer type="paletted" band="1" alphaBand="-1" opacity="1">{palette}</rasterrenderer>')


def _qml(renderer: str, gamma: float = 1.0) -> bytes:
    lines = [
        "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>",
        f'<qgis version="{QML}" styleCategories="Symbology">',
        f'<pipe>{renderer}<brightnesscontrast brightness="0" contrast="0" gamma="{gamma}"/></pipe>',
        "<blendMode>0</blendMode>",
        "</qgis>",
    ]
    return ("\n".join(lines) + "\n").encode()
