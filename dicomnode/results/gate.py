"""Between encoding and sending: what was encoded is read back and compared with what was computed.

It reads with pydicom, not with highdicom. Shared with the encoder are two tables only: which attributes are
identity, and how many ml a unit holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO

import numpy as np
import pydicom
from pydicom.dataset import Dataset

from dicomnode.errors import GateFailed
from dicomnode.imaging.consistency import SPACING_TOLERANCE_MM
from dicomnode.imaging.elements import text_of
from dicomnode.imaging.findings import Findings
from dicomnode.imaging.geometry import image_position
from dicomnode.imaging.headers import UNREADABLE
from dicomnode.model.manifest import Manifest
from dicomnode.model.result import EncodedResult
from dicomnode.results.gate_masks import compare_masks
from dicomnode.results.gate_report import compare_report
from dicomnode.results.source import IDENTITY

_GRID_MM = 0.02
_GRID_FRACTION = 0.06
"""How far a slice may lie from its place on the findings' grid: what `series_geometry` lets through."""


def check_findings(findings: Findings, headers: Sequence[Dataset], manifest: Manifest) -> None:
    """Raises GateFailed unless the label map is on the grid of `headers` and every label has a meaning."""
    geometry, labels = findings.geometry, findings.labels
    if labels.dtype != np.uint8 or labels.shape != geometry.shape:
        raise GateFailed(f"labels {labels.dtype} {labels.shape} on a grid of {geometry.shape}")
    if [frame.SOPInstanceUID for frame in geometry.frames] != [
        text_of(ds, "SOPInstanceUID") for ds in headers
    ]:
        raise GateFailed("the findings are on other slices than the source, or in another order")
    if {text_of(ds, "FrameOfReferenceUID") for ds in headers} != {geometry.FrameOfReferenceUID}:
        raise GateFailed("the findings are in another frame of reference than the source")
    unknown = set(np.flatnonzero(np.bincount(labels.ravel(), minlength=256))) - {0}
    unknown -= {segment.label for segment in manifest.segment}
    if unknown:
        raise GateFailed(f"labels {sorted(map(int, unknown))} mean nothing in the manifest")
    _check_grid(findings, headers)


def check_seg(
    encoded: EncodedResult, findings: Findings, headers: Sequence[Dataset], manifest: Manifest
) -> None:
    """Raises GateFailed unless the Segmentation in `encoded` says what `findings` say of that patient.

    Compared are patient and study, frame of reference, the meaning of each segment, and each frame bit for
    bit on its source instance, by UID and by position; and the centroid of each segment in LPS mm.
    """
    ds = _read(encoded)
    _check_identity(ds, encoded, headers)
    compare_masks(ds, findings, headers, manifest)


def check_sr(
    encoded: EncodedResult,
    seg: EncodedResult,
    findings: Findings,
    headers: Sequence[Dataset],
    manifest: Manifest,
) -> None:
    """Raises GateFailed unless the report in `encoded` says what `findings` say, of the segments of `seg`."""
    ds = _read(encoded)
    _check_identity(ds, encoded, headers)
    compare_report(ds, _read(seg), findings, headers, manifest)


def _read(encoded: EncodedResult) -> Dataset:
    try:
        return pydicom.dcmread(BytesIO(encoded.data))
    except UNREADABLE as error:
        raise GateFailed(f"the {encoded.role} cannot be read back ({type(error).__name__})") from None


def _check_identity(ds: Dataset, encoded: EncodedResult, headers: Sequence[Dataset]) -> None:
    """Values are never part of the message: they tell who the patient is."""
    for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        if text_of(ds, keyword) != getattr(encoded, keyword):
            raise GateFailed(f"{keyword} of the {encoded.role} is not the one it was recorded with")
    if str(ds.file_meta.TransferSyntaxUID) != encoded.TransferSyntaxUID:
        raise GateFailed(f"the {encoded.role} is in another transfer syntax than it was recorded with")
    for keyword in IDENTITY:
        if text_of(ds, keyword) != text_of(headers[0], keyword):
            raise GateFailed(f"{keyword} of the {encoded.role} is not the source's")
    if text_of(ds, "SeriesInstanceUID") == text_of(headers[0], "SeriesInstanceUID"):
        raise GateFailed(f"the {encoded.role} is in the source's series")


def _check_grid(findings: Findings, headers: Sequence[Dataset]) -> None:
    geometry = findings.geometry
    positions = np.array([image_position(ds) for ds in headers])
    index = np.zeros((len(headers), 4))
    index[:, 0], index[:, 3] = np.arange(len(headers)), 1
    furthest = float(np.linalg.norm((index @ geometry.affine.T)[:, :3] - positions, axis=1).max())
    if furthest > max(_GRID_MM + SPACING_TOLERANCE_MM, _GRID_FRACTION * geometry.spacing[2]):
        raise GateFailed(f"a slice of the findings' grid is {furthest:.2f} mm from the source's")
