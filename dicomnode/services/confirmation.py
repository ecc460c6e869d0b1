"""A delivery is confirmed when the destination, asked anew, lists the instance (C-FIND or QIDO-RS)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import structlog

from dicomnode.config import DeliverySection
from dicomnode.errors import PeerError
from dicomnode.model.delivery import Delivery
from dicomnode.services.patience import CHECK_AGAIN_S, CHECK_SOON_S, retry_wait_s
from dicomnode.store import deliveries
from dicomnode.store.database import Database
from dicomnode.store.object_store import Objects

log = structlog.get_logger()

Listed = Callable[[str, str], frozenset[str]]
"""From a study's and a series' UID to the SOPInstanceUIDs that the peer lists; raises PeerError."""


class ConfirmByListing:
    """Asks one destination for the series of what it accepted."""

    def __init__(
        self,
        database: Database,
        objects: Objects,
        destination: str,
        listed: Listed,
        settings: DeliverySection,
    ) -> None:
        self._database, self._objects = database, objects
        self._destination, self._listed, self._settings = destination, listed, settings

    def tick(self) -> int:
        """Ask for what is due; returns how many deliveries that were."""
        with self._database.begin() as tx:
            claimed = deliveries.claim_checks(
                tx,
                self._destination,
                CHECK_AGAIN_S,
                self._settings.backoff_limit_s,
                self._objects.located,
            )
        for (study, series), group in groupby(
            claimed, key=lambda delivery: (delivery.StudyInstanceUID, delivery.SeriesInstanceUID)
        ):
            self._check(study, series, list(group))
        return len(claimed)

    def _check(self, StudyInstanceUID: str, SeriesInstanceUID: str, sent: Sequence[Delivery]) -> None:
        try:
            listed = self._listed(StudyInstanceUID, SeriesInstanceUID)
        except PeerError as error:
            log.warning("delivery.check_failed", deliveries=len(sent), error=type(error).__name__)
            with self._database.begin() as tx:
                for delivery in sent:
                    deliveries.give_up_if_old(tx, delivery.lease, str(error), self._settings.give_up_after_s)
            return
        for delivery in sent:
            with self._database.begin() as tx:
                if delivery.instance.SOPInstanceUID in listed:
                    deliveries.confirm(tx, delivery.lease)
                    log.info("delivery.confirmed", delivery=delivery.id)
                elif deliveries.miss(
                    tx,
                    delivery.lease,
                    self._settings.confirm_checks,
                    wait_s=retry_wait_s(self._settings, delivery.attempt),
                    give_up_after_s=self._settings.give_up_after_s,
                    soon_s=CHECK_SOON_S,
                ):
                    log.warning("delivery.missing", delivery=delivery.id)
