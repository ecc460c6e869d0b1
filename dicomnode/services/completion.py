"""Decides when a series is complete."""

from __future__ import annotations

import structlog

from dicomnode.config import CompletionSection
from dicomnode.model.instance import CompletionReason
from dicomnode.store import completions, inquiries, listeners
from dicomnode.store.database import Database

log = structlog.get_logger()


class CompletionService:
    """A series is quiet when nothing came for a while although the receivers were listening.

    Where `settings.ask` names an archive, that opens an inquiry, and completes a series only when it is over.
    """

    def __init__(self, database: Database, settings: CompletionSection) -> None:
        self._database, self._settings = database, settings
        self.arriving = True
        """Whether a series was open at the last look: then the next is due soon."""

    def tick(self) -> int:
        """Complete what is due; returns how many series."""
        settings = self._settings
        with self._database.read() as tx:
            self.arriving = completions.any_open(tx)
        if not self.arriving:
            return 0
        with self._database.begin() as tx:
            announced = completions.complete_announced(tx)
            listened_s = listeners.listened_s(tx)
            if settings.ask:
                inquiries.open_due(tx, settings.quiet_s, listened_s)
                inquiries.give_up(tx, settings.ask_limit_s, listened_s, settings.ask)
            due = completions.complete_due(
                tx,
                settings.quiet_s,
                settings.missing_wait_s,
                listened_s=listened_s,
                ask=bool(settings.ask),
            )
        due += [(SeriesInstanceUID, CompletionReason.ANNOUNCED) for SeriesInstanceUID in announced]
        for SeriesInstanceUID, reason in due:
            log.info("series.complete", SeriesInstanceUID=SeriesInstanceUID, reason=reason)
        return len(due)


def order_completion(database: Database, SeriesInstanceUID: str) -> int:
    """The administrator's order; returns how many open series there were. Raises NotFound."""
    with database.begin() as tx:
        return completions.complete_ordered(tx, SeriesInstanceUID)
