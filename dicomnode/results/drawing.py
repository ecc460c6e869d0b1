"""A summary picture: planes with what was found laid over them, and a table, in 8-bit RGB."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from dicomnode.results.codes import RESEARCH_ONLY
from dicomnode.results.planes import Plane
from dicomnode.results.summary import Colour, Row, plain

WIDTH = 1200
_MARGIN = 18
_TOP = 62
_LINE = 26
_ROWS_OF_A_COLUMN = 14
_COLUMNS = 2
_WINDOW = (1.0, 99.5)
"""The percentiles that become black and white where nobody has named a window: of the intensities other than
0 and the lowest, which are background and padding."""
_OPACITY = 0.45
_BLACK, _WHITE, _RED, _AMBER = (0, 0, 0), (255, 255, 255), (200, 30, 30), (255, 190, 60)


@dataclass(frozen=True, slots=True)
class MarkStyle:
    """How marks of a name are drawn; `closed`: their last point is joined to the first."""

    colour: Colour
    closed: bool


Picture = NDArray[np.uint8]
"""Shape (rows, columns, 3): RGB."""


def draw(
    title: str,
    planes: Sequence[Plane],
    rows: Sequence[Row],
    colours: Mapping[int, Colour],
    mark_styles: Mapping[str, MarkStyle],
    *,
    research_only: bool,
    window: tuple[float, float] | None = None,
) -> Picture:
    """Each plane as it is and, below, with its labels in `colours`; then as many rows as have room.

    `colours` are by label, `mark_styles` by the name of a mark. `window` is what becomes black and white.
    """
    shown = rows[: _ROWS_OF_A_COLUMN * _COLUMNS]
    lines = min(len(shown), _ROWS_OF_A_COLUMN) + (len(rows) > len(shown))
    # One plane alone has its overlay beside it, several have theirs below.
    across = max(len(planes), 2)
    panel = (WIDTH - (across + 1) * _MARGIN) // across
    bottom = _TOP + (panel + _MARGIN) * (2 if len(planes) > 1 else 1)
    canvas, pen = _canvas(title, bottom + lines * _LINE + 2 * _MARGIN)
    black, white = window or _levels([plane.image for plane in planes])
    for column, plane in enumerate(planes):
        left = _MARGIN + column * (panel + _MARGIN)
        beside = (left, _TOP + panel + _MARGIN) if len(planes) > 1 else (left + panel + _MARGIN, _TOP)
        grey = np.clip((plane.image - black) / (white - black), 0, 1)
        plain = np.repeat((grey * 255).astype(np.uint8)[..., None], 3, axis=2)
        _panel(canvas, pen, plane, plain, (left, _TOP, panel), {})
        overlaid = _overlaid(plain, plane.labels, colours)
        _panel(canvas, pen, plane, overlaid, (*beside, panel), mark_styles)
    _table(pen, shown, bottom)
    if len(rows) > len(shown):
        pen.text(
            (_MARGIN, bottom + (lines - 1) * _LINE), f"and {len(rows) - len(shown)} more", _AMBER, _font(17)
        )
    if research_only:
        _warn(pen)
    return np.asarray(canvas)


def draw_notice(lines: Sequence[str], *, research_only: bool) -> Picture:
    """The lines as they are, for a destination that shows pictures alone."""
    wrapped = [part for line in lines for part in [*_wrapped(plain(line), 90), ""]]
    canvas, pen = _canvas("AI DID NOT RUN", 80 + 34 * len(wrapped))
    for number, line in enumerate(wrapped):
        pen.text((_MARGIN, 76 + 34 * number), line, _WHITE, _font(24))
    if research_only:
        _warn(pen)
    return np.asarray(canvas)


def _canvas(title: str, height: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    canvas = Image.new("RGB", (WIDTH, height))
    pen = ImageDraw.Draw(canvas)
    pen.text((_MARGIN, 14), title, _WHITE, _font(28))
    return canvas, pen


def _warn(pen: ImageDraw.ImageDraw) -> None:
    font = _font(26)
    width = pen.textlength(RESEARCH_ONLY, font)
    pen.rectangle((WIDTH - _MARGIN - width - 24, 10, WIDTH - _MARGIN, 52), fill=_RED)
    pen.text((WIDTH - _MARGIN - width - 12, 15), RESEARCH_ONLY, _WHITE, font)


def _levels(images: Sequence[NDArray[np.float32]]) -> tuple[float, float]:
    lowest = min(float(image.min()) for image in images)
    values = np.concatenate([image[(image != 0) & (image != lowest)] for image in images])
    if not values.size:
        return 0.0, 1.0
    black, white = (float(level) for level in np.percentile(values, _WINDOW))
    return black if black < white else white - 1.0, white


def _overlaid(plain: Picture, labels: NDArray[np.uint8], colours: Mapping[int, Colour]) -> Picture:
    mixed = plain.astype(np.float64)
    for label, colour in colours.items():
        inside = labels == label
        mixed[inside] = (1 - _OPACITY) * mixed[inside] + _OPACITY * np.array(colour)
    return mixed.astype(np.uint8)


def _panel(
    canvas: Image.Image,
    pen: ImageDraw.ImageDraw,
    plane: Plane,
    pixels: Picture,
    square: tuple[int, int, int],
    mark_styles: Mapping[str, MarkStyle],
) -> None:
    """In its true proportions in the middle of `square` (left, top, side); marks as crosses and lines."""
    left, top, side = square
    scale = side / max(plane.mm)
    height, width = (max(1, round(length * scale)) for length in plane.mm)
    x, y = left + (side - width) // 2, top + (side - height) // 2
    canvas.paste(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR), (x, y))
    rows, columns = plane.image.shape
    for name, points in plane.points:
        if name in mark_styles:
            at = [(x + (c + 0.5) * width / columns, y + (r + 0.5) * height / rows) for r, c in points]
            _mark(pen, at, mark_styles[name])
    middle, end = side // 2, side - 18
    for words, (right, down) in zip(
        (plane.title, *plane.edges),
        ((4, end), (4, middle), (end, middle), (middle, 2), (middle, end)),
        strict=True,
    ):
        # Outlined: what lies under it may be of any grey, and the side must be readable on all.
        place = (left + right, top + down)
        pen.text(place, words, _WHITE, _font(16), stroke_width=2, stroke_fill=_BLACK)


def _mark(pen: ImageDraw.ImageDraw, at: Sequence[tuple[float, float]], style: MarkStyle) -> None:
    if len(at) > 1:
        pen.line([*at, at[0]] if style.closed else list(at), style.colour, 2)
        return
    (x, y), reach = at[0], 7
    pen.line([(x - reach, y), (x + reach, y)], style.colour, 2)
    pen.line([(x, y - reach), (x, y + reach)], style.colour, 2)


def _table(pen: ImageDraw.ImageDraw, rows: Sequence[Row], top: int) -> None:
    width = (WIDTH - 2 * _MARGIN) // (_COLUMNS if len(rows) > _ROWS_OF_A_COLUMN else 1)
    for number, row in enumerate(rows):
        column, line = divmod(number, _ROWS_OF_A_COLUMN)
        left, y = _MARGIN + column * width, top + line * _LINE
        if row.colour:
            pen.rectangle((left, y + 4, left + 14, y + 18), fill=row.colour)
        pen.text(
            (left + 24, y),
            _fitting(pen, plain(f"{row.thing}: {row.words}"), width - 40),
            _WHITE,
            _font(18),
        )


def _fitting(pen: ImageDraw.ImageDraw, text: str, width: float) -> str:
    if pen.textlength(text, _font(18)) <= width:
        return text
    while text and pen.textlength(text + "…", _font(18)) > width:
        text = text[:-1]
    return text + "…"


def _wrapped(text: str, length: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) >= length:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
