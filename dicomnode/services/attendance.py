"""A worker tells the database that it is there: administrators drain it by name, and forecasts count it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dicomnode.services.heartbeat import Heartbeat
from dicomnode.store import workers
from dicomnode.store.database import Database


@contextmanager
def working(database: Database, name: str) -> Iterator[None]:
    """While the block runs, the worker of that name is there. Raises StorageFailed at its ends."""

    def tell() -> None:
        with database.begin() as tx:
            workers.tell(tx, name)

    with database.begin() as tx:
        workers.begin(tx, name)
    with Heartbeat(tell, workers.TELL_S):
        yield
    with database.begin() as tx:
        workers.end(tx, name)
