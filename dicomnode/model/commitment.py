"""Storage commitment: what was asked, what became of it, and the states of a transaction (PS3.4 J).

A transaction goes `in` where a peer asks us to keep what it sent, and `out` where we ask an archive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, StrEnum

from dicomnode.errors import IllegalTransition
from dicomnode.model.job import Lease


class Direction(StrEnum):
    """Who asked whom."""

    IN = "in"
    OUT = "out"


class CommitmentState(StrEnum):
    """Where a transaction is."""

    REQUESTED = "requested"
    """It is written down; an `out` one may not have reached the archive."""
    REPORTING = "reporting"
    RETRY_WAIT = "retry_wait"
    AWAITED = "awaited"
    REPORTED = "reported"
    REFUSED = "refused"
    EXPIRED = "expired"
    DEAD = "dead"


class CommitmentEvent(StrEnum):
    """What happens to a transaction."""

    CLAIM = "claim"
    REPORT = "report"
    FAIL = "fail"
    GIVE_UP = "give_up"
    HAND_BACK = "hand_back"
    EXPIRE = "expire"
    ACCEPT = "accept"
    REFUSE = "refuse"
    REPEAT = "repeat"


TRANSITIONS: dict[tuple[CommitmentState, CommitmentEvent], CommitmentState] = {
    # in: a peer asked, and we owe it a report
    (CommitmentState.REQUESTED, CommitmentEvent.CLAIM): CommitmentState.REPORTING,
    (CommitmentState.RETRY_WAIT, CommitmentEvent.CLAIM): CommitmentState.REPORTING,
    (CommitmentState.REPORTING, CommitmentEvent.REPORT): CommitmentState.REPORTED,
    (CommitmentState.REPORTING, CommitmentEvent.FAIL): CommitmentState.RETRY_WAIT,
    (CommitmentState.REPORTING, CommitmentEvent.GIVE_UP): CommitmentState.DEAD,
    (CommitmentState.REPORTING, CommitmentEvent.HAND_BACK): CommitmentState.REQUESTED,
    (CommitmentState.REPORTING, CommitmentEvent.EXPIRE): CommitmentState.RETRY_WAIT,
    (CommitmentState.REPORTED, CommitmentEvent.REPEAT): CommitmentState.REQUESTED,
    (CommitmentState.DEAD, CommitmentEvent.REPEAT): CommitmentState.REQUESTED,
    # out: we asked, and an archive owes us a report. One that comes late is still true.
    (CommitmentState.REQUESTED, CommitmentEvent.ACCEPT): CommitmentState.AWAITED,
    (CommitmentState.REQUESTED, CommitmentEvent.REFUSE): CommitmentState.REFUSED,
    (CommitmentState.REQUESTED, CommitmentEvent.REPORT): CommitmentState.REPORTED,
    (CommitmentState.REQUESTED, CommitmentEvent.EXPIRE): CommitmentState.EXPIRED,
    (CommitmentState.AWAITED, CommitmentEvent.REPORT): CommitmentState.REPORTED,
    (CommitmentState.AWAITED, CommitmentEvent.EXPIRE): CommitmentState.EXPIRED,
    (CommitmentState.REFUSED, CommitmentEvent.REPORT): CommitmentState.REPORTED,
    (CommitmentState.EXPIRED, CommitmentEvent.REPORT): CommitmentState.REPORTED,
}


def advance(state: CommitmentState, event: CommitmentEvent) -> CommitmentState:
    """The state after `event`; raises IllegalTransition where the table has no such edge."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition(state, event) from None


class FailureReason(IntEnum):
    """Why an instance is not committed (PS3.3 C.14.1.1)."""

    PROCESSING_FAILURE = 0x0110
    NO_SUCH_OBJECT_INSTANCE = 0x0112
    CLASS_INSTANCE_CONFLICT = 0x0119


@dataclass(frozen=True, slots=True)
class Reference:
    """An instance that a transaction is about."""

    SOPClassUID: str
    SOPInstanceUID: str


@dataclass(frozen=True, slots=True)
class CommitmentRequest:
    """What an N-ACTION asks (PS3.4 J.3.2.1.1)."""

    TransactionUID: str
    references: Sequence[Reference]


@dataclass(frozen=True, slots=True)
class CommitmentReport:
    """What an N-EVENT-REPORT says (PS3.4 J.3.3.1.1); the reasons of `failed` are those of PS3.3 C.14.1.1."""

    TransactionUID: str
    committed: Sequence[Reference]
    failed: Sequence[tuple[Reference, int]]


@dataclass(frozen=True, slots=True)
class OwedReport:
    """A transaction of a peer as it was claimed; `attempt` counts its reports, this one included."""

    id: int
    fence: int
    attempt: int
    peer: str
    request: CommitmentRequest

    @property
    def lease(self) -> Lease:
        """The lease under which this row was claimed."""
        return Lease(self.id, self.fence)
