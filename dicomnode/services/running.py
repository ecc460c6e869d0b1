"""One attempt at a job, where it runs: names and digests go in, results are kept. Knows no database."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog

from dicomnode.config import WorkersSection
from dicomnode.errors import (
    InputChanged,
    NotFound,
    ObjectsAway,
    PipelineChanged,
    RunCancelled,
    RunOutOfMemory,
    TooLittleMemory,
)
from dicomnode.model.profile import Profile
from dicomnode.model.result import ResultReference
from dicomnode.model.room import Peak
from dicomnode.pipeline.registry import InstalledPipeline, Registry
from dicomnode.pipeline.runner import Runner
from dicomnode.results.provenance import Provenance
from dicomnode.services.inference import Inference, infer
from dicomnode.services.outbox import Forms, Kept, keep
from dicomnode.services.prior_inputs import GivenPriors
from dicomnode.store.object_store import Objects

log = structlog.get_logger()

KEEP_AGAIN_S = 0.5


@dataclass(frozen=True, slots=True)
class RunOrder:
    """All that one attempt needs to be told; its bytes are in the object store, named by their SHA-256.

    `priors`: the instances of each prior series by its name, the latest first. `notes`, `earlier` and
    `frugal` as `infer` takes them.
    """

    pipeline: str
    pipeline_digest: str
    instances: tuple[str, ...]
    priors: tuple[tuple[str, tuple[str, ...]], ...]
    notes: Mapping[str, str]
    provenance: Provenance
    profiles: tuple[Profile, ...]
    earlier: tuple[ResultReference, ...]
    frugal: bool

    @property
    def digests(self) -> frozenset[str]:
        """Every object that is read."""
        return frozenset(self.instances).union(*(digests for _, digests in self.priors))


@dataclass(frozen=True, slots=True)
class Made:
    """What an attempt yields: results whose bytes are durable, the seconds of each stage, and its memory."""

    kept: tuple[Kept, ...]
    timings: Mapping[str, float]
    peak: Peak


class Executor(Protocol):
    """Runs orders, one at a time: on this machine, or on one of a cluster."""

    def ready(self) -> bool:
        """False where no order would be taken now: then no job should be claimed."""
        ...

    def run(self, order: RunOrder, cancelled: Callable[[], bool]) -> Made:
        """Raises what `infer` raises; PipelineChanged and InputChanged where either is not as ordered."""
        ...

    def close(self) -> None:
        """End what it keeps warm."""
        ...


class LocalExecutor:
    """Runs orders on this machine, with one warm model, kept until another is needed.

    `device` as torch calls it; `workers.device` where none is given.
    """

    def __init__(
        self,
        objects: Objects,
        registry: Registry,
        settings: WorkersSection,
        scratch: Path,
        device: str = "",
    ) -> None:
        self._objects, self._registry, self._settings = objects, registry, settings
        self._device = device or settings.device
        self._scratch = scratch
        self._runner: Runner | None = None
        self._away = False

    @property
    def pid(self) -> int | None:
        """The process id of the warm child, where there is one."""
        return self._runner.pid if self._runner else None

    @property
    def warm(self) -> str | None:
        """The digest of the bundle whose model is kept warm, where there is one."""
        return self._runner.pipeline.digest if self._runner and self._runner.pid else None

    def ready(self) -> bool:
        """False while the object store is away: a job would only come back."""
        if self._away:
            with suppress(ObjectsAway):
                self._objects.check()
                self._away = False
        return not self._away

    def run(self, order: RunOrder, cancelled: Callable[[], bool]) -> Made:
        """As `Executor` says."""
        pipeline = self._pinned(order)
        try:
            if not all(map(self._objects.intact, order.digests)):
                raise InputChanged
            with self._objects.held(tuple(order.digests)):
                inference = self._infer(order, pipeline, cancelled)
        except ObjectsAway:
            self._away = True
            raise
        return Made(self._kept(inference.forms, cancelled), inference.timings, inference.peak)

    def close(self) -> None:
        """End the model's process, and leave nothing of it."""
        self.cool()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def cool(self) -> None:
        """End the model's process."""
        if self._runner is not None:
            self._runner.close()
            self._runner = None

    def _infer(
        self, order: RunOrder, pipeline: InstalledPipeline, cancelled: Callable[[], bool]
    ) -> Inference:
        given = GivenPriors([(name, self._paths(digests)) for name, digests in order.priors], order.notes)
        try:
            return infer(
                self._paths(order.instances),
                pipeline,
                self._warm(pipeline),
                order.provenance,
                cancelled,
                order.profiles,
                order.earlier,
                given,
                frugal=order.frugal,
            )
        except RunOutOfMemory as error:
            if order.frugal:
                raise TooLittleMemory(str(error)) from None
            raise

    def _kept(self, forms: Forms, cancelled: Callable[[], bool]) -> tuple[Kept, ...]:
        """The results wait for a store that is away: the run is not made twice for it."""
        while True:
            try:
                return tuple(keep(self._objects, forms))
            except ObjectsAway as error:
                log.warning("results.not_kept", error=str(error))
            if cancelled():
                raise RunCancelled("the run was cut while its results waited for the object store")
            time.sleep(KEEP_AGAIN_S)

    def _pinned(self, order: RunOrder) -> InstalledPipeline:
        try:
            return self._registry.pinned(order.pipeline, order.pipeline_digest)
        except NotFound:
            raise PipelineChanged(order.pipeline) from None

    def _paths(self, digests: Sequence[str]) -> list[Path]:
        return [self._objects.path(sha256) for sha256 in digests]

    def _warm(self, pipeline: InstalledPipeline) -> Runner:
        if self._runner is not None and self._runner.pipeline.digest != pipeline.digest:
            self.cool()
        if self._runner is None:
            self._runner = Runner(
                pipeline,
                self._device,
                self._scratch,
                self._objects.folder,
                start_limit_s=self._settings.start_limit_s,
                recycle_after=self._settings.recycle_after,
            )
        return self._runner
