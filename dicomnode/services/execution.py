"""A worker: claims a job, runs it in a child process under a lease, and ends it."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import structlog

from dicomnode.config import Config
from dicomnode.errors import (
    DicomnodeError,
    DiskFailed,
    GateFailed,
    InputChanged,
    InputLeft,
    LeaseLost,
    NotFound,
    PipelineChanged,
    Refused,
    RunCancelled,
    RunError,
    RunOutOfMemory,
    StorageFailed,
    TooLittleMemory,
)
from dicomnode.model.instance import InstanceRef
from dicomnode.model.job import Job
from dicomnode.pipeline.registry import InstalledPipeline, Registry
from dicomnode.pipeline.runner import Runner
from dicomnode.services.frozen_input import FrozenInput, frozen_input
from dicomnode.services.heartbeat import Heartbeat
from dicomnode.services.inference import Inference, infer
from dicomnode.services.origin import origin_of
from dicomnode.services.outbox import Kept, enqueue, keep, profiles_of
from dicomnode.services.prior_inputs import GivenPriors
from dicomnode.services.scratch import scratch_folder
from dicomnode.services.waking import Bell
from dicomnode.store import catalog, jobs, priors, results
from dicomnode.store.database import Database, Transaction
from dicomnode.store.objects import ObjectStore

log = structlog.get_logger()


END_AGAIN_S = 0.5


class Worker:
    """One slot: at most one job at a time, and one warm model, kept until another is needed.

    `taken_away` rings when a lease may have been: then the run ends at once, and not with the next heartbeat.
    """

    def __init__(
        self,
        database: Database,
        objects: ObjectStore,
        registry: Registry,
        config: Config,
        name: str,
        taken_away: Bell | None = None,
    ) -> None:
        self._database, self._objects, self._registry = database, objects, registry
        self._config, self._name, self._taken_away = config, name, taken_away
        self._scratch = scratch_folder(config.node.data, name)
        self._runner: Runner | None = None

    def tick(self, stop: threading.Event) -> bool:
        """Claim one job and bring it to an end; False where none was due.

        When `stop` is set during the run, the run is cut and the job handed back.
        """
        with self._database.read() as tx:
            if not jobs.is_due(tx, self._name):
                return False
        with self._database.begin() as tx:
            job = jobs.claim(tx, self._name, self._config.workers.lease_s, self._config.limits)
        if job is None:
            return False
        log.info("job.claimed", job=job.id, attempt=job.attempt, pipeline=job.pipeline)
        beat_s = self._config.workers.lease_s / 3
        with Heartbeat(lambda: self._extend(job), beat_s, self._taken_away) as heartbeat:
            try:
                self._work(job, lambda: stop.is_set() or heartbeat.lost.is_set())
            except LeaseLost:
                log.warning("job.lease_lost", job=job.id)
        return True

    def _extend(self, job: Job) -> None:
        with self._database.begin() as tx:
            jobs.extend(tx, job.lease, self._config.workers.lease_s)

    def _work(self, job: Job, cancelled: Callable[[], bool]) -> None:
        try:
            inference = self._infer(job, cancelled)
            kept = keep(self._objects, inference.forms)
        except RunCancelled:
            self._end(job, "handed_back", lambda tx: jobs.hand_back(tx, job.lease))
        except Refused as refused:
            code, reason = refused.code, refused.reason
            self._end(job, code, lambda tx: jobs.refuse(tx, job.lease, code, reason))
        except _Permanent as error:
            code, reason = error.code, str(error)
            self._end(job, code, lambda tx: jobs.give_up(tx, job.lease, code, reason))
        except GateFailed as error:
            code, reason = error.code, str(error)
            self._end(job, code, lambda tx: jobs.hold(tx, job.lease, code, reason))
        except (LeaseLost, DiskFailed):
            raise
        except Exception as error:  # the edge of a run: every failure becomes a row
            code = error.code if isinstance(error, RunError) else type(error).__name__
            reason = str(error) if isinstance(error, DicomnodeError) else "unexpected error, see the log"
            if not isinstance(error, DicomnodeError):
                log.exception("job.failed", job=job.id)
            self._fail(job, code, reason)
        else:
            self._end(job, "done", lambda tx: self._finish(tx, job, kept), inference.timings)

    def _infer(self, job: Job, cancelled: Callable[[], bool]) -> Inference:
        pipeline = self._pinned(job)
        with self._database.read() as tx:
            frozen = frozen_input(tx, job)
            notes = priors.notes(tx, job.id)
            earlier = results.offered(tx, job)
            frugal = jobs.ran_out_of_memory(tx, job.id)
            provenance = origin_of(tx, self._config, job, job.updated_at)
        if frozen.digest != job.input_digest:
            raise InputChanged
        if not all(self._objects.intact(ref.sha256) for ref in frozen.refs):
            raise self._lost(frozen)
        paths = self._paths(frozen.instances)
        given = GivenPriors([(name, self._paths(refs)) for (name, _), refs in frozen.priors.items()], notes)
        profiles = profiles_of(job.send_to, self._config.profile_of)
        try:
            return infer(
                paths,
                pipeline,
                self._warm(pipeline),
                provenance,
                cancelled,
                profiles,
                earlier,
                given,
                frugal=frugal,
            )
        except RunOutOfMemory as error:
            if frugal:
                raise TooLittleMemory(str(error)) from None
            raise

    def _lost(self, frozen: FrozenInput) -> InputLeft | InputChanged:
        """Why bytes of the input are not here."""
        with self._database.read() as tx:
            left = catalog.have_left(tx, [ref.sha256 for ref in frozen.refs])
        return InputLeft() if left else InputChanged()

    def _paths(self, instances: Sequence[InstanceRef]) -> list[Path]:
        return [self._objects.path(ref.sha256) for ref in instances]

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
                self._objects.folder,
                start_limit_s=self._config.workers.start_limit_s,
                recycle_after=self._config.workers.recycle_after,
            )
        return self._runner

    def _fail(self, job: Job, code: str, reason: str) -> None:
        settings = self._config.jobs

        def fail(tx: Transaction) -> None:
            jobs.fail(tx, job.lease, code, reason, attempts=settings.attempts, backoff_s=settings.backoff_s)

        self._end(job, code, fail)

    def _end(
        self,
        job: Job,
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
                jobs.add_run(tx, job, self._name, outcome, timings)

        deadline = time.monotonic() + self._config.workers.lease_s
        while not self._ended(end, deadline):
            time.sleep(END_AGAIN_S)
        log.info("job.ended", job=job.id, attempt=job.attempt, outcome=outcome)

    def _finish(self, tx: Transaction, job: Job, kept: Sequence[Kept]) -> None:
        """The job ends, its results are fixed, and their deliveries are due: in one transaction."""
        result_ids = jobs.finish(tx, job.lease, [each.stored for each in kept])
        enqueue(tx, result_ids, kept, job.send_to, self._config.profile_of)

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


_Permanent = (InputChanged, InputLeft, PipelineChanged, TooLittleMemory)
