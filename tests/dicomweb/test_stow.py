"""STOW-RS: what is answered success is durable, what is refused says why, a bad part costs only itself."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree

import httpx
import pydicom
import pytest
from dicomweb_client import DICOMwebClient
from pydicom.filewriter import dcmwrite
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian
from sqlalchemy import select

from dicomnode.errors import DiskFailed, StorageFailed
from dicomnode.model.instance import Addition, AssociationFacts, Received
from dicomnode.model.limits import InstanceLimits
from dicomnode.store.schema import association, audit
from tests.dicomweb.web import BOUNDARY, Web, multipart, part10, references, related, serving
from tests.harness.heads import small_series

CLASS, INSTANCE, REASON, URL = "00081150", "00081155", "00081197", "00081190"


@pytest.fixture
def web(database_url: str, tmp_path: Path) -> Iterator[Web]:
    """A running STOW server over an empty store, once with SQLite and once with PostgreSQL."""
    with serving(tmp_path, url=database_url) as web:
        yield web


@pytest.fixture
def series() -> list[pydicom.Dataset]:
    return small_series(4)


def data_set(ds: pydicom.Dataset) -> bytes:
    buffer = BytesIO()
    dcmwrite(buffer, pydicom.Dataset(ds), implicit_vr=False, little_endian=True, enforce_file_format=False)
    return buffer.getvalue()


def test_every_instance_that_is_answered_is_in_the_catalog_and_says_where_it_is(web, series):
    answer = web.store(multipart(*map(part10, series)))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/dicom+json"
    place = f"{web.url}/studies/{series[0].StudyInstanceUID}"
    assert json.loads(answer.content)[URL]["Value"] == [place]
    assert references(answer, "ReferencedSOPSequence") == [
        {
            CLASS: ds.SOPClassUID,
            INSTANCE: ds.SOPInstanceUID,
            URL: f"{place}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}",
        }
        for ds in series
    ]
    assert web.stored() == {ds.SOPInstanceUID for ds in series}
    assert {path.parent.parent.name for path in web.files()} == {"objects"}


def test_dicomweb_client_stores_a_study(web, series):
    client = DICOMwebClient(web.url)
    read = [pydicom.dcmread(BytesIO(part10(ds))) for ds in series]
    answered = client.store_instances(read, study_instance_uid=series[0].StudyInstanceUID)
    assert [item.ReferencedSOPInstanceUID for item in answered.ReferencedSOPSequence] == [
        ds.SOPInstanceUID for ds in series
    ]
    assert len(web.stored()) == 4


def test_the_answer_is_xml_where_xml_is_accepted(web, series):
    answer = web.store(multipart(part10(series[0])), Accept="application/dicom+xml")
    assert answer.headers["content-type"] == "application/dicom+xml"
    root = ElementTree.fromstring(answer.content)  # noqa: S314  our own answer
    keywords = {element.get("keyword") for element in root.iter() if element.get("keyword")}
    assert keywords == {
        "RetrieveURL",
        "ReferencedSOPSequence",
        "ReferencedSOPClassUID",
        "ReferencedSOPInstanceUID",
    }
    assert web.store(multipart(part10(series[0])), Accept="text/html").status_code == 406


def test_one_instance_needs_no_multipart(web, series):
    answer = web.store(part10(series[0]), Content_Type="application/dicom")
    assert answer.status_code == 200
    assert web.stored() == {series[0].SOPInstanceUID}


def test_what_came_by_stow_is_what_would_have_come_by_c_store(web, series):
    assert web.store(multipart(part10(series[0]))).status_code == 200
    facts = AssociationFacts("a", "CT1", "NODE", "127.0.0.1")
    ds = series[0]
    same = Received(facts, ds.SOPClassUID, ds.SOPInstanceUID, ds.file_meta.TransferSyntaxUID, data_set(ds))
    assert web.ingest.store(same) is Addition.REPEATED
    assert len(web.files()) == 1


def test_a_file_head_of_any_kind_leaves_no_trace_in_what_is_kept(web, series):
    series[0].preamble = b"MZ" + b"\x90" * 126
    series[0].file_meta.PrivateInformationCreatorUID = "1.2.3"
    series[0].file_meta.PrivateInformation = b"secret"
    series[0].file_meta.SourceApplicationEntityTitle = "SENDER"
    assert web.store(multipart(part10(series[0]))).status_code == 200
    kept = web.files()[0].read_bytes()
    assert kept[:132] == bytes(128) + b"DICM"
    assert b"secret" not in kept
    assert kept.endswith(data_set(series[0]))


def test_the_same_instance_again_is_welcome_and_other_content_is_refused_and_audited(web, series):
    assert [web.store(multipart(part10(series[0]))).status_code for _ in range(2)] == [200, 200]
    series[0].PatientName = "Other^Name"
    answer = web.store(multipart(part10(series[0])))
    assert answer.status_code == 409
    assert references(answer, "FailedSOPSequence") == [
        {CLASS: series[0].SOPClassUID, INSTANCE: series[0].SOPInstanceUID, REASON: 0x0111}
    ]
    with web.database.read() as tx:
        assert tx.execute(select(audit.c.event)).scalar_one() == "duplicate_differs"
    assert len(web.files()) == 1


def test_the_same_instance_twice_in_one_request_is_kept_once(web, series):
    changed = part10(series[0]).replace(b"Doe^Jane", b"Roe^Jane")
    answer = web.store(multipart(part10(series[0]), part10(series[0]), changed))
    assert answer.status_code == 202
    assert len(references(answer, "ReferencedSOPSequence")) == 2
    assert [item[REASON] for item in references(answer, "FailedSOPSequence")] == [0x0111]
    assert len(web.files()) == 1


def test_good_and_bad_parts_mixed_are_202_and_each_bad_one_has_its_reason(web, series):
    mismatched, unknown = small_series(1)[0], small_series(1)[0]
    unknown.SOPClassUID = unknown.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    uid = mismatched.SOPInstanceUID.encode()
    named_otherwise = uid[:-1] + (b"1" if uid.endswith(b"2") else b"2")
    answer = web.store(
        multipart(
            part10(series[0]),
            b"junk" * 100,
            part10(series[1])[:300],
            part10(unknown),
            part10(mismatched).replace(uid, named_otherwise, 1),
            ("Content-Type: text/html", b"<html>"),
            part10(series[2]),
        )
    )
    assert answer.status_code == 202
    assert web.stored() == {series[0].SOPInstanceUID, series[2].SOPInstanceUID}
    assert [item[REASON] for item in references(answer, "FailedSOPSequence")] == [0x0122, 0xA900]
    assert [item[REASON] for item in references(answer, "OtherFailuresSequence")] == [0xC000, 0xC000, 0xC000]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"StudyInstanceUID": ""}, 0xA900),
        ({"SeriesInstanceUID": "1.2.../../etc"}, 0xC000),
        ({"SeriesInstanceUID": "1." + "1" * 63}, 0xC000),
    ],
)
def test_an_instance_without_a_clear_identity_is_refused(web, series, change, reason):
    for keyword, value in change.items():
        setattr(series[0], keyword, value)
    answer = web.store(multipart(part10(series[0])))
    assert answer.status_code == 409
    assert [item[REASON] for item in references(answer, "FailedSOPSequence")] == [reason]
    assert web.files() == []


def test_an_instance_of_another_study_than_the_url_names_is_refused(web, series):
    other = small_series(1)[0]
    answer = web.store(multipart(part10(series[0]), part10(other)), study=series[0].StudyInstanceUID)
    assert answer.status_code == 202
    assert [item[REASON] for item in references(answer, "FailedSOPSequence")] == [0xA900]
    assert web.store(multipart(part10(other)), study=series[0].StudyInstanceUID).status_code == 409
    assert web.stored() == {series[0].SOPInstanceUID}
    assert len(web.files()) == 1
    assert web.store(multipart(part10(other)), study="..%2F..").status_code in (400, 404)


def test_a_body_of_junk_parts_is_400_and_leaves_nothing(web):
    answer = web.store(multipart(b"junk", bytes(500), b""))
    assert answer.status_code == 400
    assert len(references(answer, "OtherFailuresSequence")) == 3
    assert web.files() == []


@pytest.mark.parametrize("kind", ["application/zip", "text/html", "image/jpeg"])
def test_parts_of_another_kind_are_415(web, kind):
    assert web.store(multipart((f"Content-Type: {kind}", b"PK"))).status_code == 415


@pytest.mark.parametrize(
    "kind", ["application/json", "multipart/form-data; boundary=b", related("text/plain")]
)
def test_a_body_of_another_kind_is_415(web, kind):
    assert web.store(b"x", Content_Type=kind).status_code == 415


def test_a_deflated_instance_is_kept_deflated_and_a_bomb_is_refused(tmp_path, series):
    with serving(tmp_path, limits=InstanceLimits(inflated=1_000_000)) as web:
        stores_a_deflated_instance_and_refuses_a_bomb(web, series)


def stores_a_deflated_instance_and_refuses_a_bomb(web: Web, series: list[pydicom.Dataset]) -> None:
    series[0].file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    assert web.store(multipart(part10(series[0]))).status_code == 200
    bomb = part10(series[0])
    head = bomb[: 144 + int.from_bytes(bomb[140:144], "little")]
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    bomb = head + deflate.compress(data_set(series[0]) + bytes(2_000_000)) + deflate.flush()
    answer = web.store(multipart(bomb))
    assert [item[REASON] for item in references(answer, "FailedSOPSequence")] == [0xC000]
    assert len(web.files()) == 1


def test_implicit_vr_is_read_and_an_unknown_transfer_syntax_is_refused(web, series):
    series[0].file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    assert web.store(multipart(part10(series[0]))).status_code == 200
    odd = part10(series[1]).replace(b"1.2.840.10008.1.2.1\x00", b"1.2.840.10008.9.9.9\x00", 1)
    answer = web.store(multipart(odd))
    assert [item[REASON] for item in references(answer, "FailedSOPSequence")] == [0xC122]


def test_markup_and_shell_words_in_names_are_kept_and_never_answered(web, series):
    series[0].PatientName = "<script>^$(reboot)"
    series[0].StudyDescription = "a\r\nb\x1b[31m"
    answer = web.store(multipart(part10(series[0])))
    assert answer.status_code == 200
    assert b"script" not in answer.content


def test_two_patients_in_one_study_are_noted(web, series):
    series[1].PatientID = "P2"
    assert web.store(multipart(part10(series[0]), part10(series[1]))).status_code == 200
    with web.database.read() as tx:
        assert tx.exec_driver_sql("SELECT patient_conflict FROM study").scalar_one()


def test_rules_see_the_name_that_the_configuration_gives_the_address(web, series):
    web.store(multipart(part10(series[0])))
    web.store(multipart(part10(series[1])))
    with web.database.read() as tx:
        rows = tx.execute(select(association)).all()
    assert {(row.calling_ae, row.called_ae, row.address) for row in rows} == {
        ("MODALITY", "NODE", "127.0.0.1")
    }
    assert len({row.key for row in rows}) == 2


def test_a_disk_without_space_is_503_and_the_client_is_told_when_to_come_again(tmp_path, series):
    with serving(tmp_path, minimum_free=2**62) as web:
        answer = web.store(multipart(*map(part10, series)))
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert [item[REASON] for item in references(answer, "FailedSOPSequence")] == [0xA700] * 4
        assert web.files() == []


@pytest.mark.parametrize("error", [StorageFailed("the database is away"), DiskFailed("the disk failed")])
def test_what_could_not_be_kept_is_never_answered_as_stored(web, series, monkeypatch, error):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("dicomnode.store.catalog.add_instances", fail)
    answer = web.store(multipart(*map(part10, series)))
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert web.stored() == set()


def test_a_sync_that_fails_is_503_and_keeps_nothing(web, series, monkeypatch):
    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.fdatasync", fail)
    assert web.store(multipart(*map(part10, series))).status_code == 503
    assert web.files() == []
    assert web.stored() == set()


def test_a_request_of_many_instances_is_one_transaction(web, monkeypatch):
    began = []
    begin = type(web.database).begin
    monkeypatch.setattr(type(web.database), "begin", lambda self: began.append(1) or begin(self))
    assert web.store(multipart(*map(part10, small_series(40)))).status_code == 200
    assert len(began) == 1
    assert len(web.stored()) == 40


def test_an_error_of_ours_is_500_without_a_word_of_what_was_in_it(web, series, monkeypatch):
    def fail(*_: object) -> None:
        raise ZeroDivisionError("Doe^Jane")

    monkeypatch.setattr("dicomnode.store.catalog.add_instances", fail)
    answer = web.store(multipart(part10(series[0])))
    assert answer.status_code == 500
    assert b"Doe" not in answer.content


def test_a_client_that_hangs_up_leaves_nothing(web, series):
    body = multipart(*map(part10, series))

    def half() -> object:
        yield body[: len(body) // 2]
        raise ConnectionAbortedError

    with pytest.raises((ConnectionAbortedError, httpx.HTTPError)):
        web.store(half())
    assert web.store(multipart(part10(series[3]))).status_code == 200
    assert len(web.files()) == 1
    assert web.stored() == {series[3].SOPInstanceUID}


def test_boundaries_may_be_quoted_or_not_and_types_too(web, series):
    body = multipart(part10(series[0])).replace(BOUNDARY.encode(), b"plain")
    for kind in ("boundary=plain", 'boundary="plain"', "type=application/dicom; boundary=plain"):
        assert web.store(body, Content_Type=f"multipart/related; {kind}").status_code == 200
