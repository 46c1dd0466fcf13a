"""The shapes of the API's answers, for its documentation; the answers themselves are built as plain values."""

from typing import Any, Literal

from pydantic import BaseModel, Field

Share = Field(ge=0, le=1)


class RegionSummary(BaseModel):
    """A region: where it lies, and what there is of it."""

    id: str
    bounds: list[float] = Field(description="west, south, east, north in degrees", min_length=4, max_length=4)
    tiles: list[str]
    bands: list[str]
    method: str
    images: int
    first: str | None
    last: str | None


class Regions(BaseModel):
    """All regions that are served."""

    regions: list[RegionSummary]


class DateSummary(BaseModel):
    """A date with virtual images."""

    date: str
    status: Literal["final", "provisional", "mixed"]
    tiles: list[str]
    observed: float = Field(ge=0, le=1, description="share of pixels with a clear look that day")


class LookSummary(BaseModel):
    """A real look of a satellite."""

    date: str
    tile: str
    sensor: Literal["L30", "S30"]
    clear: float | None = Field(ge=0, le=1, description="share of its pixels that are clear")


class RegionDetail(RegionSummary):
    """A region with all its dates and looks."""

    dates: list[DateSummary]
    looks: list[LookSummary]


class LegendClass(BaseModel):
    """One colour with its meaning."""

    value: int
    label: str
    colour: str


class Legend(BaseModel):
    """What the colours of a layer mean."""

    layer: str
    show: str
    kind: Literal["continuous", "classes"]
    unit: str
    min: float | None
    max: float | None
    colours: list[str]
    classes: list[LegendClass]


class Observation(BaseModel):
    """A look at the pixel."""

    date: str
    sensor: Literal["L30", "S30"]
    value: float | None
    clear: bool
    why: Literal["cloud", "shadow", "adjacent", "snow", "no data"] | None


class Virtual(BaseModel):
    """A virtual value of the pixel; quantiles are those of a normal distribution with this standard deviation."""

    date: str
    value: float | None
    sd: float | None
    q05: float | None
    q25: float | None
    q75: float | None
    q95: float | None
    origin: int | None = Field(ge=0, le=3, description="0 observed that day .. 3 prior only")
    status: str
    low_confidence: bool


class Series(BaseModel):
    """A pixel through time."""

    region: str
    tile: str
    lon: float
    lat: float
    row: int
    col: int
    show: str
    unit: Literal["reflectance", "index"]
    observed: list[Observation]
    virtual: list[Virtual]


class AreaDate(BaseModel):
    """An area on one date."""

    date: str
    values: int = Field(description="pixels with a value")
    mean: float | None
    sd: float | None = Field(description="of the mean, if all pixels' errors were one: an upper bound")
    sd_independent: float | None = Field(description="of the mean, if no two pixels' errors had to do: a lower bound")
    p10: float | None
    p90: float | None
    origins: list[float] = Field(description="shares of the values with origin 0..3", min_length=4, max_length=4)


class Statistics(BaseModel):
    """An area through time."""

    region: str
    show: str
    unit: Literal["reflectance", "index"]
    pixels: int
    hectares: float
    dates: list[AreaDate]


class Night(BaseModel):
    """What the last night did."""

    day: str
    outcome: str
    exit_code: int
    message: str
    counts: dict[str, int]


class Status(BaseModel):
    """The grid of tiles and dates, and the last night."""

    region: str
    tiles: list[str]
    dates: list[str]
    grid: list[list[Literal["final", "provisional", "stale", "missing"]]] = Field(description="a row per date")
    night: Night | None
    watermark: str | None


class Json(BaseModel):
    """A document whose shape another standard describes."""

    model_config = {"extra": "allow"}

    type: str | None = None
    links: list[dict[str, Any]] | None = None
