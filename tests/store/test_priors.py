"""Searches for priors, and what they leave: on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from dicomnode.errors import LeaseLost
from dicomnode.model.instance import AssociationFacts
from dicomnode.model.job import AWAITS_PRIORS, PATIENT_CONFLICT, JobState
from dicomnode.model.prior import FrozenPrior, Search
from dicomnode.store import catalog, completions, jobs, leases, priors, retention
from dicomnode.store.database import Database
from dicomnode.store.retention import Terms
from dicomnode.store.schema import prior
from tests.store.builders import ASSOCIATION, arrival, complete_series, new_job

LIMIT_S = 60.0
ASKED = AssociationFacts("asked-1", "PACS", "DICOMNODE", "127.0.0.1", asked=True)


def waiting_job(database: Database, *names: str) -> int:
    completion_id = complete_series(database)
    with database.begin() as tx:
        return new_job(tx, completion_id, priors=names)


def claimed(database: Database) -> Search:
    with database.begin() as tx:
        search = priors.claim(tx, 30.0, LIMIT_S)
    assert search is not None
    return search


def fetched(database: Database, series: str, study: str = "1.2.9", number: int = 3) -> int:
    """A series that came because it was asked for; its id."""
    with database.begin() as tx:
        for each in range(1, number + 1):
            catalog.add_instance(tx, arrival(each, series, study, association=ASKED))
        listed = frozenset(f"{series}.{each}" for each in range(1, number + 1))
        place = priors.complete_fetched(tx, study, series, listed, "fetched")
    assert place is not None
    return place[0]


def test_a_job_may_run_when_its_last_search_has_ended(database):
    job_id = waiting_job(database, "first", "second")
    found = fetched(database, "1.2.9.1")
    with database.begin() as tx:
        job = jobs.get(tx, job_id)
        assert (job.state, job.reason_code) == (JobState.HELD, AWAITS_PRIORS)
        assert leases.claim(tx, "w", 30.0) is None
    first, second = claimed(database), claimed(database)
    assert (first.name, second.name) == ("first", "second")
    with database.begin() as tx:
        assert not priors.settle(tx, first, [(found, 1)], "1 found")
        assert priors.settle(tx, second, [], "none")
        jobs.freeze_input(tx, job_id, "f" * 64)
        jobs.end_waiting(tx, job_id)
    with database.begin() as tx:
        assert priors.frozen(tx, job_id) == [FrozenPrior("first", 1, found, 1)]
        assert priors.notes(tx, job_id) == {"first": "1 found", "second": "none"}
        job = leases.claim(tx, "w", 30.0)
    assert job is not None
    assert job.input_digest == "f" * 64


def test_of_two_searches_that_end_at_once_one_is_the_last(database):
    waiting_job(database, "first", "second")
    searches = [claimed(database), claimed(database)]

    def settle(search: Search) -> bool:
        with database.begin() as tx:
            return priors.settle(tx, search, [], "none")

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(settle, searches)) == [False, True]


def test_a_search_is_nobody_s_once_its_job_is_not_held_any_more(database):
    job_id = waiting_job(database, "first")
    search = claimed(database)
    with database.begin() as tx:
        priors.extend(tx, search, 30.0)
        jobs.cancel(tx, job_id, "no")
    for write in (
        lambda tx: priors.extend(tx, search, 30.0),
        lambda tx: priors.settle(tx, search, [], "none"),
    ):
        with pytest.raises(LeaseLost), database.begin() as tx:
            write(tx)
    with database.begin() as tx:
        assert priors.claim(tx, 30.0, LIMIT_S) is None
        assert priors.overdue(tx, 0.0) == []


def test_a_search_is_taken_up_by_one_and_by_the_next_when_that_one_is_silent(database):
    waiting_job(database, "first")
    search = claimed(database)
    with database.begin() as tx:
        assert priors.claim(tx, 30.0, LIMIT_S) is None
        tx.execute(prior.update().values(not_before=prior.c.begun_at))
        again = priors.claim(tx, 30.0, LIMIT_S)
    assert again is not None
    assert again.id == search.id
    assert again.remaining_s <= search.remaining_s <= LIMIT_S


def test_a_job_whose_study_names_two_patients_stays_held_when_its_priors_are_here(database):
    job_id = waiting_job(database, "first")
    with database.begin() as tx:
        assert catalog.note_patient_conflict(tx, "1.2.3", "P2")
        assert priors.settle(tx, Search(1, job_id, "first", 1.0), [], "none")
        jobs.end_waiting(tx, job_id)
        job = jobs.get(tx, job_id)
    assert (job.state, job.reason_code, job.reason) == (JobState.HELD, None, PATIENT_CONFLICT)


def test_a_series_that_nobody_sent_is_told_from_one_that_was_only_completed_so(database):
    only_asked = fetched(database, "1.2.9.1")
    complete_series(database)
    with database.begin() as tx:
        (sent,) = (c.series_id for c in completions.unrouted(tx) if c.SeriesInstanceUID == "1.2.3.4")
        catalog.add_instance(tx, arrival(9, association=ASKED))
        assert catalog.only_asked_for(tx, only_asked)
        assert not catalog.only_asked_for(tx, sent)
        completions.complete_ordered(tx, "1.2.3.4")
        newest = completions.current_completion(tx, "1.2.3", "1.2.3.4")
    assert (newest.generation, newest.association.key) == (2, ASSOCIATION.key)


def test_what_came_because_it_was_asked_for_and_is_sent_later_opens_a_generation_once(database):
    series_id = fetched(database, "1.2.9.1")
    with database.begin() as tx:
        for number in (1, 2, 3):
            again = arrival(number, "1.2.9.1", "1.2.9")
            catalog.add_instance(tx, replace(again, association=ASKED))
        assert catalog.only_asked_for(tx, series_id)
        for number in (1, 2, 3):
            catalog.add_instance(tx, arrival(number, "1.2.9.1", "1.2.9"))
        assert not catalog.only_asked_for(tx, series_id)
        assert completions.complete_ordered(tx, "1.2.9.1") == 1
        newest = completions.current_completion(tx, "1.2.9", "1.2.9.1")
        assert (newest.generation, newest.instance_count) == (2, 3)
        assert len(catalog.input_set(tx, series_id, 2)) == 3
        catalog.add_instance(tx, arrival(1, "1.2.9.1", "1.2.9"))
        assert completions.complete_ordered(tx, "1.2.9.1") == 0


def test_candidates_are_the_complete_series_of_that_patient_in_those_days(database):
    here = fetched(database, "1.2.9.1")
    with database.begin() as tx:
        catalog.add_instance(tx, arrival(1, "1.2.10.1", "1.2.10"))
        found = priors.held_candidates(tx, "P1", "20250101", "20260102", "1.2.3")
        assert list(found.values()) == [(here, 1)]
        assert priors.held_candidates(tx, "P2", "20250101", "20260102", "1.2.3") == {}
        assert priors.held_candidates(tx, "P1", "20250101", "20260101", "1.2.3") == {}
        assert priors.held_candidates(tx, "P1", "20250101", "20260102", "1.2.9") == {}
        catalog.note_patient_conflict(tx, "1.2.9", "P2")
        assert priors.held_candidates(tx, "P1", "20250101", "20260102", "1.2.3") == {}


def test_a_fetched_series_is_complete_when_it_has_all_that_is_listed_and_nothing_else(database):
    listed = frozenset({"1.2.9.1.1", "1.2.9.1.2"})
    with database.begin() as tx:
        assert priors.complete_fetched(tx, "1.2.9", "1.2.9.1", listed, "") is None
        for number in (1, 3):
            catalog.add_instance(tx, arrival(number, "1.2.9.1", "1.2.9", association=ASKED))
        assert priors.complete_fetched(tx, "1.2.9", "1.2.9.1", listed, "") is None
        catalog.add_instance(tx, arrival(2, "1.2.9.1", "1.2.9", association=ASKED))
        assert priors.complete_fetched(tx, "1.2.9", "1.2.9.1", listed, "") is None
        place = priors.complete_fetched(tx, "1.2.9", "1.2.9.1", listed | {"1.2.9.1.3"}, "")
        assert place is not None
        assert priors.complete_fetched(tx, "1.2.9", "1.2.9.1", listed, "") == place


def test_a_prior_stays_as_long_as_a_job_may_read_it_and_goes_then_although_no_route_took_it(database):
    job_id = waiting_job(database, "first")
    fetched(database, "1.2.9.1")
    with database.begin() as tx:
        (candidate,) = priors.held_candidates(tx, "P1", "20250101", "20260102", "1.2.3").values()
        for completion in completions.unrouted(tx):
            completions.mark_routed(tx, completion.id)
        assert {each.id for each in retention.oldest(tx, Terms(), -1.0)} == {candidate[0]}
        priors.settle(tx, claimed_in(tx), [candidate], "1 found")
        assert retention.oldest(tx, Terms(), -1.0) == []
        jobs.cancel(tx, job_id, "no")
        assert candidate[0] in {each.id for each in retention.oldest(tx, Terms(), -1.0)}


def claimed_in(tx) -> Search:
    search = priors.claim(tx, 30.0, LIMIT_S)
    assert search is not None
    return search
