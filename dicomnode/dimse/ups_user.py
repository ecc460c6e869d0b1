"""The service class user for Unified Procedure Step, Push (PS3.4 CC.2.2, CC.2.5, CC.2.7)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import build_context
from pynetdicom.association import Association
from pynetdicom.presentation import PresentationContext

from dicomnode.dimse.requestor import association, requesting, status_of
from dicomnode.dimse.status import SUCCESS, WORK_ITEM_ALREADY_CANCELED, WORK_ITEM_MODIFIED
from dicomnode.dimse.ups import REQUEST_CANCEL
from dicomnode.errors import ContextRefused, DimseError
from dicomnode.model.peer import Peer
from dicomnode.model.workitem import UPS_PUSH


def ups_context() -> PresentationContext:
    """What is proposed to a peer that keeps a worklist."""
    return build_context(UPS_PUSH)


def create(peer: Peer, calling_ae: str, SOPInstanceUID: str, ds: Dataset) -> bool:
    """Have the peer take a work item in; True where it is other than what was asked for.

    Raises AssociationFailed, ContextRefused, DimseError.
    """
    response, _ = _asked(peer, calling_ae, lambda assoc: assoc.send_n_create(ds, UPS_PUSH, SOPInstanceUID))
    return _is_warning(response, "N-CREATE", WORK_ITEM_MODIFIED)


def retrieve(peer: Peer, calling_ae: str, SOPInstanceUID: str) -> Dataset:
    """A work item of the peer, without its Transaction UID. Raises as `create`."""
    response, ds = _asked(peer, calling_ae, lambda assoc: assoc.send_n_get([], UPS_PUSH, SOPInstanceUID))
    _is_warning(response, "N-GET")
    if ds is None:
        raise DimseError("the peer's answer to N-GET cannot be read")
    found: Dataset = ds
    return found


def request_cancel(peer: Peer, calling_ae: str, SOPInstanceUID: str, reason: str) -> bool:
    """Ask the peer to cancel a work item; True where it was cancelled before. Raises as `create`."""
    request = Dataset()
    request.ReasonForCancellation = reason
    response, _ = _asked(
        peer,
        calling_ae,
        lambda assoc: assoc.send_n_action(request, REQUEST_CANCEL, UPS_PUSH, SOPInstanceUID),
    )
    return _is_warning(response, "N-ACTION", WORK_ITEM_ALREADY_CANCELED)


def _asked(
    peer: Peer, calling_ae: str, ask: Callable[[Association], tuple[Dataset, Any]]
) -> tuple[Dataset, Any]:
    with association(peer, calling_ae, [ups_context()]) as assoc:
        if not assoc.accepted_contexts:
            raise ContextRefused(UPS_PUSH, "any transfer syntax")
        with requesting():
            return ask(assoc)


def _is_warning(response: Dataset, operation: str, warning: int | None = None) -> bool:
    """True for the warning, False for success. Raises AssociationFailed, DimseError."""
    status = status_of(response)
    if status not in (SUCCESS, warning):
        raise DimseError(f"the peer answered {operation} with status 0x{status:04X}")
    return status == warning
