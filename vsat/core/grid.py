"""Pixel lattices of HLS tiles, and which tiles own an area. Metres in the tile's own UTM zone; shapes are (y, x)."""

from dataclasses import dataclass

from affine import Affine

from vsat.hls import RESOLUTION_M


@dataclass(frozen=True)
class TileGrid:
    """A window of one MGRS tile's 30 m lattice.

    `x0`, `y0` are the upper-left corner in metres in `epsg` (326zz also in the south, with negative northings, as NASA
    writes it); `height`, `width` in pixels.
    """

    tile: str
    epsg: int
    x0: float
    y0: float
    height: int
    width: int
    resolution_m: float = RESOLUTION_M

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.height, self.width

    @property
    def transform(self) -> Affine:
        """Pixel corner (column, row) to metres."""
        return Affine(self.resolution_m, 0.0, self.x0, 0.0, -self.resolution_m, self.y0)

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """West, south, east, north in metres."""
        return (
            self.x0,
            self.y0 - self.height * self.resolution_m,
            self.x0 + self.width * self.resolution_m,
            self.y0,
        )
