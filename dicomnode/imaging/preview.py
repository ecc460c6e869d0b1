"""Three planes of the input, for pictures: all of its pixels that leave the child process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Value = TypeVar("_Value", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Preview:
    """The planes through the voxel `index` (slice, row, column), one across each axis of the grid.

    `planes` are float32, of the shapes (rows, columns), (slices, columns) and (slices, rows).
    """

    index: tuple[int, int, int]
    planes: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]


def preview_of(
    array: NDArray[np.float32], labels: NDArray[np.uint8], marks: Sequence[NDArray[np.float64]] = ()
) -> Preview:
    """The planes of `array` through `preview_index`; all shapes are (slices, rows, columns)."""
    index = preview_index(labels, marks)
    return Preview(index, planes_through(array, index))


def preview_index(
    labels: NDArray[np.uint8], marks: Sequence[NDArray[np.float64]] = ()
) -> tuple[int, int, int]:
    """Where most voxels are labelled; without any the first point of a mark, or the middle.

    `labels` has the shape (slices, rows, columns); `marks` are points (n, 3) of such indices.
    """
    if labels.any():
        labelled = labels != 0
        across = np.add.reduce(labelled, axis=0, dtype=np.int32)
        in_slices = [np.count_nonzero(plane) for plane in labelled]
        index = [int(np.argmax(found)) for found in (in_slices, across.sum(axis=1), across.sum(axis=0))]
    elif marks:
        index = [int(place) for place in np.clip(np.rint(marks[0][0]), 0, np.array(labels.shape) - 1)]
    else:
        index = [size // 2 for size in labels.shape]
    return index[0], index[1], index[2]


def planes_through(
    array: NDArray[_Value], index: tuple[int, int, int]
) -> tuple[NDArray[_Value], NDArray[_Value], NDArray[_Value]]:
    """The planes of `array` through `index`, as `Preview` has them."""
    return array[index[0]].copy(), array[:, index[1]].copy(), array[:, :, index[2]].copy()
