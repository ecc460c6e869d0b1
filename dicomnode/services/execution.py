"""A worker: claims a job, has it run under a lease, and ends it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
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
    ObjectsAway,
    PipelineChanged,
    Refused,
    RunCancelled,
    RunError,
    StorageFailed,
    TooLittleMemory,
)
from dicomnode.model.job import Job
from dicomnode.model.queue import Waiting
from dicomnode.model.room import Peak
from dicomnode.services.frozen_input import FrozenInput, frozen_input
from dicomnode.services.heartbeat import Heartbeat
from dicomnode.services.origin import origin_of
from dicomnode.services.outbox import Kept, enqueue, profiles_of
from dicomnode.services.running import Executor, Made, RunOrder
from dicomnode.services.shadows import SHADOW_RESTS_S, giving_way
from dicomnode.services.tenancy import Tenancy
from dicomnode.services.waking import Bell
from dicomnode.store import catalog, leases, priors, results, runs
from dicomnode.store.database import Database, Transaction

log = structlog.get_logger()


END_AGAIN_S = 0.5


class Worker:
    """One slot: at most one job at a time. `executor` is where it runs, and `tenancy` its share of memory.

    `taken_away` rings when a lease may have been: then the run ends at once, and not with the next heartbeat.
    """

    def __init__(
        self,
        database: Database,
        executor: Executor,
        config: Config,
        name: str,
        taken_away: Bell | None = None,
        tenancy: Tenancy | None = None,
    ) -> None:
        self._database, self._executor, self._tenancy = database, executor, tenancy
        self._config, self._name, self._taken_away = config, name, taken_away

    def tick(self, stop: threading.Event) -> bool:
        """Claim one job and bring it to an end; False where none was due, or none could be run.

        When `stop` is set during the run, the run is cut and the job handed back.
        """
        if not self._executor.ready():
            return False
        first = self._look()
        job = self._claim(first) if first is not None else None
        if job is None:
            return False
        log.info("job.claimed", job=job.id, attempt=job.attempt, pipeline=job.pipeline)
        beat_s = self._config.workers.lease_s / 3
        gives_way = giving_way(self._database, job, self._name, self._config.limits)
        with Heartbeat(lambda: self._extend(job), beat_s, self._taken_away) as heartbeat:
            try:
                self._work(job, lambda: stop.is_set() or heartbeat.lost.is_set() or gives_way())
            except LeaseLost:
                log.warning("job.lease_lost", job=job.id)
        if self._tenancy is not None:
            self._tenancy.after_a_run()
        return True

    def _look(self) -> Waiting | None:
        """The job that might be had now. A warm model whose place another job needs is ended."""
        tenancy = self._tenancy
        with self._database.read() as tx:
            first = leases.next_up(tx, self._name)
            if tenancy is None:
                return first
            is_over, is_anothers = tenancy.is_over(tx), first and tenancy.is_anothers(tx, first)
        if is_over:
            tenancy.leave()
        return None if is_anothers else first

    def _claim(self, first: Waiting) -> Job | None:
        lease_s, limits, tenancy = self._config.workers.lease_s, self._config.limits, self._tenancy
        if tenancy is not None and tenancy.warm == first.digest and not limits:
            with self._database.at_once() as tx:
                job = leases.claim_at_home(tx, self._name, lease_s)
            if job is not None:
                return job
        with self._database.begin() as tx:
            if tenancy is None:
                return leases.claim(tx, self._name, lease_s, limits)
            job = leases.claim(tx, self._name, lease_s, limits, tenancy.slot, first, tenancy.warm)
        if job is not None:
            tenancy.make_way(job.pipeline_digest)
        return job

    def _extend(self, job: Job) -> None:
        with self._database.begin() as tx:
            leases.extend(tx, job.lease, self._config.workers.lease_s)

    def _work(self, job: Job, cancelled: Callable[[], bool]) -> None:
        try:
            made = self._run(job, cancelled)
        except (RunCancelled, ObjectsAway) as cut:
            log.info("job.cut", job=job.id, reason=str(cut))
            rest_s = 0.0 if job.shadow_of is None else SHADOW_RESTS_S
            self._end(job, "handed_back", lambda tx: leases.hand_back(tx, job.lease, rest_s))
        except Refused as refused:
            code, reason = refused.code, refused.reason
            self._end(job, code, lambda tx: leases.refuse(tx, job.lease, code, reason))
        except _Permanent as error:
            code, reason = error.code, str(error)
            self._end(job, code, lambda tx: leases.give_up(tx, job.lease, code, reason))
        except GateFailed as error:
            code, reason = error.code, str(error)
            # Of a shadow nothing would leave, so that there is nothing to be looked at first.
            leave = leases.hold if job.shadow_of is None else leases.give_up
            self._end(job, code, lambda tx: leave(tx, job.lease, code, reason))
        except (LeaseLost, DiskFailed):
            raise
        except Exception as error:  # the edge of a run: every failure becomes a row
            code = error.code if isinstance(error, RunError) else type(error).__name__
            reason = str(error) if isinstance(error, DicomnodeError) else "unexpected error, see the log"
            if not isinstance(error, DicomnodeError):
                log.exception("job.failed", job=job.id)
            self._fail(job, code, reason)
        else:
            self._end(job, "done", lambda tx: self._finish(tx, job, made.kept), made.timings, made.peak)

    def _run(self, job: Job, cancelled: Callable[[], bool]) -> Made:
        with self._database.read() as tx:
            frozen = frozen_input(tx, job)
            order = self._order(tx, job, frozen)
        if frozen.digest != job.input_digest:
            raise InputChanged
        try:
            return self._executor.run(order, cancelled)
        except InputChanged:
            raise self._lost(frozen) from None

    def _order(self, tx: Transaction, job: Job, frozen: FrozenInput) -> RunOrder:
        return RunOrder(
            pipeline=job.pipeline,
            pipeline_digest=job.pipeline_digest,
            instances=tuple(ref.sha256 for ref in frozen.instances),
            priors=tuple(
                (name, tuple(ref.sha256 for ref in refs)) for (name, _), refs in frozen.priors.items()
            ),
            notes=priors.notes(tx, job.id),
            provenance=origin_of(tx, self._config, job, job.updated_at),
            profiles=tuple(profiles_of(job.send_to, self._config.profile_of)),
            earlier=tuple(results.offered(tx, job)),
            frugal=runs.ran_out_of_memory(tx, job.id),
        )

    def _lost(self, frozen: FrozenInput) -> InputLeft | InputChanged:
        """Why bytes of the input are not here."""
        with self._database.read() as tx:
            left = catalog.have_left(tx, [ref.sha256 for ref in frozen.refs])
        return InputLeft() if left else InputChanged()

    def _fail(self, job: Job, code: str, reason: str) -> None:
        settings = self._config.jobs

        def fail(tx: Transaction) -> None:
            leases.fail(tx, job.lease, code, reason, attempts=settings.attempts, backoff_s=settings.backoff_s)

        self._end(job, code, fail)

    def _end(
        self,
        job: Job,
        outcome: str,
        transition: Callable[[Transaction], None],
        timings: Mapping[str, float] = MappingProxyType({}),
        peak: Peak | None = None,
    ) -> None:
        """The transition, and the row that tells of this attempt, in one transaction.

        A database that is away for a moment does not cost the run: it is asked until the lease would be over.
        """

        def end() -> None:
            with self._database.begin() as tx:
                transition(tx)
                runs.add(tx, job, self._name, outcome, timings, peak)

        deadline = time.monotonic() + self._config.workers.lease_s
        while not self._ended(end, deadline):
            time.sleep(END_AGAIN_S)
        log.info("job.ended", job=job.id, attempt=job.attempt, outcome=outcome)

    def _finish(self, tx: Transaction, job: Job, kept: Sequence[Kept]) -> None:
        """The job ends, its results are fixed, and their deliveries are due: in one transaction."""
        result_ids = leases.finish(tx, job.lease, [each.stored for each in kept])
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
        """End what is kept warm."""
        self._executor.close()


_Permanent = (InputChanged, InputLeft, PipelineChanged, TooLittleMemory)
