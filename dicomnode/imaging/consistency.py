"""Whether the headers of a series are of one patient, one study, one series and one grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicomnode.errors import Refused
from dicomnode.imaging.elements import number_of, numbers_of, text_of

PATIENT = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex")
"""What tells patients apart (PS3.3 C.7.1.1)."""

COSINE_TOLERANCE = 1e-3
SPACING_TOLERANCE_MM = 1e-3


def require_one_grid(headers: Sequence[Dataset]) -> None:
    """Raises Refused unless all headers are single-frame slices of one series with one plane and one size.

    Codes: TOO_FEW_SLICES (none at all), NO_IDENTITY, MULTI_FRAME, MIXED_PATIENT, MIXED_STUDY, MIXED_SERIES,
    NO_GEOMETRY, MIXED_FRAME_OF_REFERENCE, MIXED_ORIENTATION, MIXED_SIZE, MIXED_SPACING.
    """
    if not headers:
        raise Refused("TOO_FEW_SLICES", "the series holds no slice")
    _require_identity(headers)
    _require_single_frames(headers)
    _require_planes(headers)
    _require_same(headers, "MIXED_FRAME_OF_REFERENCE", "frames of reference", ("FrameOfReferenceUID",))
    _require_close(
        headers, "ImageOrientationPatient", 6, COSINE_TOLERANCE, "MIXED_ORIENTATION", "orientation"
    )
    _require_same(headers, "MIXED_SIZE", "sizes in rows and columns", ("Rows", "Columns"))
    _require_close(headers, "PixelSpacing", 2, SPACING_TOLERANCE_MM, "MIXED_SPACING", "pixel spacing")


def _require_identity(headers: Sequence[Dataset]) -> None:
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"):
        _require_each(headers, partial(_has, keyword), "NO_IDENTITY", keyword)
    _require_same(headers, "MIXED_PATIENT", "patients", PATIENT)
    _require_same(headers, "MIXED_STUDY", "studies", ("StudyInstanceUID",))
    _require_same(headers, "MIXED_SERIES", "series", ("SeriesInstanceUID",))
    _require_same(headers, "MIXED_SERIES", "kinds of instance", ("SOPClassUID",))


def _require_single_frames(headers: Sequence[Dataset]) -> None:
    for ds in headers:
        frames = number_of(ds, "NumberOfFrames") or 1
        if frames > 1 or "SharedFunctionalGroupsSequence" in ds or "PerFrameFunctionalGroupsSequence" in ds:
            raise Refused("MULTI_FRAME", f"an instance of {frames:.0f} frames: multi-frame is not read yet")


def _require_planes(headers: Sequence[Dataset]) -> None:
    checks: dict[str, Callable[[Dataset], bool]] = {
        "ImageOrientationPatient": _has_axes,
        "ImagePositionPatient": lambda ds: numbers_of(ds, "ImagePositionPatient", 3) is not None,
        "PixelSpacing": lambda ds: min(numbers_of(ds, "PixelSpacing", 2) or (0.0,)) > 0,
        "Rows": lambda ds: (number_of(ds, "Rows") or 0) > 0,
        "Columns": lambda ds: (number_of(ds, "Columns") or 0) > 0,
        "FrameOfReferenceUID": partial(_has, "FrameOfReferenceUID"),
    }
    for keyword, holds in checks.items():
        _require_each(headers, holds, "NO_GEOMETRY", keyword)


def _has(keyword: str, ds: Dataset) -> bool:
    return text_of(ds, keyword) != ""


def _has_axes(ds: Dataset) -> bool:
    """Two unit vectors at a right angle (PS3.3 C.7.6.2.1.1)."""
    numbers = numbers_of(ds, "ImageOrientationPatient", 6)
    if numbers is None:
        return False
    axes = np.reshape(np.array(numbers, np.float64), (2, 3))
    return bool(np.abs(axes @ axes.T - np.eye(2)).max() <= 2 * COSINE_TOLERANCE)


def _require_each(
    headers: Sequence[Dataset], holds: Callable[[Dataset], bool], code: str, keyword: str
) -> None:
    lacking = sum(not holds(ds) for ds in headers)
    if lacking:
        raise Refused(code, f"{lacking} of {len(headers)} instances have no usable {keyword}")


def _require_same(headers: Sequence[Dataset], code: str, what: str, keywords: tuple[str, ...]) -> None:
    found = {tuple(text_of(ds, keyword) for keyword in keywords) for ds in headers}
    if len(found) > 1:
        raise Refused(code, f"{len(found)} {what} among {len(headers)} instances")


def _require_close(
    headers: Sequence[Dataset], keyword: str, count: int, tolerance: float, code: str, what: str
) -> None:
    values: NDArray[np.float64] = np.array([numbers_of(ds, keyword, count) for ds in headers], np.float64)
    other = int((np.abs(values - values[0]).max(axis=1) > tolerance).sum())
    if other:
        raise Refused(code, f"{other} of {len(headers)} slices have another {what} than the first")
