"""The parent's side of a run: keeps one warm child, limits its time, and believes nothing it says."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

import dicomnode
from dicomnode.errors import PipelineChanged, Refused, RunError, RunFailed, RunOutOfMemory
from dicomnode.imaging.findings import Findings
from dicomnode.imaging.geometry import Geometry
from dicomnode.model.room import Peak
from dicomnode.pipeline.contract import (
    PRED,
    PROBLEMS,
    Decoded,
    Done,
    Failed,
    PriorPaths,
    Proceed,
    Progress,
    Ready,
    RefusedReply,
    Reply,
    Request,
    Take,
)
from dicomnode.pipeline.process import ChildProcess, Deadline
from dicomnode.pipeline.registry import InstalledPipeline, bundle_digest
from dicomnode.pipeline.sandbox import child_environment
from dicomnode.pipeline.validation import checked_findings

log = structlog.get_logger()

STDERR = "stderr.log"
"""What the last child wrote; in the scratch folder, never in the node's log."""

VolumeFacts = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class PriorInput:
    """A prior series beside the input: the name under which the bundle finds it, its files and its stack."""

    key: str
    paths: tuple[Path, ...]
    stack: int


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """What a run yields; `timings` in seconds by stage, `volume_facts` as `imaging.facts.volume_facts`."""

    findings: Findings
    timings: Mapping[str, float]
    volume_facts: VolumeFacts
    peak: Peak


