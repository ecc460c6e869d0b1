"""The label map as a Segmentation (PS3.3 A.51)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import highdicom
import numpy as np
from highdicom.seg import SegmentationTypeValues, SegmentDescription
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicomnode.imaging.findings import Findings
from dicomnode.model.manifest import Manifest
from dicomnode.model.result import EncodedResult, ResultRole
from dicomnode.results.codes import RESEARCH_ONLY, concept, processing_equipment, series_description
from dicomnode.results.part10 import finish
from dicomnode.results.provenance import Provenance
from dicomnode.results.source import stand_ins


def encode_seg(
    findings: Findings,
    headers: Sequence[Dataset],
    manifest: Manifest,
    provenance: Provenance,
    *,
    omit_empty_frames: bool = False,
) -> EncodedResult:
    """A BINARY Segmentation on the grid, in the orientation and in the slices of the source.

    `headers` are the source's in slice order. Segment n of the Segmentation is the manifest's nth segment.
    Each segment has a frame on each slice unless `omit_empty_frames`: older viewers put what follows an
    omitted frame one slice off, and a segment that was looked for and not found stays declared.
    """
    seg = highdicom.seg.Segmentation(
        source_images=stand_ins(headers, findings.geometry),
        pixel_array=_segment_numbers(findings.labels, manifest),
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=_descriptions(manifest, provenance),
        series_instance_uid=provenance.series_uid(ResultRole.SEG),
        series_number=provenance.series_number(ResultRole.SEG),
        sop_instance_uid=provenance.instance_uid(ResultRole.SEG),
        instance_number=1,
        manufacturer=provenance.manufacturer,
        manufacturer_model_name=provenance.model_name,
        software_versions=provenance.software_version,
        device_serial_number=provenance.device_serial_number,
        content_description=_content_description(manifest, provenance),
        content_label="SEGMENTATION",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        omit_empty_frames=omit_empty_frames,
        contributing_equipment=processing_equipment(manifest, provenance),
        series_description=series_description(manifest, provenance, "SEG"),
    )
    _name_dimensions(seg, provenance)
    return finish(seg, ResultRole.SEG, headers[0], manifest, provenance)


def _name_dimensions(seg: Dataset, provenance: Provenance) -> None:
    """A UID that is a function of the job, in place of highdicom's random one (PS3.3 C.7.6.17)."""
    uid = provenance.uid("dimensions")
    for item in (*seg.DimensionOrganizationSequence, *seg.DimensionIndexSequence):
        item.DimensionOrganizationUID = uid


def _segment_numbers(labels: NDArray[np.uint8], manifest: Manifest) -> NDArray[np.uint8]:
    """The label map with segment numbers, which count from 1 (PS3.3 C.8.20.2), in place of labels."""
    number_of_label = np.zeros(256, np.uint8)
    for number, segment in enumerate(manifest.segment, 1):
        number_of_label[segment.label] = number
    return number_of_label[labels]


def _descriptions(manifest: Manifest, provenance: Provenance) -> list[Any]:
    algorithm = highdicom.AlgorithmIdentificationSequence(
        name=manifest.algorithm.name,
        family=concept(manifest.algorithm.family),
        version=manifest.pipeline.version,
    )
    return [
        SegmentDescription(
            segment_number=number,
            segment_label=segment.title,
            segmented_property_category=concept(segment.category),
            segmented_property_type=concept(segment.type),
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
            tracking_uid=provenance.tracking_uid(segment.name),
            tracking_id=segment.name,
            display_color=highdicom.color.CIELabColor.from_rgb(*segment.color),
        )
        for number, segment in enumerate(manifest.segment, 1)
    ]


def _content_description(manifest: Manifest, provenance: Provenance) -> str:
    title = manifest.pipeline.title
    return (f"{RESEARCH_ONLY} {title}" if provenance.research_only else title)[:64]
