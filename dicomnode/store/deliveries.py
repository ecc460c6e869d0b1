"""The outbox: the only place where a delivery's state is written.

Each transition is a compare-and-set on (id, state, fence) and an event row, in the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from os import PathLike
from typing import Any

from sqlalchemy import and_, func, insert, select, update

from dicomnode.errors import LeaseLost, NotFound
from dicomnode.model.delivery import SETTLED, Delivery, DeliveryEvent, DeliveryState, advance
from dicomnode.model.job import Lease
from dicomnode.model.result import OutgoingInstance
from dicomnode.model.topic import Topic
from dicomnode.store.clock import Now
from dicomnode.store.database import Transaction
from dicomnode.store.schema import DELIVERY_SENDING, delivery, delivery_event, job, result
from dicomnode.store.signals import announce

PathOf = Callable[[str], PathLike[str]]
"""Where the object of a digest lies."""


def add(tx: Transaction, result_id: int, destination: str) -> None:
    """Insert one outbox row."""
    delivery_id = tx.execute(
        insert(delivery)
        .values(
            result_id=result_id,
            destination=destination,
            state=DeliveryState.PENDING,
            fence=0,
            attempt=0,
            checks=0,
            not_before=Now(),
            created_at=Now(),
            updated_at=Now(),
        )
        .returning(delivery.c.id)
    ).scalar_one()
    _record(tx, delivery_id, "create", DeliveryState.PENDING, 0, None)


def any_due(tx: Transaction, destination: str) -> bool:
    """True where something is due to be sent to a destination, or to be asked about; locks nothing."""
    states = [DeliveryState.PENDING, DeliveryState.RETRY_WAIT, DeliveryState.SENT]
    due = delivery.c.state.in_(states) & (delivery.c.not_before <= Now())
    return (
        tx.execute(select(delivery.c.id).where(delivery.c.destination == destination, due).limit(1)).first()
        is not None
    )


def any_expired(tx: Transaction) -> bool:
    """True where a lease ran out; locks nothing."""
    ran_out = select(delivery.c.id).where(DELIVERY_SENDING, delivery.c.lease_expires_at < Now())
    return tx.execute(ran_out.limit(1)).first() is not None


def claim(
    tx: Transaction, destination: str, lease_s: float, path_of: PathOf, limit: int = 16
) -> list[Delivery]:
    """Lease what is due for a destination, oldest first; the attempt counts from here on."""
    rows = _due(tx, destination, [DeliveryState.PENDING, DeliveryState.RETRY_WAIT], limit)
    for row in rows:
        _move(
            tx,
            row,
            DeliveryEvent.CLAIM,
            fence=row.fence + 1,
            attempt=delivery.c.attempt + 1,
            checks=0,
            lease_expires_at=Now(lease_s),
        )
    return _deliveries(tx, [row.id for row in rows], path_of)


def extend(tx: Transaction, leases: Sequence[Lease], lease_s: float) -> None:
    """Keep the leases alive that are still held; those that were settled meanwhile are left alone."""
    for lease in leases:
        tx.execute(
            update(delivery)
            .where(_held_under(lease, DeliveryState.SENDING))
            .values(lease_expires_at=Now(lease_s))
        )


def accept(tx: Transaction, lease: Lease, *, check_after_s: float) -> None:
    """The destination answered success. Raises LeaseLost."""
    _settle(tx, lease, DeliveryEvent.ACCEPT, not_before=Now(check_after_s), reason=None)


def fail(
    tx: Transaction, lease: Lease, reason: str, *, wait_s: float, give_up_after_s: float
) -> DeliveryState:
    """It was not taken: it waits for the next attempt, or is dead. Raises LeaseLost."""
    if _is_old(tx, lease, give_up_after_s):
        return give_up(tx, lease, reason)
    _settle(tx, lease, DeliveryEvent.FAIL, reason=reason, not_before=Now(wait_s))
    return DeliveryState.RETRY_WAIT


def give_up(tx: Transaction, lease: Lease, reason: str) -> DeliveryState:
    """It will never be taken as things are. Raises LeaseLost."""
    _settle(tx, lease, DeliveryEvent.GIVE_UP, reason=reason)
    return DeliveryState.DEAD


def hand_back(tx: Transaction, lease: Lease) -> None:
    """Give it back unsent. Raises LeaseLost."""
    _settle(tx, lease, DeliveryEvent.HAND_BACK, attempt=delivery.c.attempt - 1)


def expire(tx: Transaction) -> list[int]:
    """Take back the leases that ran out; returns the delivery ids."""
    rows = tx.execute(
        _rows().where(DELIVERY_SENDING, delivery.c.lease_expires_at < Now()).with_for_update(skip_locked=True)
    ).all()
    for row in rows:
        _move(tx, row, DeliveryEvent.EXPIRE, fence=row.fence + 1, lease_expires_at=None, not_before=Now())
    return [row.id for row in rows]


def claim_checks(
    tx: Transaction,
    destination: str,
    again_after_s: float,
    longest_s: float,
    path_of: PathOf,
    limit: int = 64,
) -> list[Delivery]:
    """Take up what was sent and is not confirmed; nobody asks again for `again_after_s`.

    An old one is asked about less often: after a tenth of its age, at most `longest_s`.
    """
    rows = _due(tx, destination, [DeliveryState.SENT], limit)
    for row in rows:
        age_s = (row.now - row.created_at).total_seconds()
        wait_s = min(longest_s, max(again_after_s, age_s / 10))
        _move(tx, row, DeliveryEvent.CHECK, fence=row.fence + 1, not_before=Now(wait_s))
    return _deliveries(tx, [row.id for row in rows], path_of)


def confirm(tx: Transaction, lease: Lease) -> None:
    """The destination lists it. Raises LeaseLost."""
    _settle(tx, lease, DeliveryEvent.CONFIRM, DeliveryState.SENT, reason=None)


def miss(
    tx: Transaction,
    lease: Lease,
    checks: int,
    *,
    wait_s: float,
    give_up_after_s: float,
    soon_s: Sequence[float] = (),
) -> bool:
    """The destination does not list it; after `checks` answers it is sent again, or is dead (True).

    The first answers do not count: after each of them it is asked about again as soon as `soon_s` says.
    Raises LeaseLost.
    """
    asked = tx.execute(
        update(delivery)
        .where(_held_under(lease, DeliveryState.SENT))
        .values(checks=delivery.c.checks + 1)
        .returning(delivery.c.checks)
    ).scalar()
    if asked is None:
        raise LeaseLost("delivery", lease.id)
    if asked <= len(soon_s):
        soon = Now(soon_s[asked - 1])
        tx.execute(update(delivery).where(_held_under(lease, DeliveryState.SENT)).values(not_before=soon))
        return False
    if asked < checks + len(soon_s):
        return False
    reason = "accepted, but the destination does not list it"
    if not give_up_if_old(tx, lease, reason, give_up_after_s):
        _settle(tx, lease, DeliveryEvent.MISS, DeliveryState.SENT, not_before=Now(wait_s), reason=reason)
    return True


def give_up_if_old(tx: Transaction, lease: Lease, reason: str, give_up_after_s: float) -> bool:
    """The destination cannot be asked; after too long that is final (True). Raises LeaseLost."""
    old = _is_old(tx, lease, give_up_after_s)
    if old:
        _settle(tx, lease, DeliveryEvent.GIVE_UP, DeliveryState.SENT, reason=f"never confirmed: {reason}")
    return old


def sent_lease(tx: Transaction, delivery_id: int) -> Lease | None:
    """The lease under which a delivery that waits for its confirmation can be settled; None where it does
    not wait for one."""
    fence = tx.execute(
        select(delivery.c.fence)
        .where(delivery.c.id == delivery_id, delivery.c.state == DeliveryState.SENT)
        .with_for_update()
    ).scalar()
    return None if fence is None else Lease(delivery_id, fence)


def await_report(tx: Transaction, lease: Lease, limit_s: float) -> None:
    """The destination will tell by itself what became of it; nobody asks for `limit_s`."""
    tx.execute(update(delivery).where(_held_under(lease, DeliveryState.SENT)).values(not_before=Now(limit_s)))


def supersede(tx: Transaction, series_id: int, generation: int, pipeline: str) -> list[int]:
    """Stop sending what older generations of the series yielded; returns the delivery ids.

    What is on its way at this moment, or has arrived, is not touched: the newer generation withdraws it.
    """
    rows = tx.execute(
        _rows()
        .join_from(delivery, result)
        .join(job, job.c.id == result.c.job_id)
        .where(
            job.c.series_id == series_id,
            job.c.generation < generation,
            job.c.pipeline == pipeline,
            delivery.c.state.in_([DeliveryState.PENDING, DeliveryState.RETRY_WAIT]),
        )
        .with_for_update(of=delivery)
    ).all()
    for row in rows:
        _move(tx, row, DeliveryEvent.SUPERSEDE, detail=f"superseded by generation {generation}")
    return [row.id for row in rows]


def stranded(tx: Transaction, destinations: Collection[str]) -> dict[str, int]:
    """How many deliveries wait for a destination that is none of these, by its name."""
    rows = tx.execute(
        select(delivery.c.destination, func.count().label("waiting"))
        .where(delivery.c.state.not_in(SETTLED), delivery.c.destination.not_in(destinations))
        .group_by(delivery.c.destination)
    ).all()
    return {row.destination: row.waiting for row in rows}


def retry(tx: Transaction, delivery_id: int) -> None:
    """An administrator starts a dead delivery again. Raises NotFound, IllegalTransition."""
    row = tx.execute(_rows().where(delivery.c.id == delivery_id).with_for_update()).first()
    if row is None:
        raise NotFound("delivery", delivery_id)
    _move(tx, row, DeliveryEvent.RETRY, created_at=Now(), not_before=Now(), reason=None)


def _is_old(tx: Transaction, lease: Lease, seconds: float) -> bool:
    old = select(delivery.c.id).where(delivery.c.id == lease.id, delivery.c.created_at < Now(-seconds))
    return tx.execute(old).first() is not None


def _rows() -> Any:
    now = Now().label("now")
    return select(delivery.c.id, delivery.c.state, delivery.c.fence, delivery.c.created_at, now)


def _due(tx: Transaction, destination: str, states: Sequence[DeliveryState], limit: int) -> Sequence[Any]:
    return tx.execute(
        _rows()
        .where(
            delivery.c.destination == destination,
            delivery.c.state.in_(list(states)),
            delivery.c.not_before <= Now(),
        )
        .order_by(delivery.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()


def _deliveries(tx: Transaction, ids: Sequence[int], path_of: PathOf) -> list[Delivery]:
    rows = tx.execute(
        select(delivery.c.id, delivery.c.fence, delivery.c.attempt, delivery.c.destination, result)
        .join_from(delivery, result)
        .where(delivery.c.id.in_(ids))
        .order_by(delivery.c.id)
    ).all()
    return [
        Delivery(
            id=row.id,
            fence=row.fence,
            attempt=row.attempt,
            destination=row.destination,
            StudyInstanceUID=row.StudyInstanceUID,
            SeriesInstanceUID=row.SeriesInstanceUID,
            sha256=row.sha256,
            instance=OutgoingInstance(
                row.SOPClassUID, row.SOPInstanceUID, row.TransferSyntaxUID, path_of(row.sha256)
            ),
        )
        for row in rows
    ]


def _held_under(lease: Lease, state: DeliveryState) -> Any:
    return and_(delivery.c.id == lease.id, delivery.c.state == state, delivery.c.fence == lease.fence)


def _settle(
    tx: Transaction,
    lease: Lease,
    event: DeliveryEvent,
    state: DeliveryState = DeliveryState.SENDING,
    **values: Any,
) -> None:
    row = tx.execute(_rows().where(_held_under(lease, state)).with_for_update()).first()
    if row is None:
        raise LeaseLost("delivery", lease.id)
    _move(tx, row, event, detail=values.get("reason"), lease_expires_at=None, **values)


def _move(tx: Transaction, row: Any, event: DeliveryEvent, detail: str | None = None, **values: Any) -> None:
    state = advance(DeliveryState(row.state), event)
    moved = tx.execute(
        update(delivery)
        .where(delivery.c.id == row.id, delivery.c.state == row.state, delivery.c.fence == row.fence)
        .values(state=state, updated_at=Now(), **values)
    ).rowcount
    if moved != 1:
        raise LeaseLost("delivery", row.id)
    _record(tx, row.id, event, state, values.get("fence", row.fence), detail)


def _record(
    tx: Transaction, delivery_id: int, event: str, state: DeliveryState, fence: int, detail: str | None
) -> None:
    tx.execute(
        insert(delivery_event).values(
            delivery_id=delivery_id, event=event, state=state, fence=fence, detail=detail, at=Now()
        )
    )
    if state is DeliveryState.PENDING:
        announce(tx, Topic.DELIVERY)
