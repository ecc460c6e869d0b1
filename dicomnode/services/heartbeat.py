"""Keeps leases alive while their owner works, from a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

import structlog

from dicomnode.errors import LeaseLost, StoreError
from dicomnode.services.waking import Bell

log = structlog.get_logger()


class Heartbeat:
    """Calls `beat` every `interval_s` while the block runs; `lost` is set once it raises LeaseLost.

    Where the bell rings, it calls at once.
    """

    def __init__(self, beat: Callable[[], None], interval_s: float, bell: Bell | None = None) -> None:
        self._beat, self._interval_s, self._bell = beat, interval_s, bell or Bell()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self.lost = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._bell.ring()
        self._thread.join()

    def _run(self) -> None:
        while True:
            self._bell.wait(self._interval_s)
            if self._stop.is_set():
                return
            try:
                self._beat()
            except LeaseLost:
                self.lost.set()
                return
            except StoreError as error:
                log.warning("heartbeat.failed", error=type(error).__name__)
