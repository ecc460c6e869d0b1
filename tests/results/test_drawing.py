"""Pictures say which side is which on any background, by the source's window, and draw marks as they are."""

from __future__ import annotations

import numpy as np
import pytest

from dicomnode.results.drawing import MarkStyle, draw
from dicomnode.results.planes import Plane

GREEN = (0, 255, 0)


def plane(image, *points):
    at = tuple((name, np.array(each, np.float64)) for name, each in points)
    labels = np.zeros(image.shape, np.uint8)
    return Plane("axial", image, labels, (100.0, 100.0), ("R", "L", "A", "P"), at)


def drawn(image, *points, styles=None, window=(0.0, 255.0)):
    return draw("a title", [plane(image, *points)], [], {}, styles or {}, research_only=False, window=window)


@pytest.mark.parametrize("grey", [0, 100, 150, 200, 255])
def test_the_sides_are_readable_on_any_grey(grey):
    """A white letter with a black rim: one of the two differs from whatever lies under it."""
    picture = drawn(np.full((50, 50), grey, np.float32))
    # The left edge of the first panel, at half its height, where "R" stands.
    letter = picture[330:370, 20:40]
    others = [level for level in (0, 255) if abs(level - grey) > 100]
    assert all((letter == level).all(axis=2).any() for level in others)


def test_what_the_window_says_becomes_black_and_white():
    image = np.tile(np.array([-1000.0, -160.0, 40.0, 240.0, 3000.0], np.float32), (5, 1))
    picture = drawn(image, window=(-160.0, 240.0))
    row = picture[350, 18:590, 0]
    assert (row[30], row[-30]) == (0, 255)
    assert abs(int(row[len(row) // 2]) - 127) <= 2


def test_without_a_window_padding_does_not_wash_the_picture_out():
    image = np.full((60, 60), -2000.0, np.float32)
    image[20:40, 20:40] = np.linspace(0, 100, 400).reshape(20, 20)
    picture = draw("a title", [plane(image)], [], {}, {}, research_only=False)
    inside = picture[280:440, 230:390, 0]
    assert int(inside.max()) - int(inside.min()) > 200


@pytest.mark.parametrize("closed", [True, False])
def test_a_polygon_is_drawn_closed_and_a_polyline_open(closed):
    corner = ("edge", [[10, 10], [10, 40], [40, 40]])
    picture = drawn(np.zeros((50, 50), np.float32), corner, styles={"edge": MarkStyle(GREEN, closed)})
    green = (picture == GREEN).all(axis=2)
    rows, columns = np.nonzero(green)
    middle = green[(rows.min() + rows.max()) // 2, columns.min() : columns.max() - 20]
    assert middle.any() == closed
