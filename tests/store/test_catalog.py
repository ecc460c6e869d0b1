"""Arrivals, duplicates, completeness and generations."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dicomnode.errors import DuplicateDiffers, NotFound
from dicomnode.model.instance import Addition, CompletionReason, StoredObject
from dicomnode.store import catalog, completions, overview
from dicomnode.store.database import Database

from .builders import arrival

LONG = 3600.0


def complete_due(database: Database, quiet_s: float, missing_wait_s: float = LONG, listened_s: float = LONG):
    with database.begin() as tx:
        return completions.complete_due(tx, quiet_s, missing_wait_s, listened_s=listened_s)


def add(database: Database, *arrivals):
    with database.begin() as tx:
        return [catalog.add_instance(tx, each) for each in arrivals]


def test_the_same_instance_again_is_welcome_and_changes_nothing(database: Database):
    assert add(database, arrival(1), arrival(1)) == [Addition.ADDED, Addition.REPEATED]
    with database.read() as tx:
        assert overview.counts(tx)["instances"] == 1


def test_the_same_uids_with_other_content_are_refused_and_the_first_stays(database: Database):
    add(database, arrival(1))
    with pytest.raises(DuplicateDiffers):
        add(database, replace(arrival(1), stored=StoredObject("f" * 64, 5)))
    with database.read() as tx:
        assert catalog.input_set(tx, 1, 1)[0].sha256 == arrival(1).stored.sha256


def test_a_series_is_complete_when_nothing_came_for_the_quiet_period(database: Database):
    add(database, arrival(1), arrival(2))
    assert complete_due(database, quiet_s=LONG) == []
    assert complete_due(database, quiet_s=0) == [("1.2.3.4", CompletionReason.QUIET)]
    assert complete_due(database, quiet_s=0) == []


def test_a_quiet_period_in_which_nobody_listened_does_not_count(database: Database):
    add(database, arrival(1))
    assert complete_due(database, quiet_s=0.5, listened_s=0.1) == []


def test_a_series_whose_header_tells_its_number_is_complete_at_once_when_all_came(database: Database):
    add(database, replace(arrival(1), expected_instances=2))
    assert complete_due(database, quiet_s=0) == []
    add(database, arrival(2))
    assert complete_due(database, quiet_s=LONG) == [("1.2.3.4", CompletionReason.EXPECTED)]


def test_a_series_that_lacks_instances_waits_longer_and_is_completed_as_missing_some(database: Database):
    add(database, replace(arrival(1), minimum_instances=2))
    assert complete_due(database, quiet_s=0) == []
    assert complete_due(database, quiet_s=0, missing_wait_s=0) == [("1.2.3.4", CompletionReason.MISSING)]


def test_a_series_that_lacks_nothing_does_not_become_complete_before_its_quiet_period(database: Database):
    add(database, arrival(1))
    assert complete_due(database, quiet_s=LONG, missing_wait_s=0) == []


def test_an_instance_beyond_the_expected_number_waits_for_the_quiet_period(database: Database):
    add(database, replace(arrival(1), expected_instances=1))
    complete_due(database, quiet_s=LONG)
    add(database, arrival(2))
    assert complete_due(database, quiet_s=LONG) == []
    assert complete_due(database, quiet_s=0) == [("1.2.3.4", CompletionReason.QUIET)]


def test_an_administrator_completes_a_series_without_waiting(database: Database):
    add(database, arrival(1))
    with database.begin() as tx:
        assert completions.complete_ordered(tx, "1.2.3.4") == 1
        assert completions.complete_ordered(tx, "1.2.3.4") == 0
        with pytest.raises(NotFound):
            completions.complete_ordered(tx, "9.9")


def test_a_late_instance_opens_a_new_generation_and_leaves_the_old_input_as_it_was(database: Database):
    add(database, arrival(1), arrival(2))
    complete_due(database, quiet_s=0)
    add(database, arrival(3))
    complete_due(database, quiet_s=0)
    with database.begin() as tx:
        first, second = completions.unrouted(tx)
        assert (first.generation, first.instance_count) == (1, 2)
        assert (second.generation, second.instance_count) == (2, 3)
        assert [ref.SOPInstanceUID for ref in catalog.input_set(tx, first.series_id, 1)] == [
            "1.2.3.4.1",
            "1.2.3.4.2",
        ]
        assert len(catalog.input_set(tx, first.series_id, 2)) == 3


def test_a_repeated_instance_does_not_open_a_complete_series_again(database: Database):
    add(database, arrival(1))
    complete_due(database, quiet_s=0)
    assert add(database, arrival(1)) == [Addition.REPEATED]
    assert complete_due(database, quiet_s=0) == []


def test_two_patients_in_one_study_are_noticed(database: Database):
    other = arrival(2)
    other = replace(other, study={**other.study, "PatientID": "P2"})
    add(database, arrival(1), other)
    with database.begin() as tx:
        noticed = [catalog.note_patient_conflict(tx, "1.2.3", name) for name in ("P1", "P2", "P2")]
    assert noticed == [False, True, False]
    complete_due(database, quiet_s=0)
    with database.begin() as tx:
        assert completions.unrouted(tx)[0].patient_conflict


def test_a_completion_is_routed_once(database: Database):
    add(database, arrival(1))
    complete_due(database, quiet_s=0)
    with database.begin() as tx:
        completions.mark_routed(tx, completions.unrouted(tx)[0].id)
    with database.begin() as tx:
        assert completions.unrouted(tx) == []
