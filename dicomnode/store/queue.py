"""What stands between a job and a worker: limits, and all of the queue for a forecast."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from statistics import median
from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, select

from dicomnode.model.queue import Lane, Limit, PauseKind, Queued, QueueFacts, strictest
from dicomnode.store import pauses, workers
from dicomnode.store.clock import Elapsed, Now, read_clock
from dicomnode.store.database import Transaction
from dicomnode.store.schema import JOB_RUNS, JOB_WAITS, RUN_DONE, job, run

HOUR_S = 3600.0
MEASURED_RUNS = 20
"""A forecast rests on the median of so many runs of a pipeline, the last ones."""
CLAIMS_LOCK = 0x6469636F
"""Claims that look at limits take turns under this number (PostgreSQL; in SQLite all writers do)."""


def exhausted(tx: Transaction, limits: Sequence[Limit]) -> frozenset[Lane]:
    """The lanes of which nothing more may run now; nobody else claims until the transaction ends."""
    if limits and tx.dialect.name == "postgresql":
        tx.execute(select(func.pg_advisory_xact_lock(CLAIMS_LOCK)))
    return _exhausted(tx, limits)


def _exhausted(tx: Transaction, limits: Sequence[Limit]) -> frozenset[Lane]:
    return frozenset(limit.lane for limit in limits if _is_exhausted(tx, limit))


def _is_exhausted(tx: Transaction, limit: Limit) -> bool:
    return (limit.at_once is not None and _running(tx, limit.lane) >= limit.at_once) or (
        limit.seconds_an_hour is not None and used_s(tx, limit.lane) >= limit.seconds_an_hour
    )


def in_lane(table: Any, lanes: Collection[Lane], kind: PauseKind) -> ColumnElement[bool]:
    """The rows of `job` or `run` that belong to one of the lanes of that kind."""
    column: ColumnElement[str] = table.c[kind.value]
    return column.in_(sorted(name for of_kind, name in lanes if of_kind is kind))


def _running(tx: Transaction, lane: Lane) -> int:
    of_lane = and_(JOB_RUNS, job.c.shadow_of.is_(None), in_lane(job, [lane], lane[0]))
    return int(tx.execute(select(func.count()).select_from(job).where(of_lane)).scalar_one())


def used_s(tx: Transaction, lane: Lane) -> float:
    """Seconds of slots that the lane has had within the last hour, what runs now included."""
    hour_ago = Now(-HOUR_S)
    began = case((run.c.started_at < hour_ago, hour_ago), else_=run.c.started_at)
    ended = tx.execute(
        select(func.coalesce(func.sum(Elapsed(began, run.c.ended_at)), 0.0)).where(
            run.c.ended_at > hour_ago, in_lane(run, [lane], lane[0])
        )
    ).scalar_one()
    claimed = case((job.c.updated_at < hour_ago, hour_ago), else_=job.c.updated_at)
    running = tx.execute(
        select(func.coalesce(func.sum(Elapsed(claimed, Now())), 0.0)).where(
            JOB_RUNS, job.c.shadow_of.is_(None), in_lane(job, [lane], lane[0])
        )
    ).scalar_one()
    return float(ended) + float(running)


def facts(tx: Transaction, limits: Sequence[Limit]) -> QueueFacts:
    """All that a forecast rests on."""
    taking = {each.name for each in workers.find(tx) if not each.draining}
    jobs = [*_jobs(tx, taking, running=True), *_jobs(tx, taking, running=False)]
    return QueueFacts(
        now=read_clock(tx),
        jobs=jobs,
        slots=len(taking),
        run_s=_run_s(tx, {each.pipeline for each in jobs}),
        paused=frozenset((each.kind, each.name) for each in pauses.find(tx)),
        exhausted=_exhausted(tx, [limit for limit in limits if limit.seconds_an_hour is not None]),
        at_once=strictest(limits),
    )


def _jobs(tx: Transaction, taking: Collection[str], *, running: bool) -> list[Queued]:
    """The jobs that run, or wait; the slots of the workers `taking` others get another one after it."""
    rows = tx.execute(
        select(job.c.id, job.c.pipeline, job.c.route, job.c.updated_at, job.c.not_before, job.c.lease_owner)
        .where(JOB_RUNS if running else JOB_WAITS)
        .order_by(job.c.urgent_at, job.c.id)
    )
    return [
        Queued(
            *row[:3],
            running=running,
            since=row.updated_at,
            not_before=row.not_before,
            slot_stays=not running or row.lease_owner in taking,
        )
        for row in rows
    ]


def _run_s(tx: Transaction, pipelines: Collection[str]) -> dict[str, float]:
    """The median seconds of the last runs that were done, by pipeline; none where there was no such run."""
    measured = {}
    for pipeline in sorted(pipelines):
        seconds = (
            tx.execute(
                select(Elapsed(run.c.started_at, run.c.ended_at))
                .where(run.c.pipeline == pipeline, RUN_DONE)
                .order_by(run.c.id.desc())
                .limit(MEASURED_RUNS)
            )
            .scalars()
            .all()
        )
        if seconds:
            measured[pipeline] = float(median(map(float, seconds)))
    return measured
