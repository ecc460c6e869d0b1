"""Work that is never done: a tick after the other, until the node stops."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from dicomnode.errors import StoreError
from dicomnode.services.waking import Bell

log = structlog.get_logger()


@dataclass
class Pace:
    """How long to rest when nothing was found: `shortest_s`, twice as long each time, at most `longest_s`.

    What waits for a moment rather than for a signal, such as a second attempt, is found by this alone.
    """

    longest_s: float
    shortest_s: float = 0.05
    _next_s: float = 0.0

    def rest_s(self, *, busy: bool) -> float:
        """The rest after a look that found something, or nothing."""
        self._next_s = 0.0 if busy else min(self.longest_s, max(self.shortest_s, 2 * self._next_s))
        return self._next_s

    def again(self) -> None:
        """Something happened: rest briefly again."""
        self._next_s = 0.0


def repeat(work: str, tick: Callable[[], int], stop: threading.Event, bell: Bell, longest_s: float) -> None:
    """Call `tick` until `stop` is set; when it finds nothing, rest until the bell rings, or for a while."""
    pace = Pace(longest_s)
    while not stop.is_set():
        try:
            busy = tick()
        except StoreError as error:
            log.warning(f"{work}.store_failed", error=str(error))
            busy = 0
        except Exception:  # the edge of a delivery, or of another order: recorded, and tried again
            log.exception(f"{work}.error")
            busy = 0
        if bell.wait(pace.rest_s(busy=bool(busy))):
            pace.again()
