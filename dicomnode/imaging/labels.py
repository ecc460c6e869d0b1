"""A label map looked through quickly: how many voxels have each label, and where they lie."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Box = tuple[slice, ...]
"""A part of a grid: its slices, rows and columns."""


def voxel_counts(labels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """How many voxels there are of each of the 256 labels; numpy widens what it counts, so background is
    left out first, and that plane by plane."""
    counts = np.zeros(256, np.int64)
    for plane in labels:
        counts += np.bincount(plane[plane != 0], minlength=256)
    counts[0] = labels.size - counts.sum()
    return counts


def boxes_of(labels: NDArray[np.uint8]) -> list[Box | None]:
    """The smallest box around the voxels of each label from 1 to 255; None where it has none.

    `labels` has the shape (slices, rows, columns). Only where something is labelled it is looked at closely.
    """
    across = np.bitwise_or.reduce(labels, axis=0)
    seen = (np.array([plane.any() for plane in labels]), across.any(axis=1), across.any(axis=0))
    if not seen[1].any():
        return [None] * 255
    filled = [np.flatnonzero(axis) for axis in seen]
    around = tuple(slice(int(places[0]), int(places[-1]) + 1) for places in filled)
    return [
        None if box is None else tuple(map(_moved, box, around))
        for box in ndimage.find_objects(labels[around], max_label=255)
    ]


def _moved(inside: slice, by: slice) -> slice:
    return slice(inside.start + by.start, inside.stop + by.start)
