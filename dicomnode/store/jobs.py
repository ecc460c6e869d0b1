"""The job table: the only place where a job's state is written.

Each transition is a compare-and-set on (id, state, fence) and an event row, in the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import (
    Float,
    Select,
    Text,
    and_,
    bindparam,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.sql.dml import ReturningUpdate

from dicomnode.errors import LeaseLost, NotFound, RunOutOfMemory
from dicomnode.model.job import (
    AWAITS_PRIORS,
    PATIENT_CONFLICT,
    SETTLED,
    WAITING,
    Job,
    JobEvent,
    JobState,
    Lease,
    NewJob,
    Priority,
    advance,
    head_start_s,
)
from dicomnode.model.prior import waiting_for
from dicomnode.model.queue import Limit, PauseKind
from dicomnode.model.topic import Topic
from dicomnode.store import catalog, priors, queue, results
from dicomnode.store.clock import Now
from dicomnode.store.database import Transaction
from dicomnode.store.results import Stored
from dicomnode.store.schema import (
    JOB_RUNS,
    JOB_WAITS,
    job,
    job_event,
    pause,
    routing,
    run,
    series,
    study,
)
from dicomnode.store.signals import announce

# Made once: to make a statement takes longer than to run it, and these run for each job.
_JOBS = (
    select(job, series.c.SeriesInstanceUID, study.c.StudyInstanceUID)
    .join_from(job, series, series.c.id == job.c.series_id)
    .join(study, study.c.id == series.c.study_id)
)
_BY_ID = _JOBS.where(job.c.id == bindparam("of_id"))
_LANES = (PauseKind.PIPELINE, PauseKind.ROUTE)


def _paused(kind: PauseKind) -> Select[tuple[str]]:
    return select(pause.c.name).where(pause.c.kind == literal(kind, literal_execute=True))


# One scan of ix_job_waiting, from its most urgent end.
_DUE = (
    select(job.c.id)
    .where(
        JOB_WAITS,
        job.c.not_before <= Now(),
        or_(job.c.deadline_at.is_(None), job.c.deadline_at > Now()),
        *(job.c[kind.value].not_in(_paused(kind)) for kind in _LANES),
        bindparam("owner", type_=Text).not_in(_paused(PauseKind.WORKER)),
    )
    .order_by(job.c.urgent_at, job.c.id)
    .limit(literal(1, literal_execute=True))
)
_DUE_WITHIN = _DUE.where(
    *(job.c[kind.value].not_in(bindparam(f"spent_{kind}", expanding=True)) for kind in _LANES)
)


def _claiming(due: Select[tuple[int]]) -> ReturningUpdate[Any]:
    return (
        update(job)
        .where(job.c.id == due.with_for_update(skip_locked=True, of=job).scalar_subquery())
        .values(
            state=JobState.LEASED,
            fence=job.c.fence + 1,
            attempt=job.c.attempt + 1,
            lease_owner=bindparam("owner"),
            lease_expires_at=Now(bindparam("lease_s", type_=Float)),
            reason_code=None,
            reason=None,
            updated_at=Now(),
        )
        .returning(job.c.id, job.c.fence)
    )


_CLAIM, _CLAIM_WITHIN = _claiming(_DUE), _claiming(_DUE_WITHIN)
_LEAVE = (
    update(job)
    .where(
        job.c.id == bindparam("of_id"),
        job.c.fence == bindparam("of_fence"),
        job.c.state == literal(JobState.LEASED, literal_execute=True),
    )
    .values(state=bindparam("left_as"), lease_owner=None, lease_expires_at=None, updated_at=Now())
)
_EVENT = insert(job_event).values(at=Now())
_RUN = insert(run).values(ended_at=Now())

TOO_LATE = "TOO_LATE"
"""Why a job ended that could not begin by its deadline."""


def add(tx: Transaction, new: NewJob) -> int:
    """Insert a job, ready or held; the id of the job that is there already where its key is known."""
    known = tx.execute(select(job.c.id).where(job.c.key == new.key)).scalar()
    if known is not None:
        return int(known)
    awaiting = waiting_for(new.priors) if new.priors and new.held_reason is None else None
    held = awaiting or new.held_reason
    state = JobState.READY if held is None else JobState.HELD
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
            reason_code=AWAITS_PRIORS if awaiting else None,
            urgent_at=Now(-head_start_s(new.priority, new.deadline_s)),
            deadline_at=None if new.deadline_s is None else Now(new.deadline_s),
            reason=held,
            created_at=Now(),
            updated_at=Now(),
        )
        .returning(job.c.id)
    ).scalar_one()
    _record(tx, job_id, "create", state, 0, held)
    priors.seek(tx, job_id, new.priors)
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


def is_due(tx: Transaction, owner: str) -> bool:
    """True where that worker might get a job now; locks nothing."""
    return tx.execute(_DUE, {"owner": owner}).first() is not None


def claim(tx: Transaction, owner: str, lease_s: float, limits: Sequence[Limit] = ()) -> Job | None:
    """Lease the most urgent job that is due, in time, not paused and within the limits, or None.

    The attempt counts from here on.
    """
    exhausted = queue.exhausted(tx, limits)
    given = {"owner": owner, "lease_s": lease_s} | {
        f"spent_{kind}": sorted(name for of_kind, name in exhausted if of_kind is kind) for kind in _LANES
    }
    row = tx.execute(_CLAIM_WITHIN if exhausted else _CLAIM, given).first()
    if row is None:
        return None
    _record(tx, row.id, JobEvent.CLAIM, JobState.LEASED, row.fence, owner)
    return get(tx, row.id)


def extend(tx: Transaction, lease: Lease, lease_s: float) -> None:
    """Keep a lease alive. Raises LeaseLost."""
    moved = tx.execute(update(job).where(_held_under(lease)).values(lease_expires_at=Now(lease_s))).rowcount
    if moved != 1:
        raise LeaseLost("job", lease.id)


def finish(tx: Transaction, lease: Lease, made: Sequence[Stored]) -> list[int]:
    """End a job with its results, whose bytes are fixed from here on; returns their ids. Raises LeaseLost."""
    _leave(tx, lease, JobEvent.FINISH)
    return results.add(tx, lease.id, made) if made else []


def next_notice(tx: Transaction) -> Job | None:
    """The job that ended without a result for the longest and has not told its destinations, or None."""
    row = tx.execute(_JOBS.where(job.c.notice_due).order_by(job.c.id).limit(1)).first()
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
    _leave(tx, lease, JobEvent.HAND_BACK, attempt=job.c.attempt - 1)


def any_expired(tx: Transaction) -> bool:
    """True where a lease ran out, or a job is past its deadline; locks nothing."""
    ran_out = select(job.c.id).where(JOB_RUNS, job.c.lease_expires_at < Now()).limit(1)
    return tx.execute(ran_out).first() is not None or tx.execute(_overdue().limit(1)).first() is not None


def expire(tx: Transaction, attempts: int) -> list[int]:
    """Take back the leases that ran out; a job whose attempts are used up is dead. Returns the job ids."""
    rows = tx.execute(
        select(job.c.id, job.c.state, job.c.fence, job.c.attempt)
        .where(JOB_RUNS, job.c.lease_expires_at < Now())
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


def end_overdue(tx: Transaction) -> list[int]:
    """What has not begun by its deadline is dead, and its destinations are told; returns the job ids."""
    rows = tx.execute(_overdue().with_for_update(skip_locked=True)).all()
    for row in rows:
        _move(
            tx,
            row,
            JobEvent.OVERDUE,
            detail=TOO_LATE,
            fence=row.fence + 1,
            notice_due=True,
            reason_code=TOO_LATE,
            reason="it could not begin by its deadline",
        )
    return [row.id for row in rows]


def _overdue() -> Select[Any]:
    return select(job.c.id, job.c.state, job.c.fence).where(JOB_WAITS, job.c.deadline_at <= Now())


def cancel(tx: Transaction, job_id: int, reason: str, actor: str | None = None) -> None:
    """An administrator, or a newer generation, ends the job. Raises NotFound, IllegalTransition."""
    row = _row(tx, job_id)
    _move(
        tx,
        row,
        JobEvent.CANCEL,
        detail=reason,
        actor=actor,
        fence=row.fence + 1,
        lease_owner=None,
        lease_expires_at=None,
        reason_code="CANCELLED",
        reason=reason,
    )


def retry(
    tx: Transaction, job_id: int, pipeline_version: str, pipeline_digest: str, actor: str | None = None
) -> None:
    """An administrator starts a settled job again, with the pipeline as it is now and without a deadline.

    Raises NotFound, IllegalTransition.
    """
    _move(
        tx,
        _row(tx, job_id),
        JobEvent.RETRY,
        actor=actor,
        deadline_at=None,
        attempt=0,
        not_before=Now(),
        pipeline_version=pipeline_version,
        pipeline_digest=pipeline_digest,
        notice_due=False,
        reason_code=None,
        reason=None,
    )


def release(tx: Transaction, job_id: int, actor: str | None = None) -> None:
    """An administrator lets a held job go on, without a deadline. Raises NotFound, IllegalTransition."""
    row = _row(tx, job_id)
    free: dict[str, Any] = {"notice_due": False, "deadline_at": None, "reason_code": None, "reason": None}
    _move(tx, row, JobEvent.RELEASE, actor=actor, **free)


def note_rerun(tx: Transaction, job_id: int, again: int, actor: str | None = None) -> None:
    """An administrator has the same done once more, by job `again`. Raises NotFound, IllegalTransition."""
    _move(tx, _row(tx, job_id), JobEvent.RERUN, detail=f"job {again}", actor=actor)


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


def await_priors(tx: Transaction, job_id: int, reason: str) -> None:
    """Hold a job until its priors are here, also one that is held. Raises NotFound, IllegalTransition."""
    row = _row(tx, job_id)
    if row.state == JobState.HELD:
        held = update(job).where(job.c.id == job_id)
        tx.execute(held.values(notice_due=False, reason_code=AWAITS_PRIORS, reason=reason))
    else:
        _move(tx, row, JobEvent.HOLD, reason_code=AWAITS_PRIORS, reason=reason)


def note_awaited(tx: Transaction, job_id: int, reason: str) -> None:
    """What a job that is held for its priors waits for now."""
    tx.execute(update(job).where(job.c.id == job_id, _awaits_priors()).values(reason=reason))


def freeze_input(tx: Transaction, job_id: int, input_digest: str) -> None:
    """The input of a held job is complete, and names these instances from now on."""
    held = and_(job.c.id == job_id, job.c.state == JobState.HELD)
    tx.execute(update(job).where(held).values(input_digest=input_digest))


def end_waiting(tx: Transaction, job_id: int) -> None:
    """A job that was held for its priors may run, unless there is another reason, too. Raises NotFound."""
    row, found = _row(tx, job_id), get(tx, job_id)
    if found.state is not JobState.HELD or found.reason_code != AWAITS_PRIORS:
        return
    if catalog.names_two_patients(tx, found.series_id):
        held = {"reason_code": None, "reason": PATIENT_CONFLICT}
        tx.execute(update(job).where(job.c.id == job_id).values(**held))
        return
    _move(tx, row, JobEvent.RELEASE, reason_code=None, reason=None)


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


def add_run(tx: Transaction, job_: Job, worker: str, outcome: str, timings: Mapping[str, float]) -> None:
    """Write down the attempt that began with the claim of `job_`: by whom, how it ended, seconds by stage."""
    tx.execute(
        _RUN,
        {
            "job_id": job_.id,
            "fence": job_.fence,
            "pipeline": job_.pipeline,
            "route": job_.route,
            "worker": worker,
            "started_at": job_.updated_at,
            "outcome": outcome,
            "timings": dict(timings),
        },
    )


def ran_out_of_memory(tx: Transaction, job_id: int) -> bool:
    """True where an attempt at a job needed more memory than there was: the next one is to be frugal."""
    short = select(run.c.id).where(run.c.job_id == job_id, run.c.outcome == RunOutOfMemory.code)
    return tx.execute(short.limit(1)).first() is not None


def get(tx: Transaction, job_id: int) -> Job:
    """One job. Raises NotFound."""
    row = tx.execute(_BY_ID, {"of_id": job_id}).first()
    if row is None:
        raise NotFound("job", job_id)
    return _job(row)


def get_all(tx: Transaction, job_ids: Iterable[int]) -> dict[int, Job]:
    """These jobs by their ids."""
    rows = tx.execute(_JOBS.where(job.c.id.in_(list(job_ids))))
    return {row.id: _job(row) for row in rows}


def set_priority(tx: Transaction, job_id: int, priority: Priority) -> None:
    """How urgent a job is that waits to be claimed: as if it had come with that priority.

    The head start that its deadline gave it stays.
    """
    row = tx.execute(select(job.c.created_at, job.c.deadline_at).where(job.c.id == job_id)).one()
    limit_s = None if row.deadline_at is None else (row.deadline_at - row.created_at).total_seconds()
    urgent_at = row.created_at - timedelta(seconds=head_start_s(priority, limit_s))
    tx.execute(update(job).where(job.c.id == job_id).values(priority=priority.rank, urgent_at=urgent_at))


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
    query = _JOBS.order_by(job.c.id.desc()).limit(limit)
    if states:
        query = query.where(job.c.state.in_(list(states)))
    return [_job(row) for row in tx.execute(query)]


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
        deadline_at=row.deadline_at,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def _awaits_priors() -> Any:
    return and_(job.c.state == JobState.HELD, job.c.reason_code == AWAITS_PRIORS)


def _held_under(lease: Lease) -> Any:
    return and_(job.c.id == lease.id, job.c.state == JobState.LEASED, job.c.fence == lease.fence)


def _row(tx: Transaction, job_id: int) -> Any:
    row = tx.execute(
        select(job.c.id, job.c.state, job.c.fence).where(job.c.id == job_id).with_for_update()
    ).first()
    if row is None:
        raise NotFound("job", job_id)
    return row


def _end(tx: Transaction, lease: Lease, event: JobEvent, code: str, reason: str, **values: Any) -> None:
    _leave(tx, lease, event, detail=code, reason_code=code, reason=reason, **values)


def _leave(tx: Transaction, lease: Lease, event: JobEvent, detail: str | None = None, **values: Any) -> None:
    """What the holder of a lease does with it; it holds it no longer then. Raises LeaseLost."""
    state = advance(JobState.LEASED, event)
    given = {"of_id": lease.id, "of_fence": lease.fence, "left_as": state}
    if tx.execute(_LEAVE.values(**values) if values else _LEAVE, given).rowcount != 1:
        raise LeaseLost("job", lease.id)
    _record(tx, lease.id, event, state, values.get("fence", lease.fence), detail)


def _move(
    tx: Transaction,
    row: Any,
    event: JobEvent,
    detail: str | None = None,
    actor: str | None = None,
    **values: Any,
) -> None:
    """What others do with a job. Raises IllegalTransition, LeaseLost."""
    state = advance(JobState(row.state), event)
    moved = tx.execute(
        update(job)
        .where(job.c.id == row.id, job.c.state == row.state, job.c.fence == row.fence)
        .values(state=state, updated_at=Now(), **values)
    ).rowcount
    if moved != 1:
        raise LeaseLost("job", row.id)
    _record(tx, row.id, event, state, values.get("fence", row.fence), detail, actor)
    if row.state == JobState.LEASED:
        announce(tx, Topic.LEASE)


def _record(
    tx: Transaction,
    job_id: int,
    event: str,
    state: JobState,
    fence: int,
    detail: str | None,
    actor: str | None = None,
) -> None:
    tx.execute(
        _EVENT,
        {"job_id": job_id, "event": event, "state": state, "fence": fence, "detail": detail, "actor": actor},
    )
    if state in WAITING:
        announce(tx, Topic.JOB)
