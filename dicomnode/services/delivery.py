"""Results go to their destinations, and count as delivered only when the destination lists them."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from itertools import groupby

import structlog

from dicomnode.config import DeliverySection, Destination
from dicomnode.dimse.query import listed_instances
from dicomnode.dimse.sender import send
from dicomnode.errors import ContextRefused, DimseError, LeaseLost, StoreError, StoreRefused
from dicomnode.model.delivery import Delivery
from dicomnode.model.result import OutgoingInstance
from dicomnode.services.heartbeat import Heartbeat
from dicomnode.store import deliveries
from dicomnode.store.database import Database
from dicomnode.store.objects import ObjectStore

log = structlog.get_logger()

FIRST_CHECK_S = 0.2
"""An archive may list what it accepted a moment later."""
CHECK_AGAIN_S = 30.0
DUPLICATE_SOP_INSTANCE = 0x0111
"""PS3.7 C.4.1.1.3"""


class Courier:
    """Serves one destination. A destination that cannot be reached costs one attempt a breath, no more."""

    def __init__(
        self,
        database: Database,
        objects: ObjectStore,
        destination: Destination,
        calling_ae: str,
        settings: DeliverySection,
    ) -> None:
        self._database, self._objects, self._destination = database, objects, destination
        self._calling_ae, self._settings = calling_ae, settings
        self._in_hand: dict[str, Delivery] = {}

    def tick(self, stopped: Callable[[], bool] = lambda: False) -> int:
        """Send what is due, then ask for what was sent; returns how many deliveries were taken up.

        Once `stopped()`, nothing further is offered, and what was not goes back.
        """
        sent = self._send_due(stopped)
        return sent if stopped() else sent + self._check_sent()

    def hand_back(self) -> None:
        """Give back what has no outcome: at a stop, or while a destination lets us wait beyond it."""
        for delivery in list(self._in_hand.values()):
            with suppress(LeaseLost), self._database.begin() as tx:
                deliveries.hand_back(tx, delivery.lease)
        self._in_hand.clear()

    @property
    def _give_up_after_s(self) -> float:
        return self._settings.give_up_after_h * 3600

    def _path_of(self, sha256: str) -> str:
        return str(self._objects.path(sha256))

    def _send_due(self, stopped: Callable[[], bool]) -> int:
        with self._database.begin() as tx:
            claimed = deliveries.claim(tx, self._destination.name, self._settings.lease_s, self._path_of)
        if not claimed:
            return 0
        self._in_hand = {delivery.instance.SOPInstanceUID: delivery for delivery in claimed}

        def settle(instance: OutgoingInstance, error: DimseError | None) -> None:
            if (delivery := self._in_hand.pop(instance.SOPInstanceUID, None)) is not None:
                self._settle(delivery, error)

        with Heartbeat(lambda: self._extend(claimed), self._settings.lease_s / 3):
            intact = [delivery for delivery in claimed if self._is_intact(delivery)]
            instances = [delivery.instance for delivery in intact]
            send(self._destination.peer, self._calling_ae, instances, settle, stopped)
        self.hand_back()
        return len(claimed)

    def _is_intact(self, delivery: Delivery) -> bool:
        """What is sent is what was fixed when the job ended; a result that the disk changed is never sent."""
        if self._objects.intact(delivery.sha256):
            return True
        del self._in_hand[delivery.instance.SOPInstanceUID]
        log.error("delivery.changed", delivery=delivery.id, sha256=delivery.sha256)
        with suppress(LeaseLost), self._database.begin() as tx:
            deliveries.give_up(tx, delivery.lease, "the stored result is not what the job made")
        return False

    def _extend(self, claimed: Sequence[Delivery]) -> None:
        with self._database.begin() as tx:
            deliveries.extend(tx, [delivery.lease for delivery in claimed], self._settings.lease_s)

    def _settle(self, delivery: Delivery, error: DimseError | None) -> None:
        try:
            with self._database.begin() as tx:
                if error is None or self._is_there_already(error):
                    deliveries.accept(tx, delivery.lease, check_after_s=FIRST_CHECK_S)
                elif isinstance(error, ContextRefused):
                    deliveries.give_up(tx, delivery.lease, str(error))
                else:
                    deliveries.fail(
                        tx,
                        delivery.lease,
                        str(error),
                        wait_s=self._wait_s(delivery.attempt),
                        give_up_after_s=self._give_up_after_s,
                    )
        except LeaseLost:
            log.warning("delivery.lease_lost", delivery=delivery.id)
            return
        log.info(
            "delivery.sent" if error is None else "delivery.failed",
            delivery=delivery.id,
            attempt=delivery.attempt,
        )

    def _is_there_already(self, error: DimseError) -> bool:
        """A duplicate, says the archive; whether it is ours, the question that follows will show."""
        duplicate = isinstance(error, StoreRefused) and error.status == DUPLICATE_SOP_INSTANCE
        return duplicate and self._destination.confirm == "find"

    def _wait_s(self, attempt: int) -> float:
        longest = min(self._settings.backoff_limit_s, self._settings.backoff_s * 2.0 ** min(attempt - 1, 30))
        return longest * random.uniform(0.5, 1.0)  # noqa: S311  jitter, not a secret

    def _check_sent(self) -> int:
        if self._destination.confirm == "none":
            return 0
        with self._database.begin() as tx:
            claimed = deliveries.claim_checks(
                tx, self._destination.name, CHECK_AGAIN_S, self._settings.backoff_limit_s, self._path_of
            )
        for (study, series), group in groupby(
            claimed, key=lambda delivery: (delivery.StudyInstanceUID, delivery.SeriesInstanceUID)
        ):
            self._check(study, series, list(group))
        return len(claimed)

    def _check(self, StudyInstanceUID: str, SeriesInstanceUID: str, sent: Sequence[Delivery]) -> None:
        try:
            listed = listed_instances(
                self._destination.peer, self._calling_ae, StudyInstanceUID, SeriesInstanceUID
            )
        except DimseError as error:
            log.warning("delivery.check_failed", deliveries=len(sent), error=type(error).__name__)
            with self._database.begin() as tx:
                for delivery in sent:
                    deliveries.give_up_if_old(tx, delivery.lease, str(error), self._give_up_after_s)
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
                    wait_s=self._wait_s(delivery.attempt),
                    give_up_after_s=self._give_up_after_s,
                ):
                    log.warning("delivery.missing", delivery=delivery.id)


def serve_destination(courier: Courier, stop: threading.Event, pause_s: float) -> None:
    """Run a courier until `stop` is set."""
    while not stop.is_set():
        try:
            busy = courier.tick(stop.is_set)
        except StoreError as error:
            log.warning("delivery.store_failed", error=str(error))
            busy = 0
        except Exception:  # the edge of a delivery: recorded, and tried again
            log.exception("delivery.error")
            busy = 0
        if not busy:
            stop.wait(pause_s)


def tell_stranded(database: Database, destinations: Collection[str]) -> None:
    """What waits for a destination that the configuration no longer has is never sent, and must be seen."""
    with database.read() as tx:
        waiting = deliveries.stranded(tx, destinations)
    for name, count in waiting.items():
        log.error("delivery.no_such_destination", destination=name, waiting=count)
