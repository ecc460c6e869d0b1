"""The job table against a plain model of it: whatever is done in whatever order, both agree."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from sqlalchemy import delete, select, update

from dicomnode.errors import IllegalTransition, LeaseLost, NotFound
from dicomnode.model.job import HEAD_START_S, SETTLED, TRANSITIONS, JobEvent, JobState, Lease, Priority
from dicomnode.model.queue import Limit, PauseKind
from dicomnode.store import jobs, leases, pauses
from dicomnode.store.clock import Now
from dicomnode.store.schema import job, job_event, metadata, pause
from tests.harness.machines import hold_against
from tests.harness.schema import upgraded
from tests.store.builders import complete_series, new_job

ATTEMPTS = 3
PIPELINES, ROUTES, WORKERS = ("head", "chest"), ("day", "night"), ("w1", "w2")
AGES = (0.0, 3_600.0, 10_000.0, 40_000.0, 130_000.0)
"""Apart by more than a test takes, and by less and more than the head starts."""
WAITING = (JobState.READY, JobState.RETRY_WAIT)


@dataclass
class Model:
    """What a job is, in plain words."""

    id: int
    order: tuple[float, int]
    pipeline: str
    route: str
    state: JobState
    deadline: bool = False
    late: bool = False
    resting: bool = False
    fence: int = 0
    attempt: int = 0
    lapsed: bool = False
    events: int = 1


class JobTable(RuleBasedStateMachine):
    """Each rule does one thing to both; what the table of states does not allow must be refused."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.database = upgraded(self.url or f"sqlite:///{self.folder.name}/d.sqlite3")
        self.completion_id = complete_series(self.database)
        self.model: dict[int, Model] = {}
        self.paused: set[tuple[PauseKind, str]] = set()
        self.stale: list[Lease] = []

    def teardown(self) -> None:
        with self.database.begin() as tx:
            for table in reversed(metadata.sorted_tables):
                if table.name not in ("identity", "clock"):
                    tx.execute(delete(table))
        self.database.close()
        self.folder.cleanup()

    # What comes, and what an administrator says of the queue

    @rule(
        pipeline=st.sampled_from(PIPELINES),
        route=st.sampled_from(ROUTES),
        priority=st.sampled_from(Priority),
        age_s=st.sampled_from(AGES),
        held=st.booleans(),
        deadline=st.sampled_from([None, "ahead", "passed"]),
    )
    def add(
        self, pipeline: str, route: str, priority: Priority, age_s: float, held: bool, deadline: str | None
    ) -> None:
        with self.database.begin() as tx:
            job_id = new_job(
                tx,
                self.completion_id,
                key=str(len(self.model)),
                pipeline=pipeline,
                route=route,
                priority=priority,
                held_reason="for review" if held else None,
            )
            row = tx.execute(select(job).where(job.c.id == job_id)).one()
            ends = {None: None, "ahead": Now(3600.0), "passed": Now(-1.0)}[deadline]
            moved = {"urgent_at": row.urgent_at - timedelta(seconds=age_s), "deadline_at": ends}
            tx.execute(update(job).where(job.c.id == job_id).values(**moved))
        self.model[job_id] = Model(
            job_id,
            (-HEAD_START_S[priority] - age_s, job_id),
            pipeline,
            route,
            JobState.HELD if held else JobState.READY,
            deadline=deadline is not None,
            late=deadline == "passed",
        )

    @rule(data=st.data(), on=st.booleans())
    def pause_or_resume(self, data: st.DataObject, on: bool) -> None:
        names = {PauseKind.PIPELINE: PIPELINES, PauseKind.ROUTE: ROUTES, PauseKind.WORKER: WORKERS}
        kind = data.draw(st.sampled_from(PauseKind))
        name = data.draw(st.sampled_from(names[kind]))
        with self.database.begin() as tx:
            if on:
                pauses.add(tx, kind, name, "why", "jane")
                self.paused.add((kind, name))
            elif (kind, name) in self.paused:
                pauses.remove(tx, kind, name, "jane")
                self.paused.remove((kind, name))
            else:
                with pytest.raises(NotFound):
                    pauses.remove(tx, kind, name, "jane")

    # What workers do

    @rule(
        worker=st.sampled_from(WORKERS),
        at_once=st.sampled_from([None, 1, 2]),
        lane=st.sampled_from([(PauseKind.PIPELINE, "head"), (PauseKind.ROUTE, "day")]),
    )
    def claim(self, worker: str, at_once: int | None, lane: tuple[PauseKind, str]) -> None:
        limits = () if at_once is None else (Limit(lane, at_once, None),)
        expected = self._next(worker, at_once, lane)
        with self.database.begin() as tx:
            due = leases.next_up(tx, worker) is not None
            got = leases.claim(tx, worker, 3600.0, limits)
        assert due or got is None, "what is claimed was due"
        assert (got and got.id) == (expected and expected.id)
        if expected is not None and got is not None:
            self._goes(expected, JobEvent.CLAIM, fence=1)
            expected.attempt += 1
            assert (got.fence, got.attempt) == (expected.fence, expected.attempt)

    def _next(self, worker: str, at_once: int | None, lane: tuple[PauseKind, str]) -> Model | None:
        def of_lane(each: Model) -> bool:
            return (each.pipeline if lane[0] is PauseKind.PIPELINE else each.route) == lane[1]

        running = sum(of_lane(each) for each in self.model.values() if each.state is JobState.LEASED)
        full = at_once is not None and running >= at_once
        if (PauseKind.WORKER, worker) in self.paused:
            return None
        free = [
            each
            for each in self.model.values()
            if each.state in WAITING
            and not each.resting
            and not each.late
            and (PauseKind.PIPELINE, each.pipeline) not in self.paused
            and (PauseKind.ROUTE, each.route) not in self.paused
            and not (full and of_lane(each))
        ]
        return min(free, key=lambda each: each.order, default=None)

    @rule(how=st.sampled_from(["finish", "refuse", "give_up", "hand_back", "hold"]), data=st.data())
    def end(self, how: str, data: st.DataObject) -> None:
        self._with_lease(data, lambda tx, lease, each: self._end(tx, lease, each, how))

    def _end(self, tx: Any, lease: Lease, each: Model, how: str) -> None:
        if how == "finish":
            leases.finish(tx, lease, [])
        elif how == "hand_back":
            leases.hand_back(tx, lease)
        else:
            getattr(leases, how)(tx, lease, "CODE", "a reason")
        self._goes(each, JobEvent(how), fence=int(how == "hold"))
        each.attempt -= how == "hand_back"

    @rule(data=st.data(), backoff_s=st.sampled_from([0.0, 3600.0]))
    def fail(self, data: st.DataObject, backoff_s: float) -> None:
        def fail(tx: Any, lease: Lease, each: Model) -> None:
            state = leases.fail(tx, lease, "CRASHED", "it died", attempts=ATTEMPTS, backoff_s=backoff_s)
            used_up = each.attempt >= ATTEMPTS
            self._goes(each, JobEvent.GIVE_UP if used_up else JobEvent.FAIL)
            each.resting = backoff_s > 0 and not used_up
            assert state is each.state

        self._with_lease(data, fail)

    @rule(data=st.data())
    def extend(self, data: st.DataObject) -> None:
        def extend(tx: Any, lease: Lease, each: Model) -> None:
            leases.extend(tx, lease, 3600.0)
            each.lapsed = False

        self._with_lease(data, extend)

    def _with_lease(self, data: st.DataObject, do: Callable[[Any, Lease, Model], None]) -> None:
        leased = [each for each in self.model.values() if each.state is JobState.LEASED]
        if leased:
            each = data.draw(st.sampled_from(leased))
            with self.database.begin() as tx:
                do(tx, Lease(each.id, each.fence), each)

    @rule(data=st.data(), how=st.sampled_from(["finish", "hand_back", "extend", "refuse", "fail"]))
    def use_a_stale_lease(self, data: st.DataObject, how: str) -> None:
        if not self.stale:
            return
        lease = data.draw(st.sampled_from(self.stale))
        uses: dict[str, Callable[[Any], object]] = {
            "finish": lambda tx: leases.finish(tx, lease, []),
            "hand_back": lambda tx: leases.hand_back(tx, lease),
            "extend": lambda tx: leases.extend(tx, lease, 30.0),
            "refuse": lambda tx: leases.refuse(tx, lease, "CODE", "why"),
            "fail": lambda tx: leases.fail(tx, lease, "DIED", "why", attempts=ATTEMPTS, backoff_s=0.0),
        }
        with pytest.raises(LeaseLost), self.database.begin() as tx:
            uses[how](tx)

    # What time does

    @rule(data=st.data())
    def lapse(self, data: st.DataObject) -> None:
        leased = [each for each in self.model.values() if each.state is JobState.LEASED]
        if leased:
            each = data.draw(st.sampled_from(leased))
            with self.database.begin() as tx:
                tx.execute(update(job).where(job.c.id == each.id).values(lease_expires_at=Now(-1.0)))
            each.lapsed = True

    @rule()
    def expire(self) -> None:
        lapsed = [each for each in self.model.values() if each.lapsed]
        with self.database.begin() as tx:
            assert sorted(leases.expire(tx, ATTEMPTS)) == sorted(each.id for each in lapsed)
        for each in lapsed:
            used_up = each.attempt >= ATTEMPTS
            self._goes(each, JobEvent.GIVE_UP if used_up else JobEvent.EXPIRE, fence=1)
            each.resting = False

    @rule()
    def end_overdue(self) -> None:
        late = [each for each in self.model.values() if each.late and each.state in WAITING]
        with self.database.begin() as tx:
            assert sorted(leases.end_overdue(tx)) == sorted(each.id for each in late)
        for each in late:
            self._goes(each, JobEvent.OVERDUE, fence=1)

    @rule(data=st.data())
    def rest_is_over(self, data: st.DataObject) -> None:
        resting = [each for each in self.model.values() if each.resting]
        if resting:
            each = data.draw(st.sampled_from(resting))
            with self.database.begin() as tx:
                tx.execute(update(job).where(job.c.id == each.id).values(not_before=Now(-1.0)))
            each.resting = False

    # What an administrator, or a conflict, does to a job

    @rule(how=st.sampled_from(["hold", "cancel", "retry", "release", "rerun"]), data=st.data())
    def order(self, how: str, data: st.DataObject) -> None:
        if not self.model:
            return
        each, event = self.model[data.draw(st.sampled_from(sorted(self.model)))], JobEvent(how)
        orders: dict[str, Callable[[Any], None]] = {
            "hold": lambda tx: jobs.hold(tx, each.id, "look first", "jane"),
            "cancel": lambda tx: jobs.cancel(tx, each.id, "not needed", "jane"),
            "retry": lambda tx: jobs.retry(tx, each.id, "2", "d2", "jane"),
            "release": lambda tx: jobs.release(tx, each.id, "jane"),
            "rerun": lambda tx: jobs.note_rerun(tx, each.id, 7, "jane"),
        }
        if (each.state, event) not in TRANSITIONS:
            with pytest.raises(IllegalTransition), self.database.begin() as tx:
                orders[how](tx)
            return
        with self.database.begin() as tx:
            orders[how](tx)
        self._goes(each, event, fence=int(how in ("hold", "cancel")))
        if how == "retry":
            each.attempt, each.resting = 0, False
        if how in ("retry", "release"):
            each.late = each.deadline = False

    @rule()
    def hold_study(self) -> None:
        moving = [each for each in self.model.values() if each.state in (*WAITING, JobState.LEASED)]
        with self.database.begin() as tx:
            held = jobs.hold_study(tx, "1.2.3", "two patients")
        assert sorted(held) == sorted(each.id for each in moving)
        for each in moving:
            self._goes(each, JobEvent.HOLD, fence=1)

    @rule(pipeline=st.sampled_from(PIPELINES))
    def supersede(self, pipeline: str) -> None:
        open_ = [e for e in self.model.values() if e.pipeline == pipeline and e.state not in SETTLED]
        with self.database.begin() as tx:
            series_id = tx.execute(select(job.c.series_id).limit(1)).scalar() or 0
            gone = jobs.cancel_superseded(tx, series_id, 2, pipeline)
        assert sorted(gone) == sorted(each.id for each in open_)
        for each in open_:
            self._goes(each, JobEvent.CANCEL, fence=1)

    def _goes(self, each: Model, event: JobEvent, fence: int = 0) -> None:
        if each.state is JobState.LEASED:
            self.stale.append(Lease(each.id, each.fence))
        each.state = TRANSITIONS[each.state, event]
        each.fence += fence
        each.events += 1
        each.lapsed = False

    # What always holds

    @invariant()
    def the_rows_are_as_the_model(self) -> None:
        with self.database.read() as tx:
            rows = {row.id: row for row in tx.execute(select(job))}
            events = tx.execute(select(job_event.c.job_id, job_event.c.state).order_by(job_event.c.id)).all()
            held = {(PauseKind(row.kind), row.name) for row in tx.execute(select(pause))}
        assert held == self.paused
        assert rows.keys() == self.model.keys()
        for each in self.model.values():
            row = rows[each.id]
            assert (row.state, row.fence, row.attempt) == (each.state, each.fence, each.attempt)
            assert (row.lease_owner is not None) == (each.state is JobState.LEASED)
            assert (row.deadline_at is not None) == each.deadline
            of_job = [event.state for event in events if event.job_id == each.id]
            assert (of_job[-1], len(of_job)) == (each.state, each.events)


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_whatever_is_done_in_whatever_order_the_table_agrees_with_a_plain_model(kind, request):
    url = request.getfixturevalue("postgres_url") if kind == "postgresql" else ""
    hold_against(JobTable, examples=25, steps=40, url=url)
