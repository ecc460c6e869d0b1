"""The content of an encoded report against the findings (PS3.16 TID 1500, 1410, 1411, 1501)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from pydicom.dataset import Dataset

from dicomnode.errors import GateFailed
from dicomnode.imaging.elements import numbers_of, text_of
from dicomnode.imaging.findings import Findings
from dicomnode.imaging.headers import UNREADABLE
from dicomnode.imaging.labels import voxel_counts
from dicomnode.model.manifest import Code, Manifest, Mark, Segment
from dicomnode.model.profile import Profile
from dicomnode.model.result import ResultReference
from dicomnode.results.gate_documents import listed, named, require_evidence
from dicomnode.results.gate_numbers import Expected, compare_numbers, of_input, of_mark, of_segment

_REPORT = ("126000", "DCM")
_MEASUREMENTS = ("126010", "DCM")
_CATALOG = ("121181", "DCM")
_EVALUATIONS = ("C0034375", "UMLS")
_GROUP = ("125007", "DCM")
_TRACKING_ID = ("112039", "DCM")
_TRACKING_UID = ("112040", "DCM")
_SEGMENT = ("121191", "DCM")
_FINDING = ("121071", "DCM")
_REGION = ("111030", "DCM")
_SUMMARY = ("111017", "DCM")
_WITHOUT_FINDINGS, _WITH_FINDINGS = ("111241", "DCM"), ("111242", "DCM")
_ABSENT = ("2667000", "SCT")
_INPUT = "whole input"
_POINT = 1e-3
"""How far a coordinate may be from where it was found, in pixels: what a float32 leaves."""


def compare_report(
    ds: Dataset,
    others: Sequence[Dataset],
    findings: Findings,
    headers: Sequence[Dataset],
    manifest: Manifest,
    profile: Profile,
    predecessor: ResultReference | None,
) -> None:
    """Raises GateFailed unless `ds` states each number, mark, answer and absence of `findings`, nothing
    else, and refers to all that it is taken from and to each of `others`, the run's other results."""
    try:
        _compare_status(ds)
        _compare_references(ds, others, headers, predecessor)
        groups = list(_under(_only(ds, _MEASUREMENTS), _GROUP))
        _compare_segments(groups, others, findings, headers, manifest, profile)
        _compare_marks(groups, findings, manifest)
        expected = of_input(findings, manifest)
        _compare_whole(groups, expected)
        _compare_evaluations(_only(ds, _EVALUATIONS), findings, manifest)
        known = {segment.name for segment in manifest.segment} | {_INPUT}
        known |= {name for name, _ in _numbered(findings, manifest)}
        if strange := {_tracked(group)[0] for group in groups} - known:
            raise GateFailed(f"the SR has {len(strange)} groups of what was not found")
    except UNREADABLE as error:
        raise GateFailed(f"the SR cannot be read back ({type(error).__name__})") from error


def _compare_status(ds: Dataset) -> None:
    if _concept(ds.ConceptNameCodeSequence[0]) != _REPORT:
        raise GateFailed("the SR is no Imaging Measurement Report")
    flags = (str(ds.CompletionFlag), str(ds.VerificationFlag), text_of(ds, "PreliminaryFlag"))
    if flags != ("COMPLETE", "UNVERIFIED", "PRELIMINARY"):
        raise GateFailed(f"the SR is {' '.join(flags)}")


def _compare_references(
    ds: Dataset, others: Sequence[Dataset], headers: Sequence[Dataset], predecessor: ResultReference | None
) -> None:
    """Every source instance and every other result, and nothing else, under their own study and series."""
    require_evidence(ds, named([*headers, *others]), "SR")
    catalog = [item for container in _under(ds, _CATALOG) for item in container.ContentSequence]
    told = [text_of(item.ReferencedSOPSequence[0], "ReferencedSOPInstanceUID") for item in catalog]
    if sorted(told) != sorted(text_of(other, "SOPInstanceUID") for other in others):
        raise GateFailed(f"the SR's content refers to {len(told)} of {len(others)} other results")
    before = [uid for _, _, uid in listed(ds.get("PredecessorDocumentsSequence", []))]
    if before != ([predecessor.SOPInstanceUID] if predecessor else []):
        raise GateFailed("the SR names another predecessor than it has")


def _compare_segments(
    groups: Sequence[Dataset],
    others: Sequence[Dataset],
    findings: Findings,
    headers: Sequence[Dataset],
    manifest: Manifest,
    profile: Profile,
) -> None:
    counts = voxel_counts(findings.labels)
    seg = next((each for each in others if _is_of_all_segments(each, manifest)), None)
    for number, segment in enumerate(manifest.segment, 1):
        tracking = [group for group in groups if _tracked(group)[0] == segment.name]
        if len(tracking) != (2 if profile.report == "viewer" else 1):
            raise GateFailed(f"{len(tracking)} groups in the SR track {segment.name}")
        if len({_tracked(group) for group in tracking}) != 1:
            raise GateFailed(f"the groups in the SR that track {segment.name} do so by several UIDs")
        for group in tracking:
            _require_finding(group, segment.type, segment.name)
        if seg is not None:
            _compare_reference(tracking[0], seg, number)
        elif list(_under(tracking[0], _SEGMENT)):
            raise GateFailed("the SR refers to a Segmentation that does not go with it")
        compare_numbers(
            tracking[0],
            of_segment(segment, int(counts[segment.label]), findings, headers, manifest),
            segment.name,
        )


def _is_of_all_segments(ds: Dataset, manifest: Manifest) -> bool:
    """The Segmentation of the label map, not that of a map of probabilities."""
    if text_of(ds, "Modality") != "SEG" or text_of(ds, "SegmentationType") == "FRACTIONAL":
        return False
    return {text_of(item, "TrackingID") for item in ds.SegmentSequence if "TrackingID" in item} == {
        segment.name for segment in manifest.segment
    }


