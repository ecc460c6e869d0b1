"""C-FIND identifiers to queries, and rows to responses."""

from __future__ import annotations

from io import BytesIO

import pytest
from pydicom.dataset import Dataset
from pynetdicom.dsutils import decode, encode

from dicomnode.dimse.matching import parse_identifier, response_identifier
from dicomnode.errors import QueryNotUnderstood, QueryRefused
from dicomnode.model.query import AnyOf, Level, Query, Range, Single, Wildcard


def on_the_wire(level: str | None = "STUDY", **elements: object) -> Dataset:
    """An identifier as a peer's request holds it."""
    ds = Dataset()
    if level is not None:
        ds.QueryRetrieveLevel = level
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    return decode(BytesIO(encode(ds, True, True)), True, True)


@pytest.mark.parametrize(
    ("keyword", "value", "match"),
    [
        ("PatientID", "P1", Single("P1")),
        ("PatientID", "P*", Wildcard("P*")),
        ("PatientName", "D?e^J*", Wildcard("D?e^J*")),
        ("StudyInstanceUID", "1.2", Single("1.2")),
        ("StudyInstanceUID", ["1.2", "1.3"], AnyOf(("1.2", "1.3"))),
        ("ModalitiesInStudy", ["CT", "MR"], AnyOf(("CT", "MR"))),
        ("StudyDate", "20240229", Single("20240229")),
        ("StudyDate", "20240101-20240229", Range("20240101", "20240229")),
        ("StudyDate", "-20240229", Range(None, "20240229")),
        ("StudyDate", "20240101-", Range("20240101", None)),
        ("StudyTime", "0800-1200", Range("0800", "1200")),
        ("AccessionNumber", "A-1", Single("A-1")),
    ],
)
def test_a_key_is_matched_by_what_it_holds(keyword: str, value: object, match: object) -> None:
    query = parse_identifier(on_the_wire(**{keyword: value}))
    assert query.matches == {keyword: match}
    assert query.return_keys == (keyword,)


@pytest.mark.parametrize("value", ["", "*", "**"])
def test_universal_matching_constrains_nothing(value: str) -> None:
    query = parse_identifier(on_the_wire(PatientID=value))
    assert query == Query(Level.STUDY, {}, ("PatientID",))


def test_attributes_of_the_identifier_itself_are_no_keys() -> None:
    query = parse_identifier(on_the_wire(SpecificCharacterSet="ISO_IR 100", RetrieveAETitle="X"))
    assert query.return_keys == ()


def test_a_sequence_is_answered_empty() -> None:
    query = parse_identifier(on_the_wire(RequestAttributesSequence=[Dataset()]))
    assert query.matches == {}
    assert response_identifier(query, {}, "NODE").RequestAttributesSequence == []


@pytest.mark.parametrize("level", [None, "", "PATIENT", "study"])
def test_a_level_that_the_model_does_not_have_is_refused(level: str | None) -> None:
    with pytest.raises(QueryRefused):
        parse_identifier(on_the_wire(level))


@pytest.mark.parametrize(
    "elements",
    [
        {"level": "SERIES"},
        {"level": "SERIES", "StudyInstanceUID": ""},
        {"level": "SERIES", "StudyInstanceUID": ["1.2", "1.3"]},
        {"level": "IMAGE", "StudyInstanceUID": "1.2"},
        {"level": "STUDY", "StudyInstanceUID": "1.2.*"},
        {"level": "STUDY", "StudyInstanceUID": "../etc"},
    ],
)
def test_unique_keys_that_do_not_name_one_entity_are_refused(elements: dict[str, str]) -> None:
    with pytest.raises(QueryRefused):
        parse_identifier(on_the_wire(**elements))


def test_a_range_of_three_is_not_understood() -> None:
    with pytest.raises(QueryNotUnderstood):
        parse_identifier(on_the_wire(StudyDate="20240101-20240102-20240103"))


def test_an_error_does_not_repeat_a_value() -> None:
    with pytest.raises(QueryRefused) as refused:
        parse_identifier(on_the_wire(StudyInstanceUID="Doe^Jane"))
    assert "Doe" not in str(refused.value)


def test_a_response_has_what_was_asked_for_and_the_unique_keys() -> None:
    query = Query(Level.SERIES, {}, ("Modality", "SeriesDescription", "NumberOfSeriesRelatedInstances"))
    row = {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.3", "Modality": "CT", "PatientID": "P1"}
    ds = response_identifier(query, row | {"NumberOfSeriesRelatedInstances": 7}, "NODE")
    assert (ds.QueryRetrieveLevel, ds.RetrieveAETitle) == ("SERIES", "NODE")
    assert (ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.Modality) == ("1.2", "1.3", "CT")
    assert ds.SeriesDescription == ""
    assert ds.NumberOfSeriesRelatedInstances == 7
    assert "PatientID" not in ds
    assert "SpecificCharacterSet" not in ds


def test_text_beyond_ascii_survives_the_wire() -> None:
    query = Query(Level.STUDY, {}, ("PatientName",))
    ds = response_identifier(query, {"StudyInstanceUID": "1.2", "PatientName": "Müller^Jürgen"}, "NODE")
    assert ds.SpecificCharacterSet == "ISO_IR 192"
    back = decode(BytesIO(encode(ds, False, True)), False, True)
    assert str(back.PatientName) == "Müller^Jürgen"


@pytest.mark.parametrize(
    "keyword", ["InstanceNumber", "StudyDate", "Rows", "SliceThickness", "StudyInstanceUID"]
)
def test_junk_in_a_row_does_not_break_a_response(keyword: str) -> None:
    query = Query(Level.STUDY, {}, (keyword,))
    ds = response_identifier(query, {"StudyInstanceUID": "1.2", keyword: "junk\n"}, "NODE")
    assert encode(ds, False, True)
