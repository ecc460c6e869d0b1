"""Results go to their destinations, and count as delivered only when the destination lists them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from dicomnode.config import DeliverySection
from dicomnode.errors import ContextRefused, LeaseLost, PeerError, StoreRefused, WebStoreRefused
from dicomnode.model.delivery import Delivery
from dicomnode.model.result import OutgoingInstance
from dicomnode.services.heartbeat import Heartbeat
from dicomnode.services.patience import retry_wait_s
from dicomnode.store import deliveries
from dicomnode.store.database import Database
from dicomnode.store.object_store import Objects

log = structlog.get_logger()

DUPLICATE_SOP_INSTANCE = 0x0111
"""PS3.7 C.4.1.1.3"""

OnOutcome = Callable[[OutgoingInstance, PeerError | None], None]
Send = Callable[[Sequence[OutgoingInstance], OnOutcome, Callable[[], bool]], None]
"""Offers the instances and tells each outcome as it comes; once the last argument says so, no further one."""


@dataclass(frozen=True, slots=True)
class Transport:
    """How a destination is sent results, and how it is asked what became of them.

    `confirm` takes up what was sent and is not confirmed, and returns how many that were; None: nobody asks.
    It does so at the earliest `confirm_after_s` after the destination has accepted.
    """

    send: Send
    confirm: Callable[[], int] | None
    confirm_after_s: float = 0.0


class Courier:
    """Serves one destination. A destination that cannot be reached costs one attempt a breath, no more."""

    def __init__(
        self,
        database: Database,
        objects: Objects,
        destination: str,
        transport: Transport,
        settings: DeliverySection,
    ) -> None:
        self._database, self._objects = database, objects
        self._destination, self._transport, self._settings = destination, transport, settings
        self._in_hand: dict[str, Delivery] = {}

    def tick(self, stopped: Callable[[], bool] = lambda: False) -> int:
        """Send what is due, then ask for what was sent; returns how many deliveries were taken up.

        Once `stopped()`, nothing further is offered, and what was not goes back.
        """
        with self._database.read() as tx:
            if not deliveries.any_due(tx, self._destination):
                return 0
        sent = self._send_due(stopped)
        confirm = self._transport.confirm
        return sent if stopped() or confirm is None else sent + confirm()

    def hand_back(self) -> None:
        """Give back what has no outcome: at a stop, or while a destination lets us wait beyond it."""
        for delivery in list(self._in_hand.values()):
            with suppress(LeaseLost), self._database.begin() as tx:
                deliveries.hand_back(tx, delivery.lease)
        self._in_hand.clear()

    def _send_due(self, stopped: Callable[[], bool]) -> int:
        with self._database.begin() as tx:
            claimed = deliveries.claim(tx, self._destination, self._settings.lease_s, self._objects.located)
        if not claimed:
            return 0
        self._in_hand = {delivery.instance.SOPInstanceUID: delivery for delivery in claimed}

        def settle(instance: OutgoingInstance, error: PeerError | None) -> None:
            if (delivery := self._in_hand.pop(instance.SOPInstanceUID, None)) is not None:
                self._settle(delivery, error)

        try:
            with Heartbeat(lambda: self._extend(claimed), self._settings.lease_s / 3):
                intact = [delivery for delivery in claimed if self._is_intact(delivery)]
                self._transport.send([delivery.instance for delivery in intact], settle, stopped)
        finally:
            # Where the object store is away, it is not the destination's fault.
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

    def _settle(self, delivery: Delivery, error: PeerError | None) -> None:
        try:
            with self._database.begin() as tx:
                if error is None or self._is_there_already(error):
                    deliveries.accept(tx, delivery.lease, check_after_s=self._transport.confirm_after_s)
                elif isinstance(error, ContextRefused):
                    deliveries.give_up(tx, delivery.lease, str(error))
                else:
                    deliveries.fail(
                        tx,
                        delivery.lease,
                        str(error),
                        wait_s=retry_wait_s(self._settings, delivery.attempt),
                        give_up_after_s=self._settings.give_up_after_s,
                    )
        except LeaseLost:
            log.warning("delivery.lease_lost", delivery=delivery.id)
            return
        log.info(
            "delivery.sent" if error is None else "delivery.failed",
            delivery=delivery.id,
            attempt=delivery.attempt,
        )

    def _is_there_already(self, error: PeerError) -> bool:
        """A duplicate, says the archive; whether it is ours, the question that follows will show."""
        duplicate = (
            isinstance(error, (StoreRefused, WebStoreRefused)) and error.status == DUPLICATE_SOP_INSTANCE
        )
        return duplicate and self._transport.confirm is not None


def tell_stranded(database: Database, destinations: Collection[str]) -> None:
    """What waits for a destination that the configuration no longer has is never sent, and must be seen."""
    with database.read() as tx:
        waiting = deliveries.stranded(tx, destinations)
    for name, count in waiting.items():
        log.error("delivery.no_such_destination", destination=name, waiting=count)
