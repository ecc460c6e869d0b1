"""Which series are complete, why, and which of them nobody has routed yet."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    ColumnElement,
    ScalarSelect,
    Select,
    and_,
    exists,
    func,
    insert,
    literal,
    not_,
    or_,
    select,
    true,
    update,
)

from dicomnode.errors import NotFound, SeriesOpen
from dicomnode.model.inquiry import InquiryState
from dicomnode.model.instance import (
    AssociationFacts,
    Completion,
    CompletionReason,
)
from dicomnode.model.topic import Topic
from dicomnode.store.clock import Now
from dicomnode.store.database import Transaction
from dicomnode.store.schema import (
    announced,
    association,
    completion,
    inquiry,
    instance,
    series,
    study,
)
from dicomnode.store.signals import announce


def complete_due(
    tx: Transaction, quiet_s: float, missing_wait_s: float, *, listened_s: float, ask: bool = False
) -> list[tuple[str, CompletionReason]]:
    """Decide which open series are complete now; returns their UIDs with the reason.

    `listened_s`: how long all receivers have been listening. A quiet period that passed while one of them
    could have received nothing does not count. `ask`: silence completes only what an inquiry is over about.
    """
    said = and_(
        inquiry.c.series_id == series.c.id,
        inquiry.c.generation == series.c.generation,
        inquiry.c.instance_count == series.c.instance_count,
        inquiry.c.state != InquiryState.ASKING,
    )
    unseen = _unseen()
    lacking = or_(_lacking(), func.coalesce(inquiry.c.state == InquiryState.MISSING, False), unseen > 0)
    asked = inquiry.c.id.is_not(None) if ask else true()
    quiet = and_(asked, not_(lacking), silent_for(quiet_s, listened_s))
    given_up = and_(asked, lacking, silent_for(max(quiet_s, missing_wait_s), listened_s))
    due = []
    for condition, reason in (
        (reached(), CompletionReason.EXPECTED),
        (quiet, CompletionReason.QUIET),
        (given_up, CompletionReason.MISSING),
    ):
        rows = tx.execute(
            select(series.c.id, series.c.SeriesInstanceUID, inquiry.c.note, unseen.label("unseen"))
            .select_from(series.outerjoin(inquiry, said))
            .where(series.c.completed_at.is_(None), series.c.instance_count > 0, condition)
            .with_for_update(of=series, skip_locked=True)
        ).all()
        for row in rows:
            note = f"{row.unseen} announced instances are not here" if row.unseen else None
            _complete(tx, row.id, reason, row.note or note)
            due.append((row.SeriesInstanceUID, reason))
    return due


def reached() -> ColumnElement[bool]:
    """As many instances of a series as its headers tell are here."""
    return series.c.instance_count == series.c.expected_instances


def _lacking() -> ColumnElement[bool]:
    count = series.c.instance_count
    return or_(
        func.coalesce(count < series.c.minimum_instances, False),
        func.coalesce(count < series.c.expected_instances, False),
    )


def silent_for(seconds: float, listened_s: float) -> ColumnElement[bool]:
    """Nothing of a series came for so long, although the receivers were listening."""
    return and_(series.c.last_instance_at <= Now(-seconds), literal(seconds <= listened_s))


def complete_listed(tx: Transaction, series_id: int, note: str) -> None:
    """Complete a series whose row the caller has locked: an archive lists just what is here."""
    _complete(tx, series_id, CompletionReason.LISTED, note)


def _unseen() -> ScalarSelect[int]:
    """How many of the instances that were announced for a series are not here."""
    here = exists().where(
        instance.c.series_id == series.c.id, instance.c.SOPInstanceUID == announced.c.SOPInstanceUID
    )
    return (
        select(func.count())
        .select_from(announced)
        .where(announced.c.SeriesInstanceUID == series.c.SeriesInstanceUID, not_(here))
        .correlate(series)
        .scalar_subquery()
    )


def _announced() -> ScalarSelect[int]:
    """How many instances were announced for a series."""
    return (
        select(func.count())
        .select_from(announced)
        .where(announced.c.SeriesInstanceUID == series.c.SeriesInstanceUID)
        .correlate(series)
        .scalar_subquery()
    )


def complete_announced(tx: Transaction) -> list[str]:
    """Complete the open series that have just what was announced for them; returns their UIDs."""
    rows = tx.execute(
        select(series.c.id, series.c.SeriesInstanceUID, series.c.instance_count)
        .where(
            series.c.completed_at.is_(None),
            series.c.instance_count > 0,
            series.c.instance_count == _announced(),
            _unseen() == 0,
        )
        .with_for_update(of=series, skip_locked=True)
    ).all()
    for row in rows:
        note = f"these {row.instance_count} instances were announced"
        _complete(tx, row.id, CompletionReason.ANNOUNCED, note)
    return [row.SeriesInstanceUID for row in rows]


def complete_ordered(tx: Transaction, SeriesInstanceUID: str) -> int:
    """Complete the open series of that UID now; returns how many there were. Raises NotFound."""
    rows = tx.execute(
        select(series.c.id, series.c.completed_at)
        .where(series.c.SeriesInstanceUID == SeriesInstanceUID)
        .with_for_update()
    ).all()
    if not rows:
        raise NotFound("series", SeriesInstanceUID)
    still_open = [row.id for row in rows if row.completed_at is None]
    for series_id in still_open:
        _complete(tx, series_id, CompletionReason.ORDERED)
    return len(still_open)


def _complete(tx: Transaction, series_id: int, reason: CompletionReason, note: str | None = None) -> None:
    row = tx.execute(
        update(series)
        .where(series.c.id == series_id)
        .values(completed_at=Now())
        .returning(series.c.generation, series.c.instance_count)
    ).one()
    tx.execute(
        insert(completion).values(
            series_id=series_id,
            generation=row.generation,
            reason=reason,
            instance_count=row.instance_count,
            completed_at=Now(),
            note=note,
        )
    )
    announce(tx, Topic.COMPLETION)


def complete_again(tx: Transaction, series_id: int, note: str) -> Completion:
    """Complete the next generation of a series with no new instance, for work that is done once more.

    Routing does not look at it: whoever asked adds the job. Raises SeriesOpen, NotFound.
    """
    row = tx.execute(
        select(series.c.SeriesInstanceUID, series.c.completed_at)
        .where(series.c.id == series_id)
        .with_for_update()
    ).one()
    if row.completed_at is None:
        raise SeriesOpen(row.SeriesInstanceUID)
    tx.execute(update(series).where(series.c.id == series_id).values(generation=series.c.generation + 1))
    _complete(tx, series_id, CompletionReason.ORDERED, note)
    again = tx.execute(
        _completions().where(completion.c.series_id == series_id).order_by(completion.c.id.desc()).limit(1)
    ).one()
    mark_routed(tx, again.id)
    return _completion(again)


def any_open(tx: Transaction) -> bool:
    """True while a series arrives."""
    return tx.execute(select(series.c.id).where(series.c.completed_at.is_(None)).limit(1)).first() is not None


def any_unrouted(tx: Transaction) -> bool:
    """True where routing has something to look at; locks nothing."""
    waiting = select(completion.c.id).where(completion.c.routed_at.is_(None)).limit(1)
    return tx.execute(waiting).first() is not None


def unrouted(tx: Transaction, limit: int = 50) -> list[Completion]:
    """The completions that routing has not looked at, oldest first; locked until the transaction ends."""
    rows = tx.execute(
        _completions()
        .where(completion.c.routed_at.is_(None))
        .order_by(completion.c.id)
        .limit(limit)
        .with_for_update(of=completion, skip_locked=True)
    ).all()
    return [_completion(row) for row in rows]


def current_completion(tx: Transaction, StudyInstanceUID: str, SeriesInstanceUID: str) -> Completion:
    """The last completion of a series. Raises NotFound."""
    row = tx.execute(
        _completions()
        .where(
            study.c.StudyInstanceUID == StudyInstanceUID,
            series.c.SeriesInstanceUID == SeriesInstanceUID,
        )
        .order_by(completion.c.id.desc())
        .limit(1)
    ).first()
    if row is None:
        raise NotFound("complete series", SeriesInstanceUID)
    return _completion(row)


def _completions() -> Select[Any]:
    return (
        select(
            completion.c.id,
            completion.c.series_id,
            completion.c.generation,
            completion.c.instance_count,
            study.c.StudyInstanceUID,
            series.c.SeriesInstanceUID,
            study.c.patient_conflict,
            association.c.key,
            association.c.calling_ae,
            association.c.called_ae,
            association.c.address,
        )
        .join_from(completion, series)
        .join(study, study.c.id == series.c.study_id)
        .join(association, association.c.id == series.c.association_id)
    )


def _completion(row: Any) -> Completion:
    return Completion(
        id=row.id,
        series_id=row.series_id,
        generation=row.generation,
        instance_count=row.instance_count,
        StudyInstanceUID=row.StudyInstanceUID,
        SeriesInstanceUID=row.SeriesInstanceUID,
        patient_conflict=row.patient_conflict,
        association=AssociationFacts(row.key, row.calling_ae, row.called_ae, row.address),
    )


def mark_routed(tx: Transaction, completion_id: int) -> None:
    """Routing has decided; the completion is not looked at again."""
    tx.execute(update(completion).where(completion.c.id == completion_id).values(routed_at=Now()))
