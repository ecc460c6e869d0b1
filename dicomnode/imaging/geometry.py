"""The grid of a series, from headers alone (PS3.3 C.7.6.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicomnode.errors import Refused
from dicomnode.imaging.consistency import (
    PROJECTIONS,
    require_grey_images,
    require_one_grid,
    require_one_series,
    require_places,
)
from dicomnode.imaging.elements import numbers_of, text_of
from dicomnode.imaging.outliers import in_one_space, without_localizers
from dicomnode.imaging.planes import Plane, planes_of
from dicomnode.imaging.stacks import Choose, Stack, stacks_of

FEWEST_SLICES = 3
STEP_TOLERANCE = 0.01
"""How far a step between slices may be from the usual one, as a fraction of it."""
STEP_TOLERANCE_MM = 0.01
"""The same in mm, for thin slices whose positions are written with few digits; the larger one counts."""
GREATEST_TILT = 45.0
"""Degrees between the way from slice to slice and the slices' normal; gantries tilt by up to 30."""
GRID_TOLERANCE = 0.05
"""How far a slice may lie from its place on the regular grid, as a fraction of the step."""


@dataclass(frozen=True, slots=True)
class SourceFrame:
    """Where a plane of a grid was read: an instance, and in a multi-frame one the frame, counted from 1."""

    SOPInstanceUID: str
    frame: int | None = None


