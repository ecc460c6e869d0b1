"""Where everything is: what an administrator asks, read from the same rows that the work is done on."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Select, func, or_, select

from dicomnode.store.database import Transaction
from dicomnode.store.schema import (
    availability,
    completion,
    delivery,
    delivery_event,
    instance,
    job,
    job_event,
    prior,
    prior_series,
    result,
    routing,
    run,
    series,
    study,
)

Record = dict[str, Any]


def counts(tx: Transaction) -> Record:
    """How many studies, series and instances there are, and jobs and deliveries by their state.

    Shadows are counted by themselves: no result of theirs is on its way to anybody.
    """
    return {
        "studies": _count(tx, study),
        "series": _count(tx, series),
        "series_open": tx.execute(
            select(func.count()).select_from(series).where(series.c.completed_at.is_(None))
        ).scalar_one(),
        "instances": _count(tx, instance),
        "jobs": _by_state(tx, job, job.c.shadow_of.is_(None)),
        "shadow_jobs": _by_state(tx, job, job.c.shadow_of.is_not(None)),
        "deliveries": _by_state(tx, delivery),
        "announcements": _by_state(tx, availability),
    }


def studies(tx: Transaction, asked: str | None, limit: int = 20) -> list[Record]:
    """The newest studies, or those of a Study, Series or SOP Instance UID, accession number or patient ID."""
    query = select(
        study.c.id,
        study.c.StudyInstanceUID,
        study.c.PatientID,
        study.c.AccessionNumber,
        study.c.StudyDate,
        study.c.StudyDescription,
        study.c.first_instance_at,
    ).order_by(study.c.id.desc())
    if asked is not None:
        query = query.where(_asked(asked))
    found = _records(tx, query.limit(limit))
    for record in found:
        record["series"] = _series_of(tx, record.pop("id"))
    return found


def job_history(tx: Transaction, job_id: int) -> Record:
    """Everything about one job beside its row: events, runs, results and their deliveries."""
    return {
        "events": _records(
            tx,
            select(
                job_event.c.event,
                job_event.c.state,
                job_event.c.fence,
                job_event.c.actor,
                job_event.c.detail,
                job_event.c.at,
            )
            .where(job_event.c.job_id == job_id)
            .order_by(job_event.c.id),
        ),
        "runs": _records(
            tx,
            select(run.c.worker, run.c.fence, run.c.started_at, run.c.ended_at, run.c.outcome, run.c.timings)
            .where(run.c.job_id == job_id)
            .order_by(run.c.id),
        ),
        "priors": _priors_of(tx, job_id),
        "results": _results_of(tx, job_id),
    }


def deliveries(tx: Transaction, states: tuple[str, ...] = (), limit: int = 100) -> list[Record]:
    """The deliveries in any of `states` (all where empty), newest first."""
    query = (
        select(
            delivery.c.id,
            delivery.c.destination,
            delivery.c.state,
            delivery.c.attempt,
            delivery.c.reason,
            delivery.c.updated_at,
            result.c.role,
            result.c.SOPInstanceUID,
            result.c.StudyInstanceUID,
            result.c.job_id,
        )
        .join_from(delivery, result)
        .order_by(delivery.c.id.desc())
        .limit(limit)
    )
    return _records(tx, query.where(delivery.c.state.in_(states)) if states else query)


def _asked(asked: str) -> Any:
    in_series = select(series.c.study_id).where(series.c.SeriesInstanceUID == asked)
    in_instances = (
        select(series.c.study_id).join_from(series, instance).where(instance.c.SOPInstanceUID == asked)
    )
    return or_(
        study.c.StudyInstanceUID == asked,
        study.c.AccessionNumber == asked,
        study.c.PatientID == asked,
        study.c.id.in_(in_series),
        study.c.id.in_(in_instances),
    )


def _series_of(tx: Transaction, study_id: int) -> list[Record]:
    found = _records(
        tx,
        select(
            series.c.id,
            series.c.SeriesInstanceUID,
            series.c.Modality,
            series.c.SeriesDescription,
            series.c.instance_count,
            series.c.generation,
            series.c.first_instance_at,
            series.c.last_instance_at,
            series.c.completed_at,
        )
        .where(series.c.study_id == study_id)
        .order_by(series.c.id),
    )
    for record in found:
        series_id = record.pop("id")
        record["completions"] = _completions_of(tx, series_id)
        record["jobs"] = _jobs_of(tx, series_id)
    return found


def _completions_of(tx: Transaction, series_id: int) -> list[Record]:
    found = _records(
        tx,
        select(
            completion.c.id,
            completion.c.generation,
            completion.c.reason,
            completion.c.note,
            completion.c.instance_count,
            completion.c.completed_at,
            completion.c.routed_at,
        )
        .where(completion.c.series_id == series_id)
        .order_by(completion.c.id),
    )
    for record in found:
        record["routes"] = _records(
            tx,
            select(routing.c.route, routing.c.matched, routing.c.note, routing.c.job_id)
            .where(routing.c.completion_id == record.pop("id"))
            .order_by(routing.c.id),
        )
    return found


def _jobs_of(tx: Transaction, series_id: int) -> list[Record]:
    found = _records(
        tx,
        select(
            job.c.id,
            job.c.pipeline,
            job.c.pipeline_version,
            job.c.shadow_of,
            job.c.generation,
            job.c.state,
            job.c.attempt,
            job.c.reason_code,
            job.c.reason,
            job.c.created_at,
            job.c.updated_at,
        )
        .where(job.c.series_id == series_id)
        .order_by(job.c.id),
    )
    for record in found:
        record["results"] = _results_of(tx, record["id"])
    return found


def _priors_of(tx: Transaction, job_id: int) -> list[Record]:
    """What was sought beside its series, and each series that was found, the latest first."""
    return _records(
        tx,
        select(
            prior.c.name,
            prior.c.state,
            prior.c.note,
            prior_series.c.place,
            series.c.SeriesInstanceUID,
            study.c.StudyDate,
        )
        .select_from(prior.outerjoin(prior_series).outerjoin(series).outerjoin(study))
        .where(prior.c.job_id == job_id)
        .order_by(prior.c.id, prior_series.c.place),
    )


def _results_of(tx: Transaction, job_id: int) -> list[Record]:
    found = _records(
        tx,
        select(
            result.c.id,
            result.c.role,
            result.c.SOPClassUID,
            result.c.SOPInstanceUID,
            result.c.SeriesInstanceUID,
            result.c.sha256,
            result.c.size,
            result.c.created_at,
        )
        .where(result.c.job_id == job_id)
        .order_by(result.c.ordinal),
    )
    for record in found:
        record["deliveries"] = _deliveries_of(tx, record.pop("id"))
    return found


def _deliveries_of(tx: Transaction, result_id: int) -> list[Record]:
    found = _records(
        tx,
        select(
            delivery.c.id,
            delivery.c.destination,
            delivery.c.state,
            delivery.c.attempt,
            delivery.c.reason,
            delivery.c.updated_at,
        )
        .where(delivery.c.result_id == result_id)
        .order_by(delivery.c.id),
    )
    for record in found:
        record["events"] = _records(
            tx,
            select(delivery_event.c.event, delivery_event.c.state, delivery_event.c.at)
            .where(delivery_event.c.delivery_id == record["id"])
            .order_by(delivery_event.c.id),
        )
    return found


def _records(tx: Transaction, query: Select[Any]) -> list[Record]:
    return [dict(row) for row in tx.execute(query).mappings()]


def _count(tx: Transaction, table: Any) -> int:
    return int(tx.execute(select(func.count()).select_from(table)).scalar_one())


def _by_state(tx: Transaction, table: Any, *of: ColumnElement[bool]) -> dict[str, int]:
    counted = select(table.c.state, func.count().label("n")).where(*of)
    rows = tx.execute(counted.group_by(table.c.state)).all()
    return {row.state: row.n for row in rows}
