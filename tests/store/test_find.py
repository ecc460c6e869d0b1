"""What C-FIND finds in the catalog."""

from __future__ import annotations

from dataclasses import replace

import pytest

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
