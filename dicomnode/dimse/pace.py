"""How slowly a peer may send what it has begun to send: a PDU, and a message (PS3.8 9.3, PS3.7 6.3)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

SLOWEST = 1000.0
"""Bytes a second that a peer must send on average, once the limit on its silence is over."""


class Pace:
    """Counts how long a peer was waited for, and what it sent meanwhile."""

    def __init__(self) -> None:
        self._waited_s, self._sent = 0.0, 0

    def begin(self) -> None:
        """Something new begins."""
        self._waited_s, self._sent = 0.0, 0

    @contextmanager
    def waiting(self, limit_s: float | None) -> Iterator[None]:
        """Count the time that the block takes. Raises TimeoutError where it has become too much."""
        began = time.monotonic()
        yield
        self._waited_s += time.monotonic() - began
        if limit_s is not None and self._waited_s > limit_s + self._sent / SLOWEST:
            raise TimeoutError("the peer is too slow")

    def sent(self, length: int) -> None:
        """The peer has sent so many bytes."""
        self._sent += length
