"""Which stored instances a retrieval means: C-MOVE, C-GET (PS3.4 C.4.2.2.1) and WADO-RS (PS3.18 10.4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import select

from dicomnode.model.instance import StoredInstance
from dicomnode.store.database import Transaction
from dicomnode.store.schema import instance, series, study

_BATCH = 1000
"""How many UIDs one statement names: databases have a limit."""

_INSTANCES = (
    select(
        study.c.StudyInstanceUID,
        series.c.SeriesInstanceUID,
        instance.c.SOPInstanceUID,
        instance.c.SOPClassUID,
        instance.c.TransferSyntaxUID,
        instance.c.sha256,
        instance.c.size,
    )
    .join_from(study, series, series.c.study_id == study.c.id)
    .join(instance, instance.c.series_id == series.c.id)
    .where(instance.c.removed_at.is_(None))
)
_COLUMNS = {
    "PatientID": study.c.PatientID,
    "StudyInstanceUID": study.c.StudyInstanceUID,
    "SeriesInstanceUID": series.c.SeriesInstanceUID,
    "SOPInstanceUID": instance.c.SOPInstanceUID,
}


def stored_instances(tx: Transaction, **keys: str | Sequence[str]) -> list[StoredInstance]:
    """The instances that all of `keys` name and whose bytes are here, in the order in which they arrived.

    A key is PatientID, StudyInstanceUID, SeriesInstanceUID or SOPInstanceUID; its value is one, or a list of
    which an instance has to have one. Raises ValueError without any key.
    """
    if not keys:
        raise ValueError("which instances?")
    lists = {keyword: [value] if isinstance(value, str) else list(value) for keyword, value in keys.items()}
    longest = max(lists, key=lambda keyword: len(lists[keyword]))
    found: dict[int, StoredInstance] = {}
    values = list(dict.fromkeys(lists[longest]))
    for start in range(0, len(values), _BATCH):
        lists[longest] = values[start : start + _BATCH]
        rows = tx.execute(
            _INSTANCES.add_columns(instance.c.id).where(
                *(_COLUMNS[keyword].in_(chosen) for keyword, chosen in lists.items())
            )
        )
        found |= {row.id: StoredInstance(*row[:-1]) for row in rows}
    return [found[number] for number in sorted(found)]


def first_instance(tx: Transaction, keys: Mapping[str, str]) -> StoredInstance | None:
    """One instance of the entity that `keys` name, the first that arrived; None where none is here."""
    row = tx.execute(
        _INSTANCES.where(*(_COLUMNS[keyword] == value for keyword, value in keys.items()))
        .order_by(instance.c.id)
        .limit(1)
    ).one_or_none()
    return None if row is None else StoredInstance(*row)


def were_removed(tx: Transaction, keys: Mapping[str, str]) -> bool:
    """True where the catalog knows an instance that `keys` name, whose bytes retention has let go."""
    known = (
        select(instance.c.id)
        .join_from(study, series, series.c.study_id == study.c.id)
        .join(instance, instance.c.series_id == series.c.id)
        .where(instance.c.removed_at.is_not(None))
        .where(*(_COLUMNS[keyword] == value for keyword, value in keys.items()))
    )
    return tx.execute(known.limit(1)).first() is not None