def _compare_reference(group: Dataset, seg: Dataset, number: int) -> None:
    declared = next(item for item in seg.SegmentSequence if item.SegmentNumber == number)
    if _tracked(group) != (declared.TrackingID, declared.TrackingUID):
        raise GateFailed(f"group {number} of the SR tracks something other than segment {number}")
    reference = _only(group, _SEGMENT).ReferencedSOPSequence[0]
    said = (str(reference.ReferencedSOPInstanceUID), int(reference.ReferencedSegmentNumber))
    if said != (str(seg.SOPInstanceUID), number):
        raise GateFailed(f"group {number} of the SR does not refer to segment {number}")


def _compare_marks(groups: Sequence[Dataset], findings: Findings, manifest: Manifest) -> None:
    kinds = {mark.name: mark for mark in manifest.mark}
    planes = {(source.SOPInstanceUID, source.frame): n for n, source in enumerate(findings.geometry.frames)}
    for name, index in _numbered(findings, manifest):
        mark = findings.marks[index]
        tracking = [group for group in groups if _tracked(group)[0] == name]
        if len(tracking) != 1:
            raise GateFailed(f"{len(tracking)} groups in the SR track {name}")
        _require_finding(tracking[0], kinds[mark.name].type, name)
        compare_numbers(tracking[0], of_mark(mark, findings, manifest), name)
        drawn = [
            [planes[_image_of(item)], *point]
            for item in _under(tracking[0], _REGION)
            if item.ValueType == "SCOORD"
            for point in np.reshape(np.array(numbers_of(item, "GraphicData")), (-1, 2))[:, ::-1] - 0.5
        ]
        wanted = np.column_stack([np.rint(mark.points[:, 0]), mark.points[:, 1:]])
        if kinds[mark.name].shape == "polygon":
            wanted = np.concatenate([wanted, wanted[:1]])
        if len(drawn) != len(wanted) or np.abs(np.array(drawn) - wanted).max() > _POINT:
            raise GateFailed(f"{name} lies elsewhere in the SR than it was found")


def _numbered(findings: Findings, manifest: Manifest) -> Iterator[tuple[str, int]]:
    """How the report calls each mark, and its index among those found."""
    for mark in manifest.mark:
        found = [index for index, each in enumerate(findings.marks) if each.name == mark.name]
        for number, index in enumerate(found, 1):
            yield f"{mark.name} {number}", index


def _compare_whole(groups: Sequence[Dataset], expected: Sequence[Expected]) -> None:
    whole = [group for group in groups if _tracked(group)[0] == _INPUT]
    if len(whole) > 1 or (expected and not whole):
        raise GateFailed(f"{len(whole)} groups in the SR are of the whole input")
    for group in whole:
        compare_numbers(group, expected, "the whole input")


def _compare_evaluations(container: Dataset, findings: Findings, manifest: Manifest) -> None:
    said = [
        (_concept(item.ConceptNameCodeSequence[0]), _concept(item.ConceptCodeSequence[0]))
        for item in container.ContentSequence
        if item.ValueType == "CODE"
    ]
    missing = list(_missing(findings, manifest))
    things: list[Segment | Mark] = [*manifest.segment, *manifest.mark]
    there = {_pair(thing.type) for thing in things if thing not in missing}
    absent = {_pair(thing.type) for thing in missing} - there
    expected = [*_answers(findings, manifest), *((kind, _ABSENT) for kind in absent)]
    nothing = bool(things) and len(missing) == len(things)
    expected.append((_SUMMARY, _WITHOUT_FINDINGS if nothing else _WITH_FINDINGS))
    if sorted(said) != sorted(expected):
        raise GateFailed("the SR answers otherwise, or is silent about what was not found")
    sentences = {text_of(item, "TextValue") for item in container.ContentSequence if item.ValueType == "TEXT"}
    for thing in missing:
        if f"{thing.title}: not found." not in sentences:
            raise GateFailed(f"the SR does not say that {thing.name} was not found")


def _answers(findings: Findings, manifest: Manifest) -> Iterator[tuple[tuple[str, str], tuple[str, str]]]:
    for question in manifest.question:
        if question.name in findings.answers:
            chosen = {choice.name: choice.code for choice in question.choice}[findings.answers[question.name]]
            yield _pair(question.code), _pair(chosen)


def _missing(findings: Findings, manifest: Manifest) -> Iterator[Segment | Mark]:
    counts, marks = voxel_counts(findings.labels), {each.name for each in findings.marks}
    yield from (segment for segment in manifest.segment if not counts[segment.label])
    yield from (mark for mark in manifest.mark if mark.name not in marks)


def _require_finding(group: Dataset, code: Code, name: str) -> None:
    if _concept(_only(group, _FINDING).ConceptCodeSequence[0]) != _pair(code):
        raise GateFailed(f"a group of the SR finds something other than {name}")


def _tracked(group: Dataset) -> tuple[str, str]:
    return text_of(_only(group, _TRACKING_ID), "TextValue"), text_of(_only(group, _TRACKING_UID), "UID")


def _image_of(item: Dataset) -> tuple[str, int | None]:
    reference = item.ContentSequence[0].ReferencedSOPSequence[0]
    frame = reference.get("ReferencedFrameNumber")
    return str(reference.ReferencedSOPInstanceUID), None if frame is None else int(frame)


def _pair(code: Code) -> tuple[str, str]:
    return code.value, code.scheme


def _concept(item: Dataset) -> tuple[str, str]:
    value = next((text_of(item, each) for each in ("CodeValue", "LongCodeValue") if each in item), "")
    return value, str(item.CodingSchemeDesignator)


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
