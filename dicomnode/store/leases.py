"""Leases on jobs: a worker claims one, keeps it alive and ends it; what nobody keeps alive is taken back."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sqlalchemy import Select, Text, and_, bindparam, insert, select, update
from sqlalchemy.sql.dml import ReturningInsert

from dicomnode.errors import LeaseLost
from dicomnode.model.job import Job, JobEvent, JobState, Lease, advance
from dicomnode.model.queue import Lane, Limit, Waiting
from dicomnode.model.room import Slot
from dicomnode.store import admission, queue, results
from dicomnode.store.clock import Now
from dicomnode.store.database import Transaction
from dicomnode.store.due import LANES, claiming, due, first
from dicomnode.store.jobs import get, of_row
from dicomnode.store.results import Stored
from dicomnode.store.schema import JOB_RUNS, JOB_WAITS, job, job_event
from dicomnode.store.transitions import move, record, without_lease

# Made once: to make a statement takes longer than to run it, and this one runs for each job.
_LEAVE = (
    update(job)
    .where(
        job.c.id == bindparam("of_id"),
        job.c.fence == bindparam("of_fence"),
        JOB_RUNS,
    )
    .values(state=bindparam("left_as"), lease_owner=None, lease_expires_at=None, updated_at=Now())
)


def _leave_and_note() -> ReturningInsert[Any]:
    """The same and the event of it in one statement, as PostgreSQL has it."""
    left = _LEAVE.returning(job.c.id, job.c.state, job.c.fence, job.c.updated_at).cte("left_job")
    given: dict[str, Any] = {
        "job_id": left.c.id,
        "event": bindparam("of_event", type_=Text),
        "state": left.c.state,
        "fence": left.c.fence,
        "at": left.c.updated_at,
    }
    event = insert(job_event).from_select(list(given), select(*given.values()))
    return event.returning(job_event.c.id)


_LEAVE_AND_NOTE = _leave_and_note()

TOO_LATE = "TOO_LATE"
"""Why a job ended that could not begin by its deadline."""


def next_up(tx: Transaction, owner: str) -> Waiting | None:
    """The job that worker might get now, or None; locks nothing."""
    row = tx.execute(first(), {"owner": owner}).first()
    return None if row is None else Waiting(row.pipeline_digest, row.priority, row.urgent_at, row.waited_s)


def others_wait(tx: Transaction, owner: str, limits: Sequence[Limit], for_s: float) -> bool:
    """True where a job that is no shadow could have been claimed for so long, and nobody has."""
    exhausted = queue.exhausted(tx, limits)
    waiting = due(within=True).where(job.c.shadow_of.is_(None), job.c.not_before <= Now(-for_s))
    return tx.execute(waiting, {"owner": owner} | _spent(exhausted)).first() is not None


def _spent(exhausted: Collection[Lane]) -> dict[str, list[str]]:
    return {f"spent_{kind}": sorted(name for of_kind, name in exhausted if of_kind is kind) for kind in LANES}


def claim(
    tx: Transaction,
    owner: str,
    lease_s: float,
    limits: Sequence[Limit] = (),
    slot: Slot | None = None,
    first: Waiting | None = None,
    warm: str | None = None,
) -> Job | None:
    """Lease the most urgent job that is due, in time, not paused and within the limits, or None.

    For a `slot`, one for which there is room. `first` was seen to be next; `warm` is the digest of the slot's
    model, whose jobs go before others that are as urgent. The attempt counts from here on.
    """
    exhausted = queue.exhausted(tx, limits)
    given = {"owner": owner, "lease_s": lease_s} | _spent(exhausted)
    if slot is None:
        row = tx.execute(claiming(tx.dialect.name, within=bool(exhausted)), given).first()
    else:
        row = admission.lease(tx, slot, given, first, warm, within=bool(exhausted))
    return _claimed(tx, row, owner)


def claim_at_home(tx: Transaction, owner: str, lease_s: float) -> Job | None:
    """Lease the most urgent job if it is one of the owner's warm model, else None; for where no limits are.

    On PostgreSQL it is one statement.
    """
    given = {"owner": owner, "lease_s": lease_s} | _spent(())
    return _claimed(tx, admission.lease_at_home(tx, given), owner)


def _claimed(tx: Transaction, row: Any, owner: str) -> Job | None:
    if row is None or tx.dialect.name == "postgresql":
        return None if row is None else of_row(row)
    record(tx, row.id, JobEvent.CLAIM, JobState.LEASED, row.fence, owner)
    return get(tx, row.id)


def extend(tx: Transaction, lease: Lease, lease_s: float) -> None:
    """Keep a lease alive. Raises LeaseLost."""
    moved = tx.execute(update(job).where(_held_under(lease)).values(lease_expires_at=Now(lease_s))).rowcount
    if moved != 1:
        raise LeaseLost("job", lease.id)


def finish(tx: Transaction, lease: Lease, made: Sequence[Stored]) -> list[int]:
    """End a job with its results, whose bytes are fixed from here on; returns their ids. Raises LeaseLost."""
    _leave(tx, lease, JobEvent.FINISH)
    return results.add(tx, lease, made) if made else []


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


def hold(tx: Transaction, lease: Lease, code: str, reason: str) -> None:
    """What this run made must not leave; an administrator looks first. Raises LeaseLost."""
    _end(tx, lease, JobEvent.HOLD, code, reason, fence=lease.fence + 1, notice_due=True)


def hand_back(tx: Transaction, lease: Lease, rest_s: float = 0.0) -> None:
    """Give the job back as if it had not been claimed; nobody claims it for `rest_s`. Raises LeaseLost."""
    rest: dict[str, Any] = {"not_before": Now(rest_s)} if rest_s else {}
    _leave(tx, lease, JobEvent.HAND_BACK, attempt=job.c.attempt - 1, **rest)


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
        move(
            tx,
            row,
            JobEvent.EXPIRE if row.attempt < attempts else JobEvent.GIVE_UP,
            not_before=Now(),
            notice_due=row.attempt >= attempts,
            reason_code="LEASE_EXPIRED",
            reason="the worker was lost during the run",
            **without_lease(row),
        )
    return [row.id for row in rows]


def end_overdue(tx: Transaction) -> list[int]:
    """What has not begun by its deadline is dead, and its destinations are told; returns the job ids."""
    rows = tx.execute(_overdue().with_for_update(skip_locked=True)).all()
    for row in rows:
        move(
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


def _held_under(lease: Lease) -> Any:
    return and_(job.c.id == lease.id, job.c.state == JobState.LEASED, job.c.fence == lease.fence)


def _end(tx: Transaction, lease: Lease, event: JobEvent, code: str, reason: str, **values: Any) -> None:
    _leave(tx, lease, event, detail=code, reason_code=code, reason=reason, **values)


def _leave(tx: Transaction, lease: Lease, event: JobEvent, detail: str | None = None, **values: Any) -> None:
    """What the holder of a lease does with it; it holds it no longer then. Raises LeaseLost."""
    state = advance(JobState.LEASED, event)
    given = {"of_id": lease.id, "of_fence": lease.fence, "left_as": state}
    if tx.dialect.name == "postgresql" and not values and detail is None:
        if tx.execute(_LEAVE_AND_NOTE, {**given, "of_event": event}).first() is None:
            raise LeaseLost("job", lease.id)
        return
    if tx.execute(_LEAVE.values(**values) if values else _LEAVE, given).rowcount != 1:
        raise LeaseLost("job", lease.id)
    record(tx, lease.id, event, state, values.get("fence", lease.fence), detail)
