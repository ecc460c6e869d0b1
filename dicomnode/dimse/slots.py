"""A number of places that several processes share, and that a process which dies cannot keep."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_NAME = 64


class Slots:
    """`count` places, each for somebody; one is taken while a process has locked a byte of a file.

    The kernel lets go of the locks of a process that is gone. One object a process and file: these locks do
    not keep apart the threads of a process, and closing the file anywhere in it would let go of all of them.
    Without a file the places are this process's alone.
    """

    def __init__(self, file: Path | None, count: int) -> None:
        self._descriptor = (
            os.memfd_create("slots", os.MFD_CLOEXEC)
            if file is None
            else os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        )
        self._count, self._mine = count, set[int]()
        self._lock = threading.Lock()

    def take(self, name: str, most: int) -> int | None:
        """A place for `name`, which has at most so many; None where there is none."""
        entry = name.encode()[:_NAME].ljust(_NAME, b"\0")
        with self._alone():
            free = [place for place in range(self._count) if not self._is_taken(place)]
            taken = set(range(self._count)) - set(free)
            if not free or sum(self._entry(place) == entry for place in taken) >= most:
                return None
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX, 1, free[0])
            os.pwrite(self._descriptor, entry, free[0] * _NAME)
            self._mine.add(free[0])
            return free[0]

    def give_back(self, place: int) -> None:
        """It is free for others."""
        with self._lock:
            self._mine.discard(place)
            fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, place)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """No other thread, and no other process, takes a place meanwhile."""
        with self._lock:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX, 1, self._count)
            try:
                yield
            finally:
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, self._count)

    def _is_taken(self, place: int) -> bool:
        if place in self._mine:
            return True
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except OSError:
            return True
        fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, place)
        return False

    def _entry(self, place: int) -> bytes:
        return os.pread(self._descriptor, _NAME, place * _NAME)
