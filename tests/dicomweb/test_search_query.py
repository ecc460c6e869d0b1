"""QIDO-RS queries: from the text of a URL to what the catalog has to match."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomnode.dicomweb.search_query import STUDY_KEYS, parse_search
from dicomnode.errors import BadRequest
from dicomnode.model.query import AnyOf, Fuzzy, Level, Range, Single, Wildcard
from dicomnode.store.find import held_keys


def parse(text: str, level: Level = Level.STUDY, **above: str):
    return parse_search(level, above, parse_qsl(text, keep_blank_values=True), held_keys(level), 100)


@pytest.mark.parametrize(
    ("text", "keyword", "match"),
    [
        ("PatientID=P1", "PatientID", Single("P1")),
        ("00100020=P1", "PatientID", Single("P1")),
        ("PatientName=D?e*", "PatientName", Wildcard("D?e*")),
        ("PatientName=jane+doe&fuzzymatching=true", "PatientName", Fuzzy(("jane", "doe"))),
        ("StudyDate=20260102", "StudyDate", Single("20260102")),
        ("StudyDate=20260102-", "StudyDate", Range("20260102", None)),
        ("StudyDate=-20260102", "StudyDate", Range(None, "20260102")),
        ("StudyTime=0800-1200", "StudyTime", Range("0800", "1200")),
        ("StudyInstanceUID=1.2,1.3", "StudyInstanceUID", AnyOf(("1.2", "1.3"))),
        ("StudyInstanceUID=1.2%5C1.3", "StudyInstanceUID", AnyOf(("1.2", "1.3"))),
        ("ModalitiesInStudy=CT%5CMR", "ModalitiesInStudy", AnyOf(("CT", "MR"))),
        ("ModalitiesInStudy=CT,MR", "ModalitiesInStudy", AnyOf(("CT", "MR"))),
        ("PatientID=CT,MR", "PatientID", Single("CT,MR")),
        ("0020000D=1.2", "StudyInstanceUID", Single("1.2")),
    ],
)
def test_a_key_by_keyword_or_tag_is_matched_by_what_it_holds(text, keyword, match):
    assert parse(text).query.matches == {keyword: match}


def test_an_attribute_in_a_sequence_is_named_by_the_path_to_it():
    for text in ("RequestAttributesSequence.RequestedProcedureID=R1", "00400275.00401001=R1"):
        assert parse(text, Level.SERIES).query.matches == {"RequestedProcedureID": Single("R1")}


@pytest.mark.parametrize("text", ["PatientID=", "PatientID=*", "StudyDate=", "StudyDate=*", ""])
def test_universal_matching_constrains_nothing(text):
    assert parse(text).query.matches == {}


def test_what_a_level_answers_unasked_is_what_the_standard_lists():
    assert parse("").query.return_keys == STUDY_KEYS
    series = parse("", Level.SERIES, StudyInstanceUID="1.2").query.return_keys
    assert "PatientName" not in series
    assert {"StudyInstanceUID", "Modality", "NumberOfSeriesRelatedInstances"} <= set(series)
    assert "PatientName" in parse("", Level.SERIES).query.return_keys


@pytest.mark.parametrize("text", ["includefield=StudyDescription", "includefield=PatientID,00081030"])
def test_a_field_that_is_included_is_answered(text):
    assert "StudyDescription" in parse(text).query.return_keys


def test_all_is_everything_that_the_catalog_holds_and_what_it_does_not_hold_is_read():
    assert set(parse("includefield=all").query.return_keys) == held_keys(Level.STUDY)
    assert parse("includefield=Manufacturer").more_keys == ("Manufacturer",)


def test_what_cannot_be_matched_is_said():
    asked = parse("Manufacturer=X")
    assert asked.query.matches == {}
    assert asked.warnings == ("Manufacturer is not searched for",)


@pytest.mark.parametrize("name", ["emptyvaluematching", "multiplevaluematching"])
def test_matching_that_is_not_done_here_is_said_where_it_is_asked_for(name):
    (warning,) = parse(f'{name}=true&AccessionNumber=""').warnings
    assert warning.startswith(f"The {name} parameter is not supported")
    assert parse(f"{name}=false").warnings == ()
    with pytest.raises(BadRequest):
        parse(f"{name}=maybe")


def test_limit_and_offset_are_taken_and_the_limit_has_a_maximum():
    assert (parse("limit=7&offset=9").query.limit, parse("limit=7&offset=9").query.offset) == (7, 9)
    assert parse("limit=1000").query.limit == parse("").query.limit == 100


@pytest.mark.parametrize(
    "text",
    [
        "NoSuchKey=1",
        "limit=-1",
        "limit=x",
        "limit=1&limit=2",
        "offset=1.5",
        "fuzzymatching=maybe",
        "StudyDate=yesterday",
        "StudyDate=-",
        "StudyDate=20260102-20260103-20260104",
        "StudyTime=25h",
        "StudyInstanceUID=1.2;drop",
        "PatientID=1&PatientID=2",
        "includefield=NoSuchKey",
        "00zz0010=1",
    ],
)
def test_nonsense_is_refused(text):
    with pytest.raises(BadRequest):
        parse(text)


def test_the_path_cannot_be_contradicted():
    with pytest.raises(BadRequest):
        parse("StudyInstanceUID=1.3", Level.SERIES, StudyInstanceUID="1.2")


_NAMES = st.one_of(
    st.sampled_from(["PatientName", "StudyDate", "StudyInstanceUID", "includefield", "limit", "00100020"]),
    st.text(max_size=20),
)


@given(st.lists(st.tuples(_NAMES, st.text(max_size=30)), max_size=6), st.sampled_from(list(Level)[1:]))
def test_whatever_a_client_writes_is_a_query_or_is_refused(pairs, level):
    held = held_keys(level)
    try:
        asked = parse_search(level, {}, pairs, held, 100)
    except BadRequest as refusal:
        said = str(refusal)
        values = {text for name, text in pairs if name not in ("includefield", text)}
        assert not [text for text in values if len(text) > 8 and text in said]
        return
    assert set(asked.query.matches) <= held
    assert asked.query.limit is not None
    assert 0 <= asked.query.limit <= 100
