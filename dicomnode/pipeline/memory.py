"""How much memory a child and all that it started hold."""

from __future__ import annotations

import contextlib

import psutil

_MB = 1_000_000


def held_mb(pid: int) -> float:
    """Of the machine's memory, with what is swapped out, in MB (10⁶ bytes); 0 where they are gone.

    What several processes share counts once, as far as the kernel tells.
    """
    held = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        leader = psutil.Process(pid)
        for process in (leader, *leader.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                held += _held(process)
    return held / _MB


def _held(process: psutil.Process) -> int:
    try:
        memory = process.memory_full_info()
    except psutil.AccessDenied:
        return int(process.memory_info().rss)
    return int(memory.pss + memory.swap)
