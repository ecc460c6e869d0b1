"""Between encoding and sending: what was encoded is read back and compared with what was computed.

It reads with pydicom, not with highdicom, and the groups of frames, which may be tens of thousands, by a
reader of its own. Shared with the encoders are tables and names only: what is
identity, how many ml a unit holds, how a layer is called, which planes matter, how a number is printed.
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
from dicomnode.imaging.labels import voxel_counts
from dicomnode.model.manifest import Manifest, Map
from dicomnode.model.profile import Profile
from dicomnode.model.result import EncodedResult, ResultReference
from dicomnode.results.drawing import Picture
from dicomnode.results.gate_contours import compare_outlines, compare_rtstruct
from dicomnode.results.gate_derived import compare_derived
from dicomnode.results.gate_documents import compare_key_images, compare_notice, compare_withdrawal
from dicomnode.results.gate_maps import compare_fractional, compare_parametric_map
from dicomnode.results.gate_masks import compare_masks
from dicomnode.results.gate_pictures import compare_pdf, compare_picture
from dicomnode.results.gate_report import compare_report
from dicomnode.results.source import IDENTITY

_GRID_MM = 0.02
_GRID_FRACTION = 0.06
"""How far a slice may lie from its place on the findings' grid: what `series_geometry` lets through."""
_OF_ANOTHER = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality")
_OF_ANOTHER_SEG = ("SegmentationType", "SegmentSequence")
"""What the report is compared with, of each other result."""


def check_findings(findings: Findings, headers: Sequence[Dataset], manifest: Manifest) -> None:
    """Raises GateFailed unless the findings are on the grid of `headers` and all of them are declared."""
    geometry, labels = findings.geometry, findings.labels
    if labels.dtype != np.uint8 or labels.shape != geometry.shape:
        raise GateFailed(f"labels {labels.dtype} {labels.shape} on a grid of {geometry.shape}")
    if [frame.SOPInstanceUID for frame in geometry.frames] != [
        text_of(ds, "SOPInstanceUID") for ds in headers
    ]:
        raise GateFailed("the findings are on other slices than the source, or in another order")
    if geometry.in_patient:
        if {text_of(ds, "FrameOfReferenceUID") for ds in headers} != {geometry.FrameOfReferenceUID}:
            raise GateFailed("the findings are in another frame of reference than the source")
        _check_grid(findings, headers)
    unknown = set(np.flatnonzero(voxel_counts(labels))) - {0}
    unknown -= {segment.label for segment in manifest.segment}
    if unknown:
        raise GateFailed(f"labels {sorted(map(int, unknown))} mean nothing in the manifest")
    _check_marks(findings, manifest)


def check_seg(
    encoded: EncodedResult, findings: Findings, headers: Sequence[Dataset], manifest: Manifest
) -> None:
    """Raises GateFailed unless the Segmentation in `encoded` says what `findings` say of that patient.

    Compared are patient and study, frame of reference, the meaning of each segment, and each frame bit for
    bit on its source instance, by UID and by position; and the centroid of each segment in LPS mm.
    """
    compare_masks(_identified(encoded, headers[0]), findings, headers, manifest)


def frames_of(encoded: EncodedResult) -> int:
    """How many frames the instance says that it has."""
    return int(_read(encoded, ["NumberOfFrames"]).NumberOfFrames)


def check_map(
    encoded: Sequence[EncodedResult],
    findings: Findings,
    of: Map,
    headers: Sequence[Dataset],
    manifest: Manifest,
) -> None:
    """Raises GateFailed unless `encoded` gives back each value of the map, on its plane of the source."""
    datasets = [_identified(each, headers[0]) for each in encoded]
    if of.use == "derived":
        compare_derived(datasets, findings, of, headers, manifest)
        return
    compare = compare_fractional if of.use == "fractional" else compare_parametric_map
    compare(datasets[0], findings, of, headers, manifest)


def check_sr(
    encoded: EncodedResult,
    others: Sequence[EncodedResult],
    findings: Findings,
    headers: Sequence[Dataset],
    manifest: Manifest,
    profile: Profile,
    predecessor: ResultReference | None = None,
) -> None:
    """Raises GateFailed unless the report says what `findings` say, and refers to all of `others`."""
    ds = _identified(encoded, headers[0])
    named = [_read(other, [*_OF_ANOTHER, *_OF_ANOTHER_SEG]) for other in others]
    compare_report(ds, named, findings, headers, manifest, profile, predecessor)


def check_key_images(
    encoded: EncodedResult, findings: Findings, headers: Sequence[Dataset], manifest: Manifest
) -> None:
    """Raises GateFailed unless the selection names the planes that matter, and no others."""
    compare_key_images(_identified(encoded, headers[0]), findings, headers, manifest)


