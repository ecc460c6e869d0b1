"""The content of an encoded report against the label map (PS3.16 TID 1500, TID 1411)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from pydicom.dataset import Dataset

from dicomnode.errors import GateFailed
from dicomnode.imaging.elements import number_of, numbers_of, text_of
from dicomnode.imaging.findings import Findings
from dicomnode.imaging.headers import UNREADABLE
from dicomnode.model.manifest import Manifest, Segment
from dicomnode.results.codes import ML_PER_UNIT

_REPORT = ("126000", "DCM")
_MEASUREMENTS = ("126010", "DCM")
_GROUP = ("125007", "DCM")
_TRACKING_ID = ("112039", "DCM")
_TRACKING_UID = ("112040", "DCM")
_SEGMENT = ("121191", "DCM")
_FINDING = ("121071", "DCM")
_VOLUME_TOLERANCE = 1e-5
"""Seven digits of the value, and what the header's own digits leave of the distance between slices."""


def compare_report(
    ds: Dataset, seg: Dataset, findings: Findings, headers: Sequence[Dataset], manifest: Manifest
) -> None:
    """Raises GateFailed unless `ds` states the volume of each segment of `seg`, and what it is taken from."""
    try:
        _compare_status(ds)
        _compare_evidence(ds, seg, headers)
        groups = list(_under(_only(ds, _MEASUREMENTS), _GROUP))
        if len(groups) != len(manifest.segment):
            raise GateFailed(
                f"{len(groups)} groups in the SR, {len(manifest.segment)} segments in the manifest"
            )
        voxel_ml = _voxel_ml(headers)
        for number, (group, segment) in enumerate(zip(groups, manifest.segment, strict=True), 1):
            _compare_reference(group, seg, number, segment)
            volume_ml = int(np.count_nonzero(findings.labels == segment.label)) * voxel_ml
            _compare_volumes(group, segment, manifest, volume_ml)
    except UNREADABLE as error:
        raise GateFailed(f"the SR cannot be read back ({type(error).__name__})") from error


def _compare_status(ds: Dataset) -> None:
    if _concept(ds.ConceptNameCodeSequence[0]) != _REPORT:
        raise GateFailed("the SR is no Imaging Measurement Report")
    flags = (str(ds.CompletionFlag), str(ds.VerificationFlag), text_of(ds, "PreliminaryFlag"))
    if flags != ("COMPLETE", "UNVERIFIED", "PRELIMINARY"):
        raise GateFailed(f"the SR is {' '.join(flags)}")


def _compare_evidence(ds: Dataset, seg: Dataset, headers: Sequence[Dataset]) -> None:
    """Every source instance and the SEG, and nothing else, under their own study and series."""
    listed = {
        (str(study.StudyInstanceUID), str(series.SeriesInstanceUID), str(item.ReferencedSOPInstanceUID))
        for study in ds.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    keywords = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    expected = {tuple(text_of(source, keyword) for keyword in keywords) for source in (*headers, seg)}
    if listed != expected:
        raise GateFailed(
            f"the SR lists {len(listed)} instances as evidence, of {len(expected)} that it is based on"
        )


def _compare_reference(group: Dataset, seg: Dataset, number: int, segment: Segment) -> None:
    declared = seg.SegmentSequence[number - 1]
    tracking = (_only(group, _TRACKING_ID).TextValue, _only(group, _TRACKING_UID).UID)
    if tracking != (declared.TrackingID, declared.TrackingUID):
        raise GateFailed(f"group {number} of the SR tracks something other than segment {number}")
    reference = _only(group, _SEGMENT).ReferencedSOPSequence[0]
    said = (str(reference.ReferencedSOPInstanceUID), int(reference.ReferencedSegmentNumber))
    if said != (str(seg.SOPInstanceUID), number):
        raise GateFailed(f"group {number} of the SR does not refer to segment {number}")
    finding = _only(group, _FINDING).ConceptCodeSequence[0]
    if _concept(finding) != (segment.type.value, segment.type.scheme):
        raise GateFailed(f"group {number} of the SR finds something other than {segment.name}")


def _compare_volumes(group: Dataset, segment: Segment, manifest: Manifest, volume_ml: float) -> None:
    wanted = [item for item in manifest.measurement if item.segment == segment.name]
    stated = [item for item in group.ContentSequence if item.ValueType == "NUM"]
    if len(stated) != len(wanted):
        raise GateFailed(f"{len(stated)} numbers for {segment.name} in the SR, {len(wanted)} in the manifest")
    for item, measurement in zip(stated, wanted, strict=True):
        value = item.MeasuredValueSequence[0]
        unit = _concept(value.MeasurementUnitsCodeSequence[0])
        if _concept(item.ConceptNameCodeSequence[0]) != (measurement.code.value, measurement.code.scheme):
            raise GateFailed(f"a number for {segment.name} in the SR is of another quantity")
        if unit != (measurement.unit.value, measurement.unit.scheme):
            raise GateFailed(f"a number for {segment.name} in the SR has another unit")
        expected, said = volume_ml / ML_PER_UNIT[measurement.unit.value], number_of(value, "NumericValue")
        if said is None or not math.isclose(said, expected, rel_tol=_VOLUME_TOLERANCE, abs_tol=1e-9):
            raise GateFailed(f"the volume of {segment.name} in the SR is {said}, of its mask {expected:.7g}")


def _voxel_ml(headers: Sequence[Dataset]) -> float:
    """Of the source's own headers, not of the grid that the findings came with."""
    cosines = np.array(numbers_of(headers[0], "ImageOrientationPatient", 6))
    first, last = (np.array(numbers_of(ds, "ImagePositionPatient", 3)) for ds in (headers[0], headers[-1]))
    row, column = np.array(numbers_of(headers[0], "PixelSpacing", 2))
    thick = abs(float((last - first) @ np.cross(cosines[:3], cosines[3:]))) / (len(headers) - 1)
    return float(row * column * thick) / 1000.0


def _concept(item: Dataset) -> tuple[str, str]:
    return str(item.CodeValue), str(item.CodingSchemeDesignator)


def _under(ds: Dataset, name: tuple[str, str]) -> Iterator[Dataset]:
    """The content items directly under `ds` with that concept name."""
    for item in ds.ContentSequence:
        if "ConceptNameCodeSequence" in item and _concept(item.ConceptNameCodeSequence[0]) == name:
            yield item


def _only(ds: Dataset, name: tuple[str, str]) -> Dataset:
    found = list(_under(ds, name))
    if len(found) != 1:
        raise GateFailed(f"{len(found)} items ({', '.join(name)}) in the SR where there must be one")
    return found[0]
