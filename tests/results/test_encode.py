"""A result is right in place, patient and meaning, and conforms to its IOD."""

from __future__ import annotations

import dataclasses
import io
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from dicomnode.errors import GateFailed
from dicomnode.imaging.findings import Findings
from dicomnode.imaging.geometry import series_geometry
from dicomnode.imaging.volume import read_volume
from dicomnode.model.profile import Profile
from dicomnode.results.conformance import dciodvfy_problems, find_dciodvfy
from dicomnode.results.encode import encode_results
from dicomnode.results.gate import check_findings, check_seg, check_sr
from dicomnode.results.seg import encode_seg
from dicomnode.results.sr import encode_sr
from tests.conftest import NOT_RUN_HERE
from tests.imaging.builders import ORIENTATIONS, mr_headers
from tests.results.conftest import asymmetric_labels


def case(orientation="oblique", shape=(5, 12, 10), spacing=(0.8, 1.1, 2.5)):
    geometry, headers = series_geometry(mr_headers(ORIENTATIONS[orientation], shape, spacing))
    return Findings(asymmetric_labels(shape), geometry), headers


def read(encoded):
    return pydicom.dcmread(io.BytesIO(encoded.data))


def changed(encoded, change):
    """The same result with `change` done to its data set."""
    ds = read(encoded)
    change(ds)
    buffer = io.BytesIO()
    ds.save_as(buffer)
    return dataclasses.replace(encoded, data=buffer.getvalue())


def groups_of(report):
    """The measurement groups of a report, in their order."""
    container = next(
        item
        for item in report.ContentSequence
        if item.get("ConceptNameCodeSequence") and item.ConceptNameCodeSequence[0].CodeValue == "126010"
    )
    return container.ContentSequence


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_both_results_conform_without_error_or_warning(orientation, manifest, provenance):
    if find_dciodvfy() is None:
        pytest.skip(f"{NOT_RUN_HERE}dciodvfy")
    findings, headers = case(orientation)
    for encoded in encode_results(findings, headers, manifest, provenance):
        assert dciodvfy_problems(encoded.data) == []


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_mask_comes_back_bit_for_bit_on_its_source_instance(orientation, manifest, provenance):
    findings, headers = case(orientation)
    ds = read(encode_results(findings, headers, manifest, provenance)[0])
    index_of = {header.SOPInstanceUID: index for index, header in enumerate(headers)}
    seen = np.zeros_like(findings.labels)
    for frame, pixels in zip(ds.PerFrameFunctionalGroupsSequence, ds.pixel_array, strict=True):
        source = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        number = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        seen[index_of[source]][pixels == 1] = manifest.segment[number - 1].label
    assert np.array_equal(seen, findings.labels)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 6)] * 3),
    shape=st.tuples(st.integers(3, 5), st.integers(3, 9), st.integers(3, 9)),
)
# highdicom packs frames of fewer than 8 pixels wrongly; the gate refuses them.
def test_any_grid_passes_the_gate(angles, spacing, shape, manifest, provenance):
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    geometry, headers = series_geometry(mr_headers(turn[:, :2].T, shape, spacing))
    assert encode_results(Findings(asymmetric_labels(shape), geometry), headers, manifest, provenance)


def test_a_wholly_empty_mask_declares_its_segments_and_states_volumes_of_nought(manifest, provenance):
    findings, headers = case()
    nothing = Findings(np.zeros_like(findings.labels), findings.geometry)
    seg, sr = encode_results(nothing, headers, manifest, provenance)
    assert len(read(seg).SegmentSequence) == 2
    groups = groups_of(read(sr))
    volumes = [
        i.MeasuredValueSequence[0].NumericValue
        for g in groups
        for i in g.ContentSequence
        if i.ValueType == "NUM"
    ]
    assert volumes == [0, 0]


def test_a_segment_without_a_voxel_passes_when_empty_frames_are_omitted(manifest, provenance):
    findings, headers = case()
    half = Findings(np.where(findings.labels == 2, 2, 0).astype(np.uint8), findings.geometry)
    seg = encode_seg(half, headers, manifest, provenance, Profile(omit_empty_frames=True))
    check_seg(seg, half, headers, manifest)