def check_outlines(
    encoded: EncodedResult, findings: Findings, headers: Sequence[Dataset], manifest: Manifest
) -> None:
    """Raises GateFailed unless the outlines enclose the pixels of the masks, and marks are in place."""
    compare_outlines(_identified(encoded, headers[0]), findings, manifest)


def check_rtstruct(
    encoded: EncodedResult, findings: Findings, headers: Sequence[Dataset], manifest: Manifest
) -> None:
    """Raises GateFailed unless the pixels inside the contours are those of the masks."""
    compare_rtstruct(_identified(encoded, headers[0]), findings, headers, manifest)


def check_picture(encoded: EncodedResult, picture: Picture, header: Dataset) -> None:
    """Raises GateFailed unless the Secondary Capture is `picture`."""
    compare_picture(_identified(encoded, header), picture)


def check_pdf(
    encoded: EncodedResult,
    findings: Findings,
    headers: Sequence[Dataset],
    manifest: Manifest,
    *,
    research_only: bool,
) -> None:
    """Raises GateFailed unless the PDF prints each number and each absence."""
    ds = _identified(encoded, headers[0])
    compare_pdf(ds, findings, headers, manifest, research_only=research_only)


def check_notice(encoded: EncodedResult, lines: Sequence[str], header: Dataset) -> None:
    """Raises GateFailed unless the notice says `lines` of that patient."""
    compare_notice(_identified(encoded, header), lines)


def check_withdrawal(encoded: EncodedResult, earlier: Sequence[ResultReference], header: Dataset) -> None:
    """Raises GateFailed unless the withdrawal rejects `earlier`, all of them and no other."""
    compare_withdrawal(_identified(encoded, header), earlier)


def _identified(encoded: EncodedResult, header: Dataset) -> Dataset:
    ds = _read(encoded)
    _check_identity(ds, encoded, header)
    return ds


def _read(encoded: EncodedResult, keywords: list[str] | None = None) -> Dataset:
    try:
        return pydicom.dcmread(BytesIO(encoded.data), specific_tags=keywords)
    except UNREADABLE as error:
        raise GateFailed(f"the {encoded.role} cannot be read back ({type(error).__name__})") from None


def _check_identity(ds: Dataset, encoded: EncodedResult, header: Dataset) -> None:
    """Values are never part of the message: they tell who the patient is."""
    for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        if text_of(ds, keyword) != getattr(encoded, keyword):
            raise GateFailed(f"{keyword} of the {encoded.role} is not the one it was recorded with")
    if str(ds.file_meta.TransferSyntaxUID) != encoded.TransferSyntaxUID:
        raise GateFailed(f"the {encoded.role} is in another transfer syntax than it was recorded with")
    for keyword in IDENTITY:
        if text_of(ds, keyword) != text_of(header, keyword):
            raise GateFailed(f"{keyword} of the {encoded.role} is not the source's")
    if text_of(ds, "SeriesInstanceUID") == text_of(header, "SeriesInstanceUID"):
        raise GateFailed(f"the {encoded.role} is in the source's series")


def _check_grid(findings: Findings, headers: Sequence[Dataset]) -> None:
    geometry = findings.geometry
    positions = np.array([image_position(ds) for ds in headers])
    index = np.zeros((len(headers), 4))
    index[:, 0], index[:, 3] = np.arange(len(headers)), 1
    furthest = float(np.linalg.norm((index @ geometry.affine.T)[:, :3] - positions, axis=1).max())
    if furthest > max(_GRID_MM + SPACING_TOLERANCE_MM, _GRID_FRACTION * geometry.spacing[2]):
        raise GateFailed(f"a slice of the findings' grid is {furthest:.2f} mm from the source's")


def _check_marks(findings: Findings, manifest: Manifest) -> None:
    """Each is declared, has the points of its shape, and lies on the grid."""
    shapes = {mark.name: mark.shape for mark in manifest.mark}
    fewest = {"point": 1, "polyline": 2, "polygon": 3}
    last = np.array(findings.geometry.shape) - 0.5
    for mark in findings.marks:
        if mark.name not in shapes:
            raise GateFailed("a mark means nothing in the manifest")
        shape, count = shapes[mark.name], len(mark.points)
        if count < fewest[shape] or (shape == "point" and count > 1):
            raise GateFailed(f"a {shape} has {count} points")
        if not ((mark.points >= -0.5) & (mark.points <= last)).all():
            raise GateFailed(f"a mark {mark.name} lies outside the input")
        if shape == "polygon" and len(set(mark.points[:, 0])) > 1:
            raise GateFailed(f"a polygon {mark.name} lies in several planes")
