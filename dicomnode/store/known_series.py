"""Instances of series that are known and open: two or three statements, run by the driver itself.

That is nearly every instance, and SQLAlchemy's way to a statement costs ten times what the statement does.
Whatever else there is to an arrival (a new series, a late instance, one that is there already) is not entered
here, but by `catalog`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from functools import cache
from typing import Any

from sqlalchemy import Table, bindparam, exists, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import Insert

from dicomnode.model.instance import Arrival, AssociationFacts
from dicomnode.store.catalog import instance_row
from dicomnode.store.clock import Now
from dicomnode.store.database import BareTransaction
from dicomnode.store.schema import association, instance, series, study

_SERIES = (
    select(series.c.id)
    .join(study, study.c.id == series.c.study_id)
    .where(
        study.c.StudyInstanceUID == bindparam("of_study"),
        series.c.SeriesInstanceUID == bindparam("of_series"),
    )
    .scalar_subquery()
)
_ASSOCIATION = select(association.c.id).where(association.c.key == bindparam("of_key"))
_COUNT = (
    update(series)
    .where(series.c.id == _SERIES, series.c.completed_at.is_(None), exists(_ASSOCIATION))
    .values(
        instance_count=series.c.instance_count + bindparam("new"),
        association_id=_ASSOCIATION.scalar_subquery(),
        last_instance_at=Now(),
    )
    .returning(series.c.id, series.c.generation, series.c.association_id)
)
_GIVEN = (
    "series_id",
    "SOPInstanceUID",
    "SOPClassUID",
    "TransferSyntaxUID",
    "InstanceNumber",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "BitsAllocated",
    "generation",
    "association_id",
    "sha256",
    "size",
)


class NotKnown(Exception):
    """There is more to these arrivals: the transaction must not be committed."""


def add_to_known(tx: BareTransaction, arrivals: Sequence[Arrival]) -> None:
    """Enter new instances that one association brought for one series, as `catalog.add_instances` does.

    The series row is locked first, as there. Raises NotKnown.
    """
    first = arrivals[0]
    if first.association.asked:
        # What this node asked for does not change who sent the series.
        raise NotKnown
    place = {
        "of_study": first.study["StudyInstanceUID"],
        "of_series": first.series["SeriesInstanceUID"],
        "of_key": first.association.key,
        "new": len(arrivals),
    }
    row = tx.first(_COUNT, place)
    if row is None:
        # A request of one instance is an association of its own.
        tx.each(_new_association(tx.dialect), [asdict(first.association)])
        row = tx.first(_COUNT, place)
    if row is None:
        raise NotKnown
    common = dict(zip(("series_id", "generation", "association_id"), row, strict=True))
    if tx.each(_insert(tx.dialect), [instance_row(each) | common for each in arrivals]) != len(arrivals):
        raise NotKnown


@cache
def _insert(dialect: str) -> Insert:
    return _new(dialect, instance, _GIVEN, {"received_at": Now()})


@cache
def _new_association(dialect: str) -> Insert:
    given = [each.name for each in fields(AssociationFacts)]
    return _new(dialect, association, given, {"opened_at": Now()})


def _new(dialect: str, table: Table, given: Sequence[str], made: dict[str, Any]) -> Insert:
    new: Any = (postgresql if dialect == "postgresql" else sqlite).insert(table)
    values = made | {name: bindparam(name) for name in given}
    insert: Insert = new.values(values).on_conflict_do_nothing()
    return insert
