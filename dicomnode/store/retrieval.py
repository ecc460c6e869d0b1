"""Which instances a retrieval means: C-MOVE, C-GET (PS3.4 C.4.2.2.1) and WADO-RS (PS3.18 10.4).

Those that were received, and then the results that are listed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Select, select

from dicomnode.model.instance import StoredInstance
from dicomnode.store.database import Transaction
from dicomnode.store.listed import Listed
from dicomnode.store.schema import instance, result, series, study

_BATCH = 1000
"""How many UIDs one statement names: databases have a limit."""

_Columns: TypeAlias = Mapping[str, ColumnElement[Any]]
_LISTED = Listed()
_OF_RECEIVED: _Columns = {
    "PatientID": study.c.PatientID,
    "StudyInstanceUID": study.c.StudyInstanceUID,
    "SeriesInstanceUID": series.c.SeriesInstanceUID,
    "SOPInstanceUID": instance.c.SOPInstanceUID,
}
_OF_RESULTS: _Columns = {
    "PatientID": study.c.PatientID,
    "StudyInstanceUID": study.c.StudyInstanceUID,
    "SeriesInstanceUID": result.c.SeriesInstanceUID,
    "SOPInstanceUID": result.c.SOPInstanceUID,
}
_EVER_RECEIVED = (
    select(
        study.c.StudyInstanceUID,
        series.c.SeriesInstanceUID,
        instance.c.SOPInstanceUID,
        instance.c.SOPClassUID,
        instance.c.TransferSyntaxUID,
        instance.c.sha256,
        instance.c.size,
        instance.c.id,
    )
    .join_from(study, series, series.c.study_id == study.c.id)
    .join(instance, instance.c.series_id == series.c.id)
)
_EVER_LISTED = select(
    study.c.StudyInstanceUID,
    result.c.SeriesInstanceUID,
    result.c.SOPInstanceUID,
    result.c.SOPClassUID,
    result.c.TransferSyntaxUID,
    result.c.sha256,
    result.c.size,
    result.c.id,
).select_from(study.join(_LISTED.rows, result.c.StudyInstanceUID == study.c.StudyInstanceUID))
_PLACES: tuple[tuple[Select[Any], _Columns, ColumnElement[int]], ...] = (
    (_EVER_RECEIVED.where(instance.c.removed_at.is_(None)), _OF_RECEIVED, instance.c.id),
    (_EVER_LISTED.where(_LISTED.retrieved), _OF_RESULTS, result.c.id),
)
_LEFT: tuple[tuple[Select[Any], _Columns], ...] = (
    (_EVER_RECEIVED.where(instance.c.removed_at.is_not(None)), _OF_RECEIVED),
    (_EVER_LISTED.where(_LISTED.counts, result.c.removed_at.is_not(None)), _OF_RESULTS),
)


def stored_instances(tx: Transaction, **keys: str | Sequence[str]) -> list[StoredInstance]:
    """The instances that all of `keys` name and whose bytes are here, in the order in which they arrived.

    A key is PatientID, StudyInstanceUID, SeriesInstanceUID or SOPInstanceUID; its value is one, or a list of
    which an instance has to have one. Raises ValueError without any key.
    """
    if not keys:
        raise ValueError("which instances?")
    lists = {keyword: [value] if isinstance(value, str) else list(value) for keyword, value in keys.items()}
    return [each for rows, columns, _ in _PLACES for each in _named(tx, rows, columns, lists)]


def _named(
    tx: Transaction, rows: Select[Any], columns: _Columns, lists: Mapping[str, Sequence[str]]
) -> list[StoredInstance]:
    longest = max(lists, key=lambda keyword: len(lists[keyword]))
    found: dict[int, StoredInstance] = {}
    values = list(dict.fromkeys(lists[longest]))
    for start in range(0, len(values), _BATCH):
        chosen = {**lists, longest: values[start : start + _BATCH]}
        named = rows.where(*(columns[keyword].in_(uids) for keyword, uids in chosen.items()))
        found |= {row.id: StoredInstance(*row[:-1]) for row in tx.execute(named)}
    return [found[number] for number in sorted(found)]


def first_instance(tx: Transaction, keys: Mapping[str, str]) -> StoredInstance | None:
    """One instance of the entity that `keys` name, the first that arrived; None where none is here."""
    for rows, columns, number in _PLACES:
        named = rows.where(*(columns[keyword] == value for keyword, value in keys.items()))
        row = tx.execute(named.order_by(number).limit(1)).one_or_none()
        if row is not None:
            return StoredInstance(*row[:-1])
    return None


def were_removed(tx: Transaction, keys: Mapping[str, str]) -> bool:
    """True where the catalog knows an instance that `keys` name, whose bytes retention has let go."""
    return any(
        tx.execute(
            rows.where(*(columns[keyword] == value for keyword, value in keys.items())).limit(1)
        ).first()
        is not None
        for rows, columns in _LEFT
    )
