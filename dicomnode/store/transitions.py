"""What all that write a job's state share: the compare-and-set on (id, state, fence), and the event row.

Both are in the caller's transaction.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import insert, select, update

from dicomnode.errors import LeaseLost, NotFound
from dicomnode.model.job import WAITING, JobEvent, JobState, advance
from dicomnode.model.topic import Topic
from dicomnode.store.clock import Now
from dicomnode.store.database import Transaction
from dicomnode.store.schema import job, job_event
from dicomnode.store.signals import announce

# Made once: to make a statement takes longer than to run it, and this one runs for each job.
_EVENT = insert(job_event).values(at=Now())


def locked(tx: Transaction, job_id: int) -> Any:
    """Id, state and fence of a job that nobody else moves until the transaction ends. Raises NotFound."""
    row = tx.execute(
        select(job.c.id, job.c.state, job.c.fence).where(job.c.id == job_id).with_for_update()
    ).first()
    if row is None:
        raise NotFound("job", job_id)
    return row


def without_lease(row: Any) -> dict[str, Any]:
    """What `move` gives a job that is taken from its worker: whatever that one still writes is too late."""
    return {"fence": row.fence + 1, "lease_owner": None, "lease_expires_at": None}


def move(
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
    record(tx, row.id, event, state, values.get("fence", row.fence), detail, actor)
    if row.state == JobState.LEASED:
        announce(tx, Topic.LEASE)


def record(
    tx: Transaction,
    job_id: int,
    event: str,
    state: JobState,
    fence: int,
    detail: str | None,
    actor: str | None = None,
) -> None:
    """Write down what happened to a job, and wake the workers where it can be claimed now."""
    tx.execute(
        _EVENT,
        {"job_id": job_id, "event": event, "state": state, "fence": fence, "detail": detail, "actor": actor},
    )
    if state in WAITING:
        announce(tx, Topic.JOB)
