"""How many requests a second each address may send: DIMSE has no answer for more, so that has to wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

_MOST_ADDRESSES = 10_000
_BURST_S = 1.0
"""What an address did not use of this time it may send at once."""


class RequestRate:
    """`per_second` requests on average, and as many at once; over all associations of an address."""

    def __init__(
        self,
        per_second: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._interval_s, self._clock, self._sleep = 1 / per_second, clock, sleep
        self._lock = threading.Lock()
        self._due: dict[str, float] = {}

    def wait(self, address: str) -> None:
        """One more request of this address: returns when it may be served. Meanwhile TCP stops the sender."""
        with self._lock:
            now = self._clock()
            if len(self._due) >= _MOST_ADDRESSES:
                self._due = {each: due for each, due in self._due.items() if due > now - _BURST_S}
            due = max(self._due.get(address, 0.0), now - _BURST_S) + self._interval_s
            self._due[address] = due
        if due > now:
            self._sleep(due - now)
