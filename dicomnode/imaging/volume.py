"""A series of slices as one array of modality values."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicomnode.errors import Refused
from dicomnode.imaging.elements import text_of
from dicomnode.imaging.geometry import Geometry, series_geometry
from dicomnode.imaging.headers import UNREADABLE, Instance, read_instances
from dicomnode.imaging.pixels import StoredFrames, to_modality_values
from dicomnode.imaging.planes import is_multi_frame
from dicomnode.imaging.stacks import Choose

Scalar = TypeVar("Scalar", bound=np.generic)

_MOST_DECODERS = 8
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_XYZ_TO_INDEX = np.array([[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]], np.float64)
"""Takes (column, row, slice, 1) to (slice, row, column, 1)."""


@dataclass(frozen=True, slots=True)
class Volume:
    """`array`: float32, shape (slices, rows, columns), modality values (HU in CT), on `geometry`."""

    array: NDArray[np.float32]
    geometry: Geometry


def read_volume(paths: Sequence[Path], choose: Choose | None = None) -> Volume:
    """Decode every slice of one series; the order of `paths` does not matter.

    Raises Refused: NOT_DICOM, PIXELS_UNREADABLE and the codes of `series_geometry`.
    """
    instances = read_instances(paths)
    geometry, headers = series_geometry([instance.ds for instance in instances], choose)
    return Volume(decode_planes(instances, geometry, headers), geometry)


def decode_planes(
    instances: Sequence[Instance], geometry: Geometry, headers: Sequence[Dataset]
) -> NDArray[np.float32]:
    """The modality values of the planes of `geometry`, whose headers these are, in their order.

    Raises Refused PIXELS_UNREADABLE.
    """
    array = np.empty(geometry.shape, np.float32)
    work = list(_work(instances, geometry, headers, array))
    if not any(instance.ds.file_meta.TransferSyntaxUID.is_encapsulated for instance in instances):
        # Threads would cost more than there is to do at once.
        _do(work)
        return array
    with ThreadPoolExecutor(min(_MOST_DECODERS, os.cpu_count() or 1)) as pool:
        try:
            _do([pool.submit(decode).result for decode in work])
        except Refused:
            pool.shutdown(cancel_futures=True)
            raise
    return array


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


class _ReadOnce:
    """The pixels of a multi-frame instance, read from its file by the first thread that asks."""

    def __init__(self, instance: Instance) -> None:
        self._instance, self._lock = instance, Lock()
        self._stored: StoredFrames | None = None

    def __call__(self) -> StoredFrames:
        with self._lock:
            if self._stored is None:
                self._stored = StoredFrames(self._instance)
            return self._stored


def _work(
    instances: Sequence[Instance],
    geometry: Geometry,
    headers: Sequence[Dataset],
    array: NDArray[np.float32],
) -> Iterator[Callable[[], None]]:
    """What fills each slice of `array`, in their order."""
    stored: dict[str, Callable[[], StoredFrames]] = {
        text_of(instance.ds, "SOPInstanceUID"): (
            _ReadOnce(instance) if is_multi_frame(instance.ds) else partial(StoredFrames, instance)
        )
        for instance in instances
    }
    for frame, header, out in zip(geometry.frames, headers, array, strict=True):
        yield partial(_decode, stored[frame.SOPInstanceUID], frame.frame, header, out)


def _decode(
    stored: Callable[[], StoredFrames], frame: int | None, header: Dataset, out: NDArray[np.float32]
) -> None:
    to_modality_values(stored().decode(frame), header, out)


def _do(slices: Sequence[Callable[[], None]]) -> None:
    for number, decode in enumerate(slices, 1):
        try:
            decode()
        except UNREADABLE as error:
            kind = type(error).__name__
            raise Refused(
                "PIXELS_UNREADABLE", f"slice {number} of {len(slices)} cannot be decoded ({kind})"
            ) from None
