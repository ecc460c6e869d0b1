"""What an administrator asks and orders."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict

from dicomnode.errors import IllegalTransition
from dicomnode.model.delivery import DeliveryState
from dicomnode.model.job import AWAITS_PRIORS, Job, JobEvent, JobState, advance
from dicomnode.model.prior import PRIOR_MISSING, waiting_for
from dicomnode.model.queue import Limit, Pause, PauseKind, Place, WorkerStatus, forecast
from dicomnode.model.room import DeviceStatus
from dicomnode.pipeline.registry import Registry
from dicomnode.services.frozen_input import freeze
from dicomnode.services.new_job import new_job
from dicomnode.services.routing import input_digest
from dicomnode.services.versions import active_version, priors_of
from dicomnode.store import (
    audit,
    catalog,
    comparisons,
    completions,
    deliveries,
    jobs,
    overview,
    pauses,
    priors,
    queue,
    room,
    workers,
)
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


def retry_job(database: Database, registry: Registry, job_id: int, actor: str) -> None:
    """With the version that is active now; a shadow with its own. Raises NotFound, IllegalTransition."""
    with database.begin() as tx:
        old = jobs.get(tx, job_id)
        version = old.version if old.shadow_of else active_version(tx, registry, old.pipeline)
        jobs.retry(tx, job_id, version.version, version.digest, actor)
        comparisons.forget(tx, job_id)
        if old.reason_code == PRIOR_MISSING:
            priors.seek_again(tx, job_id)
        if sought := priors.sought(tx, job_id):
            jobs.await_priors(tx, job_id, waiting_for(sought))
        audit.record(tx, "job_retried", {"job": job_id, "actor": actor})


def release_job(database: Database, job_id: int, actor: str) -> None:
    """A job that waits for priors goes on without those that are not here; one that was held for another
    reason waits for them first.

    Raises NotFound, IllegalTransition.
    """
    with database.begin() as tx:
        awaits = jobs.get(tx, job_id).reason_code == AWAITS_PRIORS
        if not awaits and (sought := priors.sought(tx, job_id)):
            jobs.await_priors(tx, job_id, waiting_for(sought))
        else:
            if priors.give_up(tx, job_id, "not waited for: an administrator released the job"):
                freeze(tx, job_id)
            jobs.release(tx, job_id, actor)
        audit.record(tx, "job_released", {"job": job_id, "actor": actor})


def hold_job(database: Database, job_id: int, reason: str, actor: str) -> None:
    """It waits until it is released; a run of it is cut. Raises NotFound, IllegalTransition."""
    with database.begin() as tx:
        jobs.hold(tx, job_id, reason, actor)
        audit.record(tx, "job_held", {"job": job_id, "reason": reason, "actor": actor})


def cancel_job(database: Database, job_id: int, reason: str, actor: str) -> None:
    """Raises NotFound, IllegalTransition."""
    with database.begin() as tx:
        jobs.cancel(tx, job_id, reason, actor)
        audit.record(tx, "job_cancelled", {"job": job_id, "reason": reason, "actor": actor})


def rerun_job(database: Database, registry: Registry, job_id: int, actor: str) -> int:
    """Do the work of a settled job once more, as a new generation; the new job's id.

    It runs with the version that is active now, and its results replace those of the earlier one.
    Raises NotFound, IllegalTransition, SeriesOpen.
    """
    with database.begin() as tx:
        old = jobs.get(tx, job_id)
        if old.shadow_of is not None:
            raise IllegalTransition("shadow", JobEvent.RERUN)
        advance(old.state, JobEvent.RERUN)
        version = active_version(tx, registry, old.pipeline)
        completion = completions.complete_again(tx, old.series_id, f"job {job_id} is done once more")
        instances = catalog.input_set(tx, completion.series_id, completion.generation)
        older = (completion.series_id, completion.generation, old.pipeline)
        jobs.cancel_superseded(tx, *older)
        deliveries.supersede(tx, *older)
        new = new_job(
            completion,
            input_digest(instances),
            version,
            route=old.route,
            priority=old.priority,
            send_to=old.send_to,
            notify=old.notify,
            priors=priors_of(registry, version),
        )
        again = jobs.add(tx, new)
        note = f"job {job_id} once more"
        jobs.add_routing(tx, completion.id, old.route, matched=True, note=note, job_id=again)
        jobs.note_rerun(tx, job_id, again, actor)
        audit.record(tx, "job_rerun", {"job": job_id, "again": again, "actor": actor})
    return again


def pause(database: Database, kind: PauseKind, name: str, reason: str, actor: str) -> None:
    """Claim nothing more of a pipeline or a route, or by a worker."""
    with database.begin() as tx:
        pauses.add(tx, kind, name, reason, actor)


def resume(database: Database, kind: PauseKind, name: str, actor: str) -> None:
    """Raises NotFound where it is not paused."""
    with database.begin() as tx:
        pauses.remove(tx, kind, name, actor)


def find_pauses(database: Database) -> list[Pause]:
    """What is paused, the oldest first."""
    with database.read() as tx:
        return pauses.find(tx)


def find_workers(database: Database) -> list[WorkerStatus]:
    """The workers that are there."""
    with database.read() as tx:
        return workers.find(tx)


def find_devices(database: Database) -> list[DeviceStatus]:
    """The devices that workers run on: `cpu` is each machine's own memory."""
    with database.read() as tx:
        return room.devices(tx)


def describe_queue(database: Database, limits: Sequence[Limit]) -> dict[int, Place]:
    """The place of each job that waits or runs, and when its results can be expected."""
    with database.read() as tx:
        return forecast(queue.facts(tx, limits))


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
    """How much there is by its state, what waits for none of `destinations`, and what is paused."""
    with database.read() as tx:
        return {
            **overview.counts(tx),
            "stranded": deliveries.stranded(tx, destinations),
            "paused": [asdict(pause) for pause in pauses.find(tx)],
            "devices": [asdict(device) for device in room.devices(tx)],
        }


def describe_studies(
    database: Database, asked: str | None, limit: int, limits: Sequence[Limit] = ()
) -> list[Record]:
    """Where a study is, step by step; `asked` is a UID, an accession number or a patient ID.

    A job that waits or runs has its place in the queue, and when its results can be expected.
    """
    with database.read() as tx:
        found = overview.studies(tx, asked, limit)
        places = forecast(queue.facts(tx, limits))
    for series in (series for study in found for series in study["series"]):
        for job in series["jobs"]:
            job.update(asdict(places.get(job["id"], Place(None, None, ""))))
    return found
