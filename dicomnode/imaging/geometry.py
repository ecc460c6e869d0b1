"""The grid of a series, from headers alone (PS3.3 C.7.6.2)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Geometry:
    """A regular grid in the patient.

    `shape` is (slices, rows, columns). `affine` (4×4) takes an index (slice, row, column, 1) to LPS mm.
    `spacing` is (row spacing, column spacing, slice spacing) in mm: PixelSpacing[0], PixelSpacing[1] and
    the distance between neighbouring slices. `SOPInstanceUIDs` names the instance of each slice, in order.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    spacing: tuple[float, float, float]
    SOPInstanceUIDs: tuple[str, ...]
    FrameOfReferenceUID: str

    @property
    def voxel_ml(self) -> float:
        """The volume of one voxel, in ml."""
        return abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000.0
