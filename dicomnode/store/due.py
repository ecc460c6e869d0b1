"""Which job is next: the statements that find the most urgent one that may run, and that lease it.

They are made once: to make a statement takes longer than to run it.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Float,
    Select,
    Text,
    bindparam,
    exists,
    insert,
    literal,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.sql.dml import ReturningUpdate

from dicomnode.model.job import JobEvent, JobState
from dicomnode.model.queue import PauseKind
from dicomnode.store.clock import Elapsed, Now
from dicomnode.store.schema import (
    JOB_WAITS,
    Instant,
    bundle,
    job,
    job_event,
    pause,
    series,
    stated,
    study,
    worker,
)

LANES = (PauseKind.PIPELINE, PauseKind.ROUTE)


def paused(kind: PauseKind) -> Select[tuple[str]]:
    """The names that are paused of a kind."""
    return select(pause.c.name).where(pause.c.kind == stated(kind))


def _of_bundle(megabytes: Any) -> ColumnElement[int]:
    found = select(megabytes).where(bundle.c.pipeline_digest == job.c.pipeline_digest)
    return found.correlate(job).scalar_subquery()


HOST_MB = _of_bundle(bundle.c.memory_mb)
"""The memory of a machine that a job needs; NULL, and nobody takes it, while nobody has said so."""
DEVICE_MB = _of_bundle(bundle.c.gpu_memory_mb)
"""The same of a GPU."""

# One scan of ix_job_waiting, from its most urgent end.
_DUE = (
    select(job.c.id)
    .where(
        JOB_WAITS,
        job.c.not_before <= Now(),
        or_(job.c.deadline_at.is_(None), job.c.deadline_at > Now()),
        *(job.c[kind.value].not_in(paused(kind)) for kind in LANES),
        bindparam("owner", type_=Text).not_in(paused(PauseKind.WORKER)),
    )
    .order_by(job.c.urgent_at, job.c.id)
    .limit(literal_column("1"))
)
_WITHIN = [job.c[kind.value].not_in(bindparam(f"spent_{kind}", expanding=True)) for kind in LANES]
_SIZED = [bindparam("most_host_mb") >= HOST_MB, bindparam("most_device_mb") >= DEVICE_MB]
_ROOMY = [bindparam("free_host_mb") >= HOST_MB, bindparam("free_device_mb") >= DEVICE_MB]
# What the slot holds for its warm model is enough: nobody else has to be looked at.
_AT_HOME = exists().where(
    worker.c.name == bindparam("owner"),
    worker.c.pipeline_digest == job.c.pipeline_digest,
    ~worker.c.leaving,
    worker.c.held_host_mb >= HOST_MB,
    worker.c.held_device_mb >= DEVICE_MB,
)
_WARM = [
    job.c.pipeline_digest == bindparam("of_digest"),
    job.c.priority == bindparam("of_rank"),
    job.c.urgent_at <= bindparam("come_by", type_=Instant),
]


@cache
def due(*, within: bool = False, sized: bool = False, warm: bool = False) -> Select[tuple[int]]:
    """The most urgent job that may run: `within` the limits, `sized` for a machine, of a `warm` model."""
    conditions = [*(_WITHIN if within else ()), *(_SIZED if sized else ()), *(_WARM if warm else ())]
    return _DUE.where(*conditions)


@cache
def first(*, within: bool = False, sized: bool = False) -> Select[Any]:
    """What is to be known of it before it is claimed."""
    return due(within=within, sized=sized).with_only_columns(
        job.c.pipeline_digest,
        job.c.priority,
        job.c.urgent_at,
        Elapsed(job.c.not_before, Now()).label("waited_s"),
        HOST_MB.label("host_mb"),
        DEVICE_MB.label("device_mb"),
    )


@cache
def leasing(
    *, within: bool = False, sized: bool = False, warm: bool = False, at_home: bool = False
) -> ReturningUpdate[Any]:
    """Lease it; `sized`, only if it fits into what is free, `at_home`, if into what the slot holds."""
    found = due(within=within, sized=sized, warm=warm).with_for_update(skip_locked=True, of=job)
    return (
        update(job)
        .where(
            job.c.id == found.scalar_subquery(), *(_ROOMY if sized else ()), *([_AT_HOME] if at_home else ())
        )
        .values(
            state=JobState.LEASED,
            fence=job.c.fence + 1,
            attempt=job.c.attempt + 1,
            lease_owner=bindparam("owner"),
            lease_expires_at=Now(bindparam("lease_s", type_=Float)),
            reason_code=None,
            reason=None,
            updated_at=Now(),
        )
        .returning(job)
    )


@cache
def claiming(
    dialect: str, *, within: bool = False, sized: bool = False, warm: bool = False, at_home: bool = False
) -> ReturningUpdate[Any] | Select[Any]:
    """As `leasing`; on PostgreSQL one statement also writes the event, and tells of what study the job is.

    The way to the database and back costs more than what is done there.
    """
    update_ = leasing(within=within, sized=sized, warm=warm, at_home=at_home)
    if dialect != "postgresql":
        return update_
    leased = update_.cte("leased")
    given: dict[str, Any] = {
        "job_id": leased.c.id,
        "event": literal(JobEvent.CLAIM, Text),
        "state": leased.c.state,
        "fence": leased.c.fence,
        "at": leased.c.updated_at,
        "detail": bindparam("owner", type_=Text),
    }
    event = insert(job_event).from_select(list(given), select(*given.values()))
    return (
        select(leased, series.c.SeriesInstanceUID, study.c.StudyInstanceUID)
        .join_from(leased, series, series.c.id == leased.c.series_id)
        .join(study, study.c.id == series.c.study_id)
        .add_cte(event.cte("noted"))
    )
