"""How much memory a child and all that it started hold, and how much there is."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from pathlib import Path

import psutil

_MB = 1_000_000
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def started_by(pid: int) -> list[psutil.Process]:
    """This process and all that it started and that is still there; none where it is gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        leader = psutil.Process(pid)
        return [leader, *leader.children(recursive=True)]
    return []


def held_mb(processes: Iterable[psutil.Process]) -> float:
    """Of the machine's memory, with what is swapped out, in MB (10⁶ bytes); who is gone holds none.

    What several processes share counts once, as far as the kernel tells.
    """
    held = 0
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            held += _held(process)
    return held / _MB


def peak_mb(pid: int) -> int:
    """The most that each of them ever held, in MB; 0 where they are gone."""
    most = 0
    for process in started_by(pid):
        with contextlib.suppress(OSError):
            status = Path("/proc", str(process.pid), "status").read_text(encoding="ascii", errors="replace")
            most += sum(map(int, _PEAK.findall(status)))
    return most * 1024 // _MB


def total_mb() -> int:
    """What this machine has, or what the control group of this process may have of it, in MB."""
    total = psutil.virtual_memory().total
    with contextlib.suppress(OSError, ValueError):
        total = min(total, int(_CGROUP_LIMIT.read_text(encoding="ascii")))
    return int(total // _MB)


def _held(process: psutil.Process) -> int:
    try:
        memory = process.memory_full_info()
    except psutil.AccessDenied:
        return int(process.memory_info().rss)
    return int(memory.pss + memory.swap)
