"""What others wrote reads our results as we meant them: PixelMed, dcmqi, DCMTK."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from dicomnode.imaging.findings import Findings
from dicomnode.imaging.geometry import series_geometry
from dicomnode.model.profile import PROFILES
from dicomnode.model.result import ResultRole
from dicomnode.results.encode import encode_results
from tests.imaging.builders import ORIENTATIONS, mr_headers
from tests.readers import tools
from tests.results.conftest import asymmetric_labels, manifest, provenance  # noqa: F401  as the results' tests

IMAGING_MEASUREMENTS = "126010"
FORMS = ("generic", "ohif3")
SHAPE, SPACING = (5, 12, 16), (0.8, 1.1, 2.5)


@pytest.fixture(params=FORMS)
def form(request) -> str:
    """The profile that the results are for."""
    return request.param


@pytest.fixture(params=ORIENTATIONS)
def case(request, form, manifest, provenance, tmp_path):  # noqa: F811  a fixture
    """Findings, their SEG and their SR, on an axial, a sagittal, a coronal and an oblique grid."""
    return make_case(request.param, form, manifest, provenance, tmp_path)


def make_case(orientation, form, manifest, provenance, folder) -> tuple[Findings, Path, Path]:  # noqa: F811
    geometry, headers = series_geometry(mr_headers(ORIENTATIONS[orientation], SHAPE, SPACING))
    findings = Findings(asymmetric_labels(SHAPE), geometry)
    paths = {ResultRole.SEG: folder / "seg.dcm", ResultRole.SR: folder / "sr.dcm"}
    results = {
        each.role: each.data
        for each in encode_results(findings, headers, manifest, provenance, PROFILES[form])
    }
    for role, path in paths.items():
        path.write_bytes(results[role])
    return findings, *paths.values()


def test_dcmqi_gives_the_masks_back_in_place(case, manifest):  # noqa: F811
    findings, seg, _ = case
    masks = tools.dcmqi_masks(seg)
    assert [mask.attributes["SegmentLabel"] for mask in masks] == [each.title for each in manifest.segment]
    for mask, segment in zip(masks, manifest.segment, strict=True):
        there = mask.on_grid(findings.geometry.affine, findings.labels.shape)
        np.testing.assert_array_equal(there, findings.labels == segment.label)
        assert mask.attributes["recommendedDisplayRGBValue"] == pytest.approx(segment.color, abs=3)


def test_dcmqi_reads_the_same_numbers_from_the_report(case, manifest):  # noqa: F811
    findings, _, sr = case
    values = {
        group["TrackingIdentifier"]: float(item["value"])
        for group in tools.dcmqi_report(sr)["Measurements"]
        for item in group.get("measurementItems") or ()
    }
    assert values == {
        segment.name: pytest.approx((findings.labels == segment.label).sum() * findings.geometry.voxel_ml)
        for segment in manifest.segment
    }


def test_dcmqi_names_the_segment_that_each_group_measures(case):
    _, seg, sr = case
    groups = [group for group in tools.dcmqi_report(sr)["Measurements"] if group.get("measurementItems")]
    uids = {
        mask.attributes["TrackingUniqueIdentifier"]: mask.attributes["labelID"]
        for mask in tools.dcmqi_masks(seg)
    }
    assert {group["TrackingUniqueIdentifier"]: group["ReferencedSegment"] for group in groups} == uids


def test_dcmtk_dumps_both_without_a_complaint(case):
    for path in case[1:]:
        assert tools.dcmtk_problems(path) == []
        assert pydicom.dcmread(path).SOPInstanceUID in tools.dcmtk_dump(path)


def test_dcmtk_prints_the_report_with_its_values(case, manifest):  # noqa: F811
    findings, _, sr = case
    printed = tools.dcmtk_report(sr)
    for segment in manifest.segment:
        volume = (findings.labels == segment.label).sum() * findings.geometry.voxel_ml
        assert f'"Volume")="{float(f"{volume:.7g}"):g}" (ml,UCUM' in printed


def test_dcmtk_draws_each_frame_of_the_segmentation(case):
    _, seg, _ = case
    frames = pydicom.dcmread(seg).pixel_array
    for number, frame in enumerate(frames, 1):
        drawn = tools.dcmtk_frame(seg, number)
        np.testing.assert_array_equal(drawn > 127, frame == 1)


def test_pixelmed_finds_no_error_in_the_report(form, manifest, provenance, tmp_path):  # noqa: F811
    _, _, sr = make_case("oblique", form, manifest, provenance, tmp_path)
    assert tools.pixelmed_problems(sr) == []


def test_pixelmed_finds_a_group_without_its_segment(manifest, provenance, tmp_path):  # noqa: F811
    _, _, sr = make_case("axial", "generic", manifest, provenance, tmp_path)
    ds = pydicom.dcmread(sr)
    (measurements,) = [each for each in ds.ContentSequence if _code(each) == IMAGING_MEASUREMENTS]
    group = measurements.ContentSequence[0]
    group.ContentSequence = [item for item in group.ContentSequence if item.ValueType != "IMAGE"]
    ds.save_as(sr)
    assert any("Missing conditional content item" in each for each in tools.pixelmed_problems(sr))


def _code(item: Dataset) -> str:
    return str(item.ConceptNameCodeSequence[0].CodeValue)
