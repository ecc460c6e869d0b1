"""What others tell of series is written down; completion compares it with what is here."""

from __future__ import annotations

import structlog

from dicomnode.model.announcement import Announcement, StepReport
from dicomnode.store import announcements
from dicomnode.store.database import Database

log = structlog.get_logger()


class Announcements:
    """Takes notifications; each is durable when its method returns."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def take(self, announcement: Announcement) -> None:
        """Instances are available, or not any more."""
        with self._database.begin() as tx:
            instances = announcements.add(tx, announcement)
        log.info("instances.announced", series=len(announcement.available), instances=instances)

    def create_step(self, report: StepReport) -> None:
        """A performed procedure step begins. Raises DuplicateStep."""
        with self._database.begin() as tx:
            announcements.create_step(tx, report)

    def modify_step(self, report: StepReport) -> None:
        """It goes on or ends; a completed one announces what it made. Raises NoSuchStep, StepIsOver."""
        with self._database.begin() as tx:
            made = announcements.modify_step(tx, report)
            instances = announcements.add(tx, made) if made is not None else 0
        log.info("step.modified", state=report.state, instances=instances)
