"""The measurements as a Comprehensive 3D SR (PS3.3 A.35.13, PS3.16 TID 1500)."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

import highdicom.sr as hdsr
import pydicom
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from dicomnode.errors import GateFailed
from dicomnode.imaging.elements import text_of
from dicomnode.imaging.findings import Findings
from dicomnode.model.manifest import Manifest, Measurement, Segment
from dicomnode.model.result import EncodedResult, ResultRole
from dicomnode.results.codes import ML_PER_UNIT, concept, processing_equipment, series_description
from dicomnode.results.part10 import finish, voxel_count
from dicomnode.results.provenance import Provenance
from dicomnode.results.source import stand_ins

_PROCEDURES = {
    "CT": ("25045-6", "LN", "CT unspecified body region"),
    "MR": ("25056-3", "LN", "MRI unspecified body region"),
    "PT": ("44136-0", "LN", "PET unspecified body region"),
}
"""By modality (PS3.16 CID 100)."""
_MODALITIES = {
    "CT": codes.DCM.ComputedTomography,
    "MR": codes.DCM.MagneticResonance,
    "PT": codes.DCM.PositronEmissionTomography,
}
_CONTAINS = hdsr.RelationshipTypeValues.CONTAINS
_HAS_ACQ_CONTEXT = hdsr.RelationshipTypeValues.HAS_ACQ_CONTEXT
_IMAGING_PROCEDURE = ("363679005", "SCT", "Imaging procedure")


def encode_sr(
    findings: Findings,
    headers: Sequence[Dataset],
    manifest: Manifest,
    provenance: Provenance,
    seg: EncodedResult,
) -> EncodedResult:
    """A Measurement Report with one volumetric group (TID 1411) for each segment of the manifest.

    `headers` are the source's in slice order; `seg` holds the segments that the groups refer to. Volumes
    are counted in the label map that `seg` was encoded from. A segment without a voxel has volume 0.
    """
    images = stand_ins(headers, findings.geometry)
    encoded_seg = pydicom.dcmread(BytesIO(seg.data), stop_before_pixels=True)
    report = hdsr.MeasurementReport(
        observation_context=_observer(provenance),
        procedure_reported=hdsr.CodedConcept(
            *_PROCEDURES.get(text_of(headers[0], "Modality"), _IMAGING_PROCEDURE)
        ),
        imaging_measurements=[
            _group(findings, manifest, provenance, encoded_seg, images[0], number, segment)
            for number, segment in enumerate(manifest.segment, 1)
        ],
        title=codes.DCM.ImagingMeasurementReport,
    )
    _add_image_library(report[0], images)
    sr = hdsr.Comprehensive3DSR(
        evidence=[*images, _reference(encoded_seg, images[0])],
        content=report,
        series_instance_uid=provenance.series_uid(ResultRole.SR),
        series_number=provenance.series_number(ResultRole.SR),
        sop_instance_uid=provenance.instance_uid(ResultRole.SR),
        instance_number=1,
        manufacturer=provenance.manufacturer,
        is_complete=True,
        is_final=False,
        is_verified=False,
        series_description=series_description(manifest, provenance, "SR"),
        contributing_equipment=processing_equipment(manifest, provenance),
        transfer_syntax_uid=pydicom.uid.ExplicitVRLittleEndian,
    )
    sr.ManufacturerModelName = provenance.model_name
    sr.SoftwareVersions = provenance.software_version
    sr.DeviceSerialNumber = provenance.device_serial_number
    return finish(sr, ResultRole.SR, headers[0], manifest, provenance)


def _add_image_library(root: Any, images: Sequence[Dataset]) -> None:
    """The source instances (PS3.16 TID 1600), described once for all: they are one series on one grid.

    highdicom's own library describes each instance anew: 20 s and 1.6 MB for 384 slices.
    """
    group = hdsr.ContainerContentItem(codes.DCM.ImageLibraryGroup, relationship_type=_CONTAINS)
    group.ContentSequence = hdsr.ContentSequence()
    if (modality := _MODALITIES.get(images[0].Modality)) is not None:
        group.ContentSequence.append(
            hdsr.CodeContentItem(codes.DCM.Modality, modality, relationship_type=_HAS_ACQ_CONTEXT)
        )
    group.ContentSequence.append(
        hdsr.UIDRefContentItem(
            codes.DCM.FrameOfReferenceUID, images[0].FrameOfReferenceUID, relationship_type=_HAS_ACQ_CONTEXT
        )
    )
    group.ContentSequence.extend(
        hdsr.ImageContentItem(
            hdsr.CodedConcept("260753009", "SCT", "Source"),
            image.SOPClassUID,
            image.SOPInstanceUID,
            relationship_type=_CONTAINS,
        )
        for image in images
    )
    library = hdsr.ContainerContentItem(codes.DCM.ImageLibrary, relationship_type=_CONTAINS)
    library.ContentSequence = hdsr.ContentSequence([group])
    # The library comes before the measurements, which are the last item (PS3.16 TID 1500).
    root.ContentSequence.insert(len(root.ContentSequence) - 1, library)


def _observer(provenance: Provenance) -> Any:
    """The node as the device that observed (PS3.16 TID 1004)."""
    return hdsr.ObservationContext(
        observer_device_context=hdsr.ObserverContext(
            observer_type=codes.DCM.Device,
            observer_identifying_attributes=hdsr.DeviceObserverIdentifyingAttributes(
                uid=provenance.device_uid,
                name=provenance.station_name or provenance.model_name,
                manufacturer_name=provenance.manufacturer,
                model_name=provenance.model_name,
                serial_number=provenance.device_serial_number or None,
            ),
        )
    )


def _group(
    findings: Findings,
    manifest: Manifest,
    provenance: Provenance,
    seg: Dataset,
    image: Dataset,
    number: int,
    segment: Segment,
) -> Any:
    """One segment's measurements. The algorithm is named on the group: under a number OHIF drops it."""
    volume_ml = voxel_count(findings, segment.label) * findings.geometry.voxel_ml
    return hdsr.VolumetricROIMeasurementsAndQualitativeEvaluations(
        tracking_identifier=hdsr.TrackingIdentifier(
            uid=provenance.tracking_uid(segment.name), identifier=segment.name
        ),
        referenced_segment=hdsr.ReferencedSegment(
            sop_class_uid=seg.SOPClassUID,
            sop_instance_uid=seg.SOPInstanceUID,
            segment_number=number,
            source_series=hdsr.SourceSeriesForSegmentation(image.SeriesInstanceUID),
        ),
        finding_category=concept(segment.category),
        finding_type=concept(segment.type),
        algorithm_id=hdsr.AlgorithmIdentification(
            name=manifest.algorithm.name,
            version=manifest.pipeline.version,
            family=concept(manifest.algorithm.family),
        ),
        measurements=[
            _volume(measurement, volume_ml)
            for measurement in manifest.measurement
            if measurement.segment == segment.name
        ],
    )


def _volume(measurement: Measurement, volume_ml: float) -> Any:
    """Seven digits: more than any voxel is worth, fewer than a decimal string holds (PS3.5 6.2)."""
    try:
        value = volume_ml / ML_PER_UNIT[measurement.unit.value]
    except KeyError:
        raise GateFailed(f"{measurement.unit.value} is no unit of volume that is known here") from None
    return hdsr.Measurement(
        name=concept(measurement.code), value=float(f"{value:.7g}"), unit=concept(measurement.unit)
    )


def _reference(seg: Dataset, image: Dataset) -> Dataset:
    """The Segmentation as evidence, of the study that `image` says."""
    reference = Dataset()
    reference.StudyInstanceUID = image.StudyInstanceUID
    for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality"):
        setattr(reference, keyword, getattr(seg, keyword))
    return reference
