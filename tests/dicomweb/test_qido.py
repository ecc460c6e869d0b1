"""QIDO-RS over a catalog in SQLite and in PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree as ET

import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from tests.dicomweb.archive import Archive, serving
from tests.dicomweb.datasets import STUDY, image, order, volume

DICOM_JSON = "application/dicom+json"


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def archive(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """Three studies: CT of two series, one of them multi-frame; MR; a patient without a birth date."""
    ordered = {"RequestAttributesSequence": Sequence([order(ScheduledProcedureStepID="SPS1")])}
    step = {"PerformedProcedureStepStartDate": "20260102", "PerformedProcedureStepStartTime": "101000"}
    other = {"PatientName": "Müller^Zoë^^Dr.", "PatientID": "P2", "Modality": "MR", "StudyDate": "20250610"}
    third = {"PatientName": "Doe^John", "PatientID": "P3", "StudyTime": "235959.5", "AccessionNumber": "A_3"}
    datasets = [
        *(image(number, **ordered, **step) for number in (1, 2, 3)),
        volume(SeriesDescription="multi-frame", Manufacturer="Maker"),
        image(1, "1.2.9.1", "1.2.9", **other),
        image(1, "1.2.8.1", "1.2.8", **third, StudyDate="20260301", PatientBirthDate=""),
    ]
    folder = tmp_path_factory.mktemp("archive")
    if request.param == "sqlite":
        with serving(f"sqlite:///{folder / 'qido.sqlite3'}", folder, datasets) as archive:
            yield archive
        return
    server = request.getfixturevalue("postgres_server")
    server.execute("CREATE DATABASE {}", "qido")
    with serving(server.url("qido"), folder, datasets) as archive:
        yield archive
    server.execute("DROP DATABASE {} WITH (FORCE)", "qido")


def studies(archive: Archive, query: str) -> list[str]:
    answer = archive.get(f"/studies?{query}")
    found = answer.json() if answer.status_code == 200 else []
    return [model["0020000D"]["Value"][0] for model in found]


def test_a_client_finds_studies_series_and_instances_at_every_level_of_the_url(archive: Archive):
    client = archive.client
    assert len(client.search_for_studies()) == 3
    assert len(client.search_for_series()) == 4
    assert len(client.search_for_series(STUDY)) == 2
    assert len(client.search_for_instances()) == 6
    assert len(client.search_for_instances(STUDY)) == 4
    assert len(client.search_for_instances(STUDY, "1.2.3.4")) == 3
    assert len(client.search_for_instances(search_filters={"SOPInstanceUID": "1.2.9.1.1"})) == 1


def test_a_study_has_all_that_the_standard_demands(archive: Archive):
    (model,) = archive.client.search_for_studies(search_filters={"StudyInstanceUID": STUDY})
    study = Dataset.from_json(model)
    assert (study.StudyDate, study.StudyTime, study.AccessionNumber) == ("20260102", "101112", "A1")
    assert (study.InstanceAvailability, study.ModalitiesInStudy) == ("ONLINE", "CT")
    assert (study.PatientName, study.PatientID) == ("Doe^Jane", "P1")
    assert (study.PatientBirthDate, study.PatientSex, study.StudyID) == ("19700101", "F", "S1")
    assert study.ReferringPhysicianName == "Roe^Rick"
    assert (study.NumberOfStudyRelatedSeries, study.NumberOfStudyRelatedInstances) == (2, 4)
    assert study.RetrieveURL == f"{archive.url}/studies/{STUDY}"


def test_a_series_has_all_that_the_standard_demands(archive: Archive):
    (model,) = archive.client.search_for_series(STUDY, search_filters={"SeriesInstanceUID": "1.2.3.4"})
    series = Dataset.from_json(model)
    assert (series.Modality, series.SeriesDescription, series.SeriesNumber) == ("CT", "thin", 1)
    assert series.NumberOfSeriesRelatedInstances == 3
    assert series.PerformedProcedureStepStartDate == "20260102"
    assert series.PerformedProcedureStepStartTime == "101000"
    assert series.RequestAttributesSequence[0].ScheduledProcedureStepID == "SPS1"
    assert series.RetrieveURL == f"{archive.url}/studies/{STUDY}/series/1.2.3.4"
    assert series.StudyInstanceUID == STUDY
    assert "PatientName" not in series


def test_an_instance_has_all_that_the_standard_demands(archive: Archive):
    (model,) = archive.client.search_for_instances(STUDY, "1.2.3.5")
    instance = Dataset.from_json(model)
    assert instance.SOPClassUID == "1.2.840.10008.5.1.4.1.1.2"
    assert (instance.SOPInstanceUID, instance.InstanceNumber) == ("1.2.3.5.1", 1)
    assert (instance.Rows, instance.Columns, instance.BitsAllocated) == (12, 16, 16)
    assert instance.NumberOfFrames == 3
    assert instance.InstanceAvailability == "ONLINE"
    assert instance.RetrieveURL == f"{archive.url}/studies/{STUDY}/series/1.2.3.5/instances/1.2.3.5.1"


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("PatientName=doe^jane", {"1.2.3"}),
        ("PatientName=DOE*", {"1.2.3", "1.2.8"}),
        ("PatientName=*oh*", {"1.2.8"}),
        ("PatientName=MULLER^ZOE^^DR.", {"1.2.9"}),
        ("PatientName=M%C3%BCller*", {"1.2.9"}),
        ("PatientName=jo&fuzzymatching=true", {"1.2.8"}),
        ("PatientName=zoe+mull&fuzzymatching=true", {"1.2.9"}),
        ("PatientName=oe&fuzzymatching=true", set()),
        ("PatientID=P2", {"1.2.9"}),
        ("00100020=P2", {"1.2.9"}),
        ("AccessionNumber=A?1", set()),
        ("AccessionNumber=A?3", {"1.2.8"}),
        ("AccessionNumber=A_3", {"1.2.8"}),
        ("StudyDate=20260102", {"1.2.3"}),
        ("StudyDate=20260101-20260201", {"1.2.3"}),
        ("StudyDate=20260102-", {"1.2.3", "1.2.8"}),
        ("StudyDate=-20251231", {"1.2.9"}),
        ("StudyTime=2359-2359", {"1.2.8"}),
        ("StudyTime=1000-1011", {"1.2.3", "1.2.9"}),
        ("StudyDate=20260101-20260301&StudyTime=1200-1100", {"1.2.3"}),
        ("StudyDate=20260102-20260301&StudyTime=1000-2359", {"1.2.3", "1.2.8"}),
        ("StudyInstanceUID=1.2.3,1.2.9", {"1.2.3", "1.2.9"}),
        ("StudyInstanceUID=1.2.3%5C1.2.9", {"1.2.3", "1.2.9"}),
        ("ModalitiesInStudy=MR", {"1.2.9"}),
        ("ModalitiesInStudy=MR%5CCT", {"1.2.3", "1.2.8", "1.2.9"}),
        ("ReferringPhysicianName=ROE*&PatientID=P3", {"1.2.8"}),
        ("StudyID=S1&PatientID=P1", {"1.2.3"}),
        ("NumberOfStudyRelatedInstances=4", {"1.2.3"}),
        ("PatientID=nobody", set()),
        ("PatientName=%27%20OR%201%3D1%20--", set()),
    ],
)
def test_each_kind_of_matching_finds_its_studies(archive: Archive, query: str, found: set[str]):
    assert set(studies(archive, query)) == found


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/series?Modality=MR", 1),
        ("/series?SeriesNumber=1&PatientID=P1", 2),
        ("/series?PerformedProcedureStepStartDate=20260101-20260131", 1),
        ("/series?RequestAttributesSequence.ScheduledProcedureStepID=SPS1", 1),
        ("/series?00400275.00400009=SPS1", 1),
        ("/instances?SOPClassUID=1.2.840.10008.5.1.4.1.1.2&PatientName=doe*", 5),
        (f"/studies/{STUDY}/instances?InstanceNumber=2", 1),
        (f"/studies/{STUDY}/instances?Rows=12&Columns=16&NumberOfFrames=3", 1),
        (f"/studies/{STUDY}/instances?Rows=13", 0),
        ("/studies/1.2.404/series", 0),
    ],
)
def test_series_and_instances_are_found_by_their_own_keys_and_those_above(archive, path, found):
    answer = archive.get(path)
    assert answer.status_code == (200 if found else 204)
    assert not found or len(answer.json()) == found


def test_no_match_is_204_without_a_body(archive: Archive):
    answer = archive.get("/studies?PatientID=nobody")
    assert (answer.status_code, answer.content) == (204, b"")


def test_pages_are_parts_of_one_order_and_say_when_there_is_more(archive: Archive):
    whole = studies(archive, "")
    assert whole == ["1.2.8", "1.2.3", "1.2.9"]
    pages = [archive.get(f"/studies?limit=2&offset={offset}") for offset in (0, 2)]
    assert [m["0020000D"]["Value"][0] for page in pages for m in page.json()] == whole
    assert "additional results" in pages[0].headers["Warning"]
    assert pages[0].headers["Warning"].startswith("299 ")
    assert "Warning" not in pages[1].headers
    assert archive.get("/studies?offset=3").status_code == 204
    assert archive.get("/studies?limit=0").status_code == 204


def test_a_key_that_is_not_searched_for_is_said_and_constrains_nothing(archive: Archive):
    answer = archive.get("/studies?InstitutionName=X")
    assert len(answer.json()) == 3
    assert "InstitutionName" in answer.headers["Warning"]


def test_fields_are_included_on_demand_from_the_catalog_and_from_the_stored_header(archive: Archive):
    plain, more, everything = (
        archive.get(f"/studies/{STUDY}/series?SeriesInstanceUID=1.2.3.5{extra}").json()[0]
        for extra in ("", "&includefield=Manufacturer,BodyPartExamined,00081030", "&includefield=all")
    )
    assert not {"00080070", "00180015", "00081030"} & plain.keys()
    assert more["00080070"]["Value"] == ["Maker"]
    assert more["00180015"] == {"vr": "CS"}
    assert more["00081030"]["Value"] == ["Head"]
    assert everything["00081030"]["Value"] == ["Head"]
    assert everything["00100010"]["Value"] == [{"Alphabetic": "Doe^Jane"}]


@pytest.mark.parametrize("query", ["limit=x", "NoSuchKey=1", "StudyDate=soon", "fuzzymatching=2"])
def test_nonsense_is_400_and_says_what_is_wrong(archive: Archive, query: str):
    answer = archive.get(f"/studies?{query}")
    assert answer.status_code == 400
    assert query.split("=")[0] in answer.text


def test_a_path_that_is_no_uid_is_400(archive: Archive):
    assert archive.get("/studies/x..y/series").status_code == 400


@pytest.mark.parametrize("accept", [None, "*/*", DICOM_JSON, "application/*", "text/html, */*;q=0.1"])
def test_json_is_what_is_answered_unless_asked(archive: Archive, accept: str | None):
    assert archive.get("/studies", accept).headers["Content-Type"].startswith(DICOM_JSON)


def test_plain_json_is_answered_under_its_own_name(archive: Archive):
    assert archive.get("/studies", "application/json").headers["Content-Type"] == "application/json"


def test_xml_comes_in_parts_one_for_each_match(archive: Archive):
    answer = archive.get("/studies", 'multipart/related; type="application/dicom+xml"')
    kind, boundary = answer.headers["Content-Type"].rsplit("boundary=", 1)
    assert kind == 'multipart/related; type="application/dicom+xml"; '
    parts = answer.content.split(f"--{boundary}".encode())[1:-1]
    roots = [ET.fromstring(part.split(b"\r\n\r\n", 1)[1].strip()) for part in parts]  # noqa: S314  of our own making
    assert len(roots) == 3
    assert "<FamilyName>Müller</FamilyName>".encode() in answer.content
    assert archive.get("/studies?accept=application/dicom%2Bxml").headers["Content-Type"].startswith("multi")


def test_what_cannot_be_given_is_406(archive: Archive):
    assert archive.get("/studies", "text/html").status_code == 406
    assert archive.get("/studies", f"{DICOM_JSON};q=0").status_code == 406
