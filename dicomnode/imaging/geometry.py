"""The grid of a series, from headers alone (PS3.3 C.7.6.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicomnode.errors import Refused
from dicomnode.imaging.consistency import require_one_grid
from dicomnode.imaging.elements import numbers_of, text_of

FEWEST_SLICES = 3
STEP_TOLERANCE = 0.01
"""How far a step between slices may be from the usual one, as a fraction of it."""
STEP_TOLERANCE_MM = 0.01
"""The same in mm, for thin slices whose positions are written with few digits; the larger one counts."""
TILT_TOLERANCE = 2e-3
"""The sideways part of a step, as a fraction of it: 0.1 degrees."""
GRID_TOLERANCE = 0.05
"""How far a slice may lie from its place on the regular grid, as a fraction of the step."""


@dataclass(frozen=True, slots=True)
class SourceFrame:
    """Where a plane of a grid was read: an instance, and in a multi-frame one the frame, counted from 1."""

    SOPInstanceUID: str
    frame: int | None = None


@dataclass(frozen=True, slots=True)
class Geometry:
    """A regular grid in the patient.

    `shape` is (slices, rows, columns). `affine` (4×4) takes an index (slice, row, column, 1) to LPS mm.
    `spacing` is (row spacing, column spacing, slice spacing) in mm: PixelSpacing[0], PixelSpacing[1] and
    the distance between neighbouring slices. `frames` names the source of each slice, in order.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    spacing: tuple[float, float, float]
    frames: tuple[SourceFrame, ...]
    FrameOfReferenceUID: str

    @property
    def voxel_ml(self) -> float:
        """The volume of one voxel, in ml."""
        return abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    def lps_of(self, index: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
        """LPS mm of an index (slice, row, column); whole numbers are the centres of voxels."""
        point: NDArray[np.float64] = self.affine[:3, :3] @ np.asarray(index, np.float64) + self.affine[:3, 3]
        return point


def series_geometry(headers: Sequence[Dataset]) -> tuple[Geometry, tuple[Dataset, ...]]:
    """The grid of a series of single-frame slices, and its headers in the order of the slices.

    Slices are ordered by position along the normal of the slice plane, rising, never by InstanceNumber
    (PS3.3 C.7.6.2.1.1). Index 0 is the slice with the least coordinate along the normal.

    Raises Refused with one of the codes of `require_one_grid`, or TOO_FEW_SLICES, DUPLICATE_POSITIONS,
    GANTRY_TILT, MISSING_SLICES, IRREGULAR_SPACING.
    """
    require_one_grid(headers)
    if len(headers) < FEWEST_SLICES:
        raise Refused("TOO_FEW_SLICES", f"{len(headers)} slices, at least {FEWEST_SLICES} are needed")
    along_row, along_column = plane_axes(headers[0])
    normal = np.cross(along_row, along_column)
    positions = np.array([image_position(ds) for ds in headers])
    order = np.argsort(positions @ normal, kind="stable")
    ordered = tuple(headers[index] for index in order)
    step = _step(positions[order], normal)
    row_spacing, column_spacing = pixel_spacing(ordered[0])
    affine = np.eye(4)
    affine[:3, 0] = step
    affine[:3, 1] = along_column * row_spacing
    affine[:3, 2] = along_row * column_spacing
    affine[:3, 3] = positions[order[0]]
    affine.flags.writeable = False
    geometry = Geometry(
        shape=(len(ordered), int(ordered[0].Rows), int(ordered[0].Columns)),
        affine=affine,
        spacing=(row_spacing, column_spacing, float(step @ normal)),
        frames=tuple(SourceFrame(str(ds.SOPInstanceUID)) for ds in ordered),
        FrameOfReferenceUID=text_of(ordered[0], "FrameOfReferenceUID"),
    )
    return geometry, ordered


def plane_axes(ds: Dataset) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Direction cosines of a header that was checked: along a row, and down a column."""
    cosines = np.array(numbers_of(ds, "ImageOrientationPatient", 6), np.float64)
    return cosines[:3], cosines[3:]


def image_position(ds: Dataset) -> NDArray[np.float64]:
    """LPS mm of the centre of the first voxel, of a header that was checked."""
    return np.array(numbers_of(ds, "ImagePositionPatient", 3), np.float64)


def pixel_spacing(ds: Dataset) -> tuple[float, float]:
    """Distance in mm between rows and between columns, of a header that was checked (PS3.3 10.7.1.3)."""
    between = np.array(numbers_of(ds, "PixelSpacing", 2), np.float64)
    return float(between[0]), float(between[1])


def _step(positions: NDArray[np.float64], normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """The vector (mm) from a slice to the next; `positions` (slices, 3) rise along `normal`."""
    along = positions @ normal
    steps = np.diff(along)
    usual = float(np.median(steps))
    tolerance = max(STEP_TOLERANCE * usual, STEP_TOLERANCE_MM)
    _refuse_duplicates(along, steps)
    _refuse_tilt(positions, normal)
    _refuse_gaps(along, steps, tolerance)
    step: NDArray[np.float64] = (positions[-1] - positions[0]) / (len(positions) - 1)
    expected = positions[0] + np.arange(len(positions))[:, None] * step
    furthest = float(np.linalg.norm(positions - expected, axis=1).max())
    if furthest > max(GRID_TOLERANCE * usual, 2 * STEP_TOLERANCE_MM):
        raise Refused("IRREGULAR_SPACING", f"a slice lies {furthest:.2f} mm from its place on a regular grid")
    return step


def _refuse_duplicates(along: NDArray[np.float64], steps: NDArray[np.float64]) -> None:
    same = np.flatnonzero(steps < STEP_TOLERANCE_MM)
    if same.size:
        first = along[same[0]]
        raise Refused(
            "DUPLICATE_POSITIONS",
            f"{same.size} of {len(along)} slices lie where another one lies, the first at {first:.1f} mm",
        )


def _refuse_tilt(positions: NDArray[np.float64], normal: NDArray[np.float64]) -> None:
    whole = positions[-1] - positions[0]
    along = float(whole @ normal)
    sideways = float(np.linalg.norm(whole - along * normal))
    if sideways > max(TILT_TOLERANCE * along, STEP_TOLERANCE_MM):
        degrees = np.degrees(np.arctan2(sideways, along))
        raise Refused("GANTRY_TILT", f"the slices are stacked at {degrees:.1f} degrees from their normal")


def _refuse_gaps(along: NDArray[np.float64], steps: NDArray[np.float64], tolerance: float) -> None:
    """Gaps of whole slices are told from steps that fit no grid."""
    least = float(np.median(steps[steps < steps.min() + tolerance]))
    times = np.rint(steps / least)
    off = np.abs(steps - times * least) > tolerance * times
    if off.any():
        raise Refused(
            "IRREGULAR_SPACING",
            f"the distance between slices goes from {steps.min():.3f} to {steps.max():.3f} mm",
        )
    gaps = np.flatnonzero(times > 1)
    if gaps.size:
        missing, first = int((times[gaps] - 1).sum()), gaps[0]
        more = f" and in {gaps.size - 1} more places" if gaps.size > 1 else ""
        raise Refused(
            "MISSING_SLICES",
            f"{missing} {'slice' if missing == 1 else 'slices'} missing between "
            f"{along[first]:.1f} and {along[first + 1]:.1f} mm{more}",
        )
