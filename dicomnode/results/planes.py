"""The planes of a preview as a reader expects them: turned to the patient's nearest axes, not resampled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from dicomnode.imaging.geometry import Geometry
from dicomnode.imaging.preview import Preview, planes_through

_L, _P, _S = range(3)
_NAMES = {_L: "sagittal", _P: "coronal", _S: "axial"}
_VIEWS = {_S: ((_P, 1), (_L, 1)), _P: ((_S, -1), (_L, 1)), _L: ((_S, -1), (_P, 1))}
"""By the axis that a plane lies across: the patient's axis and direction down, and along, the picture."""
_EDGES = {_L: ("R", "L"), _P: ("A", "P"), _S: ("I", "S")}


@dataclass(frozen=True, slots=True)
class Plane:
    """One plane to draw: `mm` is (height, width), `edges` the patient's direction left, right, at the top and
    at the bottom; "" where nobody knows. `points` (n, 2) are places (row, column) by the name of a mark."""

    title: str
    image: NDArray[np.float32]
    labels: NDArray[np.uint8]
    mm: tuple[float, float]
    edges: tuple[str, str, str, str]
    points: tuple[tuple[str, NDArray[np.float64]], ...] = ()


def turned_planes(
    preview: Preview,
    labels: NDArray[np.uint8],
    geometry: Geometry,
    marks: Sequence[tuple[str, NDArray[np.float64]]] = (),
) -> tuple[Plane, ...]:
    """The axial, coronal and sagittal plane, in this order; of a projection the image as it is.

    `labels` (slices, rows, columns) and `marks`, points (n, 3) by name, are on the grid of `geometry`; a mark
    is drawn in the plane across the slices, if it lies in it.
    """
    through = planes_through(labels, preview.index)
    here = [
        (name, points[:, 1:]) for name, points in marks if (np.rint(points[:, 0]) == preview.index[0]).all()
    ]
    sizes = np.linalg.norm(geometry.affine[:3, :3], axis=0)
    if not geometry.in_patient:
        rows, columns = geometry.shape[1:]
        size = (float(rows * sizes[1]), float(columns * sizes[2]))
        return (Plane("image", preview.planes[0], through[0], size, ("", "", "", ""), tuple(here)),)
    axes = _Axes(geometry.affine[:3, :3] / sizes, sizes)
    planes = {
        axes.nearest(axis): _turned(
            axes, axis, preview.planes[axis], through[axis], here if axis == 0 else []
        )
        for axis in range(3)
    }
    return tuple(planes[axis] for axis in (_S, _P, _L))


class _Axes:
    """How the axes of a grid lie in the patient: `cosines` and `sizes` (mm) of its columns."""

    def __init__(self, cosines: NDArray[np.float64], sizes: NDArray[np.float64]) -> None:
        self._cosines, self.sizes = cosines, sizes
        self._nearest = linear_sum_assignment(-np.abs(cosines.T))[1]

    def nearest(self, axis: int) -> int:
        """The patient's axis that is nearest to an axis of the grid, each to one."""
        return int(self._nearest[axis])

    def runs_along(self, axis: int, direction: int) -> bool:
        """Whether the axis of the grid runs the way of its patient's axis, or else against it."""
        return bool(self._cosines[self.nearest(axis), axis] * direction > 0)


def _turned(
    axes: _Axes,
    across: int,
    image: NDArray[np.float32],
    labels: NDArray[np.uint8],
    marks: Sequence[tuple[str, NDArray[np.float64]]],
) -> Plane:
    """The plane across one axis of the grid, with its rows and columns as the view wants them."""
    view = _VIEWS[axes.nearest(across)]
    rest = [axis for axis in range(3) if axis != across]
    order = sorted((0, 1), key=lambda n: axes.nearest(rest[n]) != view[0][0])
    flips = [not axes.runs_along(rest[n], direction) for n, (_, direction) in zip(order, view, strict=True)]
    steps = tuple(slice(None, None, -1 if flip else 1) for flip in flips)
    turned = image.transpose(order)[steps]
    points = []
    for name, places in marks:
        moved = places[:, order]
        for column, flip in enumerate(flips):
            if flip:
                moved[:, column] = turned.shape[column] - 1 - moved[:, column]
        points.append((name, moved))
    (down, down_sign), (along, along_sign) = view
    top, bottom = _EDGES[down][::down_sign]
    left, right = _EDGES[along][::along_sign]
    height, width = (size * axes.sizes[rest[n]] for size, n in zip(turned.shape, order, strict=True))
    return Plane(
        title=_NAMES[axes.nearest(across)],
        image=turned,
        labels=labels.transpose(order)[steps],
        mm=(float(height), float(width)),
        edges=(left, right, top, bottom),
        points=tuple(points),
    )
