"""What did not run is said, and what is no longer true is taken back."""

from __future__ import annotations

import dataclasses
import io

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage, generate_uid

from dicomnode.errors import GateFailed
from dicomnode.model.profile import Profile
from dicomnode.model.result import ResultReference, ResultRole
from dicomnode.results import gate
from dicomnode.results.conformance import dciodvfy_problems, find_dciodvfy
from dicomnode.results.encode import encode_results
from dicomnode.results.notice import encode_notice, notice_lines
from dicomnode.results.withdrawal import encode_withdrawal
from tests.conftest import NOT_RUN_HERE
from tests.imaging.builders import mr_headers
from tests.readers import tools
from tests.results import everything

MANIFEST = everything.manifest_of_everything("SEG", "SR", "KOS")
REASON = "3 slices missing between −142.5 and −138.0 mm"
WITH_PICTURE = Profile(picture_for_notice=True)


def bare_header():
    """A Secondary Capture that tells its names and nothing else."""
    ds = Dataset()
    ds.SOPClassUID = SecondaryCaptureImageStorage
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = (generate_uid() for _ in range(3))
    return ds


def read(encoded):
    return pydicom.dcmread(io.BytesIO(encoded.data))


def _is_of_what_the_source_lacks(line):
    """A bare header tells no patient and no part of the body: neither does what is made from it."""
    return "DICOMDIR" in line or ("Laterality" in line and "only permitted to be empty when" in line)


def references(results):
    return [
        ResultReference(
            each.role, each.StudyInstanceUID, each.SeriesInstanceUID, each.SOPClassUID, each.SOPInstanceUID
        )
        for each in results
    ]


@pytest.mark.parametrize("headers", [mr_headers(), [bare_header()]], ids=["a series", "a bare header"])
@pytest.mark.parametrize("manifest", [MANIFEST, None], ids=["installed", "not installed"])
def test_a_notice_says_which_pipeline_did_not_run_and_why(headers, manifest, provenance):
    report, picture = encode_notice(
        headers, manifest, provenance, "MISSING_SLICES", REASON, WITH_PICTURE, pipeline="everything"
    )
    ds = read(report)
    said = [
        item.TextValue
        for item in ds.ContentSequence
        if item.get("RelationshipType") == "CONTAINS" and "TextValue" in item
    ]
    assert ("Everything at once 2.1" if manifest else "everything") in said[0]
    assert said[1] == f"Reason: {REASON} (MISSING_SLICES)."
    assert ds.StudyInstanceUID == headers[0].StudyInstanceUID
    assert (report.role, picture.role) == (ResultRole.NOTICE, ResultRole.NOTICE)
    assert report.SOPInstanceUID != picture.SOPInstanceUID
    if find_dciodvfy() is None:
        pytest.skip(f"{NOT_RUN_HERE}dciodvfy")
    for encoded in (report, picture):
        assert [
            line for line in dciodvfy_problems(encoded.data) if not _is_of_what_the_source_lacks(line)
        ] == []


def test_a_notice_is_a_report_alone_where_no_picture_is_asked_for(provenance):
    results = encode_notice(
        mr_headers(), MANIFEST, provenance, "OUT_OF_MEMORY", "it ran out of memory", Profile()
    )
    assert [each.SOPClassUID for each in results] == ["1.2.840.10008.5.1.4.1.1.88.11"]


def test_a_destination_that_takes_no_notices_gets_none(provenance):
    deaf = Profile(takes=frozenset({ResultRole.SEG}))
    assert encode_notice(mr_headers(), MANIFEST, provenance, "REFUSED", "it does not suit", deaf) == ()


def test_a_notice_without_a_study_cannot_be(provenance):
    with pytest.raises(GateFailed, match="study"):
        encode_notice([Dataset()], MANIFEST, provenance, "REFUSED", "it does not suit", Profile())


def test_pixelmed_and_dcmtk_read_a_notice_and_a_withdrawal(provenance, tmp_path):
    findings, headers = everything.volume_case()
    earlier = references(encode_results(findings, headers, MANIFEST, provenance))
    (notice,) = encode_notice(headers, MANIFEST, provenance, "MISSING_SLICES", REASON, Profile())
    for name, encoded in (
        ("notice", notice),
        ("withdrawal", encode_withdrawal(earlier, headers[0], provenance)),
    ):
        (tmp_path / name).write_bytes(encoded.data)
        assert tools.pixelmed_problems(tmp_path / name) == []
        assert tools.dcmtk_problems(tmp_path / name) == []


def test_a_withdrawal_rejects_each_result_of_the_earlier_generation(provenance):
    findings, headers = everything.volume_case()
    earlier = references(encode_results(findings, headers, MANIFEST, provenance))
    later = dataclasses.replace(provenance, job_key="later")
    encoded = encode_withdrawal(earlier, headers[0], later)
    ds = read(encoded)
    assert ds.Modality == "KO"
    assert ds.ConceptNameCodeSequence[0].CodeValue == "113037"
    rejected = [
        item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        for item in ds.ContentSequence
        if item.ValueType in ("IMAGE", "COMPOSITE")
    ]
    assert rejected == [each.SOPInstanceUID for each in earlier]
    assert dciodvfy_problems(encoded.data) == []
    with pytest.raises(GateFailed):
        gate.check_withdrawal(encoded, earlier[1:], headers[0])


def test_the_gate_refuses_a_notice_with_another_reason(provenance):
    headers = mr_headers()
    (notice,) = encode_notice(headers, MANIFEST, provenance, "REFUSED", "it does not suit", Profile())
    with pytest.raises(GateFailed):
        gate.check_notice(notice, notice_lines(MANIFEST, "REFUSED", "it suits", ""), headers[0])
