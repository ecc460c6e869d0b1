"""The contours of the segments in the patient: an RT Structure Set (PS3.3 A.19.3, C.8.8.5 to C.8.8.8)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian, RTStructureSetStorage

from dicomnode.errors import GateFailed
from dicomnode.imaging.elements import text_of
from dicomnode.imaging.findings import Findings
from dicomnode.imaging.geometry import Geometry
from dicomnode.model.manifest import Manifest, Segment
from dicomnode.model.result import EncodedResult, ResultRole
from dicomnode.results.codes import concept, content_description
from dicomnode.results.contours import Masks, Region, keyholed
from dicomnode.results.instance import Kind, new_instance
from dicomnode.results.measured import places_of
from dicomnode.results.part10 import finish
from dicomnode.results.provenance import Provenance
from dicomnode.results.references import Reference, merged, source_references

_KIND = Kind(ResultRole.RTSTRUCT, RTStructureSetStorage, "RTSTRUCT", "contours")
_STUDY_COMPONENT = "1.2.840.10008.3.1.2.3.1"
"""Detached Study Management: the class of a study's own UID in the RT modules (PS3.3 C.8.8.5)."""


def encode_rtstruct(
    findings: Findings, headers: Sequence[Dataset], manifest: Manifest, provenance: Provenance
) -> EncodedResult:
    """One ROI a segment, closed planar contours in LPS mm on the source's planes.

    A hole is joined to the outline by a channel of no width (C.8.8.6.3). ROI n is the manifest's nth segment;
    one without a voxel is declared and has no contour. Raises GateFailed for a projection, which has no place
    in the patient.
    """
    geometry = findings.geometry
    if not geometry.in_patient:
        raise GateFailed("a projection has no place in the patient for contours")
    sources = source_references(headers, geometry.frames)
    ds = new_instance(_KIND, manifest.pipeline.title, manifest, provenance)
    # Contour data is text: of more points than an explicit length of 16 bits can count (PS3.5 7.1.2).
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    ds.StructureSetLabel = manifest.pipeline.name[:16]
    ds.StructureSetName = content_description(manifest.pipeline.title, provenance)
    ds.OperatorsName = None
    ds.FrameOfReferenceUID = geometry.FrameOfReferenceUID
    ds.PositionReferenceIndicator = text_of(headers[0], "PositionReferenceIndicator")
    ds.ReferencedFrameOfReferenceSequence = [_frame_of_reference(findings, sources)]
    numbered = list(enumerate(manifest.segment, 1))
    ds.StructureSetROISequence = [_roi(number, segment, findings, manifest) for number, segment in numbered]
    masks = Masks(findings.labels)
    ds.ROIContourSequence = [
        _contours(number, segment, list(_each_contour(masks.regions(segment.label), geometry, sources)))
        for number, segment in numbered
    ]
    ds.RTROIObservationsSequence = [_observation(number, segment) for number, segment in numbered]
    ds.ApprovalStatus = "UNAPPROVED"
    return finish(ds, ResultRole.RTSTRUCT, headers[0], provenance)


def _frame_of_reference(findings: Findings, sources: Sequence[Reference]) -> Dataset:
    series, study, ds = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = sources[0].SeriesInstanceUID
    series.ContourImageSequence = merged(sources)
    study.ReferencedSOPClassUID = _STUDY_COMPONENT
    study.ReferencedSOPInstanceUID = sources[0].StudyInstanceUID
    study.RTReferencedSeriesSequence = [series]
    ds.FrameOfReferenceUID = findings.geometry.FrameOfReferenceUID
    ds.RTReferencedStudySequence = [study]
    return ds


def _roi(number: int, segment: Segment, findings: Findings, manifest: Manifest) -> Dataset:
    ds = Dataset()
    ds.ROINumber, ds.ROIName = number, segment.title
    ds.ReferencedFrameOfReferenceUID = findings.geometry.FrameOfReferenceUID
    ds.ROIGenerationAlgorithm = "AUTOMATIC"
    ds.ROIGenerationDescription = f"{manifest.algorithm.name} {manifest.pipeline.version}"[:64]
    return ds


def _contours(number: int, segment: Segment, items: list[Dataset]) -> Dataset:
    ds = Dataset()
    ds.ReferencedROINumber, ds.ROIDisplayColor = number, list(segment.color)
    if items:
        ds.ContourSequence = items
    return ds


def _each_contour(
    regions: Iterable[Region], geometry: Geometry, sources: Sequence[Reference]
) -> Iterator[Dataset]:
    for number, region in enumerate(regions, 1):
        ring = keyholed(region)
        points = np.column_stack([np.full(len(ring), region.plane), ring])
        ds = Dataset()
        ds.ContourNumber = number
        ds.ContourImageSequence = [sources[region.plane].item()]
        ds.ContourGeometricType = "CLOSED_PLANAR"
        ds.NumberOfContourPoints = len(ring)
        ds.ContourData = _decimals(places_of(points, geometry))
        yield ds


def _decimals(places: NDArray[np.float64]) -> list[str]:
    """To a ten-thousandth of a mm."""
    return [f"{value:.10g}" for value in (np.round(places, 4) + 0.0).ravel()]


def _observation(number: int, segment: Segment) -> Dataset:
    ds = Dataset()
    ds.ObservationNumber = ds.ReferencedROINumber = number
    ds.ROIObservationLabel = segment.name[:16]
    ds.RTROIInterpretedType = None
    ds.ROIInterpreter = None
    ds.RTROIIdentificationCodeSequence = [concept(segment.type)]
    return ds
