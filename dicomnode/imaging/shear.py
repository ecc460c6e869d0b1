"""Gantry tilt: a slanted stack made upright for a network, and what the network found put back on the slices.

Slices of a tilted gantry are parallel, and each is shifted within its own plane against the one before.
Upright they stand once each is shifted back. Slices are shifted by whole pixels, rounded: no value is
interpolated, none is lost, and a label goes back to the very pixel that it was found on.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dicomnode.imaging.geometry import Geometry, frozen
from dicomnode.imaging.volume import Volume

Scalar = TypeVar("Scalar", bound=np.generic)


def upright(geometry: Geometry) -> Geometry:
    """The smallest upright grid that holds all slices of `geometry`; itself where it is not slanted.

    Slice n of both lies in one plane; the upright grid has more rows or columns, and its affine has right
    angles.
    """
    shifts = _shifts(geometry)
    if not shifts.any():
        return geometry
    row, column = _directions(geometry)
    affine = geometry.affine.copy()
    slices, rows, columns = geometry.shape
    affine[:3, 0] -= (affine[:3, 0] @ row) * row + (affine[:3, 0] @ column) * column
    affine[:3, 3] += affine[:3, 1:3] @ shifts.min(axis=0)
    more = shifts.max(axis=0) - shifts.min(axis=0)
    return replace(
        geometry, shape=(slices, rows + int(more[0]), columns + int(more[1])), affine=frozen(affine)
    )


def deskew(volume: Volume) -> Volume:
    """The volume on its `upright` grid; the same volume where it is upright already.

    Where no slice is, the array has the least value of the volume, which in CT is air.
    """
    grid = upright(volume.geometry)
    if grid is volume.geometry:
        return volume
    array = np.full(grid.shape, volume.array.min(), np.float32)
    _, rows, columns = volume.array.shape
    for index, (down, right) in enumerate(_offsets(volume.geometry)):
        array[index, down : down + rows, right : right + columns] = volume.array[index]
    return Volume(array, grid)


def reskew(array: NDArray[Scalar], geometry: Geometry) -> NDArray[Scalar]:
    """Labels or a map on the `upright` grid of `geometry`, put back on `geometry` itself.

    Raises ValueError where the array is not on that grid.
    """
    grid = upright(geometry)
    if array.shape != grid.shape:
        raise ValueError(f"an array of shape {array.shape} on a grid of {grid.shape}")
    if grid is geometry:
        return array
    _, rows, columns = geometry.shape
    return np.stack(
        [
            plane[down : down + rows, right : right + columns]
            for plane, (down, right) in zip(array, _offsets(geometry), strict=True)
        ]
    )


def reskew_points(points: NDArray[np.float64], geometry: Geometry) -> NDArray[np.float64]:
    """Indices (points, 3) on the `upright` grid of `geometry` as indices on `geometry` itself.

    A point between two slices is shifted as the nearer one is.
    """
    if upright(geometry) is geometry:
        return points
    offsets = np.array(_offsets(geometry), np.float64)
    slices = np.clip(np.rint(points[:, 0]), 0, len(offsets) - 1).astype(np.int64)
    moved = points.copy()
    moved[:, 1:] -= offsets[slices]
    return moved


def _directions(geometry: Geometry) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unit vectors down the rows and along the columns."""
    down, right = geometry.affine[:3, 1], geometry.affine[:3, 2]
    return down / np.linalg.norm(down), right / np.linalg.norm(right)


def _shifts(geometry: Geometry) -> NDArray[np.int64]:
    """How many rows and columns each slice is shifted against slice 0 in an upright stack, (slices, 2)."""
    if not geometry.in_patient:
        return np.zeros((geometry.shape[0], 2), np.int64)
    row_spacing, column_spacing, _ = geometry.spacing
    down, right = _directions(geometry)
    step = geometry.affine[:3, 0]
    each = np.array([step @ down / row_spacing, step @ right / column_spacing])
    shifts: NDArray[np.int64] = np.rint(np.arange(geometry.shape[0])[:, None] * each).astype(np.int64)
    return shifts


def _offsets(geometry: Geometry) -> list[tuple[int, int]]:
    """Where the first pixel of each slice lies on the upright grid: row and column."""
    shifts = _shifts(geometry)
    return [(int(down), int(right)) for down, right in shifts - shifts.min(axis=0)]