@dataclass(frozen=True, slots=True)
class Geometry:
    """A regular grid in the patient, or the pixels of a projection image.

    `shape` is (slices, rows, columns). `affine` (4×4) takes an index (slice, row, column, 1) to LPS mm; where
    a gantry was tilted, its slice column is the slanted step from a slice to the next. `spacing` is (row
    spacing, column spacing, slice spacing) in mm: PixelSpacing[0], PixelSpacing[1] and the distance between
    neighbouring slices along their normal. `frames` names the source of each slice, in order. `stack` says
    which stack of its series this is, from 1; 0 where the series has one only. `notes` are sentences about
    what was assumed of the source, which its results should carry.

    A projection image has no place in the patient: `FrameOfReferenceUID` is "", and `affine` spans the image
    plane alone, in mm, or in pixels where `in_mm` is False because the image does not tell its spacing.
    """

    shape: tuple[int, int, int]
    affine: NDArray[np.float64]
    spacing: tuple[float, float, float]
    frames: tuple[SourceFrame, ...]
    FrameOfReferenceUID: str
    stack: int = 0
    notes: tuple[str, ...] = ()
    in_mm: bool = True

    @property
    def in_patient(self) -> bool:
        """Whether places are places in the patient (LPS); else they are places in the image."""
        return self.FrameOfReferenceUID != ""

    @property
    def voxel_ml(self) -> float:
        """The volume of one voxel, in ml."""
        return abs(float(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    def lps_of(self, index: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
        """LPS mm of an index (slice, row, column); whole numbers are the centres of voxels."""
        point: NDArray[np.float64] = self.affine[:3, :3] @ np.asarray(index, np.float64) + self.affine[:3, 3]
        return point


def series_geometry(
    headers: Sequence[Dataset], choose: Choose | None = None
) -> tuple[Geometry, tuple[Dataset, ...]]:
    """The grid of a series of slices, and one header for each slice, in the order of the slices.

    `headers` are those of the instances, single-frame or multi-frame, in any order. Slices are ordered by
    position along the normal of the slice plane, rising, never by InstanceNumber (PS3.3 C.7.6.2.1.1). Index 0
    is the slice with the least coordinate along the normal. Localizers are left out where the rest is one
    volume. Where the series holds several stacks, `choose` takes one by its facts (`stacks.STACK_FACTS`).

    The header of a frame has the attributes of its functional groups as a single-frame instance has them.
    Where each slice names a frame of reference of its own, all headers get that of slice 0.

    Raises Refused: the codes of `consistency`, MULTI_FRAME, PROJECTION_IMAGE, LOCALIZER, TOO_FEW_SLICES,
    MIXED_FRAME_OF_REFERENCE, SEVERAL_STACKS, NO_STACK, DUPLICATE_POSITIONS, MISSING_SLICES,
    IRREGULAR_SPACING, GANTRY_TILT.
    """
    require_one_series(headers)
    require_grey_images(headers)
    _require_slices(headers)
    planes, left_out = _volume_planes(headers)
    require_one_grid([plane.header for plane in planes])
    stack, several = _stack(planes, choose)
    ordered = _in_order([planes[number] for number in stack.planes])
    one_space, unified = in_one_space([plane.header for plane in ordered])
    geometry = _grid(
        one_space,
        frames=tuple(SourceFrame(str(plane.header.SOPInstanceUID), plane.frame) for plane in ordered),
        stack=int(stack.facts["index"]) if several else 0,
        notes=left_out + unified,
    )
    return geometry, one_space


def frozen(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """The array itself, no longer writable: geometries are values."""
    affine.flags.writeable = False
    return affine


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


def _require_slices(headers: Sequence[Dataset]) -> None:
    if text_of(headers[0], "SOPClassUID") in PROJECTIONS:
        raise Refused("PROJECTION_IMAGE", "the pipeline takes volumes; these are X-ray projections")


def _volume_planes(headers: Sequence[Dataset]) -> tuple[list[Plane], tuple[str, ...]]:
    """The planes that may make the volume, each with a place, and notes on those that were left out."""
    planes, notes = without_localizers([plane for ds in headers for plane in planes_of(ds)])
    require_places([plane.header for plane in planes])
    return planes, notes


def _stack(planes: Sequence[Plane], choose: Choose | None) -> tuple[Stack, bool]:
    """The planes of the volume that is meant, and whether it is one of several."""
    headers = [plane.header for plane in planes]
    along = _along_normal(headers)
    order = np.argsort(along, kind="stable")
    places = np.empty(len(planes), np.int64)
    places[order] = np.cumsum(np.diff(along[order], prepend=along[order[0]]) >= STEP_TOLERANCE_MM)
    stacks = stacks_of(headers, places)
    return stacks.choose(choose), len(stacks.stacks) > 1


def _along_normal(headers: Sequence[Dataset]) -> NDArray[np.float64]:
    along: NDArray[np.float64] = np.array([image_position(ds) for ds in headers]) @ np.cross(
        *plane_axes(headers[0])
    )
    return along


def _in_order(planes: Sequence[Plane]) -> list[Plane]:
    along = _along_normal([plane.header for plane in planes])
    return [planes[index] for index in np.argsort(along, kind="stable")]


def _grid(
    ordered: Sequence[Dataset], frames: tuple[SourceFrame, ...], stack: int, notes: tuple[str, ...]
) -> Geometry:
    if len(ordered) < FEWEST_SLICES:
        raise Refused("TOO_FEW_SLICES", f"{len(ordered)} of at least {FEWEST_SLICES} slices")
    along_row, along_column = plane_axes(ordered[0])
    normal = np.cross(along_row, along_column)
    positions = np.array([image_position(ds) for ds in ordered])
    step = _step(positions, normal)
    row_spacing, column_spacing = pixel_spacing(ordered[0])
    affine = np.eye(4)
    affine[:3, 0] = step
    affine[:3, 1] = along_column * row_spacing
    affine[:3, 2] = along_row * column_spacing
    affine[:3, 3] = positions[0]
    return Geometry(
        shape=(len(ordered), int(ordered[0].Rows), int(ordered[0].Columns)),
        affine=frozen(affine),
        spacing=(row_spacing, column_spacing, float(step @ normal)),
        frames=frames,
        FrameOfReferenceUID=text_of(ordered[0], "FrameOfReferenceUID"),
        stack=stack,
        notes=notes,
    )


def _step(positions: NDArray[np.float64], normal: NDArray[np.float64]) -> NDArray[np.float64]:
    """The vector (mm) from a slice to the next; `positions` (slices, 3) rise along `normal`."""
    along = positions @ normal
    steps = np.diff(along)
    usual = float(np.median(steps))
    _refuse_gaps(along, steps, max(STEP_TOLERANCE * usual, STEP_TOLERANCE_MM))
    step: NDArray[np.float64] = (positions[-1] - positions[0]) / (len(positions) - 1)
    _refuse_steep_tilt(step, normal)
    expected = positions[0] + np.arange(len(positions))[:, None] * step
    furthest = float(np.linalg.norm(positions - expected, axis=1).max())
    if furthest > max(GRID_TOLERANCE * usual, 2 * STEP_TOLERANCE_MM):
        raise Refused("IRREGULAR_SPACING", f"a slice lies {furthest:.2f} mm from its place on a regular grid")
    return step


def _refuse_steep_tilt(step: NDArray[np.float64], normal: NDArray[np.float64]) -> None:
    along = float(step @ normal)
    degrees = np.degrees(np.arctan2(float(np.linalg.norm(step - along * normal)), along))
    if degrees > GREATEST_TILT:
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
