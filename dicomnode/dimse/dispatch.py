# ruff: noqa: SLF001
"""From what a peer proposes and asks to the service that takes it (PS3.8 9.3.2.2, PS3.7 D.3.3.4)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from pydicom.uid import ImplicitVRLittleEndian
from pynetdicom import build_context, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import C_FIND, C_GET, C_MOVE
from pynetdicom.events import Event, InterventionEvent
from pynetdicom.presentation import PresentationContext

from dicomnode.dimse.cancellation import Cancellations
from dicomnode.dimse.command_set import StoreRequest
from dicomnode.dimse.edge import attempt, refused
from dicomnode.dimse.negotiation import answer_extended
from dicomnode.dimse.service import Service
from dicomnode.dimse.status import SOP_CLASS_NOT_SUPPORTED, SUCCESS
from dicomnode.dimse.storage import Reception
from dicomnode.model.instance import AssociationFacts


class Dispatch:
    """The services of a receiver by SOP class; no two may have the same one."""

    def __init__(self, services: Iterable[Service], facts: Callable[[Association], AssociationFacts]) -> None:
        self._facts, self._cancellations = facts, Cancellations()
        self._services: dict[str, Service] = {}
        for service in services:
            if twice := self._services.keys() & service.classes:
                raise ValueError(f"two services for {sorted(twice)}")
            self._services |= dict.fromkeys(service.classes, service)

    def handlers(self) -> list[tuple[InterventionEvent, Callable[[Event], Any]]]:
        """One handler for each event, as pynetdicom takes them."""
        events = dict.fromkeys(event for service in self._services.values() for event in service.handlers)
        return [(event, self._handle) for event in events]

    def _handle(self, event: Event) -> Any:
        facts = self._facts(event.assoc)
        event._is_cancelled = partial(self._cancellations.holds, event.assoc)
        service = self._services[event.context.abstract_syntax]
        handler = service.handlers.get(event.event)
        if handler is None:
            return refused("request.refused", facts, SOP_CLASS_NOT_SUPPORTED, event.event.name)
        return handler(event, facts)

    def open_store(self, assoc: Association, context_id: int, request: StoreRequest) -> Reception | None:
        """What takes the data set of a C-STORE request; None where its context was not accepted."""
        context = assoc._accepted_cx.get(context_id)
        if context is None:
            return None
        abstract_syntax, transfer_syntax = str(context.abstract_syntax), str(context.transfer_syntax[0])
        intake = self._services[abstract_syntax].intake
        return Reception(intake, request, abstract_syntax, transfer_syntax, self._facts(assoc))

    def attach(self, assoc: Association) -> None:
        """Make an association one of this receiver: what it may do, before it is negotiated.

        C-GET and C-MOVE are not left to pynetdicom, which reads each instance into memory, cannot convert it,
        and names itself as the originator of a C-MOVE; it has no public way to serve them otherwise.
        """
        proposed = assoc.requestor.primitive.presentation_context_definition_list
        assoc.acceptor.supported_contexts = self._supported_contexts(proposed)
        for SOPClassUID, information in assoc.requestor.sop_class_extended.items():
            service = self._services.get(SOPClassUID)
            if service is not None and service.extended is not None:
                answer_extended(assoc, SOPClassUID, service.extended(information))
        self._cancellations.follow(assoc)
        assoc._serve_request = partial(self._serve, assoc, assoc._serve_request)

    def _supported_contexts(self, proposed: Sequence[PresentationContext]) -> list[PresentationContext]:
        """What is supported of the contexts that a requestor proposes.

        pynetdicom takes the first transfer syntax of the acceptor's list that the context proposes, so the
        list is made for each association, in the order of its service. So it is short, too: a list of every
        class in every syntax would be copied for each connection.
        """
        syntaxes: dict[str, list[str]] = {}
        for context in proposed:
            syntaxes.setdefault(str(context.abstract_syntax), []).extend(map(str, context.transfer_syntax))
        contexts = (self._context(abstract, offered) for abstract, offered in syntaxes.items())
        return [context for context in contexts if context is not None]

    def _context(self, abstract: str, offered: Sequence[str]) -> PresentationContext | None:
        service = self._services.get(abstract)
        if service is None:
            return None
        # With a syntax that is not proposed, pynetdicom answers that it is the syntax that does not suit.
        context = build_context(abstract, service.syntaxes(offered) or [ImplicitVRLittleEndian])
        if service.roles is not None:
            context.scu_role, context.scp_role = service.roles.scu, service.roles.scp
        return context

    def _serve(
        self, assoc: Association, otherwise: Callable[[Any, int], None], message: Any, context_id: int
    ) -> None:
        """One request: C-GET and C-MOVE by their handlers, the others by pynetdicom."""
        context = assoc._accepted_cx.get(context_id)
        is_query = isinstance(message, (C_FIND, C_GET, C_MOVE)) and message.is_valid_request
        if context is None or not is_query:
            otherwise(message, context_id)
        elif message.AffectedSOPClassUID != context.abstract_syntax:
            assoc.dimse.send_msg(_refusal(message), context_id)
        elif isinstance(message, C_FIND):
            otherwise(message, context_id)
        else:
            self._retrieve(assoc, message, context)

    def _retrieve(self, assoc: Association, message: Any, context: PresentationContext) -> None:
        # As pynetdicom does around each request: the reactor rests.
        assoc._is_paused = True
        event = evt.EVT_C_GET if isinstance(message, C_GET) else evt.EVT_C_MOVE
        attributes = {"request": message, "context": context.as_tuple}
        status, _ = attempt(
            "retrieve.failed", self._facts(assoc), lambda: evt.trigger(assoc, event, attributes)
        )
        assoc._is_paused = False
        if status != SUCCESS:
            assoc.abort()


def _refusal(message: Any) -> Any:
    response = type(message)()
    response.MessageIDBeingRespondedTo = message.MessageID
    response.AffectedSOPClassUID = message.AffectedSOPClassUID
    response.Status = SOP_CLASS_NOT_SUPPORTED
    return response
