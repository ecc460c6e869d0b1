"""A process tells the database that it is there, while it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import TypeAlias

from dicomnode.model.room import Slot
from dicomnode.services.heartbeat import Heartbeat
from dicomnode.store import listeners, workers
from dicomnode.store.database import Database, Transaction

Say: TypeAlias = Callable[[Transaction, str], None]


def listening(database: Database, name: str) -> AbstractContextManager[None]:
    """While the block runs, the receiver of that name listens; a silence while none does counts for nothing.

    Raises StorageFailed at its ends.
    """
    return _attending(database, name, listeners.begin, listeners.tell, listeners.end, listeners.TELL_S)


def working(database: Database, name: str, slot: Slot | None = None) -> AbstractContextManager[None]:
    """While the block runs, the worker of that name is there: it can be drained, and forecasts count it.

    With a `slot`, its device is there, too, and what it holds is seen. Raises StorageFailed at its ends.
    """
    begin, tell = partial(workers.begin, slot=slot), partial(workers.tell, slot=slot)
    return _attending(database, name, begin, tell, workers.end, workers.TELL_S)


@contextmanager
def _attending(
    database: Database, name: str, begin: Say, still: Say, end: Say, interval_s: float
) -> Iterator[None]:
    def tell() -> None:
        with database.begin() as tx:
            still(tx, name)

    with database.begin() as tx:
        begin(tx, name)
    with Heartbeat(tell, interval_s):
        yield
    with database.begin() as tx:
        end(tx, name)
