"""Keeps a set of processes running: starts them again when they die, and stops them in time."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import structlog

log = structlog.get_logger()

EXIT_CONFIG = 78
"""What a process exits with that would only fail again (EX_CONFIG of sysexits.h)."""

_PR_SET_PDEATHSIG = 1
_LONGEST_PAUSE_S = 30.0


def die_with_parent(parent: int) -> None:
    """Have the kernel end this process when `parent`, which started it, is gone."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)


@dataclass
class _Child:
    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    failures: int = 0
    start_at: float = field(default_factory=time.monotonic)


class Supervisor:
    """Runs one process for each command."""

    def __init__(self, commands: Mapping[str, Sequence[str]], stop_limit_s: float) -> None:
        self._children = {name: _Child(command) for name, command in commands.items()}
        self._stop_limit_s = stop_limit_s

    def run(self, stop: threading.Event) -> int:
        """Keep all of them running until `stop` is set; returns the exit status for the whole.

        A process that exits with EXIT_CONFIG ends the others too: starting it again would not help.
        """
        status = 0
        try:
            while not stop.wait(0.1):
                ended = {self._look_after(name, child) for name, child in self._children.items()}
                if EXIT_CONFIG in ended:
                    status = EXIT_CONFIG
                    break
        finally:
            self._stop_all()
        return status

    def _look_after(self, name: str, child: _Child) -> int | None:
        if child.process is None:
            if time.monotonic() >= child.start_at:
                child.process = subprocess.Popen(child.command)
            return None
        returncode = child.process.poll()
        if returncode is not None:
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
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
