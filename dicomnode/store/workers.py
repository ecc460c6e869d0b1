"""Which workers are there: what a forecast counts, and what an administrator drains."""

from __future__ import annotations

from sqlalchemy import delete, insert, select, update

from dicomnode.model.job import JobState
from dicomnode.model.queue import PauseKind, WorkerStatus
from dicomnode.store.clock import Now
from dicomnode.store.database import Transaction
from dicomnode.store.schema import job, pause, worker

TELL_S = 10.0
"""How often a worker says that it is there."""
GONE_S = 35.0
"""One that said nothing for this long is not there any more."""


def begin(tx: Transaction, name: str) -> None:
    """A worker is there from now on; of those that went without a word, nothing stays."""
    end(tx, name)
    tx.execute(delete(worker).where(worker.c.seen_at < Now(-GONE_S)))
    tx.execute(insert(worker).values(name=name, since=Now(), seen_at=Now()))


def tell(tx: Transaction, name: str) -> None:
    """It still is, also where it was silent for so long that it had been forgotten."""
    if not tx.execute(update(worker).where(worker.c.name == name).values(seen_at=Now())).rowcount:
        begin(tx, name)


def end(tx: Transaction, name: str) -> None:
    """It has stopped in order."""
    tx.execute(delete(worker).where(worker.c.name == name))


def find(tx: Transaction) -> list[WorkerStatus]:
    """The workers that are there, by their names."""
    drained = (pause.c.kind == PauseKind.WORKER) & (pause.c.name == worker.c.name)
    works = (job.c.lease_owner == worker.c.name) & (job.c.state == JobState.LEASED)
    rows = tx.execute(
        select(worker, pause.c.id.label("pause_id"), job.c.id.label("job_id"))
        .select_from(worker.outerjoin(pause, drained).outerjoin(job, works))
        .where(worker.c.seen_at >= Now(-GONE_S))
        .order_by(worker.c.name)
    )
    return [
        WorkerStatus(row.name, row.since, row.seen_at, row.pause_id is not None, row.job_id) for row in rows
    ]
