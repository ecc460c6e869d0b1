"""The job table: how jobs come into being, what is read of them, and what others than their workers do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

from sqlalchemy import and_, bindparam, func, insert, select, update

from dicomnode.errors import NotFound
from dicomnode.model.job import (
    AWAITS_PRIORS,
    PATIENT_CONFLICT,
    SETTLED,
    Job,
    JobEvent,
    JobState,
    NewJob,
    Priority,
    head_start_s,
)
from dicomnode.model.prior import waiting_for
from dicomnode.store import catalog, priors, results
from dicomnode.store.clock import Now
from dicomnode.store.database import Transaction
from dicomnode.store.results import Stored
from dicomnode.store.schema import job, routing, series, study
from dicomnode.store.transitions import locked, move, record, without_lease

# Made once: to make a statement takes longer than to run it, and these run for each job.
_JOBS = (
    select(job, series.c.SeriesInstanceUID, study.c.StudyInstanceUID)
    .join_from(job, series, series.c.id == job.c.series_id)
    .join(study, study.c.id == series.c.study_id)
)
_BY_ID = _JOBS.where(job.c.id == bindparam("of_id"))


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
            urgent_at=Now(-new.head_start_s),
            deadline_at=None if new.deadline_s is None else Now(new.deadline_s),
            reason=held,
            shadow_of=new.shadow_of,
            created_at=Now(),
            updated_at=Now(),
        )
        .returning(job.c.id)
    ).scalar_one()
    record(tx, job_id, "create", state, 0, held)
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


def next_notice(tx: Transaction) -> Job | None:
    """The job that ended without a result for the longest and has not told its destinations, or None."""
    row = tx.execute(_JOBS.where(job.c.notice_due).order_by(job.c.id).limit(1)).first()
    return None if row is None else of_row(row)


def give_notice(tx: Transaction, job_: Job, made: Sequence[Stored]) -> list[int]:
    """Fix the notice of a job that has not moved since it was read; the result ids, none where it has."""
    told = tx.execute(
        update(job)
        .where(job.c.id == job_.id, job.c.fence == job_.fence, job.c.state == job_.state, job.c.notice_due)
        .values(notice_due=False)
    ).rowcount
    return results.add(tx, job_.lease, made) if told else []


def cancel(tx: Transaction, job_id: int, reason: str, actor: str | None = None) -> None:
    """An administrator, or a newer generation, ends the job. Raises NotFound, IllegalTransition."""
    _take_away(tx, locked(tx, job_id), JobEvent.CANCEL, reason, "CANCELLED", actor=actor)


def retry(
    tx: Transaction, job_id: int, pipeline_version: str, pipeline_digest: str, actor: str | None = None
) -> None:
    """An administrator starts a settled job again, with the pipeline as it is now and without a deadline.

    Raises NotFound, IllegalTransition.
    """
    move(
        tx,
        locked(tx, job_id),
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
    row = locked(tx, job_id)
    free: dict[str, Any] = {"notice_due": False, "deadline_at": None, "reason_code": None, "reason": None}
    move(tx, row, JobEvent.RELEASE, actor=actor, **free)


def hold(tx: Transaction, job_id: int, reason: str, actor: str | None = None) -> None:
    """An administrator looks at something first; a run is cut. Raises NotFound, IllegalTransition."""
    _take_away(tx, locked(tx, job_id), JobEvent.HOLD, reason, actor=actor)


def note_rerun(tx: Transaction, job_id: int, again: int, actor: str | None = None) -> None:
    """An administrator has the same done once more, by job `again`. Raises NotFound, IllegalTransition."""
    move(tx, locked(tx, job_id), JobEvent.RERUN, detail=f"job {again}", actor=actor)


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
        _take_away(tx, row, JobEvent.HOLD, reason)
    return [row.id for row in rows]


def _take_away(
    tx: Transaction,
    row: Any,
    event: JobEvent,
    reason: str,
    reason_code: str | None = None,
    actor: str | None = None,
) -> None:
    """From whoever runs it, if anybody does."""
    told = {"detail": reason, "reason": reason, "reason_code": reason_code}
    move(tx, row, event, actor=actor, **told, **without_lease(row))


def await_priors(tx: Transaction, job_id: int, reason: str) -> None:
    """Hold a job until its priors are here, also one that is held. Raises NotFound, IllegalTransition."""
    row = locked(tx, job_id)
    if row.state == JobState.HELD:
        held = update(job).where(job.c.id == job_id)
        tx.execute(held.values(notice_due=False, reason_code=AWAITS_PRIORS, reason=reason))
    else:
        move(tx, row, JobEvent.HOLD, reason_code=AWAITS_PRIORS, reason=reason)


def note_awaited(tx: Transaction, job_id: int, reason: str) -> None:
    """What a job that is held for its priors waits for now."""
    tx.execute(update(job).where(job.c.id == job_id, _awaits_priors()).values(reason=reason))


def freeze_input(tx: Transaction, job_id: int, input_digest: str) -> None:
    """The input of a held job is complete, and names these instances from now on."""
    held = and_(job.c.id == job_id, job.c.state == JobState.HELD)
    tx.execute(update(job).where(held).values(input_digest=input_digest))


def end_waiting(tx: Transaction, job_id: int) -> None:
    """A job that was held for its priors may run, unless there is another reason, too. Raises NotFound."""
    row, found = locked(tx, job_id), get(tx, job_id)
    if found.state is not JobState.HELD or found.reason_code != AWAITS_PRIORS:
        return
    if catalog.names_two_patients(tx, found.series_id):
        held = {"reason_code": None, "reason": PATIENT_CONFLICT}
        tx.execute(update(job).where(job.c.id == job_id).values(**held))
        return
    move(tx, row, JobEvent.RELEASE, reason_code=None, reason=None)


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


def get(tx: Transaction, job_id: int) -> Job:
    """One job. Raises NotFound."""
    row = tx.execute(_BY_ID, {"of_id": job_id}).first()
    if row is None:
        raise NotFound("job", job_id)
    return of_row(row)


def get_all(tx: Transaction, job_ids: Iterable[int]) -> dict[int, Job]:
    """These jobs by their ids."""
    rows = tx.execute(_JOBS.where(job.c.id.in_(list(job_ids))))
    return {row.id: of_row(row) for row in rows}


def set_priority(tx: Transaction, job_id: int, priority: Priority) -> None:
    """How urgent a job is that waits to be claimed: as if it had come with that priority.

    The head start that its deadline gave it stays.
    """
    row = tx.execute(select(job.c.created_at, job.c.deadline_at).where(job.c.id == job_id)).one()
    limit_s = None if row.deadline_at is None else (row.deadline_at - row.created_at).total_seconds()
    urgent_at = row.created_at - timedelta(seconds=head_start_s(priority, limit_s))
    tx.execute(update(job).where(job.c.id == job_id).values(priority=priority.rank, urgent_at=urgent_at))


def place_in_study(tx: Transaction, job_: Job) -> int:
    """How many jobs the study had before this one; shadows are not counted, and stand where their jobs do."""
    of_its_own = job_.id if job_.shadow_of is None else job_.shadow_of
    return int(
        tx.execute(
            select(func.count(job.c.id))
            .join_from(job, series, series.c.id == job.c.series_id)
            .join(study, study.c.id == series.c.study_id)
            .where(
                study.c.StudyInstanceUID == job_.StudyInstanceUID,
                job.c.id < of_its_own,
                job.c.shadow_of.is_(None),
            )
        ).scalar_one()
    )


def find(tx: Transaction, states: Sequence[JobState] = (), limit: int = 100) -> list[Job]:
    """The jobs in any of `states` (all where empty), newest first."""
    query = _JOBS.order_by(job.c.id.desc()).limit(limit)
    if states:
        query = query.where(job.c.state.in_(list(states)))
    return [of_row(row) for row in tx.execute(query)]


def of_row(row: Any) -> Job:
    """A job as a row of the table tells it, with the UIDs of its series and its study."""
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
        shadow_of=row.shadow_of,
    )


def _awaits_priors() -> Any:
    return and_(job.c.state == JobState.HELD, job.c.reason_code == AWAITS_PRIORS)
