"""What the active version and one in its shadow made of the same series: one row a shadow job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, exists, insert, or_, select, update

from dicomnode.model.job import SETTLED, Job
from dicomnode.store import jobs
from dicomnode.store.clock import Now
from dicomnode.store.database import Transaction
from dicomnode.store.schema import comparison, job, series

Found = Mapping[str, Any]
"""A comparison as `model.comparison` writes it."""
_active, _beside = job.alias("active_job"), job.alias("shadow_job")


@dataclass(frozen=True, slots=True)
class Due:
    """Two settled jobs on the same series that nobody has compared."""

    id: int
    job: Job
    shadow: Job


@dataclass(frozen=True, slots=True)
class Compared:
    """A comparison with the jobs and the versions that it is about; `found` is None until both are done."""

    job_id: int
    shadow_id: int
    SeriesInstanceUID: str
    active_version: str
    active_digest: str
    shadow_version: str
    shadow_digest: str
    found: Found | None


def add(tx: Transaction, job_id: int, shadow_id: int) -> None:
    """A shadow job is to be compared with the job beside which it runs; known ones are left alone."""
    known = select(comparison.c.id).where(comparison.c.shadow_id == shadow_id)
    if tx.execute(known).first() is None:
        tx.execute(insert(comparison).values(job_id=job_id, shadow_id=shadow_id))


def next_due(tx: Transaction) -> Due | None:
    """What can be compared and was not for the longest, or None; locks nothing."""
    row = tx.execute(
        select(comparison.c.id, comparison.c.job_id, comparison.c.shadow_id)
        .where(comparison.c.compared_at.is_(None), _both_settled())
        .order_by(comparison.c.id)
        .limit(1)
    ).first()
    return None if row is None else Due(row.id, jobs.get(tx, row.job_id), jobs.get(tx, row.shadow_id))


def settle(tx: Transaction, due: Due, found: Found) -> bool:
    """Write down what was found, unless one of the jobs has moved since it was read."""
    unmoved = (
        exists().where(job.c.id == each.id, job.c.fence == each.fence, job.c.state == each.state)
        for each in (due.job, due.shadow)
    )
    still = (comparison.c.id == due.id, comparison.c.compared_at.is_(None), *unmoved)
    return (
        tx.execute(update(comparison).where(*still).values(compared_at=Now(), found=dict(found))).rowcount > 0
    )


def forget(tx: Transaction, job_id: int) -> None:
    """A job begins again: what was found of its last end does not count."""
    about = or_(comparison.c.job_id == job_id, comparison.c.shadow_id == job_id)
    tx.execute(update(comparison).where(about).values(compared_at=None, found=None))


def find(
    tx: Transaction,
    pipeline: str,
    version: str | None = None,
    SeriesInstanceUID: str | None = None,
    limit: int = 10_000,
) -> list[Compared]:
    """The comparisons of a pipeline's shadow versions, or of one of them, the newest first."""
    query = (
        select(
            comparison.c.job_id,
            comparison.c.shadow_id,
            comparison.c.found,
            series.c.SeriesInstanceUID,
            _active.c.pipeline_version.label("active_version"),
            _active.c.pipeline_digest.label("active_digest"),
            _beside.c.pipeline_version.label("shadow_version"),
            _beside.c.pipeline_digest.label("shadow_digest"),
        )
        .join_from(comparison, _active, _active.c.id == comparison.c.job_id)
        .join(_beside, _beside.c.id == comparison.c.shadow_id)
        .join(series, series.c.id == _beside.c.series_id)
        .where(_beside.c.pipeline == pipeline)
        .order_by(comparison.c.id.desc())
        .limit(limit)
    )
    if version is not None:
        query = query.where(_beside.c.pipeline_version == version)
    if SeriesInstanceUID is not None:
        query = query.where(series.c.SeriesInstanceUID == SeriesInstanceUID)
    return [Compared(**row) for row in tx.execute(query).mappings()]


def _both_settled() -> ColumnElement[bool]:
    return exists().where(
        _active.c.id == comparison.c.job_id,
        _active.c.state.in_(SETTLED),
        _beside.c.id == comparison.c.shadow_id,
        _beside.c.state.in_(SETTLED),
    )
