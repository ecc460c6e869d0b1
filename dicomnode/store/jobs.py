"""The job table: the only place where a job's state is written.

Each transition is a compare-and-set on (id, state, fence) and an event row, in the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Select, and_, func, insert, select, update

from dicomnode.errors import LeaseLost, NotFound
from dicomnode.model.job import SETTLED, Job, JobEvent, JobState, Lease, NewJob, Priority, advance
from dicomnode.store import results
from dicomnode.store.clock import Now
from dicomnode.store.database import Transaction
from dicomnode.store.results import Stored
from dicomnode.store.schema import completion, job, job_event, routing, run, series, study


def add(tx: Transaction, new: NewJob) -> int:
    """Insert a job, ready or held; the id of the job that is there already where its key is known."""
    known = tx.execute(select(job.c.id).where(job.c.key == new.key)).scalar()
    if known is not None:
        return int(known)
    state = JobState.READY if new.held_reason is None else JobState.HELD
    job_id = tx.execute(
        insert(job)
        .values(
            key=new.key,
            completion_id=new.completion_id,
            series_id=new.series_id,
            generation=new.generation,
            input_digest=new.input_digest,
            route=new.route,
            pipeline=new.pipeline,
            pipeline_version=new.pipeline_version,
            pipeline_digest=new.pipeline_digest,
            priority=new.priority.rank,
            send_to=list(new.send_to),
            notify=list(new.notify),
            state=state,
            fence=0,
            attempt=0,
            not_before=Now(),
            reason=new.held_reason,
            created_at=Now(),
            updated_at=Now(),
        )
        .returning(job.c.id)
    ).scalar_one()
    _record(tx, job_id, "create", state, 0, new.held_reason)
    return int(job_id)


def add_routing(
    tx: Transaction, completion_id: int, route: str, *, matched: bool, note: str | None, job_id: int | None
) -> None:
    """Write down what one route made of one completion."""
    tx.execute(
        insert(routing).values(
            completion_id=completion_id, route=route, matched=matched, note=note, job_id=job_id, at=Now()
        )
    )


def claim(tx: Transaction, owner: str, lease_s: float) -> Job | None:
    """Lease the most urgent job that is due, or None. The attempt counts from here on."""
    due = and_(
        job.c.state.in_([JobState.READY, JobState.RETRY_WAIT]),
        job.c.not_before <= Now(),
    )
    row = tx.execute(
        select(job.c.id, job.c.state, job.c.fence)
        .where(due)
        .order_by(job.c.priority, job.c.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    ).first()
    if row is None:
        return None
    _move(
        tx,
        row,
        JobEvent.CLAIM,
        detail=owner,
        fence=row.fence + 1,
        attempt=job.c.attempt + 1,
        lease_owner=owner,
        lease_expires_at=Now(lease_s),
        reason_code=None,
        reason=None,
    )
    return get(tx, row.id)


def extend(tx: Transaction, lease: Lease, lease_s: float) -> None:
    """Keep a lease alive. Raises LeaseLost."""
    moved = tx.execute(update(job).where(_held_under(lease)).values(lease_expires_at=Now(lease_s))).rowcount
    if moved != 1:
        raise LeaseLost("job", lease.id)


def finish(tx: Transaction, lease: Lease, made: Sequence[Stored]) -> list[int]:
    """End a job with its results, whose bytes are fixed from here on; returns their ids. Raises LeaseLost."""
    _move(tx, _leased(tx, lease), JobEvent.FINISH, lease_owner=None, lease_expires_at=None)
    return results.add(tx, lease.id, made)


def next_notice(tx: Transaction) -> Job | None:
    """The job that ended without a result for the longest and has not told its destinations, or None."""
    row = tx.execute(_jobs().where(job.c.notice_due).order_by(job.c.id).limit(1)).first()
    return None if row is None else _job(row)


def give_notice(tx: Transaction, job_: Job, made: Sequence[Stored]) -> list[int]:
    """Fix the notice of a job that has not moved since it was read; the result ids, none where it has."""
    told = tx.execute(
        update(job)
        .where(job.c.id == job_.id, job.c.fence == job_.fence, job.c.state == job_.state, job.c.notice_due)
        .values(notice_due=False)
    ).rowcount
    return results.add(tx, job_.id, made) if told else []


def refuse(tx: Transaction, lease: Lease, code: str, reason: str) -> None:
    """The input does not suit the pipeline; that is final. Raises LeaseLost."""
    _end(tx, lease, JobEvent.REFUSE, code, reason, notice_due=True)


def fail(
    tx: Transaction, lease: Lease, code: str, reason: str, *, attempts: int, backoff_s: float
) -> JobState:
    """This attempt failed: the job waits for the next one, or is dead. Raises LeaseLost."""
    attempt = tx.execute(select(job.c.attempt).where(job.c.id == lease.id)).scalar_one()
    if attempt >= attempts:
        _end(tx, lease, JobEvent.GIVE_UP, code, reason, notice_due=True)
        return JobState.DEAD
    _end(tx, lease, JobEvent.FAIL, code, reason, not_before=Now(backoff_s * 2 ** (attempt - 1)))
    return JobState.RETRY_WAIT


def give_up(tx: Transaction, lease: Lease, code: str, reason: str) -> None:
    """Another attempt would end the same way: the job is dead. Raises LeaseLost."""
    _end(tx, lease, JobEvent.GIVE_UP, code, reason, notice_due=True)


def hand_back(tx: Transaction, lease: Lease) -> None:
    """Give the job back as if it had not been claimed. Raises LeaseLost."""
    _move(
        tx,
        _leased(tx, lease),
        JobEvent.HAND_BACK,
        attempt=job.c.attempt - 1,
        lease_owner=None,
        lease_expires_at=None,
    )


def expire(tx: Transaction, attempts: int) -> list[int]:
    """Take back the leases that ran out; a job whose attempts are used up is dead. Returns the job ids."""
    rows = tx.execute(
        select(job.c.id, job.c.state, job.c.fence, job.c.attempt)
        .where(job.c.state == JobState.LEASED, job.c.lease_expires_at < Now())
        .with_for_update(skip_locked=True)
    ).all()
    for row in rows:
        _move(
            tx,
            row,
            JobEvent.EXPIRE if row.attempt < attempts else JobEvent.GIVE_UP,
            fence=row.fence + 1,
            lease_owner=None,
            lease_expires_at=None,
            not_before=Now(),
            notice_due=row.attempt >= attempts,
            reason_code="LEASE_EXPIRED",
            reason="the worker was lost during the run",
        )
    return [row.id for row in rows]


def cancel(tx: Transaction, job_id: int, reason: str) -> None:
    """An administrator, or a newer generation, ends the job. Raises NotFound, IllegalTransition."""
    row = _row(tx, job_id)
    _move(
        tx,
        row,
        JobEvent.CANCEL,
        fence=row.fence + 1,
        lease_owner=None,
        lease_expires_at=None,
        reason_code="CANCELLED",
        reason=reason,
    )


def retry(tx: Transaction, job_id: int, pipeline_version: str, pipeline_digest: str) -> None:
    """An administrator starts a settled job again, with the pipeline as it is installed now.

    Raises NotFound, IllegalTransition.
    """
    _move(
        tx,
        _row(tx, job_id),
        JobEvent.RETRY,
        attempt=0,
        not_before=Now(),
        pipeline_version=pipeline_version,
        pipeline_digest=pipeline_digest,
        notice_due=False,
        reason_code=None,
        reason=None,
    )


def release(tx: Transaction, job_id: int) -> None:
    """An administrator lets a held job go on. Raises NotFound, IllegalTransition."""
    _move(tx, _row(tx, job_id), JobEvent.RELEASE, notice_due=False, reason_code=None, reason=None)


def hold(tx: Transaction, lease: Lease, code: str, reason: str) -> None:
    """What this run made must not leave; an administrator looks first. Raises LeaseLost."""
    _end(tx, lease, JobEvent.HOLD, code, reason, fence=lease.fence + 1, notice_due=True)


def hold_study(tx: Transaction, StudyInstanceUID: str, reason: str) -> list[int]:
    """Hold every job of a study that is not settled, one that runs included; returns their ids."""
    rows = tx.execute(
        select(job.c.id, job.c.state, job.c.fence)
        .join_from(job, series, series.c.id == job.c.series_id)
        .join(study, study.c.id == series.c.study_id)
        .where(
            study.c.StudyInstanceUID == StudyInstanceUID,
            job.c.state.in_([JobState.READY, JobState.LEASED, JobState.RETRY_WAIT]),
        )
        .with_for_update(of=job)
    ).all()
    for row in rows:
        _move(
            tx,
            row,
            JobEvent.HOLD,
            detail=reason,
            fence=row.fence + 1,
            lease_owner=None,
            lease_expires_at=None,
            reason=reason,
        )
    return [row.id for row in rows]


def cancel_superseded(tx: Transaction, series_id: int, generation: int, pipeline: str) -> list[int]:
    """Cancel what an older generation of the series still waits for or works on; returns the job ids.

    A run that goes on has lost its lease: its results would arrive after those of the newer generation.
    """
    rows = tx.execute(
        select(job.c.id)
        .where(
            job.c.series_id == series_id,
            job.c.generation < generation,
            job.c.pipeline == pipeline,
            job.c.state.not_in(SETTLED),
        )
        .with_for_update()
    ).all()
    for row in rows:
        cancel(tx, row.id, f"superseded by generation {generation}")
    return [row.id for row in rows]


def add_run(
    tx: Transaction, lease: Lease, worker: str, started_at: Any, outcome: str, timings: Mapping[str, float]
) -> None:
    """Write down one attempt: who, when, how it ended, and the seconds of each stage."""
    tx.execute(
        insert(run).values(
            job_id=lease.id,
            fence=lease.fence,
            worker=worker,
            started_at=started_at,
            ended_at=Now(),
            outcome=outcome,
            timings=dict(timings),
        )
    )


def get(tx: Transaction, job_id: int) -> Job:
    """One job. Raises NotFound."""
    row = tx.execute(_jobs().where(job.c.id == job_id)).first()
    if row is None:
        raise NotFound("job", job_id)
    return _job(row)


def get_all(tx: Transaction, job_ids: Iterable[int]) -> dict[int, Job]:
    """These jobs by their ids."""
    rows = tx.execute(_jobs().where(job.c.id.in_(list(job_ids))))
    return {row.id: _job(row) for row in rows}


def set_priority(tx: Transaction, job_id: int, priority: Priority) -> None:
    """How urgent a job is that waits to be claimed."""
    tx.execute(update(job).where(job.c.id == job_id).values(priority=priority.rank))


def place_in_study(tx: Transaction, job_: Job) -> int:
    """How many jobs the study had before this one."""
    return int(
        tx.execute(
            select(func.count(job.c.id))
            .join_from(job, series, series.c.id == job.c.series_id)
            .join(study, study.c.id == series.c.study_id)
            .where(study.c.StudyInstanceUID == job_.StudyInstanceUID, job.c.id < job_.id)
        ).scalar_one()
    )


def find(tx: Transaction, states: Sequence[JobState] = (), limit: int = 100) -> list[Job]:
    """The jobs in any of `states` (all where empty), newest first."""
    query = _jobs().order_by(job.c.id.desc()).limit(limit)
    if states:
        query = query.where(job.c.state.in_(list(states)))
    return [_job(row) for row in tx.execute(query)]


def _jobs() -> Select[Any]:
    return (
        select(job, series.c.SeriesInstanceUID, study.c.StudyInstanceUID)
        .join_from(job, completion, completion.c.id == job.c.completion_id)
        .join(series, series.c.id == job.c.series_id)
        .join(study, study.c.id == series.c.study_id)
    )


def _job(row: Any) -> Job:
    return Job(
        id=row.id,
        key=row.key,
        state=JobState(row.state),
        fence=row.fence,
        attempt=row.attempt,
        series_id=row.series_id,
        SeriesInstanceUID=row.SeriesInstanceUID,
        StudyInstanceUID=row.StudyInstanceUID,
        generation=row.generation,
        input_digest=row.input_digest,
        route=row.route,
        pipeline=row.pipeline,
        pipeline_version=row.pipeline_version,
        pipeline_digest=row.pipeline_digest,
        priority=tuple(Priority)[row.priority],
        send_to=tuple(row.send_to),
        notify=tuple(row.notify),
        reason_code=row.reason_code,
        reason=row.reason,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _held_under(lease: Lease) -> Any:
    return and_(job.c.id == lease.id, job.c.state == JobState.LEASED, job.c.fence == lease.fence)


def _leased(tx: Transaction, lease: Lease) -> Any:
    row = tx.execute(
        select(job.c.id, job.c.state, job.c.fence).where(_held_under(lease)).with_for_update()
    ).first()
    if row is None:
        raise LeaseLost("job", lease.id)
    return row


def _row(tx: Transaction, job_id: int) -> Any:
    row = tx.execute(
        select(job.c.id, job.c.state, job.c.fence).where(job.c.id == job_id).with_for_update()
    ).first()
    if row is None:
        raise NotFound("job", job_id)
    return row


def _end(tx: Transaction, lease: Lease, event: JobEvent, code: str, reason: str, **values: Any) -> None:
    row = _leased(tx, lease)
    _move(
        tx,
        row,
        event,
        detail=code,
        lease_owner=None,
        lease_expires_at=None,
        reason_code=code,
        reason=reason,
        **values,
    )


def _move(tx: Transaction, row: Any, event: JobEvent, detail: str | None = None, **values: Any) -> None:
    state = advance(JobState(row.state), event)
    moved = tx.execute(
        update(job)
        .where(job.c.id == row.id, job.c.state == row.state, job.c.fence == row.fence)
        .values(state=state, updated_at=Now(), **values)
    ).rowcount
    if moved != 1:
        raise LeaseLost("job", row.id)
    _record(tx, row.id, event, state, values.get("fence", row.fence), detail)


def _record(
    tx: Transaction, job_id: int, event: str, state: JobState, fence: int, detail: str | None
) -> None:
    tx.execute(
        insert(job_event).values(
            job_id=job_id, event=event, state=state, fence=fence, detail=detail, at=Now()
        )
    )
