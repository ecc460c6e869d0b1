"""What has arrived: studies, series and instances, and which series are complete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Table, and_, func, insert, literal, not_, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from dicomnode.errors import DuplicateDiffers, NotFound
from dicomnode.model.instance import (
    Addition,
    Arrival,
    AssociationFacts,
    Completion,
    CompletionReason,
    InstanceRef,
    StoredObject,
)
from dicomnode.store.clock import Now
from dicomnode.store.database import Transaction
from dicomnode.store.schema import association, completion, instance, result, series, study


def add_instance(tx: Transaction, arrival: Arrival) -> Addition:
    """Enter one instance; a complete series opens its next generation.

    The series row is locked first, so that arrivals and the decision "complete" take turns.
    Raises DuplicateDiffers where the instance is there with other content; nothing is changed then.
    """
    association_id = _ensure(tx, association, {"key": arrival.association.key}, _association_row(arrival))
    study_id = _ensure(
        tx,
        study,
        {"StudyInstanceUID": arrival.study["StudyInstanceUID"]},
        {**arrival.study, "patient_conflict": False, "first_instance_at": Now()},
    )
    series_id = _ensure(
        tx,
        series,
        {"study_id": study_id, "SeriesInstanceUID": arrival.series["SeriesInstanceUID"]},
        _series_row(arrival, association_id),
    )
    row = tx.execute(
        select(series.c.generation, series.c.completed_at).where(series.c.id == series_id).with_for_update()
    ).one()
    known = tx.execute(
        select(instance.c.sha256).where(
            instance.c.series_id == series_id, instance.c.SOPInstanceUID == arrival.SOPInstanceUID
        )
    ).scalar()
    if known is not None:
        if known != arrival.stored.sha256:
            raise DuplicateDiffers(arrival.SOPInstanceUID)
        return Addition.REPEATED
    generation = row.generation if row.completed_at is None else row.generation + 1
    tx.execute(
        insert(instance).values(
            **arrival.instance,
            series_id=series_id,
            SOPInstanceUID=arrival.SOPInstanceUID,
            SOPClassUID=arrival.SOPClassUID,
            TransferSyntaxUID=arrival.TransferSyntaxUID,
            generation=generation,
            association_id=association_id,
            sha256=arrival.stored.sha256,
            size=arrival.stored.size,
            received_at=Now(),
        )
    )
    tx.execute(
        update(series)
        .where(series.c.id == series_id)
        .values(
            generation=generation,
            completed_at=None,
            instance_count=series.c.instance_count + 1,
            association_id=association_id,
            last_instance_at=Now(),
        )
    )
    return Addition.ADDED


def _association_row(arrival: Arrival) -> dict[str, Any]:
    facts = arrival.association
    return {
        "calling_ae": facts.calling_ae,
        "called_ae": facts.called_ae,
        "address": facts.address,
        "opened_at": Now(),
    }


def _series_row(arrival: Arrival, association_id: int) -> dict[str, Any]:
    return {
        **arrival.series,
        "generation": 1,
        "instance_count": 0,
        "expected_instances": arrival.expected_instances,
        "minimum_instances": arrival.minimum_instances,
        "association_id": association_id,
        "first_instance_at": Now(),
        "last_instance_at": Now(),
    }


def note_patient_conflict(tx: Transaction, arrival: Arrival) -> bool:
    """True where this instance is the first of its study that names another patient."""
    noted = tx.execute(
        update(study)
        .where(
            study.c.StudyInstanceUID == arrival.study["StudyInstanceUID"],
            study.c.PatientID != arrival.study["PatientID"],
            not_(study.c.patient_conflict),
        )
        .values(patient_conflict=True)
    )
    return noted.rowcount > 0


def names_two_patients(tx: Transaction, series_id: int) -> bool:
    """True where instances of the series' study name different patients."""
    of_series = select(series.c.study_id).where(series.c.id == series_id).scalar_subquery()
    return bool(tx.execute(select(study.c.patient_conflict).where(study.c.id == of_series)).scalar_one())


