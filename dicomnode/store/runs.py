"""What each attempt at a job took, and how it ended."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import insert, select

from dicomnode.errors import RunOutOfMemory
from dicomnode.model.job import Job
from dicomnode.model.room import Peak
from dicomnode.store import bundles
from dicomnode.store.clock import Elapsed, Now
from dicomnode.store.database import Transaction
from dicomnode.store.schema import run

# Made once: to make a statement takes longer than to run it, and this one runs for each job.
_RUN = insert(run).values(ended_at=Now())


def add(
    tx: Transaction,
    job_: Job,
    worker: str,
    outcome: str,
    timings: Mapping[str, float],
    peak: Peak | None = None,
) -> None:
    """Write down the attempt that began with the claim of `job_`: by whom, how it ended, seconds by stage.

    Its peak of memory corrects what jobs of the bundle are taken to need; one that had too little of it
    counts as if it had needed all that the bundle declares.

    One of a shadow is counted under no pipeline and no route: it uses up nobody's hour, and tells nothing of
    how long the active version takes.
    """
    counted = job_.shadow_of is None
    if outcome == RunOutOfMemory.code:
        peak = bundles.declared(tx, job_.pipeline_digest)
    tx.execute(
        _RUN,
        {
            "job_id": job_.id,
            "fence": job_.fence,
            "pipeline": job_.pipeline if counted else "",
            "route": job_.route if counted else "",
            "worker": worker,
            "started_at": job_.updated_at,
            "outcome": outcome,
            "timings": dict(timings),
            "pipeline_digest": job_.pipeline_digest,
            "memory_mb": None if peak is None else peak.host_mb,
            "gpu_memory_mb": None if peak is None else peak.device_mb,
        },
    )
    if peak is not None:
        bundles.correct(tx, job_.pipeline_digest)


def seconds(tx: Transaction, job_id: int) -> float | None:
    """How long the last attempt at a job took, from its claim to its end; None where there was none."""
    took = select(Elapsed(run.c.started_at, run.c.ended_at)).where(run.c.job_id == job_id)
    last = tx.execute(took.order_by(run.c.id.desc()).limit(1)).scalar()
    return None if last is None else float(last)


def ran_out_of_memory(tx: Transaction, job_id: int) -> bool:
    """True where an attempt at a job needed more memory than there was: the next one is to be frugal."""
    short = select(run.c.id).where(run.c.job_id == job_id, run.c.outcome == RunOutOfMemory.code)
    return tx.execute(short.limit(1)).first() is not None
