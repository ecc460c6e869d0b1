"""Decides when a series is complete."""

from __future__ import annotations

import structlog

from dicomnode.config import CompletionSection
from dicomnode.store import catalog, listeners
from dicomnode.store.database import Database

log = structlog.get_logger()


class CompletionService:
    """A series is quiet when nothing came for a while although the receivers were listening."""

    def __init__(self, database: Database, settings: CompletionSection) -> None:
        self._database, self._settings = database, settings

    def tick(self) -> int:
        """Complete what is due; returns how many series."""
        with self._database.begin() as tx:
            due = catalog.complete_due(
                tx,
                self._settings.quiet_s,
                self._settings.missing_wait_s,
                listened_s=listeners.listened_s(tx),
            )
        for SeriesInstanceUID, reason in due:
            log.info("series.complete", SeriesInstanceUID=SeriesInstanceUID, reason=reason)
        return len(due)


def order_completion(database: Database, SeriesInstanceUID: str) -> int:
    """The administrator's order; returns how many open series there were. Raises NotFound."""
    with database.begin() as tx:
        return catalog.complete_ordered(tx, SeriesInstanceUID)
