"""What jobs yielded. A row here never changes: its bytes are fixed with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from sqlalchemy import and_, exists, func, insert, select

from dicomnode.model.instance import StoredObject
from dicomnode.model.job import Job
from dicomnode.model.result import EncodedResult, ResultReference, ResultRole
from dicomnode.store.clock import Now
from dicomnode.store.database import Transaction
from dicomnode.store.schema import delivery, job, result

Stored: TypeAlias = tuple[EncodedResult, StoredObject]
"""A result, and where its bytes were kept."""


def add(tx: Transaction, job_id: int, made: Sequence[Stored]) -> list[int]:
    """Insert the results of one run, in their order; returns their ids."""
    first = tx.execute(select(func.count(result.c.id)).where(result.c.job_id == job_id)).scalar_one()
    return [
        int(
            tx.execute(
                insert(result)
                .values(
                    job_id=job_id,
                    ordinal=ordinal,
                    role=encoded.role,
                    StudyInstanceUID=encoded.StudyInstanceUID,
                    SeriesInstanceUID=encoded.SeriesInstanceUID,
                    SOPClassUID=encoded.SOPClassUID,
                    SOPInstanceUID=encoded.SOPInstanceUID,
                    TransferSyntaxUID=encoded.TransferSyntaxUID,
                    sha256=stored.sha256,
                    size=stored.size,
                    created_at=Now(),
                )
                .returning(result.c.id)
            ).scalar_one()
        )
        for ordinal, (encoded, stored) in enumerate(made, first)
    ]


def offered(tx: Transaction, job_: Job) -> list[ResultReference]:
    """What earlier runs on this series by this pipeline yielded, may have reached a destination, and was not
    withdrawn since, oldest first."""
    same_work = and_(
        job.c.series_id == job_.series_id,
        job.c.pipeline == job_.pipeline,
        job.c.generation <= job_.generation,
    )
    withdrawn = (
        select(func.coalesce(func.max(result.c.id), 0))
        .join_from(result, job)
        .where(same_work, result.c.role == ResultRole.WITHDRAWAL)
        .scalar_subquery()
    )
    rows = tx.execute(
        select(result)
        .join_from(result, job)
        .where(
            same_work,
            result.c.id > withdrawn,
            exists().where(delivery.c.result_id == result.c.id, delivery.c.fence > 0),
        )
        .order_by(result.c.id)
    ).all()
    return [
        ResultReference(
            ResultRole(row.role),
            row.StudyInstanceUID,
            row.SeriesInstanceUID,
            row.SOPClassUID,
            row.SOPInstanceUID,
        )
        for row in rows
    ]
