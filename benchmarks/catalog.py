"""A catalog of any size, entered in bulk: studies of two series of 100 instances each, and two results."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, String, cast, insert, literal, select, true

from dicomnode.store.database import Database, Transaction
from dicomnode.store.schema import (
    Instant,
    association,
    completion,
    instance,
    job,
    result,
    series,
    study,
)

OF_SERIES, OF_STUDY = 100, 2
_FAMILY = ("Smith", "Jones", "Müller", "Garcia", "Rossi", "Novak", "Silva", "Kim", "Nguyen", "Haddad")
_GIVEN = ("Jane", "John", "Zoë", "Maria", "Luca", "Petra", "Ana", "Minh", "Omar", "Ingrid")
_FIRST_DAY = date(2016, 1, 1)
_BATCH = 20_000


@dataclass(frozen=True, slots=True)
class Entry:
    """What names a study and its patient; `uid` is also the root of its series' and instances' UIDs."""

    uid: str
    patient: str
    name: str
    accession: str
    date: str

    def series(self, number: int) -> str:
        """The UID of its series 1 or 2."""
        return f"{self.uid}.{number}"


def entries(instances: int) -> list[Entry]:
    """The studies of a catalog of so many instances: the same each time."""
    chosen = random.Random(4)  # noqa: S311  no secret
    return [
        Entry(
            uid=f"1.2.826.0.1.{number}",
            patient=f"PAT{number // 2:07}",
            name=f"{chosen.choice(_FAMILY)}{number % 997}^{chosen.choice(_GIVEN)}",
            accession=f"ACC{number:08}",
            date=(_FIRST_DAY + timedelta(days=chosen.randrange(3650))).strftime("%Y%m%d"),
        )
        for number in range(instances // (OF_SERIES * OF_STUDY))
    ]


def fill(database: Database, instances: int) -> None:
    """Enter them all; no bytes are kept."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    with database.begin() as tx:
        facts = {"key": "bulk", "calling_ae": "BULK", "called_ae": "NODE", "address": "127.0.0.1"}
        tx.execute(insert(association).values(id=1, opened_at=at, **facts))
        for batch in _batches(_studies(entries(instances), at)):
            tx.execute(insert(study), batch)
        for batch in _batches(_series(entries(instances), at)):
            tx.execute(insert(series), batch)
        _enter_instances(tx, at)
        _enter_results(tx, entries(instances), at)
    with database.begin() as tx:
        tx.exec_driver_sql("ANALYZE")


def _studies(chosen: list[Entry], at: datetime) -> Iterator[dict[str, object]]:
    for number, entry in enumerate(chosen, 1):
        yield {
            "id": number,
            "StudyInstanceUID": entry.uid,
            "PatientID": entry.patient,
            "PatientName": entry.name,
            "StudyDate": entry.date,
            "StudyTime": "101112",
            "AccessionNumber": entry.accession,
            "StudyDescription": "Head",
            "patient_conflict": False,
            "first_instance_at": at,
        }


def _series(chosen: list[Entry], at: datetime) -> Iterator[dict[str, object]]:
    for number, entry in enumerate(chosen):
        for place in range(1, OF_STUDY + 1):
            yield {
                "id": number * OF_STUDY + place,
                "study_id": number + 1,
                "SeriesInstanceUID": entry.series(place),
                "Modality": "CT" if number % 3 else "MR",
                "SeriesNumber": str(place),
                "generation": 1,
                "instance_count": OF_SERIES,
                "association_id": 1,
                "first_instance_at": at,
                "last_instance_at": at,
                "completed_at": at,
            }


def _enter_instances(tx: Transaction, at: datetime) -> None:
    """A hundred rows for each series, made by the database itself."""
    number = select(literal(1).label("k")).cte("number", recursive=True)
    number = number.union_all(select(number.c.k + 1).where(number.c.k < OF_SERIES))
    k = cast(number.c.k, String)
    columns: dict[str, ColumnElement[Any]] = {
        "series_id": series.c.id,
        "SOPInstanceUID": series.c.SeriesInstanceUID.concat(".").concat(k),
        "SOPClassUID": literal("1.2.840.10008.5.1.4.1.1.2"),
        "TransferSyntaxUID": literal("1.2.840.10008.1.2.1"),
        "InstanceNumber": k,
        "sha256": literal("0" * 51)
        .concat(cast(series.c.id + 1_000_000_000, String))
        .concat(cast(number.c.k + 100, String)),
        "Rows": literal(512),
        "Columns": literal(512),
        "BitsAllocated": literal(16),
        "generation": literal(1),
        "association_id": literal(1),
        "size": literal(500_000),
        "received_at": literal(at, Instant),
    }
    rows = (
        select(*columns.values()).select_from(series).join(number, true()).order_by(series.c.id, number.c.k)
    )
    tx.execute(insert(instance).from_select(list(columns), rows, include_defaults=False))


def _enter_results(tx: Transaction, chosen: list[Entry], at: datetime) -> None:
    """A job for the first series of each study, which made a Segmentation and a report."""
    numbers = range(1, len(chosen) + 1)
    for batch in _batches(_completion(number, at) for number in numbers):
        tx.execute(insert(completion), batch)
    for batch in _batches(_job(number, at) for number in numbers):
        tx.execute(insert(job), batch)
    for batch in _batches(
        _result(number, entry, place, role, at)
        for number, entry in enumerate(chosen, 1)
        for place, role in enumerate(("SEG", "SR"))
    ):
        tx.execute(insert(result), batch)


def _completion(number: int, at: datetime) -> dict[str, object]:
    return {
        "id": number,
        "series_id": (number - 1) * OF_STUDY + 1,
        "generation": 1,
        "reason": "quiet",
        "instance_count": OF_SERIES,
        "completed_at": at,
        "routed_at": at,
    }


def _job(number: int, at: datetime) -> dict[str, object]:
    return {
        "id": number,
        "key": str(number),
        "completion_id": number,
        "series_id": (number - 1) * OF_STUDY + 1,
        "generation": 1,
        "input_digest": "",
        "route": "bulk",
        "pipeline": "bulk",
        "pipeline_version": "1",
        "pipeline_digest": "",
        "priority": 0,
        "send_to": [],
        "state": "done",
        "fence": 1,
        "attempt": 1,
        "not_before": at,
        "created_at": at,
        "updated_at": at,
    }


def _result(number: int, entry: Entry, place: int, role: str, at: datetime) -> dict[str, object]:
    series_uid = entry.series(OF_STUDY + 1 + place)
    return {
        "job_id": number,
        "fence": 1,
        "listed": True,
        "ordinal": place,
        "role": role,
        "Modality": role,
        "SeriesNumber": str(9000 + place),
        "InstanceNumber": "1",
        "StudyInstanceUID": entry.uid,
        "SeriesInstanceUID": series_uid,
        "SOPClassUID": "1.2.840.10008.5.1.4.1.1.66.4",
        "SOPInstanceUID": f"{series_uid}.1",
        "TransferSyntaxUID": "1.2.840.10008.1.2.1",
        "sha256": "0" * 64,
        "size": 500_000,
        "created_at": at,
    }


def _batches(rows: Iterator[dict[str, object]]) -> Iterator[list[dict[str, object]]]:
    batch: list[dict[str, object]] = []
    for row in rows:
        batch.append(row)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
