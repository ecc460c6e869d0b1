"""Work items: the only place where a Procedure Step State is written."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from dicomnode.errors import NoSuchWorkItem, WorkItemExists
from dicomnode.model.job import JobState
from dicomnode.model.query import Match, Query, Range, Single
from dicomnode.model.workitem import FINAL, NewWorkItem, Readiness, StepState, WorkItem
from dicomnode.store.clock import Now
from dicomnode.store.database import Transaction
from dicomnode.store.find import condition, folded
from dicomnode.store.schema import (
    job,
    job_event,
    series,
    study,
    workitem,
    workitem_input,
)

_START = "ScheduledProcedureStepStartDateTime"
_KEYS = (
    *("SOPInstanceUID", "ProcedureStepState", "InputReadinessState", "ScheduledProcedureStepPriority"),
    *(_START, "WorklistLabel", "ProcedureStepLabel", "PatientID", "PatientName", "AccessionNumber"),
)
_COLUMNS: Mapping[str, ColumnElement[Any]] = {
    **{keyword: workitem.c[keyword] for keyword in _KEYS},
    "StudyInstanceUID": workitem.c.StudyInstanceUID,
    "CodeValue": workitem.c.pipeline,
    "LongCodeValue": workitem.c.pipeline,
}
HELD_KEYS = frozenset(_COLUMNS)
"""What can be searched for; an attribute in a sequence by its own keyword."""


def add(tx: Transaction, new: NewWorkItem) -> int:
    """Insert a work item that is SCHEDULED; its id. Raises WorkItemExists."""
    dialect = postgresql if tx.dialect.name == "postgresql" else sqlite
    workitem_id = tx.execute(
        dialect.insert(workitem)
        .values(
            SOPInstanceUID=new.SOPInstanceUID,
            ProcedureStepState=StepState.SCHEDULED,
            InputReadinessState=new.readiness,
            ScheduledProcedureStepPriority=new.priority,
            start_at=new.start,
            pipeline=new.pipeline,
            StudyInstanceUID=new.inputs[0].StudyInstanceUID,
            attributes=new.attributes,
            send_to=None if new.send_to is None else list(new.send_to),
            created_at=Now(),
            modified_at=Now(),
            **new.keys,
        )
        .on_conflict_do_nothing()
        .returning(workitem.c.id)
    ).scalar()
    if workitem_id is None:
        raise WorkItemExists
    tx.execute(
        insert(workitem_input),
        [
            {
                "workitem_id": workitem_id,
                "StudyInstanceUID": each.StudyInstanceUID,
                "SeriesInstanceUID": each.SeriesInstanceUID,
                "waiting": each.waiting,
                "job_id": each.job_id,
            }
            for each in new.inputs
        ],
    )
    return int(workitem_id)


def get(tx: Transaction, SOPInstanceUID: str) -> WorkItem:
    """One work item. Raises NoSuchWorkItem."""
    row = tx.execute(select(workitem).where(workitem.c.SOPInstanceUID == SOPInstanceUID)).first()
    if row is None:
        raise NoSuchWorkItem(SOPInstanceUID)
    return item_of(row)


def lock(tx: Transaction, workitem_id: int) -> WorkItem:
    """The row as it is now, until the transaction ends. Its jobs are locked before it, never after."""
    return item_of(tx.execute(select(workitem).where(workitem.c.id == workitem_id).with_for_update()).one())


def search(tx: Transaction, query: Query) -> list[WorkItem]:
    """The work items that match, oldest first; a key that is not held constrains nothing."""
    rows = tx.execute(
        select(workitem)
        .where(*_conditions(query.matches))
        .order_by(workitem.c.id)
        .offset(query.offset or None)
        .limit(query.limit)
    )
    return [item_of(row) for row in rows]


def is_matched(tx: Transaction, workitem_id: int, matches: Mapping[str, Match]) -> bool:
    """True where the work item is one of those that match."""
    found = select(workitem.c.id).where(workitem.c.id == workitem_id, *_conditions(matches))
    return tx.execute(found).first() is not None


def unfinished(tx: Transaction, matches: Mapping[str, Match]) -> list[int]:
    """The ids of the work items that match and may still change, oldest first."""
    rows = tx.execute(
        select(workitem.c.id)
        .where(workitem.c.ProcedureStepState.not_in(FINAL), *_conditions(matches))
        .order_by(workitem.c.id)
    )
    return list(rows.scalars())


def _conditions(matches: Mapping[str, Match]) -> list[ColumnElement[bool]]:
    return [_condition(keyword, match) for keyword, match in matches.items() if keyword in _COLUMNS]


def _condition(keyword: str, match: Match) -> ColumnElement[bool]:
    if keyword == "PatientName":
        return condition("", workitem.c.patient_name_folded, folded(match))
    if keyword == _START and isinstance(match, Single):
        # A moment that is less precise means all of it (PS3.4 C.2.2.2.5).
        match = Range(match.value, match.value)
    return condition("", _COLUMNS[keyword], match)


def of_job(tx: Transaction, job_id: int) -> WorkItem | None:
    """The last work item that a job is the work of, or None."""
    row = tx.execute(
        select(workitem)
        .join(workitem_input, workitem_input.c.workitem_id == workitem.c.id)
        .where(workitem_input.c.job_id == job_id)
        .order_by(workitem.c.id.desc())
        .limit(1)
    ).first()
    return None if row is None else item_of(row)


def move(tx: Transaction, item: WorkItem, state: StepState, at: datetime | None = None) -> None:
    """Write the state of a locked row; `at` is when it came to be so, None for now."""
    moment = Now() if at is None else at
    times = {"started_at": moment} if state is StepState.IN_PROGRESS else {"ended_at": moment}
    tx.execute(
        update(workitem)
        .where(workitem.c.id == item.id)
        .values(ProcedureStepState=state, modified_at=Now(), **times)
    )


def tell_reason(tx: Transaction, item: WorkItem, code: str, reason: str) -> None:
    """Why it is cancelled; the first reason stays."""
    tx.execute(
        update(workitem)
        .where(workitem.c.id == item.id, workitem.c.reason.is_(None))
        .values(reason_code=code, reason=reason)
    )


def amend(tx: Transaction, item: WorkItem, **values: Any) -> None:
    """Write other values into a locked row."""
    tx.execute(update(workitem).where(workitem.c.id == item.id).values(modified_at=Now(), **values))


def any_unreported(tx: Transaction) -> bool:
    """True where an event is there that no work item knows of; locks nothing."""
    return tx.execute(select(job_event.c.id).where(~job_event.c.reported).limit(1)).first() is not None


def next_unreported_job(tx: Transaction) -> int | None:
    """The job with the oldest event that no work item knows of, locked until the transaction ends."""
    job_id = tx.execute(
        select(job_event.c.job_id).where(~job_event.c.reported).order_by(job_event.c.id).limit(1)
    ).scalar()
    if job_id is not None:
        tx.execute(select(job.c.id).where(job.c.id == job_id).with_for_update())
    return job_id


def take_unreported(tx: Transaction, job_id: int) -> list[tuple[int, str, JobState, datetime]]:
    """Id, event, state and moment of what happened to a locked job since it was last asked, in order."""
    rows = tx.execute(
        select(job_event.c.id, job_event.c.event, job_event.c.state, job_event.c.at)
        .where(job_event.c.job_id == job_id, ~job_event.c.reported)
        .order_by(job_event.c.id)
    ).all()
    tx.execute(update(job_event).where(job_event.c.id.in_([row.id for row in rows])).values(reported=True))
    return [(row.id, row.event, JobState(row.state), row.at) for row in rows]


def patient_of(tx: Transaction, series_id: int) -> Mapping[str, Any]:
    """What the catalog knows of the study of a series: its row by column."""
    of_series = select(series.c.study_id).where(series.c.id == series_id).scalar_subquery()
    return dict(tx.execute(select(study).where(study.c.id == of_series)).mappings().one())


def item_of(row: Any) -> WorkItem:
    """The work item that a row of the table says."""
    return WorkItem(
        id=row.id,
        SOPInstanceUID=row.SOPInstanceUID,
        state=StepState(row.ProcedureStepState),
        pipeline=row.pipeline,
        priority=row.ScheduledProcedureStepPriority,
        readiness=Readiness(row.InputReadinessState),
        start=row.start_at,
        send_to=None if row.send_to is None else tuple(row.send_to),
        attributes=row.attributes,
        reason=row.reason,
        reason_code=row.reason_code,
        modified_at=row.modified_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
    )
