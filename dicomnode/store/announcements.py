"""What others told of series: the instances that were announced, and the steps that made them."""

from __future__ import annotations

from sqlalchemy import delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from dicomnode.errors import DuplicateStep, NoSuchStep, StepIsOver
from dicomnode.model.announcement import Announcement, StepReport, StepState
from dicomnode.store.clock import Now
from dicomnode.store.database import Transaction
from dicomnode.store.schema import announced, performed_step

KEPT_S = 14 * 86_400.0
"""What was told longer ago is of no use any more; most of it is about series that never come here."""
_AT_ONCE = 500


def add(tx: Transaction, announcement: Announcement) -> int:
    """Enter what was told, beside what was told before; returns how many instances that were."""
    tx.execute(delete(announced).where(announced.c.at < Now(-KEPT_S)))
    enter = (postgresql if tx.dialect.name == "postgresql" else sqlite).insert(announced)
    rows = [
        {"SeriesInstanceUID": series, "SOPInstanceUID": uid}
        for series, uids in sorted(announcement.available.items())
        for uid in sorted(uids)
    ]
    if rows:
        tx.execute(enter.values(at=Now()).on_conflict_do_nothing(), rows)
    for series, uids in announcement.unavailable.items():
        gone = sorted(uids)
        for start in range(0, len(gone), _AT_ONCE):
            named = announced.c.SOPInstanceUID.in_(gone[start : start + _AT_ONCE])
            tx.execute(delete(announced).where(announced.c.SeriesInstanceUID == series, named))
    return len(rows)


def create_step(tx: Transaction, report: StepReport) -> None:
    """A modality begins a step. Raises DuplicateStep."""
    tx.execute(delete(performed_step).where(performed_step.c.updated_at < Now(-KEPT_S)))
    known = select(performed_step.c.id).where(performed_step.c.SOPInstanceUID == report.SOPInstanceUID)
    if tx.execute(known).first() is not None:
        raise DuplicateStep
    tx.execute(
        insert(performed_step).values(
            SOPInstanceUID=report.SOPInstanceUID,
            state=report.state,
            series=_written(report),
            updated_at=Now(),
        )
    )


def modify_step(tx: Transaction, report: StepReport) -> Announcement | None:
    """Enter what is new of a step; what it made, once it is completed. Raises NoSuchStep, StepIsOver."""
    row = tx.execute(
        select(performed_step)
        .where(performed_step.c.SOPInstanceUID == report.SOPInstanceUID)
        .with_for_update()
    ).one_or_none()
    if row is None:
        raise NoSuchStep
    if row.state != StepState.IN_PROGRESS:
        raise StepIsOver
    state = report.state or StepState.IN_PROGRESS
    series = row.series if report.series is None else _written(report)
    tx.execute(
        update(performed_step)
        .where(performed_step.c.id == row.id)
        .values(state=state, series=series, updated_at=Now())
    )
    if state is not StepState.COMPLETED:
        return None
    return Announcement({uid: frozenset(instances) for uid, instances in series.items()}, {})


def _written(report: StepReport) -> dict[str, list[str]]:
    return {series: sorted(uids) for series, uids in (report.series or {}).items()}
