"""A worker: claims a job, runs it in a child process under a lease, and ends it."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType

import structlog

from dicomnode import __version__
from dicomnode.config import Config
from dicomnode.errors import (
    DicomnodeError,
    DiskFailed,
    GateFailed,
    InputChanged,
    LeaseLost,
    NotFound,
    PipelineChanged,
    Refused,
    RunCancelled,
    RunError,
    StorageFailed,
)
from dicomnode.model.instance import StoredObject
from dicomnode.model.job import Job
from dicomnode.model.result import EncodedResult
from dicomnode.pipeline.registry import InstalledPipeline, Registry
from dicomnode.pipeline.runner import Runner
from dicomnode.results.provenance import Provenance
from dicomnode.services.heartbeat import Heartbeat
from dicomnode.services.inference import Inference, infer
from dicomnode.services.routing import input_digest
from dicomnode.store import catalog, deliveries, jobs
from dicomnode.store.clock import read_clock
from dicomnode.store.database import Database, Transaction
from dicomnode.store.identity import installation_uid
from dicomnode.store.objects import ObjectStore

log = structlog.get_logger()


SERIES_NUMBERS = 20
"""Each job of a study has this many SeriesNumbers to itself."""
END_AGAIN_S = 0.5


def provenance_of(
    config: Config,
    installation: str,
    job_key: str,
    pipeline: InstalledPipeline,
    at: datetime,
    place: int = 0,
) -> Provenance:
    """What the results of a job say of their origin; `place` is the job's among those of its study."""
    return Provenance(
        installation=installation,
        job_key=job_key,
        pipeline_digest=pipeline.digest,
        manufacturer=config.results.manufacturer,
        model_name="dicomnode",
        software_version=__version__,
        device_serial_number=config.results.device_serial_number,
        research_only=config.results.research_only,
        series_number_base=config.results.series_number + SERIES_NUMBERS * place,
        produced_at=at,
    )


