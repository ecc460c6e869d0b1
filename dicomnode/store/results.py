"""What jobs yielded. A row here never changes: its bytes are fixed with it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from sqlalchemy import and_, exists, func, insert, select

from dicomnode.model.instance import StoredObject
from dicomnode.model.job import Job, Lease
from dicomnode.model.result import ResultInstance, ResultReference, ResultRole
from dicomnode.store.clock import Now
from dicomnode.store.database import Transaction
from dicomnode.store.schema import delivery, job, result

Stored: TypeAlias = tuple[ResultInstance, StoredObject]
"""A result, and where its bytes were kept."""


def add(tx: Transaction, lease: Lease, made: Sequence[Stored]) -> list[int]:
    """Insert the results of one run, or of one notice, in their order; returns their ids."""
    first = tx.execute(select(func.count(result.c.id)).where(result.c.job_id == lease.id)).scalar_one()
    return [
        int(
            tx.execute(
                insert(result)
                .values(
                    job_id=lease.id,
                    fence=lease.fence,
                    ordinal=ordinal,
                    role=instance.role,
                    StudyInstanceUID=instance.StudyInstanceUID,
                    SeriesInstanceUID=instance.SeriesInstanceUID,
                    SOPClassUID=instance.SOPClassUID,
                    SOPInstanceUID=instance.SOPInstanceUID,
                    TransferSyntaxUID=instance.TransferSyntaxUID,
                    sha256=stored.sha256,
                    size=stored.size,
                    created_at=Now(),
                    listed=instance.listed and instance.role is not ResultRole.WITHDRAWAL,
                    **instance.searched,
                )
                .returning(result.c.id)
            ).scalar_one()
        )
        for ordinal, (instance, stored) in enumerate(made, first)
    ]


def of_job(tx: Transaction, job_id: int) -> list[tuple[ResultRole, str]]:
    """The role of each result of a job, and the digest of its bytes, in their order."""
    rows = tx.execute(
        select(result.c.role, result.c.sha256).where(result.c.job_id == job_id).order_by(result.c.ordinal)
    )
    return [(ResultRole(row.role), row.sha256) for row in rows]


def offered(tx: Transaction, job_: Job) -> list[ResultReference]:
    """What earlier runs on this series by this pipeline yielded, may have reached a destination, and was not
    withdrawn since, oldest first. A shadow takes nothing's place: of it there is none."""
    if job_.shadow_of is not None:
        return []
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
