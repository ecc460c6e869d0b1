"""What has arrived: studies, series and instances."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from typing import Any

from sqlalchemy import (
    Table,
    and_,
    bindparam,
    exists,
    insert,
    not_,
    select,
    text,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import ReturningInsert

from dicomnode.errors import DuplicateDiffers
from dicomnode.model.instance import (
    Addition,
    Arrival,
    AssociationFacts,
    InstanceRef,
    StoredObject,
)
from dicomnode.model.topic import Topic
from dicomnode.store.clock import Now
from dicomnode.store.database import Transaction
from dicomnode.store.schema import (
    association,
    instance,
    result,
    series,
    study,
)
from dicomnode.store.signals import announce

_QUESTIONS = 500
"""Values in one question to the database."""

# Made once: to make a statement takes longer than to run it, and these run for each instance.
_ASSOCIATION = select(association.c.id).where(association.c.key == bindparam("sought"))
_PLACE = (
    select(
        series.c.id,
        series.c.generation,
        series.c.completed_at,
        series.c.association_id,
        _ASSOCIATION.scalar_subquery().label("brought_by"),
    )
    .join(study, study.c.id == series.c.study_id)
    .where(
        study.c.StudyInstanceUID == bindparam("of_study"),
        series.c.SeriesInstanceUID == bindparam("of_series"),
    )
    .with_for_update(of=series)
)
_KNOWN = select(instance.c.SOPInstanceUID, instance.c.sha256).where(
    instance.c.series_id == bindparam("of_id"),
    instance.c.SOPInstanceUID.in_(bindparam("named", expanding=True)),
)
_INSERT = insert(instance).values(received_at=Now())
_NEW_INSTANCES = (
    update(series)
    .where(series.c.id == bindparam("of_id"))
    .values(
        generation=bindparam("now_open"),
        completed_at=None,
        instance_count=series.c.instance_count + bindparam("new"),
        association_id=bindparam("by"),
        last_instance_at=Now(),
    )
)
_TAKE_BACK = (
    update(instance)
    .where(
        instance.c.series_id == bindparam("of_id"),
        instance.c.SOPInstanceUID.in_(bindparam("named", expanding=True)),
        instance.c.released_at.is_not(None),
    )
    .values(released_at=None, removed_at=None)
)
_ASKED = exists().where(association.c.id == instance.c.association_id, association.c.asked)
_SENT = select(instance.c.id).where(instance.c.series_id == bindparam("of_id"), not_(_ASKED)).limit(1)
_SEND_AFTER_ALL = (
    update(instance)
    .where(
        instance.c.series_id == bindparam("of_id"),
        instance.c.SOPInstanceUID.in_(bindparam("named", expanding=True)),
        _ASKED,
    )
    .values(association_id=bindparam("by"))
)
_OTHER_PATIENT = select(study.c.id).where(
    study.c.StudyInstanceUID == bindparam("of_study"),
    study.c.PatientID != bindparam("other"),
    not_(study.c.patient_conflict),
)


@cache
def _new_association(dialect: str) -> ReturningInsert[Any]:
    new = (postgresql if dialect == "postgresql" else sqlite).insert(association).values(opened_at=Now())
    kept: ReturningInsert[Any] = new.on_conflict_do_nothing().returning(association.c.id)
    return kept


def add_instance(tx: Transaction, arrival: Arrival) -> Addition:
    """Enter one instance; a complete series opens its next generation. Raises DuplicateDiffers."""
    outcome = add_instances(tx, [arrival])[0]
    if isinstance(outcome, DuplicateDiffers):
        raise outcome
    return outcome


def add_instances(tx: Transaction, arrivals: Sequence[Arrival]) -> list[Addition | DuplicateDiffers]:
    """Enter instances that one association brought for one series; says of each what became of it.

    The series row is locked first, so that arrivals and the decision "complete" take turns. Where an instance
    is there with other content, nothing is changed for it.
    """
    first = arrivals[0]
    place = {
        "of_study": first.study["StudyInstanceUID"],
        "of_series": first.series["SeriesInstanceUID"],
        "sought": first.association.key,
    }
    row = tx.execute(_PLACE, place).one_or_none()
    known = row.brought_by if row is not None else None
    association_id = _association_id(tx, first.association) if known is None else known
    if row is None:
        _enter_place(tx, first, association_id)
        row = tx.execute(_PLACE, place).one()
        announce(tx, Topic.SERIES)
    outcomes, new = _sorted_out(arrivals, _known(tx, row.id, arrivals))
    if new:
        generation = row.generation if row.completed_at is None else row.generation + 1
        if row.completed_at is not None:
            announce(tx, Topic.SERIES)
        common = {"series_id": row.id, "generation": generation, "association_id": association_id}
        tx.execute(_INSERT, [instance_row(each) | common for each in new])
        # What this node asked for does not change who sent the series.
        by = row.association_id if first.association.asked else association_id
        tx.execute(_NEW_INSTANCES, {"of_id": row.id, "now_open": generation, "by": by, "new": len(new)})
    if repeated := _repeated(arrivals, outcomes):
        for start in range(0, len(repeated), _QUESTIONS):
            tx.execute(_TAKE_BACK, {"of_id": row.id, "named": repeated[start : start + _QUESTIONS]})
        if not first.association.asked:
            _send_after_all(tx, row, association_id, repeated)
    return outcomes


def only_asked_for(tx: Transaction, series_id: int) -> bool:
    """True where nobody sent anything of a series: it is here because this node asked for it."""
    return tx.execute(_SENT, {"of_id": series_id}).first() is None


def _send_after_all(tx: Transaction, row: Any, association_id: int, repeated: Sequence[str]) -> None:
    """What had come because it was asked for is sent now, and counts as sent from now on.

    A series of which nobody had sent anything is opened, so that it is completed and routed as any other.
    """
    only_asked = only_asked_for(tx, row.id)
    sent = 0
    for start in range(0, len(repeated), _QUESTIONS):
        named = repeated[start : start + _QUESTIONS]
        sent += tx.execute(_SEND_AFTER_ALL, {"of_id": row.id, "named": named, "by": association_id}).rowcount
    if sent and only_asked:
        generation = row.generation if row.completed_at is None else row.generation + 1
        opened = {"of_id": row.id, "now_open": generation, "by": association_id, "new": 0}
        tx.execute(_NEW_INSTANCES, opened)


def _repeated(arrivals: Sequence[Arrival], outcomes: Sequence[Addition | DuplicateDiffers]) -> list[str]:
    """Those that were here already, with the same content; retention may have let go of them."""
    return [
        arrival.SOPInstanceUID
        for arrival, outcome in zip(arrivals, outcomes, strict=True)
        if outcome is Addition.REPEATED
    ]


def _association_id(tx: Transaction, facts: AssociationFacts) -> int:
    found = tx.execute(_ASSOCIATION, {"sought": facts.key}).scalar()
    if found is None:
        found = tx.execute(_new_association(tx.dialect.name), asdict(facts)).scalar()
    return int(found if found is not None else tx.execute(_ASSOCIATION, {"sought": facts.key}).scalar_one())


def _enter_place(tx: Transaction, arrival: Arrival, association_id: int) -> None:
    """The rows of its study and its series, where they are not there."""
    study_id = _ensure(
        tx,
        study,
        {"StudyInstanceUID": arrival.study["StudyInstanceUID"]},
        {**arrival.study, "patient_conflict": False, "first_instance_at": Now()},
    )
    _ensure(
        tx,
        series,
        {"study_id": study_id, "SeriesInstanceUID": arrival.series["SeriesInstanceUID"]},
        _series_row(arrival, association_id),
    )


def _known(tx: Transaction, series_id: int, arrivals: Sequence[Arrival]) -> dict[str, str]:
    """The content of those that the series has already, by SOPInstanceUID."""
    known: dict[str, str] = {}
    for start in range(0, len(arrivals), _QUESTIONS):
        named = [arrival.SOPInstanceUID for arrival in arrivals[start : start + _QUESTIONS]]
        rows = tx.execute(_KNOWN, {"of_id": series_id, "named": named})
        known.update((row.SOPInstanceUID, row.sha256) for row in rows)
    return known


def _sorted_out(
    arrivals: Sequence[Arrival], known: dict[str, str]
) -> tuple[list[Addition | DuplicateDiffers], list[Arrival]]:
    """What becomes of each, and those that are new."""
    outcomes: list[Addition | DuplicateDiffers] = []
    new = []
    for arrival in arrivals:
        content = known.get(arrival.SOPInstanceUID)
        if content is None:
            known[arrival.SOPInstanceUID] = arrival.stored.sha256
            new.append(arrival)
            outcomes.append(Addition.ADDED)
        elif content == arrival.stored.sha256:
            outcomes.append(Addition.REPEATED)
        else:
            outcomes.append(DuplicateDiffers(arrival.SOPInstanceUID))
    return outcomes, new


def instance_row(arrival: Arrival) -> dict[str, Any]:
    """What the row of an instance takes from its arrival."""
    return {
        **arrival.instance,
        "SOPInstanceUID": arrival.SOPInstanceUID,
        "SOPClassUID": arrival.SOPClassUID,
        "TransferSyntaxUID": arrival.TransferSyntaxUID,
        "sha256": arrival.stored.sha256,
        "size": arrival.stored.size,
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


def note_patient_conflict(tx: Transaction, StudyInstanceUID: str, PatientID: str) -> bool:
    """True where an instance of that patient is the first of the study that names another one."""
    named = {"of_study": StudyInstanceUID, "other": PatientID}
    # What the study was entered with never changes: asking is enough for almost all.
    if tx.execute(_OTHER_PATIENT, named).first() is None:
        return False
    noted = update(study).where(study.c.id.in_(_OTHER_PATIENT)).values(patient_conflict=True)
    return tx.execute(noted, named).rowcount > 0


def names_two_patients(tx: Transaction, series_id: int) -> bool:
    """True where instances of the series' study name different patients."""
    of_series = select(series.c.study_id).where(series.c.id == series_id).scalar_subquery()
    return bool(tx.execute(select(study.c.patient_conflict).where(study.c.id == of_series)).scalar_one())


