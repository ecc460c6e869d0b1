"""Whom to tell that a job's results are available: the only place where that is written down."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from uuid import uuid4

from sqlalchemy import Select, case, exists, insert, not_, select, update

from dicomnode.model.announcement import AvailabilityState, AvailableInstance
from dicomnode.model.delivery import DeliveryState
from dicomnode.store.clock import Now
from dicomnode.store.database import Transaction
from dicomnode.store.schema import availability, delivery, result

_JOBS = 50
_UNANNOUNCED = (delivery.c.state == DeliveryState.CONFIRMED, not_(delivery.c.announced))


def any_due(tx: Transaction, peers: Collection[str]) -> bool:
    """True where there is something to enter, or to tell one of the peers; locks nothing."""
    ready = availability.c.peer.in_(list(peers)) & (availability.c.state == AvailabilityState.READY)
    told = select(availability.c.id).where(ready, availability.c.not_before <= Now()).limit(1)
    return tx.execute(_confirmed_jobs().limit(1)).first() is not None or tx.execute(told).first() is not None


def _confirmed_jobs() -> Select[tuple[int]]:
    """The jobs of which every delivery is confirmed, and one is not announced."""
    other, of_job = delivery.alias(), result.alias()
    unconfirmed = (
        exists()
        .where(other.c.result_id == of_job.c.id)
        .where(of_job.c.job_id == result.c.job_id, other.c.state != DeliveryState.CONFIRMED)
    )
    return (
        select(result.c.job_id).join_from(delivery, result).where(*_UNANNOUNCED, not_(unconfirmed)).distinct()
    )


def open_due(tx: Transaction, peers: Collection[str]) -> int:
    """Enter a notification to each peer for each job whose deliveries are all confirmed; returns the jobs.

    Where there are no peers, what is confirmed now is not told to those that come later.
    """
    jobs = tx.execute(_confirmed_jobs().limit(_JOBS)).scalars()
    entered = 0
    for job_id in jobs.all():
        results = select(result.c.id).where(result.c.job_id == job_id)
        mark = update(delivery).where(delivery.c.result_id.in_(results), *_UNANNOUNCED).values(announced=True)
        if not tx.execute(mark).rowcount:
            continue
        entered += 1
        for peer in peers:
            tx.execute(
                insert(availability).values(
                    SOPInstanceUID=f"2.25.{uuid4().int}",
                    job_id=job_id,
                    peer=peer,
                    state=AvailabilityState.READY,
                    attempt=0,
                    not_before=Now(),
                    created_at=Now(),
                )
            )
    return entered


def claim(tx: Transaction, peer: str, lease_s: float) -> tuple[int, str, int, int] | None:
    """What is due for a peer, and nobody else takes within `lease_s`: its id, UID, job and attempt."""
    row = tx.execute(
        select(availability)
        .where(
            availability.c.peer == peer,
            availability.c.state == AvailabilityState.READY,
            availability.c.not_before <= Now(),
        )
        .order_by(availability.c.not_before)
        .limit(1)
        .with_for_update(skip_locked=True)
    ).first()
    if row is None:
        return None
    attempt = row.attempt + 1
    taken = {"not_before": Now(lease_s), "attempt": attempt}
    tx.execute(update(availability).where(availability.c.id == row.id).values(**taken))
    return row.id, row.SOPInstanceUID, row.job_id, attempt


def confirmed(tx: Transaction, job_id: int, ae_titles: Mapping[str, str]) -> list[AvailableInstance]:
    """The results of a job with the AE titles of the destinations that have confirmed them.

    `ae_titles` by destination; what only others have cannot be retrieved by DIMSE, and is left out.
    """
    rows = tx.execute(
        select(result, delivery.c.destination)
        .join_from(delivery, result)
        .where(result.c.job_id == job_id, delivery.c.state == DeliveryState.CONFIRMED)
        .order_by(result.c.ordinal, delivery.c.destination)
    ).all()
    places: dict[str, list[str]] = {}
    for row in rows:
        if row.destination in ae_titles:
            places.setdefault(row.SOPInstanceUID, []).append(ae_titles[row.destination])
    found = {row.SOPInstanceUID: row for row in rows if row.SOPInstanceUID in places}
    return [
        AvailableInstance(
            row.StudyInstanceUID, row.SeriesInstanceUID, row.SOPClassUID, uid, tuple(places[uid])
        )
        for uid, row in found.items()
    ]


def tell(tx: Transaction, id_: int) -> None:
    """The peer has been told."""
    tx.execute(
        update(availability).where(availability.c.id == id_).values(state=AvailabilityState.TOLD, reason=None)
    )


def fail(tx: Transaction, id_: int, reason: str, *, wait_s: float, give_up_after_s: float) -> None:
    """It could not be told: later again, or never where that has been tried for long enough."""
    too_old = availability.c.created_at <= Now(-give_up_after_s)
    tx.execute(
        update(availability)
        .where(availability.c.id == id_)
        .values(
            state=case((too_old, AvailabilityState.DEAD), else_=AvailabilityState.READY),
            reason=reason,
            not_before=Now(wait_s),
        )
    )
