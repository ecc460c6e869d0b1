"""A job moves only along the edges of its table, under a lease, and each move leaves an event."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicomnode.errors import IllegalTransition, LeaseLost, NotFound
from dicomnode.model.instance import StoredObject
from dicomnode.model.job import SETTLED, TRANSITIONS, JobEvent, JobState, Lease, Priority, advance
from dicomnode.model.result import ResultRole
from dicomnode.store import catalog, completions, deliveries, jobs, leases, overview, results
from dicomnode.store.database import Database

from .builders import arrival, complete_series, encoded, finished_job, new_job


@pytest.fixture
def job_id(database: Database) -> int:
    completion_id = complete_series(database)
    with database.begin() as tx:
        return new_job(tx, completion_id)


def claim(database: Database, lease_s: float = 30):
    with database.begin() as tx:
        return leases.claim(tx, "worker-1", lease_s)


def state(database: Database, job_id: int) -> JobState:
    with database.read() as tx:
        return jobs.get(tx, job_id).state


def events(database: Database, job_id: int) -> list[str]:
    with database.read() as tx:
        return [event["event"] for event in overview.job_history(tx, job_id)["events"]]


@given(st.sampled_from(JobState), st.sampled_from(JobEvent))
def test_what_the_table_does_not_name_is_impossible(state: JobState, event: JobEvent):
    if (state, event) in TRANSITIONS:
        assert advance(state, event) is TRANSITIONS[state, event]
    else:
        with pytest.raises(IllegalTransition):
            advance(state, event)


def test_every_state_is_reached_and_left_or_settled():
    assert set(TRANSITIONS.values()) | {JobState.HELD} == set(JobState)
    assert {state for state, _ in TRANSITIONS} | SETTLED == set(JobState)


def test_the_same_work_is_one_job(database: Database, job_id: int):
    with database.begin() as tx:
        completion_id = jobs.get(tx, job_id).series_id
        assert new_job(tx, completion_id) == job_id


def test_the_most_urgent_job_is_claimed_first_and_the_older_of_two(database: Database):
    completion_id = complete_series(database)
    with database.begin() as tx:
        first = new_job(tx, completion_id, "a")
        second = new_job(tx, completion_id, "b")
        urgent = new_job(tx, completion_id, "c", priority=Priority.STAT)
    assert [claim(database).id for _ in range(3)] == [urgent, first, second]
    assert claim(database) is None


def test_a_job_that_ends_fixes_its_results(database: Database, job_id: int):
    job = claim(database)
    with database.begin() as tx:
        leases.finish(tx, job.lease, [(encoded(), StoredObject("a" * 64, 7))])
    assert state(database, job_id) is JobState.DONE
    assert events(database, job_id) == ["create", "claim", "finish"]


def test_a_stale_fence_writes_nothing(database: Database, job_id: int):
    stale = claim(database, lease_s=-1)
    with database.begin() as tx:
        assert leases.expire(tx, attempts=3) == [job_id]
    fresh = claim(database)
    for write in (
        lambda tx: leases.finish(tx, stale.lease, [(encoded(), StoredObject("a" * 64, 7))]),
        lambda tx: leases.extend(tx, stale.lease, 30),
        lambda tx: leases.refuse(tx, stale.lease, "CODE", "why"),
        lambda tx: leases.fail(tx, stale.lease, "CODE", "why", attempts=3, backoff_s=1),
        lambda tx: leases.hand_back(tx, stale.lease),
    ):
        with pytest.raises(LeaseLost), database.begin() as tx:
            write(tx)
    assert state(database, job_id) is JobState.LEASED
    assert fresh.fence > stale.fence


def test_a_job_that_kills_its_worker_each_time_is_dead_after_its_attempts(database: Database, job_id: int):
    for attempt in (1, 2, 3):
        assert claim(database, lease_s=-1).attempt == attempt
        with database.begin() as tx:
            leases.expire(tx, attempts=3)
    assert claim(database) is None
    with database.read() as tx:
        job = jobs.get(tx, job_id)
    assert (job.state, job.reason_code) == (JobState.DEAD, "LEASE_EXPIRED")


def test_a_failed_attempt_waits_before_the_next_and_the_last_one_is_dead(database: Database, job_id: int):
    for expected in (JobState.RETRY_WAIT, JobState.DEAD):
        job = claim(database)
        with database.begin() as tx:
            assert leases.fail(tx, job.lease, "CRASHED", "it died", attempts=2, backoff_s=0) is expected
    job = jobs_get(database, job_id)
    assert (job.reason_code, job.reason) == ("CRASHED", "it died")


def test_the_wait_between_attempts_is_kept(database: Database, job_id: int):
    job = claim(database)
    with database.begin() as tx:
        leases.fail(tx, job.lease, "CRASHED", "it died", attempts=2, backoff_s=3600)
    assert claim(database) is None
    assert state(database, job_id) is JobState.RETRY_WAIT


def test_a_job_that_is_handed_back_has_not_been_tried(database: Database, job_id: int):
    job = claim(database)
    with database.begin() as tx:
        leases.hand_back(tx, job.lease)
    again = claim(database)
    assert (again.id, again.attempt) == (job_id, 1)


def test_a_running_job_can_be_cancelled_and_its_worker_loses_the_lease(database: Database, job_id: int):
    job = claim(database)
    with database.begin() as tx:
        jobs.cancel(tx, job_id, "not needed")
    with pytest.raises(LeaseLost), database.begin() as tx:
        leases.extend(tx, job.lease, 30)
    assert state(database, job_id) is JobState.CANCELLED


def test_a_dead_job_starts_again_from_its_first_attempt_with_the_pipeline_of_today(
    database: Database, job_id: int
):
    job = claim(database)
    with database.begin() as tx:
        leases.give_up(tx, job.lease, "GATE_FAILED", "not what was computed")
        jobs.retry(tx, job_id, "2", "new digest")
    again = claim(database)
    assert (again.attempt, again.pipeline_version, again.pipeline_digest) == (1, "2", "new digest")


def test_a_done_job_cannot_be_cancelled_or_retried(database: Database, job_id: int):
    job = claim(database)
    with database.begin() as tx:
        leases.finish(tx, job.lease, [])
    with pytest.raises(IllegalTransition), database.begin() as tx:
        jobs.cancel(tx, job_id, "too late")
    with pytest.raises(IllegalTransition), database.begin() as tx:
        jobs.retry(tx, job_id, "1", "d")


def test_a_held_job_is_not_claimed_until_it_is_released(database: Database):
    completion_id = complete_series(database)
    with database.begin() as tx:
        held = new_job(tx, completion_id, held_reason="two patients")
    assert claim(database) is None
    with database.begin() as tx:
        jobs.release(tx, held)
    assert claim(database).id == held


def test_a_newer_generation_cancels_what_the_older_one_still_waits_for(database: Database, job_id: int):
    with database.begin() as tx:
        series_id = jobs.get(tx, job_id).series_id
        assert jobs.cancel_superseded(tx, series_id, 2, "brain_tissue") == [job_id]
        assert jobs.cancel_superseded(tx, series_id, 3, "brain_tissue") == []
    assert "generation 2" in jobs_get(database, job_id).reason


def test_a_newer_generation_takes_the_lease_of_the_older_one_that_runs(database: Database, job_id: int):
    job = claim(database)
    with database.begin() as tx:
        assert jobs.cancel_superseded(tx, job.series_id, 2, "brain_tissue") == [job_id]
    with pytest.raises(LeaseLost), database.begin() as tx:
        leases.finish(tx, job.lease, [])


def test_a_study_that_names_two_patients_has_its_jobs_held_one_that_runs_included(database: Database):
    completion_id = complete_series(database)
    with database.begin() as tx:
        ids = [new_job(tx, completion_id, key) for key in ("a", "b")]
    running = claim(database)
    with database.begin() as tx:
        assert sorted(jobs.hold_study(tx, "1.2.3", "two patients")) == ids
        assert jobs.hold_study(tx, "1.2.3", "two patients") == []
    assert {jobs_get(database, id_).state for id_ in ids} == {JobState.HELD}
    with pytest.raises(LeaseLost), database.begin() as tx:
        leases.finish(tx, running.lease, [])
    with database.begin() as tx:
        jobs.release(tx, ids[0])
    assert claim(database).id == ids[0]


def test_what_a_gate_stopped_is_held_with_its_reason_until_somebody_has_looked(database: Database):
    completion_id = complete_series(database)
    with database.begin() as tx:
        new_job(tx, completion_id)
    job = claim(database)
    with database.begin() as tx:
        leases.hold(tx, job.lease, "GATE_FAILED", "the mask is shifted")
    held = jobs_get(database, job.id)
    assert (held.state, held.reason_code, held.reason) == ("held", "GATE_FAILED", "the mask is shifted")
    assert claim(database) is None


def test_an_unknown_job_is_not_found(database: Database):
    with pytest.raises(NotFound), database.begin() as tx:
        jobs.cancel(tx, 4711, "why")
    with pytest.raises(LeaseLost), database.begin() as tx:
        leases.extend(tx, Lease(4711, 1), 30)


def jobs_get(database: Database, job_id: int):
    with database.read() as tx:
        return jobs.get(tx, job_id)


def test_each_job_of_a_study_knows_its_place(database: Database):
    completion_id = complete_series(database)
    with database.begin() as tx:
        ids = [new_job(tx, completion_id, key) for key in ("a", "b")]
        assert [jobs.place_in_study(tx, jobs.get(tx, id_)) for id_ in ids] == [0, 1]


def test_a_job_that_ended_without_a_result_owes_one_notice(database: Database):
    completion_id = complete_series(database)
    with database.begin() as tx:
        new_job(tx, completion_id)
    job = claim(database)
    with database.begin() as tx:
        assert jobs.next_notice(tx) is None
        leases.refuse(tx, job.lease, "NOT_MR", "The series is not MR.")
        owing = jobs.next_notice(tx)
        assert (owing.id, owing.state, owing.reason_code) == (job.id, "refused", "NOT_MR")
        assert len(jobs.give_notice(tx, owing, [(encoded(), StoredObject("a" * 64, 1))])) == 1
        assert jobs.next_notice(tx) is None
        assert jobs.give_notice(tx, owing, [(encoded(2), StoredObject("b" * 64, 1))]) == []


def test_a_job_that_was_started_again_before_its_notice_owes_none(database: Database):
    completion_id = complete_series(database)
    with database.begin() as tx:
        new_job(tx, completion_id)
    job = claim(database)
    with database.begin() as tx:
        leases.give_up(tx, job.lease, "RUN_CRASHED", "why")
        owing = jobs.next_notice(tx)
        jobs.retry(tx, job.id, "1", "d")
        assert jobs.give_notice(tx, owing, [(encoded(), StoredObject("a" * 64, 1))]) == []


def test_what_may_have_reached_a_destination_is_withdrawn_once_and_nothing_else(database: Database):
    first = finished_job(database, results=2)
    with database.begin() as tx:
        assert results.offered(tx, first) == []
        deliveries.claim(tx, "pacs", 30, str, limit=1)
        assert [ref.SOPInstanceUID for ref in results.offered(tx, first)] == ["2.25.1.1"]
        catalog.add_instance(tx, arrival(4))
        completions.complete_ordered(tx, "1.2.3.4")
        newer = next(c for c in completions.unrouted(tx) if c.generation == 2)
        new_job(tx, newer.id, "newer")
        job = leases.claim(tx, "w1", 30)
        assert [ref.SOPInstanceUID for ref in results.offered(tx, job)] == ["2.25.1.1"]
        withdrawal = replace(encoded(8), role=ResultRole.WITHDRAWAL)
        made = [(withdrawal, StoredObject("a" * 64, 1)), (encoded(9), StoredObject("b" * 64, 1))]
        for result_id in leases.finish(tx, job.lease, made):
            deliveries.add(tx, result_id, "pacs")
        deliveries.claim(tx, "pacs", 30, str)
        assert [ref.SOPInstanceUID for ref in results.offered(tx, job)] == ["2.25.9.1"]