def _ensure(tx: Transaction, table: Table, key: Mapping[str, Any], others: Mapping[str, Any]) -> int:
    """The id of the row with that unique key, inserted where it was not there."""
    sought = select(table.c.id).where(_is(table, key))
    found = tx.execute(sought).scalar()
    if found is None:
        dialect = postgresql if tx.dialect.name == "postgresql" else sqlite
        row = dialect.insert(table).values(**{**others, **key}).on_conflict_do_nothing()
        found = tx.execute(row.returning(table.c.id)).scalar()
    return int(found if found is not None else tx.execute(sought).scalar_one())


def _is(table: Table, key: Mapping[str, Any]) -> Any:
    return and_(*(table.c[name] == value for name, value in key.items()))


def input_set(tx: Transaction, series_id: int, generation: int) -> Sequence[InstanceRef]:
    """The frozen input of one generation: what had arrived when it was complete, by SOPInstanceUID."""
    rows = tx.execute(
        select(instance.c.SOPInstanceUID, instance.c.sha256)
        .where(instance.c.series_id == series_id, instance.c.generation <= generation)
        .order_by(instance.c.SOPInstanceUID)
    ).all()
    return [InstanceRef(row.SOPInstanceUID, row.sha256) for row in rows]


def have_left(tx: Transaction, digests: Sequence[str]) -> bool:
    """True where one of these received instances has left this machine."""
    left = and_(instance.c.sha256.in_(digests), instance.c.released_at.is_not(None))
    return tx.execute(select(instance.c.id).where(left).limit(1)).first() is not None


