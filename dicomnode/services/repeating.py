"""Work that is never done: a tick after the other, until the node stops."""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from dicomnode.errors import StoreError

log = structlog.get_logger()


def repeat(work: str, tick: Callable[[], int], stop: threading.Event, pause_s: float) -> None:
    """Call `tick` until `stop` is set, with a pause after each that found nothing to do."""
    while not stop.is_set():
        try:
            busy = tick()
        except StoreError as error:
            log.warning(f"{work}.store_failed", error=str(error))
            busy = 0
        except Exception:  # the edge of a delivery, or of another order: recorded, and tried again
            log.exception(f"{work}.error")
            busy = 0
        if not busy:
            stop.wait(pause_s)
