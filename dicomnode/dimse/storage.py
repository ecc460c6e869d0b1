"""Storage as service class provider (PS3.4 B, PS3.7 9.1.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pynetdicom import evt
from pynetdicom.events import Event

from dicomnode.dimse.command_set import StoreRequest
from dicomnode.dimse.edge import attempt, refused
from dicomnode.dimse.presentation import STORAGE_CLASSES, by_preference
from dicomnode.dimse.service import Intake, Roles, Service
from dicomnode.dimse.status import SOP_CLASS_NOT_SUPPORTED, SUCCESS
from dicomnode.errors import InvalidUID, MissingUID, NotDicom
from dicomnode.model.instance import Announced, AssociationFacts, Received
from dicomnode.model.uid import is_valid_uid


def storage(on_instance: Callable[[Received], object]) -> Service:
    """C-STORE. When `on_instance` returns, the instance is durable and 0x0000 is answered.

    A DicomnodeError that it raises is answered with its status. A requestor may be SCP too: as one it takes
    the sub-operations of its C-GET (PS3.4 C.5.3).
    """
    return streamed_storage(
        Intake(_Gathered, _Gathered.write, lambda gathered: on_instance(gathered.received()))
    )


def streamed_storage(intake: Intake) -> Service:
    """The same, where a data set goes on as it comes in."""

    def handle(event: Event, facts: AssociationFacts) -> int:
        # As a requestor, whose messages are pynetdicom's: what comes is in memory.
        asked = event.request
        request = StoreRequest(
            message_id=asked.MessageID,
            SOPClassUID=str(asked.AffectedSOPClassUID or ""),
            SOPInstanceUID=str(asked.AffectedSOPInstanceUID or ""),
            has_data_set=asked.DataSet is not None,
            originator=asked.MoveOriginatorApplicationEntityTitle or "",
        )
        context = event.context
        reception = Reception(intake, request, context.abstract_syntax, str(context.transfer_syntax), facts)
        if asked.DataSet is not None:
            reception.write(asked.DataSet.getbuffer())
        return reception.end()

    return Service(
        STORAGE_CLASSES, {evt.EVT_C_STORE: handle}, by_preference, Roles(scu=True, scp=True), intake=intake
    )


class Reception:
    """A C-STORE request on its way in; one that is refused is read to its end all the same, then answered."""

    def __init__(
        self,
        intake: Intake | None,
        request: StoreRequest,
        abstract_syntax: str,
        transfer_syntax: str,
        facts: AssociationFacts,
    ) -> None:
        self._facts, self._intake, self._inflow = facts, intake, None
        self._is_empty = True
        if intake is None or request.SOPClassUID != abstract_syntax:
            self._status = refused("store.refused", facts, SOP_CLASS_NOT_SUPPORTED, "AffectedSOPClassUID")
        else:
            self._inflow = self._attempt(lambda: intake.begin(_announced(request, transfer_syntax, facts)))

    def write(self, data: memoryview) -> None:
        """Take the next bytes of the data set."""
        if (intake := self._intake) is not None and self._inflow is not None:
            self._is_empty = False
            self._attempt(lambda: intake.write(self._inflow, data))

    def end(self) -> int:
        """The data set is complete; returns the status."""
        if (intake := self._intake) is not None and self._inflow is not None:
            self._attempt(lambda: intake.keep(self._some()))
        return self._status

    def discard(self) -> None:
        """The data set will not be completed."""
        if self._inflow is not None:
            self._inflow.discard()
            self._inflow = None

    def _some(self) -> Any:
        if self._is_empty:
            raise NotDicom("there is no data set")
        return self._inflow

    def _attempt(self, call: Callable[[], Any]) -> Any:
        self._status, answer = attempt("store.failed", self._facts, call)
        if self._status != SUCCESS:
            self.discard()
        return answer


def _announced(request: StoreRequest, transfer_syntax: str, facts: AssociationFacts) -> Announced:
    """What is to come; raises IngestError where the request names no instance."""
    if not request.SOPInstanceUID:
        raise MissingUID("AffectedSOPInstanceUID")
    if not is_valid_uid(request.SOPInstanceUID):
        raise InvalidUID("AffectedSOPInstanceUID")
    return Announced(
        facts.moved_for(request.originator), request.SOPClassUID, request.SOPInstanceUID, transfer_syntax
    )


class _Gathered:
    """An instance that is taken as a whole, from memory."""

    def __init__(self, announced: Announced) -> None:
        self._announced, self._data = announced, bytearray()

    def write(self, data: memoryview) -> None:
        self._data += data

    def received(self) -> Received:
        announced = self._announced
        return Received(
            announced.association,
            announced.SOPClassUID,
            announced.SOPInstanceUID,
            announced.TransferSyntaxUID,
            bytes(self._data),
        )

    def discard(self) -> None:
        self._data.clear()