def held_instances(tx: Transaction, series_id: int) -> set[str]:
    """The SOPInstanceUIDs of a series whose bytes are here."""
    here = and_(instance.c.series_id == series_id, instance.c.released_at.is_(None))
    return set(tx.execute(select(instance.c.SOPInstanceUID).where(here)).scalars())


def classes_of(tx: Transaction, series_id: int) -> set[str]:
    """The SOP Class UIDs of what has ever come of a series."""
    of_series = select(instance.c.SOPClassUID).where(instance.c.series_id == series_id)
    return set(tx.execute(of_series.distinct()).scalars())


def stop_entries(tx: Transaction) -> None:
    """Nobody enters an instance or a result until this transaction ends; SQLite's writers wait anyway."""
    if tx.dialect.name == "postgresql":
        tx.execute(text("LOCK TABLE instance, result IN SHARE ROW EXCLUSIVE MODE"))


def named_objects(tx: Transaction, digests: Sequence[str]) -> set[str]:
    """Those of `digests` whose bytes belong to a received instance or to a result."""
    received = select(instance.c.sha256).where(instance.c.sha256.in_(digests))
    produced = select(result.c.sha256).where(result.c.sha256.in_(digests))
    return set(tx.execute(received.union(produced)).scalars())


def recent_objects(tx: Transaction, limit: int) -> list[StoredObject]:
    """The objects of the instances that arrived last."""
    rows = tx.execute(
        select(instance.c.sha256, instance.c.size)
        .where(instance.c.released_at.is_(None))
        .order_by(instance.c.id.desc())
        .limit(limit)
    ).all()
    return [StoredObject(row.sha256, row.size) for row in rows]
