"""What C-FIND finds in the catalog."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from sqlalchemy import event

from dicomnode.model.query import AnyOf, Level, Query, Range, Single, Wildcard
from dicomnode.store import catalog
from dicomnode.store.database import Database
from dicomnode.store.find import find

from .builders import arrival


@pytest.fixture
def filled(database: Database) -> Database:
    other = arrival(1, series="1.2.9.1", study="1.2.9")
    with database.begin() as tx:
        catalog.add_instance(tx, arrival(1))
        catalog.add_instance(tx, arrival(2))
        catalog.add_instance(tx, arrival(1, series="1.2.3.5"))
        catalog.add_instance(
            tx,
            replace(
                other,
                study={**other.study, "PatientName": "Müller^A_B%", "StudyDate": "20250610"},
                series={**other.series, "Modality": "CT"},
            ),
        )
    return database


def found(database: Database, level: Level, matches=None, *keys: str):
    with database.read() as tx:
        return list(find(tx, Query(level, matches or {}, keys)))


def test_a_study_is_found_with_what_is_computed_of_it(filled: Database):
    keys = ("NumberOfStudyRelatedSeries", "NumberOfStudyRelatedInstances", "ModalitiesInStudy")
    (study,) = found(filled, Level.STUDY, {"StudyInstanceUID": Single("1.2.3")}, *keys)
    assert study == {"StudyInstanceUID": "1.2.3", **dict(zip(keys, (2, 3, "MR"), strict=True))}


@pytest.mark.parametrize(
    ("keyword", "match", "studies"),
    [
        ("PatientName", Single("doe^jane"), ["1.2.3"]),
        ("PatientName", Wildcard("D?E*"), ["1.2.3"]),
        ("PatientName", Wildcard("*_b%"), ["1.2.9"]),
        ("PatientID", Wildcard("p*"), []),
        ("StudyDate", Range("20260101", None), ["1.2.3"]),
        ("StudyDate", Range(None, "20251231"), ["1.2.9"]),
        ("StudyInstanceUID", AnyOf(("1.2.3", "1.2.9")), ["1.2.3", "1.2.9"]),
        ("ModalitiesInStudy", Single("CT"), ["1.2.9"]),
        ("InstitutionName", Single("not kept"), ["1.2.3", "1.2.9"]),
        ("PatientName", Single("' OR 1=1 --"), []),
        ("PatientName", Single("doe\0jane"), []),
        ("PatientName", Wildcard("d\0*"), []),
        ("PatientID", AnyOf(("a\0b", "c")), []),
        ("StudyDate", Range("2026\0", None), []),
    ],
)
def test_each_kind_of_matching_finds_its_studies(filled: Database, keyword, match, studies):
    assert [row["StudyInstanceUID"] for row in found(filled, Level.STUDY, {keyword: match})] == studies


def test_the_instances_of_a_series_are_listed_with_all_their_unique_keys(filled: Database):
    rows = found(
        filled,
        Level.IMAGE,
        {"StudyInstanceUID": Single("1.2.3"), "SeriesInstanceUID": Single("1.2.3.4")},
        "InstanceNumber",
    )
    assert [(row["SOPInstanceUID"], row["InstanceNumber"]) for row in rows] == [
        ("1.2.3.4.1", "1"),
        ("1.2.3.4.2", "2"),
    ]
    assert {row["SeriesInstanceUID"] for row in rows} == {"1.2.3.4"}


@pytest.mark.parametrize(
    ("last", "joined", "studies"),
    [("123000", True, ["1.2.8"]), ("110000", True, []), ("123000", False, [])],
)
def test_a_range_of_dates_and_one_of_times_are_one_where_they_belong_together(
    database: Database, last: str, joined: bool, studies: list[str]
):
    made = arrival(1, series="1.2.8.1", study="1.2.8")
    times = {**made.study, "StudyDate": "20250610", "StudyTime": "120000"}
    with database.begin() as tx:
        catalog.add_instance(tx, replace(made, study=times))
    matches = {"StudyDate": Range("20250609", "20250610"), "StudyTime": Range("130000", last)}
    instants = (("StudyDate", "StudyTime"),) if joined else ()
    with database.read() as tx:
        rows = list(find(tx, Query(Level.STUDY, matches, (), instants=instants)))
    assert [row["StudyInstanceUID"] for row in rows] == studies


def test_a_patient_is_what_the_first_study_said_with_everything_counted(filled: Database):
    keys = ("PatientName", "NumberOfPatientRelatedStudies", "NumberOfPatientRelatedInstances")
    (patient,) = found(filled, Level.PATIENT, {"PatientID": Single("P1")}, *keys)
    assert patient == {"PatientID": "P1", "PatientName": "Doe^Jane", keys[1]: 2, keys[2]: 4}


@pytest.mark.parametrize("name", ["MULLER^a_b%", "müller^A_B%^", "Müller^A_B%"])
def test_case_accents_and_empty_components_of_a_name_say_nothing(filled: Database, name):
    rows = found(filled, Level.STUDY, {"PatientName": Single(name)})
    assert [row["StudyInstanceUID"] for row in rows] == ["1.2.9"]


def test_pages_of_a_search_are_parts_of_one_order(filled: Database):
    def page(offset: int, limit: int | None) -> list[str]:
        query = Query(Level.STUDY, {}, (), offset, limit)
        with filled.read() as tx:
            return [row["StudyInstanceUID"] for row in find(tx, query)]

    assert page(0, 1) + page(1, 1) == page(0, None) == ["1.2.3", "1.2.9"]


@pytest.mark.parametrize(
    ("level", "keyword", "match"),
    [
        (Level.STUDY, "PatientID", Single("P1")),
        (Level.STUDY, "AccessionNumber", Single("A")),
        (Level.STUDY, "StudyDate", Range("20260101", "20260131")),
        (Level.STUDY, "PatientName", Wildcard("doe*")),
        (Level.SERIES, "StudyInstanceUID", Single("1.2.3")),
        (Level.IMAGE, "SeriesInstanceUID", Single("1.2.3.4")),
        (Level.IMAGE, "SOPInstanceUID", Single("1.2.3.4.1")),
        (Level.IMAGE, "PatientID", Single("P1")),
    ],
)
def test_a_search_never_reads_all_instances(filled: Database, level, keyword, match):
    """On SQLite alone: PostgreSQL reads so small a table as a whole, whatever indexes there are."""
    with filled.read() as tx:
        if tx.dialect.name != "sqlite":
            return
        plans: list[str] = []

        def explain(connection, cursor, statement, parameters, context, executemany):  # noqa: ARG001
            rows = cursor.connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
            plans.extend(row[3] for row in rows)

        event.listen(tx.engine, "before_cursor_execute", explain)
        list(find(tx, Query(level, {keyword: match}, ("NumberOfStudyRelatedInstances",), 0, 25)))
        event.remove(tx.engine, "before_cursor_execute", explain)
    assert plans
    assert not [step for step in plans if step.startswith("SCAN instance") and level is not Level.IMAGE]
    whole = re.compile(r"SCAN (study|series|instance|result|job)(_\d+)?")
    assert not [step for step in plans if whole.fullmatch(step)]
