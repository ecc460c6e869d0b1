"""Leases that ran out: what a dead process held goes to the next one."""

from __future__ import annotations

import structlog

from dicomnode.store import deliveries, jobs
from dicomnode.store.database import Database

log = structlog.get_logger()


def expire_leases(database: Database, attempts: int) -> None:
    """Take back what was leased by a process that no longer says that it lives."""
    with database.begin() as tx:
        expired_jobs = jobs.expire(tx, attempts)
        expired_deliveries = deliveries.expire(tx)
    if expired_jobs or expired_deliveries:
        log.warning("leases.expired", jobs=expired_jobs, deliveries=expired_deliveries)
