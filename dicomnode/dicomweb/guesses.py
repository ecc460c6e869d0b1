"""Who guesses at credentials has to wait, and an administrator can look it up (RFC 6585 4)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import structlog

from dicomnode.dicomweb.rate import Address, Rate
from dicomnode.errors import TooManyGuesses

log = structlog.get_logger()

AT_ONCE = 10
"""Wrong credentials of one address that are answered without more ado: who mistypes is no guesser."""
ANOTHER_S = 6.0
TOLD_AGAIN_S = 600.0


class Guesses:
    """Counts wrong credentials of each address; `note` is told of one that guesses, now and then.

    May be used from several threads at once.
    """

    def __init__(
        self,
        note: Callable[[str], None],
        at_once: int = AT_ONCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._note, self._lock = note, threading.Lock()
        self._wrong = Rate(at_once, 1 / ANOTHER_S, clock)
        self._told = Rate(1, 1 / TOLD_AGAIN_S, clock)

    def require_turn(self, address: Address) -> None:
        """Raises TooManyGuesses where this address has to wait before its credentials are looked at."""
        with self._lock:
            if not self._wrong.is_empty(address):
                return
            is_news = self._told.take(address)
        if is_news:
            log.warning("credentials.guessed", address=str(address))
            self._note(str(address))
        raise TooManyGuesses

    def count(self, address: Address) -> None:
        """Its credentials were wrong."""
        with self._lock:
            self._wrong.take(address)