def _ensure(tx: Transaction, table: Table, key: Mapping[str, Any], others: Mapping[str, Any]) -> int:
    """The id of the row with that unique key, inserted where it was not there."""
    found = tx.execute(select(table.c.id).where(_is(table, key))).scalar()
    if found is not None:
        return int(found)
    dialect = postgresql if tx.dialect.name == "postgresql" else sqlite
    tx.execute(dialect.insert(table).values(**{**others, **key}).on_conflict_do_nothing())
    return int(tx.execute(select(table.c.id).where(_is(table, key))).scalar_one())


def _is(table: Table, key: Mapping[str, Any]) -> Any:
    return and_(*(table.c[name] == value for name, value in key.items()))


def complete_due(
    tx: Transaction, quiet_s: float, missing_wait_s: float, *, listened_s: float
) -> list[tuple[str, CompletionReason]]:
    """Decide which open series are complete now; returns their UIDs with the reason.

    `listened_s`: how long all receivers have been listening. A quiet period that passed while one of them
    could have received nothing does not count.
    """
    count, expected = series.c.instance_count, series.c.expected_instances
    lacking = or_(
        func.coalesce(count < series.c.minimum_instances, False), func.coalesce(count < expected, False)
    )
    reached = count == expected
    quiet = and_(not_(lacking), _silent_for(quiet_s, listened_s))
    given_up = and_(lacking, _silent_for(max(quiet_s, missing_wait_s), listened_s))
    due = []
    for condition, reason in (
        (reached, CompletionReason.EXPECTED),
        (quiet, CompletionReason.QUIET),
        (given_up, CompletionReason.MISSING),
    ):
        rows = tx.execute(
            select(series.c.id, series.c.SeriesInstanceUID)
            .where(series.c.completed_at.is_(None), series.c.instance_count > 0, condition)
            .with_for_update(skip_locked=True)
        ).all()
        for row in rows:
            _complete(tx, row.id, reason)
            due.append((row.SeriesInstanceUID, reason))
    return due


def _silent_for(seconds: float, listened_s: float) -> ColumnElement[bool]:
    return and_(series.c.last_instance_at <= Now(-seconds), literal(seconds <= listened_s))


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


def _complete(tx: Transaction, series_id: int, reason: CompletionReason) -> None:
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
        )
    )


def unrouted(tx: Transaction, limit: int = 50) -> list[Completion]:
    """The completions that routing has not looked at, oldest first; locked until the transaction ends."""
    rows = tx.execute(
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
        .where(completion.c.routed_at.is_(None))
        .order_by(completion.c.id)
        .limit(limit)
        .with_for_update(of=completion, skip_locked=True)
    ).all()
    return [
        Completion(
            id=row.id,
            series_id=row.series_id,
            generation=row.generation,
            instance_count=row.instance_count,
            StudyInstanceUID=row.StudyInstanceUID,
            SeriesInstanceUID=row.SeriesInstanceUID,
            patient_conflict=row.patient_conflict,
            association=AssociationFacts(row.key, row.calling_ae, row.called_ae, row.address),
        )
        for row in rows
    ]


def mark_routed(tx: Transaction, completion_id: int) -> None:
    """Routing has decided; the completion is not looked at again."""
    tx.execute(update(completion).where(completion.c.id == completion_id).values(routed_at=Now()))


def input_set(tx: Transaction, series_id: int, generation: int) -> Sequence[InstanceRef]:
    """The frozen input of one generation: what had arrived when it was complete, by SOPInstanceUID."""
    rows = tx.execute(
        select(instance.c.SOPInstanceUID, instance.c.sha256)
        .where(instance.c.series_id == series_id, instance.c.generation <= generation)
        .order_by(instance.c.SOPInstanceUID)
    ).all()
    return [InstanceRef(row.SOPInstanceUID, row.sha256) for row in rows]


def named_objects(tx: Transaction, digests: Sequence[str]) -> set[str]:
    """Those of `digests` whose bytes belong to a received instance or to a result."""
    received = select(instance.c.sha256).where(instance.c.sha256.in_(digests))
    produced = select(result.c.sha256).where(result.c.sha256.in_(digests))
    return set(tx.execute(received.union(produced)).scalars())


def recent_objects(tx: Transaction, limit: int) -> list[StoredObject]:
    """The objects of the instances that arrived last."""
    rows = tx.execute(
        select(instance.c.sha256, instance.c.size).order_by(instance.c.id.desc()).limit(limit)
    ).all()
    return [StoredObject(row.sha256, row.size) for row in rows]
