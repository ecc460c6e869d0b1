"""What says something else than what was found is refused."""

from __future__ import annotations

import pytest

from dicomnode.errors import GateFailed
from dicomnode.model.profile import Profile
from dicomnode.model.result import ResultRole
from dicomnode.results import gate
from dicomnode.results.picture import draw_findings
from tests.results.opened import (
    case,
    changed,
    code_of,
    groups_of,
    named,
    results,
)


def _other_patient(ds):
    ds.PatientID = "P2"


def _less_evidence(ds):
    ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence.pop()


def _one_image_less(ds):
    ds.ContentSequence.pop()


def _moved_contour(ds):
    contour = ds.ROIContourSequence[0].ContourSequence[0]
    contour.ContourData = [float(value) + 2 for value in contour.ContourData]


def _swapped_rois(ds):
    first, second = ds.StructureSetROISequence[:2]
    first.ROIName, second.ROIName = second.ROIName, first.ROIName


def _moved_line(ds):
    graphic = ds.GraphicAnnotationSequence[0].GraphicObjectSequence[0]
    graphic.GraphicData = [value + 2 for value in graphic.GraphicData]


def _moved_mark(ds):
    mark = next(each for each in ds.GraphicAnnotationSequence if each.GraphicLayer == "M NODULE")
    mark.GraphicObjectSequence[0].GraphicData = [1.0, 1.0]


def _painted(ds):
    ds.PixelData = b"\xff" * len(ds.PixelData)


def _other_numbers(ds):
    ds.EncapsulatedDocument = ds.EncapsulatedDocument.replace(b"87.5", b"12.5")


def _not_for_research(ds):
    ds.EncapsulatedDocument = ds.EncapsulatedDocument.replace(b"RESEARCH ONLY", b"PRODUCT  ONLY")


@pytest.mark.parametrize(
    ("role", "change"),
    [
        *((role, _other_patient) for role in ("KOS", "PR", "SC", "RTSTRUCT", "PDF")),
        ("KOS", _less_evidence),
        ("KOS", _one_image_less),
        ("RTSTRUCT", _moved_contour),
        ("RTSTRUCT", _swapped_rois),
        ("PR", _moved_line),
        ("PR", _moved_mark),
        ("SC", _painted),
        ("PDF", _other_numbers),
        ("PDF", _not_for_research),
    ],
)
def test_the_gate_refuses_what_was_changed(role, change, provenance):
    findings, headers, manifest = case("volume")
    encoded = changed(results("volume", "generic", provenance)[ResultRole(role)], change)
    picture = draw_findings(findings, headers[0], manifest, research_only=True)
    checks = {
        "KOS": lambda: gate.check_key_images(encoded, findings, headers, manifest),
        "PR": lambda: gate.check_outlines(encoded, findings, headers, manifest),
        "SC": lambda: gate.check_picture(encoded, picture, headers[0]),
        "RTSTRUCT": lambda: gate.check_rtstruct(encoded, findings, headers, manifest),
        "PDF": lambda: gate.check_pdf(encoded, findings, headers, manifest, research_only=True),
    }
    with pytest.raises(GateFailed):
        checks[role]()


def _without_absence(ds):
    container = named(ds.ContentSequence, "C0034375")[0]
    container.ContentSequence = [
        item
        for item in container.ContentSequence
        if item.ValueType != "CODE" or code_of(item.ConceptCodeSequence[0]) != "2667000"
    ]


def _other_answer(ds):
    item = named(named(ds.ContentSequence, "C0034375")[0].ContentSequence, "111052")[0]
    item.ConceptCodeSequence[0].CodeValue = "11403006"


def _moved_nodule(ds):
    for group in groups_of(ds):
        for item in group.ContentSequence:
            if item.ValueType == "SCOORD" and item.GraphicType == "POINT":
                item.GraphicData = [1.0, 1.0]


def _other_length(ds):
    number = next(item for group in groups_of(ds) for item in named(group.ContentSequence, "410668003"))
    number.MeasuredValueSequence[0].NumericValue = "12"


def _no_catalog(ds):
    named(ds.ContentSequence, "121181")[0].ContentSequence.pop()


def _one_group_less(ds):
    groups_of(ds).pop()


@pytest.mark.parametrize(
    "change",
    [
        _without_absence,
        _other_answer,
        _moved_nodule,
        _other_length,
        _no_catalog,
        _one_group_less,
        _less_evidence,
    ],
)
def test_the_gate_refuses_a_report_that_says_something_else(change, provenance):
    findings, headers, manifest = case("volume")
    found = results("volume", "generic", provenance)
    others = [each for role, each in found.items() if role is not ResultRole.SR]
    report = changed(found[ResultRole.SR], change)
    with pytest.raises(GateFailed):
        gate.check_sr(report, others, findings, headers, manifest, Profile())
