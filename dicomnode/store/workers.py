"""Which workers are there: what a forecast counts, and what an administrator drains."""

from __future__ import annotations

from sqlalchemy import delete, insert, select, update

from dicomnode.model.job import JobState
from dicomnode.model.queue import PauseKind, WorkerStatus
from dicomnode.model.room import Slot
from dicomnode.store import room
from dicomnode.store.clock import Now
from dicomnode.store.database import Transaction
from dicomnode.store.schema import device, job, pause, worker

TELL_S = 10.0
"""How often a worker says that it is there."""


def begin(tx: Transaction, name: str, slot: Slot | None = None) -> None:
    """A worker is there from now on, and holds nothing; of those that went without a word, nothing stays."""
    end(tx, name)
    gone = select(worker.c.name).where(worker.c.seen_at < Now(-room.HELD_S))
    # Others lock these rows by their names: who waits for none of them cannot wait for each other.
    tx.execute(delete(worker).where(worker.c.name.in_(gone.with_for_update(skip_locked=True))))
    place = {} if slot is None else {"host": slot.host, "device": slot.device}
    tx.execute(insert(worker).values(name=name, since=Now(), seen_at=Now(), **place))
    if slot is not None:
        room.declare(tx, slot)


def tell(tx: Transaction, name: str, slot: Slot | None = None) -> None:
    """It still is, also where it was silent for so long that it had been forgotten."""
    if not tx.execute(update(worker).where(worker.c.name == name).values(seen_at=Now())).rowcount:
        begin(tx, name, slot)
    elif slot is not None:
        of_slot = (device.c.host == slot.host) & (device.c.name == slot.device)
        tx.execute(update(device).where(of_slot).values(seen_at=Now()))


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
        .where(room.is_there())
        .order_by(worker.c.name)
    )
    return [
        WorkerStatus(
            name=row.name,
            since=row.since,
            seen_at=row.seen_at,
            draining=row.pause_id is not None,
            job_id=row.job_id,
            device=row.device,
            pipeline=row.pipeline,
            held_mb=row.held_host_mb,
            held_device_mb=row.held_device_mb,
        )
        for row in rows
    ]
