"""What C-GET and C-MOVE have in common: instances, sub-operations, responses (PS3.4 C.4.2, C.4.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from typing import Any

import structlog
from pydicom.dataset import Dataset
from pynetdicom.dsutils import encode
from pynetdicom.events import Event

from dicomnode.dimse.edge import attempt, refused
from dicomnode.dimse.find import identifier_of
from dicomnode.dimse.information_model import Negotiated
from dicomnode.dimse.status import (
    CANCELLED,
    PENDING,
    STORED_WITH_WARNING,
    SUBOPERATIONS_FAILED,
    SUBOPERATIONS_UNCOUNTED,
    SUBOPERATIONS_WITH_FAILURES,
    SUCCESS,
    retrieve_status_of,
)
from dicomnode.errors import DimseError, StoreRefused
from dicomnode.model.instance import AssociationFacts
from dicomnode.model.result import OutgoingInstance

log = structlog.get_logger()

OnRetrieve = Callable[[Dataset, Negotiated], Sequence[OutgoingInstance]]
OnOutcome = Callable[[OutgoingInstance, DimseError | None], None]
Perform = Callable[[Sequence[OutgoingInstance], OnOutcome, Callable[[], bool]], None]
"""Offers instances until told to stop, and calls back once for each: None where the peer has taken it."""

MAXIMUM_SUBOPERATIONS = 0xFFFF
"""The numbers of sub-operations are US (PS3.7 9.3.4.2)."""


@dataclass
class _Tally:
    remaining: int
    completed: int = 0
    warned: int = 0
    failed: list[str] = field(default_factory=list)

    def count(self, SOPInstanceUID: str, error: DimseError | None) -> None:
        self.remaining -= 1
        if error is None:
            self.completed += 1
        elif isinstance(error, StoreRefused) and error.status in STORED_WITH_WARNING:
            self.warned += 1
        else:
            self.failed.append(SOPInstanceUID)

    @property
    def status(self) -> int:
        """That of the final response (PS3.4 C.4.2.1.5, C.4.3.1.4)."""
        if self.failed and not (self.completed or self.warned):
            return SUBOPERATIONS_FAILED
        return SUBOPERATIONS_WITH_FAILURES if self.failed or self.warned else SUCCESS


def retrieve(
    event: Event, facts: AssociationFacts, negotiated: Negotiated, on_retrieve: OnRetrieve, perform: Perform
) -> None:
    """Answer one C-GET or C-MOVE: a pending response after each sub-operation, and the final one."""
    status, instances = attempt(
        "retrieve.failed", facts, lambda: on_retrieve(identifier_of(event), negotiated)
    )
    if instances is None:
        respond(event, retrieve_status_of(status))
        return
    if len(instances) > MAXIMUM_SUBOPERATIONS:
        respond(event, refused("retrieve.refused", facts, SUBOPERATIONS_UNCOUNTED, "sub-operations"))
        return
    tally, is_over = _Tally(len(instances)), partial(_is_over, event)

    def on_outcome(instance: OutgoingInstance, error: DimseError | None) -> None:
        tally.count(instance.SOPInstanceUID, error)
        if tally.remaining:
            respond(event, PENDING, tally)

    status, _ = attempt("retrieve.failed", facts, lambda: perform(instances, on_outcome, is_over))
    log.info(
        "retrieve.done",
        association=facts.key,
        completed=tally.completed,
        warned=tally.warned,
        failed=len(tally.failed),
        remaining=tally.remaining,
    )
    if status == SUCCESS:
        status = CANCELLED if tally.remaining else tally.status
    respond(event, status, tally)


def _is_over(event: Event) -> bool:
    """True once the requestor has sent C-CANCEL, or has gone: nobody waits for the rest."""
    assoc = event.assoc
    return event.is_cancelled or not assoc.is_established or assoc.acse.is_aborted()


def respond(event: Event, status: int, tally: _Tally | None = None) -> None:
    """Send one response (PS3.7 9.3.3.2, 9.3.4.2). Only one that is pending or cancelled says what remains."""
    response: Any = type(event.request)()
    response.MessageIDBeingRespondedTo = event.request.MessageID
    response.AffectedSOPClassUID = event.request.AffectedSOPClassUID
    response.Status = status
    if tally is not None:
        if status in (PENDING, CANCELLED):
            response.NumberOfRemainingSuboperations = tally.remaining
        response.NumberOfCompletedSuboperations = tally.completed
        response.NumberOfFailedSuboperations = len(tally.failed)
        response.NumberOfWarningSuboperations = tally.warned
        if status not in (PENDING, SUCCESS):
            response.Identifier = _failed_list(event, tally)
    event.assoc.dimse.send_msg(response, event.context.context_id)


def _failed_list(event: Event, tally: _Tally) -> BytesIO:
    ds = Dataset()
    ds.FailedSOPInstanceUIDList = tally.failed
    syntax = event.context.transfer_syntax
    encoded = encode(ds, syntax.is_implicit_VR, syntax.is_little_endian, syntax.is_deflated)
    if encoded is None:
        raise ValueError("a list of UIDs that cannot be encoded")
    return BytesIO(encoded)