class Runner:
    """Runs one pipeline, a job at a time. Not for several threads; start it from one that lives as long.

    `inputs` is the folder under which every input lies: of what is the node's, the child can read only that.
    """

    def __init__(
        self,
        pipeline: InstalledPipeline,
        device: str,
        scratch: Path,
        inputs: Path,
        *,
        start_limit_s: float = 120.0,
        recycle_after: int = 100,
    ) -> None:
        self.pipeline = pipeline
        self._device, self._scratch, self._inputs = device, scratch.resolve(), inputs.resolve()
        self._start_limit_s, self._recycle_after = start_limit_s, recycle_after
        self._child: ChildProcess | None = None
        self._begun: Deadline | None = None
        self._runs = 0

    @property
    def pid(self) -> int | None:
        """The process id of the warm child, where there is one."""
        return self._child.pid if self._child else None

    def start(self, cancelled: Callable[[], bool] = lambda: False) -> None:
        """Load the model, where none is warm. Raises RunFailed, RunCrashed, RunTimedOut, RunCancelled."""
        if self._child is not None:
            if self._child.alive:
                return
            self.close()
        self._own.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._stderr.unlink(missing_ok=True)
        code = Path(dicomnode.__file__).parents[1]
        command = [sys.executable, "-m", "dicomnode.pipeline.child", str(self.pipeline.folder)]
        command += [str(self._own), str(self._inputs), self._device, str(os.getpid())]
        environment = child_environment(os.environ, self._own, code)
        memory_mb = self.pipeline.manifest.pipeline.memory_mb
        self._child = ChildProcess(command, environment, self._stderr, memory_mb)
        self._runs = 0
        try:
            self._greet(self._child.receive(Deadline(self._start_limit_s), cancelled))
            # After the child has read the files: what it runs is what the digest names.
            if bundle_digest(self.pipeline.folder) != self.pipeline.digest:
                raise PipelineChanged(self.pipeline.manifest.pipeline.name)
        except BaseException:
            self.close()
            raise

    def begin_if_warm(self, paths: Sequence[Path], cancelled: Callable[[], bool], *, frugal: bool) -> None:
        """`begin` where no model has to be loaded for what may yet be refused."""
        if self._child is not None and self._child.alive:
            self.begin(paths, cancelled, frugal=frugal)

    def begin(
        self, paths: Sequence[Path], cancelled: Callable[[], bool] = lambda: False, *, frugal: bool = False
    ) -> None:
        """Have the child read the series at `paths` while the parent reads its headers; `run` goes on.

        Where nothing comes of it, `forget` it. Raises as `run`; the child is gone then.
        """
        self.start(cancelled)
        deadline = Deadline(self.pipeline.manifest.pipeline.time_limit_s)
        try:
            self._warm.send(Request(paths=_resolved(paths), frugal=frugal), deadline, cancelled)
        except BaseException:
            self.close()
            raise
        self._begun = deadline

    def forget(self) -> None:
        """Nothing comes of what was begun, if anything was."""
        if self._begun is None:
            return
        deadline, self._begun = self._begun, None
        try:
            self._warm.send(Proceed(go=False), deadline, lambda: False)
        except RunError:
            self.close()

    def run(
        self,
        paths: Sequence[Path],
        geometry: Geometry,
        cancelled: Callable[[], bool] = lambda: False,
        suits: Callable[[VolumeFacts], None] | None = None,
        priors: Sequence[PriorInput] = (),
        *,
        frugal: bool = False,
    ) -> RunOutcome:
        """Label the series at `paths`, whose grid by its headers is `geometry`, beside its `priors`.

        What was begun is gone on with. `suits` sees the facts of the decoded volume and may raise Refused.
        `frugal`: an attempt before this one had too little memory.

        Raises Refused, RunTimedOut, RunCrashed, RunFailed, RunOutOfMemory, TooManyProcesses, RunCancelled;
        GateFailed where the answer is not on the grid of the input or holds labels that the manifest does not
        name. After all of these but Refused the child is gone, and the next run starts another.
        """
        if self._begun is None:
            self.begin(paths, cancelled, frugal=frugal)
        try:
            outcome = self._run(_take(geometry, priors), geometry, cancelled, suits)
        except Refused:
            self._count()
            raise
        except BaseException:
            self.close()
            raise
        self._count()
        return outcome

    def close(self) -> None:
        """End the child and all that it started."""
        child, self._child = self._child, None
        self._begun = None
        if child is not None:
            child.end(grace_s=0.0)
        shutil.rmtree(self._own, ignore_errors=True)

    @property
    def _own(self) -> Path:
        """The only folder that a child is told to write to."""
        return self._scratch / "child"

    @property
    def _stderr(self) -> Path:
        return self._scratch / STDERR

    def _count(self) -> None:
        self._runs += 1
        if self._runs >= self._recycle_after:
            self.close()

    def _greet(self, reply: Reply) -> None:
        if isinstance(reply, Failed):
            raise _failure(reply)
        if not isinstance(reply, Ready):
            raise RunFailed("ProtocolError", "start")
        name = self.pipeline.manifest.pipeline.name
        log.info("pipeline.ready", pipeline=name, device=reply.device, isolated=reply.isolated)
        if not reply.isolated:
            log.warning("pipeline.not_isolated", pipeline=name, why=reply.why)

    def _run(
        self,
        take: Take,
        geometry: Geometry,
        cancelled: Callable[[], bool],
        suits: Callable[[VolumeFacts], None] | None,
    ) -> RunOutcome:
        deadline, child = self._deadline(), self._warm
        child.send(take, deadline, cancelled)
        decoded = self._await(deadline, cancelled)
        if not isinstance(decoded, Decoded):
            raise RunFailed("ProtocolError", "decode")
        facts = decoded.volume.model_dump()
        try:
            _require_contrast(facts)
            if suits is not None:
                suits(facts)
        except Refused:
            child.send(Proceed(go=False), deadline, cancelled)
            raise
        child.send(Proceed(go=True), deadline, cancelled)
        done = self._await(deadline, cancelled)
        if not isinstance(done, Done):
            raise RunFailed("ProtocolError", "answer")
        findings = checked_findings(done, self._own, geometry, self.pipeline.manifest)
        timings = {str(stage): seconds for stage, seconds in done.timings.items()}
        return RunOutcome(findings, timings, facts, Peak(child.peak_mb, done.gpu_memory_mb))

    def _deadline(self) -> Deadline:
        """That of what was begun, which is taken up now."""
        deadline, self._begun = self._begun, None
        if deadline is None:
            raise RunFailed("RuntimeError", "start")
        return deadline

    @property
    def _warm(self) -> ChildProcess:
        if self._child is None:
            raise RunFailed("RuntimeError", "start")
        return self._child

    def _await(self, deadline: Deadline, cancelled: Callable[[], bool]) -> Reply:
        """The next reply that is no progress."""
        while isinstance(reply := self._warm.receive(deadline, cancelled), Progress):
            log.debug("run.stage", stage=reply.stage)
        if isinstance(reply, RefusedReply):
            raise Refused(reply.code, reply.reason)
        if isinstance(reply, Failed):
            raise _failure(reply, self._explained(reply))
        return reply

    def _explained(self, failed: Failed) -> str:
        """What is wrong with the answer; of the child's words only a name that the manifest has is taken."""
        manifest = self.pipeline.manifest
        declared = {PRED, *(each.name for each in manifest.value), *(each.name for each in manifest.map)}
        declared |= {*(each.name for each in manifest.mark), *(each.name for each in manifest.question)}
        if failed.problem is None or failed.name not in declared:
            return ""
        return f"{failed.name} {PROBLEMS[failed.problem]}"


def _failure(failed: Failed, why: str = "") -> RunError:
    if failed.error == "MemoryError":
        return RunOutOfMemory(f"no memory was left in {failed.where}")
    return RunFailed(failed.error, failed.where, why)


def _take(geometry: Geometry, priors: Sequence[PriorInput]) -> Take:
    given = (PriorPaths(key=each.key, paths=_resolved(each.paths), stack=each.stack) for each in priors)
    return Take(stack=geometry.stack, priors=tuple(given))


def _resolved(paths: Sequence[Path]) -> tuple[str, ...]:
    return tuple(str(path.resolve()) for path in paths)


def _require_contrast(facts: Mapping[str, object]) -> None:
    if facts["minimum"] == facts["maximum"]:
        raise Refused("BLANK", "all voxels have the same value")
