"""Storage as service class provider (PS3.4 B, PS3.7 9.1.1)."""

from __future__ import annotations

from collections.abc import Callable

from pynetdicom import evt
from pynetdicom.events import Event

from dicomnode.dimse.edge import attempt, refused
from dicomnode.dimse.presentation import STORAGE_CLASSES, by_preference
from dicomnode.dimse.service import Roles, Service
from dicomnode.dimse.status import SOP_CLASS_NOT_SUPPORTED
from dicomnode.errors import MissingUID, NotDicom
from dicomnode.model.instance import AssociationFacts, Received


def storage(on_instance: Callable[[Received], object]) -> Service:
    """C-STORE. When `on_instance` returns, the instance is durable and 0x0000 is answered.

    A DicomnodeError that it raises is answered with its status. A requestor may be SCP too: as one it takes
    the sub-operations of its C-GET (PS3.4 C.5.3).
    """

    def handle(event: Event, facts: AssociationFacts) -> int:
        if event.request.AffectedSOPClassUID != event.context.abstract_syntax:
            return refused("store.refused", facts, SOP_CLASS_NOT_SUPPORTED, "AffectedSOPClassUID")
        status, _ = attempt("store.failed", facts, lambda: on_instance(received(event, facts)))
        return status

    return Service(STORAGE_CLASSES, {evt.EVT_C_STORE: handle}, by_preference, Roles(scu=True, scp=True))


def received(event: Event, facts: AssociationFacts) -> Received:
    """The request as it came in; raises IngestError where it names or holds no instance."""
    request = event.request
    if not request.AffectedSOPInstanceUID:
        raise MissingUID("AffectedSOPInstanceUID")
    data = request.DataSet.getvalue() if request.DataSet else b""
    if not data:
        raise NotDicom("there is no data set")
    return Received(
        association=facts,
        SOPClassUID=str(request.AffectedSOPClassUID),
        SOPInstanceUID=str(request.AffectedSOPInstanceUID),
        TransferSyntaxUID=str(event.context.transfer_syntax),
        data=data,
    )
