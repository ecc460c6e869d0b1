"""Jobs in the shadow of others: another version on the same input, only to be compared."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import structlog

from dicomnode.errors import NotFound, StoreError
from dicomnode.model.instance import Completion
from dicomnode.model.job import Job, NewJob, Priority
from dicomnode.model.queue import Limit
from dicomnode.model.version import is_in_share
from dicomnode.pipeline.registry import Registry
from dicomnode.services.new_job import new_job
from dicomnode.services.versions import priors_of
from dicomnode.store import comparisons, jobs, leases, versions
from dicomnode.store.database import Database, Transaction

log = structlog.get_logger()

SHADOW_RESTS_S = 10.0
"""A shadow's run that was cut for another job is not begun again before."""
_LOOK_S = 0.25
_WAITED_S = 0.25
"""A worker that is free takes what waits sooner than this."""
SHADOW = "shadow"
"""What its key has, so that the same version may be active on the same series, too."""


def add_shadows(
    tx: Transaction, registry: Registry, completion: Completion, job_id: int, job: NewJob
) -> None:
    """Beside a job that was just added: one for each version that is in the shadow of its pipeline.

    None where the study names two patients: an administrator has to look at the job itself first.
    """
    if completion.patient_conflict:
        return
    for shadow in versions.shadows(tx, job.pipeline):
        chosen = is_in_share(completion.SeriesInstanceUID, shadow.percent)
        if not chosen or shadow.version.digest == job.pipeline_digest:
            continue
        try:
            registry.pinned(shadow.version.pipeline, shadow.version.digest)
        except NotFound:
            log.warning("shadow.not_installed", pipeline=job.pipeline, version=shadow.version.version)
            continue
        beside = new_job(
            completion,
            job.input_digest,
            shadow.version,
            route=job.route,
            priority=Priority.LOW,
            priors=priors_of(registry, shadow.version),
            order=SHADOW,
            shadow_of=job_id,
        )
        comparisons.add(tx, job_id, jobs.add(tx, beside))


def giving_way(database: Database, job: Job, owner: str, limits: Sequence[Limit]) -> Callable[[], bool]:
    """Asked while a run of `job` goes on: true where it is a shadow and another job waits for the slot."""
    if job.shadow_of is None:
        return lambda: False
    looked = time.monotonic()

    def gives_way() -> bool:
        nonlocal looked
        if time.monotonic() - looked < _LOOK_S:
            return False
        looked = time.monotonic()
        try:
            with database.read() as tx:
                return leases.others_wait(tx, owner, limits, _WAITED_S)
        except StoreError:
            return False

    return gives_way
