"""The groups of a report: for each segment, each mark, the whole input (PS3.16 TID 1410, 1411, 1501)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import highdicom.sr as hdsr
import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from dicomnode.imaging.findings import Findings, MarkFound
from dicomnode.model.manifest import Manifest, Mark, Measurement, Segment
from dicomnode.results import content, measured
from dicomnode.results.codes import ABSENT, ANATOMICAL_STRUCTURE, concept
from dicomnode.results.contours import MOST_POINTS, Masks, Ring, closed
from dicomnode.results.provenance import Provenance
from dicomnode.results.references import Reference

PLANAR, VOLUMETRIC, GENERAL = "1410", "1411", "1501"
ON_PLANE = 1e-3
"""How far from its plane, in slices, a point may lie to be drawn in the image itself."""
INPUT = "whole input"
"""The Tracking Identifier of what is said of the whole input."""
_DERIVATIONS = {"mean": codes.SCT.Mean, "sd": codes.SCT.StandardDeviation}


@dataclass(frozen=True, slots=True)
class Told:
    """What a report is made from: `planes` refer to the source in slice order, `seg` to the Segmentation.

    `viewer`: each finding carries coordinates in an image, without which some viewers show none of them.
    """

    findings: Findings
    manifest: Manifest
    provenance: Provenance
    planes: Sequence[Reference]
    seg: Reference | None
    viewer: bool
    masks: Masks


def groups(told: Told) -> Iterator[Dataset]:
    """Every group of the report, in the order of the manifest: segments, marks, the whole input.

    Each refers to a region: validators and viewers take a group without one for a broken one. What was asked
    of the whole input, and what was not found, has no region, and is said by `evaluations`.
    """
    for number, segment in enumerate(told.manifest.segment, 1):
        yield from _of_segment(told, number, segment)
    for mark in told.manifest.mark:
        found = [each for each in told.findings.marks if each.name == mark.name]
        for number, each in enumerate(found, 1):
            yield _of_mark(told, mark, number, each)
    said = [*evaluations(told)] if told.viewer else []
    if said or measured.of_input(told.manifest):
        yield _of_input(told, said)


def evaluations(told: Told) -> Iterator[Dataset]:
    """The answers to the manifest's questions, and each kind of thing of which nothing is there.

    Of a kind that another segment or mark was found of, "absent" would be untrue: a sentence of `unfound`
    names what is missing.
    """
    for question in told.manifest.question:
        for choice in question.choice:
            if told.findings.answers.get(question.name) == choice.name:
                yield content.code(concept(question.code), concept(choice.code))
    missing = absent(told)
    looked_for: list[Segment | Mark] = [*told.manifest.segment, *told.manifest.mark]
    there = {(thing.type.value, thing.type.scheme) for thing in looked_for if thing not in missing}
    kinds = {(thing.type.value, thing.type.scheme): thing.type for thing in missing}
    for pair, kind in kinds.items():
        if pair not in there:
            yield content.code(concept(kind), ABSENT)


def unfound(told: Told) -> Iterator[str]:
    """A sentence for each segment and mark that was not found, by its title."""
    for thing in absent(told):
        yield f"{thing.title}: not found."


def absent(told: Told) -> list[Segment | Mark]:
    """The segments without a voxel, and the marks of which none was found."""
    marks = {each.name for each in told.findings.marks}
    segments = [segment for segment in told.manifest.segment if not told.masks.voxels(segment.label)]
    return [*segments, *(mark for mark in told.manifest.mark if mark.name not in marks)]


def unmeasured(told: Told) -> Iterator[str]:
    """A sentence for each number that the manifest wants and nothing gives: the mean of no voxel."""
    for segment in told.manifest.segment:
        for wanted in measured.of_segment(told.manifest, segment):
            voxels = told.masks.voxels(segment.label)
            if measured.segment_value(wanted, segment, told.findings, voxels) is None:
                yield f"{wanted.code.meaning} of {segment.title}: not measured."
    for mark in told.manifest.mark:
        for wanted in measured.of_mark(told.manifest, mark.name):
            found = [each for each in told.findings.marks if each.name == mark.name]
            for number, each in enumerate(found, 1):
                if measured.mark_value(wanted, each, told.findings.geometry) is None:
                    yield f"{wanted.code.meaning} of {mark.title} {number}: not measured."


def flat_plane(points: NDArray[np.float64]) -> int | None:
    """The one plane that all points (n, 3) lie in; None where they lie in several or between two."""
    planes = np.rint(points[:, 0])
    on_it = np.abs(points[:, 0] - planes).max() <= ON_PLANE and (planes == planes[0]).all()
    return int(planes[0]) if on_it else None


def _of_segment(told: Told, number: int, segment: Segment) -> Iterator[Dataset]:
    """TID 1411 where a Segmentation goes with the report, else TID 1501: there is no region to refer to."""
    tracking = _tracking(segment.name, told.provenance.tracking_uid(segment))
    finding, voxels = _finding(segment), told.masks.voxels(segment.label)
    region = [] if told.seg is None else _segment_reference(told.seg, number, told.planes[0])
    numbers = [
        _number(wanted, value)
        for wanted in measured.of_segment(told.manifest, segment)
        if (value := measured.segment_value(wanted, segment, told.findings, voxels)) is not None
    ]
    outlined = told.masks.largest_region(segment.label)
    said = [] if outlined else [content.code(concept(segment.type), ABSENT)]
    site = _site(segment) if told.viewer else []
    yield _group(
        VOLUMETRIC if region else GENERAL,
        [*tracking, *finding, *region, *_algorithm(told.manifest), *site, *numbers, *said],
    )
    if told.viewer:
        middle = len(told.planes) // 2
        ring, plane = (outlined.outer, outlined.plane) if outlined else (_border(told), middle)
        yield _drawn(tracking, finding, ring, told.planes[plane])


def _of_mark(told: Told, mark: Mark, number: int, found: MarkFound) -> Dataset:
    uid = told.provenance.finding_uid(mark.name, str(number))
    numbers = [
        _number(wanted, value)
        for wanted in measured.of_mark(told.manifest, mark.name)
        if (value := measured.mark_value(wanted, found, told.findings.geometry)) is not None
    ]
    return _group(
        PLANAR,
        [
            *_tracking(f"{mark.name} {number}", uid),
            *_finding(mark),
            *_coordinates(told, mark, found.points),
            *_algorithm(told.manifest),
            *numbers,
        ],
    )


def _of_input(told: Told, said: Sequence[Dataset]) -> Dataset:
    """The whole input as a region: the border of each image, or of the middle one, where one is enough."""
    tracking = _tracking(INPUT, told.provenance.finding_uid(INPUT))
    numbers = [
        _number(wanted, measured.whole_value(wanted, told.findings))
        for wanted in measured.of_input(told.manifest)
    ]
    planes = told.planes
    if told.viewer:
        planes = planes[len(planes) // 2 :][:1]
    borders = [content.in_image(codes.DCM.ImageRegion, "POLYLINE", _border(told), plane) for plane in planes]
    template = PLANAR if len(borders) == 1 else VOLUMETRIC
    return _group(template, [*tracking, *borders, *_algorithm(told.manifest), *numbers, *said])


def _group(template: str, items: Iterable[Dataset]) -> Dataset:
    return content.container(codes.DCM.MeasurementGroup, items, template=template)


def _tracking(identifier: str, uid: str) -> list[Dataset]:
    context = content.Relation.HAS_OBS_CONTEXT
    return [
        content.text(codes.DCM.TrackingIdentifier, identifier, context),
        content.uid(codes.DCM.TrackingUniqueIdentifier, uid, context),
    ]


def _finding(of: Segment | Mark) -> list[Dataset]:
    category = hdsr.CodedConcept("276214006", "SCT", "Finding category")
    return [
        content.code(category, concept(of.category)),
        content.code(codes.DCM.Finding, concept(of.type)),
    ]


def _algorithm(manifest: Manifest) -> list[Dataset]:
    """TID 4019. On the group: under a number OHIF drops it."""
    return list(
        hdsr.AlgorithmIdentification(
            name=manifest.algorithm.name,
            version=manifest.pipeline.version,
            family=concept(manifest.algorithm.family),
        )
    )


def _segment_reference(seg: Reference, number: int, source: Reference) -> list[Dataset]:
    return [
        content.segment(seg, number, codes.DCM.ReferencedSegment),
        content.uid(codes.DCM.SourceSeriesForSegmentation, source.SeriesInstanceUID),
    ]


def _site(segment: Segment) -> list[Dataset]:
    """The name of the segment, where a viewer shows it beside the numbers, if it is one of a place."""
    if (segment.category.value, segment.category.scheme) != ANATOMICAL_STRUCTURE:
        return []
    site = hdsr.CodedConcept("363698007", "SCT", "Finding Site")
    return [content.code(site, concept(segment.type), content.Relation.HAS_CONCEPT_MOD)]


def _number(wanted: Measurement, value: float) -> Dataset:
    item = content.number(concept(wanted.code), value, concept(wanted.unit))
    if wanted.quantity in _DERIVATIONS:
        derivation = content.code(
            codes.DCM.Derivation, _DERIVATIONS[wanted.quantity], content.Relation.HAS_CONCEPT_MOD
        )
        item.ContentSequence = [derivation]
    return item


def _coordinates(told: Told, mark: Mark, points: NDArray[np.float64]) -> Iterator[Dataset]:
    """In the image where the mark lies in one; else in the patient, and each point in its nearest image too:
    viewers show coordinates in images alone, and some none at all beside others."""
    name, geometry = codes.DCM.ImageRegion, told.findings.geometry
    shape = "POINT" if mark.shape == "point" else "POLYLINE"
    plane = flat_plane(points)
    if plane is not None:
        drawn = closed(points) if mark.shape == "polygon" else points
        yield content.in_image(name, shape, drawn[:, 1:], told.planes[plane])
        return
    for point in points:
        yield content.in_image(name, "POINT", point[None, 1:], told.planes[int(np.rint(point[0]))])
    if not told.viewer and geometry.in_patient:
        places = measured.places_of(points, geometry)
        yield content.in_patient(name, shape, places, geometry.FrameOfReferenceUID)


def _drawn(tracking: Iterable[Dataset], finding: Iterable[Dataset], ring: Ring, image: Reference) -> Dataset:
    """The outline of what another group, which tracks the same, has the numbers of."""
    thinned = ring[:: -(-len(ring) // MOST_POINTS)]
    outline = content.in_image(codes.DCM.ImageRegion, "POLYLINE", closed(thinned), image)
    return _group(PLANAR, [*tracking, *finding, outline])


def _border(told: Told) -> Ring:
    """Around the whole of a plane."""
    bottom, right = (size - 0.5 for size in told.findings.geometry.shape[1:])
    return closed(np.array([[-0.5, -0.5], [-0.5, right], [bottom, right], [bottom, -0.5]]))
