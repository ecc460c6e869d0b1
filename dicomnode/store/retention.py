"""Which objects may leave this machine, and that they have left. The rows stay.

An object leaves in two steps: its rows are released, then, in a later transaction that has looked again, it
is removed. So nothing is lost that became needed in between, and nothing is forgotten that was begun.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Table, and_, exists, func, not_, or_, select, true, update

from dicomnode.model.commitment import Direction
from dicomnode.model.delivery import DeliveryState
from dicomnode.model.job import SETTLED
from dicomnode.store import audit
from dicomnode.store.clock import Now
from dicomnode.store.commitments import COMMITTED
from dicomnode.store.database import Transaction
from dicomnode.store.schema import (
    association,
    commitment,
    commitment_instance,
    completion,
    delivery,
    instance,
    job,
    prior,
    prior_series,
    result,
    series,
    workitem_input,
)

Remove = Callable[[str], bool]
"""Takes the object of a digest away; False where that has to wait."""


class Kind(StrEnum):
    """What leaves at a time."""

    SERIES = "series"
    RESULT = "result"


@dataclass(frozen=True, slots=True)
class Candidate:
    """A received series, or a result, that nobody needs here any more, and since when it has been here."""

    kind: Kind
    id: int
    since: datetime


@dataclass(frozen=True, slots=True)
class Terms:
    """What a site allows.

    `unconfirmable` are the destinations that nobody asks: what they accepted is as far as it can be.
    `unused`: a series that no route took may go too, of which nothing here says that it is anywhere else.
    """

    unconfirmable: Collection[str] = ()
    unused: bool = False


def oldest(tx: Transaction, terms: Terms, older_than_s: float, limit: int = 100) -> list[Candidate]:
    """What may go, the oldest first."""
    found = [
        Candidate(kind, row.id, row.since)
        for kind, query in _CANDIDATES.items()
        for row in tx.execute(query(terms, older_than_s).limit(limit))
    ]
    return sorted(found, key=lambda candidate: candidate.since)[:limit]


def release(tx: Transaction, candidate: Candidate) -> int:
    """Let go of its objects; returns how many bytes they are."""
    table, owner = _TABLES[candidate.kind]
    sizes = (
        tx.execute(
            update(table)
            .where(owner == candidate.id, table.c.released_at.is_(None))
            .values(released_at=Now())
            .returning(table.c.size)
        )
        .scalars()
        .all()
    )
    facts = {"kind": candidate.kind, "id": candidate.id, "objects": len(sizes), "bytes": sum(sizes)}
    audit.record(tx, "released", facts)
    return sum(sizes)


def leaving(tx: Transaction, limit: int = 10_000) -> list[Candidate]:
    """What was released and may still be there; at most of so many instances, and so many results."""
    found: dict[tuple[Kind, int], Candidate] = {}
    for kind, (table, owner) in _TABLES.items():
        released = select(owner, table.c.released_at).where(_leaving(table)).order_by(table.c.id)
        for id_, since in tx.execute(released.limit(limit)):
            found.setdefault((kind, id_), Candidate(kind, id_, since))
    return list(found.values())


def remove(tx: Transaction, candidate: Candidate, terms: Terms, take_away: Remove) -> int:
    """Take its objects away, or take back the release if they are needed now; returns how many went.

    The rows are locked until the transaction ends: whoever brings such an instance again waits for that.
    """
    table, owner = _TABLES[candidate.kind]
    _lock(tx, candidate)
    id_, is_over = _OVER[candidate.kind]
    if tx.execute(select(id_).where(id_ == candidate.id, is_over(terms))).first() is None:
        kept = update(table).where(owner == candidate.id, _leaving(table)).values(released_at=None)
        tx.execute(kept)
        return 0
    removed = 0
    rows = tx.execute(
        select(table.c.id, table.c.sha256).where(owner == candidate.id, _leaving(table)).with_for_update()
    ).all()
    for row in rows:
        if _is_named_elsewhere(tx, row.sha256) or take_away(row.sha256):
            tx.execute(update(table).where(table.c.id == row.id).values(removed_at=Now()))
            removed += 1
    return removed


def kept_bytes(tx: Transaction) -> int:
    """How much the objects are that nobody has let go of."""
    return sum(
        int(
            tx.execute(
                select(func.coalesce(func.sum(table.c.size), 0)).where(table.c.released_at.is_(None))
            ).scalar_one()
        )
        for table in (instance, result)
    )


def leaving_bytes(tx: Transaction) -> int:
    """How much the objects are that were released and may still be there."""
    return sum(
        int(tx.execute(select(func.coalesce(func.sum(table.c.size), 0)).where(_leaving(table))).scalar_one())
        for table in (instance, result)
    )


def _leaving(table: Table) -> Any:
    return and_(table.c.released_at.is_not(None), table.c.removed_at.is_(None))


def _not_delivered(result_id: Any, terms: Terms) -> Any:
    """A delivery that is not over as it should be: not confirmed, where that can be had; or dead."""
    over = or_(
        delivery.c.state.in_([DeliveryState.CONFIRMED, DeliveryState.SUPERSEDED]),
        and_(delivery.c.state == DeliveryState.SENT, delivery.c.destination.in_(terms.unconfirmable)),
    )
    return exists().where(delivery.c.result_id == result_id, not_(over))


def _series_is_over(terms: Terms) -> Any:
    """All is done: completed, routed, its jobs ended, their results confirmed, no promise given."""
    unrouted = exists().where(completion.c.series_id == series.c.id, completion.c.routed_at.is_(None))
    # What a shadow would make is worth less than room: one that has not run then finds its input gone.
    busy = exists().where(
        job.c.series_id == series.c.id,
        job.c.shadow_of.is_(None),
        or_(job.c.state.not_in(SETTLED), job.c.notice_due),
    )
    beside = exists().where(
        prior_series.c.series_id == series.c.id,
        prior.c.id == prior_series.c.prior_id,
        job.c.id == prior.c.job_id,
        job.c.state.not_in(SETTLED),
    )
    awaited = exists().where(
        workitem_input.c.SeriesInstanceUID == series.c.SeriesInstanceUID, workitem_input.c.waiting
    )
    undelivered = exists().where(
        result.c.job_id == job.c.id,
        job.c.series_id == series.c.id,
        _not_delivered(result.c.id, terms),
    )
    promised = exists().where(
        instance.c.series_id == series.c.id,
        commitment_instance.c.SOPInstanceUID == instance.c.SOPInstanceUID,
        commitment.c.id == commitment_instance.c.commitment_id,
        commitment.c.direction == Direction.IN,
        func.coalesce(commitment_instance.c.failure_reason, COMMITTED) == COMMITTED,
    )
    sent = exists().where(
        instance.c.series_id == series.c.id,
        association.c.id == instance.c.association_id,
        not_(association.c.asked),
    )
    used = true() if terms.unused else or_(exists().where(job.c.series_id == series.c.id), not_(sent))
    return and_(
        series.c.completed_at.is_not(None),
        used,
        *(not_(reason) for reason in (unrouted, busy, beside, awaited, undelivered, promised)),
    )


def _result_is_over(terms: Terms) -> Any:
    """Its job has ended, and at least one destination has confirmed it, and none is still to have it.

    One of a shadow has no destination, and goes with the series that it was made from.
    """
    settled = exists().where(job.c.id == result.c.job_id, job.c.state.in_(SETTLED))
    confirmed = exists().where(
        delivery.c.result_id == result.c.id,
        delivery.c.state.in_([DeliveryState.CONFIRMED, DeliveryState.SUPERSEDED]),
    )
    with_series = exists().where(
        job.c.id == result.c.job_id,
        job.c.shadow_of.is_not(None),
        not_(exists().where(instance.c.series_id == job.c.series_id, instance.c.released_at.is_(None))),
    )
    return and_(settled, or_(with_series, and_(confirmed, not_(_not_delivered(result.c.id, terms)))))


def _series_candidates(terms: Terms, older_than_s: float) -> Any:
    held = exists().where(instance.c.series_id == series.c.id, instance.c.released_at.is_(None))
    return (
        select(series.c.id, series.c.completed_at.label("since"))
        .where(series.c.completed_at < Now(-older_than_s), held, _series_is_over(terms))
        .order_by(series.c.completed_at)
    )


def _result_candidates(terms: Terms, older_than_s: float) -> Any:
    return (
        select(result.c.id, result.c.created_at.label("since"))
        .where(
            result.c.created_at < Now(-older_than_s),
            result.c.released_at.is_(None),
            _result_is_over(terms),
        )
        .order_by(result.c.id)
    )


_CANDIDATES = {Kind.SERIES: _series_candidates, Kind.RESULT: _result_candidates}
_TABLES = {Kind.SERIES: (instance, instance.c.series_id), Kind.RESULT: (result, result.c.id)}
_OVER = {Kind.SERIES: (series.c.id, _series_is_over), Kind.RESULT: (result.c.id, _result_is_over)}


def _lock(tx: Transaction, candidate: Candidate) -> None:
    """Arrivals lock the series first, and orders to a job its row: both wait now, or were before us."""
    if candidate.kind is Kind.SERIES:
        tx.execute(select(series.c.id).where(series.c.id == candidate.id).with_for_update())
        jobs = job.c.series_id == candidate.id
    else:
        jobs = job.c.id == select(result.c.job_id).where(result.c.id == candidate.id).scalar_subquery()
    tx.execute(select(job.c.id).where(jobs).order_by(job.c.id).with_for_update())


def _is_named_elsewhere(tx: Transaction, sha256: str) -> bool:
    """Another row keeps the same bytes: a result that came back to us."""
    return any(
        tx.execute(
            select(table.c.id).where(table.c.sha256 == sha256, table.c.released_at.is_(None)).limit(1)
        ).first()
        is not None
        for table in (instance, result)
    )
