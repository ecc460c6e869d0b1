"""Retrieve by C-MOVE as service class provider (PS3.4 C.4.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pynetdicom import evt
from pynetdicom.events import Event

from dicomnode.dimse.edge import refused
from dicomnode.dimse.information_model import MOVE
from dicomnode.dimse.negotiation import negotiated_for, retrieve_options
from dicomnode.dimse.retrieval import OnOutcome, OnRetrieve, respond, retrieve
from dicomnode.dimse.sender import Originator, send
from dicomnode.dimse.service import Service
from dicomnode.dimse.status import MOVE_DESTINATION_UNKNOWN, SUCCESS
from dicomnode.model.instance import AssociationFacts
from dicomnode.model.peer import Peer
from dicomnode.model.result import OutgoingInstance


def move(on_retrieve: OnRetrieve, destination: Callable[[str], Peer | None], calling_ae: str) -> Service:
    """C-MOVE to the peers that `destination` knows by AE title, and to nobody else.

    The sub-operations go over one association that `calling_ae` opens. What a peer does not take as it is
    stored, it gets decompressed; what it takes in neither form is a failed sub-operation.
    """

    def handle(event: Event, facts: AssociationFacts) -> None:
        peer = destination(str(event.request.MoveDestination or "").strip())
        if peer is None:
            status = refused("move.refused", facts, MOVE_DESTINATION_UNKNOWN, "MoveDestination")
            respond(event, status)
            return
        originator = Originator(facts.calling_ae, int(event.request.MessageID))

        def perform(
            instances: Sequence[OutgoingInstance], on_outcome: OnOutcome, ended: Callable[[], bool]
        ) -> None:
            send(
                peer,
                calling_ae,
                instances,
                on_outcome,
                ended,
                accepted=frozenset({SUCCESS}),
                originator=originator,
                decompress=True,
            )

        retrieve(event, facts, negotiated_for(event, MOVE), on_retrieve, perform)

    return Service(frozenset(MOVE), {evt.EVT_C_MOVE: handle}, extended=retrieve_options)