class Worker:
    """One slot: at most one job at a time, and one warm model, kept until another is needed."""

    def __init__(
        self, database: Database, objects: ObjectStore, registry: Registry, config: Config, name: str
    ) -> None:
        self._database, self._objects, self._registry = database, objects, registry
        self._config, self._name = config, name
        # By process: a worker of the same name may still be ending.
        self._scratch = config.node.data / "scratch" / f"{name}-{os.getpid()}"
        self._runner: Runner | None = None

    def tick(self, stop: threading.Event) -> bool:
        """Claim one job and bring it to an end; False where none was due.

        When `stop` is set during the run, the run is cut and the job handed back.
        """
        with self._database.begin() as tx:
            job = jobs.claim(tx, self._name, self._config.workers.lease_s)
            started_at = read_clock(tx)
        if job is None:
            return False
        log.info("job.claimed", job=job.id, attempt=job.attempt, pipeline=job.pipeline)
        with Heartbeat(lambda: self._extend(job), self._config.workers.lease_s / 3) as heartbeat:
            try:
                self._work(job, started_at, lambda: stop.is_set() or heartbeat.lost.is_set())
            except LeaseLost:
                log.warning("job.lease_lost", job=job.id)
        return True

    def _extend(self, job: Job) -> None:
        with self._database.begin() as tx:
            jobs.extend(tx, job.lease, self._config.workers.lease_s)

    def _work(self, job: Job, started_at: datetime, cancelled: Callable[[], bool]) -> None:
        try:
            inference = self._infer(job, started_at, cancelled)
            stored = [self._keep(encoded) for encoded in inference.results]
        except RunCancelled:
            self._end(job, started_at, "handed_back", lambda tx: jobs.hand_back(tx, job.lease))
        except Refused as refused:
            code, reason = refused.code, refused.reason
            self._end(job, started_at, code, lambda tx: jobs.refuse(tx, job.lease, code, reason))
        except _Permanent as error:
            code, reason = error.code, str(error)
            self._end(job, started_at, code, lambda tx: jobs.give_up(tx, job.lease, code, reason))
        except GateFailed as error:
            code, reason = error.code, str(error)
            self._end(job, started_at, code, lambda tx: jobs.hold(tx, job.lease, code, reason))
        except (LeaseLost, DiskFailed):
            raise
        except Exception as error:  # the edge of a run: every failure becomes a row
            code = error.code if isinstance(error, RunError) else type(error).__name__
            reason = str(error) if isinstance(error, DicomnodeError) else "unexpected error, see the log"
            if not isinstance(error, DicomnodeError):
                log.exception("job.failed", job=job.id)
            self._fail(job, started_at, code, reason)
        else:
            self._end(job, started_at, "done", lambda tx: _finish(tx, job, stored), inference.timings)

    def _infer(self, job: Job, started_at: datetime, cancelled: Callable[[], bool]) -> Inference:
        pipeline = self._pinned(job)
        with self._database.read() as tx:
            instances = catalog.input_set(tx, job.series_id, job.generation)
            place = jobs.place_in_study(tx, job)
            installation = installation_uid(tx)
        if input_digest(instances) != job.input_digest:
            raise InputChanged
        if not all(self._objects.intact(ref.sha256) for ref in instances):
            raise InputChanged
        paths = [self._objects.path(ref.sha256) for ref in instances]
        provenance = provenance_of(self._config, installation, job.key, pipeline, started_at, place)
        return infer(paths, pipeline, self._warm(pipeline), provenance, cancelled)

    def _keep(self, encoded: EncodedResult) -> tuple[EncodedResult, StoredObject]:
        return encoded, self._objects.put(encoded.data)

    def _pinned(self, job: Job) -> InstalledPipeline:
        try:
            pipeline = self._registry.get(job.pipeline)
        except NotFound:
            raise PipelineChanged(job.pipeline) from None
        if pipeline.digest != job.pipeline_digest:
            raise PipelineChanged(job.pipeline)
        return pipeline

    def _warm(self, pipeline: InstalledPipeline) -> Runner:
        if self._runner is not None and self._runner.pipeline.digest != pipeline.digest:
            self.close()
        if self._runner is None:
            self._runner = Runner(
                pipeline,
                self._config.workers.device,
                self._scratch,
                start_limit_s=self._config.workers.start_limit_s,
                recycle_after=self._config.workers.recycle_after,
            )
        return self._runner

    def _fail(self, job: Job, started_at: datetime, code: str, reason: str) -> None:
        settings = self._config.jobs

        def fail(tx: Transaction) -> None:
            jobs.fail(tx, job.lease, code, reason, attempts=settings.attempts, backoff_s=settings.backoff_s)

        self._end(job, started_at, code, fail)

    def _end(
        self,
        job: Job,
        started_at: datetime,
        outcome: str,
        transition: Callable[[Transaction], None],
        timings: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """The transition, and the row that tells of this attempt, in one transaction.

        A database that is away for a moment does not cost the run: it is asked until the lease would be over.
        """

        def end() -> None:
            with self._database.begin() as tx:
                transition(tx)
                jobs.add_run(tx, job.lease, self._name, started_at, outcome, timings)

        deadline = time.monotonic() + self._config.workers.lease_s
        while not self._ended(end, deadline):
            time.sleep(END_AGAIN_S)
        log.info("job.ended", job=job.id, attempt=job.attempt, outcome=outcome)

    @staticmethod
    def _ended(end: Callable[[], None], deadline: float) -> bool:
        try:
            end()
        except DiskFailed:
            raise
        except StorageFailed as error:
            if time.monotonic() > deadline:
                raise
            log.warning("job.end_failed", error=str(error))
            return False
        return True

    def close(self) -> None:
        """End the model's process."""
        if self._runner is not None:
            self._runner.close()
            self._runner = None
        shutil.rmtree(self._scratch, ignore_errors=True)


_Permanent = (InputChanged, PipelineChanged)


def _finish(tx: Transaction, job: Job, stored: Sequence[tuple[EncodedResult, StoredObject]]) -> None:
    """The job ends, its results are fixed, and their deliveries are due: in one transaction."""
    for result_id in jobs.finish(tx, job.lease, stored):
        for destination in job.send_to:
            deliveries.add(tx, result_id, destination)
