"""Keeps a set of processes running: starts them again when they die, and stops them in time."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.context import ForkProcess

import structlog

from dicomnode.errors import ConfigError, DiskFailed

log = structlog.get_logger()

EXIT_CONFIG = 78
"""What a process exits with that would only fail again (EX_CONFIG of sysexits.h)."""
EXIT_DISK = 74
"""What a process exits with when only a start of the whole node may trust the disk again (EX_IOERR)."""

_PR_SET_PDEATHSIG = 1
_FORK = get_context("fork")
_LONGEST_PAUSE_S = 30.0
_HEALTHY_S = 60.0
"""A process that lived for this long did not fail at its start: the next pause is the shortest again."""


def die_with_parent(parent: int) -> None:
    """Have the kernel end this process when `parent`, which started it, is gone."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


@dataclass
class _Child:
    body: Callable[[], int]
    process: ForkProcess | None = None
    failures: int = 0
    start_at: float = field(default_factory=time.monotonic)


class Supervisor:
    """Runs each body in a process of its own, forked from this one; it must have no threads.

    Forked, because what this process has imported and read then costs nothing again.
    """

    def __init__(self, bodies: Mapping[str, Callable[[], int]], stop_limit_s: float) -> None:
        self._children = {name: _Child(body) for name, body in bodies.items()}
        self._stop_limit_s = stop_limit_s

    def run(self, stop: threading.Event) -> int:
        """Keep all of them running until `stop` is set; returns the exit status for the whole.

        A process that exits with EXIT_CONFIG or EXIT_DISK ends the others too: starting it alone again would
        not help.
        """
        status = 0
        # What is there already stays: no process has to look through it for garbage, nor copy it by doing so.
        gc.collect()
        gc.freeze()
        try:
            while not stop.wait(0.1):
                ended = {self._look_after(name, child) for name, child in self._children.items()}
                final = [code for code in (EXIT_CONFIG, EXIT_DISK) if code in ended]
                if final:
                    status = final[0]
                    break
        finally:
            self._stop_all()
        return status

    def _look_after(self, name: str, child: _Child) -> int | None:
        if child.process is None:
            if time.monotonic() >= child.start_at:
                child.process = _FORK.Process(target=_live, args=(child.body, os.getpid()), name=name)
                child.process.start()
                child.start_at = time.monotonic()
                log.info("process.started", process=name, pid=child.process.pid)
            return None
        returncode = child.process.exitcode
        if returncode is not None:
            if time.monotonic() - child.start_at >= _HEALTHY_S:
                child.failures = 0
            pause = min(2.0**child.failures * 0.5, _LONGEST_PAUSE_S)
            log.error("process.ended", process=name, returncode=returncode, restart_in_s=pause)
            child.process, child.failures = None, child.failures + 1
            child.start_at = time.monotonic() + pause
        return returncode

    def _stop_all(self) -> None:
        running = [child.process for child in self._children.values() if child.process is not None]
        for process in running:
            process.terminate()
        deadline = time.monotonic() + self._stop_limit_s
        for process in running:
            process.join(max(0.0, deadline - time.monotonic()))
            if process.exitcode is None:
                process.kill()
                process.join()


def run_apart(body: Callable[[], int], stop: threading.Event) -> int | None:
    """Run it once in a process forked from this one; its exit status, None where `stop` came first."""
    process = _FORK.Process(target=_live, args=(body, os.getpid()))
    process.start()
    while process.exitcode is None and not stop.is_set():
        process.join(0.1)
    status = process.exitcode
    process.terminate()
    process.join()
    return status


def _live(body: Callable[[], int], parent: int) -> None:
    """The life of one forked process. The parent's handlers are not this process's."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    die_with_parent(parent)
    try:
        sys.exit(body())
    except ConfigError as error:
        log.error("process.misconfigured", problems=error.problems)
        sys.exit(EXIT_CONFIG)
    except DiskFailed as error:
        log.error("process.disk_failed", error=str(error))
        sys.exit(EXIT_DISK)
