"""The label map as a Segmentation (PS3.3 A.51)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import highdicom
from highdicom.seg import SegmentDescription
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import RLELossless, SegmentationStorage

from dicomnode.imaging.findings import Findings
from dicomnode.model.manifest import Manifest, Segment
from dicomnode.model.profile import Profile
from dicomnode.model.result import EncodedResult, ResultRole
from dicomnode.results.codes import concept
from dicomnode.results.frame_groups import FrameGroups, encapsulated_element, in_place, pixel_element
from dicomnode.results.multiframe import Kind, index_dimensions, new_instance
from dicomnode.results.part10 import finish
from dicomnode.results.provenance import Provenance
from dicomnode.results.seg_pixels import binary_frames, label_frames, run_lengths

LABEL_MAP_SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"
SEGMENTED = codes.cid7203.SegmentationImageDerivation
"""How a frame was derived from its source (PS3.16 CID 7203)."""


def encode_seg(
    findings: Findings,
    headers: Sequence[Dataset],
    manifest: Manifest,
    provenance: Provenance,
    profile: Profile,
) -> EncodedResult:
    """A Segmentation on the grid, in the orientation and in the planes of the source.

    `headers` are the source's, one a plane, in slice order. Segment n of the Segmentation is the manifest's
    nth segment. BINARY or LABELMAP, and whether frames without a voxel are there, is the profile's to say:
    older viewers put what follows an omitted frame one slice off. A segment that was looked for and not
    found stays declared. Raises GateFailed where it would be larger than an instance can be.
    """
    if profile.segmentation == "LABELMAP":
        return _label_map(findings, headers, manifest, provenance, profile)
    return _binary(findings, headers, manifest, provenance, profile)


def segmentation(
    kind: Kind,
    findings: Findings,
    headers: Sequence[Dataset],
    manifest: Manifest,
    provenance: Provenance,
    segments: Iterable[Segment],
) -> Dataset:
    """All of a Segmentation but its frames; segment n is the nth of `segments`."""
    ds = new_instance(kind, findings.geometry, headers, manifest, provenance)
    ds.PixelRepresentation = 0
    ds.SegmentSequence = [
        _description(number, segment, manifest, provenance) for number, segment in enumerate(segments, 1)
    ]
    return ds


def kind_of_seg(SOPClassUID: str) -> Kind:
    """A Segmentation of the label map."""
    return Kind(ResultRole.SEG, SOPClassUID, "SEG", ("DERIVED", "PRIMARY"), "SEGMENTATION")


def _binary(
    findings: Findings,
    headers: Sequence[Dataset],
    manifest: Manifest,
    provenance: Provenance,
    profile: Profile,
) -> EncodedResult:
    ds = segmentation(
        kind_of_seg(SegmentationStorage), findings, headers, manifest, provenance, manifest.segment
    )
    ds.SegmentationType, ds.SegmentsOverlap = "BINARY", "NO"
    ds.BitsAllocated = ds.BitsStored = 1
    ds.HighBit = 0
    index_dimensions(ds, provenance, by_segment=True)
    labels = [segment.label for segment in manifest.segment]
    frames, bits = binary_frames(findings.labels, labels, omit_empty=profile.omit_empty_frames)
    ds.NumberOfFrames = len(frames)
    groups = FrameGroups(findings.geometry, headers, SEGMENTED).encoded(frames)
    tail = (groups, *pixel_element(0x0010, "OB", bits))
    return finish(ds, ResultRole.SEG, headers[0], provenance, tail)


def _label_map(
    findings: Findings,
    headers: Sequence[Dataset],
    manifest: Manifest,
    provenance: Provenance,
    profile: Profile,
) -> EncodedResult:
    ds = segmentation(
        kind_of_seg(LABEL_MAP_SEGMENTATION_STORAGE), findings, headers, manifest, provenance, manifest.segment
    )
    ds.SegmentationType, ds.SegmentsOverlap, ds.PixelPaddingValue = "LABELMAP", "NO", 0
    ds.SegmentSequence.insert(0, _background(manifest))
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit = 7
    index_dimensions(ds, provenance, by_segment=False)
    labels = [segment.label for segment in manifest.segment]
    planes, pixels = label_frames(findings.labels, labels, omit_empty=profile.omit_empty_frames)
    ds.NumberOfFrames = len(planes)
    groups = FrameGroups(findings.geometry, headers, SEGMENTED).encoded((plane, None) for plane in planes)
    compressed = run_lengths(pixels)
    if compressed is None:
        tail = (groups, *pixel_element(0x0010, "OB", in_place(pixels)))
    else:
        ds.file_meta.TransferSyntaxUID = RLELossless
        tail = (groups, *encapsulated_element(compressed))
    return finish(ds, ResultRole.SEG, headers[0], provenance, tail)


def _description(number: int, segment: Segment, manifest: Manifest, provenance: Provenance) -> Any:
    """One segment as the manifest calls, codes and colours it (PS3.3 C.8.20.2)."""
    return SegmentDescription(
        segment_number=number,
        segment_label=segment.title,
        segmented_property_category=concept(segment.category),
        segmented_property_type=concept(segment.type),
        algorithm_type="AUTOMATIC",
        algorithm_identification=highdicom.AlgorithmIdentificationSequence(
            name=manifest.algorithm.name,
            family=concept(manifest.algorithm.family),
            version=manifest.pipeline.version,
        ),
        tracking_uid=provenance.tracking_uid(segment),
        tracking_id=segment.name,
        display_color=highdicom.color.CIELabColor.from_rgb(*segment.color),
    )


def _background(manifest: Manifest) -> Dataset:
    """Where no segment lies: each value of a LABELMAP is described (PS3.3 C.8.20.2)."""
    background = highdicom.sr.CodedConcept("125040", "DCM", "Background")
    ds = Dataset()
    ds.SegmentedPropertyCategoryCodeSequence = [background]
    ds.SegmentNumber, ds.SegmentLabel = 0, "Background"
    ds.SegmentAlgorithmType, ds.SegmentAlgorithmName = "AUTOMATIC", manifest.algorithm.name
    ds.RecommendedDisplayCIELabValue = list(highdicom.color.CIELabColor.from_rgb(0, 0, 0).value)
    ds.SegmentedPropertyTypeCodeSequence = [background]
    return ds
