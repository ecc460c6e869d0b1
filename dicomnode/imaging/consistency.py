"""Whether the headers of a series are of one patient, one study, one series and one grid."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataset import Dataset

from dicomnode.errors import Refused
from dicomnode.imaging.elements import alike, number_of, numbers_of, text_of

PATIENT = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex")
"""What tells patients apart (PS3.3 C.7.1.1)."""

COSINE_TOLERANCE = 1e-3
SPACING_TOLERANCE_MM = 1e-3

PROJECTIONS = frozenset(
    {
        uid.ComputedRadiographyImageStorage,
        uid.DigitalXRayImageStorageForPresentation,
        uid.DigitalXRayImageStorageForProcessing,
        uid.DigitalMammographyXRayImageStorageForPresentation,
        uid.DigitalMammographyXRayImageStorageForProcessing,
        uid.DigitalIntraOralXRayImageStorageForPresentation,
        uid.DigitalIntraOralXRayImageStorageForProcessing,
    }
)
"""The SOP classes whose images are single X-ray projections (PS3.3 C.8.1, C.8.11)."""
_SECONDARY_CAPTURE = uid.SecondaryCaptureImageStorage
"""The single-frame SOP class, and with a further number those of multi-frame (PS3.3 A.8)."""


_OF_AN_IMAGE = ("SOPClassUID", "PhotometricInterpretation", "Rows", "Columns", "SamplesPerPixel")


def require_one_series(headers: Sequence[Dataset]) -> None:
    """Raises Refused unless all headers are of one patient, one study and one series.

    Codes: TOO_FEW_SLICES (none at all), NO_IDENTITY, MIXED_PATIENT, MIXED_STUDY, MIXED_SERIES.
    """
    if not headers:
        raise Refused("TOO_FEW_SLICES", "the series holds no image")
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"):
        _require_each(headers, partial(_has, keyword), "NO_IDENTITY", keyword, "instances")
    _require_same(headers, "MIXED_PATIENT", "patients", PATIENT)
    _require_same(headers, "MIXED_STUDY", "studies", ("StudyInstanceUID",))
    _require_same(headers, "MIXED_SERIES", "series", ("SeriesInstanceUID",))
    _require_same(headers, "MIXED_SERIES", "kinds of instance", ("SOPClassUID",))


def require_grey_images(headers: Sequence[Dataset]) -> None:
    """Raises Refused NOT_AN_IMAGE, SECONDARY_CAPTURE or COLOUR unless each header is of a grey image.

    A Secondary Capture is a picture of something, whatever else its header says: its values are no
    measurements (PS3.3 A.8).
    """
    said = headers[:1] if alike(headers, *_OF_AN_IMAGE) else headers
    for number, ds in enumerate(said, 1):
        where = f"instance {number} of {len(headers)}"
        kind = uid.UID(text_of(ds, "SOPClassUID"))
        if kind == _SECONDARY_CAPTURE or kind.startswith(f"{_SECONDARY_CAPTURE}."):
            raise Refused("SECONDARY_CAPTURE", f"{where} is a picture of an image ({kind.name})")
        photometric = text_of(ds, "PhotometricInterpretation")
        if not photometric or not number_of(ds, "Rows") or not number_of(ds, "Columns"):
            raise Refused("NOT_AN_IMAGE", f"{where} is no image ({kind.name or 'no SOP class'})")
        if not photometric.startswith("MONOCHROME") or number_of(ds, "SamplesPerPixel") not in (None, 1.0):
            raise Refused("COLOUR", f"{where} is a colour image")


def require_places(planes: Sequence[Dataset]) -> None:
    """Raises Refused NO_GEOMETRY unless each plane tells its place (PS3.3 C.7.6.2, C.7.4.1)."""
    checks: dict[str, Callable[[Dataset], bool]] = {
        "ImageOrientationPatient": _has_axes,
        "ImagePositionPatient": lambda ds: numbers_of(ds, "ImagePositionPatient", 3) is not None,
        "PixelSpacing": lambda ds: min(numbers_of(ds, "PixelSpacing", 2) or (0.0,)) > 0,
        "FrameOfReferenceUID": partial(_has, "FrameOfReferenceUID"),
    }
    for keyword, holds in checks.items():
        _require_each(planes, holds, "NO_GEOMETRY", keyword, "slices")


def require_one_grid(planes: Sequence[Dataset]) -> None:
    """Raises Refused unless planes that tell their places have one orientation, one size and one spacing.

    Codes: MIXED_ORIENTATION, MIXED_SIZE, MIXED_SPACING.
    """
    _require_close(planes, "ImageOrientationPatient", 6, COSINE_TOLERANCE, "MIXED_ORIENTATION", "orientation")
    _require_same(planes, "MIXED_SIZE", "sizes in rows and columns", ("Rows", "Columns"), "slices")
    _require_close(planes, "PixelSpacing", 2, SPACING_TOLERANCE_MM, "MIXED_SPACING", "pixel spacing")


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
    headers: Sequence[Dataset], holds: Callable[[Dataset], bool], code: str, keyword: str, unit: str
) -> None:
    if alike(headers, keyword):
        lacking = 0 if holds(headers[0]) else len(headers)
    else:
        lacking = sum(not holds(ds) for ds in headers)
    if lacking:
        raise Refused(code, f"{lacking} of {len(headers)} {unit} have no usable {keyword}")


def _require_same(
    headers: Sequence[Dataset], code: str, what: str, keywords: tuple[str, ...], unit: str = "instances"
) -> None:
    if alike(headers, *keywords):
        return
    found = {tuple(text_of(ds, keyword) for keyword in keywords) for ds in headers}
    if len(found) > 1:
        raise Refused(code, f"{len(found)} {what} among {len(headers)} {unit}")


def _require_close(
    planes: Sequence[Dataset], keyword: str, count: int, tolerance: float, code: str, what: str
) -> None:
    if alike(planes, keyword):
        return
    values: NDArray[np.float64] = np.array([numbers_of(ds, keyword, count) for ds in planes], np.float64)
    other = int((np.abs(values - values[0]).max(axis=1) > tolerance).sum())
    if other:
        raise Refused(code, f"{other} of {len(planes)} slices have another {what} than the first")
