"""Each kind of result says what was found, of the right patient, and outside readers take it."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest

from dicomnode.errors import GateFailed
from dicomnode.model.profile import PROFILES, Profile
from dicomnode.model.result import ResultReference, ResultRole
from dicomnode.results.conformance import dciodvfy_problems, find_dciodvfy
from dicomnode.results.encode import encode_results
from dicomnode.results.picture import draw_findings
from tests.conftest import NOT_RUN_HERE
from tests.readers import tools
from tests.results import everything, sources
from tests.results.everything import manifest_of_everything
from tests.results.opened import (
    CASES,
    FORMS,
    MANIFEST,
    case,
    evaluations_of,
    groups_of,
    named,
    numbers_of,
    read,
    results,
)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", CASES)
def test_each_kind_conforms_without_error_or_warning(name, form, provenance):
    if find_dciodvfy() is None:
        pytest.skip(f"{NOT_RUN_HERE}dciodvfy")
    for role, encoded in results(name, form, provenance).items():
        assert dciodvfy_problems(encoded.data) == [], role


@pytest.mark.parametrize(
    ("name", "form"), [("volume", "generic"), ("multi-frame", "ohif3"), ("nothing", "ohif3")]
)
def test_pixelmed_finds_no_error_in_a_report(name, form, provenance, tmp_path):
    (tmp_path / "report.dcm").write_bytes(results(name, form, provenance)[ResultRole.SR].data)
    assert tools.pixelmed_problems(tmp_path / "report.dcm") == []


@pytest.mark.parametrize("form", FORMS)
def test_dcmqi_reads_the_same_numbers(form, provenance, tmp_path):
    (tmp_path / "report.dcm").write_bytes(results("volume", form, provenance)[ResultRole.SR].data)
    measured = [
        (group["TrackingIdentifier"], item["quantity"]["CodeValue"], float(item["value"]))
        for group in tools.dcmqi_report(tmp_path / "report.dcm")["Measurements"]
        for item in group.get("measurementItems", [])
    ]
    ours = numbers_of(read(results("volume", form, provenance)[ResultRole.SR]))
    assert sorted(measured) == sorted(ours)


def test_dcmtk_reads_each_kind(provenance, tmp_path):
    for role, encoded in results("volume", "generic", provenance).items():
        (tmp_path / role).write_bytes(encoded.data)
        assert tools.dcmtk_problems(tmp_path / role) == []
    frame = tools.dcmtk_frame(tmp_path / ResultRole.PICTURE)
    assert np.array_equal(
        frame, read(results("volume", "generic", provenance)[ResultRole.PICTURE]).pixel_array
    )


@pytest.mark.parametrize("form", FORMS)
def test_one_report_refers_to_all_other_results(form, provenance):
    found = dict(results("volume", form, provenance))
    report = read(found.pop(ResultRole.SR))
    others = {result.SOPInstanceUID for result in found.values()}
    content = {
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in named(report.ContentSequence, "121181")[0].ContentSequence
    }
    evidence = {
        item.ReferencedSOPInstanceUID
        for study in report.CurrentRequestedProcedureEvidenceSequence
        for series in study.ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    assert content == others
    assert evidence == others | {header.SOPInstanceUID for header in case("volume")[1]}


def test_both_forms_of_the_report_state_the_same_numbers(provenance):
    standard, viewer = (
        numbers_of(read(results("volume", form, provenance)[ResultRole.SR])) for form in FORMS
    )
    assert standard == viewer
    assert [number for _, _, number in standard] == pytest.approx(
        [3.2472, 127.6003, 27.89207, 0.704, 0.0, 87.5, 25.0, 11.0, 26.05908, 74.8, 61.5]
    )


def test_each_group_of_a_report_for_viewers_has_coordinates_in_an_image(provenance):
    for name in CASES:
        drawn = {}
        for group in groups_of(read(results(name, "ohif3", provenance)[ResultRole.SR])):
            tracked = named(group.ContentSequence, "112040")[0].UID
            shapes = [item.ValueType for item in group.ContentSequence if "COORD" in item.ValueType]
            drawn[tracked] = drawn.get(tracked, []) + shapes
        assert drawn
        assert all(set(shapes) == {"SCOORD"} for shapes in drawn.values()), name


def test_what_was_not_found_is_said(provenance):
    report = read(results("volume", "generic", provenance)[ResultRole.SR])
    assert evaluations_of(report) == {
        ("111017", "111242"),
        ("111052", "20572008"),
        ("441457006", "2667000"),
        ("56381008", "2667000"),
    }
    report = read(results("nothing", "generic", provenance)[ResultRole.SR])
    absent = {code for code, value in evaluations_of(report) if value == "2667000"}
    assert ("111017", "111241") in evaluations_of(report)
    assert absent == {thing.type.value for thing in (*MANIFEST.segment, *MANIFEST.mark)}


def test_segments_are_tracked_alike_and_across_studies_where_they_are_the_same(provenance):
    findings, headers, _ = case("volume")
    later = dataclasses.replace(provenance, job_key="another")
    tracked = []
    for origin in (provenance, later):
        found = {each.role: read(each) for each in encode_results(findings, headers, MANIFEST, origin)}
        segments = {item.TrackingID: item.TrackingUID for item in found[ResultRole.SEG].SegmentSequence}
        for group in groups_of(found[ResultRole.SR])[:3]:
            name = named(group.ContentSequence, "112039")[0].TextValue
            assert segments[name] == named(group.ContentSequence, "112040")[0].UID
        tracked.append(segments)
    first, second = tracked
    assert first["spleen"] == second["spleen"]
    assert first["liver"] != second["liver"]


def test_another_patient_has_other_tracking_uids(provenance):
    findings, headers, _ = case("volume")
    other = copy.deepcopy(headers)
    for ds in other:
        ds.PatientID = "P2"
    seg, again = (read(encode_results(findings, each, MANIFEST, provenance)[0]) for each in (headers, other))
    assert seg.SegmentSequence[1].TrackingUID != again.SegmentSequence[1].TrackingUID


def test_contours_enclose_the_pixels_of_the_mask_and_no_others(provenance):
    findings = case("volume")[0]
    ds = read(results("volume", "generic", provenance)[ResultRole.RTSTRUCT])
    planes = {frame.SOPInstanceUID: n for n, frame in enumerate(findings.geometry.frames)}
    back = np.zeros_like(findings.labels)
    rows, columns = np.indices(findings.geometry.shape[1:])
    centres = np.column_stack([rows.ravel(), columns.ravel()])
    for number, roi in enumerate(ds.ROIContourSequence, 1):
        for contour in roi.get("ContourSequence", []):
            places = np.reshape(np.array(contour.ContourData, float), (-1, 3))
            index = (places - findings.geometry.affine[:3, 3]) @ np.linalg.inv(
                findings.geometry.affine[:3, :3]
            ).T
            plane = planes[contour.ContourImageSequence[0].ReferencedSOPInstanceUID]
            assert np.allclose(index[:, 0], plane, atol=1e-3)
            inside = _inside(index[:, 1:], centres).reshape(rows.shape)
            back[plane][inside] = number
    assert (back != findings.labels).sum() == 0


def _inside(ring, points):
    """Whether a ray from each point crosses the ring an odd number of times."""
    here, there = ring, np.roll(ring, -1, axis=0)
    y, x = points[:, :1], points[:, 1:]
    spans = (here[:, 0] > y) != (there[:, 0] > y)
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = here[:, 1] + (y - here[:, 0]) * (there[:, 1] - here[:, 1]) / (there[:, 0] - here[:, 0])
    return (spans & (x < crossing)).sum(axis=1) % 2 == 1


def test_outlines_are_in_the_colours_of_the_manifest(provenance):
    ds = read(results("volume", "generic", provenance)[ResultRole.OUTLINES])
    layers = {layer.GraphicLayer: layer for layer in ds.GraphicLayerSequence}
    assert set(layers) == {"S LIVER", "S SPLEEN", "M NODULE", "M DIAMETER", "M LESION"}
    assert all("GraphicLayerRecommendedDisplayCIELabValue" in layer for layer in layers.values())


def test_key_images_are_those_with_most_of_a_segment_and_those_of_marks(provenance):
    findings = case("volume")[0]
    ds = read(results("volume", "generic", provenance)[ResultRole.KEY_IMAGES])
    selected = [
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in ds.ContentSequence
        if item.ValueType == "IMAGE"
    ]
    assert selected == [findings.geometry.frames[plane].SOPInstanceUID for plane in (0, 3, 6)]


def test_the_picture_shows_the_segments_and_that_it_is_for_research_only(provenance):
    findings, headers, manifest = case("volume")
    shown = draw_findings(findings, headers[0], manifest, research_only=True)
    not_shown = draw_findings(findings, headers[0], manifest, research_only=False)
    red = (shown == (200, 30, 30)).all(axis=2)
    assert red.sum() > 2000
    assert not (not_shown == (200, 30, 30)).all(axis=2).any()
    assert np.array_equal(
        read(results("volume", "generic", provenance)[ResultRole.PICTURE]).pixel_array, shown
    )


def test_references_to_a_multi_frame_source_name_the_frame(provenance):
    findings = case("multi-frame")[0]
    found = {role: read(each) for role, each in results("multi-frame", "generic", provenance).items()}
    expected = [findings.geometry.frames[plane].frame for plane in (0, 3, 6)]
    images = [item for item in found[ResultRole.KEY_IMAGES].ContentSequence if item.ValueType == "IMAGE"]
    assert [item.ReferencedSOPSequence[0].ReferencedFrameNumber for item in images] == expected
    nodule = groups_of(found[ResultRole.SR])[3]
    region = named(nodule.ContentSequence, "111030")[0]
    assert region.ContentSequence[0].ReferencedSOPSequence[0].ReferencedFrameNumber == expected[1]
    contours = found[ResultRole.RTSTRUCT].ROIContourSequence[0].ContourSequence
    frames = {contour.ContourImageSequence[0].ReferencedFrameNumber for contour in contours}
    assert frames == {source.frame for source in findings.geometry.frames}
    for ds in found.values():
        evidence = ds.get("CurrentRequestedProcedureEvidenceSequence", [])
        uids = [
            item.ReferencedSOPInstanceUID
            for study in evidence
            for series in study.ReferencedSeriesSequence
            for item in series.ReferencedSOPSequence
        ]
        assert len(uids) == len(set(uids))


def test_maps_go_with_the_report_that_refers_to_them(manifest, provenance):
    findings, headers = sources.source("axial")
    declared = sources.manifest_of_maps(manifest)
    outputs = {"outputs": tuple(ResultRole(role) for role in ("SEG", "SR", "PM", "DERIVED"))}
    declared = declared.model_copy(update={"pipeline": declared.pipeline.model_copy(update=outputs)})
    *others, report = encode_results(findings, headers, declared, provenance)
    assert [each.role for each in others] == [
        *[ResultRole.SEG] * 2,
        ResultRole.PARAMETRIC_MAP,
        *[ResultRole.DERIVED] * len(headers),
    ]
    catalog = named(read(report).ContentSequence, "121181")[0].ContentSequence
    referred = [item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID for item in catalog]
    assert referred == [each.SOPInstanceUID for each in others]
    assert dciodvfy_problems(report.data) == []


def test_a_profile_gets_what_it_takes(provenance):
    findings, headers, _ = case("volume")
    some = Profile(takes=frozenset({ResultRole.SR, ResultRole.KEY_IMAGES}))
    roles = [each.role for each in encode_results(findings, headers, MANIFEST, provenance, some)]
    assert roles == [ResultRole.KEY_IMAGES, ResultRole.SR]


@pytest.mark.parametrize(
    "profile",
    [
        Profile(maximum_frames=3, picture_for_seg=True),
        Profile(maximum_mb=0.001, picture_for_seg=True),
        Profile(takes=frozenset(ResultRole) - {ResultRole.SEG}, picture_for_seg=True),
    ],
)
def test_a_picture_takes_the_place_of_a_segmentation_that_is_not_taken(profile, provenance):
    findings, headers, _ = case("volume")
    manifest = manifest_of_everything("SEG", "SR")
    roles = [each.role for each in encode_results(findings, headers, manifest, provenance, profile)]
    assert roles == [ResultRole.PICTURE, ResultRole.SR]


def test_equal_forms_have_equal_bytes_and_others_other_uids(provenance):
    generic, orthanc, ohif = (
        encode_results(*case("volume")[:2], MANIFEST, provenance, PROFILES[name])
        for name in ("generic", "orthanc", "ohif3")
    )
    assert [each.data for each in generic] == [each.data for each in orthanc]
    uids = {each.SOPInstanceUID for each in generic}
    assert not uids & {each.SOPInstanceUID for each in ohif}


def test_a_report_names_the_one_that_it_takes_the_place_of(provenance):
    findings, headers, manifest = case("volume")
    before = results("volume", "generic", provenance)[ResultRole.SR]
    earlier = ResultReference(
        before.role,
        before.StudyInstanceUID,
        before.SeriesInstanceUID,
        before.SOPClassUID,
        before.SOPInstanceUID,
    )
    later = dataclasses.replace(provenance, job_key="later")
    report = encode_results(findings, headers, manifest, later, predecessor=earlier)[-1]
    named_before = (
        read(report).PredecessorDocumentsSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence
    )
    assert [each.ReferencedSOPInstanceUID for each in named_before] == [before.SOPInstanceUID]
    assert dciodvfy_problems(report.data) == []


def test_pictures_without_planes_are_refused(provenance):
    findings, headers, manifest = case("volume")
    blind = dataclasses.replace(findings, preview=None)
    with pytest.raises(GateFailed, match="no planes"):
        encode_results(blind, headers, manifest, provenance)


NAMES = {
    "Japanese": ("Yamada^Tarou=山田^太郎=やまだ^たろう", ["", "ISO 2022 IR 87"]),
    "Japanese in half width": ("ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう", ["ISO 2022 IR 13", "ISO 2022 IR 87"]),
    "Greek": ("Διονυσιος", "ISO_IR 126"),
    "Arabic": ("قباني^لنزار", "ISO_IR 127"),
    "Chinese": ("Zhang^XiaoDong=张^小东", "GB18030"),
    "Chinese in UTF-8": ("Wang^XiaoDong=王^小東", "ISO_IR 192"),
    "Korean": ("Hong^Gildong=洪^吉洞=홍^길동", ["", "ISO 2022 IR 149"]),
}


@pytest.mark.parametrize("language", NAMES)
def test_a_name_arrives_in_each_kind_as_it_was(language, provenance):
    name, character_set = NAMES[language]
    findings, headers = everything.with_name(name, character_set)
    assert str(headers[0].PatientName) == name
    for encoded in encode_results(findings, headers, MANIFEST, provenance):
        ds = read(encoded)
        assert str(ds.PatientName) == name, encoded.role
        assert ds.PatientName.original_string == headers[0].PatientName.original_string, encoded.role


def test_a_pipeline_may_call_things_in_any_language(provenance):
    findings, headers, _ = case("volume")
    titles = {"liver": "肝臓", "spleen": "Σπλήνα", "cyst": "Zyste − links"}
    segments = [item.model_copy(update={"title": titles[item.name]}) for item in MANIFEST.segment]
    manifest = MANIFEST.model_copy(update={"segment": tuple(segments)})
    for encoded in encode_results(findings, headers, manifest, provenance):
        ds = read(encoded)
        assert ds.SpecificCharacterSet == "ISO_IR 192" or encoded.role not in {"SEG", "PR", "RTSTRUCT"}
        assert str(ds.PatientName) == str(headers[0].PatientName)
        assert dciodvfy_problems(encoded.data) == []
