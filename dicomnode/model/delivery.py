"""The states of a delivery: one result on its way to one destination. Sent is not confirmed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dicomnode.errors import IllegalTransition
from dicomnode.model.job import Lease
from dicomnode.model.result import OutgoingInstance


class DeliveryState(StrEnum):
    """Where a delivery is."""

    PENDING = "pending"
    SENDING = "sending"
    SENT = "sent"
    RETRY_WAIT = "retry_wait"
    CONFIRMED = "confirmed"
    DEAD = "dead"
    SUPERSEDED = "superseded"


class DeliveryEvent(StrEnum):
    """What happens to a delivery."""

    CLAIM = "claim"
    ACCEPT = "accept"
    FAIL = "fail"
    GIVE_UP = "give_up"
    HAND_BACK = "hand_back"
    EXPIRE = "expire"
    CHECK = "check"
    CONFIRM = "confirm"
    MISS = "miss"
    RETRY = "retry"
    SUPERSEDE = "supersede"


TRANSITIONS: dict[tuple[DeliveryState, DeliveryEvent], DeliveryState] = {
    (DeliveryState.PENDING, DeliveryEvent.CLAIM): DeliveryState.SENDING,
    (DeliveryState.PENDING, DeliveryEvent.SUPERSEDE): DeliveryState.SUPERSEDED,
    (DeliveryState.RETRY_WAIT, DeliveryEvent.CLAIM): DeliveryState.SENDING,
    (DeliveryState.RETRY_WAIT, DeliveryEvent.SUPERSEDE): DeliveryState.SUPERSEDED,
    (DeliveryState.SENDING, DeliveryEvent.ACCEPT): DeliveryState.SENT,
    (DeliveryState.SENDING, DeliveryEvent.FAIL): DeliveryState.RETRY_WAIT,
    (DeliveryState.SENDING, DeliveryEvent.GIVE_UP): DeliveryState.DEAD,
    (DeliveryState.SENDING, DeliveryEvent.HAND_BACK): DeliveryState.PENDING,
    (DeliveryState.SENDING, DeliveryEvent.EXPIRE): DeliveryState.RETRY_WAIT,
    (DeliveryState.SENT, DeliveryEvent.CHECK): DeliveryState.SENT,
    (DeliveryState.SENT, DeliveryEvent.CONFIRM): DeliveryState.CONFIRMED,
    (DeliveryState.SENT, DeliveryEvent.MISS): DeliveryState.RETRY_WAIT,
    (DeliveryState.SENT, DeliveryEvent.GIVE_UP): DeliveryState.DEAD,
    (DeliveryState.DEAD, DeliveryEvent.RETRY): DeliveryState.PENDING,
}

SETTLED = frozenset({DeliveryState.CONFIRMED, DeliveryState.DEAD, DeliveryState.SUPERSEDED})
"""Nothing is sent or asked any more unless an administrator says so."""


def advance(state: DeliveryState, event: DeliveryEvent) -> DeliveryState:
    """The state after `event`; raises IllegalTransition where the table has no such edge."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition(state, event) from None


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery as it was claimed; `attempt` counts its sendings, this one included."""

    id: int
    fence: int
    attempt: int
    destination: str
    StudyInstanceUID: str
    SeriesInstanceUID: str
    sha256: str
    instance: OutgoingInstance

    @property
    def lease(self) -> Lease:
        """The lease under which this row was claimed."""
        return Lease(self.id, self.fence)
