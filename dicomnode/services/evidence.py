"""Silent series are compared with what an archive lists, and what is missing is fetched."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import structlog

from dicomnode.errors import LeaseLost, PeerError
from dicomnode.model.inquiry import Inquiry, InquiryState
from dicomnode.services.heartbeat import Heartbeat
from dicomnode.store import catalog, inquiries
from dicomnode.store.database import Database

log = structlog.get_logger()

LEASE_S = 6.0
"""A question whose engine was silent for this long is taken up by the next one."""
ASK_AGAIN_S = 2.0


class Fetch(Protocol):
    """Brings instances of a series here; on return those that came are durable. Raises PeerError.

    `SOPClasses`: what they probably are instances of. Once `stopped()`, the rest is left.
    """

    def __call__(
        self,
        StudyInstanceUID: str,
        SeriesInstanceUID: str,
        missing: Collection[str],
        SOPClasses: Collection[str],
        stopped: Callable[[], bool],
        /,
    ) -> None:
        """Fetch what is `missing`."""


@dataclass(frozen=True, slots=True)
class Archive:
    """Whom to ask. `listed`: from a study's and a series' UID to SOPInstanceUIDs; raises PeerError."""

    name: str
    listed: Callable[[str, str], frozenset[str]]
    fetch: Fetch


class EvidenceService:
    """Asks one archive; several threads may tick at once, so that a slow answer holds up one series only."""

    def __init__(self, database: Database, archive: Archive) -> None:
        self._database, self._archive = database, archive

    def tick(self, stopped: Callable[[], bool] = lambda: False) -> int:
        """Ask about one series; returns how many that were."""
        with self._database.read() as tx:
            if not inquiries.any_due(tx):
                return 0
        with self._database.begin() as tx:
            inquiry = inquiries.claim(tx, LEASE_S)
        if inquiry is None:
            return 0

        def extend() -> None:
            with self._database.begin() as tx:
                inquiries.extend(tx, inquiry, LEASE_S)

        with Heartbeat(extend, LEASE_S / 3) as heartbeat, suppress(LeaseLost):
            self._ask(inquiry, lambda: stopped() or heartbeat.lost.is_set())
        return 1

    def _ask(self, inquiry: Inquiry, stopped: Callable[[], bool]) -> None:
        try:
            listed = self._archive.listed(inquiry.StudyInstanceUID, inquiry.SeriesInstanceUID)
        except PeerError as error:
            log.warning("series.not_asked", inquiry=inquiry.id, error=type(error).__name__)
            note = f"{self._archive.name} could not be asked: {error}"
            with self._database.begin() as tx:
                inquiries.postpone(tx, inquiry, note, ASK_AGAIN_S)
            return
        problem = self._fetch(inquiry, listed, stopped)
        with self._database.begin() as tx:
            state = inquiries.settle(tx, inquiry, listed, self._archive.name, problem, ASK_AGAIN_S)
        if state is InquiryState.LISTED:
            log.info(
                "series.complete", SeriesInstanceUID=inquiry.SeriesInstanceUID, reason=InquiryState.LISTED
            )

    def _fetch(self, inquiry: Inquiry, listed: frozenset[str], stopped: Callable[[], bool]) -> str:
        """Fetch what is missing; "" or why that was not possible. Raises LeaseLost where nobody waits."""
        with self._database.begin() as tx:
            inquiries.extend(tx, inquiry, LEASE_S)
            held = catalog.held_instances(tx, inquiry.series_id)
            classes = catalog.classes_of(tx, inquiry.series_id)
        missing = sorted(listed - held)
        if not missing:
            return ""
        log.info("series.fetching", SeriesInstanceUID=inquiry.SeriesInstanceUID, instances=len(missing))
        try:
            place = (inquiry.StudyInstanceUID, inquiry.SeriesInstanceUID)
            self._archive.fetch(*place, missing, classes, stopped)
        except PeerError as error:
            log.warning("series.not_fetched", inquiry=inquiry.id, error=type(error).__name__)
            return str(error)
        return ""
