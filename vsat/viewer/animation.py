"""The virtual images of some dates as one moving picture, the date written on each."""

import io
from datetime import date

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from vsat.viewer.holdings import Holdings, Shelf
from vsat.viewer.mercator import View, box_view
from vsat.viewer.picture import Asked, draw, sources_of
from vsat.viewer.problems import Refused

MOST_FRAMES = 120
MOST_PX = 1024  # of either side
_MOST_TOTAL_PX = 48_000_000  # of all frames together, a byte each in memory
FRAME_MS = 350
_GROUND = (214, 209, 219)
_INK, _PAPER = (20, 18, 24), (250, 249, 252)


def frames_of(held: Holdings, view: View, start: date | None, end: date | None) -> tuple[list[date], int]:
    """The days that are shown, evenly chosen where there are too many, and how many there are.

    Raises:
        Refused: there is none.
    """
    days = held.between(start, end)
    if not days:
        raise Refused(404, "there is no virtual image from start to end; the region's dates say which there are")
    most = max(1, min(MOST_FRAMES, _MOST_TOTAL_PX // (view.height * view.width)))
    chosen = np.unique(np.linspace(0, len(days) - 1, min(most, len(days))).round().astype(int))
    return [days[at] for at in chosen.tolist()], len(days)


def frame_view(bounds: tuple[float, float, float, float], width: int) -> View:
    """The window of a box, `width` pixels wide, or less where it would be higher than MOST_PX.

    Raises:
        Refused: it is too narrow to be a picture.
    """
    view = box_view(bounds, width)
    if view.height > MOST_PX:
        view = box_view(bounds, max(1, width * MOST_PX // view.height))
    if min(view.width, view.height) < 8 or view.height > MOST_PX:
        raise Refused(422, "bbox: the box is too narrow for a picture; give one that is nearer to a square")
    return view


def gif(shelf: Shelf, held: Holdings, show: str, view: View, days: list[date]) -> bytes:
    """The animation as GIF; it goes on for ever.

    Raises:
        Refused: the region lacks a band.
    """

    def frame(day: date) -> Image.Image:
        asked = Asked("virtual", show, day)
        picture = draw(shelf, asked, sources_of(shelf, held, asked), view).convert("RGBA")
        ground = Image.new("RGB", picture.size, _GROUND)
        ground.paste(picture, mask=picture)
        _write(ground, day.isoformat())
        return ground.quantize(256, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)

    first, *others = shelf.pool.map(frame, days)
    buffer = io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=others, duration=FRAME_MS, loop=0, optimize=False)
    return buffer.getvalue()


def _write(picture: Image.Image, text: str) -> None:
    """The text in the lower left corner, on paper, so that it is read on any ground."""
    size = max(10, min(28, picture.width // 22))
    font, brush = ImageFont.load_default(size), ImageDraw.Draw(picture)
    left, top, right, bottom = brush.textbbox((0, 0), text, font=font)
    pad = size // 3
    x, y = pad, picture.height - (bottom - top) - 3 * pad
    brush.rectangle((x, y, x + right - left + 2 * pad, y + bottom - top + 2 * pad), fill=_PAPER)
    brush.text((x + pad - left, y + pad - top), text, fill=_INK, font=font)
