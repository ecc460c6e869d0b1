"""What is claimed, in which order, and what holds it back: priorities, deadlines, limits, pauses."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from sqlalchemy import insert, select, text, update

from dicomnode.errors import IllegalTransition, NotFound, SeriesOpen
from dicomnode.model.job import HEAD_START_S, JobState, NewJob, Priority, head_start_s
from dicomnode.model.queue import Limit, PauseKind
from dicomnode.store import catalog, completions, jobs, leases, overview, pauses, queue, workers
from dicomnode.store.clock import Now
from dicomnode.store.database import Database
from dicomnode.store.due import due
from dicomnode.store.schema import audit, job, run
from tests.harness.schema import upgraded

from .builders import arrival, complete_series, finished_job, new_job

PIPELINE, ROUTE, WORKER = PauseKind.PIPELINE, PauseKind.ROUTE, PauseKind.WORKER


@pytest.fixture
def completion_id(database: Database) -> int:
    return complete_series(database)


def add(database: Database, completion_id: int, key: str, age_s: float = 0, **changes: object) -> int:
    """A job that came `age_s` ago."""
    with database.begin() as tx:
        job_id = new_job(tx, completion_id, key, **changes)
        row = tx.execute(select(job).where(job.c.id == job_id)).one()
        moved = {
            name: getattr(row, name) - timedelta(seconds=age_s)
            for name in ("created_at", "urgent_at", "deadline_at")
            if getattr(row, name) is not None
        }
        tx.execute(update(job).where(job.c.id == job_id).values(**moved))
    return job_id


def claimed(database: Database, limits: tuple[Limit, ...] = (), worker: str = "w1") -> int | None:
    with database.begin() as tx:
        found = leases.claim(tx, worker, 30, limits)
    return None if found is None else found.id


def test_each_priority_is_claimed_before_the_next(database, completion_id):
    ids = {each: add(database, completion_id, each, priority=each) for each in reversed(Priority)}
    assert [claimed(database) for _ in Priority] == [ids[each] for each in Priority]


def test_nothing_starves_since_each_head_start_is_bounded(database, completion_id):
    waited_s = HEAD_START_S[Priority.STAT] - HEAD_START_S[Priority.LOW] + 60
    low = add(database, completion_id, "low", age_s=waited_s, priority=Priority.LOW)
    stat = add(database, completion_id, "stat", priority=Priority.STAT)
    assert [claimed(database), claimed(database)] == [low, stat]


def test_the_nearer_a_deadline_the_more_urgent_the_job(database, completion_id):
    high = add(database, completion_id, "high", priority=Priority.HIGH)
    late = add(database, completion_id, "late", deadline_s=7200.0)
    soon = add(database, completion_id, "soon", deadline_s=600.0)
    stat = add(database, completion_id, "stat", priority=Priority.STAT)
    assert [claimed(database) for _ in range(4)] == [stat, soon, late, high]
    assert head_start_s(Priority.ROUTINE, 10 * 86_400) == HEAD_START_S[Priority.ROUTINE]


def test_what_has_not_begun_by_its_deadline_is_not_claimed_and_ends_with_its_reason(database, completion_id):
    late = add(database, completion_id, "late", age_s=700, deadline_s=600.0)
    in_time = add(database, completion_id, "in time", age_s=500, deadline_s=600.0)
    assert claimed(database) == in_time
    assert claimed(database) is None
    with database.begin() as tx:
        assert leases.any_expired(tx)
        assert leases.end_overdue(tx) == [late]
        assert not leases.any_expired(tx)
        ended = jobs.get(tx, late)
        assert jobs.next_notice(tx).id == late, "its destinations are told"
    assert (ended.state, ended.reason_code) == (JobState.DEAD, "TOO_LATE")


def test_an_administrator_who_starts_a_job_that_was_too_late_has_it_run(database, completion_id):
    late = add(database, completion_id, "late", age_s=700, deadline_s=600.0)
    with database.begin() as tx:
        leases.end_overdue(tx)
        jobs.retry(tx, late, "1", "d", "jane")
        assert leases.end_overdue(tx) == []
    assert claimed(database) == late


def test_a_priority_that_is_changed_counts_from_when_the_job_came(database, completion_id):
    first = add(database, completion_id, "first", age_s=60)
    second = add(database, completion_id, "second")
    with database.begin() as tx:
        jobs.set_priority(tx, second, Priority.HIGH)
    assert [claimed(database), claimed(database)] == [second, first]


def test_a_claim_reads_one_index_however_much_is_finished(database):
    with database.begin() as tx:
        query = due().params(owner="w1")
        literal = query.compile(tx, compile_kwargs={"literal_binds": True})
        if tx.dialect.name == "postgresql":
            tx.execute(text("SET LOCAL enable_seqscan = off"))
        explain = "EXPLAIN QUERY PLAN" if tx.dialect.name == "sqlite" else "EXPLAIN"
        plan = "\n".join(str(row) for row in tx.exec_driver_sql(f"{explain} {literal}".replace("%", "%%")))
    assert "ix_job_waiting" in plan
    assert "Sort" not in plan
    assert "job USE TEMP" not in plan


@pytest.mark.parametrize("lane", [(PIPELINE, "brain_tissue"), (ROUTE, "brain")])
def test_no_more_jobs_of_a_lane_run_at_a_time_than_its_limit_says(database, completion_id, lane):
    first, second = (add(database, completion_id, key) for key in ("a", "b"))
    other = add(database, completion_id, "c", pipeline="other", route="other")
    limits = (Limit(lane, 1, None),)
    assert [claimed(database, limits) for _ in range(3)] == [first, other, None]
    with database.begin() as tx:
        leases.finish(tx, jobs.get(tx, first).lease, [])
    assert claimed(database, limits) == second


def test_a_lane_that_has_used_up_its_hour_waits_until_it_is_over(database, completion_id):
    waiting = add(database, completion_id, "a")
    limits = (Limit((PIPELINE, "brain_tissue"), None, 60.0),)
    runs = {"job_id": waiting, "fence": 1, "worker": "w", "outcome": "done", "timings": {}, "route": "brain"}
    with database.begin() as tx:
        values = {**runs, "pipeline": "brain_tissue"}
        tx.execute(insert(run).values(**values, started_at=Now(-3650), ended_at=Now(-3550)))
        assert queue.used_s(tx, limits[0].lane) == pytest.approx(50, abs=2), "what lies within the hour"
        tx.execute(insert(run).values(**values, started_at=Now(-100), ended_at=Now(-80)))
    assert claimed(database, limits) is None
    with database.begin() as tx:
        tx.execute(update(run).values(ended_at=Now(-3700)))
    assert claimed(database, limits) == waiting


@pytest.mark.parametrize(("kind", "name"), [(PIPELINE, "brain_tissue"), (ROUTE, "brain"), (WORKER, "w1")])
def test_what_is_paused_is_not_claimed_until_it_is_resumed(database, completion_id, kind, name):
    waiting = add(database, completion_id, "a")
    with database.begin() as tx:
        pauses.add(tx, kind, name, "the model is looked at", "jane")
        assert leases.next_up(tx, "w1") is None
    assert claimed(database) is None
    with database.begin() as tx:
        held = pauses.find(tx)[0]
        assert (held.kind, held.name, held.reason, held.actor) == (
            kind,
            name,
            "the model is looked at",
            "jane",
        )
        pauses.remove(tx, kind, name, "john")
        told = [(row.event, row.facts["actor"]) for row in tx.execute(select(audit).order_by(audit.c.id))]
    assert told[-2:] == [("paused", "jane"), ("resumed", "john")]
    assert claimed(database) == waiting
    with pytest.raises(NotFound), database.begin() as tx:
        pauses.remove(tx, kind, name, "john")


def test_a_worker_that_is_drained_leaves_the_jobs_to_the_others(database, completion_id):
    waiting = add(database, completion_id, "a")
    with database.begin() as tx:
        for name in ("w1", "w2"):
            workers.begin(tx, name)
        pauses.add(tx, WORKER, "w1", "", "jane")
    assert claimed(database, worker="w1") is None
    assert claimed(database, worker="w2") == waiting
    with database.read() as tx:
        assert [(each.name, each.draining, each.job_id) for each in workers.find(tx)] == [
            ("w1", True, None),
            ("w2", False, waiting),
        ]
        assert queue.facts(tx, ()).slots == 1


def test_a_worker_that_was_forgotten_while_it_was_silent_is_there_again_with_its_next_word(database):
    with database.begin() as tx:
        workers.tell(tx, "w1")
        assert [each.name for each in workers.find(tx)] == ["w1"]
        workers.end(tx, "w1")
        assert workers.find(tx) == []


def test_an_order_says_who_gave_it(database, completion_id):
    job_id = add(database, completion_id, "a", held_reason="route 'brain' holds its jobs for review")
    assert claimed(database) is None
    with database.begin() as tx:
        jobs.release(tx, job_id, "jane")
        jobs.cancel(tx, job_id, "not needed", "john")
    with database.read() as tx:
        events = overview.job_history(tx, job_id)["events"]
    assert [(each["event"], each["actor"], each["detail"]) for each in events[1:]] == [
        ("release", "jane", None),
        ("cancel", "john", "not needed"),
    ]


def test_a_series_is_complete_once_more_under_its_next_generation_and_nothing_routes_it(database):
    job_ = finished_job(database)
    with database.begin() as tx:
        for completion in completions.unrouted(tx):
            completions.mark_routed(tx, completion.id)
        again = completions.complete_again(tx, job_.series_id, "once more")
        assert again.generation == job_.generation + 1
        assert again.instance_count == 3
        assert catalog.input_set(tx, job_.series_id, again.generation)
        assert not completions.any_unrouted(tx)
        new = new_rerun(tx, again)
        jobs.note_rerun(tx, job_.id, new, "jane")
        assert jobs.get(tx, job_.id).state is JobState.DONE
        with pytest.raises(IllegalTransition):
            jobs.note_rerun(tx, new, 7)


def new_rerun(tx, again) -> int:
    return jobs.add(
        tx,
        NewJob(
            key="again",
            completion_id=again.id,
            series_id=again.series_id,
            generation=again.generation,
            input_digest="0" * 64,
            route="brain",
            pipeline="brain_tissue",
            pipeline_version="1",
            pipeline_digest="d",
            priority=Priority.ROUTINE,
            send_to=(),
            notify=(),
            held_reason=None,
            deadline_s=None,
        ),
    )


@pytest.mark.usefixtures("completion_id")
def test_a_series_that_still_arrives_is_not_complete_once_more(database):
    with database.begin() as tx:
        catalog.add_instance(tx, arrival(9))
        series_id = completions.unrouted(tx)[0].series_id
        with pytest.raises(SeriesOpen):
            completions.complete_again(tx, series_id, "once more")


def test_a_forecast_rests_on_the_median_of_the_last_runs_that_were_done(database, completion_id):
    job_id = add(database, completion_id, "a")
    with database.begin() as tx:
        for seconds, outcome in ((1000, "done"), (10, "done"), (20, "done"), (30, "done"), (9, "CRASHED")):
            values = {"job_id": job_id, "fence": 1, "worker": "w", "timings": {}, "route": "brain"}
            times = {"started_at": Now(-seconds - 5000), "ended_at": Now(-5000)}
            tx.execute(insert(run).values(**values, **times, outcome=outcome, pipeline="brain_tissue"))
        workers.begin(tx, "w1")
        facts = queue.facts(tx, [Limit((ROUTE, "brain"), 1, None)])
    assert facts.run_s == {"brain_tissue": pytest.approx(25, abs=0.1)}
    assert (facts.slots, [each.id for each in facts.jobs]) == (1, [job_id])
    assert facts.at_once == {(ROUTE, "brain"): 1}


def test_a_limit_holds_when_several_workers_claim_at_the_same_moment(postgres_url):
    database = upgraded(postgres_url)
    completion_id = complete_series(database)
    for key in range(20):
        add(database, completion_id, str(key))
    limits, got, gate = (Limit((PIPELINE, "brain_tissue"), 3, None),), [], threading.Barrier(6)

    def work(number: int) -> None:
        gate.wait()
        got.extend([claimed(database, limits, f"w{number}") for _ in range(3)])

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    database.close()
    assert len([each for each in got if each is not None]) == 3
