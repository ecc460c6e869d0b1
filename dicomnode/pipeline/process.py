"""A child process and its pipes, as the parent sees them: no threads, every wait has an end."""

from __future__ import annotations

import math
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dicomnode.errors import (
    RunCancelled,
    RunCrashed,
    RunFailed,
    RunOutOfMemory,
    RunTimedOut,
    TooManyProcesses,
)
from dicomnode.pipeline.contract import LONGEST_LINE, Order, ProtocolError, Reply, decode_reply, encode
from dicomnode.pipeline.memory import held_mb, peak_mb, started_by

LOOK_S = 0.2
"""How often a wait looks whether it was cancelled."""
WEIGH_S = 1.0
"""How often a wait looks how much memory the child holds, and how many processes it has."""
MOST_PROCESSES = 64
"""More than that, a run does not have at a time; it and its helpers have two."""
EXIT_S = 5.0
"""How long a child that closed its pipe may take to end by itself."""
STDERR_LIMIT = 256 * 1024
_CHUNK = 65536


@dataclass(frozen=True, slots=True)
class Deadline:
    """The end of a wait of `limit_s` seconds that began when this was made."""

    limit_s: float
    started: float = field(default_factory=time.monotonic)

    def left(self) -> float:
        """Seconds that are left. Raises RunTimedOut when there are none."""
        left = self.started + self.limit_s - time.monotonic()
        if left <= 0:
            raise RunTimedOut(self.limit_s)
        return left


class ChildProcess:
    """A process group of its own; what it writes to stderr goes to a file, up to a limit.

    While the parent waits for it, it may not hold more than `memory_mb`, nor have more than MOST_PROCESSES.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], stderr: Path, memory_mb: float
    ) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            start_new_session=True,
            bufsize=0,
        )
        pipes = (self._process.stdin, self._process.stdout, self._process.stderr)
        self._orders, self._replies, self._noise = (pipe.fileno() for pipe in pipes if pipe)
        os.set_blocking(self._orders, False)
        self._stderr, self._written, self._buffer = stderr, 0, bytearray()
        self._memory_mb, self._weighed_at = memory_mb, time.monotonic()
        self._poll = select.poll()
        self._poll.register(self._replies, select.POLLIN)
        self._poll.register(self._noise, select.POLLIN)

    @property
    def pid(self) -> int:
        """The process id, which is the id of its group too."""
        return self._process.pid

    @property
    def peak_mb(self) -> int:
        """The most memory that it and what it started held, in MB; not the machine's, but never more."""
        return min(peak_mb(self.pid), math.ceil(self._memory_mb))

    @property
    def alive(self) -> bool:
        """False where it has ended by itself."""
        return self._process.returncode is None and not self._ends_within(0.0)

    def send(self, order: Order, deadline: Deadline, cancelled: Callable[[], bool]) -> None:
        """Raises RunCrashed, RunTimedOut, RunOutOfMemory, TooManyProcesses, RunCancelled."""
        line = memoryview(encode(order))
        # It holds no more than when it last answered, and looking would keep it waiting.
        self._weighed_at = time.monotonic()
        self._poll.register(self._orders, select.POLLOUT)
        try:
            while line:
                ready = self._wait(deadline, cancelled)
                if self._orders in ready:
                    line = line[os.write(self._orders, line) :]
        except BrokenPipeError:
            raise RunCrashed(self.end()) from None
        finally:
            self._poll.unregister(self._orders)

    def receive(self, deadline: Deadline, cancelled: Callable[[], bool]) -> Reply:
        """The next reply; RunFailed for what is none.

        Raises RunCrashed, RunTimedOut, RunOutOfMemory, TooManyProcesses, RunCancelled, RunFailed.
        """
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > LONGEST_LINE:
                raise RunFailed("ProtocolError", "reply")
            if self._replies not in self._wait(deadline, cancelled):
                continue
            if not (read := os.read(self._replies, _CHUNK)):
                raise RunCrashed(self.end())
            self._buffer += read
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        try:
            return decode_reply(line)
        except ProtocolError:
            raise RunFailed("ProtocolError", "reply") from None

    def end(self, grace_s: float = EXIT_S) -> int | None:
        """Wait for the child, then kill its whole group; its exit status, None where it was killed."""
        if self._process.returncode is not None:
            return self._process.returncode
        by_itself = self._ends_within(grace_s)
        # The leader is not reaped yet: the group's id cannot belong to anybody else.
        os.killpg(self.pid, signal.SIGKILL)
        status = self._process.wait()
        self._drain()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe:
                pipe.close()
        return status if by_itself else None

    def _ends_within(self, seconds: float) -> bool:
        descriptor = os.pidfd_open(self.pid)
        try:
            return bool(select.select([descriptor], [], [], seconds)[0])
        finally:
            os.close(descriptor)

    def _wait(self, deadline: Deadline, cancelled: Callable[[], bool]) -> set[int]:
        """The descriptors that are ready; what the child writes to stderr is taken care of."""
        if cancelled():
            raise RunCancelled("the run was cut")
        self._weigh()
        ready = {descriptor for descriptor, _ in self._poll.poll(min(deadline.left(), LOOK_S) * 1000)}
        if self._noise in ready and not self._keep(os.read(self._noise, _CHUNK)):
            self._poll.unregister(self._noise)
        return ready

    def _weigh(self) -> None:
        if time.monotonic() < self._weighed_at + WEIGH_S:
            return
        there = started_by(self.pid)
        if len(there) > MOST_PROCESSES:
            self.end(grace_s=0.0)
            raise TooManyProcesses(MOST_PROCESSES)
        if held_mb(there) > self._memory_mb:
            self.end(grace_s=0.0)
            raise RunOutOfMemory(
                f"the run held more than the {self._memory_mb:g} MB that its pipeline declares"
            )
        self._weighed_at = time.monotonic()

    def _keep(self, noise: bytes) -> bool:
        if kept := noise[: STDERR_LIMIT - self._written]:
            with self._stderr.open("ab") as file:
                file.write(kept)
            self._written += len(kept)
        return bool(noise)

    def _drain(self) -> None:
        """Read stderr to its end: when it ends, nobody of the child's is left who could hold it open."""
        until = time.monotonic() + EXIT_S
        while select.select([self._noise], [], [], max(0.0, until - time.monotonic()))[0]:
            if not self._keep(os.read(self._noise, _CHUNK)):
                return
