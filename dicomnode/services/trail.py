"""A line of the audit trail that belongs to nothing else that is written."""

from __future__ import annotations

from collections.abc import Mapping

from dicomnode.store import audit
from dicomnode.store.database import Database


def record_alone(database: Database, event: str, facts: Mapping[str, str | int | None]) -> None:
    """Write it in a transaction of its own. Raises StorageFailed."""
    with database.begin() as tx:
        audit.record(tx, event, facts)
