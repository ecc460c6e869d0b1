"""A series of slices as one array of modality values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dicomnode.errors import Refused
from dicomnode.imaging.geometry import Geometry, series_geometry
from dicomnode.imaging.headers import UNREADABLE, read_headers
from dicomnode.imaging.pixels import modality_values, require_grey

Scalar = TypeVar("Scalar", bound=np.generic)

_DECODERS = 4
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_XYZ_TO_INDEX = np.array([[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]], np.float64)
"""Takes (column, row, slice, 1) to (slice, row, column, 1)."""


@dataclass(frozen=True, slots=True)
class Volume:
    """`array`: float32, shape (slices, rows, columns), modality values (HU in CT), on `geometry`."""

    array: NDArray[np.float32]
    geometry: Geometry


def read_volume(paths: Sequence[Path]) -> Volume:
    """Decode every slice of one series; the order of `paths` does not matter.

    Raises Refused: NOT_DICOM, NOT_AN_IMAGE, COLOUR, MONOCHROME1, PIXELS_UNREADABLE and the codes of
    `series_geometry`.
    """
    headers = read_headers(paths)
    require_grey(headers)
    geometry, ordered = series_geometry(headers)
    path_of = {id(ds): path for ds, path in zip(headers, paths, strict=True)}
    files = [path_of[id(ds)] for ds in ordered]
    array = np.empty(geometry.shape, np.float32)
    with ThreadPoolExecutor(_DECODERS) as pool:
        for index, values in enumerate(_decoded(pool, files)):
            array[index] = values
    return Volume(array, geometry)


def to_ras_xyz(array: NDArray[Scalar], geometry: Geometry) -> tuple[NDArray[Scalar], NDArray[np.float64]]:
    """The array as nibabel and MONAI want it: a view indexed (X, Y, Z) = (column, row, slice), and the
    affine (4×4) that takes (X, Y, Z, 1) to RAS mm, the centre of the voxel.

    `array` has the shape (slices, rows, columns) of `geometry`. `from_xyz` is the way back.
    """
    if array.shape != geometry.shape:
        raise ValueError(f"an array of shape {array.shape} on a grid of {geometry.shape}")
    return array.transpose(2, 1, 0), _LPS_TO_RAS @ geometry.affine @ _XYZ_TO_INDEX


def from_xyz(array: NDArray[Scalar], geometry: Geometry) -> NDArray[Scalar]:
    """An array indexed (X, Y, Z) on the grid of `to_ras_xyz` as a view indexed (slice, row, column)."""
    if array.shape != geometry.shape[::-1]:
        raise ValueError(f"an array of shape {array.shape} on a grid of {geometry.shape[::-1]}")
    return array.transpose(2, 1, 0)


def _decoded(pool: ThreadPoolExecutor, files: Sequence[Path]) -> Iterator[NDArray[np.float32]]:
    """The modality values of each file, in order; raises Refused PIXELS_UNREADABLE."""
    for number, future in enumerate([pool.submit(modality_values, file) for file in files], 1):
        try:
            yield future.result()
        except UNREADABLE as error:
            kind = type(error).__name__
            raise Refused(
                "PIXELS_UNREADABLE", f"slice {number} of {len(files)} cannot be decoded ({kind})"
            ) from None
