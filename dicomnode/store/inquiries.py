"""What the archive was asked about silent series: the only place where an inquiry's state is written.

An answer is good for the instances that were here when it was given: where others came, it is asked anew.
The row of the series is locked first, as by arrivals and by the decision "complete".
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, case, func, insert, not_, or_, select, update

from dicomnode.errors import LeaseLost
from dicomnode.model.inquiry import Inquiry, InquiryState
from dicomnode.model.topic import Topic
from dicomnode.store import catalog, completions
from dicomnode.store.clock import Now
from dicomnode.store.database import Transaction
from dicomnode.store.schema import inquiry, series, study
from dicomnode.store.signals import announce


def open_due(tx: Transaction, quiet_s: float, listened_s: float) -> int:
    """Open an inquiry about each silent series that none is good for; returns how many."""
    other_generation = inquiry.c.generation != series.c.generation
    other_instances = and_(
        inquiry.c.state != InquiryState.ASKING, inquiry.c.instance_count != series.c.instance_count
    )
    rows = tx.execute(
        select(
            series.c.id, series.c.generation, series.c.instance_count, series.c.association_id,
            inquiry.c.id.label("inquiry_id"),
        )
        .select_from(series.outerjoin(inquiry))
        .where(
            series.c.completed_at.is_(None),
            series.c.instance_count > 0,
            not_(func.coalesce(completions.reached(), False)),
            completions.silent_for(quiet_s, listened_s),
            or_(inquiry.c.id.is_(None), other_generation, other_instances),
        )
        .with_for_update(of=series, skip_locked=True)
    ).all()  # fmt: skip
    for row in rows:
        values = {
            "state": InquiryState.ASKING,
            "generation": row.generation,
            "instance_count": row.instance_count,
            "association_id": row.association_id,
            "missing": None,
            "note": None,
            "begun_at": Now(),
            "not_before": Now(),
        }
        if row.inquiry_id is None:
            tx.execute(insert(inquiry).values(series_id=row.id, **values))
        else:
            tx.execute(update(inquiry).where(inquiry.c.id == row.inquiry_id).values(**values))
        announce(tx, Topic.INQUIRY)
    return len(rows)


def any_due(tx: Transaction) -> bool:
    """True where a question is due; locks nothing."""
    due = select(inquiry.c.id).join_from(inquiry, series).where(_is_asked(), inquiry.c.not_before <= Now())
    return tx.execute(due.limit(1)).first() is not None


def claim(tx: Transaction, lease_s: float) -> Inquiry | None:
    """Take up the question that is due and the oldest; nobody else does within `lease_s`."""
    row = tx.execute(
        select(inquiry.c.id, inquiry.c.series_id, study.c.StudyInstanceUID, series.c.SeriesInstanceUID)
        .join_from(inquiry, series)
        .join(study)
        .where(_is_asked(), inquiry.c.not_before <= Now())
        .order_by(inquiry.c.not_before)
        .limit(1)
        .with_for_update(of=inquiry, skip_locked=True)
    ).first()
    if row is None:
        return None
    tx.execute(update(inquiry).where(inquiry.c.id == row.id).values(not_before=Now(lease_s)))
    return Inquiry(row.id, row.series_id, row.StudyInstanceUID, row.SeriesInstanceUID)


def extend(tx: Transaction, asked: Inquiry, lease_s: float) -> None:
    """Its owner still works. Raises LeaseLost where the question is not asked any more."""
    still = and_(inquiry.c.id == asked.id, inquiry.c.state == InquiryState.ASKING)
    if not tx.execute(update(inquiry).where(still).values(not_before=Now(lease_s))).rowcount:
        raise LeaseLost("inquiry", asked.id)


def postpone(tx: Transaction, asked: Inquiry, note: str, wait_s: float) -> None:
    """The archive could not be asked now; what it had said before stands."""
    tx.execute(
        update(inquiry)
        .where(inquiry.c.id == asked.id, inquiry.c.state == InquiryState.ASKING)
        .values(
            not_before=Now(wait_s),
            note=case((inquiry.c.missing.is_(None), note), else_=inquiry.c.note),
        )
    )


def settle(
    tx: Transaction, asked: Inquiry, listed: Collection[str], name: str, problem: str, wait_s: float
) -> InquiryState | None:
    """Compare what `name` lists with what is here, and complete the series where that is the same.

    While instances are missing it is asked again after `wait_s`; `problem` says why they could not be
    fetched, where that is known. None: it is too late, the series is complete, or opened anew.
    """
    row = tx.execute(_asked().where(inquiry.c.id == asked.id).with_for_update(of=series)).first()
    if row is None:
        return None
    held = catalog.held_instances(tx, asked.series_id)
    missing = len(frozenset(listed) - held)
    if missing:
        note = f"{name} lists {len(listed)} instances, {missing} of which are not here"
        note = f"{note}: {problem}" if problem else note
        values = {"missing": missing, "note": note, "not_before": Now(wait_s)}
        tx.execute(update(inquiry).where(inquiry.c.id == asked.id).values(**values))
        return InquiryState.ASKING
    fetched = f", {more} of which were fetched" if (more := len(held) - row.asked_count) else ""
    if len(listed) == len(held):
        note = f"{name} lists these {len(listed)} instances{fetched}"
        _end(tx, row, InquiryState.LISTED, note)
        completions.complete_listed(tx, asked.series_id, note)
        return InquiryState.LISTED
    note = f"{name} lists {len(listed)} of these {len(held)} instances{fetched}"
    _end(tx, row, InquiryState.ANSWERED, note)
    return InquiryState.ANSWERED


def give_up(tx: Transaction, limit_s: float, listened_s: float, name: str) -> int:
    """End the inquiries that brought neither an answer nor an instance for `limit_s`; returns how many."""
    late = and_(inquiry.c.begun_at <= Now(-limit_s), completions.silent_for(limit_s, listened_s))
    rows = tx.execute(_asked().where(late).with_for_update(of=series, skip_locked=True)).all()
    for row in rows:
        state = InquiryState.UNANSWERED if row.missing is None else InquiryState.MISSING
        _end(tx, row, state, row.note or f"{name} did not answer in time")
    return len(rows)


def _asked() -> Select[Any]:
    return (
        select(
            inquiry.c.id,
            inquiry.c.series_id,
            inquiry.c.association_id,
            inquiry.c.instance_count.label("asked_count"),
            inquiry.c.missing,
            inquiry.c.note,
            series.c.instance_count,
        )
        .join_from(inquiry, series)
        .where(_is_asked())
    )


def _is_asked() -> ColumnElement[bool]:
    return and_(
        inquiry.c.state == InquiryState.ASKING,
        inquiry.c.generation == series.c.generation,
        series.c.completed_at.is_(None),
    )


def _end(tx: Transaction, row: Any, state: InquiryState, note: str) -> None:
    """Who brought the series is who brought it before it was filled up: rules ask for that association."""
    tx.execute(
        update(inquiry)
        .where(inquiry.c.id == row.id)
        .values(state=state, note=note, instance_count=row.instance_count)
    )
    tx.execute(update(series).where(series.c.id == row.series_id).values(association_id=row.association_id))
