"""The process whose system calls fail: it takes instances in as the receiver does, and says what it answers.

Over a socket, since calls on files are counted from the barrier on.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from dicomnode.config import load_config
from dicomnode.dimse.edge import attempt
from dicomnode.dimse.status import STATUS
from dicomnode.errors import DuplicateDiffers
from dicomnode.installation import open_stores
from dicomnode.logs import configure_logs
from dicomnode.model.instance import Received
from dicomnode.roles.watching import watch_disk
from dicomnode.services.ingest import Ingest
from dicomnode.supervisor import EXIT_DISK


def take_in(
    config: Path,
    before: Sequence[Received],
    alone: Sequence[Received],
    together: Sequence[Received],
    to: socket.socket,
) -> None:
    """Take `before` in, wait at the barrier, then take in `alone` one by one and `together` at once."""
    configure_logs("info", "json")
    stores = open_stores(load_config(config, {}))
    ingest = Ingest(stores.database, stores.objects)
    failed, stop = threading.Event(), threading.Event()

    def batch() -> list[int]:
        incoming = []
        for each in together:
            incoming.append(ingest.begin(each))
            incoming[-1].write(each.data)
            incoming[-1].end()
        outcomes = ingest.keep(incoming)
        return [STATUS[DuplicateDiffers] if isinstance(each, DuplicateDiffers) else 0 for each in outcomes]

    store, keep = watch_disk(ingest.store, failed, stop), watch_disk(batch, failed, stop)

    def answers() -> Iterator[tuple[str, int]]:
        facts = together[0].association
        for each in alone:
            yield each.SOPInstanceUID, attempt("store.failed", facts, partial(store, each))[0]
        status, statuses = attempt("store.failed", facts, keep)
        for each, own in zip(together, statuses or [status] * len(together), strict=True):
            yield each.SOPInstanceUID, own

    for each in before:
        ingest.store(each)
    to.sendall(b"ready\n")
    to.recv(1)
    for answer in answers():
        to.sendall(json.dumps(answer).encode() + b"\n")
        if stop.is_set():
            break
    # As a process that is ended by the supervisor: the database is not closed.
    os._exit(EXIT_DISK if failed.is_set() else 0)
