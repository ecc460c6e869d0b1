"""What an administrator asks and orders."""

from __future__ import annotations

from collections.abc import Collection

from dicomnode.model.delivery import DeliveryState
from dicomnode.model.job import Job, JobState
from dicomnode.pipeline.registry import Registry
from dicomnode.store import audit, deliveries, jobs, overview
from dicomnode.store.database import Database
from dicomnode.store.overview import Record


def find_jobs(database: Database, states: tuple[JobState, ...], limit: int) -> list[Job]:
    """The jobs in any of `states` (all where empty), newest first."""
    with database.read() as tx:
        return jobs.find(tx, states, limit=limit)


def describe_job(database: Database, job_id: int) -> tuple[Job, Record]:
    """One job with its events, runs, results and deliveries. Raises NotFound."""
    with database.read() as tx:
        return jobs.get(tx, job_id), overview.job_history(tx, job_id)


def retry_job(database: Database, registry: Registry, job_id: int) -> None:
    """Raises NotFound, IllegalTransition."""
    with database.begin() as tx:
        pipeline = registry.get(jobs.get(tx, job_id).pipeline)
        jobs.retry(tx, job_id, pipeline.manifest.pipeline.version, pipeline.digest)
        audit.record(tx, "job_retried", {"job": job_id})


def release_job(database: Database, job_id: int) -> None:
    """Raises NotFound, IllegalTransition."""
    with database.begin() as tx:
        jobs.release(tx, job_id)
        audit.record(tx, "job_released", {"job": job_id})


def cancel_job(database: Database, job_id: int, reason: str) -> None:
    """Raises NotFound, IllegalTransition."""
    with database.begin() as tx:
        jobs.cancel(tx, job_id, reason)
        audit.record(tx, "job_cancelled", {"job": job_id, "reason": reason})


def find_deliveries(database: Database, states: tuple[DeliveryState, ...], limit: int) -> list[Record]:
    """The deliveries in any of `states` (all where empty), newest first."""
    with database.read() as tx:
        return overview.deliveries(tx, states, limit)


def retry_delivery(database: Database, delivery_id: int) -> None:
    """Raises NotFound, IllegalTransition."""
    with database.begin() as tx:
        deliveries.retry(tx, delivery_id)
        audit.record(tx, "delivery_retried", {"delivery": delivery_id})


def describe_all(database: Database, destinations: Collection[str]) -> Record:
    """How much there is, jobs and deliveries by their state, and what waits for none of `destinations`."""
    with database.read() as tx:
        return {**overview.counts(tx), "stranded": deliveries.stranded(tx, destinations)}


def describe_studies(database: Database, asked: str | None, limit: int) -> list[Record]:
    """Where a study is, step by step; `asked` is a UID, an accession number or a patient ID."""
    with database.read() as tx:
        return overview.studies(tx, asked, limit)
