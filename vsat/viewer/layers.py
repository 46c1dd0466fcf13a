"""What a layer shows, in which bands, range and colours: the one place that knows the names in the address."""

from dataclasses import dataclass
from typing import Literal

from vsat.core.indices import INDICES
from vsat.hls import BANDS
from vsat.viewer.palettes import ORIGINS, hexes
from vsat.viewer.problems import Refused

Layer = Literal["virtual", "observed", "sd", "origin", "age", "difference"]
Show = Literal[
    "true-colour", "false-colour", "ndvi", "evi", "ndwi", "nbr", "blue", "green", "red", "nir", "swir1", "swir2"
]
Quantity = Literal["ndvi", "evi", "ndwi", "nbr", "blue", "green", "red", "nir", "swir1", "swir2"]

COMPOSITES = {"true-colour": ("red", "green", "blue"), "false-colour": ("nir", "red", "green")}
WHITE_AT = {"blue": 0.24, "green": 0.24, "red": 0.24, "nir": 0.5, "swir1": 0.4, "swir2": 0.3}  # after the square root
AGE_TOP_DAYS = 64
_VISIBLE = ("blue", "green", "red")
_INDEX_LOW = {"ndvi": -0.2, "evi": -0.2, "ndwi": -0.8, "nbr": -0.5}
_INDEX_TOP = {"ndvi": 1.0, "evi": 1.0, "ndwi": 0.8, "nbr": 1.0}


@dataclass(frozen=True)
class Scale:
    """A continuous layer's range and colours: `ramp` names one of palettes.RAMPS."""

    unit: str
    low: float
    top: float
    ramp: str


def quantity_bands(show: str) -> tuple[str, ...]:
    """The bands that a composite, an index or a band is made of."""
    if show in COMPOSITES:
        return COMPOSITES[show]
    return INDICES[show].bands if show in INDICES else (show,)


def unit_of(show: str) -> str:
    """What the values are: reflectance (0..1), or an index."""
    return "index" if show in INDICES else "reflectance"


def scale_of(layer: str, show: str) -> Scale | None:
    """The scale of a continuous layer; None where the layer is a picture or has classes.

    Raises:
        Refused: the layer has no such show.
    """
    if layer == "origin":
        return None
    if layer == "age":
        return Scale("days to the nearest clear look", 0, AGE_TOP_DAYS, "cividis")
    if show in COMPOSITES:
        if layer in ("virtual", "observed"):
            return None
        raise Refused(422, f"layer {layer} shows one band or index: {', '.join((*BANDS, *INDICES))}")
    if show not in INDICES and show not in BANDS:
        raise Refused(422, f"{show!r} is nothing to show; there are {', '.join((*COMPOSITES, *INDICES, *BANDS))}")
    return _scale(layer, show, is_index=show in INDICES)


def _scale(layer: str, show: str, *, is_index: bool) -> Scale:
    unit = unit_of(show)
    match layer:
        case "sd":
            return Scale(unit, 0, 0.2 if is_index else 0.08, "magma")
        case "difference":
            top = 0.5 if is_index else 0.2
            return Scale(unit, -top, top, "orange-purple")
        case _ if is_index:
            return Scale(unit, _INDEX_LOW[show], _INDEX_TOP[show], "brown-green")
        case _:
            return Scale(unit, 0, 0.25 if show in _VISIBLE else 0.6, "viridis")


def legend(layer: str, show: str) -> dict[str, object]:
    """What the colours of a layer mean.

    Raises:
        Refused: the layer has no such show.
    """
    scale = scale_of(layer, show)
    told: dict[str, object] = {"layer": layer, "show": show, "kind": "continuous", "unit": "", "min": None, "max": None,
                               "colours": [], "classes": []}  # fmt: skip
    if scale is not None:
        return told | {"unit": scale.unit, "min": scale.low, "max": scale.top, "colours": hexes(scale.ramp)}
    if layer == "origin":
        classes = [{"value": value, "label": label, "colour": colour} for value, label, colour in ORIGINS]
        return told | {"kind": "classes", "classes": classes, "unit": "origin"}
    named = zip(("red", "green", "blue"), COMPOSITES[show], ("#ff0000", "#00ff00", "#0000ff"), strict=True)
    classes = [
        {"value": at, "label": f"{channel}: {band}, 0 to {WHITE_AT[band]}", "colour": colour}
        for at, (channel, band, colour) in enumerate(named)
    ]
    return told | {"kind": "classes", "classes": classes, "unit": "reflectance"}
