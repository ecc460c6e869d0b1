"""Storage Commitment, Push Model: for those who send to us, and asked of archives (PS3.4 J)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from pydicom.dataset import Dataset
from pynetdicom import build_context, build_role, evt
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.pdu_primitives import SCP_SCU_RoleSelectionNegotiation
from pynetdicom.presentation import PresentationContext
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

from dicomnode.dimse.edge import attempt
from dicomnode.dimse.requestor import association, requesting, status_of
from dicomnode.dimse.service import Roles, Service
from dicomnode.dimse.status import SUCCESS
from dicomnode.errors import (
    AssociationFailed,
    CommitmentNotUnderstood,
    ContextRefused,
    DimseError,
    NoSuchAction,
    NoSuchCommitment,
)
from dicomnode.imaging.headers import UNREADABLE
from dicomnode.model.commitment import CommitmentReport, CommitmentRequest, FailureReason, Reference
from dicomnode.model.instance import AssociationFacts
from dicomnode.model.peer import Peer
from dicomnode.model.uid import is_valid_uid

PUSH_MODEL = str(StorageCommitmentPushModel)
PUSH_MODEL_INSTANCE = str(StorageCommitmentPushModelInstance)
REQUEST_COMMITMENT = 1
"""Action Type ID (PS3.4 J.3.2.1)"""
ALL_COMMITTED, FAILURES_EXIST = 1, 2
"""Event Type IDs (PS3.4 J.3.3.1)"""

Reply = Callable[[CommitmentReport], None]
"""Sends a report on the association of its request; raises DimseError where that cannot be done any more."""
OnRequest = Callable[[CommitmentRequest, AssociationFacts, Reply], None]
OnReport = Callable[[CommitmentReport], None]


def commitment(on_request: OnRequest, on_report: OnReport) -> Service:
    """N-ACTION and N-EVENT-REPORT of the push model, each answered once the call has returned.

    An archive that reports on an association of its own takes the role of an SCP for it (PS3.4 J.3.3.1).
    """

    def handle_request(event: Event, facts: AssociationFacts) -> tuple[int, None]:
        reply = partial(_report_on, event.assoc)
        status, _ = attempt("commitment.refused", facts, lambda: on_request(_request_of(event), facts, reply))
        return status, None

    def handle_report(event: Event, facts: AssociationFacts) -> tuple[int, None]:
        status, _ = attempt("commitment.report_refused", facts, lambda: on_report(_report_of(event)))
        return status, None

    handlers = {evt.EVT_N_ACTION: handle_request, evt.EVT_N_EVENT_REPORT: handle_report}
    return Service(frozenset({PUSH_MODEL}), handlers, roles=Roles(scu=True, scp=True))


def commitment_context() -> PresentationContext:
    """What is proposed to an archive that is asked, and to a peer that gets a report."""
    return build_context(PUSH_MODEL)


def reporting_role() -> SCP_SCU_RoleSelectionNegotiation:
    """Whoever reports on a new association is an SCP there (PS3.4 J.3.3.1)."""
    return build_role(PUSH_MODEL, scu_role=False, scp_role=True)


def request_commitment(
    peer: Peer, calling_ae: str, request: CommitmentRequest, on_report: OnReport, wait_s: float
) -> None:
    """Ask the peer to commit itself; on return it has taken the request.

    The association stays open for `wait_s`, so that a report can come on it; `on_report` is called in the
    association's thread. Raises ContextRefused, AssociationFailed, and DimseError where the peer refuses.
    """
    reported = threading.Event()

    def handle_report(event: Event) -> tuple[int, None]:
        facts = AssociationFacts("", peer.ae_title, calling_ae, peer.host)
        status, _ = attempt("commitment.report_refused", facts, lambda: on_report(_report_of(event)))
        reported.set()
        return status, None

    with association(peer, calling_ae, [commitment_context()]) as assoc:
        if not assoc.accepted_contexts:
            raise ContextRefused(PUSH_MODEL, "any transfer syntax")
        assoc.bind(evt.EVT_N_EVENT_REPORT, handle_report)
        status = _asked(assoc, request)
        if status != SUCCESS:
            raise DimseError(f"the peer answered N-ACTION with status 0x{status:04X}")
        reported.wait(wait_s)


def report(peer: Peer, calling_ae: str, said: CommitmentReport) -> None:
    """Report on a new association, as an SCP (PS3.4 J.3.3). Raises DimseError."""
    with association(peer, calling_ae, [commitment_context()], [reporting_role()]) as assoc:
        if not assoc.accepted_contexts:
            raise ContextRefused(PUSH_MODEL, "any transfer syntax")
        _report_on(assoc, said)


def _asked(assoc: Association, request: CommitmentRequest) -> int:
    ds = Dataset()
    ds.TransactionUID = request.TransactionUID
    ds.ReferencedSOPSequence = [_item(reference) for reference in request.references]
    with requesting():
        response, _ = assoc.send_n_action(ds, REQUEST_COMMITMENT, PUSH_MODEL, PUSH_MODEL_INSTANCE)
    return status_of(response)


def _report_on(assoc: Association, said: CommitmentReport) -> None:
    ds = Dataset()
    ds.TransactionUID = said.TransactionUID
    if said.committed:
        ds.ReferencedSOPSequence = [_item(reference) for reference in said.committed]
    if said.failed:
        ds.FailedSOPSequence = [_item(reference, reason) for reference, reason in said.failed]
    event = FAILURES_EXIST if said.failed else ALL_COMMITTED
    try:
        response, _ = assoc.send_n_event_report(ds, event, PUSH_MODEL, PUSH_MODEL_INSTANCE)
    except (RuntimeError, ValueError) as error:  # it ended just now; or a role that the peer did not grant
        raise AssociationFailed("the association was lost") from error
    status = status_of(response)
    if status != SUCCESS:
        raise DimseError(f"the peer answered N-EVENT-REPORT with status 0x{status:04X}")


def _item(reference: Reference, reason: int | None = None) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = reference.SOPClassUID
    item.ReferencedSOPInstanceUID = reference.SOPInstanceUID
    if reason is not None:
        item.FailureReason = reason
    return item


def _request_of(event: Event) -> CommitmentRequest:
    """The request of an N-ACTION; raises CommitmentRefused where it is none."""
    _require_push_model_instance(event.request.RequestedSOPInstanceUID)
    if event.action_type != REQUEST_COMMITMENT:
        raise NoSuchAction(f"there is no action type {event.action_type}")
    try:
        ds = event.action_information
        references = list(_references(ds.get("ReferencedSOPSequence")))
        request = CommitmentRequest(_uid(ds, "TransactionUID"), references)
    except UNREADABLE as error:
        raise CommitmentNotUnderstood("Action Information is no data set") from error
    if not references:
        raise CommitmentNotUnderstood("ReferencedSOPSequence is missing")
    return request


def _report_of(event: Event) -> CommitmentReport:
    """The report of an N-EVENT-REPORT; raises CommitmentRefused where it is none."""
    _require_push_model_instance(event.request.AffectedSOPInstanceUID)
    if event.event_type not in (ALL_COMMITTED, FAILURES_EXIST):
        raise NoSuchAction(f"there is no event type {event.event_type}")
    try:
        ds = event.event_information
        committed = list(_references(ds.get("ReferencedSOPSequence")))
        failures = ds.get("FailedSOPSequence") or []
        reasons = [int(item.get("FailureReason") or FailureReason.PROCESSING_FAILURE) for item in failures]
        failed = list(zip(_references(failures), reasons, strict=True))
        return CommitmentReport(_uid(ds, "TransactionUID"), committed, failed)
    except UNREADABLE as error:
        raise CommitmentNotUnderstood("Event Information is no data set") from error


def _references(sequence: Sequence[Dataset] | None) -> Iterator[Reference]:
    for item in sequence or []:
        yield Reference(_uid(item, "ReferencedSOPClassUID"), _uid(item, "ReferencedSOPInstanceUID"))


def _uid(ds: Dataset, keyword: str) -> str:
    value = str(ds.get(keyword) or "")
    if not is_valid_uid(value):
        raise CommitmentNotUnderstood(f"{keyword} is missing, or is no UID")
    return value


def _require_push_model_instance(uid: object) -> None:
    if str(uid) != PUSH_MODEL_INSTANCE:
        raise NoSuchCommitment("not the well-known instance of the push model")
