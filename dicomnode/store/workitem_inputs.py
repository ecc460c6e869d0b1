"""What work items are about: their inputs, the jobs that work on these, and what they yielded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select, Update, and_, select, update

from dicomnode.model.result import ResultRole
from dicomnode.model.workitem import FINAL, Input, Output, Readiness, WorkItem
from dicomnode.store.clock import Now
from dicomnode.store.database import Transaction
from dicomnode.store.schema import delivery, instance, result, series, study, workitem, workitem_input
from dicomnode.store.workitems import item_of


def inputs(tx: Transaction, workitem_ids: Sequence[int]) -> dict[int, list[Input]]:
    """The inputs of each of these work items, in their order."""
    found: dict[int, list[Input]] = {workitem_id: [] for workitem_id in workitem_ids}
    rows = tx.execute(
        select(workitem_input)
        .where(workitem_input.c.workitem_id.in_(workitem_ids))
        .order_by(workitem_input.c.id)
    )
    for row in rows:
        found[row.workitem_id].append(
            Input(row.StudyInstanceUID, row.SeriesInstanceUID, row.waiting, row.job_id)
        )
    return found


def next_startable(tx: Transaction) -> tuple[WorkItem, Input] | None:
    """A work item whose time has come, and one of its inputs that is complete, or None.

    The work item's row is locked until the transaction ends.
    """
    row = tx.execute(_startable().with_for_update(of=workitem, skip_locked=True)).first()
    return None if row is None else (item_of(row), Input(row.study, row.SeriesInstanceUID))


def any_startable(tx: Transaction) -> bool:
    """True where an input can begin; locks nothing."""
    return tx.execute(_startable()).first() is not None


def _startable() -> Select[Any]:
    return (
        select(workitem, workitem_input.c.StudyInstanceUID.label("study"), workitem_input.c.SeriesInstanceUID)
        .join_from(workitem_input, workitem, workitem.c.id == workitem_input.c.workitem_id)
        .join(series, series.c.SeriesInstanceUID == workitem_input.c.SeriesInstanceUID)
        .join(
            study,
            and_(
                study.c.id == series.c.study_id,
                study.c.StudyInstanceUID == workitem_input.c.StudyInstanceUID,
            ),
        )
        .where(
            workitem_input.c.waiting,
            workitem.c.ProcedureStepState.not_in(FINAL),
            series.c.completed_at.is_not(None),
            series.c.generation > workitem_input.c.lacking_generation,
            workitem.c.InputReadinessState == Readiness.READY,
            workitem.c.start_at <= Now(),
        )
        .order_by(workitem_input.c.id)
        .limit(1)
    )


def start_input(tx: Transaction, item: WorkItem, given: Input, job_id: int) -> None:
    """The input waits no longer: this job works on it."""
    tx.execute(_input_row(item, given).values(waiting=False, job_id=job_id))


def await_more(tx: Transaction, item: WorkItem, given: Input, generation: int) -> None:
    """This generation lacks instances that the work item names: it waits for a later one."""
    tx.execute(_input_row(item, given).values(lacking_generation=generation))


def stop_waiting(tx: Transaction, item: WorkItem) -> None:
    """What has no job yet gets none."""
    tx.execute(
        update(workitem_input)
        .where(workitem_input.c.workitem_id == item.id, workitem_input.c.waiting)
        .values(waiting=False)
    )


def _input_row(item: WorkItem, given: Input) -> Update:
    return update(workitem_input).where(
        workitem_input.c.workitem_id == item.id,
        workitem_input.c.StudyInstanceUID == given.StudyInstanceUID,
        workitem_input.c.SeriesInstanceUID == given.SeriesInstanceUID,
    )


def input_instances(tx: Transaction, series_id: int, generation: int) -> list[tuple[str, str]]:
    """SOP Class and SOP Instance UIDs of the frozen input of one generation."""
    rows = tx.execute(
        select(instance.c.SOPClassUID, instance.c.SOPInstanceUID)
        .where(instance.c.series_id == series_id, instance.c.generation <= generation)
        .order_by(instance.c.SOPInstanceUID)
    )
    return [(row.SOPClassUID, row.SOPInstanceUID) for row in rows]


def outputs(tx: Transaction, job_ids: Sequence[int]) -> list[Output]:
    """What these jobs yielded, in its order; what says that a pipeline did not run is none of it."""
    rows = tx.execute(
        select(result)
        .where(result.c.job_id.in_(job_ids), result.c.role != ResultRole.NOTICE)
        .order_by(result.c.id)
    ).all()
    sent = tx.execute(
        select(delivery.c.result_id, delivery.c.destination)
        .where(delivery.c.result_id.in_([row.id for row in rows]))
        .order_by(delivery.c.id)
    ).all()
    return [
        Output(
            row.StudyInstanceUID,
            row.SeriesInstanceUID,
            row.SOPClassUID,
            row.SOPInstanceUID,
            row.created_at,
            tuple(each.destination for each in sent if each.result_id == row.id),
        )
        for row in rows
    ]