def test_the_same_job_encodes_to_the_same_bytes(manifest, provenance):
    findings, headers = case()
    first, second = (encode_results(findings, headers, manifest, provenance) for _ in range(2))
    assert [result.data for result in first] == [result.data for result in second]


@pytest.mark.parametrize(
    "name", ["chrArab", "chrGreek", "chrH31", "chrH32", "chrHbrw", "chrKoreanMulti", "chrRuss", "chrX1"]
)
def test_a_name_arrives_in_the_bytes_it_came_in(name, shared_data, manifest, provenance):
    source = pydicom.dcmread(shared_data / "odd" / "charset" / f"{name}.dcm")
    headers = mr_headers()
    for ds in headers:
        ds.SpecificCharacterSet, ds.PatientName = source.SpecificCharacterSet, source.PatientName
    geometry, headers = series_geometry(headers)
    findings = Findings(asymmetric_labels(geometry.shape), geometry)
    for encoded in encode_results(findings, headers, manifest, provenance):
        ds = read(encoded)
        assert ds.PatientName == source.PatientName
        assert ds.PatientName.original_string == source.PatientName.original_string


def test_the_source_headers_are_left_as_they_were(manifest, provenance):
    findings, headers = case()
    before = [ds.to_json() for ds in headers]
    encode_results(findings, headers, manifest, provenance)
    assert [ds.to_json() for ds in headers] == before


def test_type_2_attributes_that_the_source_lacks_are_empty(manifest, provenance):
    headers = mr_headers()
    for ds in headers:
        for keyword in (
            "StudyDate",
            "StudyTime",
            "StudyID",
            "AccessionNumber",
            "PatientBirthDate",
            "SliceThickness",
        ):
            delattr(ds, keyword)
    geometry, headers = series_geometry(headers)
    seg, sr = encode_results(
        Findings(asymmetric_labels(geometry.shape), geometry), headers, manifest, provenance
    )
    assert read(seg).AccessionNumber == read(sr).StudyID == ""


def test_research_only_is_in_the_series_description_of_both(manifest, provenance):
    findings, headers = case()
    for encoded in encode_results(findings, headers, manifest, provenance):
        assert read(encoded).SeriesDescription.startswith("RESEARCH ONLY")


def test_the_gate_refuses_a_label_without_a_meaning(manifest):
    findings, headers = case()
    odd = Findings(np.full_like(findings.labels, 3), findings.geometry)
    with pytest.raises(GateFailed, match="mean nothing"):
        check_findings(odd, headers, manifest)


def test_the_gate_refuses_headers_in_another_order(manifest):
    findings, headers = case()
    with pytest.raises(GateFailed, match="another order"):
        check_findings(findings, headers[::-1], manifest)


def _swap_frames(ds):
    ds.PixelData = ds.PixelData[1:] + ds.PixelData[:1]


def _move(ds):
    ds.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0].ImagePositionPatient[2] += 1


def _other_patient(ds):
    ds.PatientID = "P2"


def _other_study(ds):
    ds.StudyInstanceUID = "1.2.3"


def _other_source(ds):
    frames = ds.PerFrameFunctionalGroupsSequence
    first, second = (frame.DerivationImageSequence for frame in frames[:2])
    frames[0].DerivationImageSequence, frames[1].DerivationImageSequence = second, first


def _other_frame_of_reference(ds):
    ds.FrameOfReferenceUID = "1.2.3"


def _swap_segments(ds):
    first, second = ds.SegmentSequence
    first.SegmentLabel, second.SegmentLabel = second.SegmentLabel, first.SegmentLabel


def _turn(ds):
    plane = ds.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    plane.ImageOrientationPatient = [-float(value) for value in plane.ImageOrientationPatient]


