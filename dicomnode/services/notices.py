"""Destinations are told that a pipeline did not run, and why: absence must never be read as negative."""

from __future__ import annotations

from dataclasses import replace

import structlog

from dicomnode.config import Config
from dicomnode.errors import NotFound, Refused
from dicomnode.imaging.headers import read_headers
from dicomnode.model.job import Job
from dicomnode.model.manifest import Manifest
from dicomnode.pipeline.registry import Registry
from dicomnode.results.notice import encode_notice
from dicomnode.services.origin import origin_of
from dicomnode.services.outbox import Forms, enqueue, keep, profiles_of
from dicomnode.services.succession import withdraw
from dicomnode.store import catalog, jobs, results
from dicomnode.store.clock import read_clock
from dicomnode.store.database import Database
from dicomnode.store.object_store import Objects

log = structlog.get_logger()


class NoticeService:
    """Tells the destinations of each job that is dead, refused or held by a gate, once."""

    def __init__(self, database: Database, objects: Objects, registry: Registry, config: Config) -> None:
        self._database, self._objects = database, objects
        self._registry, self._config = registry, config

    def tick(self) -> int:
        """Tell what is due; returns how many jobs there were."""
        told = 0
        while self._tell_next():
            told += 1
        return told

    def _tell_next(self) -> bool:
        with self._database.read() as tx:
            job = jobs.next_notice(tx)
        if job is None:
            return False
        kept = keep(self._objects, self._forms(job)) if job.notify else []
        with self._database.begin() as tx:
            result_ids = jobs.give_notice(tx, job, [each.stored for each in kept])
            if result_ids:
                enqueue(tx, result_ids, kept, job.notify, self._config.profile_of)
        log.info("job.noticed", job=job.id, code=job.reason_code, results=len(result_ids))
        return True

    def _forms(self, job: Job) -> Forms:
        """The notice for each profile; none where it is not known whose series it is."""
        with self._database.read() as tx:
            instances = catalog.input_set(tx, job.series_id, job.generation)
            earlier = results.offered(tx, job)
            origin = origin_of(tx, self._config, job, read_clock(tx))
            in_doubt = catalog.names_two_patients(tx, job.series_id)
        if in_doubt:
            return {}
        # A job that is started again may end without a result again: that is another notice.
        origin = replace(origin, job_key=f"{job.key} {job.fence}")
        try:
            header = read_headers([self._objects.path(instances[0].sha256)])[0]
        except (Refused, OSError) as error:
            log.error("notice.unreadable", job=job.id, error=type(error).__name__)
            return {}
        code, reason = job.reason_code or "UNKNOWN", job.reason or "no reason was recorded"
        manifest = self._manifest(job)
        return {
            profile: (
                *withdraw(earlier, header, origin, profile),
                *encode_notice([header], manifest, origin, code, reason, profile, job.pipeline),
            )
            for profile in profiles_of(job.notify, self._config.profile_of)
        }

    def _manifest(self, job: Job) -> Manifest | None:
        try:
            return self._registry.pinned(job.pipeline, job.pipeline_digest).manifest
        except NotFound:
            return None
