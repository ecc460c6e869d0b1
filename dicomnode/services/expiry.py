"""Leases that ran out go to the next process; and the clock that they are measured by is watched."""

from __future__ import annotations

import structlog

from dicomnode.store import deliveries, leases, timers
from dicomnode.store.database import Database

log = structlog.get_logger()


def expire_leases(database: Database, attempts: int) -> int:
    """Take back what was leased by a process that no longer says that it lives; returns how much that was.

    And end what can no longer begin by its deadline.
    """
    with database.read() as tx:
        if not leases.any_expired(tx) and not deliveries.any_expired(tx):
            return 0
    with database.begin() as tx:
        expired_jobs = leases.expire(tx, attempts)
        expired_deliveries = deliveries.expire(tx)
        overdue = leases.end_overdue(tx)
    if overdue:
        log.warning("jobs.overdue", jobs=overdue)
    if expired_jobs or expired_deliveries:
        log.warning("leases.expired", jobs=expired_jobs, deliveries=expired_deliveries)
    return len(expired_jobs) + len(expired_deliveries) + len(overdue)


def follow_clock(database: Database) -> int:
    """Where the database's clock was set back, no wait is longer for it; returns 1 then, else 0."""
    with database.begin() as tx:
        set_back_s = timers.follow_clock(tx)
    if set_back_s:
        log.warning("clock.set_back", seconds=round(set_back_s, 3))
    return int(set_back_s > 0)