@pytest.mark.parametrize(
    "change",
    [
        _swap_frames,
        _move,
        _other_patient,
        _other_study,
        _other_source,
        _other_frame_of_reference,
        _swap_segments,
        _turn,
    ],
)
def test_the_gate_refuses_a_segmentation_that_was_changed(change, manifest, provenance):
    findings, headers = case()
    seg = encode_seg(findings, headers, manifest, provenance, Profile())
    with pytest.raises(GateFailed):
        check_seg(changed(seg, change), findings, headers, manifest)


def _volume(ds):
    group = groups_of(ds)[0]
    number = next(item for item in group.ContentSequence if item.ValueType == "NUM")
    number.MeasuredValueSequence[0].NumericValue = "1"


def _verified(ds):
    ds.VerificationFlag = "VERIFIED"


def _evidence(ds):
    ds.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0].ReferencedSOPSequence.pop()


@pytest.mark.parametrize("change", [_volume, _verified, _evidence, _other_patient])
def test_the_gate_refuses_a_report_that_was_changed(change, manifest, provenance):
    findings, headers = case()
    seg = encode_seg(findings, headers, manifest, provenance, Profile())
    sr = encode_sr(findings, headers, manifest, provenance, Profile(), [seg])
    with pytest.raises(GateFailed):
        check_sr(changed(sr, change), [seg], findings, headers, manifest, Profile())


def test_dcmqi_finds_each_segment_where_it_lies(tmp_path, manifest, provenance):
    program = shutil.which("segimage2itkimage", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip(f"{NOT_RUN_HERE}dcmqi")
    nibabel = pytest.importorskip("nibabel")
    findings, headers = case()
    (tmp_path / "seg.dcm").write_bytes(encode_seg(findings, headers, manifest, provenance, Profile()).data)
    command = [program, "--inputDICOM", tmp_path / "seg.dcm", "--outputDirectory", tmp_path, "-t", "nii"]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    for number, segment in enumerate(manifest.segment, 1):
        image = nibabel.load(next(tmp_path.glob(f"*{number}.nii.gz")))
        found = nibabel.affines.apply_affine(image.affine, np.argwhere(np.asarray(image.dataobj) > 0))
        lps = np.array([findings.geometry.lps_of(i) for i in np.argwhere(findings.labels == segment.label)])
        ras = lps * [-1, -1, 1]
        assert np.allclose(found[np.lexsort(found.round(2).T)], ras[np.lexsort(ras.round(2).T)], atol=0.01)


def test_dsrdump_reads_the_report(tmp_path, manifest, provenance):
    if shutil.which("dsrdump") is None:
        pytest.skip(f"{NOT_RUN_HERE}dsrdump (DCMTK)")
    findings, headers = case()
    (tmp_path / "sr.dcm").write_bytes(encode_results(findings, headers, manifest, provenance)[1].data)
    done = subprocess.run(["dsrdump", tmp_path / "sr.dcm"], check=True, capture_output=True, timeout=60)
    assert b"Imaging Measurement Report" in done.stdout
    assert done.stderr == b""


def test_a_real_oblique_head_comes_back_in_place(shared_data, manifest, provenance):
    paths = sorted((shared_data / "mr-head-t1").glob("*.dcm"))
    volume = read_volume(paths)
    headers = series_geometry([pydicom.dcmread(path, stop_before_pixels=True) for path in paths])[1]
    labels = np.where(volume.array > 90, 5, np.where(volume.array > 50, 2, 0)).astype(np.uint8)
    seg, sr = encode_results(Findings(labels, volume.geometry), headers, manifest, provenance)
    assert len(read(seg).PerFrameFunctionalGroupsSequence) == 2 * len(headers)
    assert read(sr).PatientID == headers[0].PatientID


def test_a_single_segment_whose_group_all_frames_share_is_read_back_too(manifest, provenance):
    alone = manifest.model_copy(
        update={"segment": manifest.segment[:1], "measurement": manifest.measurement[:1]}
    )
    findings, headers = case()
    only = dataclasses.replace(findings, labels=np.where(findings.labels == 2, 2, 0).astype(np.uint8))
    seg, _ = encode_results(only, headers, alone, provenance)
    assert read(seg).pixel_array.sum() == (only.labels == 2).sum()
