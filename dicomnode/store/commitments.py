"""Storage commitment transactions: the only place where their state is written (PS3.4 J).

Each transition is a compare-and-set on (id, state, fence) and an event row, in the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import and_, insert, or_, select, update

from dicomnode.errors import DuplicateTransaction, LeaseLost, NotFound
from dicomnode.model.commitment import (
    CommitmentEvent,
    CommitmentRequest,
    CommitmentState,
    Direction,
    OwedReport,
    Reference,
    advance,
)
from dicomnode.model.delivery import Delivery
from dicomnode.model.job import Lease
from dicomnode.store.clock import Now
from dicomnode.store.database import Transaction
from dicomnode.store.schema import commitment, commitment_event, commitment_instance, instance

COMMITTED = 0
"""What stands in `failure_reason` where there is none; NULL: nobody has looked, or nobody has said."""

_BATCH = 1000
"""How many UIDs one statement names: databases have a limit."""


def receive(tx: Transaction, peer: str, request: CommitmentRequest, hold_s: float) -> int:
    """Write down what a peer asks; returns the transaction's id.

    Only who names that id may claim it within `hold_s`. A request that is repeated is reported again.
    Raises DuplicateTransaction where the peer used the UID for other instances.
    """
    known = tx.execute(
        _rows()
        .where(
            commitment.c.direction == Direction.IN,
            commitment.c.peer == peer,
            commitment.c.TransactionUID == request.TransactionUID,
        )
        .with_for_update()
    ).first()
    if known is None:
        return _add(tx, Direction.IN, peer, request, hold_s)
    if set(_references(tx, known.id)) != set(request.references):
        raise DuplicateTransaction(request.TransactionUID)
    if known.state in (CommitmentState.REPORTED, CommitmentState.DEAD):
        _move(tx, known, CommitmentEvent.REPEAT, attempt=0, created_at=Now(), not_before=Now(hold_s))
    return int(known.id)


def any_due(tx: Transaction) -> bool:
    """True where a report is due, or something ran out; locks nothing."""
    due = or_(and_(_owed(), commitment.c.not_before <= Now()), _ran_out())
    return tx.execute(select(commitment.c.id).where(due).limit(1)).first() is not None


def claim(tx: Transaction, lease_s: float, limit: int = 4) -> list[OwedReport]:
    """Lease the reports that are due, oldest first."""
    due = _rows().where(_owed(), commitment.c.not_before <= Now()).order_by(commitment.c.id).limit(limit)
    return [_claimed(tx, row, lease_s) for row in tx.execute(due.with_for_update(skip_locked=True)).all()]


def claim_one(tx: Transaction, commitment_id: int, lease_s: float) -> OwedReport | None:
    """Lease that transaction, due or not; None where another has taken it up."""
    row = tx.execute(
        _rows().where(_owed(), commitment.c.id == commitment_id).with_for_update(skip_locked=True)
    ).first()
    return None if row is None else _claimed(tx, row, lease_s)


def extend(tx: Transaction, lease: Lease, lease_s: float) -> None:
    """Keep the lease alive. Raises LeaseLost."""
    kept = update(commitment).where(_held_under(lease)).values(lease_expires_at=Now(lease_s))
    if tx.execute(kept).rowcount != 1:
        raise LeaseLost("commitment", lease.id)


def held_objects(tx: Transaction, SOPInstanceUIDs: Sequence[str]) -> dict[str, list[tuple[str, str]]]:
    """SOP class and digest of the received instances of these UIDs whose objects are kept."""
    held: dict[str, list[tuple[str, str]]] = {}
    kept = select(instance.c.SOPInstanceUID, instance.c.SOPClassUID, instance.c.sha256).where(
        instance.c.released_at.is_(None)
    )
    for start in range(0, len(SOPInstanceUIDs), _BATCH):
        batch = SOPInstanceUIDs[start : start + _BATCH]
        for row in tx.execute(kept.where(instance.c.SOPInstanceUID.in_(batch))):
            held.setdefault(row.SOPInstanceUID, []).append((row.SOPClassUID, row.sha256))
    return held


def note_outcomes(tx: Transaction, lease: Lease, failed: Mapping[Reference, int]) -> None:
    """What the report is going to say: all are committed but `failed`. Raises LeaseLost."""
    if tx.execute(_rows().where(_held_under(lease)).with_for_update()).first() is None:
        raise LeaseLost("commitment", lease.id)
    _note(tx, lease.id, None, COMMITTED)
    for reference, reason in failed.items():
        _note(tx, lease.id, reference, reason)


def reported(tx: Transaction, lease: Lease) -> None:
    """The peer took the report. Raises LeaseLost."""
    _settle(tx, lease, CommitmentEvent.REPORT, reason=None)


def fail(
    tx: Transaction, lease: Lease, reason: str, *, wait_s: float, give_up_after_s: float
) -> CommitmentState:
    """The report was not taken: it waits for the next attempt, or is dead. Raises LeaseLost."""
    old = select(commitment.c.id).where(
        commitment.c.id == lease.id, commitment.c.created_at < Now(-give_up_after_s)
    )
    if tx.execute(old).first() is not None:
        return _settle(tx, lease, CommitmentEvent.GIVE_UP, reason=reason)
    return _settle(tx, lease, CommitmentEvent.FAIL, reason=reason, not_before=Now(wait_s))


def hand_back(tx: Transaction, lease: Lease) -> None:
    """Give it back unreported, to whoever comes next. Raises LeaseLost."""
    _settle(tx, lease, CommitmentEvent.HAND_BACK, attempt=commitment.c.attempt - 1, not_before=Now())


def expire(tx: Transaction) -> int:
    """Take back the leases that ran out, and wait no more for reports that never came; returns how many."""
    rows = tx.execute(_rows().where(_ran_out()).with_for_update(skip_locked=True)).all()
    for row in rows:
        _move(tx, row, CommitmentEvent.EXPIRE, fence=row.fence + 1, lease_expires_at=None, not_before=Now())
    return len(rows)


def ask(
    tx: Transaction, destination: str, TransactionUID: str, sent: Sequence[Delivery], limit_s: float
) -> int:
    """Write down what an archive is going to be asked; its report is waited for `limit_s`. Returns the id."""
    references = [
        Reference(delivery.instance.SOPClassUID, delivery.instance.SOPInstanceUID) for delivery in sent
    ]
    request = CommitmentRequest(TransactionUID, references)
    commitment_id = _add(tx, Direction.OUT, destination, request, limit_s)
    for delivery in sent:
        tx.execute(
            update(commitment_instance)
            .where(
                commitment_instance.c.commitment_id == commitment_id,
                commitment_instance.c.SOPInstanceUID == delivery.instance.SOPInstanceUID,
            )
            .values(delivery_id=delivery.id, delivery_fence=delivery.fence)
        )
    return commitment_id


def note_answer(tx: Transaction, commitment_id: int, refusal: str | None) -> bool:
    """The archive took the request, or refused it; False where its report, or the deadline, was faster."""
    row = tx.execute(
        _rows()
        .where(commitment.c.id == commitment_id, commitment.c.state == CommitmentState.REQUESTED)
        .with_for_update()
    ).first()
    if row is None:
        return False
    event = CommitmentEvent.ACCEPT if refusal is None else CommitmentEvent.REFUSE
    _move(tx, row, event, detail=refusal, reason=refusal)
    return True


def take_report(tx: Transaction, TransactionUID: str, outcomes: Mapping[Reference, int]) -> dict[Lease, int]:
    """Note what an archive reports: COMMITTED or a failure reason for each instance.

    Returns what it says of our deliveries, under the leases that they had when it was asked; nothing where
    it had reported before. Raises NotFound where we asked for no such transaction.
    """
    row = tx.execute(
        _rows()
        .where(commitment.c.direction == Direction.OUT, commitment.c.TransactionUID == TransactionUID)
        .with_for_update()
    ).first()
    if row is None:
        raise NotFound("commitment", TransactionUID)
    if row.state == CommitmentState.REPORTED:
        return {}
    _move(tx, row, CommitmentEvent.REPORT, reason=None)
    said: dict[Lease, int] = {}
    for asked in tx.execute(
        select(commitment_instance).where(commitment_instance.c.commitment_id == row.id)
    ).all():
        reference = Reference(asked.SOPClassUID, asked.SOPInstanceUID)
        if reference in outcomes:
            _note(tx, row.id, reference, outcomes[reference])
            said[Lease(asked.delivery_id, asked.delivery_fence)] = outcomes[reference]
    return said


def _rows() -> Any:
    return select(
        commitment.c.id,
        commitment.c.state,
        commitment.c.fence,
        commitment.c.attempt,
        commitment.c.peer,
        commitment.c.TransactionUID,
    )


def _owed() -> Any:
    waiting = [CommitmentState.REQUESTED, CommitmentState.RETRY_WAIT]
    return and_(commitment.c.direction == Direction.IN, commitment.c.state.in_(waiting))


def _ran_out() -> Any:
    return or_(
        and_(
            commitment.c.direction == Direction.IN,
            commitment.c.state == CommitmentState.REPORTING,
            commitment.c.lease_expires_at < Now(),
        ),
        and_(
            commitment.c.direction == Direction.OUT,
            commitment.c.state.in_([CommitmentState.REQUESTED, CommitmentState.AWAITED]),
            commitment.c.not_before < Now(),
        ),
    )


def _held_under(lease: Lease) -> Any:
    return and_(
        commitment.c.id == lease.id,
        commitment.c.state == CommitmentState.REPORTING,
        commitment.c.fence == lease.fence,
    )


def _add(tx: Transaction, direction: Direction, peer: str, request: CommitmentRequest, wait_s: float) -> int:
    commitment_id = tx.execute(
        insert(commitment)
        .values(
            TransactionUID=request.TransactionUID,
            direction=direction,
            peer=peer,
            state=CommitmentState.REQUESTED,
            fence=0,
            attempt=0,
            not_before=Now(wait_s),
            created_at=Now(),
            updated_at=Now(),
        )
        .returning(commitment.c.id)
    ).scalar_one()
    tx.execute(
        insert(commitment_instance),
        [
            {
                "commitment_id": commitment_id,
                "SOPClassUID": reference.SOPClassUID,
                "SOPInstanceUID": reference.SOPInstanceUID,
            }
            for reference in dict.fromkeys(request.references)
        ],
    )
    _record(tx, commitment_id, "create", CommitmentState.REQUESTED, 0, None)
    return int(commitment_id)


def _references(tx: Transaction, commitment_id: int) -> list[Reference]:
    rows = tx.execute(
        select(commitment_instance.c.SOPClassUID, commitment_instance.c.SOPInstanceUID)
        .where(commitment_instance.c.commitment_id == commitment_id)
        .order_by(commitment_instance.c.id)
    ).all()
    return [Reference(row.SOPClassUID, row.SOPInstanceUID) for row in rows]


def _note(tx: Transaction, commitment_id: int, reference: Reference | None, outcome: int) -> None:
    noted = update(commitment_instance).where(commitment_instance.c.commitment_id == commitment_id)
    if reference is not None:
        noted = noted.where(
            commitment_instance.c.SOPClassUID == reference.SOPClassUID,
            commitment_instance.c.SOPInstanceUID == reference.SOPInstanceUID,
        )
    tx.execute(noted.values(failure_reason=outcome))


def _claimed(tx: Transaction, row: Any, lease_s: float) -> OwedReport:
    _move(
        tx,
        row,
        CommitmentEvent.CLAIM,
        fence=row.fence + 1,
        attempt=row.attempt + 1,
        lease_expires_at=Now(lease_s),
    )
    request = CommitmentRequest(row.TransactionUID, _references(tx, row.id))
    return OwedReport(row.id, row.fence + 1, row.attempt + 1, row.peer, request)


def _settle(tx: Transaction, lease: Lease, event: CommitmentEvent, **values: Any) -> CommitmentState:
    row = tx.execute(_rows().where(_held_under(lease)).with_for_update()).first()
    if row is None:
        raise LeaseLost("commitment", lease.id)
    return _move(tx, row, event, detail=values.get("reason"), lease_expires_at=None, **values)


def _move(
    tx: Transaction, row: Any, event: CommitmentEvent, detail: str | None = None, **values: Any
) -> CommitmentState:
    state = advance(CommitmentState(row.state), event)
    moved = tx.execute(
        update(commitment)
        .where(commitment.c.id == row.id, commitment.c.state == row.state, commitment.c.fence == row.fence)
        .values(state=state, updated_at=Now(), **values)
    ).rowcount
    if moved != 1:
        raise LeaseLost("commitment", row.id)
    _record(tx, row.id, event, state, values.get("fence", row.fence), detail)
    return state


def _record(
    tx: Transaction, commitment_id: int, event: str, state: CommitmentState, fence: int, detail: str | None
) -> None:
    tx.execute(
        insert(commitment_event).values(
            commitment_id=commitment_id, event=event, state=state, fence=fence, detail=detail, at=Now()
        )
    )
