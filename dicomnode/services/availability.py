"""Peers are told when all results of a job are confirmed (PS3.4 R)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import structlog

from dicomnode.config import DeliverySection
from dicomnode.errors import PeerError
from dicomnode.model.announcement import AvailableInstance
from dicomnode.services.patience import retry_wait_s
from dicomnode.store import availability
from dicomnode.store.database import Database

log = structlog.get_logger()

Announce = Callable[[str, str, Sequence[AvailableInstance]], None]
"""Tells a peer, by its AE title, under a SOP Instance UID, of instances of one study; raises PeerError."""


class AvailabilityService:
    """`ae_titles`: of each destination from which others can retrieve."""

    def __init__(
        self, database: Database, settings: DeliverySection, ae_titles: Mapping[str, str], announce: Announce
    ) -> None:
        self._database, self._settings = database, settings
        self._ae_titles, self._announce = ae_titles, announce

    def tick(self, stopped: Callable[[], bool] = lambda: False) -> int:
        """Tell what is due; returns how many notifications were tried."""
        with self._database.read() as tx:
            if not availability.any_due(tx, self._settings.announce_to):
                return 0
        with self._database.begin() as tx:
            availability.open_due(tx, self._settings.announce_to)
        tried = 0
        for peer in self._settings.announce_to:
            if not stopped():
                tried += self._tell_next(peer)
        return tried

    def _tell_next(self, peer: str) -> int:
        with self._database.begin() as tx:
            claimed = availability.claim(tx, peer, self._settings.lease_s)
            if claimed is None:
                return 0
            id_, SOPInstanceUID, job_id, attempt = claimed
            instances = availability.confirmed(tx, job_id, self._ae_titles)
        problem = None
        try:
            if instances:
                self._announce(peer, SOPInstanceUID, instances)
        except PeerError as error:
            problem = str(error)
        with self._database.begin() as tx:
            if problem is None:
                availability.tell(tx, id_)
            else:
                wait_s = retry_wait_s(self._settings, attempt)
                give_up_after_s = self._settings.give_up_after_s
                availability.fail(tx, id_, problem, wait_s=wait_s, give_up_after_s=give_up_after_s)
        log.info("results.announced" if problem is None else "results.not_announced", job=job_id, peer=peer)
        return 1
