"""What a start does before anything else: tidy what a killed process left, and check what was kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import structlog

from dicomnode.model.instance import StoredObject
from dicomnode.store import audit, catalog
from dicomnode.store.database import Database
from dicomnode.store.object_store import Objects

log = structlog.get_logger()

LOOK_BACK_S = 7 * 86_400.0
VERIFIED_INSTANCES = 1_000
BATCH = 500
_LOOKS_AT_ONCE = 8


def recover(database: Database, objects: Objects) -> None:
    """Remove stale temporary files and objects that no row names, and look for lost objects.

    An object without a row was never acknowledged, so nothing is lost with it. A row without its object
    is a disk that lied: it is written to the audit trail and logged as an error.
    """
    database.settle()
    removed = objects.remove_stale_temporaries()
    collected = _collect_orphans(database, objects)
    with database.read() as tx:
        recent = catalog.recent_objects(tx, VERIFIED_INSTANCES)
    lost = [stored for stored, is_held in zip(recent, _held(objects, recent), strict=True) if not is_held]
    for stored in lost:
        log.error("object.lost", sha256=stored.sha256, size=stored.size)
        with database.begin() as tx:
            audit.record(tx, "object_lost", {"sha256": stored.sha256, "size": stored.size})
    log.info("recovered", temporaries=removed, orphans=collected, verified=len(recent), lost=len(lost))


def _held(objects: Objects, recent: Sequence[StoredObject]) -> list[bool]:
    """Whether each is there; several are asked for at once, since a store may be far away."""
    pool = ThreadPoolExecutor(_LOOKS_AT_ONCE)
    try:
        return list(pool.map(objects.holds, recent))
    finally:
        pool.shutdown(cancel_futures=True)


def _collect_orphans(database: Database, objects: Objects) -> int:
    """Many are asked about at once; the few that seem orphans are looked at again under the write lock."""
    collected = 0
    for digests in _batched(objects.changed_since(LOOK_BACK_S)):
        with database.read() as tx:
            orphans = set(digests) - catalog.named_objects(tx, digests)
        for sha256 in orphans:
            with database.begin() as tx:
                catalog.stop_entries(tx)
                if objects.is_old(sha256) and not catalog.named_objects(tx, [sha256]):
                    objects.remove(sha256)
                    collected += 1
    return collected


def _batched(digests: Iterable[str]) -> Iterator[list[str]]:
    """Lists of at most BATCH."""
    remaining = iter(digests)
    while batch := list(islice(remaining, BATCH)):
        yield batch
