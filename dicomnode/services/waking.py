"""Wakes those who wait for work as soon as some is committed, in this process or in another."""

from __future__ import annotations

import threading
from collections.abc import Collection
from types import TracebackType
from typing import Self

import structlog

from dicomnode.model.topic import Topic
from dicomnode.store.database import Database
from dicomnode.store.signals import Listener

log = structlog.get_logger()

_HEAR_S = 5.0
_LISTEN_AGAIN_S = 5.0


class Bell:
    """Rings for some topics. One that rings while nobody waits is heard by the next who does."""

    def __init__(self, topics: Collection[Topic] = ()) -> None:
        self.topics = frozenset(topics)
        self._rung = threading.Event()

    def ring(self) -> None:
        """Let whoever waits go on."""
        self._rung.set()

    def wait(self, timeout_s: float) -> bool:
        """Wait for it, at most so long; True where it rang."""
        rung = self._rung.wait(timeout_s)
        self._rung.clear()
        return rung


class Waking:
    """Listens in a thread while the block runs, and rings the bells; all of them once `stop` is set.

    Where it cannot listen, nothing rings: who waits looks by himself after a while.
    """

    def __init__(self, database: Database, stop: threading.Event) -> None:
        self._database, self._stop = database, stop
        self._bells: list[Bell] = []
        self._done = threading.Event()

    def bell(self, *topics: Topic) -> Bell:
        """A bell for these topics."""
        bell = Bell(topics)
        self._bells.append(bell)
        return bell

    def __enter__(self) -> Self:
        threading.Thread(target=self._ring_at_stop, name="stop", daemon=True).start()
        threading.Thread(target=self._run, name="signals", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()

    def _ring_at_stop(self) -> None:
        self._stop.wait()
        for bell in self._bells:
            bell.ring()

    def _run(self) -> None:
        while not self._done.is_set():
            try:
                listener = self._database.listen()
            except OSError as error:
                log.warning("signals.not_heard", error=str(error))
            else:
                self._hear(listener)
            self._done.wait(_LISTEN_AGAIN_S)

    def _hear(self, listener: Listener) -> None:
        # What was announced while nobody listened is found by looking once.
        heard: Collection[Topic] = frozenset(Topic)
        try:
            while not self._done.is_set():
                for bell in self._bells:
                    if not bell.topics.isdisjoint(heard):
                        bell.ring()
                heard = listener.hear(_HEAR_S)
        except OSError as error:
            log.warning("signals.lost", error=str(error))
        finally:
            listener.close()
