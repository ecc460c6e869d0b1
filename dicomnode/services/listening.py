"""A receiver tells the database that it listens, so that a silence while it was down counts for nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dicomnode.services.heartbeat import Heartbeat
from dicomnode.store import listeners
from dicomnode.store.database import Database


@contextmanager
def listening(database: Database, name: str) -> Iterator[None]:
    """While the block runs, the receiver of that name listens. Raises StorageFailed at its ends."""

    def tell() -> None:
        with database.begin() as tx:
            listeners.tell(tx, name)

    with database.begin() as tx:
        listeners.begin(tx, name)
    with Heartbeat(tell, listeners.TELL_S):
        yield
    with database.begin() as tx:
        listeners.end(tx, name)
