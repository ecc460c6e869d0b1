"""A small series with one block in it that no turn or mirror hides."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from dicomnode.demo.scanner import Slices, write_series

SPACING = (2.0, 1.5, 1.0)
"""Of the slices, rows and columns, in mm."""
BLOCK_ML = 4 * 5 * 11 * 3 / 1000


def oblique_sagittal() -> Slices:
    """Black but for one block in the left, posterior, superior part; turned by 10 degrees about z."""
    frames = np.zeros((20, 24, 40), np.uint16)
    frames[2:6, 3:8, 25:36] = 1000
    turn = np.radians(10)
    rotation = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    to_right, down, to_posterior = (-1, 0, 0), (0, 0, -1), (0, 1, 0)
    affine = np.eye(4)
    affine[:3, :3] = rotation @ np.array([to_right, down, to_posterior]).T * SPACING
    affine[:3, 3] = (20, -15, 30)
    return Slices(frames, affine)


def write_block_series(folder: Path) -> list[Path]:
    return write_series(oblique_sagittal(), folder, datetime.now(UTC))
